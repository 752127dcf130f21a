//! The line door's language: lines in, commands out, and every line that the door may write.

mod command;
mod split;
mod write;

pub use command::{Command, HISTORY_DEFAULT, LineCode, Refusal, VERBS, parse};
pub use split::{Line, LineSplitter};
pub use write::{
    ack, entry, err, exit, gap, groups, help, history_end, joined, left, msg, note, ok_join,
    ok_msg, ok_pass, old, ping, reset, told_file, who,
};

/// Longest line in bytes: without its end when it is read, with it when it is written.
pub const LINE_BYTES_MAX: usize = 8 << 10;
/// The group of those who name none.
pub const GROUP_DEFAULT: &str = "lobby";
