//! The world of one seed: the queue of events, what each does, and the checks after it.

use std::any::Any;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use tertulia_group::planted::plant;
use tertulia_group::{Input, Limits, LogId, Name, Now, SenderId};

use crate::calm::Beside;
use crate::checks::{self, Truth, Verdict};
use crate::coverage::{self, Coverage, Seen, saw};
use crate::journal::{Journal, Level};
use crate::net::Link;
use crate::node::Node;
use crate::power::Overtaken;
use crate::program::{Manner, Program};
use crate::rng::Rng;
use crate::settings::{Fault, Settings};
use crate::storing::Answer;
use crate::temper::Temper;
use crate::trace::Trace;

/// How long everybody may take, once the faults have stopped.
const CALM_MS_MAX: u64 = 180_000;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Of every event with its bytes.
    pub hash: u64,
    /// How many there were.
    pub events: u64,
    /// Entries in the log.
    pub entries: u64,
    /// Coordinators that died, were overtaken or lost their power.
    pub crashes: u64,
    /// Those of them that lost their power.
    pub power_cuts: u64,
    /// Simulated milliseconds.
    pub simulated_ms: u64,
    /// What happened how often.
    pub coverage: Coverage,
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
    Appended(u64, Answer),
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
    /// A program that reads slowly, or did not read, reads what has come on a connection.
    Reads(u64),
    /// A program behaves well again.
    Unsticks(usize),
    Fault,
    Succession,
    OvertakenAppends,
    /// Who is not stuck is looked at, and a while later again.
    IsolationBegins,
    IsolationEnds,
}

impl Event {
    /// Whether the group may be another one after it.
    const fn concerns_group(&self) -> bool {
        !matches!(
            self,
            Self::ToProgram(..)
                | Self::ProgramSeesEnd(_)
                | Self::Worked { .. }
                | Self::ProgramStarts(_)
                | Self::Reads(_)
                | Self::Unsticks(_)
                | Self::IsolationBegins
                | Self::IsolationEnds
        )
    }
}

/// Events in the order of their time, and of their coming where that is the same.
#[derive(Debug, Default)]
struct Queue {
    heap: BinaryHeap<Reverse<(u64, u64, usize)>>,
    /// Where an event stands; places are used again.
    slots: Vec<Option<Event>>,
    free: Vec<usize>,
    next: u64,
}

impl Queue {
    fn push(&mut self, at: u64, event: Event) {
        self.next += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(event);
        self.heap.push(Reverse((at, self.next, slot)));
    }

    fn pop(&mut self) -> Option<(u64, Event)> {
        let Reverse((at, _, slot)) = self.heap.pop()?;
        self.free.push(slot);
        Some((at, self.slots[slot].take()?))
    }
}

pub struct World {
    pub now: u64,
    pub rng: Rng,
    pub temper: Temper,
    queue: Queue,
    pub node: Option<Node>,
    pub generation: u64,
    pub turns: u64,
    pub journal: Journal,
    pub programs: Vec<Program>,
    pub links: BTreeMap<u64, Link>,
    pub next_conn: u64,
    pub truth: Truth,
    pub names: BTreeMap<String, Name>,
    pub wall_offset_us: u64,
    pub turn_due: bool,
    pub calm: bool,
    pub crashes: u64,
    events: u64,
    pub trace: Trace,
    pub next_ticket: u64,
    pub next_impostor: u64,
    pub overtaken: VecDeque<Overtaken>,
    pub beside: Option<Beside>,
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
    coverage::take();
    let mut world = World::new(settings);
    // An assertion of the group is a promise, too.
    let live = AssertUnwindSafe(|| world.live(settings.faults_ms));
    let result =
        catch_unwind(live).unwrap_or_else(|panic| Err(format!("panic: {}", said(&*panic))));
    plant(None);
    let coverage = coverage::take();
    match result {
        Ok(()) => Ok(Outcome {
            hash: world.trace.hash(),
            events: world.events,
            entries: world.journal.tail(),
            crashes: world.crashes,
            power_cuts: coverage.of(Seen::PowerCut),
            simulated_ms: world.now,
            coverage,
        }),
        Err(broken) => Err(Failure { broken, trace: world.trace.lines() }),
    }
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word")
}

