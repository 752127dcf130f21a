//! Every line that the door may write. Each is at most [`LINE_BYTES_MAX`] bytes with its end, and nothing unchecked goes out.

use std::fmt::{self, Write as _};

use bytes::BytesMut;

use tertulia_group::entry::LeftBody;
use tertulia_group::limits::FILE_NAME_BYTES_MAX;
use tertulia_group::{Entry, Kind, LeaveReason, Seq};

use super::{LINE_BYTES_MAX, Refusal};
use crate::file::FileBody;
use crate::safe::{cut, is_clean, make_safe, make_safe_bytes};
use crate::shown_name;

/// Bytes of a `DATA` line's beginning of its text.
const DATA_SHOWN_BYTES_MAX: usize = 256;

const HELP: &[&str] = &[
    "JOIN <name> [<group> [<after>]]  become a member (group: lobby); after: what was missed comes first",
    "MSG <text>     send to everybody in the group",
    "ACK <seq>      confirm everything up to this number",
    "WHO            who is in the group",
    "GROUPS         which groups there are",
    "HISTORY [<n>]  the last n messages",
    "PASS <password> or TOKEN <token>  before JOIN, for a registered name",
    "PING [<x>]     is answered",
    "EXIT           leave",
];

/// Appends one line: made safe where it is not clean, cut where it is too long.
fn put(out: &mut BytesMut, line: fmt::Arguments<'_>) {
    let start = out.len();
    // Writing to memory cannot fail.
    let _ = out.write_fmt(line);
    let written = std::str::from_utf8(&out[start..]).unwrap_or_default();
    if written.len() >= LINE_BYTES_MAX || !is_clean(written) {
        let safe = make_safe(written, LINE_BYTES_MAX - 1).into_owned();
        out.truncate(start);
        out.extend_from_slice(safe.as_bytes());
    }
    out.extend_from_slice(b"\n");
}

/// `OK JOIN <name> <group> <seq> <members>`
pub fn ok_join(out: &mut BytesMut, name: &str, group: &str, seq: Seq, members: u32) {
    put(out, format_args!("OK JOIN {name} {group} {seq} {members}"));
}

/// `OK MSG <seq>`
pub fn ok_msg(out: &mut BytesMut, seq: Seq) {
    put(out, format_args!("OK MSG {seq}"));
}

/// `JOINED <seq> <name>`
pub fn joined(out: &mut BytesMut, seq: Seq, name: &str) {
    put(out, format_args!("JOINED {seq} {name}"));
}

/// `LEFT <seq> <name> <why>`
pub fn left(out: &mut BytesMut, seq: Seq, name: &str, why: LeaveReason) {
    put(out, format_args!("LEFT {seq} {name} {}", why.as_str()));
}

/// `MSG <seq> <name> <text>`, or `DATA` where the text is not one clean line that fits. `name` as [`shown_name`] gives it.
pub fn msg(out: &mut BytesMut, seq: Seq, name: &str, text: &[u8]) {
    message(out, "MSG", seq, name, text);
}

/// `OLD <seq> <name> <text>`, or `DATA` as with [`msg`].
pub fn old(out: &mut BytesMut, seq: Seq, name: &str, text: &[u8]) {
    message(out, "OLD", seq, name, text);
}

fn message(out: &mut BytesMut, verb: &str, seq: Seq, name: &str, text: &[u8]) {
    let start = out.len();
    if let Ok(text) = std::str::from_utf8(text)
        && text.len() < LINE_BYTES_MAX
        && is_clean(text)
    {
        let _ = write!(out, "{verb} {seq} {name} {text}");
        if out.len() - start < LINE_BYTES_MAX && is_clean(name) {
            out.extend_from_slice(b"\n");
            return;
        }
        out.truncate(start);
    }
    let shown = make_safe_bytes(text, DATA_SHOWN_BYTES_MAX);
    put(out, format_args!("DATA {seq} {name} {} {shown}", text.len()));
}

/// `FILE <seq> <name> <size> <hash> <file name>`
pub fn told_file(out: &mut BytesMut, seq: Seq, name: &str, file: &FileBody) {
    let (hash, file_name) = (file.hash_hex(), make_safe(&file.name, FILE_NAME_BYTES_MAX));
    put(out, format_args!("FILE {seq} {name} {} {hash} {file_name}", file.size));
}

