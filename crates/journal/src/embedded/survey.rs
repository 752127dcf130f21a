//! Looking through a store's directory: which segments there are and should be, and every record in them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::sync::Arc;

use super::census::{self, Census};
use super::disk::{Disk, read_at};
use super::layout::{BARE, HEADER, Header, Identity, Kind, TRAILER, bytes_at, crc};
use super::scan::{Damage, Found, Mode, Scanned, scan};
use super::segment::{Segment, segment_name};
use crate::LogId;

/// The file that says that the store was closed properly.
pub(crate) const MARKER: &str = "clean";

/// Something wrong in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file's name.
    pub file: String,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// The log that it concerns, if it is known and only one.
    pub log: Option<LogId>,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.file, self.offset, self.what)?;
        self.log.map_or(Ok(()), |log| write!(f, " (log {log})"))
    }
}

impl Problem {
    pub(crate) fn in_file(file: &str, offset: u64, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), offset, log: None, what: what.into() }
    }
}

/// Where a store ended when it was closed properly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    pub segment: u32,
    pub end: u64,
    pub commit: u64,
}

impl Marker {
    fn words(&self) -> String {
        format!("tertulia-store 1 {} {} {}", self.segment, self.end, self.commit)
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let words = self.words();
        format!("{words} {:08x}\n", crc(0, &[words.as_bytes()]))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ').skip(2);
        let segment = words.next()?.parse().ok()?;
        let end = words.next()?.parse().ok()?;
        let marker = Self { segment, end, commit: words.next()?.parse().ok()? };
        (marker.text() == text).then_some(marker)
    }
}

/// Where a segment cannot be read, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    pub offset: u64,
    pub what: &'static str,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub segments: BTreeMap<u32, Arc<Segment>>,
    pub found: Vec<Found>,
    pub damages: Vec<Damage>,
    /// Segments that cannot be read, or not to their end, though others follow: whose records are lost with them is known
    /// from their censuses.
    pub lost: BTreeMap<u32, Lost>,
    /// For every log and key that may have had a record in `lost`.
    pub suspects: Vec<Damage>,
    /// What cannot be laid at some logs' door: the store must not be used.
    pub problems: Vec<Problem>,
    /// What is wrong without consequence.
    pub remarks: Vec<Problem>,
    /// Files that hold nothing needed: made or given up just before a crash.
    pub leftovers: Vec<String>,
    /// Segments without a head: number, file and length.
    headless: Vec<(u32, File, u64)>,
    pub marker: Option<Marker>,
    /// Where the last segment's records end.
    pub end: u64,
    pub is_torn: bool,
}

/// Looks through `disk`; `full` checks every byte that is in use. `progress` is told how many bytes have been looked through,
/// and of how many.
pub(crate) fn survey(
    disk: &Disk,
    full: bool,
    progress: &mut dyn FnMut(u64, u64),
) -> io::Result<Survey> {
    let mut survey = Survey::default();
    survey.read_marker(disk)?;
    let numbers = list(disk)?;
    for number in &numbers {
        let is_last = numbers.last() == Some(number);
        survey.open_segment(disk, *number, is_last)?;
    }
    survey.open_headless();
    survey.scan_all(full, progress)?;
    let roster_id = survey.check_roster(&numbers);
    survey.accuse(roster_id);
    Ok(survey)
}

