//! One holder: a connection to it over TLS, and what it answers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::Full;
use prost::Message as _;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codegen::http::{self, HeaderValue, Uri};
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tower::{Service as _, ServiceExt as _};

use super::connections::{Connection, Connections};
use super::plan::Has;
use super::replies::{self, Content, Replies, Reply};
use crate::content::{ContentHash, Ending, Outline, pieces_of};
use crate::identity::Fingerprint;
use crate::limits::{FILE_BYTES_MAX, MESSAGE_BYTES_MAX, PIECE_BYTES, PIECE_WAIT};
use crate::pieces::PieceSet;
use crate::proto::peer_client::PeerClient;
use crate::proto::{HaveReply, HaveRequest, PiecesRequest};
use crate::right::Right;
use crate::service::{CODE_KEY, CONNECTION_WINDOW, STREAM_WINDOW};

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
    /// It does not take the capability.
    #[error("refuses: {0}")]
    NotGranted(String),
    /// Nothing came for too long.
    #[error("sends nothing")]
    Silent,
    /// What it sent is not the content.
    #[error("has sent wrong data: {0}")]
    Lied(String),
}

impl Failed {
    /// It sent what is wrong: it is not asked again.
    pub const fn is_lie(&self) -> bool {
        matches!(self, Self::Lied(_))
    }
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        // What a peer says is not yet fit to be shown.
        let message = tertulia_wire::safe::make_safe(status.message(), 200).into_owned();
        let word = status.metadata().get(CODE_KEY).map(MetadataValue::as_bytes);
        match status.code() {
            _ if word == Some(b"NO_CAPABILITY") => Self::NotGranted(message),
            tonic::Code::Unavailable | tonic::Code::Unknown | tonic::Code::Cancelled => {
                Self::Unreachable(message)
            }
            _ => Self::Refused(message),
        }
    }
}

/// A holder that is asked for one content.
#[derive(Clone, Debug)]
pub struct Source {
    connections: Arc<Connections>,
    holder: Arc<Holder>,
    connection: Connection,
    right: Arc<Right>,
    hash: ContentHash,
}

/// What was tried of a request that failed.
#[derive(Default)]
struct Tried {
    connecting: bool,
    renewing: bool,
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
    /// Connects to a holder, where that is not done already, and makes sure that it is the one that the node vouches for.
    ///
    /// # Errors
    /// [`Failed::Unreachable`]; [`Failed::Silent`] where it has been so a moment ago.
    pub async fn connect(
        holder: &Holder,
        connections: &Arc<Connections>,
        hash: ContentHash,
        right: &Arc<Right>,
    ) -> Result<Self, Failed> {
        let connection = connections.get(holder).await?;
        let (connections, right) = (Arc::clone(connections), Arc::clone(right));
        Ok(Self { connections, holder: Arc::new(holder.clone()), connection, right, hash })
    }

    /// Goes on over another connection, after `why`, where the one that broke had been there before; however many find it broken
    /// at once, one makes the other.
    ///
    /// # Errors
    /// `why` where it was new: then it is the holder that is gone; [`Failed::Unreachable`].
    pub async fn connect_again(&mut self, why: Failed) -> Result<(), Failed> {
        if self.connection.is_new {
            return Err(why);
        }
        self.connection = self.connections.instead(&self.connection, &self.holder).await?;
        Ok(())
    }

    /// The holder is given up after `why`, which came over this connection: see [`Connections::failed`].
    pub(super) async fn give_up(&self, why: &Failed) {
        self.connections.failed(&self.connection, why).await;
    }

    async fn bearer(&self) -> Result<HeaderValue, Failed> {
        let bearer = self.right.bearer().await;
        bearer.ok_or_else(|| Failed::Refused("what the node gave is no capability".to_owned()))
    }

    /// After a request that failed: whether it is worth another try, over another connection or with another capability.
    async fn mend(
        &mut self,
        why: Failed,
        bearer: &mut HeaderValue,
        tried: &mut Tried,
    ) -> Result<(), Failed> {
        match why {
            Failed::Unreachable(_) if !std::mem::replace(&mut tried.connecting, true) => {
                self.connect_again(why).await
            }
            Failed::NotGranted(_) if !std::mem::replace(&mut tried.renewing, true) => {
                *bearer = self.right.other_than(bearer).await.ok_or(why)?;
                Ok(())
            }
            why => Err(why),
        }
    }

