//! A line connection that is in a group: what it says becomes inputs, what the log says becomes lines.
//!
//! Its program is not asked until it says `ACK`: until then the host's TCP answers for it (bytes written less those that are
//! not acknowledged yet).

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tertulia_group::{Ack, Entry, Input, Kind, LeaveReason, Output, Run, Seq};
use tertulia_journal::{ReadError, Record};
use tertulia_wire::line::{self, Command, Line, LineCode, LineSplitter, Refusal};
use tertulia_wire::native::HistoryMode;
use tokio::io::Interest;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::line::{groups, refusal_of, refusal_of_denied};
use super::reached::{Marks, REACHED_WAIT_MIN};
use super::requests;
use crate::accounts::{Caller, Pass};
use crate::budget::Held;
use crate::clock::now;
use crate::conn::Conn;
use crate::directory::{Denied, Directory};
use crate::history::{self, Page};
use crate::hosted::{Hosted, Reading};
use crate::node::Notice;
use crate::pace::Meter;
use crate::stream::Stream;

/// Lines that wait to be written; the log waits while there are more.
const OUT_BYTES: usize = 64 << 10;
/// And no more is read from a client whose answers fill this.
const ANSWERS_BYTES_MAX: usize = 256 << 10;
/// Nor from one that has so many messages without their `ACK` line: whoever does not read its answers gets no more of them.
const UNANSWERED_MAX: usize = 8192;
/// Read from the journal at once.
const READ_BYTES: usize = 256 << 10;
/// When a message's `ACK` line is written at the latest.
const ACK_WAIT: Duration = Duration::from_secs(5);
/// Messages that `HISTORY` gives at most.
const HISTORY_MAX: u32 = 1000;
/// What a connection that is being closed has to take its last bytes.
const FAREWELL: Duration = Duration::from_secs(5);

struct Session<'a> {
    hosted: &'a Rc<Hosted>,
    conn: &'a Conn,
    stream: Stream,
    inbound: BytesMut,
    splitter: LineSplitter,
    /// There may be whole lines in `inbound`.
    lines_wait: bool,
    directory: Arc<Directory>,
    out: BytesMut,
    /// Its name, and the number of its join; older entries come as `OLD`.
    name: String,
    joined: Seq,
    counter: u64,
    /// Entries from here on are not in `out` yet.
    next: Seq,
    chunks: VecDeque<Bytes>,
    /// The group was told that this one is behind the window.
    lagging: bool,
    reading: Option<Reading>,
    history: Option<JoinHandle<Result<BytesMut, Denied>>>,
    /// Its own messages that were neither refused nor have their `ACK` line.
    in_hand: usize,
    /// Its own messages that were neither refused nor have their `OK MSG`.
    untold: usize,
    parting: Option<Parting>,
    /// Its own messages that have no `ACK` line yet, and until when they wait.
    unanswered: BTreeMap<Seq, Instant>,
    /// `ACK` lines that wait for their `OK MSG`.
    answers: BTreeMap<Seq, Answer>,
    marks: Marks,
    held: Held,
    /// What it was refused; while too much, nothing is taken.
    refused: Meter,
    last_call: Option<Instant>,
    /// It ends by its own fault.
    is_bad: bool,
}

/// A client that has said its last word; what it has said before is answered first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parting {
    /// `EXIT`: leaves once each of its messages has its `OK MSG`.
    Exit,
    /// It has left.
    Left,
    /// Its side of the connection is closed, but it may still read (`printf … | nc -N`): ends once each message has its `ACK`
    /// line, and then at the latest.
    EndOfInput(Instant),
}

/// What an `ACK` line says. Who is missing is looked up when it is written: a list of names is not kept for each message.
enum Answer {
    Counted {
        taken: u32,
        members: u32,
    },
    /// It has waited long enough, and is answered as it stands.
    Late,
}