fn list(disk: &Disk) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(disk.path(""))? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".seg")?.parse().ok());
        numbers.extend(number.filter(|number| segment_name(*number) == name.to_string_lossy()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

impl Survey {
    fn read_marker(&mut self, disk: &Disk) -> io::Result<()> {
        match fs::read_to_string(disk.path(MARKER)) {
            Ok(text) => {
                self.marker = Marker::parse(&text);
                if self.marker.is_none() {
                    let what = "not a marker of a proper close; passed over";
                    self.remarks.push(Problem::in_file(MARKER, 0, what));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.remarks.push(Problem::in_file(MARKER, 0, "not text; passed over"));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn open_segment(&mut self, disk: &Disk, number: u32, is_last: bool) -> io::Result<()> {
        let name = segment_name(number);
        let file = disk.open(&name, false)?;
        let len = file.metadata()?.len();
        let mut raw = [0; BARE as usize];
        let readable = len >= BARE;
        if readable {
            read_at(&file, &mut raw, 0)?;
        }
        let Some(head) = self.read_head(&raw, number) else {
            // Made just before a crash, and not in use yet: what stands before it is not sealed, or
            // the seal tells that it should be there.
            if is_last && self.marker.is_none() && (!readable || raw[..HEADER] == [0; HEADER]) {
                self.leftovers.push(name);
            } else if is_last {
                self.problems.push(Problem::in_file(&name, 0, "damaged head"));
            } else {
                self.headless.push((number, file, len));
            }
            return Ok(());
        };
        if len != head.first {
            let offset = len.min(head.first);
            if is_last {
                let what = format!("the file has {len} bytes and was made with {}", head.first);
                self.problems.push(Problem::in_file(&name, offset, what));
            } else {
                self.lost.insert(number, Lost { offset, what: "the file has another length" });
            }
            return Ok(());
        }
        let segment = Segment::new(number, file, head.first, head.log.0);
        let first = self.segments.values().next();
        if first.is_some_and(|first| first.salt != segment.salt) {
            let what = "a segment of another store";
            self.problems.push(Problem::in_file(&name, 0, what));
            return Ok(());
        }
        self.segments.insert(number, segment);
        Ok(())
    }

    /// What a `Head` says: it stands there twice.
    fn read_head(&mut self, raw: &[u8; BARE as usize], number: u32) -> Option<Identity> {
        let is_head = |head: &Identity| head.kind == Kind::Head && head.count == number;
        let header = Header::decode(&bytes_at(raw, 0), 0).map(|header| header.identity());
        let trailer = Identity::decode(&bytes_at(raw, BARE as usize - TRAILER), 0);
        let (header, trailer) = (header.filter(is_head), trailer.filter(is_head));
        if header != trailer && (header.is_some() || trailer.is_some()) {
            let what = "one of the two heads is damaged; nothing is lost";
            self.remarks.push(Problem::in_file(&segment_name(number), 0, what));
        }
        header.or(trailer)
    }

    /// What a lost head has said is known: the name has the number, the file its size, and the others the salt.
    fn open_headless(&mut self) {
        let salt = self.segments.values().next().map(|segment| segment.salt);
        for (number, file, len) in std::mem::take(&mut self.headless) {
            let name = segment_name(number);
            let Some(salt) = salt else {
                self.problems.push(Problem::in_file(&name, 0, "damaged head"));
                continue;
            };
            let what = "damaged head; the other segments say the same, nothing is lost";
            self.remarks.push(Problem::in_file(&name, 0, what));
            self.segments.insert(number, Segment::new(number, file, len, salt));
        }
    }

    fn scan_all(&mut self, full: bool, progress: &mut dyn FnMut(u64, u64)) -> io::Result<()> {
        let mut segments: Vec<_> = self.segments.values().cloned().collect();
        let clean_end = self.marker.map(|marker| marker.end);
        let ordinary = Mode { last: false, full, clean_end: None };
        let may_end = Mode { last: true, full, clean_end };
        let Some(newest) = segments.pop() else { return Ok(()) };
        let mut last = scan(&newest, may_end)?;
        let is_unused = last.found.is_empty() && last.damages.is_empty() && !last.sealed;
        if let (true, None, Some(before)) = (is_unused, clean_end, segments.pop()) {
            // Made, but the one before it may not have been sealed before a crash.
            let scanned = scan(&before, may_end)?;
            if scanned.sealed {
                self.add(&before, scanned);
            } else {
                self.segments.remove(&newest.number);
                self.leftovers.push(newest.name());
                last = scanned;
            }
        } else {
            segments = self.segments.values().take(self.segments.len() - 1).cloned().collect();
        }
        let all = segments.iter().map(|segment| segment.bytes).sum();
        let mut done = 0;
        for segment in &segments {
            progress(done, all);
            let scanned = scan(segment, ordinary)?;
            self.add(segment, scanned);
            done += segment.bytes;
        }
        progress(done, all);
        (self.end, self.is_torn) = (last.end, last.torn);
        if let Some(newest) = self.segments.values().next_back().cloned() {
            if last.sealed {
                let what = "the next segment is missing";
                self.problems.push(Problem::in_file(&newest.name(), last.end, what));
            }
            self.add(&newest, last);
            self.check_marker(&newest);
        }
        Ok(())
    }

    fn add(&mut self, segment: &Segment, scanned: Scanned) {
        use std::sync::atomic::Ordering::Relaxed;
        segment.end.store(scanned.end, Relaxed);
        // Where a part of it could not be read at all; `replay` knows whether other damage matters.
        let is_unread = scanned.damages.iter().any(|damage| damage.identity.is_none());
        segment.stuck.store(is_unread, Relaxed);
        self.found.extend(scanned.found);
        self.damages.extend(scanned.damages);
    }

    fn check_marker(&mut self, newest: &Segment) {
        let Some(marker) = self.marker else { return };
        if newest.number != marker.segment || self.end != marker.end {
            let what = format!(
                "the store was closed at {} of {} and ends here now",
                marker.end,
                segment_name(marker.segment)
            );
            self.problems.push(Problem::in_file(&newest.name(), self.end, what));
        }
    }

    /// Compares the segments with those that should be there; answers the newest roster's id.
    fn check_roster(&mut self, numbers: &[u32]) -> u64 {
        let rosters = self.found.iter().filter(|found| found.header.kind == Kind::Roster);
        let newest = rosters.max_by_key(|found| found.header.id);
        let id = newest.map_or(0, |found| found.header.id);
        let (listed, own): (Vec<u32>, u32) = newest.map_or((Vec::new(), 1), |found| {
            let numbers = found.payload.chunks_exact(4);
            let numbers = numbers.map(|bytes| u32::from_le_bytes(bytes_at(bytes, 0)));
            (numbers.collect(), u32::try_from(found.header.first).unwrap_or(1))
        });
        let is_kept = |number: u32| number >= own || listed.contains(&number);
        let newest_number = self.segments.keys().next_back().copied().unwrap_or(0);
        for number in listed.iter().copied().chain(own..=newest_number) {
            if !numbers.contains(&number) {
                self.lost.insert(number, Lost { offset: 0, what: "the file is missing" });
            }
        }
        for number in numbers.iter().copied().filter(|number| !is_kept(*number)) {
            self.segments.remove(&number);
            self.lost.remove(&number);
            self.problems.retain(|problem| problem.file != segment_name(number));
            self.leftovers.push(segment_name(number));
        }
        self.found.retain(|found| is_kept(found.segment.number));
        self.damages.retain(|damage| is_kept(damage.segment));
        for damage in &self.damages {
            let name = segment_name(damage.segment);
            match damage.identity {
                None if damage.segment < newest_number => {
                    let Damage { segment, offset, what, .. } = *damage;
                    self.lost.entry(segment).or_insert(Lost { offset, what });
                }
                None => {
                    let what = format!("{}; nothing tells which log it was", damage.what);
                    self.problems.push(Problem::in_file(&name, damage.offset, what));
                }
                Some(identity) if identity.kind == Kind::Roster && identity.id > id => {
                    let what = format!("{} in the list of segments", damage.what);
                    self.problems.push(Problem::in_file(&name, damage.offset, what));
                }
                Some(_) => {}
            }
        }
        let is_empty = self.segments.is_empty() && self.problems.is_empty();
        if let (true, Some(marker)) = (is_empty, self.marker) {
            let what = "the file is missing";
            self.problems.push(Problem::in_file(&segment_name(marker.segment), 0, what));
        }
        id
    }

    /// The censuses of segments that have none, the newest's too: it has yet to get one.
    pub fn untaken(&self) -> BTreeMap<u32, Census> {
        let taken = census::newest(&self.found);
        let known = self.segments.keys().filter(|number| !self.lost.contains_key(number));
        let untaken = known.filter(|number| !taken.contains_key(number));
        let of = |number: u32| {
            let found = self.found.iter().filter(move |found| found.segment.number == number);
            Census::of(found, self.damages.iter().filter(move |damage| damage.segment == number))
        };
        untaken.map(|number| (*number, of(*number))).collect()
    }

    /// Finds out whose records are lost with the segments that are.
    fn accuse(&mut self, roster_id: u64) {
        let censuses = census::newest(&self.found);
        for (number, Lost { offset, what }) in &self.lost {
            match census::lost_with(*number, what, censuses.get(number), roster_id) {
                Some(suspects) => self.suspects.extend(suspects),
                None => {
                    let what = format!("{what}; nothing tells whose records were there");
                    self.problems.push(Problem::in_file(&segment_name(*number), *offset, what));
                }
            }
        }
    }
}
