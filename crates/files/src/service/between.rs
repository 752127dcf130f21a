//! Pieces for other peers: read from the folder, or from what is being fetched, as fast as they are taken and no faster.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc;
use tonic::{Code, Status};

use super::body::{self, BUFFER_BYTES, Buffers};
use super::permits::Permit;
use super::refused;
use super::sparing::{Claim, Given};
use super::state::State;
use crate::capability::Granted;
use crate::content::{ContentHash, Ending, Outline};
use crate::limits::{GIFT_MAX, PIECE_BYTES};
use crate::pieces::PieceSet;
use crate::place;
use crate::proto::{
    self, HaveReply, HaveRequest, PiecesReply, PiecesRequest, pieces_reply as reply,
};
use crate::unfinished::Begun;

/// Buffers that are read before they are taken: two pieces.
const AHEAD: usize = 2 * PIECE_BYTES / BUFFER_BYTES;
/// Values of an outline in one message.
const VALUES_AT_ONCE: usize = PIECE_BYTES / 32;

/// A part of an answer, as it goes over the wire.
pub struct Part {
    pub bytes: Bytes,
    /// How many of these are of the content.
    pub content: u64,
    /// Of what was given.
    pub of: Option<Of>,
}

/// Of which piece a part is that was given.
pub enum Of {
    Middle(Arc<Claim>),
    End(Given),
}

impl Of {
    /// It is taken; `false` where the piece is somebody else's by now.
    pub fn goes(self, now: Instant) -> bool {
        match self {
            Self::Middle(claim) => claim.goes_on(now),
            Self::End(given) => {
                let goes = given.claim().goes_on(now);
                if goes {
                    given.gone(now);
                }
                goes
            }
        }
    }
}

impl Part {
    fn message(part: reply::Part) -> Self {
        Self { bytes: body::message(&PiecesReply { part: Some(part) }), content: 0, of: None }
    }
}

