//! What each member's programs were given and did, through all their lives, in the order of time.

use std::collections::{BTreeMap, HashMap};

use super::Evidence;
use crate::history::{Record, Then, What};

/// A member: group and name. Names are used once, so a name that comes back is the same member.
pub(super) type Who<'a> = (&'a str, &'a str);

/// The records about each member.
pub(super) type Readers<'a> = BTreeMap<Who<'a>, Vec<&'a Record>>;

/// What each member's programs have begun to answer to each number.
#[derive(Debug, Default)]
pub(super) struct Marks<'a>(HashMap<Who<'a>, HashMap<u64, Answers<'a>>>);

/// What the lives of one member have begun to answer to one number. An answer of a life that is killed at that very moment never
/// arrives; the next life is then given the number again, and may answer otherwise.
#[derive(Clone, Copy, Debug, Default)]
struct Answers<'a> {
    /// When it was first confirmed.
    confirmed: Option<u64>,
    /// The code of the last failure.
    failed: Option<&'a str>,
    /// The last answer was the failure.
    is_failed: bool,
}

impl<'a> Marks<'a> {
    fn get(&self, who: Who<'_>, seq: u64) -> Answers<'a> {
        self.0.get(&who).and_then(|all| all.get(&seq)).copied().unwrap_or_default()
    }

    /// Whether the member had begun to confirm it by that time.
    pub fn has_confirmed(&self, who: Who<'_>, seq: u64, by: u64) -> bool {
        self.get(who, seq).confirmed.is_some_and(|at| at <= by)
    }

    /// The code with which the member has begun to fail it.
    pub fn failure(&self, who: Who<'_>, seq: u64) -> Option<&'a str> {
        self.get(who, seq).failed
    }

    /// The same, where it has not begun to confirm it since.
    pub fn last_failure(&self, who: Who<'_>, seq: u64) -> Option<&'a str> {
        let answers = self.get(who, seq);
        answers.failed.filter(|_| answers.is_failed)
    }

    /// Takes in what a record says.
    pub fn note(&mut self, who: Who<'a>, record: &'a Record) {
        let (seq, code) = match &record.what {
            What::Entry(entry) if entry.then == Then::Confirm => (entry.seq, None),
            What::Confirming { seq, .. } => (*seq, None),
            What::Failing { seq, code, .. } => (*seq, Some(code.as_str())),
            _ => return,
        };
        let answers = self.0.entry(who).or_default().entry(seq).or_default();
        answers.is_failed = code.is_some();
        match code {
            Some(_) => answers.failed = code,
            None => _ = answers.confirmed.get_or_insert(record.at),
        }
    }
}

/// Sorts the records by member.
pub(super) fn collect(evidence: &Evidence) -> Readers<'_> {
    let mut readers = Readers::new();
    for key in evidence.readers.keys() {
        readers.entry((key.0.as_str(), key.1.as_str())).or_default();
    }
    for record in evidence.records() {
        if let Some(who) = who(&record.what) {
            readers.entry(who).or_default().push(record);
        }
    }
    // The records of one life stand in one file, in their order; lives follow each other.
    readers.values_mut().for_each(|records| records.sort_by_key(|record| record.at));
    readers
}

const fn who(what: &What) -> Option<Who<'_>> {
    match what {
        What::Joining { group, name, .. }
        | What::Joined { group, name, .. }
        | What::NotJoined { group, name, .. }
        | What::Confirming { group, name, .. }
        | What::Failing { group, name, .. }
        | What::Gap { group, name, .. }
        | What::Reset { group, name, .. }
        | What::Lost { group, name, .. }
        | What::Back { group, name, .. }
        | What::Leaving { group, name }
        | What::Left { group, name, .. } => Some((group.as_str(), name.as_str())),
        What::Entry(entry) => Some((entry.group.as_str(), entry.name.as_str())),
        What::Sending { .. }
        | What::Stored { .. }
        | What::Failed { .. }
        | What::Unknown { .. }
        | What::Receipt(_)
        | What::NoReceipt { .. }
        | What::Removing { .. } => None,
    }
}
