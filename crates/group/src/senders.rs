//! The table that makes retries safe: which counter of which sender got which number. (Promise 4, *Once*.)
//!
//! Rule: counters of one sender rise strictly and are appended in that order. A counter that was appended answers with its
//! number, also while it is being stored; one that the table no longer knows answers `Expired`, and is never appended again.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::ids::{Incarnation, SenderId, Seq};
use crate::limits::NUMBERS_PER_SENDER_MAX;
use crate::planted::{Bug, planted};

/// What to do with a message of a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Append it.
    Fresh,
    /// It is already there.
    Duplicate { seq: Seq, publisher: Option<Incarnation> },
    /// Too old to know: the outcome is unknown.
    Expired,
    /// It was never appended and cannot be any more, because a later one was.
    Skipped,
}

/// Messages whose counters and numbers both rise by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SentRun {
    pub counter: u64,
    pub seq: Seq,
    pub count: u64,
    pub publisher: Option<Incarnation>,
}

impl SentRun {
    const fn last_seq(&self) -> Seq {
        self.seq + self.count - 1
    }

    pub const fn last_counter(&self) -> u64 {
        self.counter + (self.count - 1)
    }
}

/// What stands for a sender in entries, and since which entry. From outside it is the number of the first one itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Introduced {
    pub number: u64,
    pub at: Seq,
}

/// One sender.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sender {
    /// What stands for it in entries: the number of its first one from outside, and each stay through which it sent.
    pub numbers: Vec<Introduced>,
    pub last_counter: u64,
    /// Counters up to here that are in no run any more.
    pub forgotten: u64,
    pub runs: VecDeque<SentRun>,
}

/// How many runs a sender may have, apart from what is not stored yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub runs_max: usize,
    pub stored: Seq,
}

impl Sender {
    pub fn check(&self, counter: u64) -> Verdict {
        if counter > self.last_counter {
            return Verdict::Fresh;
        }
        let after = self.runs.partition_point(|run| run.counter <= counter);
        match after.checked_sub(1).map(|i| self.runs[i]) {
            None => Verdict::Expired,
            Some(run) if counter - run.counter < run.count => Verdict::Duplicate {
                seq: run.seq + (counter - run.counter),
                publisher: run.publisher,
            },
            Some(_) => Verdict::Skipped,
        }
    }

    /// What its connection knows of it, where the table has forgotten it: counters up to there do not come back as new ones,
    /// also when what is accepted now has to be taken back.
    pub fn goes_on_after(&mut self, last_counter: u64) {
        if self.last_counter == 0 {
            (self.last_counter, self.forgotten) = (last_counter, last_counter);
        }
    }

    pub fn accept(
        &mut self,
        counter: u64,
        seq: Seq,
        publisher: Option<Incarnation>,
        bounds: Bounds,
    ) {
        debug_assert!(counter > self.last_counter, "promise 4: counters rise strictly");
        self.last_counter = counter;
        match self.runs.back_mut() {
            Some(run)
                if run.last_counter().checked_add(1) == Some(counter)
                    && run.seq + run.count == seq
                    && run.publisher == publisher =>
            {
                run.count += 1;
            }
            _ => {
                // Only what is stored counts as forgotten: the rest may have to be taken back, and come again.
                while self.runs.len() >= bounds.runs_max
                    && let Some(run) = self.runs.pop_front_if(|run| run.last_seq() <= bounds.stored)
                {
                    self.forgotten = run.last_counter();
                }
                self.runs.push_back(SentRun { counter, seq, count: 1, publisher });
            }
        }
    }

    /// What stands for it in entries from outside.
    pub fn outside_number(&self) -> Option<u64> {
        self.numbers.iter().find(|one| one.number == one.at).map(|one| one.number)
    }

    /// Notes that `number` stands for it from the entry `at` on; answers whether that is new.
    pub fn introduce(&mut self, number: u64, at: Seq) -> bool {
        let new = self.numbers.iter().all(|one| one.number != number);
        if new {
            self.numbers.push(Introduced { number, at });
        }
        new
    }

