//! A group's log as server-sent events (the WHATWG HTML standard, 9.2): observes, resumes by `Last-Event-ID`.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tertulia_group::entry::entries;
use tertulia_group::{Entry, Epoch, LogId, Moved, Position, Seq};
use tertulia_journal::ReadError;
use tertulia_wire::json::{EntryLine, ErrorLine, ReceiptLine, to_line};
use utoipa::{IntoParams, ToSchema};

use super::params::{Path, Query};
use super::problem::Problem;
use super::refusals::{Refused, RefusedGroup};
use super::{BUFFER_BYTES, Door, Peer};
use crate::accounts::Pass;
use crate::accounts::table::Operation;
use crate::clock::wall_us;
use crate::directory::{Denied, Listed};
use crate::feed::{Following, Piece};
use crate::finals::FinalPiece;
use crate::shard::Job;

/// A comment is sent after so much silence, so that whoever is between keeps the connection.
const SILENCE: Duration = Duration::from_secs(15);
/// Read from the journal at once.
const READ_BYTES: usize = 256 << 10;

/// Where the stream begins.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Since {
    /// After this number; without it (and without `Last-Event-ID`), with what comes next.
    after: Option<u64>,
}

/// What a stream opens with.
#[derive(Serialize, ToSchema)]
pub(crate) struct Hello {
    group: String,
    /// The log, in hexadecimal; another one means that all numbers begin anew.
    log: String,
    /// The coordinator's epoch.
    epoch: Epoch,
    /// The number that comes next.
    next: Seq,
}

/// Follows a group: `hello`, then `message`, `joined`, `left`, `file`, a `receipt` once one is final, and `gap` and `reset`
/// for what cannot be had.
#[utoipa::path(
    get,
    path = "/api/groups/{group}/events",
    params(
        ("group" = String, Path, example = "ops"),
        Since,
        ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event that was seen."),
    ),
    responses(
        (status = 200, content_type = "text/event-stream", body = String),
        Refused,
        RefusedGroup,
    )
)]
pub(crate) async fn events(
    State(door): State<Door>,
    Extension(peer): Extension<Peer>,
    Path(group): Path<String>,
    Query(since): Query<Since>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let listed = door.listed(&peer, Operation::Events, &group).await?;
    let pass = door.directory.open_pass(&peer.caller, Operation::Events, &listed, None)?;
    let last_id = headers.get("last-event-id").map(read_id).transpose()?;
    let stream = Stream::begin(&door, (peer, pass), listed, last_id, since.after).await?;
    let body = Body::from_stream(stream::unfold(stream, |mut stream| async move {
        let chunk = stream.next().await?;
        Some((Ok::<_, std::convert::Infallible>(chunk), stream))
    }));
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // Proxies that gather would make a stream of it that comes in lumps.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, body).into_response())
}

/// `LOG-EPOCH-SEQ`, as the events' `id` says it.
fn read_id(value: &axum::http::HeaderValue) -> Result<Position, Problem> {
    let position = value.to_str().ok().and_then(parse_id);
    position.ok_or_else(|| Problem::bad("Last-Event-ID is not an id of this stream's events"))
}

/// The position that an event's id stands for.
pub(crate) fn parse_id(text: &str) -> Option<Position> {
    let mut parts = text.split('-');
    let (log, epoch, seq) = (parts.next()?, parts.next()?, parts.next()?);
    let log = (log.len() == 32).then(|| u128::from_str_radix(log, 16).ok()).flatten()?;
    let (epoch, seq) = (epoch.parse().ok()?, seq.parse::<Seq>().ok()?);
    let known = parts.next().is_none() && seq < Seq::MAX;
    known.then_some(Position { log: LogId(log.to_be_bytes()), epoch, seq })
}

/// The id of an event: where its reader is after it.
pub(crate) fn id(log: &str, epoch: Epoch, seq: Seq) -> String {
    format!("{log}-{epoch}-{seq}")
}

/// One event stream.
struct Stream {
    door: Door,
    listed: Arc<Listed>,
    log: String,
    following: Following,
    next: Seq,
    /// What is to be sent before the log goes on.
    first: VecDeque<Bytes>,
    peer: Peer,
    /// What it follows by right of.
    pass: Pass,
    ended: bool,
}

impl Stream {
    async fn begin(
        door: &Door,
        (peer, pass): (Peer, Pass),
        listed: Arc<Listed>,
        last: Option<Position>,
        after: Option<Seq>,
    ) -> Result<Self, Problem> {
        // Followed before anything is looked at, so that nothing comes in between.
        let following = listed.feed.follow(true);
        let log = format!("{:032x}", u128::from_be_bytes(listed.log.0));
        let (next, moved) = match (last, after) {
            (Some(position), _) => {
                let job = |answer| Job::Place { key: listed.key, position, answer };
                listed.shard.ask(job).await.ok_or_else(|| {
                    let message = "the group cannot be served just now";
                    Denied::new(tertulia_wire::Code::StoreFailed, message)
                })?
            }
            (None, Some(after)) => (after.saturating_add(1).min(following.tail() + 1), None),
            (None, None) => (following.tail() + 1, None),
        };
        let epoch = listed.stats.epoch.load(std::sync::atomic::Ordering::Relaxed);
        let group = listed.name.to_string();
        let hello = Hello { group: group.clone(), log: log.clone(), epoch, next };
        let mut first = VecDeque::from([event("hello", None, &to_line(&hello))]);
        if matches!(moved, Some(Moved::OtherLog | Moved::CutBack)) {
            let line = EntryLine::reset(&group, next, wall_us());
            first.push_back(event("reset", None, &to_line(&line)));
        }
        let door = door.clone();
        Ok(Self { door, listed, log, following, next, first, peer, pass, ended: false })
    }

