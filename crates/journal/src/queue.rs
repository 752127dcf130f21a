//! The way from the callers to an engine's one thread: operations in the order of the calls, bounded by bytes.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, mpsc};

use bytes::Bytes;

use crate::catalog::check_limits;
use crate::{AppendError, Batch, Done, Expect, LogId, Snapshot};

/// What an engine's thread is asked to do.
pub(crate) enum Op {
    Append(Batch),
    Snapshot {
        log: LogId,
        epoch: u32,
        snapshot: Snapshot,
    },
    Delete(LogId),
    Put {
        key: String,
        expect: Expect,
        value: Option<Bytes>,
    },
    /// The log's first number has risen; to be written down.
    Trimmed(LogId),
    /// Refused already, for want of room in the queue; `breaks` says whose later batches go with it.
    Refused {
        breaks: Option<(LogId, u32)>,
        error: AppendError,
    },
}

/// Who is told how it went.
pub(crate) enum Finish {
    Done(Done),
    Reply(mpsc::Sender<Result<u64, AppendError>>),
    Nobody,
}

impl Finish {
    /// Tells them.
    pub fn call(self, result: Result<u64, AppendError>) {
        match self {
            Self::Done(done) => done(result.map(|_| ())),
            // Nobody waits any more: nobody to tell.
            Self::Reply(sender) => drop(sender.send(result)),
            Self::Nobody => {}
        }
    }
}

/// An operation in the queue. Tickets rise with every call.
pub(crate) struct Asked {
    pub ticket: u64,
    pub op: Op,
    pub finish: Finish,
    bytes: u64,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Asked>,
    bytes: u64,
    ticket_next: u64,
    /// What was taken last is being worked on.
    is_busy: bool,
    closed: bool,
}

/// See the module.
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    wake: Condvar,
    bytes_max: u64,
}

fn closed() -> AppendError {
    AppendError::Failed("the store is closed".to_owned())
}

impl Queue {
    /// A queue that refuses batches and snapshots with [`AppendError::NoSpace`] beyond `bytes_max`.
    pub fn new(bytes_max: u64) -> Self {
        Self { inner: Mutex::default(), wake: Condvar::new(), bytes_max }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody panics while holding the queue")
    }

    fn push(&self, op: Op, finish: Finish, bytes: u64, breaks: Option<(LogId, u32)>) {
        let mut inner = self.lock();
        if inner.closed {
            drop(inner);
            return finish.call(Err(closed()));
        }
        let full = bytes > 0 && inner.bytes > 0 && inner.bytes + bytes > self.bytes_max;
        let (op, bytes) = if full {
            let waiting = inner.bytes;
            let error = AppendError::NoSpace(format!("{waiting} bytes wait to be stored"));
            (Op::Refused { breaks, error }, 0)
        } else {
            (op, bytes)
        };
        let ticket = inner.ticket_next;
        inner.ticket_next += 1;
        inner.bytes += bytes;
        inner.waiting.push_back(Asked { ticket, op, finish, bytes });
        drop(inner);
        self.wake.notify_one();
    }

    /// See [`crate::Journal::append`].
    pub fn append(&self, batch: Batch, done: Done) {
        let bytes = batch_bytes(&batch) + 1;
        let breaks = Some((batch.log, batch.epoch));
        self.push(Op::Append(batch), Finish::Done(done), bytes, breaks);
    }

    /// See [`crate::Journal::save_snapshot`].
    pub fn snapshot(&self, log: LogId, epoch: u32, snapshot: Snapshot, done: Done) {
        let bytes = snapshot.state.len() as u64 + 1;
        self.push(Op::Snapshot { log, epoch, snapshot }, Finish::Done(done), bytes, None);
    }

    /// Asks for a trim to be written down; nobody waits.
    pub fn trimmed(&self, log: LogId) {
        self.push(Op::Trimmed(log), Finish::Nobody, 0, None);
    }

    fn wait(&self, op: Op) -> Result<u64, AppendError> {
        let (sender, receiver) = mpsc::channel();
        self.push(op, Finish::Reply(sender), 0, None);
        receiver.recv().unwrap_or_else(|_| Err(closed()))
    }

    /// See [`crate::Journal::delete`].
    pub fn delete(&self, log: LogId) -> Result<(), AppendError> {
        self.wait(Op::Delete(log)).map(|_| ())
    }

    /// See [`crate::Catalog::put`].
    pub fn put(&self, key: &str, expect: Expect, value: Option<Bytes>) -> Result<u64, AppendError> {
        check_limits(key, value.as_ref())?;
        self.wait(Op::Put { key: key.to_owned(), expect, value })
    }

    /// Does something in its place in the order of the calls, on the caller's thread: `work` is given its ticket. Only while nothing
    /// waits or is being worked on; `None` otherwise. For engines that are done with what they took when they take again.
    pub fn at_once<T>(&self, work: impl FnOnce(u64) -> T) -> Option<T> {
        let mut inner = self.lock();
        if inner.closed || inner.is_busy || !inner.waiting.is_empty() {
            return None;
        }
        let ticket = inner.ticket_next;
        inner.ticket_next += 1;
        // The queue stays locked: nobody comes between.
        Some(work(ticket))
    }

    /// Takes what waits, up to `bytes_max` (at least one). With `wait` it waits for something to come; otherwise the
    /// answer may be empty. `None` once the queue is closed and empty.
    pub fn take(&self, bytes_max: u64, wait: bool) -> Option<Vec<Asked>> {
        let mut inner = self.lock();
        inner.is_busy = false;
        while inner.waiting.is_empty() && wait && !inner.closed {
            inner = self.wake.wait(inner).expect("nobody panics while holding the queue");
        }
        if inner.waiting.is_empty() && inner.closed {
            return None;
        }
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(asked) = inner.waiting.front() {
            if bytes > 0 && bytes + asked.bytes > bytes_max {
                break;
            }
            bytes += asked.bytes;
            taken.extend(inner.waiting.pop_front());
        }
        inner.bytes -= bytes;
        inner.is_busy = !taken.is_empty();
        Some(taken)
    }

    /// Every operation with a lower ticket has been called.
    pub fn ticket_next(&self) -> u64 {
        self.lock().ticket_next
    }

    /// No more operations are taken; [`Queue::take`] still answers those that wait.
    pub fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
    }

    /// Closes and refuses what waits: for an engine's thread that ends out of turn.
    pub fn abandon(&self) {
        self.close();
        let waiting = std::mem::take(&mut self.lock().waiting);
        for asked in waiting {
            asked.finish.call(Err(closed()));
        }
    }
}

/// Bytes of entries and notes.
pub(crate) fn batch_bytes(batch: &Batch) -> u64 {
    let entries: usize = batch.entries.iter().map(Bytes::len).sum();
    (batch.notes.len() + entries) as u64
}

/// Abandons the queue when an engine's thread unwinds, so that no caller waits for ever.
pub(crate) struct Abandon<'a>(pub &'a Queue);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
