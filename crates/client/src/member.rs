//! Being a member of a group: reading, confirming, publishing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tertulia_group::{Entry, Epoch, LogId, SenderId, Seq};
use tertulia_wire::native::{Confirmed, Start};
use tertulia_wire::{Code, Level, Secret};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::role::{MemberRole, Role};
use crate::sender::{Outlet, end};
use crate::session::{Inlets, PUBLISHES_MAX, Session, WISHES_MAX, Wish, fresh_id};
use crate::shared::Shared;
use crate::tracker::Tracker;
use crate::{Error, Located, Saved, Sent, Target};

/// How long [`Member::leave`] may take.
const LEAVE_MAX: Duration = Duration::from_secs(10);

/// Which group to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The one that the allocator gives.
    Allocate,
    /// This one; it comes into being where guests may.
    Group(String),
}

/// How a member is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberOptions {
    /// Its name.
    pub name: String,
    /// Where to begin; not looked at when `saved` is resumed.
    pub start: Start,
    /// Stay a member, however long away.
    pub durable: bool,
    /// Tell by name who confirms: [`Event::Confirmed`].
    pub follow: bool,
    /// From an earlier life of the program, to come back as the same member. Where the membership has ended meanwhile, a new one
    /// goes on reading at the old place.
    pub saved: Option<Saved>,
}

impl MemberOptions {
    /// A member of this name that begins with what comes after its join.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), start: Start::Now, durable: false, follow: false, saved: None }
    }
}

/// What a member learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An entry of the log: a message (its own ones too), somebody who joined or left, a file. Until [`Member::done`] is called for
    /// it, or [`Member::open`] or [`Member::fail`], the member's cursor waits before it. A newer node's kinds and epoch records
    /// are passed over by the library.
    Entry(Entry),
    /// These numbers are gone: nobody can have them any more.
    Gap {
        /// The first.
        first: Seq,
        /// The last.
        last: Seq,
    },
    /// The log is another one, or lost its end: what was read from this number on is not in it, and numbers begin there again.
    Reset {
        /// The first number that comes.
        next: Seq,
    },
    /// The connection was lost; the library is at work on a new one.
    Lost {
        /// What happened.
        reason: String,
    },
    /// Connected again.
    Back {
        /// The same membership goes on; otherwise it had ended and this is a new one.
        resumed: bool,
    },
    /// Somebody has moved; only with [`MemberOptions::follow`].
    Confirmed(Confirmed),
    /// The membership is over; nothing comes after it. `REPLACED`, `REMOVED`, or why coming back was refused; none after
    /// [`Member::leave`].
    Left {
        /// Why.
        code: Option<Code>,
        /// In words.
        message: String,
    },
}

/// What a member was told when it joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcomed {
    /// The group's name as it is written.
    pub group: String,
    /// The member's name as it is written.
    pub name: String,
    /// The membership of [`MemberOptions::saved`] goes on.
    pub resumed: bool,
    /// The number of the last entry.
    pub seq: Seq,
    /// Members, this one included.
    pub members: u32,
    /// How well messages are stored.
    pub level: Level,
    /// The log.
    pub log: LogId,
    /// The coordinator's epoch.
    pub epoch: Epoch,
}

/// A membership. A lost connection is made anew for as long as it takes and reading goes on where it was: nothing is given out
/// twice to a living program. Dropped without [`Member::leave`], the member is away and can come back with [`Member::saved`].
///
/// Who does not call [`Member::next`] is not read for: the library holds back, and the node keeps the rest in the log. Answers to
/// one's own messages come on the same way, so call it also while waiting for those.
#[derive(Debug)]
pub struct Member {
    handle: Handle,
    wishes: mpsc::Sender<Wish>,
    located: Located,
    welcomed: Welcomed,
}

/// What can be done with a membership from anywhere in a program. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
    outlet: Outlet,
    key: Arc<Key>,
}

/// What stays the same of a membership, whatever connection it has.
#[derive(Debug)]
struct Key {
    group: String,
    name: String,
    id: SenderId,
    log: LogId,
}

