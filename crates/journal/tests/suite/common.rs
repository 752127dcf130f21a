//! What the tests share: engines to try, and calls that wait.

use std::fs;
use std::path::Path;
use std::sync::mpsc;

use bytes::Bytes;
use tempfile::TempDir;
use tertulia_journal::embedded::SEGMENT_BYTES_MIN;
use tertulia_journal::{
    AppendError, Batch, Catalog, Embedded, Journal, LogId, MemoryJournal, OpenStoreError, Options,
    Record, Snapshot,
};

/// Both traits.
pub trait Engine: Journal + Catalog {}
impl<T: Journal + Catalog> Engine for T {}

/// An engine under test, which may be closed and opened again where that means something.
pub struct Rig {
    pub name: &'static str,
    engine: Option<Box<dyn Engine>>,
    dir: Option<TempDir>,
}

impl Rig {
    pub fn memory() -> Self {
        let engine: Box<dyn Engine> = Box::new(MemoryJournal::new(64 << 20));
        Self { name: "memory", engine: Some(engine), dir: None }
    }

    pub fn embedded() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let engine: Box<dyn Engine> = Box::new(open(dir.path()));
        Self { name: "embedded", engine: Some(engine), dir: Some(dir) }
    }

    pub fn engine(&self) -> &dyn Engine {
        self.engine.as_deref().expect("it is open")
    }

    /// Closes and opens again; engines that keep nothing go on.
    pub fn reopen(&mut self) {
        if let Some(dir) = &self.dir {
            drop(self.engine.take());
            self.engine = Some(Box::new(open(dir.path())));
        }
    }
}

/// Runs one property against every engine.
pub fn suite(property: impl Fn(&mut Rig)) {
    for make in [Rig::memory, Rig::embedded] {
        let mut rig = make();
        println!("engine: {}", rig.name);
        property(&mut rig);
    }
}

/// Small segments, so that tests see many.
pub fn options() -> Options {
    Options { segment_bytes: SEGMENT_BYTES_MIN, ..Options::default() }
}

pub fn try_open(dir: &Path) -> Result<Embedded, OpenStoreError> {
    Embedded::open(dir, options())
}

pub fn open(dir: &Path) -> Embedded {
    try_open(dir).unwrap_or_else(|error| panic!("{error}"))
}

pub fn log(number: u8) -> LogId {
    LogId([number; 16])
}

/// A batch whose bytes tell where they belong.
pub fn batch(log: LogId, epoch: u32, first: u64, count: u32, size: usize) -> Batch {
    let entry = |number: u64| {
        let text = format!("{}:{number};", log.0[0]);
        Bytes::from(text.repeat(size / text.len() + 1).into_bytes())
    };
    Batch {
        log,
        epoch,
        first,
        count,
        time_us: 1_000 * first,
        notes: Bytes::from(format!("notes {epoch} {first} {count}")),
        entries: (first..first + u64::from(count)).map(entry).collect(),
    }
}

/// The record that a batch must come back as.
pub fn record(batch: &Batch) -> Record {
    Record {
        epoch: batch.epoch,
        first: batch.first,
        count: batch.count,
        time_us: batch.time_us,
        notes: batch.notes.clone(),
        entries: batch.entries.concat().into(),
    }
}

/// Appends without waiting; the answer comes later.
pub fn send<J: Journal + ?Sized>(
    journal: &J,
    batch: Batch,
) -> mpsc::Receiver<Result<(), AppendError>> {
    let (sender, receiver) = mpsc::channel();
    journal.append(batch, Box::new(move |result| drop(sender.send(result))));
    receiver
}

pub fn append<J: Journal + ?Sized>(journal: &J, batch: Batch) -> Result<(), AppendError> {
    send(journal, batch).recv().expect("an answer")
}

pub fn save<J: Journal + ?Sized>(
    journal: &J,
    log: LogId,
    epoch: u32,
    at: u64,
    state: &'static str,
) -> Result<(), AppendError> {
    let (sender, receiver) = mpsc::channel();
    let snapshot = Snapshot { at, state: Bytes::from_static(state.as_bytes()) };
    let done = Box::new(move |result| drop(sender.send(result)));
    journal.save_snapshot(log, epoch, snapshot, done);
    receiver.recv().expect("an answer")
}

/// All that a log keeps.
pub fn all<J: Journal + ?Sized>(journal: &J, log: LogId) -> Vec<Record> {
    let first = journal.open(log).expect("it opens").first;
    journal.read(log, first, usize::MAX).expect("it reads")
}

/// Copies a store's directory, as it looks now.
pub fn copy_store(from: &Path) -> TempDir {
    let to = tempfile::tempdir().expect("a directory");
    fs::create_dir(to.path().join("store")).expect("a directory");
    for entry in fs::read_dir(from.join("store")).expect("a store") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name");
        fs::copy(&path, to.path().join("store").join(name)).expect("a copy");
    }
    to
}
