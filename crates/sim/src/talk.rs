//! What programs and the coordinator say to each other, and how it gets there.

use bytes::Bytes;
use tertulia_group::{Input, Name, Ticket};

use crate::checks::Verdict;
use crate::coverage::{Seen, saw};
use crate::net::{Link, Side};
use crate::program::Manner;
use crate::receive::Ears;
use crate::world::{Event, World};

/// Messages of one program that have not got their final answer; it writes no more before some have.
const LETTERS_MAX: usize = 200;

impl World {
    pub fn node_hears(&mut self, conn: u64, bytes: &Bytes) {
        let now = self.clock();
        let Some(link) = self.links.get_mut(&conn) else { return };
        let len = link.arrives(Side::Node, bytes.len(), &mut self.rng);
        self.trace.fold_bytes(&bytes[..len]);
        self.note("node hears {} bytes of {}", [len as u64, conn]);
        if let Some(node) = &mut self.node {
            node.takes(now, conn, &bytes[..len], &self.journal);
            self.turn_soon();
        }
    }

    pub fn program_hears(&mut self, conn: u64, bytes: &Bytes) -> Verdict {
        let Some(link) = self.links.get_mut(&conn) else { return Ok(()) };
        let (program, len) =
            (link.program, link.arrives(Side::Program, bytes.len(), &mut self.rng));
        let manner = self.programs[program].manner;
        if manner == Manner::Well && !link.has_backlog() || manner == Manner::NeverAcks {
            return self.program_reads(conn, program, &bytes[..len]);
        }
        if !link.has_room() {
            saw(Seen::WindowFull);
        }
        if manner == Manner::ReadsSlowly && !link.has_backlog() {
            let delay = self.rng.within(50, 1000);
            self.at(delay, Event::Reads(conn));
        }
        if let Some(link) = self.links.get_mut(&conn) {
            link.put_off(&bytes[..len]);
        }
        Ok(())
    }

    /// What has piled up is read now.
    pub fn reads(&mut self, conn: u64) -> Verdict {
        let Some(link) = self.links.get_mut(&conn) else { return Ok(()) };
        let program = link.program;
        if matches!(self.programs[program].manner, Manner::Stopped | Manner::NeverReads) {
            return Ok(());
        }
        let bytes = link.take_backlog();
        self.program_reads(conn, program, &bytes)
    }

    fn program_reads(&mut self, conn: u64, program: usize, bytes: &[u8]) -> Verdict {
        self.trace.fold_bytes(bytes);
        self.note("program {} hears {} bytes of {}", [program as u64, bytes.len() as u64, conn]);
        if self.links.get_mut(&conn).is_some_and(|link| link.read(bytes.len())) {
            self.turn_soon();
        }
        let one = &mut self.programs[program];
        if one.session.as_ref().is_none_or(|session| session.conn != conn) {
            return Ok(());
        }
        let mut ears = Ears {
            now: self.now,
            me: program,
            truth: &mut self.truth,
            journal: &self.journal,
            rng: &mut self.rng,
            works: Vec::new(),
            hang_up: false,
        };
        one.hears(bytes, &mut ears)?;
        let (works, hang_up) = (ears.works, ears.hang_up);
        for (seq, ms, fails) in works {
            self.at(ms, Event::Worked { program, conn, seq, fails });
        }
        if hang_up {
            self.programs[program].session = None;
            self.cut(conn);
        }
        Ok(())
    }

    /// Both ends notice later; what is on its way is lost but for a part of the first piece.
    pub fn cut(&mut self, conn: u64) {
        let Some(link) = self.links.get_mut(&conn).filter(|link| !link.is_cut()) else { return };
        link.cut();
        self.note("connection {} is cut", [conn]);
        let (node, program) = (self.rng.within(0, 2000), self.rng.within(0, 2000));
        self.at(node, Event::NodeSeesEnd(conn));
        self.at(program.max(node), Event::ProgramSeesEnd(conn));
    }

    pub fn wake(&mut self, program: usize) {
        let next = self.temper.next_wake(&mut self.rng, self.calm);
        self.at(next, Event::Wake(program));
        let one = &mut self.programs[program];
        if !one.alive || self.now < one.wait_until || one.manner == Manner::Stopped {
            return;
        }
        if one.session.is_none() {
            return self.connect(program);
        }
        let may_write = one.unstored().count() < 30 && one.disk.letters.len() < LETTERS_MAX;
        if !self.calm && may_write && self.rng.chance(self.temper.letters_per_mille) {
            let letters = self.rng.within(1, self.temper.letters_at_once_max);
            (0..letters).for_each(|_| one.write_letter());
        }
        let bytes = one.speak(self.now);
        let conn = one.session.as_ref().map_or(0, |session| session.conn);
        self.write(conn, bytes);
    }

    fn connect(&mut self, program: usize) {
        let now = self.clock();
        let Some(node) = &mut self.node else { return };
        self.next_conn += 1;
        let conn = self.next_conn;
        node.accept(conn, self.rng.bytes());
        self.links.insert(conn, Link::new(program));
        let history = self.rng.chance(300);
        let one = &mut self.programs[program];
        let (bytes, told) = (one.hello(conn, history), one.told);
        // A durable name whose secret was never learnt is removed by somebody.
        if one.taken > 3 {
            one.taken = 0;
            self.next_ticket += 1;
            if let Ok(name) = Name::new(&one.name) {
                node.group.handle(now, Input::Remove(Ticket(self.next_ticket), name));
            }
        }
        // What it has confirmed last in this stay has not come to the node.
        let known = node.group.members().find(|member| member.key.0 == told.0);
        if known.is_some_and(|member| member.acked < told.1) {
            saw(Seen::LostAck);
        }
        self.note("program {} connects as {}", [program as u64, conn]);
        self.write(conn, bytes);
    }

    /// Bytes from a program, in pieces.
    pub fn write(&mut self, conn: u64, mut bytes: Bytes) {
        while !bytes.is_empty() {
            let whole = self.rng.chance(self.temper.whole_per_mille);
            let len =
                if whole { bytes.len() as u64 } else { self.rng.within(1, bytes.len() as u64) };
            let piece = bytes.split_to(len as usize);
            let Some(link) = self.links.get_mut(&conn) else { return };
            let most = self.temper.delay_ms_max;
            let delay = link.arrival(Side::Node, self.now, most, &mut self.rng) - self.now;
            self.at(delay, Event::ToNode(conn, piece));
        }
    }
}
