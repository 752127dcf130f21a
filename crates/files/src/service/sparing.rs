//! Who had a content first gives it to many at once sparingly: each piece to one of them, as far as it can; they give it to
//! each other. So a file that a group is told of costs its first holder less than twice its size (1.6 times, measured), however many
//! members there are; and never more than that within a minute, however many contents are asked for at once.
//!
//! No account can keep the others from it: what it does not take goes to somebody else, it has so many pieces on their way only,
//! and a piece that it was given goes to another account next, where there is one that asks.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::content::ContentHash;
use crate::limits::{
    ASKED_LATELY, GIFT_WAIT, GIVEN_AGAIN, GIVEN_AGAIN_LATER, GIVEN_AT_ONCE, GIVEN_PIECES_MAX,
};
use crate::pieces::PieceSet;

/// See the module.
#[derive(Debug, Default)]
pub struct Sparing {
    table: Mutex<Table>,
    /// Accounts are told apart by their hashes.
    hashes: RandomState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Account(u64);

#[derive(Debug, Default)]
struct Table {
    by_content: HashMap<ContentHash, Content>,
    /// What accounts were given a moment ago.
    by_account: HashMap<Account, Vec<Arc<Gift>>>,
    /// Pieces of all contents.
    count: usize,
    /// When what is over was forgotten the last time.
    swept: Option<Instant>,
}

#[derive(Debug, Default)]
struct Content {
    pieces: HashMap<u64, Once>,
    /// The last two that have asked, and when.
    asked: [Option<(Account, Instant)>; 2],
}

/// Of one piece that was given, or is being given.
#[derive(Debug, Default)]
struct Once {
    times: u8,
    /// When it went the last time.
    gone: Option<Instant>,
    /// On its way to somebody.
    begun: Option<Arc<Claim>>,
    /// To whom it was given lately, and when.
    to: Vec<(Account, Instant)>,
}

/// What one answer gives.
#[derive(Debug)]
struct Gift {
    account: Account,
    /// When something of it was taken the last time.
    taken: Mutex<Instant>,
    /// Pieces that have not gone.
    left: AtomicUsize,
}

/// Whose a piece is that is on its way.
#[derive(Debug)]
pub struct Claim {
    gift: Arc<Gift>,
    is_lost: AtomicBool,
}

fn is_over(since: Instant, wait: Duration, now: Instant) -> bool {
    now.saturating_duration_since(since) >= wait
}

impl Gift {
    fn taken(&self) -> MutexGuard<'_, Instant> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing of it was taken for too long.
    fn is_stuck(&self, now: Instant) -> bool {
        is_over(*self.taken(), GIFT_WAIT, now)
    }
}

impl Claim {
    /// Some of it is taken; `false` where that took too long, and it was given to somebody else.
    pub fn goes_on(&self, now: Instant) -> bool {
        *self.gift.taken() = now;
        !self.is_lost.load(Ordering::Relaxed)
    }
}

impl Once {
    /// Whether `account` may be given it; where `others` ask, too, not within a minute of the last time.
    fn is_free(&self, account: Account, others: bool, now: Instant) -> bool {
        let wait = if self.times <= 1 { GIVEN_AGAIN } else { GIVEN_AGAIN_LATER };
        let had =
            |(to, at): &(Account, Instant)| *to == account && !is_over(*at, GIVEN_AGAIN_LATER, now);
        self.gone.is_none_or(|gone| is_over(gone, wait, now))
            && self.begun.as_ref().is_none_or(|claim| claim.gift.is_stuck(now))
            && !(others && self.to.iter().any(had))
    }

    fn begin(&mut self, claim: Arc<Claim>, now: Instant) {
        self.to.retain(|(_, at)| !is_over(*at, GIVEN_AGAIN_LATER, now));
        self.to.push((claim.gift.account, now));
        if let Some(before) = self.begun.replace(claim) {
            before.is_lost.store(true, Ordering::Relaxed);
        }
    }

    fn is_with(&self, claim: &Arc<Claim>) -> bool {
        self.begun.as_ref().is_some_and(|begun| Arc::ptr_eq(begun, claim))
    }

    /// Whether nothing follows from it any more: forgotten, it goes no oftener than it would go otherwise.
    fn is_past(&self, now: Instant) -> bool {
        let is_past = |at: Instant| is_over(at, GIVEN_AGAIN_LATER, now);
        self.begun.is_none()
            && self.gone.is_none_or(is_past)
            && self.to.iter().all(|(_, at)| is_past(*at))
    }
}

impl Content {
    /// `account` asks; whether others have asked, too, a moment ago.
    fn asks(&mut self, account: Account, now: Instant) -> bool {
        let is_other = |(other, at): &(Account, Instant)| {
            *other != account && !is_over(*at, ASKED_LATELY, now)
        };
        let others = self.asked.iter().flatten().any(is_other);
        if self.asked[0].is_some_and(|(last, _)| last != account) {
            self.asked[1] = self.asked[0];
        }
        self.asked[0] = Some((account, now));
        others
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
        self.by_content.retain(|_, content| {
            content.pieces.retain(|_, piece| !piece.is_past(now));
            !content.pieces.is_empty()
        });
        self.by_account.retain(|_, gifts| gifts.iter().any(|gift| !gift.is_stuck(now)));
        self.count = self.by_content.values().map(|content| content.pieces.len()).sum();
    }

