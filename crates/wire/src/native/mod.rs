//! Binary frames of the native door: framing here, one enum for each direction beside it.

mod account;
mod client;
mod code;
mod field;
mod node;

pub use account::{Audience, Credential, GroupRules};
pub use client::{Ack, ClientFrame, Failed, Hello, HistoryMode, Join, OpenSender, Start};
pub use code::Code;
pub use node::{
    Confirmed, Greeting, GroupItem, How, MemberItem, NodeFrame, Presence, SenderReady, StatusReply,
    Welcome,
};
pub use tertulia_group::entry::write_publish;
pub use tertulia_group::{CompleteRun, StoredRun};

use std::fmt;

use bytes::{Bytes, BytesMut};
use tertulia_group::Kind;
use tertulia_group::entry::{EntryError, HEADER_BYTES};
use tertulia_group::limits::NAME_BYTES_MAX;

/// The protocol's version, in HELLO and GREETING.
pub const VERSION: u16 = 1;
/// In GREETING's features: the node takes PUBLISH with flag 8, which tells a file. One without it would take it for a message.
pub const FEATURE_FILES: u16 = 1;
/// The first bytes of HELLO after its header.
pub const MAGIC: [u8; 4] = *b"TRTL";
/// Bytes of a control frame's header: length, kind, flags and two zero bytes.
pub const FRAME_HEADER_BYTES: usize = 8;
/// Longest control frame from a client; a longer one is answered with CLOSE `BAD_FRAME`.
pub const CLIENT_FRAME_BYTES_MAX: usize = 64 << 10;
/// Longest control frame from a node.
pub const NODE_FRAME_BYTES_MAX: usize = 4 << 20;
/// Entries' bytes in one HISTORY_PAGE, unless a single entry is longer.
pub const HISTORY_BYTES_MAX: usize = NODE_FRAME_BYTES_MAX - (64 << 10);
/// Longest text that a writer puts in a frame; longer ones are cut, at a character.
pub const STR_BYTES_MAX: usize = 4 << 10;
/// Runs or confirmations in one frame; more go into the next.
pub const RUNS_PER_FRAME_MAX: usize = 16 << 10;
/// The longest list of a frame, in bytes, so that frame stays within [`NODE_FRAME_BYTES_MAX`].
const LIST_BYTES_MAX: usize = NODE_FRAME_BYTES_MAX - (64 << 10);

