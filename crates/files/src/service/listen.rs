//! The peer's port: takes the next free one, tells TLS from plain by the first byte, and says of each connection who it is.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::whose;
use crate::identity::Fingerprint;
use crate::limits::{
    CONNECTIONS_MAX, CONNECTIONS_OWN, CONNECTIONS_PER_ADDRESS, HANDSHAKE_WAIT, PORTS_TRIED,
    PREFACE_WAIT, READ_WAIT, WRITE_WAIT,
};

/// What a TLS connection begins with.
const TLS_HANDSHAKE: u8 = 0x16;
/// Bytes that HTTP/2 begins with. Who has sent them is asked now and then whether it is still there.
const PREFACE_BYTES: usize = 24;

/// Listens on `port` of `address`, or on the next one that is free; 0 is any free one.
///
/// # Errors
/// Where none is free, or the address is not this host's.
pub fn listen(address: IpAddr, port: u16) -> io::Result<std::net::TcpListener> {
    let last = if port == 0 { 0 } else { port.saturating_add(PORTS_TRIED - 1) };
    let mut tried = Err(io::ErrorKind::AddrInUse.into());
    for port in port..=last {
        tried = std::net::TcpListener::bind((address, port));
        match &tried {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            _ => break,
        }
    }
    let listener = tried?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// From where.
    pub address: IpAddr,
    /// Of the certificate that it has the key of; none where it showed none, or without TLS.
    pub fingerprint: Option<Fingerprint>,
    /// A process of the peer's own user on this machine, or the machine's administrator's; told without TLS only.
    pub is_own: bool,
}

/// What is known of a connection wherever a request of it is.
#[derive(Clone, Debug)]
pub struct Link {
    /// Who is at its other end.
    pub caller: Caller,
    /// For ending it.
    pub cut: Arc<Cut>,
}

/// Ends a connection, with all that is under way on it.
#[derive(Debug, Default)]
pub struct Cut {
    is_cut: AtomicBool,
    /// Of the one task that reads and writes the connection.
    waiting: AtomicWaker,
    /// When something of any answer on it has gone, the last time.
    went_on: Mutex<Option<Instant>>,
}

