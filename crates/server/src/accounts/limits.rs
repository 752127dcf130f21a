//! How often a password may be tried: by address and by name, with back-off. Time is passed in.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

/// What may be tried without waiting, and how long is waited then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Tries that failed, before there is any wait.
    pub free: u32,
    /// The longest wait; the first is a second, and each doubles.
    pub wait_ms_max: u64,
    /// After so long without a try everything is forgotten.
    pub forget_ms: u64,
}

/// What is remembered of one address or name.
#[derive(Clone, Copy, Debug, Default)]
struct Tries {
    failed: u32,
    not_before_ms: u64,
    last_ms: u64,
}

/// Tries by one kind of key. Two generations, so that a flood of keys takes no more memory than this and no scan.
#[derive(Debug)]
struct Ledger<K> {
    young: HashMap<K, Tries>,
    old: HashMap<K, Tries>,
    keys_max: usize,
}

impl<K: Eq + Hash + Clone> Ledger<K> {
    fn new(keys_max: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), keys_max: keys_max.max(2) }
    }

    fn get(&self, key: &K, now_ms: u64, pace: Pace) -> Tries {
        let tries = self.young.get(key).or_else(|| self.old.get(key)).copied().unwrap_or_default();
        let idle = now_ms.saturating_sub(tries.last_ms.max(tries.not_before_ms));
        if idle > pace.forget_ms { Tries::default() } else { tries }
    }

    fn set(&mut self, key: K, tries: Tries) {
        if self.young.len() >= self.keys_max / 2 && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, tries);
    }

    /// How long to wait still; `None` where a try may begin.
    fn wait_ms(&self, key: &K, now_ms: u64, pace: Pace) -> Option<u64> {
        let tries = self.get(key, now_ms, pace);
        (tries.not_before_ms > now_ms).then(|| tries.not_before_ms - now_ms)
    }

    /// A try begins; it counts as failed until it is known to be right, so that many at once are not all free.
    fn begin(&mut self, key: K, now_ms: u64, pace: Pace) {
        let mut tries = self.get(&key, now_ms, pace);
        tries.failed = tries.failed.saturating_add(1);
        tries.last_ms = now_ms;
        if let Some(over) = tries.failed.checked_sub(pace.free).filter(|over| *over > 0) {
            let wait_ms = 1000u64.checked_shl(over - 1).unwrap_or(u64::MAX);
            tries.not_before_ms = now_ms.saturating_add(wait_ms.min(pace.wait_ms_max));
        }
        self.set(key, tries);
    }

    /// It was right: it does not count, and nothing is waited for.
    fn undo(&mut self, key: K, now_ms: u64, pace: Pace, all: bool) {
        let mut tries = self.get(&key, now_ms, pace);
        tries.failed = if all { 0 } else { tries.failed.saturating_sub(1) };
        tries.not_before_ms = now_ms;
        self.set(key, tries);
    }
}

/// Whose tries are counted together: of a name, those from an address where it has logged in before are apart from all
/// others, so that nobody can lock it out there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NameKey {
    pub name: String,
    pub known: Option<IpAddr>,
}

/// Tries of passwords, and registrations.
#[derive(Debug)]
pub(crate) struct Attempts {
    by_address: Ledger<IpAddr>,
    by_name: Ledger<NameKey>,
    of_address: Pace,
    of_name: Pace,
}

impl Attempts {
    /// Remembers at most `keys_max` of each kind.
    pub fn new(of_address: Pace, of_name: Pace, keys_max: usize) -> Self {
        let (by_address, by_name) = (Ledger::new(keys_max), Ledger::new(keys_max));
        Self { by_address, by_name, of_address, of_name }
    }

    /// A try begins, or has to wait for so many milliseconds. Loopback is not counted by address: everybody behind a proxy on
    /// this machine is there.
    pub fn begin(
        &mut self,
        address: IpAddr,
        name: Option<&NameKey>,
        now_ms: u64,
    ) -> Result<(), u64> {
        let address = Some(address).filter(|address| !address.is_loopback());
        let wait_ms = [
            address.and_then(|key| self.by_address.wait_ms(&key, now_ms, self.of_address)),
            name.and_then(|key| self.by_name.wait_ms(key, now_ms, self.of_name)),
        ];
        if let Some(wait_ms) = wait_ms.into_iter().flatten().max() {
            return Err(wait_ms);
        }
        if let Some(key) = address {
            self.by_address.begin(key, now_ms, self.of_address);
        }
        if let Some(key) = name {
            self.by_name.begin(key.clone(), now_ms, self.of_name);
        }
        Ok(())
    }

