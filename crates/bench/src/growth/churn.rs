//! Those who join a group and leave it all the time, at a pace of their own, in a thread of their own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::grown::visit;

/// From here on their connections are numbered: nobody else's have such numbers.
pub const FIRST: u32 = 1 << 22;

/// See the module.
pub struct Churn {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Result<u32>>,
}

impl Churn {
    /// So many in each second, the first of them with this number.
    pub fn start(node: SocketAddr, per_second: u32, first: u32) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_over);
        let every = Duration::from_secs(1) / per_second;
        let thread = std::thread::spawn(move || {
            let (mut conns, mut next) = (first, Instant::now());
            while !told.load(Ordering::Relaxed) {
                visit(node, &mut conns)?;
                // Who is late does not hurry: the pace is an upper bound.
                next = (next + every).max(Instant::now());
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            Ok(conns)
        });
        Self { is_over, thread }
    }

    /// The last one has left; the number of the next.
    pub fn end(self) -> Result<u32> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("who joins and leaves has panicked"))?
    }
}
