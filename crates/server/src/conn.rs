//! One connection of a group, as its driver sees it: an inbox for what the group says, and a way to wake its session.

use std::cell::{Cell, OnceCell, RefCell, RefMut};
use std::net::IpAddr;
use std::task::{Context, Poll};

use tertulia_group::{ConnId, Door, Output};
use tertulia_wire::Code;

use crate::accounts::Pass;
use crate::sending::Sending;
use crate::wake::Wake;

/// Answers that a session has not taken yet; one that leaves more has stopped and is closed.
const INBOX_MAX: usize = 100_000;

/// Why the driver closes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closing {
    pub code: Code,
    pub message: &'static str,
}

/// What it is here by right of, and with it what wakes its session.
#[derive(Debug)]
enum Right {
    Pass(Pass),
    /// None: each of its requests is looked at by itself.
    None(Box<Wake>),
}

/// See the module. Lives on the group's shard.
#[derive(Debug)]
pub(crate) struct Conn {
    pub id: ConnId,
    pub door: Door,
    pub address: IpAddr,
    inbox: RefCell<Vec<Output>>,
    /// Its socket and what is written there, while a native session is at work.
    pub sending: RefCell<Option<Sending>>,
    right: Right,
    /// The first reason that there was.
    closing: OnceCell<Box<Closing>>,
    /// Its peer's host does not answer any more.
    is_gone: Cell<bool>,
    /// Bytes that were written since the last beat.
    pub wrote: Cell<u64>,
    /// The place in the window that it has come to; [`NOWHERE`] while it does not read there.
    place: Cell<u64>,
}

/// Past every place in a window.
const NOWHERE: u64 = u64::MAX;

impl Conn {
    pub fn new(id: ConnId, door: Door, address: IpAddr, pass: Option<Pass>) -> Self {
        Self {
            id,
            door,
            address,
            inbox: RefCell::default(),
            sending: RefCell::default(),
            right: pass.map_or_else(|| Right::None(Box::default()), Right::Pass),
            closing: OnceCell::new(),
            is_gone: Cell::new(false),
            wrote: Cell::new(0),
            place: Cell::new(NOWHERE),
        }
    }

    /// The place in the group's window that it has come to, while it reads there.
    pub fn place(&self) -> Option<u64> {
        Some(self.place.get()).filter(|place| *place != NOWHERE)
    }

    /// It has come to this place.
    pub fn set_place(&self, place: Option<u64>) {
        self.place.set(place.unwrap_or(NOWHERE));
    }

    /// Puts an answer of the group's into the inbox.
    pub fn push(&self, output: Output) {
        let mut inbox = self.inbox.borrow_mut();
        if inbox.len() < INBOX_MAX {
            inbox.push(output);
        } else {
            let message = "answers were not read; connect again";
            self.end(Code::Limit, message);
        }
        drop(inbox);
        self.wake();
    }

    /// Everything that came since the last time.
    pub fn take_inbox(&self) -> Vec<Output> {
        std::mem::take(&mut self.inbox.borrow_mut())
    }

    /// Its session has nothing to tell the peer that it does not know of yet.
    pub fn is_quiet(&self) -> bool {
        self.inbox.borrow().is_empty() && self.closing().is_none()
    }

    /// Whether its session has not taken all that it was told, or has more than `bytes` of it to write.
    pub fn is_told_more_than(&self, bytes: usize) -> bool {
        let sending = self.sending.borrow();
        !self.inbox.borrow().is_empty()
            || sending.as_ref().is_some_and(|sending| sending.outbox.answers() > bytes)
    }

    /// The writing side, for the session that has put it there.
    pub fn writing(&self) -> RefMut<'_, Sending> {
        RefMut::map(self.sending.borrow_mut(), |sending| {
            sending.as_mut().expect("a session has its socket until it ends")
        })
    }

    pub fn wake(&self) {
        self.waker().wake();
    }

    /// Waits for [`Conn::wake`].
    pub async fn woken(&self) {
        self.waker().woken().await;
    }

    /// Whether it was woken since it waited last: then it need not wait.
    pub fn take_woken(&self) -> bool {
        self.waker().take()
    }

    /// The same as [`Conn::woken`], for who waits for several things.
    pub fn poll_woken(&self, cx: &Context<'_>) -> Poll<()> {
        self.waker().poll_woken(cx)
    }

    fn waker(&self) -> &Wake {
        match &self.right {
            Right::Pass(pass) => pass.wake(),
            Right::None(wake) => wake,
        }
    }

    pub fn close(&self, code: Code, message: &'static str) {
        self.end(code, message);
        self.wake();
    }

    fn end(&self, code: Code, message: &'static str) {
        self.closing.get_or_init(|| Box::new(Closing { code, message }));
    }

    pub fn closing(&self) -> Option<Closing> {
        let ended = || self.pass().and_then(Pass::ended);
        self.closing.get().map(|closing| **closing).or_else(ended)
    }

    /// What it is here by right of.
    pub const fn pass(&self) -> Option<&Pass> {
        match &self.right {
            Right::Pass(pass) => Some(pass),
            Right::None(_) => None,
        }
    }

    /// Whether its receipts name members.
    pub fn sees_names(&self) -> bool {
        self.pass().is_none_or(Pass::sees_names)
    }

    /// Its peer's host does not answer any more: nobody reads a last frame there.
    pub fn host_is_gone(&self) {
        self.is_gone.set(true);
        self.wake();
    }

    /// Whether [`Conn::host_is_gone`] was said.
    pub fn is_gone(&self) -> bool {
        self.is_gone.get()
    }
}
