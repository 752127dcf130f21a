//! An engine that keeps everything in memory and nothing beyond the process: for tests and for groups that want no disk.

use std::collections::HashMap;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use bytes::{Bytes, BytesMut};

use crate::catalog::{Records, check_version};
use crate::gate::Gate;
use crate::log::Log;
use crate::queue::{Abandon, Asked, Op, Queue, batch_bytes};
use crate::{
    AppendError, Batch, Catalog, Change, Done, Expect, Journal, Level, LogId, Opened, ReadError,
    Record, Snapshot, Usage, Versioned,
};

/// How much may wait for the engine's thread.
const QUEUE_BYTES: u64 = 256 << 20;

/// A batch's notes and entries; the entries as they came, so that they are there once only.
type Held = (Bytes, Vec<Bytes>);

#[derive(Default)]
struct State {
    logs: HashMap<LogId, Log<Held>>,
    records: Records<()>,
    gate: Gate,
    /// The last operation's number.
    id: u64,
    bytes: u64,
    bytes_max: u64,
}

impl State {
    fn append(&mut self, ticket: u64, batch: &Batch) -> Result<(), AppendError> {
        self.gate.check_append(ticket, batch)?;
        let bytes = batch_bytes(batch);
        self.room(bytes)?;
        self.bytes += bytes;
        self.id += 1;
        // Notes are few bytes, which may be part of a large buffer.
        let held = (Bytes::copy_from_slice(&batch.notes), batch.entries.clone());
        let log = self.logs.entry(batch.log).or_default();
        log.push(batch.first, batch.count, batch.epoch, batch.time_us, bytes, held);
        self.gate.appended(batch, self.id);
        Ok(())
    }

    fn snapshot(&mut self, log: LogId, epoch: u32, snapshot: Snapshot) -> Result<(), AppendError> {
        let Snapshot { at, state: bytes } = snapshot;
        self.gate.check_snapshot(log, epoch, at)?;
        self.room(bytes.len() as u64)?;
        self.bytes += bytes.len() as u64;
        self.id += 1;
        let kept = self.logs.entry(log).or_default();
        kept.epoch = epoch;
        let older = kept.snapshot.replace((at, (Bytes::new(), vec![bytes])));
        self.bytes -= older.map_or(0, |(_, held)| held_bytes(&held));
        self.gate.saved(log, epoch, at, self.id);
        Ok(())
    }

    fn delete(&mut self, log: LogId) {
        self.gate.deleted(log);
        if let Some(log) = self.logs.remove(&log) {
            let snapshot = log.snapshot.as_ref().map_or(0, |(_, held)| held_bytes(held));
            self.bytes -= log.usage().bytes + snapshot;
        }
    }

    fn put(
        &mut self,
        key: String,
        expect: Expect,
        value: Option<Bytes>,
    ) -> Result<u64, AppendError> {
        let older = self.records.get(&key);
        let current = older.as_ref().map_or(0, |record| record.version);
        check_version(expect, current)?;
        if value.is_none() && older.is_none() {
            return Ok(0);
        }
        let bytes = value.as_ref().map_or(0, |value| value.len() as u64);
        self.room(bytes)?;
        self.bytes += bytes;
        self.bytes -= older.map_or(0, |record| record.value.len() as u64);
        let version = current + 1;
        self.records.set(key, value.map(|value| (Versioned { version, value }, ())));
        Ok(version)
    }

    fn room(&self, bytes: u64) -> Result<(), AppendError> {
        if self.bytes + bytes > self.bytes_max {
            return Err(AppendError::NoSpace(format!("{} bytes are kept", self.bytes)));
        }
        Ok(())
    }
}

/// See the module. Its `done`s are called on a thread of its own, as those of every engine.
pub struct MemoryJournal {
    queue: Arc<Queue>,
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("nobody panics while holding the state")
}

fn held_bytes(held: &Held) -> u64 {
    let entries: usize = held.1.iter().map(Bytes::len).sum();
    (held.0.len() + entries) as u64
}

/// One run of bytes; several pieces are put together.
fn joined(pieces: &[Bytes]) -> Bytes {
    if let [piece] = pieces {
        return piece.clone();
    }
    let mut joined = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    pieces.iter().for_each(|piece| joined.extend_from_slice(piece));
    joined.freeze()
}

impl MemoryJournal {
    /// Keeps at most `bytes_max` of entries, notes, snapshots and catalog values; more is refused with
    /// [`AppendError::NoSpace`].
    pub fn new(bytes_max: u64) -> Self {
        let queue = Arc::new(Queue::new(QUEUE_BYTES));
        let state = Arc::new(Mutex::new(State { bytes_max, ..State::default() }));
        let engine = Engine { queue: Arc::clone(&queue), state: Arc::clone(&state) };
        let thread = thread::Builder::new()
            .name("journal-memory".to_owned())
            .spawn(move || engine.run())
            .expect("a process can start its threads");
        Self { queue, state, thread: Some(thread) }
    }
}

