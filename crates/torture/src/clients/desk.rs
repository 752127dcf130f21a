//! What all clients of a process share: the history, the orders, and what is said of how far they are.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tertulia_client::Target;
use tokio::sync::watch;
use tokio::time::sleep;

use super::{ClientArgs, Order, Standing, Status};
use crate::history::{Recorder, What};

/// How often the status is looked at.
const SAY_EVERY: Duration = Duration::from_millis(40);

/// See the module.
pub struct Desk {
    /// What the process was told.
    pub args: ClientArgs,
    recorder: Mutex<Recorder>,
    paused: watch::Sender<bool>,
    status: Mutex<Status>,
    standings: Mutex<BTreeMap<String, Standing>>,
    rng: Mutex<StdRng>,
    numbers: AtomicU64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    /// A desk whose process begins quietly.
    pub fn new(args: ClientArgs) -> Result<Self> {
        std::fs::create_dir_all(args.folder.join("state"))?;
        let recorder = Recorder::create(&history_path(&args, args.era))?;
        let seed = args.seed ^ args.life.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let status = Status { era: args.era, paused: true, ..Status::default() };
        Ok(Self {
            recorder: Mutex::new(recorder),
            paused: watch::Sender::new(true),
            status: Mutex::new(status),
            standings: Mutex::default(),
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            numbers: AtomicU64::new(0),
            args,
        })
    }

    /// Does what the torture says.
    pub fn take(&self, order: Order) -> Result<()> {
        match order {
            Order::Go | Order::Pause => {
                let paused = order == Order::Pause;
                locked(&self.status).paused = paused;
                self.paused.send_replace(paused);
            }
            Order::Era(era) => {
                *locked(&self.recorder) = Recorder::create(&history_path(&self.args, era))?;
                locked(&self.status).era = era;
            }
        }
        Ok(())
    }

    /// Says how far everybody is, whenever that has changed, for ever.
    pub async fn say(self: Arc<Self>) {
        let mut said = None;
        loop {
            let mut status = locked(&self.status).clone();
            status.members = locked(&self.standings).values().cloned().collect();
            if said.as_ref() != Some(&status) {
                let mut line = serde_json::to_vec(&status).expect("a status is JSON");
                line.push(b'\n');
                // Who does not listen any more has gone, and the end of standard input says so.
                let _ = std::io::stdout().write_all(&line);
                let _ = std::io::stdout().flush();
                said = Some(status);
            }
            sleep(SAY_EVERY).await;
        }
    }

    /// Writes one record.
    pub fn record(&self, what: What) {
        self.count(&what);
        locked(&self.recorder).write(what);
    }

    /// Writes several at once.
    pub fn record_all(&self, all: Vec<What>) {
        all.iter().for_each(|what| self.count(what));
        locked(&self.recorder).write_all(all);
    }

    fn count(&self, what: &What) {
        let mut status = locked(&self.status);
        match what {
            What::Sending { .. } => status.pending += 1,
            What::Stored { .. } => {
                status.pending -= 1;
                status.stored += 1;
            }
            What::Failed { .. } | What::Unknown { .. } => status.pending -= 1,
            _ => {}
        }
    }

    /// A receipt is waited for, until this is dropped.
    pub fn awaiting(self: &Arc<Self>) -> Awaiting {
        locked(&self.status).pending += 1;
        Awaiting(Arc::clone(self))
    }

    /// The node.
    pub fn target(&self) -> Target {
        // Heartbeats come each second: who waits three times as long has lost the node.
        Target::new(self.args.native.clone()).silence(Duration::from_secs(3))
    }

    /// Waits until something new may be begun.
    pub async fn may_begin(&self) {
        let mut paused = self.paused.subscribe();
        let _ = paused.wait_for(|paused| !paused).await;
    }

    /// Whether nothing new is to be begun.
    pub fn is_paused(&self) -> bool {
        *self.paused.borrow()
    }

    /// A name or text that nobody has had: in any process, any life.
    pub fn fresh(&self, slot: &str) -> String {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        format!("{slot}.{}.{number}", self.args.life)
    }

    /// One of the groups.
    pub fn group(&self) -> String {
        let groups = &self.args.groups;
        groups.choose(&mut *locked(&self.rng)).expect("there is a group").clone()
    }

    /// A number from `range`.
    pub fn draw(&self, range: std::ops::Range<u64>) -> u64 {
        locked(&self.rng).random_range(range)
    }

    /// True once in so many times.
    pub fn one_in(&self, times: u64) -> bool {
        self.draw(0..times) == 0
    }

    /// Waits for a time of so many milliseconds.
    pub async fn linger(&self, ms: std::ops::Range<u64>) {
        let ms = self.draw(ms);
        sleep(Duration::from_millis(ms)).await;
    }

    /// Says how far a client is, or that it is no member.
    pub fn stands(&self, slot: &str, standing: Option<Standing>) {
        let mut standings = locked(&self.standings);
        match standing {
            Some(standing) => drop(standings.insert(slot.to_owned(), standing)),
            None => drop(standings.remove(slot)),
        }
    }

    /// Where a client keeps something over its process's lives.
    pub fn state_path(&self, slot: &str) -> PathBuf {
        self.args.folder.join("state").join(slot)
    }
}

fn history_path(args: &ClientArgs, era: u64) -> PathBuf {
    let ClientArgs { folder, name, life, .. } = args;
    path_of(folder, era, &format!("{name}.{life}"))
}

/// The file of a history.
pub fn path_of(folder: &Path, era: u64, name: &str) -> PathBuf {
    folder.join(format!("era-{era}.{name}.jsonl"))
}

/// See [`Desk::awaiting`].
pub struct Awaiting(Arc<Desk>);

impl Drop for Awaiting {
    fn drop(&mut self) {
        locked(&self.0.status).pending -= 1;
    }
}
