//! What the group says to a native connection, as frames.

use tertulia_group::{CompleteRun, LeaveReason, Moved, Output, SenderReady, StoredRun, Welcome};
use tertulia_wire::native::{self, Confirmed, How};
use tertulia_wire::{Code, NodeFrame};
use tokio::time::Instant;

use super::super::requests;
use super::{REFUSED_STEP_BYTES, Session};
use crate::node::Notice;

impl Session {
    /// Encodes what the group has said since the last time; runs go into as few frames as possible.
    pub(super) fn answer_inbox(&mut self) {
        let (mut stored, mut complete): (Vec<StoredRun>, Vec<CompleteRun>) =
            (Vec::new(), Vec::new());
        let outputs = self.conn.take_inbox();
        if self.last_call.is_some() {
            // CLOSE is the last frame.
            return;
        }
        // A window of many small messages that are refused together is one mistake.
        if outputs.iter().any(|output| matches!(output, Output::MessageRefused(..))) {
            self.was_refused(1 + self.offered_bytes / REFUSED_STEP_BYTES);
        }
        if !outputs.is_empty() {
            self.offered_bytes = 0;
        }
        for output in outputs {
            match output {
                Output::Stored(_, run) | Output::Again(_, run) => stored.push(run),
                Output::Complete(_, run) => complete.push(run),
                other => {
                    // Nobody learns of a receipt before learning the number.
                    self.encode_runs(&mut stored, &mut complete);
                    self.answer_one(other);
                }
            }
            if self.last_call.is_some() {
                return;
            }
        }
        self.encode_runs(&mut stored, &mut complete);
        if self.outbox().answers() > self.hosted.shared.config.limits.answers_bytes {
            self.end(Code::Limit, "answers were not read; connect again");
        }
        if let Some(closing) = self.conn.closing() {
            self.end(closing.code, closing.message);
        }
        if self.conn.is_gone() && self.last_call.is_none() {
            // Nobody reads a last frame there.
            self.last_call = Some(Instant::now());
        }
    }

    fn encode_runs(&mut self, stored: &mut Vec<StoredRun>, complete: &mut Vec<CompleteRun>) {
        let control = &mut self.conn.writing().outbox.control;
        NodeFrame::encode_stored(control, stored);
        NodeFrame::encode_complete(control, complete);
        stored.clear();
        complete.clear();
    }

    fn answer_one(&mut self, output: Output) {
        match output {
            Output::Welcome(_, welcome) => self.welcome(*welcome),
            Output::SenderReady(_, ready) => self.sender_ready(&ready),
            Output::Receipt(_, counter, receipt) => {
                let sees_names = self.conn.sees_names();
                let receipt = if sees_names { receipt } else { requests::without_names(receipt) };
                self.answer(&NodeFrame::Receipt { counter, receipt });
            }
            Output::MessageRefused(_, counter, refusal) => {
                let (code, message) = (Code::of_refusal(refusal), refusal.to_string());
                self.answer(&NodeFrame::Refused { counter, code, message });
            }
            Output::Confirmed(..) if !self.conn.sees_names() => {}
            Output::Confirmed(_, confirmations) => {
                let confirmed = confirmations.into_iter().map(|one| Confirmed {
                    name: one.name.to_string(),
                    cursor: one.cursor,
                    how: if one.reached { How::Reached } else { How::Confirmed },
                });
                let confirmed = confirmed.collect::<Vec<_>>();
                NodeFrame::encode_confirmed(&mut self.outbox().control, &confirmed);
            }
            Output::Refused(_, refusal) => {
                let (code, message) = (Code::of_refusal(refusal), refusal.to_string());
                self.answer(&NodeFrame::Error { id: 0, code, message });
            }
            Output::Gone(_, LeaveReason::Exit) => {
                self.end(Code::Removed, "you have left the group");
            }
            Output::Gone(..) => self.end(Code::Removed, "the membership was removed"),
            Output::Paused(_) => self.is_paused = true,
            // These never go to a connection.
            Output::Stored(..)
            | Output::Again(..)
            | Output::Complete(..)
            | Output::Close(..)
            | Output::Removed(..)
            | Output::Awaited(..)
            | Output::Watched(..)
            | Output::WatchedComplete(..)
            | Output::Joined(..)
            | Output::Left(..) => {}
        }
    }

    fn welcome(&mut self, welcome: Welcome) {
        let Some(opening) = self.opening.take() else { return };
        let group = self.hosted.group.borrow();
        let (identity, first) = (group.identity(), group.first());
        drop(group);
        let frame = NodeFrame::Welcome(Box::new(native::Welcome {
            id: opening.id,
            resumed: welcome.resumed,
            cut_back: welcome.moved == Some(Moved::CutBack),
            group: self.hosted.name.to_string(),
            name: welcome.name.to_string(),
            log: identity.log,
            epoch: identity.epoch,
            incarnation: welcome.key,
            next: welcome.next.max(first),
            tail: welcome.tail,
            members: welcome.members,
            secret: opening.secret,
            last_counter: welcome.last_counter,
            window_bytes: self.hosted.shared.config.group_limits.unstored_bytes_max as u32,
            level: self.hosted.shared.level(),
            acked: welcome.acked,
            open: welcome.open.clone(),
        }));
        self.answer(&frame);
        if welcome.moved.is_some() {
            let (log, epoch, next) = (identity.log, identity.epoch, welcome.next.max(first));
            self.answer(&NodeFrame::Reset { log, epoch, next });
        }
        if welcome.next < first {
            self.answer(&NodeFrame::Gap { first: welcome.next, last: first - 1 });
        }
        self.outbox().start(welcome.next.max(first), welcome.open);
        let (group, name) = (self.hosted.name.to_string(), welcome.name.to_string());
        let (address, door) = (self.conn.address, self.conn.door);
        self.hosted.shared.notice(Notice::Joined { group, name, address, door });
    }

    fn sender_ready(&mut self, ready: &SenderReady) {
        let Some(opening) = self.opening.take() else { return };
        let identity = self.hosted.group.borrow().identity();
        let frame = NodeFrame::SenderReady(Box::new(native::SenderReady {
            id: opening.id,
            group: self.hosted.name.to_string(),
            name: ready.name.to_string(),
            log: identity.log,
            epoch: identity.epoch,
            tail: ready.tail,
            members: ready.members,
            last_counter: ready.last_counter,
            window_bytes: self.hosted.shared.config.group_limits.unstored_bytes_max as u32,
            level: self.hosted.shared.level(),
        }));
        self.answer(&frame);
    }
}
