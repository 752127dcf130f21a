//! The quiet moment: no faults, nothing new, and everybody comes to the end of the log.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::crew::Crew;
use super::known::Known;
use super::node::{Listed, Node};
use crate::clients::{Order, Status};
use crate::history::{Recorder, What};

/// How long everything may take to come to rest: longer than any grace.
const WITHIN: Duration = Duration::from_secs(75);
/// A member that no client knows of is removed after this time: its client was killed before it had written it down.
const ORPHAN_FOR: Duration = Duration::from_millis(1500);
/// How often the node is asked, while clients have not said that they are done.
const LOOK_EVERY: Duration = Duration::from_millis(150);

/// Who is there: (group, name).
pub type Here = BTreeSet<(String, String)>;

/// Brings everything to rest. Fails with what does not come to rest, which breaks the promise that things go on.
pub fn come_to_rest(
    crew: &mut Crew,
    node: &Node,
    known: &mut Known,
    recorder: &mut Recorder,
) -> Result<Here> {
    crew.order(Order::Pause)?;
    let until = Instant::now() + WITHIN;
    let mut orphans: BTreeMap<(String, String), Instant> = BTreeMap::new();
    loop {
        let calm = |status: &Status| {
            let members = &mut status.members.iter();
            status.paused && status.pending == 0 && members.all(|one| one.is_in && one.undone == 0)
        };
        // What the node says is newer than what clients said before it was asked.
        let statuses = crew.statuses();
        let why = match node.news(&known.tails()) {
            Err(error) => Some(format!("the node does not answer: {error:#}")),
            Ok((entries, listed)) => {
                known.grow(entries);
                remove_orphans(node, &statuses, &listed, &mut orphans, recorder)?;
                why_not(&statuses, known, &listed, &orphans, calm)
            }
        };
        let Some(why) = why else { return Ok(here(&statuses)) };
        if Instant::now() > until {
            bail!("nothing comes to rest within {WITHIN:?}: {why}");
        }
        crew.look()?;
        // News of clients wake this up; the node is asked now and then anyway.
        let _ = crew.wait(LOOK_EVERY, |now| now != statuses.as_slice());
    }
}

fn here(statuses: &[Status]) -> Here {
    let members = statuses.iter().flat_map(|status| &status.members);
    members.map(|one| (one.group.clone(), one.name.clone())).collect()
}

/// What is not at rest yet; the first thing of it.
fn why_not(
    statuses: &[Status],
    known: &Known,
    listed: &Listed,
    orphans: &BTreeMap<(String, String), Instant>,
    calm: impl Fn(&Status) -> bool,
) -> Option<String> {
    if let Some(status) = statuses.iter().find(|status| !calm(status)) {
        return Some(format!("{status:?}"));
    }
    if let Some(((group, name), _)) = orphans.first_key_value() {
        return Some(format!("{name} is a member of {group}, and no client's"));
    }
    for member in statuses.iter().flat_map(|status| &status.members) {
        let names = listed.get(&member.group);
        if !names.is_some_and(|names| names.contains(&member.name)) {
            return Some(format!("{member:?} is no member, says the node"));
        }
        if !known.has_all(member) {
            return Some(format!("{member:?} has not been given everything: {:?}", known.tails()));
        }
    }
    None
}

fn remove_orphans(
    node: &Node,
    statuses: &[Status],
    listed: &Listed,
    orphans: &mut BTreeMap<(String, String), Instant>,
    recorder: &mut Recorder,
) -> Result<()> {
    let here = here(statuses);
    let all = listed
        .iter()
        .flat_map(|(group, names)| names.iter().map(|name| (group.clone(), name.clone())));
    let now: BTreeSet<(String, String)> = all.filter(|who| !here.contains(who)).collect();
    orphans.retain(|who, _| now.contains(who));
    for who in now {
        orphans.entry(who).or_insert_with(Instant::now);
    }
    let old = orphans.iter().filter(|(_, since)| since.elapsed() > ORPHAN_FOR);
    let old: Vec<(String, String)> = old.map(|(who, _)| who.clone()).collect();
    let removing = |(group, name): &(String, String)| What::Removing {
        group: group.clone(),
        name: name.clone(),
    };
    recorder.write_all(old.iter().map(removing));
    if old.is_empty() { Ok(()) } else { node.remove(&old) }
}
