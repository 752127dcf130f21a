//! The bytes of one log entry, which are also the bytes of the frame that is published and the frame that is delivered.
//!
//! ```text
//! offset  size
//!      0     4  length of the whole entry, this header included (all integers are little-endian)
//!      4     1  kind
//!      5     1  flags
//!      6     1  length of the name in bytes
//!      7     1  zero
//!      8     8  sequence number
//!     16     8  time, microseconds since the Unix epoch
//!     24     8  sender number: the member's incarnation, or for an outside sender the number of its first message
//!     32     8  counter of the sender
//!     40     4  epoch
//!     44     4  zero (room for a reply's length)
//!     48        name, then body
//! ```
//! A sender leaves kind `PUBLISH`, the number, time, sender number and epoch zero; the coordinator overwrites them in place.

use bytes::{Bytes, BytesMut};

use crate::ids::{Door, Epoch, Incarnation, LeaveReason, Seq};
use crate::limits::{CODE_BYTES_MAX, FILE_NAME_BYTES_MAX, NAME_BYTES_MAX, OPEN_MAX};

/// Bytes before the name.
pub const HEADER_BYTES: usize = 48;

/// What an entry is; the code is its frame kind on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Not in any log: a message on its way to the coordinator.
    Publish = 0x20,
    /// A message.
    Message = 0xA0,
    /// A member joined; its body says through which door.
    Joined = 0xA1,
    /// A member left; its body says why and how far it had come.
    Left = 0xA2,
    /// A coordinator took over: everything after it is of the epoch that it names.
    Epoch = 0xA3,
    /// A file was told to the group.
    File = 0xA4,
}

impl Kind {
    /// The kind with this code.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0x20 => Some(Self::Publish),
            0xA0 => Some(Self::Message),
            0xA1 => Some(Self::Joined),
            0xA2 => Some(Self::Left),
            0xA3 => Some(Self::Epoch),
            0xA4 => Some(Self::File),
            _ => None,
        }
    }

    /// Whether somebody said it, so that it is asked for and has a receipt: a message or a file.
    pub const fn is_said(self) -> bool {
        matches!(self, Self::Message | Self::File)
    }
}

/// The sender is no member of the group.
pub const FLAG_OUTSIDE: u8 = 1;
/// On a publish: the sender wants the receipt. Never in a log.
pub const FLAG_RECEIPT: u8 = 2;
/// On a delivery: the member was given this one before and had not finished it. Never in a log.
pub const FLAG_AGAIN: u8 = 4;

/// On a publish: it tells the group a file, and becomes a [`Kind::File`] entry. Never in a log.
pub const FLAG_FILE: u8 = 8;

/// Why bytes are not a well-formed entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The length field is below the header's or above the limit.
    #[error("bad length {0}")]
    Length(u32),
    /// An unknown kind, or one that may not stand here.
    #[error("bad kind {0:#04x}")]
    Kind(u8),
    /// A name that is too long, not UTF-8 or longer than the entry.
    #[error("bad name")]
    Name,
    /// A body that is not what its kind says.
    #[error("bad body")]
    Body,
    /// Fewer bytes than the length says.
    #[error("cut short")]
    Short,
}

/// The fields of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the whole entry.
    pub len: u32,
    /// What it is.
    pub kind: Kind,
    /// See the `FLAG_` constants.
    pub flags: u8,
    /// Bytes of the name.
    pub name_len: u8,
    /// Its number.
    pub seq: Seq,
    /// Microseconds since the Unix epoch.
    pub time_us: u64,
    /// Member's incarnation or number of the outside sender's first message.
    pub sender: u64,
    /// The sender's own count, for retries.
    pub counter: u64,
    /// The coordinator's epoch.
    pub epoch: Epoch,
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |chunk| u32::from_le_bytes(*chunk))
}

#[inline]
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

