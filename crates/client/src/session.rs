//! The task behind a sender or a member: keeps a connection, makes it anew, moves frames both ways.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tertulia_group::SenderId;
use tertulia_wire::Code;
use tertulia_wire::native::FEATURE_FILES;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

use crate::attach::{Backoff, find, is_final, open_sender};
use crate::conn::Conn;
use crate::outgoing::Outgoing;
use crate::role::Role;
use crate::sent::Promise;
use crate::{Error, Located, Place, ReceiptNow, Target};

mod serve;

/// Messages that are handed over and not taken in yet.
pub(crate) const PUBLISHES_MAX: usize = 256;
/// Wishes that are handed over.
pub(crate) const WISHES_MAX: usize = 16;

/// A message for the task.
#[derive(Debug)]
pub(crate) struct Publish {
    pub body: Bytes,
    /// It tells the group a file.
    pub is_file: bool,
    pub promise: Promise,
}

/// What a program asks of the task beside messages.
#[derive(Debug)]
pub(crate) enum Wish {
    /// A receipt as it stands.
    Receipt { seq: u64, wait: Duration, reply: oneshot::Sender<Result<ReceiptNow, Error>> },
    /// The end, after what was handed over is stored; a member leaves.
    End { reply: oneshot::Sender<Result<(), Error>> },
}

/// What a task takes in.
#[derive(Debug)]
pub(crate) struct Inlets {
    pub publishes: mpsc::Receiver<Publish>,
    pub wishes: mpsc::Receiver<Wish>,
}

/// Why a connection is not served any more.
#[derive(Debug)]
enum Ended {
    /// To be made anew.
    Lost(String),
    /// To be made anew, because of a refused message; the program need not know.
    Again,
    /// Not to be made anew.
    Over(Error),
    /// As the program wished.
    Done,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Session {
    target: Target,
    /// The group's coordinator of last time.
    coordinator: String,
    group: String,
    name: String,
    role: Role,
    outgoing: Outgoing,
    asked: HashMap<u32, oneshot::Sender<Result<ReceiptNow, Error>>>,
    /// The program has wished for the end.
    ending: Option<oneshot::Sender<Result<(), Error>>>,
    /// Why it is over, for those who send afterwards.
    over: Arc<OnceLock<Error>>,
}

/// What the first connection has brought.
#[derive(Debug)]
pub(crate) struct Opened {
    pub session: Session,
    pub conn: Conn,
    pub located: Located,
    pub over: Arc<OnceLock<Error>>,
}

impl Session {
    /// The first connection; failures are the caller's to see.
    pub async fn open(
        target: &Target,
        place: &Place,
        name: &str,
        role: Role,
    ) -> Result<Opened, Error> {
        let over = Arc::<OnceLock<Error>>::default();
        let only = match &role {
            Role::Sender(sender) => sender.only,
            Role::Member(_) => None,
        };
        let mut session = Self {
            // An end is the first connection's; later ones may take their time.
            target: target.until(None),
            coordinator: target.address().to_owned(),
            group: String::new(),
            name: name.to_owned(),
            role,
            outgoing: Outgoing::new(only),
            asked: HashMap::new(),
            ending: None,
            over: over.clone(),
        };
        let (conn, located) = session.attach(target, place).await?;
        Ok(Opened { session, conn, located, over })
    }

    /// The name as the node writes it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The role, with what the node has said of it.
    pub const fn role(&self) -> &Role {
        &self.role
    }

