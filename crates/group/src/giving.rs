//! Giving receipts the moment nobody can still answer.
//!
//! Rule: a receipt is given when everybody who was asked has answered, or is final without that. While nothing special is
//! in the way (failures, open work, leavers, hosts that only reach) a whole run of messages is answered at once. What has to be
//! looked at one by one comes in portions: when a member that has held everything up leaves, all messages since become final
//! together, and whoever sent them could not take all those receipts at once, however fast it reads.

use crate::group::Group;
use crate::ids::{ConnId, Incarnation, Now, Seq};
use crate::machine::{Confirmation, Output};
use crate::planted::{Bug, planted};
use crate::receipt::{CompleteRun, Receipt};
use crate::waiting::{HeldFor, WaitedBy, Waiting, WaitingRun};

/// Connections that can be given a whole portion in one turn; with more of them the rest comes with the next turn.
const PORTIONS_PER_TURN: usize = 4;

impl Group {
    /// Once a turn: tells followers whose cursor moved, and gives every receipt that can be given now.
    pub fn settle(&mut self, now: Now) {
        if !std::mem::take(&mut self.moved) {
            return;
        }
        self.tell_followers();
        let mut left = PORTIONS_PER_TURN.saturating_mul(self.weight_max());
        let from = self.next_waiting;
        let waiting = self.waiting.range(from..).chain(self.waiting.range(..from));
        let conns: Vec<ConnId> = waiting.map(|(conn, _)| *conn).collect();
        for conn in conns {
            self.answer_waiting(now, conn, &mut left);
            if left == 0 {
                self.goes_on_with(conn);
                break;
            }
        }
        self.answer_watch(now);
        self.answer_held(now, &mut left);
    }

