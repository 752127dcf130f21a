//! The answer to `Pieces` as it goes over the wire: read into buffers that are used again, and sent from there without copying.
//!
//! The service's own encoder would copy each piece into a message first. A piece is nearly all of what a peer sends.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Frame;
use prost::Message as _;
use prost::encoding::{encode_varint, encoded_len_varint};
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codegen::http::{self, HeaderMap, HeaderValue, Request, Response, header};
use tonic::{Code, Status};
use tower::Service;

use super::between::{self, Part, Parts, Sending};
use super::listen::Link;
use super::permits::Permit;
use super::refused;
use super::state::State;
use crate::capability::Granted;
use crate::limits::{BODY_WAIT, HAVE_BYTES_MAX, PERMIT_WAIT, REQUEST_BYTES_MAX};
use crate::proto::{PiecesReply, PiecesRequest};

/// The method that is answered here.
const PIECES: &str = "/tertulia.peer.v1.Peer/Pieces";
/// The other one that is other peers': its request is taken in here.
const HAVE: &str = "/tertulia.peer.v1.Peer/Have";
/// Before each message: that it is not compressed, and how long it is.
const PREFIX_BYTES: usize = 5;
/// Buffers that are kept for the next answer.
const BUFFERS_KEPT: usize = 32;

/// Bytes of a buffer: some of a piece, so that what was read is still near the processor when it is sent.
pub const BUFFER_BYTES: usize = 256 << 10;

/// Buffers that are used again: new ones would cost nearly as much as what is done with them.
#[derive(Debug, Default)]
pub struct Buffers(Mutex<Vec<Box<[u8]>>>);

impl Buffers {
    /// `len` bytes, at most [`BUFFER_BYTES`], that `fill` has written all of.
    pub fn fill(
        self: &Arc<Self>,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> std::io::Result<()>,
    ) -> std::io::Result<Bytes> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = kept.unwrap_or_else(|| vec![0; BUFFER_BYTES].into());
        let mut lent = Lent { bytes, len, buffers: Arc::clone(self) };
        fill(&mut lent.bytes[..len])?;
        Ok(Bytes::from_owner(lent))
    }
}

/// Goes back when it was sent.
struct Lent {
    bytes: Box<[u8]>,
    len: usize,
    buffers: Arc<Buffers>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut kept = self.buffers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < BUFFERS_KEPT {
            kept.push(std::mem::take(&mut self.bytes));
        }
    }
}

/// A whole message.
pub fn message(reply: &PiecesReply) -> Bytes {
    let len = reply.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + len);
    put_prefix(&mut bytes, len);
    // A buffer that grows takes everything.
    let _ = reply.encode(&mut bytes);
    bytes.freeze()
}

/// What comes before the content of a piece, which has `len` bytes.
pub fn head_of_piece(number: u64, len: usize) -> Bytes {
    const PIECE: u8 = 2 << 3 | 2;
    const NUMBER: u8 = 1 << 3;
    const CONTENT: u8 = 2 << 3 | 2;
    let mut piece = BytesMut::with_capacity(32);
    // What is zero or empty is left out.
    if number > 0 {
        piece.put_u8(NUMBER);
        encode_varint(number, &mut piece);
    }
    if len > 0 {
        piece.put_u8(CONTENT);
        encode_varint(len as u64, &mut piece);
    }
    let piece_len = (piece.len() + len) as u64;
    let mut bytes = BytesMut::with_capacity(48);
    put_prefix(&mut bytes, 1 + encoded_len_varint(piece_len) + piece.len() + len);
    bytes.put_u8(PIECE);
    encode_varint(piece_len, &mut bytes);
    bytes.put(piece);
    bytes.freeze()
}

fn put_prefix(bytes: &mut BytesMut, len: usize) {
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
}

/// Bytes that are on their way to who asked. Below this, they lie with the connection until it has room for them, long after the
/// answer was written to its end: the permit is free only when they have gone.
struct OnTheirWay {
    bytes: Bytes,
    permit: Arc<Permit>,
}

