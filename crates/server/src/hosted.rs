//! The driver: feeds one group with what its connections say, and carries out what the group says.
//!
//! Everything here runs on the group's shard, so that nothing needs a lock; nothing here waits for a socket or a disk.

mod outputs;
mod storing;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tertulia_group::{ConnId, Group, Incarnation, Input, Name, Now, Receipt, Refusal, Seq, Ticket};
use tertulia_journal::{AppendError, LogId, ReadError, Record};
use tertulia_wire::Code;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::clock::now;
use crate::conn::Conn;
use crate::feed::Feed;
use crate::keeping::{self, Keeping};
use crate::node::Notice;
use crate::sending;
use crate::shared::Shared;
use crate::wake::LocalWake;
use crate::window::Window;

/// Messages of which somebody who begins to look on is told the receipts: the newest that are not final yet.
const PENDING_MAX: usize = 256;

/// What the rest of the node may know of a group without asking its shard.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub members: AtomicU32,
    pub tail: AtomicU64,
    pub first: AtomicU64,
    pub epoch: AtomicU32,
}

/// A group's number on this node; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct GroupKey(pub u64);

/// What the journal answered, for the shard.
pub(crate) struct Stored {
    pub key: GroupKey,
    pub result: Result<(), AppendError>,
}

/// The answer to a ticket.
pub(crate) enum Answer {
    Removed(bool),
    Receipt(Option<Receipt>),
}

/// Why a group cannot be served (any longer).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Down {
    pub code: Code,
    pub message: String,
}

/// Records on their way from the journal.
pub(crate) type Reading = JoinHandle<Result<Vec<Record>, ReadError>>;

/// A piece of a batch that is on its way to the journal.
struct Piece {
    bytes: Bytes,
    first: Seq,
    last: Seq,
}

/// Asks a connection's entering: `Ok` once it is a member or sender.
type Entering = oneshot::Sender<Result<(), Refusal>>;

/// Connections that are written to in the driver's own turn, and bytes: the others have turns of their own.
const DELIVERED_MAX: usize = 512;
const DELIVERED_BYTES: u64 = 1 << 20;

/// A timer that is set for nothing in particular.
const FAR: Duration = Duration::from_secs(24 * 3600);

/// See the module.
pub(crate) struct Hosted {
    pub key: GroupKey,
    pub name: Name,
    pub log: LogId,
    pub shared: Arc<Shared>,
    pub stats: Arc<Stats>,
    feed: Arc<Feed>,
    pub group: RefCell<Group>,
    pub window: RefCell<Window>,
    pub conns: RefCell<HashMap<ConnId, Rc<Conn>>>,
    entering: RefCell<HashMap<ConnId, Entering>>,
    tickets: RefCell<HashMap<Ticket, oneshot::Sender<Answer>>>,
    /// What is in the journal's hands.
    under_way: RefCell<Vec<Piece>>,
    stored: mpsc::UnboundedSender<Stored>,
    dirty: LocalWake,
    /// When the driver's timer goes off, in monotonic milliseconds; `u64::MAX` where it is not set.
    timer_ms: Cell<u64>,
    /// When the first input since the last turn came: it stands for all of them up to the next turn.
    heard: Cell<Option<Now>>,
    pub keeping: Keeping,
    down: RefCell<Option<Down>>,
    /// The epoch's record is stored: the group serves.
    serving: Cell<bool>,
    /// The node ends: nothing is published any more.
    ending: Cell<bool>,
    ready: Notify,
}

