//! Frames from a node to a client.

use bytes::{Bytes, BytesMut};

use tertulia_group::{
    CompleteRun, Door, Entry, Epoch, Incarnation, LogId, Receipt, Seq, StoredRun, entry,
};

use super::field::{
    Item, Put, Reader, Take, begin_frame, coded, end_frame, fields, flags, put_frame, put_list,
    record, wrapped,
};
use super::{Code, Credential, FrameError, GroupRules, Instance, RUNS_PER_FRAME_MAX, Secret, kind};
use crate::Level;

/// A frame that a node sends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of docs/protocol.md; `id` is the request's")]
pub enum NodeFrame {
    /// Answer to HELLO.
    Greeting(Greeting),
    /// Where the group is coordinated (`host:port`).
    Located { id: u32, group: String, coordinator: String, epoch: Epoch },
    /// Groups in the order of their names.
    GroupsPage { id: u32, more: bool, items: Vec<GroupItem> },
    /// It is done.
    Done { id: u32 },
    /// Members in the order of their names.
    MembersPage { id: u32, more: bool, items: Vec<MemberItem> },
    /// Entries as they stand in the log: see [`NodeFrame::history_entries`].
    HistoryPage { id: u32, more: bool, first_kept: Seq, entries: Bytes },
    /// A receipt that was asked for.
    ReceiptReply { id: u32, level: Level, receipt: Receipt },
    /// How the node is.
    StatusReply(Box<StatusReply>),
    /// Who may join the group, and who may send to it.
    Rules { id: u32, group: String, rules: GroupRules },
    /// Who the connection is, or was registered; without a name a guest. `expires_us`: when its token ends, 0 without one.
    Identity { id: u32, name: String, administrator: bool, expires_us: u64 },
    /// Who logged in, and the token; the connection is the account's from here on.
    Token { id: u32, name: String, token: Credential, expires_us: u64 },
    /// The client is a member.
    Welcome(Box<Welcome>),
    /// The client is an outside sender.
    SenderReady(Box<SenderReady>),
    /// These are stored.
    Stored(Vec<StoredRun>),
    /// These are confirmed by everybody who was asked.
    Complete(Vec<CompleteRun>),
    /// What became of one message that cannot be complete any more, or is waited for no longer.
    Receipt { counter: u64, receipt: Receipt },
    /// This message, and the later ones of the sender, are not taken.
    Refused { counter: u64, code: Code, message: String },
    /// Answer to PING.
    Pong { token: u64 },
    /// Who has moved, for those who follow.
    Confirmed(Vec<Confirmed>),
    /// These numbers cannot be had any more.
    Gap { first: Seq, last: Seq },
    /// The log is another one than the member's position was of.
    Reset { log: LogId, epoch: Epoch, next: Seq },
    /// The node is there and still coordinates.
    Heartbeat { epoch: Epoch, tail: Seq },
    /// The last frame.
    Close { code: Code, message: String },
    /// Refusal of request `id`; 0 is the connection.
    Error { id: u32, code: Code, message: String },
    /// An entry of the log.
    Entry(Entry),
    /// A kind of a newer node: skip it.
    Other { kind: u8 },
}

record! {
    /// Answer to HELLO.
    Greeting {
        /// [`super::VERSION`].
        version: u16,
        /// What the node knows beside: [`super::FEATURE_FILES`]; others are a newer node's.
        features: u16,
        /// The node's id.
        node: String,
        /// Address of its HTTP door, `host:port`; empty where there is none.
        http: String,
        /// Longest body of a message.
        message_bytes_max: u32,
        /// Its store.
        instance: Instance,
    }
}

record! {
    /// One group of a page.
    GroupItem {
        /// Its name.
        group: String,
        /// How many members it has.
        members: u32,
        /// The number of its last entry.
        seq: Seq,
        /// Its coordinator's epoch.
        epoch: Epoch,
        /// Where it is coordinated, `host:port`.
        coordinator: String,
    }
}

record! {
    /// One member of a page.
    MemberItem {
        /// Its name.
        name: String,
        /// Its program has confirmed up to here.
        acked: Seq,
        /// Its host has taken up to here.
        reached: Seq,
        /// Whether it is there.
        presence: Presence,
        /// Through which door it came.
        door: Door,
        /// Since when it is so, in microseconds since the Unix epoch.
        since_us: u64,
    }
}

/// Whether a member is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Presence {
    /// Connected.
    Here = 0,
    /// Connected, and far behind.
    Lagging = 1,
    /// Not connected.
    Away = 2,
}

