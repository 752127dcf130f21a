//! Messages under way: counters, the window, what to send again, and which answer belongs to which message.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tertulia_group::entry::{HEADER_BYTES, write_file, write_publish};
use tertulia_group::{CompleteRun, Receipt, Seq};
use tertulia_wire::Code;
use tertulia_wire::native::StoredRun;
use tokio::time::Instant;

use crate::Error;
use crate::sent::Promise;

/// Bytes that are prepared for the socket before it has taken some.
const OUT_BYTES_MAX: usize = 256 << 10;

#[derive(Debug)]
struct Item {
    counter: u64,
    body: Bytes,
    /// It tells the group a file.
    is_file: bool,
    promise: Promise,
}

/// What a refusal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterRefusal {
    /// Nothing.
    GoOn,
    /// A new connection: on this one everything later is refused too.
    Reconnect,
}

/// See the module. Pure: whoever owns it moves the bytes and knows the time.
#[derive(Debug)]
pub(crate) struct Outgoing {
    name: String,
    next_counter: u64,
    /// The highest counter that was ever written; it is never given to another message.
    used_counter: u64,
    /// Not known to be stored, in the order of their counters.
    queue: VecDeque<Item>,
    /// So many of `queue` are written on this connection.
    written: usize,
    /// Their bytes.
    unstored_bytes: usize,
    window_bytes: usize,
    /// Nothing is written before this time.
    not_before: Option<Instant>,
    /// Stored, and their receipts are awaited. Bodies are not needed any more: asked again, the counter says it all.
    waiting: BTreeMap<u64, (Seq, Promise)>,
    /// Whether those who wait no longer are worth a search.
    sweep_at: usize,
    /// Something was stored under the present sender id.
    any_stored: bool,
    any_unknown: bool,
    /// The counter of the only message that there may be.
    only: Option<u64>,
}

impl Outgoing {
    /// Of a sender that may send `only` one message, under this counter, or any.
    pub fn new(only: Option<u64>) -> Self {
        Self {
            name: String::new(),
            next_counter: 1,
            used_counter: 0,
            queue: VecDeque::new(),
            written: 0,
            unstored_bytes: 0,
            window_bytes: 0,
            not_before: None,
            waiting: BTreeMap::new(),
            sweep_at: 1024,
            any_stored: false,
            any_unknown: false,
            only,
        }
    }

    /// Another message; it is the last in the order.
    pub fn push(&mut self, body: Bytes, is_file: bool, promise: Promise) {
        self.queue.push_back(Item { counter: self.next_counter, body, is_file, promise });
        self.next_counter += 1;
    }

    /// Another message may be taken in.
    pub fn has_room(&self) -> bool {
        self.written == self.queue.len() && self.unstored_bytes < self.window_bytes.max(1)
    }

    /// Every message is stored, or was refused.
    pub fn is_settled(&self) -> bool {
        self.queue.is_empty()
    }

    /// Somebody may be waiting for an answer.
    pub fn awaits_answers(&self) -> bool {
        !self.queue.is_empty() || !self.waiting.is_empty()
    }

    /// The node may know the present sender id.
    pub fn may_be_known(&self) -> bool {
        self.any_stored || self.queue.iter().any(|item| item.promise.may_be_stored)
    }

    /// The outcome of some message could not be found out.
    pub const fn any_unknown(&self) -> bool {
        self.any_unknown
    }

    /// A connection begins on which the node has taken counters up to `last_counter`.
    pub fn begin(&mut self, out: &mut BytesMut, name: &str, window_bytes: u32, last_counter: u64) {
        name.clone_into(&mut self.name);
        self.window_bytes = window_bytes as usize;
        (self.written, self.unstored_bytes, self.not_before) = (0, 0, None);
        self.renumber(last_counter);
        self.any_stored |= last_counter > 0;
        self.sweep();
        // Without a message of that counter the node would take these for new ones.
        let lost = self.waiting.split_off(&(last_counter + 1));
        self.any_unknown |= !lost.is_empty();
        for counter in self.waiting.keys() {
            write_publish(out, &self.name, *counter, true, b"");
        }
    }

    /// The node has forgotten the sender: what may be stored is unknown, the rest begins anew under another id.
    pub fn expire(&mut self) {
        self.waiting.clear();
        let before = self.queue.len();
        self.queue.retain(|item| !item.promise.may_be_stored);
        self.any_unknown |= self.queue.len() < before;
        self.any_stored = false;
        (self.written, self.unstored_bytes) = (0, 0);
    }

    /// What was never written has no number yet that anybody knows: it comes after everything that was.
    fn renumber(&mut self, last_counter: u64) {
        // An earlier try of the only message may be what was taken.
        let mut next = self.only.unwrap_or(self.used_counter.max(last_counter) + 1);
        for item in self.queue.iter_mut().filter(|item| !item.promise.may_be_stored) {
            item.counter = next;
            next += 1;
        }
        self.next_counter = next;
    }

    /// Writes what the window allows.
    pub fn write(&mut self, out: &mut BytesMut, now: Instant) {
        if self.not_before.is_some_and(|time| now < time) {
            return;
        }
        self.not_before = None;
        while let Some(item) = self.queue.get_mut(self.written) {
            let bytes = HEADER_BYTES + self.name.len() + item.body.len();
            let fits = self.unstored_bytes == 0 || self.unstored_bytes + bytes <= self.window_bytes;
            if !fits || out.len() >= OUT_BYTES_MAX {
                return;
            }
            item.promise.may_be_stored = true;
            self.used_counter = self.used_counter.max(item.counter);
            let receipt = item.promise.wants_receipt;
            let write = if item.is_file { write_file } else { write_publish };
            write(out, &self.name, item.counter, receipt, &item.body);
            self.unstored_bytes += bytes;
            self.written += 1;
        }
    }

