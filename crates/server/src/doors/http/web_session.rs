//! A member on a WebSocket: what it says becomes inputs, the log and the group's answers become text frames.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{Sink, SinkExt, StreamExt};
use tertulia_group::entry::entries;
use tertulia_group::{
    Ack, ConnId, From, Input, Moved, Name, Output, Receipt, Run, SecretDigest, SenderId, Seq,
    Welcome,
};
use tertulia_journal::ReadError;
use tertulia_wire::Code;
use tertulia_wire::json::{EntryLine, ReceiptLine, to_line};

use super::events::parse_id;
use super::problem::EMPTY;
use super::web::{Join, Say, Told};
use super::web_told::{One, Waiting};
use super::{BUFFER_BYTES, Door, Peer};
use crate::accounts::table::Operation;
use crate::clock::wall_us;
use crate::directory::{Denied, Listed};
use crate::feed::{Following, Piece};
use crate::finals::FinalPiece;
use crate::remote::{NotEntered, Remote, Said};

/// Read from the journal at once.
const READ_BYTES: usize = 256 << 10;
/// What a frame asks of a browser at once.
const FRAME_BYTES: usize = 1 << 20;
/// Silence after which the node asks whether the other side is still there.
const SILENCE: Duration = Duration::from_secs(15);
/// What the closing takes at most.
const FAREWELL: Duration = Duration::from_secs(2);

/// Lines and runs that wait to be written; with more of them nothing is taken in.
const CONTROL_MAX: usize = 1024;
/// What a frame of them has, about.
const CONTROL_BYTES: usize = 256 << 10;

/// Why a session ends.
enum End {
    /// The client did, or its network.
    Gone,
    /// It is told why.
    Told(&'static str, String),
}

impl std::convert::From<Denied> for End {
    fn from(denied: Denied) -> Self {
        Self::Told(denied.code.as_str(), denied.message)
    }
}

struct Socket {
    sink: SplitSink<WebSocket, Message>,
    stream: SplitStream<WebSocket>,
    /// Something was given to the sink that is not written yet.
    unflushed: bool,
    /// How long the last of it was.
    given: usize,
}

impl Socket {
    /// The sink takes one more.
    async fn ready(&mut self) -> Result<(), End> {
        poll_fn(|cx| Pin::new(&mut self.sink).poll_ready(cx)).await.map_err(|_| End::Gone)
    }

    fn give(&mut self, text: Utf8Bytes) -> Result<(), End> {
        (self.unflushed, self.given) = (true, text.len());
        self.sink.start_send_unpin(Message::Text(text)).map_err(|_| End::Gone)
    }

    fn give_message(&mut self, message: Message) -> Result<(), End> {
        self.unflushed = true;
        self.sink.start_send_unpin(message).map_err(|_| End::Gone)
    }
}

/// Runs until the connection ends.
pub(crate) async fn run(door: Door, peer: Peer, socket: WebSocket) {
    let (sink, stream) = socket.split();
    let mut socket = Socket { sink, stream, unflushed: false, given: 0 };
    let hello = door.directory.shared.config.limits.hello;
    let joined = tokio::time::timeout(hello, first(&mut socket)).await;
    let join = joined.unwrap_or(Err(End::Told("IDLE", "say join first".to_owned())));
    let end = match join {
        Ok(join) => match Session::begin(&door, &peer, &mut socket, join).await {
            Ok(mut session) => session.serve().await.err().unwrap_or(End::Gone),
            Err(end) => end,
        },
        Err(end) => end,
    };
    if let End::Told(code, message) = end {
        let frame = CloseFrame { code: close_code::NORMAL, reason: code.into() };
        let told = Told::Closed { code, message };
        let last = async {
            socket.sink.send(Message::Text(to_line(&told).into())).await?;
            socket.sink.send(Message::Close(Some(frame))).await
        };
        let _ = tokio::time::timeout(FAREWELL, last).await;
    }
}

/// The `join` that has to come first.
async fn first(socket: &mut Socket) -> Result<Join, End> {
    loop {
        match socket.stream.next().await {
            Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                Ok(Say::Join(join)) => return Ok(join),
                Ok(_) => return Err(End::Told("NOT_JOINED", "say join first".to_owned())),
                Err(error) => return Err(End::Told("BAD_FRAME", error.to_string())),
            },
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            _ => return Err(End::Gone),
        }
    }
}

struct Session<'a> {
    door: Door,
    peer: &'a Peer,
    socket: &'a mut Socket,
    listed: Arc<Listed>,
    log: String,
    secret: [u8; 32],
    remote: Remote,
    following: Following,
    name: String,
    /// Entries from here on are not given to the socket yet.
    next: Seq,
    /// What is to be given before the log goes on.
    control: Waiting,
    /// The group waits with more receipts until those that it was given are with the socket.
    is_paused: bool,
}

