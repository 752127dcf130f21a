//! The body of a `FILE` entry: a file that was told to the group.

use crate::FrameError;

/// Bytes of a file's hash.
pub const HASH_BYTES: usize = 32;

/// What a group is told of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileBody {
    /// Its size in bytes.
    pub size: u64,
    /// The hash of its content.
    pub hash: [u8; HASH_BYTES],
    /// Its name, without a path; not yet fit to be shown or opened.
    pub name: String,
}

impl FileBody {
    /// Size (8), hash (32), length of the name (2), name; a name longer than that is cut.
    pub fn write(&self) -> Vec<u8> {
        let name = crate::safe::cut(&self.name, u16::MAX.into());
        let mut out = Vec::with_capacity(8 + HASH_BYTES + 2 + name.len());
        out.extend_from_slice(&self.size.to_le_bytes());
        out.extend_from_slice(&self.hash);
        out.extend_from_slice(&(name.len() as u16).to_le_bytes());
        out.extend_from_slice(name.as_bytes());
        out
    }

    /// Reads it; bytes after the known ones are skipped.
    ///
    /// # Errors
    /// [`FrameError`] when it is cut short or its name is not UTF-8.
    pub fn read(body: &[u8]) -> Result<Self, FrameError> {
        let short = FrameError::Short(tertulia_group::Kind::File as u8);
        let (size, rest) = body.split_first_chunk().ok_or(short)?;
        let (hash, rest) = rest.split_first_chunk().ok_or(short)?;
        let (len, rest) = rest.split_first_chunk().ok_or(short)?;
        let name = rest.get(..u16::from_le_bytes(*len).into()).ok_or(short)?;
        let name = std::str::from_utf8(name).map_err(|_| FrameError::Text)?;
        Ok(Self { size: u64::from_le_bytes(*size), hash: *hash, name: name.into() })
    }

    /// The hash as people and programs see it: lower-case hexadecimal.
    pub fn hash_hex(&self) -> String {
        use std::fmt::Write as _;
        self.hash.iter().fold(String::with_capacity(2 * HASH_BYTES), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}
