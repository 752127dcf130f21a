//! After the faults: who is not stuck gets on beside who is; then nobody is stuck any more, and everything comes to its end.

use crate::checks::{self, Verdict};
use crate::coverage::{Seen, saw};
use crate::program::{Manner, Program};
use crate::settings::Fault;
use crate::world::{Event, World};

/// Connections, work and stores that were slow come to rest.
const REST_MS: u64 = 10_000;
/// Then what is sent is stored within this time, and what is stored delivered within as much.
const PATIENCE_MS: u64 = 6_000;
/// Letters that are sent beside the stuck ones, by all together.
const LETTERS: usize = 40;

/// Entries that a member may still have to read then.
const BEHIND_MAX: u64 = 2_000;

/// Programs that are connected and well, while others are stuck.
#[derive(Debug)]
pub struct Beside {
    /// Program and connection.
    well: Vec<(usize, u64)>,
    /// What is to be delivered, once it is known.
    tail: Option<u64>,
}

impl World {
    pub fn becomes_calm(&mut self) {
        self.calm = true;
        self.note("calm: no more faults", []);
        if self.rng.chance(300) && !self.without.contains(&Fault::Sticking) {
            self.stick_any();
        }
        self.at(REST_MS, Event::IsolationBegins);
    }

    pub fn isolation_begins(&mut self) {
        if self.programs.iter().any(|one| is_stuck(one) && one.member) {
            let tail = self.journal.tail();
            let well = self.programs.iter().enumerate().filter_map(|(n, one)| {
                let session = one.session.as_ref().filter(|session| session.ready)?;
                // Who still has a long past to read is not done in time, whoever else is stuck.
                let near = !one.member || session.cursor + BEHIND_MAX >= tail;
                (one.manner == Manner::Well && near).then_some((n, session.conn))
            });
            let well: Vec<(usize, u64)> = well.collect();
            for letter in 0..LETTERS.min(LETTERS * well.len()) {
                self.programs[well[letter % well.len()].0].write_letter();
            }
            self.note("{} programs go on beside the stuck", [well.len() as u64]);
            self.beside = Some(Beside { well, tail: None });
        }
        self.at(PATIENCE_MS, Event::IsolationEnds);
    }

    /// First everything is to be stored, a while later delivered; then nobody is stuck any more.
    pub fn isolation_ends(&mut self) -> Verdict {
        if let Some(Beside { well, tail }) = self.beside.take() {
            for (program, conn) in &well {
                let one = &self.programs[*program];
                let Some(session) = one.session.as_ref().filter(|session| session.conn == *conn)
                else {
                    continue;
                };
                checks::stored_beside_stuck(&one.name, &one.unstored().collect::<Vec<_>>())?;
                if let Some(tail) = tail.filter(|_| one.member) {
                    checks::delivered_beside_stuck(&one.name, session.cursor, tail)?;
                }
                saw(Seen::Isolation);
            }
            if tail.is_none() {
                let tail = Some(self.journal.tail());
                self.beside = Some(Beside { well, tail });
                self.at(PATIENCE_MS, Event::IsolationEnds);
                return Ok(());
            }
        }
        (0..self.programs.len()).for_each(|program| self.unstick(program));
        Ok(())
    }

    pub fn unstick(&mut self, program: usize) {
        let one = &mut self.programs[program];
        if one.manner == Manner::Well {
            return;
        }
        one.manner = Manner::Well;
        if let Some(session) = &one.session {
            let conn = session.conn;
            self.at(0, Event::Reads(conn));
        }
        self.note("program {} is well again", [program as u64]);
    }

    /// Everybody is there, at the end of the log, and every message has its answer.
    pub fn is_finished(&self) -> bool {
        self.programs.iter().all(|one| one.disk.letters.is_empty()) && self.finished().is_ok()
    }

    /// What is missing for that.
    pub fn finished(&self) -> Verdict {
        let tail = self.journal.tail();
        let is_full = self
            .node
            .as_ref()
            .is_some_and(|node| node.group.member_count() >= self.temper.limits.members_max);
        // Whoever found no room in the group was told so: that is the answer to all it would have sent.
        for one in self.programs.iter().filter(|one| !(is_full && one.no_room)) {
            let unanswered: Vec<u64> = one.disk.letters.keys().copied().collect();
            checks::everything_is_answered(&one.name, &unanswered)?;
            let overtaken = one.session.iter().flat_map(|session| &session.overtaken).copied();
            checks::everything_is_answered(&one.name, &overtaken.collect::<Vec<_>>())?;
            if one.member {
                let cursor = one.session.as_ref().map_or(0, |session| session.cursor);
                checks::caught_up(&one.name, cursor, tail)?;
            }
        }
        Ok(())
    }
}

fn is_stuck(one: &Program) -> bool {
    one.manner != Manner::Well && one.session.as_ref().is_some_and(|session| session.ready)
}
