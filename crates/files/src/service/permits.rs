//! How many answers with pieces are under way: so many for one account, so many for all; who finds no room waits a little.
//!
//! An answer keeps what was read for it until somebody takes it, and its permit until all of that has gone. So these numbers bound what all that take nothing cost; and who
//! takes nothing for too long is disconnected, since nothing else ends a stream of which nothing is taken.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, interval, timeout};

use super::listen::Cut;
use crate::limits::{ANSWERS_MAX, ANSWERS_PER_ACCOUNT, PERMIT_WAIT, WRITE_WAIT, WRITE_WAIT_WANTED};

/// How often it is looked who takes nothing.
const LOOK: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub struct Permits {
    all: Arc<Semaphore>,
    /// By account; of those that have one or wait for one.
    by_account: Mutex<HashMap<String, Weak<Semaphore>>>,
    /// Who would have one if there were more in all.
    waiting: AtomicUsize,
    under_way: Mutex<Vec<Weak<Permit>>>,
}

/// The right to one answer, until it is dropped.
#[derive(Debug)]
pub struct Permit {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
    /// Its connection.
    cut: Arc<Cut>,
    /// When something of the answer was taken, or has gone, the last time.
    taken: Mutex<Instant>,
}

impl Permit {
    fn taken(&self) -> MutexGuard<'_, Instant> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Some of it is taken, or has gone.
    pub fn goes_on(&self) {
        let now = Instant::now();
        *self.taken() = now;
        self.cut.goes_on(now);
    }
}

/// Waits until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Default for Permits {
    fn default() -> Self {
        let all = Arc::new(Semaphore::new(ANSWERS_MAX));
        let (by_account, under_way) = (Mutex::default(), Mutex::default());
        Self { all, by_account, waiting: AtomicUsize::new(0), under_way }
    }
}

impl Permits {
    fn of(&self, account: &str) -> Arc<Semaphore> {
        let mut by_account = self.by_account.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = by_account.get(account).and_then(Weak::upgrade) {
            return known;
        }
        by_account.retain(|_, of| of.strong_count() > 0);
        let new = Arc::new(Semaphore::new(ANSWERS_PER_ACCOUNT));
        by_account.insert(account.to_owned(), Arc::downgrade(&new));
        new
    }

    fn under_way(&self) -> MutexGuard<'_, Vec<Weak<Permit>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A permit for this account, those first that have waited for longest; `None` where there was none for [`PERMIT_WAIT`]. The
    /// connection ends where nothing is taken for too long.
    pub async fn permit(&self, account: &str, cut: &Arc<Cut>) -> Option<Arc<Permit>> {
        let own = self.of(account);
        let both = async {
            let own = own.acquire_owned().await.ok()?;
            let _waiting = Waiting::new(&self.waiting);
            let all = Arc::clone(&self.all).acquire_owned().await.ok()?;
            let (cut, taken) = (Arc::clone(cut), Mutex::new(Instant::now()));
            Some(Arc::new(Permit { _own: own, _all: all, cut, taken }))
        };
        let permit = timeout(PERMIT_WAIT, both).await.ok().flatten()?;
        let mut under_way = self.under_way();
        if under_way.len() >= 2 * ANSWERS_MAX {
            under_way.retain(|permit| permit.strong_count() > 0);
        }
        under_way.push(Arc::downgrade(&permit));
        drop(under_way);
        Some(permit)
    }

    /// Disconnects who takes nothing, for ever.
    pub async fn watch(&self) {
        let mut look = interval(LOOK);
        loop {
            let now = look.tick().await;
            // Whoever waits would have a permit if others had fewer.
            let is_wanted = self.waiting.load(Ordering::Relaxed) > 0;
            self.under_way().retain(|permit| {
                let Some(permit) = permit.upgrade() else { return false };
                let silent = |since: Instant| now.saturating_duration_since(since);
                let taken = *permit.taken();
                // A slow line has one answer after the other: who takes any of them takes something.
                let is_in_the_way = is_wanted
                    && silent(permit.cut.went_on().map_or(taken, |went_on| went_on.max(taken)))
                        >= WRITE_WAIT_WANTED;
                if is_in_the_way || silent(taken) >= WRITE_WAIT {
                    tracing::debug!("nobody takes an answer: the connection ends");
                    permit.cut.cut();
                }
                true
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_account_has_so_many_turns_and_others_still_have_theirs() {
        let (permits, cut) = (Permits::default(), Arc::default());
        let mut held = Vec::new();
        for _ in 0..ANSWERS_PER_ACCOUNT {
            held.push(permits.permit("eva", &cut).await.unwrap());
        }
        assert!(permits.permit("eva", &cut).await.is_none());
        assert!(permits.permit("ana", &cut).await.is_some());
        // Who waits has the next one.
        let (waited, ()) = tokio::join!(permits.permit("eva", &cut), async { drop(held.pop()) });
        assert!(waited.is_some());
        drop((waited, held));
        for _ in 0..3 * ANSWERS_MAX {
            assert!(permits.permit("luis", &cut).await.is_some());
        }
        assert_eq!(permits.by_account.lock().unwrap().len(), 1, "nobody else is remembered");
        assert!(permits.under_way().len() <= 2 * ANSWERS_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_disconnected_and_sooner_where_others_wait() {
        let permits = Arc::new(Permits::default());
        let watching = Arc::clone(&permits);
        tokio::spawn(async move { watching.watch().await });
        let (slow, stuck) = (Arc::<Cut>::default(), Arc::<Cut>::default());
        let (one, other) =
            (permits.permit("ana", &slow).await, permits.permit("eva", &stuck).await);
        let taking = one.clone().unwrap();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(WRITE_WAIT_WANTED / 2).await;
                taking.goes_on();
            }
        });
        tokio::time::sleep(WRITE_WAIT - LOOK).await;
        assert!(!stuck.was_cut());
        tokio::time::sleep(2 * LOOK).await;
        assert!(stuck.was_cut() && !slow.was_cut());
        drop(other);
        // All there are, and somebody waits.
        let stuck = Arc::<Cut>::default();
        // One that waits behind another answer of its connection, of which something goes.
        let mut held = vec![permits.permit("ana", &slow).await.unwrap()];
        for number in 2..ANSWERS_MAX {
            let account = (number / ANSWERS_PER_ACCOUNT).to_string();
            held.push(permits.permit(&account, &stuck).await.unwrap());
        }
        tokio::time::sleep(WRITE_WAIT_WANTED).await;
        assert!(!stuck.was_cut(), "nobody waits");
        assert!(permits.permit("luis", &stuck).await.is_none());
        assert!(stuck.was_cut() && !slow.was_cut());
        held.pop();
        assert!(permits.permit("luis", &stuck).await.is_some());
    }
}
