//! Receipts: who is asked, what counts, when it is final, and what is said of it.

use tertulia_group::{
    CompleteRun, ConnId, Door, From, Input, Join, Limits, Output, Receipt, Ticket, Why,
};

use crate::rig::{Rig, back, join, run};

fn missing(receipt: &Receipt) -> Vec<(&str, &str)> {
    receipt.missing.iter().map(|missing| (missing.name.as_str(), missing.why.as_str())).collect()
}

fn complete(said: &[Output]) -> Vec<CompleteRun> {
    said.iter()
        .filter_map(|output| match output {
            Output::Complete(_, run) => Some(*run),
            _ => None,
        })
        .collect()
}

fn receipts(said: &[Output]) -> Vec<&Receipt> {
    said.iter()
        .filter_map(|output| match output {
            Output::Receipt(_, _, receipt) => Some(receipt),
            _ => None,
        })
        .collect()
}

#[test]
fn a_run_is_answered_at_once_when_the_last_one_has_confirmed() {
    let mut rig = Rig::with(&["ana", "bo", "cy"]);
    rig.ask(Input::Publish(ConnId(1), run("ana", &[1, 2, 3, 4], true, b"x")));
    rig.ack(2, 8);
    rig.ack(3, 6);
    let said = rig.said();
    let [first] = complete(&said)[..] else { panic!("{said:?}") };
    assert_eq!((first.counter, first.seq, first.count), (1, 5, 2));
    assert_eq!((first.members, first.reached, first.epoch), (2, 0, 1));
    rig.ack(3, 8);
    let said = rig.said();
    assert_eq!((complete(&said)[0].counter, complete(&said)[0].count), (3, 2));
}

#[test]
fn leaving_is_not_confirming_however_it_happens() {
    for how in [
        Input::Leave(ConnId(2)),
        Input::Remove(Ticket(1), crate::rig::name("bo")),
        Input::Closed(ConnId(2)),
    ] {
        let mut rig = Rig::with(&["ana", "bo", "cy"]);
        let (first, second) = (rig.publish(1, "ana", 1), rig.publish(1, "ana", 2));
        rig.ack(2, first);
        rig.ack(3, second);
        rig.said();
        rig.give(how);
        // Too late: its `left` is on its way (or it is away).
        rig.ack(2, second);
        rig.flush();
        rig.tick_after(30_000);
        rig.flush();
        let said = rig.said();
        assert!(complete(&said).is_empty());
        let [receipt] = receipts(&said)[..] else { panic!("{said:?}") };
        assert_eq!((receipt.seq, receipt.members, receipt.confirmed), (second, 2, 1));
        assert_eq!(missing(receipt), [("bo", "left")]);
        assert_eq!(missing(&rig.receipt(first)), []);
        rig.crash();
        assert_eq!(rig.receipt(second), *receipt, "the left entry says how far it had come");
    }
}

#[test]
fn each_who_does_not_count_is_named_with_the_reason() {
    let mut rig = Rig::with(&["ana", "away", "busy", "failed", "lag", "left"]);
    let seq = rig.publish(1, "ana", 1);
    rig.ack_with(3, seq, &[seq], &[]);
    rig.ack_with(4, seq, &[], &[(seq, "exit 7")]);
    rig.give(Input::Lagging(ConnId(5), true));
    rig.ask(Input::Leave(ConnId(6)));
    rig.ask(Input::Closed(ConnId(2)));
    rig.later(1234);
    let receipt = rig.receipt(seq);
    let want = [
        ("away", "away"),
        ("busy", "pending"),
        ("failed", "failed"),
        ("lag", "lagging"),
        ("left", "left"),
    ];
    assert_eq!(missing(&receipt), want);
    assert_eq!(receipt.missing[0].why, Why::Away { ms: 1234 });
    assert!(!receipt.is_final());
}

#[test]
fn only_the_publishing_stay_is_not_asked() {
    let mut rig = Rig::with(&["ana", "bo"]);
    let seq = rig.publish(1, "ana", 1);
    assert_eq!(rig.receipt(seq).members, 1);
    // The same sender from outside asks the member of that name too.
    rig.open(9, 1);
    let outside = rig.publish(9, "out", 2);
    assert_eq!(rig.receipt(outside).members, 2);
    // A retry from outside is still the message that the stay published.
    rig.said();
    assert_eq!(rig.publish(9, "out", 1), seq);
    rig.ack(2, outside);
    let said = rig.said();
    let own: Vec<_> =
        complete(&said).iter().filter(|run| run.seq == seq).map(|run| run.members).collect();
    assert_eq!(own, [1, 1], "both who asked are answered");
    assert!(complete(&said).iter().all(|run| run.seq != outside));
    rig.ack(1, outside);
    assert_eq!(complete(&rig.said())[0].members, 2);
}

