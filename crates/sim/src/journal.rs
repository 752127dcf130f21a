//! The journal: what is stored, the one batch that is on its way, and what a crash takes.

use bytes::{Bytes, BytesMut};
use tertulia_group::entry::entries;
use tertulia_group::{Batch, Entry, Epoch, Group, Limits, LogId, RecoverError, Seq};

#[derive(Clone, Debug)]
struct Record {
    first: Seq,
    count: u32,
    notes: Bytes,
    entries: Bytes,
}

#[derive(Debug, Default)]
pub struct Journal {
    records: Vec<Record>,
    /// Every entry that was ever stored; number n is at n - 1. Trimming does not take it from the checks.
    log: Vec<Entry>,
    /// With how many records it covers.
    snapshot: Option<(Bytes, usize)>,
    pub first: Seq,
    pending: Option<Batch>,
    epoch: Epoch,
}

impl Journal {
    pub fn new() -> Self {
        Self { first: 1, ..Self::default() }
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
        if batch.epoch < self.epoch {
            return Err(format!("epoch {} appends after epoch {}", batch.epoch, self.epoch));
        }
        if self.pending.is_some() || batch.first != self.tail() + 1 {
            return Err(format!("{} does not go on from {}", batch.first, self.tail()));
        }
        self.epoch = batch.epoch;
        self.pending = Some(batch);
        Ok(())
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
        let mut bytes = BytesMut::new();
        batch.entries.iter().for_each(|piece| bytes.extend_from_slice(piece));
        let bytes = bytes.freeze();
        let new: Vec<Entry> = entries(bytes.clone())
            .collect::<Result<_, _>>()
            .map_err(|error| format!("what is stored cannot be read: {error}"))?;
        if new.len() != batch.count as usize {
            return Err(format!("{} entries instead of {}", new.len(), batch.count));
        }
        self.log.extend(new.iter().cloned());
        let (first, count, notes) = (batch.first, batch.count, batch.notes);
        self.records.push(Record { first, count, notes, entries: bytes });
        Ok(new)
    }

    /// What was on its way is not stored.
    pub fn drop_pending(&mut self) {
        self.pending = None;
    }

    pub fn keep_snapshot(&mut self, bytes: Bytes) {
        self.snapshot = Some((bytes, self.records.len()));
    }

    /// The last number that the snapshot covers: trimming goes only below it.
    pub fn snapshot_tail(&self) -> Seq {
        let covered = self.snapshot.as_ref().map_or(0, |(_, covered)| *covered);
        self.records[..covered].last().map_or(0, |last| last.first + u64::from(last.count) - 1)
    }

    /// What a new coordinator reads back, with the next epoch.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn recover(&self, log: LogId, limits: Limits) -> Result<(Group, Epoch), RecoverError> {
        let (mut group, covered) = match &self.snapshot {
            Some((bytes, covered)) => (Group::restore(log, limits, self.first, bytes)?, *covered),
            None => (Group::new(log, limits), 0),
        };
        for record in &self.records[covered..] {
            group.replay(record.first, record.count, &record.notes, &record.entries)?;
        }
        Ok((group, self.epoch + 1))
    }
}
