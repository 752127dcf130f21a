//! Giving receipts the moment nobody can still answer.
//!
//! Rule: a receipt is given when everybody who was asked has answered, or is final without that. While nothing special is
//! in the way (failures, open work, leavers, hosts that only reach) a whole run of messages is answered at once.

use crate::group::Group;
use crate::ids::{ConnId, Incarnation, Now, Seq};
use crate::machine::{Confirmation, Output};
use crate::planted::{Bug, planted};
use crate::receipt::{CompleteRun, Receipt};
use crate::waiting::{HeldFor, WaitedBy, WaitingRun};

impl Group {
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