/// What was asked for.
pub type Parts = mpsc::Receiver<Result<Part, Status>>;

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
    let looked = async || {
        let state = Arc::clone(state);
        let found = tokio::task::spawn_blocking(move || find(&state, hash)).await;
        found.map_err(|_| ending())?
    };
    let mut found = looked().await?;
    if let Source::Begun(begun) = found {
        found = match begun.until_more_than(request.known).await {
            Some(begun) => Source::Begun(begun),
            // It is shared by now, or given up.
            None => looked().await?,
        };
    }
    match found {
        Source::Whole(_, outline) => {
            let sparing = !state.unfinished.is_fetched(hash);
            Ok(HaveReply { size: outline.size(), all: true, pieces: Bytes::new(), sparing })
        }
        Source::Begun(begun) => {
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
    Given(VecDeque<Given>),
}

impl Run {
    fn numbers(&self) -> VecDeque<u64> {
        match self {
            Self::Asked(range) => range.clone().collect(),
            Self::Chosen(numbers) => numbers.iter().copied().collect(),
            Self::Given(given) => given.iter().map(Given::number).collect(),
        }
    }

    /// Of which piece what comes next is, the one that was begun.
    fn next(&mut self, ends: bool) -> Option<Of> {
        match self {
            Self::Given(given) if ends => given.pop_front().map(Of::End),
            Self::Given(given) => given.front().map(|given| Of::Middle(Arc::clone(given.claim()))),
            _ => None,
        }
    }
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
fn chosen(
    state: &State,
    source: &Source,
    request: &PiecesRequest,
    account: &str,
) -> Result<Run, Status> {
    let outline = source.outline();
    let wanted = PieceSet::read(outline.pieces(), &request.wanted).ok_or_else(|| {
        let message = format!("wanted: a bit for each of {} pieces", outline.pieces());
        refused(Code::InvalidArgument, "BAD_REQUEST", &message)
    })?;
    let most = usize::try_from(request.count).unwrap_or(GIFT_MAX).min(GIFT_MAX);
    let (hash, pieces) = (outline.hash(), outline.pieces());
    if matches!(source, Source::Whole(..)) && !state.unfinished.is_fetched(hash) {
        let of = (hash, pieces);
        let given = state.sparing.give(of, &wanted, most, account, Instant::now());
        return Ok(Run::Given(given.into()));
    }
    let here = wanted.iter().filter(|number| source.has(*number..number + 1));
    Ok(Run::Chosen(here.take(most).collect()))
}

/// What is sent, which is refused or has begun when this returns: the first part of it, and the others.
pub struct Sending {
    pub first: Option<Part>,
    pub parts: Parts,
}

/// Answers a request that the guard has let through, and that has its permit.
pub async fn pieces(
    state: &Arc<State>,
    granted: Granted,
    request: PiecesRequest,
    permit: Arc<Permit>,
) -> Result<Sending, Status> {
    let state = Arc::clone(state);
    let (sender, mut parts) = mpsc::channel(AHEAD);
    // One thread's work from finding it to what may be read before it is taken: most contents are small.
    tokio::task::spawn_blocking(move || {
        let reading = Reading::begin(&state, &granted, &request);
        Work { sender, _permit: permit }.go_on(reading);
    });
    let first = parts.recv().await.transpose()?;
    Ok(Sending { first, parts })
}

/// What sending an answer takes.
struct Work {
    sender: mpsc::Sender<Result<Part, Status>>,
    _permit: Arc<Permit>,
}

impl Work {
    /// Reads as much as there is room for. Blocks, but not on who takes it: that is waited for elsewhere.
    fn go_on(self, reading: Result<Reading, Status>) {
        let read = reading.and_then(|mut reading| {
            let is_all = reading.fill(&self.sender);
            let is_all =
                is_all.map_err(|error| refused(Code::DataLoss, "IO", &error.to_string()))?;
            Ok((!is_all).then_some(reading))
        });
        if let Some(rest) = read.transpose()
            && !self.sender.is_closed()
        {
            tokio::runtime::Handle::current().spawn(self.later(rest));
        }
    }

    /// Waits until there is room again. Who takes nothing for too long is disconnected ([`super::permits`]).
    async fn later(self, rest: Result<Reading, Status>) {
        let rest = match rest {
            Ok(rest) => rest,
            Err(status) => {
                let _ = self.sender.send(Err(status)).await;
                return;
            }
        };
        if self.sender.reserve_many(AHEAD / 2).await.is_ok() {
            tokio::task::spawn_blocking(move || self.go_on(Ok(rest)));
        }
    }
}

/// What is still to be sent of an answer.
struct Reading {
    source: Source,
    buffers: Arc<Buffers>,
    /// How many values of the outline were sent; none where it is not, or no more, to be.
    outline: Option<usize>,
    /// Whether it has to be said which pieces come.
    says: bool,
    run: Run,
    numbers: VecDeque<u64>,
    /// How many bytes of the first of these were sent; none where it has not begun.
    at: Option<usize>,
}

impl Reading {
    fn begin(state: &State, granted: &Granted, request: &PiecesRequest) -> Result<Self, Status> {
        let hash = opened(Some(granted), &request.hash)?;
        let source = find(state, hash)?;
        let run = if request.wanted.is_empty() {
            asked(&source, request.first, request.count)?
        } else {
            chosen(state, &source, request, granted.account())?
        };
        Ok(Self {
            source,
            buffers: Arc::clone(&state.buffers),
            outline: request.outline.then_some(0),
            says: !matches!(run, Run::Asked(_)),
            numbers: run.numbers(),
            run,
            at: None,
        })
    }

    /// Reads as much as there is room for; `true` where that was all, or nobody takes it any more.
    fn fill(&mut self, sender: &mpsc::Sender<Result<Part, Status>>) -> std::io::Result<bool> {
        while sender.capacity() > 0 {
            let Some(part) = self.next()? else { return Ok(true) };
            if sender.try_send(Ok(part)).is_err() {
                return Ok(true);
            }
        }
        Ok(sender.is_closed())
    }

    /// The next part.
    fn next(&mut self) -> std::io::Result<Option<Part>> {
        if let Some(sent) = self.outline {
            return self.outline_from(sent).map(Some);
        }
        if std::mem::take(&mut self.says) {
            let numbers = self.numbers.iter().copied().collect();
            return Ok(Some(Part::message(reply::Part::Given(proto::Given { numbers }))));
        }
        let Some(number) = self.numbers.front().copied() else { return Ok(None) };
        let len = self.source.outline().piece_len(number);
        let (bytes, content, sent) = match self.at {
            None => (body::head_of_piece(number, len), 0, 0),
            Some(at) => {
                let (offset, now) =
                    (number * PIECE_BYTES as u64 + at as u64, BUFFER_BYTES.min(len - at));
                let bytes = self.buffers.fill(now, |bytes| self.source.read(offset, bytes))?;
                (bytes, now as u64, at + now)
            }
        };
        let ends = sent == len;
        self.at = (!ends).then_some(sent);
        if ends {
            self.numbers.pop_front();
        }
        Ok(Some(Part { bytes, content, of: self.run.next(ends) }))
    }

    /// The outline's values after so many, and before the first of them what proves it.
    fn outline_from(&mut self, sent: usize) -> std::io::Result<Part> {
        let (chunk, left) = if sent == 0 {
            let Ending { chunk, left } = self.source.ending()?;
            (Bytes::from(chunk), Bytes::copy_from_slice(left.as_flattened()))
        } else {
            Default::default()
        };
        let outline = self.source.outline();
        let rest = outline.values().get(sent..).unwrap_or_default();
        let now = &rest[..rest.len().min(VALUES_AT_ONCE)];
        let part = proto::Outline {
            size: outline.size(),
            values: Bytes::copy_from_slice(now.as_flattened()),
            ending: chunk,
            left,
        };
        self.outline = (now.len() < rest.len()).then_some(sent + now.len());
        Ok(Part::message(reply::Part::Outline(part)))
    }
}
