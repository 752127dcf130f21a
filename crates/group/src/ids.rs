//! The small types that everything else is written in: positions, connections, senders, secrets, time.

use std::collections::HashMap;
use std::fmt;

/// A number in a group's total order. The first entry of a log is 1; 0 means "before everything".
pub type Seq = u64;

/// Rises with every start of a coordinator; the first is 1.
pub type Epoch = u32;

/// One connection, for as long as the coordinator runs; given by the driver, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// One stay of a member in a group: the number of its `joined` entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub Seq);

/// By a number that the node has given. Looked at for each acknowledgement, where half of the work was the standard hasher's; what
/// comes from outside (names, sender ids) keeps that.
pub(crate) type ById<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Chosen at random by a sender; whoever knows it can retry in its name, so members never see it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SenderId(pub [u8; 16]);

impl fmt::Debug for SenderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SenderId({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

/// The digest of a resume secret; the secret itself is never kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretDigest(pub [u8; 32]);

impl fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretDigest(…)")
    }
}

/// Names a log for ever; two logs of one group name differ in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub [u8; 16]);

/// A place in a log that is still meaningful after a crash or a fail-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Which log.
    pub log: LogId,
    /// The epoch in which the entry was delivered.
    pub epoch: Epoch,
    /// The entry's number.
    pub seq: Seq,
}

/// The time, as the driver sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// A clock that never goes back, in milliseconds.
    pub mono_ms: u64,
    /// The wall clock in microseconds since the Unix epoch; may jump.
    pub wall_us: u64,
}

/// Through which door a member came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Door {
    /// The native door: its program confirms.
    Native = 0,
    /// The line door: the host's TCP answers until the program does.
    Line = 1,
    /// A browser.
    Web = 2,
}

impl Door {
    /// The word that people and programs see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Line => "line",
            Self::Web => "web",
        }
    }

    /// The door of this code; `None` where there is none.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Native),
            1 => Some(Self::Line),
            2 => Some(Self::Web),
            _ => None,
        }
    }
}

/// Why a member left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum LeaveReason {
    /// It said so.
    Exit = 0,
    /// Its connection ended and it did not come back within its grace.
    Lost = 1,
    /// Somebody removed it by name.
    Removed = 2,
    /// A durable member that was away past what the log keeps.
    Expired = 3,
}

impl LeaveReason {
    /// The word that people and programs see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Lost => "lost",
            Self::Removed => "removed",
            Self::Expired => "expired",
        }
    }

    /// The reason of this code; `None` where there is none.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Exit),
            1 => Some(Self::Lost),
            2 => Some(Self::Removed),
            3 => Some(Self::Expired),
            _ => None,
        }
    }
}
