//! Any sequence of inputs: the group says what the naive model says, no earlier and no later, also after crashes.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::Index;
use tertulia_group::entry::{FLAG_OUTSIDE, Kind, entries};
use tertulia_group::{
    ConnId, Door, From, Group, Incarnation, Input, Join, Limits, OpenSender, Output, Position, Seq,
    Ticket,
};

use crate::answer::{Answer, Plain, answers, in_order};
use crate::model::{Model, Proposal};
use crate::model_out::{Begin, Wish};
use crate::rig::{LOG, Rig, id, name, run, secret};

const NAMES: [&str; 3] = ["ana", "bo", "cy"];

/// Connections are chosen by slot; a closed one gets a new number.
#[derive(Clone, Debug)]
enum Op {
    Join { slot: usize, who: usize, door: Door, durable: bool, show: bool, begin: u8, at: Index },
    Open { slot: usize, id: u8, known: bool },
    Publish { slot: usize, counters: Vec<u8>, receipt: bool },
    Ack { slot: usize, at: Index, open: u8, failed: u8, beyond: bool },
    Reached { slot: usize, at: Index },
    Lagging { slot: usize, lagging: bool },
    Leave { slot: usize },
    Close { slot: usize },
    Remove { who: usize },
    Await { at: Index },
    Take,
    Stored,
    NotStored,
    Later { ms: u64 },
    Crash { clean: bool },
    Snapshot,
}

fn op() -> impl Strategy<Value = Op> {
    let slot = 0usize..5;
    let door = prop_oneof![3 => Just(Door::Native), 1 => Just(Door::Line), 1 => Just(Door::Web)];
    let counters = prop_oneof![
        6 => prop::collection::vec(Just(1u8), 1..4),
        2 => prop::collection::vec(0u8..3, 1..4),
    ];
    prop_oneof![
        6 => (slot.clone(), 0usize..3, door, any::<bool>(), prop::bool::weighted(0.7), 0u8..6, any::<Index>())
            .prop_map(|(slot, who, door, durable, show, begin, at)| Op::Join {
                slot, who, door, durable, show, begin, at
            }),
        2 => (slot.clone(), 0u8..4, any::<bool>()).prop_map(|(slot, id, known)| Op::Open { slot, id, known }),
        10 => (slot.clone(), counters, prop::bool::weighted(0.8))
            .prop_map(|(slot, counters, receipt)| Op::Publish { slot, counters, receipt }),
        10 => (slot.clone(), any::<Index>(), any::<u8>(), any::<u8>(), prop::bool::weighted(0.02))
            .prop_map(|(slot, at, open, failed, beyond)| Op::Ack { slot, at, open, failed, beyond }),
        2 => (slot.clone(), any::<Index>()).prop_map(|(slot, at)| Op::Reached { slot, at }),
        1 => (slot.clone(), any::<bool>()).prop_map(|(slot, lagging)| Op::Lagging { slot, lagging }),
        1 => slot.clone().prop_map(|slot| Op::Leave { slot }),
        2 => slot.prop_map(|slot| Op::Close { slot }),
        1 => (0usize..3).prop_map(|who| Op::Remove { who }),
        1 => any::<Index>().prop_map(|at| Op::Await { at }),
        8 => Just(Op::Take),
        10 => Just(Op::Stored),
        1 => Just(Op::NotStored),
        2 => prop_oneof![Just(10u64), Just(1000), Just(31_000)].prop_map(|ms| Op::Later { ms }),
        1 => any::<bool>().prop_map(|clean| Op::Crash { clean }),
        1 => Just(Op::Snapshot),
    ]
}

/// The group and the model side by side.
struct Pair {
    rig: Rig,
    model: Model,
    conns: [u64; 5],
    next_conn: u64,
    /// The last counter that each sender id used.
    counters: [u64; 4],
    /// Messages that somebody asked for twice through one connection may be answered twice.
    again: BTreeSet<(u64, u64)>,
    snapshot: Option<(bytes::Bytes, usize)>,
    /// Somebody came back from a snapshot: what it held is not in the records.
    needs_snapshot: bool,
    tickets: u64,
    /// Every cursor that moved until then is stored.
    covered_ms: u64,
    taken_ms: u64,
}

