//! The shortest history that still breaks a promise: fewer kinds of faults, fewer programs, a shorter time.

use std::fmt;

use crate::settings::{Fault, Settings};
use crate::world::{Failure, run};

/// A world that fails, and how.
#[derive(Clone, Debug)]
pub struct Shortest {
    /// The smaller world.
    pub settings: Settings,
    /// What is broken in it: the same promise, not always in the same way.
    pub failure: Failure,
}

/// Makes a failing world smaller, one thing at a time, for as long as it still fails.
pub fn shortest(settings: &Settings, failure: &Failure) -> Shortest {
    let mut best = Shortest { settings: settings.clone(), failure: failure.clone() };
    while less_time(&mut best) | fewer_faults(&mut best) | fewer_programs(&mut best) {}
    best
}

/// Keeps `smaller` where it fails too.
fn accept(best: &mut Shortest, smaller: Settings) -> bool {
    let promise = |failure: &Failure| failure.broken.split(':').next().map(str::to_owned);
    let failure = run(&smaller).err();
    let failure = failure.filter(|failure| promise(failure) == promise(&best.failure));
    failure.map(|failure| *best = Shortest { settings: smaller, failure }).is_some()
}

/// Leaves out an eighth of the time or more, as much as can be.
fn less_time(best: &mut Shortest) -> bool {
    let mut any = false;
    let mut eighths = 1;
    while eighths < 8 {
        let faults_ms = best.settings.faults_ms * eighths / 8;
        let smaller = Settings { faults_ms, ..best.settings.clone() };
        if faults_ms > 0 && accept(best, smaller) {
            (any, eighths) = (true, 1);
        } else {
            eighths += 1;
        }
    }
    any
}

fn fewer_faults(best: &mut Shortest) -> bool {
    let mut any = false;
    for fault in Fault::ALL {
        let mut smaller = best.settings.clone();
        any |= smaller.without.insert(fault) && accept(best, smaller);
    }
    any
}

fn fewer_programs(best: &mut Shortest) -> bool {
    let Settings { members, senders, .. } = best.settings;
    let any = (1..members.unwrap_or(5)).any(|members| {
        let smaller = Settings { members: Some(members), ..best.settings.clone() };
        accept(best, smaller)
    });
    any | (0..senders.unwrap_or(3)).any(|senders| {
        let smaller = Settings { senders: Some(senders), ..best.settings.clone() };
        accept(best, smaller)
    })
}

/// The last events, what is broken, and the command that repeats it.
impl fmt::Display for Shortest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failure.trace.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        writeln!(f, "seed {}: {}", self.settings.seed, self.failure.broken)?;
        write!(f, "again: {}", self.settings)
    }
}
