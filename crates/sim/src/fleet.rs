//! Many seeds, on as many threads as there are cores. What comes out does not depend on how many.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::coverage::Coverage;
use crate::settings::Settings;
use crate::world::{Failure, Outcome, run};

/// What came of many seeds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// How many seeds.
    pub seeds: u64,
    /// Of all their hashes.
    pub hash: u64,
    /// The sums of what came of each.
    pub events: u64,
    /// Entries in their logs.
    pub entries: u64,
    /// Coordinators that died, were overtaken or lost their power.
    pub crashes: u64,
    /// Those of them that lost their power.
    pub power_cuts: u64,
    /// Simulated milliseconds.
    pub simulated_ms: u64,
    /// What happened how often.
    pub coverage: Coverage,
}

impl Total {
    fn take_in(&mut self, seed: u64, outcome: &Outcome) {
        self.seeds += 1;
        // In whatever order they come, and each with its seed.
        let hash = (outcome.hash ^ seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)).rotate_left(31);
        self.hash = self.hash.wrapping_add(hash.wrapping_mul(0x517C_C1B7_2722_0A95));
        self.events += outcome.events;
        self.entries += outcome.entries;
        self.crashes += outcome.crashes;
        self.power_cuts += outcome.power_cuts;
        self.simulated_ms += outcome.simulated_ms;
        self.coverage.add(&outcome.coverage);
    }
}

/// The lowest seed that broke a promise.
#[derive(Clone, Debug)]
pub struct Broken {
    /// Its world.
    pub settings: Settings,
    /// What was broken in it.
    pub failure: Failure,
}

/// Runs `seeds`, each in a world that `settings` makes, on `threads` threads; tells `progress` of the sum after every seed.
///
/// # Errors
/// [`Broken`]: the lowest of the seeds that broke a promise, whichever was found first.
pub fn run_all(
    seeds: Range<u64>,
    threads: usize,
    settings: impl Fn(u64) -> Settings + Sync,
    progress: impl Fn(&Total) + Sync,
) -> Result<Total, Box<Broken>> {
    let (next, end) = (AtomicU64::new(seeds.start), AtomicU64::new(seeds.end));
    let so_far = Mutex::new((Total::default(), None::<Box<Broken>>));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    // Seeds are begun in their order: of those below a failing one none is left out.
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end.load(Ordering::Relaxed) {
                        return;
                    }
                    let settings = settings(seed);
                    let outcome = run(&settings);
                    let mut so_far = so_far.lock().unwrap_or_else(PoisonError::into_inner);
                    let (total, broken) = &mut *so_far;
                    match outcome {
                        Ok(outcome) => {
                            total.take_in(seed, &outcome);
                            progress(total);
                        }
                        Err(failure) => {
                            end.fetch_min(seed, Ordering::Relaxed);
                            if broken.as_ref().is_none_or(|known| seed < known.settings.seed) {
                                *broken = Some(Box::new(Broken { settings, failure }));
                            }
                        }
                    }
                }
            });
        }
    });
    let (total, broken) = so_far.into_inner().unwrap_or_else(PoisonError::into_inner);
    broken.map_or(Ok(total), Err)
}
