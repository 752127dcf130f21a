//! The two halves of a connection to a node, plain or TLS.

use std::io::{self, ErrorKind};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_rustls::client::TlsStream;

/// What is read from. Everything async in it may be dropped half way.
#[derive(Debug)]
pub(crate) enum ReadHalf {
    Plain(OwnedReadHalf),
    Tls(tokio::io::ReadHalf<TlsStream<TcpStream>>),
}

/// What is written to. Everything async in it may be dropped half way.
#[derive(Debug)]
pub(crate) enum WriteHalf {
    Plain(OwnedWriteHalf),
    Tls {
        half: tokio::io::WriteHalf<TlsStream<TcpStream>>,
        /// Something was taken and may not have gone out yet.
        is_behind: bool,
    },
}

pub(crate) fn plain(stream: TcpStream) -> (ReadHalf, WriteHalf) {
    let (read, write) = stream.into_split();
    (ReadHalf::Plain(read), WriteHalf::Plain(write))
}

pub(crate) fn tls(stream: TlsStream<TcpStream>) -> (ReadHalf, WriteHalf) {
    let (read, half) = tokio::io::split(stream);
    (ReadHalf::Tls(read), WriteHalf::Tls { half, is_behind: false })
}

impl ReadHalf {
    /// Reads what there is into `buffer`; 0 is the end.
    pub async fn read_buf(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        let read = match self {
            Self::Plain(half) => return half.read_buf(buffer).await,
            Self::Tls(half) => half.read_buf(buffer).await,
        };
        match read {
            // A node that was killed says no goodbye. Frames say how long they are: one that was cut is seen.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(0),
            read => read,
        }
    }

    /// The same without waiting (`WouldBlock`).
    pub fn try_read_buf(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        if let Self::Plain(half) = self {
            return half.try_read_buf(buffer);
        }
        // Whoever waits for it next says anew whom to wake.
        match pin!(self.read_buf(buffer)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(read) => read,
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }
}

impl WriteHalf {
    /// Whether [`WriteHalf::write_some`] has something to do, beside what is to be written.
    pub const fn is_behind(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls { is_behind, .. } => *is_behind,
        }
    }

    /// Writes some of `out`; where that is empty, what was taken before.
    pub async fn write_some(&mut self, out: &mut BytesMut) -> io::Result<()> {
        match self {
            Self::Plain(half) => taken(half.write_buf(out).await?),
            Self::Tls { half, is_behind } => {
                let was_empty = out.is_empty();
                let done = if was_empty {
                    half.flush().await
                } else {
                    half.write_buf(out).await.and_then(taken)
                };
                // What cannot go out is not tried for ever.
                *is_behind = done.is_ok() && !was_empty;
                done
            }
        }
    }
}

fn taken(count: usize) -> io::Result<()> {
    if count == 0 { Err(ErrorKind::WriteZero.into()) } else { Ok(()) }
}
