//! What is stored, as readers see it: the logs' indexes, the catalog, and which records are still needed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use super::layout::{Header, Kind, key_marks};
use super::segment::{Loc, Segment};
use crate::catalog::Records;
use crate::log::{Entry, Log};
use crate::{AppendError, LogId, LostRecord, Opened, ReadError, Versioned};

/// A log and what the engine must remember of it.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub log: Log<Loc>,
    /// Which life of the id it is.
    pub born: u64,
    /// The newest `Trim` record.
    pub trim: Option<Loc>,
    /// It has been trimmed since.
    pub is_trim_due: bool,
    /// Why it cannot be used.
    pub damaged: Option<String>,
}

/// Whose older records a `Delete` or `Erase` makes void.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Voided {
    Log(LogId),
    Key(String),
}

/// A catalog record that cannot be read: all that is known of its key.
#[derive(Clone, Debug)]
pub(crate) struct LostKey {
    pub begin: [u8; 16],
    pub hash: u64,
    pub what: String,
}

impl LostKey {
    /// The key's first bytes, as far as they are text.
    pub fn prefix(&self) -> String {
        let end = self.begin.iter().position(|byte| *byte == 0).unwrap_or(16);
        String::from_utf8_lossy(&self.begin[..end]).into_owned()
    }

    fn is_of(&self, key: &str) -> bool {
        (self.begin, self.hash) == key_marks(key)
    }

    fn may_begin_with(&self, prefix: &str) -> bool {
        let (begin, prefix) = (&self.begin[..], prefix.as_bytes());
        let len = prefix.len().min(16);
        begin[..len] == prefix[..len]
    }
}

/// See the module. One lock guards it; nobody waits for the disk while holding it.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub logs: HashMap<LogId, Kept>,
    pub records: Records<Loc>,
    /// The newest `Delete` or `Erase` of each, and the segment that it was first written to.
    pub voids: HashMap<Voided, (Loc, u32)>,
    pub lost_keys: Vec<LostKey>,
    pub segments: BTreeMap<u32, Arc<Segment>>,
    /// Segments that cannot be read: they stay listed, so that they are missed and not forgotten.
    pub lost: BTreeSet<u32>,
    /// Whose records each sealed segment holds.
    pub censuses: BTreeMap<u32, Loc>,
    pub roster: Option<Loc>,
    /// Why nothing is stored any more.
    pub failed: Option<String>,
}

/// What a stored record changes.
#[derive(Debug)]
pub(crate) enum Effect {
    Nothing,
    Append { header: Header, loc: Loc },
    Snapshot { header: Header, loc: Loc },
    Delete { log: LogId, loc: Loc, written_to: u32 },
    Put { key: String, version: u64, value: Bytes, loc: Loc },
    Erase { key: String, loc: Loc, written_to: u32 },
    Trim { log: LogId, loc: Loc },
    Roster { loc: Loc },
    Census { of: u32, loc: Loc },
    Moved { what: Needed, to: Loc },
}

/// A record that is still needed, and by whom.
#[derive(Clone, Debug)]
pub(crate) enum Needed {
    Batch { log: LogId, first: u64, from: Loc },
    Snapshot { log: LogId, from: Loc },
    Trim { log: LogId, from: Loc },
    Record { key: String, from: Loc },
    Void { whose: Voided, from: Loc },
    Census { of: u32, from: Loc },
}

impl Needed {
    /// Where it is.
    pub const fn from(&self) -> &Loc {
        match self {
            Self::Batch { from, .. }
            | Self::Snapshot { from, .. }
            | Self::Trim { from, .. }
            | Self::Record { from, .. }
            | Self::Void { from, .. }
            | Self::Census { from, .. } => from,
        }
    }
}

fn replace(slot: &mut Option<Loc>, now: Loc) {
    now.enliven();
    if let Some(older) = slot.replace(now) {
        older.kill();
    }
}

