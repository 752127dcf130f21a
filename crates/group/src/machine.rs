//! The whole machine as two enums: what can happen to a group ([`Input`]) and what it answers ([`Output`]).

use bytes::{Bytes, BytesMut};

use crate::entry::Run;
use crate::ids::{
    ConnId, Door, Epoch, Incarnation, LeaveReason, LogId, Position, SecretDigest, SenderId, Seq,
};
use crate::name::Name;
use crate::receipt::{CompleteRun, Receipt};

/// What can happen to a group.
#[derive(Debug)]
pub enum Input {
    /// A connection wants to be a member, a new one or one that comes back.
    Join(ConnId, Box<Join>),
    /// A connection wants to send from outside.
    OpenSender(ConnId, OpenSender),
    /// Messages of a connection that is a member or an open sender.
    Publish(ConnId, Run),
    /// A member's program has moved on. The door has checked that the connection was sent that far.
    Ack(ConnId, Ack),
    /// The host of a member has taken everything up to this number.
    Reached(ConnId, Seq),
    /// The connection reads from the journal (`true`), or from memory again.
    Lagging(ConnId, bool),
    /// A member wants to leave.
    Leave(ConnId),
    /// A connection is gone.
    Closed(ConnId),
    /// Somebody removes a member by name.
    Remove(Ticket, Name),
    /// Somebody waits until the receipt of a message is final. `publisher` is the message's, see [`crate::Header::publisher`].
    Await(Ticket, Seq, Option<Incarnation>),
    /// Whoever held the ticket does not wait any more.
    Forget(Ticket),
    /// Somebody looks on: wants each message's receipt once it is final. With it come messages that are stored already and
    /// whose receipts are to be told too, with their publishers; the driver bounds them.
    Watch(Vec<(Seq, Option<Incarnation>)>),
    /// Nobody looks on any more.
    Unwatch,
    /// The batch that was taken last is stored.
    Stored,
    /// The batch that was taken last is not stored and will not be; the store goes on.
    NotStored,
    /// The node is about to end: the next batch is to carry every cursor that moved.
    Checkpoint,
    /// The connection has taken the receipts that it was given, and may be given more: the answer to [`Output::Paused`].
    Taken(ConnId),
    /// Numbers below this one are no longer kept.
    Trimmed(Seq),
    /// Time has passed; see [`crate::Group::deadline_ms`].
    Tick,
}

/// A question of somebody who is no member; given by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Where a member begins to read. Its duty begins at its join all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// After its own `joined` entry.
    Now,
    /// With the first number that is kept.
    First,
    /// With this number.
    At(Seq),
    /// After this position; a place in another log, or beyond the end of its epoch, is put right and told.
    After(Position),
}

/// What a connection says to become a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// Under this name.
    pub name: Name,
    /// Through this door.
    pub door: Door,
    /// Stay a member however long it is away.
    pub durable: bool,
    /// For what it publishes.
    pub sender: SenderId,
    /// Digest of the secret of its earlier stay, where it has one.
    pub shown: Option<SecretDigest>,
    /// Digest of the secret that it gets if this is a new stay.
    pub fresh: SecretDigest,
    /// Where it begins to read; of one that comes back only a position is looked at.
    pub from: From,
    /// Wants to be told each confirmation by name.
    pub follow: bool,
}

/// What a connection says to send from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSender {
    /// Shown with a `~`.
    pub name: Name,
    /// Its id.
    pub id: SenderId,
    /// It has sent under this id before, so that not knowing it must be said.
    pub known: bool,
    /// Wants to be told each confirmation by name.
    pub follow: bool,
}

/// How far a member's program is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    /// It has finished with every number up to here, apart from `open` and what failed.
    pub cursor: Seq,
    /// All that it is still at work on up to `cursor`; replaces what it said before.
    pub open: Vec<Seq>,
    /// What it will not do, with a code.
    pub failed: Vec<(Seq, String)>,
}

/// Why something was refused; each door has its own words for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A member has this name, or one that looks like it.
    #[error("the name is in use here; take another one")]
    NameTaken,
    /// See [`crate::Limits::members_max`].
    #[error("the group is full")]
    GroupFull,
    /// The frame's name is not the connection's.
    #[error("a message carries the name that its connection was given")]
    WrongName,
    /// See [`crate::Limits::message_bytes_max`].
    #[error("the message is too long")]
    TooLong,
    /// More is waiting to be stored than may.
    #[error("too much is waiting to be stored; send it again")]
    Busy,
    /// The outcome of the message is unknown: it is too long ago.
    #[error("this sender has been forgotten; whether the message was stored is unknown")]
    SenderExpired,
    /// A counter that went back to one that was never appended.
    #[error("counters rise strictly")]
    CounterSkipped,
    /// An earlier one was refused.
    #[error("an earlier message was refused and has to come first")]
    AfterRefused,
    /// Beyond the end of the log, too many open, or a code that is not one clean line.
    #[error("the acknowledgement is not possible")]
    BadAck,
    /// Not a member, or not an open sender.
    #[error("join first")]
    NotJoined,
    /// The connection is a member or sender already.
    #[error("this connection has joined already")]
    AlreadyJoined,
    /// The store has no room.
    #[error("the store has no room; nothing of it was stored")]
    NoSpace,
    /// Another connection showed the membership's secret.
    #[error("another connection has taken this membership over")]
    Replaced,
}

