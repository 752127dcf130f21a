//! The promises, each a small function over what really happened; an error says what was broken.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tertulia_group::entry::LeftBody;
use tertulia_group::{
    Entry, Epoch, Incarnation, Kind, Limits, LogId, Member, Name, Position, Presence, Receipt, Seq,
    Tables, Why,
};

/// One stay of a member.
#[derive(Debug)]
pub struct Stay {
    pub name: Name,
    pub left: Option<Seq>,
    /// Up to here it is known to have finished all that it was asked for.
    proven: Seq,
}

/// What really happened, as programs and the journal know it.
#[derive(Debug, Default)]
pub struct Truth {
    /// (stay, message): its program finished it.
    pub confirmed: BTreeSet<(Seq, Seq)>,
    /// (stay, message): its program said that it will not do it.
    pub failed: BTreeMap<(Seq, Seq), String>,
    /// Every stay by the number of its join.
    stays: BTreeMap<Seq, Stay>,
    /// Stays that are not over.
    here: BTreeSet<Seq>,
    /// Those that are: (left, joined).
    gone: BTreeSet<(Seq, Seq)>,
    /// Which counters of a program are in the log, under whatever sender id.
    pub appended: HashMap<(usize, u64), Seq>,
    /// Answered as stored, and in which turn first.
    pub answered: BTreeMap<Seq, u64>,
    /// What every member was said to have confirmed, and under which coordinator.
    pub complete: BTreeMap<Seq, u64>,
    /// Power cuts that took the end of the log: of this epoch and older ones nothing above the number is left.
    pub ends: Vec<(Epoch, Seq)>,
    /// Counters that a program was told will never be stored.
    pub skipped: BTreeSet<(usize, u64)>,
}

impl Truth {
    pub fn joins(&mut self, key: Seq, name: Name) {
        self.here.insert(key);
        self.stays.insert(key, Stay { name, left: None, proven: 0 });
    }

    pub fn leaves(&mut self, key: Seq, seq: Seq) {
        if let Some(stay) = self.stays.get_mut(&key) {
            stay.left = Some(seq);
            self.here.remove(&key);
            self.gone.insert((seq, key));
        }
    }

    /// The view at the number `seq`.
    fn view_at(&self, seq: Seq) -> impl Iterator<Item = (Seq, &Name)> {
        let later = self.gone.range((seq + 1, 0)..).map(|(_, key)| key);
        let keys = self.here.range(..seq).chain(later.filter(move |key| **key < seq));
        keys.filter_map(|key| Some((*key, &self.stays.get(key)?.name)))
    }

    /// What the level does not cover is lost, and nobody is held to it.
    pub fn lose_above(&mut self, epoch: Epoch, left: Seq) {
        self.ends.push((epoch, left));
        self.confirmed.retain(|(key, seq)| *key <= left && *seq <= left);
        self.failed.retain(|(key, seq), _| *key <= left && *seq <= left);
        self.stays.retain(|key, _| *key <= left);
        for stay in self.stays.values_mut() {
            stay.left = stay.left.filter(|gone| *gone <= left);
            stay.proven = stay.proven.min(left);
        }
        let stays = self.stays.iter();
        (self.here, self.gone) = (BTreeSet::new(), BTreeSet::new());
        for (key, stay) in stays {
            match stay.left {
                Some(gone) => self.gone.insert((gone, *key)),
                None => self.here.insert(*key),
            };
        }
        self.appended.retain(|_, seq| *seq <= left);
        self.answered.split_off(&(left + 1));
        self.complete.split_off(&(left + 1));
    }
}

/// What is broken, where something is.
pub type Verdict = Result<(), String>;

fn ensure(holds: bool, broken: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(broken()) }
}

/// Promise 1: numbers go on by one.
pub fn order_has_no_gap(before: Seq, entry: &Entry) -> Verdict {
    let seq = entry.header.seq;
    ensure(seq == before + 1, || format!("order: {seq} was delivered after {before}"))
}