    /// This turn has given enough: the next one begins with this connection.
    const fn goes_on_with(&mut self, conn: ConnId) {
        self.next_waiting = conn;
        self.moved = true;
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

    /// As much as the connection may be given and is `left` of the turn.
    fn answer_waiting(&mut self, now: Now, conn: ConnId, left: &mut usize) {
        let Some(mut waiting) = self.waiting.remove(&conn) else { return };
        let max = self.weight_max();
        let was_paused = waiting.told >= max;
        self.answer_owed(now, conn, &mut waiting, left);
        let bound = self.bound(waiting.publisher);
        while waiting.told < max
            && *left > 0
            && let Some(done) = waiting.take_to(bound)
        {
            let (by, most) = (WaitedBy::Conn(conn), (max - waiting.told).min(*left));
            let (given, rest) = self.answer_run(now, by, done, waiting.publisher, most);
            waiting.told += given;
            *left = left.saturating_sub(given);
            rest.into_iter().for_each(|rest| waiting.put_back(rest));
        }
        self.answer_oldest(now, conn, &mut waiting);
        if waiting.told >= max && !was_paused {
            self.outputs.push(Output::Paused(conn));
        }
        if !waiting.is_empty() {
            self.waiting.insert(conn, waiting);
        }
    }

    /// With nothing, nobody would ever be told.
    pub(crate) fn weight_max(&self) -> usize {
        self.limits.receipts_weight_max.max(1)
    }

    /// Receipts that were final while the connection had enough of them.
    fn answer_owed(&mut self, now: Now, conn: ConnId, waiting: &mut Waiting, left: &mut usize) {
        while waiting.told < self.weight_max()
            && *left > 0
            && let Some(((seq, counter), publisher)) = waiting.owed.pop_first()
        {
            match self.answer_one(now, seq, HeldFor::Conn(conn, counter), publisher) {
                Some(weight) => {
                    waiting.told += weight;
                    *left = left.saturating_sub(weight);
                }
                None => {
                    self.held.insert((seq, HeldFor::Conn(conn, counter)), publisher);
                }
            }
        }
    }

    /// Near the limit the oldest is answered as it stands, as far as the connection takes it; beyond the limit in any case. Its sender
    /// can ask again by its number.
    fn answer_oldest(&mut self, now: Now, conn: ConnId, waiting: &mut Waiting) {
        let max = self.limits.waiting_runs_max;
        let near = max - max / 8;
        while waiting.runs.len() > max
            || waiting.runs.len() > near && waiting.told < self.weight_max()
        {
            let Some(oldest) = waiting.runs.pop_front() else { break };
            let left = match waiting.runs.len() >= max {
                true => usize::MAX,
                false => self.weight_max() - waiting.told,
            };
            let (given, rest) =
                self.answer_as_it_stands(now, conn, oldest, waiting.publisher, left);
            waiting.told = waiting.told.saturating_add(given);
            rest.into_iter().for_each(|rest| waiting.put_back(rest));
        }
    }

    /// The receipts of a run as they are now, up to this weight; answers the weight of those that were given, and what is left.
    fn answer_as_it_stands(
        &mut self,
        now: Now,
        conn: ConnId,
        mut run: WaitingRun,
        publisher: Option<Incarnation>,
        weight_max: usize,
    ) -> (usize, Option<WaitingRun>) {
        let mut given = 0;
        while run.count > 0 && given < weight_max {
            let WaitingRun { seq, counter, .. } = run.split_to(run.seq);
            if let Ok(receipt) = self.receipt(seq, publisher, now) {
                given += self.weight(&receipt);
                self.outputs.push(Output::Receipt(conn, counter, receipt));
            }
        }
        (given, Some(run).filter(|run| run.count > 0))
    }

    /// Receipts below `floor` are about to be no longer possible: who waits for one gets it as it stands, the last time that
    /// somebody can say it.
    pub(crate) fn give_up_below(&mut self, now: Now, floor: Seq) {
        let mut all = std::mem::take(&mut self.waiting);
        for (conn, waiting) in &mut all {
            while let Some(given_up) = waiting.take_to(floor.saturating_sub(1)) {
                self.answer_as_it_stands(now, *conn, given_up, waiting.publisher, usize::MAX);
            }
            for ((seq, counter), publisher) in waiting.take_owed_below(floor) {
                if let Ok(receipt) = self.receipt(seq, publisher, now) {
                    self.outputs.push(Output::Receipt(*conn, counter, receipt));
                }
            }
        }
        all.retain(|_, waiting| !waiting.is_empty());
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

    /// The connection has taken what it was given: it is given more.
    pub(crate) fn taken(&mut self, conn: ConnId) {
        let max = self.weight_max();
        if let Some(waiting) = self.waiting.get_mut(&conn) {
            self.moved |= waiting.told >= max;
            waiting.told = 0;
        }
    }

    /// Answers a run whose time has come: as one where it can be, otherwise one by one, up to this weight. Answers the weight of those
    /// that were given, and what is left.
    pub(crate) fn answer_run(
        &mut self,
        now: Now,
        by: WaitedBy,
        mut run: WaitingRun,
        publisher: Option<Incarnation>,
        weight_max: usize,
    ) -> (usize, Option<WaitingRun>) {
        if self.is_plain(run.seq, run.last()) {
            let WaitingRun { counter, seq, count, members, epoch } = run;
            let complete = CompleteRun { counter, seq, count, members, reached: 0, epoch };
            self.outputs.push(match by {
                WaitedBy::Conn(conn) => Output::Complete(conn, complete),
                WaitedBy::Watch => Output::WatchedComplete(complete),
            });
            return (0, None);
        }
        let mut given = 0;
        while run.count > 0 && given < weight_max {
            let WaitingRun { seq, counter, .. } = run.split_to(run.seq);
            let held_for = by.held(counter);
            match self.answer_one(now, seq, held_for, publisher) {
                Some(weight) => given += weight,
                None if planted(Bug::LoseReceipt) => {}
                None => {
                    self.held.insert((seq, held_for), publisher);
                }
            }
        }
        (given, Some(run).filter(|run| run.count > 0))
    }

    /// What a receipt costs to find out, to keep and to write: one, one for each name, one for every 64 members that are looked at.
    fn weight(&self, receipt: &Receipt) -> usize {
        1 + receipt.missing.len() + self.members.len() / 64
    }

    /// Nothing between the two numbers needs a look at each member: nobody failed, is at work, left since, or was only reached.
    fn is_plain(&self, first: Seq, last: Seq) -> bool {
        self.members.soft == 0
            && self.members.open_counts.range(first..=last).next().is_none()
            && self.past.failures.range(first..=last).next().is_none()
            && self.past.departed.back().is_none_or(|departed| departed.left <= first)
    }

    /// Gives the receipt if it is final, and answers its weight.
    fn answer_one(
        &mut self,
        now: Now,
        seq: Seq,
        held_for: HeldFor,
        publisher: Option<Incarnation>,
    ) -> Option<usize> {
        let receipt = self.receipt(seq, publisher, now).ok();
        if receipt.as_ref().is_some_and(|receipt| !receipt.is_final()) {
            return None;
        }
        let weight = receipt.as_ref().map_or(0, |receipt| self.weight(receipt));
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
        Some(weight)
    }

    /// A single one that is held and seems to be final; whether it need not be held any more.
    fn answer_one_held(
        &mut self,
        now: Now,
        seq: Seq,
        held_for: HeldFor,
        publisher: Option<Incarnation>,
        left: &mut usize,
    ) -> bool {
        let HeldFor::Conn(conn, counter) = held_for else {
            return self.answer_one(now, seq, held_for, publisher).is_some();
        };
        let max = self.weight_max();
        if let Some(waiting) = self.waiting.get_mut(&conn).filter(|waiting| waiting.told >= max) {
            waiting.owed.insert((seq, counter), publisher);
            return true;
        }
        let Some(weight) = self.answer_one(now, seq, held_for, publisher) else { return false };
        *left = left.saturating_sub(weight);
        let waiting = self.waiting.entry(conn).or_default();
        waiting.told += weight;
        if waiting.told >= max {
            self.outputs.push(Output::Paused(conn));
        }
        true
    }

    fn answer_held(&mut self, now: Now, left: &mut usize) {
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
            if *left == 0 {
                self.moved = true;
                return;
            }
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
                && self.answer_one_held(now, seq, held_for, publisher, left)
            {
                self.held.remove(&(seq, held_for));
            }
        }
    }
}
