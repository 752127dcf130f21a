//! Prints entries of a log, and what is said in their place, for people or for programs.

use tertulia_client::{Entry, Seq};
use tertulia_wire::json::EntryLine;
use tertulia_wire::text::{entry_line, gap_line, reset_line};

use super::{now_us, offset_minutes};
use crate::failure::Failure;
use crate::output::Output;

/// One entry; internal ones print nothing.
pub fn entry(group: &str, entry: &Entry, out: &mut Output) -> Result<(), Failure> {
    if out.json {
        return EntryLine::from_entry(group, entry).map_or(Ok(()), |line| out.object(&line));
    }
    let offset = offset_minutes(entry.header.time_us);
    entry_line(entry, offset).map_or(Ok(()), |line| out.text(&line))
}

/// Numbers that cannot be had.
pub fn gap(group: &str, first: Seq, last: Seq, out: &mut Output) -> Result<(), Failure> {
    out.either(&EntryLine::gap(group, first, last, now_us()), || gap_line(first, last))
}

/// The log is another one.
pub fn reset(group: &str, next: Seq, out: &mut Output) -> Result<(), Failure> {
    out.either(&EntryLine::reset(group, next, now_us()), || reset_line(next))
}
