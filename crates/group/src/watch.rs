//! Receipts for whoever looks on: each message's once it is final, whoever sent it and whether or not they are still there.
//!
//! Costs nothing while nobody looks on. What is told is not kept: who comes later asks by number.

use std::collections::BTreeMap;

use crate::effect::Published;
use crate::group::Group;
use crate::ids::{Incarnation, Now, Seq};
use crate::waiting::{HeldFor, WaitedBy, Waiting};

/// Messages whose receipts are to be told, by who published them: that stay is not asked for its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch(BTreeMap<Option<Incarnation>, Waiting>);

impl Watch {
    pub fn runs(&self) -> usize {
        self.0.values().map(Waiting::len).sum()
    }

    /// The older half is not told: so seldom that it costs each run next to nothing.
    fn drop_older_half(&mut self) {
        let mut all: Vec<Seq> = self.0.values().flat_map(Waiting::numbers).collect();
        let middle = all.len() / 2;
        let (_, middle, _) = all.select_nth_unstable(middle);
        let floor = *middle;
        self.drop_below(floor);
    }

    /// Messages below `floor` are not told.
    fn drop_below(&mut self, floor: Seq) {
        for waiting in self.0.values_mut() {
            while waiting.take_to(floor.saturating_sub(1)).is_some() {}
        }
        self.0.retain(|_, waiting| !waiting.is_empty());
    }
}

impl Group {
    /// Somebody looks on from now on. `pending`: messages that are stored already, with their publishers; what is final among
    /// them is told at once.
    pub(crate) fn watch(&mut self, pending: Vec<(Seq, Option<Incarnation>)>) {
        if self.watch.is_none() {
            self.watch = Some(Watch::default());
            for (seq, publisher) in pending {
                self.hold(seq, HeldFor::Watch, publisher);
            }
        }
    }

    /// Nobody looks on any more.
    pub(crate) fn unwatch(&mut self) {
        if self.watch.take().is_some() {
            self.held.retain(|(_, held_for), _| *held_for != HeldFor::Watch);
        }
    }

    /// Whether somebody looks on.
    pub const fn is_watched(&self) -> bool {
        self.watch.is_some()
    }

    /// Messages that are stored just now.
    pub(crate) fn watch_run(&mut self, run: &Published) {
        if self.watch.is_none() {
            return;
        }
        // Runs of several connections are one, as far as their numbers go on.
        let new = self.waiting_run(run, run.seq);
        let Some(watch) = &mut self.watch else { return };
        watch.0.entry(run.publisher).or_default().push(new);
        self.moved = true;
    }

    pub(crate) fn answer_watch(&mut self, now: Now) {
        let Some(mut watch) = self.watch.take() else { return };
        let mut left = self.weight_max();
        for (publisher, waiting) in &mut watch.0 {
            let bound = self.bound(*publisher);
            while left > 0
                && let Some(done) = waiting.take_to(bound)
            {
                let (given, rest) = self.answer_run(now, WaitedBy::Watch, done, *publisher, left);
                left = left.saturating_sub(given);
                rest.into_iter().for_each(|rest| waiting.put_back(rest));
            }
        }
        // The rest comes with the next turn: nobody else waits for it.
        self.moved |= left == 0;
        watch.0.retain(|_, waiting| !waiting.is_empty());
        while watch.runs() > self.limits.watched_runs_max {
            watch.drop_older_half();
        }
        self.watch = Some(watch);
    }

    /// Receipts below `floor` cannot be given any more.
    pub(crate) fn unwatch_below(&mut self, floor: Seq) {
        if let Some(watch) = &mut self.watch {
            watch.drop_below(floor);
        }
    }
}
