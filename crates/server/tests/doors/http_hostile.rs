//! Who means harm at the HTTP door: foreign pages, slow and endless requests, streams that are not read.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::StatusCode;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::http_client::Ask;
use crate::support::{config, start, within};

#[tokio::test(flavor = "multi_thread")]
async fn another_sites_page_may_neither_send_nor_read() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(config(data.path())).await;
    let http = node.endpoints().http.expect("http");
    Ask::json(http, "/api/groups", &json!({ "name": "ops" })).answer().await;
    for origin in ["http://evil.example", "null", "http://127.0.0.1:1"] {
        let post = Ask::post(http, "/api/groups/ops/messages", "x").header("origin", origin);
        assert_eq!(post.answer().await.code(), "FOREIGN_ORIGIN", "{origin}");
    }
    let own = format!("http://{http}");
    let post = Ask::post(http, "/api/groups/ops/messages", "x").header("origin", &own);
    assert_eq!(post.answer().await.status, StatusCode::OK);
    let pointed = Ask::get(http, "/api/groups").header("host", "evil.example:5080");
    assert_eq!(pointed.answer().await.code(), "FOREIGN_ORIGIN");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_long_is_refused_without_reading_it() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(config(data.path())).await;
    let http = node.endpoints().http.expect("http");
    Ask::json(http, "/api/groups", &json!({ "name": "ops" })).answer().await;
    let long = vec![b'x'; (1 << 20) + 1];
    let answer = Ask::post(http, "/api/groups/ops/messages", long).answer().await;
    assert_eq!((answer.status, answer.code()), (StatusCode::PAYLOAD_TOO_LARGE, "TOO_LONG"));
    let fits = vec![b'x'; 1 << 20];
    let answer = Ask::post(http, "/api/groups/ops/messages", fits).answer().await;
    assert_eq!(answer.status, StatusCode::OK);

    // One without an end.
    let mut stream = TcpStream::connect(http).await.expect("connects");
    let head = format!(
        "POST /api/groups/ops/messages HTTP/1.1\r\nHost: {http}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("writes");
    let mut chunk = format!("{:x}\r\n", 1 << 16).into_bytes();
    chunk.extend(vec![b'x'; 1 << 16]);
    chunk.extend(b"\r\n");
    within("a refusal", async {
        let (mut read, mut write) = stream.split();
        let mut answer = [0; 12];
        let writing = async { while write.write_all(&chunk).await.is_ok() {} };
        tokio::select! {
            read = read.read_exact(&mut answer) => { read.expect("an answer"); }
            () = writing => { read.read_exact(&mut answer).await.expect("an answer"); }
        }
        assert_eq!(&answer, b"HTTP/1.1 413");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_and_heads_without_an_end_are_refused() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(config(data.path())).await;
    let http = node.endpoints().http.expect("http");
    let endless = format!("GET / HTTP/1.1\r\nHost: x\r\n{}", "A: b\r\n".repeat(100_000));
    for noise in [&b"\x16\x03\x01\x02\x00\x01\x00"[..], &[0xff; 4096], endless.as_bytes()] {
        let mut stream = TcpStream::connect(http).await.expect("connects");
        let _ = stream.write_all(noise).await;
        let _ = stream.write_all(b"\r\n\r\n").await;
        let mut answer = Vec::new();
        let _ = within("an end", stream.read_to_end(&mut answer)).await;
        let text = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
    }
    assert_eq!(Ask::get(http, "/healthz").answer().await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_not_read_hold_no_more_than_the_node_has_room_for() {
    let data = tempfile::tempdir().expect("a folder");
    let mut config = config(data.path());
    config.limits.held_bytes = 1 << 20;
    let node = start(config).await;
    let http = node.endpoints().http.expect("http");
    Ask::json(http, "/api/groups", &json!({ "name": "ops" })).answer().await;
    let mut stuck = Vec::new();
    for _ in 0..50 {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        let mut stream = socket.connect(http).await.expect("connects");
        let head = format!("GET /api/groups/ops/events?after=0 HTTP/1.1\r\nHost: {http}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("writes");
        stuck.push(stream);
    }
    let mut healthy = Ask::get(http, "/api/groups/ops/events?after=0").events().await;
    let healthy = tokio::spawn(async move {
        let mut seen = 0;
        while seen < 20 {
            let event = healthy.next().await.expect("the one that reads goes on");
            seen += usize::from(event.kind == "message");
        }
    });
    let text = "x".repeat(100_000);
    for _ in 0..20 {
        let path = "/api/groups/ops/messages?wait=stored";
        assert!(Ask::post(http, path, text.clone()).answer().await.status.is_success());
    }
    within("all messages", healthy).await.expect("it sees them all");
    // Those that had to give up find their streams at an end, before all of it was there.
    let mut ended = 0;
    for mut stream in stuck {
        let mut read = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(1), stream.read_to_end(&mut read)).await;
        ended += usize::from(end.is_ok() && read.len() < 20 * text.len());
    }
    assert!(ended >= 25, "only {ended} of 50 were ended");
}

/// Sends `begin`, then `drop` again and again, and answers what comes until the end.
async fn drip(http: SocketAddr, begin: &str, drop: &[u8]) -> String {
    let stream = TcpStream::connect(http).await.expect("connects");
    let (mut read, mut write) = stream.into_split();
    let begin = begin.to_owned().into_bytes();
    let drop = drop.to_vec();
    let dripping = tokio::spawn(async move {
        write.write_all(&begin).await?;
        loop {
            write.write_all(&drop).await?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        #[expect(unreachable_code, reason = "says what the task is")]
        Ok::<(), std::io::Error>(())
    });
    let mut answer = Vec::new();
    let _ = within("an end", read.read_to_end(&mut answer)).await;
    dripping.abort();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_and_a_body_that_come_a_byte_at_a_time_are_ended_at_their_time() {
    let data = tempfile::tempdir().expect("a folder");
    let mut config = config(data.path());
    // Each byte comes well within it: it is the whole that has to.
    config.limits.head = Duration::from_millis(300);
    config.limits.body = Duration::from_millis(300);
    let node = start(config).await;
    let http = node.endpoints().http.expect("http");
    Ask::json(http, "/api/groups", &json!({ "name": "ops" })).answer().await;
    let head = drip(http, "GET /healthz HTTP/1.1\r\nHost: ", b"x").await;
    assert!(head.is_empty() || head.starts_with("HTTP/1.1 408"), "{head}");
    let begin = |path: &str, kind: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: {http}\r\nContent-Type: {kind}\r\n\
             Transfer-Encoding: chunked\r\n\r\n"
        )
    };
    let json = "application/json";
    for begin in [
        begin("/api/groups/ops/messages", "text/plain"),
        begin("/api/groups/ops/messages", json),
        begin("/api/login", json),
        begin("/api/register", json),
        begin("/api/groups", json),
    ] {
        let answer = drip(http, &begin, b"1\r\nx\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{begin}: {answer}");
        assert!(answer.contains("TOO_SLOW"), "{answer}");
    }
    assert_eq!(Ask::get(http, "/healthz").answer().await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_takes_more_than_it_can_need() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(config(data.path())).await;
    let http = node.endpoints().http.expect("http");
    Ask::json(http, "/api/groups", &json!({ "name": "ops" })).answer().await;
    let long = json!({ "name": "x".repeat(300 << 10), "password": "correct horse" });
    for path in ["/api/login", "/api/register", "/api/groups", "/api/allocate"] {
        let answer = Ask::json(http, path, &long).answer().await;
        assert_eq!((answer.status.as_u16(), answer.code()), (413, "TOO_LONG"), "{path}");
    }
    let rules = Ask::json(http, "/api/groups/ops/rules", &long).method("PUT").answer().await;
    assert!(rules.status == 413 || rules.status == 403, "{rules:?}");
}