/// Promises 1 and 5: everybody gets the log's own bytes, and only what is stored.
pub fn delivered_is_the_log(stored: Option<&Entry>, got: &Entry) -> Verdict {
    let seq = got.header.seq;
    let Some(stored) = stored else {
        return Err(format!("durability: {seq} was delivered and is not stored"));
    };
    let same = stored.name() == got.name() && stored.body() == got.body();
    let header = tertulia_group::Header { flags: stored.header.flags, ..got.header };
    ensure(same && header == stored.header, || format!("views: {seq} is another entry in the log"))
}

/// Promise 2, for one message: whoever is not named has confirmed it, and who is named as failed has failed.
pub fn receipt_is_true(truth: &Truth, entry: &Entry, receipt: &Receipt) -> Verdict {
    let (seq, publisher) = (entry.header.seq, entry.header.publisher().map(|Incarnation(key)| key));
    let asked: Vec<(Seq, &Name)> =
        truth.view_at(seq).filter(|(key, _)| Some(*key) != publisher).collect();
    ensure(asked.len() == receipt.members as usize, || {
        format!("receipt: {} were asked for {seq}, it says {}", asked.len(), receipt.members)
    })?;
    for (key, name) in asked {
        let confirmed = truth.confirmed.contains(&(key, seq));
        match receipt.missing.iter().find(|missing| missing.name == name.as_str()) {
            None => ensure(confirmed, || format!("receipt: {name} has not confirmed {seq}"))?,
            Some(missing) => {
                if let Why::Failed { code } = &missing.why {
                    let failed = truth.failed.get(&(key, seq));
                    ensure(failed == Some(code), || format!("receipt: {name} did not fail {seq}"))?;
                }
            }
        }
    }
    ensure(receipt.confirmed + receipt.missing.len() as u32 == receipt.members, || {
        format!("receipt: its numbers do not come out even for {seq}")
    })
}

/// Promise 2: a confirmation that was told once is not taken back, short of a crash before it was stored.
pub fn complete_stays_complete(truth: &mut Truth, generation: u64, receipt: &Receipt) -> Verdict {
    let seq = receipt.seq;
    if receipt.confirmed == receipt.members {
        truth.complete.insert(seq, generation);
    }
    let taken_back =
        receipt.confirmed < receipt.members && truth.complete.get(&seq) == Some(&generation);
    ensure(!taken_back, || format!("receipt: {seq} was complete and is not any more"))
}

/// Promise 2: a leaver's last word is the cursor in its `left` entry; nothing after it counted.
pub fn final_cursor(leaver: Option<&Member>, left: &Entry) -> Verdict {
    let body = LeftBody::read(&left.body()).map_err(|_| "a left entry cannot be read")?;
    let same = |member: &Member| member.acked == body.acked && member.open == body.open;
    ensure(leaver.is_none_or(same), || {
        format!("receipt: {} left at {} and was heard after that", left.name(), body.acked)
    })
}

/// Promise 3: what is answered as stored is in the journal, under that counter.
pub fn answered_is_stored(stored: Option<&Entry>, counter: u64, seq: Seq) -> Verdict {
    ensure(stored.is_some_and(|entry| entry.header.counter == counter), || {
        format!("durability: counter {counter} was answered as stored at {seq}, and is not there")
    })
}

/// Promise 3, after a restart: everything that was answered is still there.
pub fn nothing_answered_is_lost(truth: &Truth, tail: Seq) -> Verdict {
    let last = truth.answered.last_key_value().map_or(0, |(seq, _)| *seq);
    ensure(last <= tail, || format!("durability: {last} was answered, the log ends at {tail}"))
}

/// Promise 4: a message is in the log once, as it was written, also when its sender had to take another id; and never after
/// its sender was told that it will not be.
pub fn once(truth: &mut Truth, program: usize, entry: &Entry) -> Verdict {
    let (counter, seq) = (entry.header.counter, entry.header.seq);
    let before = truth.appended.insert((program, counter), seq);
    ensure(before.is_none(), || {
        format!("once: counter {counter} is stored at {before:?} and {seq}")
    })?;
    ensure(!truth.skipped.contains(&(program, counter)), || {
        format!("honesty: counter {counter} was told as never stored, and is at {seq}")
    })?;
    ensure(entry.body() == crate::program::body(entry.name(), counter).as_bytes(), || {
        format!("once: {seq} is not what was sent as {counter}")
    })
}

