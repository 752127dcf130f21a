//! From a store's records to its state: what was deleted or trimmed is passed over, the rest must be without gap.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use super::layout::{Identity, Kind, bytes_at};
use super::scan::{Damage, Found};
use super::segment::{Loc, segment_name};
use super::state::{Effect, Kept, LostKey, State, Voided};
use super::survey::{Problem, Survey};
use crate::LogId;
use crate::gate::Tail;
use crate::log::is_before;

/// A store's state, and what is wrong with single logs and keys.
#[derive(Default)]
pub(crate) struct Replayed {
    pub state: State,
    pub tails: HashMap<LogId, Tail>,
    pub problems: Vec<Problem>,
    /// The highest commit and id in use.
    pub commit: u64,
    pub id: u64,
}

/// Replays the records of `survey`, which it takes.
pub(crate) fn replay(survey: &mut Survey) -> Replayed {
    let mut replayed = Replayed::default();
    replayed.state.segments.clone_from(&survey.segments);
    let unread = survey.lost.keys().filter(|number| !survey.segments.contains_key(number));
    replayed.state.lost = unread.copied().collect();
    let mut found = std::mem::take(&mut survey.found);
    let commits = found.iter().map(|found| found.header.commit);
    replayed.commit = commits.chain(survey.marker.map(|marker| marker.commit)).max().unwrap_or(0);
    // Of a record that was moved and is still at its old place, the newer copy counts.
    found.sort_by_key(|found| (found.header.id, std::cmp::Reverse(found.segment.number)));
    found.dedup_by_key(|found| found.header.id);
    let ids: HashSet<u64> = found.iter().map(|found| found.header.id).collect();
    let lost: Vec<&Damage> = survey
        .damages
        .iter()
        .filter(|damage| !damage.harmless)
        .filter(|damage| damage.identity.is_some_and(|identity| !ids.contains(&identity.id)))
        .chain(&survey.suspects)
        .collect();
    let lost_ids = lost.iter().filter_map(|damage| Some(damage.identity?.id));
    replayed.id = lost_ids.chain(ids.iter().copied()).max().unwrap_or(0);

    let mut logs: HashMap<LogId, (Vec<Found>, Vec<&Damage>)> = HashMap::new();
    let mut keys = Vec::new();
    let is_there =
        |number| survey.segments.contains_key(&number) || survey.lost.contains_key(&number);
    for found in found {
        match found.header.kind {
            Kind::Put | Kind::Erase => keys.push(found),
            Kind::Roster => replayed.state.apply(Effect::Roster { loc: found.loc() }),
            Kind::Census if is_there(found.header.count) => {
                let (of, loc) = (found.header.count, found.loc());
                replayed.state.apply(Effect::Census { of, loc });
            }
            Kind::Head | Kind::Seal | Kind::Census => {}
            Kind::Entries | Kind::Snapshot | Kind::Trim | Kind::Delete => {
                logs.entry(LogId(found.header.log)).or_default().0.push(found);
            }
        }
    }
    let mut lost_keys = Vec::new();
    for damage in lost {
        match damage.identity {
            Some(Identity { kind: Kind::Put | Kind::Erase, .. }) => lost_keys.push(damage),
            None => {}
            Some(identity) if identity.kind.is_of_the_store() => {}
            Some(identity) => logs.entry(identity.log).or_default().1.push(damage),
        }
    }
    for (log, (found, lost)) in logs {
        replayed.replay_log(log, &found, &lost);
    }
    replayed.replay_keys(&keys, &lost_keys);
    replayed.problems.sort_by(|a, b| (&a.file, a.offset).cmp(&(&b.file, b.offset)));
    replayed
}

fn problem(damage: &Damage, log: Option<LogId>) -> Problem {
    let (file, what) = (segment_name(damage.segment), damage.what.to_owned());
    Problem { file, offset: damage.offset, log, what }
}

/// What the `Put` and `Erase` records carry: version and key.
fn key_of(found: &Found) -> Option<(u64, String)> {
    let notes = found.payload.get(..found.header.len_notes as usize)?;
    let key = String::from_utf8(notes.get(8..)?.to_vec()).ok()?;
    Some((u64::from_le_bytes(bytes_at(notes, 0)), key))
}

/// The key that a `Put` or `Erase` record's payload names.
pub(crate) fn key_in(found: &Found) -> Option<String> {
    key_of(found).map(|(_, key)| key)
}

impl Replayed {
    /// Something that is needed is damaged in that segment.
    fn stick(&self, segment: u32) {
        if let Some(segment) = self.state.segments.get(&segment) {
            segment.stuck.store(true, Ordering::Relaxed);
        }
    }