#[test]
fn a_host_that_took_it_counts_as_reached_until_its_program_speaks() {
    let mut rig = Rig::with(&["ana"]);
    rig.join_as(2, Join { door: Door::Line, ..join("bo", 2) });
    let (first, second) = (rig.publish(1, "ana", 1), rig.publish(1, "ana", 2));
    rig.said();
    rig.give(Input::Reached(ConnId(2), first));
    rig.settle();
    let run = complete(&rig.said())[0];
    assert_eq!((run.seq, run.count, run.members, run.reached), (first, 1, 1, 1));
    rig.ack(2, first);
    rig.give(Input::Reached(ConnId(2), second));
    rig.settle();
    assert!(!rig.receipt(second).is_final(), "now the program is asked");
    assert_eq!(rig.receipt(first).confirmed, 1);
    // Nobody else is asked through a host.
    rig.give(Input::Reached(ConnId(1), second));
    assert_eq!(rig.group.member(&crate::rig::name("ana")).map(|ana| ana.reached), Some(0));
}

#[test]
fn somebody_who_asks_by_number_is_answered_when_it_is_final() {
    let mut rig = Rig::with(&["ana", "bo"]);
    let seq = rig.publish(1, "ana", 1);
    let publisher = rig.publisher(seq);
    rig.said();
    rig.ask(Input::Await(Ticket(1), seq, publisher));
    rig.ask(Input::Await(Ticket(2), seq, publisher));
    assert_eq!(rig.said(), []);
    rig.give(Input::Forget(Ticket(2)));
    rig.ack(2, seq);
    let said = rig.said();
    let awaited: Vec<_> =
        said.iter().filter(|output| matches!(output, Output::Awaited(..))).collect();
    assert_eq!(awaited, [&Output::Awaited(Ticket(1), Some(rig.receipt(seq)))]);
    // Long gone: said at once.
    rig.ask(Input::Trimmed(seq + 1));
    let said = rig.ask(Input::Await(Ticket(3), seq, publisher));
    assert_eq!(said, [Output::Awaited(Ticket(3), None)]);
}

#[test]
fn trimming_never_makes_a_leaver_count() {
    let mut rig = Rig::with(&["ana", "bo", "cy"]);
    let seq = rig.publish(1, "ana", 1);
    rig.ask(Input::Leave(ConnId(2)));
    rig.open(9, 9);
    rig.publish(9, "out", 1);
    rig.said();
    // What was to be said is said before it is forgotten.
    let said = rig.ask(Input::Trimmed(seq + 2));
    rig.ack(3, seq);
    let late = rig.said();
    assert!(complete(&said).is_empty() && complete(&late).iter().all(|run| run.seq != seq));
    let [receipt] = receipts(&said)[..] else { panic!("{said:?}") };
    assert_eq!(missing(receipt), [("bo", "left"), ("cy", "pending")]);
    assert!(rig.group.receipt(seq, rig.publisher(seq), rig.now).is_err());
}

#[test]
fn what_is_kept_of_the_past_is_bounded_and_its_end_is_told() {
    let limits = Limits { departed_max: 1, failures_max: 1, ..Limits::default() };
    for fails in [false, true] {
        let mut rig = Rig::new(limits.clone());
        ["ana", "bo", "cy", "di"].iter().zip(1..).for_each(|(text, n)| drop(rig.join(n, text)));
        let first = rig.publish(1, "ana", 1);
        let second = rig.publish(1, "ana", 2);
        rig.said();
        if fails {
            rig.ack_with(2, second, &[], &[(first, "no"), (second, "no")]);
        } else {
            rig.ask(Input::Leave(ConnId(2)));
            rig.ask(Input::Leave(ConnId(3)));
        }
        rig.flush();
        let receipt = |seq| rig.group.receipt(seq, rig.publisher(seq), rig.now);
        assert!(receipt(first).is_err());
        assert_eq!(receipt(second).is_ok(), fails);
        rig.ack(4, second);
        rig.ack(3, second);
        assert!(complete(&rig.said()).is_empty(), "nobody forgotten is counted");
    }
}

#[test]
fn who_waits_for_too_much_gets_the_oldest_as_it_stands() {
    let limits = Limits { waiting_runs_max: 2, ..Limits::default() };
    let mut rig = Rig::new(limits);
    ["ana", "bo"].iter().zip(1..).for_each(|(text, n)| drop(rig.join(n, text)));
    rig.open(9, 9);
    for counter in 1..=3 {
        rig.publish(1, "ana", counter);
        // Another one's message between, so that they are no run.
        rig.give(Input::Publish(ConnId(9), run("out", &[counter], false, b"x")));
    }
    rig.flush();
    let said = rig.said();
    let [receipt] = receipts(&said)[..] else { panic!("{said:?}") };
    assert_eq!((receipt.seq, missing(receipt)), (4, vec![("bo", "pending")]));
    rig.ack(2, rig.group.tail());
    assert_eq!(complete(&rig.said()).len(), 2);
}

#[test]
fn followers_are_told_each_cursor_by_name() {
    let mut rig = Rig::with(&["ana", "bo"]);
    rig.join_as(3, Join { follow: true, ..join("cy", 3) });
    let seq = rig.publish(1, "ana", 1);
    rig.said();
    rig.ack(2, seq);
    let said = rig.said();
    let told = said.iter().find_map(|output| match output {
        Output::Confirmed(conn, all) => Some((conn.0, all[0].name.to_string(), all[0].cursor)),
        _ => None,
    });
    assert_eq!(told, Some((3, "bo".to_owned(), seq)));
    rig.join_as(4, back("bo", 2, From::Now));
}

