//! What a holder answers, taken off the wire without copying: a piece stays in the buffers that it came in.
//!
//! The service's client would gather each message in one buffer of its own first. A piece is nearly all of what it sends, and
//! is hashed and written from several buffers as well as from one.

use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use prost::Message as _;
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;

use super::source::Failed;
use crate::limits::{MESSAGE_BYTES_MAX, MESSAGE_WAIT, PIECE_WAIT};
use crate::proto::pieces_reply::Part;
use crate::proto::{self, PiecesReply};

/// Before each message: whether it is compressed, and how long it is.
const PREFIX_BYTES: usize = 5;
/// The longest that a piece's own prefix is: two tags with lengths, and its number.
const HEAD_BYTES: usize = 32;

/// The bytes of a piece, in the order of these buffers.
pub type Content = Vec<Bytes>;

/// One message.
#[derive(Debug)]
pub enum Reply {
    Outline(proto::Outline),
    Given(Vec<u64>),
    Piece(u64, Content),
}

/// See the module.
#[derive(Debug)]
pub struct Replies {
    body: Body,
    /// What has come and was not taken yet.
    parts: std::collections::VecDeque<Bytes>,
    len: usize,
    is_over: bool,
}

fn lied(what: &str) -> Failed {
    Failed::Lied(what.to_owned())
}

impl Replies {
    pub const fn new(body: Body) -> Self {
        Self { body, parts: std::collections::VecDeque::new(), len: 0, is_over: false }
    }

    /// The next message; `None` where there are no more. May be asked for again after that.
    ///
    /// # Errors
    /// [`Failed`]; [`Failed::Silent`] where nothing comes for [`PIECE_WAIT`], or not all of it within [`MESSAGE_WAIT`].
    pub async fn next(&mut self) -> Result<Option<Reply>, Failed> {
        timeout(MESSAGE_WAIT, self.read()).await.unwrap_or(Err(Failed::Silent))
    }

    async fn read(&mut self) -> Result<Option<Reply>, Failed> {
        if !self.fill(PREFIX_BYTES).await? {
            return if self.len == 0 { Ok(None) } else { Err(lied("it has sent half a message")) };
        }
        let prefix = self.take_small(PREFIX_BYTES);
        let len = prefix.iter().skip(1).fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        if prefix.first() != Some(&0) || len > MESSAGE_BYTES_MAX {
            return Err(lied("it has sent a message that is too long"));
        }
        if !self.fill(len).await? {
            return Err(lied("it has sent half a message"));
        }
        let message = self.take(len);
        reply_of(message).map(Some)
    }

    /// Waits until so many bytes are here; `false` where they do not come.
    async fn fill(&mut self, bytes: usize) -> Result<bool, Failed> {
        while self.len < bytes && !self.is_over {
            match timeout(PIECE_WAIT, self.body.frame()).await.map_err(|_| Failed::Silent)? {
                None => self.is_over = true,
                Some(Err(status)) => return Err(status.into()),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => {
                        self.len += data.len();
                        self.parts.push_back(data);
                    }
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        check(Status::from_header_map(&trailers))?;
                    }
                },
            }
        }
        Ok(self.len >= bytes)
    }

    /// So many of the bytes that are here.
    fn take(&mut self, mut bytes: usize) -> Content {
        let mut taken = Vec::new();
        while bytes > 0 {
            let Some(mut part) = self.parts.pop_front() else { break };
            if part.len() > bytes {
                self.parts.push_front(part.split_off(bytes));
            }
            bytes -= part.len();
            self.len -= part.len();
            taken.push(part);
        }
        taken
    }

    fn take_small(&mut self, bytes: usize) -> Bytes {
        joined(&self.take(bytes))
    }
}

/// The end of an answer, or an answer that is nothing else.
pub fn check(status: Option<Status>) -> Result<(), Failed> {
    match status {
        Some(status) if status.code() != tonic::Code::Ok => Err(status.into()),
        _ => Ok(()),
    }
}

fn joined(parts: &[Bytes]) -> Bytes {
    match parts {
        [one] => one.clone(),
        parts => {
            let mut whole = BytesMut::new();
            parts.iter().for_each(|part| whole.extend_from_slice(part));
            whole.freeze()
        }
    }
}

fn reply_of(message: Content) -> Result<Reply, Failed> {
    let message = match piece_of(message) {
        Ok((number, content)) => return Ok(Reply::Piece(number, content)),
        Err(message) => message,
    };
    let reply = PiecesReply::decode(joined(&message));
    match reply.map_err(|_| lied("it has sent nothing that is known"))?.part {
        Some(Part::Outline(outline)) => Ok(Reply::Outline(outline)),
        Some(Part::Given(given)) => Ok(Reply::Given(given.numbers)),
        Some(Part::Piece(piece)) => Ok(Reply::Piece(piece.number, vec![piece.content])),
        None => Err(lied("it has sent nothing that is known")),
    }
}

