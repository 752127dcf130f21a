//! The node's budget of bytes that wait for connections: half frames, answers that are not read, what was read for slow readers.
//!
//! Each connection says what it holds. Beyond the budget the one that has held on for longest is asked to give up, not the one
//! that came last: who fills the budget and goes silent pays for it, and nobody else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};

use crate::wake::Wake;

/// Bytes of each connection that are not counted: an idle or well-behaved one never takes the lock.
const FREE_BYTES: usize = 16 << 10;
/// Counted in steps of this, for the same reason.
const STEP_BYTES: usize = 16 << 10;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bytes_max: usize,
    holders: Mutex<Holders>,
}

#[derive(Debug, Default)]
struct Holders {
    bytes: usize,
    next: u64,
    /// Who holds on for longest comes first.
    by_age: BTreeMap<u64, Holder>,
}

#[derive(Debug)]
struct Holder {
    bytes: usize,
    /// Asks it to give up.
    call: Arc<Wake>,
}

/// What one connection holds; given back when dropped.
#[derive(Debug)]
pub(crate) struct Held {
    budget: Arc<Inner>,
    /// Asks it to give up; made when there is something, or somebody who waits.
    call: OnceLock<Arc<Wake>>,
    /// Its place in the order of age; past everything before the first.
    age: u64,
    bytes: usize,
}

impl Budget {
    pub fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Inner { bytes_max, holders: Mutex::default() }))
    }

    /// For a connection that holds nothing yet.
    pub fn holder(&self) -> Held {
        Held { budget: Arc::clone(&self.0), call: OnceLock::new(), age: u64::MAX, bytes: 0 }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Holders> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// The connection holds `bytes` now. `anew`: what it held before is done with, so that it counts as the youngest.
    pub fn set(&mut self, bytes: usize, anew: bool) {
        let counted = bytes.saturating_sub(FREE_BYTES).next_multiple_of(STEP_BYTES);
        if counted == self.bytes && (counted == 0 || !anew) {
            return;
        }
        let mut holders = self.budget.lock();
        let before = holders.take(self.age);
        if before.is_none() || anew {
            self.age = holders.next;
            holders.next += 1;
        }
        self.bytes = counted;
        if counted > 0 {
            let holder = Holder { bytes: counted, call: Arc::clone(self.call()) };
            holders.bytes += counted;
            holders.by_age.insert(self.age, holder);
        } else if let Some(call) = self.call.get() {
            call.forget();
        }
        while holders.bytes > self.budget.bytes_max
            && let Some(oldest) = holders.by_age.first_key_value().map(|(age, _)| *age)
        {
            // It counts as given up from here on, so that nobody else has to pay for it too.
            if let Some(holder) = holders.take(oldest) {
                holder.call.wake();
            }
        }
    }

    fn call(&self) -> &Arc<Wake> {
        self.call.get_or_init(Arc::default)
    }

    /// Whether it holds more than what is free.
    pub fn is_counted(&self) -> bool {
        self.bytes > 0
    }

    /// For whoever waits for the call without holding this.
    pub fn caller(&self) -> Caller {
        Caller(Arc::clone(self.call()))
    }

    /// Waits until this connection has to give up what it holds.
    pub async fn called(&self) {
        self.call().woken().await;
    }

    /// The same, for who waits for several things.
    pub fn poll_called(&self, cx: &Context<'_>) -> Poll<()> {
        self.call().poll_woken(cx)
    }
}

/// Hears the call to give up, for a [`Held`] that is somewhere else.
#[derive(Debug)]
pub(crate) struct Caller(Arc<Wake>);

impl Caller {
    /// Waits until the connection has to give up what it holds.
    pub async fn called(&self) {
        self.0.woken().await;
    }
}

impl Holders {
    fn take(&mut self, age: u64) -> Option<Holder> {
        let holder = self.by_age.remove(&age)?;
        self.bytes -= holder.bytes;
        Some(holder)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.lock().take(self.age);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_called(held: &Held) -> bool {
        held.call.get().is_some_and(|call| call.is_due())
    }

    #[test]
    fn the_one_that_holds_on_for_longest_gives_up() {
        let budget = Budget::new(1 << 20);
        let (mut silent, mut busy, mut late) = (budget.holder(), budget.holder(), budget.holder());
        busy.set(500_000, true);
        silent.set(500_000, false);
        // It has finished a frame and holds another: now the silent one is the oldest.
        busy.set(500_000, true);
        late.set(500_000, false);
        assert!(is_called(&silent) && !is_called(&busy) && !is_called(&late));
        assert!(budget.0.lock().bytes <= 1 << 20);
    }

    #[test]
    fn what_is_given_back_is_free_again_and_little_is_not_counted() {
        let budget = Budget::new(100_000);
        let mut holders: Vec<Held> = (0..100).map(|_| budget.holder()).collect();
        holders.iter_mut().for_each(|held| held.set(FREE_BYTES, false));
        assert_eq!(budget.0.lock().bytes, 0);
        for held in &mut holders {
            held.set(60_000, false);
            assert!(!is_called(held));
            held.set(0, false);
        }
        holders[0].set(60_000, false);
        drop(holders);
        let holders = budget.0.lock();
        assert_eq!((holders.bytes, holders.by_age.len()), (0, 0));
    }
}
