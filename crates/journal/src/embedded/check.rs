//! Full verification of a store that nobody has open: every byte in use, changing nothing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::disk::Disk;
use super::layout::Kind;
use super::replay::replay;
use super::scan::{Damage, Found};
use super::segment::segment_name;
use super::state::State;
use super::survey::{Problem, Survey, survey};
use super::{OpenStoreError, io_error, lock, read_records};
use crate::{LogId, LostRecord, Opened, ReadError, Record, Versioned};

/// What [`check`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Segment files in use.
    pub segments: u64,
    /// Records in them, needed or not.
    pub records: u64,
    /// Bytes that those take.
    pub bytes: u64,
    /// Every log of which anything is known, by id.
    pub logs: Vec<LogReport>,
    /// The catalog's records that can be read, by key.
    pub catalog: Vec<(String, Versioned)>,
    /// Those that cannot.
    pub lost: Vec<LostRecord>,
    /// Whether the store was closed properly.
    pub is_clean: bool,
    /// Whether it ends in a batch that was being written when it stopped; never acknowledged, and cut
    /// off at the next opening.
    pub is_torn: bool,
    /// Everything that is wrong, with file and place.
    pub problems: Vec<Problem>,
    /// Whether the store does not open at all: nothing tells whose records are gone.
    pub is_refused: bool,
    /// Damage to what is no longer needed, or written twice: nothing is lost.
    pub remarks: Vec<Problem>,
}

/// One log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogReport {
    /// Its id.
    pub log: LogId,
    /// The lowest number that is kept, as far as that can still be told.
    pub first: u64,
    /// The last number that can still be read; one below `first` where there is none.
    pub last: u64,
    /// Its batches that can be read.
    pub records: u64,
    /// What is wrong with it, in the order of files and places.
    pub problems: Vec<Problem>,
    /// Which numbers are gone, in order: first and last. Empty in a damaged log where that is not known.
    pub lost: Vec<(u64, u64)>,
}

/// What [`check_with`] has looked through: bytes so far, and bytes in all.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// Verifies the store under `dir`, every payload included. Changes nothing.
///
/// # Errors
/// [`OpenStoreError::Locked`] while it is open; [`OpenStoreError::Io`] when it cannot be read.
pub fn check(dir: &Path) -> Result<Report, OpenStoreError> {
    check_with(dir, &mut |_, _| {}).map(|checked| checked.report)
}

