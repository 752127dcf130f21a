//! Answers to senders: which messages wait for a receipt, and giving it the moment nobody can still answer.
//!
//! Rule: a receipt is given when everybody who was asked has answered, or is final without that. While nothing special is
//! in the way (failures, open work, leavers, hosts that only reach) a whole run of messages is answered at once.

use std::collections::VecDeque;

use crate::effect::Published;
use crate::group::Group;
use crate::ids::{ConnId, Epoch, Incarnation, Now, Seq};
use crate::machine::{Confirmation, Output, Ticket};
use crate::members::{Member, Presence};
use crate::planted::{Bug, planted};
use crate::receipt::{CompleteRun, Missing, Receipt, Why};

/// Messages of one connection that wait, in the order of their numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting {
    runs: VecDeque<WaitingRun>,
    publisher: Option<Incarnation>,
}

impl Waiting {
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// A run more; one that goes on where the last one ends is one with it.
    pub fn push(&mut self, new: WaitingRun) {
        match self.runs.back_mut() {
            Some(last)
                if last.last() + 1 == new.seq
                    && last.counter.checked_add(last.count.into()) == Some(new.counter)
                    && last.members == new.members =>
            {
                last.count += new.count;
            }
            _ => self.runs.push_back(new),
        }
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
    counter: u64,
    seq: Seq,
    count: u32,
    /// How many were asked.
    members: u32,
    epoch: Epoch,
}

impl WaitingRun {
    const fn last(&self) -> Seq {
        self.seq + self.count as u64 - 1
    }

