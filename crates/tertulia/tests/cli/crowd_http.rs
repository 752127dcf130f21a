//! Very many event streams, and WebSockets that nobody reads: what they cost the node, and that others do not notice.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use tertulia_client::{Sender, SenderOptions, Target};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;

use crate::crowd::may_open;
use crate::support::{Node, WITHIN};

const STREAMS: usize = 5_000;
/// What an idle stream may cost the node, the debug build's too; sockets are the kernel's.
const MEMORY_EACH: u64 = 32 << 10;

/// Reads until this was there.
fn read_until(stream: &mut TcpStream, part: &str) {
    let (mut seen, mut some) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&seen).contains(part) {
        let n = stream.read(&mut some).unwrap();
        assert!(n > 0, "it ended before {part}: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&some[..n]);
    }
}

#[test]
fn five_thousand_streams_cost_little_and_all_are_told() {
    if !may_open(STREAMS as u64 * 4 / 3 + 1_000) {
        eprintln!("skipped: the hard limit of open files is too low for {STREAMS} streams");
        return;
    }
    let node = Node::start_with(&["--sync", "os"]);
    node.run(&["groups", "create", "ops"]).expect(0);
    let address: SocketAddr = node.http.parse().unwrap();
    let head = format!("GET /api/groups/ops/events HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let before = node.memory("VmRSS");
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let mut stream = TcpStream::connect_timeout(&address, WITHIN).unwrap();
        stream.set_read_timeout(Some(WITHIN)).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        streams.push(stream);
    }
    streams.iter_mut().for_each(|stream| read_until(stream, "event: hello"));
    let idle = node.memory("VmRSS").saturating_sub(before) / STREAMS as u64;
    assert!(idle < MEMORY_EACH, "{idle} bytes for each");
    node.run(&["send", "ops", "to all of you", "--wait", "stored"]).expect(0);
    let mut alive = TcpStream::connect_timeout(&address, WITHIN).unwrap();
    alive.set_read_timeout(Some(WITHIN)).unwrap();
    write!(alive, "GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    read_until(&mut alive, "HTTP/1.1 200");
    streams.iter_mut().for_each(|stream| read_until(stream, "event: receipt"));
    eprintln!(
        "{STREAMS} event streams: {idle} bytes each while idle; the node's memory {} KiB before, {} KiB at most",
        before >> 10,
        node.memory("VmHWM") >> 10
    );
}

const STUCK: usize = 50;
const SENT_BYTES: usize = 64 << 20;
/// What the node may hold for all of it: what waits for those who do not read, the log's newest part, twice, and its own.
const HELD_BYTES: u64 = 160 << 20;

/// Joins over a WebSocket, in which nobody reads.
async fn stuck(http: &str, name: &str) -> tokio::net::TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(http.parse().unwrap()).await.unwrap();
    let join = format!(r#"{{"type":"join","group":"ops","name":"{name}","follow":true}}"#);
    let mut bytes = format!(
        "GET /api/ws HTTP/1.1\r\nHost: {http}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes();
    bytes.extend([0x81, 0x80 | u8::try_from(join.len()).unwrap(), 0, 0, 0, 0]);
    bytes.extend(join.as_bytes());
    stream.write_all(&bytes).await.unwrap();
    stream
}

#[test]
fn web_members_that_do_not_read_are_bounded_and_hold_up_nobody() {
    let node = Node::start_with(&["--sync", "os"]);
    let ana = node.join(&["ops", "--name", "ana"]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stuck: Vec<_> = runtime.block_on(async {
        let mut all = Vec::new();
        for n in 0..STUCK {
            all.push(stuck(&node.http, &format!("stuck{n}")).await);
        }
        all
    });
    (0..STUCK).for_each(|_| drop(ana.says(" joined")));
    runtime.block_on(async {
        let target = Target::new(node.native.as_str());
        let sender = Sender::open(&target, "ops", "marta", SenderOptions::default()).await.unwrap();
        for _ in 0..SENT_BYTES >> 18 {
            let sent = sender.send(vec![b'x'; 256 << 10]).await.unwrap();
            tokio::time::timeout(WITHIN, sent.stored()).await.expect("stored").unwrap();
        }
    });
    node.run(&["send", "ops", "the last", "--wait", "1", "--timeout", "30s"]).expect(0);
    ana.says("the last");
    let peak = node.memory("VmHWM");
    assert!(peak < HELD_BYTES, "{} MiB", peak >> 20);
    eprintln!(
        "{STUCK} WebSockets that nobody reads, {} MiB sent to each: the node's memory {} MiB at most",
        SENT_BYTES >> 20,
        peak >> 20
    );
    drop(stuck);
}
