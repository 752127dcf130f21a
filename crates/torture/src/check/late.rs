//! What has left a client that was killed, and may still arrive after the quiet moment.

use std::collections::BTreeSet;

use super::Evidence;
use super::sends::Sends;
use crate::history::{Kind, Record, What};

/// Messages that nobody knows anything of, and wishes to leave that nothing has come of.
pub(super) fn collect(evidence: &Evidence, sends: &Sends<'_>) -> Vec<Record> {
    let leaves = |(group, log): (&_, &super::GroupLog)| -> BTreeSet<(String, String)> {
        let leaves = log.entries.iter().filter(|entry| entry.kind == Kind::Left);
        leaves.map(|entry| (String::clone(group), entry.from.clone())).collect()
    };
    let left: BTreeSet<(String, String)> = evidence.logs.iter().flat_map(leaves).collect();
    let may_come = |record: &&Record| match &record.what {
        What::Sending { text, .. } => sends.get(text.as_str()).is_some_and(|send| send.is_lost()),
        What::Leaving { group, name } | What::Removing { group, name } => {
            !left.contains(&(group.clone(), name.clone()))
        }
        _ => false,
    };
    evidence.records().filter(may_come).cloned().collect()
}
