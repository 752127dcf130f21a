//! What slow readers make the node hold: never more than its limits say, and it is given back.

use std::time::Duration;

use bytes::BytesMut;
use tertulia_client::{HistoryMode, Sender, SenderId, SenderOptions, Start, Target};
use tertulia_server::NodeLimits;
use tertulia_wire::ClientFrame;
use tertulia_wire::native::{Hello, Join};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{Node, WITHIN};

const READERS: usize = 300;
/// A node that nobody uses, with what it reads and writes for those who are quick: the debug build's too.
const OWN_BYTES: u64 = 64 << 20;
/// Bytes of each connection that the budget does not count.
const UNCOUNTED_BYTES: u64 = 16 << 10;
/// The longest answer.
const ANSWER_BYTES: u64 = 4 << 20;
/// How often an answer, or what was read for it, is there at once while it is made.
const COPIES: u64 = 3;

/// As the limits say: what waits, the windows of two groups, what is being read and answered just now.
fn bound(limits: &NodeLimits) -> u64 {
    let under_way = (limits.reads + limits.request_reads) as u64 * COPIES * ANSWER_BYTES;
    let windows = 2 * limits.window_bytes as u64;
    limits.held_bytes as u64 + READERS as u64 * UNCOUNTED_BYTES + windows + under_way + OWN_BYTES
}

/// Joins, asks for the longest answer there is, and reads nothing.
async fn reader(node: &str, name: String) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(node.parse().unwrap()).await.unwrap();
    let mut out = BytesMut::new();
    let agent = "slow".to_owned();
    ClientFrame::Hello(Hello { version: 1, features: 0, agent }).encode(&mut out);
    let join = Join {
        id: 1,
        durable: false,
        follow: false,
        group: "ops".to_owned(),
        name,
        sender: SenderId(rand::random()),
        start: Start::First,
        secret: None,
        position: None,
    };
    ClientFrame::Join(Box::new(join)).encode(&mut out);
    let (group, mode) = ("ops".to_owned(), HistoryMode::After(3));
    ClientFrame::History { id: 2, group, mode, limit: 10 }.encode(&mut out);
    stream.write_all(&out).await.unwrap();
    stream
}

#[track_caller]
fn until(what: &str, is_so: impl Fn() -> bool) {
    let until = std::time::Instant::now() + WITHIN;
    while !is_so() {
        assert!(std::time::Instant::now() < until, "took too long: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn readers_that_do_not_read_cost_what_the_limits_say_and_no_more() {
    let node = Node::start_with(&["--sync", "os"]);
    node.run(&["groups", "create", "ops"]).expect(0);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let readers = runtime.block_on(async {
        let target = Target::new(node.native.as_str());
        let sender = Sender::open(&target, "ops", "marta", SenderOptions::default()).await.unwrap();
        // More than the window, so that it has to be read for everybody.
        for _ in 0..24 {
            let sent = sender.send(vec![b'x'; 1 << 20]).await.unwrap();
            tokio::time::timeout(WITHIN, sent.stored()).await.expect("stored").unwrap();
        }
        let mut readers = Vec::new();
        for n in 0..READERS {
            readers.push(reader(&node.native, format!("slow{n}")).await);
        }
        // Every third reads a byte now and then; those who held on for longest are closed meanwhile.
        for _ in 0..5 {
            for slow in readers.iter_mut().step_by(3) {
                let read = slow.read_u8();
                let _ = tokio::time::timeout(Duration::from_millis(20), read).await;
            }
        }
        readers
    });
    let limits = NodeLimits::default();
    until("it is held", || node.memory("VmHWM") > limits.held_bytes as u64 * 3 / 4);
    node.run(&["send", "ops", "goes on", "--wait", "stored"]).expect(0);
    let peak = node.memory("VmHWM");
    let asked = READERS as u64 * ANSWER_BYTES;
    assert!(bound(&limits) < asked * 2 / 3, "more is asked for than may be held");
    assert!(peak < bound(&limits), "{} MiB, of {} MiB", peak >> 20, bound(&limits) >> 20);
    drop(readers);
    let little = OWN_BYTES + 2 * limits.window_bytes as u64;
    until("it is given back", || node.memory("VmRSS") < little);
    eprintln!(
        "{READERS} readers that ask for {} MiB and do not read: the node's memory {} MiB at most (bound: {} MiB), {} MiB after",
        asked >> 20,
        peak >> 20,
        bound(&limits) >> 20,
        node.memory("VmRSS") >> 20
    );
}
