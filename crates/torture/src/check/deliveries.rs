//! What members were given: one order for everybody, nothing skipped, nothing twice to one life, all of it at the end.

use std::collections::BTreeSet;

use super::readers::{Marks, Readers, Who};
use super::{Evidence, Findings, GroupLog, LogEntry, Reader, Rule, digest, found};
use crate::history::{Begin, Entry, Kind, Record, Then, What};

/// Follows each member through its lives.
pub(super) fn check<'a>(
    evidence: &Evidence,
    readers: &Readers<'a>,
    findings: &mut Findings,
) -> Marks<'a> {
    let mut marks = Marks::default();
    for (who, records) in readers {
        let (group, name) = *who;
        let key = (group.to_owned(), name.to_owned());
        let Some(log) = evidence.logs.get(group) else { continue };
        let before = evidence.readers.get(&key).cloned();
        let mut follower = Follower::new(*who, log, before, findings);
        for record in records {
            marks.note(*who, record);
            follower.take(record);
        }
        let is_here = evidence.here.contains(&key);
        let reader = follower.end(is_here);
        findings.readers.insert(key, reader);
    }
    marks
}

/// One member, up to some record.
struct Follower<'a> {
    group: &'a str,
    name: &'a str,
    log: &'a GroupLog,
    findings: &'a mut Findings,
    reader: Reader,
    /// Where a first reading begins is not known before its first entry.
    floating: bool,
    /// Read up to here in this life.
    read: u64,
    /// Nothing new has come in this life.
    fresh: bool,
    /// A process keeps its cursor to itself: what it was given before may come again.
    repeats: bool,
    /// Below the cursor of this life, and to come again.
    open: BTreeSet<u64>,
    /// Given, and neither confirmed nor failed.
    undone: BTreeSet<u64>,
    /// Those of `undone` that an earlier life was given, and this one was not.
    owed: BTreeSet<u64>,
}

impl<'a> Follower<'a> {
    fn new(
        (group, name): Who<'a>,
        log: &'a GroupLog,
        before: Option<Reader>,
        findings: &'a mut Findings,
    ) -> Self {
        let floating = before.is_none();
        let reader = before.unwrap_or_default();
        Self {
            group,
            name,
            log,
            findings,
            floating,
            read: reader.have,
            reader,
            fresh: false,
            repeats: false,
            open: BTreeSet::new(),
            undone: BTreeSet::new(),
            owed: BTreeSet::new(),
        }
    }

    fn broken(&mut self, rule: Rule, what: &str) {
        let text = format!("{}: {} {what}", self.group, self.name);
        found(&mut self.findings.violations, rule, text);
    }

    fn take(&mut self, record: &Record) {
        match &record.what {
            What::Joining { from, .. } => self.joining(from),
            What::Joined { tail, log, .. } => self.joined(*tail, log),
            What::Entry(entry) => self.entry(entry),
            What::Confirming { seq, .. } | What::Failing { seq, .. } => {
                self.undone.remove(seq);
                self.owed.remove(seq);
            }
            What::Gap { first, last, .. } => {
                self.broken(
                    Rule::Durability,
                    &format!("is told that #{first} to #{last} are gone"),
                );
                self.read = self.read.max(*last);
            }
            What::Reset { next, .. } => {
                self.broken(
                    Rule::Durability,
                    &format!("is told that the log begins anew at #{next}"),
                );
                self.read = next.saturating_sub(1);
            }
            _ => return,
        }
        self.reader.have = self.reader.have.max(self.read);
    }

    /// A program begins.
    fn joining(&mut self, from: &Begin) {
        self.fresh = true;
        self.repeats = false;
        self.open.clear();
        self.owed = self.undone.clone();
        match from {
            Begin::Saved { cursor, open } => {
                self.nothing_passed_over(*cursor);
                self.read = *cursor;
                self.open = open.iter().copied().collect();
            }
            Begin::Process => self.repeats = true,
            Begin::After { seq } => {
                (self.floating, self.read) = (false, *seq);
            }
            Begin::First => self.floating = false,
            Begin::Now | Begin::Last { .. } => {}
        }
    }

