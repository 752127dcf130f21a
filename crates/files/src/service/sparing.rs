//! Who had a content first gives it to many at once sparingly: each piece to one of them, as far as it can; they give it to
//! each other. So a file that a group is told of costs its first holder less than twice its size (1.6 times, measured), however many
//! members there are; and never more than that within a minute.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::content::ContentHash;
use crate::limits::{GIFT_WAIT, GIVEN_AGAIN, GIVEN_AGAIN_LATER, GIVEN_CONTENTS_MAX};
use crate::pieces::PieceSet;

/// See the module.
#[derive(Debug, Default)]
pub struct Sparing {
    by_content: Mutex<HashMap<ContentHash, Given>>,
}

/// What was given of one content.
#[derive(Debug)]
struct Given {
    pieces: Vec<Once>,
    begun: Instant,
    last: Instant,
}

/// Of one piece.
#[derive(Clone, Copy, Debug, Default)]
struct Once {
    times: u8,
    /// When it went the last time, since [`Given::begun`].
    gone_ms: u32,
    /// Since when it is on its way to somebody.
    begun_ms: Option<u32>,
}

impl Once {
    fn is_free(self, now_ms: u32) -> bool {
        let is_over = |since: u32, wait: Duration| {
            u128::from(now_ms.saturating_sub(since)) >= wait.as_millis()
        };
        let may_go = match self.times {
            0 => true,
            1 => is_over(self.gone_ms, GIVEN_AGAIN),
            _ => is_over(self.gone_ms, GIVEN_AGAIN_LATER),
        };
        may_go && self.begun_ms.is_none_or(|since| is_over(since, GIFT_WAIT))
    }
}

impl Given {
    fn now_ms(&self, now: Instant) -> u32 {
        let elapsed = now.saturating_duration_since(self.begun);
        u32::try_from(elapsed.as_millis()).unwrap_or(u32::MAX)
    }
}

impl Sparing {
    fn by_content(&self) -> MutexGuard<'_, HashMap<ContentHash, Given>> {
        self.by_content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Chooses at most `max` of the pieces that somebody wants, of a content that has `pieces`: those that were given the
    /// least. They are on their way until they are [`Gift::sent`], or the gift is dropped.
    pub fn give(
        self: &Arc<Self>,
        hash: ContentHash,
        pieces: u64,
        wanted: &PieceSet,
        max: usize,
        now: Instant,
    ) -> Gift {
        let mut by_content = self.by_content();
        by_content.retain(|_, given| {
            let is_old = now.saturating_duration_since(given.last) >= GIVEN_AGAIN_LATER;
            !is_old || given.pieces.iter().any(|piece| piece.begun_ms.is_some())
        });
        if by_content.len() >= GIVEN_CONTENTS_MAX && !by_content.contains_key(&hash) {
            let oldest = by_content.iter().min_by_key(|(_, given)| given.last);
            let oldest = oldest.map(|(hash, _)| *hash);
            oldest.and_then(|oldest| by_content.remove(&oldest));
        }
        let given = by_content.entry(hash).or_insert_with(|| {
            let pieces = usize::try_from(pieces).unwrap_or(usize::MAX);
            Given { pieces: vec![Once::default(); pieces], begun: now, last: now }
        });
        given.last = now;
        let now_ms = given.now_ms(now);
        let mut numbers = Vec::new();
        for times in 0..=2 {
            let rest = max - numbers.len();
            let free = wanted.iter().filter(|number| {
                let piece = usize::try_from(*number).ok().and_then(|at| given.pieces.get(at));
                piece.is_some_and(|piece| piece.times.min(2) == times && piece.is_free(now_ms))
            });
            numbers.extend(free.take(rest));
        }
        for number in &numbers {
            if let Some(piece) = given.pieces.get_mut(*number as usize) {
                piece.begun_ms = Some(now_ms);
            }
        }
        drop(by_content);
        Gift { sparing: Arc::clone(self), hash, numbers, sent: 0 }
    }
}

