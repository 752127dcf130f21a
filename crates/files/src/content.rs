//! Content by its hash: BLAKE3, cut into pieces that can each be verified alone.
//!
//! A file's hash is the ordinary one that `b3sum` prints. Its *outline* is the chaining value of each piece: BLAKE3 is a tree,
//! and the values of its subtrees merge to its root. Who has the outline can tell a wrong piece from a right one, whoever sent
//! it. An outline is believed only together with the last piece: it is the last piece's place in the tree that proves how long
//! the file is, and with that the shape of the tree.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt as _, Mode};

use crate::limits::{FILE_BYTES_MAX, PIECE_BYTES};

/// The BLAKE3 hash of a file's content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash(pub [u8; 32]);

impl ContentHash {
    /// Of a content that is in memory.
    pub fn of(content: &[u8]) -> Self {
        Self(*blake3::hash(content).as_bytes())
    }
}

impl fmt::Display for ContentHash {
    /// Lower-case hexadecimal, 64 digits, as `b3sum` prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// This is not a hash: 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 64 hexadecimal digits")]
pub struct NotAHash;

impl FromStr for ContentHash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let is_hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hex {
            return Err(NotAHash);
        }
        let mut bytes = [0; 32];
        for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| NotAHash)?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<&[u8]> for ContentHash {
    type Error = NotAHash;

    fn try_from(bytes: &[u8]) -> Result<Self, NotAHash> {
        bytes.try_into().map(Self).map_err(|_| NotAHash)
    }
}

/// How many pieces a file of so many bytes has; an empty one has one, which is empty.
pub const fn pieces_of(size: u64) -> u64 {
    if size == 0 { 1 } else { size.div_ceil(PIECE_BYTES as u64) }
}

/// How many bytes piece `number` of a file of `size` bytes has; `number` is below [`pieces_of`].
pub const fn piece_len(size: u64, number: u64) -> usize {
    let begin = number * PIECE_BYTES as u64;
    let rest = size.saturating_sub(begin);
    if rest < PIECE_BYTES as u64 { rest as usize } else { PIECE_BYTES }
}

/// What tells right pieces of one file from wrong ones.
#[derive(Clone, PartialEq, Eq)]
pub struct Outline {
    hash: ContentHash,
    size: u64,
    /// Of each piece; empty where there is only one, which the hash itself is of.
    values: Vec<ChainingValue>,
}

impl fmt::Debug for Outline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outline").field("hash", &self.hash).field("size", &self.size).finish()
    }
}

/// Why an outline is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOutline {
    /// It is for more bytes than a file may have.
    #[error("it is for {0} bytes, more than a file may have")]
    TooLarge(u64),
    /// It has not one value for each piece.
    #[error("it has {found} values for {expected} pieces")]
    Length {
        /// Values that it has.
        found: usize,
        /// Pieces that a file of its size has.
        expected: u64,
    },
    /// Its values do not merge to the hash.
    #[error("it does not belong to this hash")]
    Hash,
    /// The last piece is not what it says, so that nothing proves the size.
    #[error("the last piece is not what it says")]
    LastPiece,
}

impl Outline {
    /// Believes what somebody says of the file `hash`, once `values` merge to it and `last` is its last piece.
    ///
    /// # Errors
    /// [`BadOutline`]: whoever said it is wrong or lies.
    pub fn proven(
        hash: ContentHash,
        size: u64,
        values: Vec<ChainingValue>,
        last: &[u8],
    ) -> Result<Self, BadOutline> {
        if size > FILE_BYTES_MAX {
            return Err(BadOutline::TooLarge(size));
        }
        let pieces = pieces_of(size);
        let expected = if pieces == 1 { 0 } else { pieces };
        if values.len() as u64 != expected {
            return Err(BadOutline::Length { found: values.len(), expected });
        }
        if pieces > 1 && root_of(&values) != hash {
            return Err(BadOutline::Hash);
        }
        let outline = Self { hash, size, values };
        if outline.is_piece(pieces - 1, last) { Ok(outline) } else { Err(BadOutline::LastPiece) }
    }

    /// The same for what this program has hashed itself and kept since, or proven before: only that it belongs together is
    /// looked at.
    pub fn kept(hash: ContentHash, size: u64, values: Vec<ChainingValue>) -> Option<Self> {
        let pieces = pieces_of(size);
        let expected = if pieces == 1 { 0 } else { pieces };
        let fits = size <= FILE_BYTES_MAX && values.len() as u64 == expected;
        let is_whole = fits && (values.is_empty() || root_of(&values) == hash);
        is_whole.then_some(Self { hash, size, values })
    }