    async fn ask(&mut self, asked: PiecesRequest) -> Result<Replies, Failed> {
        let asked = PiecesRequest { hash: Bytes::copy_from_slice(&self.hash.0), ..asked };
        let len = asked.encoded_len();
        let mut message = BytesMut::with_capacity(5 + len);
        // One message, not compressed.
        message.put_u8(0);
        message.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
        asked.encode(&mut message).map_err(|error| Failed::Refused(error.to_string()))?;
        let message = message.freeze();
        let (mut bearer, mut tried) = (self.bearer().await?, Tried::default());
        loop {
            let channel = self.connection.channel.clone();
            match send(channel, message.clone(), bearer.clone()).await {
                Ok(replies) => return Ok(replies),
                Err(why) => self.mend(why, &mut bearer, &mut tried).await?,
            }
        }
    }

    /// What a holder says that it has; not yet looked at.
    async fn ask_have(&mut self, known: u64) -> Result<HaveReply, Failed> {
        let hash = Bytes::copy_from_slice(&self.hash.0);
        let (mut bearer, mut tried) = (self.bearer().await?, Tried::default());
        loop {
            let mut request = Request::new(HaveRequest { hash: hash.clone(), known });
            let shown = MetadataValue::try_from(bearer.as_bytes());
            let shown = shown.map_err(|error| Failed::Refused(error.to_string()))?;
            request.metadata_mut().insert("authorization", shown);
            let client = PeerClient::new(self.connection.channel.clone());
            let mut client = client.max_decoding_message_size(MESSAGE_BYTES_MAX);
            let answer = timeout(PIECE_WAIT, client.have(request)).await;
            match answer.map_err(|_| Failed::Silent)? {
                Ok(has) => return Ok(has.into_inner()),
                Err(status) => self.mend(status.into(), &mut bearer, &mut tried).await?,
            }
        }
    }

    /// Which pieces of a content of `size` bytes it has, once there are more than `known` or after a while.
    ///
    /// # Errors
    /// [`Failed`]
    pub async fn have(&mut self, size: u64, known: u64) -> Result<Has, Failed> {
        let has = self.ask_have(known).await?;
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

    /// The outline, proven by the file's ending, which comes with it. `size` is what the holder has announced. All of it has its
    /// time: who sends it byte by byte holds nobody up.
    ///
    /// # Errors
    /// [`Failed`]
    pub async fn outline(&mut self, size: u64) -> Result<(Outline, Ending), Failed> {
        let values_mib = pieces_of(size.min(FILE_BYTES_MAX)) * 32 / PIECE_BYTES as u64;
        let wait = PIECE_WAIT + Duration::from_secs(values_mib);
        timeout(wait, self.outline_at_last(size)).await.unwrap_or(Err(Failed::Silent))
    }

    async fn outline_at_last(&mut self, size: u64) -> Result<(Outline, Ending), Failed> {
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
            let Some(Reply::Outline(part)) = replies.next().await? else {
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
        let numbers: VecDeque<u64> = match replies.next().await? {
            Some(Reply::Given(numbers)) => numbers.into(),
            _ => return Err(Failed::Lied("it does not say what it gives".to_owned())),
        };
        let mut rest = wanted.clone();
        if numbers.len() > count as usize || !numbers.iter().all(|number| rest.remove(*number)) {
            return Err(Failed::Lied("it gives what was not asked for".to_owned()));
        }
        Ok(Pieces { replies, numbers })
    }
}

/// Sends one question over a connection.
async fn send(
    mut channel: Channel,
    message: Bytes,
    bearer: HeaderValue,
) -> Result<Replies, Failed> {
    let mut request = http::Request::new(Body::new(Full::new(message)));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = Uri::from_static("http://tertulia-peer/tertulia.peer.v1.Peer/Pieces");
    let headers = request.headers_mut();
    headers.insert(http::header::AUTHORIZATION, bearer);
    headers.insert(http::header::TE, HeaderValue::from_static("trailers"));
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let answer = async {
        let unreachable =
            |error: tonic::transport::Error| Failed::from(Status::from_error(error.into()));
        let channel = channel.ready().await.map_err(unreachable)?;
        channel.call(request).await.map_err(unreachable)
    };
    let answer = timeout(PIECE_WAIT, answer).await.map_err(|_| Failed::Silent)??;
    replies::check(Status::from_header_map(answer.headers()))?;
    if answer.status() != http::StatusCode::OK {
        return Err(Failed::Refused(format!("it answers {}", answer.status())));
    }
    Ok(Replies::new(answer.into_body()))
}

/// Pieces that are coming.
#[derive(Debug)]
pub struct Pieces {
    replies: Replies,
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
    pub async fn next(&mut self) -> Result<Option<(u64, Content)>, Failed> {
        let Some(number) = self.numbers.pop_front() else { return Ok(None) };
        match self.replies.next().await? {
            Some(Reply::Piece(found, content)) if found == number => Ok(Some((number, content))),
            Some(_) => Err(Failed::Lied("it has sent what was not asked for".to_owned())),
            None => Err(Failed::Lied("it has sent fewer pieces than were asked for".to_owned())),
        }
    }
}