impl Pair {
    fn new() -> Self {
        let rig = Rig::new(Limits::default());
        let mut model = Model { now_ms: rig.now.mono_ms, ..Model::default() };
        model.take_over(1);
        model.take();
        model.stored();
        Self {
            rig,
            model,
            conns: [1, 2, 3, 4, 5],
            next_conn: 6,
            counters: [0; 4],
            again: BTreeSet::new(),
            snapshot: None,
            needs_snapshot: false,
            tickets: 0,
            covered_ms: 0,
            taken_ms: 0,
        }
    }

    fn do_op(&mut self, op: &Op) {
        match op {
            Op::Join { .. } => self.join(op),
            Op::Open { slot, id: n, known } => {
                let conn = self.conns[*slot];
                let open =
                    OpenSender { name: name("out"), id: id(*n), known: *known, follow: false };
                self.model.open(conn, *n, *known);
                self.rig.give(Input::OpenSender(ConnId(conn), open));
            }
            Op::Publish { slot, counters, receipt } => self.publish(*slot, counters, *receipt),
            Op::Ack { slot, at, open, failed, beyond } => {
                self.ack(*slot, at, *open, *failed, *beyond);
            }
            Op::Reached { slot, at } => {
                let (conn, seq) = (self.conns[*slot], at.index(self.model.log.len() + 1) as Seq);
                self.model.reached(conn, seq);
                self.rig.give(Input::Reached(ConnId(conn), seq));
            }
            Op::Lagging { slot, lagging } => {
                self.model.lagging(self.conns[*slot], *lagging);
                self.rig.give(Input::Lagging(ConnId(self.conns[*slot]), *lagging));
            }
            Op::Leave { slot } => {
                self.model.leave(self.conns[*slot]);
                self.rig.give(Input::Leave(ConnId(self.conns[*slot])));
            }
            Op::Close { slot } => {
                self.model.closed(self.conns[*slot]);
                self.rig.give(Input::Closed(ConnId(self.conns[*slot])));
                self.conns[*slot] = self.next_conn;
                self.next_conn += 1;
            }
            Op::Remove { who } => {
                self.tickets += 1;
                self.model.remove(self.tickets, NAMES[*who]);
                self.rig.give(Input::Remove(Ticket(self.tickets), name(NAMES[*who])));
            }
            Op::Await { at } => self.wait(at),
            Op::Take => self.take(),
            Op::Stored => self.stored(),
            Op::NotStored => self.not_stored(),
            Op::Later { ms } => self.later(*ms),
            Op::Crash { clean } => self.crash(*clean),
            Op::Snapshot => {
                self.snapshot = Some((self.rig.group.snapshot(), self.rig.records.len()));
            }
        }
    }

    fn join(&mut self, op: &Op) {
        let Op::Join { slot, who, door, durable, show, begin, at } = op else { unreachable!() };
        let (conn, tail) = (self.conns[*slot], self.model.tail());
        let name_of = NAMES[*who];
        let there = self.model.present().find(|stay| stay.name == name_of);
        let shown = there.filter(|_| *show).map(|stay| stay.secret);
        // A program that comes back has confirmed at least what it told, and nothing that it is at work on.
        let own = there.filter(|stay| stay.open.is_empty() && stay.failed.is_empty());
        let place = at.index(tail as usize + 1) as Seq;
        let begin = match begin {
            0 | 1 => Begin::Now,
            2 => Begin::First,
            3 => Begin::At(place),
            _ if there.is_some() && own.is_none() => Begin::Now,
            _ => Begin::After(place),
        };
        let wish = Wish {
            name: name_of,
            door: *door,
            durable: *durable,
            id: *who as u8,
            shown,
            fresh: conn % 250,
            begin,
        };
        self.model.join(conn, wish);
        let epoch = self.rig.group.epoch();
        let join = Join {
            name: name(name_of),
            door: *door,
            durable: *durable,
            sender: id(*who as u8),
            shown: shown.map(secret),
            fresh: secret(conn % 250),
            from: match begin {
                Begin::Now => From::Now,
                Begin::First => From::First,
                Begin::At(seq) => From::At(seq),
                Begin::After(seq) => From::After(Position { log: LOG, epoch, seq }),
            },
            follow: false,
        };
        self.rig.give(Input::Join(ConnId(conn), Box::new(join)));
    }