    /// Splits off the part up to `bound`.
    fn split_to(&mut self, bound: Seq) -> Self {
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
    const fn held(self, counter: u64) -> HeldFor {
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

    fn is_expired(&self, seq: Seq) -> bool {
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

    /// Once a turn: tells followers whose cursor moved, and gives every receipt that can be given now.
    pub fn settle(&mut self, now: Now) {
        if !std::mem::take(&mut self.moved) {
            return;
        }
        self.tell_followers();
        let conns: Vec<ConnId> = self.waiting.keys().copied().collect();
        conns.into_iter().for_each(|conn| self.answer_waiting(now, conn));
        self.answer_watch(now);
        self.answer_held(now);
    }

    fn tell_followers(&mut self) {
        if self.followers.is_empty() {
            return;
        }
        let mut confirmations: Vec<Confirmation> = Vec::new();
        for member in self.members.iter_mut().filter(|member| member.untold) {
            member.untold = false;
            let reached = member.reached > member.acked;
            confirmations.push(Confirmation {
                name: member.name.clone(),
                cursor: member.cursor() + u64::from(planted(Bug::TellEarly)),
                reached,
            });
        }
        if !confirmations.is_empty() {
            for conn in &self.followers {
                self.outputs.push(Output::Confirmed(*conn, confirmations.clone()));
            }
        }
    }

    /// Everybody but the publisher has answered for every number up to here.
    pub(crate) fn bound(&mut self, publisher: Option<Incarnation>) -> Seq {
        let answered = match publisher {
            Some(key) => self.members.answered_but(key),
            None => self.members.answered(),
        };
        answered.saturating_add(u64::from(planted(Bug::CompleteEarly))).min(self.stored)
    }

    fn answer_waiting(&mut self, now: Now, conn: ConnId) {
        let Some(mut waiting) = self.waiting.remove(&conn) else { return };
        let bound = self.bound(waiting.publisher);
        while let Some(done) = waiting.take_to(bound) {
            self.answer_run(now, WaitedBy::Conn(conn), done, waiting.publisher);
        }
        // Beyond the limit the oldest is answered as it stands: its sender can ask again by its number.
        while waiting.runs.len() > self.limits.waiting_runs_max {
            let Some(oldest) = waiting.runs.pop_front() else { break };
            self.answer_as_it_stands(now, conn, oldest, waiting.publisher);
        }
        if !waiting.runs.is_empty() {
            self.waiting.insert(conn, waiting);
        }
    }

    fn answer_as_it_stands(
        &mut self,
        now: Now,
        conn: ConnId,
        run: WaitingRun,
        publisher: Option<Incarnation>,
    ) {
        for i in 0..u64::from(run.count) {
            if let Ok(receipt) = self.receipt(run.seq + i, publisher, now) {
                self.outputs.push(Output::Receipt(conn, run.counter + i, receipt));
            }
        }
    }

    /// Receipts below `floor` are about to be no longer possible: who waits for one gets it as it stands, the last time that
    /// somebody can say it.
    pub(crate) fn give_up_below(&mut self, now: Now, floor: Seq) {
        let mut all = std::mem::take(&mut self.waiting);
        for (conn, waiting) in &mut all {
            while let Some(given_up) = waiting.take_to(floor.saturating_sub(1)) {
                self.answer_as_it_stands(now, *conn, given_up, waiting.publisher);
            }
        }
        all.retain(|_, waiting| !waiting.runs.is_empty());
        self.waiting = all;
        self.unwatch_below(floor);
        while let Some(((seq, held_for), publisher)) =
            self.held.first_key_value().map(|(key, publisher)| (*key, *publisher))
            && seq < floor
        {
            self.held.pop_first();
            let receipt = self.receipt(seq, publisher, now).ok();
            self.outputs.extend(match (held_for, receipt) {
                (HeldFor::Ticket(ticket), receipt) => Some(Output::Awaited(ticket, receipt)),
                (HeldFor::Conn(conn, counter), receipt) => {
                    receipt.map(|receipt| Output::Receipt(conn, counter, receipt))
                }
                // It is told of what is final.
                (HeldFor::Watch, _) => None,
            });
        }
    }

    pub(crate) fn answer_run(
        &mut self,
        now: Now,
        by: WaitedBy,
        run: WaitingRun,
        publisher: Option<Incarnation>,
    ) {
        let WaitingRun { counter, seq, count, members, epoch } = run;
        if self.is_plain(seq, run.last()) {
            let complete = CompleteRun { counter, seq, count, members, reached: 0, epoch };
            return self.outputs.push(match by {
                WaitedBy::Conn(conn) => Output::Complete(conn, complete),
                WaitedBy::Watch => Output::WatchedComplete(complete),
            });
        }
        for i in 0..u64::from(count) {
            let held_for = by.held(counter + i);
            if !self.answer_one(now, seq + i, held_for, publisher) && !planted(Bug::LoseReceipt) {
                self.held.insert((seq + i, held_for), publisher);
            }
        }
    }

    /// Nothing between the two numbers needs a look at each member: nobody failed, is at work, left since, or was only reached.
    fn is_plain(&self, first: Seq, last: Seq) -> bool {
        self.members.soft == 0
            && self.members.open_counts.range(first..=last).next().is_none()
            && self.past.failures.range(first..=last).next().is_none()
            && self.past.departed.back().is_none_or(|departed| departed.left <= first)
    }

    /// Gives the receipt if it is final.
    fn answer_one(
        &mut self,
        now: Now,
        seq: Seq,
        held_for: HeldFor,
        publisher: Option<Incarnation>,
    ) -> bool {
        let receipt = self.receipt(seq, publisher, now).ok();
        if receipt.as_ref().is_some_and(|receipt| !receipt.is_final()) {
            return false;
        }
        self.outputs.extend(match (held_for, receipt) {
            (HeldFor::Ticket(ticket), receipt) => Some(Output::Awaited(ticket, receipt)),
            (HeldFor::Conn(conn, counter), Some(receipt)) if receipt.is_complete() => {
                let Receipt { seq, epoch, members, reached, .. } = receipt;
                Some(Output::Complete(
                    conn,
                    CompleteRun { counter, seq, count: 1, members, reached, epoch },
                ))
            }
            (HeldFor::Conn(conn, counter), Some(receipt)) => {
                Some(Output::Receipt(conn, counter, receipt))
            }
            // Nothing is known any more; the sender asks by its number and is told so.
            (HeldFor::Conn(..) | HeldFor::Watch, None) => None,
            (HeldFor::Watch, Some(receipt)) => Some(Output::Watched(receipt)),
        });
        true
    }

    fn answer_held(&mut self, now: Now) {
        // Beyond that somebody has not answered, whoever published it. A sender that asks again for all that a stuck member
        // holds up makes nobody else wait for a look at each.
        let answered = self.members.answered_but_any().saturating_add(1);
        let most = answered.max(self.past.floor).max(self.first);
        let due: Vec<_> = self
            .held
            .range(..(most, HeldFor::Conn(ConnId(0), 0)))
            .map(|((seq, held_for), publisher)| (*seq, *held_for, *publisher))
            .collect();
        for (seq, held_for, publisher) in due {
            if self.is_expired(seq) {
                self.answer_one(now, seq, held_for, publisher);
                self.held.remove(&(seq, held_for));
                continue;
            }
            // Cheap looks first: somebody has not come so far, or is still at work on it.
            let working = self.members.open_counts.get(&seq).copied().unwrap_or(0);
            let own = publisher
                .and_then(|key| self.members.get(key))
                .is_some_and(|m| m.open.binary_search(&seq).is_ok());
            if seq <= self.bound(publisher)
                && working <= u32::from(own)
                && self.answer_one(now, seq, held_for, publisher)
            {
                self.held.remove(&(seq, held_for));
            }
        }
    }
}

fn why_missing(member: &Member, now: Now) -> Why {
    match member.presence {
        Presence::Away { since_ms } => Why::Away { ms: now.mono_ms.saturating_sub(since_ms) },
        Presence::Here(_) if member.lagging => Why::Lagging,
        Presence::Here(_) => Why::Pending,
    }
}
