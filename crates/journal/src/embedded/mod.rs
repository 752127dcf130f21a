//! An engine that keeps its logs in files of its own: one sequence of segments for all logs, one sync per group commit.
//!
//! ```text
//! DIR/store/lock           held while the store is open: one process at a time
//! DIR/store/clean          there only while the store is closed properly: where it ends
//! DIR/store/00000001.seg   segments, filled one after the other; see `layout` for their bytes
//! ```
//!
//! | file | its job |
//! |---|---|
//! | `commit` | the one thread that writes: validates, writes, syncs, shows, answers |
//! | `ahead` | the next segment, made and filled with zeros beside it |
//! | `collect` | gives old segments up, on that thread |
//! | `state` | what readers see |
//! | `survey`, `scan` | read a store's files; tell a torn end from damage |
//! | `replay` | from records to state |
//! | `census` | whose records a segment holds, should it be lost |
//! | `segment`, `layout`, `disk` | places, bytes, files |
//!
//! Damage is named, never passed over: a log with a damaged record, or that may have had one in a segment that is lost,
//! answers [`ReadError::Damaged`] while others are served. The store does not open where nothing tells whose records are
//! gone: in its newest segment, which has no census yet.

mod ahead;
mod census;
mod check;
mod collect;
mod commit;
mod disk;
mod layout;
mod replay;
mod scan;
mod segment;
mod state;
mod survey;

use std::collections::hash_map::RandomState;
use std::fs::{File, TryLockError};
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use bytes::Bytes;

pub use check::{Checked, LogReport, Progress, Report, check, check_with};
pub use disk::{FileHook, FileOp};
pub use survey::Problem;

use crate::gate::Gate;
use crate::log::Entry;
use crate::queue::Queue;
use crate::{
    AppendError, Batch, Catalog, Change, Done, Expect, Journal, Level, LogId, Opened, ReadError,
    Record, Scanned, Snapshot, Usage, Versioned,
};
use commit::{Committer, Place};
use disk::{Disk, make_dir, read_at};
use layout::{BARE, UNIT};
use replay::replay;
use scan::dirty_end;
use segment::{Loc, Segment, read_span};
use state::{Kept, State};
use survey::{MARKER, Survey, survey};

/// The shortest that segments may be.
pub const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// Records of one log that lie at most this far apart are read in one go.
const READ_GAP: u64 = 4096;
/// How much is read in one go.
const READ_BYTES: u64 = 1 << 20;

/// How a store is kept.
#[derive(Clone)]
pub struct Options {
    /// [`Level::Fsync`], or [`Level::Os`], which leaves out the sync.
    pub level: Level,
    /// The size of a segment file, at least [`SEGMENT_BYTES_MIN`]; a larger batch gets a larger one.
    pub segment_bytes: u64,
    /// How much may wait to be stored; beyond it batches are refused with [`AppendError::NoSpace`].
    pub queue_bytes: u64,
    /// Called first by the thread that stores.
    pub thread_begins: fn(),
    /// Asked before every file operation. For tests.
    pub hook: Option<FileHook>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            level: Level::Fsync,
            segment_bytes: 32 << 20,
            queue_bytes: 256 << 20,
            thread_begins: || {},
            hook: None,
        }
    }
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenStoreError {
    /// Another process (or this one) has it open.
    #[error("the store is in use by another process")]
    Locked,
    /// Something is wrong that is not one log's alone: nothing may be written. Put the file back as it
    /// was, or the whole directory from a copy.
    #[error("damaged store: {0}")]
    Damaged(Problem),
    /// An option that the engine does not offer.
    #[error("{0}")]
    Option(&'static str),
    /// The operating system refused.
    #[error("{doing}: {error}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What it said.
        error: io::Error,
    },
}

fn io_error(doing: &'static str) -> impl FnOnce(io::Error) -> OpenStoreError {
    move |error| OpenStoreError::Io { doing, error }
}

/// What the writing thread and the callers share.
struct Shared {
    queue: Queue,
    state: Mutex<State>,
    disk: Disk,
    level: Level,
    segment_bytes: u64,
    /// Held as long as the thread may write.
    _lock: File,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding the state")
    }
}