    /// Each byte says how far on from the last counter: 1 is the next one, 0 the same again, 2 leaves one out.
    fn publish(&mut self, slot: usize, steps: &[u8], receipt: bool) {
        let conn = self.conns[slot];
        let (n, by) = match self.model.roles.get(&conn) {
            Some(role) => (role.id, role.name),
            None => (0, "out"),
        };
        // What was refused is sent again first.
        let refused = self.model.roles.get(&conn).and_then(|role| role.refused);
        let mut at = match refused {
            Some(counter) if steps[0] != 2 => counter - 1,
            _ => self.counters[usize::from(n)],
        };
        let mut counters = Vec::new();
        for step in steps {
            at = (at + u64::from(*step)).max(1);
            counters.push(at);
            if self.model.sent(n).iter().any(|(known, _)| *known == at) {
                self.again.insert((conn, at));
            }
            self.model.publish(conn, at, receipt);
            if self.again.contains(&(conn, at)) || counters.iter().filter(|c| **c == at).count() > 1
            {
                self.again.insert((conn, at));
            }
        }
        if self.model.roles.contains_key(&conn) {
            self.counters[usize::from(n)] = self.counters[usize::from(n)].max(at);
        }
        let run = run(by, &counters, receipt, b"body");
        self.rig.give(Input::Publish(ConnId(conn), run));
    }

    fn ack(&mut self, slot: usize, at: &Index, open: u8, failed: u8, beyond: bool) {
        let (conn, tail) = (self.conns[slot], self.model.tail());
        let cursor = if beyond { tail + 1 } else { at.index(tail as usize + 1) as Seq };
        let stay = self.model.of_conn(conn);
        let line = stay.is_some_and(|stay| stay.door == Door::Line);
        let acked = stay.map_or(0, |stay| stay.cursor);
        let was_open = stay.map(|stay| stay.open.clone()).unwrap_or_default();
        // Eight numbers up to the cursor may be open or failed; what was confirmed is opened again now and then.
        let near = |mask: u8| {
            (0..8u64).filter(move |i| mask >> i & 1 == 1).map(move |i| cursor.saturating_sub(i))
        };
        let reopens = open & failed & 0x0F == 0x0F;
        let open: Vec<Seq> = near(open & 0x55)
            .filter(|seq| *seq > 0 && !line)
            .filter(|seq| *seq > acked || was_open.contains(seq) || reopens)
            .collect();
        let failed: Vec<(Seq, &str)> =
            near(failed & 0x22).filter(|seq| *seq > 0).map(|seq| (seq, "exit 1")).collect();
        self.model.ack(conn, cursor, &open, &failed);
        self.rig.ack_with(conn, cursor, &open, &failed);
    }

    fn wait(&mut self, at: &Index) {
        let messages: Vec<Seq> = (1..)
            .zip(&self.model.log)
            .filter(|(_, e)| e.message.is_some())
            .map(|(seq, _)| seq)
            .collect();
        if messages.is_empty() {
            return;
        }
        let seq = messages[at.index(messages.len())];
        self.tickets += 1;
        self.model.tickets.insert(self.tickets, seq);
        let publisher = self.rig.publisher(seq);
        self.rig.give(Input::Await(Ticket(self.tickets), seq, publisher));
    }

    fn take(&mut self) {
        if self.rig.begin() {
            self.taken_ms = self.rig.now.mono_ms;
            self.model.take();
            self.check_batch();
        }
    }

    fn stored(&mut self) {
        if self.rig.flying.is_some() {
            self.covered_ms = self.covered_ms.max(self.taken_ms.saturating_sub(1000));
            self.model.stored();
            self.rig.stored();
        }
    }

    fn not_stored(&mut self) {
        let epoch = |(_, proposal): &(Seq, Proposal)| matches!(proposal, Proposal::Epoch);
        if self.rig.flying.is_some() && !self.model.flying.iter().flatten().any(epoch) {
            self.model.not_stored();
            self.rig.not_stored();
        }
    }

    fn later(&mut self, ms: u64) {
        self.rig.later(ms);
        self.model.now_ms += ms;
        self.model.tick();
        self.rig.give(Input::Tick);
    }