    /// How many pieces more an account may be given now: those count that are on their way to it, and for a moment those
    /// that it has let go.
    fn room(&mut self, account: Account, now: Instant) -> usize {
        let gifts = self.by_account.entry(account).or_default();
        gifts.retain(|gift| gift.left.load(Ordering::Relaxed) > 0 && !gift.is_stuck(now));
        let left: usize = gifts.iter().map(|gift| gift.left.load(Ordering::Relaxed)).sum();
        GIVEN_AT_ONCE.saturating_sub(left)
    }
}

/// How often a full table is looked through.
const SWEEP_FULL: Duration = Duration::from_millis(500);

impl Sparing {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is on its way, and nothing went lately.
    #[cfg(test)]
    pub fn is_idle(&self) -> bool {
        self.table().count == 0
    }

    /// Chooses at most `max` of the pieces that an account wants, of a content that has `pieces`: those that were given the
    /// least. They are on their way until they are [`Given::gone`], or dropped. Where more is remembered than there is room for,
    /// only what was given before can be given: the others wait.
    pub fn give(
        self: &Arc<Self>,
        (hash, pieces): (ContentHash, u64),
        wanted: &PieceSet,
        max: usize,
        account: &str,
        now: Instant,
    ) -> Vec<Given> {
        let account = Account(self.hashes.hash_one(account));
        let mut guard = self.table();
        let table = &mut *guard;
        table.sweep(now);
        let max = max.min(table.room(account, now));
        let room = GIVEN_PIECES_MAX.saturating_sub(table.count);
        let content = table.by_content.entry(hash).or_default();
        let others = content.asks(account, now);
        let given = &mut content.pieces;
        let asked = || wanted.iter().filter(|number| *number < pieces);
        let mut numbers: Vec<u64> =
            asked().filter(|number| !given.contains_key(number)).take(max.min(room)).collect();
        let rest = max - numbers.len();
        if rest > 0 {
            let free = asked().filter_map(|number| {
                let piece = given.get(&number)?;
                piece.is_free(account, others, now).then(|| (piece.times.min(2), number))
            });
            let mut free: Vec<(u8, u64)> = free.collect();
            free.sort_unstable();
            numbers.extend(free.into_iter().take(rest).map(|(_, number)| number));
        }
        let before = given.len();
        let gift = Gift { account, taken: Mutex::new(now), left: AtomicUsize::new(numbers.len()) };
        let gift = Arc::new(gift);
        let claimed = numbers.into_iter().map(|number| {
            let claim = Claim { gift: Arc::clone(&gift), is_lost: AtomicBool::new(false) };
            let claim = Arc::new(claim);
            given.entry(number).or_default().begin(Arc::clone(&claim), now);
            Given { sparing: Arc::clone(self), hash, number, claim, is_gone: false }
        });
        let claimed: Vec<Given> = claimed.collect();
        table.count += given.len() - before;
        if given.is_empty() {
            table.by_content.remove(&hash);
        }
        if !claimed.is_empty() {
            table.by_account.entry(account).or_default().push(gift);
        }
        claimed
    }
}

/// A piece that is on its way to somebody.
#[derive(Debug)]
pub struct Given {
    sparing: Arc<Sparing>,
    hash: ContentHash,
    number: u64,
    claim: Arc<Claim>,
    is_gone: bool,
}

impl Given {
    /// Which one it is.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// To be asked whenever some of it is taken.
    pub const fn claim(&self) -> &Arc<Claim> {
        &self.claim
    }

    /// All of it was taken.
    pub fn gone(mut self, now: Instant) {
        self.is_gone = true;
        self.claim.gift.left.fetch_sub(1, Ordering::Relaxed);
        let mut guard = self.sparing.table();
        let table = &mut *guard;
        let pieces = &mut table.by_content.entry(self.hash).or_default().pieces;
        // Somebody else to whom it was given meanwhile may have left.
        let before = pieces.len();
        let piece = pieces.entry(self.number).or_default();
        piece.times = piece.times.saturating_add(1);
        piece.gone = Some(now);
        if piece.is_with(&self.claim) {
            piece.begun = None;
        }
        table.count += pieces.len() - before;
    }