/// Runs until the connection ends; whether that was its own fault.
pub(crate) async fn run(
    hosted: Rc<Hosted>,
    conn: Rc<Conn>,
    stream: Stream,
    inbound: BytesMut,
    splitter: LineSplitter,
    directory: Arc<Directory>,
) -> bool {
    let held = hosted.shared.budget.holder();
    let (hosted, conn) = (&hosted, &*conn);
    let mut session = Session {
        hosted,
        conn,
        stream,
        inbound,
        splitter,
        lines_wait: false,
        directory,
        out: BytesMut::new(),
        name: String::new(),
        joined: 0,
        counter: 0,
        next: Seq::MAX,
        chunks: VecDeque::new(),
        lagging: false,
        reading: None,
        history: None,
        in_hand: 0,
        untold: 0,
        parting: None,
        unanswered: BTreeMap::new(),
        answers: BTreeMap::new(),
        marks: Marks::default(),
        held,
        refused: Meter::default(),
        last_call: None,
        is_bad: false,
    };
    session.take_inbox();
    session.take_lines();
    let served = session.serve().await;
    let is_bad = session.is_bad;
    match served {
        Ok(()) => super::farewell(session.stream).await,
        Err(error) => tracing::debug!(%error, conn = conn.id.0, "a connection ended"),
    }
    is_bad
}

