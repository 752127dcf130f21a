//! The coordinator: a real group, with a door that decodes, an outbox that delivers and a driver that appends.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use tertulia_group::entry::{FLAG_AGAIN, Run};
use tertulia_group::planted::{Bug, planted};
use tertulia_group::{
    Ack, Batch, Confirmation, ConnId, Door, Entry, From, Group, Input, Kind, LeaveReason, Limits,
    Name, Now, OpenSender, Output, SecretDigest, Seq, Ticket,
};
use tertulia_wire::native::{self, ClientFrame, Code, How, NodeFrame, Secret};
use tertulia_wire::{FrameError, Level};

use crate::coverage::{Seen, saw};
use crate::journal::Journal;

/// Entries that one connection gets in one turn.
const ENTRIES_PER_TURN: u64 = 16;

/// What a node knows of a connection.
#[derive(Debug, Default)]
struct Conn {
    buffer: BytesMut,
    out: BytesMut,
    secret: [u8; 32],
    /// The last number that it was sent; `None` until it is a member.
    sent: Option<Seq>,
    /// Open ones that it is sent again first.
    again: VecDeque<Seq>,
    closing: bool,
    /// It does not take what it is written: the group was told.
    lagging: bool,
    /// It was given as many receipts as may wait for it.
    paused: bool,
}

pub struct Node {
    pub group: Group,
    conns: BTreeMap<u64, Conn>,
    /// Who asked for a receipt: connection and request.
    tickets: BTreeMap<u64, (u64, u32)>,
    next_ticket: u64,
    message_bytes_max: usize,
    /// Names that were looked at already: that takes long, and is tried elsewhere.
    names: BTreeMap<String, Name>,
}

/// What a turn wants to be done.
#[derive(Debug, Default)]
pub struct Turn {
    pub batch: Option<Batch>,
    pub said: Vec<Output>,
    pub writes: Vec<(u64, Bytes)>,
    pub closes: Vec<u64>,
    /// There is more to deliver.
    pub more: bool,
}

impl Node {
    pub fn new(group: Group, limits: &Limits) -> Self {
        let message_bytes_max = limits.message_bytes_max;
        let (conns, tickets, names) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { group, conns, tickets, next_ticket: 0, message_bytes_max, names }
    }

    fn name(&mut self, name: &str) -> Option<Name> {
        if let Some(name) = self.names.get(name) {
            return Some(name.clone());
        }
        let new = Name::new(name).ok()?;
        self.names.insert(name.to_owned(), new.clone());
        Some(new)
    }

    pub fn accept(&mut self, conn: u64, fresh: [u8; 32]) {
        self.conns.insert(conn, Conn { secret: fresh, ..Conn::default() });
    }

    pub fn ended(&mut self, now: Now, conn: u64) {
        if self.conns.remove(&conn).is_some() {
            let of_it = self.tickets.iter().filter(|(_, (of, _))| *of == conn);
            for ticket in of_it.map(|(ticket, _)| *ticket).collect::<Vec<_>>() {
                self.tickets.remove(&ticket);
                self.group.handle(now, Input::Forget(Ticket(ticket)));
            }
            self.group.handle(now, Input::Closed(ConnId(conn)));
        }
    }

    /// Every stay has one connection at most.
    pub fn connections_of_a_stay(&self) -> usize {
        let mut stays: Vec<_> =
            self.conns.keys().filter_map(|conn| self.group.stay(ConnId(*conn))).collect();
        stays.sort_unstable();
        stays.chunk_by(|one, other| one == other).map(<[_]>::len).max().unwrap_or(0)
    }

    pub fn takes(&mut self, now: Now, conn: u64, bytes: &[u8], journal: &Journal) {
        if let Some(known) = self.conns.get_mut(&conn).filter(|known| !known.closing) {
            known.buffer.extend_from_slice(bytes);
            if let Err(error) = self.read(now, conn, journal) {
                self.close(conn, Code::BadFrame, &error.to_string());
            }
        }
    }

    fn read(&mut self, now: Now, conn: u64, journal: &Journal) -> Result<(), FrameError> {
        while let Some(known) = self.conns.get_mut(&conn).filter(|known| !known.closing) {
            if let Some(run) = Run::split(&mut known.buffer, self.message_bytes_max)? {
                self.group.handle(now, Input::Publish(ConnId(conn), run));
            } else if let Some(frame) = native::split_from_client(&mut known.buffer)? {
                self.frame(now, conn, ClientFrame::decode(&frame)?, journal);
            } else {
                return Ok(());
            }
        }
        Ok(())
    }

