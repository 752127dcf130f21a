//! A program: a member or an outside sender, with what it keeps on its disk and what it loses when it is killed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use tertulia_group::entry::write_publish;
use tertulia_group::limits::FAILED_PER_ACK_MAX;
use tertulia_group::{Position, SenderId, Seq};
use tertulia_wire::native::{Ack, ClientFrame, Failed, Join, OpenSender, Secret, Start};

use crate::coverage::{Seen, saw};

/// A message that has not got its final answer.
#[derive(Clone, Debug, Default)]
pub struct Letter {
    pub stored: Option<Seq>,
    /// When it was told to be stored, and when its receipt was last asked for.
    pub asked_ms: u64,
    /// It was written to a connection: it may be stored.
    pub sent: bool,
}

/// How a program behaves towards its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// As it should.
    Well,
    /// Its process is stopped: it reads and writes nothing, its connection stays.
    Stopped,
    /// It goes on sending, and reads nothing.
    NeverReads,
    /// It reads and sends, and acknowledges nothing.
    NeverAcks,
    /// It takes long over every piece that it reads.
    ReadsSlowly,
}

/// What survives the program's death.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub secret: Option<[u8; 32]>,
    /// Everything up to here is finished.
    pub position: Option<Position>,
    pub counter: u64,
    pub letters: BTreeMap<u64, Letter>,
    /// What it will not do, with its code, as far as it knows.
    pub failed: BTreeMap<Seq, String>,
    pub done: BTreeSet<Seq>,
    /// A power cut may have taken all that the node knew of its sender.
    pub may_be_unknown: bool,
    /// Something was sent under the present sender id; something was answered as stored.
    pub any_sent: bool,
    pub any_stored: bool,
}

/// What it has only while it lives and is connected.
#[derive(Debug, Default)]
pub struct Session {
    pub conn: u64,
    pub buffer: BytesMut,
    pub ready: bool,
    /// The last entry that came.
    pub cursor: Seq,
    /// What it is at work on.
    pub open: BTreeSet<Seq>,
    pub unreported: BTreeSet<Seq>,
    pub ack_due: bool,
    pub sent_through: u64,
    /// Counters that were told to be stored on this connection: it waits for their receipts.
    pub waits: BTreeSet<u64>,
    /// Those whose receipts came first because they were asked for: they are to come by themselves all the same.
    pub overtaken: BTreeSet<u64>,
    /// The position that it showed.
    pub shown: Option<Position>,
}

pub struct Program {
    pub name: String,
    pub member: bool,
    pub durable: bool,
    /// Does whatever it is asked, mostly at once: its position is not held up.
    pub flawless: bool,
    pub sender: SenderId,
    pub disk: Disk,
    pub alive: bool,
    /// Rises with every death: what was begun before is not finished after.
    pub life: u64,
    pub session: Option<Session>,
    /// Its name was refused so often.
    pub taken: u32,
    pub wait_until: u64,
    /// Its last stay.
    pub key: Seq,
    pub manner: Manner,
    /// It has had two connections at once: what it sent through one may have come before what it sent through the other.
    pub overlapped: bool,
    /// The node's table of senders is small.
    pub may_expire: bool,
    /// The node gives few receipts at once: one that is asked for may overtake those that wait.
    pub may_be_overtaken: bool,
    /// Wants to be told of every cursor by name.
    pub follows: bool,
    /// How far it has acknowledged, and in which stay.
    pub told: (Seq, Seq),
    /// The group had no room for it the last time.
    pub no_room: bool,
}

impl Program {
    pub fn new(n: usize, member: bool, durable: bool, sender: SenderId) -> Self {
        Self {
            name: if member { format!("member-{n}") } else { format!("sender-{n}") },
            member,
            durable,
            flawless: false,
            sender,
            disk: Disk::default(),
            alive: true,
            life: 0,
            session: None,
            taken: 0,
            wait_until: 0,
            key: 0,
            manner: Manner::Well,
            overlapped: false,
            may_expire: false,
            may_be_overtaken: false,
            follows: false,
            told: (0, 0),
            no_room: false,
        }
    }

    /// Which program has this name.
    pub fn index_of(name: &str) -> Option<usize> {
        name.rsplit_once('-')?.1.parse().ok()
    }

    pub fn kill(&mut self) {
        (self.alive, self.session) = (false, None);
        self.manner = Manner::Well;
        self.life += 1;
    }

    /// Its membership is over: it begins anew, under the same name and sender id.
    pub fn forget_stay(&mut self) {
        self.disk.secret = None;
    }

    /// The first thing on a new connection.
    pub fn hello(&mut self, conn: u64, history: bool) -> Bytes {
        let mut out = BytesMut::new();
        let shown = self.disk.position;
        self.session = Some(Session { conn, shown, ..Session::default() });
        let (group, name) = ("sim".to_owned(), self.name.clone());
        if self.member {
            let join = Join {
                id: 1,
                durable: self.durable,
                follow: self.follows,
                group,
                name,
                sender: self.sender,
                start: if history { Start::First } else { Start::Now },
                secret: self.disk.secret.map(Secret),
                position: shown,
            };
            ClientFrame::Join(Box::new(join)).encode(&mut out);
        } else {
            let (known, sender, follow) = (self.disk.any_sent, self.sender, self.follows);
            let open = OpenSender { id: 1, known, follow, group, name, sender };
            ClientFrame::OpenSender(open).encode(&mut out);
        }
        out.freeze()
    }

