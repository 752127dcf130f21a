//! What a program does with what it hears, and the checks that only it can make.

use bytes::Bytes;
use tertulia_group::entry::FLAG_AGAIN;
use tertulia_group::{Entry, Incarnation, Kind, Position, SenderId, Seq};
use tertulia_wire::native::{self, Code, NodeFrame};

use crate::checks::{self, Truth, Verdict};
use crate::coverage::{Seen, saw};
use crate::journal::Journal;
use crate::program::{Letter, Program};
use crate::rng::Rng;

/// What a program hears with.
pub struct Ears<'a> {
    pub now: u64,
    /// Which program listens.
    pub me: usize,
    pub truth: &'a mut Truth,
    pub journal: &'a Journal,
    pub rng: &'a mut Rng,
    /// Work that takes a while: number, how long, whether it fails.
    pub works: Vec<(Seq, u64, bool)>,
    /// The connection is of no more use.
    pub hang_up: bool,
}

impl Program {
    pub fn hears(&mut self, bytes: &[u8], ears: &mut Ears<'_>) -> Verdict {
        if let Some(session) = &mut self.session {
            session.buffer.extend_from_slice(bytes);
        }
        while let Some(session) = self.session.as_mut().filter(|_| !ears.hang_up) {
            let frame = native::split_from_node(&mut session.buffer, 1 << 20)
                .map_err(|error| format!("wire: {error}"))?;
            let Some(frame) = frame else { break };
            self.frame(frame, ears)?;
        }
        Ok(())
    }

    fn frame(&mut self, frame: Bytes, ears: &mut Ears<'_>) -> Verdict {
        match NodeFrame::decode(frame).map_err(|error| format!("wire: {error}"))? {
            NodeFrame::Welcome(welcome) => self.welcomed(&welcome, ears),
            NodeFrame::SenderReady(ready) => self.ready(ready.last_counter, 0, ears),
            NodeFrame::Entry(entry) => self.entry(&entry, ears),
            NodeFrame::Gap { first, last } => {
                self.gap(first, last, ears);
                Ok(())
            }
            NodeFrame::Stored(runs) => {
                for run in runs {
                    for i in 0..u64::from(run.count) {
                        self.stored(run.counter + i, run.seq + i, ears)?;
                    }
                }
                Ok(())
            }
            NodeFrame::Complete(runs) => {
                for run in runs {
                    saw(if run.count > 1 { Seen::CompleteRun } else { Seen::Complete });
                    for counter in (run.counter..).take(run.count as usize) {
                        self.answered(counter);
                    }
                }
                Ok(())
            }
            NodeFrame::Receipt { counter, .. } => {
                saw(Seen::NamedReceipt);
                self.answered(counter);
                Ok(())
            }
            NodeFrame::ReceiptReply { receipt, .. } => {
                saw(Seen::ReceiptAsked);
                if !receipt.is_final() {
                    return Ok(());
                }
                // Who only wants to know how it stands may be faster than the turn that would have said it.
                if crate::program::waits_for_receipt(receipt.seq) {
                    self.comes_unasked(receipt.seq)?;
                }
                self.disk.letters.retain(|_, letter| letter.stored != Some(receipt.seq));
                Ok(())
            }
            // Looked at when it was said: see `audit.rs`.
            NodeFrame::Confirmed(_) => Ok(()),
            NodeFrame::Refused { counter, code, message } => {
                self.refused(counter, code, &message, ears)
            }
            NodeFrame::Error { id, code, message } => self.error(id, code, &message, ears),
            NodeFrame::Close { code, message } => self.closed(code, &message, ears),
            other => Err(format!("wire: {other:?} was not expected")),
        }
    }

    fn welcomed(&mut self, welcome: &native::Welcome, ears: &mut Ears<'_>) -> Verdict {
        let Some(session) = &mut self.session else { return Ok(()) };
        let Incarnation(key) = welcome.incarnation;
        self.disk.secret = Some(welcome.secret.0);
        self.key = key;
        session.cursor = welcome.next - 1;
        session.open = welcome.open.iter().copied().collect();
        let asked = |seq| {
            ears.journal.entry(seq).is_some_and(|entry| {
                entry.header.kind == Kind::Message
                    && entry.header.publisher() != Some(welcome.incarnation)
            })
        };
        checks::open_bounds(welcome.open.len())?;
        if let Some(shown) = session.shown {
            checks::is_told_of_the_end(
                ears.truth,
                ears.journal.log_id(),
                &shown,
                welcome.cut_back,
            )?;
        }
        if welcome.resumed {
            checks::resume_skips_nothing(ears.truth, key, welcome.next, &welcome.open, asked)?;
            checks::resume_brings_nothing_twice(welcome.acked, welcome.next)?;
        } else if let Some(shown) = session.shown.filter(|_| !welcome.cut_back) {
            let disk = &self.disk;
            let finished = |seq| {
                ears.journal.entry(seq).is_none_or(|entry| entry.header.kind != Kind::Message)
                    || welcome.open.contains(&seq)
                    || disk.done.contains(&seq)
                    || disk.failed.contains_key(&seq)
            };
            checks::goes_on_at_its_place(shown.seq, welcome.next, key, finished)?;
        }
        if welcome.last_counter == 0 && self.disk.any_sent {
            self.forgotten(ears)?;
        }
        if welcome.cut_back {
            // The place that it kept is none in this log.
            self.disk.position = None;
            let (log, epoch, seq) = (welcome.log, welcome.epoch, welcome.next - 1);
            self.save(Position { log, epoch, seq });
        }
        self.ready(welcome.last_counter, welcome.next - 1, ears)
    }

