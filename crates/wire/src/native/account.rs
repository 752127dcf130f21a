//! Accounts and groups' rules, as frames carry them.

use std::fmt;

use bytes::BytesMut;

use super::FrameError;
use super::field::{Item, Put, Reader, Take, coded, fields, record, wrapped};

/// A password, a token or a set-up code. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential(pub String);

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(…)")
    }
}

/// Who may do something in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Audience {
    /// Everybody that the node takes.
    Open = 0,
    /// Who is logged in.
    Members = 1,
    /// The group's owner, and who is listed.
    Private = 2,
}

impl Audience {
    /// The word that people and programs see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Members => "members",
            Self::Private => "private",
        }
    }

    /// The audience of this word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Open, Self::Members, Self::Private].into_iter().find(|one| one.as_str() == text)
    }

    /// The audience of this code; `None` where there is none.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Open),
            1 => Some(Self::Members),
            2 => Some(Self::Private),
            _ => None,
        }
    }
}

coded! {
    Audience, "audience";
}
wrapped!(Credential);

/// Names of a list.
impl Item for String {
    const COUNT_BYTES: usize = 2;
    const BYTES_MIN: usize = 2;
}

record! {
    /// Who may join a group, and who may send to it. Who may join may send.
    GroupRules {
        /// Who owns it; empty: nobody. From a client, empty: as it is.
        owner: String,
        /// Who may join.
        join: Audience,
        /// Who may send.
        send: Audience,
        /// Who may join where that is private.
        may_join: Vec<String>,
        /// Who may send where that is private.
        may_send: Vec<String>,
    }
}

impl GroupRules {
    /// Everybody may join and send.
    pub const fn open() -> Self {
        let (join, send) = (Audience::Open, Audience::Open);
        Self { owner: String::new(), join, send, may_join: Vec::new(), may_send: Vec::new() }
    }
}
