//! Full verification of a store that nobody has open: every byte in use, changing nothing.

use std::fs;
use std::path::Path;

use super::disk::Disk;
use super::replay::replay;
use super::segment::segment_name;
use super::survey::{Problem, survey};
use super::{OpenStoreError, io_error, lock};

/// What [`check`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Segment files in use.
    pub segments: u64,
    /// Records in them, needed or not.
    pub records: u64,
    /// Bytes that those take.
    pub bytes: u64,
    /// Logs.
    pub logs: u64,
    /// Whether the store was closed properly.
    pub is_clean: bool,
    /// Whether it ends in a batch that was being written when it stopped; never acknowledged, and cut
    /// off at the next opening.
    pub is_torn: bool,
    /// What is wrong, with file and place.
    pub problems: Vec<Problem>,
    /// Damage to what is no longer needed, or written twice: nothing is lost.
    pub remarks: Vec<Problem>,
}

/// Verifies the store under `dir`, every payload included. Changes nothing.
///
/// # Errors
/// [`OpenStoreError::Locked`] while it is open; [`OpenStoreError::Io`] when it cannot be read.
pub fn check(dir: &Path) -> Result<Report, OpenStoreError> {
    let disk = Disk::new(dir.join("store"), None, false);
    fs::metadata(disk.path("")).map_err(io_error("looking for the store"))?;
    let _lock = lock(&disk)?;
    let mut survey = survey(&disk, true).map_err(io_error("reading the store"))?;
    let mut report = Report {
        segments: survey.segments.len() as u64,
        records: survey.found.len() as u64,
        bytes: survey.found.iter().map(|found| found.header.size()).sum(),
        is_clean: survey.marker.is_some(),
        is_torn: survey.is_torn,
        problems: std::mem::take(&mut survey.problems),
        remarks: std::mem::take(&mut survey.remarks),
        ..Report::default()
    };
    let replayed = replay(&mut survey);
    report.logs = replayed.state.logs.len() as u64;
    report.problems.extend(replayed.problems);
    for damage in &survey.damages {
        let file = segment_name(damage.segment);
        let known = |problem: &Problem| problem.file == file && problem.offset == damage.offset;
        if !report.problems.iter().any(known) {
            let what = format!("{}; nothing is lost", damage.what);
            report.remarks.push(Problem::in_file(&file, damage.offset, what));
        }
    }
    Ok(report)
}
