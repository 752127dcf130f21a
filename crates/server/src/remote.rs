//! A membership or sender whose session does not live on the group's shard: what it says goes there through the mailbox,
//! what the group answers comes back through a bounded channel.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use tertulia_group::{ConnId, Door, Input, Output, Refusal};
use tokio::sync::{mpsc, oneshot};

use crate::accounts::Pass;
use crate::conn::{Closing, Conn};
use crate::directory::Listed;
use crate::hosted::Hosted;
use crate::shard::{Entrant, Job};

/// Bundles of answers that wait; then they gather in the connection's inbox, which has its own limit.
const SAID_MAX: usize = 16;

/// What the group says to it.
#[derive(Debug)]
pub(crate) enum Said {
    /// Answers, in their order.
    Outputs(Vec<Output>),
    /// It has to end; nothing comes after this.
    Closing(Closing),
}

/// Why there is no such membership or sender.
#[derive(Debug)]
pub(crate) enum NotEntered {
    /// The group refused it.
    Refused(Refusal),
    /// The group is not served just now.
    Gone,
}

/// See the module. It has left when this is dropped.
pub(crate) struct Remote {
    pub listed: Arc<Listed>,
    conn: ConnId,
    said: mpsc::Receiver<Said>,
}

impl Remote {
    /// Becomes a member or a sender, as `input` says.
    pub async fn enter(
        listed: Arc<Listed>,
        conn: ConnId,
        address: IpAddr,
        pass: Option<Pass>,
        input: Input,
    ) -> Result<Self, NotEntered> {
        let (to, said) = mpsc::channel(SAID_MAX);
        let (key, entrant) = (listed.key, Entrant { conn, door: Door::Web, address, pass });
        match listed.shard.ask(|answer| Job::Connect { key, entrant, input, to, answer }).await {
            Some(Ok(())) => Ok(Self { listed, conn, said }),
            Some(Err(refusal)) => Err(NotEntered::Refused(refusal)),
            None => Err(NotEntered::Gone),
        }
    }

    /// The number that the group knows it by.
    pub const fn conn(&self) -> ConnId {
        self.conn
    }

    /// Says something to the group; waits while its shard's mailbox is full.
    pub async fn say(&self, input: Input) {
        let job = Job::Say { key: self.listed.key, conn: self.conn, input };
        self.listed.shard.send(job).await;
    }

    /// What the group says next; `None` when it has ended without a word.
    pub async fn said(&mut self) -> Option<Said> {
        self.said.recv().await
    }
}

/// The part on the shard: enters, then passes on what the group says, until one side ends.
pub(crate) async fn relay(
    hosted: Rc<Hosted>,
    conn: Conn,
    input: Input,
    to: mpsc::Sender<Said>,
    answer: oneshot::Sender<Result<(), Refusal>>,
) {
    let id = conn.id;
    // It may have ended since this task was made: nobody would answer, and the dropped answer says so.
    if hosted.down().is_some() {
        return;
    }
    let (entering, entered) = oneshot::channel();
    hosted.enter(conn, input, entering);
    match entered.await {
        Ok(Ok(())) => {}
        Ok(Err(refusal)) => {
            let _ = answer.send(Err(refusal));
            return;
        }
        // The group is down: the dropped answer says so.
        Err(_) => return hosted.leave(id),
    }
    let conn = hosted.conns.borrow().get(&id).cloned();
    if let Some(conn) = conn.filter(|_| answer.send(Ok(())).is_ok()) {
        pass_on(&conn, &to).await;
    }
    hosted.leave(id);
}

async fn pass_on(conn: &Conn, to: &mpsc::Sender<Said>) {
    loop {
        let outputs = conn.take_inbox();
        if !outputs.is_empty() && to.send(Said::Outputs(outputs)).await.is_err() {
            return;
        }
        if let Some(closing) = conn.closing() {
            let _ = to.send(Said::Closing(closing)).await;
            return;
        }
        tokio::select! {
            () = conn.woken() => {}
            () = to.closed() => return,
        }
    }
}
