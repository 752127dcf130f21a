//! Nothing is said before it is stored, and what is not stored was never said.

use tertulia_group::{ConnId, From, Input, LeaveReason, Output, Refusal, Ticket};

use crate::rig::{Rig, back, join, name, open, run};

#[test]
fn nothing_is_answered_before_its_batch_is_stored() {
    let mut rig = Rig::with(&["ana"]);
    rig.open(9, 9);
    rig.said();
    rig.give(Input::Publish(ConnId(9), run("out", &[1, 2], true, b"x")));
    rig.give(Input::Join(ConnId(2), Box::new(join("bo", 2))));
    rig.give(Input::Leave(ConnId(1)));
    rig.give(Input::Remove(Ticket(1), name("ana")));
    rig.give(Input::OpenSender(ConnId(8), open(9, true)));
    rig.settle();
    assert_eq!(rig.said(), []);
    assert!(rig.begin());
    // The next batch fills meanwhile.
    rig.send(9, "out", 3);
    rig.settle();
    assert_eq!(rig.said(), []);
    assert_eq!((rig.group.tail(), rig.group.member_count()), (2, 1));
    rig.stored();
    let said = rig.said();
    let stored: u32 = said
        .iter()
        .map(|output| if let Output::Stored(_, run) = output { run.count } else { 0 })
        .sum();
    assert_eq!(stored, 2, "and not the third");
    assert!(said.iter().any(|output| matches!(output, Output::Welcome(conn, _) if conn.0 == 2)));
    assert!(said.iter().any(|output| matches!(output, Output::Gone(conn, _) if conn.0 == 1)));
    assert!(said.contains(&Output::Removed(Ticket(1), true)));
    assert!(said.iter().any(|output| matches!(output, Output::SenderReady(conn, ready) if conn.0 == 8 && ready.last_counter == 2)));
}

#[test]
fn a_batch_that_is_not_stored_is_taken_back_with_what_was_built_on_it() {
    let mut rig = Rig::with(&["ana", "bo"]);
    let first = rig.publish(1, "ana", 1);
    rig.said();
    rig.give(Input::Publish(ConnId(1), run("ana", &[2, 3], true, b"x")));
    rig.ack_with(2, first, &[], &[(first, "no")]);
    rig.begin();
    rig.give(Input::Publish(ConnId(1), run("ana", &[4], true, b"x")));
    rig.give(Input::Leave(ConnId(2)));
    rig.not_stored();
    let refused: Vec<u64> = rig
        .said()
        .iter()
        .filter_map(|output| match output {
            Output::MessageRefused(_, counter, Refusal::NoSpace) => Some(*counter),
            _ => None,
        })
        .collect();
    assert_eq!(refused, [2, 3, 4]);
    assert_eq!(rig.group.tail(), first);
    // The order is kept by refusing what comes before the first of them.
    let said = rig.ask(Input::Publish(ConnId(1), run("ana", &[4], true, b"x")));
    assert_eq!(said, [Output::MessageRefused(ConnId(1), 4, Refusal::AfterRefused)]);
    let seqs: Vec<u64> = (2..=4).map(|counter| rig.publish(1, "ana", counter)).collect();
    assert_eq!(seqs, [first + 1, first + 2, first + 3]);
    // The leave is tried again, and the failure that was lost is stored after all.
    rig.tick_after(1000);
    rig.flush();
    assert_eq!(rig.group.member_count(), 1);
    let before = rig.receipt(first);
    rig.crash();
    assert_eq!(rig.receipt(first), before);
    assert_eq!(before.missing[0].why.as_str(), "failed");
}

#[test]
fn a_leave_that_could_not_be_stored_is_stored_later_and_nothing_is_heard_meanwhile() {
    let mut rig = Rig::with(&["ana", "bo"]);
    let (first, second) = (rig.publish(1, "ana", 1), rig.publish(1, "ana", 2));
    rig.give(Input::Remove(Ticket(1), name("bo")));
    rig.begin();
    rig.ack_with(2, first, &[], &[(first, "exit 7")]);
    rig.send(2, "bo", 1);
    rig.not_stored();
    // Whoever missed the failure would take the next cursor for a confirmation.
    rig.ack(2, second);
    rig.send(2, "bo", 2);
    let said = rig.ask(Input::Join(ConnId(3), Box::new(back("bo", 2, From::Now))));
    assert_eq!(said, [Output::Refused(ConnId(3), Refusal::Busy)]);
    assert_eq!((rig.receipt(first).confirmed, rig.receipt(second).confirmed), (0, 0));
    rig.tick_after(1000);
    rig.flush();
    let said = rig.said();
    assert!(said.contains(&Output::Gone(ConnId(2), LeaveReason::Removed)));
    for seq in [first, second] {
        assert_eq!(rig.receipt(seq).missing[0].why.as_str(), "left");
    }
}

#[test]
fn cursors_and_failures_alone_wait_after_a_batch_that_found_no_room_and_a_message_takes_them_along()
{
    for with_message in [false, true] {
        let mut rig = Rig::with(&["ana", "bo"]);
        let first = rig.publish(1, "ana", 1);
        rig.ack_with(2, first, &[], &[(first, "exit 7")]);
        assert!(rig.begin());
        rig.not_stored();
        assert!(!rig.begin(), "a full disk would be asked without end");
        assert_eq!(rig.group.deadline_ms(), Some(rig.now.mono_ms + rig.limits.checkpoint_ms));
        if with_message {
            rig.publish(1, "ana", 2);
        } else {
            rig.later(rig.limits.checkpoint_ms);
            rig.flush();
        }
        let before = rig.receipt(first);
        rig.crash();
        assert_eq!(rig.receipt(first), before);
        assert_eq!(before.missing[0].why.as_str(), "failed");
    }
}
