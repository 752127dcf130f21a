//! Which messages wait for a receipt, by whom, and what a receipt says.

use std::collections::{BTreeMap, VecDeque};

use crate::effect::Published;
use crate::group::Group;
use crate::ids::{ConnId, Epoch, Incarnation, Now, Seq};
use crate::machine::Ticket;
use crate::members::{Member, Presence};
use crate::planted::{Bug, planted};
use crate::receipt::{Missing, Receipt, Why};

/// Messages of one connection that wait, in the order of their numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting {
    pub runs: VecDeque<WaitingRun>,
    pub publisher: Option<Incarnation>,
    /// Single ones that are final and come when the connection takes more: number and counter, with the publisher.
    pub owed: BTreeMap<(Seq, u64), Option<Incarnation>>,
    /// Weight of the receipts that it was given, since it was last known to have taken them or waited for nothing.
    pub told: usize,
}

impl Waiting {
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// A run more; one that goes on where the last one ends is one with it.
    pub fn push(&mut self, new: WaitingRun) {
        match self.runs.back_mut() {
            Some(last) if last.goes_on_with(&new) => last.count += new.count,
            _ => self.runs.push_back(new),
        }
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.owed.is_empty()
    }

    /// The lowest number.
    pub fn first(&self) -> Option<Seq> {
        let run = self.runs.front().map(|run| run.seq);
        let owed = self.owed.first_key_value().map(|((seq, _), _)| *seq);
        run.into_iter().chain(owed).min()
    }

    /// What is left of a run that was split off the front.
    pub fn put_back(&mut self, rest: WaitingRun) {
        match self.runs.front_mut() {
            Some(front) if rest.goes_on_with(front) => {
                (front.seq, front.counter) = (rest.seq, rest.counter);
                front.count += rest.count;
            }
            _ => self.runs.push_front(rest),
        }
    }

    /// Splits off single ones below this number.
    pub fn take_owed_below(&mut self, floor: Seq) -> BTreeMap<(Seq, u64), Option<Incarnation>> {
        let kept = self.owed.split_off(&(floor, 0));
        std::mem::replace(&mut self.owed, kept)
    }

    /// Where each run begins.
    pub fn numbers(&self) -> impl Iterator<Item = Seq> + '_ {
        self.runs.iter().map(|run| run.seq)
    }

    /// Splits off the oldest messages, as many of one run as there are up to `bound`.
    pub fn take_to(&mut self, bound: Seq) -> Option<WaitingRun> {
        let front = self.runs.front_mut().filter(|front| front.seq <= bound)?;
        let done = front.split_to(bound);
        if front.count == 0 {
            self.runs.pop_front();
        }
        Some(done)
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitingRun {
    pub counter: u64,
    pub seq: Seq,
    pub count: u32,
    /// How many were asked.
    pub members: u32,
    pub epoch: Epoch,
}

impl WaitingRun {
    pub const fn last(&self) -> Seq {
        self.seq + self.count as u64 - 1
    }

    /// The other one is of the numbers and counters after it, and of the same view.
    fn goes_on_with(&self, next: &Self) -> bool {
        self.last() + 1 == next.seq
            && self.counter.checked_add(self.count.into()) == Some(next.counter)
            && self.members == next.members
    }

    /// Splits off the part up to `bound`.
    pub fn split_to(&mut self, bound: Seq) -> Self {
        let count = (bound + 1 - self.seq).min(u64::from(self.count)) as u32;
        let head = Self { count, ..*self };
        // What is left of a run with the highest counter is nothing.
        self.counter = self.counter.wrapping_add(u64::from(count));
        self.seq += u64::from(count);
        self.count -= count;
        head
    }
}

/// Who waits for a single receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum HeldFor {
    Conn(ConnId, u64),
    Ticket(Ticket),
    /// Whoever looks on ([`crate::watch`]).
    Watch,
}

/// Who waits for the receipts of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WaitedBy {
    Conn(ConnId),
    Watch,
}

impl WaitedBy {
    pub const fn held(self, counter: u64) -> HeldFor {
        match self {
            Self::Conn(conn) => HeldFor::Conn(conn, counter),
            Self::Watch => HeldFor::Watch,
        }
    }
}

