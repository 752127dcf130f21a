//! What the coordinator says is checked when it says it, and its receipts at any time.

use std::collections::btree_map;

use tertulia_group::{
    CompleteRun, Confirmation, Entry, Kind, LeaveReason, Moved, Output, Receipt, Refusal, Welcome,
    Why,
};

use crate::checks::{self, Verdict};
use crate::coverage::{Seen, saw};
use crate::world::World;

impl World {
    pub fn check_said(&mut self, output: &Output) -> Verdict {
        match output {
            Output::Welcome(conn, welcome) => {
                checks::impostor_is_refused(conn.0, welcome.name.as_str())?;
                self.saw_welcome(welcome);
                self.check_told(conn.0, welcome.last_counter)?;
            }
            Output::SenderReady(conn, ready) => self.check_told(conn.0, ready.last_counter)?,
            Output::Stored(_, run) | Output::Again(_, run) => {
                for i in 0..u64::from(run.count) {
                    let (counter, seq) = (run.counter + i, run.seq + i);
                    checks::answered_is_stored(self.journal.entry(seq), counter, seq)?;
                    match self.truth.answered.entry(seq) {
                        btree_map::Entry::Vacant(new) => drop(new.insert(self.turns)),
                        btree_map::Entry::Occupied(known) if *known.get() == self.turns => {
                            saw(Seen::DuplicateInStore);
                        }
                        btree_map::Entry::Occupied(_) => saw(Seen::Duplicate),
                    }
                }
            }
            Output::Confirmed(_, all) => {
                saw(Seen::Followed);
                return all.iter().try_for_each(|one| self.check_followed(one));
            }
            Output::Close(_, Refusal::Replaced) => saw(Seen::Replaced),
            Output::Left(_, reason) => saw(match reason {
                LeaveReason::Exit => Seen::Exit,
                LeaveReason::Removed => Seen::Removed,
                LeaveReason::Expired => Seen::RetentionPassed,
                _ => Seen::Lost,
            }),
            Output::Complete(_, run) => {
                for seq in (run.seq..).take(run.count as usize) {
                    let confirmed = run.members - run.reached;
                    let (epoch, members, reached) = (run.epoch, run.members, run.reached);
                    let missing = Vec::new();
                    self.check_receipt(&Receipt {
                        seq,
                        epoch,
                        members,
                        confirmed,
                        reached,
                        missing,
                    })?;
                }
            }
            Output::WatchedComplete(run) => {
                for seq in (run.seq..).take(run.count as usize) {
                    let CompleteRun { epoch, members, reached, .. } = *run;
                    let (confirmed, missing) = (members - reached, Vec::new());
                    let receipt = Receipt { seq, epoch, members, confirmed, reached, missing };
                    self.check_receipt(&receipt)?;
                }
            }
            Output::Watched(receipt) => {
                checks::told_is_final(receipt)?;
                self.check_receipt(receipt)?;
            }
            Output::Receipt(_, _, receipt) | Output::Awaited(_, Some(receipt)) => {
                self.check_receipt(receipt)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// A cursor that others are told of has passed nothing that its program has not finished.
    fn check_followed(&mut self, told: &Confirmation) -> Verdict {
        let member = self.node.as_ref().and_then(|node| node.group.member(&told.name));
        let Some(member) = member.filter(|_| !told.reached) else { return Ok(()) };
        let (key, journal) = (member.key, &self.journal);
        let asked = |seq| {
            journal.entry(seq).is_some_and(|entry| {
                entry.header.kind == Kind::Message && entry.header.publisher() != Some(key)
            })
        };
        checks::resume_skips_nothing(&mut self.truth, key.0, told.cursor + 1, &member.open, asked)
    }

    fn saw_welcome(&self, welcome: &Welcome) {
        saw(if welcome.resumed { Seen::Resume } else { Seen::Join });
        match welcome.moved {
            Some(Moved::OtherLog) => saw(Seen::Reset),
            Some(Moved::CutBack) => saw(Seen::CutBack),
            None if !welcome.resumed && welcome.next <= welcome.key.0 => saw(Seen::PlaceKept),
            None => {}
        }
    }

    /// At the moment when it is said, not when it has arrived: the journal may be slow.
    fn check_told(&self, conn: u64, last_counter: u64) -> Verdict {
        let Some(link) = self.links.get(&conn) else { return Ok(()) };
        checks::told_counter_is_stored(&self.truth, link.program, last_counter)
    }

    fn check_receipt(&mut self, receipt: &Receipt) -> Verdict {
        let entry = self.journal.entry(receipt.seq).ok_or("a receipt of nothing")?;
        for missing in &receipt.missing {
            saw(match missing.why {
                Why::Pending => Seen::Pending,
                Why::Lagging => Seen::Lagging,
                Why::Away { .. } => Seen::Away,
                Why::Failed { .. } => Seen::Failed,
                Why::Left => Seen::Left,
            });
        }
        checks::receipt_is_true(&self.truth, entry, receipt)?;
        checks::complete_stays_complete(&mut self.truth, self.generation, receipt)
    }

    /// Asks for the receipt of any message: it is true at any time.
    pub fn audit(&mut self) -> Verdict {
        let now = self.clock();
        let Some(node) = &self.node else { return Ok(()) };
        let back = self.rng.below(20);
        let seq = node.group.tail().saturating_sub(back);
        let message = |entry: &&Entry| entry.header.kind == Kind::Message;
        let Some(entry) = self.journal.entry(seq).filter(message) else { return Ok(()) };
        match node.group.receipt(seq, entry.header.publisher(), now) {
            Ok(receipt) => self.check_receipt(&receipt),
            Err(_) => Ok(()),
        }
    }
}