    /// What is about to be stored is what the model proposed: numbers without a gap, stamped, nothing secret in it.
    fn check_batch(&self) {
        let batch = self.rig.flying.as_ref().expect("in flight");
        let bytes: bytes::BytesMut = batch.entries.iter().flatten().copied().collect();
        let proposals = self.model.flying.as_ref().expect("in flight");
        let mut want = proposals
            .iter()
            .filter(|(_, p)| !matches!(p, Proposal::Answer(_) | Proposal::Again { .. }));
        assert_eq!(batch.first, self.model.tail() + 1);
        assert_eq!(batch.epoch, self.model.epoch);
        let mut count = 0;
        for entry in entries(bytes.freeze()) {
            let entry = entry.expect("an entry");
            let (seq, proposal) = want.next().expect("no more entries than proposals");
            let header = entry.header;
            assert_eq!(header.seq, *seq);
            assert_eq!(header.seq, batch.first + count);
            assert_eq!(header.epoch, self.model.epoch);
            assert!(header.time_us > 0 && header.time_us <= self.rig.now.wall_us);
            match proposal {
                Proposal::Epoch => assert_eq!(header.kind, Kind::Epoch),
                Proposal::Joined(stay) => {
                    assert_eq!((header.kind, entry.name()), (Kind::Joined, stay.name));
                }
                Proposal::Left { key, .. } => {
                    assert_eq!((header.kind, header.sender), (Kind::Left, *key));
                }
                Proposal::Message(message) => {
                    assert_eq!((header.kind, entry.name()), (Kind::Message, message.name));
                    assert_eq!((header.sender, header.counter), (message.sender, message.counter));
                    let flags = if message.publisher.is_none() { FLAG_OUTSIDE } else { 0 };
                    assert_eq!(header.flags, flags);
                    assert_eq!(&entry.body()[..], b"body");
                }
                Proposal::Answer(_) | Proposal::Again { .. } => unreachable!(),
            }
            count += 1;
        }
        assert_eq!((count, want.next().is_none()), (u64::from(batch.count), true));
    }

    fn crash(&mut self, clean: bool) {
        if clean {
            self.rig.give(Input::Checkpoint);
            loop {
                self.stored();
                self.settle_and_compare();
                self.take();
                if self.rig.flying.is_none() {
                    break;
                }
            }
        }
        self.forget_unstored();
        // From the first record on, and from the snapshot on: neither may say what was not said.
        let model = self.model.clone();
        if !self.needs_snapshot {
            self.adopt(&self.rig.recovered(None), clean);
        }
        let snapshot = self.snapshot.clone();
        let snapshot = snapshot.as_ref().map(|(bytes, records)| (bytes, *records));
        if snapshot.is_some() {
            self.model = model;
            self.needs_snapshot = true;
            self.adopt(&self.rig.recovered(snapshot), clean);
        }
        self.rig.crash_to(snapshot);
        self.model.take_over(self.rig.group.epoch());
        // The first thing that a coordinator does is to store its epoch.
        self.rig.begin();
        self.model.take();
        self.check_batch();
        for slot in 0..5 {
            self.conns[slot] = self.next_conn;
            self.next_conn += 1;
        }
    }

    fn forget_unstored(&mut self) {
        let model = &mut self.model;
        (model.flying, model.building) = (None, Vec::new());
        model.epoch = model.log.last().map_or(0, |entry| entry.epoch);
        model.roles.clear();
        model.waiting.clear();
        model.held.clear();
        model.tickets.clear();
        model.expected.clear();
        for stay in &mut model.stays {
            (stay.leaving, stay.lost, stay.conn) = (false, None, None);
            stay.ends.clear();
        }
    }

