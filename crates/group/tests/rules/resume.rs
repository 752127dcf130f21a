//! Coming back: exactly what was not confirmed, or being told what became of one's place.

use tertulia_group::{ConnId, From, Input, Join, LogId, Moved, Position, Welcome};

use crate::rig::{LOG, Rig, back, join};

/// bo has joined and left its connection; ana's messages are 4 to 8.
fn away_after(cursor: u64, open: &[u64]) -> Rig {
    let mut rig = Rig::with(&["ana", "bo"]);
    (1..=5).for_each(|counter| assert_eq!(rig.publish(1, "ana", counter), counter + 3));
    rig.ack_with(2, cursor, open, &[]);
    rig.ask(Input::Closed(ConnId(2)));
    rig
}

fn comes_back(rig: &mut Rig, conn: u64, from: From) -> Welcome {
    rig.join_as(conn, back("bo", 2, from))
}

#[test]
fn it_goes_on_after_what_was_confirmed_and_open_ones_are_listed() {
    let mut rig = away_after(7, &[5, 6]);
    let welcome = comes_back(&mut rig, 3, From::Now);
    assert!(welcome.resumed);
    assert_eq!((welcome.next, welcome.acked, welcome.tail), (8, 7, 8));
    assert_eq!((welcome.open, welcome.moved), (vec![5, 6], None));
    assert_eq!(rig.receipt(6).confirmed, 0, "coming back confirms nothing");
}

#[test]
fn a_place_that_is_further_than_its_last_acknowledgement_counts() {
    let mut rig = away_after(4, &[]);
    let place = rig.place(6);
    let welcome = comes_back(&mut rig, 3, From::After(place));
    assert_eq!((welcome.next, welcome.acked), (7, 6));
    assert_eq!((rig.receipt(6).confirmed, rig.receipt(7).confirmed), (1, 0));
    // It is stored within a second, like any other.
    rig.later(1000);
    rig.flush();
    rig.crash();
    rig.flush();
    assert_eq!(comes_back(&mut rig, 4, From::Now).next, 7);
}

#[test]
fn a_stay_goes_on_where_it_was_whatever_else_is_wished() {
    for from in [From::First, From::At(2), From::At(8), From::At(100)] {
        let mut rig = away_after(6, &[5]);
        let welcome = comes_back(&mut rig, 3, from);
        assert_eq!((welcome.next, welcome.acked, welcome.open), (7, 6, vec![5]), "{from:?}");
    }
}

/// Found by the simulator (seed 42): what was trimmed between its place and what is kept would not have been told.
#[test]
fn a_stay_with_a_place_in_another_log_goes_on_where_it_was_also_below_what_is_kept() {
    let mut rig = away_after(5, &[]);
    // Who is away below what is kept is given up; whose connection is only taken for alive is not.
    comes_back(&mut rig, 3, From::Now);
    rig.ask(Input::Trimmed(8));
    let place = Position { log: LogId([9; 16]), epoch: 1, seq: 100 };
    let welcome = comes_back(&mut rig, 4, From::After(place));
    assert_eq!((welcome.next, welcome.acked, welcome.moved), (6, 5, Some(Moved::OtherLog)));
}

#[test]
fn a_place_behind_what_was_confirmed_brings_nothing_twice() {
    let mut rig = away_after(7, &[]);
    let place = rig.place(4);
    assert_eq!(comes_back(&mut rig, 3, From::After(place)).next, 8);
}

#[test]
fn a_place_beyond_the_end_of_its_epoch_is_cut_back_and_told() {
    let mut rig = away_after(4, &[]);
    rig.crash();
    rig.flush();
    rig.open(9, 9);
    let later = rig.publish(9, "out", 1);
    // 8 was the last of epoch 1, which another coordinator ended with 9.
    let beyond = Position { log: LOG, epoch: 1, seq: later };
    let welcome = comes_back(&mut rig, 3, From::After(beyond));
    assert_eq!((welcome.next, welcome.moved), (9, Some(Moved::CutBack)));
    // The same number in the right epoch is a place.
    let place = rig.place(later);
    let welcome = comes_back(&mut rig, 4, From::After(place));
    assert_eq!((welcome.next, welcome.moved), (later + 1, None));
}

