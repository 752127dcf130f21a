//! Prints entries of a log, and what is said in their place, for people or for programs.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
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

/// The day of a moment, here.
pub fn day(time_us: u64) -> Date {
    let moment = i64::try_from(time_us).ok().and_then(|us| Timestamp::from_microsecond(us).ok());
    moment.unwrap_or_default().to_zoned(TimeZone::system()).date()
}

/// Says for people of which day the entries are that follow, wherever it is another one; of today's nothing is said where
/// there are no others.
pub struct Days {
    last: Date,
}

impl Days {
    /// Entries are today's until another day is said.
    pub const fn new(today: Date) -> Self {
        Self { last: today }
    }

    /// What is to be said before this entry.
    pub fn before(&mut self, entry: &Entry, out: &mut Output) -> Result<(), Failure> {
        // Internal ones print nothing, so there is nothing to be dated.
        if out.json || entry_line(entry, 0).is_none() {
            return Ok(());
        }
        self.turn(day(entry.header.time_us)).map_or(Ok(()), |line| out.text(&line))
    }

    /// `* 2026-11-26`
    fn turn(&mut self, day: Date) -> Option<String> {
        let turned = std::mem::replace(&mut self.last, day) != day;
        turned.then(|| format!("* {day}"))
    }
}

/// Numbers that cannot be had.
pub fn gap(group: &str, first: Seq, last: Seq, out: &mut Output) -> Result<(), Failure> {
    out.either(&EntryLine::gap(group, first, last, now_us()), || gap_line(first, last))
}

/// The log is another one.
pub fn reset(group: &str, next: Seq, out: &mut Output) -> Result<(), Failure> {
    out.either(&EntryLine::reset(group, next, now_us()), || reset_line(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_said_where_it_turns_and_today_only_after_another() {
        let date = |day| Date::constant(2026, 11, day);
        let said = |days: &[i8]| {
            let mut turns = Days::new(date(27));
            days.iter().map(|day| turns.turn(date(*day)).unwrap_or_default()).collect::<Vec<_>>()
        };
        assert_eq!(said(&[27, 27]), ["", ""]);
        let expected = ["* 2026-11-24", "", "* 2026-11-26", "* 2026-11-27", ""];
        assert_eq!(said(&[24, 24, 26, 27, 27]), expected);
        assert!((1969..=1970).contains(&day(0).year()), "wherever this is");
    }
}
