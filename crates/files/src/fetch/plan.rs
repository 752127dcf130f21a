//! Which piece is asked of whom: a pure table. Missing ones first; when none is left, late ones are asked again elsewhere.

/// A holder, by its place in the list.
pub type HolderId = usize;

/// Askers of one piece at a time: a late piece is asked once more, not of everybody.
const ASKED_MAX: usize = 2;
/// A piece that was asked for so long ago is late.
pub const LATE_MS: u64 = 1_000;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Missing,
    /// Of these, the last time at that moment.
    Asked(Vec<HolderId>, u64),
    Here,
}

/// See the module.
#[derive(Debug)]
pub struct Plan {
    pieces: Vec<Piece>,
    here: u64,
    missing: usize,
    /// Nothing before it is missing.
    low: usize,
}

impl Plan {
    /// Of so many pieces, all missing.
    pub fn new(pieces: u64) -> Self {
        let missing = usize::try_from(pieces).unwrap_or(usize::MAX);
        Self { pieces: vec![Piece::Missing; missing], here: 0, missing, low: 0 }
    }

    /// Whether everything is here.
    pub fn is_done(&self) -> bool {
        self.here == self.pieces.len() as u64
    }

    /// How many pieces nobody has been asked for.
    pub const fn missing(&self) -> usize {
        self.missing
    }

    /// A run of at most `max` pieces to ask of `holder` now: the first number and how many. `None` where there is nothing for
    /// it to do, or nothing yet: what others were asked for is not late.
    pub fn ask(&mut self, holder: HolderId, max: usize, now_ms: u64) -> Option<(u64, u32)> {
        while self.pieces.get(self.low).is_some_and(|piece| *piece != Piece::Missing) {
            self.low += 1;
        }
        if self.low < self.pieces.len() {
            let run = self.pieces[self.low..].iter().take(max.max(1));
            let count = run.take_while(|piece| **piece == Piece::Missing).count();
            let first = self.low;
            self.pieces[first..first + count].fill(Piece::Asked(vec![holder], now_ms));
            self.missing -= count;
            return Some((first as u64, u32::try_from(count).unwrap_or(u32::MAX)));
        }
        // Pieces are asked for in their order, so that the first is the oldest.
        self.pieces.iter_mut().enumerate().find_map(|(number, piece)| {
            let Piece::Asked(askers, at) = piece else { return None };
            let is_late = now_ms.saturating_sub(*at) >= LATE_MS;
            if !is_late || askers.len() >= ASKED_MAX || askers.contains(&holder) {
                return None;
            }
            askers.push(holder);
            *at = now_ms;
            Some((number as u64, 1))
        })
    }

    /// A piece is here and right; `false` where it was already.
    pub fn came(&mut self, number: u64) -> bool {
        let Some(piece) =
            usize::try_from(number).ok().and_then(|number| self.pieces.get_mut(number))
        else {
            return false;
        };
        match std::mem::replace(piece, Piece::Here) {
            Piece::Here => return false,
            Piece::Missing => self.missing -= 1,
            Piece::Asked(..) => {}
        }
        self.here += 1;
        true
    }

    /// Whether it is still to come.
    pub fn wants(&self, number: u64) -> bool {
        usize::try_from(number)
            .ok()
            .and_then(|number| self.pieces.get(number))
            .is_some_and(|p| *p != Piece::Here)
    }

    /// What was asked of this holder does not come (any more).
    pub fn give_up(&mut self, holder: HolderId) {
        for (number, piece) in self.pieces.iter_mut().enumerate() {
            if let Piece::Asked(askers, _) = piece {
                askers.retain(|asker| *asker != holder);
                if askers.is_empty() {
                    *piece = Piece::Missing;
                    self.missing += 1;
                    self.low = self.low.min(number);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn late_pieces_are_asked_again_of_one_other() {
        let mut plan = Plan::new(5);
        assert_eq!(plan.ask(0, 2, 0), Some((0, 2)));
        assert_eq!(plan.ask(1, 9, 5), Some((2, 3)));
        assert!(plan.came(0) && !plan.came(0) && !plan.came(9));
        assert_eq!(plan.ask(1, 9, LATE_MS - 1), None, "nothing is late");
        assert_eq!(plan.ask(1, 9, LATE_MS), Some((1, 1)), "what is late at 0");
        assert_eq!(plan.ask(0, 9, LATE_MS + 5), Some((2, 1)));
        assert_eq!(plan.ask(2, 9, LATE_MS + 5), Some((3, 1)), "1 and 2 are asked of two");
        plan.give_up(1);
        assert_eq!(plan.ask(2, 9, 0), Some((4, 1)), "what only 1 was asked for");
        for number in 1..5 {
            assert!(plan.came(number));
        }
        assert!(plan.is_done() && plan.ask(3, 9, 9_999).is_none() && plan.missing() == 0);
    }

    proptest! {
        #[test]
        fn everything_comes_as_long_as_one_holder_stays(
            pieces in 1u64..60,
            acts in prop::collection::vec((0usize..4, 0u8..4, 1usize..9), 0..200),
        ) {
            let mut plan = Plan::new(pieces);
            let mut open: Vec<(usize, u64)> = Vec::new();
            let mut came = std::collections::BTreeSet::new();
            for (now_ms, (holder, act, max)) in (0..).step_by(400).zip(acts) {
                match act {
                    0 | 1 => if let Some((first, count)) = plan.ask(holder, max, now_ms) {
                        prop_assert!(count >= 1 && first + u64::from(count) <= pieces && count as usize <= max);
                        open.extend((first..first + u64::from(count)).map(|number| (holder, number)));
                    },
                    2 => if let Some(at) = open.iter().position(|(asked, _)| *asked == holder) {
                        let (_, number) = open.remove(at);
                        prop_assert_eq!(plan.came(number), came.insert(number));
                    },
                    _ => {
                        open.retain(|(asked, _)| *asked != holder);
                        plan.give_up(holder);
                    }
                }
            }
            (0..4).for_each(|holder| plan.give_up(holder));
            while let Some((first, count)) = plan.ask(9, 3, u64::MAX) {
                (first..first + u64::from(count)).for_each(|number| {
                    plan.came(number);
                });
            }
            prop_assert!(plan.is_done());
            prop_assert_eq!((plan.here, plan.missing()), (pieces, 0));
        }
    }
}
