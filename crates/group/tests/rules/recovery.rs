//! Reading back: the same as never having crashed, apart from who is connected, and never ahead.

use bytes::Bytes;
use tertulia_group::{ConnId, From, Group, Input, Limits, Receipt, RecoverError};

use crate::rig::{LOG, Rig, back, join, run};

fn receipts(group: &Group, rig: &Rig) -> Vec<Receipt> {
    (1..=group.tail())
        .filter_map(|seq| group.receipt(seq, rig.publisher(seq), rig.now).ok())
        .map(|mut receipt| {
            // Who is connected is not read back.
            receipt.missing.retain(|missing| !missing.why.is_open());
            receipt
        })
        .collect()
}

#[test]
fn a_failure_is_kept_also_when_its_member_leaves_with_the_same_batch() {
    let mut rig = Rig::with(&["ana", "bo"]);
    let seq = rig.publish(1, "ana", 1);
    rig.ack_with(2, seq, &[], &[(seq, "exit 7")]);
    rig.give(Input::Leave(ConnId(2)));
    rig.flush();
    let before = rig.receipt(seq);
    assert_eq!((before.confirmed, before.missing[0].why.as_str()), (0, "failed"));
    rig.crash();
    assert_eq!(rig.receipt(seq), before);
}

#[test]
fn a_failure_is_stored_no_later_than_the_cursor_of_a_full_batch() {
    let limits = Limits { batch_bytes_max: 100, ..Limits::default() };
    let mut rig = Rig::new(limits);
    ["ana", "bo"].iter().zip(1..).for_each(|(text, n)| drop(rig.join(n, text)));
    let seq = rig.publish(1, "ana", 1);
    rig.send(1, "ana", 2);
    rig.begin();
    rig.ack_with(2, seq, &[], &[(seq, "exit 7")]);
    rig.give(Input::Leave(ConnId(2)));
    rig.give(Input::Publish(ConnId(1), run("ana", &[3], true, &[0; 200])));
    rig.stored();
    rig.begin();
    rig.stored();
    // The batch with its `left` is stored; what comes later is lost.
    rig.crash();
    assert_eq!(rig.receipt(seq).missing[0].why.as_str(), "failed");
}

#[test]
fn a_cursor_is_stored_within_a_second_and_at_a_clean_end_at_once() {
    for clean in [false, true] {
        let mut rig = Rig::with(&["ana", "bo"]);
        let first = rig.publish(1, "ana", 1);
        let second = rig.publish(1, "ana", 2);
        rig.ack(2, first);
        rig.later(1000);
        assert!(rig.group.deadline_ms().is_some_and(|ms| ms <= rig.now.mono_ms));
        rig.flush();
        rig.ack(2, second);
        rig.flush();
        if clean {
            rig.give(Input::Checkpoint);
            rig.flush();
        }
        let group = rig.recovered(None);
        let bo = group.members().find(|member| member.name.as_str() == "bo").expect("bo");
        assert_eq!(bo.acked, if clean { second } else { first });
    }
}

#[test]
fn nothing_is_due_while_a_batch_is_on_its_way() {
    let mut rig = Rig::with(&["ana", "bo"]);
    let seq = rig.publish(1, "ana", 1);
    rig.ack(2, seq);
    rig.send(1, "ana", 2);
    rig.begin();
    rig.later(2000);
    assert_eq!(rig.group.deadline_ms(), None, "a tick can do nothing about the cursor");
    rig.stored();
    rig.ack(2, seq + 1);
    assert!(rig.group.deadline_ms().is_some());
}

#[test]
fn a_snapshot_taken_at_any_point_comes_to_the_same() {
    let mut rig = Rig::with(&["ana", "bo", "cy"]);
    let mut snapshots = Vec::new();
    let mut take = |rig: &Rig| snapshots.push((rig.group.snapshot(), rig.records.len()));
    rig.open(9, 9);
    for counter in 1..=12 {
        let by_member = rig.publish(1, "ana", counter);
        take(&rig);
        rig.send(9, "out", counter);
        rig.begin();
        // While a batch is on its way.
        rig.ack_with(2, by_member, if counter % 2 == 0 { &[4] } else { &[] }, &[]);
        take(&rig);
        rig.ack_with(3, by_member, &[], &[(by_member, "exit 1")]);
        rig.stored();
        take(&rig);
        match counter {
            4 => drop(rig.ask(Input::Leave(ConnId(3)))),
            6 => drop(rig.join(4, "cy")),
            8 => {
                rig.give(Input::Checkpoint);
                rig.flush();
                rig.crash();
                rig.flush();
                rig.join_as(11, back("ana", 1, From::Now));
                rig.join_as(12, back("bo", 2, From::Now));
                rig.give(Input::Closed(ConnId(9)));
                rig.open(9, 9);
                break;
            }
            _ => {}
        }
    }
    rig.give(Input::Checkpoint);
    rig.flush();
    take(&rig);
    let want = rig.recovered(None);
    for (bytes, covered) in &snapshots {
        let group = rig.recovered(Some((bytes, *covered)));
        assert_eq!(receipts(&group, &rig), receipts(&want, &rig));
        assert_eq!((group.tail(), group.epoch()), (want.tail(), want.epoch()));
        let members = |group: &Group| {
            let mut all: Vec<_> = group
                .members()
                .map(|m| (m.key, m.name.clone(), m.secret, m.durable, m.acked, m.open.clone()))
                .collect();
            all.sort_by_key(|(key, ..)| *key);
            all
        };
        assert_eq!(members(&group), members(&want));
        // The senders' table: every counter gets its number back.
        let mut other = Rig::new(Limits::default());
        other.records.clone_from(&rig.records);
        other.crash_to(Some((bytes, *covered)));
        other.flush();
        let tail = other.group.tail();
        other.open(31, 9);
        other.open(32, 1);
        (1..=8).for_each(|counter| {
            assert_eq!(other.publish(31, "out", counter), rig.publish(9, "out", counter));
            other.publish(32, "out", counter);
        });
        assert_eq!(other.group.tail(), tail, "nothing was appended twice");
    }
}

