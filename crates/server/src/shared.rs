//! What every part of a node needs: the store, the configuration, counters, and the way to the operator.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tertulia_journal::{Catalog, Journal};
use tertulia_wire::{Instance, Level};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;

use crate::allocator::Allocator;
use crate::budget::Budget;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::node::Notice;
use crate::pace::{Conduct, Work};
use crate::tls::Tls;

/// See the module.
pub(crate) struct Shared {
    pub config: Config,
    pub journal: Arc<dyn Journal>,
    pub catalog: Arc<dyn Catalog>,
    /// Which store it is, for clients that keep something of it.
    pub instance: Instance,
    /// Known to this store only.
    pub secret: [u8; 32],
    /// The multi-threaded runtime: everything that blocks or belongs to no group.
    pub main: Handle,
    /// For members behind the window.
    pub reads: Semaphore,
    /// For requests.
    pub request_reads: Semaphore,
    pub work: Work,
    pub budget: Budget,
    /// Where it is spoken.
    pub tls: Option<Arc<Tls>>,
    pub metrics: Metrics,
    /// For connections that are told that there are too many.
    pub turned_away: Arc<Semaphore>,
    pub notices: mpsc::Sender<Notice>,
    /// Why the store takes nothing any more, once it has failed: only a new start reads what is there.
    pub store_failed: watch::Sender<Option<String>>,
    pub connections: Connections,
    pub started_ms: u64,
    next_id: AtomicU64,
    /// Damage that the operator knows of.
    damage_told: Mutex<HashSet<String>>,
    /// Here because a member that joins is no longer reserved at the same moment.
    allocator: Mutex<Allocator>,
}

/// Damages that the operator is told of one by one: the check names the others.
const DAMAGE_TOLD_MAX: usize = 1000;

impl Shared {
    pub fn new(
        config: Config,
        (journal, catalog): (Arc<dyn Journal>, Arc<dyn Catalog>),
        (instance, secret): (Instance, [u8; 32]),
        tls: Option<Arc<Tls>>,
        notices: mpsc::Sender<Notice>,
    ) -> Self {
        let limits = &config.limits;
        let files = crate::linux::open_files_max();
        let connections_max = within_files(limits.connections, files, 12);
        let conduct =
            Conduct::new(limits.bad_ends, limits.bad_ends_wait_max, limits.addresses_remembered);
        let connections =
            Connections::new(connections_max, limits.connections_per_address, conduct);
        // Readers must leave the shards their CPUs.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let reads = limits.reads.min(cores.max(2));
        let request_reads = limits.request_reads.min(cores.div_ceil(2));
        let work = Work::new(limits.request_work, limits.addresses_remembered);
        let held_bytes = limits.held_bytes;
        let turned_away = within_files(limits.turned_away, files, 1);
        Self {
            config,
            journal,
            catalog,
            instance,
            secret,
            main: Handle::current(),
            reads: Semaphore::new(reads),
            request_reads: Semaphore::new(request_reads),
            work,
            budget: Budget::new(held_bytes),
            tls,
            metrics: Metrics::default(),
            turned_away: Arc::new(Semaphore::new(turned_away)),
            notices,
            store_failed: watch::Sender::new(None),
            connections,
            started_ms: crate::clock::mono_ms(),
            next_id: AtomicU64::new(1),
            damage_told: Mutex::default(),
            allocator: Mutex::default(),
        }
    }

    /// A number that nothing else in this process has: for connections and tickets.
    pub fn new_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// The allocator, as long as it is held.
    pub fn allocator(&self) -> MutexGuard<'_, Allocator> {
        self.allocator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the operator; lost when nobody keeps up.
    pub fn notice(&self, notice: Notice) {
        let _ = self.notices.try_send(notice);
    }

    /// Tells the operator of damage and what to do about it; the same only once.
    pub fn tell_damage(&self, whose: &str, what: &str) {
        let mut told = self.damage_told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = told.len() < DAMAGE_TOLD_MAX && told.insert(format!("{whose} {what}"));
        drop(told);
        if is_news {
            let data = self.config.data.display();
            self.notice(Notice::Trouble(format!(
                "{whose} is damaged: {what}; the others are served. Stop the node and run \
                 `tertulia check --data {data}` to see what is lost"
            )));
        }
    }

    /// How well the journal stores.
    pub fn level(&self) -> Level {
        match self.journal.level() {
            tertulia_journal::Level::Memory => Level::Memory,
            tertulia_journal::Level::Os => Level::Os,
            tertulia_journal::Level::Fsync => Level::Fsync,
            tertulia_journal::Level::Replicated => Level::Replicated,
        }
    }
}

