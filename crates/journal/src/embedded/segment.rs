//! One open segment file, and places in it.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;

use super::disk::{Disk, read_at};
use super::layout::{BARE, HEADER, Header, Kind, crc, record_size};
use crate::ReadError;

/// An open segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub number: u32,
    pub file: File,
    /// Its size, all of it reserved.
    pub bytes: u64,
    pub salt: [u8; 16],
    /// What the checksums begin with.
    pub seed: u32,
    /// Bytes of records that are still needed.
    pub live: AtomicU64,
    /// Where its records end, once it is sealed.
    pub end: AtomicU64,
    /// Never given up: something in it is damaged that was needed, and evidence is not destroyed.
    pub stuck: AtomicBool,
}

/// The file's name.
pub(crate) fn segment_name(number: u32) -> String {
    format!("{number:08}.seg")
}

/// What the store's checksums begin with.
pub(crate) fn seed_of(salt: &[u8; 16]) -> u32 {
    crc(0, &[salt])
}

impl Segment {
    /// An open file with a valid `Head`.
    pub fn new(number: u32, file: File, bytes: u64, salt: [u8; 16]) -> Arc<Self> {
        let seed = seed_of(&salt);
        let (live, end) = (AtomicU64::new(0), AtomicU64::new(BARE));
        Arc::new(Self { number, file, bytes, salt, seed, live, end, stuck: AtomicBool::new(false) })
    }

    /// Makes the file and its `Head`, durably; its zeros are written out at once if it is to be `filled`.
    pub fn create(
        disk: &Disk,
        number: u32,
        (bytes, filled): (u64, bool),
        salt: [u8; 16],
    ) -> io::Result<Arc<Self>> {
        let name = segment_name(number);
        let file = disk.allocate(&name, bytes, filled)?;
        match Self::begin(disk, &file, number, bytes, salt) {
            Ok(()) => Ok(Self::new(number, file, bytes, salt)),
            Err(error) => {
                // The first error is the one to tell; a later try needs the name.
                drop(disk.remove(&name));
                Err(error)
            }
        }
    }

    fn begin(disk: &Disk, file: &File, number: u32, bytes: u64, salt: [u8; 16]) -> io::Result<()> {
        let mut head = Header::new(Kind::Head, salt);
        (head.count, head.first) = (number, bytes);
        let mut record = head.encode(0).to_vec();
        record.resize(BARE as usize - super::layout::TRAILER, 0);
        record.extend_from_slice(&head.identity().encode(0));
        disk.write(file, &[&record], 0)?;
        disk.sync(file)?;
        disk.sync_dir()
    }

    pub fn name(&self) -> String {
        segment_name(self.number)
    }

    /// Whether so little of it is needed that it is worth moving.
    pub fn is_mostly_dead(&self) -> bool {
        !self.stuck.load(Ordering::Relaxed)
            && self.live.load(Ordering::Relaxed) * 4 < self.end.load(Ordering::Relaxed)
    }
}

/// Where a record is.
#[derive(Clone, Debug)]
pub(crate) struct Loc {
    pub segment: Arc<Segment>,
    /// In bytes.
    pub offset: u64,
    pub id: u64,
    pub len_notes: u32,
    pub len_entries: u32,
    pub crc: u32,
}

impl Loc {
    pub fn of(segment: &Arc<Segment>, header: &Header) -> Self {
        Self {
            segment: Arc::clone(segment),
            offset: header.offset(),
            id: header.id,
            len_notes: header.len_notes,
            len_entries: header.len_entries,
            crc: header.crc,
        }
    }

    pub const fn payload(&self) -> usize {
        self.len_notes as usize + self.len_entries as usize
    }

    pub const fn size(&self) -> u64 {
        record_size(self.payload() as u64)
    }

    /// Where its payload begins and ends.
    pub const fn span(&self) -> (u64, u64) {
        let from = self.offset + HEADER as u64;
        (from, from + self.payload() as u64)
    }

    pub fn is_same(&self, other: &Self) -> bool {
        self.segment.number == other.segment.number && self.offset == other.offset
    }

    /// It is needed from now on.
    pub fn enliven(&self) {
        self.segment.live.fetch_add(self.size(), Ordering::Relaxed);
    }

    /// It is not needed any more.
    pub fn kill(&self) {
        self.segment.live.fetch_sub(self.size(), Ordering::Relaxed);
    }

    /// Checks payload bytes that were read from here.
    pub fn verify(&self, payload: &[u8]) -> Result<(), ReadError> {
        if crc(self.segment.seed, &[payload]) == self.crc {
            return Ok(());
        }
        let (name, offset) = (self.segment.name(), self.offset);
        Err(ReadError::Damaged(format!("{name} at {offset}: wrong checksum")))
    }

    /// Reads and checks the payload.
    pub fn load(&self) -> Result<Bytes, ReadError> {
        let mut payload = vec![0; self.payload()];
        read_span(&self.segment, &mut payload, self.span().0)?;
        self.verify(&payload)?;
        Ok(payload.into())
    }
}

/// Reads a part of a segment that is known to have been written.
pub(crate) fn read_span(segment: &Segment, out: &mut [u8], offset: u64) -> Result<(), ReadError> {
    read_at(&segment.file, out, offset).map_err(|error| {
        let name = segment.name();
        match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                ReadError::Damaged(format!("{name} at {offset}: the file is cut short"))
            }
            _ => ReadError::Io(format!("reading {name} at {offset}: {error}")),
        }
    })
}
