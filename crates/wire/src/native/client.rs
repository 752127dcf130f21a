//! Frames from a client to a node.

use bytes::{Buf, BufMut, BytesMut};

use tertulia_group::limits::{CODE_BYTES_MAX, FAILED_PER_ACK_MAX, OPEN_MAX};
use tertulia_group::{Position, SenderId, Seq};

use super::field::{
    Item, Put, Reader, Take, begin_frame, end_frame, fields, flags, put_frame, record,
};
use super::{Credential, FrameError, GroupRules, MAGIC, Secret, is_tls, kind};
use crate::safe::cut;

/// A frame that a client sends. PUBLISH is not here: it is written with [`super::write_publish`] and taken in by
/// `tertulia_group::Run::split`, whole runs at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the fields are those of docs/protocol.md; `id` comes back in the answer"
)]
pub enum ClientFrame {
    /// The first frame.
    Hello(Hello),
    /// Where is the group coordinated?
    Locate { id: u32, group: String },
    /// Which group may this name join?
    Allocate { id: u32, name: String },
    /// A page of the groups after this name.
    Groups { id: u32, after: String, limit: u16 },
    /// Create a group; everybody may join it, unless the rules say otherwise.
    Create { id: u32, group: String, rules: Option<GroupRules> },
    /// Delete a group that has no members.
    Delete { id: u32, group: String },
    /// A page of a group's members after this name.
    Members { id: u32, group: String, after: String, limit: u16 },
    /// Remove a member by name.
    Remove { id: u32, group: String, name: String },
    /// A page of a group's log.
    History { id: u32, group: String, mode: HistoryMode, limit: u32 },
    /// The receipt of a message, when it is final or after `wait_ms`.
    Receipt { id: u32, group: String, seq: Seq, wait_ms: u32 },
    /// How is the node?
    Status { id: u32 },
    /// Who may join a group, and who may send to it?
    GetRules { id: u32, group: String },
    /// Change that.
    SetRules { id: u32, group: String, rules: GroupRules },
    /// Show a token: the connection is the account's from here on.
    Auth { id: u32, token: Credential },
    /// Make an account. The code is the node's set-up code, for the first administrator elsewhere than on the node's machine.
    Register { id: u32, name: String, password: Credential, code: Credential },
    /// Get a token for a password.
    Login { id: u32, name: String, password: Credential },
    /// Revoke the token that the connection has shown, and close what it opened.
    Logout { id: u32 },
    /// Change a password: the connection's account's, or, for administrators, that of the account `name`.
    Password { id: u32, name: String, old: Credential, new: Credential },
    /// Who is the connection?
    WhoAmI { id: u32 },
    /// Become a member, or come back as one.
    Join(Box<Join>),
    /// Become an outside sender.
    OpenSender(OpenSender),
    /// What the member's program has done.
    Ack(Ack),
    /// End the membership.
    Leave,
    /// Answered with PONG.
    Ping { token: u64 },
    /// A kind of a newer client: skip it.
    Other { kind: u8 },
}

record! {
    /// The first frame of a connection, without its magic.
    Hello {
        /// [`super::VERSION`].
        version: u16,
        /// No features are defined yet: 0.
        features: u16,
        /// Program and version, for the node's log.
        agent: String,
    }
}

/// Which part of a log is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryMode {
    /// The last `limit` entries.
    Last,
    /// The first `limit` entries after this number.
    After(Seq),
}

/// Where a member wants to begin reading, when it does not resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With what comes after the join.
    Now,
    /// With the first entry that is kept.
    First,
    /// With this number.
    Seq(Seq),
    /// With the last so many entries before the join.
    Last(u64),
}

/// Fields of JOIN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// Comes back in WELCOME or ERROR.
    pub id: u32,
    /// Stay a member, however long away.
    pub durable: bool,
    /// Tell by name who confirms.
    pub follow: bool,
    /// The group.
    pub group: String,
    /// The member's name.
    pub name: String,
    /// For its own messages and their retries.
    pub sender: SenderId,
    /// Where to begin; not looked at when the membership is resumed.
    pub start: Start,
    /// From an earlier WELCOME, to resume.
    pub secret: Option<Secret>,
    /// The last entry that its program has taken, with the log and epoch in which it came.
    pub position: Option<Position>,
}

