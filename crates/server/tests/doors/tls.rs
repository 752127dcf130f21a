//! TLS beside plain on one port: members of both kinds, hostile handshakes, and what the doors do with who is secure.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tertulia_group::SenderId;
use tertulia_server::{Config, Node, NodeLimits, Pace, TlsSource};
use tertulia_wire::NodeFrame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::support::{Calm, NativeClient, config, narrow_stream, start, within};

type TlsClient = NativeClient<TlsStream<TcpStream>>;

fn with_tls(data: &Path) -> Config {
    Config { tls: Some(TlsSource::Own), ..config(data) }
}

fn native(node: &Node) -> SocketAddr {
    node.endpoints().native.expect("the native door is on")
}

/// Trusts the certificate that the node of this folder has made, and nothing else.
fn client_config(data: &Path, alpn: Option<&str>) -> Arc<ClientConfig> {
    let own = CertificateDer::from_pem_file(data.join("tls-cert.pem")).expect("a certificate");
    let mut roots = RootCertStore::empty();
    roots.add(own).expect("a certificate that can be trusted");
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|alpn| alpn.as_bytes().to_vec()).collect();
    Arc::new(config)
}

async fn over_tls(data: &Path, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").expect("a name");
    let connector = TlsConnector::from(client_config(data, None));
    within("a handshake", connector.connect(name, stream)).await
}

async fn connect(data: &Path, address: SocketAddr) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(address).await.expect("connects");
    over_tls(data, stream).await.expect("shakes hands")
}

async fn client(data: &Path, address: SocketAddr) -> TlsClient {
    NativeClient::over(connect(data, address).await).greeted().await
}

/// The first bytes of a handshake.
fn client_hello(data: &Path) -> Vec<u8> {
    let name = ServerName::try_from("localhost").expect("a name");
    let mut session = ClientConnection::new(client_config(data, None), name).expect("a session");
    let mut bytes = Vec::new();
    session.write_tls(&mut bytes).expect("writes");
    bytes
}