impl<'a> Session<'a> {
    async fn begin(
        door: &Door,
        peer: &'a Peer,
        socket: &'a mut Socket,
        join: Join,
    ) -> Result<Self, End> {
        let directory = &door.directory;
        let bad_name =
            |error: tertulia_group::NameError| Denied::new(Code::BadName, error.to_string());
        let name = Name::new(&join.name).map_err(bad_name)?;
        let shown = join.secret.as_deref().map(read_secret).transpose()?;
        let secret = shown.unwrap_or_else(rand::random);
        let from = match join.after.as_deref() {
            None => From::Now,
            Some("first") => From::First,
            Some(id) => From::After(parse_id(id).ok_or_else(|| {
                Denied::new(Code::BadFrame, "after: the id of an entry, or first")
            })?),
        };
        let caller = &peer.caller;
        let listed = directory.admit_or_create(caller, Operation::Join, &join.group).await?.listed;
        let pass = directory.open_pass(caller, Operation::Join, &listed, Some(&name))?;
        let following = listed.feed.follow(join.follow);
        let conn = ConnId(directory.shared.new_id());
        let input = Input::Join(
            conn,
            Box::new(tertulia_group::Join {
                name,
                door: tertulia_group::Door::Web,
                durable: join.durable,
                sender: sender_of(&secret),
                shown: shown.map(|secret| digest(&secret)),
                fresh: digest(&secret),
                from,
                follow: join.follow,
            }),
        );
        let entered =
            Remote::enter(Arc::clone(&listed), conn, peer.address, Some(pass), input).await;
        let remote = entered.map_err(|why| match why {
            NotEntered::Refused(refusal) => {
                Denied::new(Code::of_refusal(refusal), refusal.to_string())
            }
            NotEntered::Gone => {
                Denied::new(Code::StoreFailed, "the group cannot be served just now")
            }
        })?;
        let log = format!("{:032x}", u128::from_be_bytes(listed.log.0));
        let (door, name) = (door.clone(), String::new());
        Ok(Self {
            door,
            peer,
            socket,
            listed,
            log,
            secret,
            remote,
            following,
            name,
            next: Seq::MAX,
            control: Waiting::default(),
            is_paused: false,
        })
    }

    async fn serve(&mut self) -> Result<(), End> {
        let mut ask = tokio::time::interval(SILENCE);
        ask.reset();
        loop {
            let follows = self.next != Seq::MAX;
            let waits = !self.control.is_empty()
                || self.next <= self.following.tail()
                || follows && self.following.has_finals();
            let held = BUFFER_BYTES.max(self.socket.given);
            self.peer.hold(if self.socket.unflushed && waits { held } else { 0 });
            tokio::select! {
                moved = poll_fn(|cx| match waits {
                    true => Pin::new(&mut self.socket.sink).poll_ready(cx),
                    false => Pin::new(&mut self.socket.sink).poll_flush(cx),
                }), if waits || self.socket.unflushed => {
                    moved.map_err(|_| End::Gone)?;
                    match waits {
                        true => self.give().await?,
                        false => self.socket.unflushed = false,
                    }
                }
                // Who does not read what it is told is not heard either: each of its frames may be answered.
                message = self.socket.stream.next(), if self.control.len() < CONTROL_MAX => {
                    let Some(Ok(message)) = message else { return Err(End::Gone) };
                    self.hear(message).await?;
                }
                said = self.remote.said(), if self.control.len() < CONTROL_MAX => self.take_in(said)?,
                there_is = self.following.until(self.next), if !waits && follows => if !there_is {
                    return Err(End::Told("SHUTTING_DOWN", "the group is not served any more here".to_owned()));
                },
                _ = ask.tick() => if !self.socket.unflushed {
                    self.socket.ready().await?;
                    self.socket.give_message(Message::Ping(Bytes::new()))?;
                },
            }
        }
    }

    /// Gives the sink, which is ready, what comes next.
    async fn give(&mut self) -> Result<(), End> {
        if !self.control.is_empty() {
            let lines = self.lines();
            self.socket.give(lines.into())?;
            if self.control.is_empty() && std::mem::take(&mut self.is_paused) {
                self.remote.say(Input::Taken(self.remote.conn())).await;
            }
            return Ok(());
        }
        if let Some(finals) = self.following.finals(self.next) {
            let text = finals.web.get_or_init(|| self.render_finals(&finals));
            return self.socket.give(text.clone());
        }
        if self.next > self.following.tail() {
            return Ok(());
        }
        let text = match self.following.piece(self.next) {
            Some(piece) => self.of_piece(&piece),
            None => self.read_behind().await?,
        };
        match text.is_empty() {
            true => Ok(()),
            false => self.socket.give(text),
        }
    }