impl HeldFor {
    pub fn is_conn(&self, conn: ConnId) -> bool {
        matches!(self, Self::Conn(own, _) if *own == conn)
    }
}

/// The receipt cannot be given any more: the message, or what is known of who left since, is no longer kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the receipt is no longer kept")]
pub struct Expired;

impl Group {
    /// The receipt of the message `seq` as it stands now: the view at its number, each member as it is. `publisher` is the
    /// message's ([`crate::Header::publisher`]); that stay was not asked.
    ///
    /// # Errors
    /// [`Expired`] for numbers that are no longer kept.
    pub fn receipt(
        &self,
        seq: Seq,
        publisher: Option<Incarnation>,
        now: Now,
    ) -> Result<Receipt, Expired> {
        if self.is_expired(seq) {
            return Err(Expired);
        }
        let asked = |key: Incarnation| {
            (key.0 < seq || planted(Bug::AskNewcomers)) && Some(key) != publisher
        };
        let (mut confirmed, mut reached) = (0, 0);
        let mut missing = Vec::new();
        let mut count = |key: Incarnation,
                         name: &crate::Name,
                         acked: Seq,
                         at_host: Seq,
                         open: &[Seq],
                         otherwise: Why| {
            if let Some(failure) = self.past.failed(seq, key) {
                let why = Why::Failed { code: failure.code.clone() };
                missing.push(Missing { name: name.to_string(), why });
            } else if seq <= acked
                && (open.binary_search(&seq).is_err() || planted(Bug::ConfirmOpen))
            {
                confirmed += 1;
            } else if seq <= at_host {
                reached += 1;
            } else {
                missing.push(Missing { name: name.to_string(), why: otherwise });
            }
        };
        for member in self.members.iter().filter(|member| asked(member.key)) {
            let why = why_missing(member, now);
            count(member.key, &member.name, member.acked, member.reached, &member.open, why);
        }
        for gone in self.past.departed_after(seq).filter(|gone| asked(gone.key)) {
            let acked = if planted(Bug::ConfirmForLeft) { seq } else { gone.acked };
            count(gone.key, &gone.name, acked, gone.reached, &gone.open, Why::Left);
        }
        missing.sort_by(|a, b| a.name.cmp(&b.name));
        let members = confirmed + reached + missing.len() as u32;
        Ok(Receipt { seq, epoch: self.past.epoch_of(seq), members, confirmed, reached, missing })
    }

    pub(crate) fn is_expired(&self, seq: Seq) -> bool {
        seq < self.past.floor.max(self.first) && !planted(Bug::AnswerExpired)
    }

    pub(crate) fn wait_for(&mut self, run: Published) {
        let new = self.waiting_run(&run, run.counter);
        let waiting = self.waiting.entry(run.conn).or_default();
        waiting.publisher = run.publisher;
        waiting.push(new);
        self.moved = true;
    }

    /// A run that is stored just now, with who is asked for it.
    pub(crate) fn waiting_run(&self, run: &Published, counter: u64) -> WaitingRun {
        let own = run
            .publisher
            .is_some_and(|key| self.members.get(key).is_some_and(|member| member.key.0 < run.seq));
        let members = self.members.len() as u32 - u32::from(own);
        WaitingRun { counter, seq: run.seq, count: run.count, members, epoch: self.identity.epoch }
    }

    /// Holds one message until its receipt is final.
    pub(crate) fn hold(&mut self, seq: Seq, held_for: HeldFor, publisher: Option<Incarnation>) {
        self.held.insert((seq, held_for), publisher);
        self.moved = true;
    }

    pub(crate) fn wait(&mut self, ticket: Ticket, seq: Seq, publisher: Option<Incarnation>) {
        self.hold(seq, HeldFor::Ticket(ticket), publisher);
    }

    pub(crate) fn forget(&mut self, ticket: Ticket) {
        self.held.retain(|(_, held_for), _| *held_for != HeldFor::Ticket(ticket));
    }
}

fn why_missing(member: &Member, now: Now) -> Why {
    match member.presence {
        Presence::Away { since_ms } => Why::Away { ms: now.mono_ms.saturating_sub(since_ms) },
        Presence::Here(_) if member.lagging => Why::Lagging,
        Presence::Here(_) => Why::Pending,
    }
}
