//! A native connection that is in a group: reads publishes and acknowledgements, writes the log and the group's answers.

use std::cell::{Cell, RefMut};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tertulia_group::{Ack, Input, Run};
use tertulia_journal::{ReadError, Record};
use tertulia_wire::native::{self, Secret};
use tertulia_wire::{ClientFrame, Code, NodeFrame};
use tokio::io::{Interest, Ready};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, Sleep, sleep_until};

mod answers;

use super::requests;
use crate::accounts::{Caller, Pass};
use crate::budget::Held;
use crate::conn::Conn;
use crate::directory::Directory;
use crate::hosted::{Hosted, Reading};
use crate::outbox::{Outbox, Wrote};
use crate::pace::Meter;
use crate::sending::Sending;
use crate::stream::Stream;

/// Read before somebody else on the shard has a turn.
const READ_TURN_BYTES: usize = 1 << 20;
/// Room that is made for each read of somebody who says much, and of who only acknowledges.
const READ_ROOM_BYTES: usize = 64 << 10;
const SMALL_ROOM_BYTES: usize = 512;
/// Requests of one connection that are being answered at once.
const REQUESTS_MAX: usize = 16;
/// A part of a frame up to this long is kept in no more room than it needs.
const PART_BYTES: usize = 4 << 10;
/// So many bytes that came with a refused message count as another refusal.
const REFUSED_STEP_BYTES: usize = 64 << 10;
/// Beyond this, what waits on a connection that has to give up is not worth a last frame after it.
const LAST_WORD_BYTES: usize = 64 << 10;
/// What a connection that is being closed has to take its last bytes.
const FAREWELL: Duration = Duration::from_secs(5);

/// What the joining knew and the session needs for its answer.
pub(crate) struct Opening {
    pub id: u32,
    /// The secret of the stay.
    pub secret: Secret,
    /// Whether it came by TLS.
    pub secure: bool,
    /// What a sender from outside is called.
    pub sender: Option<Box<str>>,
}

thread_local! {
    /// The room for small reads of everybody on this shard: most of what is read there is taken in at once.
    static ROOM: Cell<BytesMut> = Cell::default();
}

/// What a session waits for.
enum Event {
    /// The node has no room for what waits here.
    Called,
    /// A request was answered.
    Replied(Result<Bytes, JoinError>),
    /// The journal was read.
    Read(Result<Vec<Record>, ReadError>),
    /// The socket may be read or written.
    Ready(Ready),
    /// The group has said something, or a time has come.
    Woken,
}

/// What a session is at.
enum Stage {
    /// Something has come.
    Works,
    /// It waits for an event, on the socket for this.
    Waits(Option<Interest>),
    /// It has more to do, and others have a turn.
    GivesWay(Pin<Box<dyn Future<Output = ()>>>),
    /// Nothing more is said.
    Ends(Pin<Box<dyn Future<Output = ()>>>),
}

impl Stage {
    fn gives_way() -> Self {
        Self::GivesWay(Box::pin(tokio::task::yield_now()))
    }
}

/// What follows from an event.
enum Taken {
    /// There may be something to write.
    Writes,
    /// There is not: it waits on.
    Waits,
    /// There is more to read, and others have a turn first.
    GivesWay,
}

/// See the module: runs until the connection ends, and says whether that was its own fault. Small, since everybody in a group has
/// one: what only some need is made when they do, and where it goes on is written down here; an `async` function would keep room for
/// each future in it.
pub(crate) struct Session {
    hosted: Rc<Hosted>,
    conn: Rc<Conn>,
    inbound: BytesMut,
    /// Until it is answered.
    opening: Option<Box<Opening>>,
    /// What a sender from outside is called.
    sender: Option<Box<str>>,
    directory: Arc<Directory>,
    reading: Option<Reading>,
    /// Requests that are being answered; they end with the session. None while there are none.
    asking: Option<JoinSet<Bytes>>,
    held: Held,
    /// A frame was finished since `held` was told last.
    finished: bool,
    /// Once set, no more is read, and what is left is written until then.
    last_call: Option<Instant>,
    /// Until the last call, or until it is read again. On the heap: hardly anybody has one.
    pause: Option<Pin<Box<Sleep>>>,
    /// What it was refused; while too much, nothing is read.
    refused: Meter,
    /// Bytes of messages that it has sent since the group's last answers.
    offered_bytes: usize,
    /// Its last read found much: the next one gets more room.
    says_much: bool,
    /// The group waits with more receipts until most of those that it was given are written.
    is_paused: bool,
    /// It ends by its own fault.
    is_bad: bool,
    /// It came by TLS.
    secure: bool,
    stage: Stage,
}