/// As [`check`], and what is whole can be read as long as the result is kept.
///
/// # Errors
/// As [`check`].
pub fn check_with(dir: &Path, progress: Progress<'_>) -> Result<Checked, OpenStoreError> {
    let disk = Disk::to_read(dir.join("store"));
    fs::metadata(disk.path("")).map_err(io_error("looking for the store"))?;
    let lock = match lock(&disk) {
        // A copy may have been made without it.
        Err(OpenStoreError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => None,
        lock => Some(lock?),
    };
    let mut survey = survey(&disk, true, progress).map_err(io_error("reading the store"))?;
    let mut report = Report {
        segments: survey.segments.len() as u64,
        records: survey.found.len() as u64,
        bytes: survey.found.iter().map(|found| found.header.size()).sum(),
        is_clean: survey.marker.is_some(),
        is_torn: survey.is_torn,
        is_refused: !survey.problems.is_empty(),
        problems: std::mem::take(&mut survey.problems),
        remarks: std::mem::take(&mut survey.remarks),
        ..Report::default()
    };
    let ranges = Ranges::of(&survey);
    let replayed = replay(&mut survey);
    let state = replayed.state;
    report.logs = ranges.reports(&state, &replayed.problems);
    (report.catalog, report.lost) = (state.records.scan(""), state.lost(""));
    report.problems.extend(replayed.problems);
    for damage in &survey.damages {
        let file = segment_name(damage.segment);
        let known = |problem: &Problem| problem.file == file && problem.offset == damage.offset;
        if !report.problems.iter().any(known) {
            let what = format!("{}; nothing is lost", damage.what);
            report.remarks.push(Problem::in_file(&file, damage.offset, what));
        }
    }
    Ok(Checked { report, state, _lock: lock })
}

/// A store that was checked, and that nobody opens meanwhile.
pub struct Checked {
    /// What was found.
    pub report: Report,
    state: State,
    _lock: Option<File>,
}

impl Checked {
    /// As [`crate::Journal::open`].
    ///
    /// # Errors
    /// As there.
    pub fn open(&self, log: LogId) -> Result<Opened, ReadError> {
        let (opened, snapshot) = self.state.opened(log)?;
        opened.with(snapshot)
    }

    /// As [`crate::Journal::read`].
    ///
    /// # Errors
    /// As there.
    pub fn read(&self, log: LogId, from: u64, bytes_max: usize) -> Result<Vec<Record>, ReadError> {
        read_records(&self.state.range(log, from, bytes_max)?)
    }
}

/// Which numbers of each log are there and which were: (first, count), sorted.
#[derive(Default)]
struct Ranges(BTreeMap<LogId, Numbers>);

#[derive(Default)]
struct Numbers {
    /// By the id of the record, so that a copy counts once.
    there: BTreeMap<u64, (u64, u32)>,
    lost: Vec<(u64, u32)>,
    /// The newest trim.
    first: u64,
    /// The newest deletion.
    born: u64,
}

impl Ranges {
    fn of(survey: &Survey) -> Self {
        let mut ranges = Self::default();
        let deletions = survey.found.iter().filter(|found| found.header.kind == Kind::Delete);
        for Found { header, .. } in deletions {
            let numbers = ranges.0.entry(LogId(header.log)).or_default();
            numbers.born = numbers.born.max(header.id);
        }
        for Found { header, .. } in &survey.found {
            let log = LogId(header.log);
            let is_dead = ranges.0.get(&log).is_some_and(|numbers| header.id <= numbers.born);
            match header.kind {
                Kind::Entries if !is_dead => {
                    let there = &mut ranges.0.entry(log).or_default().there;
                    there.insert(header.id, (header.first, header.count));
                }
                Kind::Trim if !is_dead => {
                    let numbers = ranges.0.entry(log).or_default();
                    numbers.first = numbers.first.max(header.first);
                }
                _ => {}
            }
        }
        for Damage { identity, harmless, .. } in &survey.damages {
            let Some(id) = identity.filter(|id| id.kind == Kind::Entries && !harmless) else {
                continue;
            };
            let numbers = ranges.0.entry(id.log).or_default();
            if id.id > numbers.born && !numbers.there.contains_key(&id.id) {
                numbers.lost.push((id.first, id.count));
            }
        }
        ranges
    }

    fn reports(mut self, state: &State, problems: &[Problem]) -> Vec<LogReport> {
        let damaged = problems.iter().filter_map(|problem| problem.log);
        damaged.for_each(|log| {
            self.0.entry(log).or_default();
        });
        let mut reports = Vec::new();
        for (log, numbers) in self.0 {
            let problems: Vec<_> =
                problems.iter().filter(|problem| problem.log == Some(log)).cloned().collect();
            if problems.is_empty() && !state.logs.contains_key(&log) {
                continue;
            }
            reports.push(numbers.report(log, problems));
        }
        reports
    }
}

impl Numbers {
    fn report(self, log: LogId, problems: Vec<Problem>) -> LogReport {
        let floor = self.first.max(1);
        let kept = |first: u64, count: u32| first + u64::from(count) > floor && count > 0;
        let mut there: Vec<(u64, u32)> = self.there.into_values().collect();
        there.retain(|(first, count)| kept(*first, *count));
        there.sort_unstable();
        let first = there.first().map_or(floor, |(first, _)| (*first).min(floor));
        let last = there.last().map_or(floor - 1, |(first, count)| first + u64::from(*count) - 1);
        let (mut lost, mut next) = (Vec::new(), floor);
        for (begin, count) in &there {
            lost.extend((next < *begin).then(|| (next, begin - 1)));
            next = next.max(begin + u64::from(*count));
        }
        // Behind the last that is there.
        for (begin, count) in self.lost {
            let end = begin + u64::from(count);
            lost.extend((end > next && kept(begin, count)).then(|| (begin.max(next), end - 1)));
        }
        if problems.is_empty() {
            lost.clear();
        }
        lost.sort_unstable();
        LogReport { log, first, last, records: there.len() as u64, problems, lost }
    }
}
