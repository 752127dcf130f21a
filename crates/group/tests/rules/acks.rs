//! Acknowledgements: a cursor and exceptions below it; what goes back moves nothing, what is impossible closes.

use tertulia_group::limits::{CODE_BYTES_MAX, FAILED_PER_ACK_MAX, OPEN_MAX};
use tertulia_group::{Output, Refusal};

use crate::rig::Rig;

/// ana is connection 1, bo connection 2; the messages 4, 5, 6 are ana's.
fn three_messages() -> Rig {
    let mut rig = Rig::with(&["ana", "bo"]);
    (1..=3).for_each(|counter| assert_eq!(rig.publish(1, "ana", counter), counter + 3));
    rig.said();
    rig
}

fn closes(rig: &mut Rig) -> bool {
    rig.said().iter().any(|output| matches!(output, Output::Close(_, Refusal::BadAck)))
}

#[test]
fn numbers_that_go_back_move_nothing() {
    let mut rig = three_messages();
    rig.ack_with(2, 6, &[5], &[]);
    assert_eq!(rig.receipt(5).confirmed, 0);
    // A late acknowledgement of 4 does not speak of 5.
    rig.ack(2, 4);
    assert_eq!((rig.receipt(5).confirmed, rig.receipt(6).confirmed), (0, 1));
    assert!(!closes(&mut rig));
    rig.ack(2, 6);
    assert_eq!(rig.receipt(5).confirmed, 1);
}

#[test]
fn what_is_impossible_closes_the_connection_and_changes_nothing() {
    let clean = "x".repeat(CODE_BYTES_MAX);
    let long = "x".repeat(CODE_BYTES_MAX + 1);
    let many: Vec<u64> = (1..=OPEN_MAX as u64 + 1).collect();
    let failed: Vec<(u64, &str)> = (0..=FAILED_PER_ACK_MAX as u64).map(|seq| (seq, "no")).collect();
    type Case<'a> = (&'a str, u64, &'a [u64], &'a [(u64, &'a str)], bool);
    let cases: &[Case<'_>] = &[
        ("the tail", 6, &[], &[], false),
        ("beyond the tail", 7, &[], &[], true),
        ("open above the cursor", 5, &[6], &[], true),
        ("too many open", 6, &many, &[], true),
        ("a long code", 6, &[], &[(5, &clean)], false),
        ("a code that is too long", 6, &[], &[(5, &long)], true),
        ("a code of two lines", 6, &[], &[(5, "a\nb")], true),
        ("no code", 6, &[], &[(5, "")], true),
        ("too many failed", 6, &[], &failed, true),
    ];
    for (what, cursor, open, failed, refused) in cases {
        let mut rig = three_messages();
        rig.ack_with(2, *cursor, open, failed);
        assert_eq!(closes(&mut rig), *refused, "{what}");
        let confirmed: u32 = (4..=6).map(|seq| rig.receipt(seq).confirmed).sum();
        assert_eq!(confirmed == 0, *refused, "{what}");
    }
}

#[test]
fn what_was_confirmed_is_not_open_again() {
    let mut rig = three_messages();
    rig.ack(2, 5);
    rig.ack_with(2, 6, &[5], &[]);
    assert!(closes(&mut rig));
    assert_eq!((rig.receipt(5).confirmed, rig.receipt(6).confirmed), (1, 0));
}

#[test]
fn what_failed_is_neither_open_nor_confirmed() {
    let mut rig = three_messages();
    rig.ack_with(2, 6, &[4, 5], &[]);
    rig.ack_with(2, 6, &[5], &[(4, "exit 7"), (5, "exit 8")]);
    for (seq, code) in [(4, "exit 7"), (5, "exit 8")] {
        let receipt = rig.receipt(seq);
        assert!(receipt.is_final() && !receipt.is_complete());
        assert_eq!(receipt.missing[0].why, tertulia_group::Why::Failed { code: code.to_owned() });
    }
    // Confirming it later, or failing what was confirmed, comes too late.
    rig.ack_with(2, 6, &[], &[(6, "late")]);
    assert_eq!((rig.receipt(4).confirmed, rig.receipt(6).confirmed), (0, 1));
}