/// The line for any entry: `OLD` instead of `MSG` where `is_old`. Whether there is one: internal entries, and such with a body
/// that cannot be read, have none.
pub fn entry(out: &mut BytesMut, entry: &Entry, is_old: bool) -> bool {
    let (seq, name) = (entry.header.seq, shown_name(entry));
    match entry.header.kind {
        Kind::Message => {
            message(out, if is_old { "OLD" } else { "MSG" }, seq, &name, &entry.body());
        }
        Kind::Joined => joined(out, seq, &name),
        Kind::Left => match LeftBody::read(&entry.body()) {
            Ok(body) => left(out, seq, &name, body.reason),
            Err(_) => return false,
        },
        Kind::File => match FileBody::read(&entry.body()) {
            Ok(file) => told_file(out, seq, &name, &file),
            Err(_) => return false,
        },
        Kind::Epoch | Kind::Publish => return false,
    }
    true
}

/// `ACK <seq> <n>/<m>`, and ` missing=a,b` where somebody is; names that do not fit are counted (`,+12`).
pub fn ack<'a>(
    out: &mut BytesMut,
    seq: Seq,
    count: u32,
    members: u32,
    missing: impl IntoIterator<Item = &'a str>,
) {
    let mut line = format!("ACK {seq} {count}/{members}");
    let mut names = missing.into_iter().peekable();
    if names.peek().is_some() {
        line.push_str(" missing=");
    }
    let mut separator = "";
    // Room for `,+` and a number of any size.
    while let Some(name) = names.next_if(|name| line.len() + name.len() + 24 < LINE_BYTES_MAX) {
        line.push_str(separator);
        line.push_str(name);
        separator = ",";
    }
    let rest = names.count();
    if rest > 0 {
        let _ = write!(line, "{separator}+{rest}");
    }
    put(out, format_args!("{line}"));
}

/// `GAP <first> <last>`
pub fn gap(out: &mut BytesMut, first: Seq, last: Seq) {
    put(out, format_args!("GAP {first} {last}"));
}

/// `RESET <seq>`
pub fn reset(out: &mut BytesMut, seq: Seq) {
    put(out, format_args!("RESET {seq}"));
}

/// `OK WHO <name> …`, with `* WHO …` lines before it where that does not fit.
pub fn who<'a>(out: &mut BytesMut, names: impl IntoIterator<Item = &'a str>) {
    names_line(out, "WHO", names);
}

/// `OK GROUPS <name> …`, with `* GROUPS …` lines before it where that does not fit.
pub fn groups<'a>(out: &mut BytesMut, names: impl IntoIterator<Item = &'a str>) {
    names_line(out, "GROUPS", names);
}

fn names_line<'a>(out: &mut BytesMut, verb: &str, names: impl IntoIterator<Item = &'a str>) {
    let room = LINE_BYTES_MAX - "OK ".len() - verb.len() - 1;
    let (mut list, mut is_long) = (String::new(), false);
    for name in names {
        // A name is far shorter; this keeps anything else from making a line too long.
        let name = cut(name, room / 2);
        if list.len() + 1 + name.len() > room {
            put(out, format_args!("* {verb}{list}"));
            list.clear();
            is_long = true;
        }
        list.push(' ');
        list.push_str(name);
    }
    if is_long {
        put(out, format_args!("* {verb}{list}"));
        list.clear();
    }
    put(out, format_args!("OK {verb}{list}"));
}

/// `OK HISTORY <count>`
pub fn history_end(out: &mut BytesMut, count: u64) {
    put(out, format_args!("OK HISTORY {count}"));
}

/// `OK PING [<x>]`
pub fn ping(out: &mut BytesMut, text: &str) {
    let space = if text.is_empty() { "" } else { " " };
    put(out, format_args!("OK PING{space}{text}"));
}

/// `OK PASS`, to PASS and TOKEN.
pub fn ok_pass(out: &mut BytesMut) {
    put(out, format_args!("OK PASS"));
}

/// `* …` lines, then `OK HELP`
pub fn help(out: &mut BytesMut) {
    HELP.iter().for_each(|line| note(out, line));
    put(out, format_args!("OK HELP"));
}

/// `OK EXIT`
pub fn exit(out: &mut BytesMut) {
    put(out, format_args!("OK EXIT"));
}

/// `* …`: said to a person; programs skip it. The question for the name is one.
pub fn note(out: &mut BytesMut, text: &str) {
    put(out, format_args!("* {text}"));
}

/// `ERR <CODE> <what to do>`
pub fn err(out: &mut BytesMut, refusal: &Refusal) {
    put(out, format_args!("ERR {refusal}"));
}
