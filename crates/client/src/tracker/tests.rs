//! What an acknowledgement says.

use tertulia_group::Incarnation;
use tertulia_wire::{Level, Secret};

use super::*;

const LOG: LogId = LogId([1; 16]);

fn hello(next: Seq, acked: Seq, open: &[Seq]) -> Welcome {
    Welcome {
        id: 1,
        resumed: true,
        cut_back: false,
        group: "ops".into(),
        name: "ana".into(),
        log: LOG,
        epoch: 1,
        incarnation: Incarnation(1),
        next,
        tail: 1000,
        members: 1,
        secret: Secret([0; 32]),
        last_counter: 0,
        window_bytes: 1,
        level: Level::Os,
        acked,
        open: open.to_vec(),
    }
}

/// A new member that was sent 11 to 10 + `count`.
fn given(count: u64) -> Tracker {
    let mut tracker = Tracker::default();
    assert_eq!(tracker.welcome(&hello(11, 10, &[])), None);
    (11..11 + count).for_each(|seq| assert_eq!(tracker.arrived(seq, 1, true), Arrival::New));
    tracker
}

/// Cursor, open ones, failed ones.
type Said = (Seq, Vec<Seq>, Vec<(Seq, String)>);

fn ack(tracker: &mut Tracker) -> Option<Said> {
    let ack = tracker.ack(Instant::now())?;
    Some((ack.cursor, ack.open, ack.failed.into_iter().map(|f| (f.seq, f.code)).collect()))
}

#[test]
fn the_cursor_waits_before_the_first_that_is_not_done() {
    let mut tracker = given(4);
    assert_eq!(ack(&mut tracker), None);
    tracker.done(12);
    assert_eq!(ack(&mut tracker), None);
    tracker.done(11);
    assert_eq!(ack(&mut tracker), Some((12, vec![], vec![])));
    tracker.done(14);
    tracker.done(13);
    assert_eq!(ack(&mut tracker), Some((14, vec![], vec![])));
    assert_eq!(ack(&mut tracker), None);
}

#[test]
fn open_ones_are_passed_over_until_they_are_done() {
    let mut tracker = given(3);
    tracker.open_one(11);
    (12..14).for_each(|seq| tracker.done(seq));
    assert_eq!(ack(&mut tracker), Some((13, vec![11], vec![])));
    assert_eq!(tracker.position().map(|p| p.seq), Some(10), "what is open is not confirmed");
    tracker.done(11);
    assert_eq!(ack(&mut tracker), Some((13, vec![], vec![])));
    assert_eq!(tracker.position().map(|p| p.seq), Some(13));
}

#[test]
fn the_cursor_waits_before_the_65th_open_one() {
    let mut tracker = given(70);
    (11..81).for_each(|seq| tracker.open_one(seq));
    let (cursor, open, _) = ack(&mut tracker).unwrap();
    assert_eq!((cursor, open), (74, (11..75).collect()));
    tracker.done(20);
    let (cursor, open, _) = ack(&mut tracker).unwrap();
    assert_eq!((cursor, open.len(), open.last()), (75, 64, Some(&75)));
}

#[test]
fn failures_are_told_64_at_a_time_and_never_passed_over() {
    let mut tracker = given(70);
    (11..81).for_each(|seq| tracker.fail(seq, "exit\n7"));
    let (cursor, _, failed) = ack(&mut tracker).unwrap();
    assert_eq!((cursor, failed.len()), (74, 64));
    assert_eq!(failed[0], (11, "exit 7".to_owned()));
    let (cursor, _, failed) = ack(&mut tracker).unwrap();
    assert_eq!((cursor, failed.len()), (80, 6));
    assert_eq!(ack(&mut tracker), None);
    assert_eq!(tracker.position().map(|p| p.seq), Some(10), "not settled yet");
    tracker.settle(Instant::now() + FAILURE_SETTLES * 2);
    assert_eq!(tracker.position().map(|p| p.seq), Some(80));
}

