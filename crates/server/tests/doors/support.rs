//! A node for a test, and clients as thin as possible: lines and frames, each wait with a limit that fails loudly.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tertulia_group::{Entry, Limits, SenderId};
use tertulia_server::{Config, Engine, Keep, Node, NodeLimits};
use tertulia_wire::native::{
    Ack, Hello, Join, OpenSender, SenderReady, Start, Welcome, split_from_node,
};
use tertulia_wire::{ClientFrame, Code, NodeFrame};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;

/// Nothing in these tests takes this long unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn config(data: &Path) -> Config {
    Config {
        listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
        advertise: None,
        data: data.to_owned(),
        native_port: Some(0),
        line_port: Some(0),
        http_port: Some(0),
        guests: true,
        accounts: tertulia_server::AccountRules::default(),
        tls: None,
        keep: Keep::default(),
        engine: Engine::Embedded,
        fsync: false,
        node_id: "test".to_owned(),
        limits: NodeLimits::default(),
        group_limits: Limits::default(),
    }
}

pub async fn start(config: Config) -> Node {
    let (notices, mut lost) = mpsc::channel(64);
    tokio::spawn(async move { while lost.recv().await.is_some() {} });
    Node::start(config, notices).await.expect("the node starts")
}

pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("took too long: {what}"))
}

/// A client of the line door.
pub struct LineClient {
    pub lines: BufReader<OwnedReadHalf>,
    pub write: OwnedWriteHalf,
}

impl LineClient {
    pub async fn connect(address: SocketAddr) -> Self {
        let (read, write) = TcpStream::connect(address).await.expect("connects").into_split();
        Self { lines: BufReader::new(read), write }
    }

    pub async fn join(address: SocketAddr, name: &str, group: &str) -> Self {
        let mut client = Self::connect(address).await;
        client.say(&format!("JOIN {name} {group}")).await;
        let line = client.line().await;
        assert!(line.starts_with(&format!("OK JOIN {name} {group} ")), "{line}");
        client
    }

    pub async fn say(&mut self, line: &str) {
        self.write.write_all(format!("{line}\n").as_bytes()).await.expect("writes");
    }

    /// The next line; empty when the connection has ended.
    pub async fn line(&mut self) -> String {
        let mut line = String::new();
        within("a line", self.lines.read_line(&mut line)).await.expect("reads");
        line.trim_end().to_owned()
    }

    /// The next line that begins with `start`; what comes before is skipped.
    pub async fn until(&mut self, start: &str) -> String {
        loop {
            let line = self.line().await;
            assert!(!line.is_empty(), "the connection ended before {start}");
            if line.starts_with(start) {
                return line;
            }
        }
    }
}

/// A client of the native door.
pub struct NativeClient<S = TcpStream> {
    pub stream: S,
    inbound: BytesMut,
}

impl NativeClient {
    /// Connected, and nothing said.
    pub async fn bare(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("connects");
        Self::over(stream)
    }

    pub async fn connect(address: SocketAddr) -> Self {
        Self::bare(address).await.greeted().await
    }

    /// One whose host takes little of what it does not read.
    pub async fn narrow(address: SocketAddr) -> Self {
        Self::over(narrow_stream(address).await).greeted().await
    }

    pub async fn member(address: SocketAddr, name: &str, group: &str) -> (Self, Welcome) {
        Self::connect(address).await.joined(name, group).await
    }

    pub async fn sender(
        address: SocketAddr,
        name: &str,
        group: &str,
        id: SenderId,
        known: bool,
    ) -> (Self, SenderReady) {
        Self::connect(address).await.sends(name, group, id, known).await
    }
}

/// A connection whose host takes little of what it does not read.
pub async fn narrow_stream(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    socket.connect(address).await.expect("connects")
}

impl<S: AsyncRead + AsyncWrite + Unpin> NativeClient<S> {
    /// One on a connection of whatever kind; nothing is said.
    pub fn over(stream: S) -> Self {
        Self { stream, inbound: BytesMut::new() }
    }

    /// The code of the CLOSE that ends this connection; `None` where it ends without one.
    pub async fn close_code(&mut self) -> Option<Code> {
        loop {
            if let NodeFrame::Close { code, .. } = self.frame_or_end().await? {
                assert!(self.frame_or_end().await.is_none(), "CLOSE is the last frame");
                return Some(code);
            }
        }
    }

    pub async fn greeted(mut self) -> Self {
        let hello = Hello { version: 1, features: 0, agent: "test".to_owned() };
        self.send(&ClientFrame::Hello(hello)).await;
        assert!(matches!(self.frame().await, NodeFrame::Greeting(_)));
        self
    }

