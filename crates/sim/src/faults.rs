//! What goes wrong, apart from coordinators and power: connections, programs, clocks, removals, trimming, impostors.

use tertulia_group::planted::{Bug, planted};
use tertulia_group::{
    ConnId, Door, From, Input, Join, LogId, Name, Position, SecretDigest, SenderId, Ticket,
};

use crate::checks::Verdict;
use crate::settings::Fault;
use crate::world::{Event, World};

/// Connections of impostors have numbers from here on.
pub const FIRST_IMPOSTOR: u64 = 1 << 40;

impl World {
    pub fn fault(&mut self) -> Verdict {
        if self.calm {
            return Ok(());
        }
        let next = self.rng.within(50, 900);
        self.at(next, Event::Fault);
        let fault = match self.rng.below(100) {
            0..32 => Fault::Cuts,
            32..44 => Fault::Kills,
            44..51 => Fault::Crashes,
            51..54 => Fault::Successions,
            54..62 => Fault::PowerCuts,
            62..68 => Fault::Clock,
            68..76 => Fault::Removals,
            76..86 => Fault::Trimming,
            86..91 => Fault::Impostors,
            91..95 => Fault::WrongDisks,
            _ => Fault::Leaves,
        };
        if self.without.contains(&fault) {
            return Ok(());
        }
        match fault {
            Fault::Cuts => self.cut_any(),
            Fault::Kills => self.kill_any(),
            Fault::Crashes => {
                let keep = self.rng.chance(500);
                return self.crash(keep);
            }
            Fault::Successions => self.succession(),
            Fault::PowerCuts => self.power_cut(),
            Fault::Clock => self.jump_clock(),
            Fault::Removals => self.remove_any(),
            Fault::Trimming => self.snapshot(),
            Fault::Impostors => self.impostor(),
            Fault::WrongDisks => self.wrong_disk(),
            Fault::Leaves => self.leave_any(),
            // These two come with an append.
            Fault::LostBatches | Fault::SlowDisk => {}
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
        self.kill(program);
    }

    fn kill(&mut self, program: usize) {
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
        if !planted(Bug::TrimAboveSnapshot) {
            self.journal.keep_snapshot(node.group.snapshot());
        }
        let mut first = match planted(Bug::TrimAboveSnapshot) {
            false => self.journal.snapshot_tail() + 1,
            true => self.journal.tail() + 1,
        };
        if self.rng.chance(700) {
            let lowest = node.group.members().map(|member| member.acked + 1).min();
            first = first.min(lowest.unwrap_or(first));
        }
        if self.rng.chance(500) && first > self.journal.first {
            self.journal.trim(first);
            node.group.handle(now, Input::Trimmed(first));
            self.note(&format!("a snapshot, trimmed below {first}"));
            self.turn_soon();
        }
    }

    /// Somebody with the name of a member, or one that looks like it, and not with its secret: is refused.
    fn impostor(&mut self) {
        let (now, program) = (self.clock(), self.any_program());
        let name = &self.programs[program].name;
        let looks = match self.rng.below(4) {
            0 => name.clone(),
            1 => name.to_uppercase(),
            2 => name.replace('m', "rn"),
            _ => name.replace('e', "\u{435}"),
        };
        let (secret, shows, sender) =
            (self.rng.bytes(), self.rng.chance(500), SenderId(self.rng.bytes()));
        let (Ok(name), Ok(looks)) = (Name::new(name), Name::new(&looks)) else { return };
        let Some(node) = self.node.as_mut().filter(|node| node.group.member(&name).is_some())
        else {
            return;
        };
        self.next_impostor += 1;
        let conn = FIRST_IMPOSTOR + self.next_impostor;
        let join = Join {
            name: looks,
            door: Door::Native,
            durable: false,
            sender,
            shown: shows.then_some(SecretDigest(secret)),
            fresh: SecretDigest(secret),
            from: From::Now,
            follow: false,
        };
        node.accept(conn, secret);
        node.group.handle(now, Input::Join(ConnId(conn), Box::new(join)));
        self.note(&format!("an impostor of program {program} as {conn}"));
        self.at(200, Event::NodeSeesEnd(conn));
        self.turn_soon();
    }

    /// A member comes back with a wrong copy of what it kept: a place in another log, or another secret.
    fn wrong_disk(&mut self) {
        let program = self.any_program();
        if !self.programs[program].member || !self.programs[program].alive {
            return;
        }
        self.kill(program);
        let (log, epoch) = (LogId(self.rng.bytes()), self.rng.within(1, 5) as u32);
        let seq = self.rng.within(0, self.journal.tail() + 10);
        let (wrong_secret, secret) = (self.rng.chance(300), self.rng.bytes());
        let disk = &mut self.programs[program].disk;
        if wrong_secret {
            disk.secret = Some(secret);
        } else {
            disk.position = Some(Position { log, epoch, seq });
        }
        self.note(&format!("program {program} gets a wrong disk, wrong secret: {wrong_secret}"));
    }
}