/// Tells everything that there is to tell; how many failures, and the cursor then.
fn tell_all(tracker: &mut Tracker) -> (usize, Seq) {
    let mut told = 0;
    while let Some((_, _, failed)) = ack(tracker) {
        assert!(failed.len() <= FAILED_PER_ACK_MAX);
        told += failed.len();
    }
    (told, tracker.cursor())
}

#[test]
fn what_failed_in_an_earlier_life_is_told_64_at_a_time() {
    let max = KEPT_MAX as u64;
    let failed: Vec<_> = (11..11 + max).map(|seq| (seq, "exit 1".to_owned())).collect();
    let position = Position { log: LOG, epoch: 1, seq: 10 + max };
    let mut tracker = Tracker::resume(position, &[], &failed);
    assert_eq!(tracker.failed(), failed);
    assert_eq!(tracker.position().map(|p| p.seq), Some(10));
    assert_eq!(tracker.welcome(&Welcome { tail: 10 + max, ..hello(11, 10, &[]) }), None);
    (11..11 + max).for_each(|seq| assert_eq!(tracker.arrived(seq, 1, true), Arrival::Known));
    assert_eq!(tell_all(&mut tracker), (KEPT_MAX, 10 + max));
}

#[test]
fn no_more_is_kept_than_can_be_read_back() {
    let mut tracker = given(5000);
    (11..5011).for_each(|seq| tracker.fail(seq, "exit 1"));
    assert_eq!(tracker.failed().len(), KEPT_MAX);
    assert_eq!(tracker.cursor(), 10 + KEPT_MAX as u64, "what is not kept comes again");
    assert_eq!(tell_all(&mut tracker), (5000, 5010), "and none goes before it was told");

    // Open ones that no acknowledgement may speak of: those of a membership that has ended.
    let mut tracker = given(5000);
    (11..5011).for_each(|seq| tracker.open_one(seq));
    let fresh = Welcome { resumed: false, ..hello(5011, 5010, &[]) };
    assert_eq!(tracker.welcome(&Welcome { tail: 5010, ..fresh }), None);
    assert_eq!((tracker.open().len(), tracker.cursor()), (KEPT_MAX, 10 + KEPT_MAX as u64));
    tracker.done(11);
    assert_eq!(tracker.cursor(), 11 + KEPT_MAX as u64);
}

#[test]
fn a_code_is_made_clean() {
    for (code, expected) in [("", "failed"), ("\n", "failed"), (&*"é".repeat(40), &*"é".repeat(32))]
    {
        assert_eq!(clean(code), expected);
    }
}

#[test]
fn a_living_program_gets_nothing_twice_and_confirms_only_what_this_connection_was_sent() {
    let mut tracker = given(5);
    tracker.open_one(11);
    (12..16).for_each(|seq| tracker.done(seq));
    assert_eq!(ack(&mut tracker), Some((15, vec![11], vec![])));
    // The node lost its last checkpoint: it knows up to 12.
    assert_eq!(tracker.welcome(&hello(11, 10, &[])), None);
    assert_eq!(ack(&mut tracker), None, "nothing was sent on this connection");
    for seq in 11..15 {
        assert_eq!(tracker.arrived(seq, 1, true), Arrival::Known);
    }
    assert_eq!(ack(&mut tracker), Some((14, vec![11], vec![])));
    assert_eq!(tracker.arrived(15, 1, true), Arrival::Known);
    assert_eq!(tracker.arrived(16, 1, true), Arrival::New);
    assert_eq!(ack(&mut tracker), Some((15, vec![11], vec![])));
}

#[test]
fn what_was_done_while_away_is_told_after_the_resume() {
    let mut tracker = given(2);
    tracker.open_one(11);
    tracker.done(12);
    assert!(ack(&mut tracker).is_some());
    tracker.done(11);
    assert_eq!(tracker.welcome(&hello(13, 12, &[11])), None);
    assert_eq!(tracker.arrived(11, 1, true), Arrival::Known, "it comes again, and is done");
    assert_eq!(ack(&mut tracker), Some((12, vec![], vec![])));
}