#[test]
fn a_place_in_another_log_confirms_nothing_and_is_told() {
    let mut rig = away_after(4, &[]);
    let other = Position { log: LogId([9; 16]), epoch: 1, seq: 8 };
    let welcome = comes_back(&mut rig, 3, From::After(other));
    assert_eq!((welcome.next, welcome.moved), (5, Some(Moved::OtherLog)));
    assert_eq!((welcome.acked, rig.receipt(8).confirmed), (4, 0));
}

#[test]
fn duty_begins_at_the_join_and_reading_where_it_was_wished() {
    let cases = [
        (From::Now, 9),
        (From::First, 1),
        (From::At(5), 5),
        (From::At(0), 1),
        (From::At(100), 9),
        (From::After(Position { log: LOG, epoch: 1, seq: 5 }), 6),
    ];
    for (from, next) in cases {
        let mut rig = away_after(4, &[]);
        assert_eq!(rig.group.tail(), 8);
        let mut want = next;
        let welcome = rig.join_as(5, Join { from, ..join("cy", 5) });
        if next == 9 {
            want = welcome.key.0 + 1;
        }
        assert_eq!((welcome.next, welcome.acked), (want, want - 1), "{from:?}");
        assert_eq!(rig.receipt(7).members, 1, "{from:?}: not asked for what was before");
        let seq = rig.publish(1, "ana", 6);
        assert_eq!(rig.receipt(seq).members, 2, "{from:?}");
        // What it had not read of the past it has not read after a crash.
        rig.crash();
        rig.flush();
        let again = rig.join_as(6, back("cy", 5, From::Now));
        assert_eq!(again.next, want, "{from:?}");
    }
}

/// bo has left after its grace; its secret's stay is over.
fn left_after(cursor: u64, open: &[u64]) -> Rig {
    let mut rig = away_after(cursor, open);
    rig.tick_after(30_000);
    rig.flush();
    assert_eq!(rig.group.member_count(), 1, "its grace is over");
    rig
}

#[test]
fn after_leaving_it_reads_on_from_its_old_cursor_and_is_sent_again_what_it_had_not_finished() {
    for crashed in [false, true] {
        let mut rig = left_after(7, &[5, 6]);
        if crashed {
            rig.crash();
            rig.flush();
        }
        let place = rig.place(4);
        for from in [From::Now, From::After(place)] {
            let mut rig = left_after(7, &[5, 6]);
            if crashed {
                rig.crash();
                rig.flush();
            }
            let welcome = comes_back(&mut rig, 3, from);
            assert!(!welcome.resumed, "it is a new stay");
            assert_eq!((welcome.next, welcome.open), (8, vec![5, 6]), "crashed: {crashed}");
            assert_eq!(rig.receipt(8).confirmed, 0, "the earlier stay had left");
        }
    }
}

#[test]
fn after_leaving_a_place_that_is_further_counts_and_a_wrong_secret_brings_nothing() {
    let mut rig = left_after(6, &[5]);
    let place = rig.place(7);
    let welcome = comes_back(&mut rig, 3, From::After(place));
    assert_eq!((welcome.next, welcome.open), (8, vec![]));
    let mut rig = left_after(6, &[5]);
    let welcome = rig.join_as(3, back("bo", 9, From::Now));
    assert_eq!((welcome.next, welcome.open), (welcome.key.0 + 1, vec![]));
}

/// Found by the simulator (seed 306148): another stay had been put behind the trimmed part, and this one was told of no gap.
#[test]
fn after_leaving_a_place_below_what_is_kept_is_a_gap_wherever_the_earlier_stay_had_come_to() {
    let mut rig = left_after(7, &[5]);
    rig.ask(Input::Trimmed(8));
    let place = rig.place(4);
    let welcome = comes_back(&mut rig, 3, From::After(place));
    assert_eq!((welcome.next, welcome.open, welcome.moved), (5, vec![], None));
    let mut rig = left_after(7, &[]);
    rig.ask(Input::Trimmed(6));
    let place = rig.place(5);
    assert_eq!(comes_back(&mut rig, 3, From::After(place)).next, 8, "nothing is gone behind it");
}

#[test]
fn an_old_cursor_is_kept_for_seven_days() {
    for (days, next) in [(7, Some(8)), (8, None)] {
        let mut rig = left_after(7, &[]);
        rig.now.wall_us += days * 24 * 3600 * 1_000_000;
        let welcome = comes_back(&mut rig, 3, From::Now);
        assert_eq!(welcome.next, next.unwrap_or(welcome.key.0 + 1), "after {days} days");
    }
}