impl Hosted {
    pub fn new(
        key: GroupKey,
        name: Name,
        group: Group,
        (stats, feed): (Arc<Stats>, Arc<Feed>),
        shared: Arc<Shared>,
        stored: mpsc::UnboundedSender<Stored>,
    ) -> Self {
        let window = Window::new(group.tail(), shared.config.limits.window_bytes);
        feed.advance(group.tail());
        Self {
            key,
            name,
            log: LogId(group.identity().log.0),
            stats,
            feed,
            window: RefCell::new(window),
            group: RefCell::new(group),
            conns: RefCell::default(),
            entering: RefCell::default(),
            tickets: RefCell::default(),
            under_way: RefCell::default(),
            stored,
            dirty: LocalWake::default(),
            timer_ms: Cell::new(u64::MAX),
            heard: Cell::new(None),
            keeping: Keeping::default(),
            down: RefCell::default(),
            serving: Cell::new(false),
            ending: Cell::new(false),
            ready: Notify::new(),
            shared,
        }
    }

    /// Tells the group something; what follows from it is carried out at the end of the turn.
    pub fn input(&self, input: Input) {
        if self.ending.get() && matches!(input, Input::Publish(..)) {
            return;
        }
        // A hundred acknowledgements may come in one turn: the clock is not read for each.
        let heard = self.heard.get().unwrap_or_else(now);
        self.heard.set(Some(heard));
        // Before it: what it confirms is pending for who has begun to look on since the last turn.
        self.watch_or_not(heard);
        self.group.borrow_mut().handle(heard, input);
        self.dirty.wake();
    }

    /// Waits until the group serves, or cannot.
    pub async fn until_ready(&self) -> Result<(), Down> {
        loop {
            let ready = self.ready.notified();
            if let Some(down) = self.down.borrow().clone() {
                return Err(down);
            }
            if self.serving.get() {
                return Ok(());
            }
            ready.await;
        }
    }

    /// A connection that wants to be a member or a sender; `input` says which.
    pub fn enter(&self, conn: Conn, input: Input, entering: Entering) {
        let id = conn.id;
        self.conns.borrow_mut().insert(id, Rc::new(conn));
        self.entering.borrow_mut().insert(id, entering);
        self.input(input);
    }

    /// A connection is gone, however far it had come.
    pub fn leave(&self, conn: ConnId) {
        self.entering.borrow_mut().remove(&conn);
        if let Some(conn) = self.conns.borrow_mut().remove(&conn) {
            self.tell_away(&conn);
            self.input(Input::Closed(conn.id));
        }
    }

    fn is_member(&self, conn: ConnId) -> bool {
        self.group.borrow().stay(conn).is_some()
    }

    fn tell_away(&self, conn: &Conn) {
        let group = self.group.borrow();
        let stay = group.stay(conn.id);
        let name = stay.and_then(|stay| group.members().find(|member| member.key == stay));
        if let Some(member) = name.filter(|_| conn.door != tertulia_group::Door::Line) {
            let (group, name) = (self.name.to_string(), member.name.to_string());
            tracing::info!(%group, %name, conn = conn.id.0, "away");
            self.shared.notice(Notice::Away { group, name });
        }
    }

    /// Reads what is behind the window, away from the shard and within the node's limit of reads.
    pub fn read_behind(&self, from: Seq, bytes_max: usize) -> Reading {
        let (shared, log) = (Arc::clone(&self.shared), self.log);
        self.shared.main.spawn(async move {
            let ending = |_| ReadError::Io("the node is ending".to_owned());
            let _permit = shared.reads.acquire().await.map_err(ending)?;
            let journal = Arc::clone(&shared.journal);
            let read =
                tokio::task::spawn_blocking(move || journal.read(log, from, bytes_max)).await;
            read.map_err(|error| ReadError::Io(error.to_string()))?
        })
    }

    /// A connection cannot be sent what is behind the window: the operator has to know.
    pub fn unreadable(&self, error: &ReadError) {
        match error {
            ReadError::Damaged(why) => {
                self.shared.tell_damage(&format!("a part of group {}", self.name), why);
            }
            error => {
                tracing::warn!(group = %self.name, %error, "a member cannot be served from the log");
            }
        }
    }