/// Fields of OPEN_SENDER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSender {
    /// Comes back in SENDER_READY or ERROR.
    pub id: u32,
    /// This sender id has sent before: refuse with `SENDER_EXPIRED` if it is forgotten.
    pub known: bool,
    /// Tell by name who confirms.
    pub follow: bool,
    /// The group.
    pub group: String,
    /// The sender's name.
    pub name: String,
    /// For retries.
    pub sender: SenderId,
}

record! {
    /// What the program has done: everything up to the cursor, except the open and the failed.
    Ack {
        /// Cumulative.
        cursor: Seq,
        /// Still at work on these, all at or below the cursor; at most [`OPEN_MAX`]. Replaces the earlier list.
        open: Vec<Seq>,
        /// Will not do these; at most [`FAILED_PER_ACK_MAX`].
        failed: Vec<Failed>,
    }
}

/// One message that a member will not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Its number.
    pub seq: Seq,
    /// Why, such as `exit 7`: one clean line of at most [`CODE_BYTES_MAX`] bytes (longer ones are cut when written).
    pub code: String,
}

impl Put for Failed {
    fn put(&self, out: &mut BytesMut) {
        (self.seq, cut(&self.code, CODE_BYTES_MAX)).put(out);
    }
}

impl Take for Failed {
    fn take(from: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(Self { seq: from.take()?, code: from.take()? })
    }
}

impl Item for Failed {
    const COUNT_BYTES: usize = 1;
    const BYTES_MIN: usize = 10;
}

const JOIN_DURABLE: u8 = 1;
const JOIN_SECRET: u8 = 2;
const JOIN_POSITION: u8 = 4;
const JOIN_FOLLOW: u8 = 8;
const SENDER_KNOWN: u8 = 1;
const SENDER_FOLLOW: u8 = 2;
const CREATE_RULES: u8 = 1;

impl Put for HistoryMode {
    fn put(&self, out: &mut BytesMut) {
        match *self {
            Self::Last => (0u8, 0u64).put(out),
            Self::After(seq) => (1u8, seq).put(out),
        }
    }
}

impl Take for HistoryMode {
    fn take(from: &mut Reader<'_>) -> Result<Self, FrameError> {
        match (from.take::<u8>()?, from.take()?) {
            (0, _) => Ok(Self::Last),
            (1, seq) => Ok(Self::After(seq)),
            _ => Err(FrameError::Value("mode of history")),
        }
    }
}

impl Put for Start {
    fn put(&self, out: &mut BytesMut) {
        match *self {
            Self::Now => (0u8, 0u64).put(out),
            Self::First => (1u8, 0u64).put(out),
            Self::Seq(seq) => (2u8, seq).put(out),
            Self::Last(count) => (3u8, count).put(out),
        }
    }
}

impl Take for Start {
    fn take(from: &mut Reader<'_>) -> Result<Self, FrameError> {
        match (from.take::<u8>()?, from.take()?) {
            (0, _) => Ok(Self::Now),
            (1, _) => Ok(Self::First),
            (2, seq) => Ok(Self::Seq(seq)),
            (3, count) => Ok(Self::Last(count)),
            _ => Err(FrameError::Value("place to begin")),
        }
    }
}

impl Join {
    fn encode(&self, out: &mut BytesMut) {
        let flags = flags([
            (self.durable, JOIN_DURABLE),
            (self.secret.is_some(), JOIN_SECRET),
            (self.position.is_some(), JOIN_POSITION),
            (self.follow, JOIN_FOLLOW),
        ]);
        let start = begin_frame(out, kind::JOIN, flags);
        (self.id, &self.group, &self.name, self.sender, self.start).put(out);
        self.secret.iter().for_each(|secret| secret.put(out));
        self.position.iter().for_each(|position| position.put(out));
        end_frame(out, start);
    }

    fn decode(flags: u8, from: &mut Reader<'_>) -> Result<Self, FrameError> {
        let has = |flag| flags & flag != 0;
        Ok(Self {
            id: from.take()?,
            durable: has(JOIN_DURABLE),
            follow: has(JOIN_FOLLOW),
            group: from.take()?,
            name: from.take()?,
            sender: from.take()?,
            start: from.take()?,
            secret: if has(JOIN_SECRET) { Some(from.take()?) } else { None },
            position: if has(JOIN_POSITION) { Some(from.take()?) } else { None },
        })
    }
}

