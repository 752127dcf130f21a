//! Where logs are kept: the [`Journal`] and [`Catalog`] traits, their engines, and the one suite that every engine passes.
//!
//! This crate knows ids and opaque bytes only: no groups, members or frames, and no async runtime.
//!
//! ```text
//!            trim(below)            snapshot.at            stored            appended
//!                |                       |                    |                  |
//!   ---- gone ---+======== kept =========+====== kept ========+--- in flight ----+
//!              first                                        next-1
//! ```

mod catalog;
mod gate;
mod log;
mod queue;

pub mod embedded;
pub mod memory;

use std::fmt;

use bytes::Bytes;

pub use embedded::{Embedded, OpenStoreError, Options};
pub use memory::MemoryJournal;

/// Names one log for ever: random, made by whoever creates the log, never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub [u8; 16]);

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogId({self})")
    }
}

/// What an engine's "stored" survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing: it is gone with the process.
    Memory,
    /// The death of the process, not of the machine.
    Os,
    /// A power cut.
    Fsync,
    /// The loss of a minority of the engine's servers.
    Replicated,
}

impl Level {
    /// The word that receipts use for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Os => "os",
            Self::Fsync => "fsync",
            Self::Replicated => "replicated",
        }
    }
}

/// What is appended in one piece: it is stored whole or not at all.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The log that it goes to; the first append to an unknown id creates the log.
    pub log: LogId,
    /// Who appends: lower than the log's epoch is refused ([`AppendError::Fenced`]), higher raises it.
    pub epoch: u32,
    /// The number of the first entry; exactly one above the last one appended (numbers begin at 1).
    pub first: u64,
    /// How many entries there are. Zero is allowed: a batch of notes alone, which takes no number.
    pub count: u32,
    /// Wall clock, microseconds since the Unix epoch, for retention by age.
    pub time_us: u64,
    /// Bytes that only the coordinator reads again, when it recovers.
    pub notes: Bytes,
    /// The entries' bytes, in order; where one ends and the next begins is not the journal's business.
    pub entries: Vec<Bytes>,
}

/// A stored batch, as [`Journal::read`] gives it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// See [`Batch::epoch`].
    pub epoch: u32,
    /// See [`Batch::first`].
    pub first: u64,
    /// See [`Batch::count`].
    pub count: u32,
    /// See [`Batch::time_us`].
    pub time_us: u64,
    /// See [`Batch::notes`].
    pub notes: Bytes,
    /// All the entries' bytes, contiguous.
    pub entries: Bytes,
}

/// A state of the log's owner that makes the records up to `at` unnecessary for recovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The last number that the state includes.
    pub at: u64,
    /// The state.
    pub state: Bytes,
}

/// What a log looks like when it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The highest epoch that has appended; 0 for a log without any.
    pub epoch: u32,
    /// The lowest number still kept (1 for a new log; equal to `next` when nothing is kept).
    pub first: u64,
    /// The number that the next batch begins with.
    pub next: u64,
    /// The newest snapshot.
    pub snapshot: Option<Snapshot>,
}

/// Why a log or a store cannot be opened or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The numbers asked for have been trimmed; `first` is the lowest that is kept.
    #[error("numbers below {first} are no longer kept")]
    Trimmed {
        /// The lowest number that is kept.
        first: u64,
    },
    /// What is stored is not what was written: named by file and place, never passed over.
    #[error("damaged store: {0}")]
    Damaged(String),
    /// The operating system refused; the text says what was being done.
    #[error("{0}")]
    Io(String),
}

/// Why a batch, snapshot, trim or catalog record was not stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// A higher epoch has appended: whoever asks is no longer the log's coordinator.
    #[error("fenced: epoch {current} has taken over")]
    Fenced {
        /// The log's epoch.
        current: u32,
    },
    /// `first` is not the next number: the caller is confused; nothing was stored.
    #[error("not the next number: got {got}, expected {expected}")]
    OutOfOrder {
        /// What the batch says.
        got: u64,
        /// What the log expects.
        expected: u64,
    },
    /// A catalog record is not at the expected version.
    #[error("the record has changed meanwhile (it is at version {current})")]
    Conflict {
        /// Its version now; 0 when there is none.
        current: u64,
    },
    /// A limit of the engine.
    #[error("too large: {0}")]
    TooLarge(String),
    /// No room; nothing of it was stored, and a later append may succeed.
    #[error("no space: {0}")]
    NoSpace(String),
    /// Writing or fsync has failed: unknown what is stored. Nothing is acknowledged from now on until a
    /// restart has read the store again.
    #[error("the store has failed and must be restarted: {0}")]
    Failed(String),
    /// The log is damaged and takes no appends.
    #[error("damaged store: {0}")]
    Damaged(String),
}

/// Called exactly once, on a thread of the engine's, when an operation is stored at [`Journal::level`] or refused. Must not block.
pub type Done = Box<dyn FnOnce(Result<(), AppendError>) + Send>;

/// What a log takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of entries and notes that are kept.
    pub bytes: u64,
    /// Batches that are kept.
    pub records: u64,
}

