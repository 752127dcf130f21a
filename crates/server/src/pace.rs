//! How fast somebody may go on with what only costs others: a rate, and what may come at once before it holds.
//!
//! Four things are metered: connections that a door takes, what one connection has been refused, how often the connections of one
//! address have ended badly, and what answering the requests of one address costs. Whoever is too fast waits; nobody is turned away
//! for it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::thread_cpu;
use crate::shared::counted_as;

/// A rate (GCRA, ITU-T I.371).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// So many may come at once.
    pub burst: u32,
    /// And then so many a second.
    pub per_s: u32,
}

impl Pace {
    fn takes(self, count: u32) -> Duration {
        Duration::from_secs(1) / self.per_s.max(1) * count
    }
}

/// What one of those who are metered has used of a [`Pace`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Meter {
    /// Everything is paid for then.
    paid: Option<Instant>,
}

impl Meter {
    /// Uses `count`. What was used is told by [`Meter::until`], and never refused.
    pub fn spend(&mut self, pace: Pace, count: u32, now: Instant) {
        self.paid = Some(self.paid.map_or(now, |paid| paid.max(now)) + pace.takes(count));
    }

    /// Until when there is nothing left to use; `None` while there is.
    pub fn until(&self, pace: Pace, now: Instant) -> Option<Instant> {
        self.paid.and_then(|paid| paid.checked_sub(pace.takes(pace.burst))).filter(|at| *at > now)
    }

    /// The same for now. The clock is read only where something was used: it is asked before each wait of a connection.
    pub fn until_from_now(&self, pace: Pace) -> Option<Instant> {
        self.paid.and_then(|_| self.until(pace, Instant::now()))
    }

    /// Nothing is owed any more.
    fn is_even(&self, now: Instant) -> bool {
        self.paid.is_none_or(|paid| paid <= now)
    }
}

/// A [`Meter`] for each address.
#[derive(Debug)]
struct Meters {
    pace: Pace,
    remembered_max: usize,
    by_address: Mutex<HashMap<IpAddr, Meter>>,
}

impl Meters {
    /// So many addresses are remembered, and those that owe nothing are forgotten first.
    fn new(pace: Pace, remembered_max: usize) -> Self {
        Self { pace, remembered_max, by_address: Mutex::default() }
    }

    fn until(&self, address: IpAddr, now: Instant) -> Option<Instant> {
        let meters = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        meters.get(&address).and_then(|meter| meter.until(self.pace, now))
    }

    /// Uses `count`, but not by somebody who would have to wait longer than `wait_max` already: what is owed has an end, so that a
    /// long attack is not paid for long after it.
    fn spend(&self, address: IpAddr, count: u32, wait_max: Duration, now: Instant) {
        let mut meters = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if meters.len() >= self.remembered_max && !meters.contains_key(&address) {
            meters.retain(|_, meter| !meter.is_even(now));
            if meters.len() >= self.remembered_max {
                // All of them owe something; most of it is paid within seconds.
                meters.clear();
            }
        }
        let meter = meters.entry(address).or_default();
        if meter.until(self.pace, now).is_none_or(|at| at < now + wait_max) {
            meter.spend(self.pace, count, now);
        }
    }
}

/// How the connections of each address have ended lately.
#[derive(Debug)]
pub(crate) struct Conduct {
    meters: Meters,
    wait_max: Duration,
}

impl Conduct {
    /// A new connection waits `wait_max` at most; so many addresses are remembered.
    pub fn new(pace: Pace, wait_max: Duration, remembered_max: usize) -> Self {
        Self { meters: Meters::new(pace, remembered_max), wait_max }
    }

    /// Until when a new connection from this address waits before it is read.
    pub fn until(&self, address: IpAddr, now: Instant) -> Option<Instant> {
        self.meters.until(address, now).map(|at| at.min(now + self.wait_max))
    }

    /// A connection from this address has ended badly.
    pub fn ended_badly(&self, address: IpAddr, now: Instant) {
        self.meters.spend(address, 1, self.wait_max, now);
    }
}

/// What answering the requests of each address (of IPv6: of one /64 network) has cost of the CPUs lately: the unit of its pace is
/// a microsecond.
#[derive(Debug)]
pub(crate) struct Work(Meters);

/// An address waits about so long for what one of its requests has cost, whatever it was.
const WORK_WAIT_MAX: Duration = Duration::from_secs(10);

impl Work {
    /// So many addresses are remembered.
    pub fn new(pace: Pace, remembered_max: usize) -> Self {
        Self(Meters::new(pace, remembered_max))
    }

    /// Whether requests of this address have to wait.
    pub fn has_to_wait(&self, address: IpAddr) -> bool {
        self.0.until(counted_as(address), Instant::now()).is_some()
    }

