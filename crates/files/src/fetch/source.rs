//! One holder: a connection to it over TLS, and what it answers.

use std::collections::VecDeque;
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

use super::plan::Has;
use crate::content::{ContentHash, Ending, Outline, pieces_of};
use crate::identity::{Fingerprint, Identity};
use crate::limits::{CONNECT_WAIT, FILE_BYTES_MAX, MESSAGE_BYTES_MAX, PIECE_BYTES, PIECE_WAIT};
use crate::pieces::PieceSet;
use crate::proto::peer_client::PeerClient;
use crate::proto::pieces_reply::Part;
use crate::proto::{HaveReply, HaveRequest, PiecesReply, PiecesRequest};
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
    /// It is fetching it, and has some of it.
    pub unfinished: bool,
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
        Ok(Self { client, bearer, hash })
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.bearer.clone());
        request
    }

    async fn ask(&mut self, asked: PiecesRequest) -> Result<Streaming<PiecesReply>, Failed> {
        let hash = Bytes::copy_from_slice(&self.hash.0);
        let request = self.request(PiecesRequest { hash, ..asked });
        let answer = timeout(PIECE_WAIT, self.client.pieces(request)).await;
        Ok(answer.map_err(|_| Failed::Silent)??.into_inner())
    }

    /// Which pieces of a content of `size` bytes it has, once there are more than `known` or after a while.
    ///
    /// # Errors
    /// [`Failed`]
    pub async fn have(&mut self, size: u64, known: u64) -> Result<Has, Failed> {
        let hash = Bytes::copy_from_slice(&self.hash.0);
        let request = self.request(HaveRequest { hash, known });
        let answer = timeout(PIECE_WAIT, self.client.have(request)).await;
        let has: HaveReply = answer.map_err(|_| Failed::Silent)??.into_inner();
        if has.size != size {
            return Err(Failed::Lied(format!("it says that there are {} bytes", has.size)));
        }
        if has.all {
            return Ok(if has.sparing { Has::AllSparingly } else { Has::All });
        }
        let pieces = PieceSet::read(pieces_of(size), &has.pieces);
        let wrong = || Failed::Lied("what it says that it has is of another size".to_owned());
        pieces.map(Has::Some).ok_or_else(wrong)
    }

    /// The outline, proven by the file's ending, which comes with it. `size` is what the holder has announced.
    ///
    /// # Errors
    /// [`Failed`]
    pub async fn outline(&mut self, size: u64) -> Result<(Outline, Ending), Failed> {
        if size > FILE_BYTES_MAX {
            return Err(Failed::Lied(format!("it says that there are {size} bytes")));
        }
        let pieces = pieces_of(size);
        let values_len =
            if pieces == 1 { 0 } else { usize::try_from(pieces * 32).unwrap_or(usize::MAX) };
        let (mut values, mut ending) = (Vec::new(), None);
        let mut replies = self.ask(PiecesRequest { outline: true, ..Default::default() }).await?;
        let lied = |what: &str| Failed::Lied(what.to_owned());
        let (chunk, left) = loop {
            let Some(Part::Outline(part)) = next(&mut replies).await? else {
                return Err(lied("its outline is cut short"));
            };
            values.extend_from_slice(&part.values);
            let is_part = values.len() == values_len || !part.values.is_empty();
            if part.size != size || values.len() > values_len || !is_part {
                return Err(lied("its outline is of another size than it says"));
            }
            let ending = ending.get_or_insert((part.ending, part.left));
            if values.len() == values_len {
                break std::mem::take(ending);
            }
        };
        let ((values, rest), (left, rest_left)) = (values.as_chunks(), left.as_chunks());
        if !rest.is_empty() || !rest_left.is_empty() {
            return Err(lied("its outline is cut short"));
        }
        let ending = Ending { chunk: chunk.to_vec(), left: left.to_vec() };
        let outline = Outline::proven(self.hash, size, values.to_vec(), &ending);
        Ok((outline.map_err(|error| Failed::Lied(error.to_string()))?, ending))
    }

    /// A run of pieces.
    ///
    /// # Errors
    /// [`Failed`]
    pub async fn pieces(&mut self, first: u64, count: u32) -> Result<Pieces, Failed> {
        let replies = self.ask(PiecesRequest { first, count, ..Default::default() }).await?;
        Ok(Pieces { replies, numbers: (first..first + u64::from(count)).collect() })
    }

    /// At most `count` of these pieces, which the holder chooses: see [`Pieces::numbers`].
    ///
    /// # Errors
    /// [`Failed`]
    pub async fn some_of(&mut self, wanted: &PieceSet, count: u32) -> Result<Pieces, Failed> {
        let bits = Bytes::copy_from_slice(wanted.bits());
        let asked = PiecesRequest { wanted: bits, count, ..Default::default() };
        let mut replies = self.ask(asked).await?;
        let numbers: VecDeque<u64> = match next(&mut replies).await? {
            Some(Part::Given(given)) => given.numbers.into(),
            _ => return Err(Failed::Lied("it does not say what it gives".to_owned())),
        };
        let mut rest = wanted.clone();
        if numbers.len() > count as usize || !numbers.iter().all(|number| rest.remove(*number)) {
            return Err(Failed::Lied("it gives what was not asked for".to_owned()));
        }
        Ok(Pieces { replies, numbers })
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
    numbers: VecDeque<u64>,
}

impl Pieces {
    /// Those that are still to come, in this order.
    pub const fn numbers(&self) -> &VecDeque<u64> {
        &self.numbers
    }

    /// The next one; not yet verified.
    ///
    /// # Errors
    /// [`Failed`]
    pub async fn next(&mut self) -> Result<Option<(u64, Bytes)>, Failed> {
        let Some(number) = self.numbers.pop_front() else { return Ok(None) };
        match next(&mut self.replies).await? {
            Some(Part::Piece(piece)) if piece.number == number => Ok(Some((number, piece.content))),
            Some(_) => Err(Failed::Lied("it has sent what was not asked for".to_owned())),
            None => Err(Failed::Lied("it has sent fewer pieces than were asked for".to_owned())),
        }
    }
}
