//! One connection of a group, as its driver sees it: an inbox for what the group says, and a way to wake its session.

use std::cell::{Cell, RefCell, RefMut};
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use tertulia_group::{ConnId, Door, Output};
use tertulia_wire::Code;
use tokio::io::{Interest, Ready};

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

/// See the module. Lives on the group's shard.
#[derive(Debug)]
pub(crate) struct Conn {
    pub id: ConnId,
    pub door: Door,
    pub address: IpAddr,
    inbox: RefCell<Vec<Output>>,
    /// Its socket and what is written there, while a native session is at work.
    pub sending: RefCell<Option<Sending>>,
    wake: Arc<Wake>,
    /// What it is here by right of; none where each of its requests is looked at by itself.
    pass: Option<Pass>,
    closing: Cell<Option<Closing>>,
    /// Its peer's host does not answer any more.
    is_gone: Cell<bool>,
    /// Bytes that were written since the last beat.
    pub wrote: Cell<u64>,
    /// The place in the window that it has come to; past everything while it does not read there.
    pub place: Cell<u64>,
}

impl Conn {
    pub fn new(id: ConnId, door: Door, address: IpAddr, pass: Option<Pass>) -> Self {
        let wake = pass.as_ref().map_or_else(Arc::default, |pass| Arc::clone(pass.wake()));
        Self {
            id,
            door,
            address,
            inbox: RefCell::default(),
            sending: RefCell::default(),
            wake,
            pass,
            closing: Cell::new(None),
            is_gone: Cell::new(false),
            wrote: Cell::new(0),
            place: Cell::new(u64::MAX),
        }
    }

    /// Puts an answer of the group's into the inbox.
    pub fn push(&self, output: Output) {
        let mut inbox = self.inbox.borrow_mut();
        if inbox.len() < INBOX_MAX {
            inbox.push(output);
        } else {
            let message = "answers were not read; connect again";
            self.closing.set(Some(Closing { code: Code::Limit, message }));
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

    /// The writing side, for the session that has put it there.
    pub fn writing(&self) -> RefMut<'_, Sending> {
        RefMut::map(self.sending.borrow_mut(), |sending| {
            sending.as_mut().expect("a session has its socket until it ends")
        })
    }

    /// Waits until one of these is possible at its socket.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        poll_fn(|cx| self.writing().stream.poll_ready(interest, cx)).await
    }

    pub fn wake(&self) {
        self.wake.wake();
    }

    /// Waits for [`Conn::wake`].
    pub async fn woken(&self) {
        self.wake.woken().await;
    }

    pub fn close(&self, code: Code, message: &'static str) {
        self.closing.set(Some(Closing { code, message }));
        self.wake();
    }

    pub fn closing(&self) -> Option<Closing> {
        let ended = || self.pass.as_ref().and_then(Pass::ended);
        self.closing.get().or_else(ended)
    }

    /// What it is here by right of.
    pub const fn pass(&self) -> Option<&Pass> {
        self.pass.as_ref()
    }

    /// Whether its receipts name members.
    pub fn sees_names(&self) -> bool {
        self.pass.as_ref().is_none_or(Pass::sees_names)
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
