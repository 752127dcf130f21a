//! Bytes of notes and snapshots: little-endian integers, lists and texts with their length, read with bounds.

use bytes::BytesMut;

use crate::ids::{SecretDigest, SenderId};

/// What is stored cannot be what this program wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log cannot be read back: {0}")]
pub struct RecoverError(pub &'static str);

/// No number, counter or cursor comes near this: beyond it is nothing that this program wrote, and sums could overflow.
pub(crate) const NUMBER_MAX: u64 = 1 << 62;

const SHORT: RecoverError = RecoverError("it is cut short");

pub(crate) fn put_u64(out: &mut BytesMut, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_id(out: &mut BytesMut, id: SenderId) {
    out.extend_from_slice(&id.0);
}

pub(crate) fn put_digest(out: &mut BytesMut, digest: SecretDigest) {
    out.extend_from_slice(&digest.0);
}

pub(crate) fn put_str(out: &mut BytesMut, text: &str) {
    out.extend_from_slice(
        &u32::try_from(text.len()).expect("texts are limited to far less").to_le_bytes(),
    );
    out.extend_from_slice(text.as_bytes());
}

pub(crate) fn put_list(out: &mut BytesMut, list: &[u64]) {
    out.extend_from_slice(
        &u32::try_from(list.len()).expect("lists are limited to far less").to_le_bytes(),
    );
    list.iter().for_each(|value| put_u64(out, *value));
}

/// The number, if it can be one.
pub(crate) const fn possible(number: u64) -> Result<u64, RecoverError> {
    if number <= NUMBER_MAX { Ok(number) } else { Err(RecoverError("an impossible number")) }
}

/// Reads what the `put_` functions wrote.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], RecoverError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*head)
    }

    pub fn u8(&mut self) -> Result<u8, RecoverError> {
        Ok(self.take::<1>()?[0])
    }

    pub fn u32(&mut self) -> Result<u32, RecoverError> {
        self.take().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, RecoverError> {
        self.take().map(u64::from_le_bytes)
    }

    /// A number of an entry, a counter or a cursor.
    pub fn number(&mut self) -> Result<u64, RecoverError> {
        self.u64().and_then(possible)
    }

    pub fn id(&mut self) -> Result<SenderId, RecoverError> {
        self.take().map(SenderId)
    }

    pub fn digest(&mut self) -> Result<SecretDigest, RecoverError> {
        self.take().map(SecretDigest)
    }

    pub fn str(&mut self) -> Result<String, RecoverError> {
        let len = self.u32()? as usize;
        let (text, rest) = self.0.split_at_checked(len).ok_or(SHORT)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).map_err(|_| RecoverError("a text is not UTF-8"))
    }

    pub fn list(&mut self) -> Result<Vec<u64>, RecoverError> {
        let len = self.u32()? as usize;
        if self.0.len() / 8 < len {
            return Err(SHORT);
        }
        (0..len).map(|_| self.number()).collect()
    }

    /// A count of things of at least `bytes_min` bytes each, so that nothing is reserved that is not there.
    pub fn count(&mut self, bytes_min: usize) -> Result<usize, RecoverError> {
        let count = self.u32()? as usize;
        if self.0.len() / bytes_min.max(1) < count { Err(SHORT) } else { Ok(count) }
    }
}