impl Header {
    /// Reads the header at the beginning of `bytes`.
    ///
    /// # Errors
    /// [`EntryError`] where the fields contradict each other; whether the whole entry is there is not looked at.
    #[inline]
    pub fn read(bytes: &[u8]) -> Result<Self, EntryError> {
        // As long as it is known to be, the fields need no look at the length each.
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(EntryError::Short);
        };
        let len = u32_at(bytes, 0);
        let kind = Kind::from_code(bytes[4]).ok_or(EntryError::Kind(bytes[4]))?;
        let name_len = bytes[6];
        if (len as usize) < HEADER_BYTES {
            return Err(EntryError::Length(len));
        }
        if usize::from(name_len) > NAME_BYTES_MAX
            || HEADER_BYTES + usize::from(name_len) > len as usize
        {
            return Err(EntryError::Name);
        }
        Ok(Self {
            len,
            kind,
            flags: bytes[5],
            name_len,
            seq: u64_at(bytes, 8),
            time_us: u64_at(bytes, 16),
            sender: u64_at(bytes, 24),
            counter: u64_at(bytes, 32),
            epoch: u32_at(bytes, 40),
        })
    }

    /// The header's bytes.
    pub fn write(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&self.len.to_le_bytes());
        bytes[4] = self.kind as u8;
        bytes[5] = self.flags;
        bytes[6] = self.name_len;
        bytes[8..16].copy_from_slice(&self.seq.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.time_us.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.sender.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.counter.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.epoch.to_le_bytes());
        bytes
    }

    /// The number of the member's stay through which the message was published; `None` from outside.
    pub const fn publisher(&self) -> Option<Incarnation> {
        if self.flags & FLAG_OUTSIDE == 0 { Some(Incarnation(self.sender)) } else { None }
    }
}

/// Appends one entry to `out`; the header's `len` and `name_len` are filled in here.
///
/// # Panics
/// When `name` is longer than [`NAME_BYTES_MAX`]: names are made by [`crate::Name`], which cannot be.
pub fn write(out: &mut BytesMut, mut header: Header, name: &str, body: &[u8]) {
    assert!(name.len() <= NAME_BYTES_MAX, "a name longer than a Name can be");
    header.name_len = name.len() as u8;
    header.len = u32::try_from(HEADER_BYTES + name.len() + body.len())
        .expect("bodies are limited to far less than 4 GiB");
    out.extend_from_slice(&header.write());
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(body);
}

/// One entry, whole, sharing its bytes with the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its header.
    pub header: Header,
    bytes: Bytes,
}

impl Entry {
    /// Splits the first entry off `bytes`, which must hold it whole.
    ///
    /// # Errors
    /// [`EntryError`] when it is not one; `bytes` is then untouched.
    pub fn split(bytes: &mut Bytes) -> Result<Self, EntryError> {
        let header = Header::read(bytes)?;
        if bytes.len() < header.len as usize {
            return Err(EntryError::Short);
        }
        let end = HEADER_BYTES + usize::from(header.name_len);
        std::str::from_utf8(&bytes[HEADER_BYTES..end]).map_err(|_| EntryError::Name)?;
        Ok(Self { header, bytes: bytes.split_to(header.len as usize) })
    }

    /// The sender's, joiner's or leaver's name; empty on an epoch entry.
    pub fn name(&self) -> &str {
        std::str::from_utf8(
            &self.bytes[HEADER_BYTES..HEADER_BYTES + usize::from(self.header.name_len)],
        )
        .expect("an Entry's name was checked when it was split off")
    }

    /// What follows the name.
    pub fn body(&self) -> Bytes {
        self.bytes.slice(HEADER_BYTES + usize::from(self.header.name_len)..)
    }

