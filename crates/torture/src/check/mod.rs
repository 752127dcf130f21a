//! The checker: compares what clients saw with the log and with what was promised. Pure: no clock, no files, no network.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::history::{Receipt, Record};

mod deliveries;
mod late;
mod log;
mod readers;
mod receipts;
mod sends;

pub use log::{GroupLog, LogEntry, Stay, digest};

/// Which promise was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// One order for everybody, without a gap or a number that comes again.
    Order,
    /// One number for one text, for ever.
    Once,
    /// What was answered as stored is there.
    Durability,
    /// What was answered as failed is not there.
    Honesty,
    /// A receipt names only who has confirmed.
    Receipts,
    /// All see the same members come and go, and nobody goes without a reason.
    Views,
    /// After the faults everything goes on.
    Liveness,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Order,
        Self::Once,
        Self::Durability,
        Self::Honesty,
        Self::Receipts,
        Self::Views,
        Self::Liveness,
    ];
}

/// A broken promise, in words that name who and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which promise.
    pub rule: Rule,
    /// What happened.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.text)
    }
}

/// Everything that is known at a quiet moment, since the last one.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// The log of each group, as read at the end.
    pub logs: BTreeMap<String, GroupLog>,
    /// What each client process wrote down.
    pub histories: Vec<Vec<Record>>,
    /// [`Findings::late`] of the last time.
    pub late: Vec<Record>,
    /// How far members of earlier had come at the last quiet moment: (group, name).
    pub readers: BTreeMap<(String, String), Reader>,
    /// Members that are there at the end, and say that they have caught up.
    pub here: BTreeSet<(String, String)>,
    /// Receipts that were asked for when everybody had confirmed everything.
    pub at_rest: Vec<Receipt>,
}

/// How far a member's programs have come, through all their lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reader {
    /// It has been given everything up to here, from where it began.
    pub have: u64,
    /// The number of its first `joined` entry; what a receipt waits for begins there.
    pub since: u64,
    /// The id of the log that it was told.
    pub log: Option<String>,
}

/// What the checker has found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Broken promises; empty when all is well.
    pub violations: Vec<Violation>,
    /// For [`Evidence::readers`] of the next time.
    pub readers: BTreeMap<(String, String), Reader>,
    /// What may still arrive, as it has left its client and nobody knows where it is: for [`Evidence::late`] of the next time.
    pub late: Vec<Record>,
    /// What was looked at.
    pub counts: Counts,
}

impl Evidence {
    /// All records, those that may have an effect late before the others.
    fn records(&self) -> impl Iterator<Item = &Record> {
        self.late.iter().chain(self.histories.iter().flatten())
    }
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that were answered as stored.
    pub ok: u64,
    /// Messages that were answered as not stored.
    pub failed: u64,
    /// Messages without an answer.
    pub unknown: u64,
    /// Entries that were given to members' programs.
    pub deliveries: u64,
    /// Receipts.
    pub receipts: u64,
}

impl Counts {
    /// Adds another stretch's.
    pub const fn add(&mut self, other: &Self) {
        self.ok += other.ok;
        self.failed += other.failed;
        self.unknown += other.unknown;
        self.deliveries += other.deliveries;
        self.receipts += other.receipts;
    }
}

/// Checks everything.
pub fn check(evidence: &Evidence) -> Findings {
    let mut findings = Findings::default();
    for (group, log) in &evidence.logs {
        log.check(group, &mut findings.violations);
    }
    let sends = sends::check(evidence, &mut findings);
    let readers = readers::collect(evidence);
    let marks = deliveries::check(evidence, &readers, &mut findings);
    log::check_leaves(evidence, &mut findings.violations);
    receipts::check(evidence, &marks, &mut findings);
    findings.late = late::collect(evidence, &sends);
    findings
}

/// Notes a violation.
fn found(violations: &mut Vec<Violation>, rule: Rule, text: String) {
    violations.push(Violation { rule, text });
}