    /// Asks the group something that is answered later.
    pub fn ask(
        &self,
        question: impl FnOnce(Ticket) -> Input,
    ) -> (Ticket, oneshot::Receiver<Answer>) {
        let ticket = Ticket(self.shared.new_id());
        let (sender, receiver) = oneshot::channel();
        self.tickets.borrow_mut().insert(ticket, sender);
        self.input(question(ticket));
        (ticket, receiver)
    }

    /// The receipt of a message: at once where it is final, otherwise after at most `wait`.
    pub async fn receipt(
        &self,
        seq: Seq,
        publisher: Option<Incarnation>,
        wait: Duration,
    ) -> Option<Receipt> {
        let receipt = self.group.borrow().receipt(seq, publisher, now()).ok()?;
        if wait.is_zero() {
            return Some(receipt);
        }
        let receipt = match receipt.is_final() {
            true => receipt,
            false => self.wait_for_receipt(seq, publisher, wait).await?,
        };
        self.count_given(&receipt);
        Some(receipt)
    }

    async fn wait_for_receipt(
        &self,
        seq: Seq,
        publisher: Option<Incarnation>,
        wait: Duration,
    ) -> Option<Receipt> {
        let as_it_stands = || self.group.borrow().receipt(seq, publisher, now()).ok();
        let (ticket, answer) = self.ask(|ticket| Input::Await(ticket, seq, publisher));
        match tokio::time::timeout(wait, answer).await {
            Ok(Ok(Answer::Receipt(receipt))) => receipt,
            _ => {
                self.tickets.borrow_mut().remove(&ticket);
                self.input(Input::Forget(ticket));
                as_it_stands()
            }
        }
    }

    /// The group's own task: a turn whenever something came, and when time has passed.
    pub async fn drive(self: Rc<Self>) {
        // A timer is set anew only for something earlier: most of what is waited for comes before it, and costs no timer then.
        let mut timer = std::pin::pin!(tokio::time::sleep(FAR));
        while self.down.borrow().is_none() {
            if let Some(deadline_ms) = self.earlier_deadline_ms() {
                let within = deadline_ms.saturating_sub(crate::clock::mono_ms());
                let within = Duration::from_millis(within).min(FAR);
                timer.as_mut().reset(tokio::time::Instant::now() + within);
                self.timer_ms.set(deadline_ms);
            }
            let is_late = poll_fn(|cx| match self.dirty.poll_woken(cx) {
                Poll::Ready(()) => Poll::Ready(false),
                Poll::Pending if self.timer_ms.get() < u64::MAX => {
                    timer.as_mut().poll(cx).map(|()| true)
                }
                Poll::Pending => Poll::Pending,
            });
            if is_late.await {
                self.timer_ms.set(u64::MAX);
                self.group.borrow_mut().handle(now(), Input::Tick);
            }
            self.turn();
            keeping::look_after(&self);
        }
    }

    /// What the group waits for next, where that is before the driver's timer goes off.
    fn earlier_deadline_ms(&self) -> Option<u64> {
        self.group.borrow().deadline_ms().filter(|deadline_ms| *deadline_ms < self.timer_ms.get())
    }

    /// Somebody wants to know what becomes of messages, or nobody does any more.
    fn watch_or_not(&self, now: Now) {
        let watched = self.feed.is_watched();
        if watched == self.group.borrow().is_watched() {
            return;
        }
        let input = if watched { Input::Watch(self.pending()) } else { Input::Unwatch };
        self.group.borrow_mut().handle(now, input);
    }

    /// The newest messages that somebody has not answered yet, as far as they are in memory.
    fn pending(&self) -> Vec<(Seq, Option<Incarnation>)> {
        let group = self.group.borrow();
        let cursor = |member: &tertulia_group::Member| {
            let open = member.open.first().map_or(Seq::MAX, |open| open - 1);
            member.acked.max(member.reached).min(open)
        };
        let answered = group.members().map(cursor).min().unwrap_or(Seq::MAX);
        let headers = self.window.borrow().newest(answered, PENDING_MAX);
        let messages = headers.iter().filter(|header| header.kind.is_said());
        messages.map(|header| (header.seq, header.publisher())).collect()
    }

