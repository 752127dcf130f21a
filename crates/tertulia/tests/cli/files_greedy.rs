//! Callers of a peer that take its connections, its threads or its memory, and what others still get of it.

use std::time::{Duration, Instant};

use tertulia_files::content::ContentHash;
use tertulia_files::fetch::Holder;
use tertulia_files::identity::{Fingerprint, Identity};
use tertulia_files::proto::PiecesRequest;
use tertulia_files::tls;
use tertulia_wire::sharing::bytes_of_hex;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::{Code, Request};

use crate::files::{Sharer, content, read};
use crate::files_hostile::connect_with;
use crate::files_scripted::{Account, PIECE};
use crate::support::{Node, WITHIN};

/// A command of somebody's that ends in time, well.
#[track_caller]
fn in_time(sharer: &Sharer, args: &[&str]) {
    let mut running = sharer.user.spawn(&[&["files"], args].concat());
    let status = running.end();
    assert!(status.success(), "{args:?}: {status}\n{}", running.all_noted());
}

/// Whoever has this account's right to fetch it from this peer, with a certificate of its own.
async fn holder(eva: &Account, hash: ContentHash) -> (Identity, Holder, String) {
    let identity = Identity::ephemeral().unwrap();
    let capability = eva.api.capability(&eva.token, hash, identity.fingerprint()).await.unwrap();
    let line = eva.api.holders(&eva.token, hash).await.unwrap().remove(0);
    let holder = Holder {
        user: line.user,
        address: line.address,
        fingerprint: Fingerprint(bytes_of_hex(&line.fingerprint).unwrap()),
        name: line.name,
        size: line.size,
        unfinished: false,
    };
    (identity, holder, format!("Bearer {capability}"))
}

#[test]
fn who_asks_for_much_and_takes_nothing_keeps_nobody_from_it() {
    const CONNECTIONS: usize = 16;
    const STREAMS: usize = 32;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = Node::start();
    let (ana, luis) = (Sharer::start(&node, "0"), Sharer::start(&node, "0"));
    ana.log_in("ana");
    luis.log_in("luis");
    let bytes = content(5 * PIECE + 9);
    let hash = ContentHash::of(&bytes);
    std::fs::write(ana.folder.join("plano.bin"), &bytes).unwrap();
    luis.finds("plano", 1);
    let before = ana.peer.memory("VmRSS");
    let eva = runtime.block_on(Account::new(&node, "eva"));
    let mut asked = Vec::new();
    runtime.block_on(async {
        let (identity, holder, bearer) = holder(&eva, hash).await;
        for _ in 0..CONNECTIONS {
            // Nothing may be sent on any stream.
            let client =
                connect_with(&holder, &identity, |to| to.initial_stream_window_size(0)).await;
            for _ in 0..STREAMS {
                let (mut client, bearer) = (client.clone(), bearer.parse().unwrap());
                asked.push(tokio::spawn(async move {
                    let hash = hash.0.to_vec().into();
                    let asked = PiecesRequest { hash, count: 3, ..Default::default() };
                    let mut request = Request::new(asked);
                    request.metadata_mut().insert("authorization", bearer);
                    client.pieces(request).await
                }));
            }
        }
    });
    let mut held = Vec::new();
    let mut refused = 0;
    for answer in asked {
        match runtime.block_on(answer).unwrap() {
            Ok(answer) => held.push(answer),
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
                assert_eq!(status.metadata().get("tertulia-code").unwrap(), "BUSY");
                refused += 1;
            }
        }
    }
    let to = luis.user.home.path().join("plano.bin");
    in_time(&luis, &["get", "plano.bin", "-o", to.to_str().unwrap()]);
    assert!(read(&to) == bytes);
    in_time(&ana, &["list"]);
    let grown = ana.peer.memory("VmHWM").saturating_sub(before);
    assert!(grown < 200 << 20, "{} MiB more", grown >> 20);
    assert_eq!((held.len(), refused), (32, CONNECTIONS * STREAMS - 32));
}

#[test]
fn connections_that_say_nothing_are_closed_and_the_owner_gets_in() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = Node::start();
    let ana = Sharer::start(&node, "0");
    ana.log_in("ana");
    std::fs::write(ana.folder.join("acta.txt"), "hola").unwrap();
    let hash = ContentHash::of(b"hola");
    ana.finds("acta", 1);
    let eva = runtime.block_on(Account::new(&node, "eva"));
    let mut idle = Vec::new();
    runtime.block_on(async {
        let (identity, holder, _) = holder(&eva, hash).await;
        let config = tls::client_config(&identity, holder.fingerprint).unwrap();
        // As many as there may be; one more is closed.
        loop {
            let stream = TcpStream::connect(&holder.address).await.unwrap();
            let connector = TlsConnector::from(config.clone());
            match connector.connect(tls::server_name(), stream).await {
                Ok(stream) => idle.push(stream),
                Err(_) => break,
            }
        }
    });
    assert!(idle.len() > 500, "{}", idle.len());
    let until = Instant::now() + WITHIN;
    while ana.files(&["list"]).code() != Some(0) {
        assert!(Instant::now() < until, "the owner does not get in");
        std::thread::sleep(Duration::from_millis(100));
    }
}
