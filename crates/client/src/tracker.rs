//! How far a member's program is: which entries it was given, which it has done, and the acknowledgement that says so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tertulia_group::entry::code_is_clean;
use tertulia_group::limits::{CODE_BYTES_MAX, FAILED_PER_ACK_MAX, OPEN_MAX};
use tertulia_group::{Epoch, LogId, Position, Seq};
use tertulia_wire::native::{Ack, Failed, Welcome};
use tertulia_wire::safe::cut;
use tokio::time::Instant;

/// After this time a failure that was told is stored with the member's cursor, also if the coordinator ends.
const FAILURE_SETTLES: Duration = Duration::from_secs(10);
/// Failures that are kept, and open ones: more of them lie above the cursor. Told failures go, the oldest first, when there are
/// more before they have settled.
pub(crate) const KEPT_MAX: usize = 4096;

/// What to do with an entry that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Give it to the program.
    New,
    /// The program has it.
    Known,
    /// The log lost its end: what was given out from this number on is not in it. Say so, then give it to the program.
    CutBack,
}

#[derive(Clone, Debug)]
struct Failure {
    code: String,
    told: Option<Instant>,
}

/// What the node knows on this connection.
#[derive(Debug, Default)]
struct Told {
    epoch: Epoch,
    /// It has sent up to here.
    sent: Seq,
    /// It had this cursor and these open ones at the beginning: nothing below can be opened.
    acked_before: Seq,
    open_before: BTreeSet<Seq>,
    /// The last acknowledgement.
    cursor: Seq,
    open: Vec<Seq>,
}

/// See the module. Pure: whoever owns it sends what [`Tracker::ack`] gives.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    /// `None` until the first WELCOME.
    log: Option<LogId>,
    /// The epoch in which `read` came.
    epoch: Epoch,
    /// Everything up to here was given to the program, or need not be.
    read: Seq,
    /// Given, and nothing heard of it: the cursor waits before the first.
    pending: BTreeSet<Seq>,
    /// Given or to be given again, below the cursor, and not done.
    open: BTreeSet<Seq>,
    /// Those of `open` that this program has not been given yet.
    again: BTreeSet<Seq>,
    failed: BTreeMap<Seq, Failure>,
    told: Told,
}

impl Tracker {
    /// Goes on where an earlier life of the program had come to.
    pub fn resume(position: Position, open: &[Seq], failed: &[(Seq, String)]) -> Self {
        let open: BTreeSet<Seq> = open.iter().copied().filter(|s| *s <= position.seq).collect();
        let failed =
            failed.iter().map(|(seq, code)| (*seq, Failure { code: clean(code), told: None }));
        Self {
            log: Some(position.log),
            epoch: position.epoch,
            read: position.seq,
            again: open.clone(),
            open,
            failed: failed.collect(),
            ..Self::default()
        }
    }

    /// The cursor: everything up to here is done, apart from [`Tracker::open`] and failures.
    pub fn cursor(&self) -> Seq {
        let pending = self.pending.first().copied();
        let untellable = self.open_known().nth(OPEN_MAX);
        let excess = |count: usize| count > KEPT_MAX;
        // Those of an earlier membership are open beside the ones that the node can be told of.
        let open = excess(self.open.len()).then(|| self.open.iter().nth(KEPT_MAX)).flatten();
        let failed = excess(self.failed.len()).then(|| self.failed.keys().nth(KEPT_MAX)).flatten();
        let stops = [pending, untellable, open.copied(), failed.copied()];
        stops.into_iter().flatten().fold(self.read, |cursor, stop| cursor.min(stop - 1))
    }

    /// At work on these, up to the cursor; at most [`KEPT_MAX`].
    pub fn open(&self) -> Vec<Seq> {
        self.open.range(..=self.cursor()).copied().collect()
    }

