//! Which pieces of a content somebody has, or wants: a bit for each.

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PieceSet {
    /// The first piece is the lowest bit of the first byte.
    bits: Vec<u8>,
    pieces: u64,
    count: u64,
}

fn place(number: u64) -> (usize, u8) {
    // A file has at most 2^20 pieces.
    (usize::try_from(number / 8).unwrap_or(usize::MAX), 1 << (number % 8))
}

impl PieceSet {
    /// None of so many.
    pub fn none(pieces: u64) -> Self {
        let (bytes, _) = place(pieces.next_multiple_of(8));
        Self { bits: vec![0; bytes], pieces, count: 0 }
    }

    /// What somebody says of a content with so many pieces; `None` where it is of another length, or says more.
    pub fn read(pieces: u64, bits: &[u8]) -> Option<Self> {
        let is_long = bits.len() as u64 == pieces.div_ceil(8);
        let over = pieces % 8;
        let is_within = over == 0 || bits.last().is_some_and(|last| last >> over == 0);
        let count = bits.iter().map(|byte| u64::from(byte.count_ones())).sum();
        (is_long && is_within).then(|| Self { bits: bits.to_vec(), pieces, count })
    }

    /// As it is said to others.
    pub fn bits(&self) -> &[u8] {
        &self.bits
    }

    /// One more; `false` where it was there, or is none.
    pub fn insert(&mut self, number: u64) -> bool {
        if number >= self.pieces || self.contains(number) {
            return false;
        }
        let (at, bit) = place(number);
        self.bits[at] |= bit;
        self.count += 1;
        true
    }

    /// One less; `false` where it was not there.
    pub fn remove(&mut self, number: u64) -> bool {
        if !self.contains(number) {
            return false;
        }
        let (at, bit) = place(number);
        self.bits[at] &= !bit;
        self.count -= 1;
        true
    }

    /// Whether it is there.
    pub fn contains(&self, number: u64) -> bool {
        let (at, bit) = place(number);
        self.bits.get(at).is_some_and(|byte| byte & bit != 0)
    }

    /// How many are there.
    pub const fn len(&self) -> u64 {
        self.count
    }

    /// None is there.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All are there.
    pub const fn is_all(&self) -> bool {
        self.count == self.pieces
    }

    /// Those that are there, in their order.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        let bytes = (0..).step_by(8).zip(&self.bits).filter(|(_, byte)| **byte != 0);
        bytes.flat_map(|(first, byte)| {
            (first..first + 8).filter(move |number| byte & (1 << (number - first)) != 0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_comes_back_and_nothing_else_is_taken() {
        for pieces in [1, 7, 8, 9, 1_000] {
            let mut set = PieceSet::none(pieces);
            assert!(set.is_empty() && !set.contains(0) && !set.insert(pieces));
            assert!(set.insert(pieces - 1) && set.remove(pieces - 1) && !set.remove(pieces - 1));
            assert!(set.insert(pieces - 1) && !set.insert(pieces - 1) && set.contains(pieces - 1));
            assert_eq!(PieceSet::read(pieces, set.bits()), Some(set.clone()));
            assert_eq!(set.iter().collect::<Vec<_>>(), [pieces - 1]);
            (0..pieces).for_each(|number| assert!(set.insert(number) || number + 1 == pieces));
            assert!(set.is_all() && set.len() == pieces && set.iter().eq(0..pieces));
            assert_eq!(PieceSet::read(pieces + 8, set.bits()), None);
            assert_eq!(PieceSet::read(pieces, &[set.bits(), &[0]].concat()), None);
        }
        assert_eq!(PieceSet::read(7, &[0x80]), None);
        assert_eq!(PieceSet::read(1, &[]), None);
    }
}