/// Promises 4 and 9: who is told that a counter will never be stored finds it nowhere.
pub fn skipped_is_nowhere(truth: &mut Truth, program: usize, counter: u64) -> Verdict {
    let stored = truth.appended.get(&(program, counter));
    ensure(stored.is_none(), || {
        format!("honesty: counter {counter} is stored at {stored:?}, and told as never stored")
    })?;
    truth.skipped.insert((program, counter));
    Ok(())
}

/// Promise 4: a sender is forgotten only where the table is full, or the power took what was known of it.
pub fn may_be_forgotten(name: &str, may_be: bool, known: u64) -> Verdict {
    ensure(may_be, || {
        format!("once: what {name} sent was answered, and is forgotten but for the first {known}")
    })
}

/// Promise 4: a retry is answered with the number of the message itself.
pub fn same_number(truth: &Truth, program: usize, counter: u64, seq: Seq) -> Verdict {
    let known = truth.appended.get(&(program, counter));
    ensure(known == Some(&seq), || {
        format!("once: counter {counter} is stored at {known:?}, the sender was told {seq}")
    })
}

/// Promise 6: epochs never go back in the log.
pub fn one_coordinator(before: Option<&Entry>, entry: &Entry) -> Verdict {
    let old = before.map_or(0, |before| before.header.epoch);
    let new = entry.header.epoch;
    let begins = new == old || entry.header.kind == Kind::Epoch;
    ensure(new >= old && begins, || format!("coordinator: epoch {new} after {old}"))
}

/// Promise 8: nothing that the member was asked for, and has not finished, lies behind the place where it goes on.
pub fn resume_skips_nothing(
    truth: &mut Truth,
    key: Seq,
    next: Seq,
    open: &[Seq],
    asked: impl Fn(Seq) -> bool,
) -> Verdict {
    let mut proven = truth.stays.get(&key).map_or(0, |stay| stay.proven).max(key);
    let mut all = true;
    for seq in proven + 1..next {
        let done = !asked(seq)
            || truth.confirmed.contains(&(key, seq))
            || truth.failed.contains_key(&(key, seq));
        ensure(done || open.contains(&seq), || {
            format!("resume: stay {key} goes on with {next} and never did {seq}")
        })?;
        all &= done;
        proven += u64::from(all);
    }
    if let Some(stay) = truth.stays.get_mut(&key) {
        stay.proven = proven;
    }
    Ok(())
}

/// Promise 8: what was confirmed does not come again.
pub fn resume_brings_nothing_twice(acked: Seq, next: Seq) -> Verdict {
    ensure(next == acked + 1, || format!("resume: confirmed up to {acked}, goes on with {next}"))
}

/// Promise 8: a new stay goes on where the earlier one ended: at its place, or later where that was finished too.
pub fn goes_on_at_its_place(
    shown: Seq,
    next: Seq,
    key: Seq,
    finished: impl Fn(Seq) -> bool,
) -> Verdict {
    let want = (shown + 1).min(key + 1);
    ensure(next >= want && (want..next).all(finished), || {
        format!("resume: after {shown} a new stay goes on with {next}, before that not all is done")
    })
}

/// Promises 3 and 9: a counter that a sender is told is in the log.
pub fn told_counter_is_stored(truth: &Truth, program: usize, counter: u64) -> Verdict {
    ensure(counter == 0 || truth.appended.contains_key(&(program, counter)), || {
        format!("honesty: counter {counter} was told as taken, and is not stored")
    })
}

