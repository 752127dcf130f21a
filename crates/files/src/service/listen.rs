//! The peer's port: takes the next free one, tells TLS from plain by the first byte, and says of each connection who it is.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::identity::Fingerprint;
use crate::limits::{
    CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS, HANDSHAKE_WAIT, PORTS_TRIED, WRITE_WAIT,
};

/// What a TLS connection begins with.
const TLS_HANDSHAKE: u8 = 0x16;

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
}

type Socket = Pin<Box<TimeoutStream<TcpStream>>>;

/// A connection that was taken in.
pub struct Connection {
    io: Io,
    caller: Caller,
    _counted: Counted,
}

enum Io {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(socket) => socket.as_mut().poll_read(cx, buf),
            Io::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
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
        match &mut self.io {
            Io::Plain(socket) => socket.as_mut().poll_flush(cx),
            Io::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(socket) => socket.as_mut().poll_shutdown(cx),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Open connections by address.
#[derive(Clone, Default)]
struct Counts(Arc<Mutex<HashMap<IpAddr, usize>>>);

struct Counted {
    counts: Counts,
    address: IpAddr,
}

impl Counts {
    fn count(&self, address: IpAddr) -> Option<Counted> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = counts.values().sum();
        let here = counts.entry(address).or_default();
        let is_full =
            all >= CONNECTIONS_MAX || !address.is_loopback() && *here >= CONNECTIONS_PER_ADDRESS;
        *here += usize::from(!is_full);
        drop(counts);
        (!is_full).then(|| Counted { counts: self.clone(), address })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(here) = counts.get_mut(&self.address) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                counts.remove(&self.address);
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
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
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
    let mut socket = TimeoutStream::new(stream);
    socket.set_write_timeout(Some(WRITE_WAIT));
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
        let caller = Caller { address, fingerprint: None };
        return Ok(Connection { io: Io::Plain(socket), caller, _counted: counted });
    }
    let stream = acceptor.accept(socket).await?;
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let caller = Caller { address, fingerprint: shown.map(Fingerprint::of) };
    Ok(Connection { io: Io::Tls(Box::new(stream)), caller, _counted: counted })
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
}
