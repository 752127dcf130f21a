//! What clients saw and did, written down before it has any effect: a line of JSON each, a file for each client process.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// One thing that a client did or learnt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When, in nanoseconds of the machine's monotonic clock: the same one for all processes. What begins is stamped before it
    /// begins, what ends after it has ended.
    pub at: u64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// See [`Record`]. A message is known by its text, which nobody writes twice.
#[expect(missing_docs, reason = "fields are named after what they hold")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// A message begins its way. Without an answer its outcome is unknown.
    Sending { group: String, from: String, outside: bool, text: String },
    /// It is stored under this number.
    Stored { text: String, seq: u64 },
    /// It is not stored and never will be.
    Failed { text: String, why: String },
    /// Its outcome cannot be found out any more.
    Unknown { text: String, why: String },
    /// Who has it.
    Receipt(Receipt),
    /// Who has it cannot be found out any more.
    NoReceipt { text: String, why: String },
    /// A program begins to be a member: for the first time under this name, or again.
    Joining { group: String, name: String, from: Begin },
    /// It is one.
    Joined { group: String, name: String, resumed: bool, tail: u64, log: String, epoch: u32 },
    /// It is none, for this reason.
    NotJoined { group: String, name: String, why: String },
    /// An entry was given to a member's program.
    Entry(Entry),
    /// The member's program is about to confirm it; it had been kept or opened.
    Confirming { group: String, name: String, seq: u64 },
    /// The member's program is about to say that it will not do it.
    Failing { group: String, name: String, seq: u64, code: String },
    /// These numbers do not come.
    Gap { group: String, name: String, first: u64, last: u64 },
    /// The log is another one, or lost its end.
    Reset { group: String, name: String, next: u64 },
    /// The connection was lost.
    Lost { group: String, name: String, reason: String },
    /// There is a connection again.
    Back { group: String, name: String, resumed: bool },
    /// A member is about to end its membership.
    Leaving { group: String, name: String },
    /// The membership has ended.
    Left { group: String, name: String, why: String },
    /// Somebody is about to remove a member by name.
    Removing { group: String, name: String },
}

/// Where a member's program begins to read.
#[expect(missing_docs, reason = "fields are named after what they hold")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "at", rename_all = "snake_case")]
pub enum Begin {
    /// After its own `joined` entry.
    Now,
    /// At the first entry.
    First,
    /// So many entries before the end.
    Last { count: u64 },
    /// Where an earlier life had come to: done up to `cursor`, apart from `open`.
    Saved { cursor: u64, open: Vec<u64> },
    /// Where an earlier life of a process had come to, which keeps that to itself.
    Process,
    /// A line client that asks for what came after a number.
    After { seq: u64 },
}

/// What a program does with an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// Confirms it right after this record.
    #[default]
    Confirm,
    /// Says later what becomes of it.
    Keep,
    /// Says at once that it works on it, and later what becomes of it.
    Open,
}

/// An entry as it was given to the program of member `name`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The group.
    pub group: String,
    /// The member.
    pub name: String,
    /// Its number.
    pub seq: u64,
    /// What it is.
    pub kind: Kind,
    /// The sender, joiner or leaver; empty where the door does not say (one's own on the line door).
    pub from: String,
    /// From outside.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outside: bool,
    /// The text of a message; empty where the door does not say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// What the program does with it.
    #[serde(default)]
    pub then: Then,
}

/// What an entry is.
#[expect(missing_docs, reason = "variants are named after what they are")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Message,
    Joined,
    Left,
    /// Internal: given to nobody's program.
    Epoch,
    File,
}

/// What was said of who has a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The group.
    pub group: String,
    /// Its number.
    pub seq: u64,
    /// How many were asked.
    pub members: u32,
    /// Whose program has confirmed it.
    pub confirmed: u32,
    /// Whose host has it.
    pub reached: u32,
    /// The others; `None` where only their number is known.
    pub missing: Option<Vec<Missing>>,
}

/// Somebody who does not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// The name.
    pub name: String,
    /// Why: `pending`, `away`, `lagging`, `failed` or `left`.
    pub why: String,
    /// What its program said, where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// The machine's monotonic clock.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Writes a history. Each record is with the system when the call returns, so that it outlives the process.
#[derive(Debug)]
pub struct Recorder {
    file: File,
}

impl Recorder {
    /// A new file.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Ok(Self { file: file.with_context(|| format!("cannot write {}", path.display()))? })
    }

    /// Writes one record.
    ///
    /// # Panics
    /// When it cannot be written: without a history there is nothing to judge.
    pub fn write(&mut self, what: What) {
        self.write_all([what]);
    }

    /// Writes several with one call of the system.
    ///
    /// # Panics
    /// As [`Recorder::write`].
    pub fn write_all(&mut self, all: impl IntoIterator<Item = What>) {
        let at = now();
        let mut lines = Vec::new();
        for what in all {
            serde_json::to_writer(&mut lines, &Record { at, what }).expect("records are JSON");
            lines.push(b'\n');
        }
        self.file.write_all(&lines).expect("the history can be written");
    }
}

/// Reads a history. A last line that a killed process has not finished is left out: nothing has followed from it.
///
/// # Errors
/// A line that is no record.
pub fn read(path: &Path) -> Result<Vec<Record>> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
    let mut reader = BufReader::new(file);
    let (mut records, mut line) = (Vec::new(), String::new());
    while reader.read_line(&mut line)? > 0 && line.ends_with('\n') {
        let record = serde_json::from_str(&line);
        records.push(record.with_context(|| format!("{shown}: {}", line.trim()))?);
        line.clear();
    }
    Ok(records)
}
