//! A message on its way: what became of it.

use std::time::Duration;

use tertulia_group::{Receipt, Seq};

use crate::Error;

/// A message that was handed over for sending. It is sent, and sent again after a lost connection, whether or not anybody
/// looks at this; the sender or member has to be kept until the answers are in.
#[derive(Debug)]
pub struct Sent {}

impl Sent {
    /// The message's number, once it is stored. May be dropped and called again.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Closed`]: not stored. [`Error::Unknown`]: it may be stored.
    pub async fn stored(&self) -> Result<Seq, Error> {
        unimplemented!()
    }

    /// The final receipt, or one as it stands where the node waits no longer. May be dropped and called again.
    ///
    /// # Errors
    /// As [`Sent::stored`]; [`Error::Unknown`] also when it was stored and who confirmed it cannot be found out; for ever
    /// waiting where receipts were not asked for ([`crate::SenderOptions::receipts`]) is [`Error::Closed`].
    pub async fn receipt(&self) -> Result<Receipt, Error> {
        unimplemented!()
    }

    /// Its number, if it is stored by now.
    pub fn seq(&self) -> Option<Seq> {
        unimplemented!()
    }

    /// From the sending to the last answer so far, or to now while there is none.
    pub fn elapsed(&self) -> Duration {
        unimplemented!()
    }
}