    /// The whole entry as it stands in the log.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// The entries in `bytes`, in order; ends after the first error.
pub fn entries(mut bytes: Bytes) -> impl Iterator<Item = Result<Entry, EntryError>> {
    let mut failed = false;
    std::iter::from_fn(move || {
        if failed || bytes.is_empty() {
            return None;
        }
        let entry = Entry::split(&mut bytes);
        failed = entry.is_err();
        Some(entry)
    })
}

/// Body of a `joined` entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinedBody {
    /// Through which door.
    pub door: Door,
    /// Stays a member, however long it is away.
    pub durable: bool,
}

impl JoinedBody {
    /// Its two bytes: door, then 1 for durable.
    pub const fn write(self) -> [u8; 2] {
        [self.door as u8, self.durable as u8]
    }

    /// Reads it; bytes after the known ones are skipped.
    ///
    /// # Errors
    /// [`EntryError::Body`].
    pub fn read(body: &[u8]) -> Result<Self, EntryError> {
        let [door, durable, ..] = *body else { return Err(EntryError::Body) };
        Ok(Self { door: Door::from_code(door).ok_or(EntryError::Body)?, durable: durable == 1 })
    }
}

/// Body of a `left` entry: how far the leaver had come, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftBody {
    /// Why it left.
    pub reason: LeaveReason,
    /// Its program had confirmed up to here, apart from `open`.
    pub acked: Seq,
    /// Its host had taken up to here.
    pub reached: Seq,
    /// Numbers up to `acked` that it was still at work on.
    pub open: Vec<Seq>,
}

impl LeftBody {
    /// Reason (1), acked (8), reached (8), count of open ones (1), each open one (8).
    pub fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(18 + 8 * self.open.len());
        out.push(self.reason as u8);
        out.extend_from_slice(&self.acked.to_le_bytes());
        out.extend_from_slice(&self.reached.to_le_bytes());
        out.push(u8::try_from(self.open.len()).expect("at most OPEN_MAX are open"));
        self.open.iter().for_each(|seq| out.extend_from_slice(&seq.to_le_bytes()));
        out
    }

    /// Reads it; bytes after the known ones are skipped.
    ///
    /// # Errors
    /// [`EntryError::Body`].
    pub fn read(body: &[u8]) -> Result<Self, EntryError> {
        if body.len() < 18 {
            return Err(EntryError::Body);
        }
        let count = usize::from(body[17]);
        if count > OPEN_MAX || body.len() < 18 + 8 * count {
            return Err(EntryError::Body);
        }
        Ok(Self {
            reason: LeaveReason::from_code(body[0]).ok_or(EntryError::Body)?,
            acked: u64_at(body, 1),
            reached: u64_at(body, 9),
            open: (0..count).map(|i| u64_at(body, 18 + 8 * i)).collect(),
        })
    }
}

/// A run of whole publish frames of one connection, checked for form: the only way in for messages.
#[derive(Debug)]
pub struct Run {
    bytes: BytesMut,
    count: u32,
}

impl Run {
    /// Splits the publish frames off the beginning of `buffer`, as many as are there whole; stops at the first frame of
    /// another kind (its fifth byte) and at a part of one. `None` when there is none.
    ///
    /// # Errors
    /// [`EntryError`] when the first frame that is left is a publish that is not well-formed, or longer than the longest name
    /// and a body of `body_bytes_max` can make it; what came before it has not been split off. A body that is only just too
    /// long is let through: the group refuses that message alone.
    pub fn split(buffer: &mut BytesMut, body_bytes_max: usize) -> Result<Option<Self>, EntryError> {
        let (mut at, mut count) = (0, 0);
        while buffer.len() >= at + 5 && buffer[at + 4] == Kind::Publish as u8 {
            let len = u32_at(buffer, at);
            let len_max = HEADER_BYTES + NAME_BYTES_MAX + body_bytes_max;
            let bad = if (len as usize) < HEADER_BYTES || len as usize > len_max {
                Some(EntryError::Length(len))
            } else if buffer.len() < at + len as usize {
                break;
            } else {
                Self::check(&buffer[at..at + len as usize]).err()
            };
            match bad {
                Some(error) if count == 0 => return Err(error),
                Some(_) => break,
                None => (at, count) = (at + len as usize, count + 1),
            }
        }
        Ok((count > 0).then(|| Self { bytes: buffer.split_to(at), count }))
    }