impl State {
    pub fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Nothing => {}
            Effect::Append { header, loc } => {
                let bytes = header.payload();
                loc.enliven();
                let Header { first, count, epoch, time_us, .. } = header;
                let log = &mut self.kept(LogId(header.log), loc.id).log;
                log.push(first, count, epoch, time_us, bytes, loc);
            }
            Effect::Snapshot { header, loc } => {
                loc.enliven();
                let log = &mut self.kept(LogId(header.log), loc.id).log;
                log.epoch = header.epoch;
                if let Some((_, older)) = log.snapshot.replace((header.first, loc)) {
                    older.kill();
                }
            }
            Effect::Delete { log, loc, written_to } => {
                self.forget(log);
                self.void(Voided::Log(log), loc, written_to);
            }
            Effect::Put { key, version, value, loc } => {
                loc.enliven();
                if let Some((erased, _)) = self.voids.remove(&Voided::Key(key.clone())) {
                    erased.kill();
                }
                let older = self.records.set(key, Some((Versioned { version, value }, loc)));
                older.iter().for_each(Loc::kill);
            }
            Effect::Erase { key, loc, written_to } => {
                self.lost_keys.retain(|lost| !lost.is_of(&key));
                self.records.set(key.clone(), None).iter().for_each(Loc::kill);
                self.void(Voided::Key(key), loc, written_to);
            }
            Effect::Trim { log, loc } => {
                if let Some(kept) = self.logs.get_mut(&log) {
                    replace(&mut kept.trim, loc);
                }
            }
            Effect::Roster { loc } => replace(&mut self.roster, loc),
            Effect::Census { of, loc } => {
                loc.enliven();
                if let Some(older) = self.censuses.insert(of, loc) {
                    older.kill();
                }
            }
            Effect::Moved { what, to } => self.move_to(&what, to),
        }
    }

    fn kept(&mut self, log: LogId, born: u64) -> &mut Kept {
        self.logs.entry(log).or_insert_with(|| Kept { born, ..Kept::default() })
    }

    /// Drops a log's index.
    fn forget(&mut self, log: LogId) {
        if let Some(kept) = self.logs.remove(&log).filter(|kept| kept.damaged.is_none()) {
            kept.log.records().for_each(|entry| entry.at.kill());
            kept.log.snapshot.iter().for_each(|(_, loc)| loc.kill());
            kept.trim.iter().for_each(Loc::kill);
        }
    }

    pub fn void(&mut self, whose: Voided, loc: Loc, written_to: u32) {
        loc.enliven();
        if let Some((older, _)) = self.voids.insert(whose, (loc, written_to)) {
            older.kill();
        }
    }

    /// The lowest segment that stays when `without` goes.
    fn lowest_without(&self, without: u32) -> u32 {
        let all = self.segments.keys().chain(&self.lost);
        all.filter(|number| **number != without).min().copied().unwrap_or(u32::MAX)
    }

    /// Takes a segment out, and forgets the deletions that no segment from before them is left for.
    pub fn remove_segment(&mut self, number: u32) {
        self.segments.remove(&number);
        self.censuses.remove(&number).iter().for_each(Loc::kill);
        let lowest = self.lowest_without(number);
        self.voids.retain(|_, (loc, written_to)| {
            let is_idle = lowest > *written_to;
            if is_idle {
                loc.kill();
            }
            !is_idle
        });
    }

    /// Whether a record of a segment that is to go is needed, and by whom.
    pub fn needed(&mut self, header: &Header, key: Option<&str>, from: &Loc) -> Option<Needed> {
        let (log, from) = (LogId(header.log), from.clone());
        let kept = self.logs.get_mut(&log);
        let is_here = |at: Option<&Loc>| at.is_some_and(|at| at.is_same(&from));
        match header.kind {
            Kind::Entries => {
                let first = header.first;
                kept?.log.find_mut(first, |at| at.is_same(&from))?;
                Some(Needed::Batch { log, first, from })
            }
            Kind::Snapshot => {
                let at = kept?.log.snapshot.as_ref().map(|(_, loc)| loc);
                is_here(at).then_some(Needed::Snapshot { log, from })
            }
            Kind::Trim => is_here(kept?.trim.as_ref()).then_some(Needed::Trim { log, from }),
            Kind::Put => {
                let key = key?.to_owned();
                is_here(self.records.at_mut(&key).as_deref())
                    .then_some(Needed::Record { key, from })
            }
            Kind::Delete | Kind::Erase => {
                let whose = key.map_or(Voided::Log(log), |key| Voided::Key(key.to_owned()));
                let lowest = self.lowest_without(from.segment.number);
                let void = self.voids.get(&whose).filter(|(_, written_to)| lowest <= *written_to);
                is_here(void.map(|(loc, _)| loc)).then_some(Needed::Void { whose, from })
            }
            Kind::Census => {
                let of = header.count;
                is_here(self.censuses.get(&of)).then_some(Needed::Census { of, from })
            }
            Kind::Head | Kind::Roster | Kind::Seal => None,
        }
    }

    /// A copy has been stored: unless it has become unnecessary meanwhile, that is where it is now.
    fn move_to(&mut self, what: &Needed, to: Loc) {
        let log = match what {
            Needed::Batch { log, .. } | Needed::Snapshot { log, .. } | Needed::Trim { log, .. } => {
                self.logs.get_mut(log)
            }
            _ => None,
        };
        let (slot, from) = match what {
            Needed::Batch { first, from, .. } => {
                (log.and_then(|kept| kept.log.find_mut(*first, |at| at.is_same(from))), from)
            }
            Needed::Snapshot { from, .. } => {
                (log.and_then(|kept| kept.log.snapshot.as_mut()).map(|(_, loc)| loc), from)
            }
            Needed::Trim { from, .. } => (log.and_then(|kept| kept.trim.as_mut()), from),
            Needed::Record { key, from } => (self.records.at_mut(key), from),
            Needed::Void { whose, from } => (self.voids.get_mut(whose).map(|(loc, _)| loc), from),
            Needed::Census { of, from } => (self.censuses.get_mut(of), from),
        };
        if let Some(slot) = slot.filter(|slot| slot.is_same(from)) {
            to.enliven();
            slot.kill();
            *slot = to;
        }
    }

    /// Whether nothing is needed of a segment any more, but for the roster, which is written anew.
    pub fn is_emptied(&self, segment: &Segment) -> bool {
        let roster = self.roster.as_ref().filter(|loc| loc.segment.number == segment.number);
        segment.live.load(std::sync::atomic::Ordering::Relaxed) == roster.map_or(0, Loc::size)
    }

    /// The log, unless it is damaged.
    pub fn sound(&self, log: LogId) -> Result<Option<&Kept>, ReadError> {
        match self.logs.get(&log) {
            Some(Kept { damaged: Some(what), .. }) => Err(ReadError::Damaged(what.clone())),
            kept => Ok(kept),
        }
    }

    /// A log as it is opened, and where its snapshot is.
    pub fn opened(&self, log: LogId) -> Result<(Opened, Option<(u64, Loc)>), ReadError> {
        let fresh = Log::default();
        let log = self.sound(log)?.map_or(&fresh, |kept| &kept.log);
        let Log { epoch, first, next, .. } = *log;
        Ok((Opened { epoch, first, next, snapshot: None }, log.snapshot.clone()))
    }

    /// Where the batches are that [`crate::Journal::read`] answers.
    pub fn range(
        &self,
        log: LogId,
        from: u64,
        bytes_max: usize,
    ) -> Result<Vec<Entry<Loc>>, ReadError> {
        let found = self.sound(log)?.map(|kept| kept.log.range(from, bytes_max));
        Ok(found.transpose()?.unwrap_or_default())
    }

    /// See [`crate::Journal::trim`]; whether that is to be written down.
    pub fn trim(&mut self, log: LogId, below: u64) -> Result<bool, AppendError> {
        let mut fresh = Kept::default();
        let kept = self.logs.get_mut(&log).unwrap_or(&mut fresh);
        if let Some(what) = &kept.damaged {
            return Err(AppendError::Damaged(what.clone()));
        }
        let first = kept.log.first;
        let dropped = kept.log.trim(below)?;
        dropped.iter().for_each(Loc::kill);
        let is_new = kept.log.first != first && !kept.is_trim_due;
        kept.is_trim_due |= kept.log.first != first;
        Ok(is_new)
    }

    /// Whether a key is one of those that cannot be read.
    pub fn check_key(&self, key: &str) -> Result<(), ReadError> {
        let lost = self.lost_keys.iter().find(|lost| lost.is_of(key));
        lost.map_or(Ok(()), |lost| Err(ReadError::Damaged(lost.what.clone())))
    }

    /// What is known of the keys under a prefix that cannot be read.
    pub fn lost(&self, prefix: &str) -> Vec<LostRecord> {
        let lost = self.lost_keys.iter().filter(|lost| lost.may_begin_with(prefix));
        lost.map(|lost| LostRecord { begin: lost.prefix(), what: lost.what.clone() }).collect()
    }

    /// Whether a prefix may hold a key that cannot be read.
    pub fn check_prefix(&self, prefix: &str) -> Result<(), ReadError> {
        let lost = self.lost_keys.iter().find(|lost| lost.may_begin_with(prefix));
        lost.map_or(Ok(()), |lost| Err(ReadError::Damaged(lost.what.clone())))
    }
}