impl AsRef<[u8]> for OnTheirWay {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for OnTheirWay {
    fn drop(&mut self) {
        self.permit.goes_on();
    }
}

/// What is read is sent as it comes; how it ended stands after it.
struct Answer {
    first: Option<Part>,
    parts: Parts,
    state: Arc<State>,
    is_over: bool,
    /// Each of its parts keeps it, too.
    permit: Arc<Permit>,
}

impl Answer {
    /// A part as it is taken.
    fn send(&self, part: Part) -> Result<Bytes, Status> {
        if part.of.is_some_and(|of| !of.goes(Instant::now())) {
            let message = "that came too slowly, and was given to somebody else meanwhile";
            return Err(refused(Code::Unavailable, "BUSY", message));
        }
        self.permit.goes_on();
        self.state.sent_bytes.fetch_add(part.content, Ordering::Relaxed);
        let permit = Arc::clone(&self.permit);
        Ok(Bytes::from_owner(OnTheirWay { bytes: part.bytes, permit }))
    }
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let part = match self.first.take() {
            Some(first) => Some(Ok(first)),
            None => std::task::ready!(self.parts.poll_recv(cx)),
        };
        let status = match part.map(|part| part.and_then(|part| self.send(part))) {
            Some(Ok(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Some(Err(status)) => status,
            None => Status::ok(""),
        };
        self.is_over = true;
        let mut trailers = HeaderMap::new();
        Poll::Ready(Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
    }
}

/// Answers `Pieces`, and passes on everything else.
#[derive(Clone)]
pub struct WithPieces<S> {
    /// The service for everything else.
    pub inner: S,
    /// Of the peer.
    pub state: Arc<State>,
}

impl<S> Service<Request<Body>> for WithPieces<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match request.uri().path() {
            PIECES => {
                let state = Arc::clone(&self.state);
                Box::pin(async move {
                    Ok(answer(&state, request).await.unwrap_or_else(Status::into_http))
                })
            }
            HAVE => {
                // The one that is ready.
                let next = self.inner.clone();
                let mut inner = std::mem::replace(&mut self.inner, next);
                Box::pin(async move {
                    let (parts, asked) = request.into_parts();
                    match whole(asked, HAVE_BYTES_MAX).await {
                        Ok(asked) => {
                            let asked = Body::new(Full::new(asked));
                            inner.call(Request::from_parts(parts, asked)).await
                        }
                        Err(status) => Ok(status.into_http()),
                    }
                })
            }
            _ => Box::pin(self.inner.call(request)),
        }
    }
}

fn bad(why: &str) -> Status {
    refused(Code::InvalidArgument, "BAD_REQUEST", why)
}

/// A request of another peer, which is short and comes at once: what has come of it lies here until all of it has.
async fn whole(asked: Body, most: usize) -> Result<Bytes, Status> {
    let asked = timeout(BODY_WAIT, Limited::new(asked, most).collect()).await;
    let slow = || refused(Code::DeadlineExceeded, "TOO_SLOW", "the request did not come");
    let asked = asked.map_err(|_| slow())?;
    Ok(asked.map_err(|_| bad("the request is too long, or was cut"))?.to_bytes())
}

async fn answer(state: &Arc<State>, request: Request<Body>) -> Result<Response<Body>, Status> {
    let granted = request.extensions().get::<Granted>().cloned();
    let link = request.extensions().get::<Link>().cloned();
    // The guard lets nobody else come here.
    let (Some(granted), Some(link)) = (granted, link) else { return Err(bad("who asks?")) };
    let permit = state.permits.permit(granted.account(), &link.cut).await.ok_or_else(|| {
        let message = format!(
            "this peer is sending as much as it may already, and was for {} seconds",
            PERMIT_WAIT.as_secs()
        );
        refused(Code::ResourceExhausted, "BUSY", &message)
    })?;
    let asked = whole(request.into_body(), REQUEST_BYTES_MAX).await?;
    let Some((prefix, message)) = asked.split_first_chunk::<PREFIX_BYTES>() else {
        return Err(bad("there is no message"));
    };
    let [compressed, a, b, c, d] = *prefix;
    if compressed != 0 || u32::from_be_bytes([a, b, c, d]) as usize != message.len() {
        return Err(bad("one message, not compressed"));
    }
    let asked = PiecesRequest::decode(message).map_err(|_| bad("this is no request"))?;
    let Sending { first, parts } =
        between::pieces(state, granted, asked, Arc::clone(&permit)).await?;
    let (state, is_over) = (Arc::clone(state), false);
    let answer = Answer { first, parts, state, is_over, permit };
    let mut response = Response::new(Body::new(answer));
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, grpc);
    *response.version_mut() = http::Version::HTTP_2;
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Piece;
    use crate::proto::pieces_reply::Part;

    #[test]
    fn a_piece_is_written_as_the_encoder_writes_it() {
        for (number, len) in [(0, 0), (0, 5), (1, 0), (300, 127), (1 << 20, 1 << 20)] {
            let content = Bytes::from(vec![7; len]);
            let piece = Piece { number, content: content.clone() };
            let whole = message(&PiecesReply { part: Some(Part::Piece(piece)) });
            assert!([head_of_piece(number, len), content].concat() == whole, "{number} {len}");
        }
    }

    #[test]
    fn buffers_are_used_again_once_they_were_sent() {
        let buffers = Arc::<Buffers>::default();
        let write = |byte| {
            move |bytes: &mut [u8]| {
                bytes.fill(byte);
                Ok(())
            }
        };
        let one = buffers.fill(3, write(1)).unwrap();
        let two = buffers.fill(2, write(2)).unwrap();
        assert_eq!((&*one, &*two), (&[1, 1, 1][..], &[2, 2][..]));
        let place = one.as_ptr();
        drop(one);
        let three = buffers.fill(1, write(3)).unwrap();
        assert_eq!((three.as_ptr(), &*three), (place, &[3][..]));
        let many: Vec<_> =
            (0..2 * BUFFERS_KEPT).map(|_| buffers.fill(1, write(4)).unwrap()).collect();
        drop(many);
        assert_eq!(buffers.0.lock().unwrap().len(), BUFFERS_KEPT);
    }
}