    pub fn write_letter(&mut self) {
        self.disk.counter += 1;
        self.disk.letters.insert(self.disk.counter, Letter::default());
    }

    /// Letters that are not known to be stored.
    pub fn unstored(&self) -> impl Iterator<Item = u64> {
        let letters = self.disk.letters.iter();
        letters.filter(|(_, letter)| letter.stored.is_none()).map(|(counter, _)| *counter)
    }

    /// The outcome of whatever may be stored is unknown from now on; the rest is sent under another id.
    pub fn expire(&mut self, fresh: SenderId) {
        self.give_up(|_, letter| letter.sent);
        // A member has joined with its id already: its counters go on rising, so that none is taken for an earlier one.
        if !self.member {
            self.sender = fresh;
        }
        (self.disk.any_sent, self.disk.any_stored, self.disk.may_be_unknown) =
            (false, false, false);
    }

    /// What is said of these is: unknown.
    pub fn give_up(&mut self, which: impl Fn(u64, &Letter) -> bool) {
        self.disk.letters.retain(|counter, letter| {
            let gone = which(*counter, letter);
            if gone {
                saw(Seen::OutcomeUnknown);
            }
            !gone
        });
    }

    /// What it has to say now: letters that were not sent on this connection, and its acknowledgement.
    pub fn speak(&mut self, now: u64) -> Bytes {
        let mut out = BytesMut::new();
        let stopped = self.manner == Manner::Stopped;
        let Some(session) = self.session.as_mut().filter(|session| session.ready && !stopped)
        else {
            return Bytes::new();
        };
        for (counter, letter) in self.disk.letters.range_mut(session.sent_through + 1..) {
            // Asked again, the counter says it all.
            let body =
                if letter.stored.is_some() { String::new() } else { body(&self.name, *counter) };
            write_publish(&mut out, &self.name, *counter, true, body.as_bytes());
            letter.sent = true;
            self.disk.any_sent = true;
            session.sent_through = *counter;
        }
        // Stored long ago and not answered: asked for by its number.
        for letter in self.disk.letters.values_mut() {
            if let Some(seq) = letter.stored.filter(|_| now >= letter.asked_ms + 10_000) {
                letter.asked_ms = now;
                let group = "sim".to_owned();
                let id = u32::try_from(seq).unwrap_or(u32::MAX);
                let wait_ms = u32::from(waits_for_receipt(seq)) * 60_000;
                ClientFrame::Receipt { id, group, seq, wait_ms }.encode(&mut out);
            }
        }
        if self.manner != Manner::NeverAcks && std::mem::take(&mut session.ack_due) {
            let ack = acknowledge(session, &self.disk);
            if !ack.open.is_empty() {
                saw(Seen::OpenAck);
            }
            if !ack.failed.is_empty() {
                saw(Seen::FailedAck);
            }
            self.told = (self.key, ack.cursor);
            ClientFrame::Ack(ack).encode(&mut out);
        }
        out.freeze()
    }

    /// Keeps how far everything is confirmed. The node takes a position for a confirmation, and may have lost what it was
    /// told of a failure: a position never passes one that this stay was asked for.
    pub fn save(&mut self, mut place: Position) {
        let Some(session) = &self.session else { return };
        let working = session.open.first().copied();
        let failed = self.disk.failed.range(self.key + 1..).next().map(|(seq, _)| *seq);
        for stop in [working, failed].into_iter().flatten() {
            place.seq = place.seq.min(stop - 1);
        }
        if self.disk.position.is_none_or(|before| before.seq < place.seq) {
            self.disk.position = Some(place);
        }
    }
}

/// What it may say at once: a cursor does not pass a failure that is not told with it.
fn acknowledge(session: &mut Session, disk: &Disk) -> Ack {
    let mut cursor = session.cursor;
    if let Some(later) = session.unreported.iter().nth(FAILED_PER_ACK_MAX) {
        cursor = cursor.min(later - 1);
        session.ack_due = true;
    }
    let later = session.unreported.split_off(&(cursor + 1));
    let told = std::mem::replace(&mut session.unreported, later);
    let told = told.into_iter().filter_map(|seq| {
        let code = disk.failed.get(&seq)?.clone();
        Some(Failed { seq, code })
    });
    let open = session.open.range(..=cursor).copied().collect();
    Ack { cursor, open, failed: told.collect() }
}

/// Some receipts are waited for, of the others it is asked how they stand.
pub const fn waits_for_receipt(seq: Seq) -> bool {
    seq % 2 == 1
}

pub fn body(name: &str, counter: u64) -> String {
    format!("{name} says {counter}")
}
