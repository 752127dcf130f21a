//! Sending to a group from outside.

use std::time::Duration;

use bytes::Bytes;
use tertulia_group::Seq;
use tertulia_wire::Level;
use tertulia_wire::native::Confirmed;
use tokio::sync::mpsc;

use crate::{Error, Located, ReceiptNow, Sent, Target};

/// How a sender is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SenderOptions {
    /// Tell by name who confirms: see [`Sender::confirmations`].
    pub follow: bool,
    /// Ask for receipts; without, [`Sent::stored`] is all there is. True where nothing is said.
    pub receipts: bool,
}

impl Default for SenderOptions {
    fn default() -> Self {
        Self { follow: false, receipts: true }
    }
}

/// An outside sender of one group. A lost connection is made anew, for as long as it takes, and what was not answered is sent
/// again under the same counters, so that nothing is stored twice; whoever will not wait so long puts a timeout around.
#[derive(Debug)]
pub struct Sender {}

impl Sender {
    /// Asks the directory, connects to the coordinator, opens the sender.
    ///
    /// # Errors
    /// [`Error::Connect`]; `UNKNOWN_GROUP` (the message names the nearest one), `BAD_NAME`, `NAME_RESERVED`, `DENIED`.
    pub async fn open(
        target: &Target,
        group: &str,
        name: &str,
        options: SenderOptions,
    ) -> Result<Self, Error> {
        unimplemented!()
    }

    /// What the directory answered first.
    pub fn located(&self) -> &Located {
        unimplemented!()
    }

    /// The sender's name as it is written.
    pub fn name(&self) -> &str {
        unimplemented!()
    }

    /// How many members the group had when the sender was opened.
    pub fn members(&self) -> u32 {
        unimplemented!()
    }

    /// How well messages are stored.
    pub fn level(&self) -> Level {
        unimplemented!()
    }

    /// Sends; waits for room while too much is under way that is not stored, or while there is no connection.
    /// Dropped before it is done, nothing was sent.
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::Closed`].
    pub async fn send(&self, body: impl Into<Bytes>) -> Result<Sent, Error> {
        unimplemented!()
    }

    /// Who has moved, when `follow` was asked for; can be taken once. A receiver that is not read loses some of them:
    /// cursors are cumulative.
    pub fn confirmations(&mut self) -> Option<mpsc::Receiver<Confirmed>> {
        unimplemented!()
    }

    /// The receipt of a message of the group when it is final or after `wait`; on the same connection.
    ///
    /// # Errors
    /// `NO_SUCH_MESSAGE`, `EXPIRED`; [`Error::Lost`].
    pub async fn ask_receipt(&self, seq: Seq, wait: Duration) -> Result<ReceiptNow, Error> {
        unimplemented!()
    }

    /// Waits until everything is stored or refused, and ends the connection. Receipts that are not in by then do not come.
    ///
    /// # Errors
    /// [`Error::Unknown`] when something may or may not be stored.
    pub async fn close(self) -> Result<(), Error> {
        unimplemented!()
    }
}
