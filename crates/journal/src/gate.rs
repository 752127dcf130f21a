//! What may be appended next: validation in the order of the calls, ahead of what is stored.

use std::collections::HashMap;

use crate::{AppendError, Batch, LogId};

/// The end of a log, in flight batches included.
#[derive(Clone, Debug)]
pub(crate) struct Tail {
    pub epoch: u32,
    pub next: u64,
    pub snapshot_at: Option<u64>,
    /// Which life of the id this is: the engine's number for the record that created the log.
    pub born: u64,
    pub damaged: Option<Box<str>>,
}

impl Tail {
    const fn new(born: u64) -> Self {
        Self { epoch: 0, next: 1, snapshot_at: None, born, damaged: None }
    }

    fn fence(&self, epoch: u32) -> Result<(), AppendError> {
        if let Some(what) = &self.damaged {
            return Err(AppendError::Damaged(what.to_string()));
        }
        if epoch < self.epoch {
            return Err(AppendError::Fenced { current: self.epoch });
        }
        Ok(())
    }
}

/// Validates operations one after the other. Owned by the engine's thread: no lock.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    tails: HashMap<LogId, Tail>,
    /// After a refusal: batches of this epoch or an older one, with a ticket below the second number,
    /// were called before anybody could know of it.
    broken: HashMap<LogId, (u32, u64)>,
}

impl Gate {
    /// A gate that knows the ends of existing logs.
    pub fn new(tails: HashMap<LogId, Tail>) -> Self {
        Self { tails, broken: HashMap::new() }
    }

    /// The end of a log that exists.
    pub fn tail(&self, log: LogId) -> Option<&Tail> {
        self.tails.get(&log)
    }

    /// Whether `batch` may be appended now; changes nothing of the tail.
    pub fn check_append(&mut self, ticket: u64, batch: &Batch) -> Result<(), AppendError> {
        let fresh = Tail::new(0);
        let tail = self.tails.get(&batch.log).unwrap_or(&fresh);
        tail.fence(batch.epoch)?;
        let out_of_order = AppendError::OutOfOrder { got: batch.first, expected: tail.next };
        if let Some((epoch, until)) = self.broken.get(&batch.log).copied() {
            if ticket >= until {
                self.broken.remove(&batch.log);
            } else if batch.epoch <= epoch {
                return Err(out_of_order);
            }
        }
        if batch.first != tail.next || batch.first.checked_add(u64::from(batch.count)).is_none() {
            return Err(out_of_order);
        }
        Ok(())
    }

    /// Takes note of a batch that passed and will be stored under `id`.
    pub fn appended(&mut self, batch: &Batch, id: u64) {
        let tail = self.tails.entry(batch.log).or_insert_with(|| Tail::new(id));
        tail.epoch = batch.epoch;
        tail.next = batch.first + u64::from(batch.count);
    }

    /// Whether a snapshot at `at` may be stored now.
    pub fn check_snapshot(&self, log: LogId, epoch: u32, at: u64) -> Result<(), AppendError> {
        let fresh = Tail::new(0);
        let tail = self.tails.get(&log).unwrap_or(&fresh);
        tail.fence(epoch)?;
        if at >= tail.next {
            return Err(AppendError::OutOfOrder { got: at, expected: tail.next - 1 });
        }
        match tail.snapshot_at {
            Some(older) if at < older => Err(AppendError::OutOfOrder { got: at, expected: older }),
            _ => Ok(()),
        }
    }

    /// Takes note of a snapshot that passed.
    pub fn saved(&mut self, log: LogId, epoch: u32, at: u64, id: u64) {
        let tail = self.tails.entry(log).or_insert_with(|| Tail::new(id));
        tail.epoch = epoch;
        tail.snapshot_at = Some(at);
    }

    /// Forgets the log; whether there was one.
    pub fn deleted(&mut self, log: LogId) -> bool {
        self.broken.remove(&log);
        self.tails.remove(&log).is_some()
    }

    /// A batch was refused: those with a ticket below `until` go the same way.
    pub fn refused(&mut self, log: LogId, epoch: u32, until: u64) {
        let entry = self.broken.entry(log).or_insert((epoch, until));
        *entry = (entry.0.max(epoch), until);
    }
}