impl Drop for MemoryJournal {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) =
            self.thread.take().filter(|t| t.thread().id() != thread::current().id())
        {
            // It has panicked: its callers have been told, and its message is on stderr.
            drop(thread.join());
        }
    }
}

struct Engine {
    queue: Arc<Queue>,
    state: Arc<Mutex<State>>,
}

impl Engine {
    fn run(&self) {
        let _abandon = Abandon(&self.queue);
        while let Some(asked) = self.queue.take(u64::MAX, true) {
            for Asked { ticket, op, finish, .. } in asked {
                let mut breaks = None;
                let result = match op {
                    Op::Append(batch) => {
                        breaks = Some((batch.log, batch.epoch));
                        lock(&self.state).append(ticket, &batch).map(|()| 0)
                    }
                    Op::Snapshot { log, epoch, snapshot } => {
                        lock(&self.state).snapshot(log, epoch, snapshot).map(|()| 0)
                    }
                    Op::Delete(log) => {
                        lock(&self.state).delete(log);
                        Ok(0)
                    }
                    Op::Put { key, expect, value } => lock(&self.state).put(key, expect, value),
                    Op::Trimmed(_) => Ok(0),
                    Op::Refused { breaks: whose, error } => {
                        breaks = whose;
                        Err(error)
                    }
                };
                if let (Err(_), Some((log, epoch))) = (&result, breaks) {
                    let until = self.queue.ticket_next();
                    lock(&self.state).gate.refused(log, epoch, until);
                }
                finish.call(result);
            }
        }
    }
}

impl Journal for MemoryJournal {
    fn level(&self) -> Level {
        Level::Memory
    }

    fn open(&self, log: LogId) -> Result<Opened, ReadError> {
        let state = lock(&self.state);
        let fresh = Log::default();
        let log = state.logs.get(&log).unwrap_or(&fresh);
        let snapshot = log.snapshot.as_ref();
        let snapshot = snapshot.map(|(at, held)| Snapshot { at: *at, state: joined(&held.1) });
        Ok(Opened { epoch: log.epoch, first: log.first, next: log.next, snapshot })
    }

    fn append(&self, batch: Batch, done: Done) {
        self.queue.append(batch, done);
    }

    fn append_at_once(&self, batch: Batch) -> Result<(), Batch> {
        let stored = self.queue.at_once(|ticket| lock(&self.state).append(ticket, &batch));
        if stored == Some(Ok(())) { Ok(()) } else { Err(batch) }
    }

    fn read(&self, log: LogId, from: u64, bytes_max: usize) -> Result<Vec<Record>, ReadError> {
        let found = lock(&self.state).logs.get(&log).map(|log| log.range(from, bytes_max));
        let records = found.transpose()?.unwrap_or_default().into_iter().map(|entry| Record {
            epoch: entry.epoch,
            first: entry.first,
            count: entry.count,
            time_us: entry.time_us,
            notes: entry.at.0,
            entries: joined(&entry.at.1),
        });
        Ok(records.collect())
    }

    fn save_snapshot(&self, log: LogId, epoch: u32, snapshot: Snapshot, done: Done) {
        self.queue.snapshot(log, epoch, snapshot, done);
    }

    fn trim(&self, log: LogId, below: u64) -> Result<(), AppendError> {
        let mut state = lock(&self.state);
        let mut fresh = Log::default();
        let dropped = state.logs.get_mut(&log).unwrap_or(&mut fresh).trim(below)?;
        state.bytes -= dropped.iter().map(held_bytes).sum::<u64>();
        Ok(())
    }

    fn delete(&self, log: LogId) -> Result<(), AppendError> {
        self.queue.delete(log)
    }

    fn usage(&self, log: LogId) -> Usage {
        lock(&self.state).logs.get(&log).map(Log::usage).unwrap_or_default()
    }

    fn keep_from(&self, log: LogId, bytes_max: u64, since_us: u64) -> u64 {
        lock(&self.state).logs.get(&log).map_or(1, |log| log.keep_from(bytes_max, since_us))
    }
}

impl Catalog for MemoryJournal {
    fn get(&self, key: &str) -> Result<Option<Versioned>, ReadError> {
        Ok(lock(&self.state).records.get(key))
    }

    fn put(&self, key: &str, expect: Expect, value: Option<Bytes>) -> Result<u64, AppendError> {
        self.queue.put(key, expect, value)
    }

    fn scan(&self, prefix: &str) -> Result<Vec<(String, Versioned)>, ReadError> {
        Ok(lock(&self.state).records.scan(prefix))
    }

    fn watch(&self, prefix: &str) -> Receiver<Change> {
        lock(&self.state).records.watch(prefix)
    }
}
