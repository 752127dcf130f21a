//! The world of one seed: the queue of events, what each does, and the checks after it.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use tertulia_group::planted::plant;
use tertulia_group::{Group, Incarnation, Input, Kind, Limits, LogId, Name, Now, SenderId, Ticket};

use crate::checks::{self, Truth, Verdict};
use crate::journal::{Journal, Level};
use crate::net::{Link, Side};
use crate::node::Node;
use crate::power::Overtaken;
use crate::program::Program;
use crate::receive::Ears;
use crate::rng::Rng;
use crate::settings::{Fault, Settings};

const TRACE_EVENTS: usize = 40;
/// How long everybody may take, once the faults have stopped.
const CALM_MS_MAX: u64 = 180_000;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Of every event with its bytes.
    pub hash: u64,
    /// How many there were.
    pub events: u64,
    /// Entries in the log.
    pub entries: u64,
    /// Coordinators that died.
    pub crashes: u64,
    /// Simulated milliseconds.
    pub simulated_ms: u64,
}

/// A promise was broken.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which, and how.
    pub broken: String,
    /// The last events.
    pub trace: Vec<String>,
}

#[derive(Debug)]
pub enum Event {
    ToNode(u64, Bytes),
    ToProgram(u64, Bytes),
    NodeSeesEnd(u64),
    ProgramSeesEnd(u64),
    Turn,
    Tick,
    /// The batch that this generation of the node handed over is stored, or not.
    Appended(u64, bool),
    NodeStarts,
    Wake(usize),
    /// A program has finished a piece of work.
    Worked {
        program: usize,
        conn: u64,
        seq: u64,
        fails: bool,
    },
    ProgramStarts(usize),
    Fault,
    OvertakenAppends,
}

pub struct World {
    pub now: u64,
    pub rng: Rng,
    pub queue: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    pub node: Option<Node>,
    pub generation: u64,
    pub journal: Journal,
    pub programs: Vec<Program>,
    pub links: BTreeMap<u64, Link>,
    next_conn: u64,
    pub truth: Truth,
    pub limits: Limits,
    pub wall_offset_us: u64,
    turn_due: bool,
    pub calm: bool,
    pub crashes: u64,
    events: u64,
    hash: u64,
    trace: VecDeque<String>,
    next_ticket: u64,
    pub next_impostor: u64,
    pub overtaken: Option<Overtaken>,
    pub without: BTreeSet<Fault>,
}

/// Runs one seed.
///
/// # Errors
/// [`Failure`] when a promise is broken.
pub fn run(settings: &Settings) -> Result<Outcome, Failure> {
    if !plant(settings.bug) {
        let broken = "this build has no planted bugs: --features planted".to_owned();
        return Err(Failure { broken, trace: Vec::new() });
    }
    let mut world = World::new(settings);
    // An assertion of the group is a promise, too.
    let live = AssertUnwindSafe(|| world.live(settings.faults_ms));
    let result =
        catch_unwind(live).unwrap_or_else(|panic| Err(format!("panic: {}", said(&*panic))));
    plant(None);
    match result {
        Ok(()) => Ok(Outcome {
            hash: world.hash,
            events: world.events,
            entries: world.journal.tail(),
            crashes: world.crashes,
            simulated_ms: world.now,
        }),
        Err(broken) => Err(Failure { broken, trace: world.trace.into() }),
    }
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word")
}

impl World {
    fn new(settings: &Settings) -> Self {
        let mut rng = Rng::new(settings.seed);
        let (members, senders) = (rng.within(2, 5), rng.within(1, 3));
        let members = settings.members.unwrap_or(members) as usize;
        let senders = settings.senders.unwrap_or(senders) as usize;
        let level = match rng.below(10) {
            0 => Level::Memory,
            1..5 => Level::Os,
            _ => Level::Fsync,
        };
        let log = LogId(rng.bytes());
        let programs = (0..members + senders)
            .map(|n| {
                let one = Program::new(n, n < members, rng.chance(300), SenderId(rng.bytes()));
                Program { flawless: rng.chance(400), ..one }
            })
            .collect();
        let limits = Limits {
            unstored_bytes_max: rng.within(500, 20_000) as usize,
            batch_bytes_max: rng.within(300, 5_000) as usize,
            copy_bytes_max: rng.within(60, 2_000) as usize,
            grace_ms: rng.within(2_000, 30_000),
            ..Limits::default()
        };
        Self {
            now: 1000,
            rng,
            queue: BTreeMap::new(),
            next_event: 0,
            node: None,
            generation: 0,
            journal: Journal::new(level, log),
            programs,
            links: BTreeMap::new(),
            next_conn: 0,
            truth: Truth::default(),
            limits,
            wall_offset_us: 1_700_000_000_000_000,
            turn_due: false,
            calm: false,
            crashes: 0,
            events: 0,
            hash: 0xCBF2_9CE4_8422_2325,
            trace: VecDeque::new(),
            next_ticket: 0,
            next_impostor: 0,
            overtaken: None,
            without: settings.without.clone(),
        }
    }

