//! Pure codecs: native frames, the line protocol, JSON forms and people's text. No sockets, clock or randomness.
//!
//! What stands here byte by byte is described in `docs/protocol.md`; `tests/golden.txt` holds it fast.

pub mod file;
mod fingerprint;
pub mod json;
mod level;
pub mod line;
pub mod native;
pub mod safe;
pub mod sharing;
pub mod text;
pub mod time;

pub use fingerprint::{Fingerprint, NotAFingerprint};
pub use level::Level;
pub use native::{ClientFrame, Code, FrameError, Instance, NodeFrame, Secret};

use std::borrow::Cow;

use tertulia_group::Entry;
use tertulia_group::entry::FLAG_OUTSIDE;

/// Port of the native door.
pub const NATIVE_PORT: u16 = 5001;
/// Port of the line door.
pub const LINE_PORT: u16 = 5000;
/// Port of the HTTP door.
pub const HTTP_PORT: u16 = 5080;

/// The name to show for an entry: an outside sender's as `~name`, so that nobody takes it for a member.
pub fn shown_name(entry: &Entry) -> Cow<'_, str> {
    if entry.header.flags & FLAG_OUTSIDE == 0 {
        Cow::Borrowed(entry.name())
    } else {
        Cow::Owned(format!("~{}", entry.name()))
    }
}