impl Presence {
    /// The word that people and programs see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::Lagging => "lagging",
            Self::Away => "away",
        }
    }

    /// The presence of this code; `None` where there is none.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Here),
            1 => Some(Self::Lagging),
            2 => Some(Self::Away),
            _ => None,
        }
    }
}

record! {
    /// How a node is.
    StatusReply {
        /// The request's.
        id: u32,
        /// The node's id.
        node: String,
        /// Its program's version.
        version: String,
        /// Its journal's engine.
        engine: String,
        /// How well it stores.
        level: Level,
        /// Since it started.
        uptime_ms: u64,
        /// Groups that it coordinates.
        groups: u32,
        /// Their members.
        members: u32,
        /// Open connections.
        connections: u32,
        /// Bytes of all logs.
        stored_bytes: u64,
    }
}

/// Fields of WELCOME.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The request's.
    pub id: u32,
    /// An earlier membership goes on.
    pub resumed: bool,
    /// The position was beyond the end of its epoch, and was cut back.
    pub cut_back: bool,
    /// The group's name as it is written.
    pub group: String,
    /// The member's name as it is written: the one for its PUBLISH frames.
    pub name: String,
    /// Which log.
    pub log: LogId,
    /// The coordinator's epoch.
    pub epoch: Epoch,
    /// Which stay this is.
    pub incarnation: Incarnation,
    /// The first number that can come.
    pub next: Seq,
    /// The number of the last entry so far.
    pub tail: Seq,
    /// How many members the group has, this one included.
    pub members: u32,
    /// To resume with.
    pub secret: Secret,
    /// The highest counter of this sender id that is stored; 0 for none.
    pub last_counter: u64,
    /// Bytes of PUBLISH frames that may be under way without being STORED.
    pub window_bytes: u32,
    /// How well messages are stored.
    pub level: Level,
    /// The cursor that the node has of this member.
    pub acked: Seq,
    /// What it is still at work on, to the node's knowledge; these come again.
    pub open: Vec<Seq>,
}

record! {
    /// Fields of SENDER_READY; they are as in WELCOME.
    SenderReady {
        /// The request's.
        id: u32,
        /// The group's name as it is written.
        group: String,
        /// The sender's name as it is written: the one for its PUBLISH frames.
        name: String,
        /// Which log.
        log: LogId,
        /// The coordinator's epoch.
        epoch: Epoch,
        /// The number of the last entry so far.
        tail: Seq,
        /// How many members the group has.
        members: u32,
        /// The highest counter of this sender id that is stored; 0 for none.
        last_counter: u64,
        /// Bytes of PUBLISH frames that may be under way without being STORED.
        window_bytes: u32,
        /// How well messages are stored.
        level: Level,
    }
}

record! {
    /// How far one member has come.
    Confirmed {
        /// Its name.
        name: String,
        /// Up to here.
        cursor: Seq,
        /// In which way.
        how: How,
    }
}

/// Whether a program or only its host has a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum How {
    /// The program confirmed.
    Confirmed = 0,
    /// The host took it.
    Reached = 1,
}

impl How {
    /// The way of this code; `None` where there is none.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Confirmed),
            1 => Some(Self::Reached),
            _ => None,
        }
    }
}

coded! {
    Presence, "presence";
    How, "way of confirming";
}
wrapped!(Incarnation);

impl Put for Code {
    fn put(&self, out: &mut BytesMut) {
        self.to_u16().put(out);
    }
}

impl Take for Code {
    fn take(from: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(Self::from_u16(from.take()?))
    }
}

/// What stands in lists with a count of two bytes.
macro_rules! items {
    ($($type:ident $bytes_min:literal)*) => {$(
        impl Item for $type {
            const COUNT_BYTES: usize = 2;
            const BYTES_MIN: usize = $bytes_min;
        }
    )*};
}
items!(GroupItem 20 MemberItem 28 Confirmed 11);

/// Appends a page; one that is too long for a frame is cut and has `more` set.
fn put_page<T: Item>(out: &mut BytesMut, kind: u8, id: u32, more: bool, items: &[T]) {
    let start = begin_frame(out, kind, 0);
    id.put(out);
    let more_at = out.len();
    more.put(out);
    if !put_list(out, items) {
        out[more_at] = 1;
    }
    end_frame(out, start);
}