impl Future for Session {
    type Output = bool;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        let session = self.get_mut();
        loop {
            if let Stage::Ends(farewell) = &mut session.stage {
                return farewell.as_mut().poll(cx).map(|()| session.is_bad);
            }
            let served = ready!(session.poll_serve(cx));
            let sending = session.conn.sending.take();
            match (served, sending) {
                (Ok(()), Some(Sending { stream, .. })) => {
                    session.stage = Stage::Ends(Box::pin(super::farewell(stream)));
                }
                (Ok(()), None) => return Poll::Ready(session.is_bad),
                (Err(error), _) => {
                    tracing::debug!(%error, conn = session.conn.id.0, "a connection ended");
                    return Poll::Ready(session.is_bad);
                }
            }
        }
    }
}

impl Session {
    /// Of a connection that has become a member or a sender, and is told so: `inbound` came after its request, and is taken in.
    pub fn begin(
        hosted: Rc<Hosted>,
        conn: Rc<Conn>,
        stream: Stream,
        inbound: BytesMut,
        opening: Opening,
        directory: Arc<Directory>,
    ) -> Self {
        conn.sending.replace(Some(Sending::new(stream)));
        let held = hosted.shared.budget.holder();
        let mut session = Self {
            hosted,
            conn,
            inbound,
            says_much: false,
            is_paused: false,
            secure: opening.secure,
            sender: opening.sender.clone(),
            opening: Some(Box::new(opening)),
            directory,
            reading: None,
            asking: None,
            held,
            finished: false,
            last_call: None,
            pause: None,
            refused: Meter::default(),
            offered_bytes: 0,
            is_bad: false,
            stage: Stage::Works,
        };
        session.answer_inbox();
        session.take_in();
        session
    }

