//! A native connection that is in a group: reads publishes and acknowledgements, writes the log and the group's answers.

use std::cell::{Cell, RefMut};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tertulia_group::{
    Ack, CompleteRun, Input, LeaveReason, Moved, Output, Run, SenderReady, StoredRun, Welcome,
};
use tertulia_journal::{ReadError, Record};
use tertulia_wire::native::{self, Confirmed, How, Secret};
use tertulia_wire::{ClientFrame, Code, NodeFrame};
use tokio::io::{Interest, Ready};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, Sleep, sleep_until};

use super::requests;
use crate::accounts::Caller;
use crate::budget::Held;
use crate::conn::Conn;
use crate::directory::Directory;
use crate::hosted::{Hosted, Reading};
use crate::node::Notice;
use crate::outbox::{Outbox, Wrote};
use crate::pace::Meter;
use crate::sending::Sending;
use crate::stream::Stream;

/// Read before somebody else on the shard has a turn.
const READ_TURN_BYTES: usize = 256 << 10;
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
    /// Who asks, where it asks something else.
    pub caller: Caller,
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

/// See the module. Small, since everybody in a group has one: what only some need is made when they do.
pub(crate) struct Session {
    hosted: Rc<Hosted>,
    conn: Rc<Conn>,
    inbound: BytesMut,
    /// For the next read.
    room: usize,
    /// Until it is answered.
    opening: Option<Box<Opening>>,
    caller: Caller,
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
    /// It ends by its own fault.
    is_bad: bool,
}

impl Session {
    /// Of a connection that has become a member or a sender: `inbound` came after its request.
    pub fn new(
        hosted: Rc<Hosted>,
        conn: Rc<Conn>,
        stream: Stream,
        inbound: BytesMut,
        opening: Opening,
        directory: Arc<Directory>,
    ) -> Self {
        conn.sending.replace(Some(Sending::new(stream)));
        let held = hosted.shared.budget.holder();
        Self {
            hosted,
            conn,
            inbound,
            room: SMALL_ROOM_BYTES,
            caller: opening.caller.clone(),
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
        }
    }

    /// Runs until the connection ends; whether that was its own fault.
    pub async fn run(&mut self) -> bool {
        self.answer_inbox();
        self.take_in();
        let served = self.serve().await;
        let sending = self.conn.sending.take();
        match (served, sending) {
            // On the heap, so that it takes no room for as long as the connection lives.
            (Ok(()), Some(Sending { stream, .. })) => Box::pin(super::farewell(stream)).await,
            (Ok(()), None) => {}
            (Err(error), _) => {
                tracing::debug!(%error, conn = self.conn.id.0, "a connection ended");
            }
        }
        self.is_bad
    }

