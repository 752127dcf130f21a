//! The doors: each knows its protocol and nothing else; it decodes, asks the group's driver or the directory, and encodes.

pub(crate) mod http;
pub(crate) mod identity;
mod line;
pub(crate) mod line_session;
mod native;
pub(crate) mod native_session;
mod reached;
mod requests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tertulia_group::{ConnId, Door};
use tertulia_wire::Code;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::directory::{Directory, Listed};
use crate::node::Notice;
use crate::pace::Meter;
use crate::shard::{AttachedDoor, Attachment, Job};
use crate::shared::Counted;
use crate::stream::Stream;
use crate::tls;

/// A dead host is noticed within 30 s: asked after 10 s of silence, every 5 s, three times.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
/// Large enough for long writes, small enough that a stuck reader costs little.
const SEND_BUFFER_BYTES: usize = 256 << 10;
/// The same trouble is told again after so long.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;

/// A connection before it has entered any group.
pub(crate) struct Arrival {
    pub id: ConnId,
    pub stream: Stream,
    /// When it had its turn: what it has to say at first has its time from then on.
    pub since: tokio::time::Instant,
    pub address: IpAddr,
    /// The address at which it reached the node.
    pub dialled: SocketAddr,
    pub counted: Counted,
    /// Nobody between can read it: TLS.
    pub secure: bool,
}

impl Arrival {
    /// Goes on at the shard of the group that it has entered; `inbound` is what came after its request.
    async fn attach(self, listed: &Listed, inbound: BytesMut, door: AttachedDoor) {
        let (key, conn) = (listed.key, self.id);
        let job = match self.stream.detach() {
            Ok(stream) => {
                let attachment = Attachment { conn, stream, inbound, counted: self.counted, door };
                Job::Attach { key, attachment: Box::new(attachment) }
            }
            Err(_) => Job::Abandon { key, conn },
        };
        listed.shard.send(job).await;
    }
}

/// Listens on `address`.
pub(crate) fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts for ever; each connection gets a task of its own, which ends with this one unless it has gone on to a shard.
pub(crate) async fn accept(listener: TcpListener, door: Door, directory: Arc<Directory>) {
    let mut lobby = JoinSet::new();
    let mut told: Option<Instant> = None;
    let app = (door == Door::Web).then(|| http::app(&directory));
    let (mut taken, pace) = (Meter::default(), directory.shared.config.limits.accepts);
    loop {
        while lobby.try_join_next().is_some() {}
        let now = tokio::time::Instant::now();
        if let Some(until) = taken.until(pace, now) {
            tokio::time::sleep_until(until).await;
        }
        taken.spend(pace, 1, now);
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            // Out of file descriptors, or the peer was gone already: others may still be served.
            Err(error) => {
                if told.is_none_or(|told| told.elapsed() > TELL_EVERY) {
                    told = Some(Instant::now());
                    tracing::warn!(%error, door = door.as_str(), "a connection was not accepted");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let address = address.ip().to_canonical();
        let Some(counted) = directory.shared.connections.count(address) else {
            directory.shared.metrics.refused(turned_away_as(door));
            // A flood is not worth a file descriptor each.
            if let Ok(permit) = Arc::clone(&directory.shared.turned_away).try_acquire_owned() {
                lobby.spawn(async move {
                    turn_away(stream, door).await;
                    drop(permit);
                });
            }
            continue;
        };
        if let Err(error) = set_up(&stream) {
            tracing::debug!(%error, "a connection ended at once");
            continue;
        }
        let Ok(dialled) = stream.local_addr() else { continue };
        directory.shared.notice(Notice::Connected { door, address });
        let id = ConnId(directory.shared.new_id());
        tracing::debug!(conn = id.0, %address, door = door.as_str(), "connected");
        let (stream, since) = (Stream::Plain(stream), tokio::time::Instant::now());
        let mut arrival = Arrival { id, stream, since, address, dialled, counted, secure: false };
        let (directory, app) = (Arc::clone(&directory), app.clone());
        lobby.spawn(async move {
            if let Some(until) = arrival.counted.waits_until() {
                tokio::time::sleep_until(until).await;
            }
            arrival.since = tokio::time::Instant::now();
            let Some(arrival) = tls::settle(arrival, door, &directory).await else { return };
            // Each on the heap: the task would be as large as the largest.
            match app {
                Some(app) => Box::pin(http::serve(arrival, app, directory)).await,
                None if door == Door::Line => Box::pin(line::serve(arrival, directory)).await,
                None => Box::pin(native::serve(arrival, directory)).await,
            }
        });
    }
}

fn set_up(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)
}

/// What one connection too many is told, in the door's own words.
const fn turned_away_as(door: Door) -> Code {
    match door {
        Door::Line | Door::Web => Code::Busy,
        Door::Native => Code::Limit,
    }
}

async fn turn_away(stream: TcpStream, door: Door) {
    let mut stream = Stream::Plain(stream);
    let mut out = BytesMut::new();
    let (code, message) = (turned_away_as(door), "too many connections; try again later");
    match door {
        Door::Line => {
            let refusal =
                tertulia_wire::line::Refusal::new(tertulia_wire::line::LineCode::Busy, message);
            tertulia_wire::line::err(&mut out, &refusal);
        }
        Door::Web => out.extend_from_slice(&http::turned_away(code, message)),
        Door::Native => {
            tertulia_wire::NodeFrame::Close { code, message: message.to_owned() }.encode(&mut out);
        }
    }
    let telling = async {
        // A client of HTTP takes an answer to nothing for nonsense.
        if door == Door::Web {
            stream.socket().peek(&mut [0]).await?;
        }
        stream.write_all(&out).await
    };
    let told = tokio::time::timeout(Duration::from_secs(1), telling).await;
    // What it has said already must not turn the end into a reset, which could overtake the refusal.
    if matches!(told, Ok(Ok(()))) {
        farewell(stream).await;
    }
}

/// Ends a connection so that its last bytes arrive: closes the sending side, then reads what is still coming, for a while.
pub(crate) async fn farewell(mut stream: Stream) {
    let drain = async {
        let _ = stream.shutdown().await;
        // Not in the task itself, which would be larger by it for as long as the connection lives.
        let mut sink = vec![0; 4096];
        let socket = stream.socket();
        loop {
            if socket.readable().await.is_err() {
                return;
            }
            match socket.try_read(&mut sink) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), drain).await;
}
