//! The bytes of a segment file: records of a header, a payload and a trailer.
//!
//! A segment is made at its full size, filled with zeros, and records are written one behind the other
//! from its beginning. Every record begins at a multiple of 128 and takes a multiple of 128 bytes; all
//! numbers are little-endian.
//!
//! ```text
//! header, 128 bytes: never straddles a 512-byte sector, so that a power cut leaves it whole or zero
//!    0  u32  magic "TJR1"
//!    4  u8   version of this layout: 1
//!    5  u8   kind, see below
//!    6  u16  flags: 1 = a copy: moved forward from an older segment, or a roster's second; it has the old id
//!    8  16   log id
//!   24  u32  epoch
//!   28  u32  count
//!   32  u64  first
//!   40  u32  length of the notes
//!   44  u32  length of the entries
//!   48  u64  commit: which group commit wrote it; rises through the whole store
//!   56  u64  id: the record's own number; rises in the order of the calls, kept when it is moved
//!   64  u32  where the record begins, in units of 128 bytes
//!   68  u32  where its commit begins, in units of 128 bytes
//!   72  u64  time, microseconds since 1970
//!   80  u32  CRC-32 of the payload
//!   84  40   zero
//!  124  u32  CRC-32 of the 124 bytes before
//! payload: notes, then entries
//! zeros up to the trailer
//! trailer, the record's last 56 bytes: names a record whose header is damaged
//!    0  u32  magic "TJT1"
//!    4  u8   kind, then 3 zero bytes
//!    8  16   log id
//!   24  u64  first
//!   32  u64  id
//!   40  u32  count
//!   44  u32  where the record begins, in units of 128 bytes
//!   48  u32  CRC-32 of the 48 bytes before
//!   52  u32  zero
//! ```
//!
//! All CRCs but those of a `Head` begin with the store's salt instead of zero, so that nobody can send
//! entries that look like records.
//!
//! | kind | log id | epoch | count | first | notes | entries |
//! |---|---|---|---|---|---|---|
//! | 1 Head: begins a segment | the salt | | the segment's number | its size | | |
//! | 2 Entries: a batch | log | epoch | count | first | notes | entries |
//! | 3 Snapshot | log | epoch | | `at` | | state |
//! | 4 Trim: where the log stands | log | epoch | | first kept | u64: next | |
//! | 5 Delete: older records of the log do not count | log | | the segment it was first written to | | | |
//! | 6 Put: a catalog record | the key's first bytes | | | hash of the key | u64 version, key | value |
//! | 7 Erase: the catalog record is gone | as Put | | as Delete | as Put | as Put | |
//! | 8 Roster: which older segments there are | | | | number of the segment it is in | | u32 each |
//! | 9 Seal: ends a segment; the next one exists | | | | | | |
//! | 10 Census: whose records a sealed segment holds | | | the segment's number | | see `census` | |
//!
//! A `Head` stands twice in its record: header and trailer say the same, so that either may be damaged.

use crate::LogId;

/// Records begin at multiples of this.
pub(crate) const UNIT: u64 = 128;
/// What a power cut writes whole or not at all.
pub(crate) const SECTOR: u64 = 512;
pub(crate) const HEADER: usize = 128;
pub(crate) const TRAILER: usize = 56;
/// The size of a record without payload.
pub(crate) const BARE: u64 = record_size(0);

const HEADER_MAGIC: u32 = u32::from_le_bytes(*b"TJR1");
const TRAILER_MAGIC: u32 = u32::from_le_bytes(*b"TJT1");
const VERSION: u8 = 1;

/// Flag: see the module.
pub(crate) const MOVED: u16 = 1;

/// What a record is; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Head = 1,
    Entries,
    Snapshot,
    Trim,
    Delete,
    Put,
    Erase,
    Roster,
    Seal,
    Census,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        const ALL: [Kind; 10] = [
            Kind::Head,
            Kind::Entries,
            Kind::Snapshot,
            Kind::Trim,
            Kind::Delete,
            Kind::Put,
            Kind::Erase,
            Kind::Roster,
            Kind::Seal,
            Kind::Census,
        ];
        ALL.into_iter().find(|kind| *kind as u8 == byte)
    }

    /// Whether it belongs to no log and no catalog key.
    pub const fn is_of_the_store(self) -> bool {
        matches!(self, Self::Head | Self::Roster | Self::Seal | Self::Census)
    }

    /// Whether its payload is small and needed at opening.
    pub const fn is_small(self) -> bool {
        !matches!(self, Self::Entries | Self::Snapshot)
    }
}