#[test]
fn a_program_that_begins_again_gets_its_open_ones() {
    let position = Position { log: LOG, epoch: 1, seq: 15 };
    let mut tracker = Tracker::resume(position, &[12], &[(14, "exit 1".into())]);
    assert_eq!(tracker.position().map(|p| p.seq), Some(11));
    assert_eq!(tracker.welcome(&hello(16, 15, &[12, 14])), None);
    assert_eq!(tracker.arrived(12, 1, true), Arrival::New);
    assert_eq!(tracker.arrived(14, 1, true), Arrival::Known);
    assert_eq!(tracker.arrived(16, 1, true), Arrival::New);
    assert_eq!(ack(&mut tracker), Some((15, vec![12], vec![(14, "exit 1".into())])));
    tracker.done(12);
    tracker.done(16);
    assert_eq!(ack(&mut tracker), Some((16, vec![], vec![])));
}

#[test]
fn an_open_one_that_cannot_come_again_has_failed() {
    let position = Position { log: LOG, epoch: 1, seq: 15 };
    let mut tracker = Tracker::resume(position, &[12], &[]);
    assert_eq!(tracker.welcome(&hello(16, 15, &[12])), None);
    assert_eq!(tracker.not_again(16), [12]);
    assert_eq!(tracker.arrived(16, 1, true), Arrival::New);
    assert_eq!(ack(&mut tracker), Some((15, vec![], vec![(12, "expired".into())])));
}

#[test]
fn a_new_membership_cannot_reopen_what_lies_before_its_join() {
    let mut tracker = given(3);
    tracker.open_one(11);
    (12..14).for_each(|seq| tracker.done(seq));
    let fresh = Welcome { resumed: false, ..hello(14, 20, &[]) };
    assert_eq!(tracker.welcome(&fresh), None);
    (14..22).for_each(|seq| assert_eq!(tracker.arrived(seq, 1, true), Arrival::New));
    (14..22).for_each(|seq| tracker.done(seq));
    assert_eq!(ack(&mut tracker), Some((21, vec![], vec![])));
}

#[test]
fn a_log_that_lost_its_end_is_told_and_read_again() {
    // By the node, by its tail, and by an entry of a later epoch under a number that was read.
    let mut tracker = given(5);
    let cut = Welcome { cut_back: true, epoch: 2, ..hello(13, 12, &[]) };
    assert_eq!(tracker.welcome(&cut), Some(13));
    assert_eq!(tracker.arrived(13, 2, true), Arrival::New);

    let mut tracker = given(5);
    let short = Welcome { tail: 13, epoch: 2, ..hello(12, 11, &[]) };
    assert_eq!(tracker.welcome(&short), Some(14));
    assert_eq!(tracker.arrived(13, 1, true), Arrival::Known);
    assert_eq!(tracker.arrived(14, 2, true), Arrival::New);

    let mut tracker = given(5);
    assert_eq!(tracker.welcome(&Welcome { epoch: 2, ..hello(12, 11, &[]) }), None);
    assert_eq!(tracker.arrived(12, 1, true), Arrival::Known);
    assert_eq!(tracker.arrived(13, 2, true), Arrival::CutBack);
    assert_eq!(tracker.arrived(14, 2, true), Arrival::New);
}

#[test]
fn another_log_begins_anew() {
    let mut tracker = given(5);
    let other = LogId([2; 16]);
    let welcome = Welcome { log: other, epoch: 1, ..hello(1, 0, &[]) };
    assert_eq!(tracker.welcome(&welcome), Some(1));
    assert!(!tracker.reset(other, 1, 1), "told already");
    assert_eq!(tracker.arrived(1, 1, true), Arrival::New);
    assert_eq!(tracker.position().map(|p| (p.log, p.seq)), Some((other, 0)));
}

#[test]
fn a_gap_is_told_once_and_passed_over() {
    let mut tracker = given(2);
    assert_eq!(tracker.gap(5, 20), Some((13, 20)));
    assert_eq!(tracker.gap(5, 20), None);
    (11..13).for_each(|seq| tracker.done(seq));
    assert_eq!(ack(&mut tracker), Some((20, vec![], vec![])));
}
