//! What goes wrong, apart from coordinators and power: connections, programs, clocks, removals, trimming, impostors.

use tertulia_group::planted::{Bug, planted};
use tertulia_group::{
    ConnId, Door, From, Input, Join, LogId, Name, Position, SecretDigest, SenderId, Ticket,
};

use crate::checks::Verdict;
use crate::coverage::{Seen, saw};
use crate::net::Side;
use crate::program::Manner;
use crate::settings::Fault;
use crate::world::{Event, World};

/// Connections of impostors have numbers from here on.
pub const FIRST_IMPOSTOR: u64 = 1 << 40;

impl World {
    pub fn fault(&mut self) -> Verdict {
        if self.calm {
            return Ok(());
        }
        let gap = self.temper.fault_gap_ms;
        let next = self.rng.within(gap / 2, gap * 3 / 2);
        self.at(next, Event::Fault);
        let Some(fault) = self.temper.fault(&mut self.rng) else { return Ok(()) };
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
            Fault::Successions => return self.succession(),
            Fault::PowerCuts => return self.power_cut(),
            Fault::Clock => self.jump_clock(),
            Fault::Removals => self.remove_any(),
            Fault::Trimming => self.snapshot(),
            Fault::Impostors => self.impostor(),
            Fault::WrongDisks => self.wrong_disk(),
            Fault::Leaves => self.leave_any(),
            Fault::Stalls => self.stall_any(),
            Fault::OldConnections => self.reconnect_any(),
            Fault::Repeats => self.repeat_any(),
            Fault::Sticking => self.stick_any(),
            // These come with an append.
            Fault::LostBatches | Fault::SlowDisk | Fault::BrokenStores => {}
        }
        Ok(())
    }

    fn any_link(&mut self) -> Option<u64> {
        let nth = self.rng.below(self.links.len() as u64) as usize;
        self.links.keys().nth(nth).copied()
    }

    fn cut_any(&mut self) {
        if let Some(conn) = self.any_link() {
            saw(Seen::Cut);
            self.cut(conn);
        }
    }

    fn stall_any(&mut self) {
        let Some(conn) = self.any_link() else { return };
        saw(Seen::Stall);
        let until = self.now + self.rng.log_within(100, 10_000);
        let both = self.rng.below(3);
        if let Some(link) = self.links.get_mut(&conn) {
            if both != 0 {
                link.stall(Side::Node, until);
            }
            if both != 1 {
                link.stall(Side::Program, until);
            }
        }
        self.note("connection {} carries nothing until {}", [conn, until]);
    }

    /// A program says all once more, on a connection that carries nothing for a while, and opens another one.
    fn reconnect_any(&mut self) {
        let program = self.any_program();
        let now = self.now;
        let stall = self.rng.log_within(50, 5_000);
        let one = &mut self.programs[program];
        let Some(session) = one.session.as_mut().filter(|session| session.ready) else { return };
        let conn = session.conn;
        let Some(link) = self.links.get_mut(&conn).filter(|link| !link.is_cut()) else { return };
        saw(Seen::OldConnection);
        link.stall(Side::Node, now + stall);
        session.sent_through = 0;
        one.overlapped = true;
        let bytes = one.speak(now);
        one.session = None;
        one.manner = Manner::Well;
        self.write(conn, bytes);
        self.note(
            "program {} gives connection {} up, which is still there",
            [program as u64, conn],
        );
        let end = stall + self.rng.within(0, 3000);
        self.at(end, Event::NodeSeesEnd(conn));
        self.at(end, Event::ProgramSeesEnd(conn));
    }

    fn repeat_any(&mut self) {
        let program = self.any_program();
        let now = self.now;
        let one = &mut self.programs[program];
        let Some(session) = one.session.as_mut().filter(|session| session.ready) else { return };
        saw(Seen::Repeat);
        (session.sent_through, session.ack_due) = (0, one.member);
        let conn = session.conn;
        let bytes = one.speak(now);
        self.note("program {} says all again", [program as u64]);
        self.write(conn, bytes);
    }

    /// A member stops, or does not do its part, and its connection stays.
    pub fn stick_any(&mut self) {
        let program = self.any_program();
        let manner = match self.rng.below(4) {
            0 => Manner::Stopped,
            1 => Manner::NeverReads,
            2 => Manner::NeverAcks,
            _ => Manner::ReadsSlowly,
        };
        let one = &mut self.programs[program];
        if !one.session.as_ref().is_some_and(|session| session.ready) || one.manner != Manner::Well
        {
            return;
        }
        saw(match manner {
            Manner::Stopped => Seen::Stopped,
            Manner::NeverReads => Seen::NeverReads,
            Manner::ReadsSlowly => Seen::ReadsSlowly,
            _ => Seen::NeverAcks,
        });
        one.manner = manner;
        self.trace.say(self.now, "sticks: ", format!("{} {manner:?}", one.name));
        // Some until the faults are over.
        if self.rng.chance(700) && !self.calm {
            let delay = self.rng.log_within(500, 60_000);
            self.at(delay, Event::Unsticks(program));
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
        saw(Seen::Kill);
        self.note("program {} is killed", [program as u64]);
        conn.into_iter().for_each(|conn| self.cut(conn));
        let long = if self.rng.chance(200) { 40_000 } else { 3_000 };
        let delay = self.rng.within(1, long);
        self.at(delay, Event::ProgramStarts(program));
    }

    fn jump_clock(&mut self) {
        let by = self.rng.within(0, 7_200_000_000);
        let forward = self.rng.chance(500);
        saw(if forward { Seen::ClockForward } else { Seen::ClockBack });
        self.wall_offset_us =
            if forward { self.wall_offset_us + by } else { self.wall_offset_us.saturating_sub(by) };
        self.note("the wall clock jumps", []);
    }

    fn remove_any(&mut self) {
        let (now, program) = (self.clock(), self.any_program());
        let Ok(name) = Name::new(&self.programs[program].name) else { return };
        self.note("program {} is removed by name", [program as u64]);
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
            self.note("program {} leaves", [program as u64]);
            self.write(conn, bytes.freeze());
        }
    }

    /// Keeps a snapshot; sometimes trims below it, mostly below everybody's cursor.
    fn snapshot(&mut self) {
        let now = self.clock();
        let Some(node) = &mut self.node else { return };
        if !planted(Bug::TrimAboveSnapshot) {
            self.journal.keep_snapshot(node.group.snapshot());
            saw(Seen::Snapshot);
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
            saw(Seen::Trim);
            self.note("a snapshot, trimmed below {}", [first]);
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
        saw(Seen::Impostor);
        self.note("an impostor of program {} as {}", [program as u64, conn]);
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
        saw(Seen::WrongDisk);
        let which = [program as u64, u64::from(wrong_secret)];
        self.note("program {} gets a wrong disk, wrong secret: {}", which);
    }
}
