//! One holder: a connection to it over TLS, and what it answers.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::codegen::http::Uri;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

use crate::content::{ContentHash, Outline, pieces_of};
use crate::identity::{Fingerprint, Identity};
use crate::limits::{CONNECT_WAIT, FILE_BYTES_MAX, MESSAGE_BYTES_MAX, PIECE_BYTES, PIECE_WAIT};
use crate::proto::peer_client::PeerClient;
use crate::proto::pieces_reply::Part;
use crate::proto::{PiecesReply, PiecesRequest};
use crate::service::{CONNECTION_WINDOW, STREAM_WINDOW};
use crate::tls;

/// A peer that has a content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The account that it is of.
    pub user: String,
    /// `host:port`.
    pub address: String,
    /// Of the certificate that it has to show.
    pub fingerprint: Fingerprint,
    /// What it calls the content; not yet fit to be opened or shown.
    pub name: String,
    /// The bytes that it says there are.
    pub size: u64,
}

/// Why a holder is given up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// It cannot be reached, or not as who it should be.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// It refuses, or has not got it any more.
    #[error("refuses: {0}")]
    Refused(String),
    /// It gives it to others just now.
    #[error("gives it to others just now")]
    Busy,
    /// Nothing came for too long.
    #[error("sends nothing")]
    Silent,
    /// What it sent is not the content.
    #[error("has sent wrong data: {0}")]
    Lied(String),
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        // What a peer says is not yet fit to be shown.
        let message = tertulia_wire::safe::make_safe(status.message(), 200).into_owned();
        match status.code() {
            tonic::Code::ResourceExhausted => Self::Busy,
            tonic::Code::Unavailable | tonic::Code::Unknown | tonic::Code::Cancelled => {
                Self::Unreachable(message)
            }
            _ => Self::Refused(message),
        }
    }
}

/// A connection to a holder.
#[derive(Clone, Debug)]
pub struct Source {
    client: PeerClient<Channel>,
    bearer: MetadataValue<Ascii>,
    hash: ContentHash,
    turn: bool,
}

/// How a connection between peers is tuned, to whatever end.
pub(crate) fn endpoint() -> Endpoint {
    Endpoint::from_static("http://tertulia-peer")
        .max_frame_size(PIECE_BYTES as u32)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .tcp_nodelay(true)
}

impl Source {
    /// Connects to a holder, and makes sure that it is the one that the node vouches for.
    ///
    /// # Errors
    /// [`Failed::Unreachable`]
    pub async fn connect(
        holder: &Holder,
        identity: &Identity,
        hash: ContentHash,
        capability: &str,
        turn: bool,
    ) -> Result<Self, Failed> {
        let unreachable = |error: &dyn std::fmt::Display| Failed::Unreachable(error.to_string());
        let bearer = MetadataValue::try_from(format!("Bearer {capability}"));
        let bearer = bearer.map_err(|error| unreachable(&error))?;
        let config = tls::client_config(identity, holder.fingerprint)
            .map_err(|error| unreachable(&error))?;
        let stream = timeout(CONNECT_WAIT, connect(&holder.address, config)).await;
        let stream = stream.map_err(|_| Failed::Unreachable("it does not answer".to_owned()))?;
        let mut stream = Some(TokioIo::new(stream.map_err(|error| unreachable(&error))?));
        // The one connection that was made; another one would be another try.
        let connector = tower::service_fn(move |_: Uri| {
            let stream = stream.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected));
            std::future::ready(stream)
        });
        let channel = endpoint()
            .connect_with_connector(connector)
            .await
            .map_err(|error| unreachable(&error))?;
        let client = PeerClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Self { client, bearer, hash, turn })
    }

    async fn ask(
        &mut self,
        first: u64,
        count: u32,
        outline: bool,
    ) -> Result<Streaming<PiecesReply>, Failed> {
        let hash = Bytes::copy_from_slice(&self.hash.0);
        let mut request =
            Request::new(PiecesRequest { hash, first, count, outline, turn: self.turn });
        request.metadata_mut().insert("authorization", self.bearer.clone());
        let answer = timeout(PIECE_WAIT, self.client.pieces(request)).await;
        Ok(answer.map_err(|_| Failed::Silent)??.into_inner())
    }

    /// The outline, proven by the last piece, which comes with it. `size` is what the holder has announced.
    ///
    /// # Errors
    /// [`Failed`]
    pub async fn outline(&mut self, size: u64) -> Result<(Outline, Bytes), Failed> {
        if size > FILE_BYTES_MAX {
            return Err(Failed::Lied(format!("it says that there are {size} bytes")));
        }
        let pieces = pieces_of(size);
        let values_len =
            if pieces == 1 { 0 } else { usize::try_from(pieces * 32).unwrap_or(usize::MAX) };
        let mut values = Vec::new();
        let mut replies = self.ask(pieces - 1, 1, true).await?;
        loop {
            match next(&mut replies).await? {
                Some(Part::Outline(part)) => {
                    values.extend_from_slice(&part.values);
                    if part.size != size || values.len() > values_len {
                        return Err(Failed::Lied(
                            "its outline is of another size than it says".to_owned(),
                        ));
                    }
                }
                Some(Part::Piece(last)) => {
                    let (values, rest) = values.as_chunks();
                    if !rest.is_empty() {
                        return Err(Failed::Lied("its outline is cut short".to_owned()));
                    }
                    let outline = Outline::proven(self.hash, size, values.to_vec(), &last.content);
                    let outline = outline.map_err(|error| Failed::Lied(error.to_string()))?;
                    return Ok((outline, last.content));
                }
                None => return Err(Failed::Lied("its outline is cut short".to_owned())),
            }
        }
    }

    /// A run of pieces.
    ///
    /// # Errors
    /// [`Failed`]
    pub async fn pieces(&mut self, first: u64, count: u32) -> Result<Pieces, Failed> {
        let replies = self.ask(first, count, false).await?;
        Ok(Pieces { replies, next: first, last: first + u64::from(count) })
    }
}

async fn connect(
    address: &str,
    config: Arc<rustls::ClientConfig>,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(config).connect(tls::server_name(), stream).await
}

async fn next(replies: &mut Streaming<PiecesReply>) -> Result<Option<Part>, Failed> {
    match timeout(PIECE_WAIT, replies.message()).await {
        Err(_) => Err(Failed::Silent),
        Ok(reply) => match reply? {
            None => Ok(None),
            Some(PiecesReply { part: Some(part) }) => Ok(Some(part)),
            Some(PiecesReply { part: None }) => {
                Err(Failed::Lied("it has sent nothing that is known".to_owned()))
            }
        },
    }
}

/// Pieces that are coming.
#[derive(Debug)]
pub struct Pieces {
    replies: Streaming<PiecesReply>,
    next: u64,
    last: u64,
}

impl Pieces {
    /// The next one; not yet verified.
    ///
    /// # Errors
    /// [`Failed`]
    pub async fn next(&mut self) -> Result<Option<(u64, Bytes)>, Failed> {
        if self.next == self.last {
            return Ok(None);
        }
        match next(&mut self.replies).await? {
            Some(Part::Piece(piece)) if piece.number == self.next => {
                self.next += 1;
                Ok(Some((piece.number, piece.content)))
            }
            Some(_) => Err(Failed::Lied("it has sent what was not asked for".to_owned())),
            None => Err(Failed::Lied("it has sent fewer pieces than were asked for".to_owned())),
        }
    }
}