    fn ready(&mut self, last_counter: u64, cursor: Seq, ears: &mut Ears<'_>) -> Verdict {
        checks::told_counter_is_stored(ears.truth, ears.me, last_counter)?;
        (self.taken, self.no_room) = (0, false);
        if let Some(session) = &mut self.session {
            (session.ready, session.cursor) = (true, cursor);
        }
        // Without a message of that counter the node would take a retry of these for something new.
        let lost = |counter, letter: &Letter| counter > last_counter && letter.stored.is_some();
        if self.disk.letters.iter().any(|(counter, letter)| lost(*counter, letter)) {
            let may_be = self.may_expire || self.disk.may_be_unknown;
            checks::may_be_forgotten(&self.name, may_be, last_counter)?;
            self.give_up(lost);
        }
        Ok(())
    }

    /// The node does not know the sender id: what may be stored is unknown.
    fn forgotten(&mut self, ears: &mut Ears<'_>) -> Verdict {
        saw(Seen::SenderExpired);
        let may_be = self.may_expire || self.disk.may_be_unknown || !self.disk.any_stored;
        checks::may_be_forgotten(&self.name, may_be, 0)?;
        self.expire(SenderId(ears.rng.bytes()));
        Ok(())
    }

    fn entry(&mut self, entry: &Entry, ears: &mut Ears<'_>) -> Verdict {
        checks::delivered_is_the_log(ears.journal.entry(entry.header.seq), entry)?;
        let Some(session) = &mut self.session else { return Ok(()) };
        let seq = entry.header.seq;
        if entry.header.flags & FLAG_AGAIN == 0 {
            checks::order_has_no_gap(session.cursor, entry)?;
            session.cursor = seq;
        } else {
            saw(Seen::Again);
        }
        session.ack_due = true;
        if entry.header.kind == Kind::Message {
            self.message(seq, ears);
        }
        self.keep_place(entry.header.epoch, ears);
        Ok(())
    }

    fn keep_place(&mut self, epoch: u32, ears: &Ears<'_>) {
        let Some(session) = &self.session else { return };
        let log = ears.journal.log_id();
        let end = ears.journal.tail();
        self.save(Position { log, epoch, seq: session.cursor.min(end) });
    }

    fn message(&mut self, seq: Seq, ears: &mut Ears<'_>) {
        let takes_long = if self.flawless { 50 } else { 250 };
        let Some(session) = &mut self.session else { return };
        session.open.remove(&seq);
        if self.disk.done.contains(&seq) {
            ears.truth.confirmed.insert((self.key, seq));
        } else if let Some(code) = self.disk.failed.get(&seq) {
            session.unreported.insert(seq);
            ears.truth.failed.insert((self.key, seq), code.clone());
        } else if session.open.len() < 8 && ears.rng.chance(takes_long) {
            session.open.insert(seq);
            let (ms, fails) = (ears.rng.within(5, 3000), ears.rng.chance(200));
            ears.works.push((seq, ms, fails && !self.flawless));
        } else {
            let fails = ears.rng.chance(40) && !self.flawless;
            self.finish(seq, fails, ears.truth);
        }
    }

    /// A piece of work is done, or will not be.
    pub fn finish(&mut self, seq: Seq, fails: bool, truth: &mut Truth) {
        let Some(session) = &mut self.session else { return };
        session.open.remove(&seq);
        session.ack_due = true;
        if fails {
            let code = format!("exit {}", seq % 7 + 1);
            truth.failed.insert((self.key, seq), code.clone());
            self.disk.failed.insert(seq, code);
            session.unreported.insert(seq);
        } else {
            truth.confirmed.insert((self.key, seq));
            self.disk.done.insert(seq);
        }
    }

