//! A batch on its way to the journal, and what happens when the journal has answered.

use std::sync::Arc;
use std::time::Instant;

use tertulia_group::{Batch, Input, Now};
use tertulia_journal::AppendError;

use super::{Hosted, Piece, Stored};
use crate::clock::now;
use crate::window::frame_ends;

impl Hosted {
    /// What is to be stored next, where nothing is under way.
    pub(super) fn next_batch(&self, now: Now) -> Option<Batch> {
        self.watch_or_not(now);
        let mut group = self.group.borrow_mut();
        group.settle(now);
        group.take_batch(now)
    }

    /// Hands a batch to the journal; whether it is stored already.
    pub(super) fn append(&self, batch: Batch) -> bool {
        let (mut first, end) = (batch.first, batch.first + u64::from(batch.count));
        let pieces = batch.entries.len();
        *self.under_way.borrow_mut() = batch
            .entries
            .iter()
            .enumerate()
            .map(|(index, bytes)| {
                // Only where one piece ends and the next begins has to be looked for.
                let count = || frame_ends(bytes).count() as u64;
                let last = if index + 1 == pieces { end } else { first + count() } - 1;
                let piece = Piece { bytes: bytes.clone(), first, last };
                first = last + 1;
                piece
            })
            .collect();
        self.keeping.count(&batch);
        let batch = tertulia_journal::Batch {
            log: self.log,
            epoch: batch.epoch,
            first: batch.first,
            count: batch.count,
            time_us: batch.time_us,
            notes: batch.notes,
            entries: batch.entries,
        };
        let handed_over = Instant::now();
        let batch = match self.shared.journal.append_at_once(batch) {
            Ok(()) => {
                self.shared.metrics.stored(handed_over.elapsed());
                return true;
            }
            Err(batch) => batch,
        };
        let (key, stored, shared) = (self.key, self.stored.clone(), Arc::clone(&self.shared));
        self.shared.journal.append(
            batch,
            Box::new(move |result| {
                shared.metrics.stored(handed_over.elapsed());
                // The shard is gone only when the node ends.
                let _ = stored.send(Stored { key, result });
            }),
        );
        false
    }

    /// The journal has answered: what is stored is delivered, after the next batch is on its way.
    pub fn batch_done(&self, result: Result<(), AppendError>) {
        match result {
            Ok(()) => self.stored(now()),
            Err(AppendError::NoSpace(_)) if self.serving.get() => {
                self.under_way.borrow_mut().clear();
                self.keeping.press();
                self.group.borrow_mut().handle(now(), Input::NotStored);
            }
            Err(error) => return self.go_down(&error),
        }
        self.turn();
        self.deliver();
        // That was not the driver's turn: what is waited for since then would have no timer.
        if self.earlier_deadline_ms().is_some() {
            self.dirty.wake();
        }
    }

    /// The batch under way is stored: it is there for everybody.
    pub(super) fn stored(&self, now: Now) {
        let mut window = self.window.borrow_mut();
        for Piece { bytes, first, last } in self.under_way.borrow_mut().drain(..) {
            self.feed.push(&bytes, first, last);
            window.push(bytes, first, last);
        }
        drop(window);
        self.group.borrow_mut().handle(now, Input::Stored);
        if !self.serving.replace(true) {
            self.ready.notify_waiters();
        }
        // Readers of a group that has ended were told so, and nothing after it.
        if self.down.borrow().is_none() {
            self.feed.advance(self.group.borrow().tail());
        }
    }
}
