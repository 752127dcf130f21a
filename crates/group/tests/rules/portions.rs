//! Receipts that are final together: as many at once as who waits for them takes.

use tertulia_group::{ConnId, Input, Limits, Output, Seq};

use crate::rig::{Rig, run};

/// Each receipt in these tests has one name missing and weighs 2.
const WEIGHT_MAX: usize = 10;
const MESSAGES: u64 = 23;

/// Two members, and as many messages of the first one's as the second one holds up.
fn held_up() -> Rig {
    let mut rig = Rig::new(Limits { receipts_weight_max: WEIGHT_MAX, ..Limits::default() });
    ["ana", "bo"].iter().zip(1..).for_each(|(text, n)| drop(rig.join(n, text)));
    let counters: Vec<u64> = (1..=MESSAGES).collect();
    rig.ask(Input::Publish(ConnId(1), run("ana", &counters, true, b"x")));
    rig
}

/// Counters of the receipts that a connection was given, and how often it was told that more comes once it has taken them.
fn given(said: &[Output], conn: u64) -> (Vec<u64>, usize) {
    let counters = said.iter().filter_map(|output| match output {
        Output::Receipt(ConnId(to), counter, receipt) if *to == conn => {
            assert_eq!(receipt.missing.len(), 1, "{receipt:?}");
            Some(*counter)
        }
        _ => None,
    });
    let paused = said.iter().filter(|output| **output == Output::Paused(ConnId(conn))).count();
    (counters.collect(), paused)
}

/// Takes what it was given, and answers what comes then.
fn take(rig: &mut Rig, conn: u64) -> (Vec<u64>, usize) {
    given(&rig.ask(Input::Taken(ConnId(conn))), conn)
}

#[test]
fn receipts_that_become_final_together_come_as_fast_as_they_are_taken() {
    let mut rig = held_up();
    assert_eq!(given(&rig.ask(Input::Leave(ConnId(2))), 1), ((1..=5).collect(), 1));
    // Whatever else happens, no more comes before they are taken; and nothing has to be looked at for it.
    rig.publish(1, "ana", MESSAGES + 1);
    rig.tick_after(5_000);
    rig.flush();
    assert_eq!(given(&rig.said(), 1), (vec![], 0));
    assert_eq!(rig.group.deadline_ms(), None);
    assert_eq!(rig.group.first_waited(), Some(rig.group.tail() - MESSAGES - 1 + 5));
    for first in [6, 11, 16] {
        assert_eq!(take(&mut rig, 1), ((first..first + 5).collect(), 1));
    }
    let said = rig.ask(Input::Taken(ConnId(1)));
    assert_eq!(given(&said, 1), (vec![21, 22, 23], 0));
    // The last one has nobody to ask, and comes after them.
    let complete = said.iter().find_map(|output| match output {
        Output::Complete(_, run) => Some((run.counter, run.count, run.members)),
        _ => None,
    });
    assert_eq!(complete, Some((MESSAGES + 1, 1, 0)));
    assert_eq!(rig.group.first_waited(), None);
}

#[test]
fn what_a_sender_asks_again_comes_in_portions_too_and_each_once() {
    let mut rig = held_up();
    rig.give(Input::Closed(ConnId(1)));
    // From outside, under the id of the one before.
    rig.open(9, 1);
    for _ in 0..2 {
        let counters: Vec<u64> = (1..=MESSAGES).collect();
        rig.ask(Input::Publish(ConnId(9), run("out", &counters, true, b"x")));
    }
    let mut all = Vec::new();
    let mut next = given(&rig.ask(Input::Leave(ConnId(2))), 9);
    while next.1 > 0 {
        assert_eq!(next.0.len(), WEIGHT_MAX / 2);
        all.extend(next.0);
        next = take(&mut rig, 9);
    }
    all.extend(next.0);
    assert!(all.iter().copied().eq(1..=MESSAGES), "{all:?}");
    assert_eq!(take(&mut rig, 9), (vec![], 0));
}

