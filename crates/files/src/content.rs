//! Content by its hash: BLAKE3, cut into pieces that can each be verified alone.
//!
//! A file's hash is the ordinary one that `b3sum` prints. Its *outline* is the chaining value of each piece: BLAKE3 is a tree,
//! and the values of its subtrees merge to its root. Who has the outline can tell a wrong piece from a right one, whoever sent
//! it. An outline is believed only together with the file's *ending*, its last chunk: it is that chunk's place in the tree that
//! proves how long the file is, and with that the shape of the tree.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt as _, Mode};

use super::limits::{FILE_BYTES_MAX, PIECE_BYTES};

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
    /// The ending is not what it says, so that nothing proves the size.
    #[error("nothing proves its size")]
    Ending,
}

/// BLAKE3's chunks: the leaves of its tree.
const CHUNK_BYTES: usize = 1024;

/// A file's last chunk, and what is beside its way up within the last piece: proves how long the file is.
#[derive(Clone, PartialEq, Eq)]
pub struct Ending {
    /// At most 1,024 bytes; none where the file is empty.
    pub chunk: Vec<u8>,
    /// The values of what is left of it, from the piece down; at most one a level.
    pub left: Vec<ChainingValue>,
}

impl fmt::Debug for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ending").field("chunk", &self.chunk.len()).finish_non_exhaustive()
    }
}

/// The subtrees that are left of the last chunk of a piece of `len` bytes, from the piece down: their bytes.
fn left_of_last(len: usize) -> impl Iterator<Item = usize> {
    let mut chunks = len.div_ceil(CHUNK_BYTES);
    std::iter::from_fn(move || {
        let left = (chunks > 1).then(|| chunks.next_power_of_two() / 2)?;
        chunks -= left;
        Some(left * CHUNK_BYTES)
    })
}

impl Ending {
    /// Of a file whose last piece, with this number, is `piece`.
    pub fn of(number: u64, mut piece: &[u8]) -> Self {
        let mut begin = number * PIECE_BYTES as u64;
        let left = left_of_last(piece.len()).map(|bytes| {
            let (subtree, rest) = piece.split_at(bytes);
            let value = value_at(begin, subtree);
            (piece, begin) = (rest, begin + bytes as u64);
            value
        });
        let left = left.collect();
        Self { chunk: piece.to_vec(), left }
    }

    /// Whether this is how a file of `size` bytes ends whose last piece has this value; or, where it is the only one, which
    /// has this hash.
    fn proves(&self, size: u64, hash: ContentHash, value: Option<&ChainingValue>) -> bool {
        let len = piece_len(size, pieces_of(size) - 1);
        let before: usize = left_of_last(len).sum();
        if self.chunk.len() != len - before || self.left.len() != left_of_last(len).count() {
            return false;
        }
        let (top, inner) = match (value, self.left.split_first()) {
            (None, None) => return ContentHash::of(&self.chunk) == hash,
            (None, Some((top, inner))) => (Some(top), inner),
            (Some(_), _) => (None, &*self.left),
        };
        let last = value_at(size - self.chunk.len() as u64, &self.chunk);
        let merged = inner.iter().rev().fold(last, |right, left| {
            blake3::hazmat::merge_subtrees_non_root(left, &right, Mode::Hash)
        });
        match (top, value) {
            (Some(top), _) => {
                let root = blake3::hazmat::merge_subtrees_root(top, &merged, Mode::Hash);
                *root.as_bytes() == hash.0
            }
            (None, value) => value == Some(&merged),
        }
    }
}