impl Cut {
    /// The connection ends.
    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::Release);
        self.waiting.wake();
    }

    /// Something of an answer has gone.
    pub fn goes_on(&self, now: Instant) {
        *self.went_on.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// When something has gone, the last time; none where nothing has yet.
    pub fn went_on(&self) -> Option<Instant> {
        *self.went_on.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub fn was_cut(&self) -> bool {
        self.is_cut.load(Ordering::Acquire)
    }

    /// An error once it was cut. Asked wherever the connection is waited for: one whose socket takes nothing may wait there only.
    fn check(&self, cx: &Context<'_>) -> io::Result<()> {
        self.waiting.register(cx.waker());
        if self.is_cut.load(Ordering::Acquire) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }
}

type Socket = Pin<Box<TimeoutStream<TcpStream>>>;

/// A connection that was taken in.
pub struct Connection {
    io: Io,
    link: Link,
    beginning: Option<Beginning>,
    _counted: Counted,
}

/// HTTP/2 has not begun.
struct Beginning {
    bytes: usize,
    until: Pin<Box<Sleep>>,
}

impl Beginning {
    /// So many bytes more have come; whether it is over, or an error where it takes too long.
    fn goes_on(&mut self, bytes: usize, cx: &mut Context<'_>) -> io::Result<bool> {
        self.bytes += bytes;
        if self.bytes >= PREFACE_BYTES {
            return Ok(true);
        }
        let is_late = self.until.as_mut().poll(cx).is_ready();
        if is_late { Err(io::ErrorKind::TimedOut.into()) } else { Ok(false) }
    }
}

enum Io {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

impl Connected for Connection {
    type ConnectInfo = Link;

    fn connect_info(&self) -> Link {
        self.link.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.link.cut.check(cx)?;
        let before = buf.filled().len();
        let polled = match &mut self.io {
            Io::Plain(socket) => socket.as_mut().poll_read(cx, buf),
            Io::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        if let Some(beginning) = &mut self.beginning
            && beginning.goes_on(buf.filled().len() - before, cx)?
        {
            self.beginning = None;
        }
        polled
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.link.cut.check(cx)?;
        match &mut self.io {
            Io::Plain(socket) => socket.as_mut().poll_write(cx, buf),
            Io::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.link.cut.check(cx)?;
        match &mut self.io {
            Io::Plain(socket) => socket.as_mut().poll_write_vectored(cx, bufs),
            Io::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(socket) => socket.is_write_vectored(),
            Io::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.cut.check(cx)?;
        match &mut self.io {
            Io::Plain(socket) => socket.as_mut().poll_flush(cx),
            Io::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.cut.check(cx)?;
        match &mut self.io {
            Io::Plain(socket) => socket.as_mut().poll_shutdown(cx),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Open connections by network.
#[derive(Clone, Default)]
struct Counts(Arc<Mutex<HashMap<IpAddr, usize>>>);

struct Counted {
    counts: Counts,
    network: IpAddr,
}

/// What stands for an address: itself, or of IPv6, where everybody has many, its /64 network.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(six) if !six.is_loopback() => Ipv6Addr::from(u128::from(six) >> 64 << 64).into(),
        address => address,
    }
}

impl Counts {
    fn count(&self, address: IpAddr) -> Option<Counted> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = counts.values().sum();
        let network = network(address);
        let here = counts.get(&network).copied().unwrap_or_default();
        let is_full = if address.is_loopback() {
            all >= CONNECTIONS_MAX
        } else {
            all >= CONNECTIONS_MAX - CONNECTIONS_OWN || here >= CONNECTIONS_PER_ADDRESS
        };
        if is_full {
            return None;
        }
        counts.insert(network, here + 1);
        drop(counts);
        Some(Counted { counts: self.clone(), network })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(here) = counts.get_mut(&self.network) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                counts.remove(&self.network);
            }
        }
    }
}

/// Accepts for ever; connections that have said what they are go to `taken`.
pub async fn accept(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    taken: mpsc::Sender<io::Result<Connection>>,
) {
    let (counts, acceptor) = (Counts::default(), TlsAcceptor::from(tls));
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "a connection was not accepted");
                sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(counted) = counts.count(address.ip().to_canonical()) else { continue };
        let (acceptor, taken) = (acceptor.clone(), taken.clone());
        tokio::spawn(async move {
            match timeout(HANDSHAKE_WAIT, take(stream, address, acceptor, counted)).await {
                Ok(Ok(connection)) => {
                    tracing::debug!(%address, "a connection has begun");
                    drop(taken.send(Ok(connection)).await);
                }
                Ok(Err(error)) => tracing::debug!(%error, "a connection ended before it began"),
                Err(_) => tracing::debug!("a connection said nothing"),
            }
        });
    }
}

async fn take(
    stream: TcpStream,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    counted: Counted,
) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    let mut first = [0];
    let is_tls = stream.peek(&mut first).await? == 1 && first[0] == TLS_HANDSHAKE;
    let ends = (stream.local_addr()?, address);
    let mut socket = TimeoutStream::new(stream);
    socket.set_write_timeout(Some(WRITE_WAIT));
    socket.set_read_timeout(Some(READ_WAIT));
    let socket = Box::pin(socket);
    let address = address.ip().to_canonical();
    if !is_tls {
        // Others may read it: nobody is asked there, and nothing answered.
        if !address.is_loopback() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "only TLS is spoken off this machine",
            ));
        }
        let is_own = whose::is_own(ends).await;
        let caller = Caller { address, fingerprint: None, is_own };
        return Ok(Connection::new(Io::Plain(socket), caller, counted));
    }
    let stream = acceptor.accept(socket).await?;
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let caller = Caller { address, fingerprint: shown.map(Fingerprint::of), is_own: false };
    Ok(Connection::new(Io::Tls(Box::new(stream)), caller, counted))
}

