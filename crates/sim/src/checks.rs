//! The promises, each a small function over what really happened; an error says what was broken.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tertulia_group::entry::LeftBody;
use tertulia_group::{
    Entry, Epoch, Incarnation, Kind, LogId, Member, Name, Position, Presence, Receipt, SenderId,
    Seq, Why,
};

/// What really happened, as programs and the journal know it.
#[derive(Debug, Default)]
pub struct Truth {
    /// (stay, message): its program finished it.
    pub confirmed: BTreeSet<(Seq, Seq)>,
    /// (stay, message): its program said that it will not do it.
    pub failed: BTreeMap<(Seq, Seq), String>,
    /// Every stay: its name, and when it left.
    pub stays: BTreeMap<Seq, (String, Option<Seq>)>,
    /// Which counters of a sender are in the log.
    pub appended: HashMap<(SenderId, u64), Seq>,
    /// Answered as stored.
    pub answered: BTreeSet<Seq>,
    /// What every member was said to have confirmed, and under which coordinator.
    pub complete: BTreeMap<Seq, u64>,
    /// Power cuts that took the end of the log: of this epoch and older ones nothing above the number is left.
    pub ends: Vec<(Epoch, Seq)>,
}

impl Truth {
    /// What the level does not cover is lost, and nobody is held to it.
    pub fn lose_above(&mut self, epoch: Epoch, left: Seq) {
        self.ends.push((epoch, left));
        self.confirmed.retain(|(key, seq)| *key <= left && *seq <= left);
        self.failed.retain(|(key, seq), _| *key <= left && *seq <= left);
        self.stays.retain(|key, _| *key <= left);
        self.stays.values_mut().for_each(|(_, gone)| *gone = gone.filter(|gone| *gone <= left));
        self.appended.retain(|_, seq| *seq <= left);
        self.answered.retain(|seq| *seq <= left);
        self.complete.retain(|seq, _| *seq <= left);
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
    let asked: Vec<(Seq, &str)> = truth
        .stays
        .iter()
        .filter(|(key, (_, left))| **key < seq && left.is_none_or(|left| left > seq))
        .filter(|(key, _)| Some(**key) != publisher)
        .map(|(key, (name, _))| (*key, name.as_str()))
        .collect();
    ensure(asked.len() == receipt.members as usize, || {
        format!("receipt: {} were asked for {seq}, it says {}", asked.len(), receipt.members)
    })?;
    for (key, name) in asked {
        let confirmed = truth.confirmed.contains(&(key, seq));
        match receipt.missing.iter().find(|missing| missing.name == name) {
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
    let last = truth.answered.last().copied().unwrap_or(0);
    ensure(last <= tail, || format!("durability: {last} was answered, the log ends at {tail}"))
}

/// Promise 4: a counter of a sender is in the log once.
pub fn once(truth: &mut Truth, sender: SenderId, entry: &Entry) -> Verdict {
    let (counter, seq) = (entry.header.counter, entry.header.seq);
    let before = truth.appended.insert((sender, counter), seq);
    ensure(before.is_none(), || {
        format!("once: counter {counter} is stored at {before:?} and {seq}")
    })
}

/// Promise 4: a retry is answered with the number of the message itself.
pub fn same_number(truth: &Truth, sender: SenderId, counter: u64, seq: Seq) -> Verdict {
    let known = truth.appended.get(&(sender, counter));
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
    truth: &Truth,
    key: Seq,
    next: Seq,
    open: &[Seq],
    asked: impl Fn(Seq) -> bool,
) -> Verdict {
    for seq in (key + 1..next).filter(|seq| asked(*seq) && !open.contains(seq)) {
        let done = truth.confirmed.contains(&(key, seq)) || truth.failed.contains_key(&(key, seq));
        ensure(done, || format!("resume: stay {key} goes on with {next} and never did {seq}"))?;
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
pub fn told_counter_is_stored(truth: &Truth, sender: SenderId, counter: u64) -> Verdict {
    ensure(counter == 0 || truth.appended.contains_key(&(sender, counter)), || {
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
pub fn names_differ(truth: &Truth, name: &str) -> Verdict {
    let here = truth.stays.values().filter(|(_, left)| left.is_none()).map(|(other, _)| other);
    let new = Name::new(name).map_err(|error| format!("names: {name}: {error}"))?;
    for other in here {
        let alike = Name::new(other).is_ok_and(|other| other.skeleton() == new.skeleton());
        ensure(!alike, || format!("names: {name} joined beside {other}"))?;
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

/// Promise 10: what a group keeps is within its limits.
pub fn bounds(members: usize, members_max: usize, open: usize) -> Verdict {
    ensure(members <= members_max, || format!("bounds: {members} members"))?;
    ensure(open <= tertulia_group::limits::OPEN_MAX, || format!("bounds: {open} open"))
}

/// After the faults: everybody has come to the end of the log.
pub fn caught_up(name: &str, cursor: Seq, tail: Seq) -> Verdict {
    ensure(cursor == tail, || format!("liveness: {name} is at {cursor}, the log ends at {tail}"))
}

/// After the faults: every message has its final answer.
pub fn everything_is_answered(name: &str, unanswered: &[u64]) -> Verdict {
    ensure(unanswered.is_empty(), || format!("liveness: {name} waits for {unanswered:?}"))
}