    /// The hash of the whole file.
    pub const fn hash(&self) -> ContentHash {
        self.hash
    }

    /// The file's bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Its pieces.
    pub const fn pieces(&self) -> u64 {
        pieces_of(self.size)
    }

    /// The bytes of piece `number`.
    pub const fn piece_len(&self, number: u64) -> usize {
        piece_len(self.size, number)
    }

    /// The value of each piece, one after the other; empty where there is only one piece.
    pub fn values(&self) -> &[ChainingValue] {
        &self.values
    }

    /// Whether `bytes` are piece `number` of the file.
    pub fn is_piece(&self, number: u64, bytes: &[u8]) -> bool {
        if number >= self.pieces() || bytes.len() != self.piece_len(number) {
            return false;
        }
        match self.values.get(number as usize) {
            Some(value) => *value == value_of(number, bytes),
            None => ContentHash::of(bytes) == self.hash,
        }
    }
}

/// The chaining value of piece `number`, which is not empty.
fn value_of(number: u64, bytes: &[u8]) -> ChainingValue {
    let mut hasher = Hasher::new();
    hasher.set_input_offset(number * PIECE_BYTES as u64);
    hasher.update(bytes);
    hasher.finalize_non_root()
}

/// What two or more values merge to.
fn root_of(values: &[ChainingValue]) -> ContentHash {
    let (left, right) = halves(values);
    let root = blake3::hazmat::merge_subtrees_root(&merged(left), &merged(right), Mode::Hash);
    ContentHash(*root.as_bytes())
}

fn merged(values: &[ChainingValue]) -> ChainingValue {
    match values {
        [one] => *one,
        more => {
            let (left, right) = halves(more);
            let (left, right) = (merged(left), merged(right));
            blake3::hazmat::merge_subtrees_non_root(&left, &right, Mode::Hash)
        }
    }
}

/// BLAKE3's left subtree is the largest power of two that leaves something for the right one.
fn halves(values: &[ChainingValue]) -> (&[ChainingValue], &[ChainingValue]) {
    values.split_at(values.len().next_power_of_two() / 2)
}

/// Makes the outline of a content that comes bit by bit.
#[derive(Clone, Debug)]
pub struct Outliner {
    values: Vec<ChainingValue>,
    /// Of the piece that is not complete, or that nothing has followed yet.
    piece: Hasher,
    piece_bytes: usize,
}

impl Default for Outliner {
    fn default() -> Self {
        Self { values: Vec::new(), piece: Hasher::new(), piece_bytes: 0 }
    }
}

impl Outliner {
    /// What comes next.
    pub fn update(&mut self, mut content: &[u8]) {
        while !content.is_empty() {
            if self.piece_bytes == PIECE_BYTES {
                self.values.push(self.piece.finalize_non_root());
                self.piece = Hasher::new();
                self.piece.set_input_offset(self.values.len() as u64 * PIECE_BYTES as u64);
                self.piece_bytes = 0;
            }
            let (now, later) = content.split_at(content.len().min(PIECE_BYTES - self.piece_bytes));
            self.piece.update(now);
            self.piece_bytes += now.len();
            content = later;
        }
    }

    /// Bytes so far.
    pub const fn size(&self) -> u64 {
        self.values.len() as u64 * PIECE_BYTES as u64 + self.piece_bytes as u64
    }

    /// That was all.
    pub fn finish(mut self) -> Outline {
        let size = self.size();
        if self.values.is_empty() {
            let hash = ContentHash(*self.piece.finalize().as_bytes());
            return Outline { hash, size, values: Vec::new() };
        }
        self.values.push(self.piece.finalize_non_root());
        Outline { hash: root_of(&self.values), size, values: self.values }
    }
}

