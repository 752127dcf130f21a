//! Retries: the same number for the same counter, wherever and whenever it comes again; what is forgotten is said.

use tertulia_group::{ConnId, Input, Limits, Output, Refusal, Run};

use crate::rig::{Rig, back, join, open, run, welcome};

fn stored(said: &[Output]) -> Vec<(u64, u64, u64)> {
    said.iter()
        .filter_map(|output| match output {
            Output::Stored(conn, run) | Output::Again(conn, run) => {
                Some((conn.0, run.counter, run.seq))
            }
            _ => None,
        })
        .collect()
}

fn refused(said: &[Output]) -> Vec<(u64, Refusal)> {
    said.iter()
        .filter_map(|output| match output {
            Output::MessageRefused(_, counter, refusal) => Some((*counter, *refusal)),
            _ => None,
        })
        .collect()
}

fn last_counter(said: &[Output]) -> Option<u64> {
    said.iter().find_map(|output| match output {
        Output::SenderReady(_, ready) => Some(ready.last_counter),
        _ => None,
    })
}

#[test]
fn a_retry_while_the_first_is_being_stored_gets_its_number_and_waits_for_it() {
    let mut rig = Rig::with(&[]);
    rig.open(1, 9);
    rig.open(2, 9);
    rig.send(1, "out", 1);
    assert!(rig.begin());
    rig.send(2, "out", 1);
    assert_eq!(stored(&rig.said()), []);
    rig.flush();
    assert_eq!(stored(&rig.said()), [(1, 1, 2), (2, 1, 2)]);
    assert_eq!(rig.group.tail(), 2);
}

#[test]
fn a_retry_after_a_crash_gets_its_number_whether_it_came_from_outside_or_through_a_stay() {
    let mut rig = Rig::with(&["ana"]);
    rig.publish(1, "ana", 1);
    rig.open(9, 9);
    rig.publish(9, "out", 1);
    let snapshot = rig.group.snapshot();
    let covered = rig.records.len();
    rig.publish(9, "out", 2);
    rig.publish(1, "ana", 2);
    for snapshot in [None, Some((&snapshot, covered))] {
        rig.crash_to(snapshot);
        rig.flush();
        let said =
            rig.ask(Input::Join(ConnId(21), Box::new(back("ana", 1, tertulia_group::From::Now))));
        assert_eq!(welcome(&said).expect("a welcome").last_counter, 2);
        assert_eq!(last_counter(&rig.open(22, 9)), Some(2));
        assert_eq!([rig.publish(21, "ana", 1), rig.publish(21, "ana", 2)], [3, 6]);
        assert_eq!([rig.publish(22, "out", 1), rig.publish(22, "out", 2)], [4, 5]);
    }
}

#[test]
fn a_stay_whose_introduction_was_lost_is_introduced_again() {
    let mut rig = Rig::with(&[]);
    rig.open(9, 1);
    rig.publish(9, "out", 1);
    rig.join(1, "ana");
    rig.send(1, "ana", 2);
    rig.begin();
    rig.not_stored();
    assert_eq!(refused(&rig.said()), [(2, Refusal::NoSpace)]);
    let seq = rig.publish(1, "ana", 2);
    rig.crash();
    rig.flush();
    rig.open(10, 1);
    assert_eq!(rig.publish(10, "out", 2), seq, "not appended twice");
}

#[test]
fn nobody_is_told_of_a_counter_that_is_not_stored() {
    let mut rig = Rig::with(&[]);
    rig.open(1, 1);
    // The join is in one batch, the message in the next one.
    rig.give(Input::Join(ConnId(2), Box::new(join("ana", 1))));
    rig.begin();
    rig.send(1, "out", 1);
    rig.stored();
    assert_eq!(welcome(&rig.said()).expect("a welcome").last_counter, 0);
    // And one that could not be stored after all.
    rig.begin();
    rig.give(Input::OpenSender(ConnId(3), open(1, false)));
    rig.not_stored();
    assert_eq!(last_counter(&rig.said()), Some(0));
}

