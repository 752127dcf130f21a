//! A message on its way: what became of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tertulia_group::{Receipt, Seq};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::Error;

/// A message that was handed over for sending. It is sent, and sent again after a lost connection, whether or not anybody
/// looks at this; the sender or member has to be kept until the answers are in.
#[derive(Debug)]
pub struct Sent {
    slot: Arc<Slot>,
}

/// What is known of one message.
#[derive(Debug)]
struct Slot {
    sent_at: Instant,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    stored: Option<Result<Seq, Error>>,
    receipt: Option<Result<Receipt, Error>>,
    answered_at: Option<Instant>,
}

/// The other end of a [`Sent`]: keeps what is promised there. Dropped, it says that nothing more can be known.
#[derive(Debug)]
pub(crate) struct Promise {
    slot: Arc<Slot>,
    /// It may have reached the node.
    pub may_be_stored: bool,
    /// Its receipt was asked for.
    pub wants_receipt: bool,
}

/// A message that begins its way.
pub(crate) fn promise(wants_receipt: bool) -> (Sent, Promise) {
    let slot =
        Arc::new(Slot { sent_at: Instant::now(), state: Mutex::default(), changed: Notify::new() });
    (Sent { slot: slot.clone() }, Promise { slot, may_be_stored: false, wants_receipt })
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn wait<T>(&self, of: impl Fn(&State) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(answer) = of(&self.state()) {
                return answer;
            }
            changed.await;
        }
    }
}

impl Sent {
    /// The message's number, once it is stored. May be dropped and called again.
    ///
    /// # Errors
    /// [`Error::Unknown`]: it may be stored. All others, such as [`Error::Refused`], or [`Error::Lost`] where the end was wished for
    /// while there was no connection: not stored, and never will be.
    pub async fn stored(&self) -> Result<Seq, Error> {
        self.slot.wait(|state| state.stored.clone()).await
    }

    /// The final receipt, or one as it stands where the node waits no longer. May be dropped and called again.
    ///
    /// # Errors
    /// As [`Sent::stored`]; [`Error::Unknown`] also when it was stored and the node has it no more, or its sender. Once it is
    /// stored ([`Sent::seq`]), why the sender or member has ended, which is [`Error::Closed`] where that was wished for, or where
    /// receipts were not asked for ([`crate::SenderOptions::receipts`]): the receipt can be asked for in another way.
    pub async fn receipt(&self) -> Result<Receipt, Error> {
        self.slot.wait(|state| state.receipt.clone()).await
    }

    /// Its number, if it is stored by now.
    pub fn seq(&self) -> Option<Seq> {
        self.slot.state().stored.as_ref().and_then(|stored| stored.as_ref().ok().copied())
    }

    /// From the sending to the last answer so far, or to now while there is none.
    pub fn elapsed(&self) -> Duration {
        let answered_at = self.slot.state().answered_at.unwrap_or_else(Instant::now);
        answered_at.duration_since(self.slot.sent_at)
    }
}

impl Promise {
    fn set(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.slot.state();
        change(&mut state);
        state.answered_at = Some(Instant::now());
        drop(state);
        self.slot.changed.notify_waiters();
    }

    /// It is stored under this number.
    pub fn stored(&self, seq: Seq) {
        self.set(|state| {
            state.stored.get_or_insert(Ok(seq));
        });
    }

    /// The last that is learnt of it; [`Promise::stored`] came before.
    pub fn receipt(self, receipt: Receipt) {
        self.set(|state| state.receipt = Some(Ok(receipt)));
    }

    /// Nothing more comes.
    pub fn fail(self, error: &Error) {
        self.end(error);
    }

    fn end(&self, error: &Error) {
        let state = self.slot.state();
        if state.receipt.is_some() {
            return;
        }
        drop(state);
        self.set(|state| {
            state.stored.get_or_insert_with(|| Err(error.clone()));
            state.receipt = Some(Err(error.clone()));
        });
    }

    /// Nobody waits for an answer any more.
    pub fn is_forgotten(&self) -> bool {
        Arc::strong_count(&self.slot) == 1
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let is_stored = matches!(self.slot.state().stored, Some(Ok(_)));
        let unknown = if is_stored { self.wants_receipt } else { self.may_be_stored };
        self.end(if unknown { &Error::Unknown } else { &Error::Closed });
    }
}
