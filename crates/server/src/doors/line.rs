//! The line door before a connection is in a group: anything usable with `nc` that needs no group, and joining one.

use std::sync::Arc;

use bytes::BytesMut;
use tertulia_group::{Door, Input, Name, Refusal as GroupRefusal, SecretDigest, SenderId, Seq};
use tertulia_wire::line::{self, Command, GROUP_DEFAULT, Line, LineCode, LineSplitter, Refusal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::Arrival;
use crate::accounts::Caller;
use crate::accounts::table::Operation;
use crate::budget::Held;
use crate::directory::{Denied, Directory, Listed};
use crate::pace::Meter;
use crate::shard::{AttachedDoor, Entrant, Job};

struct Lobby {
    arrival: Arrival,
    inbound: BytesMut,
    splitter: LineSplitter,
    held: Held,
    directory: Arc<Directory>,
    /// The next line is a name: the client said `JOIN` alone.
    asked_name: bool,
    caller: Caller,
    /// What `PASS` said, until a name comes.
    password: Option<String>,
    /// What it was refused; while too much, nothing is read.
    refused: Meter,
    /// It has said a whole line.
    has_spoken: bool,
}

/// Serves a connection until it has joined, or ended.
pub(crate) async fn serve(arrival: Arrival, directory: Arc<Directory>) {
    let held = directory.shared.budget.holder();
    let mut caller = Caller::new(arrival.address, arrival.secure);
    caller.secure |= directory.shared.config.accounts.line_logins_anywhere;
    let mut lobby = Lobby {
        caller,
        password: None,
        arrival,
        inbound: BytesMut::new(),
        splitter: LineSplitter::default(),
        held,
        directory,
        asked_name: false,
        refused: Meter::default(),
        has_spoken: false,
    };
    let idle = lobby.directory.shared.config.limits.idle;
    loop {
        let Ok(Some(next)) = tokio::time::timeout(idle, lobby.line()).await else { break };
        lobby.has_spoken |= matches!(next, Line::Whole(_));
        let mut out = BytesMut::new();
        let next = lobby.handle(next, &mut out).await;
        match next {
            Ok(Next::Line) => {}
            Ok(Next::End) => {
                if lobby.write(out).await {
                    super::farewell(lobby.arrival.stream).await;
                }
                return;
            }
            Ok(Next::Joined(listed)) => {
                let door = AttachedDoor::Line(lobby.splitter);
                return lobby.arrival.attach(&listed, lobby.inbound, door).await;
            }
            Err(refusal) => {
                lobby.was_refused();
                line::err(&mut out, &refusal);
            }
        }
        if !lobby.write(out).await {
            break;
        }
    }
    if !lobby.has_spoken {
        lobby.arrival.counted.ends_badly();
    }
}

enum Next {
    Line,
    End,
    Joined(Arc<Listed>),
}

impl Lobby {
    async fn line(&mut self) -> Option<Line> {
        loop {
            let pace = self.directory.shared.config.limits.refusals;
            if let Some(until) = self.refused.until(pace, Instant::now()) {
                tokio::time::sleep_until(until).await;
            }
            if let Some(line) = self.splitter.next(&mut self.inbound) {
                return Some(line);
            }
            if self.splitter.is_skipping() {
                self.was_refused();
            }
            match self.arrival.stream.read_buf(&mut self.inbound).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    fn was_refused(&mut self) {
        self.refused.spend(self.directory.shared.config.limits.refusals, 1, Instant::now());
    }

    /// Whether an answer was written whole, within the time that one may take.
    async fn write(&mut self, out: BytesMut) -> bool {
        self.held.set(out.len(), true);
        let answer = self.directory.shared.config.limits.answer;
        let written = tokio::select! {
            written = tokio::time::timeout(answer, self.arrival.stream.write_all(&out)) => written,
            () = self.held.called() => return false,
        };
        self.held.set(0, false);
        matches!(written, Ok(Ok(())))
    }

    async fn handle(&mut self, next: Line, out: &mut BytesMut) -> Result<Next, Refusal> {
        let text = match next {
            Line::Whole(text) => text,
            Line::TooLong => return Err(Refusal::too_long()),
        };
        if let Some(name) = self.said_name(&text) {
            return self.join(name, GROUP_DEFAULT, None).await.map(Next::Joined);
        }
        match line::parse(&text)? {
            Command::Join { name, group, after } => {
                return self.join(name, group.as_str(), after).await.map(Next::Joined);
            }
            Command::AskName => {
                self.asked_name = true;
                line::note(out, "your name? (one word)");
            }
            Command::Exit => {
                line::exit(out);
                return Ok(Next::End);
            }
            Command::Help => line::help(out),
            Command::Ping(text) => line::ping(out, text),
            Command::Groups => {
                let (work, asker) = (&self.directory.shared.work, self.caller.address);
                work.turn(asker).await;
                work.count(asker, || groups(&self.directory, &self.caller, out));
            }
            Command::Pass(password) => {
                let checked = self.directory.accounts.check_way(&self.caller);
                checked.map_err(|denied| refusal_of_denied(&denied))?;
                self.password = Some(password.to_owned());
                line::ok_pass(out);
            }
            Command::Token(token) => {
                let (accounts, now) = (&self.directory.accounts, crate::clock::wall_us());
                let session = accounts.authenticate(&self.caller, token, now);
                let session = session.map_err(|denied| refusal_of_denied(&denied))?;
                self.caller.session = Some(session);
                line::ok_pass(out);
            }
            Command::Msg(_) | Command::Ack(_) | Command::Who | Command::History(_) => {
                return Err(Refusal::new(LineCode::NotJoined, "say JOIN <name> first"));
            }
        }
        Ok(Next::Line)
    }

    /// After `JOIN` alone, a single word is the name.
    fn said_name(&mut self, text: &[u8]) -> Option<Name> {
        if !std::mem::take(&mut self.asked_name) {
            return None;
        }
        std::str::from_utf8(text).ok().and_then(|text| Name::new(text.trim()).ok())
    }

    async fn join(
        &mut self,
        name: Name,
        group: &str,
        after: Option<Seq>,
    ) -> Result<Arc<Listed>, Refusal> {
        let refused = |denied: Denied| refusal_of_denied(&denied);
        if let Some(password) = self.password.take() {
            let accounts = &self.directory.accounts;
            let now = crate::clock::now();
            let checked =
                accounts.check_password(&self.caller, name.as_str(), &password, now).await;
            self.caller.session = Some(checked.map_err(refused)?);
        }
        let (directory, caller) = (&self.directory, &self.caller);
        let admitted = directory.admit_or_create(caller, Operation::Join, group).await;
        let listed = admitted.map_err(refused)?.listed;
        let pass = directory.open_pass(caller, Operation::Join, &listed, Some(&name));
        let pass = Some(pass.map_err(refused)?);
        let join = tertulia_group::Join {
            name,
            door: Door::Line,
            durable: false,
            sender: SenderId(rand::random()),
            shown: None,
            // Nobody knows what this is the digest of: a line member cannot be resumed.
            fresh: SecretDigest(rand::random()),
            from: after.map_or(tertulia_group::From::Now, |after| {
                tertulia_group::From::At(after.saturating_add(1))
            }),
            follow: false,
        };
        let (conn, address) = (self.arrival.id, self.arrival.address);
        let entrant = Entrant { conn, door: Door::Line, address, pass };
        let (key, input) = (listed.key, Input::Join(self.arrival.id, Box::new(join)));
        match listed.shard.ask(|answer| Job::Enter { key, entrant, input, answer }).await {
            Some(Ok(())) => Ok(listed),
            Some(Err(refusal)) => Err(refusal_of(refusal)),
            None => {
                Err(Refusal::new(LineCode::Busy, "the group cannot be served just now, try again"))
            }
        }
    }
}

/// The groups' names.
pub(crate) fn groups(directory: &Directory, caller: &Caller, out: &mut BytesMut) {
    if let Err(denied) = directory.check(caller, Operation::List) {
        return line::err(out, &refusal_of_denied(&denied));
    }
    let all = directory.visible(caller);
    line::groups(out, all.iter().map(|listed| listed.name.as_str()));
}

/// The line door's words for a group's refusal.
pub(crate) fn refusal_of(refusal: GroupRefusal) -> Refusal {
    let code = match refusal {
        GroupRefusal::NameTaken => LineCode::NameTaken,
        GroupRefusal::TooLong => LineCode::TooLong,
        GroupRefusal::BadAck => LineCode::BadAck,
        GroupRefusal::NotJoined => LineCode::NotJoined,
        GroupRefusal::AlreadyJoined => LineCode::AlreadyJoined,
        GroupRefusal::WrongName => LineCode::BadName,
        GroupRefusal::GroupFull
        | GroupRefusal::Busy
        | GroupRefusal::SenderExpired
        | GroupRefusal::CounterSkipped
        | GroupRefusal::AfterRefused
        | GroupRefusal::NoSpace
        | GroupRefusal::Replaced => LineCode::Busy,
    };
    Refusal::new(code, refusal.to_string())
}

/// The line door's words for what the directory refuses.
pub(crate) fn refusal_of_denied(denied: &Denied) -> Refusal {
    use tertulia_wire::Code;
    let code = match denied.code {
        Code::BadName => LineCode::BadName,
        Code::NameReserved => LineCode::NameReserved,
        Code::Denied | Code::UnknownGroup | Code::NotLoggedIn => LineCode::Denied,
        _ => LineCode::Busy,
    };
    Refusal::new(code, denied.message.clone())
}