    /// One turn: hands a batch to the journal, then carries out what the group says. What the journal stores at once is delivered in
    /// this turn.
    pub fn turn(&self) {
        let (now, mut is_stored) = (now(), false);
        self.heard.set(None);
        while let Some(batch) = self.next_batch(now) {
            if !self.append(batch) {
                break;
            }
            self.stored(now);
            is_stored = true;
        }
        self.carry_out();
        if is_stored {
            self.deliver();
        }
    }

    /// Everybody is sent what is there: some here and now, and whoever would make the turn long by its own session.
    fn deliver(&self) {
        self.release();
        let conns = self.conns.borrow();
        let bytes = |conn: &Rc<Conn>| conn.wrote.get();
        let mut left = DELIVERED_BYTES;
        for (nth, conn) in conns.values().enumerate() {
            if nth >= DELIVERED_MAX || left == 0 {
                conn.wake();
                continue;
            }
            let before = bytes(conn);
            sending::deliver(self, conn);
            left = left.saturating_sub(bytes(conn) - before);
        }
    }

    /// Whether somebody has so many answers waiting that it could not take many more at once.
    pub fn is_anybody_told_much(&self) -> bool {
        let bytes = self.shared.config.limits.answers_room();
        self.conns.borrow().values().any(|conn| conn.is_told_more_than(bytes))
    }

    /// Lets the window go as far as everybody has written it.
    fn release(&self) {
        if self.window.borrow().is_over_minimum() {
            let slowest = self.conns.borrow().values().filter_map(|conn| conn.place()).min();
            self.window.borrow_mut().release(slowest.unwrap_or(u64::MAX));
        }
    }

    /// The group cannot go on here: whoever waits learns that the outcome is unknown by the connection's end.
    pub fn go_down(&self, error: &AppendError) {
        let code = match error {
            AppendError::Damaged(_) => Code::Damaged,
            AppendError::NoSpace(_) => Code::NoSpace,
            AppendError::Fenced { .. } => Code::Moved,
            _ => Code::StoreFailed,
        };
        let message = format!("group {}: {error}", self.name);
        if let AppendError::Failed(why) = error {
            self.shared.store_failed.send_if_modified(|failed| {
                let is_first = failed.is_none();
                failed.get_or_insert_with(|| why.clone());
                is_first
            });
        }
        self.shared.notice(Notice::Trouble(message.clone()));
        *self.down.borrow_mut() = Some(Down { code, message });
        self.feed.end();
        self.ready.notify_waiters();
        let text =
            "the group's store has failed; whether what was not answered is stored is unknown";
        self.conns.borrow().values().for_each(|conn| conn.close(code, text));
        self.entering.borrow_mut().clear();
        self.tickets.borrow_mut().clear();
        self.dirty.wake();
    }

    /// The node ends: whoever publishes from now on is not answered, and asks again elsewhere or later. Cursors and leaving are taken in,
    /// and what is under way is stored.
    pub fn stop_publishing(&self) {
        self.ending.set(true);
        self.group.borrow_mut().handle(now(), Input::Checkpoint);
        self.turn();
    }

    /// The group ends here, for a reason that its connections are told.
    pub fn end(&self, code: Code, message: &'static str) {
        *self.down.borrow_mut() = Some(Down { code, message: message.to_owned() });
        self.feed.end();
        self.ready.notify_waiters();
        self.conns.borrow().values().for_each(|conn| conn.close(code, message));
        self.entering.borrow_mut().clear();
        self.dirty.wake();
    }

    /// Why it is down, where it is.
    pub fn down(&self) -> Option<Down> {
        self.down.borrow().clone()
    }
}