    /// When [`Outgoing::write`] is to be tried again although nothing happened.
    pub const fn deadline(&self) -> Option<Instant> {
        self.not_before
    }

    fn take(&mut self, counter: u64) -> Option<Item> {
        let at = self.queue.binary_search_by_key(&counter, |item| item.counter).ok()?;
        let item = self.queue.remove(at)?;
        if at < self.written {
            self.written -= 1;
            self.unstored_bytes -= HEADER_BYTES + self.name.len() + item.body.len();
        }
        Some(item)
    }

    fn store_one(&mut self, counter: u64, seq: Seq) {
        let Some(Item { promise, .. }) = self.take(counter) else { return };
        self.any_stored = true;
        promise.stored(seq);
        if promise.wants_receipt && !promise.is_forgotten() {
            self.waiting.insert(counter, (seq, promise));
            if self.waiting.len() > self.sweep_at {
                self.sweep();
            }
        }
    }

    /// Forgets receipts that nobody waits for.
    fn sweep(&mut self) {
        self.waiting.retain(|_, (_, promise)| !promise.is_forgotten());
        self.sweep_at = (2 * self.waiting.len()).max(1024);
    }

    /// These counters of a run are ours; a run may say anything.
    fn ours(&self, counter: u64, count: u32) -> Vec<u64> {
        let end = counter.saturating_add(u64::from(count));
        let queue = self.queue.iter().map(|item| item.counter);
        let first = self.queue.partition_point(|item| item.counter < counter);
        let queued = queue.skip(first).take_while(|counter| *counter < end);
        self.waiting.range(counter..end).map(|(counter, _)| *counter).chain(queued).collect()
    }

    /// STORED.
    pub fn stored(&mut self, run: StoredRun) {
        for counter in self.ours(run.counter, run.count) {
            self.store_one(counter, run.seq + (counter - run.counter));
        }
    }

    /// COMPLETE.
    pub fn complete(&mut self, run: CompleteRun) {
        for counter in self.ours(run.counter, run.count) {
            let receipt = Receipt {
                seq: run.seq + (counter - run.counter),
                epoch: run.epoch,
                members: run.members,
                confirmed: run.members.saturating_sub(run.reached),
                reached: run.reached,
                missing: Vec::new(),
            };
            self.receipt(counter, receipt);
        }
    }

    /// RECEIPT.
    pub fn receipt(&mut self, counter: u64, receipt: Receipt) {
        self.store_one(counter, receipt.seq);
        if let Some((_, promise)) = self.waiting.remove(&counter) {
            promise.receipt(receipt);
        }
    }

    /// REFUSED. What was only put off is written again after `wait`.
    pub fn refused(
        &mut self,
        counter: u64,
        code: Code,
        message: String,
        now: Instant,
        wait: Duration,
    ) -> AfterRefusal {
        match code {
            // The refusal before it has put this one off already.
            Code::AfterRefused => AfterRefusal::GoOn,
            Code::Busy | Code::StoreFailed => {
                self.put_off(counter, now + wait);
                AfterRefusal::GoOn
            }
            Code::Moved | Code::ShuttingDown | Code::Idle | Code::NotJoined => {
                AfterRefusal::Reconnect
            }
            Code::SenderExpired => {
                let item = self.take(counter).map(|item| item.promise);
                let waiting = self.waiting.remove(&counter).map(|(_, promise)| promise);
                for promise in item.into_iter().chain(waiting) {
                    self.any_unknown = true;
                    promise.fail(&Error::Unknown);
                }
                AfterRefusal::GoOn
            }
            // This message was never taken and cannot be; it blocks nothing.
            Code::CounterSkipped => {
                // The only message is below another one: of another text, which came between the opening and this.
                let error = match self.only {
                    Some(_) => Error::KeyReused,
                    None => Error::Refused { code, message },
                };
                self.take(counter).into_iter().for_each(|item| item.promise.fail(&error));
                AfterRefusal::GoOn
            }
            code => {
                let Some(item) = self.take(counter) else { return AfterRefusal::GoOn };
                item.promise.fail(&Error::Refused { code, message });
                AfterRefusal::Reconnect
            }
        }
    }

    /// Everything from `counter` on is written again, not before `time`.
    fn put_off(&mut self, counter: u64, time: Instant) {
        let at = self.queue.partition_point(|item| item.counter < counter);
        if at >= self.written {
            return;
        }
        let name_bytes = self.name.len();
        let bytes = self.queue.range(at..self.written);
        self.unstored_bytes -=
            bytes.map(|item| HEADER_BYTES + name_bytes + item.body.len()).sum::<usize>();
        (self.written, self.not_before) = (at, Some(time));
    }

    /// Nothing can be sent any more, and no receipt comes, for this reason.
    pub fn end(&mut self, error: &Error) {
        let unsent = self.queue.drain(..).map(|item| item.promise).filter(|it| !it.may_be_stored);
        let stored = std::mem::take(&mut self.waiting).into_values().map(|(_, promise)| promise);
        unsent.chain(stored).for_each(|promise| promise.fail(error));
        self.written = 0;
    }
}
