//! The journal: what is stored, the one batch that is on its way, and what a crash takes.

use bytes::{Bytes, BytesMut};
use tertulia_group::entry::entries;
use tertulia_group::planted::{Bug, planted};
use tertulia_group::{Batch, Entry, Epoch, Group, Limits, LogId, RecoverError, Seq};

use crate::coverage::{Seen, saw};
use crate::rng::Rng;

#[derive(Clone, Debug)]
struct Record {
    first: Seq,
    count: u32,
    notes: Bytes,
    entries: Bytes,
}

/// What a power cut leaves of a record whose writing it cuts short.
#[derive(Clone, Debug)]
struct Torn {
    left: Record,
    /// Of the whole record.
    bytes: usize,
}

impl Record {
    fn new(batch: Batch) -> Self {
        let (first, count, notes) = (batch.first, batch.count, batch.notes);
        let mut entries = BytesMut::new();
        batch.entries.iter().for_each(|piece| entries.extend_from_slice(piece));
        Self { first, count, notes, entries: entries.freeze() }
    }

    fn bytes(&self) -> usize {
        self.notes.len() + self.entries.len()
    }

    /// As much of it as was written: entries come before notes.
    fn torn(mut self, rng: &mut Rng) -> Torn {
        let bytes = self.bytes();
        let left = rng.below(bytes as u64) as usize;
        self.notes.truncate(left.saturating_sub(self.entries.len()));
        self.entries.truncate(left);
        Torn { left: self, bytes }
    }

    fn last(&self) -> Seq {
        self.first + u64::from(self.count) - 1
    }
}

/// What an answer promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Nothing survives its coordinator; the next one begins another log.
    Memory,
    /// The death of the process is survived; a power cut takes what was not synced.
    Os,
    /// A power cut is survived.
    Fsync,
}

#[derive(Debug)]
pub struct Journal {
    records: Vec<Record>,
    /// Every entry that was ever stored; number n is at n - 1. Trimming does not take it from the checks.
    log: Vec<Entry>,
    /// With how many records it covers.
    snapshot: Option<(Bytes, usize)>,
    pub first: Seq,
    pending: Option<Batch>,
    /// Kept apart, as an engine keeps it: an epoch is never given again, whatever else a power cut takes.
    epoch: Epoch,
    level: Level,
    log_id: LogId,
    /// How many records a power cut leaves.
    synced: usize,
    /// How many records trimming has taken away.
    trimmed: usize,
    /// After the records, until somebody reads it back.
    torn: Option<Torn>,
}

impl Journal {
    pub const fn new(level: Level, log_id: LogId) -> Self {
        Self {
            records: Vec::new(),
            log: Vec::new(),
            snapshot: None,
            first: 1,
            pending: None,
            epoch: 0,
            level,
            log_id,
            synced: 0,
            trimmed: 0,
            torn: None,
        }
    }

    pub fn tail(&self) -> Seq {
        self.log.len() as Seq
    }

    /// The entry as it was stored, also when it is trimmed.
    pub fn entry(&self, seq: Seq) -> Option<&Entry> {
        self.log.get(usize::try_from(seq.checked_sub(1)?).ok()?)
    }

    /// Takes a batch to store it.
    ///
    /// # Errors
    /// What an engine refuses: an older epoch, or numbers that do not go on.
    pub fn append(&mut self, batch: Batch) -> Result<(), String> {
        if !planted(Bug::SkipFence) {
            self.fence(&batch)?;
        }
        self.epoch = batch.epoch;
        self.pending = Some(batch);
        Ok(())
    }