    /// The rest of a piece, or the whole, which is rendered once for all members.
    fn of_piece(&mut self, piece: &Piece) -> Utf8Bytes {
        let from = std::mem::replace(&mut self.next, piece.last + 1);
        let metrics = &self.door.directory.shared.metrics;
        metrics.deliveries.inc_by(piece.last + 1 - from.max(piece.first));
        let group = self.listed.name.as_str();
        if from <= piece.first {
            let whole = piece.web.get_or_init(|| render(group, piece.bytes.clone(), 0));
            whole.clone()
        } else {
            render(group, piece.bytes.clone(), from)
        }
    }

    async fn read_behind(&mut self) -> Result<Utf8Bytes, End> {
        let (log, from) = (self.listed.log, self.next);
        let group = self.listed.name.as_str();
        let read = crate::doors::requests::read_records(
            &self.door.directory,
            self.peer.address,
            move |journal| journal.read(log, from, READ_BYTES),
        );
        match read.await? {
            Ok(records) => {
                let mut out = String::new();
                for record in records {
                    if out.len() > FRAME_BYTES {
                        break;
                    }
                    let next = self.next.max(record.first + u64::from(record.count));
                    let delivered = next - std::mem::replace(&mut self.next, next);
                    self.door.directory.shared.metrics.deliveries.inc_by(delivered);
                    let lines = render(group, record.entries, from);
                    if !out.is_empty() && !lines.is_empty() {
                        out.push('\n');
                    }
                    out.push_str(&lines);
                }
                Ok(out.into())
            }
            Err(ReadError::Trimmed { first }) => {
                self.next = first;
                Ok(to_line(&EntryLine::gap(group, from, first - 1, wall_us())).into())
            }
            Err(error) => {
                let whose = format!("a part of group {}", self.listed.name);
                if let ReadError::Damaged(why) = &error {
                    self.door.directory.shared.tell_damage(&whose, why);
                }
                Err(End::Told(Code::Damaged.as_str(), format!("{whose}: {error}")))
            }
        }
    }

    async fn hear(&mut self, message: Message) -> Result<(), End> {
        let text = match message {
            Message::Text(text) => text,
            Message::Ping(_) | Message::Pong(_) => return Ok(()),
            Message::Binary(_) => {
                return Err(End::Told("BAD_FRAME", "objects come as text frames".to_owned()));
            }
            Message::Close(_) => return Err(End::Gone),
        };
        let say = serde_json::from_str(&text)
            .map_err(|error| End::Told("BAD_FRAME", error.to_string()))?;
        let conn = self.remote.conn();
        match say {
            Say::Join(_) => {
                let message = "a connection serves one membership; open another".to_owned();
                self.tell(&Told::Error { code: "ALREADY_JOINED", message });
            }
            Say::Send { counter, text } if text.is_empty() => {
                let message = EMPTY.to_owned();
                self.tell(&Told::Refused { counter, code: "BAD_TEXT", message });
            }
            Say::Send { counter, text } => {
                let run = Run::message(&self.name, counter, true, text.as_bytes());
                self.remote.say(Input::Publish(conn, run)).await;
            }
            Say::Confirm { seq, failed } => {
                if seq >= self.next || failed.iter().any(|failed| failed.seq > seq) {
                    let message = format!("#{seq} was not sent yet");
                    return Err(End::Told(Code::BadAck.as_str(), message));
                }
                let failed = failed.into_iter().map(|failed| (failed.seq, failed.code)).collect();
                let ack = Ack { cursor: seq, open: Vec::new(), failed };
                self.remote.say(Input::Ack(conn, ack)).await;
            }
            Say::Leave => self.remote.say(Input::Leave(conn)).await,
            Say::Ping => self.tell(&Told::Pong),
        }
        Ok(())
    }

    fn take_in(&mut self, said: Option<Said>) -> Result<(), End> {
        match said {
            Some(Said::Outputs(outputs)) => {
                outputs.into_iter().try_for_each(|output| self.take_in_one(output))
            }
            Some(Said::Closing(closing)) => {
                Err(End::Told(closing.code.as_str(), closing.message.to_owned()))
            }
            None => Err(End::Told("STORE_FAILED", "the group cannot be served".to_owned())),
        }
    }

