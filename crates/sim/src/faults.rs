//! What goes wrong: cut connections, killed programs, dying coordinators, jumping clocks, removals, trimming.

use tertulia_group::{Input, Name, Ticket};

use crate::checks::Verdict;
use crate::world::{Event, World};

impl World {
    pub fn fault(&mut self) -> Verdict {
        if self.calm {
            return Ok(());
        }
        let next = self.rng.within(50, 1500);
        self.at(next, Event::Fault);
        match self.rng.below(100) {
            0..35 => self.cut_any(),
            35..50 => self.kill_any(),
            50..62 => {
                let keep = self.rng.chance(500);
                return self.crash(keep);
            }
            62..70 => self.jump_clock(),
            70..80 => self.remove_any(),
            80..92 => self.snapshot(),
            _ => self.leave_any(),
        }
        Ok(())
    }

    fn cut_any(&mut self) {
        let conns: Vec<u64> = self.links.keys().copied().collect();
        if !conns.is_empty() {
            let conn = conns[self.rng.below(conns.len() as u64) as usize];
            self.cut(conn);
        }
    }

    fn any_program(&mut self) -> usize {
        self.rng.below(self.programs.len() as u64) as usize
    }

    fn kill_any(&mut self) {
        let program = self.any_program();
        let one = &mut self.programs[program];
        if !one.alive {
            return;
        }
        let conn = one.session.as_ref().map(|session| session.conn);
        one.kill();
        self.note(&format!("program {program} is killed"));
        conn.into_iter().for_each(|conn| self.cut(conn));
        let long = if self.rng.chance(200) { 40_000 } else { 3_000 };
        let delay = self.rng.within(1, long);
        self.at(delay, Event::ProgramStarts(program));
    }

    /// The coordinator dies; a batch that is on its way may have been stored all the same.
    pub fn crash(&mut self, keeps: bool) -> Verdict {
        if self.node.take().is_none() {
            return Ok(());
        }
        self.crashes += 1;
        self.generation += 1;
        self.note(&format!("the node dies, the journal keeps what is on its way: {keeps}"));
        match self.journal.pending() {
            Some(_) if keeps => self.store()?,
            _ => self.journal.drop_pending(),
        }
        let conns: Vec<u64> = self.links.keys().copied().collect();
        conns.into_iter().for_each(|conn| self.cut(conn));
        let delay = self.rng.within(1, 3000);
        self.at(delay, Event::NodeStarts);
        Ok(())
    }

    fn jump_clock(&mut self) {
        let by = self.rng.within(0, 7_200_000_000);
        self.wall_offset_us = if self.rng.chance(500) {
            self.wall_offset_us + by
        } else {
            self.wall_offset_us.saturating_sub(by)
        };
        self.note("the wall clock jumps");
    }

    fn remove_any(&mut self) {
        let (now, program) = (self.clock(), self.any_program());
        let Ok(name) = Name::new(&self.programs[program].name) else { return };
        self.note(&format!("program {program} is removed by name"));
        if let Some(node) = &mut self.node {
            node.group.handle(now, Input::Remove(Ticket(0), name));
            self.turn_soon();
        }
    }

    fn leave_any(&mut self) {
        let program = self.any_program();
        let one = &self.programs[program];
        if let Some(session) = one.session.as_ref().filter(|session| session.ready && one.member) {
            let mut bytes = bytes::BytesMut::new();
            tertulia_wire::ClientFrame::Leave.encode(&mut bytes);
            let conn = session.conn;
            self.note(&format!("program {program} leaves"));
            self.write(conn, bytes.freeze());
        }
    }

    /// Keeps a snapshot; sometimes trims below it, mostly below everybody's cursor.
    fn snapshot(&mut self) {
        let now = self.clock();
        let Some(node) = &mut self.node else { return };
        self.journal.keep_snapshot(node.group.snapshot());
        let mut first = self.journal.snapshot_tail() + 1;
        if self.rng.chance(700) {
            let lowest = node.group.members().map(|member| member.acked + 1).min();
            first = first.min(lowest.unwrap_or(first));
        }
        if self.rng.chance(500) && first > self.journal.first {
            self.journal.first = first;
            node.group.handle(now, Input::Trimmed(first));
            self.note(&format!("a snapshot, trimmed below {first}"));
            self.turn_soon();
        }
    }
}