    pub fn at(&mut self, delay: u64, event: Event) {
        self.next_event += 1;
        self.queue.insert((self.now + delay, self.next_event), event);
    }

    fn live(&mut self, faults_ms: u64) -> Verdict {
        self.at(0, Event::NodeStarts);
        self.at(1, Event::Tick);
        self.at(500, Event::Fault);
        for program in 0..self.programs.len() {
            self.at(program as u64 * 7, Event::Wake(program));
        }
        let (calm_at, end_at) = (self.now + faults_ms, self.now + faults_ms + CALM_MS_MAX);
        while let Some(((at, _), event)) = self.queue.pop_first() {
            self.now = at;
            if !self.calm && self.now >= calm_at {
                self.calm = true;
                self.note("calm: no more faults, no more messages");
            }
            if self.now >= end_at || (self.calm && self.finished().is_ok()) {
                break;
            }
            self.events += 1;
            self.happen(event)?;
            self.check_always()?;
        }
        self.finished()
    }

    /// Folds what happened into the hash, and keeps the last of it.
    pub fn note(&mut self, what: &str) {
        let line = format!("{:>8} {what}", self.now);
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
        }
        if self.trace.len() == TRACE_EVENTS {
            self.trace.pop_front();
        }
        self.trace.push_back(line);
    }

    pub fn clock(&self) -> Now {
        Now { mono_ms: self.now, wall_us: self.wall_offset_us + self.now * 1000 }
    }

    fn happen(&mut self, event: Event) -> Verdict {
        match event {
            Event::ToNode(conn, bytes) => self.node_hears(conn, &bytes),
            Event::ToProgram(conn, bytes) => return self.program_hears(conn, &bytes),
            Event::NodeSeesEnd(conn) => {
                let now = self.clock();
                if let Some(node) = &mut self.node {
                    node.ended(now, conn);
                    self.turn_soon();
                }
            }
            Event::ProgramSeesEnd(conn) => {
                let link = self.links.remove(&conn);
                let program = link.map(|link| &mut self.programs[link.program]);
                if let Some(program) = program
                    && program.session.as_ref().is_some_and(|session| session.conn == conn)
                {
                    program.session = None;
                }
            }
            Event::Turn => return self.turn(),
            Event::Tick => {
                let now = self.clock();
                if let Some(node) = &mut self.node {
                    node.group.handle(now, Input::Tick);
                    self.turn_soon();
                }
                self.at(250, Event::Tick);
                return (0..4).try_for_each(|_| self.audit());
            }
            Event::Appended(generation, stored) => return self.appended(generation, stored),
            Event::NodeStarts => return self.node_starts(),
            Event::Wake(program) => self.wake(program),
            Event::Worked { program, conn, seq, fails } => {
                let one = &mut self.programs[program];
                let same = one
                    .session
                    .as_ref()
                    .is_some_and(|session| session.conn == conn && session.open.contains(&seq));
                if same {
                    one.finish(seq, fails, &mut self.truth);
                    self.note(&format!("program {program} worked on {seq}, fails: {fails}"));
                }
            }
            Event::ProgramStarts(program) => {
                self.programs[program].alive = true;
                self.note(&format!("program {program} starts"));
            }
            Event::Fault => return self.fault(),
            Event::OvertakenAppends => return self.overtaken_appends(),
        }
        Ok(())
    }

    pub fn turn_soon(&mut self) {
        if !std::mem::replace(&mut self.turn_due, true) {
            let delay = self.rng.below(3);
            self.at(delay, Event::Turn);
        }
    }

    fn node_hears(&mut self, conn: u64, bytes: &Bytes) {
        let now = self.clock();
        let Some(link) = self.links.get_mut(&conn) else { return };
        let len = link.arrives(Side::Node, bytes.len(), &mut self.rng);
        self.note(&format!("node hears {len} bytes of {conn}"));
        if let Some(node) = &mut self.node {
            node.takes(now, conn, &bytes[..len], &self.journal);
            self.turn_soon();
        }
    }

    fn program_hears(&mut self, conn: u64, bytes: &Bytes) -> Verdict {
        let Some(link) = self.links.get_mut(&conn) else { return Ok(()) };
        let (program, len) =
            (link.program, link.arrives(Side::Program, bytes.len(), &mut self.rng));
        self.note(&format!("program {program} hears {len} bytes of {conn}"));
        let one = &mut self.programs[program];
        if one.session.as_ref().is_none_or(|session| session.conn != conn) {
            return Ok(());
        }
        let mut ears = Ears {
            now: self.now,
            truth: &mut self.truth,
            journal: &self.journal,
            rng: &mut self.rng,
            works: Vec::new(),
            hang_up: false,
        };
        one.hears(&bytes[..len], &mut ears)?;
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
        self.note(&format!("connection {conn} is cut"));
        let (node, program) = (self.rng.within(0, 2000), self.rng.within(0, 2000));
        self.at(node, Event::NodeSeesEnd(conn));
        self.at(program.max(node), Event::ProgramSeesEnd(conn));
    }

    fn turn(&mut self) -> Verdict {
        self.turn_due = false;
        let now = self.clock();
        let Some(node) = &mut self.node else { return Ok(()) };
        let links = &self.links;
        let gone = |conn: u64| links.get(&conn).is_none_or(Link::is_cut);
        let turn = node.turn(now, &self.journal, &gone);
        for output in &turn.said {
            self.check_said(output)?;
        }
        if let Some(batch) = turn.batch {
            self.note(&format!("batch {} of {} entries", batch.first, batch.count));
            self.journal.append(batch)?;
            let slow =
                self.rng.chance(40) && !self.calm && !self.without.contains(&Fault::SlowDisk);
            let ms = if slow { self.rng.within(100, 3000) } else { self.rng.within(0, 40) };
            let generation = self.generation;
            let lost = self.rng.chance(20) && !self.without.contains(&Fault::LostBatches);
            let stored = self.calm || !lost;
            self.at(ms, Event::Appended(generation, stored));
        }
        for (conn, bytes) in turn.writes {
            let Some(link) = self.links.get_mut(&conn) else { continue };
            let at = link.arrival(Side::Program, self.now, &mut self.rng);
            let delay = at - self.now;
            self.at(delay, Event::ToProgram(conn, bytes));
        }
        for conn in turn.closes {
            if let Some(node) = &mut self.node {
                node.ended(now, conn);
            }
            self.at(900, Event::ProgramSeesEnd(conn));
            self.turn_soon();
        }
        if turn.more {
            self.turn_soon();
        }
        Ok(())
    }

    fn appended(&mut self, generation: u64, stored: bool) -> Verdict {
        if generation != self.generation || self.journal.pending().is_none() {
            return Ok(());
        }
        // A coordinator that cannot store its epoch gives up.
        let is_epoch = self.journal.pending().is_some_and(|batch| {
            batch.entries.first().is_some_and(|piece| piece[4] == Kind::Epoch as u8)
        });
        if !stored && is_epoch {
            self.note("the epoch is not stored");
            return self.crash(false);
        }
        let now = self.clock();
        if stored {
            self.store()?;
        } else {
            self.note("a batch is not stored");
            self.journal.take_pending();
        }
        if let Some(node) = &mut self.node {
            let answer = if stored { Input::Stored } else { Input::NotStored };
            node.group.handle(now, answer);
        }
        self.turn_soon();
        Ok(())
    }

    /// The pending batch becomes a part of the log, and of what is known to be true.
    pub fn store(&mut self) -> Verdict {
        let before = self.journal.tail();
        for (place, entry) in (before..).zip(self.journal.store()?) {
            let seq = entry.header.seq;
            checks::one_coordinator(self.journal.entry(place), &entry)?;
            checks::order_has_no_gap(place, &entry)?;
            match entry.header.kind {
                Kind::Joined => {
                    checks::names_differ(&self.truth, entry.name())?;
                    self.truth.stays.insert(seq, (entry.name().to_owned(), None));
                }
                Kind::Left => {
                    let key = Incarnation(entry.header.sender);
                    let node = self.node.as_ref();
                    let leaver = node.and_then(|node| node.group.members().find(|m| m.key == key));
                    checks::final_cursor(leaver, &entry)?;
                    if let Some(stay) = self.truth.stays.get_mut(&entry.header.sender) {
                        stay.1 = Some(seq);
                    }
                }
                Kind::Message => {
                    let by = self.programs.iter().find(|one| one.name == entry.name());
                    let sender = by.ok_or("a message of nobody")?.sender;
                    checks::once(&mut self.truth, sender, &entry)?;
                }
                _ => {}
            }
        }
        if self.rng.chance(80) {
            self.journal.sync();
        }
        self.note(&format!("stored {} to {}", before + 1, self.journal.tail()));
        Ok(())
    }

    fn node_starts(&mut self) -> Verdict {
        let (mut group, epoch) = match self.journal.recover(self.limits.clone()) {
            Ok(recovered) => recovered,
            Err(error) => return Err(format!("durability: {error}")),
        };
        checks::nothing_answered_is_lost(&self.truth, group.tail())?;
        group.take_over(self.clock(), epoch, "sim");
        self.note(&format!("a node starts with epoch {epoch} after {}", group.tail()));
        self.generation += 1;
        self.node = Some(Node::new(group, &self.limits));
        self.turn_soon();
        Ok(())
    }

    fn wake(&mut self, program: usize) {
        let next = self.rng.within(10, 300);
        self.at(next, Event::Wake(program));
        let one = &mut self.programs[program];
        if !one.alive || self.now < one.wait_until {
            return;
        }
        if one.session.is_none() {
            return self.connect(program);
        }
        if !self.calm && one.disk.letters.len() < 30 && self.rng.chance(400) {
            (0..self.rng.within(1, 5)).for_each(|_| one.write_letter());
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
        let bytes = one.hello(conn, history);
        // A durable name whose secret was never learnt is removed by somebody.
        if one.taken > 3 {
            one.taken = 0;
            self.next_ticket += 1;
            if let Ok(name) = Name::new(&one.name) {
                node.group.handle(now, Input::Remove(Ticket(self.next_ticket), name));
            }
        }
        self.note(&format!("program {program} connects as {conn}"));
        self.write(conn, bytes);
    }

    /// Bytes from a program, in pieces.
    pub fn write(&mut self, conn: u64, mut bytes: Bytes) {
        while !bytes.is_empty() {
            let len = self.rng.within(1, bytes.len() as u64) as usize;
            let piece = bytes.split_to(len);
            let Some(link) = self.links.get_mut(&conn) else { return };
            let delay = link.arrival(Side::Node, self.now, &mut self.rng) - self.now;
            self.at(delay, Event::ToNode(conn, piece));
        }
    }

    fn check_always(&self) -> Verdict {
        let Some(node) = &self.node else { return Ok(()) };
        let group: &Group = &node.group;
        let open = group.members().map(|member| member.open.len()).max().unwrap_or(0);
        group.members().try_for_each(|member| {
            checks::nobody_outstays(member, self.limits.grace_ms, self.now)
        })?;
        checks::one_connection(node.connections_of_a_stay())?;
        checks::bounds(group.member_count(), self.limits.members_max, open)?;
        checks::nothing_answered_is_lost(&self.truth, group.tail())
    }

    /// After the faults: everybody is there, at the end of the log, and every message has its answer.
    fn finished(&self) -> Verdict {
        let tail = self.journal.tail();
        for one in &self.programs {
            let unanswered: Vec<u64> = one.disk.letters.keys().copied().collect();
            checks::everything_is_answered(&one.name, &unanswered)?;
            if one.member {
                let cursor = one.session.as_ref().map_or(0, |session| session.cursor);
                checks::caught_up(&one.name, cursor, tail)?;
            }
        }
        Ok(())
    }
}
