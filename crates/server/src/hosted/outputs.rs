//! What the group says, carried out: answers to connections and askers, and what is counted of them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tertulia_group::{ConnId, Output, Presence, Receipt, Refusal, Seq, Ticket};
use tertulia_wire::Code;

use super::{Answer, Hosted};
use crate::clock::now;
use crate::finals::Final;
use crate::metrics::Crowd;
use crate::node::Notice;

impl Hosted {
    /// Carries out what the group has said since it was asked last.
    pub(super) fn carry_out(&self) {
        let outputs: Vec<Output> = self.group.borrow_mut().outputs().collect();
        let (mut finals, mut welcomed) = (Vec::new(), Vec::new());
        for output in outputs {
            match output {
                Output::WatchedComplete(run) => finals.push(Final::Complete(run)),
                Output::Watched(receipt) => finals.push(Final::One(receipt)),
                output => {
                    if let Output::Welcome(_, welcome) = &output {
                        welcomed.push(welcome.name.clone());
                    }
                    self.carry_out_one(output);
                }
            }
        }
        if !finals.is_empty() {
            self.feed.tell(finals);
        }
        let group = self.group.borrow();
        let members = group.member_count() as u32;
        if welcomed.is_empty() {
            self.stats.members.store(members, Ordering::Relaxed);
        } else {
            // Whoever is here is reserved for no longer, in one step: the allocator counts everybody once.
            let mut allocator = self.shared.allocator();
            welcomed.iter().for_each(|name| allocator.joined(name.folded()));
            self.stats.members.store(members, Ordering::Relaxed);
        }
        self.stats.tail.store(group.tail(), Ordering::Relaxed);
        self.stats.first.store(group.first(), Ordering::Relaxed);
        self.stats.epoch.store(group.epoch(), Ordering::Relaxed);
    }

    /// Since the message was given its number.
    fn since(&self, seq: Seq) -> Option<Duration> {
        let header = self.window.borrow().header(seq)?;
        Some(Duration::from_micros(now().wall_us.saturating_sub(header.time_us)))
    }

    /// A receipt is given to somebody who waited for it.
    pub(super) fn count_given(&self, receipt: &Receipt) {
        let (metrics, confirmed) = (&self.shared.metrics, u64::from(receipt.confirmed));
        if receipt.is_complete() {
            metrics.complete(1, confirmed, self.since(receipt.seq));
        } else if receipt.is_final() {
            metrics.missing(confirmed);
        }
    }

    fn count(&self, output: &Output) {
        let metrics = &self.shared.metrics;
        match output {
            Output::Stored(_, run) => {
                metrics.messages.inc_by(u64::from(run.count));
            }
            Output::Complete(_, run) => {
                let since = self.since(run.seq);
                let confirmed = u64::from(run.members - run.reached);
                metrics.complete(u64::from(run.count), confirmed, since);
            }
            Output::Receipt(_, _, receipt) => metrics.missing(u64::from(receipt.confirmed)),
            Output::Refused(_, refusal) | Output::MessageRefused(_, _, refusal) => {
                metrics.refused(Code::of_refusal(*refusal));
            }
            _ => {}
        }
    }

    /// How its members are.
    pub fn crowd(&self) -> Crowd {
        let (group, mut crowd) = (self.group.borrow(), Crowd::default());
        for member in group.members() {
            match member.presence {
                Presence::Away { .. } => crowd.away += 1,
                Presence::Here(_) => {
                    let lagging = if member.lagging { &mut crowd.lagging } else { &mut crowd.here };
                    *lagging += 1;
                    let cursor = member.acked.max(member.reached);
                    crowd.lag = crowd.lag.max(group.tail().saturating_sub(cursor));
                }
            }
        }
        crowd
    }

    fn carry_out_one(&self, output: Output) {
        self.count(&output);
        match &output {
            Output::Welcome(conn, _) | Output::SenderReady(conn, _) => {
                let conn = *conn;
                let what = if self.is_member(conn) { "a member's" } else { "a sender's" };
                tracing::debug!(group = %self.name, conn = conn.0, "a connection is {what}");
                self.to(conn, output);
                if let Some(entering) = self.entering.borrow_mut().remove(&conn) {
                    let _ = entering.send(Ok(()));
                }
            }
            Output::Refused(conn, refusal) => {
                let code = Code::of_refusal(*refusal).as_str();
                tracing::debug!(group = %self.name, conn = conn.0, code, "refused");
                if let Some(entering) = self.entering.borrow_mut().remove(conn) {
                    self.conns.borrow_mut().remove(conn);
                    let _ = entering.send(Err(*refusal));
                } else {
                    self.to(*conn, output);
                }
            }
            Output::MessageRefused(conn, ..)
            | Output::Stored(conn, _)
            | Output::Again(conn, _)
            | Output::Complete(conn, _)
            | Output::Receipt(conn, ..)
            | Output::Paused(conn)
            | Output::Confirmed(conn, _)
            | Output::Gone(conn, _) => self.to(*conn, output),
            Output::Close(conn, refusal) => {
                if let Some(conn) = self.conns.borrow().get(conn) {
                    conn.close(Code::of_refusal(*refusal), close_text(*refusal));
                }
            }
            Output::Removed(ticket, there) => self.answer(*ticket, Answer::Removed(*there)),
            Output::Awaited(..) => {
                if let Output::Awaited(ticket, receipt) = output {
                    self.answer(ticket, Answer::Receipt(receipt));
                }
            }
            Output::Joined(name, door) => {
                tracing::info!(group = %self.name, %name, door = door.as_str(), "joined");
            }
            // Those for who looks on are gathered.
            Output::Watched(..) | Output::WatchedComplete(..) => {}
            Output::Left(name, reason) => {
                tracing::info!(group = %self.name, %name, why = reason.as_str(), "left");
                let (group, name) = (self.name.to_string(), name.to_string());
                self.shared.notice(Notice::Left { group, name, reason: *reason });
            }
        }
    }

    fn to(&self, conn: ConnId, output: Output) {
        if let Some(conn) = self.conns.borrow().get(&conn) {
            conn.push(output);
        }
    }

    fn answer(&self, ticket: Ticket, answer: Answer) {
        if let Some(asker) = self.tickets.borrow_mut().remove(&ticket) {
            let _ = asker.send(answer);
        }
    }
}

const fn close_text(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Replaced => "another connection has taken this membership over",
        Refusal::BadAck => "an acknowledgement beyond what was sent, or of more than may be open",
        _ => "the connection cannot go on",
    }
}