impl World {
    fn new(settings: &Settings) -> Self {
        let mut rng = Rng::new(settings.seed);
        let temper = Temper::new(&mut rng);
        let temper = if settings.busy { temper.busy() } else { temper };
        let members = settings.members.unwrap_or(temper.members) as usize;
        let senders = settings.senders.unwrap_or(temper.senders) as usize;
        saw(match temper.level {
            Level::Memory => Seen::LevelMemory,
            Level::Os => Seen::LevelOs,
            Level::Fsync => Seen::LevelFsync,
        });
        match members {
            1 => saw(Seen::OneMember),
            2..=5 => {}
            _ => saw(Seen::ManyMembers),
        }
        let log = LogId(rng.bytes());
        let programs = (0..members + senders)
            .map(|n| {
                let one = Program::new(n, n < members, rng.chance(300), SenderId(rng.bytes()));
                let (flawless, follows) = (rng.chance(400), rng.chance(200));
                let may_be_overtaken =
                    temper.limits.receipts_weight_max < Limits::default().receipts_weight_max;
                let may_expire = temper.forgetful;
                Program { flawless, follows, may_expire, may_be_overtaken, ..one }
            })
            .collect();
        Self {
            now: 1000,
            rng,
            queue: Queue::default(),
            node: None,
            generation: 0,
            turns: 0,
            journal: Journal::new(temper.level, log),
            programs,
            links: BTreeMap::new(),
            next_conn: 0,
            truth: Truth::default(),
            names: BTreeMap::new(),
            wall_offset_us: 1_700_000_000_000_000,
            turn_due: false,
            calm: false,
            crashes: 0,
            events: 0,
            trace: Trace::new(),
            next_ticket: 0,
            next_impostor: 0,
            overtaken: VecDeque::new(),
            beside: None,
            without: settings.without.clone(),
            temper,
        }
    }

    pub fn at(&mut self, delay: u64, event: Event) {
        self.queue.push(self.now + delay, event);
    }

    fn live(&mut self, faults_ms: u64) -> Verdict {
        self.at(0, Event::NodeStarts);
        self.at(1, Event::Tick);
        self.at(500.min(self.temper.fault_gap_ms), Event::Fault);
        for program in 0..self.programs.len() {
            self.at(program as u64 * 7, Event::Wake(program));
        }
        let (calm_at, end_at) = (self.now + faults_ms, self.now + faults_ms + CALM_MS_MAX);
        while let Some((at, event)) = self.queue.pop() {
            self.now = at;
            if !self.calm && self.now >= calm_at {
                self.becomes_calm();
            }
            if self.now >= end_at || (self.calm && self.is_finished()) {
                break;
            }
            self.events += 1;
            let concerns_group = event.concerns_group();
            self.happen(event)?;
            if concerns_group {
                self.check_group()?;
            }
        }
        self.finished()
    }

    /// Folds what happened into the hash, and keeps the last of it.
    pub fn note<const N: usize>(&mut self, what: &'static str, numbers: [u64; N]) {
        self.trace.note(self.now, what, numbers);
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
                return self.audit();
            }
            Event::Appended(generation, answer) => return self.appended(generation, answer),
            Event::NodeStarts => return self.node_starts(),
            Event::Wake(program) => self.wake(program),
            Event::Worked { program, conn, seq, fails } => self.worked(program, conn, seq, fails),
            Event::ProgramStarts(program) => {
                self.programs[program].alive = true;
                self.note("program {} starts", [program as u64]);
            }
            Event::Reads(conn) => return self.reads(conn),
            Event::Unsticks(program) => self.unstick(program),
            Event::Fault => return self.fault(),
            Event::Succession if self.calm => {}
            Event::Succession => return self.succession(),
            Event::OvertakenAppends => return self.overtaken_appends(),
            Event::IsolationBegins => self.isolation_begins(),
            Event::IsolationEnds => return self.isolation_ends(),
        }
        Ok(())
    }

    fn worked(&mut self, program: usize, conn: u64, seq: u64, fails: bool) {
        let one = &mut self.programs[program];
        let same =
            |session: &crate::program::Session| session.conn == conn && session.open.contains(&seq);
        if !one.session.as_ref().is_some_and(same) {
            return;
        }
        if one.manner == Manner::Stopped {
            return self.at(1000, Event::Worked { program, conn, seq, fails });
        }
        one.finish(seq, fails, &mut self.truth);
        self.note("program {} worked on {}, fails: {}", [program as u64, seq, u64::from(fails)]);
    }

    pub fn turn_soon(&mut self) {
        if !std::mem::replace(&mut self.turn_due, true) {
            let delay = self.rng.below(3);
            self.at(delay, Event::Turn);
        }
    }

    /// What holds of a group at any time.
    fn check_group(&self) -> Verdict {
        let Some(node) = &self.node else { return Ok(()) };
        let (group, limits) = (&node.group, &self.temper.limits);
        for member in group.members() {
            checks::open_bounds(member.open.len())?;
            checks::nobody_outstays(member, limits.grace_ms, self.now)?;
        }
        // A turn that is due may have to answer first what waits too long.
        if !self.turn_due {
            checks::bounds(&group.tables(), limits)?;
            checks::one_connection(node.connections_of_a_stay())?;
        }
        checks::nothing_answered_is_lost(&self.truth, group.tail())
    }
}
