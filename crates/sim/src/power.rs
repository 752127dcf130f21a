//! Coordinators that die, that are overtaken and do not notice, and power cuts that take what was not synced.

use tertulia_group::{Batch, Input, LogId, Seq, Ticket};

use crate::checks::Verdict;
use crate::coverage::{Seen, saw};
use crate::journal::Level;
use crate::node::Node;
use crate::world::{Event, World};

const OVERTAKEN_MAX: usize = 5;

/// A coordinator that does not know that another one has taken over.
pub struct Overtaken {
    node: Node,
    /// What it was about to append.
    batch: Option<Batch>,
    /// It tries so often.
    tries: u64,
}

impl World {
    /// The coordinator dies; a batch that is on its way may have been stored all the same.
    pub fn crash(&mut self, keeps: bool) -> Verdict {
        if self.journal.level() == Level::Memory {
            return self.power_cut();
        }
        if self.node.take().is_none() {
            return Ok(());
        }
        saw(Seen::Crash);
        self.note("the node dies, the journal keeps what is on its way: {}", [u64::from(keeps)]);
        match self.journal.pending() {
            Some(_) if keeps => {
                saw(Seen::CrashKept);
                self.store()?;
            }
            Some(_) => {
                saw(Seen::CrashLost);
                self.journal.take_pending();
            }
            None => {}
        }
        self.without_coordinator();
        Ok(())
    }

    /// Another coordinator takes over from a living one, which goes on appending.
    pub fn succession(&mut self) -> Verdict {
        if self.journal.level() == Level::Memory {
            return self.power_cut();
        }
        let Some(node) = self.node.take() else { return Ok(()) };
        saw(Seen::Succession);
        self.note("a node is cut off and does not know it", []);
        let batch = self.journal.take_pending();
        let tries = self.rng.within(1, 3);
        if self.overtaken.len() < OVERTAKEN_MAX {
            self.overtaken.push_back(Overtaken { node, batch, tries });
            let delay = self.rng.log_within(1, 60_000);
            self.at(delay, Event::OvertakenAppends);
        }
        if self.overtaken.len() > 1 {
            saw(Seen::ManyOvertaken);
        }
        self.without_coordinator();
        // Before it has come far, sometimes the next one takes over.
        if self.rng.chance(300) {
            let delay = self.rng.within(1, 4000);
            self.at(delay, Event::Succession);
        }
        Ok(())
    }

    fn without_coordinator(&mut self) {
        self.crashes += 1;
        self.generation += 1;
        let conns: Vec<u64> = self.links.keys().copied().collect();
        conns.into_iter().for_each(|conn| self.cut(conn));
        let delay = self.rng.within(1, 3000);
        self.at(delay, Event::NodeStarts);
    }

    /// Fencing: once a later epoch is in the journal, what an overtaken one appends is refused, however late it wakes up.
    pub fn overtaken_appends(&mut self) -> Verdict {
        let now = self.clock();
        let Some(Overtaken { mut node, batch, tries }) = self.overtaken.pop_front() else {
            return Ok(());
        };
        if self.journal.epoch() <= node.group.epoch() || self.journal.pending().is_some() {
            self.overtaken.push_back(Overtaken { node, batch, tries });
            self.at(20, Event::OvertakenAppends);
            return Ok(());
        }
        let batch = batch.or_else(|| {
            let name = node.group.members().map(|member| member.name.clone()).min()?;
            node.group.handle(now, Input::Remove(Ticket(0), name));
            node.group.take_batch(now)
        });
        let Some(batch) = batch else { return Ok(()) };
        match self.journal.append(batch.clone()) {
            Ok(()) => self.store(),
            Err(refused) => {
                self.trace.say(self.now, "a node that was cut off is fenced: ", refused);
                if tries > 1 {
                    let tries = tries - 1;
                    self.overtaken.push_back(Overtaken { node, batch: Some(batch), tries });
                    let delay = self.rng.within(1, 3000);
                    self.at(delay, Event::OvertakenAppends);
                }
                Ok(())
            }
        }
    }

    /// Everything stops at once. At the level `os` that may lose the end of the log, at `fsync` nothing, at `memory` all.
    pub fn power_cut(&mut self) -> Verdict {
        if self.node.take().is_none() {
            return Ok(());
        }
        saw(Seen::PowerCut);
        // It may have been written whole, and nobody was answered.
        if self.journal.pending().is_some() && self.rng.chance(200) {
            self.store()?;
        }
        let before = self.journal.tail();
        let mut left = self.journal.power_cut(&mut self.rng);
        if self.journal.level() == Level::Memory {
            let log = LogId(self.rng.bytes());
            self.journal.begin_anew(log);
            left = 0;
        }
        self.note("a power cut, of {} numbers {} are left", [before, left]);
        if self.truth.answered.last_key_value().is_some_and(|(last, _)| *last > left) {
            saw(Seen::TailLost);
        }
        self.without_coordinator();
        self.links.clear();
        self.programs.iter_mut().for_each(|one| one.session = None);
        if self.journal.level() != Level::Fsync {
            self.truth.lose_above(self.journal.epoch(), left);
            self.programs.iter_mut().for_each(|one| one.disk.lose_above(left));
        }
        Ok(())
    }
}

impl crate::program::Disk {
    /// The position stays what it is: the node has to cut it back. The rest is kept with its epochs, so that it is not taken
    /// for what comes under the same numbers.
    fn lose_above(&mut self, left: Seq) {
        self.done.retain(|seq| *seq <= left);
        self.failed.retain(|seq, _| *seq <= left);
        for letter in self.letters.values_mut() {
            letter.stored = letter.stored.filter(|seq| *seq <= left);
        }
        self.may_be_unknown = true;
    }
}