/// A piece as every encoder writes it: its number, where it is not 0, then its content, then nothing. Anything else is given
/// back.
fn piece_of(mut message: Content) -> Result<(u64, Content), Content> {
    let all: usize = message.iter().map(Bytes::len).sum();
    let head: Vec<u8> =
        message.iter().flat_map(|part| part.iter().copied()).take(HEAD_BYTES).collect();
    let Some((number, skip)) = head_of(&head, all) else { return Err(message) };
    let mut rest = skip;
    while let Some(part) = message.first_mut().filter(|_| rest > 0) {
        let now = rest.min(part.len());
        part.advance(now);
        rest -= now;
        if part.is_empty() {
            message.remove(0);
        }
    }
    Ok((number, message))
}

/// The number of the piece, and how many of `all` bytes are before its content.
fn head_of(head: &[u8], all: usize) -> Option<(u64, usize)> {
    const PIECE: u8 = 2 << 3 | 2;
    const NUMBER: u8 = 1 << 3;
    const CONTENT: u8 = 2 << 3 | 2;
    let mut rest = head;
    let tag = |rest: &mut &[u8], tag: u8| {
        let is_it = rest.first() == Some(&tag);
        *rest = &rest[usize::from(is_it)..];
        is_it
    };
    let varint = |rest: &mut &[u8]| prost::encoding::decode_varint(rest).ok();
    let left = |rest: &[u8]| (all + rest.len()).checked_sub(head.len());
    if !tag(&mut rest, PIECE) || varint(&mut rest)? != left(rest)? as u64 {
        return None;
    }
    let number = if tag(&mut rest, NUMBER) { varint(&mut rest)? } else { 0 };
    // An empty content is not there at all.
    if !tag(&mut rest, CONTENT) || varint(&mut rest)? != left(rest)? as u64 {
        return None;
    }
    Some((number, head.len() - rest.len()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use tokio::time::Instant;

    use super::*;

    fn cut(message: &[u8], size: usize) -> Content {
        message.chunks(size.max(1)).map(Bytes::copy_from_slice).collect()
    }

    /// A piece of so many bytes that comes byte by byte, with a pause before each.
    fn slow(bytes: usize, pause: Duration) -> Replies {
        let piece = proto::Piece { number: 3, content: vec![7; bytes].into() };
        let message = PiecesReply { part: Some(Part::Piece(piece)) }.encode_to_vec();
        let len = u32::try_from(message.len()).unwrap().to_be_bytes();
        let message = Bytes::from([&[0], &len[..], &message].concat());
        let frames = futures_util::stream::unfold(message, move |mut rest| async move {
            if rest.is_empty() {
                return None;
            }
            tokio::time::sleep(pause).await;
            Some((Ok::<_, Status>(Frame::data(rest.split_to(1))), rest))
        });
        Replies::new(Body::new(StreamBody::new(frames)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_piece_may_be_slow_and_is_not_waited_for_without_end() {
        let pause = Duration::from_secs(10);
        let is_piece =
            |came: &Result<Option<Reply>, Failed>| matches!(came, Ok(Some(Reply::Piece(3, _))));
        let come = slow(3, pause).next().await;
        assert!(is_piece(&come), "{come:?}");
        // Nothing at all.
        let begun = Instant::now();
        let come = slow(3, 2 * PIECE_WAIT).next().await;
        assert!(matches!(come, Err(Failed::Silent)) && begun.elapsed() == PIECE_WAIT, "{come:?}");
        // Something all the time, and never a piece.
        let begun = Instant::now();
        let come = slow(30, pause).next().await;
        assert!(matches!(come, Err(Failed::Silent)) && begun.elapsed() == MESSAGE_WAIT, "{come:?}");
    }

    #[test]
    fn a_piece_is_read_as_it_was_encoded_however_it_is_cut() {
        for (number, bytes) in [(0, 0), (0, 1), (1, 0), (7, 300), (1 << 19, 5_000), (u64::MAX, 20)]
        {
            let content: Vec<u8> = (0..bytes).map(|at| at as u8).collect();
            let piece = proto::Piece { number, content: content.clone().into() };
            let message = PiecesReply { part: Some(Part::Piece(piece)) }.encode_to_vec();
            for size in [1, 2, 7, 100, 10_000] {
                match reply_of(cut(&message, size)) {
                    Ok(Reply::Piece(found, parts)) => {
                        assert_eq!((found, &*joined(&parts)), (number, &*content), "{size}");
                    }
                    other => panic!("{other:?}"),
                }
                let longer = [&message[..], b"\x12"].concat();
                assert!(reply_of(cut(&longer, size)).is_err(), "{number} {bytes} {size}");
                let shorter = &message[..message.len() - 1];
                let shorter = reply_of(cut(shorter, size));
                assert!(!matches!(shorter, Ok(Reply::Piece(..))), "{shorter:?}");
            }
        }
        let given = proto::Given { numbers: vec![1, 500] };
        let message = PiecesReply { part: Some(Part::Given(given)) }.encode_to_vec();
        assert!(
            matches!(reply_of(cut(&message, 2)), Ok(Reply::Given(numbers)) if numbers == [1, 500])
        );
        assert!(matches!(reply_of(Vec::new()), Err(Failed::Lied(_))));
    }
}
