//! What a member's task and its program share: events on their way, and how far the program is.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tertulia_wire::Secret;
use tertulia_wire::native::Ack;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::Event;
use crate::tracker::Tracker;

/// Bytes of events that wait for the program before the library stops to read.
const QUEUE_BYTES_MAX: usize = 256 << 10;
/// The same while answers to the member's own messages are awaited, which come on the same way.
const QUEUE_BYTES_MAX_PUBLISHING: usize = 8 << 20;
/// What an event counts beside its entry's bytes.
const EVENT_BYTES: usize = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct Shared {
    inner: Mutex<Inner>,
    /// Something for the program, or the end.
    pub for_program: Notify,
    /// The program has taken or done something.
    pub for_task: Notify,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub tracker: Tracker,
    /// The right to the membership. The first is the client's own, so that it comes back even where its first WELCOME was lost.
    pub secret: Secret,
    queue: VecDeque<Event>,
    bytes: usize,
    /// Nothing more comes.
    is_over: bool,
    /// The program wants nothing more.
    is_deaf: bool,
    /// There may be something to acknowledge, and the task has been told.
    has_progress: bool,
}

impl Shared {
    pub fn new(tracker: Tracker, secret: Secret) -> Self {
        Self {
            inner: Mutex::new(Inner {
                tracker,
                secret,
                queue: VecDeque::new(),
                bytes: 0,
                is_over: false,
                is_deaf: false,
                has_progress: false,
            }),
            for_program: Notify::new(),
            for_task: Notify::new(),
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes how far the program is. The task is told the first time, and when the program has nothing more to do.
    pub fn progress(&self, change: impl FnOnce(&mut Tracker)) {
        let mut inner = self.lock();
        change(&mut inner.tracker);
        let tell = !inner.has_progress || inner.queue.is_empty();
        inner.has_progress = true;
        drop(inner);
        if tell {
            self.for_task.notify_one();
        }
    }

    /// Another event for the program.
    pub fn push(&self, event: Event) {
        self.lock().push(event);
        self.for_program.notify_one();
    }

    /// The last event.
    pub fn end(&self, event: Event) {
        let mut inner = self.lock();
        inner.push(event);
        inner.is_over = true;
        drop(inner);
        self.for_program.notify_one();
    }

    /// The program wants no more events; the task throws them away.
    pub fn deafen(&self) {
        let mut inner = self.lock();
        inner.is_deaf = true;
        inner.queue.clear();
        inner.bytes = 0;
    }

    /// The next event; `None` after the last.
    pub async fn next(&self) -> Option<Event> {
        loop {
            match self.take() {
                ControlFlow::Break(event) => return event,
                ControlFlow::Continue(()) => self.for_program.notified().await,
            }
        }
    }

    /// The next event if it is there, `None` after the last.
    fn take(&self) -> ControlFlow<Option<Event>> {
        let mut inner = self.lock();
        let Some(event) = inner.queue.pop_front() else {
            return if inner.is_over {
                ControlFlow::Break(None)
            } else {
                ControlFlow::Continue(())
            };
        };
        let was_full = inner.bytes > QUEUE_BYTES_MAX / 2;
        inner.bytes -= size(&event);
        let tell = was_full && inner.bytes <= QUEUE_BYTES_MAX / 2;
        drop(inner);
        if tell {
            self.for_task.notify_one();
        }
        ControlFlow::Break(Some(event))
    }

    /// The task may read more from the node.
    pub fn has_room(&self, is_publishing: bool) -> bool {
        let max = if is_publishing { QUEUE_BYTES_MAX_PUBLISHING } else { QUEUE_BYTES_MAX };
        self.lock().bytes < max
    }
}

impl Inner {
    pub fn push(&mut self, event: Event) {
        if self.is_deaf || self.is_over {
            return;
        }
        // A connection that comes and goes says so once while nobody looks.
        if matches!(event, Event::Lost { .. })
            && matches!(self.queue.back(), Some(Event::Back { .. }))
        {
            let lost_before = self.queue.iter().rev().nth(1);
            if matches!(lost_before, Some(Event::Lost { .. })) {
                let back = self.queue.pop_back();
                self.bytes -= back.as_ref().map_or(0, size);
                return;
            }
        }
        self.bytes += size(&event);
        self.queue.push_back(event);
    }

    /// There may be something to acknowledge.
    pub const fn progressed(&mut self) {
        self.has_progress = true;
    }

    /// What to acknowledge. While the program has more to take it may wait, unless `is_due`; then the second is true.
    pub fn acknowledgement(&mut self, now: Instant, is_due: bool) -> (Option<Ack>, bool) {
        if !self.has_progress {
            return (None, false);
        }
        if !is_due && !self.queue.is_empty() {
            return (None, true);
        }
        let ack = self.tracker.ack(now);
        // One acknowledgement tells of so many failures only; there may be more.
        self.has_progress = ack.as_ref().is_some_and(|ack| !ack.failed.is_empty());
        let again = self.has_progress;
        (ack, again)
    }
}

fn size(event: &Event) -> usize {
    EVENT_BYTES
        + match event {
            Event::Entry(entry) => entry.bytes().len(),
            _ => 0,
        }
}