    /// What is to be written next; `None` when the stream ends. Until it is asked for again, the one before waits.
    async fn next(&mut self) -> Option<Bytes> {
        self.peer.hold(0);
        let chunk = self.chunk().await?;
        self.peer.hold(chunk.len() + BUFFER_BYTES);
        Some(chunk)
    }

    async fn chunk(&mut self) -> Option<Bytes> {
        loop {
            if let Some(first) = self.first.pop_front() {
                return Some(first);
            }
            if self.ended || self.pass.ended().is_some() {
                return None;
            }
            if let Some(finals) = self.following.finals(self.next) {
                return Some(finals.events.get_or_init(|| self.render_finals(&finals)).clone());
            }
            if self.next > self.following.tail() {
                let until = self.following.until(self.next);
                let waited = tokio::select! {
                    waited = tokio::time::timeout(SILENCE, until) => waited,
                    _ = self.pass.until_ended() => return None,
                };
                match waited {
                    Ok(true) => continue,
                    Ok(false) => return None,
                    Err(_) => return Some(Bytes::from_static(b":\n\n")),
                }
            }
            let chunk = match self.following.piece(self.next) {
                Some(piece) => self.of_piece(&piece),
                None => self.read_behind().await,
            };
            if !chunk.is_empty() {
                return Some(chunk);
            }
            // Behind a group that is not served any more: nothing else will come of its journal.
            if self.following.has_ended() {
                return None;
            }
        }
    }

    /// The rest of a piece, or the whole, which is rendered once for all streams.
    fn of_piece(&mut self, piece: &Piece) -> Bytes {
        let from = std::mem::replace(&mut self.next, piece.last + 1);
        let render = |from| render(&self.log, self.listed.name.as_str(), piece.bytes.clone(), from);
        if from <= piece.first {
            piece.events.get_or_init(|| render(0)).clone()
        } else {
            render(from)
        }
    }

    fn render_finals(&self, finals: &FinalPiece) -> Bytes {
        let (group, level) = (self.listed.name.as_str(), self.door.directory.shared.level());
        let mut out = Vec::new();
        for receipt in finals.receipts() {
            let line = to_line(&ReceiptLine::new(group, &receipt, level, None));
            out.extend_from_slice(&event("receipt", None, &line));
        }
        Bytes::from(out)
    }

    async fn read_behind(&mut self) -> Bytes {
        let (log, from) = (self.listed.log, self.next);
        let read = crate::doors::requests::read_records(
            &self.door.directory,
            self.peer.address,
            move |journal| journal.read(log, from, READ_BYTES),
        );
        match read.await {
            Ok(Ok(records)) => {
                let mut out = Vec::new();
                for record in records {
                    self.next = self.next.max(record.first + u64::from(record.count));
                    let group = self.listed.name.as_str();
                    out.push(render(&self.log, group, record.entries, from));
                }
                Bytes::from(out.concat())
            }
            Ok(Err(ReadError::Trimmed { first })) => {
                let group = self.listed.name.as_str();
                let gap = EntryLine::gap(group, from, first - 1, wall_us());
                self.next = first;
                event("gap", None, &to_line(&gap))
            }
            Ok(Err(error)) => {
                let whose = format!("a part of group {}", self.listed.name);
                if let ReadError::Damaged(why) = &error {
                    self.door.directory.shared.tell_damage(&whose, why);
                }
                self.ended = true;
                event(
                    "error",
                    None,
                    &to_line(&ErrorLine::new("DAMAGED", format!("{whose}: {error}"))),
                )
            }
            // Whoever follows connects again and is told what it is.
            Err(_) => {
                self.ended = true;
                Bytes::new()
            }
        }
    }
}

/// The entries from `from` on, as events.
fn render(log: &str, group: &str, bytes: Bytes, from: Seq) -> Bytes {
    let mut out = Vec::with_capacity(bytes.len() * 2);
    for entry in entries(bytes).flatten().filter(|entry| entry.header.seq >= from) {
        if let Some(rendered) = render_one(log, group, &entry) {
            out.extend_from_slice(&rendered);
        }
    }
    Bytes::from(out)
}

fn render_one(log: &str, group: &str, entry: &Entry) -> Option<Bytes> {
    let line = EntryLine::from_entry(group, entry)?;
    let kind = match line {
        EntryLine::Message { .. } => "message",
        EntryLine::Joined { .. } => "joined",
        EntryLine::Left { .. } => "left",
        EntryLine::File { .. } => "file",
        EntryLine::Reset { .. } | EntryLine::Gap { .. } => return None,
    };
    let id = id(log, entry.header.epoch, entry.header.seq);
    Some(event(kind, Some(&id), &to_line(&line)))
}

/// One event; JSON has no line ends of its own.
fn event(kind: &str, id: Option<&str>, data: &str) -> Bytes {
    let mut out = String::with_capacity(data.len() + 100);
    let _ = writeln!(out, "event: {kind}");
    if let Some(id) = id {
        let _ = writeln!(out, "id: {id}");
    }
    let _ = write!(out, "data: {data}\n\n");
    Bytes::from(out)
}