    /// It has not gone, and does not.
    fn let_go(&self, now: Instant) {
        let mut guard = self.sparing.table();
        let table = &mut *guard;
        let Some(content) = table.by_content.get_mut(&self.hash) else { return };
        let Some(piece) = content.pieces.get_mut(&self.number) else { return };
        if !piece.is_with(&self.claim) {
            return;
        }
        piece.begun = None;
        let gift = &self.claim.gift;
        // Who has kept others from it for a while has had it.
        if !is_over(*gift.taken(), GIFT_WAIT / 2, now) {
            piece.to.pop_if(|(to, _)| *to == gift.account);
        }
        // What nobody was given is not remembered.
        if piece.times == 0 && piece.to.is_empty() {
            content.pieces.remove(&self.number);
            table.count -= 1;
            if content.pieces.is_empty() {
                table.by_content.remove(&self.hash);
            }
        }
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        if !self.is_gone {
            self.let_go(Instant::now());
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

    fn numbers(given: &[Given]) -> Vec<u64> {
        given.iter().map(Given::number).collect()
    }

    fn all_gone(given: Vec<Given>, now: Instant) {
        given.into_iter().for_each(|piece| piece.gone(now));
    }

    /// Which they are, once they were let go at that time.
    fn let_go(given: Vec<Given>, now: Instant) -> Vec<u64> {
        let all = given.into_iter().map(|mut piece| {
            piece.let_go(now);
            piece.is_gone = true;
            piece.number
        });
        all.collect()
    }

    #[test]
    fn each_piece_is_given_to_one_and_again_only_where_that_one_may_have_died() {
        let (sparing, begin) = (Arc::new(Sparing::default()), Instant::now());
        let (hash, other) = (ContentHash::of(b"1"), ContentHash::of(b"2"));
        let all = set(5, 0..5);
        let give = |max, now| sparing.give((hash, 5), &all, max, "ana", now);
        let mut one = give(2, begin);
        let two = give(9, begin);
        assert_eq!((numbers(&one), numbers(&two)), (vec![0, 1], vec![2, 3, 4]));
        assert!(give(9, begin + GIFT_WAIT / 2).is_empty(), "on their way");
        let another = sparing.give((other, 5), &all, 1, "ana", begin);
        assert_eq!(let_go(another, begin), [0], "another content");
        one.remove(0).gone(begin);
        // What did not go is given to the next one.
        assert_eq!(let_go(one, begin), [1]);
        all_gone(two, begin);
        let next = give(9, begin);
        assert_eq!(numbers(&next), [1]);
        all_gone(next, begin + GIVEN_AGAIN);
        // Again, after a while: those that have not gone just now.
        let again = begin + GIVEN_AGAIN;
        let two = set(5, [1, 4]);
        let given = sparing.give((hash, 5), &two, 9, "ana", again);
        assert_eq!(let_go(given, again), [4]);
        let again = give(9, again);
        assert_eq!(numbers(&again), [0, 2, 3, 4]);
        all_gone(again, begin + GIVEN_AGAIN);
        // And a third time much later only: not more than twice within a minute.
        let soon = begin + GIVEN_AGAIN_LATER;
        let rest = give(9, soon);
        assert_eq!(numbers(&rest), [1]);
        all_gone(rest, soon);
        let later = begin + GIVEN_AGAIN + GIVEN_AGAIN_LATER;
        assert_eq!(numbers(&give(9, later)), [0, 2, 3, 4]);
    }

    #[test]
    fn what_is_not_taken_goes_to_somebody_else_and_comes_to_nobody_twice() {
        let (sparing, begin) = (Arc::new(Sparing::default()), Instant::now());
        let (hash, all) = (ContentHash::of(b"1"), set(4, 0..4));
        let give = |account, now| sparing.give((hash, 4), &all, 9, account, now);
        let stuck = give("eva", begin);
        let soon = begin + GIFT_WAIT / 2;
        assert!(give("ana", soon).is_empty());
        assert!(stuck[0].claim().goes_on(soon));
        let late = begin + GIFT_WAIT;
        assert!(give("ana", late).is_empty(), "some of it was taken");
        let late = soon + GIFT_WAIT;
        assert!(give("eva", late).is_empty(), "somebody else asks");
        let taken = give("ana", late);
        assert_eq!(numbers(&taken), [0, 1, 2, 3]);
        assert!(stuck.iter().all(|piece| !piece.claim().goes_on(late)), "they are hers no more");
        drop(stuck);
        assert!(give("luis", late).is_empty(), "on their way to another");
        assert!(taken.iter().all(|piece| piece.claim().goes_on(late)));
        all_gone(taken, late);
        let again = late + GIVEN_AGAIN;
        assert!(give("eva", again).is_empty() && give("ana", again).is_empty(), "once a minute");
        assert_eq!(give("luis", again).len(), 4);
    }

    #[test]
    fn the_second_time_is_another_accounts_where_another_one_asks() {
        let (sparing, begin) = (Arc::new(Sparing::default()), Instant::now());
        let (hash, all) = (ContentHash::of(b"1"), set(3, 0..3));
        let give = |account, now| sparing.give((hash, 3), &all, 9, account, now);
        // Members of one account have what the first one of them was given, if that one has died.
        all_gone(give("ana", begin), begin);
        let again = begin + GIVEN_AGAIN;
        assert_eq!(let_go(give("ana", again), again).len(), 3);
        // Who lets them go at once has not had them.
        assert_eq!(let_go(give("ana", again), again).len(), 3);
        assert_eq!(let_go(give("eva", again), again).len(), 3);
        assert!(give("ana", again).is_empty(), "somebody else has asked");
        all_gone(give("eva", again), again);
        assert!(give("eva", again + GIVEN_AGAIN).is_empty());
        // Who asks no more is waited for no longer.
        let other = ContentHash::of(b"2");
        let give = |account, now| sparing.give((other, 3), &all, 9, account, now);
        all_gone(give("ana", begin), begin);
        assert!(give("eva", begin).is_empty());
        assert!(give("ana", begin + ASKED_LATELY / 2).is_empty());
        assert_eq!(give("ana", begin + ASKED_LATELY).len(), 3);
    }

    #[test]
    fn who_has_kept_others_from_it_for_a_while_has_had_it() {
        let (sparing, begin) = (Arc::new(Sparing::default()), Instant::now());
        let (hash, all) = (ContentHash::of(b"1"), set(1, [0]));
        let give = |account, now| sparing.give((hash, 1), &all, 1, account, now);
        let hers = give("eva", begin);
        let late = begin + GIFT_WAIT / 2;
        assert!(give("ana", late).is_empty());
        let_go(hers, late);
        assert!(give("eva", late).is_empty(), "somebody else asks");
        assert_eq!(let_go(give("ana", late), late), [0]);
    }

    #[test]
    fn an_account_has_so_many_pieces_on_their_way_and_others_have_the_rest() {
        let (sparing, begin) = (Arc::new(Sparing::default()), Instant::now());
        let most = GIVEN_AT_ONCE as u64;
        let (hash, all) = (ContentHash::of(b"1"), set(3 * most, 0..3 * most));
        let give = |account, now| sparing.give((hash, 3 * most), &all, 16, account, now);
        let mut hers: Vec<Vec<Given>> = (0..9).map(|_| give("eva", begin)).collect();
        assert_eq!(hers.iter().flatten().count(), GIVEN_AT_ONCE);
        assert_eq!(let_go(give("ana", begin), begin)[0], most);
        all_gone(hers.remove(0), begin);
        assert_eq!(let_go(give("eva", begin), begin).len(), 16, "what has gone makes room");
        // Those that she let go just now do not.
        assert!(give("eva", begin).is_empty());
        assert_eq!(give("eva", begin + GIFT_WAIT).len(), 16);
    }

    #[test]
    fn no_piece_goes_oftener_however_many_contents_are_asked_for_at_once() {
        let (sparing, begin) = (Arc::new(Sparing::default()), Instant::now());
        let content = |number: u64| ContentHash::of(&number.to_le_bytes());
        let give = |number, now| {
            let gift = sparing.give((content(number), 1), &set(1, [0]), 1, "ana", now);
            let count = gift.len();
            all_gone(gift, now);
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
        let hash = ContentHash::of(b"1");
        let mut given = Vec::new();
        for first in (0..most).step_by(GIVEN_AT_ONCE) {
            let wanted = set(most + 10, first..first + GIVEN_AT_ONCE as u64);
            let account = first.to_string();
            given.extend(sparing.give((hash, most + 10), &wanted, GIVEN_AT_ONCE, &account, begin));
        }
        assert_eq!(given.len(), GIVEN_PIECES_MAX);
        let other = |now| sparing.give((ContentHash::of(b"2"), 1), &set(1, [0]), 1, "ana", now);
        assert!(other(begin).is_empty());
        // One that has not gone makes room.
        let_go(given.split_off(GIVEN_PIECES_MAX - 1), begin);
        all_gone(given, begin);
        let one = other(begin);
        assert_eq!(numbers(&one), [0]);
        all_gone(one, begin);
        assert_eq!(sparing.table().count, GIVEN_PIECES_MAX);
        // And everything, once it is past.
        let_go(other(begin + GIVEN_AGAIN_LATER), begin + GIVEN_AGAIN_LATER);
        let mut table = sparing.table();
        table.swept = None;
        table.sweep(begin + GIVEN_AGAIN_LATER * 2);
        assert_eq!((table.count, table.by_content.len(), table.by_account.len()), (0, 0, 0));
    }
}
