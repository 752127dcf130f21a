//! Pieces for other peers: read from the folder, or from what is being fetched, as fast as they are taken and no faster.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc;
use tonic::{Code, Status};

use super::body::{self, BUFFER_BYTES, Buffers};
use super::refused;
use super::sparing::Gift;
use super::state::State;
use crate::capability::Granted;
use crate::content::{ContentHash, Ending, Outline};
use crate::limits::{GIFT_MAX, HAVE_WAIT, PIECE_BYTES};
use crate::pieces::PieceSet;
use crate::place;
use crate::proto::pieces_reply::Part;
use crate::proto::{self, HaveReply, HaveRequest, PiecesReply, PiecesRequest};
use crate::unfinished::Begun;

/// Buffers that are read before they are taken: two pieces.
const AHEAD: usize = 2 * PIECE_BYTES / BUFFER_BYTES;
/// Values of an outline in one message.
const VALUES_AT_ONCE: usize = PIECE_BYTES / 32;

/// What was asked for, as it goes over the wire.
pub type Parts = mpsc::Receiver<Result<Bytes, Status>>;

/// Where a content is read from.
enum Source {
    Whole(std::fs::File, Arc<Outline>),
    Begun(Arc<Begun>),
}

impl Source {
    fn outline(&self) -> &Arc<Outline> {
        match self {
            Self::Whole(_, outline) => outline,
            Self::Begun(begun) => begun.outline(),
        }
    }

    fn has(&self, numbers: Range<u64>) -> bool {
        match self {
            Self::Whole(..) => true,
            Self::Begun(begun) => begun.has(numbers),
        }
    }

    /// Fills the buffer from so many bytes after the beginning.
    fn read(&self, offset: u64, bytes: &mut [u8]) -> std::io::Result<()> {
        match self {
            Self::Whole(file, _) => place::read_at(file, bytes, offset),
            Self::Begun(begun) => begun.read(offset, bytes),
        }
    }

    fn ending(&self) -> std::io::Result<Ending> {
        match self {
            Self::Whole(_, outline) => {
                let last = outline.pieces() - 1;
                let mut piece = vec![0; outline.piece_len(last)];
                self.read(last * PIECE_BYTES as u64, &mut piece)?;
                Ok(Ending::of(last, &piece))
            }
            Self::Begun(begun) => Ok(begun.ending().clone()),
        }
    }
}

/// The content that is asked for, where the capability is for it.
fn opened(granted: Option<&Granted>, hash: &[u8]) -> Result<ContentHash, Status> {
    let hash = ContentHash::try_from(hash)
        .map_err(|error| refused(Code::InvalidArgument, "BAD_REQUEST", &error.to_string()))?;
    if granted.is_some_and(|granted| granted.opens(hash)) {
        return Ok(hash);
    }
    let message = "the capability is not for this content";
    Err(refused(Code::PermissionDenied, "NO_CAPABILITY", message))
}

fn not_here(message: &str) -> Status {
    refused(Code::NotFound, "NOT_HERE", message)
}

/// Blocks.
fn find(state: &State, hash: ContentHash) -> Result<Source, Status> {
    // First what is being fetched: it is there until it is shared.
    if let Some(begun) = state.unfinished.find(hash) {
        return Ok(Source::Begun(begun));
    }
    let content = state.library.content(hash);
    let (file, outline) = content.ok_or_else(|| not_here("this content is not here (any more)"))?;
    Ok(Source::Whole(file, outline))
}

fn ending() -> Status {
    Status::unavailable("the peer is ending")
}

/// Says which pieces are here, once there are more than the caller knows of or after a while.
pub async fn have(
    state: &Arc<State>,
    granted: Option<&Granted>,
    request: &HaveRequest,
) -> Result<HaveReply, Status> {
    let hash = opened(granted, &request.hash)?;
    let finding = Arc::clone(state);
    let found = tokio::task::spawn_blocking(move || find(&finding, hash)).await;
    match found.map_err(|_| ending())?? {
        Source::Whole(_, outline) => {
            let sparing = !state.unfinished.is_fetched(hash);
            Ok(HaveReply { size: outline.size(), all: true, pieces: Bytes::new(), sparing })
        }
        Source::Begun(begun) => {
            let more = begun.until_more_than(request.known);
            let _ = tokio::time::timeout(HAVE_WAIT, more).await;
            let (size, here) = (begun.outline().size(), begun.pieces());
            let all = here.is_all();
            let pieces = if all { Bytes::new() } else { Bytes::copy_from_slice(here.bits()) };
            Ok(HaveReply { size, all, pieces, sparing: false })
        }
    }
}

/// Which pieces somebody is sent, in their order.
enum Run {
    Asked(Range<u64>),
    Chosen(Vec<u64>),
    Given(Gift),
}

impl Run {
    fn numbers(&self) -> Vec<u64> {
        match self {
            Self::Asked(range) => range.clone().collect(),
            Self::Chosen(numbers) => numbers.clone(),
            Self::Given(gift) => gift.numbers().to_vec(),
        }
    }

    fn sent(&mut self) {
        if let Self::Given(gift) = self {
            gift.sent(Instant::now());
        }
    }
}