    /// The try was right. Others of its address that failed still count: who owns one account may not try all others.
    pub fn succeeded(&mut self, address: IpAddr, name: &NameKey, now_ms: u64) {
        if !address.is_loopback() {
            self.by_address.undo(address, now_ms, self.of_address, false);
        }
        self.by_name.undo(name.clone(), now_ms, self.of_name, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { free: 3, wait_ms_max: 8_000, forget_ms: 60_000 };

    fn attempts() -> Attempts {
        Attempts::new(Pace { free: 5, ..PACE }, PACE, 100)
    }

    fn ana(known: Option<IpAddr>) -> NameKey {
        NameKey { name: "ana".into(), known }
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn a_name_waits_longer_each_time_whatever_the_address() {
        let (mut attempts, mut now) = (attempts(), 0);
        for last in 0..3 {
            assert_eq!(attempts.begin(address(last), Some(&ana(None)), now), Ok(()));
        }
        for (wait_ms, last) in [(1000, 3), (2000, 4), (4000, 5), (8000, 6), (8000, 7)] {
            assert_eq!(attempts.begin(address(last), Some(&ana(None)), now), Ok(()));
            let refused = attempts.begin(address(200), Some(&ana(None)), now + 1);
            assert_eq!(refused, Err(wait_ms - 1));
            now += wait_ms;
        }
        assert_eq!(attempts.begin(address(9), Some(&ana(None)), now + 120_000), Ok(()));
        assert_eq!(attempts.begin(address(9), Some(&ana(None)), now + 120_000), Ok(()));
    }

    #[test]
    fn an_address_waits_whatever_the_name_and_others_do_not() {
        let mut attempts = attempts();
        for n in 0..6 {
            let key = NameKey { name: format!("n{n}"), known: None };
            assert_eq!(attempts.begin(address(1), Some(&key), 0), Ok(()), "{n}");
        }
        let other = NameKey { name: "eva".into(), known: None };
        assert!(attempts.begin(address(1), Some(&other), 0).is_err());
        assert_eq!(attempts.begin(address(2), Some(&other), 0), Ok(()));
    }

    #[test]
    fn what_is_refused_does_not_count() {
        let mut attempts = attempts();
        for _ in 0..4 {
            let _ = attempts.begin(address(1), Some(&ana(None)), 0);
        }
        for _ in 0..1000 {
            assert!(attempts.begin(address(1), Some(&ana(None)), 10).is_err());
        }
        assert_eq!(attempts.begin(address(1), Some(&ana(None)), 1000), Ok(()));
    }

    #[test]
    fn who_is_right_waits_no_more_but_gives_others_of_the_address_no_free_tries() {
        let mut attempts = attempts();
        for n in 0..4 {
            let key = NameKey { name: format!("n{n}"), known: None };
            attempts.begin(address(1), Some(&key), 0).unwrap();
        }
        for _ in 0..20 {
            attempts.begin(address(1), Some(&ana(None)), 0).unwrap();
            attempts.succeeded(address(1), &ana(None), 0);
        }
        let key = |n: u32| NameKey { name: format!("m{n}"), known: None };
        attempts.begin(address(1), Some(&key(0)), 0).unwrap();
        attempts.begin(address(1), Some(&key(1)), 0).unwrap();
        assert!(attempts.begin(address(1), Some(&key(2)), 0).is_err());
    }

    #[test]
    fn nobody_locks_a_name_out_where_it_has_logged_in() {
        let mut attempts = attempts();
        for _ in 0..10 {
            let _ = attempts.begin(address(66), Some(&ana(None)), 0);
        }
        assert_eq!(attempts.begin(address(1), Some(&ana(Some(address(1)))), 0), Ok(()));
    }

    #[test]
    fn loopback_is_counted_by_name_only_and_a_flood_of_keys_is_bounded() {
        let mut attempts = attempts();
        for n in 0..10_000 {
            let key = NameKey { name: format!("n{n}"), known: None };
            assert_eq!(attempts.begin([127, 0, 0, 1].into(), Some(&key), 0), Ok(()));
        }
        assert!(attempts.by_name.young.len() + attempts.by_name.old.len() <= 100);
        assert!(attempts.by_address.young.is_empty());
    }
}
