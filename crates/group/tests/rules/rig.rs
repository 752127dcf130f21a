//! A group with a journal in a vector, driven by hand: what every rule's test stands on.

use bytes::{Bytes, BytesMut};
use tertulia_group::entry::{Entry, entries, write_publish};
use tertulia_group::{
    Ack, Batch, ConnId, Door, Epoch, From, Group, Incarnation, Input, Join, Limits, LogId, Name,
    Now, OpenSender, Output, Position, Receipt, Run, SecretDigest, SenderId, Seq, Welcome,
};

pub const LOG: LogId = LogId([7; 16]);

/// What the journal keeps of one batch.
#[derive(Clone, Debug)]
pub struct Record {
    pub first: Seq,
    pub count: u32,
    pub notes: Bytes,
    pub entries: Bytes,
}

impl Record {
    fn of(batch: &Batch) -> Self {
        let mut bytes = BytesMut::new();
        batch.entries.iter().for_each(|piece| bytes.extend_from_slice(piece));
        Self {
            first: batch.first,
            count: batch.count,
            notes: batch.notes.clone(),
            entries: bytes.freeze(),
        }
    }
}

pub struct Rig {
    pub group: Group,
    pub now: Now,
    pub limits: Limits,
    pub records: Vec<Record>,
    pub flying: Option<Batch>,
    said: Vec<Output>,
}

impl Rig {
    /// A group that has taken over and stored its first epoch record.
    pub fn new(limits: Limits) -> Self {
        let now = Now { mono_ms: 1_000_000, wall_us: 1_700_000_000_000_000 };
        let group = Group::new(LOG, limits.clone());
        let mut rig =
            Self { group, now, limits, records: Vec::new(), flying: None, said: Vec::new() };
        rig.group.take_over(now, 1, "node");
        rig.flush();
        rig
    }

    /// A group with these members of the native door, connection 1 being the first's.
    pub fn with(names: &[&str]) -> Self {
        let mut rig = Self::new(Limits::default());
        for (i, name) in names.iter().enumerate() {
            rig.join(i as u64 + 1, name);
        }
        rig
    }

    pub fn give(&mut self, input: Input) {
        self.group.handle(self.now, input);
        self.said.extend(self.group.outputs());
    }

    pub fn settle(&mut self) {
        self.group.settle(self.now);
        self.said.extend(self.group.outputs());
    }

    /// Hands a batch to the journal, if there is one and none is on its way.
    pub fn begin(&mut self) -> bool {
        self.settle();
        if self.flying.is_some() {
            return false;
        }
        self.flying = self.group.take_batch(self.now);
        self.flying.is_some()
    }

    pub fn stored(&mut self) {
        let batch = self.flying.take().expect("a batch is on its way");
        self.records.push(Record::of(&batch));
        self.give(Input::Stored);
        self.settle();
    }

    pub fn not_stored(&mut self) {
        self.flying.take().expect("a batch is on its way");
        self.give(Input::NotStored);
        self.settle();
    }

    /// Stores all there is.
    pub fn flush(&mut self) {
        self.settle();
        while self.flying.is_some() || self.begin() {
            self.stored();
        }
    }

    /// Lets time pass, without telling the group.
    pub fn later(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.wall_us += ms * 1000;
    }

    pub fn tick_after(&mut self, ms: u64) {
        self.later(ms);
        self.give(Input::Tick);
        self.settle();
    }

