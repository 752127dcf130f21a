//! The smallest cursor of all members, and of all but one, at a constant price per move.
//!
//! Kept as the two lowest distinct values with how many members hold each; looked for anew only when a count reaches zero.

use crate::ids::Seq;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    value: Seq,
    holders: u32,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lowest {
    low: Option<Held>,
    next: Option<Held>,
    /// `low` and `next` are not to be trusted.
    stale: bool,
}

impl Lowest {
    /// A cursor came.
    pub fn insert(&mut self, value: Seq) {
        match (&mut self.low, &mut self.next) {
            (Some(low), _) if low.value == value => low.holders += 1,
            (Some(_), Some(next)) if next.value == value => next.holders += 1,
            (Some(_), Some(next)) if next.value < value => {}
            _ => self.stale = true,
        }
    }

    /// A cursor went.
    pub fn remove(&mut self, value: Seq) {
        for held in
            [&mut self.low, &mut self.next].into_iter().flatten().filter(|held| held.value == value)
        {
            held.holders = held.holders.saturating_sub(1);
            self.stale |= held.holders == 0;
        }
    }

    /// A cursor moved up.
    pub fn advance(&mut self, from: Seq, to: Seq) {
        self.remove(from);
        self.insert(to);
    }

    /// The smallest of `cursors`; `None` when there is none.
    pub fn all(&mut self, cursors: impl Iterator<Item = Seq>) -> Option<Seq> {
        self.refresh(cursors);
        self.low.map(|held| held.value)
    }

    /// The smallest of `cursors` without one that is `own`; `None` when there is no other.
    pub fn all_but(&mut self, own: Seq, cursors: impl Iterator<Item = Seq>) -> Option<Seq> {
        self.refresh(cursors);
        match self.low {
            Some(low) if low.value == own && low.holders == 1 => self.next.map(|held| held.value),
            low => low.map(|held| held.value),
        }
    }

    /// The most that [`Lowest::all_but`] can answer, whoever is left out; `None` when that can be nobody at all.
    pub fn all_but_any(&mut self, cursors: impl Iterator<Item = Seq>) -> Option<Seq> {
        self.refresh(cursors);
        match self.low {
            Some(low) if low.holders == 1 => self.next.map(|held| held.value),
            low => low.map(|held| held.value),
        }
    }

    fn refresh(&mut self, cursors: impl Iterator<Item = Seq>) {
        if !self.stale {
            return;
        }
        (self.low, self.next, self.stale) = (None, None, false);
        for value in cursors {
            let one = Some(Held { value, holders: 1 });
            match (&mut self.low, &mut self.next) {
                (None, _) => self.low = one,
                (Some(low), _) if low.value == value => low.holders += 1,
                (Some(low), _) if value < low.value => (self.low, self.next) = (one, Some(*low)),
                (_, Some(next)) if next.value == value => next.holders += 1,
                (_, Some(next)) if next.value < value => {}
                _ => self.next = one,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_looking_at_all_of_them(moves in prop::collection::vec((0usize..6, 0u64..4, 0u8..10), 1..200)) {
            let mut cursors: Vec<Seq> = Vec::new();
            let mut lowest = Lowest::default();
            for (who, by, what) in moves {
                if what == 0 || cursors.is_empty() {
                    let value = by * 3;
                    cursors.push(value);
                    lowest.insert(value);
                } else if what == 1 {
                    let gone = cursors.swap_remove(who % cursors.len());
                    lowest.remove(gone);
                } else {
                    let i = who % cursors.len();
                    lowest.advance(cursors[i], cursors[i] + by);
                    cursors[i] += by;
                }
                prop_assert_eq!(lowest.all(cursors.iter().copied()), cursors.iter().copied().min());
                let most = lowest.all_but_any(cursors.iter().copied()).unwrap_or(Seq::MAX);
                for (i, own) in cursors.iter().enumerate() {
                    let others = cursors.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, c)| *c).min();
                    prop_assert_eq!(lowest.all_but(*own, cursors.iter().copied()), others);
                    prop_assert!(others.unwrap_or(Seq::MAX) <= most);
                }
            }
        }
    }
}