    fn take_in_one(&mut self, output: Output) -> Result<(), End> {
        match output {
            Output::Welcome(_, welcome) => self.welcome(&welcome),
            Output::Stored(_, run) | Output::Again(_, run) => self.control.stored(run),
            Output::Complete(_, run) => self.control.complete(run),
            Output::Receipt(_, counter, receipt) => self.control.receipt(counter, receipt),
            Output::MessageRefused(_, counter, refusal) => {
                let (code, message) = (Code::of_refusal(refusal).as_str(), refusal.to_string());
                self.tell(&Told::Refused { counter, code, message });
            }
            Output::Confirmed(_, confirmations) => {
                for one in confirmations {
                    let (name, reached) = (one.name.to_string(), one.reached);
                    self.tell(&Told::Confirmed { name, seq: one.cursor, reached });
                }
            }
            Output::Refused(_, refusal) => {
                let (code, message) = (Code::of_refusal(refusal).as_str(), refusal.to_string());
                self.tell(&Told::Error { code, message });
            }
            Output::Paused(_) => self.is_paused = true,
            Output::Gone(..) => {
                return Err(End::Told("REMOVED", "the membership has ended".to_owned()));
            }
            // These never go to a connection.
            Output::SenderReady(..)
            | Output::Close(..)
            | Output::Removed(..)
            | Output::Awaited(..)
            | Output::Watched(..)
            | Output::WatchedComplete(..)
            | Output::Joined(..)
            | Output::Left(..) => {}
        }
        Ok(())
    }

    fn welcome(&mut self, welcome: &Welcome) {
        let listed = &self.listed;
        let epoch = listed.stats.epoch.load(std::sync::atomic::Ordering::Relaxed);
        let group = listed.name.to_string();
        self.name = welcome.name.to_string();
        self.next = welcome.next;
        self.tell(&Told::Welcome {
            group: group.clone(),
            name: self.name.clone(),
            secret: hex(&self.secret),
            resumed: welcome.resumed,
            log: self.log.clone(),
            epoch,
            next: welcome.next,
            tail: welcome.tail,
            members: welcome.members,
            counter: welcome.last_counter,
            acked: welcome.acked,
        });
        if matches!(welcome.moved, Some(Moved::OtherLog | Moved::CutBack)) {
            self.control.line(to_line(&EntryLine::reset(&group, welcome.next, wall_us())));
        }
        self.door.directory.shared.notice(crate::node::Notice::Joined {
            group,
            name: self.name.clone(),
            address: self.peer.address,
            door: tertulia_group::Door::Web,
        });
    }

    fn tell(&mut self, told: &Told) {
        self.control.line(to_line(told));
    }

    /// What waits, as far as it goes into one frame.
    fn lines(&mut self) -> String {
        let mut lines = String::new();
        while lines.len() < CONTROL_BYTES
            && let Some(one) = self.control.next()
        {
            let line = match one {
                One::Line(line) => line,
                One::Stored(counter, seq) => to_line(&Told::Stored { counter, seq }),
                One::Receipt(counter, receipt) => to_line(&self.receipt(counter, &receipt)),
            };
            if !lines.is_empty() {
                lines.push('\n');
            }
            lines.push_str(&line);
        }
        lines
    }

    fn receipt(&self, counter: u64, receipt: &Receipt) -> Told {
        let level = self.door.directory.shared.level();
        let group = self.listed.name.as_str();
        let counter = Some(counter);
        Told::Receipt { counter, receipt: ReceiptLine::new(group, receipt, level, None) }
    }

    fn render_finals(&self, finals: &FinalPiece) -> Utf8Bytes {
        let (group, level) = (self.listed.name.as_str(), self.door.directory.shared.level());
        let line = |receipt| {
            let receipt = ReceiptLine::new(group, &receipt, level, None);
            to_line(&Told::Receipt { counter: None, receipt })
        };
        finals.receipts().map(line).collect::<Vec<_>>().join("\n").into()
    }
}

/// The entries from `from` on, a line each.
fn render(group: &str, bytes: Bytes, from: Seq) -> Utf8Bytes {
    let mut out = String::with_capacity(bytes.len() * 2);
    for entry in entries(bytes).flatten().filter(|entry| entry.header.seq >= from) {
        let Some(line) = EntryLine::from_entry(group, &entry) else { continue };
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&to_line(&line));
    }
    out.into()
}

fn read_secret(text: &str) -> Result<[u8; 32], Denied> {
    let bad = || Denied::new(Code::BadSecret, "a secret has 64 hexadecimal digits");
    let mut secret = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return Err(bad());
    }
    for (at, byte) in secret.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| bad())?;
    }
    Ok(secret)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Secrets are kept as digests only. They are random, so that a plain hash is enough.
fn digest(secret: &[u8; 32]) -> SecretDigest {
    SecretDigest(*blake3::hash(secret).as_bytes())
}

/// What a membership publishes is counted under an id that follows from its secret, so that a retry after a lost connection
/// is known.
fn sender_of(secret: &[u8; 32]) -> SenderId {
    let mut id = [0; 16];
    let mut hasher = blake3::Hasher::new_derive_key("tertulia 2026-11 web sender id");
    hasher.update(secret).finalize_xof().fill(&mut id);
    SenderId(id)
}