    fn fence(&self, batch: &Batch) -> Result<(), String> {
        if batch.epoch < self.epoch {
            saw(Seen::Fenced);
            return Err(format!("coordinator: {} appends after {}", batch.epoch, self.epoch));
        }
        if self.pending.is_some() || batch.first != self.tail() + 1 {
            return Err(format!("order: {} does not go on from {}", batch.first, self.tail()));
        }
        Ok(())
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub fn pending(&self) -> Option<&Batch> {
        self.pending.as_ref()
    }

    /// What was on its way is stored now.
    ///
    /// # Errors
    /// When the bytes are not the entries that the batch says.
    pub fn store(&mut self) -> Result<Vec<Entry>, String> {
        let batch = self.pending.take().ok_or("nothing is on its way")?;
        let record = Record::new(batch);
        let new: Vec<Entry> = entries(record.entries.clone())
            .collect::<Result<_, _>>()
            .map_err(|error| format!("what is stored cannot be read: {error}"))?;
        if new.len() != record.count as usize {
            return Err(format!("{} entries instead of {}", new.len(), record.count));
        }
        self.log.extend(new.iter().cloned());
        self.records.push(record);
        if self.level == Level::Fsync && !planted(Bug::SkipFsync) {
            self.sync();
        }
        Ok(new)
    }

    /// From now on a power cut leaves what is stored.
    pub fn sync(&mut self) {
        self.synced = self.records.len();
    }

    pub const fn level(&self) -> Level {
        self.level
    }

    pub const fn log_id(&self) -> LogId {
        self.log_id
    }

    /// All is gone, and what comes is another log.
    pub fn begin_anew(&mut self, log_id: LogId) {
        *self = Self { epoch: self.epoch, ..Self::new(self.level, log_id) };
    }

    /// Of what is not synced the beginning may be there, and a part of the record after it. Answers where the log ends now.
    pub fn power_cut(&mut self, rng: &mut Rng) -> Seq {
        let unsynced = (self.records.len() - self.synced) as u64;
        let left = self.synced + rng.below(unsynced + 1) as usize;
        if left > self.synced {
            saw(Seen::TailKept);
        }
        let pending = self.pending.take().map(Record::new);
        let next = self.records.drain(left..).next().or(pending);
        self.torn = next.filter(|_| rng.chance(700)).map(|record| record.torn(rng));
        self.synced = left;
        let left = self.records.last().map_or(0, Record::last);
        self.log.truncate(left as usize);
        left
    }

    /// What was on its way is not stored.
    pub fn take_pending(&mut self) -> Option<Batch> {
        self.pending.take()
    }

    pub fn keep_snapshot(&mut self, bytes: Bytes) {
        self.sync();
        self.snapshot = Some((bytes, self.records.len()));
    }

    /// The last number that the snapshot covers: trimming goes only below it.
    pub fn snapshot_tail(&self) -> Seq {
        let covered = self.snapshot.as_ref().map_or(0, |(_, covered)| *covered);
        self.records[..covered].last().map_or(0, Record::last)
    }

    /// Takes away what is below `first`.
    pub fn trim(&mut self, first: Seq) {
        self.first = first;
        self.trimmed = self.records.partition_point(|record| record.last() < first);
    }

    /// What a new coordinator reads back, with the next epoch.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn recover(&mut self, limits: Limits) -> Result<(Group, Epoch), RecoverError> {
        let log = self.log_id;
        let (mut group, covered) = match &self.snapshot {
            Some((bytes, covered)) => (Group::restore(log, limits, self.first, bytes)?, *covered),
            None => (Group::new(log, limits), 0),
        };
        saw(if covered > 0 { Seen::SnapshotRecovered } else { Seen::LogRecovered });
        for record in &self.records[covered.max(self.trimmed)..] {
            group.replay(record.first, record.count, &record.notes, &record.entries)?;
        }
        if let Some(Torn { left, bytes }) = self.torn.take() {
            saw(Seen::TornWrite);
            // An engine sees by length and checksum that this is no record.
            if left.bytes() == bytes || planted(Bug::TakeTornWrite) {
                group.replay(left.first, left.count, &left.notes, &left.entries)?;
            }
        }
        Ok((group, self.epoch + 1))
    }
}
