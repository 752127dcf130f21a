//! Hashing passwords: argon2id, so many at once and no more, and a hash for names that there are not.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;

/// What is kept of a password, with how it was made, so that others may be made otherwise later.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hashed {
    memory_kib: u32,
    passes: u32,
    salt: [u8; 16],
    hash: [u8; 32],
}

impl std::fmt::Debug for Hashed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hashed(…)")
    }
}

/// How passwords are hashed; each run takes this much memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashCost {
    /// Memory of one run, in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
}

impl Default for HashCost {
    /// What OWASP's Password Storage Cheat Sheet names first for argon2id.
    fn default() -> Self {
        Self { memory_kib: 19 << 10, passes: 2 }
    }
}

/// Why nothing was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotHashed {
    /// Too many wait already, or its turn did not come.
    Busy,
    /// The parameters of a record, or too little memory.
    Failed,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Passwords {
    cost: HashCost,
    turns: Semaphore,
    /// Turns and those who wait for one.
    places: Arc<Semaphore>,
    places_per_address: usize,
    /// Places that are taken, by address.
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
    wait: Duration,
    /// What is checked against where there is no account.
    nobody: Hashed,
    runs: AtomicU64,
}

/// One of the places; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
    _permit: tokio::sync::OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(here) = taken.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

impl Passwords {
    pub fn new(cost: HashCost, at_once: usize, waiting: usize, wait: Duration) -> Self {
        let nobody = Hashed {
            memory_kib: cost.memory_kib,
            passes: cost.passes,
            salt: rand::random(),
            hash: rand::random(),
        };
        Self {
            cost,
            turns: Semaphore::new(at_once.max(1)),
            places: Arc::new(Semaphore::new(at_once.max(1) + waiting)),
            places_per_address: (at_once.max(1) + waiting).div_ceil(2),
            taken: Arc::default(),
            wait,
            nobody,
            runs: AtomicU64::new(0),
        }
    }

    /// A place in the queue for somebody at this address; `None` where it is full, or half of it is that address's.
    pub fn place(&self, address: IpAddr) -> Option<Place> {
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let place = Place { taken: Arc::clone(&self.taken), address, _permit: permit };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let here = taken.entry(address).or_default();
        *here += 1;
        let fits = *here <= self.places_per_address;
        drop(taken);
        fits.then_some(place)
    }

    /// What to keep of a new password.
    pub async fn hash(&self, password: &str) -> Result<Hashed, NotHashed> {
        let HashCost { memory_kib, passes } = self.cost;
        let salt = rand::random();
        let hash = self.run(password, memory_kib, passes, salt).await?;
        Ok(Hashed { memory_kib, passes, salt, hash })
    }

    /// Whether it is the password; as much work where there is none to compare with.
    pub async fn is_right(&self, password: &str, kept: Option<&Hashed>) -> Result<bool, NotHashed> {
        let Hashed { memory_kib, passes, salt, hash } = kept.unwrap_or(&self.nobody).clone();
        let computed = self.run(password, memory_kib, passes, salt).await?;
        Ok(bool::from(computed.ct_eq(&hash)) && kept.is_some())
    }

    /// How often a password was hashed.
    #[cfg(test)]
    pub fn runs(&self) -> u64 {
        self.runs.load(Ordering::Relaxed)
    }

    async fn run(
        &self,
        password: &str,
        memory_kib: u32,
        passes: u32,
        salt: [u8; 16],
    ) -> Result<[u8; 32], NotHashed> {
        let turn = tokio::time::timeout(self.wait, self.turns.acquire()).await;
        let _turn = turn.map_err(|_| NotHashed::Busy)?.map_err(|_| NotHashed::Busy)?;
        self.runs.fetch_add(1, Ordering::Relaxed);
        let password = password.to_owned();
        let hashed = tokio::task::spawn_blocking(move || {
            let params = Params::new(memory_kib, passes, 1, Some(32)).ok()?;
            let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
            let mut out = [0; 32];
            argon2.hash_password_into(password.as_bytes(), &salt, &mut out).ok()?;
            Some(out)
        });
        hashed.await.ok().flatten().ok_or(NotHashed::Failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: HashCost = HashCost { memory_kib: 64, passes: 1 };

    #[tokio::test]
    async fn a_password_is_right_or_not_and_nobody_has_none() {
        let passwords = Passwords::new(CHEAP, 1, 1, Duration::from_secs(5));
        let kept = passwords.hash("correct horse").await.unwrap();
        assert_eq!(passwords.is_right("correct horse", Some(&kept)).await, Ok(true));
        assert_eq!(passwords.is_right("Correct horse", Some(&kept)).await, Ok(false));
        assert_eq!(passwords.is_right("correct horse", None).await, Ok(false));
        assert_eq!(passwords.runs(), 4);
        let again = passwords.hash("correct horse").await.unwrap();
        assert_ne!(again, kept, "each has its own salt");
        let json = serde_json::to_string(&kept).unwrap();
        assert!(!json.contains("correct") && !format!("{kept:?}").contains("salt"));
        assert_eq!(serde_json::from_str::<Hashed>(&json).unwrap(), kept);
    }

    #[tokio::test]
    async fn so_many_at_once_and_in_the_queue_and_no_more() {
        let passwords = Passwords::new(CHEAP, 1, 2, Duration::from_millis(20));
        let place = |host| passwords.place(IpAddr::from([10, 0, 0, host]));
        let places: Vec<_> = [1, 1, 1, 2, 3].into_iter().map(place).collect();
        let given: Vec<_> = places.iter().map(Option::is_some).collect();
        assert_eq!(
            given,
            [true, true, false, true, false],
            "two are half of three; then it is full"
        );
        drop(places);
        assert!(place(3).is_some() && passwords.taken.lock().unwrap().is_empty());
        let held = passwords.turns.acquire().await.unwrap();
        assert_eq!(passwords.hash("x").await, Err(NotHashed::Busy));
        assert_eq!(passwords.runs(), 0);
        drop(held);
        assert!(passwords.hash("x").await.is_ok());
    }
}