/// Files that a node has open before anybody connects, and some to spare.
const OWN_FILES: usize = 64;

/// So many connections, and not more than these sixteenths of the files that there may be beside the node's own: the store
/// needs more as it grows, and without them nobody is served.
fn within_files(configured: usize, files_max: Option<usize>, sixteenths: usize) -> usize {
    files_max.map_or(configured, |files| {
        configured.min(files.saturating_sub(OWN_FILES) / 16 * sixteenths).max(1)
    })
}

/// What counts as one address: an IPv6 host has a whole /64 network of them.
pub(crate) fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64))
        }
        other => other,
    }
}

/// Open connections, in all and by address.
#[derive(Clone)]
pub(crate) struct Connections(Arc<Counts>);

struct Counts {
    all: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
    max: usize,
    per_address_max: usize,
    conduct: Conduct,
}

/// Counts one connection until it is dropped.
pub(crate) struct Counted {
    counts: Arc<Counts>,
    address: IpAddr,
}

impl Connections {
    fn new(max: usize, per_address_max: usize, conduct: Conduct) -> Self {
        let (all, by_address) = (AtomicUsize::new(0), Mutex::new(HashMap::new()));
        Self(Arc::new(Counts { all, by_address, max, per_address_max, conduct }))
    }

    /// One more from `address`; `None` when there are too many. Loopback counts in the total only.
    pub fn count(&self, address: IpAddr) -> Option<Counted> {
        let address = counted_as(address);
        let counted = Counted { counts: Arc::clone(&self.0), address };
        let all = self.0.all.fetch_add(1, Ordering::Relaxed) + 1;
        let mut by_address = self.0.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let here = by_address.entry(address).or_default();
        *here += 1;
        let too_many = all > self.0.max || !address.is_loopback() && *here > self.0.per_address_max;
        drop(by_address);
        (!too_many).then_some(counted)
    }

    /// How many there are.
    pub fn all(&self) -> usize {
        self.0.all.load(Ordering::Relaxed)
    }
}

impl Counted {
    /// Until when it waits before it is read, for what others of its address have done.
    pub fn waits_until(&self) -> Option<Instant> {
        self.counts.conduct.until(self.address, Instant::now())
    }

    /// It ends badly.
    pub fn ends_badly(&self) {
        self.counts.conduct.ended_badly(self.address, Instant::now());
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.counts.all.fetch_sub(1, Ordering::Relaxed);
        let mut by_address = self.counts.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(here) = by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(max: usize, per_address_max: usize) -> Connections {
        let limits = crate::config::NodeLimits::default();
        let conduct = Conduct::new(limits.bad_ends, limits.bad_ends_wait_max, 10);
        Connections::new(max, per_address_max, conduct)
    }

    fn counted(max: usize, per_address_max: usize, addresses: &[&str]) -> Vec<bool> {
        let connections = connections(max, per_address_max);
        let all: Vec<Option<Counted>> = addresses
            .iter()
            .map(|address| connections.count(address.parse().expect("an address")))
            .collect();
        all.iter().map(Option::is_some).collect()
    }

    #[test]
    fn an_address_has_so_many_and_others_still_have_theirs() {
        let addresses = ["10.0.0.7", "10.0.0.7", "10.0.0.7", "10.0.0.8", "::ffff:10.0.0.7"];
        assert_eq!(counted(100, 2, &addresses), [true, true, false, true, false]);
        assert_eq!(counted(100, 1, &["127.0.0.1", "127.0.0.1", "::1", "::1"]), [true; 4]);
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let addresses = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"];
        assert_eq!(counted(100, 1, &addresses), [true, false, true]);
    }

    #[test]
    fn the_total_counts_loopback_too_and_what_ends_is_free_again() {
        assert_eq!(counted(2, 9, &["127.0.0.1", "10.0.0.7", "::1"]), [true, true, false]);
        let connections = connections(1, 1);
        let address = IpAddr::from([10, 0, 0, 7]);
        for _ in 0..3 {
            let one = connections.count(address);
            assert!(one.is_some() && connections.count(address).is_none());
        }
        assert_eq!(connections.all(), 0);
        let counts = connections.0.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(counts.is_empty());
    }

    #[test]
    fn the_store_has_files_left_for_it() {
        assert_eq!(within_files(50_000, Some(1024), 12), 720);
        assert_eq!(within_files(500, Some(1024), 12), 500);
        assert_eq!(within_files(500, None, 12), 500);
        // Who is told that there are too many has a file for that, too.
        assert_eq!(within_files(256, Some(1024), 1), 60);
    }
}