    /// Takes the oldest stay's number away where there are too many; should it send again, it is introduced again.
    fn retire_number(&mut self) -> Option<u64> {
        let oldest = self.numbers.iter().position(|one| one.number != one.at)?;
        let too_many = self.numbers.len() > NUMBERS_PER_SENDER_MAX;
        too_many.then(|| self.numbers.remove(oldest).number)
    }

    pub fn last_seq(&self) -> Seq {
        self.runs.back().map_or(0, SentRun::last_seq)
    }

    /// The last counter whose number is at most `stored`.
    pub fn last_counter_as_of(&self, stored: Seq) -> u64 {
        let run = self.runs.iter().rev().find(|run| run.seq <= stored);
        run.map_or(self.forgotten, |run| {
            run.last_counter().min(run.counter.saturating_add(stored - run.seq))
        })
    }

    /// Takes back what is above `stored`.
    fn roll_back(&mut self, stored: Seq) {
        // The note that introduced a number is lost with its batch, also where the number is an older stay's.
        self.numbers.retain(|one| one.at <= stored);
        while let Some(run) = self.runs.back_mut().filter(|run| run.last_seq() > stored) {
            run.count = (stored + 1).saturating_sub(run.seq);
            if run.count == 0 {
                self.runs.pop_back();
            }
        }
        self.last_counter = self.runs.back().map_or(self.forgotten, SentRun::last_counter);
    }
}

/// All senders that are remembered, bounded; the least recently used goes first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Senders {
    by_id: HashMap<SenderId, Sender>,
    by_number: HashMap<u64, SenderId>,
    by_use: BTreeSet<(Seq, SenderId)>,
}

impl Senders {
    /// Those of which everything is stored.
    pub fn count_stored(&self, stored: Seq) -> usize {
        self.by_use.iter().take_while(|(last, _)| *last <= stored).count()
    }

    pub fn get(&self, id: SenderId) -> Option<&Sender> {
        self.by_id.get(&id)
    }

    /// Which sender an entry's sender number stands for.
    pub fn id_of(&self, number: u64) -> Option<SenderId> {
        self.by_number.get(&number).copied()
    }

    /// Takes a sender out of the table to work on it; a new one when it is not known.
    pub fn take(&mut self, id: SenderId) -> Sender {
        self.by_id.remove(&id).unwrap_or_default()
    }

    /// Puts back what [`Senders::take`] gave; `before` is its last number of then. One that has never sent is not kept.
    pub fn put_back(&mut self, id: SenderId, mut sender: Sender, before: Seq) {
        if sender.last_counter == 0 || planted(Bug::ForgetDuplicate) {
            return;
        }
        while let Some(retired) = sender.retire_number() {
            self.by_number.remove(&retired);
        }
        self.by_use.remove(&(before, id));
        self.by_use.insert((sender.last_seq(), id));
        sender.numbers.iter().for_each(|one| {
            self.by_number.insert(one.number, id);
        });
        self.by_id.insert(id, sender);
    }

    /// Forgets the least recently used where there are more than `senders_max`. Only what is stored can be forgotten: the rest
    /// may have to be taken back, and come again.
    pub fn forget_oldest(&mut self, senders_max: usize, stored: Seq) -> Option<(SenderId, Sender)> {
        if self.by_id.len() <= senders_max {
            return None;
        }
        let (_, id) = self.by_use.first().copied().filter(|(last, _)| *last <= stored)?;
        self.by_use.pop_first();
        let sender = self.by_id.remove(&id)?;
        sender.numbers.iter().for_each(|one| {
            self.by_number.remove(&one.number);
        });
        Some((id, sender))
    }

    /// Takes back what was proposed above `stored` and could not be stored.
    pub fn roll_back(&mut self, stored: Seq) {
        self.by_id.values_mut().for_each(|sender| sender.roll_back(stored));
        self.by_id.retain(|_, sender| sender.last_counter > 0);
        self.by_use = self.by_id.iter().map(|(id, sender)| (sender.last_seq(), *id)).collect();
        self.by_number.retain(|number, _| *number <= stored);
    }