    pub async fn send(&mut self, frame: &ClientFrame) {
        let mut out = BytesMut::new();
        frame.encode(&mut out);
        self.write(&out).await;
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        let write = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        within("a write", write).await.expect("writes");
    }

    pub async fn publish(&mut self, name: &str, counter: u64, body: &[u8]) {
        let mut out = BytesMut::new();
        tertulia_wire::native::write_publish(&mut out, name, counter, true, body);
        self.write(&out).await;
    }

    async fn next_frame(&mut self) -> Option<NodeFrame> {
        loop {
            if let Some(frame) = split_from_node(&mut self.inbound, 1 << 20).expect("frames") {
                return Some(NodeFrame::decode(frame).expect("a frame"));
            }
            if self.stream.read_buf(&mut self.inbound).await.ok()? == 0 {
                return None;
            }
        }
    }

    /// The next frame that is not a heartbeat; `None` when the connection has ended.
    pub async fn frame_or_end(&mut self) -> Option<NodeFrame> {
        within("a frame", async {
            loop {
                match self.next_frame().await {
                    Some(NodeFrame::Heartbeat { .. }) => {}
                    other => return other,
                }
            }
        })
        .await
    }

    pub async fn frame(&mut self) -> NodeFrame {
        self.frame_or_end().await.expect("the connection goes on")
    }

    /// The next entry of the log; other frames are skipped.
    pub async fn entry(&mut self) -> Entry {
        loop {
            if let NodeFrame::Entry(entry) = self.frame().await {
                return entry;
            }
        }
    }

    /// The next message, as (number, name, body).
    pub async fn message(&mut self) -> (u64, String, Bytes) {
        loop {
            let entry = self.entry().await;
            if entry.header.kind == tertulia_group::Kind::Message {
                return (entry.header.seq, entry.name().to_owned(), entry.body());
            }
        }
    }

    pub async fn ack(&mut self, cursor: u64) {
        self.send(&ClientFrame::Ack(Ack { cursor, open: Vec::new(), failed: Vec::new() })).await;
    }

    pub async fn try_join(&mut self, join: Join) -> Result<Welcome, NodeFrame> {
        self.send(&ClientFrame::Join(Box::new(join))).await;
        match self.frame().await {
            NodeFrame::Welcome(welcome) => Ok(*welcome),
            other => Err(other),
        }
    }

    pub async fn joined(mut self, name: &str, group: &str) -> (Self, Welcome) {
        let welcome = self.try_join(join(name, group)).await.expect("joins");
        (self, welcome)
    }

    pub async fn sends(
        mut self,
        name: &str,
        group: &str,
        id: SenderId,
        known: bool,
    ) -> (Self, SenderReady) {
        let (group, name) = (group.to_owned(), name.to_owned());
        let open = OpenSender { id: 1, known, follow: false, group, name, sender: id };
        self.send(&ClientFrame::OpenSender(open)).await;
        match self.frame().await {
            NodeFrame::SenderReady(ready) => (self, *ready),
            other => panic!("{other:?}"),
        }
    }
}

pub fn join(name: &str, group: &str) -> Join {
    Join {
        id: 1,
        durable: false,
        follow: false,
        group: group.to_owned(),
        name: name.to_owned(),
        sender: SenderId(rand::random()),
        start: Start::Now,
        secret: None,
        position: None,
    }
}

/// A member and an outside sender that mind their own business.
pub struct Calm {
    pub member: NativeClient,
    pub sender: NativeClient,
    counter: u64,
}

impl Calm {
    pub async fn new(address: SocketAddr, group: &str) -> Self {
        let (member, _) = NativeClient::member(address, "calm", group).await;
        let (sender, _) =
            NativeClient::sender(address, "calm2", group, SenderId(rand::random()), false).await;
        Self { member, sender, counter: 0 }
    }

    /// A message of the sender is stored, and comes to the member.
    pub async fn delivers(&mut self, body: &[u8]) -> u64 {
        self.counter += 1;
        self.sender.publish("calm2", self.counter, body).await;
        let seq = loop {
            match self.sender.frame().await {
                NodeFrame::Stored(runs) => break runs[0].seq,
                NodeFrame::Complete(_) | NodeFrame::Receipt { .. } => {}
                other => panic!("{other:?}"),
            }
        };
        while self.member.message().await.0 != seq {}
        self.member.ack(seq).await;
        seq
    }

    /// How many connections the node has.
    pub async fn connections(&mut self) -> u32 {
        self.sender.send(&ClientFrame::Status { id: 99 }).await;
        loop {
            if let NodeFrame::StatusReply(status) = self.sender.frame().await {
                return status.connections;
            }
        }
    }

    /// Waits until the node has so many connections, or fewer.
    pub async fn until_connections(&mut self, at_most: u32) {
        within("connections end", async {
            while self.connections().await > at_most {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}
