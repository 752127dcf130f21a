//! What every part of a node needs: the store, the configuration, counters, and the way to the operator.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tertulia_journal::{Catalog, Journal};
use tertulia_wire::Level;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};

use crate::config::Config;
use crate::node::Notice;

/// Reads of the journal that go on at once: each may hold a batch in memory.
const READS_MAX: usize = 8;

/// See the module.
pub(crate) struct Shared {
    pub config: Config,
    pub journal: Arc<dyn Journal>,
    pub catalog: Arc<dyn Catalog>,
    /// The multi-threaded runtime: everything that blocks or belongs to no group.
    pub main: Handle,
    pub reads: Arc<Semaphore>,
    pub notices: mpsc::Sender<Notice>,
    pub connections: Connections,
    pub started_ms: u64,
    next_id: AtomicU64,
}

impl Shared {
    pub fn new(
        config: Config,
        journal: Arc<dyn Journal>,
        catalog: Arc<dyn Catalog>,
        notices: mpsc::Sender<Notice>,
    ) -> Self {
        let connections =
            Connections::new(config.limits.connections, config.limits.connections_per_address);
        Self {
            config,
            journal,
            catalog,
            main: Handle::current(),
            reads: Arc::new(Semaphore::new(READS_MAX)),
            notices,
            connections,
            started_ms: crate::clock::mono_ms(),
            next_id: AtomicU64::new(1),
        }
    }

    /// A number that nothing else in this process has: for connections and tickets.
    pub fn new_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Tells the operator; lost when nobody keeps up.
    pub fn notice(&self, notice: Notice) {
        let _ = self.notices.try_send(notice);
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

/// Open connections, in all and by address.
#[derive(Clone)]
pub(crate) struct Connections(Arc<Counts>);

struct Counts {
    all: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
    max: usize,
    per_address_max: usize,
}

/// Counts one connection until it is dropped.
pub(crate) struct Counted {
    counts: Arc<Counts>,
    address: IpAddr,
}

impl Connections {
    fn new(max: usize, per_address_max: usize) -> Self {
        let by_address = Mutex::new(HashMap::new());
        Self(Arc::new(Counts { all: AtomicUsize::new(0), by_address, max, per_address_max }))
    }

    /// One more from `address`; `None` when there are too many. Loopback counts in the total only.
    pub fn count(&self, address: IpAddr) -> Option<Counted> {
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
