//! Who had a content first gives it to many at once sparingly: each piece to one of them, as far as it can; they give it to
//! each other. So a file that a group is told of costs its first holder less than twice its size (1.6 times, measured), however many
//! members there are; and never more than that within a minute, however many contents are asked for at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::content::ContentHash;
use crate::limits::{GIFT_WAIT, GIVEN_AGAIN, GIVEN_AGAIN_LATER, GIVEN_PIECES_MAX};
use crate::pieces::PieceSet;

/// See the module.
#[derive(Debug, Default)]
pub struct Sparing {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    by_content: HashMap<ContentHash, HashMap<u64, Once>>,
    /// Pieces of all contents.
    count: usize,
    /// When what is over was forgotten the last time.
    swept: Option<Instant>,
}

/// Of one piece that was given, or is being given.
#[derive(Clone, Copy, Debug, Default)]
struct Once {
    times: u8,
    /// When it went the last time.
    gone: Option<Instant>,
    /// Since when it is on its way to somebody.
    begun: Option<Instant>,
}

fn is_over(since: Instant, wait: Duration, now: Instant) -> bool {
    now.saturating_duration_since(since) >= wait
}

impl Once {
    fn is_free(self, now: Instant) -> bool {
        let wait = if self.times <= 1 { GIVEN_AGAIN } else { GIVEN_AGAIN_LATER };
        self.gone.is_none_or(|gone| is_over(gone, wait, now))
            && self.begun.is_none_or(|begun| is_over(begun, GIFT_WAIT, now))
    }

    /// Whether nothing follows from it any more: forgotten, it goes no oftener than it would go otherwise.
    fn is_past(self, now: Instant) -> bool {
        self.begun.is_none() && self.gone.is_none_or(|gone| is_over(gone, GIVEN_AGAIN_LATER, now))
    }
}

impl Table {
    /// Forgets what is past: once in a while, and more often where there is no room.
    fn sweep(&mut self, now: Instant) {
        let is_full = self.count >= GIVEN_PIECES_MAX;
        let pause = if is_full { SWEEP_FULL } else { GIVEN_AGAIN_LATER / 4 };
        if self.swept.is_some_and(|swept| !is_over(swept, pause, now)) {
            return;
        }
        self.swept = Some(now);
        self.by_content.retain(|_, pieces| {
            pieces.retain(|_, piece| !piece.is_past(now));
            !pieces.is_empty()
        });
        self.count = self.by_content.values().map(HashMap::len).sum();
    }
}

/// How often a full table is looked through.
const SWEEP_FULL: Duration = Duration::from_millis(500);

impl Sparing {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Chooses at most `max` of the pieces that somebody wants, of a content that has `pieces`: those that were given the
    /// least. They are on their way until they are [`Gift::sent`], or the gift is dropped. Where more is remembered than there is room for, only what was given
    /// before can be given: the others wait.
    pub fn give(
        self: &Arc<Self>,
        hash: ContentHash,
        pieces: u64,
        wanted: &PieceSet,
        max: usize,
        now: Instant,
    ) -> Gift {
        let mut guard = self.table();
        let table = &mut *guard;
        table.sweep(now);
        let room = GIVEN_PIECES_MAX.saturating_sub(table.count);
        let given = table.by_content.entry(hash).or_default();
        let asked = || wanted.iter().filter(|number| *number < pieces);
        let mut numbers: Vec<u64> =
            asked().filter(|number| !given.contains_key(number)).take(max.min(room)).collect();
        let rest = max - numbers.len();
        if rest > 0 {
            let free = asked().filter_map(|number| {
                let piece = given.get(&number).filter(|piece| piece.is_free(now))?;
                Some((piece.times.min(2), number))
            });
            let mut free: Vec<(u8, u64)> = free.collect();
            free.sort_unstable();
            numbers.extend(free.into_iter().take(rest).map(|(_, number)| number));
        }
        let before = given.len();
        for number in &numbers {
            given.entry(*number).or_default().begun = Some(now);
        }
        let added = given.len() - before;
        let is_empty = given.is_empty();
        table.count += added;
        if is_empty {
            table.by_content.remove(&hash);
        }
        drop(guard);
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
        let mut guard = self.sparing.table();
        let table = &mut *guard;
        let pieces = table.by_content.entry(self.hash).or_default();
        // Somebody else to whom it was given meanwhile may have left.
        let before = pieces.len();
        let piece = pieces.entry(*number).or_default();
        piece.times = piece.times.saturating_add(1);
        (piece.gone, piece.begun) = (Some(now), None);
        table.count += pieces.len() - before;
    }
}

impl Drop for Gift {
    fn drop(&mut self) {
        let rest = self.numbers.get(self.sent..).unwrap_or_default();
        let mut guard = self.sparing.table();
        let table = &mut *guard;
        let mut dropped = 0;
        let Some(pieces) = table.by_content.get_mut(&self.hash) else { return };
        for number in rest {
            if let Some(piece) = pieces.get_mut(number) {
                piece.begun = None;
                // What nobody was given is not remembered.
                if piece.times == 0 {
                    pieces.remove(number);
                    dropped += 1;
                }
            }
        }
        let is_empty = pieces.is_empty();
        if is_empty {
            table.by_content.remove(&self.hash);
        }
        table.count -= dropped;
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
    fn no_piece_goes_oftener_however_many_contents_are_asked_for_at_once() {
        let (sparing, begin) = (Arc::new(Sparing::default()), Instant::now());
        let content = |number: u64| ContentHash::of(&number.to_le_bytes());
        let give = |number, now| {
            let mut gift = sparing.give(content(number), 1, &set(1, [0]), 1, now);
            let count = gift.numbers().len();
            gift.sent(now);
            count
        };
        for (after, given) in [(Duration::ZERO, 1), (Duration::ZERO, 0), (GIVEN_AGAIN, 1)] {
            for number in 0..2_000 {
                assert_eq!(give(number, begin + after), given, "{number} after {after:?}");
            }
        }
        let soon = begin + GIVEN_AGAIN * 2;
        assert!((0..2_000).all(|number| give(number, soon) == 0), "not more than twice");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_beyond_it_nothing_is_given() {
        let (sparing, begin) = (Arc::new(Sparing::default()), Instant::now());
        let most = GIVEN_PIECES_MAX as u64;
        let (hash, all) = (ContentHash::of(b"1"), set(most + 10, 0..most + 10));
        let mut given = sparing.give(hash, most + 10, &all, GIVEN_PIECES_MAX + 10, begin);
        assert_eq!(given.numbers().len(), GIVEN_PIECES_MAX);
        let other = |now| sparing.give(ContentHash::of(b"2"), 1, &set(1, [0]), 1, now);
        assert!(other(begin).numbers().is_empty());
        // One that has not gone makes room.
        (1..most).for_each(|_| given.sent(begin));
        drop(given);
        let mut one = other(begin);
        assert_eq!(one.numbers(), [0]);
        one.sent(begin);
        drop(one);
        assert_eq!(sparing.table().count, GIVEN_PIECES_MAX);
        // And everything, once it is past.
        drop(other(begin + GIVEN_AGAIN_LATER));
        let table = sparing.table();
        assert_eq!((table.count, table.by_content.len()), (0, 0));
    }
}