    fn frame(&mut self, now: Now, conn: u64, frame: ClientFrame, journal: &Journal) {
        let id = ConnId(conn);
        match frame {
            ClientFrame::Join(join) => self.join(now, conn, &join),
            ClientFrame::OpenSender(open) => {
                let Some(name) = self.name(&open.name) else { return };
                let open =
                    OpenSender { name, id: open.sender, known: open.known, follow: open.follow };
                self.group.handle(now, Input::OpenSender(id, open));
            }
            ClientFrame::Ack(ack) => {
                let sent = self.conns.get(&conn).and_then(|known| known.sent);
                if sent.is_none_or(|sent| ack.cursor > sent) {
                    return self.close(conn, Code::BadAck, "beyond what was sent");
                }
                let failed = ack.failed.into_iter().map(|failed| (failed.seq, failed.code));
                let ack = Ack { cursor: ack.cursor, open: ack.open, failed: failed.collect() };
                self.group.handle(now, Input::Ack(id, ack));
            }
            ClientFrame::Leave => self.group.handle(now, Input::Leave(id)),
            ClientFrame::Receipt { id: request, seq, wait_ms, .. } => {
                self.next_ticket += 1;
                let ticket = Ticket(self.next_ticket);
                self.tickets.insert(self.next_ticket, (conn, request));
                let publisher = journal.entry(seq).and_then(|entry| entry.header.publisher());
                if wait_ms == 0 {
                    let receipt = self.group.receipt(seq, publisher, now).ok();
                    return self.awaited(ticket, receipt, journal);
                }
                self.group.handle(now, Input::Await(ticket, seq, publisher));
            }
            _ => self.close(conn, Code::BadFrame, "not in this simulation"),
        }
    }

    fn join(&mut self, now: Now, conn: u64, join: &native::Join) {
        let Some(name) = self.name(&join.name) else { return };
        let Some(known) = self.conns.get_mut(&conn) else { return };
        let fresh = digest(&known.secret);
        if let Some(shown) = join.secret
            && self.group.member(&name).is_some_and(|member| member.secret == digest(&shown.0))
        {
            known.secret = shown.0;
        }
        let from = match (join.position, join.start) {
            (Some(position), _) => From::After(position),
            (None, native::Start::First) => From::First,
            (None, _) => From::Now,
        };
        let join = tertulia_group::Join {
            name,
            door: Door::Native,
            durable: join.durable,
            sender: join.sender,
            shown: join.secret.map(|shown| digest(&shown.0)),
            fresh,
            from,
            follow: join.follow,
        };
        self.group.handle(now, Input::Join(ConnId(conn), Box::new(join)));
    }

    fn close(&mut self, conn: u64, code: Code, message: &str) {
        if let Some(known) = self.conns.get_mut(&conn) {
            NodeFrame::Close { code, message: message.to_owned() }.encode(&mut known.out);
            known.closing = true;
        }
    }

    /// Once after everything that came: settles, takes a batch, says what is to be said, delivers.
    pub fn turn(&mut self, now: Now, journal: &Journal, has_room: &dyn Fn(u64) -> bool) -> Turn {
        self.group.settle(now);
        let mut turn = Turn { batch: self.group.take_batch(now), ..Turn::default() };
        turn.said = self.group.outputs().collect();
        for output in &turn.said {
            self.say(output, journal);
        }
        let most = match planted(Bug::DeliverInStep) {
            true => self.conns.values().filter_map(|known| known.sent).min(),
            false => None,
        };
        let most = most.map_or(Seq::MAX, |slowest| slowest + ENTRIES_PER_TURN);
        // What a turn could not give comes with the next one.
        turn.more |= self.group.deadline_ms() == Some(0);
        let conns: Vec<u64> = self.conns.keys().copied().collect();
        for conn in conns {
            let has_room = has_room(conn);
            turn.more |= has_room && self.deliver(conn, journal, most);
            let Some(known) = self.conns.get_mut(&conn) else { continue };
            if known.sent.is_some() && known.lagging == has_room {
                known.lagging = !has_room;
                self.group.handle(now, Input::Lagging(ConnId(conn), !has_room));
            }
            if has_room && std::mem::take(&mut known.paused) {
                self.group.handle(now, Input::Taken(ConnId(conn)));
                turn.more = true;
            }
            if !known.out.is_empty() {
                turn.writes.push((conn, known.out.split().freeze()));
            }
            if known.closing {
                turn.closes.push(conn);
            }
        }
        turn
    }

    /// Writes some entries, none above `most`; answers whether there are more.
    fn deliver(&mut self, conn: u64, journal: &Journal, most: Seq) -> bool {
        let Some(known) = self.conns.get_mut(&conn).filter(|known| !known.closing) else {
            return false;
        };
        let Some(sent) = known.sent else { return false };
        for seq in std::mem::take(&mut known.again) {
            let start = known.out.len();
            match journal.entry(seq).filter(|_| seq >= journal.first) {
                Some(entry) => {
                    known.out.extend_from_slice(entry.bytes());
                    known.out[start + 5] |= FLAG_AGAIN;
                }
                None => NodeFrame::Gap { first: seq, last: seq }.encode(&mut known.out),
            }
        }
        let mut next = sent + 1;
        if next < journal.first {
            let gap = NodeFrame::Gap { first: next, last: journal.first - 1 };
            if !planted(Bug::TrimSilently) {
                gap.encode(&mut known.out);
            }
            next = journal.first;
        }
        let tail = self.group.tail().min(most);
        let last = tail.min(next + ENTRIES_PER_TURN - 1);
        for seq in next..=last {
            let drops = |entry: &Entry| planted(Bug::DropView) && entry.header.kind == Kind::Joined;
            if let Some(entry) = journal.entry(seq).filter(|entry| !drops(entry)) {
                known.out.extend_from_slice(entry.bytes());
            }
        }
        known.sent = Some(last.max(next - 1));
        last < tail
    }