/// Reads to the end, whatever it says.
async fn ends(mut stream: TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    let _ = within("its end", stream.read_to_end(&mut said)).await;
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_and_tls_members_are_in_one_group_and_see_one_order() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(with_tls(data.path())).await;
    let address = native(&node);
    let (mut ana, _) = client(data.path(), address).await.joined("ana", "ops").await;
    let (mut luis, _) = NativeClient::member(address, "luis", "ops").await;
    let (mut eva, _) =
        client(data.path(), address).await.sends("eva", "ops", SenderId([1; 16]), false).await;
    let bodies: Vec<Vec<u8>> =
        (0..100).map(|i| vec![b'a' + i % 26; 1 + 331 * usize::from(i)]).collect();
    for (counter, body) in (1..).zip(&bodies) {
        eva.publish("eva", counter, body).await;
    }
    let mut last = (0, 0);
    for body in &bodies {
        let (one, two) = (ana.message().await, luis.message().await);
        assert_eq!(one, two);
        assert!(one.0 > last.0 && one.2 == body[..], "{} after {}", one.0, last.0);
        last = (one.0, two.0);
    }
    ana.ack(last.0).await;
    luis.ack(last.1).await;
    let mut complete = 0;
    while complete < bodies.len() as u32 {
        if let NodeFrame::Complete(runs) = eva.frame().await {
            runs.iter().for_each(|run| complete += run.count);
        }
    }
    // The other way, too: a member over TLS publishes.
    ana.publish("ana", 1, b"hola").await;
    assert_eq!(&luis.message().await.2[..], b"hola");
    within("the node's end", node.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_message_comes_through_whole() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(with_tls(data.path())).await;
    let address = native(&node);
    let (mut ana, _) = client(data.path(), address).await.joined("ana", "ops").await;
    let (mut eva, _) =
        client(data.path(), address).await.sends("eva", "ops", SenderId([1; 16]), false).await;
    for counter in 1..=4 {
        let body: Vec<u8> =
            (0..1_u32 << 20).map(|at| (at.wrapping_mul(counter) >> 7) as u8).collect();
        eva.publish("eva", u64::from(counter), &body).await;
        assert!(ana.message().await.2 == body[..], "message {counter} is another one");
    }
    within("the node's end", node.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_does_not_read_over_tls_delays_nobody_and_catches_up() {
    let data = tempfile::tempdir().expect("a folder");
    let limits = NodeLimits { window_bytes: 1 << 20, ..NodeLimits::default() };
    let node = start(Config { limits, ..with_tls(data.path()) }).await;
    let address = native(&node);
    let narrow = over_tls(data.path(), narrow_stream(address).await).await.expect("shakes hands");
    let (mut stuck, _) = NativeClient::over(narrow).greeted().await.joined("stuck", "ops").await;
    let mut calm = Calm::new(address, "ops").await;
    let mut sent = Vec::new();
    for round in 0..120_u8 {
        sent.push((calm.delivers(&vec![round; 50_000]).await, round));
    }
    for (seq, round) in sent {
        let (got, _, body) = stuck.message().await;
        assert_eq!(got, seq);
        assert!(body.len() == 50_000 && body.iter().all(|byte| *byte == round), "#{seq}");
    }
    within("the node's end", node.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_begins_as_tls_is_closed_and_nobody_else_notices() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(with_tls(data.path())).await;
    let (address, http) = (native(&node), node.endpoints().http.expect("the HTTP door is on"));
    let mut calm = Calm::new(address, "ops").await;
    let hello = client_hello(data.path());
    let mut wrong = hello.clone();
    wrong[5] = 0x7f;
    let mut cut_short = hello.clone();
    cut_short.truncate(hello.len() / 2);
    cut_short.extend_from_slice(&[0xff; 600]);
    let huge = [0x16, 3, 1, 0xff, 0xff];
    let endless = [&[0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff][..], &[7; 16_379]].concat();
    let noise: Vec<u8> =
        std::iter::once(0x16).chain((0..3000_u32).map(|at| (at * 193) as u8)).collect();
    for bytes in
        [&noise[..], &wrong, &cut_short, &huge, &endless.repeat(8), b"\x16GET / HTTP/1.1\r\n\r\n"]
    {
        for door in [address, http] {
            let mut evil = TcpStream::connect(door).await.expect("connects");
            let _ = evil.write_all(bytes).await;
            let said = ends(evil).await;
            // An alert, or nothing; no frame, and no page.
            assert!(said.is_empty() || said[0] == 0x15, "{said:?}");
            calm.delivers(b"still here").await;
        }
    }
    // Nonsense after a good handshake ends the connection, too.
    let mut half = connect(data.path(), address).await;
    half.get_mut().0.write_all(&[0x17, 3, 3, 0, 40]).await.expect("writes");
    half.get_mut().0.write_all(&[9; 40]).await.expect("writes");
    let mut rest = Vec::new();
    let _ = within("its end", half.get_mut().0.read_to_end(&mut rest)).await;
    calm.until_connections(2).await;
    within("the node's end", node.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_handshake_has_its_time_and_no_more() {
    let data = tempfile::tempdir().expect("a folder");
    let limits = NodeLimits { hello: Duration::from_millis(300), ..NodeLimits::default() };
    let node = start(Config { limits, ..with_tls(data.path()) }).await;
    let (address, http) = (native(&node), node.endpoints().http.expect("the HTTP door is on"));
    let hello = client_hello(data.path());
    for door in [address, http] {
        for part in [&hello[..1], &hello[..hello.len() - 1], &hello] {
            let mut silent = TcpStream::connect(door).await.expect("connects");
            silent.write_all(part).await.expect("writes");
            ends(silent).await;
        }
        // One byte at a time is no way to get more.
        let mut drip = TcpStream::connect(door).await.expect("connects");
        let dripping = async {
            for byte in hello.iter().cycle() {
                if drip.write_all(&[*byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        within("the end of one that drips", dripping).await;
    }
    // Who says nothing at all, or nothing after the handshake, is told so where there is a way to tell.
    let mut silent = NativeClient::bare(address).await;
    assert_eq!(silent.close_code().await, Some(tertulia_wire::Code::Idle));
    let mut silent = NativeClient::over(connect(data.path(), address).await);
    assert_eq!(silent.close_code().await, Some(tertulia_wire::Code::Idle));
    ends(TcpStream::connect(http).await.expect("connects")).await;
    within("the node's end", node.stop()).await;
}

/// Those that have been at it for longest give way: whoever holds all the places keeps nobody out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_handshakes_are_bounded_and_keep_nobody_out() {
    let data = tempfile::tempdir().expect("a folder");
    let limits = NodeLimits {
        hello: Duration::from_secs(3600),
        handshake_bytes: 8 * (16 << 10),
        ..NodeLimits::default()
    };
    let node = start(Config { limits, ..with_tls(data.path()) }).await;
    let address = native(&node);
    let mut calm = Calm::new(address, "ops").await;
    let mut held = Vec::new();
    for _ in 0..100 {
        let mut silent = TcpStream::connect(address).await.expect("connects");
        silent.write_all(&[0x16, 3, 1]).await.expect("writes");
        held.push(silent);
    }
    calm.until_connections(2 + 8).await;
    let (mut ana, _) = client(data.path(), address).await.joined("ana", "ops").await;
    let seq = calm.delivers(b"hola").await;
    assert_eq!(ana.message().await.0, seq);
    drop(held);
    within("the node's end", node.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_handshakes_leaves_a_group_alone() {
    let data = tempfile::tempdir().expect("a folder");
    // They are to come one after the other, however badly they end.
    let bad_ends = Pace { burst: 100_000, per_s: 100_000 };
    let limits = NodeLimits { bad_ends, ..NodeLimits::default() };
    let node = start(Config { limits, ..with_tls(data.path()) }).await;
    let address = native(&node);
    let mut calm = Calm::new(address, "ops").await;
    let hello = Arc::new(client_hello(data.path()));
    let flood: Vec<_> = (0..32)
        .map(|_| {
            let hello = Arc::clone(&hello);
            tokio::spawn(async move {
                let mut answered = 0;
                for _ in 0..40 {
                    let mut evil = TcpStream::connect(address).await.expect("connects");
                    let mut first = [0];
                    evil.write_all(&hello).await.expect("writes");
                    if evil.read_exact(&mut first).await.is_ok() && first[0] == 0x16 {
                        answered += 1;
                    }
                }
                answered
            })
        })
        .collect();
    let mut quiet = 0;
    while !flood.iter().all(tokio::task::JoinHandle::is_finished) {
        calm.delivers(b"in between").await;
        quiet += 1;
    }
    let mut answered = 0;
    for one in flood {
        answered += within("a part of the flood", one).await.expect("no panic");
    }
    assert!(answered == 32 * 40 && quiet > 0, "{answered} handshakes, {quiet} messages");
    calm.until_connections(2).await;
    within("the node's end", node.stop()).await;
}

/// One request over TLS, as text; the whole answer.
async fn https(data: &Path, address: SocketAddr, request: &str) -> String {
    let mut stream = connect(data, address).await;
    let request =
        request.replace('\n', "\r\n").replace("HOST", &format!("localhost:{}", address.port()));
    stream.write_all(request.as_bytes()).await.expect("writes");
    let mut answer = Vec::new();
    within("an answer", stream.read_to_end(&mut answer)).await.expect("reads");
    String::from_utf8(answer).expect("text")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_https_the_cookie_is_secure_and_a_plain_page_is_foreign() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(with_tls(data.path())).await;
    let http = node.endpoints().http.expect("the HTTP door is on");
    let post = |path: &str, more: &str, body: &str| {
        let len = body.len();
        format!(
            "POST {path} HTTP/1.1\nHost: HOST\nConnection: close\nContent-Type: application/json\n\
             Content-Length: {len}\n{more}\n{body}"
        )
    };
    let who = r#"{"name":"ana","password":"correct horse","cookie":true}"#;
    let made =
        https(data.path(), http, &post("/api/register", "", &who.replace(r#","cookie":true"#, "")))
            .await;
    assert!(made.starts_with("HTTP/1.1 201"), "{made}");
    let answer = https(data.path(), http, &post("/api/login", "", who)).await;
    let cookie = answer.lines().find(|line| line.starts_with("set-cookie")).expect("a cookie");
    assert!(cookie.contains("; Secure") && cookie.contains("HttpOnly"), "{cookie}");
    let shown = cookie.split(['=', ';']).nth(1).expect("a token");
    for (scheme, status) in [("https", "201"), ("http", "403")] {
        let more = format!("Cookie: tertulia={shown}\nOrigin: {scheme}://HOST\n");
        let body = format!(r#"{{"name":"of-{scheme}"}}"#);
        let answer = https(data.path(), http, &post("/api/groups", &more, &body)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{scheme}: {answer}");
    }
    within("the node's end", node.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_on_a_websocket_over_tls_is_in_the_same_group() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;
    let data = tempfile::tempdir().expect("a folder");
    let node = start(with_tls(data.path())).await;
    let (address, http) = (native(&node), node.endpoints().http.expect("the HTTP door is on"));
    let url = format!("wss://localhost:{}/api/ws", http.port());
    let stream = connect(data.path(), http).await;
    let (mut web, _) = tokio_tungstenite::client_async(url, stream).await.expect("a WebSocket");
    let join = r#"{"type":"join","group":"ops","name":"ana"}"#;
    web.send(Message::text(join)).await.expect("writes");
    let welcome = within("a welcome", web.next()).await.expect("goes on").expect("a frame");
    assert!(welcome.to_text().expect("text").contains(r#""type":"welcome""#), "{welcome}");
    let (mut luis, _) = NativeClient::member(address, "luis", "ops").await;
    let long = "x".repeat(500_000);
    let send = format!(r#"{{"type":"send","counter":1,"text":"{long}"}}"#);
    web.send(Message::text(send)).await.expect("writes");
    assert_eq!(luis.message().await.2.len(), long.len());
    luis.publish("luis", 1, long.as_bytes()).await;
    loop {
        let told = within("the message", web.next()).await.expect("goes on").expect("a frame");
        if told.to_text().is_ok_and(|text| text.contains(&long)) {
            break;
        }
    }
    within("the node's end", node.stop()).await;
}

/// A browser's TLS for something else is not led to the native door, and the other way round.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_door_speaks_its_own_protocol_only() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(with_tls(data.path())).await;
    let (address, http) = (native(&node), node.endpoints().http.expect("the HTTP door is on"));
    for (door, alpn, speaks) in [
        (address, "tertulia/1", true),
        (address, "http/1.1", false),
        (http, "http/1.1", true),
        (http, "tertulia/1", false),
    ] {
        let stream = TcpStream::connect(door).await.expect("connects");
        let connector = TlsConnector::from(client_config(data.path(), Some(alpn)));
        let name = ServerName::try_from("localhost").expect("a name");
        let shaken = within("a handshake", connector.connect(name, stream)).await;
        assert_eq!(shaken.is_ok(), speaks, "{alpn}");
    }
    within("the node's end", node.stop()).await;
}