/// A store on this machine's disk. Dropping it stores what waits and closes it properly.
pub struct Embedded {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Opens the store under `dir`, which is made if need be.
    ///
    /// # Errors
    /// See [`OpenStoreError`]. A single damaged log is no reason to refuse: it answers for itself.
    pub fn open(dir: &Path, options: Options) -> Result<Self, OpenStoreError> {
        let Options { level, segment_bytes, queue_bytes, thread_begins, hook } = options;
        if !matches!(level, Level::Fsync | Level::Os) {
            return Err(OpenStoreError::Option(
                "the embedded store offers the levels os and fsync",
            ));
        }
        if segment_bytes < SEGMENT_BYTES_MIN {
            return Err(OpenStoreError::Option("segments have at least 64 KiB"));
        }
        let store = dir.join("store");
        make_dir(&store).map_err(io_error("making the store's directory"))?;
        let disk = Disk::new(store, hook, level == Level::Fsync);
        let lock = lock(&disk)?;
        let mut survey =
            survey(&disk, false, &mut |_, _| {}).map_err(io_error("reading the store"))?;
        if let Some(problem) = survey.problems.first() {
            return Err(OpenStoreError::Damaged(problem.clone()));
        }
        let segment_bytes = segment_bytes.next_multiple_of(UNIT);
        let is_new = survey.segments.is_empty();
        let doing = if is_new {
            "making the store's first file"
        } else {
            "making the store ready to write"
        };
        let segment = mend(&disk, &mut survey, segment_bytes).map_err(io_error(doing))?;
        let end = survey.end.max(BARE);
        let mut untaken = survey.untaken();
        let census = untaken.remove(&segment.number).unwrap_or_default();
        let replayed = replay(&mut survey);
        let (commit, id) = (replayed.commit + 1, replayed.id + 1);
        let place = Place { segment, end, commit, id, census, untaken };
        let queue = Queue::new(queue_bytes);
        let state = Mutex::new(replayed.state);
        let shared = Shared { queue, state, disk, level, segment_bytes, _lock: lock };
        let shared = Arc::new(shared);
        let committer = Committer::new(Arc::clone(&shared), Gate::new(replayed.tails), place);
        let thread = thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || {
                thread_begins();
                committer.run();
            })
            .map_err(io_error("starting the store's thread"))?;
        Ok(Self { shared, thread: Some(thread) })
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.shared.queue.close();
        if let Some(thread) =
            self.thread.take().filter(|t| t.thread().id() != thread::current().id())
        {
            // It has panicked: its callers have been told, and its message is on stderr.
            drop(thread.join());
        }
    }
}