    /// Failed and perhaps not stored with the node, up to the cursor; at most [`KEPT_MAX`].
    pub fn failed(&self) -> Vec<(Seq, String)> {
        let cursor = self.cursor();
        self.failed.range(..=cursor).map(|(seq, failure)| (*seq, failure.code.clone())).collect()
    }

    /// The log, and the epoch of what was read last.
    pub fn log(&self) -> Option<(LogId, Epoch)> {
        self.log.map(|log| (log, self.epoch))
    }

    /// The place to resume at: the node takes everything up to it as confirmed, so neither open nor failed ones lie below.
    pub fn position(&self) -> Option<Position> {
        let first = self.open.first().into_iter().chain(self.failed.keys().next()).min();
        let seq = first.map_or(self.cursor(), |first| self.cursor().min(first - 1));
        self.log.map(|log| Position { log, epoch: self.epoch, seq })
    }

    /// A connection begins; the number with which numbers begin anew, if the program has to be told.
    pub fn welcome(&mut self, welcome: &Welcome) -> Option<Seq> {
        let open_before: BTreeSet<Seq> = welcome.open.iter().copied().collect();
        self.told = Told {
            epoch: welcome.epoch,
            sent: welcome.next.saturating_sub(1),
            acked_before: welcome.acked,
            cursor: welcome.acked,
            open: open_before.iter().copied().collect(),
            open_before,
        };
        let Some(log) = self.log else {
            self.begin(welcome.log, welcome.epoch, welcome.next);
            return None;
        };
        if log != welcome.log {
            self.begin(welcome.log, welcome.epoch, welcome.next);
            return Some(welcome.next);
        }
        let end = if welcome.cut_back { welcome.next } else { welcome.tail + 1 };
        let is_cut = welcome.cut_back || self.read >= end;
        if is_cut {
            self.truncate(end);
        }
        if welcome.resumed {
            self.agree(welcome);
        }
        if self.read < self.told.sent {
            (self.read, self.epoch) = (self.told.sent, welcome.epoch);
        }
        is_cut.then_some(end)
    }

    /// What the node has of the same membership; what it has as done is done.
    fn agree(&mut self, welcome: &Welcome) {
        for seq in welcome.open.iter().filter(|seq| **seq > self.read) {
            self.open.insert(*seq);
            self.again.insert(*seq);
        }
        let before = &self.told.open_before;
        let is_open = |seq: Seq| seq > welcome.acked || before.contains(&seq);
        self.open.retain(|seq| is_open(*seq));
        self.again.retain(|seq| is_open(*seq));
        self.failed.retain(|seq, _| is_open(*seq));
        self.failed.values_mut().for_each(|failure| failure.told = None);
    }

    /// The log is another one; whether that is news.
    pub fn reset(&mut self, log: LogId, epoch: Epoch, next: Seq) -> bool {
        let is_news = self.log != Some(log);
        if is_news {
            self.begin(log, epoch, next);
            (self.told.epoch, self.told.sent) = (epoch, next.saturating_sub(1));
        }
        is_news
    }

    fn begin(&mut self, log: LogId, epoch: Epoch, next: Seq) {
        let told = std::mem::take(&mut self.told);
        *self =
            Self { log: Some(log), epoch, read: next.saturating_sub(1), told, ..Self::default() };
    }

    /// Forgets everything from `end` on.
    fn truncate(&mut self, end: Seq) {
        self.read = self.read.min(end - 1);
        for set in [&mut self.pending, &mut self.open, &mut self.again] {
            set.split_off(&end);
        }
        self.failed.split_off(&end);
    }

    /// An entry came. Without `for_program` it is counted as read and done.
    pub fn arrived(&mut self, seq: Seq, epoch: Epoch, for_program: bool) -> Arrival {
        self.told.sent = self.told.sent.max(seq);
        let arrival = if seq > self.read {
            Arrival::New
        } else if self.again.remove(&seq) {
            return Arrival::New;
        } else if epoch > self.epoch {
            self.truncate(seq);
            Arrival::CutBack
        } else {
            return Arrival::Known;
        };
        (self.read, self.epoch) = (seq, self.told.epoch);
        if for_program {
            self.pending.insert(seq);
        }
        arrival
    }

