//! The index of one log: which batches it keeps and where; the same for every engine, which says what "where" is.

use std::collections::VecDeque;

use crate::{AppendError, ReadError, Usage};

/// One batch of a log; `L` is where the engine keeps its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Entry<L> {
    pub first: u64,
    pub count: u32,
    pub epoch: u32,
    pub time_us: u64,
    /// Bytes of this batch and of all before it since the log's beginning (or its last opening): a
    /// running sum, so that retention by size is a binary search.
    bytes_to: u64,
    pub at: L,
}

/// Whether a batch lies wholly below `number`. Notes alone lie at the number that they were appended at.
pub(crate) const fn is_before(first: u64, count: u32, number: u64) -> bool {
    if count == 0 { first < number } else { first + count as u64 <= number }
}

/// What an engine knows of one log.
#[derive(Debug)]
pub(crate) struct Log<L> {
    /// The highest epoch that has appended.
    pub epoch: u32,
    /// The lowest number kept.
    pub first: u64,
    /// The number of the next entry.
    pub next: u64,
    /// The newest snapshot's number, and where it is.
    pub snapshot: Option<(u64, L)>,
    records: VecDeque<Entry<L>>,
    bytes_gone: u64,
}

impl<L> Default for Log<L> {
    fn default() -> Self {
        Self {
            epoch: 0,
            first: 1,
            next: 1,
            snapshot: None,
            records: VecDeque::new(),
            bytes_gone: 0,
        }
    }
}

impl<L: Clone> Log<L> {
    /// Adds a batch that has been validated: `first` is the next number.
    pub fn push(&mut self, first: u64, count: u32, epoch: u32, time_us: u64, bytes: u64, at: L) {
        debug_assert_eq!(first, self.next);
        let bytes_to = self.bytes_end() + bytes;
        self.records.push_back(Entry { first, count, epoch, time_us, bytes_to, at });
        self.next = first + u64::from(count);
        self.epoch = self.epoch.max(epoch);
    }

    fn bytes_end(&self) -> u64 {
        self.records.back().map_or(self.bytes_gone, |entry| entry.bytes_to)
    }

    fn bytes_before(&self, index: usize) -> u64 {
        if index == 0 { self.bytes_gone } else { self.records[index - 1].bytes_to }
    }

    /// The batches that [`crate::Journal::read`] answers.
    pub fn range(&self, from: u64, bytes_max: usize) -> Result<Vec<Entry<L>>, ReadError> {
        let from = from.max(1);
        if from < self.first {
            return Err(ReadError::Trimmed { first: self.first });
        }
        let begin = self.records.partition_point(|e| is_before(e.first, e.count, from));
        let limit = self.bytes_before(begin).saturating_add(bytes_max as u64);
        let mut has_entries = false;
        let taken = self.records.range(begin..).take_while(|entry| {
            let is_taken = !has_entries || entry.bytes_to <= limit;
            has_entries |= entry.count > 0;
            is_taken
        });
        Ok(taken.cloned().collect())
    }

    /// Drops what lies below `below` and answers what was dropped.
    pub fn trim(&mut self, below: u64) -> Result<Vec<L>, AppendError> {
        let covered = self.snapshot.as_ref().map_or(self.first, |(at, _)| at + 1);
        if below <= self.first {
            return Ok(Vec::new());
        }
        if below > covered {
            return Err(AppendError::OutOfOrder { got: below, expected: covered });
        }
        let holder = self.records.partition_point(|e| is_before(e.first, e.count, below));
        self.first = self.records.get(holder).map_or(self.next, |entry| entry.first);
        let cut = self.records.partition_point(|e| is_before(e.first, e.count, self.first));
        self.bytes_gone = self.bytes_before(cut);
        Ok(self.records.drain(..cut).map(|entry| entry.at).collect())
    }

    /// See [`crate::Journal::usage`].
    pub fn usage(&self) -> Usage {
        Usage { bytes: self.bytes_end() - self.bytes_gone, records: self.records.len() as u64 }
    }

    /// See [`crate::Journal::keep_from`].
    pub fn keep_from(&self, bytes_max: u64, since_us: u64) -> u64 {
        let floor = self.bytes_end().saturating_sub(bytes_max);
        let mut cut = if floor <= self.bytes_gone {
            0
        } else {
            self.records.partition_point(|entry| entry.bytes_to < floor) + 1
        };
        while self.records.get(cut).is_some_and(|entry| entry.time_us < since_us) {
            cut += 1;
        }
        // A number's notes come before its entries: cutting at the number would keep them as well.
        while cut > 0
            && cut < self.records.len()
            && self.records[cut - 1].first == self.records[cut].first
        {
            cut += 1;
        }
        match self.records.get(cut) {
            _ if cut == 0 => self.first,
            Some(entry) => entry.first,
            None => self.next,
        }
    }

    /// All that is kept, oldest first.
    pub fn records(&self) -> impl Iterator<Item = &Entry<L>> {
        self.records.iter()
    }

    /// The batch that begins at `first` and for which `same` holds: where several begin there (notes),
    /// the one that the engine means.
    pub fn find_mut(&mut self, first: u64, same: impl Fn(&L) -> bool) -> Option<&mut L> {
        let begin = self.records.partition_point(|entry| entry.first < first);
        let here = self.records.range_mut(begin..).take_while(|entry| entry.first == first);
        here.map(|entry| &mut entry.at).find(|at| same(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(batches: &[(u32, u64, u64)]) -> Log<usize> {
        let mut log = Log::default();
        for (index, (count, time_us, bytes)) in batches.iter().enumerate() {
            log.push(log.next, *count, 1, *time_us, *bytes, index);
        }
        log
    }

    #[test]
    fn keeping_by_size_and_age() {
        let log = log(&[(2, 10, 100), (0, 20, 50), (1, 30, 100), (3, 40, 100)]);
        for (bytes_max, since_us, expected) in [
            (1_000, 0, 1),
            (350, 0, 1),
            (349, 0, 3),
            (250, 0, 3),
            (249, 0, 4),
            (100, 0, 4),
            (99, 0, 7),
            (1_000, 15, 3),
            (1_000, 30, 4),
            (1_000, 41, 7),
        ] {
            let got = log.keep_from(bytes_max, since_us);
            assert_eq!(got, expected, "at most {bytes_max} bytes, since {since_us}");
        }
    }
}