impl OpenSender {
    fn encode(&self, out: &mut BytesMut) {
        let flags = flags([(self.known, SENDER_KNOWN), (self.follow, SENDER_FOLLOW)]);
        put_frame(out, kind::OPEN_SENDER, flags, (self.id, &self.group, &self.name, self.sender));
    }

    fn decode(flags: u8, from: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(Self {
            id: from.take()?,
            known: flags & SENDER_KNOWN != 0,
            follow: flags & SENDER_FOLLOW != 0,
            group: from.take()?,
            name: from.take()?,
            sender: from.take()?,
        })
    }
}

impl Hello {
    /// Its first byte is never that of TLS: a frame whose length would begin so gets one zero byte more.
    fn encode(&self, out: &mut BytesMut) {
        let start = begin_frame(out, kind::HELLO, 0);
        (MAGIC, self).put(out);
        if is_tls((out.len() - start) as u8) {
            out.put_u8(0);
        }
        end_frame(out, start);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, FrameError> {
        if from.take::<[u8; 4]>()? != MAGIC {
            return Err(FrameError::Value("magic: this is not a Tertulia client"));
        }
        from.take()
    }
}

impl Ack {
    fn decode(from: &mut Reader<'_>) -> Result<Self, FrameError> {
        let ack: Self = from.take()?;
        if ack.open.len() > OPEN_MAX {
            return Err(FrameError::Value("count of open messages"));
        }
        if ack.failed.len() > FAILED_PER_ACK_MAX {
            return Err(FrameError::Value("count of failed messages"));
        }
        Ok(ack)
    }
}

impl ClientFrame {
    /// Appends the frame. Texts longer than [`super::STR_BYTES_MAX`] are cut.
    ///
    /// # Panics
    /// When an [`Ack`] has more open or failed messages than it may: a client that cut the list would confirm what it has not done.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Hello(hello) => hello.encode(out),
            Self::Locate { id, group } => put_frame(out, kind::LOCATE, 0, (id, group)),
            Self::Allocate { id, name } => put_frame(out, kind::ALLOCATE, 0, (id, name)),
            Self::Groups { id, after, limit } => {
                put_frame(out, kind::GROUPS, 0, (id, after, limit));
            }
            Self::Create { id, group, rules } => {
                let start =
                    begin_frame(out, kind::CREATE, flags([(rules.is_some(), CREATE_RULES)]));
                (id, group).put(out);
                rules.iter().for_each(|rules| rules.put(out));
                end_frame(out, start);
            }
            Self::Delete { id, group } => put_frame(out, kind::DELETE, 0, (id, group)),
            Self::Members { id, group, after, limit } => {
                put_frame(out, kind::MEMBERS, 0, (id, group, after, limit));
            }
            Self::Remove { id, group, name } => {
                put_frame(out, kind::REMOVE, 0, (id, group, name));
            }
            Self::History { id, group, mode, limit } => {
                put_frame(out, kind::HISTORY, 0, (id, group, mode, limit));
            }
            Self::Receipt { id, group, seq, wait_ms } => {
                put_frame(out, kind::GET_RECEIPT, 0, (id, group, seq, wait_ms));
            }
            Self::Status { id } => put_frame(out, kind::STATUS, 0, id),
            Self::GetRules { id, group } => put_frame(out, kind::GET_RULES, 0, (id, group)),
            Self::SetRules { id, group, rules } => {
                put_frame(out, kind::SET_RULES, 0, (id, group, rules));
            }
            Self::Auth { id, token } => put_frame(out, kind::AUTH, 0, (id, token)),
            Self::Register { id, name, password, code } => {
                put_frame(out, kind::REGISTER, 0, (id, name, password, code));
            }
            Self::Login { id, name, password } => {
                put_frame(out, kind::LOGIN, 0, (id, name, password));
            }
            Self::Logout { id } => put_frame(out, kind::LOGOUT, 0, id),
            Self::WhoAmI { id } => put_frame(out, kind::WHOAMI, 0, id),
            Self::Password { id, name, old, new } => {
                put_frame(out, kind::PASSWORD, 0, (id, name, old, new));
            }
            Self::Join(join) => join.encode(out),
            Self::OpenSender(open) => open.encode(out),
            Self::Ack(ack) => {
                assert!(ack.open.len() <= OPEN_MAX, "an ack with too many open messages");
                assert!(ack.failed.len() <= FAILED_PER_ACK_MAX, "an ack with too many failures");
                put_frame(out, kind::ACK, 0, ack);
            }
            Self::Leave => put_frame(out, kind::LEAVE, 0, ()),
            Self::Ping { token } => put_frame(out, kind::PING, 0, token),
            Self::Other { kind } => put_frame(out, *kind, 0, ()),
        }
    }

    /// Takes the control frame at the beginning of `buffer`, read where it stands: nothing is allocated for an acknowledgement that
    /// lists nothing. `None` as with [`super::split_from_client`].
    ///
    /// # Errors
    /// [`FrameError`]; close the connection with `BAD_FRAME`.
    pub fn take(buffer: &mut BytesMut) -> Result<Option<Self>, FrameError> {
        let Some(len) = super::whole_from_client(buffer)? else { return Ok(None) };
        let frame = Self::decode(&buffer[..len]);
        buffer.advance(len);
        frame.map(Some)
    }

    /// Reads one whole frame, as [`super::split_from_client`] gives it.
    ///
    /// # Errors
    /// [`FrameError`]; close the connection with `BAD_FRAME`.
    pub fn decode(frame: &[u8]) -> Result<Self, FrameError> {
        let (kind, flags, mut from) = Reader::open(frame)?;
        let from = &mut from;
        Ok(match kind {
            kind::HELLO => Self::Hello(Hello::decode(from)?),
            kind::LOCATE => Self::Locate { id: from.take()?, group: from.take()? },
            kind::ALLOCATE => Self::Allocate { id: from.take()?, name: from.take()? },
            kind::GROUPS => {
                Self::Groups { id: from.take()?, after: from.take()?, limit: from.take()? }
            }
            kind::CREATE => Self::Create {
                id: from.take()?,
                group: from.take()?,
                rules: if flags & CREATE_RULES != 0 { Some(from.take()?) } else { None },
            },
            kind::DELETE => Self::Delete { id: from.take()?, group: from.take()? },
            kind::MEMBERS => Self::Members {
                id: from.take()?,
                group: from.take()?,
                after: from.take()?,
                limit: from.take()?,
            },
            kind::REMOVE => {
                Self::Remove { id: from.take()?, group: from.take()?, name: from.take()? }
            }
            kind::HISTORY => Self::History {
                id: from.take()?,
                group: from.take()?,
                mode: from.take()?,
                limit: from.take()?,
            },
            kind::GET_RECEIPT => Self::Receipt {
                id: from.take()?,
                group: from.take()?,
                seq: from.take()?,
                wait_ms: from.take()?,
            },
            kind::STATUS => Self::Status { id: from.take()? },
            kind::GET_RULES => Self::GetRules { id: from.take()?, group: from.take()? },
            kind::SET_RULES => {
                Self::SetRules { id: from.take()?, group: from.take()?, rules: from.take()? }
            }
            kind::AUTH..=kind::PASSWORD => Self::decode_account(kind, from)?,
            kind::JOIN => Self::Join(Box::new(Join::decode(flags, from)?)),
            kind::OPEN_SENDER => Self::OpenSender(OpenSender::decode(flags, from)?),
            kind::ACK => Self::Ack(Ack::decode(from)?),
            kind::LEAVE => Self::Leave,
            kind::PING => Self::Ping { token: from.take()? },
            kind::PUBLISH => return Err(FrameError::Kind(kind)),
            kind => Self::Other { kind },
        })
    }
    /// The frames about accounts.
    fn decode_account(kind: u8, from: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(match kind {
            kind::AUTH => Self::Auth { id: from.take()?, token: from.take()? },
            kind::REGISTER => Self::Register {
                id: from.take()?,
                name: from.take()?,
                password: from.take()?,
                code: from.take()?,
            },
            kind::LOGIN => {
                Self::Login { id: from.take()?, name: from.take()?, password: from.take()? }
            }
            kind::LOGOUT => Self::Logout { id: from.take()? },
            kind::WHOAMI => Self::WhoAmI { id: from.take()? },
            kind::PASSWORD => Self::Password {
                id: from.take()?,
                name: from.take()?,
                old: from.take()?,
                new: from.take()?,
            },
            kind => Self::Other { kind },
        })
    }
}
