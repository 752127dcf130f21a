//! The log by itself: numbers, texts, and who was a member when.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash as _, Hasher as _};

use super::{Evidence, Rule, Violation, found};
use crate::history::{Kind, What};

/// An entry as the node's history gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its number.
    pub seq: u64,
    /// The coordinator's epoch.
    pub epoch: u32,
    /// What it is.
    pub kind: Kind,
    /// The sender, joiner or leaver.
    pub from: String,
    /// From outside.
    pub outside: bool,
    /// The text of a message; why, for a leave.
    pub text: String,
    /// The member's incarnation, or an outside sender's number.
    pub sender: u64,
    /// A joiner that came through the line door.
    pub line: bool,
    /// A joiner that stays a member however long it is away.
    pub durable: bool,
}

/// A membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stay {
    /// The member's name.
    pub name: String,
    /// The number of its `joined` entry, which is also its incarnation.
    pub joined: u64,
    /// The number of its `left` entry.
    pub left: Option<u64>,
    /// Through the line door.
    pub line: bool,
    /// Stays a member however long it is away.
    pub durable: bool,
}

/// A group's log, of which a part may have been checked before.
#[derive(Clone, Debug, Default)]
pub struct GroupLog {
    /// What was checked before: numbers in their order, each with its entry's [`digest`].
    pub past: Vec<(u64, u64)>,
    /// The epoch at the end of that.
    pub past_epoch: u32,
    /// Who was a member at the end of that.
    pub members: Vec<Stay>,
    /// What has come since. Records of epochs are internal: a node's history may leave them out.
    pub entries: Vec<LogEntry>,
}

/// What an entry says, in short.
pub fn digest(kind: Kind, from: &str, outside: bool, text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    // Why somebody left is for the checker, not for members' programs.
    let text = if kind == Kind::Message { text } else { "" };
    (kind, from, outside, text).hash(&mut hasher);
    hasher.finish()
}

impl LogEntry {
    /// See [`digest`].
    pub fn digest(&self) -> u64 {
        digest(self.kind, &self.from, self.outside, &self.text)
    }
}

impl GroupLog {
    /// The number before the first of [`GroupLog::entries`].
    pub fn base(&self) -> u64 {
        self.past.last().map_or(0, |(seq, _)| *seq)
    }

    /// The digest of the entry with this number, where it is of the past.
    pub(super) fn past_digest(&self, seq: u64) -> Option<u64> {
        let at = self.past.binary_search_by_key(&seq, |(seq, _)| *seq).ok()?;
        self.past.get(at).map(|(_, digest)| *digest)
    }

    /// This log as it goes into the next stretch.
    #[must_use]
    pub fn into_past(mut self) -> Self {
        self.members = self.stays().into_iter().filter(|stay| stay.left.is_none()).collect();
        self.past_epoch = self.entries.last().map_or(self.past_epoch, |entry| entry.epoch);
        self.past.extend(self.entries.drain(..).map(|entry| (entry.seq, entry.digest())));
        self
    }

    /// The number of the last entry.
    pub fn tail(&self) -> u64 {
        self.entries.last().map_or(self.base(), |entry| entry.seq)
    }

    /// The entry with this number, where it is not of the past.
    pub fn get(&self, seq: u64) -> Option<&LogEntry> {
        let at = self.entries.binary_search_by_key(&seq, |entry| entry.seq).ok()?;
        self.entries.get(at)
    }

    /// What stands between two numbers and is given to members' programs.
    pub(super) fn between(&self, after: u64, before: u64) -> impl Iterator<Item = &LogEntry> {
        let first = self.entries.partition_point(|entry| entry.seq <= after);
        let entries = self.entries.iter().skip(first).take_while(move |entry| entry.seq < before);
        entries.filter(|entry| entry.kind != Kind::Epoch)
    }

