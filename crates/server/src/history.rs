//! Reading a group's log for those who ask: pages of history, and single messages. Runs where blocking is allowed.

use bytes::{Bytes, BytesMut};
use tertulia_group::entry::entries;
use tertulia_group::{Entry, Kind, Seq};
use tertulia_journal::{Journal, LogId, Opened, ReadError};
use tertulia_wire::native::{HISTORY_BYTES_MAX, HistoryMode};

/// Entries that one request may ask for.
pub(crate) const LIMIT_MAX: u32 = 10_000;
/// Read at once.
const READ_BYTES: usize = 1 << 20;
/// The last entries are looked for within so many bytes of the log's end: long messages must not make a question dear.
pub(crate) const REACH_BYTES: u64 = 64 << 20;
/// A page is begun anew so often at most when the log is trimmed meanwhile.
const TRIES_MAX: u32 = 8;

/// Which entries count towards a limit.
pub(crate) type Wanted = fn(&Entry) -> bool;

/// What people see: everything but the coordinator's own entries.
pub(crate) fn visible(entry: &Entry) -> bool {
    entry.header.kind != Kind::Epoch
}

/// What was said: messages and files.
pub(crate) fn said(entry: &Entry) -> bool {
    entry.header.kind.is_said()
}

/// A page of a log.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub entries: Vec<Entry>,
    /// There is more after the last one, within what was asked for.
    pub more: bool,
    /// The lowest number that is kept.
    pub first_kept: Seq,
}

impl Page {
    /// The entries' bytes, as they stand in the log.
    pub fn bytes(&self) -> Bytes {
        let bytes = self.entries.iter().map(|entry| entry.bytes().len()).sum();
        let mut out = BytesMut::with_capacity(bytes);
        self.entries.iter().for_each(|entry| out.extend_from_slice(entry.bytes()));
        out.freeze()
    }
}

/// The last `limit` entries, or the first `limit` after a number, of those that are `wanted`.
pub(crate) fn page(
    journal: &dyn Journal,
    log: LogId,
    mode: HistoryMode,
    limit: u32,
    wanted: Wanted,
) -> Result<Page, ReadError> {
    let mut tries = 1;
    loop {
        match page_as_it_stands(journal, log, mode, limit, wanted) {
            // The log was trimmed in the middle of it: that is no answer to somebody who asks for what there is.
            Err(ReadError::Trimmed { .. }) if tries < TRIES_MAX => tries += 1,
            page => return page,
        }
    }
}

fn page_as_it_stands(
    journal: &dyn Journal,
    log: LogId,
    mode: HistoryMode,
    limit: u32,
    wanted: Wanted,
) -> Result<Page, ReadError> {
    let opened = journal.open(log)?;
    let is_cut = limit > LIMIT_MAX;
    let limit = limit.min(LIMIT_MAX) as usize;
    let from = match mode {
        HistoryMode::After(after) => (after + 1).max(opened.first),
        HistoryMode::Last => start_of_last(journal, log, &opened, limit, wanted)?,
    };
    let mut page = Page { first_kept: opened.first, ..Page::default() };
    if limit == 0 {
        return Ok(page);
    }
    let mut bytes = 0;
    scan(journal, log, from, opened.next, |entry| {
        if !wanted(&entry) {
            return true;
        }
        bytes += entry.bytes().len();
        if !page.entries.is_empty() && bytes > HISTORY_BYTES_MAX {
            page.more = true;
            return false;
        }
        let is_last = entry.header.seq + 1 == opened.next;
        page.entries.push(entry);
        let is_full = page.entries.len() == limit;
        page.more = is_full && is_cut && !is_last;
        !is_full
    })?;
    Ok(page)
}

/// The number from which on there are `limit` wanted entries, or all that lie within [`REACH_BYTES`] of the end.
fn start_of_last(
    journal: &dyn Journal,
    log: LogId,
    opened: &Opened,
    limit: usize,
    wanted: Wanted,
) -> Result<Seq, ReadError> {
    let next = opened.next;
    let floor = journal.keep_from(log, REACH_BYTES, 0).clamp(opened.first, next);
    let mut reach = limit as u64 + 8;
    loop {
        let from = next.saturating_sub(reach).max(floor);
        let mut numbers: Vec<Seq> = Vec::new();
        scan(journal, log, from, next, |entry| {
            numbers.extend(wanted(&entry).then_some(entry.header.seq));
            true
        })?;
        if numbers.len() >= limit || from <= floor {
            let skip = numbers.len().saturating_sub(limit);
            return Ok(numbers.get(skip).copied().unwrap_or(next));
        }
        reach = reach.saturating_mul(4);
    }
}

/// One entry; `None` when there is none of this number (any more).
pub(crate) fn entry(
    journal: &dyn Journal,
    log: LogId,
    seq: Seq,
) -> Result<Option<Entry>, ReadError> {
    let mut found = None;
    match scan(journal, log, seq, seq + 1, |entry| {
        found = Some(entry).filter(|entry| entry.header.seq == seq);
        false
    }) {
        Err(ReadError::Trimmed { .. }) => Ok(None),
        other => other.map(|()| found),
    }
}

/// Calls `each` for the entries from `from` up to before `next`, until it answers `false`.
fn scan(
    journal: &dyn Journal,
    log: LogId,
    mut from: Seq,
    next: Seq,
    mut each: impl FnMut(Entry) -> bool,
) -> Result<(), ReadError> {
    while from < next {
        let records = journal.read(log, from, READ_BYTES)?;
        let before = from;
        for record in records {
            for entry in entries(record.entries) {
                let entry = entry.map_err(|error| ReadError::Damaged(error.to_string()))?;
                if entry.header.seq >= from && entry.header.seq < next && !each(entry) {
                    return Ok(());
                }
            }
            from = from.max(record.first + u64::from(record.count));
        }
        if from == before {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
