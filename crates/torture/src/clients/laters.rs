//! What a member's program does some time after it was given an entry.

use std::collections::BTreeMap;

use tokio::time::{Duration, Instant, sleep_until};

/// What it does with a message in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Confirms it.
    Done,
    /// Will not do it, with this code.
    Fail(String),
}

/// Deeds by their time.
#[derive(Debug, Default)]
pub struct Laters {
    by_time: BTreeMap<(Instant, u64), Deed>,
}

impl Laters {
    /// In so many milliseconds.
    pub fn add(&mut self, ms: u64, seq: u64, deed: Deed) {
        self.by_time.insert((Instant::now() + Duration::from_millis(ms), seq), deed);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_time.len()
    }

    /// Waits for the next one's time; for ever while there is none.
    pub async fn due(&self) {
        match self.by_time.first_key_value() {
            Some(((time, _), _)) => sleep_until(*time).await,
            None => std::future::pending().await,
        }
    }

    /// Those whose time has come.
    pub fn take(&mut self) -> Vec<(u64, Deed)> {
        let later = self.by_time.split_off(&(Instant::now(), 0));
        let due = std::mem::replace(&mut self.by_time, later);
        due.into_iter().map(|((_, seq), deed)| (seq, deed)).collect()
    }
}