impl Connection {
    fn new(io: Io, caller: Caller, counted: Counted) -> Self {
        let link = Link { caller, cut: Arc::default() };
        let beginning = Beginning { bytes: 0, until: Box::pin(sleep(PREFACE_WAIT)) };
        Self { io, link, beginning: Some(beginning), _counted: counted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_gives_way_to_the_next() {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let first = listen(loopback, 0).unwrap();
        let port = first.local_addr().unwrap().port();
        let second = listen(loopback, port).unwrap().local_addr().unwrap().port();
        assert!(second > port && second < port.saturating_add(PORTS_TRIED), "{port} {second}");
        let error = listen("192.0.2.1".parse().unwrap(), 0).unwrap_err();
        assert_ne!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn an_address_has_so_many_connections_and_others_still_have_theirs() {
        let counts = Counts::default();
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut held: Vec<_> =
            (0..CONNECTIONS_PER_ADDRESS).map(|_| counts.count(one).unwrap()).collect();
        assert!(counts.count(one).is_none() && counts.count(other).is_some());
        held.pop();
        assert!(counts.count(one).is_some());
        drop(held);
        assert!(counts.0.lock().unwrap().is_empty());
    }

    #[test]
    fn of_ipv6_a_network_counts_and_the_owner_always_has_some() {
        let counts = Counts::default();
        let six =
            |network: u16, host: u16| IpAddr::from([0x2001, 0xdb8, 0, network, 1, 2, 3, host]);
        let mut held = Vec::new();
        for host in 0..CONNECTIONS_PER_ADDRESS as u16 {
            held.push(counts.count(six(0, host)).unwrap());
        }
        assert!(counts.count(six(0, 999)).is_none());
        for number in CONNECTIONS_PER_ADDRESS as u16.. {
            match counts.count(six(number, 1)) {
                Some(counted) => held.push(counted),
                None => break,
            }
        }
        assert_eq!(held.len(), CONNECTIONS_MAX - CONNECTIONS_OWN);
        for own in [IpAddr::from([127, 0, 0, 1]), Ipv6Addr::LOCALHOST.into()] {
            for _ in 0..CONNECTIONS_OWN / 2 {
                held.push(counts.count(own).unwrap());
            }
        }
        assert!(counts.count(IpAddr::from([127, 0, 0, 1])).is_none());
        drop(held);
        assert!(counts.0.lock().unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_begin_is_closed_and_so_is_one_that_is_cut() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connect = async || {
            let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
            let (stream, address) = far.unwrap();
            let socket = Box::pin(TimeoutStream::new(stream));
            let caller = Caller { address: address.ip(), fingerprint: None, is_own: true };
            let counted = Counts::default().count(caller.address).unwrap();
            (near.unwrap(), Connection::new(Io::Plain(socket), caller, counted))
        };
        let mut bytes = [0; 100];
        // Bytes now and then are no beginning.
        let (mut near, mut slow) = connect().await;
        let dripping = async {
            loop {
                near.write_all(b"P").await.unwrap();
                sleep(PREFACE_WAIT / 8).await;
            }
        };
        let reading = async { while slow.read(&mut bytes).await.is_ok_and(|count| count > 0) {} };
        let begun = Instant::now();
        tokio::select! {
            () = dripping => {}
            () = reading => assert!(begun.elapsed() >= PREFACE_WAIT),
        }
        let (mut near, mut right) = connect().await;
        near.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut come = 0;
        while come < PREFACE_BYTES {
            come += right.read(&mut bytes).await.unwrap();
        }
        let waiting = timeout(2 * PREFACE_WAIT, right.read(&mut bytes)).await;
        assert!(waiting.is_err(), "it has begun: {waiting:?}");
        let cut = right.connect_info().cut;
        let (read, ()) = tokio::join!(right.read(&mut bytes), async { cut.cut() });
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        // One whose socket takes no more, which is only written then.
        let (_near, mut full) = connect().await;
        let cut = full.connect_info().cut;
        let writing = async {
            while full.write(&[0; 64 << 10]).await? > 0 {}
            Ok::<_, io::Error>(())
        };
        let mut writing = std::pin::pin!(writing);
        let waiting = timeout(PREFACE_WAIT, &mut writing).await;
        assert!(waiting.is_err(), "nobody reads: {waiting:?}");
        cut.cut();
        let written = timeout(PREFACE_WAIT, writing).await.expect("it ends");
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(full.flush().await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        let vectored = full.write_vectored(&[io::IoSlice::new(&[0])]).await;
        assert_eq!(vectored.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }

    /// What was sent before a reset can still be read, and the system has nothing of the connection any more.
    #[tokio::test]
    async fn who_is_gone_is_not_the_owner() {
        use tokio::io::AsyncWriteExt as _;

        use crate::identity::Identity;

        let identity = Identity::ephemeral().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        for is_reset in [false, true] {
            let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
            let (mut near, (stream, address)) = (near.unwrap(), far.unwrap());
            near.write_all(b"PRI * HTTP/2.0").await.unwrap();
            stream.readable().await.unwrap();
            if is_reset {
                near.set_zero_linger().unwrap();
                drop(near);
            }
            let acceptor = TlsAcceptor::from(crate::tls::server_config(&identity).unwrap());
            let counted = Counts::default().count(address.ip()).unwrap();
            let taken = take(stream, address, acceptor, counted).await;
            let is_own = taken.is_ok_and(|connection| connection.connect_info().caller.is_own);
            assert_eq!(is_own, !is_reset);
        }
    }
}