/// What is sent, which is refused or has begun when this returns: the first part of it, and the others.
pub struct Sending {
    pub first: Option<Bytes>,
    pub parts: Parts,
}

/// Answers a request that the guard has let through.
pub async fn pieces(
    state: &Arc<State>,
    granted: Option<&Granted>,
    request: PiecesRequest,
) -> Result<Sending, Status> {
    let hash = opened(granted, &request.hash)?;
    let state = Arc::clone(state);
    let (sender, mut parts) = mpsc::channel(AHEAD);
    // One thread's work from finding it to the last byte: most contents are small.
    tokio::task::spawn_blocking(move || {
        if let Err(status) = find_and_send(&state, hash, &request, &sender) {
            let _ = sender.blocking_send(Err(status));
        }
    });
    let first = parts.recv().await.transpose()?;
    Ok(Sending { first, parts })
}

fn find_and_send(
    state: &State,
    hash: ContentHash,
    request: &PiecesRequest,
    sender: &mpsc::Sender<Result<Bytes, Status>>,
) -> Result<(), Status> {
    let source = find(state, hash)?;
    let run = if request.wanted.is_empty() {
        asked(&source, request.first, request.count)?
    } else {
        chosen(state, &source, request)?
    };
    let (buffers, sent) = (&state.buffers, &*state.sent_bytes);
    let sent = send(&source, request.outline, run, (buffers, sent), sender);
    sent.map_err(|error| refused(Code::DataLoss, "IO", &error.to_string()))
}

fn asked(source: &Source, first: u64, count: u32) -> Result<Run, Status> {
    let pieces = source.outline().pieces();
    let last = first.checked_add(count.into()).filter(|last| *last <= pieces);
    let last = last.ok_or_else(|| {
        refused(Code::OutOfRange, "BAD_REQUEST", &format!("there are {pieces} pieces"))
    })?;
    if source.has(first..last) {
        Ok(Run::Asked(first..last))
    } else {
        Err(not_here("not all of these are here yet"))
    }
}

/// What is given of what somebody wants.
fn chosen(state: &State, source: &Source, request: &PiecesRequest) -> Result<Run, Status> {
    let outline = source.outline();
    let wanted = PieceSet::read(outline.pieces(), &request.wanted).ok_or_else(|| {
        let message = format!("wanted: a bit for each of {} pieces", outline.pieces());
        refused(Code::InvalidArgument, "BAD_REQUEST", &message)
    })?;
    let most = usize::try_from(request.count).unwrap_or(GIFT_MAX).min(GIFT_MAX);
    let (hash, pieces) = (outline.hash(), outline.pieces());
    if matches!(source, Source::Whole(..)) && !state.unfinished.is_fetched(hash) {
        let gift = state.sparing.give(hash, pieces, &wanted, most, Instant::now());
        return Ok(Run::Given(gift));
    }
    let here = wanted.iter().filter(|number| source.has(*number..number + 1));
    Ok(Run::Chosen(here.take(most).collect()))
}

/// Ends early where nobody takes it any more.
fn send(
    source: &Source,
    with_outline: bool,
    mut run: Run,
    (buffers, sent): (&Arc<Buffers>, &AtomicU64),
    sender: &mpsc::Sender<Result<Bytes, Status>>,
) -> std::io::Result<()> {
    let put_bytes = |bytes| sender.blocking_send(Ok(bytes)).is_ok();
    let put = |part| put_bytes(body::message(&PiecesReply { part: Some(part) }));
    if with_outline && !send_outline(source, put)? {
        return Ok(());
    }
    let numbers = run.numbers();
    if !matches!(run, Run::Asked(_)) && !put(Part::Given(proto::Given { numbers: numbers.clone() }))
    {
        return Ok(());
    }
    for number in numbers {
        let (begin, len) = (number * PIECE_BYTES as u64, source.outline().piece_len(number));
        if !put_bytes(body::head_of_piece(number, len)) {
            return Ok(());
        }
        for at in (0..len).step_by(BUFFER_BYTES) {
            let read = |bytes: &mut [u8]| source.read(begin + at as u64, bytes);
            if !put_bytes(buffers.fill(BUFFER_BYTES.min(len - at), read)?) {
                return Ok(());
            }
        }
        run.sent();
        sent.fetch_add(len as u64, Ordering::Relaxed);
    }
    Ok(())
}

/// `false` where nobody takes it any more.
fn send_outline(source: &Source, put: impl Fn(Part) -> bool) -> std::io::Result<bool> {
    let Ending { chunk, left } = source.ending()?;
    let (mut ending, mut left) = (Bytes::from(chunk), Bytes::copy_from_slice(left.as_flattened()));
    let mut rest = source.outline().values();
    loop {
        let (now, later) = rest.split_at(rest.len().min(VALUES_AT_ONCE));
        let outline = proto::Outline {
            size: source.outline().size(),
            values: Bytes::copy_from_slice(now.as_flattened()),
            ending: std::mem::take(&mut ending),
            left: std::mem::take(&mut left),
        };
        if !put(Part::Outline(outline)) {
            return Ok(false);
        }
        rest = later;
        if rest.is_empty() {
            return Ok(true);
        }
    }
}