/// Reads to the end, and makes the outline on the way.
///
/// # Errors
/// Of reading; and [`io::ErrorKind::FileTooLarge`].
pub fn outline_of(mut content: impl Read) -> io::Result<Outline> {
    let mut outliner = Outliner::default();
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        match content.read(&mut buffer) {
            Ok(0) => return Ok(outliner.finish()),
            Ok(read) => outliner.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if outliner.size() > FILE_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PIECE: u64 = PIECE_BYTES as u64;

    /// Bytes that differ from place to place.
    fn content(size: u64, seed: u64) -> Vec<u8> {
        let mut bytes = vec![0; size as usize];
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        Hasher::new_keyed(&key).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn pieces(content: &[u8]) -> Vec<&[u8]> {
        if content.is_empty() { vec![content] } else { content.chunks(PIECE_BYTES).collect() }
    }

    fn check(size: u64) {
        let content = content(size, size);
        let outline = outline_of(content.as_slice()).unwrap();
        let plain = ContentHash(*blake3::hash(&content).as_bytes());
        assert_eq!((outline.hash(), outline.size()), (plain, size));
        let mut in_bits = Outliner::default();
        content.chunks(PIECE_BYTES / 3 + 7).for_each(|bit| in_bits.update(bit));
        assert_eq!(in_bits.finish(), outline, "{size}");
        let pieces = pieces(&content);
        assert_eq!(outline.pieces(), pieces.len() as u64, "{size}");
        for (number, piece) in pieces.iter().enumerate() {
            let number = number as u64;
            assert!(outline.is_piece(number, piece), "{size}: piece {number}");
            assert!(!outline.is_piece(number + 1, piece), "{size}: piece {number} elsewhere");
            if !piece.is_empty() {
                assert!(!outline.is_piece(number, &piece[1..]), "{size}: cut");
                let mut wrong = piece.to_vec();
                wrong[piece.len() / 2] ^= 1;
                assert!(!outline.is_piece(number, &wrong), "{size}: one bit of {number}");
            }
        }
        let values = outline.values().to_vec();
        let last = pieces.last().unwrap();
        assert_eq!(Outline::proven(plain, size, values.clone(), last), Ok(outline.clone()));
        assert_eq!(Outline::kept(plain, size, values), Some(outline));
    }

    #[test]
    fn pieces_merge_to_the_ordinary_hash_at_every_edge() {
        for size in [0, 1, 1023, 1024, 1025, PIECE - 1, PIECE, PIECE + 1] {
            check(size);
        }
        for pieces in [2, 3, 4, 5, 7, 8] {
            check(pieces * PIECE);
            check(pieces * PIECE - 1);
            check(pieces * PIECE + 1);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
        #[test]
        fn pieces_merge_to_the_ordinary_hash(size in 0..12 * PIECE) {
            check(size);
        }
    }

    #[test]
    fn another_size_is_not_believed() {
        let content = content(4 * PIECE, 1);
        let outline = outline_of(content.as_slice()).unwrap();
        let values = outline.values().to_vec();
        let pieces = pieces(&content);
        let last = pieces[3];
        let proven = |size, values: &[ChainingValue], last: &[u8]| {
            Outline::proven(outline.hash(), size, values.to_vec(), last)
        };
        assert_eq!(proven(4 * PIECE - 1, &values, last), Err(BadOutline::LastPiece));
        let length = BadOutline::Length { found: 4, expected: 5 };
        assert_eq!(proven(4 * PIECE + 1, &values, last), Err(length));
        assert_eq!(proven(u64::MAX, &values, last), Err(BadOutline::TooLarge(u64::MAX)));
        assert_eq!(proven(4 * PIECE, &values, pieces[0]), Err(BadOutline::LastPiece));
        let mut swapped = values.clone();
        swapped.swap(0, 1);
        assert_eq!(proven(4 * PIECE, &swapped, last), Err(BadOutline::Hash));
        // Two and two pieces as if they were one each: they do merge to the hash, and only the last piece gives it away.
        let grouped = [merged(&values[..2]), merged(&values[2..])];
        assert_eq!(root_of(&grouped), outline.hash());
        assert_eq!(proven(2 * PIECE, &grouped, last), Err(BadOutline::LastPiece));
        assert_eq!(proven(2 * PIECE, &grouped, pieces[1]), Err(BadOutline::LastPiece));
    }

    #[test]
    fn a_hash_is_written_as_b3sum_writes_it() {
        let hash = ContentHash::of(b"hola\n");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!(hash.to_string().to_uppercase().parse(), Ok(hash));
        let empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(ContentHash::of(b"").to_string(), empty);
        for text in [
            "",
            &empty[1..],
            &empty.replace('a', "g"),
            &"é".repeat(32),
            &format!("+{}", &empty[1..]),
        ] {
            assert_eq!(text.parse::<ContentHash>(), Err(NotAHash), "{text}");
        }
    }
}
