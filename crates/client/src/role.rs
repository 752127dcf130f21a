//! What a session is for: sending from outside, or being a member.

use std::sync::Arc;

use bytes::Bytes;
use tertulia_group::entry::HEADER_BYTES;
use tertulia_group::{Entry, Kind, LogId, SenderId, Seq};
use tertulia_wire::NodeFrame;
use tertulia_wire::native::{Confirmed, Join, OpenSender, SenderReady, Start, Welcome, kind};
use tokio::sync::mpsc;

use crate::shared::{Inner, Shared};
use crate::tracker::Arrival;
use crate::{Error, Event};

/// Frames from here on to the codes of answers are entries, known or not.
const ENTRY_KINDS: std::ops::RangeInclusive<u8> = kind::ENTRY_FIRST..=0xBF;

/// See the module.
#[derive(Debug)]
pub(crate) enum Role {
    Sender(SenderRole),
    Member(Box<MemberRole>),
}

/// An outside sender.
#[derive(Debug)]
pub(crate) struct SenderRole {
    pub id: SenderId,
    pub confirmations: Option<mpsc::Sender<Confirmed>>,
    pub ready: Option<SenderReady>,
    /// It tells files.
    pub files: bool,
    /// It has one message, which has this counter.
    pub only: Option<u64>,
}

/// A member.
#[derive(Debug)]
pub(crate) struct MemberRole {
    pub id: SenderId,
    pub durable: bool,
    pub follow: bool,
    pub start: Start,
    pub shared: Arc<Shared>,
    pub last_welcome: Option<Welcome>,
}

impl Role {
    /// Waits until the program has done something that the task may have to tell.
    pub async fn progress(&self) {
        match self {
            Self::Sender(_) => std::future::pending().await,
            Self::Member(member) => member.shared.for_task.notified().await,
        }
    }

    /// More may be read.
    pub fn has_room(&self, awaits_answers: bool) -> bool {
        match self {
            Self::Sender(_) => true,
            Self::Member(member) => member.shared.has_room(awaits_answers),
        }
    }

    /// A frame that is about the group.
    pub fn frame(&self, frame: NodeFrame, bytes: &Bytes) {
        match (self, frame) {
            (Self::Sender(sender), NodeFrame::Confirmed(all)) => {
                for one in all {
                    // One that is not read in time is lost: cursors are cumulative.
                    let _ = sender.confirmations.as_ref().map(|to| to.try_send(one));
                }
            }
            (Self::Member(member), frame) => member.frame(frame, bytes),
            (Self::Sender(_), _) => {}
        }
    }
}

impl SenderRole {
    pub fn open(&self, group: &str, name: &str, known: bool) -> OpenSender {
        OpenSender {
            id: 0,
            known,
            follow: self.confirmations.is_some(),
            group: group.to_owned(),
            name: name.to_owned(),
            sender: self.id,
        }
    }
}

impl MemberRole {
    pub fn join(&self, group: &str, name: &str) -> Join {
        let inner = self.shared.lock();
        Join {
            id: 0,
            durable: self.durable,
            follow: self.follow,
            group: group.to_owned(),
            name: name.to_owned(),
            sender: self.id,
            start: self.start,
            secret: Some(inner.secret),
            position: inner.tracker.position(),
        }
    }

    /// The log that it knows.
    pub fn log(&self) -> Option<LogId> {
        self.shared.lock().tracker.log().map(|(log, _)| log)
    }

    pub fn welcome(&mut self, welcome: Welcome) {
        let mut inner = self.shared.lock();
        inner.progressed();
        inner.secret = welcome.secret;
        if let Some(next) = inner.tracker.welcome(&welcome) {
            inner.push(Event::Reset { next });
        }
        drop(inner);
        self.shared.for_program.notify_one();
        self.last_welcome = Some(welcome);
    }

    pub fn lost(&self, reason: String) {
        self.shared.push(Event::Lost { reason });
    }

    pub fn back(&self) {
        let resumed = self.last_welcome.as_ref().is_some_and(|welcome| welcome.resumed);
        self.shared.push(Event::Back { resumed });
    }

    pub fn end(&self, error: &Error) {
        let (code, message) = match error {
            Error::Refused { code, message } => (Some(*code), message.clone()),
            Error::Closed => (None, "left".to_owned()),
            error => (None, error.to_string()),
        };
        self.shared.end(Event::Left { code, message });
    }

    fn frame_event(inner: &mut Inner, frame: NodeFrame, bytes: &Bytes) {
        match frame {
            NodeFrame::Entry(entry) => entry_came(inner, entry),
            NodeFrame::Other { kind } if ENTRY_KINDS.contains(&kind) => {
                if let (Some(seq), Some(epoch)) = (u64_at(bytes, 8), u32_at(bytes, 40))
                    && bytes.len() >= HEADER_BYTES
                {
                    came(inner, seq, epoch, None);
                }
            }
            NodeFrame::Gap { first, last } => {
                if let Some((first, last)) = inner.tracker.gap(first, last) {
                    inner.progressed();
                    inner.push(Event::Gap { first, last });
                }
            }
            NodeFrame::Reset { log, epoch, next } if inner.tracker.reset(log, epoch, next) => {
                inner.push(Event::Reset { next });
            }
            NodeFrame::Confirmed(all) => {
                all.into_iter().for_each(|one| inner.push(Event::Confirmed(one)));
            }
            _ => {}
        }
    }

    fn frame(&self, frame: NodeFrame, bytes: &Bytes) {
        let mut inner = self.shared.lock();
        Self::frame_event(&mut inner, frame, bytes);
        drop(inner);
        self.shared.for_program.notify_one();
    }
}

fn entry_came(inner: &mut Inner, entry: Entry) {
    let (seq, epoch) = (entry.header.seq, entry.header.epoch);
    let for_program = entry.header.kind != Kind::Epoch;
    came(inner, seq, epoch, for_program.then_some(entry));
}

fn came(inner: &mut Inner, seq: Seq, epoch: u32, entry: Option<Entry>) {
    for gone in inner.tracker.not_again(seq) {
        inner.progressed();
        inner.push(Event::Gap { first: gone, last: gone });
    }
    match inner.tracker.arrived(seq, epoch, entry.is_some()) {
        Arrival::Known => return,
        Arrival::CutBack => inner.push(Event::Reset { next: seq }),
        Arrival::New => {}
    }
    match entry {
        Some(entry) => inner.push(Event::Entry(entry)),
        None => inner.progressed(),
    }
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}
