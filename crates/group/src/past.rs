//! What receipts need to know of the past: who left when and how far it had come, what failed, which epoch a number is of.

use std::collections::{BTreeMap, VecDeque};

use crate::ids::{Epoch, Incarnation, SecretDigest, Seq};
use crate::limits::PLACE_KEPT_US;
use crate::name::Name;

/// A stay that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Departed {
    pub key: Incarnation,
    pub name: Name,
    /// The number of its `left` entry.
    pub left: Seq,
    /// Wall clock of that entry.
    pub left_us: u64,
    /// Who shows the secret of this digest may read on from here.
    pub secret: SecretDigest,
    pub acked: Seq,
    pub reached: Seq,
    pub open: Vec<Seq>,
}

/// A member that will not do what a message asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub key: Incarnation,
    pub name: Name,
    pub code: String,
}

/// Bounded; receipts of numbers below `floor` cannot be given any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Past {
    /// In the order of `left`.
    pub departed: VecDeque<Departed>,
    pub failures: BTreeMap<Seq, Vec<Failure>>,
    pub failure_count: usize,
    /// (epoch, its first number), both rising.
    pub epochs: Vec<(Epoch, Seq)>,
    pub floor: Seq,
}

impl Past {
    pub fn depart(&mut self, departed: Departed) {
        self.departed.push_back(departed);
    }

    /// From where on receipts can be given with no more than so much of the past; `None` when nothing has to go.
    pub fn floor_within(&self, departed_max: usize, failures_max: usize) -> Option<Seq> {
        let gone = self.departed.len().checked_sub(departed_max.saturating_add(1));
        let departed = gone.map(|last| self.departed[last].left);
        let mut over = self.failure_count.saturating_sub(failures_max);
        let mut failed = None;
        for (seq, failures) in &self.failures {
            if over == 0 {
                break;
            }
            over = over.saturating_sub(failures.len());
            failed = Some(seq + 1);
        }
        departed.max(failed)
    }

    /// Receipts below `floor` cannot be given any more; what only they need is dropped.
    pub fn raise_floor(&mut self, floor: Seq) {
        self.floor = self.floor.max(floor);
        while self.departed.front().is_some_and(|departed| departed.left <= floor) {
            self.departed.pop_front();
        }
        let kept = self.failures.split_off(&floor);
        self.failure_count = kept.values().map(Vec::len).sum();
        self.failures = kept;
    }

    /// The stay of this name and secret that is over, for as long as its cursor is kept as a place to read from.
    pub fn earlier_stay(
        &self,
        name: &Name,
        secret: SecretDigest,
        now_us: u64,
    ) -> Option<&Departed> {
        let fresh = |departed: &&Departed| now_us.saturating_sub(departed.left_us) <= PLACE_KEPT_US;
        let same = |departed: &&Departed| {
            departed.secret == secret && departed.name.folded() == name.folded()
        };
        self.departed.iter().rev().take_while(fresh).find(same)
    }

    /// Who left after `seq`.
    pub fn departed_after(&self, seq: Seq) -> impl Iterator<Item = &Departed> {
        let start = self.departed.partition_point(|departed| departed.left <= seq);
        self.departed.range(start..)
    }

    pub fn fail(&mut self, seq: Seq, failure: Failure) {
        let of_message = self.failures.entry(seq).or_default();
        if of_message.iter().any(|known| known.key == failure.key) {
            return;
        }
        of_message.push(failure);
        self.failure_count += 1;
    }

    pub fn failed(&self, seq: Seq, key: Incarnation) -> Option<&Failure> {
        self.failures.get(&seq)?.iter().find(|failure| failure.key == key)
    }

    pub fn epoch_of(&self, seq: Seq) -> Epoch {
        let after = self.epochs.partition_point(|(_, first)| *first <= seq);
        after.checked_sub(1).map_or(0, |i| self.epochs[i].0)
    }

    /// The last number of `epoch`, or of the one before it where it never appended; `stored` when it is not over.
    pub fn end_of(&self, epoch: Epoch, stored: Seq) -> Seq {
        let after = self.epochs.partition_point(|(known, _)| *known <= epoch);
        self.epochs.get(after).map_or(stored, |(_, first)| first - 1)
    }

    /// Forgets what only concerns numbers below `first`.
    pub fn trim(&mut self, first: Seq) {
        self.raise_floor(first);
        let current = self.epochs.partition_point(|(_, start)| *start <= first).saturating_sub(1);
        // Ends of old epochs are what cuts a cursor back; a few are kept even though their entries are gone.
        self.epochs.drain(..current.saturating_sub(1024));
    }
}
