//! A million sender ids, and far more stays than are remembered, pass through one group with a node's own limits: what it remembers
//! is bounded, what that costs is measured, and who is forgotten is told so.

use std::time::Instant;

use tertulia_group::{
    ConnId, Door, From, Group, Input, Join, Limits, LogId, Name, Now, OpenSender, Output, Refusal,
    Run, SecretDigest, SenderId, Seq,
};

/// Without optimizations a quarter of them take as long: `cargo test --release -p tertulia-server --test tables` tries them all.
const SENDERS: u64 = if cfg!(debug_assertions) { 250_000 } else { 1_000_000 };
const STAYS: u64 = 150_000;
/// Of either kind at once.
const BATCH: u64 = 500;
/// What one remembered sender, or one that left, may cost, with what the allocator and the maps add.
const EACH_BYTES: u64 = 1_024;

/// A group that is stored at once, whatever it appends.
struct Driven {
    group: Group,
    now: Now,
}

impl Driven {
    fn new() -> Self {
        let now = Now { mono_ms: 0, wall_us: 1 };
        let mut group = Group::new(LogId([1; 16]), Limits::default());
        group.take_over(now, 1, "test");
        let mut driven = Self { group, now };
        driven.turn();
        driven
    }

    /// Everything that the group says until there is nothing more to store.
    fn turn(&mut self) -> Vec<Output> {
        self.now.mono_ms += 1;
        self.now.wall_us += 1_000;
        let mut said = Vec::new();
        loop {
            self.group.settle(self.now);
            let batch = self.group.take_batch(self.now);
            said.extend(self.group.outputs());
            if batch.is_none() {
                return said;
            }
            self.group.handle(self.now, Input::Stored);
        }
    }

    fn input(&mut self, input: Input) {
        self.group.handle(self.now, input);
    }

    fn open(&mut self, conn: u64, id: u64, known: bool) {
        let name = Name::new("evil").expect("a name");
        let open = OpenSender { name, id: sender(id), known, follow: false };
        self.input(Input::OpenSender(ConnId(conn), open));
    }
}

fn sender(id: u64) -> SenderId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&id.to_le_bytes());
    SenderId(bytes)
}

/// `VmRSS` of this process.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a field");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

#[test]
fn a_million_sender_ids_and_very_many_stays_are_remembered_within_bounds() {
    let (mut driven, limits) = (Driven::new(), Limits::default());
    let before = memory();
    // One that sends now and then is not the least recently used, and is not forgotten.
    let (calm, mut calm_counter, mut calm_seqs) = (u64::MAX, 0, Vec::new());
    let mut seqs: Vec<Seq> = Vec::new();
    for first in (0..SENDERS).step_by(BATCH as usize) {
        for id in first..first + BATCH {
            driven.open(id + 1, id, false);
            driven.input(Input::Publish(ConnId(id + 1), Run::message("evil", 1, false, b"x")));
        }
        if (first / BATCH).is_multiple_of(50) {
            calm_counter += 1;
            driven.open(calm, calm, calm_counter > 1);
            let run = Run::message("evil", calm_counter, false, b"calm");
            driven.input(Input::Publish(ConnId(calm), run));
        }
        for output in driven.turn() {
            match output {
                Output::Stored(ConnId(conn), run) if conn == calm => calm_seqs.push(run.seq),
                Output::Stored(_, run) => seqs.push(run.seq),
                Output::SenderReady(..) => {}
                other => panic!("{other:?}"),
            }
        }
        for conn in (first + 1..=first + BATCH).chain([calm]) {
            driven.input(Input::Closed(ConnId(conn)));
        }
    }
    assert_eq!(seqs.len() as u64, SENDERS, "nothing of anybody's is lost");
    let (senders, remembered) = (memory() - before, limits.senders_max as u64);
    assert!(senders < remembered * EACH_BYTES, "{senders} bytes for {remembered}");

    // The first ones are forgotten, and told so; the last ones, and the one that kept sending, get the number that they had.
    let check = |driven: &mut Driven, id: u64, counter: u64, expected: Option<Seq>| {
        driven.open(SENDERS + 1, id, true);
        let said = driven.turn();
        match (&said[..], expected) {
            ([Output::Refused(_, Refusal::SenderExpired)], None) => return,
            ([Output::SenderReady(..)], Some(_)) => {}
            _ => panic!("{id}: {said:?}"),
        }
        let again = Run::message("evil", counter, false, b"x");
        driven.input(Input::Publish(ConnId(SENDERS + 1), again));
        let said = driven.turn();
        let [Output::Again(_, run)] = &said[..] else { panic!("{id}: {said:?}") };
        assert_eq!(Some(run.seq), expected, "{id}");
        driven.input(Input::Closed(ConnId(SENDERS + 1)));
    };
    check(&mut driven, 0, 1, None);
    check(&mut driven, SENDERS - 2 * remembered, 1, None);
    check(&mut driven, SENDERS - 1, 1, seqs.last().copied());
    check(
        &mut driven,
        SENDERS - remembered / 2,
        1,
        Some(seqs[(SENDERS - remembered / 2) as usize]),
    );
    check(&mut driven, calm, 2, Some(calm_seqs[1]));

    let before = memory();
    for first in (0..STAYS).step_by(BATCH as usize) {
        for n in first..first + BATCH {
            let name = Name::new(&format!("evil{n}")).expect("a name");
            let fresh = SecretDigest([n as u8; 32]);
            let (durable, follow, shown, from) = (false, false, None, From::Now);
            let sender = sender(n);
            let join = Join { name, door: Door::Line, durable, sender, shown, fresh, from, follow };
            driven.input(Input::Join(ConnId(n + 1), Box::new(join)));
        }
        driven.turn();
        for n in first..first + BATCH {
            driven.input(Input::Leave(ConnId(n + 1)));
        }
        driven.turn();
    }
    assert_eq!(driven.group.member_count(), 0);
    let (stays, departed) = (memory().saturating_sub(before), limits.departed_max as u64);
    assert!(stays < departed * EACH_BYTES, "{stays} bytes for {departed}");
    let asked = driven.group.receipt(seqs[0], None, driven.now);
    assert!(asked.is_err(), "a receipt from before what is remembered is no longer given");
    check(&mut driven, calm, 2, Some(calm_seqs[1]));

    let started = Instant::now();
    let snapshot = driven.group.snapshot();
    eprintln!(
        "{remembered} of {SENDERS} senders: {} MiB; {departed} of {STAYS} stays: {} MiB; a snapshot of all: {} MiB in {:?}",
        senders >> 20,
        stays >> 20,
        snapshot.len() >> 20,
        started.elapsed()
    );
}