/// Logs of whole batches, fenced by epoch. Every method may be called from any thread.
pub trait Journal: Send + Sync + 'static {
    /// What "stored" survives here.
    fn level(&self) -> Level;

    /// What is stored of `log`. An unknown id answers as a new log; nothing is created.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] where the log's records have a gap, an overlap or a wrong checksum.
    fn open(&self, log: LogId) -> Result<Opened, ReadError>;

    /// Appends; `done` is called when it is stored. Several may be in flight at once; they are stored in
    /// the order of the calls, and once one is refused the later ones of that log in flight are refused too
    /// (they are out of order). "In flight" is what was called before the refusal's `done` is; a newer
    /// epoch's batches are not concerned by the refusal of an older one's.
    fn append(&self, batch: Batch, done: Done);

    /// Stores the batch before it returns, where the engine can do so without waiting for anything and nothing else is in flight;
    /// otherwise gives it back as it was, to be handed to [`Journal::append`], which also says what is wrong with it. Saves the
    /// way to the engine's thread and back. The order is that of the calls, as ever.
    ///
    /// # Errors
    /// The batch, untouched: nothing of it is stored.
    fn append_at_once(&self, batch: Batch) -> Result<(), Batch> {
        Err(batch)
    }

    /// Stored records in order, beginning with the one that holds `from` (or the first after it), until
    /// `bytes_max` is reached (at least one with entries, and the notes before it: whoever reads on from the
    /// last number gets on). Empty when `from` is beyond the end. Blocks on the disk.
    ///
    /// # Errors
    /// [`ReadError::Trimmed`] when `from` is below what is kept.
    fn read(&self, log: LogId, from: u64, bytes_max: usize) -> Result<Vec<Record>, ReadError>;

    /// Keeps `snapshot` in place of the log's older one. `snapshot.at` is at most the last stored number
    /// and not below the older one's, otherwise [`AppendError::OutOfOrder`].
    /// Fenced like an append, and stored in order with the appends.
    fn save_snapshot(&self, log: LogId, epoch: u32, snapshot: Snapshot, done: Done);

    /// Gives up what lies below `below`, where that is at most one above the snapshot's number; whole
    /// batches only, so that a little more may stay. A batch of notes alone counts as lying at its
    /// [`Batch::first`]. Never waits for the disk: the space comes back soon, and a crash may bring
    /// back what had just been trimmed.
    ///
    /// # Errors
    /// [`AppendError::OutOfOrder`] when no stored snapshot covers it.
    fn trim(&self, log: LogId, below: u64) -> Result<(), AppendError>;

    /// Forgets the log, snapshot included. A later use of the id starts a new log.
    ///
    /// # Errors
    /// [`AppendError::Failed`] when that could not be stored.
    fn delete(&self, log: LogId) -> Result<(), AppendError>;

    /// What the log takes now.
    fn usage(&self, log: LogId) -> Usage;

    /// The lowest number such that everything from it on takes at most `bytes_max` and is not older than
    /// `since_us`: where retention would cut. Batches age in their order: the cut stops at the first one
    /// that is young enough, also where a clock that went back has put an older one behind it.
    fn keep_from(&self, log: LogId, bytes_max: u64, since_us: u64) -> u64;
}

/// What a record must be before it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Whatever it is.
    Any,
    /// It must not exist.
    Absent,
    /// It must be at this version.
    Version(u64),
}

/// A small record with its version (1 for the first, rising by each write of that key).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// Rises with every write.
    pub version: u64,
    /// What was written.
    pub value: Bytes,
}

/// A change that a watcher is told of; `None` means deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The record's key.
    pub key: String,
    /// What it is now.
    pub value: Option<Versioned>,
}

/// A damaged catalog record. Writing to its key is refused, but for [`Expect::Any`] without a value, which gives it up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostRecord {
    /// The first 16 bytes of its key: all of it, where it is shorter.
    pub begin: String,
    /// What is wrong, with file and place.
    pub what: String,
}

/// What [`Catalog::scan_whole`] answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// By key.
    pub records: Vec<(String, Versioned)>,
    /// Those that cannot be read.
    pub lost: Vec<LostRecord>,
}

/// Small records (at most 64 KiB; keys at most 256 bytes) with compare-and-set. Calls block until stored.
pub trait Catalog: Send + Sync + 'static {
    /// The record as it is stored.
    ///
    /// # Errors
    /// [`ReadError::Io`] when the engine cannot be asked.
    fn get(&self, key: &str) -> Result<Option<Versioned>, ReadError>;

    /// Writes (`Some`) or deletes (`None`) and answers the new version. Deleting what is not there
    /// answers 0 and does nothing; a key that is written again after a deletion begins at 1 again.
    ///
    /// # Errors
    /// [`AppendError::Conflict`] when the record is not as `expect` says.
    fn put(&self, key: &str, expect: Expect, value: Option<Bytes>) -> Result<u64, AppendError>;

    /// All records whose key begins with `prefix`, by key.
    ///
    /// # Errors
    /// [`ReadError::Io`] when the engine cannot be asked; [`ReadError::Damaged`] when one may be missing.
    fn scan(&self, prefix: &str) -> Result<Vec<(String, Versioned)>, ReadError>;

    /// The same without those that are damaged, and what is known of these.
    ///
    /// # Errors
    /// [`ReadError::Io`] when the engine cannot be asked.
    fn scan_whole(&self, prefix: &str) -> Result<Scanned, ReadError> {
        Ok(Scanned { records: self.scan(prefix)?, lost: Vec::new() })
    }

    /// Every change under `prefix` from now on, in order. A watcher that falls more than 1,024 behind is dropped
    /// (its receiver ends) and has to scan again.
    fn watch(&self, prefix: &str) -> std::sync::mpsc::Receiver<Change>;
}