    /// What was to come again and did not: it is gone, and counts as failed. To be asked when an entry above all others came.
    pub fn not_again(&mut self, seq: Seq) -> Vec<Seq> {
        if self.again.is_empty() || seq <= self.read {
            return Vec::new();
        }
        let gone: Vec<Seq> = std::mem::take(&mut self.again).into_iter().collect();
        gone.iter().for_each(|seq| self.fail(*seq, "expired"));
        gone
    }

    /// These numbers do not come; what of it is news to the program.
    pub fn gap(&mut self, first: Seq, last: Seq) -> Option<(Seq, Seq)> {
        self.told.sent = self.told.sent.max(last);
        if last <= self.read {
            return None;
        }
        let first = first.max(self.read + 1);
        (self.read, self.epoch) = (last, self.told.epoch);
        Some((first, last))
    }

    /// The program has done it.
    pub fn done(&mut self, seq: Seq) {
        self.pending.remove(&seq);
        if !self.again.contains(&seq) {
            self.open.remove(&seq);
        }
    }

    /// The program is at work on it for longer.
    pub fn open_one(&mut self, seq: Seq) {
        if self.pending.remove(&seq) {
            self.open.insert(seq);
        }
    }

    /// The program will not do it.
    pub fn fail(&mut self, seq: Seq, code: &str) {
        if self.pending.remove(&seq) | self.open.remove(&seq) {
            self.again.remove(&seq);
            self.failed.insert(seq, Failure { code: clean(code), told: None });
        }
    }

    /// Open ones that the node can be told of.
    fn open_known(&self) -> impl Iterator<Item = Seq> {
        let told = &self.told;
        self.open
            .iter()
            .copied()
            .filter(|seq| *seq > told.acked_before || told.open_before.contains(seq))
    }

    /// The acknowledgement to send now; `None` when it would say nothing new. It counts as sent.
    pub fn ack(&mut self, now: Instant) -> Option<Ack> {
        self.settle(now);
        let mut cursor = self.cursor().min(self.told.sent);
        let told = &self.told;
        let mut untold = self
            .failed
            .range(..=cursor.max(told.cursor))
            .filter(|(_, failure)| failure.told.is_none())
            .map(|(seq, _)| *seq);
        let failed: Vec<Seq> = untold.by_ref().take(FAILED_PER_ACK_MAX).collect();
        if let Some(next) = untold.next() {
            cursor = cursor.min(next - 1);
        }
        // The list replaces the earlier one, so it is about everything up to the highest cursor that was ever told.
        let reach = cursor.max(told.cursor);
        let open: Vec<Seq> = self.open_known().take_while(|seq| *seq <= reach).collect();
        if cursor <= told.cursor && told.open == open && failed.is_empty() {
            return None;
        }
        (self.told.cursor, self.told.open) = (reach, open.clone());
        let failed = failed.into_iter().filter_map(|seq| {
            let failure = self.failed.get_mut(&seq)?;
            failure.told = Some(now);
            Some(Failed { seq, code: failure.code.clone() })
        });
        Some(Ack { cursor, open, failed: failed.collect() })
    }

    /// Forgets failures that the node has stored by now.
    fn settle(&mut self, now: Instant) {
        let excess = self.failed.len().saturating_sub(KEPT_MAX);
        let mut dropped = 0;
        self.failed.retain(|_, failure| {
            let Some(told) = failure.told else { return true };
            let goes = dropped < excess || now.duration_since(told) > FAILURE_SETTLES;
            dropped += usize::from(goes);
            !goes
        });
    }
}

/// One clean line of at most so many bytes.
fn clean(code: &str) -> String {
    let line: String = code.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = cut(line.trim(), CODE_BYTES_MAX);
    if code_is_clean(line) { line.to_owned() } else { "failed".to_owned() }
}

#[cfg(test)]
mod tests;
