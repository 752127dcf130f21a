//! Sending to a group from outside.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tertulia_group::Seq;
use tertulia_wire::Level;
use tertulia_wire::file::FileBody;
use tertulia_wire::native::Confirmed;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::role::{Role, SenderRole};
use crate::sent::promise;
use crate::session::{Inlets, PUBLISHES_MAX, Publish, Session, WISHES_MAX, Wish, fresh_id};
use crate::{Error, Located, Once, Place, ReceiptNow, Sent, Target};

/// Confirmations that wait to be looked at.
const CONFIRMATIONS_MAX: usize = 4096;

/// How a sender is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SenderOptions {
    /// Tell by name who confirms: see [`Sender::confirmations`].
    pub follow: bool,
    /// Ask for receipts; without, [`Sent::stored`] is all there is. True where nothing is said.
    pub receipts: bool,
    /// How long [`Sender::open`] may take in all, whichever step takes it ([`Target::connect_timeout`] is not looked at); its error
    /// says which step got no answer. As long as it takes where nothing is said, but not long for any single step.
    pub within: Option<Duration>,
    /// Files are to be told: a node that does not know them is [`Error::NoFiles`], also when the connection is made anew.
    pub files: bool,
    /// The sender is for this one message only, which is stored once however often it is sent.
    pub once: Option<Once>,
}

impl Default for SenderOptions {
    fn default() -> Self {
        Self { follow: false, receipts: true, within: None, files: false, once: None }
    }
}

/// An outside sender of one group. A lost connection is made anew, for as long as it takes, and what was not answered is sent
/// again under the same counters, so that nothing is stored twice; whoever will not wait so long puts a timeout around.
/// Dropped without [`Sender::close`], it gives up what is not answered.
#[derive(Debug)]
pub struct Sender {
    outlet: Outlet,
    wishes: mpsc::Sender<Wish>,
    located: Located,
    name: String,
    members: u32,
    level: Level,
    files: bool,
    once: Option<Once>,
    /// The one message was handed over.
    had_it: AtomicBool,
    confirmations: Option<mpsc::Receiver<Confirmed>>,
}

impl Sender {
    /// Asks the directory, connects to the coordinator, opens the sender.
    ///
    /// # Errors
    /// [`Error::Connect`]; `UNKNOWN_GROUP` (the message names the nearest one), `BAD_NAME`, `NAME_RESERVED`, `DENIED`;
    /// [`Error::KeyReused`] where another message has come under the key of [`SenderOptions::once`].
    pub async fn open(
        target: &Target,
        group: &str,
        name: &str,
        options: SenderOptions,
    ) -> Result<Self, Error> {
        let (to, from) = mpsc::channel(CONFIRMATIONS_MAX);
        let (to, from) = if options.follow { (Some(to), Some(from)) } else { (None, None) };
        let role = Role::Sender(SenderRole {
            id: options.once.as_ref().map_or_else(fresh_id, |once| once.sender(name)),
            confirmations: to,
            ready: None,
            files: options.files,
            only: options.once.as_ref().map(Once::counter),
        });
        let place = Place::Group(group.to_owned());
        let until = options.within.and_then(|within| Instant::now().checked_add(within));
        let mut opened = Session::open(&target.until(until), &place, name, role).await?;
        opened.conn.until = None;
        let Role::Sender(SenderRole { ready: Some(ready), .. }) = opened.session.role() else {
            return Err(Error::Protocol("no SENDER_READY".to_owned()));
        };
        let (members, level) = (ready.members, ready.level);
        let name = opened.session.name().to_owned();
        let (publish, publishes) = mpsc::channel(PUBLISHES_MAX);
        let (wish, wishes) = mpsc::channel(WISHES_MAX);
        let bytes_max = opened.conn.greeting.message_bytes_max as usize;
        tokio::spawn(opened.session.run(opened.conn, Inlets { publishes, wishes }));
        Ok(Self {
            outlet: Outlet { publish, bytes_max, receipts: options.receipts, over: opened.over },
            wishes: wish,
            located: opened.located,
            name,
            members,
            level,
            files: options.files,
            once: options.once,
            had_it: AtomicBool::new(false),
            confirmations: from,
        })
    }

