//! Reading through one segment: its records, what is damaged, and where it ends.
//!
//! Telling a torn end from damage. What is being written when the power goes was never acknowledged and
//! may be cut off; anything else that cannot be read must be named. New records go where there are zeros,
//! and a sector of 512 bytes is written whole or not at all, so:
//!
//! - a header that is neither valid nor zero is damage: a header lies within one sector;
//! - a payload with a wrong checksum is damage unless some sector's share of the record is all zero;
//! - whatever it is, it is damage where a valid record follows whose commit began behind it: that commit
//!   began after an earlier sync had returned;
//! - and it is damage where the store was closed properly and its marker says that records were there.
//!
//! What this cannot tell: after a crash (not after a close), damage to the very last commit's payload
//! where that payload has whole sectors of zeros of its own.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::disk::read_at;
use super::layout::{
    BARE, HEADER, Header, Identity, Kind, SECTOR, TRAILER, UNIT, bytes_at, crc, record_size,
};
use super::segment::{Loc, Segment};

const WINDOW: usize = 256 << 10;

/// A valid record. The payload is there for small kinds only.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub header: Header,
    pub segment: Arc<Segment>,
    pub payload: Bytes,
}

impl Found {
    pub fn loc(&self) -> Loc {
        Loc::of(&self.segment, &self.header)
    }
}

/// Something that cannot be read. Without an identity nothing tells what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub segment: u32,
    pub offset: u64,
    pub what: &'static str,
    pub identity: Option<Identity>,
    /// The record is whole all the same (its trailer is what is damaged).
    pub harmless: bool,
}

/// How to go about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mode {
    /// The store's last segment: it may end without a seal, and torn.
    pub last: bool,
    /// Check every payload and trailer, not only the small ones.
    pub full: bool,
    /// Where the records end, if the store was closed properly.
    pub clean_end: Option<u64>,
}

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Scanned {
    pub found: Vec<Found>,
    pub damages: Vec<Damage>,
    /// Behind the last record.
    pub end: u64,
    pub sealed: bool,
    /// A torn record was cut off at `end`.
    pub torn: bool,
}

/// Reads through `segment`, whose `Head` has been checked.
pub(crate) fn scan(segment: &Arc<Segment>, mode: Mode) -> io::Result<Scanned> {
    let window = Window { segment, bytes: Vec::new(), from: 0 };
    let mut scanner = Scanner { segment, window, mode, out: Scanned::default() };
    let mut at = BARE;
    while let Some(next) = scanner.step(at)? {
        at = next;
    }
    Ok(scanner.out)
}

/// Where the bytes that are not zero end, from `from` on; `None` when all are zero.
pub(crate) fn dirty_end(segment: &Arc<Segment>, from: u64) -> io::Result<Option<u64>> {
    let mut window = Window { segment, bytes: Vec::new(), from: 0 };
    let (mut at, mut dirty) = (from, None);
    while at < segment.bytes {
        let len = (WINDOW as u64).min(segment.bytes - at) as usize;
        let bytes = window.get(at, len)?;
        if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
            dirty = Some(at + last as u64 + 1);
        }
        at += len as u64;
    }
    Ok(dirty)
}

/// A part of the file, read in large pieces.
struct Window<'a> {
    segment: &'a Segment,
    bytes: Vec<u8>,
    from: u64,
}

impl Window<'_> {
    fn get(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        let inside = at >= self.from && at + len as u64 <= self.from + self.bytes.len() as u64;
        if !inside {
            let want = (len.max(WINDOW) as u64).min(self.segment.bytes - at);
            self.bytes.resize(want as usize, 0);
            self.from = at;
            read_at(&self.segment.file, &mut self.bytes, at)?;
        }
        let begin = (at - self.from) as usize;
        Ok(&self.bytes[begin..begin + len])
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

struct Scanner<'a> {
    segment: &'a Arc<Segment>,
    window: Window<'a>,
    mode: Mode,
    out: Scanned,
}