    /// Never held while something else is done here.
    fn outbox(&self) -> RefMut<'_, Outbox> {
        RefMut::map(self.conn.writing(), |sending| &mut sending.outbox)
    }

    /// The frame goes out after those that there are.
    fn answer(&self, frame: &NodeFrame) {
        frame.encode(&mut self.outbox().control);
    }

    async fn serve(&mut self) -> io::Result<()> {
        loop {
            self.answer_inbox();
            let wrote = self.write()?;
            if self.last_call.is_some()
                && (self.outbox().at_boundary() || self.last_call < Some(Instant::now()))
            {
                return Ok(());
            }
            match wrote {
                Wrote::More => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Wrote::Behind if self.reading.is_none() => {
                    let reading = self.outbox().read(&self.hosted);
                    self.reading = Some(reading);
                }
                _ => {}
            }
            self.conn.writing().waits = wrote == Wrote::Full;
            self.hold();
            while !self.wait(wrote == Wrote::Full).await? {
                self.hold();
            }
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

    /// Waits for whatever comes first, and takes it in; whether that may have left something to write. What only the group has to
    /// answer has not: the driver writes it, or wakes this one.
    async fn wait(&mut self, blocked: bool) -> io::Result<bool> {
        let pace = self.hosted.shared.config.limits.refusals;
        let paused = self.refused.until_from_now(pace);
        let reads = self.last_call.is_none() && paused.is_none();
        let interest = match (reads, blocked || self.last_call.is_some()) {
            (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
            (true, false) => Some(Interest::READABLE),
            (false, true) => Some(Interest::WRITABLE),
            (false, false) => None,
        };
        self.pause = self.last_call.or(paused).map(|until| Box::pin(sleep_until(until)));
        match poll_fn(|cx| self.poll_event(interest, cx)).await? {
            Event::Called => self.give_up()?,
            // One that has failed was told to the log by its panic.
            Event::Replied(Ok(reply)) if self.last_call.is_none() => self.outbox().answer(reply),
            Event::Read(read) => self.take_read(read),
            Event::Ready(ready) if ready.is_readable() && reads => {
                self.read()?;
                return Ok(blocked || self.last_call.is_some() || !self.outbox().at_boundary());
            }
            Event::Replied(_) | Event::Ready(_) | Event::Woken => {}
        }
        Ok(true)
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

    fn read(&mut self) -> io::Result<()> {
        let mut left = READ_TURN_BYTES;
        while left > 0 {
            if self.inbound.is_empty() && self.room == SMALL_ROOM_BYTES {
                self.inbound = ROOM.take();
            }
            self.inbound.reserve(self.room);
            let read = self.conn.writing().stream.try_read_buf(&mut self.inbound);
            match read {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    left = left.saturating_sub(n);
                    self.room =
                        if n >= SMALL_ROOM_BYTES { READ_ROOM_BYTES } else { SMALL_ROOM_BYTES };
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
        Ok(())
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
                Ok(Some(frame)) => self.control(frame),
                Err(error) => self.end(Code::BadFrame, error.to_string()),
            }
        }
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
        if let Some(before) = before.filter(|before| !before.failed.is_empty()) {
            self.hosted.input(Input::Ack(self.conn.id, before));
        }
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
        let from = requests::From { caller: self.caller.clone(), dialled, sender };
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
            self.inbound = BytesMut::new();
        }
    }

    /// Encodes what the group has said since the last time; runs go into as few frames as possible.
    fn answer_inbox(&mut self) {
        let (mut stored, mut complete): (Vec<StoredRun>, Vec<CompleteRun>) =
            (Vec::new(), Vec::new());
        let outputs = self.conn.take_inbox();
        if self.last_call.is_some() {
            // CLOSE is the last frame.
            return;
        }
        // A window of many small messages that are refused together is one mistake.
        if outputs.iter().any(|output| matches!(output, Output::MessageRefused(..))) {
            self.was_refused(1 + self.offered_bytes / REFUSED_STEP_BYTES);
        }
        if !outputs.is_empty() {
            self.offered_bytes = 0;
        }
        for output in outputs {
            match output {
                Output::Stored(_, run) => stored.push(run),
                Output::Complete(_, run) => complete.push(run),
                other => {
                    // Nobody learns of a receipt before learning the number.
                    self.encode_runs(&mut stored, &mut complete);
                    self.answer_one(other);
                }
            }
            if self.last_call.is_some() {
                return;
            }
        }
        self.encode_runs(&mut stored, &mut complete);
        if self.outbox().answers() > self.hosted.shared.config.limits.answers_bytes {
            self.end(Code::Limit, "answers were not read; connect again");
        }
        if let Some(closing) = self.conn.closing() {
            self.end(closing.code, closing.message);
        }
        if self.conn.is_gone() && self.last_call.is_none() {
            // Nobody reads a last frame there.
            self.last_call = Some(Instant::now());
        }
    }

    fn encode_runs(&mut self, stored: &mut Vec<StoredRun>, complete: &mut Vec<CompleteRun>) {
        let control = &mut self.conn.writing().outbox.control;
        NodeFrame::encode_stored(control, stored);
        NodeFrame::encode_complete(control, complete);
        stored.clear();
        complete.clear();
    }

    fn answer_one(&mut self, output: Output) {
        match output {
            Output::Welcome(_, welcome) => self.welcome(*welcome),
            Output::SenderReady(_, ready) => self.sender_ready(&ready),
            Output::Receipt(_, counter, receipt) => {
                let sees_names = self.conn.sees_names();
                let receipt = if sees_names { receipt } else { requests::without_names(receipt) };
                self.answer(&NodeFrame::Receipt { counter, receipt });
            }
            Output::MessageRefused(_, counter, refusal) => {
                let (code, message) = (Code::of_refusal(refusal), refusal.to_string());
                self.answer(&NodeFrame::Refused { counter, code, message });
            }
            Output::Confirmed(..) if !self.conn.sees_names() => {}
            Output::Confirmed(_, confirmations) => {
                let confirmed = confirmations.into_iter().map(|one| Confirmed {
                    name: one.name.to_string(),
                    cursor: one.cursor,
                    how: if one.reached { How::Reached } else { How::Confirmed },
                });
                let confirmed = confirmed.collect::<Vec<_>>();
                NodeFrame::encode_confirmed(&mut self.outbox().control, &confirmed);
            }
            Output::Refused(_, refusal) => {
                let (code, message) = (Code::of_refusal(refusal), refusal.to_string());
                self.answer(&NodeFrame::Error { id: 0, code, message });
            }
            Output::Gone(_, LeaveReason::Exit) => {
                self.end(Code::Removed, "you have left the group");
            }
            Output::Gone(..) => self.end(Code::Removed, "the membership was removed"),
            // These never go to a connection.
            Output::Stored(..)
            | Output::Complete(..)
            | Output::Close(..)
            | Output::Removed(..)
            | Output::Awaited(..)
            | Output::Watched(..)
            | Output::WatchedComplete(..)
            | Output::Joined(..)
            | Output::Left(..) => {}
        }
    }

    fn welcome(&mut self, welcome: Welcome) {
        let Some(opening) = self.opening.take() else { return };
        let group = self.hosted.group.borrow();
        let (identity, first) = (group.identity(), group.first());
        drop(group);
        let frame = NodeFrame::Welcome(Box::new(native::Welcome {
            id: opening.id,
            resumed: welcome.resumed,
            cut_back: welcome.moved == Some(Moved::CutBack),
            group: self.hosted.name.to_string(),
            name: welcome.name.to_string(),
            log: identity.log,
            epoch: identity.epoch,
            incarnation: welcome.key,
            next: welcome.next.max(first),
            tail: welcome.tail,
            members: welcome.members,
            secret: opening.secret,
            last_counter: welcome.last_counter,
            window_bytes: self.hosted.shared.config.group_limits.unstored_bytes_max as u32,
            level: self.hosted.shared.level(),
            acked: welcome.acked,
            open: welcome.open.clone(),
        }));
        self.answer(&frame);
        if welcome.moved.is_some() {
            let (log, epoch, next) = (identity.log, identity.epoch, welcome.next.max(first));
            self.answer(&NodeFrame::Reset { log, epoch, next });
        }
        if welcome.next < first {
            self.answer(&NodeFrame::Gap { first: welcome.next, last: first - 1 });
        }
        self.outbox().start(welcome.next.max(first), welcome.open);
        let (group, name) = (self.hosted.name.to_string(), welcome.name.to_string());
        let (address, door) = (self.conn.address, self.conn.door);
        self.hosted.shared.notice(Notice::Joined { group, name, address, door });
    }

    fn sender_ready(&mut self, ready: &SenderReady) {
        let Some(opening) = self.opening.take() else { return };
        let identity = self.hosted.group.borrow().identity();
        let frame = NodeFrame::SenderReady(Box::new(native::SenderReady {
            id: opening.id,
            group: self.hosted.name.to_string(),
            name: ready.name.to_string(),
            log: identity.log,
            epoch: identity.epoch,
            tail: ready.tail,
            members: ready.members,
            last_counter: ready.last_counter,
            window_bytes: self.hosted.shared.config.group_limits.unstored_bytes_max as u32,
            level: self.hosted.shared.level(),
        }));
        self.answer(&frame);
    }
}