    fn replay_log(&mut self, log: LogId, found: &[Found], lost: &[&Damage]) {
        let newest = |kind| found.iter().rev().find(|found| found.header.kind == kind);
        let newest_lost = |kind| {
            let of_kind = lost.iter().filter_map(|damage| damage.identity);
            of_kind.filter(|identity| identity.kind == kind).map(|identity| identity.id).max()
        };
        let deleted = newest(Kind::Delete);
        let born = deleted.map_or(0, |found| found.header.id);
        if let Some(found) = deleted {
            self.state.void(Voided::Log(log), found.loc(), found.header.count);
        }
        let begin = found.partition_point(|found| found.header.id <= born);
        let found = &found[begin..];
        let trim = newest(Kind::Trim).filter(|found| found.header.id > born);
        let trim_id = trim.map_or(born, |found| found.header.id);
        let trim_lost = newest_lost(Kind::Trim) > Some(trim_id);
        let mut kept = Kept { born, trim: trim.map(Found::loc), ..Kept::default() };
        let first = trim.map_or(1, |found| found.header.first);
        let snapshot = newest(Kind::Snapshot).filter(|found| found.header.id > born);
        let snapshot_id = snapshot.map_or(born, |found| found.header.id);

        let needed = |damage: &&&Damage| match damage.identity {
            None => false,
            Some(id) if id.id <= born => false,
            Some(id) => match id.kind {
                Kind::Entries => !is_before(id.first, id.count, first),
                Kind::Trim => trim_lost,
                Kind::Snapshot => id.id > snapshot_id,
                _ => true,
            },
        };
        let needed: Vec<&&Damage> = lost.iter().filter(needed).collect();
        needed.iter().for_each(|damage| self.stick(damage.segment));
        let wrong = needed.first().map(|damage| problem(damage, Some(log)));
        let wrong = wrong.or_else(|| fill(&mut kept, trim, found).err());
        if let Some(found) = snapshot {
            kept.log.snapshot = Some((found.header.first, found.loc()));
            kept.log.epoch = kept.log.epoch.max(found.header.epoch);
        }
        let is_ahead = snapshot.filter(|found| found.header.first >= kept.log.next);
        let wrong = wrong
            .or_else(|| is_ahead.map(|found| gap(found, found.header.first + 1, kept.log.next)));
        if let Some(wrong) = wrong {
            found.iter().for_each(|found| stick(&found.loc()));
            kept = Kept { damaged: Some(wrong.to_string()), ..Kept::default() };
            self.problems.push(wrong);
        } else if found.is_empty() {
            return;
        }
        kept.log.records().for_each(|entry| entry.at.enliven());
        kept.log.snapshot.iter().for_each(|(_, loc)| loc.enliven());
        kept.trim.iter().for_each(Loc::enliven);
        let tail = Tail {
            epoch: kept.log.epoch,
            next: kept.log.next,
            snapshot_at: kept.log.snapshot.as_ref().map(|(at, _)| *at),
            born,
            damaged: kept.damaged.as_deref().map(Box::from),
        };
        self.tails.insert(log, tail);
        self.state.logs.insert(log, kept);
    }

    fn replay_keys(&mut self, found: &[Found], lost: &[&Damage]) {
        let mut newest: HashMap<([u8; 16], u64), u64> = HashMap::new();
        for found in found {
            let Some((version, key)) = key_of(found) else {
                let name = found.segment.name();
                let what = "a catalog record without a key";
                self.problems.push(Problem::in_file(&name, found.header.offset(), what));
                continue;
            };
            newest.insert((found.header.log, found.header.first), found.header.id);
            let loc = found.loc();
            self.state.apply(if found.header.kind == Kind::Put {
                let value = found.payload.slice(found.header.len_notes as usize..);
                Effect::Put { key, version, value, loc }
            } else {
                Effect::Erase { key, loc, written_to: found.header.count }
            });
        }
        for damage in lost {
            let Some(id) = damage.identity else { continue };
            let (begin, hash) = (id.log.0, id.first);
            if newest.get(&(begin, hash)).is_some_and(|newer| *newer > id.id) {
                continue;
            }
            self.stick(damage.segment);
            let mut wrong = problem(damage, None);
            let mut lost = LostKey { begin, hash, what: String::new() };
            wrong.what =
                format!("{}: a catalog key beginning with {:?}", wrong.what, lost.prefix());
            lost.what = wrong.to_string();
            self.state.lost_keys.push(lost);
            self.problems.push(wrong);
        }
    }
}

/// Puts the log's batches into its index, as long as they are without gap.
fn fill(kept: &mut Kept, trim: Option<&Found>, found: &[Found]) -> Result<(), Problem> {
    let log = &mut kept.log;
    // Where the log stood when it was trimmed.
    let mut stood = trim.and_then(|found| {
        let next = found.payload.get(..8)?;
        Some((found.header.id, u64::from_le_bytes(bytes_at(next, 0)), found))
    });
    if let Some(found) = trim {
        (log.first, log.next) = (found.header.first, found.header.first);
        log.epoch = found.header.epoch;
    }
    let first = log.first;
    let entries = found.iter().filter(|found| found.header.kind == Kind::Entries);
    for found in entries.filter(|f| !is_before(f.header.first, f.header.count, first)) {
        if let Some((_, next, trim)) = stood.take_if(|stood| found.header.id > stood.0)
            && log.next != next
        {
            return Err(gap(trim, next, log.next));
        }
        let header = &found.header;
        if header.first != log.next {
            return Err(gap(found, header.first, log.next));
        }
        log.push(
            header.first,
            header.count,
            header.epoch,
            header.time_us,
            header.payload(),
            found.loc(),
        );
    }
    match stood {
        Some((_, next, trim)) if log.next != next => Err(gap(trim, next, log.next)),
        _ => Ok(()),
    }
}

fn gap(found: &Found, got: u64, expected: u64) -> Problem {
    let header = &found.header;
    let what = format!("number {got} where {expected} should follow");
    let (file, offset) = (found.segment.name(), header.offset());
    Problem { file, offset, log: Some(LogId(header.log)), what }
}

/// Keeps a damaged log's segments.
fn stick(loc: &Loc) {
    loc.segment.stuck.store(true, Ordering::Relaxed);
}