#[test]
fn a_failure_that_the_table_has_dropped_is_not_lost_with_its_batch() {
    let mut rig = Rig::new(Limits { failures_max: 1, ..Limits::default() });
    rig.join(1, "ana");
    rig.open(9, 9);
    let (first, second) = (rig.publish(9, "out", 1), rig.publish(9, "out", 2));
    rig.ack_with(1, second, &[], &[(first, "exit 1"), (second, "exit 2")]);
    assert!(rig.begin());
    rig.not_stored();
    rig.later(rig.limits.checkpoint_ms);
    rig.flush();
    rig.crash();
    rig.flush();
    assert!(rig.group.receipt(first, None, rig.now).is_err(), "nobody says that it was done");
    assert_eq!(missing(&rig.receipt(second)), [("ana", "failed")]);
}

/// Number, who confirmed, who is missing and why.
type Told<'a> = (u64, u32, Vec<(&'a str, &'a str)>);

fn watched(said: &[Output]) -> Vec<Told<'_>> {
    let mut all = Vec::new();
    for output in said {
        match output {
            Output::WatchedComplete(run) => {
                let one = |seq| (seq, run.members - run.reached, Vec::new());
                all.extend((run.seq..run.seq + u64::from(run.count)).map(one));
            }
            Output::Watched(receipt) => {
                all.push((receipt.seq, receipt.confirmed, missing(receipt)));
            }
            _ => {}
        }
    }
    all
}

#[test]
fn who_looks_on_is_told_each_receipt_once_it_is_final_whoever_sent_it() {
    let mut rig = Rig::with(&["ana", "bo"]);
    rig.give(Input::Watch(Vec::new()));
    let own = rig.publish(1, "ana", 1);
    rig.open(9, 9);
    let outside = rig.publish(9, "out", 1);
    // The sender has gone; its message is told all the same.
    rig.give(Input::Closed(ConnId(9)));
    assert_eq!(watched(&rig.said()), []);
    rig.ack(2, outside);
    assert_eq!(watched(&rig.said()), [(own, 1, vec![])], "ana is not asked for her own");
    rig.ack_with(1, outside, &[], &[(outside, "exit 7")]);
    assert_eq!(watched(&rig.said()), [(outside, 1, vec![("ana", "failed")])]);
    rig.give(Input::Unwatch);
    let last = rig.publish(1, "ana", 2);
    rig.ack(2, last);
    assert_eq!(watched(&rig.said()), [], "nobody looks on");
}

#[test]
fn who_looks_on_is_told_of_open_work_and_of_who_left_when_nobody_can_still_answer() {
    let mut rig = Rig::with(&["ana", "bo", "cy"]);
    rig.give(Input::Watch(Vec::new()));
    let first = rig.publish(1, "ana", 1);
    let second = rig.publish(1, "ana", 2);
    rig.ack_with(2, second, &[first], &[]);
    rig.ack(3, first);
    assert_eq!(watched(&rig.said()), [], "bo is at work on the first, cy has not seen the second");
    rig.give(Input::Leave(ConnId(3)));
    rig.flush();
    assert_eq!(watched(&rig.said()), [(second, 1, vec![("cy", "left")])]);
    rig.ack(2, second);
    assert_eq!(watched(&rig.said()), [(first, 2, vec![])]);
}

#[test]
fn who_begins_to_look_on_is_told_of_what_was_stored_before() {
    let mut rig = Rig::with(&["ana", "bo"]);
    let publisher = rig.group.stay(ConnId(1));
    let first = rig.publish(1, "ana", 1);
    let second = rig.publish(1, "ana", 2);
    rig.ack(2, first);
    rig.said();
    rig.give(Input::Watch(vec![(second, publisher)]));
    rig.settle();
    assert_eq!(watched(&rig.said()), []);
    rig.ack(2, second);
    assert_eq!(watched(&rig.said()), [(second, 1, vec![])]);
}

#[test]
fn of_more_than_can_be_watched_the_oldest_is_not_told() {
    let limits = Limits { watched_runs_max: 2, ..Limits::default() };
    let mut rig = Rig::new(limits);
    ["ana", "bo"].iter().zip(1..).for_each(|(text, n)| drop(rig.join(n, text)));
    rig.open(9, 9);
    rig.give(Input::Watch(Vec::new()));
    let mut numbers = Vec::new();
    for counter in 1..=2 {
        numbers.push(rig.publish(1, "ana", counter));
        numbers.push(rig.publish(9, "out", counter));
    }
    rig.said();
    assert_eq!(rig.group.tables().watched_runs, 2);
    rig.ack(1, rig.group.tail());
    rig.ack(2, rig.group.tail());
    let mut told: Vec<_> = watched(&rig.said()).into_iter().map(|(seq, ..)| seq).collect();
    told.sort_unstable();
    assert_eq!(told, numbers[2..]);
}