    fn say(&mut self, output: &Output, journal: &Journal) {
        match output {
            Output::Welcome(conn, welcome) => self.welcome(*conn, welcome),
            Output::SenderReady(conn, ready) => {
                let ready = native::SenderReady {
                    id: 1,
                    group: "sim".to_owned(),
                    name: ready.name.to_string(),
                    log: self.group.identity().log,
                    epoch: self.group.epoch(),
                    tail: ready.tail,
                    members: ready.members,
                    last_counter: ready.last_counter,
                    window_bytes: 1 << 20,
                    level: Level::Fsync,
                };
                self.write(*conn, &NodeFrame::SenderReady(Box::new(ready)));
            }
            Output::Refused(conn, refusal) => {
                let (code, message) = (Code::of_refusal(*refusal), refusal.to_string());
                self.write(*conn, &NodeFrame::Error { id: 1, code, message });
            }
            Output::MessageRefused(conn, counter, refusal) => {
                let (code, message) = (Code::of_refusal(*refusal), refusal.to_string());
                self.write(*conn, &NodeFrame::Refused { counter: *counter, code, message });
            }
            Output::Stored(conn, run) | Output::Again(conn, run) => {
                self.write(*conn, &NodeFrame::Stored(vec![*run]));
            }
            Output::Complete(conn, run) => self.write(*conn, &NodeFrame::Complete(vec![*run])),
            Output::Receipt(conn, counter, receipt) => {
                let receipt = receipt.clone();
                self.write(*conn, &NodeFrame::Receipt { counter: *counter, receipt });
            }
            Output::Gone(conn, LeaveReason::Removed) => {
                self.close(conn.0, Code::Removed, "removed by name");
            }
            Output::Gone(conn, reason) => self.close(conn.0, Code::NotJoined, reason.as_str()),
            Output::Close(conn, refusal) => {
                self.close(conn.0, Code::of_refusal(*refusal), "closed");
            }
            Output::Awaited(ticket, receipt) => self.awaited(*ticket, receipt.clone(), journal),
            Output::Confirmed(conn, all) => {
                let one = |one: &Confirmation| native::Confirmed {
                    cursor: one.cursor,
                    how: if one.reached { How::Reached } else { How::Confirmed },
                    name: one.name.to_string(),
                };
                self.write(*conn, &NodeFrame::Confirmed(all.iter().map(one).collect()));
            }
            Output::Paused(conn) => {
                saw(Seen::Paused);
                if let Some(known) = self.conns.get_mut(&conn.0) {
                    known.paused = true;
                }
            }
            Output::Removed(..)
            | Output::Joined(..)
            | Output::Left(..)
            | Output::WatchedComplete(..)
            | Output::Watched(..) => {}
        }
    }

    fn welcome(&mut self, conn: ConnId, welcome: &tertulia_group::Welcome) {
        let identity = self.group.identity();
        let Some(known) = self.conns.get_mut(&conn.0) else { return };
        known.sent = Some(welcome.next - 1);
        known.again = welcome.open.iter().copied().filter(|seq| *seq < welcome.next).collect();
        let frame = native::Welcome {
            id: 1,
            resumed: welcome.resumed,
            cut_back: welcome.moved.is_some(),
            group: "sim".to_owned(),
            name: welcome.name.to_string(),
            log: identity.log,
            epoch: identity.epoch,
            incarnation: welcome.key,
            next: welcome.next,
            tail: welcome.tail,
            members: welcome.members,
            secret: Secret(known.secret),
            last_counter: welcome.last_counter,
            window_bytes: 1 << 20,
            level: Level::Fsync,
            acked: welcome.acked,
            open: welcome.open.clone(),
        };
        NodeFrame::Welcome(Box::new(frame)).encode(&mut known.out);
    }

    fn awaited(
        &mut self,
        ticket: Ticket,
        receipt: Option<tertulia_group::Receipt>,
        journal: &Journal,
    ) {
        let Some((conn, id)) = self.tickets.remove(&ticket.0) else { return };
        let frame = match receipt {
            Some(receipt) => NodeFrame::ReceiptReply { id, level: Level::Fsync, receipt },
            None => {
                let message = format!("kept from {} on", journal.first);
                NodeFrame::Error { id, code: Code::Expired, message }
            }
        };
        self.write(ConnId(conn), &frame);
    }

    fn write(&mut self, conn: ConnId, frame: &NodeFrame) {
        if let Some(known) = self.conns.get_mut(&conn.0).filter(|known| !known.closing) {
            frame.encode(&mut known.out);
        }
    }
}

fn digest(secret: &[u8; 32]) -> SecretDigest {
    SecretDigest(secret.map(|byte| byte ^ 0x5C))
}