/// No number, commit or id comes near this: beyond it is nothing that this program wrote, and sums could overflow.
const NUMBER_MAX: u64 = 1 << 62;

/// The whole record's size for a payload of this length.
pub(crate) const fn record_size(payload: u64) -> u64 {
    (HEADER as u64 + payload + TRAILER as u64).next_multiple_of(UNIT)
}

/// A record's header; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub kind: Kind,
    pub flags: u16,
    pub log: [u8; 16],
    pub epoch: u32,
    pub count: u32,
    pub first: u64,
    pub len_notes: u32,
    pub len_entries: u32,
    pub commit: u64,
    pub id: u64,
    pub at: u32,
    pub commit_at: u32,
    pub time_us: u64,
    pub crc: u32,
}

impl Header {
    /// A header with nothing in it but its kind and log.
    pub const fn new(kind: Kind, log: [u8; 16]) -> Self {
        Self {
            kind,
            flags: 0,
            log,
            epoch: 0,
            count: 0,
            first: 0,
            len_notes: 0,
            len_entries: 0,
            commit: 0,
            id: 0,
            at: 0,
            commit_at: 0,
            time_us: 0,
            crc: 0,
        }
    }

    /// Length of notes and entries.
    pub const fn payload(&self) -> u64 {
        self.len_notes as u64 + self.len_entries as u64
    }

    /// The whole record's size.
    pub const fn size(&self) -> u64 {
        record_size(self.payload())
    }

    /// Where it begins in the file, in bytes.
    pub const fn offset(&self) -> u64 {
        self.at as u64 * UNIT
    }

    /// What the trailer repeats.
    pub const fn identity(&self) -> Identity {
        Identity {
            kind: self.kind,
            log: LogId(self.log),
            first: self.first,
            id: self.id,
            count: self.count,
            at: self.at,
        }
    }

    /// The header's bytes.
    pub fn encode(&self, salt: u32) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        put(&mut out, 0, &HEADER_MAGIC.to_le_bytes());
        put(&mut out, 4, &[VERSION, self.kind as u8]);
        put(&mut out, 6, &self.flags.to_le_bytes());
        put(&mut out, 8, &self.log);
        put(&mut out, 24, &self.epoch.to_le_bytes());
        put(&mut out, 28, &self.count.to_le_bytes());
        put(&mut out, 32, &self.first.to_le_bytes());
        put(&mut out, 40, &self.len_notes.to_le_bytes());
        put(&mut out, 44, &self.len_entries.to_le_bytes());
        put(&mut out, 48, &self.commit.to_le_bytes());
        put(&mut out, 56, &self.id.to_le_bytes());
        put(&mut out, 64, &self.at.to_le_bytes());
        put(&mut out, 68, &self.commit_at.to_le_bytes());
        put(&mut out, 72, &self.time_us.to_le_bytes());
        put(&mut out, 80, &self.crc.to_le_bytes());
        let crc = crc(self.seed(salt), &[&out[..124]]);
        put(&mut out, 124, &crc.to_le_bytes());
        out
    }

    const fn seed(&self, salt: u32) -> u32 {
        if matches!(self.kind, Kind::Head) { 0 } else { salt }
    }

    /// Reads a header; `None` when these bytes are none.
    pub fn decode(bytes: &[u8; HEADER], salt: u32) -> Option<Self> {
        if u32_at(bytes, 0) != HEADER_MAGIC || bytes[4] != VERSION {
            return None;
        }
        let mut header = Self::new(Kind::from_byte(bytes[5])?, bytes_at(bytes, 8));
        if u32_at(bytes, 124) != crc(header.seed(salt), &[&bytes[..124]]) {
            return None;
        }
        header.flags = u16::from_le_bytes(bytes_at(bytes, 6));
        header.epoch = u32_at(bytes, 24);
        header.count = u32_at(bytes, 28);
        header.first = u64_at(bytes, 32);
        header.len_notes = u32_at(bytes, 40);
        header.len_entries = u32_at(bytes, 44);
        header.commit = u64_at(bytes, 48);
        header.id = u64_at(bytes, 56);
        header.at = u32_at(bytes, 64);
        header.commit_at = u32_at(bytes, 68);
        header.time_us = u64_at(bytes, 72);
        header.crc = u32_at(bytes, 80);
        let is_possible = header.commit <= NUMBER_MAX && header.identity().is_possible();
        is_possible.then_some(header)
    }
}

