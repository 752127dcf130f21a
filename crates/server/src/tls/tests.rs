//! A stream under TLS whose socket takes little: what it keeps, what it says is there, and what goes with it to another runtime.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tertulia_group::{ConnId, Door};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::*;
use crate::config::NodeLimits;
use crate::conn::Conn;
use crate::sending::{self, Sending};
use crate::stream::Stream;
use crate::testing;

/// Both ends of a connection that holds little.
async fn narrow() -> (Stream, TlsStream<TcpStream>) {
    let data = tempfile::tempdir().expect("a folder");
    let config = Config { data: data.path().to_owned(), ..testing::config(NodeLimits::default()) };
    let tls = Tls::load(&config, &TlsSource::Own).expect("a certificate");
    let (ours, theirs) = testing::narrow().await;
    let Stream::Plain(ours) = ours else { panic!("there was no handshake yet") };
    let own = CertificateDer::from_pem_file(data.path().join("tls-cert.pem"));
    let mut roots = RootCertStore::empty();
    roots.add(own.expect("a certificate")).expect("one that can be trusted");
    let client = ClientConfig::builder_with_provider(certificate::provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let connector = TlsConnector::from(Arc::new(client));
    let server = arriving::shake_hands(&ours, Arc::clone(&tls.native), &tls);
    let (server, client) = tokio::join!(server, connector.connect(name, theirs));
    let (session, state) = server.expect("shakes hands");
    (Stream::tls(ours, session, &state, NATIVE_WAITING_BYTES), client.expect("shakes hands"))
}

fn is_blocked(wrote: &std::io::Result<usize>) -> bool {
    wrote.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

#[tokio::test]
async fn what_the_socket_does_not_take_is_bounded_counted_and_comes_in_the_end() {
    let (mut ours, mut theirs) = narrow().await;
    let bytes: Vec<u8> = (0..1_u32 << 20).map(|at| (at >> 3) as u8).collect();
    let mut taken = 0;
    let blocked = loop {
        match ours.try_write(&bytes[taken..]) {
            Ok(count) => taken += count,
            blocked => break blocked,
        }
    };
    assert!(is_blocked(&blocked), "{blocked:?}");
    assert!(taken < 512 << 10, "{taken} bytes were taken, and nobody reads");
    assert!(
        ours.held() > 1 << 10 && ours.held() < NATIVE_WAITING_BYTES + (16 << 10),
        "{}",
        ours.held()
    );
    assert!(is_blocked(&ours.try_write(b"more")));
    let mut got = vec![0; taken];
    let reading = tokio::spawn(async move {
        theirs.read_exact(&mut got).await.expect("reads");
        (theirs, got)
    });
    // Nothing more is to be written: what waits goes out all the same, also while only reading is waited for.
    let waiting = async {
        loop {
            ours.ready(Interest::READABLE).await.expect("goes on");
            // The reactor may think so still, of what the handshake has read.
            assert!(is_blocked(&ours.try_read_buf(&mut BytesMut::new())));
        }
    };
    let (_theirs, got) = tokio::select! {
        read = reading => read.expect("no panic"),
        waited = tokio::time::timeout(testing::PATIENCE, waiting) => waited.expect("all of it comes"),
    };
    assert!(got == bytes[..taken]);
}

#[tokio::test]
async fn what_was_read_and_not_taken_is_there_whatever_the_socket_says() {
    let (mut ours, mut theirs) = narrow().await;
    theirs.write_all(b"hola, qu\xc3\xa9 tal").await.expect("writes");
    theirs.flush().await.expect("writes");
    let mut first = [0; 4];
    ours.read_exact(&mut first).await.expect("reads");
    assert_eq!(&first, b"hola");
    // The rest has left the socket already: it goes along to another runtime, and is told there.
    let mut ours = ours.detach().expect("lets go").attach().expect("takes hold");
    let ready = tokio::time::timeout(testing::PATIENCE, ours.ready(Interest::READABLE)).await;
    assert!(ready.expect("at once").expect("is there").is_readable());
    let mut rest = BytesMut::new();
    assert_eq!(ours.try_read_buf(&mut rest).expect("reads"), 10);
    assert_eq!(&rest[..], b", qu\xc3\xa9 tal");
    assert!(is_blocked(&ours.try_read_buf(&mut rest)));
    drop(theirs);
    let ended = tokio::time::timeout(testing::PATIENCE, ours.ready(Interest::READABLE)).await;
    ended.expect("its end").expect("is told");
    assert_eq!(ours.try_read_buf(&mut rest).expect("ends"), 0);
}

/// The bug: the driver wrote what TLS took and the socket did not, and nobody waited for the socket: the rest came with the next
/// heartbeat.
#[tokio::test]
async fn what_the_driver_writes_and_the_socket_does_not_take_is_waited_for_by_the_session() {
    let (ours, _theirs) = narrow().await;
    let hosted = testing::hosted(&testing::shared(NodeLimits::default()));
    let address = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    let conn = Conn::new(ConnId(1), Door::Native, address, None);
    let idle = ours.held();
    let mut sending = Sending::new(ours);
    sending.outbox.start(1, Vec::new());
    conn.sending.replace(Some(sending));
    let is_woken = || async { tokio::time::timeout(Duration::ZERO, conn.woken()).await.is_ok() };
    for seq in 1.. {
        hosted.window.borrow_mut().push(testing::entry(seq, 1000), seq, seq);
        sending::deliver(&hosted, &conn);
        let waits = conn.writing().held() > idle;
        assert_eq!(is_woken().await, waits, "#{seq}");
        if waits {
            assert_eq!(conn.writing().outbox.sent_through(), seq, "TLS has taken all of it");
            break;
        }
    }
}