    /// What cannot be had any more is failed: nobody is told that it was done.
    fn gap(&mut self, first: Seq, last: Seq, ears: &mut Ears<'_>) {
        let Some(session) = &mut self.session else { return };
        saw(Seen::Gap);
        session.cursor = session.cursor.max(last);
        session.ack_due = true;
        for seq in first..=last {
            session.open.remove(&seq);
            if !self.disk.done.contains(&seq) && !self.disk.failed.contains_key(&seq) {
                self.disk.failed.insert(seq, "gone".to_owned());
            }
            if let Some(code) = self.disk.failed.get(&seq) {
                session.unreported.insert(seq);
                ears.truth.failed.insert((self.key, seq), code.clone());
            } else {
                ears.truth.confirmed.insert((self.key, seq));
            }
        }
    }

    fn stored(&mut self, counter: u64, seq: Seq, ears: &Ears<'_>) -> Verdict {
        checks::answered_is_stored(ears.journal.entry(seq), counter, seq)?;
        checks::same_number(ears.truth, ears.me, counter, seq)?;
        self.disk.any_stored = true;
        if let Some(session) = &mut self.session {
            session.waits.insert(counter);
        }
        if let Some(letter) = self.disk.letters.get_mut(&counter) {
            (letter.stored, letter.asked_ms) = (Some(seq), ears.now);
        }
        Ok(())
    }

    /// The receipt has come by itself.
    fn answered(&mut self, counter: u64) {
        self.disk.letters.remove(&counter);
        if let Some(session) = &mut self.session {
            session.overtaken.remove(&counter);
        }
    }

    /// The receipt of what was sent through this connection comes by itself, and before one that was asked for.
    fn comes_unasked(&mut self, seq: Seq) -> Verdict {
        let of_it = |letter: &&u64| self.disk.letters[*letter].stored == Some(seq);
        let Some(counter) = self.disk.letters.keys().find(of_it).copied() else { return Ok(()) };
        let session = self.session.as_mut().filter(|session| session.waits.contains(&counter));
        match session {
            Some(session) if self.may_be_overtaken => {
                saw(Seen::AskedFirst);
                session.overtaken.insert(counter);
                Ok(())
            }
            Some(_) => {
                Err(format!("receipt: {counter} of {} was answered only when asked", self.name))
            }
            None => Ok(()),
        }
    }

    fn refused(&mut self, counter: u64, code: Code, message: &str, ears: &mut Ears<'_>) -> Verdict {
        match code {
            Code::Busy | Code::AfterRefused | Code::NoSpace => {
                saw(match code {
                    Code::Busy => Seen::Busy,
                    Code::NoSpace => Seen::NoSpace,
                    _ => Seen::AfterRefused,
                });
                if let Some(session) = &mut self.session {
                    session.sent_through = session.sent_through.min(counter - 1);
                }
                self.wait_until = ears.now + 100;
                Ok(())
            }
            Code::NotJoined => {
                saw(Seen::NotJoined);
                ears.hang_up = true;
                Ok(())
            }
            // Its number, where it is known, can still be asked for.
            Code::SenderExpired => {
                saw(Seen::SenderExpired);
                let may_be = self.may_expire || self.disk.may_be_unknown;
                checks::may_be_forgotten(&self.name, may_be, 0)?;
                self.give_up(|one, letter| one == counter && letter.stored.is_none());
                Ok(())
            }
            // Through its other connection a later one came first.
            Code::CounterSkipped if self.overlapped => {
                self.disk.letters.remove(&counter);
                checks::skipped_is_nowhere(ears.truth, ears.me, counter)
            }
            _ => Err(format!("once: counter {counter} of {} is refused: {message}", self.name)),
        }
    }

    fn error(&mut self, id: u32, code: Code, message: &str, ears: &mut Ears<'_>) -> Verdict {
        match (id, code) {
            (1, Code::NameTaken | Code::NoSpace | Code::Busy | Code::GroupFull) => {
                saw(match code {
                    Code::NameTaken => Seen::NameTaken,
                    Code::GroupFull => Seen::GroupFull,
                    _ => Seen::JoinBusy,
                });
                self.taken += u32::from(code == Code::NameTaken);
                self.no_room = code == Code::GroupFull;
                self.wait_until = ears.now + 1000;
                ears.hang_up = true;
                Ok(())
            }
            (1, Code::SenderExpired) => {
                ears.hang_up = true;
                self.forgotten(ears)
            }
            (seq, Code::Expired) => {
                saw(Seen::ReceiptExpired);
                self.disk.letters.retain(|_, letter| letter.stored != Some(u64::from(seq)));
                Ok(())
            }
            _ => Err(format!("refusal: {} is refused: {code} {message}", self.name)),
        }
    }

    fn closed(&mut self, code: Code, message: &str, ears: &mut Ears<'_>) -> Verdict {
        ears.hang_up = true;
        match code {
            Code::Removed | Code::NotJoined => {
                self.forget_stay();
                Ok(())
            }
            Code::Replaced => Ok(()),
            _ => Err(format!("refusal: {} is closed: {code} {message}", self.name)),
        }
    }
}
