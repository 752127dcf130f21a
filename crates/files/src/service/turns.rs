//! Turns of what a group was told of: few contents come at once, and what nobody has waits without taking a turn from them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

/// For one file or folder. Shared by all that it takes to fetch it, and by whoever waits for that.
#[derive(Debug)]
pub struct Turn {
    turns: Arc<Semaphore>,
    /// The turn, where one of its contents is being fetched. Locked while it is waited for: once, for all of them.
    held: tokio::sync::Mutex<Weak<OwnedSemaphorePermit>>,
    looking: Mutex<Looking>,
    given_up: watch::Sender<bool>,
}

#[derive(Debug)]
struct Looking {
    /// Contents of it that are wanted now.
    wanted: usize,
    /// Those of them that nobody was found to have.
    nowhere: usize,
    /// When something came of it the last time; before that, when it had its first turn; before that, when it was begun.
    came: Instant,
    /// It has had a turn.
    has_had_turn: bool,
}

/// Has its turn as long as one of these is kept.
pub(super) type Held = Arc<OwnedSemaphorePermit>;

/// A content is wanted, as long as this is kept.
pub(super) struct Wanting<'a> {
    turn: &'a Turn,
    is_nowhere: bool,
}

impl Turn {
    /// None yet, of these.
    pub fn new(turns: &Arc<Semaphore>) -> Arc<Self> {
        let looking = Looking { wanted: 0, nowhere: 0, came: Instant::now(), has_had_turn: false };
        Arc::new(Self {
            turns: Arc::clone(turns),
            held: tokio::sync::Mutex::default(),
            looking: Mutex::new(looking),
            given_up: watch::Sender::new(false),
        })
    }

    fn looking(&self) -> MutexGuard<'_, Looking> {
        self.looking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when nobody was found who has anything of what it needs now; `None` where somebody has, or nothing is needed.
    pub fn nobody_since(&self) -> Option<Instant> {
        let looking = self.looking();
        (looking.wanted > 0 && looking.wanted == looking.nowhere).then_some(looking.came)
    }

    /// It is not waited for any longer: as soon as nobody has what it needs, it ends.
    pub fn give_up(&self) {
        self.given_up.send_replace(true);
    }

    /// Whether it was given up and nothing of it is being fetched: it ends as soon as what it has left is cleared up.
    pub fn is_ending(&self) -> bool {
        let looking = self.looking();
        *self.given_up.borrow() && looking.wanted == looking.nowhere
    }

    /// Ends when it was given up.
    pub(super) async fn given_up(&self) {
        // Both ends of it are here.
        let _ = self.given_up.subscribe().wait_for(|is_given_up| *is_given_up).await;
    }

    /// Waits for its turn, where it has none already; whether that was at once.
    pub(super) async fn take(&self) -> (Held, bool) {
        let mut held = self.held.lock().await;
        if let Some(turn) = held.upgrade() {
            return (turn, true);
        }
        let free = Arc::clone(&self.turns).try_acquire_owned().ok();
        let is_at_once = free.is_some();
        let turn = match free {
            Some(turn) => turn,
            // It is never closed.
            None => match Arc::clone(&self.turns).acquire_owned().await {
                Ok(turn) => turn,
                Err(error) => unreachable!("{error}"),
            },
        };
        let turn = Arc::new(turn);
        *held = Arc::downgrade(&turn);
        let mut looking = self.looking();
        if !std::mem::replace(&mut looking.has_had_turn, true) {
            // It could give nothing before.
            looking.came = Instant::now();
        }
        (turn, is_at_once)
    }

    /// Somebody looks for one of its contents.
    pub(super) fn wanting(&self) -> Wanting<'_> {
        self.looking().wanted += 1;
        Wanting { turn: self, is_nowhere: false }
    }

    /// Something came of it.
    pub(super) fn came(&self) {
        self.looking().came = Instant::now();
    }
}

impl Wanting<'_> {
    /// Whether it was looked for and nobody found, as far as is known by now.
    pub(super) fn is_nowhere(&mut self, is_nowhere: bool) {
        let mut looking = self.turn.looking();
        match (self.is_nowhere, is_nowhere) {
            (true, false) => looking.nowhere -= 1,
            (false, true) => looking.nowhere += 1,
            _ => {}
        }
        self.is_nowhere = is_nowhere;
    }
}

impl Drop for Wanting<'_> {
    fn drop(&mut self) {
        self.is_nowhere(false);
        self.turn.looking().wanted -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_turn_is_one_for_all_that_is_fetched_together_and_free_when_nothing_is() {
        let turns = Arc::new(Semaphore::new(1));
        let (one, other) = (Turn::new(&turns), Turn::new(&turns));
        let (first, at_once) = one.take().await;
        assert!(at_once);
        let (second, at_once) = one.take().await;
        assert!(at_once && turns.available_permits() == 0);
        drop(first);
        assert_eq!(turns.available_permits(), 0, "its other content is still coming");
        let mut waiting = std::pin::pin!(other.take());
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("there is one turn"),
            () = std::future::ready(()) => drop(second),
        }
        let (_turn, at_once) = waiting.await;
        assert!(!at_once, "who has it may have changed meanwhile");
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_in_which_it_waited_for_its_first_turn_does_not_count() {
        let turns = Arc::new(Semaphore::new(1));
        let turn = Turn::new(&turns);
        let mut wanting = turn.wanting();
        // Somebody has it, and others are being fetched.
        wanting.is_nowhere(false);
        let long = std::time::Duration::from_secs(10);
        tokio::time::advance(long).await;
        drop(turn.take().await);
        // It was tried, and the one who has it was busy.
        wanting.is_nowhere(true);
        assert!(turn.nobody_since().unwrap().elapsed() < long / 2);
        // It is so once: who says that he has it and gives nothing holds up nobody for ever.
        tokio::time::advance(long).await;
        wanting.is_nowhere(false);
        drop(turn.take().await);
        wanting.is_nowhere(true);
        assert!(turn.nobody_since().unwrap().elapsed() >= long);
    }

    #[test]
    fn it_is_nowhere_when_all_of_it_that_is_wanted_is() {
        let turn = Turn::new(&Arc::new(Semaphore::new(1)));
        assert_eq!(turn.nobody_since(), None, "nothing is wanted yet");
        let (mut one, mut other) = (turn.wanting(), turn.wanting());
        one.is_nowhere(true);
        assert_eq!(turn.nobody_since(), None, "the other one is looked for");
        other.is_nowhere(true);
        let since = turn.nobody_since().unwrap();
        one.is_nowhere(false);
        assert_eq!(turn.nobody_since(), None);
        one.is_nowhere(true);
        assert_eq!(turn.nobody_since(), Some(since), "it has given nothing");
        turn.came();
        assert!(turn.nobody_since().unwrap() > since && !turn.is_ending());
        turn.give_up();
        assert!(turn.is_ending());
        other.is_nowhere(false);
        assert!(!turn.is_ending(), "somebody has it after all");
        other.is_nowhere(true);
        one.is_nowhere(false);
        drop(one);
        assert!(turn.nobody_since().is_some());
        drop(other);
        assert_eq!(turn.nobody_since(), None);
    }
}