impl Outline {
    /// Believes what somebody says of the file `hash`, once `values` merge to it and `ending` is how it ends.
    ///
    /// # Errors
    /// [`BadOutline`]: whoever said it is wrong or lies.
    pub fn proven(
        hash: ContentHash,
        size: u64,
        values: Vec<ChainingValue>,
        ending: &Ending,
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
        if !ending.proves(size, hash, values.last()) {
            return Err(BadOutline::Ending);
        }
        Ok(Self { hash, size, values })
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

    /// Whether the bytes of these buffers are piece `number` of the file.
    pub fn is_piece(&self, number: u64, buffers: &[impl AsRef<[u8]>]) -> bool {
        let buffers = || buffers.iter().map(AsRef::as_ref);
        let len: usize = buffers().map(<[u8]>::len).sum();
        if number >= self.pieces() || len != self.piece_len(number) {
            return false;
        }
        let mut hasher = Hasher::new();
        hasher.set_input_offset(number * PIECE_BYTES as u64);
        for bytes in buffers() {
            hasher.update(bytes);
        }
        match self.values.get(number as usize) {
            Some(value) => *value == hasher.finalize_non_root(),
            None => *hasher.finalize().as_bytes() == self.hash.0,
        }
    }
}

/// The chaining value of a subtree that begins at this offset; it is not empty.
fn value_at(offset: u64, bytes: &[u8]) -> ChainingValue {
    let mut hasher = Hasher::new();
    hasher.set_input_offset(offset);
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
    // Most files are small: a buffer for a whole piece would take longer to make than they take to hash.
    let mut buffer = vec![0; 64 << 10];
    loop {
        match content.read(&mut buffer) {
            Ok(0) => return Ok(outliner.finish()),
            Ok(read) => {
                outliner.update(&buffer[..read]);
                if read == buffer.len() {
                    buffer.resize(PIECE_BYTES, 0);
                }
            }
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
            assert!(outline.is_piece(number, &[piece]), "{size}: piece {number}");
            let (begin, end) = piece.split_at(piece.len() / 3);
            assert!(outline.is_piece(number, &[begin, end]), "{size}: piece {number} in two");
            assert!(!outline.is_piece(number + 1, &[piece]), "{size}: piece {number} elsewhere");
            if !piece.is_empty() {
                assert!(!outline.is_piece(number, &[&piece[1..]]), "{size}: cut");
                let mut wrong = piece.to_vec();
                wrong[piece.len() / 2] ^= 1;
                assert!(!outline.is_piece(number, &[&wrong]), "{size}: one bit of {number}");
            }
        }
        let values = outline.values().to_vec();
        let last = pieces.len() as u64 - 1;
        let ending = Ending::of(last, pieces.last().unwrap());
        assert!(ending.chunk.len() <= CHUNK_BYTES && ending.left.len() <= 10);
        let proven = |size, ending: &Ending| Outline::proven(plain, size, values.clone(), ending);
        assert_eq!(proven(size, &ending), Ok(outline.clone()), "{size}");
        for other in [size + 1, size.wrapping_sub(1), size + 1024, size.wrapping_sub(1024)] {
            assert!(proven(other, &ending).is_err(), "{size} as {other}");
        }
        for at in 0..ending.left.len() {
            let mut wrong = ending.clone();
            wrong.left[at][3] ^= 1;
            assert_eq!(proven(size, &wrong), Err(BadOutline::Ending), "{size}: {at}");
            // A chunk fewer, and what it was merged with as if it were one.
            let mut short = ending.clone();
            short.left.truncate(at);
            assert_eq!(proven(size, &short), Err(BadOutline::Ending), "{size}: {at}");
        }
        if size > 0 {
            let mut wrong = ending;
            wrong.chunk[0] ^= 1;
            assert_eq!(proven(size, &wrong), Err(BadOutline::Ending), "{size}");
        }
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
        let last = Ending::of(3, pieces[3]);
        let proven = |size, values: &[ChainingValue], last: &Ending| {
            Outline::proven(outline.hash(), size, values.to_vec(), last)
        };
        assert_eq!(proven(4 * PIECE - 1, &values, &last), Err(BadOutline::Ending));
        let length = BadOutline::Length { found: 4, expected: 5 };
        assert_eq!(proven(4 * PIECE + 1, &values, &last), Err(length));
        assert_eq!(proven(u64::MAX, &values, &last), Err(BadOutline::TooLarge(u64::MAX)));
        assert_eq!(proven(4 * PIECE, &values, &Ending::of(3, pieces[0])), Err(BadOutline::Ending));
        let mut swapped = values.clone();
        swapped.swap(0, 1);
        assert_eq!(proven(4 * PIECE, &swapped, &last), Err(BadOutline::Hash));
        // Two and two pieces as if they were one each: they do merge to the hash, and only the ending gives it away.
        let grouped = [merged(&values[..2]), merged(&values[2..])];
        assert_eq!(root_of(&grouped), outline.hash());
        for (number, piece) in [(3, 3), (1, 3), (1, 1)] {
            let ending = Ending::of(number, pieces[piece]);
            assert_eq!(proven(2 * PIECE, &grouped, &ending), Err(BadOutline::Ending));
        }
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