/// Promise 8: who was further than what is left is told so.
pub fn is_told_of_the_end(truth: &Truth, log: LogId, shown: &Position, told: bool) -> Verdict {
    let own = shown.log == log;
    let beyond = truth.ends.iter().any(|(epoch, left)| shown.epoch <= *epoch && shown.seq > *left);
    let seq = shown.seq;
    ensure(!own || !beyond || told, || format!("resume: {seq} was cut back, and nobody said so"))?;
    ensure(own || told, || format!("resume: {seq} of another log is taken for one of this"))
}

/// Members are told apart by people: no two names in a view look alike.
pub fn names_differ(truth: &Truth, new: &Name) -> Verdict {
    for stay in truth.here.iter().filter_map(|key| truth.stays.get(key)) {
        ensure(stay.name.skeleton() != new.skeleton(), || {
            format!("names: {new} joined beside {}", stay.name)
        })?;
    }
    Ok(())
}

/// A membership belongs to whoever has its secret.
pub fn impostor_is_refused(conn: u64, welcomed: &str) -> Verdict {
    ensure(conn < crate::faults::FIRST_IMPOSTOR, || {
        format!("names: an impostor is welcome as {welcomed}")
    })
}

/// Who is away without being durable leaves when its grace is over, or a look at the clock later.
pub fn nobody_outstays(member: &Member, grace_ms: u64, now_ms: u64) -> Verdict {
    let Presence::Away { since_ms } = member.presence else { return Ok(()) };
    let over = !member.durable && !member.leaving && now_ms > since_ms + grace_ms + 1000;
    ensure(!over, || format!("views: {} is away since {since_ms} and has not left", member.name))
}

/// A membership is one connection's at a time.
pub fn one_connection(connections: usize) -> Verdict {
    ensure(connections <= 1, || format!("views: one stay has {connections} connections"))
}

/// Promise 2: who looks on is told of what nobody can change any more.
pub fn told_is_final(receipt: &Receipt) -> Verdict {
    ensure(receipt.is_final(), || format!("receipt: {} is told and not final", receipt.seq))
}

/// Promise 10: what a group keeps is within its limits.
pub fn bounds(tables: &Tables, limits: &Limits) -> Verdict {
    let each = [
        ("members", tables.members, limits.members_max),
        ("senders", tables.senders, limits.senders_max),
        ("runs wait", tables.waiting_runs, limits.waiting_runs_max),
        ("runs watched", tables.watched_runs, limits.watched_runs_max),
        ("departed", tables.departed, limits.departed_max),
        ("failures", tables.failures, limits.failures_max),
        ("unstored bytes", tables.unstored_bytes, limits.group_unstored_bytes_max),
        (
            "unstored bytes of one connection",
            tables.connection_unstored_bytes,
            limits.unstored_bytes_max,
        ),
    ];
    each.into_iter().try_for_each(|(what, many, most)| {
        ensure(many <= most, || format!("bounds: {many} {what}, at most {most}"))
    })
}

/// Promise 10: what a member may be at work on.
pub fn open_bounds(open: usize) -> Verdict {
    ensure(open <= tertulia_group::limits::OPEN_MAX, || format!("bounds: {open} open"))
}

/// Promise 7: while others are stuck, what a program sends is stored.
pub fn stored_beside_stuck(name: &str, unstored: &[u64]) -> Verdict {
    ensure(unstored.is_empty(), || {
        format!("isolation: {unstored:?} of {name} are not stored while only others are stuck")
    })
}

/// Promise 7: while others are stuck, a member is sent all that is stored.
pub fn delivered_beside_stuck(name: &str, cursor: Seq, tail: Seq) -> Verdict {
    ensure(cursor >= tail, || {
        format!("isolation: {name} is at {cursor} of {tail} while only others are stuck")
    })
}

/// After the faults: everybody has come to the end of the log.
pub fn caught_up(name: &str, cursor: Seq, tail: Seq) -> Verdict {
    ensure(cursor == tail, || format!("liveness: {name} is at {cursor}, the log ends at {tail}"))
}

/// After the faults: every message has its final answer.
pub fn everything_is_answered(name: &str, unanswered: &[u64]) -> Verdict {
    ensure(unanswered.is_empty(), || format!("liveness: {name} waits for {unanswered:?}"))
}