impl Scanner<'_> {
    /// Looks at what is at `at`; answers where to go on.
    fn step(&mut self, at: u64) -> io::Result<Option<u64>> {
        self.out.end = at;
        if self.mode.clean_end.is_some_and(|end| at >= end) {
            return Ok(None);
        }
        if at + BARE > self.segment.bytes {
            if !self.mode.last || self.mode.clean_end.is_some() {
                self.damage(at, "the segment's seal is missing", None);
            }
            return Ok(None);
        }
        let raw: [u8; HEADER] = bytes_at(self.window.get(at, HEADER)?, 0);
        match self.header(at, &raw) {
            Some(header) => self.record(at, header),
            None if is_zero(&raw) => self.zeros(at),
            None => self.unreadable(at),
        }
    }

    fn header(&self, at: u64, raw: &[u8; HEADER]) -> Option<Header> {
        Header::decode(raw, self.segment.seed).filter(|header| {
            header.offset() == at
                && header.kind != Kind::Head
                && at + header.size() <= self.segment.bytes
        })
    }

    fn record(&mut self, at: u64, header: Header) -> io::Result<Option<u64>> {
        let next = at + header.size();
        let mut payload = Bytes::new();
        if self.mode.full || self.mode.last || header.kind.is_small() {
            let bytes = self.window.get(at + HEADER as u64, header.payload() as usize)?;
            if crc(self.segment.seed, &[bytes]) != header.crc {
                if self.could_be_torn(at, header.size())? {
                    self.out.torn = true;
                    return Ok(None);
                }
                self.damage(at, "wrong checksum", Some(header.identity()));
                return Ok(Some(next));
            }
            if header.kind.is_small() {
                payload = Bytes::copy_from_slice(bytes);
            }
        }
        if self.mode.full && self.trailer_at(next)? != Some(header.identity()) {
            self.damage(at, "wrong trailer", Some(header.identity()));
            self.out.damages.last_mut().expect("it was just added").harmless = true;
        }
        if header.kind == Kind::Seal {
            (self.out.sealed, self.out.end) = (true, next);
            return Ok(None);
        }
        self.out.found.push(Found { header, segment: Arc::clone(self.segment), payload });
        Ok(Some(next))
    }

    /// Zeros where a record would begin: the end, or a record that is gone.
    fn zeros(&mut self, at: u64) -> io::Result<Option<u64>> {
        let may_end = self.mode.last && self.mode.clean_end.is_none();
        if may_end && !self.is_followed(at, at)? {
            return Ok(None);
        }
        self.gone(at, "zeros where a record was")
    }

    /// Neither a header nor zeros.
    fn unreadable(&mut self, at: u64) -> io::Result<Option<u64>> {
        let may_end = self.mode.last && self.mode.clean_end.is_none();
        // A record always has a trailer that is not zero: a lone spot in unused space is nothing.
        let behind = at + HEADER as u64;
        if may_end && dirty_end(self.segment, behind)?.is_none() {
            return Ok(None);
        }
        self.gone(at, "damaged header")
    }

    /// A record whose header is lost: its trailer may name it.
    fn gone(&mut self, at: u64, what: &'static str) -> io::Result<Option<u64>> {
        let mut end = at + record_size(0);
        while end <= self.segment.bytes {
            match self.trailer_at(end)? {
                Some(identity) if u64::from(identity.at) * UNIT == at => {
                    self.damage(at, what, Some(identity));
                    if identity.kind == Kind::Seal {
                        (self.out.sealed, self.out.end) = (true, end);
                        return Ok(None);
                    }
                    return Ok(Some(end));
                }
                _ => end += UNIT,
            }
        }
        self.damage(at, what, None);
        Ok(None)
    }

    fn damage(&mut self, offset: u64, what: &'static str, identity: Option<Identity>) {
        let harmless = identity.is_some_and(|identity| identity.kind == Kind::Seal);
        let segment = self.segment.number;
        self.out.damages.push(Damage { segment, offset, what, identity, harmless });
    }

    fn trailer_at(&mut self, end: u64) -> io::Result<Option<Identity>> {
        let bytes = self.window.get(end - TRAILER as u64, TRAILER)?;
        Ok(Identity::decode(&bytes_at(bytes, 0), self.segment.seed))
    }

    fn could_be_torn(&mut self, at: u64, size: u64) -> io::Result<bool> {
        if !self.mode.last || self.mode.clean_end.is_some() || !self.has_zero_sector(at, size)? {
            return Ok(false);
        }
        Ok(!self.is_followed(at, at + size - UNIT)?)
    }

    fn has_zero_sector(&mut self, at: u64, size: u64) -> io::Result<bool> {
        let mut from = at;
        while from < at + size {
            let to = ((from / SECTOR + 1) * SECTOR).min(at + size);
            if is_zero(self.window.get(from, (to - from) as usize)?) {
                return Ok(true);
            }
            from = to;
        }
        Ok(false)
    }

    /// Whether a valid record behind `from` belongs to a commit that began behind `at`.
    fn is_followed(&mut self, at: u64, from: u64) -> io::Result<bool> {
        let mut place = from + UNIT;
        while place + BARE <= self.segment.bytes {
            let raw: [u8; HEADER] = bytes_at(self.window.get(place, HEADER)?, 0);
            let header = self.header(place, &raw);
            if header.is_some_and(|header| u64::from(header.commit_at) * UNIT > at) {
                return Ok(true);
            }
            place += UNIT;
        }
        Ok(false)
    }
}