    /// Waits until a request of this address may cost something.
    pub async fn turn(&self, address: IpAddr) {
        while let Some(until) = self.0.until(counted_as(address), Instant::now()) {
            tokio::time::sleep_until(until).await;
        }
    }

    /// Does something for this address, on this thread.
    pub fn count<T>(&self, address: IpAddr, work: impl FnOnce() -> T) -> T {
        let before = thread_cpu();
        let done = work();
        self.spend(address, thread_cpu().saturating_sub(before));
        done
    }

    /// The same for something that waits now and then, which costs nothing.
    pub async fn count_polls<F: Future>(&self, address: IpAddr, work: F) -> F::Output {
        let mut work = pin!(work);
        std::future::poll_fn(|context| self.count(address, || work.as_mut().poll(context))).await
    }

    /// Something was done for this address elsewhere.
    pub fn spend(&self, address: IpAddr, cost: Duration) {
        let micros = u32::try_from(cost.as_micros()).unwrap_or(u32::MAX).max(1);
        self.0.spend(counted_as(address), micros, WORK_WAIT_MAX, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { burst: 3, per_s: 10 };
    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 8));

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn so_many_at_once_and_then_at_the_rate() {
        let (mut meter, now) = (Meter::default(), Instant::now());
        for _ in 0..3 {
            assert_eq!(meter.until(PACE, now), None);
            meter.spend(PACE, 1, now);
        }
        meter.spend(PACE, 1, now);
        assert_eq!(meter.until(PACE, now), Some(now + ms(100)));
        assert_eq!(meter.until(PACE, now + ms(100)), None);
        // What was not used is there again, but never more than the burst.
        let later = now + ms(60_000);
        meter.spend(PACE, 4, later);
        assert_eq!(meter.until(PACE, later), Some(later + ms(100)));
    }

    #[test]
    fn who_ends_badly_waits_and_nobody_else() {
        let conduct = Conduct::new(PACE, ms(250), 10);
        let now = Instant::now();
        for count in 1..100 {
            conduct.ended_badly(ADDRESS, now);
            assert_eq!(conduct.until(ADDRESS, now).is_some(), count > 3, "after {count}");
        }
        // However much it was.
        assert_eq!(conduct.until(ADDRESS, now), Some(now + ms(250)));
        assert_eq!(conduct.until(ADDRESS, now + ms(300)), None);
        assert_eq!(conduct.until(OTHER, now), None);
    }

    #[test]
    fn so_many_addresses_are_remembered() {
        let conduct = Conduct::new(PACE, ms(250), 10);
        let now = Instant::now();
        for host in 0..200 {
            conduct.ended_badly(IpAddr::from([10, 0, 0, host]), now);
            assert!(conduct.meters.by_address.lock().unwrap().len() <= 10);
        }
        // Those that owe something are kept before those that do not.
        (0..9).for_each(|_| conduct.ended_badly(ADDRESS, now));
        for host in 0..200 {
            conduct
                .ended_badly(IpAddr::from([10, 0, 1, host]), now + ms(500 + u64::from(host) * 200));
        }
        let meters = conduct.meters.by_address.lock().unwrap();
        assert!(meters.len() <= 10);
    }

    #[tokio::test(start_paused = true)]
    async fn whose_requests_cost_much_waits_and_nobody_else() {
        let work = Work::new(Pace { burst: 100_000, per_s: 50_000 }, 10);
        let began = Instant::now();
        work.turn(ADDRESS).await;
        work.spend(ADDRESS, ms(50));
        work.turn(ADDRESS).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        work.spend(ADDRESS, ms(150));
        work.turn(OTHER).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(work.has_to_wait(ADDRESS) && !work.has_to_wait(OTHER));
        // A hundred milliseconds of work at twenty to one; the timer's own grain is a millisecond.
        work.turn(ADDRESS).await;
        assert!((ms(2_000)..ms(2_002)).contains(&began.elapsed()), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn one_dear_request_is_not_paid_for_ever() {
        let work = Work::new(Pace { burst: 1_000, per_s: 1_000 }, 10);
        for _ in 0..1_000 {
            work.spend(ADDRESS, ms(15));
        }
        let began = Instant::now();
        work.turn(ADDRESS).await;
        assert!(began.elapsed() <= WORK_WAIT_MAX + ms(15_000), "{:?}", began.elapsed());
    }

    #[test]
    fn only_the_work_itself_counts() {
        let work = Work::new(Pace { burst: 1, per_s: 1 }, 10);
        assert!(!work.has_to_wait(ADDRESS));
        work.count(ADDRESS, || std::hint::black_box((0..1_000_000_u64).fold(0, |a, b| a ^ b)));
        assert!(work.has_to_wait(ADDRESS) && !work.has_to_wait(OTHER));
    }
}