    /// Everything that has been stored, for the snapshot, in the order of the ids.
    pub fn stored(&self, stored: Seq) -> Vec<(SenderId, Sender)> {
        let mut all: Vec<_> = self
            .by_id
            .iter()
            .map(|(id, sender)| {
                let mut sender = sender.clone();
                if !planted(Bug::SnapshotAhead) {
                    sender.roll_back(stored);
                }
                (*id, sender)
            })
            .filter(|(_, sender)| sender.last_counter > 0)
            .collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(pairs: &[(u64, Seq)]) -> Sender {
        let mut sender = Sender::default();
        let bounds = Bounds { runs_max: 3, stored: 100 };
        pairs.iter().for_each(|(counter, seq)| sender.accept(*counter, *seq, None, bounds));
        sender
    }

    #[test]
    fn a_retry_gets_its_number_back_and_an_old_one_is_expired() {
        let sender = sent(&[(1, 10), (2, 11), (5, 12), (6, 20), (7, 30)]);
        assert_eq!(sender.runs.len(), 3, "the oldest run was forgotten");
        assert_eq!(sender.check(1), Verdict::Expired);
        assert_eq!(sender.check(5), Verdict::Duplicate { seq: 12, publisher: None });
        assert_eq!(sender.check(7), Verdict::Duplicate { seq: 30, publisher: None });
        assert_eq!(sender.check(8), Verdict::Fresh);
        assert_eq!(sent(&[(1, 1), (3, 2)]).check(2), Verdict::Skipped);
    }

    /// Found by the fuzz target `recover`: counters are the sender's own, and one may be the last there is.
    #[test]
    fn the_highest_counter_is_one_like_the_others() {
        let sender = sent(&[(u64::MAX - 1, 10), (u64::MAX, 11)]);
        assert_eq!(sender.check(u64::MAX), Verdict::Duplicate { seq: 11, publisher: None });
        assert_eq!((sender.last_seq(), sender.last_counter_as_of(10)), (11, u64::MAX - 1));
        assert_eq!(sent(&[(u64::MAX, 10)]).last_counter_as_of(50), u64::MAX);
    }

    #[test]
    fn what_was_not_stored_is_taken_back() {
        let mut sender = sent(&[(1, 10), (2, 11), (3, 12)]);
        sender.roll_back(10);
        assert_eq!(sender.check(1), Verdict::Duplicate { seq: 10, publisher: None });
        assert_eq!(sender.check(2), Verdict::Fresh);
        let mut gap = sent(&[(1, 10), (5, 12)]);
        gap.roll_back(10);
        assert_eq!((gap.last_counter, gap.check(2)), (1, Verdict::Fresh));
    }

    #[test]
    fn a_sender_of_many_stays_keeps_its_first_number_and_the_newest() {
        let (mut senders, id) = (Senders::default(), SenderId([1; 16]));
        for n in 1..=200 {
            let mut sender = senders.take(id);
            let before = sender.last_seq();
            // The first is its number from outside, the others are stays that joined before they sent.
            sender.introduce(if n == 1 { 10 } else { 10 * n - 5 }, 10 * n);
            sender.accept(n, 10 * n, None, Bounds { runs_max: 8, stored: 10 * n });
            senders.put_back(id, sender, before);
            senders.forget_oldest(2, 10 * n);
        }
        assert_eq!(
            senders.get(id).map(|sender| sender.numbers.len()),
            Some(NUMBERS_PER_SENDER_MAX)
        );
        assert_eq!(senders.by_number.len(), NUMBERS_PER_SENDER_MAX);
        assert_eq!(
            (senders.id_of(10), senders.id_of(1995), senders.id_of(15)),
            (Some(id), Some(id), None)
        );
    }

    #[test]
    fn the_table_forgets_the_least_recently_used() {
        let mut senders = Senders::default();
        for n in 1..=3u8 {
            let id = SenderId([n; 16]);
            let mut sender = senders.take(id);
            sender.introduce(u64::from(n), u64::from(n));
            sender.accept(1, u64::from(n), None, Bounds { runs_max: 8, stored: 0 });
            senders.put_back(id, sender, 0);
            senders.forget_oldest(2, u64::from(n));
        }
        assert!(senders.get(SenderId([1; 16])).is_none());
        assert_eq!(senders.id_of(1), None);
        assert!(senders.get(SenderId([2; 16])).is_some());
    }
}
