//! Keeping and trimming: when a group's state is stored as a snapshot, and how far its log is given up after that.
//!
//! Rule: trimming goes only below a stored snapshot. Retention by age and size per group.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tertulia_group::{Batch, Input, Seq};
use tertulia_journal::Snapshot;

use crate::clock::{mono_ms, now, wall_us};
use crate::hosted::Hosted;

/// A snapshot is stored after so many bytes of log.
const SNAPSHOT_BYTES: u64 = 32 << 20;
/// Or after so many batches: what recovery has to read again.
const SNAPSHOT_BATCHES: u64 = 20_000;
/// Or after so long, when anything has changed.
const SNAPSHOT_MS: u64 = 10 * 60 * 1000;

/// So long who is told may take to read it, for all that is given up at once; then it is told the rest, read or not.
const READING_MS: u64 = 10_000;

/// What has come since the last snapshot.
#[derive(Debug, Default)]
pub(crate) struct Keeping {
    bytes: Cell<u64>,
    batches: Cell<u64>,
    since_ms: Cell<u64>,
    under_way: Cell<bool>,
    /// The store has no room: what retention gives up is given up now.
    pressed: Cell<bool>,
}

impl Keeping {
    /// So much was read after the snapshot when the group was read back: it counts, or a node that never lives long would
    /// keep everything for ever.
    pub fn begin(&self, bytes: u64, batches: u64) {
        self.bytes.set(bytes);
        self.batches.set(batches);
        self.since_ms.set(mono_ms());
    }

    /// A batch found no room.
    pub fn press(&self) {
        self.pressed.set(true);
    }

    /// A batch is on its way.
    pub fn count(&self, batch: &Batch) {
        let bytes: usize = batch.entries.iter().map(bytes::Bytes::len).sum();
        self.bytes.set(self.bytes.get() + bytes as u64 + batch.notes.len() as u64);
        self.batches.set(self.batches.get() + 1);
        if self.batches.get() == 1 {
            self.since_ms.set(mono_ms());
        }
    }

    pub(crate) fn is_due(&self) -> bool {
        let old = self.batches.get() > 0 && mono_ms() >= self.since_ms.get() + SNAPSHOT_MS;
        let much = self.bytes.get() >= SNAPSHOT_BYTES || self.batches.get() >= SNAPSHOT_BATCHES;
        !self.under_way.get() && (old || much || self.pressed.get())
    }
}

/// Called now and then: stores a snapshot where it is time, then trims.
pub(crate) fn look_after(hosted: &Rc<Hosted>) {
    if hosted.keeping.is_due() {
        let hosted = Rc::clone(hosted);
        // Here, not in the task: it is looked after again before that runs.
        hosted.keeping.under_way.set(true);
        tokio::task::spawn_local(async move { snapshot(&hosted).await });
    }
}

/// Stores a snapshot and trims what retention gives up.
async fn snapshot(hosted: &Hosted) {
    let keeping = &hosted.keeping;
    keeping.bytes.set(0);
    keeping.batches.set(0);
    let pressed = keeping.pressed.replace(false);
    if pressed {
        // The snapshot needs room too: first what the one before allows.
        trim(hosted, None).await;
    }
    let (at, state, epoch) = {
        let group = hosted.group.borrow();
        (group.tail(), group.snapshot(), group.epoch())
    };
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let done = Box::new(move |result| {
        let _ = sender.send(result);
    });
    hosted.shared.journal.save_snapshot(hosted.log, epoch, Snapshot { at, state }, done);
    match receiver.await {
        Ok(Ok(())) => trim(hosted, Some(at)).await,
        Ok(Err(error)) => tracing::warn!(group = %hosted.name, %error, "a snapshot was not stored"),
        Err(_) => {}
    }
    keeping.under_way.set(false);
}

/// Gives up what retention does not keep, as far as the stored snapshot covers it (`at` is its number, where that is known).
async fn trim(hosted: &Hosted, at: Option<Seq>) {
    let (journal, log, keep) =
        (hosted.shared.journal.clone(), hosted.log, hosted.shared.config.keep);
    let since_us =
        wall_us().saturating_sub(u64::try_from(keep.age.as_micros()).unwrap_or(u64::MAX));
    let trimmed = hosted.shared.main.spawn_blocking(move || {
        let at = match at {
            Some(at) => at,
            None => {
                let snapshot = journal.open(log).map_err(|error| error.to_string())?.snapshot;
                snapshot.map_or(0, |snapshot| snapshot.at)
            }
        };
        let below = journal.keep_from(log, keep.bytes, since_us).min(at + 1);
        journal.trim(log, below).map_err(|error| error.to_string())?;
        journal.open(log).map(|opened| opened.first).map_err(|error| error.to_string())
    });
    match trimmed.await {
        Ok(Ok(first)) => give_up(hosted, first).await,
        Ok(Err(error)) => tracing::warn!(group = %hosted.name, %error, "the log was not trimmed"),
        _ => {}
    }
}

/// The group gives up what is below `first`: at once where nobody waits for a receipt there, otherwise a little at a time. With a member
/// that does not answer, each of the messages there may have a receipt that waits for it: told all at once, they would be more than a
/// connection may have waiting, however fast it is read.
async fn give_up(hosted: &Hosted, first: Seq) {
    let until_ms = mono_ms() + READING_MS;
    while let Some(next) = next_first(hosted, first) {
        hosted.input(Input::Trimmed(next));
        // The driver's turn, and the sessions'.
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        while hosted.is_anybody_told_much() && mono_ms() < until_ms {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// How far the group gives up next; `None` when it has come to `first`. Whoever waits for receipts is told about as much as it is given
/// at once anyway: those that follow are taken to weigh what the first one does.
fn next_first(hosted: &Hosted, first: Seq) -> Option<Seq> {
    let group = hosted.group.borrow();
    let waited = group.first_waited().unwrap_or(Seq::MAX).max(group.first());
    let receipt = group.receipt(waited, None, now());
    let names = receipt.map_or(0, |receipt| receipt.missing.len());
    let weight = 1 + names + group.member_count() / 64;
    let count = hosted.shared.config.limits.receipts_weight_max() / weight;
    let next = waited.saturating_add(count.max(1) as u64).min(first);
    Some(next).filter(|next| *next > group.first())
}
