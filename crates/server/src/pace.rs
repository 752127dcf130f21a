//! How fast somebody may go on with what only costs others: a rate, and what may come at once before it holds.
//!
//! Three things are metered: connections that a door takes, what one connection has been refused, and how often the connections of
//! one address have ended badly. Whoever is too fast waits and is not read meanwhile; nobody is turned away for it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

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

    /// Nothing is owed any more.
    fn is_even(&self, now: Instant) -> bool {
        self.paid.is_none_or(|paid| paid <= now)
    }
}

/// How the connections of each address have ended lately.
#[derive(Debug)]
pub(crate) struct Conduct {
    pace: Pace,
    wait_max: Duration,
    remembered_max: usize,
    by_address: Mutex<HashMap<IpAddr, Meter>>,
}

impl Conduct {
    /// A new connection waits `wait_max` at most; so many addresses are remembered, and those that owe least are forgotten.
    pub fn new(pace: Pace, wait_max: Duration, remembered_max: usize) -> Self {
        Self { pace, wait_max, remembered_max, by_address: Mutex::default() }
    }

    /// Until when a new connection from this address waits before it is read.
    pub fn until(&self, address: IpAddr, now: Instant) -> Option<Instant> {
        let meters = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let until = meters.get(&address).and_then(|meter| meter.until(self.pace, now));
        until.map(|at| at.min(now + self.wait_max))
    }

    /// A connection from this address has ended badly.
    pub fn ended_badly(&self, address: IpAddr, now: Instant) {
        let mut meters = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if meters.len() >= self.remembered_max && !meters.contains_key(&address) {
            meters.retain(|_, meter| !meter.is_even(now));
            if meters.len() >= self.remembered_max {
                // All of them owe something; most of it is paid within seconds.
                meters.clear();
            }
        }
        let meter = meters.entry(address).or_default();
        // What is owed has an end, so that a long attack is not paid for long after it.
        if meter.until(self.pace, now).is_none_or(|at| at < now + self.wait_max) {
            meter.spend(self.pace, 1, now);
        }
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
            assert!(conduct.by_address.lock().unwrap().len() <= 10);
        }
        // Those that owe something are kept before those that do not.
        (0..9).for_each(|_| conduct.ended_badly(ADDRESS, now));
        for host in 0..200 {
            conduct
                .ended_badly(IpAddr::from([10, 0, 1, host]), now + ms(500 + u64::from(host) * 200));
        }
        let meters = conduct.by_address.lock().unwrap();
        assert!(meters.len() <= 10);
    }
}