    /// Finds the coordinator by way of `target`, and becomes a sender or member there.
    async fn attach(&mut self, target: &Target, place: &Place) -> Result<(Conn, Located), Error> {
        let may_create = matches!(self.role, Role::Member(_));
        let mut tries = 0;
        loop {
            tries += 1;
            let (mut conn, mut located) = find(target, place, &self.name, may_create).await?;
            match self.become_it(&mut conn, &located.group).await {
                Ok(epoch) => {
                    located.group.clone_from(&self.group);
                    located.epoch = epoch;
                    self.coordinator.clone_from(&located.coordinator);
                    return Ok((conn, located));
                }
                Err(error) if error.code() == Some(Code::Moved) && tries < 3 => {
                    crate::attach::a_little_while().await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn become_it(&mut self, conn: &mut Conn, group: &str) -> Result<u32, Error> {
        match &mut self.role {
            Role::Sender(sender) => {
                if sender.files && conn.greeting.features & FEATURE_FILES == 0 {
                    return Err(Error::NoFiles { address: conn.address.clone() });
                }
                let may_be_known = self.outgoing.may_be_known();
                let mut open = sender.open(group, &self.name, may_be_known);
                let ready = match open_sender(conn, &open).await {
                    Err(error) if error.code() == Some(Code::SenderExpired) => {
                        self.outgoing.expire();
                        sender.id = fresh_id();
                        open = sender.open(group, &self.name, false);
                        open_sender(conn, &open).await?
                    }
                    ready => ready?,
                };
                let (window, last) = (ready.window_bytes, ready.last_counter);
                if sender.only.is_some_and(|only| last > 0 && last != only) {
                    return Err(Error::KeyReused);
                }
                (self.group, self.name) = (ready.group.clone(), ready.name.clone());
                self.outgoing.begin(&mut conn.out, &self.name, window, last);
                let epoch = ready.epoch;
                sender.ready = Some(*ready);
                Ok(epoch)
            }
            Role::Member(member) => {
                let before = member.log();
                let welcome = crate::attach::join(conn, &member.join(group, &self.name)).await?;
                (self.group, self.name) = (welcome.group.clone(), welcome.name.clone());
                let is_other_log = before.is_some_and(|log| log != welcome.log);
                let is_forgotten = welcome.last_counter == 0 && self.outgoing.may_be_known();
                if is_other_log || is_forgotten {
                    self.outgoing.expire();
                }
                let (window, last) = (welcome.window_bytes, welcome.last_counter);
                self.outgoing.begin(&mut conn.out, &self.name, window, last);
                let epoch = welcome.epoch;
                member.welcome(*welcome);
                Ok(epoch)
            }
        }
    }

    /// Serves until the end.
    pub async fn run(mut self, mut conn: Conn, mut inlets: Inlets) {
        let mut backoff = Backoff::new();
        let end = loop {
            let began = Instant::now();
            let ended = self.serve(&mut conn, &mut inlets).await;
            let reason = match ended {
                Ended::Done => break Error::Closed,
                Ended::Over(error) => break error,
                Ended::Lost(reason) => Some(reason),
                Ended::Again => None,
            };
            if began.elapsed() > Duration::from_secs(5) {
                backoff = Backoff::new();
            }
            let lost = conn.lost(reason.as_deref().unwrap_or("a message was refused"));
            drop(conn);
            for (_, reply) in self.asked.drain() {
                let _ = reply.send(Err(lost.clone()));
            }
            let tell = reason.is_some();
            if let (Some(reason), Role::Member(member)) = (reason, &self.role) {
                member.lost(reason);
            }
            match self.again(&mut inlets, &mut backoff, &lost).await {
                Ok(again) => conn = again,
                Err(error) => break error,
            }
            if let (true, Role::Member(member)) = (tell, &self.role) {
                member.back();
            }
        };
        self.end(inlets, &end);
    }

    /// A new connection, however long it takes; an error is the end.
    async fn again(
        &mut self,
        inlets: &mut Inlets,
        backoff: &mut Backoff,
        lost: &Error,
    ) -> Result<Conn, Error> {
        loop {
            if self.ending.is_some() && self.may_end_away() {
                return Err(lost.clone());
            }
            let wait = backoff.next();
            let attempt = async {
                sleep(wait).await;
                self.attempt().await
            };
            let mut ending = None;
            let result = tokio::select! {
                result = attempt => Some(result),
                wish = next_wish(&mut inlets.wishes, lost) => {
                    ending = Some(wish);
                    None
                }
            };
            match (result, ending) {
                (Some(Ok(conn)), _) => return Ok(conn),
                (Some(Err(error)), _) if error.may_pass() => {
                    tracing::debug!(%error, "connecting again");
                }
                (Some(Err(error)), _) => return Err(error),
                (None, Some(Some(reply))) => {
                    inlets.publishes.close();
                    self.ending = Some(reply);
                }
                (None, _) => return Err(Error::Closed),
            }
        }
    }

    /// Without a connection there is nothing left to wait for: a member cannot leave, a sender has sent everything.
    fn may_end_away(&self) -> bool {
        matches!(self.role, Role::Member(_)) || self.outgoing.is_settled()
    }

    /// One try at the node that was given, and one at the coordinator of last time.
    async fn attempt(&mut self) -> Result<Conn, Error> {
        let place = Place::Group(self.group.clone());
        let target = self.target.clone();
        match self.attach(&target, &place).await {
            Err(Error::Connect(_) | Error::Lost { .. }) if self.coordinator != target.address() => {
                let last = target.at(&self.coordinator);
                Ok(self.attach(&last, &place).await?.0)
            }
            attached => Ok(attached?.0),
        }
    }

    /// Says to everybody who waits that nothing more comes.
    fn end(mut self, mut inlets: Inlets, error: &Error) {
        let _ = self.over.set(error.clone());
        inlets.publishes.close();
        while let Ok(publish) = inlets.publishes.try_recv() {
            publish.promise.fail(error);
        }
        let was_settled = self.outgoing.is_settled() && !self.outgoing.any_unknown();
        self.outgoing.end(error);
        for (_, reply) in self.asked.drain() {
            let _ = reply.send(Err(error.clone()));
        }
        if let Some(reply) = self.ending.take() {
            let is_sender = matches!(self.role, Role::Sender(_));
            let result = match error {
                _ if !was_settled => Err(Error::Unknown),
                Error::Closed => Ok(()),
                _ if is_sender => Ok(()),
                error => Err(error.clone()),
            };
            let _ = reply.send(result);
        }
        if let Role::Member(member) = self.role {
            member.end(error);
        }
    }
}

/// The next wish for the end; `None` when the program has gone. What can be answered without a connection is answered.
async fn next_wish(
    wishes: &mut mpsc::Receiver<Wish>,
    lost: &Error,
) -> Option<oneshot::Sender<Result<(), Error>>> {
    loop {
        match wishes.recv().await? {
            Wish::Receipt { reply, .. } => {
                let _ = reply.send(Err(lost.clone()));
            }
            Wish::End { reply } => return Some(reply),
        }
    }
}

/// A sender id that nobody else has.
pub(crate) fn fresh_id() -> SenderId {
    SenderId(rand::random())
}

/// What CLOSE means for the connection.
fn closed(code: Code, message: String) -> Ended {
    if is_final(code) {
        Ended::Over(Error::Refused { code, message })
    } else {
        Ended::Lost(format!("{message} ({code})"))
    }
}