impl Member {
    /// Joins, or comes back. `BUSY` is tried again for a while.
    ///
    /// # Errors
    /// [`Error::Connect`]; `NAME_TAKEN`, `GROUP_FULL`, `BAD_NAME`, `NAME_RESERVED`, `DENIED`, `UNKNOWN_GROUP`.
    pub async fn join(
        target: &Target,
        place: Place,
        options: MemberOptions,
    ) -> Result<Self, Error> {
        let saved = options.saved.as_ref();
        let tracker = saved.map_or_else(Tracker::default, |saved| {
            Tracker::resume(saved.position(), &saved.open, &saved.failed)
        });
        let secret = saved.map_or_else(|| Secret(rand::random()), |saved| saved.secret);
        let id = saved.map_or_else(fresh_id, |saved| saved.sender);
        let shared = Arc::new(Shared::new(tracker, secret));
        let role = Role::Member(Box::new(MemberRole {
            id,
            durable: options.durable,
            follow: options.follow,
            start: options.start,
            shared: shared.clone(),
            last_welcome: None,
        }));
        let opened = Session::open(target, &place, &options.name, role).await?;
        let welcomed = match opened.session.role() {
            Role::Member(member) => member.last_welcome.as_ref().map(Welcomed::new),
            Role::Sender(_) => None,
        };
        let welcomed = welcomed.ok_or_else(|| Error::Protocol("no WELCOME".to_owned()))?;
        let (publish, publishes) = mpsc::channel(PUBLISHES_MAX);
        let (wishes, wished) = mpsc::channel(WISHES_MAX);
        let bytes_max = opened.conn.greeting.message_bytes_max as usize;
        tokio::spawn(opened.session.run(opened.conn, Inlets { publishes, wishes: wished }));
        let key = Key {
            group: welcomed.group.clone(),
            name: welcomed.name.clone(),
            id,
            log: welcomed.log,
        };
        let outlet = Outlet { publish, bytes_max, receipts: true, over: opened.over };
        let handle = Handle { shared, outlet, key: Arc::new(key) };
        Ok(Self { handle, wishes, located: opened.located, welcomed })
    }

    /// What happens next; `None` after [`Event::Left`]. May be dropped before it is done; nothing is lost.
    pub async fn next(&mut self) -> Option<Event> {
        self.handle.shared.next().await
    }

    /// What the directory answered first.
    pub const fn located(&self) -> &Located {
        &self.located
    }

    /// What the member was told when it joined.
    pub const fn welcome(&self) -> &Welcomed {
        &self.welcomed
    }

    /// See [`Handle`].
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// See [`Handle::done`].
    pub fn done(&self, seq: Seq) {
        self.handle.done(seq);
    }

    /// See [`Handle::open`].
    pub fn open(&self, seq: Seq) {
        self.handle.open(seq);
    }

    /// See [`Handle::fail`].
    pub fn fail(&self, seq: Seq, code: &str) {
        self.handle.fail(seq, code);
    }

    /// See [`Handle::publish`].
    ///
    /// # Errors
    /// As there.
    pub async fn publish(&self, body: impl Into<Bytes>) -> Result<Sent, Error> {
        self.handle.publish(body).await
    }

    /// See [`Handle::saved`].
    pub fn saved(&self) -> Saved {
        self.handle.saved()
    }

    /// Ends the membership: what is done is confirmed, what was published is stored first. Waits for the node's answer for a few
    /// seconds; where there is no connection the member is away and leaves after its grace. Events that were not taken are gone.
    ///
    /// # Errors
    /// [`Error::Lost`] when the node could not be told; [`Error::Unknown`] when something published may or may not be stored.
    pub async fn leave(self) -> Result<(), Error> {
        self.handle.shared.deafen();
        let left = timeout(LEAVE_MAX, end(&self.wishes, &self.handle.outlet)).await;
        left.unwrap_or_else(|_| {
            let address = self.located.coordinator.clone();
            Err(Error::Lost { address, why: "no answer to LEAVE".to_owned() })
        })
    }
}

impl Welcomed {
    fn new(welcome: &tertulia_wire::native::Welcome) -> Self {
        Self {
            group: welcome.group.clone(),
            name: welcome.name.clone(),
            resumed: welcome.resumed,
            seq: welcome.tail,
            members: welcome.members,
            level: welcome.level,
            log: welcome.log,
            epoch: welcome.epoch,
        }
    }
}

impl Handle {
    /// The program has done this one: the cursor may pass it.
    pub fn done(&self, seq: Seq) {
        self.shared.progress(|tracker| tracker.done(seq));
    }

    /// The program is at work on this one for longer: the cursor may pass it and it is not confirmed, until [`Handle::done`] or
    /// [`Handle::fail`]. At most 64 count; the cursor waits before the next.
    pub fn open(&self, seq: Seq) {
        self.shared.progress(|tracker| tracker.open_one(seq));
    }

    /// The program will not do this one; the code goes into the message's receipt (`exit 7`). It is made one clean line of at
    /// most 64 bytes.
    pub fn fail(&self, seq: Seq, code: &str) {
        self.shared.progress(|tracker| tracker.fail(seq, code));
    }

    /// Publishes through the membership; waits for room as [`crate::Sender::send`] does. Dropped before it is done, nothing was sent.
    ///
    /// # Errors
    /// [`Error::TooLong`]; why the membership has ended.
    pub async fn publish(&self, body: impl Into<Bytes>) -> Result<Sent, Error> {
        self.outlet.publish(body.into(), false).await
    }

    /// What to write down in order to come back, as it stands now. Entries that were given out and are neither done nor open come
    /// again after a resume.
    pub fn saved(&self) -> Saved {
        let inner = self.shared.lock();
        let (log, epoch) = inner.tracker.log().unwrap_or((self.key.log, 0));
        Saved {
            group: self.key.group.clone(),
            name: self.key.name.clone(),
            secret: inner.secret,
            sender: self.key.id,
            log,
            epoch,
            cursor: inner.tracker.cursor(),
            open: inner.tracker.open(),
            failed: inner.tracker.failed(),
        }
    }
}