/// What a member is told when it is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The stay that was there before goes on; its secret stays.
    pub resumed: bool,
    /// The given position was beyond the end of its epoch, or in another log.
    pub moved: Option<Moved>,
    /// Its name as it is shown.
    pub name: Name,
    /// The stay.
    pub key: Incarnation,
    /// The first number that it is to be sent; where that is no longer kept, the door says what is gone.
    pub next: Seq,
    /// The log's last number.
    pub tail: Seq,
    /// Members, this one included.
    pub members: u32,
    /// The last counter of its sender id; 0 when there is none.
    pub last_counter: u64,
    /// It has confirmed up to here, apart from `open`.
    pub acked: Seq,
    /// What it was at work on and is to be sent again.
    pub open: Vec<Seq>,
}

/// How a position that somebody brought along had to be put right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// It is a place in another log.
    OtherLog,
    /// It lies beyond what became of its epoch.
    CutBack,
}

/// What an outside sender is told when it may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SenderReady {
    /// Its name as it is shown.
    pub name: Name,
    /// The log's last number.
    pub tail: Seq,
    /// Members now.
    pub members: u32,
    /// The last counter of its id that was taken; 0 when there is none.
    pub last_counter: u64,
}

/// Messages that are stored; counters and numbers rise by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredRun {
    /// Counter of the first.
    pub counter: u64,
    /// Number of the first.
    pub seq: Seq,
    /// How many.
    pub count: u32,
}

/// Somebody's cursor, for those who follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmation {
    /// Whose.
    pub name: Name,
    /// Where it is now.
    pub cursor: Seq,
    /// Its host only; the program was not asked.
    pub reached: bool,
}

/// What a group answers. Everything in it is stored at the journal's level, or reveals nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The connection is a member now.
    Welcome(ConnId, Box<Welcome>),
    /// The connection may send now.
    SenderReady(ConnId, Box<SenderReady>),
    /// A join or opening was refused; the connection may try again.
    Refused(ConnId, Refusal),
    /// A message was refused: nothing is known to be stored of it, except where it says `SenderExpired`.
    MessageRefused(ConnId, u64, Refusal),
    /// Messages are stored.
    Stored(ConnId, StoredRun),
    /// A message that was taken before, under the same sender id and counter, is stored: its number. Whether it says the same is not
    /// known.
    Again(ConnId, StoredRun),
    /// Everybody who was asked has answered for all of these.
    Complete(ConnId, CompleteRun),
    /// The receipt of the message with this counter: final, or as it stands when it is not waited for any more.
    Receipt(ConnId, u64, Receipt),
    /// The connection was given as many receipts as may wait for it ([`crate::Limits::receipts_weight_max`]). More come after
    /// [`Input::Taken`], which the driver says when most of them are written.
    Paused(ConnId),
    /// For whoever looks on: the receipts of all of these are final, and everybody has answered. `counter` says nothing.
    WatchedComplete(CompleteRun),
    /// For whoever looks on: the receipt of a message, which is final.
    Watched(Receipt),
    /// Cursors that moved since the last time, for a connection that follows.
    Confirmed(ConnId, Vec<Confirmation>),
    /// The member has left; nothing more comes.
    Gone(ConnId, LeaveReason),
    /// The connection must be closed, for this reason.
    Close(ConnId, Refusal),
    /// The member is on its way out (`true`), or there is none of that name.
    Removed(Ticket, bool),
    /// The receipt that was waited for; `None` when it cannot be given any more.
    Awaited(Ticket, Option<Receipt>),
    /// The view changed, for whoever keeps a list.
    Joined(Name, Door),
    /// The view changed, for whoever keeps a list.
    Left(Name, LeaveReason),
}

/// What is to be appended, in one piece.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The coordinator's epoch.
    pub epoch: Epoch,
    /// Number of the first entry.
    pub first: Seq,
    /// How many entries.
    pub count: u32,
    /// Wall clock.
    pub time_us: u64,
    /// For recovery only; never to be delivered.
    pub notes: Bytes,
    /// The entries' bytes.
    pub entries: Vec<Bytes>,
}

/// Which log this is, for whoever opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The log.
    pub log: LogId,
    /// The coordinator's epoch; 0 until it has taken over.
    pub epoch: Epoch,
}

/// A batch that is being filled.
#[derive(Debug, Default)]
pub(crate) struct Building {
    pub first: Seq,
    pub count: u32,
    pub notes: BytesMut,
    /// Those of the notes that say what failed, for the case that the batch cannot be stored.
    pub failures: BytesMut,
    pub pieces: Vec<Bytes>,
    /// Bytes of its messages.
    pub bytes: usize,
    /// What is small is copied here, so that the log's bytes are long contiguous pieces.
    pub small: BytesMut,
    pub effects: Vec<crate::effect::Effect>,
}

impl Building {
    /// Closes the piece that small runs are copied to.
    pub fn seal(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push(self.small.split().freeze());
        }
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.notes.is_empty() && self.effects.is_empty()
    }
}
