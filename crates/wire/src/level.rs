//! How well something is stored, in one word.

use std::fmt;

/// What stored data survives; part of every receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// Nothing.
    Memory = 0,
    /// The death of the process.
    Os = 1,
    /// A power cut.
    Fsync = 2,
    /// The loss of a minority of the engine's servers.
    Replicated = 3,
}

impl Level {
    /// The word that people and programs see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Os => "os",
            Self::Fsync => "fsync",
            Self::Replicated => "replicated",
        }
    }

    /// The level of this code; `None` where there is none.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Memory),
            1 => Some(Self::Os),
            2 => Some(Self::Fsync),
            3 => Some(Self::Replicated),
            _ => None,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
