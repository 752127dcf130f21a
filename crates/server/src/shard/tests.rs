//! What a node does as time passes, with a clock that the test moves: heartbeats, and how long anybody may be silent.

use std::net::{Ipv4Addr, SocketAddr};

use tertulia_group::{Door, SenderId};
use tertulia_wire::native::{Hello, Join, Start, split_from_node};
use tertulia_wire::{ClientFrame, NodeFrame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::Instant;

use super::*;
use crate::config::NodeLimits;
use crate::{doors, testing};

mod ending;
mod held;
mod paced;

/// Runs a node of one shard and what `work` does with it on the test's own runtime, whose clock stands still while anybody has work.
async fn with_directory<T>(limits: NodeLimits, work: impl AsyncFnOnce(Arc<Directory>) -> T) -> T {
    let shared = testing::shared(limits);
    let directory = directory(&shared);
    let (jobs, receiver) = mpsc::channel(JOBS_MAX);
    directory.load(vec![ShardHandle { jobs }]).expect("an empty catalog");
    let local = LocalSet::new();
    let shard = local.spawn_local(Shard::new(shared, Arc::clone(&directory)).run(receiver));
    let came = local.run_until(work(directory)).await;
    shard.abort();
    came
}

/// Of a node without accounts, peers and groups.
fn directory(shared: &Arc<Shared>) -> Arc<Directory> {
    let (limits, rules) = (shared.config.limits.accounts.clone(), shared.config.accounts);
    let catalog = Arc::clone(&shared.catalog);
    let accounts =
        crate::accounts::Accounts::load(catalog, limits, rules, crate::clock::now()).unwrap();
    let limits = shared.config.limits.peers.clone();
    let peers =
        crate::peers::Peers::load(Arc::clone(&shared.catalog), limits, &[1; 32], String::new());
    Arc::new(Directory::new(Arc::clone(shared), accounts, peers.unwrap()))
}

/// The same with a client of one of its doors.
async fn with_node<T>(
    limits: NodeLimits,
    door: Door,
    client: impl AsyncFnOnce(SocketAddr) -> T,
) -> T {
    with_directory(limits, async |directory| {
        let listener = doors::listen((Ipv4Addr::LOCALHOST, 0).into()).expect("a port");
        let address = listener.local_addr().expect("an address");
        let accepting = tokio::spawn(doors::accept(listener, door, directory));
        let came = client(address).await;
        accepting.abort();
        came
    })
    .await
}

struct Client {
    stream: TcpStream,
    inbound: BytesMut,
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("connects");
        Self { stream, inbound: BytesMut::new() }
    }

    async fn send(&mut self, frame: &ClientFrame) {
        let mut out = BytesMut::new();
        frame.encode(&mut out);
        self.stream.write_all(&out).await.expect("writes");
    }

    /// The next frame; `None` at the end.
    async fn frame(&mut self) -> Option<NodeFrame> {
        loop {
            if let Some(frame) = split_from_node(&mut self.inbound, 1 << 20).expect("frames") {
                return Some(NodeFrame::decode(frame).expect("a frame"));
            }
            if self.stream.read_buf(&mut self.inbound).await.ok()? == 0 {
                return None;
            }
        }
    }

    async fn greet(&mut self) {
        let agent = "test".to_owned();
        self.send(&ClientFrame::Hello(Hello { version: 1, features: 0, agent })).await;
        assert!(matches!(self.frame().await, Some(NodeFrame::Greeting(_))));
    }

    async fn member(address: SocketAddr) -> Self {
        let mut client = Self::connect(address).await;
        client.greet().await;
        let join = Join {
            id: 1,
            durable: false,
            follow: false,
            group: "ops".to_owned(),
            name: "ana".to_owned(),
            sender: SenderId([1; 16]),
            start: Start::Now,
            secret: None,
            position: None,
        };
        client.send(&ClientFrame::Join(Box::new(join))).await;
        assert!(matches!(client.frame().await, Some(NodeFrame::Welcome(_))));
        client
    }
}

/// The bug: every other heartbeat was left out, because the one before counted as something that was written.
#[tokio::test(start_paused = true)]
async fn a_quiet_connection_gets_a_heartbeat_each_second() {
    with_node(NodeLimits::default(), Door::Native, async |address| {
        let mut ana = Client::member(address).await;
        while !matches!(ana.frame().await, Some(NodeFrame::Heartbeat { .. })) {}
        let first = Instant::now();
        for n in 1..=20_u64 {
            let frame = ana.frame().await;
            assert!(matches!(frame, Some(NodeFrame::Heartbeat { .. })), "{frame:?}");
            assert_eq!(first.elapsed().as_secs(), n, "the time of the heartbeat {n}");
        }
    })
    .await;
}

/// How long the node bears somebody who says `bytes`, one each `pause`.
async fn borne(door: Door, bytes: &[u8], pause: Duration) -> Duration {
    with_node(NodeLimits::default(), door, async |address| {
        let started = Instant::now();
        let (mut read, mut write) =
            TcpStream::connect(address).await.expect("connects").into_split();
        let bytes = bytes.to_vec();
        let drip = tokio::spawn(async move {
            for byte in bytes {
                if write.write_all(&[byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(pause).await;
            }
            // Silence, and the connection stays.
            std::future::pending::<()>().await;
        });
        let mut sink = Vec::new();
        let _ = read.read_to_end(&mut sink).await;
        let borne = started.elapsed();
        drip.abort();
        borne
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn before_it_has_said_who_it_is_nobody_is_borne_for_long() {
    let mut hello = BytesMut::new();
    let agent = "x".repeat(1000);
    ClientFrame::Hello(Hello { version: 1, features: 0, agent }).encode(&mut hello);
    let (second, limits) = (Duration::from_secs(1), NodeLimits::default());
    for (door, bytes, most) in [
        (Door::Native, &b""[..], limits.hello),
        (Door::Native, &hello[..3], limits.hello),
        // One byte a second is no reason to wait longer.
        (Door::Native, &hello, limits.hello),
        (Door::Line, b"", limits.idle),
        (Door::Line, &[b'x'; 1000], limits.idle),
    ] {
        let borne = borne(door, bytes, second).await;
        assert!(borne >= most && borne <= most + 5 * second, "{door:?}: {borne:?}, {most:?}");
    }
}