    /// What the directory answered first.
    pub const fn located(&self) -> &Located {
        &self.located
    }

    /// The sender's name as it is written.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many members the group had when the sender was opened.
    pub const fn members(&self) -> u32 {
        self.members
    }

    /// How well messages are stored.
    pub const fn level(&self) -> Level {
        self.level
    }

    /// Sends; waits for room while too much is under way that is not stored, or while there is no connection.
    /// Dropped before it is done, nothing was sent.
    ///
    /// # Errors
    /// [`Error::TooLong`]; [`Error::KeyReused`] for another message than that of [`SenderOptions::once`], and after it;
    /// why the sender has ended.
    pub async fn send(&self, body: impl Into<Bytes>) -> Result<Sent, Error> {
        self.hand_over(body.into(), false).await
    }

    async fn hand_over(&self, body: Bytes, is_file: bool) -> Result<Sent, Error> {
        if let Some(once) = &self.once
            && (!once.is_of(&body) || self.had_it.swap(true, Ordering::Relaxed))
        {
            return Err(Error::KeyReused);
        }
        self.outlet.publish(body, is_file).await
    }

    /// Tells the group a file; otherwise as [`Sender::send`].
    ///
    /// # Errors
    /// As [`Sender::send`]; [`Error::NoFiles`] without [`SenderOptions::files`]; a name that is empty, longer than 255 bytes or not one clean line ends the connection (`BAD_FRAME`).
    pub async fn tell_file(&self, file: &FileBody) -> Result<Sent, Error> {
        if !self.files {
            return Err(Error::NoFiles { address: self.located.coordinator.clone() });
        }
        self.hand_over(file.write().into(), true).await
    }

    /// Who has moved, when `follow` was asked for; can be taken once. A receiver that is not read loses some of them:
    /// cursors are cumulative.
    pub const fn confirmations(&mut self) -> Option<mpsc::Receiver<Confirmed>> {
        self.confirmations.take()
    }

    /// The receipt of a message of the group when it is final or after `wait`; on the same connection.
    ///
    /// # Errors
    /// `NO_SUCH_MESSAGE`, `EXPIRED`; [`Error::Lost`]; why the sender has ended.
    pub async fn ask_receipt(&self, seq: Seq, wait: Duration) -> Result<ReceiptNow, Error> {
        let (reply, answer) = oneshot::channel();
        let wish = Wish::Receipt { seq, wait, reply };
        self.wishes.send(wish).await.map_err(|_| self.outlet.ended())?;
        answer.await.unwrap_or_else(|_| Err(self.outlet.ended()))
    }

    /// Waits until everything is stored or refused, and ends the connection. Receipts that are not in by then do not come.
    ///
    /// # Errors
    /// [`Error::Unknown`] when something may or may not be stored.
    pub async fn close(self) -> Result<(), Error> {
        end(&self.wishes, &self.outlet).await
    }
}

/// Wishes for the end, and waits for it. A session that has ended already has told everybody else.
pub(crate) async fn end(wishes: &mpsc::Sender<Wish>, outlet: &Outlet) -> Result<(), Error> {
    let (reply, answer) = oneshot::channel();
    if wishes.send(Wish::End { reply }).await.is_err() {
        return Err(outlet.ended());
    }
    answer.await.unwrap_or_else(|_| Err(outlet.ended()))
}

/// Where messages are handed over.
#[derive(Clone, Debug)]
pub(crate) struct Outlet {
    pub publish: mpsc::Sender<Publish>,
    pub bytes_max: usize,
    pub receipts: bool,
    pub over: Arc<OnceLock<Error>>,
}

impl Outlet {
    pub async fn publish(&self, body: Bytes, is_file: bool) -> Result<Sent, Error> {
        if body.len() > self.bytes_max {
            return Err(Error::TooLong { bytes: body.len(), max: self.bytes_max });
        }
        let place = self.publish.reserve().await.map_err(|_| self.ended())?;
        let (sent, promise) = promise(self.receipts);
        place.send(Publish { body, is_file, promise });
        Ok(sent)
    }

    /// Why nothing can be handed over any more.
    pub fn ended(&self) -> Error {
        self.over.get().cloned().unwrap_or(Error::Closed)
    }
}