#[test]
fn a_snapshot_is_not_overwritten_by_an_older_batch_that_was_on_its_way() {
    let mut rig = Rig::with(&["ana", "bo"]);
    (1..=3).for_each(|counter| assert_eq!(rig.publish(1, "ana", counter), counter + 3));
    rig.ack_with(2, 5, &[4], &[]);
    rig.later(1000);
    assert!(rig.begin(), "a cursor is due");
    rig.ack_with(2, 6, &[4, 6], &[]);
    let (bytes, covered) = (rig.group.snapshot(), rig.records.len());
    rig.stored();
    let group = rig.recovered(Some((&bytes, covered)));
    let bo = group.members().find(|member| member.name.as_str() == "bo").expect("bo");
    assert_eq!((bo.acked, &bo.open[..]), (6, &[4, 6][..]));
}

#[test]
fn receipts_that_were_too_old_are_too_old_after_reading_back() {
    let mut rig = Rig::new(Limits { departed_max: 1, ..Limits::default() });
    ["ana", "bo", "cy"].iter().zip(1..).for_each(|(text, n)| drop(rig.join(n, text)));
    let seq = rig.publish(1, "ana", 1);
    rig.ask(Input::Leave(ConnId(2)));
    rig.ask(Input::Leave(ConnId(3)));
    for group in
        [rig.recovered(None), rig.recovered(Some((&rig.group.snapshot(), rig.records.len())))]
    {
        assert!(group.receipt(seq, rig.publisher(seq), rig.now).is_err());
    }
}

#[test]
fn what_this_program_cannot_have_stored_is_an_error_and_no_panic() {
    let mut rig = Rig::with(&["ana", "bo"]);
    rig.publish(1, "ana", 1);
    rig.join_as(5, join("cy", 5));
    let snapshot = rig.group.snapshot();
    let restore = |bytes: &[u8]| Group::restore(LOG, Limits::default(), 1, bytes);
    assert!(restore(&snapshot).is_ok());
    (0..snapshot.len()).for_each(|end| assert!(restore(&snapshot[..end]).is_err(), "cut at {end}"));
    let replay = |first, count, notes: &Bytes, entries: &Bytes| -> Result<(), RecoverError> {
        Group::new(LOG, Limits::default()).replay(first, count, notes, entries)
    };
    let record = rig.records[0].clone();
    assert!(replay(1, 1, &record.notes, &record.entries).is_ok());
    assert!(replay(2, 1, &record.notes, &record.entries).is_err(), "not the next one");
    assert!(replay(1, 2, &record.notes, &record.entries).is_err(), "fewer entries");
    let cut = record.entries.slice(..record.entries.len() - 1);
    assert!(replay(1, 1, &record.notes, &cut).is_err(), "cut short");
    assert!(replay(1, 1, &Bytes::from_static(&[9]), &record.entries).is_err(), "a strange note");
}

/// Found by the fuzz target `recover`: sums of such numbers overflowed, and a debug build fell over.
#[test]
fn impossible_numbers_in_a_snapshot_are_refused_or_harmless() {
    let mut rig = Rig::with(&["ana", "bo"]);
    let seq = rig.publish(1, "ana", 1);
    rig.ack_with(2, seq, &[], &[(seq, "exit 7")]);
    rig.give(Input::Leave(ConnId(2)));
    rig.flush();
    let snapshot = rig.group.snapshot();
    let mut refused = 0;
    for at in 1..snapshot.len() - 8 {
        for value in [0, 1, u64::MAX - 1, u64::MAX] {
            let mut bytes = snapshot.to_vec();
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
            match Group::restore(LOG, Limits::default(), 1, &bytes) {
                Err(_) => refused += 1,
                Ok(mut group) => {
                    let epoch = group.epoch() + 1;
                    group.take_over(rig.now, epoch, "n");
                    let _ = (group.receipt(seq, None, rig.now), group.snapshot());
                }
            }
        }
    }
    assert!(refused > snapshot.len(), "{refused}");
}

/// Found by the fuzz target `recover`.
#[test]
fn a_message_without_a_counter_is_refused() {
    let mut rig = Rig::with(&["ana"]);
    rig.publish(1, "ana", 1);
    let record = rig.records.last().expect("the message's").clone();
    let mut entries = record.entries.to_vec();
    entries[32..40].fill(0);
    let mut group = Group::new(LOG, Limits::default());
    let (last, before) = rig.records.split_last().expect("there are some");
    for record in before {
        let Ok(()) = group.replay(record.first, record.count, &record.notes, &record.entries)
        else {
            panic!("it was stored");
        };
    }
    assert!(group.replay(last.first, last.count, &last.notes, &entries.into()).is_err());
}
