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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::net::{TcpListener, TcpSocket};
    use tokio_rustls::rustls::crypto::ring::default_provider;
    use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    /// A client's halves, and a node that reads when it is asked to; what is between holds little.
    async fn narrow()
    -> anyhow::Result<((ReadHalf, WriteHalf), tokio_rustls::server::TlsStream<TcpStream>)> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let provider = Arc::new(default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)?;
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone())?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listening = TcpSocket::new_v4()?;
        listening.set_recv_buffer_size(4096)?;
        listening.bind("127.0.0.1:0".parse()?)?;
        let listener: TcpListener = listening.listen(1)?;
        let socket = TcpSocket::new_v4()?;
        socket.set_send_buffer_size(4096)?;
        let (theirs, ours) =
            tokio::try_join!(listener.accept(), socket.connect(listener.local_addr()?))?;
        let (theirs, ours) = tokio::try_join!(
            TlsAcceptor::from(Arc::new(server)).accept(theirs.0),
            TlsConnector::from(Arc::new(client)).connect(ServerName::try_from("localhost")?, ours),
        )?;
        Ok((tls(ours), theirs))
    }

    /// What TLS has taken and the socket has not is written though nothing more comes after it.
    #[tokio::test]
    async fn the_last_bytes_go_out_too() -> anyhow::Result<()> {
        let ((mut read, mut write), mut node) = narrow().await?;
        let bytes: Vec<u8> = (0..300_000_u32).map(|at| (at >> 5) as u8).collect();
        let mut out = BytesMut::from(&bytes[..]);
        let writing = async {
            while !out.is_empty() || write.is_behind() {
                write.write_some(&mut out).await?;
            }
            io::Result::Ok(())
        };
        let mut got = vec![0; bytes.len()];
        let both = async { tokio::try_join!(writing, node.read_exact(&mut got)) };
        tokio::time::timeout(Duration::from_secs(20), both).await??;
        assert!(got == bytes);
        let mut nothing = BytesMut::new();
        let blocked = read.try_read_buf(&mut nothing).expect_err("nothing was said");
        assert_eq!(blocked.kind(), ErrorKind::WouldBlock);
        drop(node);
        let ended = tokio::time::timeout(Duration::from_secs(20), read.read_buf(&mut nothing));
        assert_eq!(ended.await??, 0, "a node that was killed says no goodbye");
        Ok(())
    }
}