impl Session<'_> {
    async fn serve(&mut self) -> io::Result<()> {
        loop {
            self.take_inbox();
            if self.lines_wait {
                // There may be room for the answers now.
                self.take_lines();
            }
            self.render();
            let blocked = self.write()?;
            if blocked {
                self.look_behind();
            }
            self.ask_host();
            if self.parts() {
                return Ok(());
            }
            if self
                .last_call
                .is_some_and(|last_call| self.out.is_empty() || last_call < Instant::now())
            {
                return Ok(());
            }
            if !blocked && self.last_call.is_none() && self.has_more() {
                tokio::task::yield_now().await;
                continue;
            }
            self.hold();
            self.wait(blocked).await?;
        }
    }

    async fn wait(&mut self, blocked: bool) -> io::Result<()> {
        let reads = self.takes_lines();
        let interest = match (reads, blocked) {
            (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
            (true, false) => Some(Interest::READABLE),
            (false, true) => Some(Interest::WRITABLE),
            (false, false) => None,
        };
        let timer = self.timer();
        tokio::select! {
            ready = self.stream.ready(interest.unwrap_or(Interest::READABLE)), if interest.is_some() => {
                if ready?.is_readable() && reads {
                    self.read()?;
                }
            }
            () = self.conn.woken() => {}
            read = async { self.reading.as_mut().expect("only polled when there is one").await }, if self.reading.is_some() => {
                self.reading = None;
                self.take_read(read.unwrap_or_else(|error| Err(ReadError::Io(error.to_string()))));
            }
            page = async { self.history.as_mut().expect("only polled when there is one").await }, if self.history.is_some() => {
                self.history = None;
                if let Ok(page) = page {
                    self.write_history(page);
                }
            }
            () = self.held.called() => self.give_up()?,
            () = tokio::time::sleep_until(timer.unwrap_or_else(Instant::now)), if timer.is_some() => self.late_answers(),
        }
        Ok(())
    }

    fn timer(&self) -> Option<Instant> {
        // Who was stored first waits until first.
        let ack = self.unanswered.first_key_value().map(|(_, until)| *until);
        let host = self.marks.wait.map(|wait| Instant::now() + wait);
        let part = match self.parting {
            Some(Parting::EndOfInput(until)) => Some(until),
            _ => None,
        };
        [ack, host, part, self.last_call, self.paused()].into_iter().flatten().min()
    }

    fn read(&mut self) -> io::Result<()> {
        self.inbound.reserve(line::LINE_BYTES_MAX);
        match self.stream.try_read_buf(&mut self.inbound) {
            Ok(0) => {
                let until = Instant::now() + ACK_WAIT + FAREWELL;
                self.parting.get_or_insert(Parting::EndOfInput(until));
            }
            Ok(_) => self.take_lines(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Whether what it says next can be taken: there is room for the answers.
    fn takes_lines(&self) -> bool {
        self.last_call.is_none()
            && self.parting.is_none()
            && self.history.is_none()
            && self.paused().is_none()
            && self.out.len() < ANSWERS_BYTES_MAX
            && self.in_hand < UNANSWERED_MAX
    }

    /// Until when it is not heard, for what it was refused.
    fn paused(&self) -> Option<Instant> {
        self.refused.until_from_now(self.hosted.shared.config.limits.refusals)
    }

    fn refuse(&mut self, refusal: &Refusal) {
        self.was_refused();
        line::err(&mut self.out, refusal);
    }

    fn was_refused(&mut self) {
        self.refused.spend(self.hosted.shared.config.limits.refusals, 1, Instant::now());
    }

    /// Leaves, or ends (`true`), once a client that has said its last word has its answers.
    fn parts(&mut self) -> bool {
        match self.parting {
            Some(Parting::Exit) if self.untold == 0 && self.history.is_none() => {
                self.parting = Some(Parting::Left);
                self.hosted.input(Input::Leave(self.conn.id));
                false
            }
            Some(Parting::EndOfInput(until)) => {
                let answered = self.in_hand == 0 && self.history.is_none() && self.out.is_empty();
                answered || until <= Instant::now()
            }
            _ => false,
        }
    }

    /// Tells the node's budget what waits here.
    fn hold(&mut self) {
        let chunks: usize = self.chunks.iter().map(Bytes::len).sum();
        self.held.set(self.out.len() + chunks, false);
    }

    /// The node has no room for what waits here: gives up what can be read again, otherwise ends.
    fn give_up(&mut self) -> io::Result<()> {
        self.chunks.clear();
        self.hold();
        if self.out.len() > OUT_BYTES {
            self.is_bad = true;
            return Err(io::Error::other("too much waited for it, and was not read"));
        }
        Ok(())
    }

    fn take_lines(&mut self) {
        self.lines_wait = true;
        while self.takes_lines() {
            match self.splitter.next(&mut self.inbound) {
                Some(Line::Whole(text)) => {
                    if let Err(refusal) = self.take_line(&text) {
                        self.refuse(&refusal);
                    }
                }
                Some(Line::TooLong) => self.refuse(&Refusal::too_long()),
                None => {
                    if self.splitter.is_skipping() {
                        self.was_refused();
                    }
                    self.lines_wait = false;
                    break;
                }
            }
        }
        if self.inbound.is_empty() {
            self.inbound = BytesMut::new();
        }
    }

    fn take_line(&mut self, text: &[u8]) -> Result<(), Refusal> {
        match line::parse(text)? {
            Command::Msg(text) => {
                self.counter += 1;
                self.in_hand += 1;
                self.untold += 1;
                let run = Run::message(&self.name, self.counter, true, text.as_bytes());
                self.hosted.input(Input::Publish(self.conn.id, run));
            }
            Command::Ack(seq) => {
                if seq >= self.next {
                    let hint = format!("#{seq} was not sent yet");
                    return Err(Refusal::new(LineCode::BadAck, hint));
                }
                self.marks.confirms = true;
                self.hosted.input(Input::Ack(self.conn.id, Ack { cursor: seq, ..Ack::default() }));
            }
            Command::Who | Command::Groups | Command::History(_) if self.has_asked_much() => {
                let hint = "too much was asked from your address; ask again in a while";
                return Err(Refusal::new(LineCode::Busy, hint));
            }
            Command::Who => self.count(Self::who),
            Command::Groups => self.count(|session| {
                groups(&session.directory, &session.caller(), &mut session.out);
            }),
            Command::History(count) => {
                let (directory, log) = (Arc::clone(&self.directory), self.hosted.log);
                let (name, address) = (self.hosted.name.clone(), self.conn.address);
                let limit = count.min(HISTORY_MAX);
                self.history = Some(self.hosted.shared.main.spawn(async move {
                    requests::read(&directory, address, &name, move |journal| {
                        history::page(journal, log, HistoryMode::Last, limit, history::said)
                            .map(|page| history_lines(&page))
                    })
                    .await
                }));
            }
            Command::Ping(text) => line::ping(&mut self.out, text),
            Command::Help => line::help(&mut self.out),
            Command::Exit => self.parting = Some(Parting::Exit),
            Command::Pass(_) | Command::Token(_) => {
                return Err(Refusal::new(LineCode::AlreadyJoined, "log in before JOIN"));
            }
            Command::Join { .. } | Command::AskName => {
                return Err(Refusal::new(LineCode::AlreadyJoined, "say EXIT first"));
            }
        }
        Ok(())
    }

    fn caller(&self) -> Caller {
        let session = self.conn.pass().and_then(Pass::session);
        Caller { session, ..Caller::new(self.conn.address, false) }
    }

    /// Answering its address has cost more than is its share.
    fn has_asked_much(&self) -> bool {
        self.hosted.shared.work.has_to_wait(self.conn.address)
    }

    /// Answers something that costs its address.
    fn count(&mut self, answer: impl FnOnce(&mut Self)) {
        let shared = Arc::clone(&self.hosted.shared);
        shared.work.count(self.conn.address, || answer(self));
    }

    fn who(&mut self) {
        let group = self.hosted.group.borrow();
        let mut names: Vec<&str> = group.members().map(|member| member.name.as_str()).collect();
        names.sort_unstable();
        line::who(&mut self.out, names);
    }

    fn write_history(&mut self, lines: Result<BytesMut, Denied>) {
        match lines {
            Ok(lines) if self.out.is_empty() => self.out = lines,
            Ok(lines) => self.out.extend_from_slice(&lines),
            Err(denied) => line::err(&mut self.out, &refusal_of_denied(&denied)),
        }
    }

    fn take_inbox(&mut self) {
        for output in self.conn.take_inbox() {
            match output {
                Output::Welcome(_, welcome) => self.welcome(&welcome),
                Output::Stored(_, run) | Output::Again(_, run) => {
                    let until = Instant::now() + ACK_WAIT;
                    self.unanswered
                        .extend((run.seq..).take(run.count as usize).map(|seq| (seq, until)));
                }
                Output::Complete(_, run) => {
                    for seq in (run.seq..).take(run.count as usize) {
                        let members = run.members;
                        self.answered(seq, Answer::Counted { taken: members, members });
                    }
                }
                Output::Receipt(_, _, receipt) => {
                    let taken = receipt.confirmed + receipt.reached;
                    let members = receipt.members;
                    self.answered(receipt.seq, Answer::Counted { taken, members });
                }
                Output::MessageRefused(_, _, refusal) => {
                    self.in_hand = self.in_hand.saturating_sub(1);
                    self.untold = self.untold.saturating_sub(1);
                    self.refuse(&refusal_of(refusal));
                }
                Output::Refused(_, refusal) => self.refuse(&refusal_of(refusal)),
                // What was given is a number for each already.
                Output::Paused(conn) => self.hosted.input(Input::Taken(conn)),
                Output::Gone(_, reason) => {
                    match reason {
                        LeaveReason::Exit => line::exit(&mut self.out),
                        _ => line::note(&mut self.out, "you were removed from the group"),
                    }
                    self.last_call = Some(Instant::now() + FAREWELL);
                }
                _ => {}
            }
        }
        if let Some(closing) = self.conn.closing().filter(|_| self.last_call.is_none()) {
            line::note(&mut self.out, closing.message);
            self.last_call = Some(Instant::now() + FAREWELL);
        }
    }

    fn welcome(&mut self, welcome: &tertulia_group::Welcome) {
        let first = self.hosted.group.borrow().first();
        self.name = welcome.name.to_string();
        self.joined = welcome.key.0;
        self.next = welcome.next.max(first);
        let group = self.hosted.name.to_string();
        line::ok_join(&mut self.out, &self.name, &group, welcome.key.0, welcome.members);
        if welcome.next < first {
            line::gap(&mut self.out, welcome.next, first - 1);
        }
        let (name, address, door) = (self.name.clone(), self.conn.address, self.conn.door);
        self.hosted.shared.notice(Notice::Joined { group, name, address, door });
    }

    /// A message of its own has its answer; the line is written after its `OK MSG`.
    fn answered(&mut self, seq: Seq, answer: Answer) {
        if self.unanswered.remove(&seq).is_some() {
            self.answers.insert(seq, answer);
        }
    }

    /// Messages that have waited long enough are answered as they stand.
    fn late_answers(&mut self) {
        let due: Vec<Seq> = self
            .unanswered
            .iter()
            .filter(|(_, until)| **until <= Instant::now())
            .map(|(seq, _)| *seq)
            .collect();
        due.into_iter().for_each(|seq| self.answered(seq, Answer::Late));
    }

    /// There is more of the log that could be written now.
    fn has_more(&self) -> bool {
        let tail = self.hosted.group.borrow().tail();
        let answers = self.answers.first_key_value().is_some_and(|(seq, _)| *seq < self.next);
        let lines = self.lines_wait && self.takes_lines();
        lines
            || self.out.len() < OUT_BYTES
                && (answers
                    || !self.chunks.is_empty()
                    || self.next <= tail && self.reading.is_none())
    }

    /// Turns the log into lines while there is room.
    fn render(&mut self) {
        while self.last_call.is_none() && self.out.len() < OUT_BYTES {
            let piece = match self.chunks.pop_front() {
                Some(chunk) => Some(chunk),
                None => {
                    let window = self.hosted.window.borrow();
                    let place = window.locate(self.next);
                    self.conn.set_place(place);
                    let piece = place.and_then(|place| window.piece(place)).map(|(piece, _)| piece);
                    drop(window);
                    if place.is_some() {
                        self.tell_lagging(false);
                    }
                    piece
                }
            };
            match piece {
                Some(piece) => self.render_piece(piece),
                None => {
                    self.read_behind();
                    break;
                }
            }
        }
        self.render_answers();
    }

    /// The `ACK` lines of messages whose `OK MSG` is written, while there is room.
    fn render_answers(&mut self) {
        let next = self.next;
        while self.out.len() < OUT_BYTES
            && let Some(answer) = self.answers.first_entry().filter(|answer| *answer.key() < next)
        {
            let (seq, answer) = answer.remove_entry();
            self.in_hand = self.in_hand.saturating_sub(1);
            let group = self.hosted.group.borrow();
            let complete = matches!(answer, Answer::Counted { taken, members } if taken == members);
            let receipt = (!complete).then(|| group.receipt(seq, group.stay(self.conn.id), now()));
            match (receipt, answer) {
                (Some(Ok(receipt)), _) => {
                    let missing = receipt.missing.iter().map(|missing| missing.name.as_str());
                    let taken = receipt.confirmed + receipt.reached;
                    line::ack(&mut self.out, seq, taken, receipt.members, missing);
                }
                (_, Answer::Counted { taken, members }) => {
                    line::ack(&mut self.out, seq, taken, members, []);
                }
                (_, Answer::Late) => {}
            }
        }
    }

    fn read_behind(&mut self) {
        let behind = self.next <= self.hosted.group.borrow().tail();
        if self.reading.is_some()
            || !behind
            || self.hosted.window.borrow().locate(self.next).is_some()
        {
            return;
        }
        self.tell_lagging(true);
        self.reading = Some(self.hosted.read_behind(self.next, READ_BYTES));
    }

    /// The socket takes no more: the window may have gone on without this one, and waits for it no longer.
    fn look_behind(&mut self) {
        let place = self.conn.place();
        let is_held = place.is_none_or(|place| self.hosted.window.borrow().holds(place));
        if !is_held {
            self.conn.set_place(None);
            self.tell_lagging(true);
        }
    }

    fn tell_lagging(&mut self, lagging: bool) {
        if lagging != self.lagging {
            self.lagging = lagging;
            self.hosted.input(Input::Lagging(self.conn.id, lagging));
        }
    }

    fn take_read(&mut self, read: Result<Vec<Record>, ReadError>) {
        match read {
            Ok(records) => self.chunks.extend(records.into_iter().map(|record| record.entries)),
            Err(ReadError::Trimmed { first }) => {
                line::gap(&mut self.out, self.next, first - 1);
                self.next = first;
            }
            Err(error) => self.unreadable(&error),
        }
    }

    fn render_piece(&mut self, mut piece: Bytes) {
        while self.out.len() < OUT_BYTES {
            if piece.is_empty() {
                return;
            }
            match Entry::split(&mut piece) {
                Ok(entry) => self.render_entry(&entry),
                Err(error) => return self.unreadable(&ReadError::Damaged(error.to_string())),
            }
        }
        if !piece.is_empty()
            && self.chunks.is_empty()
            && self.hosted.window.borrow().locate(self.next).is_some()
        {
            return;
        }
        if !piece.is_empty() {
            self.chunks.push_front(piece);
        }
    }

    fn unreadable(&mut self, error: &ReadError) {
        self.hosted.unreadable(error);
        line::note(
            &mut self.out,
            &format!("the group's log cannot be read, ask the operator: {error}"),
        );
        self.last_call = Some(Instant::now() + FAREWELL);
    }

    fn render_entry(&mut self, entry: &Entry) {
        let seq = entry.header.seq;
        if seq < self.next {
            return;
        }
        self.next = seq + 1;
        let own = entry.header.publisher().is_some_and(|key| key.0 == self.joined);
        match entry.header.kind {
            Kind::Message if own => {
                self.untold = self.untold.saturating_sub(1);
                line::ok_msg(&mut self.out, seq);
            }
            Kind::Joined if seq == self.joined => {}
            _ => {
                line::entry(&mut self.out, entry, seq < self.joined);
            }
        }
        self.marks.rendered(self.out.len(), seq);
    }

    /// Writes what the socket takes; whether it took less than there is.
    fn write(&mut self) -> io::Result<bool> {
        while !self.out.is_empty() {
            match self.stream.try_write(&self.out) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.out.advance(n);
                    self.marks.written += n as u64;
                    self.marks.wait = Some(REACHED_WAIT_MIN);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        if self.out.capacity() > 2 * OUT_BYTES {
            self.out = BytesMut::new();
        }
        Ok(false)
    }

    /// Asks the host how much it has taken, and tells the group.
    fn ask_host(&mut self) {
        if self.marks.confirms || self.marks.is_empty() {
            self.marks.wait = None;
            return;
        }
        // Where the host cannot be asked, what was written counts as far as the socket took it: said in the receipt as reached.
        let left = crate::linux::unacknowledged_bytes(self.stream.as_fd()).unwrap_or(0) as u64;
        if let Some(seq) = self.marks.taken(left) {
            self.hosted.input(Input::Reached(self.conn.id, seq));
        }
    }
}

/// What answers `HISTORY`.
fn history_lines(page: &Page) -> BytesMut {
    let (mut out, mut count) = (BytesMut::new(), 0);
    for entry in &page.entries {
        count += u64::from(line::entry(&mut out, entry, true));
    }
    line::history_end(&mut out, count);
    out
}