/// Which record it is: what a trailer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub kind: Kind,
    pub log: LogId,
    pub first: u64,
    pub id: u64,
    pub count: u32,
    pub at: u32,
}

impl Identity {
    /// The trailer's bytes.
    pub fn encode(&self, salt: u32) -> [u8; TRAILER] {
        let mut out = [0; TRAILER];
        put(&mut out, 0, &TRAILER_MAGIC.to_le_bytes());
        put(&mut out, 4, &[self.kind as u8]);
        put(&mut out, 8, &self.log.0);
        put(&mut out, 24, &self.first.to_le_bytes());
        put(&mut out, 32, &self.id.to_le_bytes());
        put(&mut out, 40, &self.count.to_le_bytes());
        put(&mut out, 44, &self.at.to_le_bytes());
        let crc = crc(salt, &[&out[..48]]);
        put(&mut out, 48, &crc.to_le_bytes());
        out
    }

    /// Reads a trailer; `None` when these bytes are none.
    pub fn decode(bytes: &[u8; TRAILER], salt: u32) -> Option<Self> {
        if u32_at(bytes, 0) != TRAILER_MAGIC || u32_at(bytes, 48) != crc(salt, &[&bytes[..48]]) {
            return None;
        }
        let identity = Self {
            kind: Kind::from_byte(bytes[4])?,
            log: LogId(bytes_at(bytes, 8)),
            first: u64_at(bytes, 24),
            id: u64_at(bytes, 32),
            count: u32_at(bytes, 40),
            at: u32_at(bytes, 44),
        };
        identity.is_possible().then_some(identity)
    }

    /// Whether its numbers can be what they say; the hash of a key can be anything.
    const fn is_possible(&self) -> bool {
        self.id <= NUMBER_MAX
            && (self.first <= NUMBER_MAX || matches!(self.kind, Kind::Put | Kind::Erase))
    }
}

/// CRC-32 of the pieces, beginning with `seed`.
pub(crate) fn crc(seed: u32, pieces: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    pieces.iter().for_each(|piece| hasher.update(piece));
    hasher.finalize()
}

/// A catalog key as `Put` and `Erase` headers carry it: its first bytes, and a hash of it all.
pub(crate) fn key_marks(key: &str) -> ([u8; 16], u64) {
    let mut begin = [0; 16];
    let len = key.len().min(16);
    begin[..len].copy_from_slice(&key.as_bytes()[..len]);
    // FNV-1a: it has to stay the same for ever.
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (begin, hash)
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    out[at..at + bytes.len()].copy_from_slice(bytes);
}

/// `N` bytes at an offset; the caller has looked at the length.
pub(crate) fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the slice has N bytes")
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes_at(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_and_nothing_else() {
        let mut header = Header::new(Kind::Entries, *b"0123456789abcdef");
        (header.epoch, header.count, header.first) = (7, 3, NUMBER_MAX);
        (header.len_notes, header.len_entries, header.commit, header.id) = (10, 200, 5, 6);
        (header.at, header.commit_at, header.time_us, header.crc) = (12, 11, 99, 0xdead_beef);
        let bytes = header.encode(42);
        assert_eq!(Header::decode(&bytes, 42), Some(header));
        assert_eq!(Header::decode(&bytes, 43), None);
        let trailer = header.identity().encode(42);
        assert_eq!(Identity::decode(&trailer, 42), Some(header.identity()));
        for at in 0..HEADER {
            let mut flipped = bytes;
            flipped[at] ^= 4;
            assert_eq!(Header::decode(&flipped, 42), None, "byte {at}");
        }
        for (first, commit, id) in [(NUMBER_MAX + 1, 5, 6), (1, u64::MAX, 6), (1, 5, u64::MAX)] {
            let header = Header { first, commit, id, ..header };
            assert_eq!(Header::decode(&header.encode(42), 42), None, "its checksum is right");
        }
        assert_eq!((record_size(0), record_size(72), record_size(73)), (256, 256, 384));
    }
}
