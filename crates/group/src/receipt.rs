//! The answer to a sender: who was asked for a message, and what became of it with each.

use crate::ids::{Epoch, Seq};

/// Why a member that was asked does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Connected, and has not answered.
    Pending,
    /// Not connected, for this many milliseconds.
    Away {
        /// How long.
        ms: u64,
    },
    /// Connected, but so far behind that it reads from the journal.
    Lagging,
    /// It will not do it.
    Failed {
        /// What its program said, such as `exit 7`.
        code: String,
    },
    /// It left the group without having confirmed.
    Left,
}

impl Why {
    /// The word that people and programs see.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Away { .. } => "away",
            Self::Lagging => "lagging",
            Self::Failed { .. } => "failed",
            Self::Left => "left",
        }
    }

    /// Whether the member can still answer.
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Pending | Self::Away { .. } | Self::Lagging)
    }
}

/// One member that does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Its name as shown.
    pub name: String,
    /// Why.
    pub why: Why,
}

/// What became of one message: the view at its number, each member as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The message's number.
    pub seq: Seq,
    /// The epoch in which it was stored.
    pub epoch: Epoch,
    /// How many were asked.
    pub members: u32,
    /// Whose program confirmed it.
    pub confirmed: u32,
    /// Whose host took it, where the program cannot be asked.
    pub reached: u32,
    /// The others, by name in the order of their names.
    pub missing: Vec<Missing>,
}

impl Receipt {
    /// Everybody who was asked confirmed it or was reached.
    pub const fn is_complete(&self) -> bool {
        self.confirmed + self.reached == self.members
    }

    /// Nobody can still answer.
    pub fn is_final(&self) -> bool {
        !self.missing.iter().any(|missing| missing.why.is_open())
    }
}

/// The same good answer for a run of messages: everybody who was asked counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompleteRun {
    /// The counter of the first message.
    pub counter: u64,
    /// The number of the first message.
    pub seq: Seq,
    /// How many messages; both counters and numbers rise by one.
    pub count: u32,
    /// How many were asked for each.
    pub members: u32,
    /// How many of them were only reached.
    pub reached: u32,
    /// The epoch of all of them.
    pub epoch: Epoch,
}