/// Pieces that are on their way to somebody.
#[derive(Debug)]
pub struct Gift {
    sparing: Arc<Sparing>,
    hash: ContentHash,
    numbers: Vec<u64>,
    sent: usize,
}

impl Gift {
    /// Which they are, in the order in which they go.
    pub fn numbers(&self) -> &[u64] {
        &self.numbers
    }

    /// The next one of them has gone.
    pub fn sent(&mut self, now: Instant) {
        let Some(number) = self.numbers.get(self.sent) else { return };
        self.sent += 1;
        let mut by_content = self.sparing.by_content();
        let Some(given) = by_content.get_mut(&self.hash) else { return };
        let now_ms = given.now_ms(now);
        if let Some(piece) = given.pieces.get_mut(*number as usize) {
            piece.times = piece.times.saturating_add(1);
            (piece.gone_ms, piece.begun_ms) = (now_ms, None);
        }
    }
}

impl Drop for Gift {
    fn drop(&mut self) {
        let rest = self.numbers.get(self.sent..).unwrap_or_default();
        let mut by_content = self.sparing.by_content();
        let Some(given) = by_content.get_mut(&self.hash) else { return };
        for number in rest {
            if let Some(piece) = given.pieces.get_mut(*number as usize) {
                piece.begun_ms = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pieces: u64, numbers: impl IntoIterator<Item = u64>) -> PieceSet {
        let mut set = PieceSet::none(pieces);
        numbers.into_iter().for_each(|number| assert!(set.insert(number)));
        set
    }

    #[test]
    fn each_piece_is_given_to_one_and_again_only_where_that_one_may_have_died() {
        let (sparing, begin) = (Arc::new(Sparing::default()), Instant::now());
        let (hash, other) = (ContentHash::of(b"1"), ContentHash::of(b"2"));
        let all = set(5, 0..5);
        let give = |max, now| sparing.give(hash, 5, &all, max, now);
        let mut one = give(2, begin);
        let mut two = give(9, begin);
        assert_eq!((one.numbers(), two.numbers()), (&[0, 1][..], &[2, 3, 4][..]));
        assert!(give(9, begin + GIFT_WAIT / 2).numbers().is_empty(), "on their way");
        assert_eq!(sparing.give(other, 5, &all, 1, begin).numbers(), [0], "another content");
        one.sent(begin);
        // What did not go is given to the next one.
        drop(one);
        (0..3).for_each(|_| two.sent(begin));
        drop(two);
        let mut next = give(9, begin);
        assert_eq!(next.numbers(), [1]);
        next.sent(begin + GIVEN_AGAIN);
        drop(next);
        // Again, after a while: those that have not gone just now.
        let again = begin + GIVEN_AGAIN;
        assert_eq!(sparing.give(hash, 5, &set(5, [1, 4]), 9, again).numbers(), [4]);
        let mut again = give(9, again);
        assert_eq!(again.numbers(), [0, 2, 3, 4]);
        (0..4).for_each(|_| again.sent(begin + GIVEN_AGAIN));
        drop(again);
        // And a third time much later only: not more than twice within a minute.
        let soon = begin + GIVEN_AGAIN_LATER;
        let mut rest = give(9, soon);
        assert_eq!(rest.numbers(), [1]);
        rest.sent(soon);
        drop(rest);
        let later = begin + GIVEN_AGAIN + GIVEN_AGAIN_LATER;
        assert_eq!(give(9, later).numbers(), [0, 2, 3, 4]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (sparing, begin) = (Arc::new(Sparing::default()), Instant::now());
        for number in 0..2 * GIVEN_CONTENTS_MAX as u64 {
            let hash = ContentHash::of(&number.to_le_bytes());
            let mut gift = sparing.give(hash, 1, &set(1, [0]), 1, begin);
            assert_eq!(gift.numbers(), [0]);
            gift.sent(begin);
        }
        assert_eq!(sparing.by_content().len(), GIVEN_CONTENTS_MAX);
        let later = begin + GIVEN_AGAIN_LATER;
        drop(sparing.give(ContentHash::of(b""), 1, &set(1, [0]), 1, later));
        assert_eq!(sparing.by_content().len(), 1);
    }
}