    /// A cursor stands behind nothing that was not given; internal entries and the own join need not be.
    fn nothing_passed_over(&mut self, cursor: u64) {
        let from = self.reader.have.max(self.reader.since);
        let is_own_join = |entry: &LogEntry| entry.kind == Kind::Joined && entry.from == self.name;
        let passed = self.log.between(from, cursor + 1).find(|entry| !is_own_join(entry));
        if let (Some(seq), false) = (passed.map(|entry| entry.seq), self.floating) {
            self.broken(Rule::Order, &format!("saved #{cursor} and was not given #{seq}"));
        }
    }

    fn joined(&mut self, tail: u64, log: &str) {
        if !log.is_empty() && self.reader.log.as_ref().is_some_and(|before| before != log) {
            self.broken(Rule::Durability, "is told of another log");
        }
        if !log.is_empty() {
            self.reader.log = Some(log.to_owned());
        }
        self.since();
        if self.reader.since == 0 || self.reader.since > tail {
            let text = format!("joined, up to #{tail}, and the log does not say so");
            self.broken(Rule::Views, &text);
        }
    }

    /// Finds where it joined first. A process does not tell when it is told.
    fn since(&mut self) {
        if self.reader.since == 0 {
            let own = |entry: &&LogEntry| entry.kind == Kind::Joined && entry.from == self.name;
            self.reader.since = self.log.entries.iter().find(own).map_or(0, |own| own.seq);
        }
    }

    fn entry(&mut self, entry: &Entry) {
        self.findings.counts.deliveries += 1;
        self.since();
        let seq = entry.seq;
        self.compare(entry);
        // What an earlier life had not done comes first, wherever this one's cursor stands.
        let is_again = self.owed.remove(&seq) && self.fresh;
        match entry.then {
            Then::Confirm => drop(self.undone.remove(&seq)),
            Then::Keep | Then::Open => drop(self.undone.insert(seq)),
        }
        if self.open.remove(&seq) || is_again {
            return;
        }
        if seq <= self.read && !(self.repeats && self.fresh) {
            self.broken(Rule::Order, &format!("was given #{seq} after #{}", self.read));
            return;
        }
        self.nothing_skipped(seq);
        (self.fresh, self.floating, self.read) = (false, false, seq);
    }

    /// It is what the log has under this number.
    fn compare(&mut self, entry: &Entry) {
        let is = match self.log.get(entry.seq) {
            // One's own messages come without a text on the line door.
            Some(is) if entry.text.is_empty() && is.kind == entry.kind && is.from == self.name => {
                return;
            }
            Some(is) => Some(is.digest()),
            None => self.log.past_digest(entry.seq),
        };
        let Entry { seq, kind, from, text, outside, .. } = entry;
        if is == Some(digest(*kind, from, *outside, text)) {
            return;
        }
        let given = format!("was given #{seq} as {kind:?} {from} {text:?}");
        match (is, self.log.get(*seq)) {
            (None, _) => {
                self.broken(Rule::Durability, &format!("{given}, which is not in the log"));
            }
            (_, is) => self.broken(Rule::Order, &format!("{given}, and the log has {is:?}")),
        }
    }

    /// Everything up to this number was given: in this life, or in an earlier one that has also done it.
    fn nothing_skipped(&mut self, seq: u64) {
        // Where it began by itself, it began at the latest after its own join.
        let from = if self.floating { self.reader.since.max(self.read) } else { self.read };
        let (fresh, have) = (self.fresh, self.reader.have);
        let is_owed = |entry: &&LogEntry| {
            let is_own_join = entry.kind == Kind::Joined && entry.from == self.name;
            let was_done = fresh && entry.seq <= have && !self.owed.contains(&entry.seq);
            !is_own_join && !was_done
        };
        if let Some(skipped) = self.log.between(from, seq).find(is_owed) {
            let text = format!("was given #{seq} after #{from}, without #{}", skipped.seq);
            self.broken(Rule::Order, &text);
        }
    }

    /// The end of the record: who is there has been given everything.
    fn end(mut self, is_here: bool) -> Reader {
        self.since();
        let from = self.reader.have.max(self.reader.since);
        let is_own_join = |entry: &LogEntry| entry.kind == Kind::Joined && entry.from == self.name;
        let missed = self.log.between(from, u64::MAX).find(|entry| !is_own_join(entry));
        let missed = missed.map(|entry| entry.seq);
        if let (true, Some(seq)) = (is_here, missed.or(self.owed.first().copied())) {
            self.broken(Rule::Liveness, &format!("is there and was not given #{seq}"));
        }
        self.reader
    }
}