#[test]
fn after_a_refusal_later_ones_wait_until_it_comes_again() {
    let mut rig = Rig::with(&[]);
    rig.open(1, 9);
    let long = vec![0; (1 << 20) + 1];
    rig.give(Input::Publish(ConnId(1), Run::message("out", 5, false, &long)));
    rig.give(Input::Publish(ConnId(1), run("out", &[6, 7], false, b"x")));
    // An earlier one is not the one that was refused.
    rig.give(Input::Publish(ConnId(1), run("out", &[4, 6], false, b"x")));
    rig.flush();
    let said = rig.said();
    let want = [
        (5, Refusal::TooLong),
        (6, Refusal::AfterRefused),
        (7, Refusal::AfterRefused),
        (6, Refusal::AfterRefused),
    ];
    assert_eq!(refused(&said), want);
    assert_eq!(stored(&said), [(1, 4, 2)]);
    let said = rig.ask(Input::Publish(ConnId(1), run("out", &[5, 6], false, b"x")));
    assert_eq!((refused(&said), rig.group.tail()), (vec![], 4));
}

#[test]
fn counters_rise_strictly_and_names_are_the_connections() {
    let mut rig = Rig::with(&[]);
    rig.open(1, 9);
    rig.publish(1, "out", 1);
    rig.publish(1, "out", 5);
    let said = rig.ask(Input::Publish(ConnId(1), run("out", &[3], false, b"x")));
    assert_eq!(refused(&said), [(3, Refusal::CounterSkipped)]);
    let said = rig.ask(Input::Publish(ConnId(1), run("ana", &[6], false, b"x")));
    assert_eq!(refused(&said), [(6, Refusal::WrongName)]);
    let said = rig.ask(Input::Publish(ConnId(2), run("ana", &[6], false, b"x")));
    assert_eq!(refused(&said), [(6, Refusal::NotJoined)]);
}

#[test]
fn a_forgotten_sender_is_told_so_and_never_appended() {
    let mut rig = Rig::new(Limits { senders_max: 2, ..Limits::default() });
    for n in 1..=3u8 {
        rig.open(u64::from(n), n);
        rig.publish(u64::from(n), "out", 1);
    }
    let tail = rig.group.tail();
    // Through the connection that sent it, and through a new one that says it has sent before.
    let said = rig.ask(Input::Publish(ConnId(1), run("out", &[1], false, b"x")));
    assert_eq!(refused(&said), [(1, Refusal::SenderExpired)]);
    let said = rig.ask(Input::OpenSender(ConnId(9), open(1, true)));
    assert_eq!(said, [Output::Refused(ConnId(9), Refusal::SenderExpired)]);
    assert_eq!(rig.group.tail(), tail);
    // What it has not sent yet it may send, also after a restart with a larger table.
    rig.publish(1, "out", 2);
    rig.open(10, 1);
    rig.limits.senders_max = 10;
    rig.crash();
    rig.flush();
    rig.open(11, 1);
    assert_eq!(rig.publish(11, "out", 2), tail + 1);
}

#[test]
fn a_sender_that_began_again_after_it_was_forgotten_can_be_read_back_by_anybody() {
    let mut rig = Rig::new(Limits { senders_max: 1, ..Limits::default() });
    for (conn, id) in [(1, 1), (2, 2), (3, 1)] {
        rig.open(conn, id);
        rig.publish(conn, "out", 1);
    }
    assert_eq!(rig.group.tail(), 4);
    rig.limits.senders_max = 10;
    rig.crash();
    rig.flush();
    rig.open(11, 1);
    assert_eq!(rig.publish(11, "out", 1), 4, "the last one with this counter");
}