    fn check(frame: &[u8]) -> Result<(), EntryError> {
        let header = Header::read(frame)?;
        let name = &frame[HEADER_BYTES..HEADER_BYTES + usize::from(header.name_len)];
        std::str::from_utf8(name).map_err(|_| EntryError::Name)?;
        let body = &frame[HEADER_BYTES + name.len()..header.len as usize];
        if header.flags & FLAG_FILE != 0 && !tells_a_file(body) {
            return Err(EntryError::Body);
        }
        Ok(())
    }

    /// A run of one message that the node writes itself, for doors whose clients do not speak frames.
    pub fn message(name: &str, counter: u64, receipt: bool, body: &[u8]) -> Self {
        let mut bytes = BytesMut::with_capacity(HEADER_BYTES + name.len() + body.len());
        write_publish(&mut bytes, name, counter, receipt, body);
        Self { bytes, count: 1 }
    }

    /// How many messages it holds.
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// How many bytes it holds.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never: a run has at least one message.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Its bytes, for the coordinator to stamp.
    pub(crate) fn into_bytes(self) -> BytesMut {
        self.bytes
    }
}

/// Whether a body is one of a [`Kind::File`] entry: size (8 bytes), hash (32), the name's length (2), the name: not empty, one
/// clean line.
fn tells_a_file(body: &[u8]) -> bool {
    const BEFORE_NAME: usize = 42;
    let Some((before, name)) = body.split_at_checked(BEFORE_NAME) else { return false };
    let len = usize::from(u16::from_le_bytes([before[40], before[41]]));
    let name = name.get(..len).and_then(|name| std::str::from_utf8(name).ok());
    name.is_some_and(|name| {
        !name.is_empty() && name.len() <= FILE_NAME_BYTES_MAX && !name.chars().any(char::is_control)
    })
}

/// Appends a publish frame to `out`.
pub fn write_publish(out: &mut BytesMut, name: &str, counter: u64, receipt: bool, body: &[u8]) {
    publish(out, name, counter, if receipt { FLAG_RECEIPT } else { 0 }, body);
}

/// Appends a publish frame that tells a file to `out`.
pub fn write_file(out: &mut BytesMut, name: &str, counter: u64, receipt: bool, body: &[u8]) {
    publish(out, name, counter, FLAG_FILE | if receipt { FLAG_RECEIPT } else { 0 }, body);
}

fn publish(out: &mut BytesMut, name: &str, counter: u64, flags: u8, body: &[u8]) {
    let header = Header {
        len: 0,
        kind: Kind::Publish,
        flags,
        name_len: 0,
        seq: 0,
        time_us: 0,
        sender: 0,
        counter,
        epoch: 0,
    };
    write(out, header, name, body);
}

/// Overwrites in the frame at the beginning of `frame` what the coordinator decides.
pub(crate) fn stamp(
    frame: &mut [u8],
    kind: Kind,
    flags: u8,
    seq: Seq,
    time_us: u64,
    sender: u64,
    epoch: Epoch,
) {
    frame[4] = kind as u8;
    frame[5] = flags;
    frame[7] = 0;
    frame[8..16].copy_from_slice(&seq.to_le_bytes());
    frame[16..24].copy_from_slice(&time_us.to_le_bytes());
    frame[24..32].copy_from_slice(&sender.to_le_bytes());
    frame[40..44].copy_from_slice(&epoch.to_le_bytes());
    frame[44..48].fill(0);
}

/// A code of a failed message: short, one clean line, so that it can be shown anywhere.
pub fn code_is_clean(code: &str) -> bool {
    !code.is_empty() && code.len() <= CODE_BYTES_MAX && !code.chars().any(char::is_control)
}