/// The codes of frames, as in `docs/protocol.md`.
pub mod kind {
    /// A frame's code, by its name in `docs/protocol.md`.
    macro_rules! kinds {
        ($($name:ident = $code:literal)*) => {
            $(#[doc = concat!("`", stringify!($name), "`")] pub const $name: u8 = $code;)*
        };
        ($(#[$doc:meta])* $all:ident: $($name:ident = $code:literal)*) => {
            kinds!($($name = $code)*);
            $(#[$doc])*
            pub const $all: &[(&str, u8)] = &[$((stringify!($name), $name)),*];
        };
    }
    kinds! {
        /// Every frame of a client, by name.
        CLIENT:
        HELLO = 0x01 LOCATE = 0x02 ALLOCATE = 0x03 GROUPS = 0x04 CREATE = 0x05 DELETE = 0x06
        MEMBERS = 0x07 REMOVE = 0x08 HISTORY = 0x09 GET_RECEIPT = 0x0A STATUS = 0x0B
        GET_RULES = 0x0C SET_RULES = 0x0D
        JOIN = 0x10 OPEN_SENDER = 0x11 ACK = 0x12 LEAVE = 0x13 PING = 0x14
        AUTH = 0x15 REGISTER = 0x16 LOGIN = 0x17 LOGOUT = 0x18 WHOAMI = 0x19
        PASSWORD = 0x1A PUBLISH = 0x20
    }
    kinds! {
        GREETING = 0x81 LOCATED = 0x82 GROUPS_PAGE = 0x84 DONE = 0x85 MEMBERS_PAGE = 0x87
        HISTORY_PAGE = 0x89 RECEIPT_REPLY = 0x8A STATUS_REPLY = 0x8B
        RULES = 0x8C IDENTITY = 0x8D TOKEN = 0x8E
        WELCOME = 0x90 SENDER_READY = 0x91 STORED = 0x92 COMPLETE = 0x93 RECEIPT = 0x94
        REFUSED = 0x95 PONG = 0x96 CONFIRMED = 0x97 GAP = 0x98 RESET = 0x99 HEARTBEAT = 0x9A
        CLOSE = 0x9E ERROR = 0x9F ENTRY_FIRST = 0xA0 ENTRY_LAST = 0xA4
    }
}

/// Why bytes are not a frame. The connection cannot go on: what follows cannot be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length field is below the header's, or is not the frame's.
    #[error("a frame cannot be {0} bytes long")]
    Length(u32),
    /// Longer than allowed.
    #[error("a frame of {len} bytes, at most {max} are taken")]
    TooLong {
        /// What the frame says.
        len: u32,
        /// What is allowed.
        max: usize,
    },
    /// Ends within a field.
    #[error("a frame of kind {0:#04x} is cut short")]
    Short(u8),
    /// A text that is not UTF-8.
    #[error("a text in a frame is not UTF-8")]
    Text,
    /// A field with a value that it cannot have.
    #[error("a frame has a bad {0}")]
    Value(&'static str),
    /// A kind that may not stand here.
    #[error("a frame of kind {0:#04x} may not come here")]
    Kind(u8),
    /// Not a log entry.
    #[error("a bad entry: {0}")]
    Entry(#[from] EntryError),
}

/// What a member shows to take over its membership. Never printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A node's store: made by chance when it begins, the same as long as it lives. Shown in hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Instance(pub [u8; 16]);

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Splits one whole frame of any kind off the beginning of `buffer`; `None` while it is not there whole.
///
/// # Errors
/// [`FrameError`] when the length is below the header's or above `max`, before anything is allocated for it.
pub fn split(buffer: &mut BytesMut, max: usize) -> Result<Option<Bytes>, FrameError> {
    Ok(whole(buffer, max)?.map(|len| buffer.split_to(len).freeze()))
}

/// The length of the whole frame at the beginning of `buffer`.
fn whole(buffer: &[u8], max: usize) -> Result<Option<usize>, FrameError> {
    let Some(len) = peek_len(buffer) else { return Ok(None) };
    if (len as usize) < FRAME_HEADER_BYTES {
        return Err(FrameError::Length(len));
    }
    if len as usize > max {
        return Err(FrameError::TooLong { len, max });
    }
    Ok(Some(len as usize).filter(|len| buffer.len() >= *len))
}

/// The node's splitter: one control frame; `None` also where a PUBLISH stands, which `Run::split` takes.
///
/// # Errors
/// As [`split`], with [`CLIENT_FRAME_BYTES_MAX`].
pub fn split_from_client(buffer: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
    Ok(whole_from_client(buffer)?.map(|len| buffer.split_to(len).freeze()))
}

/// The length of what [`split_from_client`] would split off.
fn whole_from_client(buffer: &[u8]) -> Result<Option<usize>, FrameError> {
    match buffer.get(4) {
        None => match peek_len(buffer) {
            Some(len) if (len as usize) < FRAME_HEADER_BYTES => Err(FrameError::Length(len)),
            _ => Ok(None),
        },
        Some(&kind) if kind == Kind::Publish as u8 => Ok(None),
        Some(_) => whole(buffer, CLIENT_FRAME_BYTES_MAX),
    }
}

/// The client's splitter: one frame, control or entry; `message_bytes_max` is the GREETING's.
///
/// # Errors
/// As [`split`].
pub fn split_from_node(
    buffer: &mut BytesMut,
    message_bytes_max: u32,
) -> Result<Option<Bytes>, FrameError> {
    // An entry, or a page of history that holds one entry.
    let entry = message_bytes_max as usize + HEADER_BYTES + NAME_BYTES_MAX + (4 << 10);
    split(buffer, entry.max(NODE_FRAME_BYTES_MAX))
}

/// Whether a connection that begins with this byte wants TLS; no HELLO begins with it.
pub const fn is_tls(first_byte: u8) -> bool {
    first_byte == 0x16
}

fn peek_len(buffer: &[u8]) -> Option<u32> {
    buffer.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes))
}