/// Appends as many frames as the runs need; none for none.
fn put_runs<T: Item>(out: &mut BytesMut, kind: u8, runs: &[T]) {
    for runs in runs.chunks(RUNS_PER_FRAME_MAX) {
        let start = begin_frame(out, kind, 0);
        put_list(out, runs);
        end_frame(out, start);
    }
}

const WELCOME_RESUMED: u8 = 1;
const WELCOME_CUT_BACK: u8 = 2;

impl Welcome {
    fn encode(&self, out: &mut BytesMut) {
        let flags = flags([(self.resumed, WELCOME_RESUMED), (self.cut_back, WELCOME_CUT_BACK)]);
        let start = begin_frame(out, kind::WELCOME, flags);
        (self.id, &self.group, &self.name, self.log, self.epoch).put(out);
        (self.incarnation, self.next, self.tail, self.members, self.secret).put(out);
        (self.last_counter, self.window_bytes, self.level, self.acked, &self.open).put(out);
        end_frame(out, start);
    }

    fn decode(flags: u8, from: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(Self {
            id: from.take()?,
            resumed: flags & WELCOME_RESUMED != 0,
            cut_back: flags & WELCOME_CUT_BACK != 0,
            group: from.take()?,
            name: from.take()?,
            log: from.take()?,
            epoch: from.take()?,
            incarnation: from.take()?,
            next: from.take()?,
            tail: from.take()?,
            members: from.take()?,
            secret: from.take()?,
            last_counter: from.take()?,
            window_bytes: from.take()?,
            level: from.take()?,
            acked: from.take()?,
            open: from.take()?,
        })
    }
}

