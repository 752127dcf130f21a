//! Which piece is asked of whom: a pure table. Missing ones first; when none is left, late ones are asked again elsewhere.
//! Where many fetch at once they begin at different places, with the pieces that the fewest have, so that soon each has
//! something that the others have not.

use std::collections::HashSet;

use crate::limits::STALL;
use crate::pieces::PieceSet;

/// A holder, by its place in the list.
pub type HolderId = usize;

/// Askers of one piece at a time: a late piece is asked once more, not of everybody. Somebody who has given something takes it over
/// from any number of those who have not.
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

/// What a holder has, as far as it has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Has {
    /// All of it.
    All,
    /// All of it; it chooses what it gives, and others are better asked for what they have.
    AllSparingly,
    /// Some of it.
    Some(PieceSet),
}

/// See the module.
#[derive(Debug)]
pub struct Plan {
    pieces: Vec<Piece>,
    /// How many holders that have some have it, of each piece.
    some: Vec<u32>,
    /// How many holders have all of it, and do not give sparingly.
    all: usize,
    /// By holder; none where nothing is known.
    has: Vec<Option<Has>>,
    /// Who has given something.
    gave: HashSet<HolderId>,
    here: u64,
    missing: usize,
    /// Nothing before it is missing.
    low: usize,
    /// Pieces are asked for in their order, or from different places; this is where it is looked for the next one.
    spread: Option<u64>,
    /// When a piece came or was asked for.
    last_ms: u64,
    /// When a piece came.
    came_ms: u64,
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl Plan {
    /// Of so many pieces, all missing. With `spread`, a number of one's own, not in their order.
    pub fn new(pieces: u64, spread: Option<u64>) -> Self {
        let missing = index(pieces);
        Self {
            pieces: vec![Piece::Missing; missing],
            some: vec![0; missing],
            all: 0,
            has: Vec::new(),
            gave: HashSet::new(),
            here: 0,
            missing,
            low: 0,
            spread,
            last_ms: 0,
            came_ms: 0,
        }
    }

    /// Whether everything is here.
    pub fn is_done(&self) -> bool {
        self.here == self.pieces.len() as u64
    }

    /// How many pieces nobody has been asked for.
    pub const fn missing(&self) -> usize {
        self.missing
    }

    /// Whether everybody has waited for everybody for too long.
    pub fn is_stalled(&self, now_ms: u64) -> bool {
        let is_asked = self.pieces.iter().any(|piece| matches!(piece, Piece::Asked(..)));
        !is_asked && u128::from(now_ms.saturating_sub(self.last_ms)) >= STALL.as_millis()
    }

    /// A holder says what it has; by then nothing is asked of it.
    pub fn learn(&mut self, holder: HolderId, has: Has) {
        self.forget(holder);
        match &has {
            Has::All => self.all += 1,
            Has::AllSparingly => {}
            Has::Some(set) => set.iter().for_each(|number| self.some[index(number)] += 1),
        }
        if self.has.len() <= holder {
            self.has.resize(holder + 1, None);
        }
        self.has[holder] = Some(has);
    }

    /// Whether somebody is there who has all of it and gives it sparingly.
    pub fn is_spared(&self) -> bool {
        self.has.contains(&Some(Has::AllSparingly))
    }

    fn forget(&mut self, holder: HolderId) {
        match self.has.get_mut(holder).and_then(Option::take) {
            Some(Has::All) => self.all -= 1,
            Some(Has::Some(set)) => set.iter().for_each(|number| self.some[index(number)] -= 1),
            Some(Has::AllSparingly) | None => {}
        }
    }

    fn has(&self, holder: HolderId, at: usize) -> bool {
        match self.has.get(holder).and_then(Option::as_ref) {
            Some(Has::All | Has::AllSparingly) => true,
            Some(Has::Some(set)) => set.contains(at as u64),
            None => false,
        }
    }

    /// A run of at most `max` pieces to ask of `holder` now: the first number and how many. `None` where there is nothing for
    /// it to do, or nothing yet: what others were asked for is not late.
    pub fn ask(&mut self, holder: HolderId, max: usize, now_ms: u64) -> Option<(u64, u32)> {
        while self.pieces.get(self.low).is_some_and(|piece| *piece != Piece::Missing) {
            self.low += 1;
        }
        if let Some(first) = self.first_for(holder) {
            let fits = |at: &usize| {
                let is_like = self.some[*at] == self.some[first] || self.spread.is_none();
                self.pieces[*at] == Piece::Missing && self.has(holder, *at) && is_like
            };
            let count = (first..self.pieces.len()).take(max.max(1)).take_while(fits).count();
            self.pieces[first..first + count].fill(Piece::Asked(vec![holder], now_ms));
            self.missing -= count;
            self.last_ms = now_ms;
            return Some((first as u64, u32::try_from(count).unwrap_or(u32::MAX)));
        }
        let late = (0..self.pieces.len()).find(|at| self.is_late(*at, holder, now_ms))?;
        self.asked(holder, late as u64, now_ms);
        Some((late as u64, 1))
    }

    /// Whether a piece that others were asked for is to be asked of this one.
    fn is_late(&self, at: usize, holder: HolderId, now_ms: u64) -> bool {
        let Piece::Asked(askers, since) = &self.pieces[at] else { return false };
        let is_late = now_ms.saturating_sub(*since) >= LATE_MS;
        let gives = |asker: &HolderId| self.gave.contains(asker);
        let may = askers.len() < ASKED_MAX || gives(&holder) && !askers.iter().any(gives);
        is_late && may && !askers.contains(&holder) && self.has(holder, at)
    }

    /// A holder has given something that is right.
    pub fn gave(&mut self, holder: HolderId) {
        self.gave.insert(holder);
    }

    /// A missing piece that it has: the first one, or, where they are spread, one of those that the fewest have.
    fn first_for(&mut self, holder: HolderId) -> Option<usize> {
        let (low, len) = (self.low, self.pieces.len());
        let begin = match &mut self.spread {
            None => low,
            Some(place) => {
                // xorshift64: any place is as good as another.
                *place ^= *place << 13;
                *place ^= *place >> 7;
                *place ^= *place << 17;
                low + index(*place % (len - low).max(1) as u64)
            }
        };
        let fit = (begin..len)
            .chain(low..begin)
            .filter(|at| self.pieces[*at] == Piece::Missing && self.has(holder, *at));
        match self.spread {
            None => { fit }.next(),
            Some(_) => fit.min_by_key(|at| self.some[*at]),
        }
    }

    /// What is wanted of a holder that gives sparingly: what nobody else has; where nothing has come for a while, whatever is
    /// missing or late.
    pub fn wanted(&self, holder: HolderId, now_ms: u64) -> PieceSet {
        let mut wanted = PieceSet::none(self.pieces.len() as u64);
        let is_slow = now_ms.saturating_sub(self.came_ms) >= LATE_MS;
        for at in self.low..self.pieces.len() {
            let is_elsewhere = self.all > 0 || self.some[at] > 0;
            let is_wanted = match self.pieces[at] {
                Piece::Missing => !is_elsewhere || is_slow,
                Piece::Asked(..) => is_slow && self.is_late(at, holder, now_ms),
                Piece::Here => false,
            };
            if is_wanted {
                wanted.insert(at as u64);
            }
        }
        wanted
    }

    /// A piece is on its way from this holder, which chose it.
    pub fn asked(&mut self, holder: HolderId, number: u64, now_ms: u64) {
        self.last_ms = now_ms;
        match self.pieces.get_mut(index(number)) {
            Some(piece @ Piece::Missing) => {
                *piece = Piece::Asked(vec![holder], now_ms);
                self.missing -= 1;
            }
            Some(Piece::Asked(askers, since)) => {
                askers.push(holder);
                *since = now_ms;
            }
            Some(Piece::Here) | None => {}
        }
    }

    /// A piece is here and right; `false` where it was already.
    pub fn came(&mut self, number: u64, now_ms: u64) -> bool {
        let Some(piece) = self.pieces.get_mut(index(number)) else { return false };
        match std::mem::replace(piece, Piece::Here) {
            Piece::Here => return false,
            Piece::Missing => self.missing -= 1,
            Piece::Asked(..) => {}
        }
        self.here += 1;
        (self.came_ms, self.last_ms) = (now_ms, now_ms);
        true
    }

    /// Whether it is still to come.
    pub fn wants(&self, number: u64) -> bool {
        self.pieces.get(index(number)).is_some_and(|piece| *piece != Piece::Here)
    }

    /// What was asked of this holder does not come (any more), and nothing else.
    pub fn give_up(&mut self, holder: HolderId) {
        self.forget(holder);
        self.gave.remove(&holder);
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

    fn of(pieces: u64, holders: usize) -> Plan {
        let mut plan = Plan::new(pieces, None);
        (0..holders).for_each(|holder| plan.learn(holder, Has::All));
        plan
    }

    fn set(pieces: u64, numbers: impl IntoIterator<Item = u64>) -> PieceSet {
        let mut set = PieceSet::none(pieces);
        numbers.into_iter().for_each(|number| assert!(set.insert(number)));
        set
    }

    #[test]
    fn late_pieces_are_asked_again_of_one_other() {
        let mut plan = of(5, 4);
        assert_eq!(plan.ask(0, 2, 0), Some((0, 2)));
        assert_eq!(plan.ask(1, 9, 5), Some((2, 3)));
        assert!(plan.came(0, 5) && !plan.came(0, 5) && !plan.came(9, 5));
        assert_eq!(plan.ask(1, 9, LATE_MS - 1), None, "nothing is late");
        assert_eq!(plan.ask(1, 9, LATE_MS), Some((1, 1)), "what is late at 0");
        assert_eq!(plan.ask(0, 9, LATE_MS + 5), Some((2, 1)));
        assert_eq!(plan.ask(2, 9, LATE_MS + 5), Some((3, 1)), "1 and 2 are asked of two");
        plan.give_up(1);
        assert_eq!(plan.ask(2, 9, 0), Some((4, 1)), "what only 1 was asked for");
        for number in 1..5 {
            assert!(plan.came(number, 9));
        }
        assert!(plan.is_done() && plan.ask(3, 9, 9_999).is_none() && plan.missing() == 0);
    }

    #[test]
    fn who_has_some_is_asked_for_that_and_the_rarest_comes_first() {
        let mut plan = Plan::new(6, Some(7));
        plan.learn(0, Has::Some(set(6, [0, 1, 2])));
        plan.learn(1, Has::Some(set(6, [1, 2, 5])));
        assert_eq!(plan.ask(2, 9, 0), None, "nothing is known of it");
        assert_eq!(plan.ask(1, 9, 0), Some((5, 1)));
        assert_eq!(plan.ask(0, 9, 0), Some((0, 1)), "the others are had by two");
        assert_eq!(plan.ask(0, 9, 0), Some((1, 2)));
        assert_eq!(plan.ask(0, 9, LATE_MS), None, "it has not got 5, which is late");
        assert_eq!((plan.missing(), plan.is_stalled(u64::MAX)), (2, false));
        // What it has is asked anew, and it has more.
        plan.learn(0, Has::Some(set(6, [0, 1, 2, 3])));
        assert_eq!(plan.ask(0, 9, LATE_MS), Some((3, 1)));
        for number in [0, 1, 2, 3, 5] {
            plan.came(number, LATE_MS);
        }
        assert_eq!(plan.ask(0, 9, 9_999), None);
        let stall = u64::try_from(STALL.as_millis()).unwrap();
        assert!(!plan.is_stalled(LATE_MS + stall - 1) && plan.is_stalled(LATE_MS + stall));
        plan.learn(0, Has::All);
        assert_eq!(plan.ask(0, 9, 9_999), Some((4, 1)));
    }

    #[test]
    fn who_has_it_and_spares_it_is_there_until_it_is_given_up() {
        let mut plan = of(2, 1);
        assert!(!plan.is_spared());
        plan.learn(1, Has::AllSparingly);
        assert!(plan.is_spared());
        plan.give_up(1);
        assert!(!plan.is_spared());
    }

    #[test]
    fn who_gives_takes_over_from_any_number_of_those_who_do_not() {
        let mut plan = of(1, 4);
        assert_eq!(plan.ask(0, 1, 0), Some((0, 1)));
        assert_eq!(plan.ask(1, 1, LATE_MS), Some((0, 1)));
        let later = 3 * LATE_MS;
        assert_eq!(
            plan.ask(2, 1, later),
            None,
            "it was asked once more, and nothing is known of this one"
        );
        plan.gave(3);
        assert_eq!(plan.ask(3, 1, LATE_MS + 1), None, "it is not late");
        assert_eq!(plan.ask(3, 1, later), Some((0, 1)));
        assert_eq!(plan.ask(3, 1, 2 * later), None, "it is asked already");
        plan.gave(2);
        assert_eq!(plan.ask(2, 1, 2 * later), None, "somebody who gives is at it");
        plan.give_up(3);
        assert_eq!(plan.ask(2, 1, 2 * later), Some((0, 1)));
    }

    #[test]
    fn of_who_gives_sparingly_is_wanted_what_nobody_else_has() {
        let mut plan = Plan::new(5, Some(7));
        let wanted = |plan: &Plan, now_ms| plan.wanted(0, now_ms).iter().collect::<Vec<_>>();
        plan.learn(0, Has::AllSparingly);
        plan.learn(1, Has::Some(set(5, [0, 1])));
        assert_eq!(wanted(&plan, 0), [2, 3, 4]);
        plan.asked(0, 2, 0);
        assert_eq!(wanted(&plan, 0), [3, 4]);
        assert_eq!(plan.ask(1, 9, 0), Some((0, 2)));
        // Nothing comes: whoever has it may be dead.
        assert_eq!(wanted(&plan, LATE_MS), [0, 1, 3, 4]);
        plan.came(2, LATE_MS);
        assert_eq!(wanted(&plan, LATE_MS), [3, 4]);
        plan.give_up(1);
        assert_eq!(wanted(&plan, LATE_MS), [0, 1, 3, 4]);
        plan.learn(2, Has::All);
        assert!(wanted(&plan, LATE_MS).is_empty(), "somebody else has all of it");
    }

    #[test]
    fn two_that_are_spread_begin_elsewhere() {
        let first = |spread| {
            let mut plan = Plan::new(1_000, Some(spread));
            plan.learn(0, Has::All);
            plan.ask(0, 1, 0).unwrap().0
        };
        let places: std::collections::BTreeSet<u64> = (1..=20).map(first).collect();
        assert!(places.len() >= 15, "{places:?}");
    }

    proptest! {
        #[test]
        fn everything_comes_as_long_as_one_holder_stays(
            pieces in 1u64..60,
            spread in prop::option::of(1u64..),
            acts in prop::collection::vec((0usize..4, 0u8..5, 1usize..9), 0..200),
        ) {
            let mut plan = Plan::new(pieces, spread);
            (0..10).for_each(|holder| plan.learn(holder, Has::All));
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
                        prop_assert_eq!(plan.came(number, now_ms), came.insert(number));
                    },
                    3 => plan.learn(holder, Has::Some(set(pieces, (0..pieces).step_by(max)))),
                    _ => {
                        open.retain(|(asked, _)| *asked != holder);
                        plan.give_up(holder);
                    }
                }
            }
            (0..4).for_each(|holder| plan.give_up(holder));
            prop_assert!(plan.some.iter().all(|count| *count == 0));
            while let Some((first, count)) = plan.ask(9, 3, u64::MAX) {
                (first..first + u64::from(count)).for_each(|number| {
                    plan.came(number, 0);
                });
            }
            prop_assert!(plan.is_done());
            prop_assert_eq!((plan.here, plan.missing()), (pieces, 0));
        }
    }
}