    /// Never held while something else is done here.
    fn outbox(&self) -> RefMut<'_, Outbox> {
        RefMut::map(self.conn.writing(), |sending| &mut sending.outbox)
    }

    /// The frame goes out after those that there are.
    fn answer(&self, frame: &NodeFrame) {
        frame.encode(&mut self.outbox().control);
    }

    /// Until the connection ends: an error where it broke.
    fn poll_serve(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match &mut self.stage {
                Stage::Works => {}
                Stage::Waits(interest) => {
                    let interest = *interest;
                    let event = ready!(self.poll_event(interest, cx))?;
                    match self.take_event(event, interest)? {
                        Taken::Writes => {}
                        Taken::Waits => {
                            self.hold();
                            self.stage = Stage::Waits(self.interest(false));
                            continue;
                        }
                        Taken::GivesWay => {
                            self.stage = Stage::gives_way();
                            continue;
                        }
                    }
                }
                Stage::GivesWay(turn) => ready!(turn.as_mut().poll(cx)),
                Stage::Ends(_) => return Poll::Ready(Ok(())),
            }
            match self.work()? {
                Some(stage) => self.stage = stage,
                None => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Says what there is to say, and what to do after it; `None` when nothing more is to be done.
    fn work(&mut self) -> io::Result<Option<Stage>> {
        self.answer_inbox();
        let wrote = self.write()?;
        self.go_on_giving();
        if self.last_call.is_some()
            && (self.outbox().at_boundary() || self.last_call < Some(Instant::now()))
        {
            return Ok(None);
        }
        match wrote {
            Wrote::More => {
                return Ok(Some(Stage::gives_way()));
            }
            Wrote::Behind if self.reading.is_none() => {
                let reading = self.outbox().read(&self.hosted);
                self.reading = Some(reading);
            }
            _ => {}
        }
        let blocked = wrote == Wrote::Full;
        self.conn.writing().waits = blocked;
        self.hold();
        Ok(Some(Stage::Waits(self.interest(blocked))))
    }

    /// The group gives more receipts once most of those before are written.
    fn go_on_giving(&mut self) {
        let room = self.hosted.shared.config.limits.answers_room();
        if self.is_paused && self.outbox().answers() <= room {
            self.is_paused = false;
            self.hosted.input(Input::Taken(self.conn.id));
        }
    }

    /// Tells the node's budget what waits here.
    fn hold(&mut self) {
        let finished = std::mem::take(&mut self.finished);
        let bytes = self.inbound.capacity() + self.conn.writing().held();
        self.held.set(bytes, finished);
    }

    /// The node has no room for what waits here: gives up what can be read again, otherwise ends.
    fn give_up(&mut self) -> io::Result<()> {
        self.outbox().forget_chunks();
        self.hold();
        if self.held.is_counted() {
            self.is_bad = true;
            if self.last_call.is_some() || self.outbox().held() > LAST_WORD_BYTES {
                return Err(io::Error::other("too much waited for it, and was not read"));
            }
            self.end(Code::Limit, "too much was waiting for this connection; connect again");
        }
        Ok(())
    }

    /// What is waited for on the socket; sets the pause until something else is.
    fn interest(&mut self, blocked: bool) -> Option<Interest> {
        let pace = self.hosted.shared.config.limits.refusals;
        let paused = self.refused.until_from_now(pace);
        self.pause = self.last_call.or(paused).map(|until| Box::pin(sleep_until(until)));
        let reads = self.last_call.is_none() && paused.is_none();
        match (reads, blocked || self.last_call.is_some()) {
            (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
            (true, false) => Some(Interest::READABLE),
            (false, true) => Some(Interest::WRITABLE),
            (false, false) => None,
        }
    }

    /// Takes in what has come. What only the group has to answer leaves nothing to write: the driver writes it, or wakes this one.
    fn take_event(&mut self, event: Event, interest: Option<Interest>) -> io::Result<Taken> {
        let reads = interest.is_some_and(Interest::is_readable);
        match event {
            Event::Called => self.give_up()?,
            // One that has failed was told to the log by its panic.
            Event::Replied(Ok(reply)) if self.last_call.is_none() => self.outbox().answer(reply),
            Event::Read(read) if self.last_call.is_none() => self.take_read(read),
            Event::Ready(ready) if ready.is_readable() && reads => {
                if self.read()? {
                    return Ok(Taken::GivesWay);
                }
                let blocked = interest.is_some_and(Interest::is_writable);
                let writes = blocked || self.last_call.is_some() || !self.outbox().at_boundary();
                return Ok(if writes { Taken::Writes } else { Taken::Waits });
            }
            Event::Replied(_) | Event::Read(_) | Event::Ready(_) | Event::Woken => {}
        }
        Ok(Taken::Writes)
    }

    /// What comes first, in this order: who waits for a reply, or has to give up, is not kept from it by reading. Each costs
    /// something each time, so most are looked at only while there is something to wait for.
    fn poll_event(
        &mut self,
        interest: Option<Interest>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Event>> {
        if self.held.is_counted() && self.held.poll_called(cx).is_ready() {
            return Poll::Ready(Ok(Event::Called));
        }
        if let Some(asking) = &mut self.asking {
            match asking.poll_join_next(cx) {
                Poll::Ready(Some(reply)) => return Poll::Ready(Ok(Event::Replied(reply))),
                Poll::Ready(None) => self.asking = None,
                Poll::Pending => {}
            }
        }
        if let Some(reading) = &mut self.reading
            && let Poll::Ready(read) = Pin::new(reading).poll(cx)
        {
            self.reading = None;
            let read = read.unwrap_or_else(|error| Err(ReadError::Io(error.to_string())));
            return Poll::Ready(Ok(Event::Read(read)));
        }
        // A waker is left only where there is nothing to do now.
        if self.conn.take_woken() {
            return Poll::Ready(Ok(Event::Woken));
        }
        if let Some(interest) = interest
            && let Poll::Ready(ready) = self.conn.writing().stream.poll_ready(interest, cx)
        {
            return Poll::Ready(ready.map(Event::Ready));
        }
        if let Some(pause) = &mut self.pause
            && pause.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Ok(Event::Woken));
        }
        self.conn.poll_woken(cx).map(|()| Ok(Event::Woken))
    }

    fn take_read(&mut self, read: Result<Vec<Record>, ReadError>) {
        let taken = self.outbox().take_read(read);
        if let Err(error) = taken {
            self.hosted.unreadable(&error);
            let is_damage = matches!(error, ReadError::Damaged(_));
            let code = if is_damage { Code::Damaged } else { Code::StoreFailed };
            self.end(code, error.to_string());
        }
    }

    fn write(&mut self) -> io::Result<Wrote> {
        if self.last_call.is_some() {
            // Only what makes the last frame readable; the log goes on at the next connection.
            self.outbox().finish();
        }
        self.conn.writing().write(&self.hosted, &self.conn)
    }

    /// Reads what there is, at most a turn's worth; whether there may be more.
    fn read(&mut self) -> io::Result<bool> {
        let mut left = READ_TURN_BYTES;
        while left > 0 {
            if self.inbound.is_empty() && !self.says_much {
                self.inbound = ROOM.take();
            }
            self.inbound.reserve(if self.says_much { READ_ROOM_BYTES } else { SMALL_ROOM_BYTES });
            let read = self.conn.writing().stream.try_read_buf(&mut self.inbound);
            match read {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    left = left.saturating_sub(n);
                    self.says_much = n >= SMALL_ROOM_BYTES;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
            let before = self.inbound.len();
            self.take_in();
            self.finished |= self.inbound.len() < before;
        }
        // An idle connection keeps no buffer, and a part of a frame no more than it needs.
        if self.inbound.is_empty() && self.inbound.capacity() <= SMALL_ROOM_BYTES {
            ROOM.set(std::mem::take(&mut self.inbound));
        } else if self.inbound.len() <= PART_BYTES {
            self.inbound = BytesMut::from(&self.inbound[..]);
        }
        Ok(left == 0)
    }

    /// Takes in every whole frame: runs of publishes as they are, acknowledgements joined.
    fn take_in(&mut self) {
        let body_max = self.hosted.shared.config.group_limits.message_bytes_max;
        let mut ack: Option<Ack> = None;
        while self.last_call.is_none() {
            let before = self.inbound.len();
            match Run::split(&mut self.inbound, body_max) {
                Ok(Some(run)) => {
                    self.offered_bytes += before - self.inbound.len();
                    self.hosted.input(Input::Publish(self.conn.id, run));
                    continue;
                }
                Ok(None) => {}
                Err(error) => {
                    self.end(Code::BadFrame, error.to_string());
                    break;
                }
            }
            match ClientFrame::take(&mut self.inbound) {
                Ok(None) => break,
                Ok(Some(ClientFrame::Ack(more))) => ack = self.join_acks(ack, more),
                Ok(Some(frame)) => {
                    // What was confirmed before it counts before it: a LEAVE takes the member away.
                    self.acknowledge(ack.take());
                    self.control(frame);
                }
                Err(error) => self.end(Code::BadFrame, error.to_string()),
            }
        }
        self.acknowledge(ack);
    }

    fn acknowledge(&self, ack: Option<Ack>) {
        if let Some(ack) = ack {
            self.hosted.input(Input::Ack(self.conn.id, ack));
        }
    }

    /// The later acknowledgement says what the earlier said and more, but for what failed.
    fn join_acks(&mut self, before: Option<Ack>, ack: native::Ack) -> Option<Ack> {
        if ack.cursor > self.outbox().sent_through() {
            self.end(Code::BadAck, format!("#{} was not sent yet", ack.cursor));
            return before;
        }
        self.acknowledge(before.filter(|before| !before.failed.is_empty()));
        let failed = ack.failed.into_iter().map(|failed| (failed.seq, failed.code)).collect();
        Some(Ack { cursor: ack.cursor, open: ack.open, failed })
    }

    fn control(&mut self, frame: ClientFrame) {
        match frame {
            ClientFrame::Leave => self.hosted.input(Input::Leave(self.conn.id)),
            ClientFrame::Ping { token } => {
                self.answer(&NodeFrame::Pong { token });
            }
            ClientFrame::Other { .. } => {}
            ClientFrame::Hello(_) => self.end(Code::BadFrame, "HELLO comes once"),
            ClientFrame::Join(join) => self.already(join.id),
            ClientFrame::OpenSender(open) => self.already(open.id),
            frame => match requests::id_of(&frame) {
                Some(_) if self.answer_receipt(&frame) => {}
                Some(id) => self.ask(id, frame),
                None => self.end(Code::BadFrame, "this frame may not come here"),
            },
        }
    }

    fn already(&mut self, id: u32) {
        let message = "a connection serves one membership or sender; open another".to_owned();
        self.answer(&NodeFrame::Error { id, code: Code::AlreadyJoined, message });
    }

    /// The receipt of a message of this group that is still in memory, as it stands: answered here and now.
    fn answer_receipt(&mut self, frame: &ClientFrame) -> bool {
        let ClientFrame::Receipt { id, group, seq, wait_ms: 0 } = frame else { return false };
        // Who may not know who is in the group is answered by the table.
        if *group != self.hosted.name.as_str() || !self.conn.sees_names() {
            return false;
        }
        let header = self.hosted.window.borrow().header(*seq);
        let Some(header) = header.filter(|header| header.kind.is_said()) else {
            return false;
        };
        let receipt =
            self.hosted.group.borrow().receipt(*seq, header.publisher(), crate::clock::now());
        let Ok(receipt) = receipt else { return false };
        let level = self.hosted.shared.level();
        self.answer(&NodeFrame::ReceiptReply { id: *id, level, receipt });
        true
    }

    /// Something was refused; what it cost to take in counts too.
    fn was_refused(&mut self, cost: usize) {
        let pace = self.hosted.shared.config.limits.refusals;
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        self.refused.spend(pace, cost, Instant::now());
    }

    /// Who asks, where it asks something else than its group: what its membership or sender rests on.
    fn caller(&self) -> Caller {
        let session = self.conn.pass().and_then(Pass::session);
        Caller { session, ..Caller::new(self.conn.address, self.secure) }
    }

    /// Has a request answered away from the shard.
    fn ask(&mut self, id: u32, frame: ClientFrame) {
        if self.asking.as_ref().map_or(0, JoinSet::len) >= REQUESTS_MAX {
            self.was_refused(1);
            let message = "too many requests at once; wait for the answers".to_owned();
            self.answer(&NodeFrame::Error { id, code: Code::Limit, message });
            return;
        }
        // Whose socket has no address any more has no use for an answer.
        let Ok(dialled) = self.conn.writing().stream.socket().local_addr() else { return };
        let sender = self.sender.as_ref().map(|sender| sender.to_string());
        let from = requests::From { caller: self.caller(), dialled, sender };
        let directory = Arc::clone(&self.directory);
        let answer = async move {
            let mut out = BytesMut::new();
            requests::answer(&directory, &from, id, frame).await.encode(&mut out);
            out.freeze()
        };
        let asking = self.asking.get_or_insert_default();
        asking.spawn_on(answer, &self.hosted.shared.main);
    }

    /// The last frame; what is written before it goes out first.
    fn end(&mut self, code: Code, message: impl Into<String>) {
        if self.last_call.is_none() {
            self.is_bad |= matches!(code, Code::BadFrame | Code::BadAck | Code::Limit);
            self.answer(&NodeFrame::Close { code, message: message.into() });
            self.last_call = Some(Instant::now() + FAREWELL);
            // Also where the driver writes next: it is the last frame.
            self.outbox().finish();
            self.inbound = BytesMut::new();
        }
    }
}