impl NodeFrame {
    /// Appends the frame: several where a list of runs is too long for one, none where it is empty. Pages that are too long
    /// are cut and have `more` set, texts longer than [`super::STR_BYTES_MAX`] are cut.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Greeting(greeting) => put_frame(out, kind::GREETING, 0, greeting),
            Self::Located { id, group, coordinator, epoch } => {
                put_frame(out, kind::LOCATED, 0, (id, group, coordinator, epoch));
            }
            Self::GroupsPage { id, more, items } => {
                put_page(out, kind::GROUPS_PAGE, *id, *more, items);
            }
            Self::Done { id } => put_frame(out, kind::DONE, 0, id),
            Self::MembersPage { id, more, items } => {
                put_page(out, kind::MEMBERS_PAGE, *id, *more, items);
            }
            Self::HistoryPage { id, more, first_kept, entries } => {
                let start = begin_frame(out, kind::HISTORY_PAGE, 0);
                (id, more, first_kept).put(out);
                out.extend_from_slice(entries);
                end_frame(out, start);
            }
            Self::ReceiptReply { id, level, receipt } => {
                put_frame(out, kind::RECEIPT_REPLY, 0, (id, level, receipt));
            }
            Self::Rules { id, group, rules } => put_frame(out, kind::RULES, 0, (id, group, rules)),
            Self::Identity { id, name, administrator, expires_us } => {
                put_frame(out, kind::IDENTITY, 0, (id, name, *administrator, expires_us));
            }
            Self::Token { id, name, token, expires_us } => {
                put_frame(out, kind::TOKEN, 0, (id, name, token, expires_us));
            }
            Self::StatusReply(status) => put_frame(out, kind::STATUS_REPLY, 0, &**status),
            Self::Welcome(welcome) => welcome.encode(out),
            Self::SenderReady(ready) => put_frame(out, kind::SENDER_READY, 0, &**ready),
            Self::Stored(runs) => Self::encode_stored(out, runs),
            Self::Complete(runs) => Self::encode_complete(out, runs),
            Self::Receipt { counter, receipt } => {
                put_frame(out, kind::RECEIPT, 0, (counter, receipt));
            }
            Self::Refused { counter, code, message } => {
                put_frame(out, kind::REFUSED, 0, (counter, code, message));
            }
            Self::Pong { token } => put_frame(out, kind::PONG, 0, token),
            Self::Confirmed(confirmed) => Self::encode_confirmed(out, confirmed),
            Self::Gap { first, last } => put_frame(out, kind::GAP, 0, (first, last)),
            Self::Reset { log, epoch, next } => put_frame(out, kind::RESET, 0, (log, epoch, next)),
            Self::Heartbeat { epoch, tail } => put_frame(out, kind::HEARTBEAT, 0, (epoch, tail)),
            Self::Close { code, message } => put_frame(out, kind::CLOSE, 0, (code, message)),
            Self::Error { id, code, message } => {
                put_frame(out, kind::ERROR, 0, (id, code, message));
            }
            Self::Entry(entry) => out.extend_from_slice(entry.bytes()),
            Self::Other { kind } => put_frame(out, *kind, 0, ()),
        }
    }

    /// Appends the runs, in as many STORED frames as they need; none for none.
    pub fn encode_stored(out: &mut BytesMut, runs: &[StoredRun]) {
        put_runs(out, kind::STORED, runs);
    }

    /// Appends the confirmations, in as many CONFIRMED frames as they need; none for none.
    pub fn encode_confirmed(out: &mut BytesMut, confirmed: &[Confirmed]) {
        put_runs(out, kind::CONFIRMED, confirmed);
    }

    /// Appends the runs, in as many COMPLETE frames as they need; none for none.
    pub fn encode_complete(out: &mut BytesMut, runs: &[CompleteRun]) {
        put_runs(out, kind::COMPLETE, runs);
    }

    /// Reads one whole frame, as [`super::split_from_node`] gives it; entries share its bytes.
    ///
    /// # Errors
    /// [`FrameError`]; the connection cannot go on.
    pub fn decode(mut frame: Bytes) -> Result<Self, FrameError> {
        let (kind, flags, mut from) = Reader::open(&frame)?;
        let from = &mut from;
        Ok(match kind {
            kind::GREETING => Self::Greeting(from.take()?),
            kind::LOCATED => Self::Located {
                id: from.take()?,
                group: from.take()?,
                coordinator: from.take()?,
                epoch: from.take()?,
            },
            kind::GROUPS_PAGE => {
                Self::GroupsPage { id: from.take()?, more: from.take()?, items: from.take()? }
            }
            kind::DONE => Self::Done { id: from.take()? },
            kind::MEMBERS_PAGE => {
                Self::MembersPage { id: from.take()?, more: from.take()?, items: from.take()? }
            }
            kind::HISTORY_PAGE => {
                let (id, more, first_kept) = (from.take()?, from.take()?, from.take()?);
                let entries = frame.slice(frame.len() - from.left()..);
                Self::HistoryPage { id, more, first_kept, entries }
            }
            kind::RECEIPT_REPLY => {
                Self::ReceiptReply { id: from.take()?, level: from.take()?, receipt: from.take()? }
            }
            kind::STATUS_REPLY => Self::StatusReply(Box::new(from.take()?)),
            kind::WELCOME => Self::Welcome(Box::new(Welcome::decode(flags, from)?)),
            kind::SENDER_READY => Self::SenderReady(Box::new(from.take()?)),
            kind::STORED => Self::Stored(from.take()?),
            kind::COMPLETE => Self::Complete(from.take()?),
            kind::CONFIRMED => Self::Confirmed(from.take()?),
            kind::ENTRY_FIRST..=kind::ENTRY_LAST => Self::Entry(Entry::split(&mut frame)?),
            kind => Self::decode_short(kind, from)?,
        })
    }

    /// The frames of a few fields.
    fn decode_short(kind: u8, from: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(match kind {
            kind::RULES => {
                Self::Rules { id: from.take()?, group: from.take()?, rules: from.take()? }
            }
            kind::IDENTITY => Self::Identity {
                id: from.take()?,
                name: from.take()?,
                administrator: from.take()?,
                expires_us: from.take()?,
            },
            kind::TOKEN => Self::Token {
                id: from.take()?,
                name: from.take()?,
                token: from.take()?,
                expires_us: from.take()?,
            },
            kind::RECEIPT => Self::Receipt { counter: from.take()?, receipt: from.take()? },
            kind::REFUSED => {
                Self::Refused { counter: from.take()?, code: from.take()?, message: from.take()? }
            }
            kind::PONG => Self::Pong { token: from.take()? },
            kind::GAP => Self::Gap { first: from.take()?, last: from.take()? },
            kind::RESET => {
                Self::Reset { log: from.take()?, epoch: from.take()?, next: from.take()? }
            }
            kind::HEARTBEAT => Self::Heartbeat { epoch: from.take()?, tail: from.take()? },
            kind::CLOSE => Self::Close { code: from.take()?, message: from.take()? },
            kind::ERROR => {
                Self::Error { id: from.take()?, code: from.take()?, message: from.take()? }
            }
            kind => Self::Other { kind },
        })
    }

    /// The entries of a HISTORY_PAGE's `entries`, in order; the first error ends them.
    pub fn history_entries(
        entries: Bytes,
    ) -> impl Iterator<Item = Result<Entry, entry::EntryError>> {
        entry::entries(entries)
    }
}
