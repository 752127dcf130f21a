//! A program: a member or an outside sender, with what it keeps on its disk and what it loses when it is killed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use tertulia_group::entry::write_publish;
use tertulia_group::limits::FAILED_PER_ACK_MAX;
use tertulia_group::{Position, SenderId, Seq};
use tertulia_wire::native::{Ack, ClientFrame, Failed, Join, OpenSender, Secret, Start};

/// A message that has not got its final answer.
#[derive(Clone, Debug, Default)]
pub struct Letter {
    pub stored: Option<Seq>,
    /// When it was told to be stored, and when its receipt was last asked for.
    pub asked_ms: u64,
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
}

impl Program {
    pub fn new(n: usize, member: bool, durable: bool, sender: SenderId) -> Self {
        let name = if member { format!("member-{n}") } else { format!("sender-{n}") };
        let disk = Disk::default();
        let (alive, life, session) = (true, 0, None);
        let (taken, wait_until, key) = (0, 0, 0);
        let flawless = false;
        Self {
            name,
            member,
            durable,
            flawless,
            sender,
            disk,
            alive,
            life,
            session,
            taken,
            wait_until,
            key,
        }
    }

    pub fn kill(&mut self) {
        (self.alive, self.session) = (false, None);
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
                follow: false,
                group,
                name,
                sender: self.sender,
                start: if history { Start::First } else { Start::Now },
                secret: self.disk.secret.map(Secret),
                position: shown,
            };
            ClientFrame::Join(Box::new(join)).encode(&mut out);
        } else {
            let known = self.disk.counter > 0 && self.disk.letters.keys().next() != Some(&1);
            let known = known && !self.disk.may_be_unknown;
            let sender = self.sender;
            let open = OpenSender { id: 1, known, follow: false, group, name, sender };
            ClientFrame::OpenSender(open).encode(&mut out);
        }
        out.freeze()
    }

    pub fn write_letter(&mut self) {
        self.disk.counter += 1;
        self.disk.letters.insert(self.disk.counter, Letter::default());
    }

    /// What it has to say now: letters that were not sent on this connection, and its acknowledgement.
    pub fn speak(&mut self, now: u64) -> Bytes {
        let mut out = BytesMut::new();
        let Some(session) = self.session.as_mut().filter(|session| session.ready) else {
            return Bytes::new();
        };
        for counter in self.disk.letters.range(session.sent_through + 1..).map(|(c, _)| *c) {
            write_publish(
                &mut out,
                &self.name,
                counter,
                true,
                body(&self.name, counter).as_bytes(),
            );
            session.sent_through = counter;
        }
        // Stored long ago and not answered: asked for by its number.
        for letter in self.disk.letters.values_mut() {
            if let Some(seq) = letter.stored.filter(|_| now >= letter.asked_ms + 10_000) {
                letter.asked_ms = now;
                let group = "sim".to_owned();
                let id = u32::try_from(seq).unwrap_or(u32::MAX);
                ClientFrame::Receipt { id, group, seq, wait_ms: 0 }.encode(&mut out);
            }
        }
        if std::mem::take(&mut session.ack_due) {
            ClientFrame::Ack(acknowledge(session, &self.disk)).encode(&mut out);
        }
        out.freeze()
    }

    /// Keeps how far everything is confirmed. The node takes a position for a confirmation, and may have lost what it was
    /// told of a failure: a position never passes one that this stay was asked for.
    pub fn save(&mut self, mut place: Position) {
        let Some(session) = &self.session else { return };
        let working = session.open.first().copied();
        let failed = self.disk.failed.keys().find(|seq| **seq > self.key).copied();
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

pub fn body(name: &str, counter: u64) -> String {
    format!("{name} says {counter}")
}