fn lock(disk: &Disk) -> Result<File, OpenStoreError> {
    let file = disk.open("lock", true).map_err(io_error("opening the store's lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenStoreError::Locked),
        Err(TryLockError::Error(error)) => Err(io_error("locking the store")(error)),
    }
}

/// Makes a surveyed store ready for writing and answers the segment to write to.
fn mend(disk: &Disk, survey: &mut Survey, segment_bytes: u64) -> io::Result<Arc<Segment>> {
    for name in &survey.leftovers {
        disk.remove(name)?;
    }
    let Some(last) = survey.segments.values().next_back().cloned() else {
        let first = Segment::create(disk, 1, (segment_bytes, disk.gains_by_zeros(0)), salt())?;
        survey.segments.insert(1, Arc::clone(&first));
        return Ok(first);
    };
    // New records must go where there are zeros.
    if let Some(dirty) = dirty_end(&last, survey.end)? {
        disk.zero(&last.file, survey.end, dirty)?;
        disk.sync(&last.file)?;
    }
    if survey.marker.is_none() {
        // After a failed sync, what is read here may not be on the disk and not be tried again: the
        // last commit, which may not have been acknowledged, is written once more before it is shown.
        let of_last = survey.found.iter().filter(|found| found.segment.number == last.number);
        let newest = of_last.max_by_key(|found| found.header.at);
        if let Some(found) = newest {
            let begin = u64::from(found.header.commit_at) * UNIT;
            rewrite(disk, &last, begin, survey.end)?;
        }
        survey.segments.values().try_for_each(|segment| disk.sync(&segment.file))?;
    }
    disk.remove(MARKER)?;
    disk.sync_dir()?;
    Ok(last)
}

fn rewrite(disk: &Disk, segment: &Segment, from: u64, to: u64) -> io::Result<()> {
    let mut at = from;
    while at < to {
        let mut bytes = vec![0; READ_BYTES.min(to - at) as usize];
        read_at(&segment.file, &mut bytes, at)?;
        disk.write(&segment.file, &[&bytes], at)?;
        at += bytes.len() as u64;
    }
    Ok(())
}

/// Random bytes that only this store knows.
fn salt() -> [u8; 16] {
    let random = || RandomState::new().build_hasher().finish().to_le_bytes();
    let mut salt = [0; 16];
    salt[..8].copy_from_slice(&random());
    salt[8..].copy_from_slice(&random());
    salt
}

/// Reads batches of one log, neighbours together.
fn read_records(entries: &[Entry<Loc>]) -> Result<Vec<Record>, ReadError> {
    let mut records = Vec::with_capacity(entries.len());
    let mut rest = entries;
    while let Some(first) = rest.first() {
        let (from, mut to) = first.at.span();
        let mut len = 1;
        for entry in &rest[1..] {
            let (begin, end) = entry.at.span();
            let is_near = entry.at.segment.number == first.at.segment.number
                && (to..=to + READ_GAP).contains(&begin)
                && end - from <= READ_BYTES;
            if !is_near {
                break;
            }
            (len, to) = (len + 1, end);
        }
        let mut bytes = vec![0; (to - from) as usize];
        read_span(&first.at.segment, &mut bytes, from)?;
        let bytes = Bytes::from(bytes);
        for entry in &rest[..len] {
            let begin = (entry.at.span().0 - from) as usize;
            let payload = bytes.slice(begin..begin + entry.at.payload());
            entry.at.verify(&payload)?;
            records.push(Record {
                epoch: entry.epoch,
                first: entry.first,
                count: entry.count,
                time_us: entry.time_us,
                notes: payload.slice(..entry.at.len_notes as usize),
                entries: payload.slice(entry.at.len_notes as usize..),
            });
        }
        rest = &rest[len..];
    }
    Ok(records)
}

impl Opened {
    /// With the snapshot, which is read from the disk.
    fn with(mut self, snapshot: Option<(u64, Loc)>) -> Result<Self, ReadError> {
        let load = |(at, loc): (u64, Loc)| Ok(Snapshot { at, state: loc.load()? });
        self.snapshot = snapshot.map(load).transpose()?;
        Ok(self)
    }
}

impl Journal for Embedded {
    fn level(&self) -> Level {
        self.shared.level
    }

    fn open(&self, log: LogId) -> Result<Opened, ReadError> {
        let (opened, snapshot) = self.shared.state().opened(log)?;
        opened.with(snapshot)
    }

    fn append(&self, batch: Batch, done: Done) {
        self.shared.queue.append(batch, done);
    }

    fn read(&self, log: LogId, from: u64, bytes_max: usize) -> Result<Vec<Record>, ReadError> {
        let found = self.shared.state().range(log, from, bytes_max)?;
        read_records(&found)
    }

    fn save_snapshot(&self, log: LogId, epoch: u32, snapshot: Snapshot, done: Done) {
        self.shared.queue.snapshot(log, epoch, snapshot, done);
    }

    fn trim(&self, log: LogId, below: u64) -> Result<(), AppendError> {
        if self.shared.state().trim(log, below)? {
            self.shared.queue.trimmed(log);
        }
        Ok(())
    }

    fn delete(&self, log: LogId) -> Result<(), AppendError> {
        self.shared.queue.delete(log)
    }

    fn usage(&self, log: LogId) -> Usage {
        self.shared.state().logs.get(&log).map(|kept| kept.log.usage()).unwrap_or_default()
    }

    fn keep_from(&self, log: LogId, bytes_max: u64, since_us: u64) -> u64 {
        let state = self.shared.state();
        state.logs.get(&log).map_or(1, |Kept { log, .. }| log.keep_from(bytes_max, since_us))
    }
}

impl Catalog for Embedded {
    fn get(&self, key: &str) -> Result<Option<Versioned>, ReadError> {
        let state = self.shared.state();
        state.check_key(key)?;
        Ok(state.records.get(key))
    }

    fn put(&self, key: &str, expect: Expect, value: Option<Bytes>) -> Result<u64, AppendError> {
        self.shared.queue.put(key, expect, value)
    }

    fn scan(&self, prefix: &str) -> Result<Vec<(String, Versioned)>, ReadError> {
        let state = self.shared.state();
        state.check_prefix(prefix)?;
        Ok(state.records.scan(prefix))
    }

    fn scan_whole(&self, prefix: &str) -> Result<Scanned, ReadError> {
        let state = self.shared.state();
        Ok(Scanned { records: state.records.scan(prefix), lost: state.lost(prefix) })
    }

    fn watch(&self, prefix: &str) -> Receiver<Change> {
        self.shared.state().records.watch(prefix)
    }
}