#[test]
fn who_does_not_take_what_it_was_given_is_told_of_what_is_given_up_all_the_same() {
    let mut rig = held_up();
    let before = given(&rig.ask(Input::Leave(ConnId(2))), 1).0.len() as u64;
    let first = rig.group.first_waited().expect("more than a portion waits");
    let said = rig.ask(Input::Trimmed(first + 4));
    assert_eq!(given(&said, 1).0, (before + 1..before + 5).collect::<Vec<u64>>());
    // The same for single ones.
    let mut rig = held_up();
    rig.open(9, 1);
    let counters: Vec<u64> = (1..=MESSAGES).collect();
    rig.ask(Input::Publish(ConnId(9), run("out", &counters, true, b"x")));
    let before = given(&rig.ask(Input::Leave(ConnId(2))), 9).0.len() as u64;
    let said = rig.ask(Input::Trimmed(first + 4));
    assert_eq!(given(&said, 9).0, (before + 1..before + 5).collect::<Vec<u64>>());
    // And nothing is kept for a connection that is gone.
    rig.ask(Input::Closed(ConnId(9)));
    rig.ask(Input::Closed(ConnId(1)));
    assert_eq!(rig.group.first_waited(), None);
}

#[test]
fn one_that_takes_nothing_holds_nobody_else_up() {
    let mut rig = held_up();
    rig.open(9, 9);
    rig.ask(Input::Publish(ConnId(9), run("out", &[1, 2, 3], true, b"x")));
    rig.ack(1, rig.group.tail());
    let said = rig.ask(Input::Leave(ConnId(2)));
    assert_eq!(given(&said, 1).0.len(), 5);
    assert_eq!(given(&said, 9), (vec![1, 2, 3], 0));
}

#[test]
fn a_turn_gives_four_portions_and_the_next_one_begins_with_the_others() {
    let mut rig = Rig::new(Limits { receipts_weight_max: WEIGHT_MAX, ..Limits::default() });
    rig.join(1, "bo");
    let senders = 10..17;
    for conn in senders.clone() {
        rig.open(conn, conn as u8);
        let counters: Vec<u64> = (1..=MESSAGES).collect();
        rig.ask(Input::Publish(ConnId(conn), run("out", &counters, true, b"x")));
    }
    rig.give(Input::Leave(ConnId(1)));
    rig.said();
    assert!(rig.begin());
    rig.flying = None;
    rig.give(Input::Stored);
    let mut told = Vec::new();
    for _ in 0..3 {
        rig.settle();
        let said = rig.said();
        let of = |conn| given(&said, conn).0.len();
        told.push(senders.clone().map(of).collect::<Vec<usize>>());
    }
    assert_eq!(told, [[5, 5, 5, 5, 0, 0, 0], [0, 0, 0, 0, 5, 5, 5], [0; 7]]);
    assert_eq!(rig.group.deadline_ms(), None, "all of them have enough");
}

#[test]
fn who_looks_on_is_told_a_portion_a_turn() {
    let mut rig = held_up();
    rig.give(Input::Watch(Vec::new()));
    rig.give(Input::Closed(ConnId(1)));
    rig.open(9, 9);
    let counters: Vec<u64> = (1..=MESSAGES).collect();
    rig.ask(Input::Publish(ConnId(9), run("out", &counters, false, b"x")));
    // Its grace has not ended: both are asked.
    rig.give(Input::Leave(ConnId(2)));
    rig.give(Input::Remove(tertulia_group::Ticket(1), crate::rig::name("ana")));
    let mut told: Vec<Seq> = Vec::new();
    let mut most = 0;
    loop {
        let before = told.len();
        if rig.flying.is_some() {
            rig.flying = None;
            rig.give(Input::Stored);
        }
        rig.settle();
        told.extend(rig.said().iter().filter_map(|output| match output {
            Output::Watched(receipt) => Some(receipt.seq),
            _ => None,
        }));
        most = most.max(told.len() - before);
        rig.flying = rig.group.take_batch(rig.now);
        if rig.flying.is_none() && rig.group.deadline_ms() != Some(0) {
            break;
        }
    }
    // Two names each.
    assert_eq!((told.len() as u64, most), (MESSAGES, WEIGHT_MAX.div_ceil(3)));
    assert!(told.is_sorted(), "{told:?}");
}
