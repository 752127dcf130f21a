//! The next segment: made while the one before it is written to, and filled with zeros no faster than that one fills up.
//!
//! A commit to room that is only reserved has to change the file's map of extents as well when it is synced, which takes about as long again
//! as 64 KiB do. So zeros are written there first: in small pieces, each let go to the disk at once, because a commit waits for what the disk
//! is writing. Whatever has no zeros yet when the segment is needed stays reserved: commits there take longer, and nobody waits for zeros.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use super::Shared;
use super::disk::{Disk, FILL_BYTES};
use super::segment::Segment;

/// Where filling begins: the page before it was written with the `Head`.
const FILL_FROM: u64 = 4096;

/// How far the thread may go.
#[derive(Debug, Default)]
struct Leave {
    /// Up to where zeros may be written.
    until: AtomicU64,
    /// The segment is needed now.
    is_over: AtomicBool,
}

/// A segment that is being made.
#[derive(Debug)]
pub(crate) struct Spare {
    leave: Arc<Leave>,
    until: u64,
    bytes: u64,
    /// `None` once it is taken.
    thread: Option<JoinHandle<io::Result<Arc<Segment>>>>,
}

impl Spare {
    /// Begins to make the segment behind `active`; `filled` as [`fill_up_to`](Self::fill_up_to) says, or not at all. `None` where there is
    /// no thread for it: then it is made when it is needed.
    pub fn begin(shared: &Arc<Shared>, active: &Arc<Segment>, filled: bool) -> Option<Self> {
        let leave = Arc::new(Leave::default());
        let bytes = shared.segment_bytes;
        let make = {
            let (shared, active, leave) =
                (Arc::clone(shared), Arc::clone(active), Arc::clone(&leave));
            move || {
                let number = active.number + 1;
                let made = Segment::create(&shared.disk, number, (bytes, false), active.salt)?;
                if filled && let Err(error) = fill(&shared.disk, &made, &leave) {
                    // The first error is the one to tell; a later try needs the name.
                    drop(shared.disk.remove(&made.name()));
                    return Err(error);
                }
                Ok(made)
            }
        };
        let thread = thread::Builder::new().name("journal-spare".to_owned()).spawn(make).ok()?;
        Some(Self { leave, until: 0, bytes, thread: Some(thread) })
    }

    /// The writer has come to `done` of the `all` bytes that it will write before it needs this segment: as large a share may be filled, and a
    /// little more.
    pub fn fill_up_to(&mut self, done: u64, all: u64) {
        let share = u128::from(self.bytes) * u128::from(done.min(all)) / u128::from(all);
        // It is at most `bytes`.
        let share = share as u64;
        let until = (share + share / 8) / FILL_BYTES * FILL_BYTES + FILL_BYTES;
        if until == self.until {
            return;
        }
        self.until = until;
        self.leave.until.store(until, Ordering::Relaxed);
        self.wake();
    }

    /// The segment. Nothing is written to it from now on but by the caller.
    pub fn take(mut self) -> io::Result<Arc<Segment>> {
        self.stop();
        let thread = self.thread.take().expect("it is taken once");
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that made it panicked")))
    }

    fn stop(&self) {
        self.leave.is_over.store(true, Ordering::Relaxed);
        self.wake();
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        self.stop();
    }
}

fn fill(disk: &Disk, segment: &Segment, leave: &Leave) -> io::Result<()> {
    let mut filled = FILL_FROM;
    while filled < segment.bytes && !leave.is_over.load(Ordering::Relaxed) {
        let to = (filled / FILL_BYTES * FILL_BYTES + FILL_BYTES).min(segment.bytes);
        if to > leave.until.load(Ordering::Relaxed).min(segment.bytes) {
            thread::park();
            continue;
        }
        disk.fill(&segment.file, filled, to)?;
        filled = to;
    }
    // So that the first commit there need not wait for what is on its way.
    if filled == segment.bytes { disk.sync_filled(&segment.file) } else { Ok(()) }
}