    /// What was said since the last time.
    pub fn said(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.said)
    }

    /// Gives `input`, stores everything, and answers what was said meanwhile.
    pub fn ask(&mut self, input: Input) -> Vec<Output> {
        self.said();
        self.give(input);
        self.flush();
        self.said()
    }

    pub fn join(&mut self, conn: u64, name: &str) -> Welcome {
        self.join_as(conn, join(name, conn))
    }

    pub fn join_as(&mut self, conn: u64, join: Join) -> Welcome {
        welcome(&self.ask(Input::Join(ConnId(conn), Box::new(join)))).expect("a welcome")
    }

    pub fn open(&mut self, conn: u64, id: u8) -> Vec<Output> {
        self.ask(Input::OpenSender(ConnId(conn), open(id, false)))
    }

    /// Publishes one message without storing it.
    pub fn send(&mut self, conn: u64, name: &str, counter: u64) {
        self.give(Input::Publish(ConnId(conn), Run::message(name, counter, true, b"hello")));
    }

    /// Publishes one message, stores it, answers its number.
    pub fn publish(&mut self, conn: u64, name: &str, counter: u64) -> Seq {
        let run = Run::message(name, counter, true, b"hello");
        let said = self.ask(Input::Publish(ConnId(conn), run));
        let number = said.iter().find_map(|output| match output {
            Output::Stored(_, run) | Output::Again(_, run) if run.counter == counter => {
                Some(run.seq)
            }
            _ => None,
        });
        // Receipts that came with it are still to be looked at.
        self.said = said;
        number.expect("the message is stored")
    }

    pub fn ack(&mut self, conn: u64, cursor: Seq) {
        self.ack_with(conn, cursor, &[], &[]);
    }

    pub fn ack_with(&mut self, conn: u64, cursor: Seq, open: &[Seq], failed: &[(Seq, &str)]) {
        let failed = failed.iter().map(|(seq, code)| (*seq, (*code).to_owned())).collect();
        self.give(Input::Ack(ConnId(conn), Ack { cursor, open: open.to_vec(), failed }));
        self.settle();
    }

    pub fn receipt(&self, seq: Seq) -> Receipt {
        self.group.receipt(seq, self.publisher(seq), self.now).expect("the receipt is kept")
    }

    pub fn publisher(&self, seq: Seq) -> Option<Incarnation> {
        self.entry(seq).header.publisher()
    }

    pub fn entry(&self, seq: Seq) -> Entry {
        self.log().into_iter().find(|entry| entry.header.seq == seq).expect("it is stored")
    }

    pub fn log(&self) -> Vec<Entry> {
        self.records
            .iter()
            .flat_map(|record| entries(record.entries.clone()))
            .map(|entry| entry.expect("what is stored can be read"))
            .collect()
    }

    pub fn place(&self, seq: Seq) -> Position {
        Position { log: LOG, epoch: self.group.epoch(), seq }
    }

    /// What another coordinator reads back: from `snapshot` (and how many records it covers) or from the beginning.
    pub fn recovered(&self, snapshot: Option<(&Bytes, usize)>) -> Group {
        let (mut group, from) = match snapshot {
            Some((bytes, from)) => {
                let first = self.group.first();
                let group = Group::restore(LOG, self.limits.clone(), first, bytes);
                (group.expect("a snapshot can be read back"), from)
            }
            None => (Group::new(LOG, self.limits.clone()), 0),
        };
        for Record { first, count, notes, entries } in &self.records[from..] {
            group.replay(*first, *count, notes, entries).expect("a record can be read back");
        }
        group
    }

    /// The coordinator dies; another one reads the log back and takes over.
    pub fn crash(&mut self) {
        self.crash_to(None);
    }

    pub fn crash_to(&mut self, snapshot: Option<(&Bytes, usize)>) {
        let before: Epoch = self.group.epoch();
        self.group = self.recovered(snapshot);
        let epoch = before.max(self.group.epoch()) + 1;
        (self.flying, self.said) = (None, Vec::new());
        self.group.take_over(self.now, epoch, "other");
    }
}

/// A new member of the native door; its secret and its sender id are made of `n`.
pub fn join(text: &str, n: u64) -> Join {
    Join {
        name: name(text),
        door: Door::Native,
        durable: false,
        sender: id(n as u8),
        shown: None,
        fresh: secret(n),
        from: From::Now,
        follow: false,
    }
}

/// Comes back with the secret of `n`.
pub fn back(text: &str, n: u64, from: From) -> Join {
    Join { shown: Some(secret(n)), from, ..join(text, n) }
}

pub fn open(n: u8, known: bool) -> OpenSender {
    OpenSender { name: name("out"), id: id(n), known, follow: false }
}

pub fn name(text: &str) -> Name {
    Name::new(text).expect("a test's name is one")
}

pub fn id(n: u8) -> SenderId {
    SenderId([n ^ 0xA5; 16])
}

pub fn secret(n: u64) -> SecretDigest {
    SecretDigest([n as u8 ^ 0x5A; 32])
}

pub fn welcome(said: &[Output]) -> Option<Welcome> {
    said.iter().find_map(|output| match output {
        Output::Welcome(_, welcome) => Some((**welcome).clone()),
        _ => None,
    })
}

/// One run of messages with these counters.
pub fn run(name: &str, counters: &[u64], receipt: bool, body: &[u8]) -> Run {
    let mut bytes = BytesMut::new();
    counters.iter().for_each(|counter| write_publish(&mut bytes, name, *counter, receipt, body));
    Run::split(&mut bytes, 1 << 20).expect("frames of a test").expect("at least one")
}