    /// Everybody who was a member at some time since the past.
    pub fn stays(&self) -> Vec<Stay> {
        let mut stays = self.members.clone();
        for entry in &self.entries {
            match entry.kind {
                Kind::Joined => stays.push(Stay {
                    name: entry.from.clone(),
                    joined: entry.seq,
                    left: None,
                    line: entry.line,
                    durable: entry.durable,
                }),
                Kind::Left => {
                    let here = |stay: &&mut Stay| stay.name == entry.from && stay.left.is_none();
                    if let Some(stay) = stays.iter_mut().rfind(here) {
                        stay.left = Some(entry.seq);
                    }
                }
                Kind::Message | Kind::Epoch | Kind::File => {}
            }
        }
        stays
    }

    /// Numbers rise, and leave room for records of epochs only; epochs do not fall, no text comes twice, and members come and go in turns.
    pub(super) fn check(&self, group: &str, violations: &mut Vec<Violation>) {
        let mut texts: HashMap<&str, u64> = HashMap::new();
        let mut members: BTreeSet<&str> =
            self.members.iter().map(|stay| stay.name.as_str()).collect();
        let (mut last, mut epoch) = (self.base(), self.past_epoch);
        for entry in &self.entries {
            let LogEntry { seq, from, text, .. } = entry;
            let epochs = u64::from(entry.epoch.saturating_sub(epoch));
            if *seq <= last || *seq - last - 1 > epochs {
                let text = format!("{group}: the log has #{seq} after #{last}");
                found(violations, Rule::Order, text);
            }
            if entry.epoch < epoch {
                let text = format!("{group}: #{seq} is of epoch {} after {epoch}", entry.epoch);
                found(violations, Rule::Order, text);
            }
            (last, epoch) = (*seq, entry.epoch);
            match entry.kind {
                Kind::Message => {
                    if let Some(before) = texts.insert(text, *seq) {
                        let text = format!("{group}: {text:?} is #{before} and #{seq}");
                        found(violations, Rule::Once, text);
                    }
                }
                Kind::Joined if !members.insert(from) => {
                    let text = format!("{group}: {from} joins at #{seq} and is a member already");
                    found(violations, Rule::Views, text);
                }
                Kind::Left if !members.remove(from.as_str()) => {
                    let text = format!("{group}: {from} leaves at #{seq} and is no member");
                    found(violations, Rule::Views, text);
                }
                Kind::Joined | Kind::Left | Kind::Epoch | Kind::File => {}
            }
        }
    }
}

/// Nobody leaves by itself without having said so, nobody is removed without somebody having said so, and who is durable is
/// never lost.
pub(super) fn check_leaves(evidence: &Evidence, violations: &mut Vec<Violation>) {
    let (mut leaving, mut removing) = (BTreeSet::new(), BTreeSet::new());
    for record in evidence.records() {
        match &record.what {
            What::Leaving { group, name } => drop(leaving.insert((group.as_str(), name.as_str()))),
            What::Removing { group, name } => {
                removing.insert((group.as_str(), name.as_str()));
            }
            _ => {}
        }
    }
    for (group, log) in &evidence.logs {
        let stays = log.stays();
        let stays: BTreeMap<u64, &Stay> =
            stays.iter().filter_map(|stay| Some((stay.left?, stay))).collect();
        for entry in log.entries.iter().filter(|entry| entry.kind == Kind::Left) {
            let stay = stays.get(&entry.seq);
            let who = (group.as_str(), entry.from.as_str());
            let durable = stay.is_some_and(|stay| stay.durable);
            let has_reason = match entry.text.as_str() {
                "exit" => leaving.contains(&who),
                "removed" => removing.contains(&who),
                "lost" => !durable,
                _ => false,
            };
            if !has_reason {
                let LogEntry { seq, from, text, .. } = entry;
                let durable = if durable { " a durable member," } else { "" };
                let text =
                    format!("{group}: {from},{durable} left at #{seq} ({text}): nobody wished it");
                found(violations, Rule::Views, text);
            }
        }
    }
}