    /// What was read back is never ahead of what was said, at most a second behind, and the same after a clean end.
    fn adopt(&mut self, group: &Group, clean: bool) {
        assert_eq!(group.tail(), self.model.tail());
        assert_eq!(group.epoch(), self.model.epoch);
        let there: BTreeSet<Seq> = group.members().map(|member| member.key.0).collect();
        assert_eq!(there, self.model.present().map(|stay| stay.key).collect::<BTreeSet<_>>());
        let covered = self.covered_ms;
        for member in group.members() {
            let stay = self.model.stay(member.key.0);
            assert_eq!(member.name.as_str(), stay.name);
            assert_eq!((member.door, member.durable), (stay.door, stay.durable));
            assert_eq!(member.secret, secret(stay.secret));
            let floor = stay.moves.iter().filter(|(ms, _)| *ms <= covered).map(|(_, c)| *c).max();
            assert!(member.acked >= floor.unwrap_or(0), "{} lost its cursor", stay.name);
            assert!(member.acked <= stay.cursor, "{} is ahead of what it said", stay.name);
            if clean {
                // What a host reached before the join counts for nothing.
                let reached = |seq: Seq| seq.max(member.key.0);
                assert_eq!(member.acked, stay.cursor);
                assert_eq!(reached(member.reached), reached(stay.reached));
                assert_eq!(member.open, stay.open.iter().copied().collect::<Vec<_>>());
            }
        }
        for seq in 1..=self.model.tail() {
            let Some((want, _)) = self.model.receipt(seq) else { continue };
            let publisher =
                self.model.log[seq as usize - 1].message.as_ref().expect("one").publisher;
            let receipt = group.receipt(seq, publisher.map(Incarnation), self.rig.now);
            let got = Plain::of(&receipt.expect("it is kept"));
            assert!(got.confirmed <= want.confirmed, "{got:?} confirms more than {want:?}");
            assert_eq!(got.members, want.members);
            let codes = |plain: &Plain| -> Vec<_> {
                plain
                    .missing
                    .iter()
                    .filter(|(_, why)| why.starts_with("Failed") || why == "Left")
                    .cloned()
                    .collect()
            };
            if clean {
                assert_eq!((got.confirmed, got.reached), (want.confirmed, want.reached));
                assert_eq!(codes(&got), codes(&want));
            }
        }
        for member in group.members() {
            let failed: BTreeSet<Seq> = (member.key.0 + 1..=group.tail())
                .filter(|seq| {
                    group.receipt(*seq, None, self.rig.now).is_ok_and(|receipt| {
                        receipt.missing.iter().any(|missing| {
                            missing.name == member.name.as_str()
                                && matches!(missing.why, tertulia_group::Why::Failed { .. })
                        })
                    })
                })
                .collect();
            let stay = self.model.stay(member.key.0);
            stay.cursor = member.acked;
            stay.reached = member.reached;
            stay.confirms = member.confirms;
            stay.open = member.open.iter().copied().collect();
            stay.failed.retain(|seq, _| failed.contains(seq));
            stay.confirmed = (member.key.0 + 1..=member.acked)
                .filter(|seq| !stay.open.contains(seq) && !failed.contains(seq))
                .collect();
            stay.moves.clear();
        }
    }

    fn settle_and_compare(&mut self) {
        self.rig.settle();
        self.model.settle();
        let said: Vec<Output> = self.rig.said();
        assert!(in_order(&said), "{said:?}");
        let mut got = answers(said);
        let mut want = std::mem::take(&mut self.model.expected);
        want.sort();
        for list in [&mut got, &mut want] {
            list.dedup_by(|a, b| a == b && self.may_come_twice(a));
        }
        assert_eq!(got, want, "the group said the left, the model the right");
        self.compare_receipts();
    }

    fn may_come_twice(&self, answer: &Answer) -> bool {
        matches!(answer, Answer::Final { conn, counter, .. } if self.again.contains(&(*conn, *counter)))
    }

    fn compare_receipts(&self) {
        assert_eq!(self.rig.group.tail(), self.model.tail());
        for seq in 1..=self.model.tail() {
            let Some((want, _)) = self.model.receipt(seq) else { continue };
            assert_eq!(Plain::of(&self.rig.receipt(seq)), want);
        }
        let acked: BTreeSet<_> =
            self.rig.group.members().map(|m| (m.key.0, m.acked, m.open.clone())).collect();
        let want = self.model.present();
        let want = want.map(|s| (s.key, s.cursor, s.open.iter().copied().collect())).collect();
        assert_eq!(acked, want);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_group_says_what_the_model_says(ops in prop::collection::vec(op(), 1..150)) {
        let mut pair = Pair::new();
        pair.rig.said();
        pair.model.expected.clear();
        for op in &ops {
            pair.do_op(op);
            pair.settle_and_compare();
        }
        pair.crash(true);
    }
}
