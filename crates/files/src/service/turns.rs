//! Whose turn it is where many fetch one content at once: a few get it from here, and the others from those few. So a file that
//! a group is told of costs who has it first a few times its size, however many members there are.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::content::ContentHash;
use crate::identity::Fingerprint;
use crate::limits::{TURN_KEPT, TURNS_MAX};

/// See the module.
#[derive(Debug, Default)]
pub struct Turns {
    by_content: Mutex<HashMap<ContentHash, Vec<(Fingerprint, Instant)>>>,
}

impl Turns {
    /// Whether it is this peer's turn; it is as long as it goes on asking.
    pub fn take(&self, hash: ContentHash, who: Fingerprint, now: Instant) -> bool {
        let mut by_content = self.by_content.lock().unwrap_or_else(PoisonError::into_inner);
        by_content.retain(|_, turns| {
            turns.retain(|(_, last)| now.saturating_duration_since(*last) < TURN_KEPT);
            !turns.is_empty()
        });
        let turns = by_content.entry(hash).or_default();
        if let Some((_, last)) = turns.iter_mut().find(|(other, _)| *other == who) {
            *last = now;
            return true;
        }
        if turns.len() >= TURNS_MAX {
            return false;
        }
        turns.push((who, now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_have_their_turn_until_they_are_silent() {
        let (turns, begin) = (Turns::default(), Instant::now());
        let (one, other) = (ContentHash::of(b"1"), ContentHash::of(b"2"));
        let who = |number| Fingerprint([number; 32]);
        assert!(turns.take(one, who(1), begin) && turns.take(one, who(2), begin));
        assert!(!turns.take(one, who(3), begin));
        assert!(turns.take(other, who(3), begin), "another content has other turns");
        let later = begin + TURN_KEPT / 2;
        assert!(turns.take(one, who(1), later));
        let last = begin + TURN_KEPT;
        assert!(turns.take(one, who(3), last), "who was silent has made room");
        assert!(!turns.take(one, who(2), last), "who went on asking has not");
    }
}
