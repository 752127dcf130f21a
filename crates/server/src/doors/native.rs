//! The native door before a connection is in a group: greeting, requests, joining.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tertulia_group::{Door, Input, Name, SecretDigest};
use tertulia_wire::native::{
    self, FEATURE_FILES, Greeting, HistoryMode, Join, OpenSender, Secret, Start, VERSION,
};
use tertulia_wire::{ClientFrame, Code, NodeFrame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::native_session::Opening;
use super::{Arrival, identity, requests};
use crate::accounts::table::{Operation, Role};
use crate::accounts::{Caller, Opened, Pass};
use crate::budget::Held;
use crate::conn::Closing;
use crate::directory::{Denied, Directory, Listed};
use crate::history;
use crate::hosted::GroupKey;
use crate::pace::Meter;
use crate::shard::{AttachedDoor, Entrant, Job};

/// Why a connection ends.
enum End {
    /// The client did, or its network.
    Gone,
    /// It is told why.
    Told(Code, String),
}

struct Lobby {
    arrival: Arrival,
    inbound: BytesMut,
    held: Held,
    directory: Arc<Directory>,
    caller: Caller,
    /// What it is logged in by.
    pass: Option<Pass>,
    /// What it was refused.
    refused: Meter,
}

/// Serves a connection until it has entered a group, or ended.
pub(crate) async fn serve(arrival: Arrival, directory: Arc<Directory>) {
    let hello = directory.shared.config.limits.hello;
    let held = directory.shared.budget.holder();
    let caller = Caller::new(arrival.address, arrival.secure);
    let inbound = BytesMut::new();
    let refused = Meter::default();
    let until = arrival.since + hello;
    let mut lobby = Lobby { arrival, inbound, held, directory, caller, pass: None, refused };
    let end = match tokio::time::timeout_at(until, lobby.greet()).await {
        Ok(Ok(())) => None,
        Ok(Err(end)) => Some(end),
        Err(_) => Some(End::Told(Code::Idle, "say HELLO first".to_owned())),
    };
    let Some(end) = end else { return lobby.requests().await };
    lobby.arrival.counted.ends_badly();
    lobby.finish(end).await;
}

impl Lobby {
    async fn finish(mut self, end: End) {
        if let End::Told(code, message) = end {
            let _ = tokio::time::timeout(
                Duration::from_secs(2),
                self.write(NodeFrame::Close { code, message }),
            )
            .await;
            super::farewell(self.arrival.stream).await;
        }
    }

    /// The next control frame; `None` where a PUBLISH stands, which has no place here.
    async fn frame(&mut self) -> Result<Option<ClientFrame>, End> {
        let bad = |error: &dyn std::fmt::Display| End::Told(Code::BadFrame, error.to_string());
        loop {
            if let Some(frame) =
                ClientFrame::take(&mut self.inbound).map_err(|error| bad(&error))?
            {
                return Ok(Some(frame));
            }
            if self.inbound.get(4).is_some_and(|kind| *kind == native::kind::PUBLISH) {
                return Ok(None);
            }
            if self.inbound.is_empty() {
                self.inbound = BytesMut::new();
            }
            self.held.set(self.inbound.len(), false);
            tokio::select! {
                read = self.arrival.stream.read_buf(&mut self.inbound) => match read {
                    Ok(0) | Err(_) => return Err(End::Gone),
                    Ok(_) => {}
                },
                closing = until_ended(self.pass.as_ref()) => {
                    return Err(End::Told(closing.code, closing.message.to_owned()));
                }
                () = self.held.called() => {
                    let message = "too much was waiting for this connection; connect again";
                    return Err(End::Told(Code::Limit, message.to_owned()));
                }
            }
        }
    }

    /// Writes a frame whole, within the time that one may take.
    async fn write(&mut self, frame: NodeFrame) -> Result<(), End> {
        let mut out = BytesMut::new();
        frame.encode(&mut out);
        // A page would else be there twice for as long as it is not read.
        drop(frame);
        self.held.set(out.len(), true);
        let answer = self.directory.shared.config.limits.answer;
        let stream = &mut self.arrival.stream;
        let write = async {
            stream.write_all(&out).await?;
            stream.flush().await
        };
        let written = tokio::select! {
            written = tokio::time::timeout(answer, write) => written,
            // Nobody reads a last frame here.
            () = self.held.called() => return Err(End::Gone),
        };
        self.held.set(0, false);
        if matches!(written, Ok(Ok(()))) { Ok(()) } else { Err(End::Gone) }
    }

    async fn greet(&mut self) -> Result<(), End> {
        match self.frame().await? {
            Some(ClientFrame::Hello(hello)) if hello.version == VERSION => {}
            Some(ClientFrame::Hello(hello)) => {
                let message = format!("this node speaks version {VERSION}, not {}", hello.version);
                return Err(End::Told(Code::BadVersion, message));
            }
            _ => return Err(End::Told(Code::BadFrame, "say HELLO first".to_owned())),
        }
        let greeting = Greeting {
            version: VERSION,
            features: FEATURE_FILES,
            node: self.directory.shared.config.node_id.clone(),
            http: self.directory.http(self.arrival.dialled),
            message_bytes_max: self.directory.shared.config.group_limits.message_bytes_max as u32,
            instance: self.directory.shared.instance,
        };
        self.write(NodeFrame::Greeting(greeting)).await
    }

    async fn requests(mut self) {
        let idle = self.directory.shared.config.limits.idle;
        let pace = self.directory.shared.config.limits.refusals;
        loop {
            if let Some(until) = self.refused.until(pace, Instant::now()) {
                tokio::time::sleep_until(until).await;
            }
            // What answers is on the heap while it is at work: a connection that says nothing has no room for it.
            let end = match tokio::time::timeout(idle, self.frame()).await {
                Err(_) => {
                    let text = format!("nothing was asked for {} s", idle.as_secs());
                    End::Told(Code::Idle, text)
                }
                Ok(Err(end)) => end,
                Ok(Ok(Some(ClientFrame::Join(join)))) => match Box::pin(self.join(*join)).await {
                    Ok(None) => continue,
                    Ok(Some(entered)) => return Box::pin(self.attach(entered)).await,
                    Err(end) => end,
                },
                Ok(Ok(Some(ClientFrame::OpenSender(open)))) => {
                    match Box::pin(self.open_sender(open)).await {
                        Ok(None) => continue,
                        Ok(Some(entered)) => return Box::pin(self.attach(entered)).await,
                        Err(end) => end,
                    }
                }
                Ok(Ok(Some(ClientFrame::Ping { token }))) => {
                    match self.write(NodeFrame::Pong { token }).await {
                        Ok(()) => continue,
                        Err(end) => end,
                    }
                }
                Ok(Ok(Some(ClientFrame::Other { .. }))) => continue,
                Ok(Ok(frame)) => match Box::pin(self.request(frame)).await {
                    Ok(()) => continue,
                    Err(end) => end,
                },
            };
            if matches!(end, End::Told(Code::BadFrame | Code::Limit, _)) {
                self.arrival.counted.ends_badly();
            }
            return self.finish(end).await;
        }
    }

    /// From here on the connection is the group's.
    async fn attach(self, (listed, opening): (Arc<Listed>, Opening)) {
        let door = AttachedDoor::Native(opening);
        self.arrival.attach(&listed, self.inbound, door).await;
    }

    async fn request(&mut self, frame: Option<ClientFrame>) -> Result<(), End> {
        let request = frame.and_then(|frame| Some((requests::id_of(&frame)?, frame)));
        let Some((id, frame)) = request else {
            return Err(End::Told(Code::NotJoined, "join or open a sender first".to_owned()));
        };
        let answer = match frame {
            frame @ (ClientFrame::Auth { .. } | ClientFrame::Login { .. }) => {
                self.identify(id, frame).await
            }
            frame => requests::answer(&self.directory, &self.from(), id, frame).await,
        };
        if matches!(answer, NodeFrame::Error { .. }) {
            self.was_refused();
        }
        self.write(answer).await
    }

    fn from(&self) -> requests::From {
        let caller = self.caller.clone();
        requests::From { caller, dialled: self.arrival.dialled, sender: None }
    }

    /// The connection is an account's from here on, until its token ends.
    async fn identify(&mut self, id: u32, frame: ClientFrame) -> NodeFrame {
        let answer = match identity::identify(&self.directory, &mut self.caller, frame).await {
            Ok(answer) => answer,
            Err(Denied { code, message }) => return NodeFrame::Error { id, code, message },
        };
        let opened = Opened {
            session: self.caller.session.clone(),
            operation: Operation::LogIn,
            group: GroupKey(0),
            name: None,
        };
        self.pass = Some(self.directory.accounts.passes.open(opened, Role::Account));
        answer
    }

    fn was_refused(&mut self) {
        let pace = self.directory.shared.config.limits.refusals;
        self.refused.spend(pace, 1, Instant::now());
    }

    async fn refuse(
        &mut self,
        id: u32,
        denied: Denied,
    ) -> Result<Option<(Arc<Listed>, Opening)>, End> {
        self.was_refused();
        self.write(NodeFrame::Error { id, code: denied.code, message: denied.message })
            .await
            .map(|()| None)
    }

    async fn join(&mut self, join: Join) -> Result<Option<(Arc<Listed>, Opening)>, End> {
        let id = join.id;
        match self.prepare_join(join).await {
            Ok((listed, input, opening, pass)) => self.enter(listed, input, opening, pass).await,
            Err(denied) => self.refuse(id, denied).await,
        }
    }

    async fn prepare_join(
        &self,
        join: Join,
    ) -> Result<(Arc<Listed>, Input, Opening, Pass), Denied> {
        let name =
            Name::new(&join.name).map_err(|error| Denied::new(Code::BadName, error.to_string()))?;
        let directory = &self.directory;
        let caller = &self.caller;
        let listed = directory.admit_or_create(caller, Operation::Join, &join.group).await?.listed;
        let pass = directory.open_pass(caller, Operation::Join, &listed, Some(&name))?;
        // A client's own secret also brings it back when its first WELCOME was lost.
        let secret = join.secret.unwrap_or_else(|| Secret(rand::random()));
        let from = match (join.position, join.start) {
            (Some(position), _) => tertulia_group::From::After(position),
            (None, Start::Now) => tertulia_group::From::Now,
            (None, Start::First) => tertulia_group::From::First,
            (None, Start::Seq(seq)) => tertulia_group::From::At(seq),
            (None, Start::Last(count)) => {
                let (log, limit) = (listed.log, u32::try_from(count).unwrap_or(u32::MAX));
                let page =
                    requests::read(directory, caller.address, &listed.name, move |journal| {
                        history::page(journal, log, HistoryMode::Last, limit, history::said)
                    });
                page.await?.entries.first().map_or(tertulia_group::From::Now, |entry| {
                    tertulia_group::From::At(entry.header.seq)
                })
            }
        };
        let secure = caller.secure;
        let opening = Opening { id: join.id, secret, secure, sender: None };
        let input = Input::Join(
            self.arrival.id,
            Box::new(tertulia_group::Join {
                name,
                door: Door::Native,
                durable: join.durable,
                sender: join.sender,
                shown: join.secret.map(digest),
                fresh: digest(secret),
                from,
                follow: join.follow,
            }),
        );
        Ok((listed, input, opening, pass))
    }

    async fn open_sender(
        &mut self,
        open: OpenSender,
    ) -> Result<Option<(Arc<Listed>, Opening)>, End> {
        let prepared = async {
            let (caller, directory) = (&self.caller, &self.directory);
            let name = Name::new(&open.name)
                .map_err(|error| Denied::new(Code::BadName, error.to_string()))?;
            let listed = directory.admit(caller, Operation::Send, &open.group).await?.listed;
            let pass = directory.open_pass(caller, Operation::Send, &listed, Some(&name))?;
            Ok((listed, name, pass))
        };
        let (listed, name, pass) = match prepared.await {
            Ok(prepared) => prepared,
            Err(denied) => return self.refuse(open.id, denied).await,
        };
        let opening = Opening {
            id: open.id,
            secret: Secret([0; 32]),
            secure: self.caller.secure,
            sender: Some(name.as_str().into()),
        };
        let (known, follow) = (open.known, open.follow);
        let sender = tertulia_group::OpenSender { name, id: open.sender, known, follow };
        self.enter(listed, Input::OpenSender(self.arrival.id, sender), opening, pass).await
    }

    /// Asks the group; a refusal is told, and the connection may try again.
    async fn enter(
        &mut self,
        listed: Arc<Listed>,
        input: Input,
        opening: Opening,
        pass: Pass,
    ) -> Result<Option<(Arc<Listed>, Opening)>, End> {
        let (conn, address) = (self.arrival.id, self.arrival.address);
        let entrant = Entrant { conn, door: Door::Native, address, pass: Some(pass) };
        let key = listed.key;
        match listed.shard.ask(|answer| Job::Enter { key, entrant, input, answer }).await {
            Some(Ok(())) => Ok(Some((listed, opening))),
            Some(Err(refusal)) => {
                self.refuse(opening.id, Denied::new(Code::of_refusal(refusal), refusal.to_string()))
                    .await
            }
            None => {
                let message = "the group cannot be served just now".to_owned();
                self.refuse(opening.id, Denied { code: Code::StoreFailed, message }).await
            }
        }
    }
}

/// Waits until what a connection is logged in by has ended; for ever where it is not.
async fn until_ended(pass: Option<&Pass>) -> Closing {
    match pass {
        Some(pass) => pass.until_ended().await,
        None => std::future::pending().await,
    }
}

/// Secrets are kept as digests only. They are random, so that a plain hash is enough.
fn digest(secret: Secret) -> SecretDigest {
    SecretDigest(*blake3::hash(&secret.0).as_bytes())
}