#[test]
fn old_runs_of_counters_are_expired_also_when_what_pushed_them_out_was_lost() {
    let mut rig = Rig::new(Limits { runs_per_sender_max: 2, ..Limits::default() });
    rig.open(1, 1);
    rig.open(2, 2);
    let turn = |rig: &mut Rig, n: u64| {
        rig.send(1, "out", n);
        rig.send(2, "out", n);
    };
    (1..=3).for_each(|n| {
        turn(&mut rig, n);
        rig.flush();
    });
    let said = rig.ask(Input::Publish(ConnId(1), run("out", &[1], false, b"x")));
    assert_eq!(refused(&said), [(1, Refusal::SenderExpired)]);
    let tail = rig.group.tail();
    (4..=9).for_each(|n| turn(&mut rig, n));
    rig.begin();
    rig.not_stored();
    rig.said();
    // They were stored, and those that pushed them out were not: not knowing it is said.
    let said = rig.ask(Input::Publish(ConnId(1), run("out", &[1, 2, 3], false, b"x")));
    let expired = |counter| (counter, Refusal::SenderExpired);
    assert_eq!(refused(&said), [expired(1), expired(2), expired(3)]);
    assert_eq!(rig.group.tail(), tail);
    assert_eq!(rig.publish(1, "out", 4), tail + 1);
}

#[test]
fn a_refused_message_that_can_never_be_taken_holds_up_no_later_one() {
    let mut rig = Rig::new(Limits { message_bytes_max: 10, ..Limits::default() });
    rig.open(1, 9);
    rig.open(2, 9);
    rig.publish(1, "out", 1);
    let said = rig.ask(Input::Publish(ConnId(1), run("out", &[2], false, b"more than ten bytes")));
    assert_eq!(refused(&said), [(2, Refusal::TooLong)]);
    let tail = rig.publish(2, "out", 3);
    let said = rig.ask(Input::Publish(ConnId(1), run("out", &[2], false, b"short")));
    assert_eq!(refused(&said), [(2, Refusal::CounterSkipped)]);
    assert_eq!(rig.publish(1, "out", 4), tail + 1);
}

#[test]
fn a_forgotten_sender_whose_next_message_is_lost_is_still_a_forgotten_one() {
    let mut rig = Rig::new(Limits { senders_max: 1, ..Limits::default() });
    for (conn, id) in [(1, 1), (2, 2)] {
        rig.open(conn, id);
        rig.publish(conn, "out", 1);
    }
    rig.send(1, "out", 2);
    rig.begin();
    rig.not_stored();
    let tail = rig.group.tail();
    let said = rig.ask(Input::Publish(ConnId(1), run("out", &[1], false, b"x")));
    assert_eq!(refused(&said), [(1, Refusal::SenderExpired)]);
    assert_eq!(rig.group.tail(), tail);
    assert_eq!(rig.publish(1, "out", 2), tail + 1);
}

#[test]
fn a_sender_is_not_forgotten_before_everything_of_it_is_stored() {
    let mut rig = Rig::new(Limits { senders_max: 1, ..Limits::default() });
    rig.open(1, 1);
    rig.open(2, 2);
    rig.send(1, "out", 1);
    rig.send(2, "out", 1);
    rig.send(1, "out", 1);
    rig.send(1, "out", 2);
    rig.begin();
    rig.said();
    rig.not_stored();
    let lost = |counter| (counter, Refusal::NoSpace);
    assert_eq!(refused(&rig.said()), [lost(1), lost(1), lost(1), lost(2)]);
    // Nothing that it is told of is only believed to be stored.
    assert_eq!(last_counter(&rig.open(3, 1)), Some(0));
}

#[test]
fn what_comes_late_through_another_connection_of_a_forgotten_sender_is_nothing_new() {
    let mut rig = Rig::new(Limits { senders_max: 1, ..Limits::default() });
    rig.open(1, 1);
    rig.open(2, 1);
    rig.publish(2, "out", 1);
    rig.open(3, 2);
    let tail = rig.publish(3, "out", 1);
    let said = rig.ask(Input::Publish(ConnId(1), run("out", &[1], false, b"x")));
    assert_eq!(refused(&said), [(1, Refusal::SenderExpired)]);
    assert_eq!(rig.group.tail(), tail);
}
