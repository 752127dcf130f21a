//! The contract, property by property, for every engine.

use std::sync::mpsc;
use std::thread;

use bytes::Bytes;
use tertulia_journal::{
    AppendError, Batch, Change, Expect, Opened, ReadError, Snapshot, Usage, Versioned,
};

use crate::common::{all, append, batch, log, record, save, send, suite};

#[test]
fn what_is_appended_is_read_in_order() {
    suite(|rig| {
        let mut expected = Vec::new();
        let mut next = 1;
        for (epoch, count, size) in [(1, 3, 10), (1, 0, 0), (1, 1, 20_000), (2, 2, 500), (2, 0, 0)]
        {
            let batch = batch(log(1), epoch, next, count, size);
            next += u64::from(count);
            expected.push(record(&batch));
            assert_eq!(append(rig.engine(), batch), Ok(()));
        }
        for _ in 0..2 {
            assert_eq!(all(rig.engine(), log(1)), expected);
            let opened = Opened { epoch: 2, first: 1, next: 7, snapshot: None };
            assert_eq!(rig.engine().open(log(1)), Ok(opened));
            let new = Opened { epoch: 0, first: 1, next: 1, snapshot: None };
            assert_eq!(rig.engine().open(log(2)), Ok(new));
            rig.reopen();
        }
    });
}

#[test]
fn reading_begins_where_asked_and_stops_at_the_limit() {
    suite(|rig| {
        let mut next = 1;
        for count in [3, 0, 2, 0, 0, 4] {
            append(rig.engine(), batch(log(1), 1, next, count, 100)).expect("stored");
            next += u64::from(count);
        }
        let firsts = |from, bytes_max| {
            let records = rig.engine().read(log(1), from, bytes_max).expect("read");
            records.iter().map(|record| (record.first, record.count)).collect::<Vec<_>>()
        };
        let whole = [(1, 3), (4, 0), (4, 2), (6, 0), (6, 0), (6, 4)];
        for (from, skip) in
            [(0, 0), (1, 0), (3, 0), (4, 1), (5, 2), (6, 3), (7, 5), (9, 5), (10, 6)]
        {
            assert_eq!(firsts(from, usize::MAX), whole[skip..], "from {from}");
        }
        assert_eq!(firsts(1, 0), [(1, 3)]);
        assert_eq!(firsts(1, 400), [(1, 3), (4, 0)]);
        assert_eq!(firsts(99, 0), []);
    });
}

/// The bug: notes lie at the number of the entries after them, and a read that had room for no more ended with them. A member's
/// open message that came after such notes was not sent again, and whoever read on from there read the same for ever.
#[test]
fn a_read_never_ends_before_the_first_entries() {
    suite(|rig| {
        for (first, count) in [(1, 1), (2, 0), (2, 0), (2, 1), (3, 0)] {
            append(rig.engine(), batch(log(1), 1, first, count, 100)).expect("stored");
        }
        let records = rig.engine().read(log(1), 2, 1).expect("read");
        let said: Vec<_> = records.iter().map(|record| (record.first, record.count)).collect();
        assert_eq!(said, [(2, 0), (2, 0), (2, 1)]);
    });
}

#[test]
fn only_the_next_number_is_taken() {
    suite(|rig| {
        let out_of_order = |got, expected| Err(AppendError::OutOfOrder { got, expected });
        let append = |first, count| append(rig.engine(), batch(log(1), 1, first, count, 10));
        assert_eq!(append(0, 1), out_of_order(0, 1));
        assert_eq!(append(2, 1), out_of_order(2, 1));
        assert_eq!(append(1, 2), Ok(()));
        assert_eq!(append(2, 1), out_of_order(2, 3));
        assert_eq!(append(4, 0), out_of_order(4, 3));
        assert_eq!(append(3, 0), Ok(()));
        assert_eq!(append(3, 1), Ok(()));
        assert_eq!(rig.engine().usage(log(1)).records, 3);
    });
}

#[test]
fn an_older_epoch_is_fenced() {
    suite(|rig| {
        let append = |rig: &crate::common::Rig, epoch, first| {
            append(rig.engine(), batch(log(1), epoch, first, 1, 10))
        };
        assert_eq!(append(rig, 3, 1), Ok(()));
        for _ in 0..2 {
            assert_eq!(append(rig, 2, 2), Err(AppendError::Fenced { current: 3 }));
            let saved = save(rig.engine(), log(1), 2, 1, "old");
            assert_eq!(saved, Err(AppendError::Fenced { current: 3 }));
            rig.reopen();
        }
        assert_eq!(save(rig.engine(), log(1), 5, 1, "new"), Ok(()));
        assert_eq!(append(rig, 4, 2), Err(AppendError::Fenced { current: 5 }));
        rig.reopen();
        assert_eq!(append(rig, 4, 2), Err(AppendError::Fenced { current: 5 }));
        assert_eq!(append(rig, 5, 2), Ok(()));
    });
}

#[test]
fn a_refusal_takes_those_in_flight_with_it() {
    suite(|rig| {
        append(rig.engine(), batch(log(1), 2, 1, 1, 10)).expect("stored");
        // The engine's thread is held in the first answer, so that all the others are in flight.
        let (held, hold) = mpsc::channel::<()>();
        let done = Box::new(move |result| {
            assert_eq!(result, Ok(()));
            assert!(hold.recv().is_err(), "let go");
        });
        rig.engine().append(batch(log(9), 1, 1, 1, 10), done);
        let sent = [
            (log(1), 2, 2, 1, true),
            (log(1), 2, 9, 1, false),
            (log(2), 1, 1, 1, true),
            // Notes alone take no number: only their place in the chain tells.
            (log(1), 2, 3, 0, false),
            (log(1), 2, 3, 1, false),
            // A newer epoch knows nothing of it.
            (log(1), 3, 3, 1, true),
            (log(1), 2, 4, 1, false),
        ];
        let answers = sent.map(|(log, epoch, first, count, _)| {
            send(rig.engine(), batch(log, epoch, first, count, 10))
        });
        drop(held);
        for (answer, sent) in answers.into_iter().zip(sent) {
            let answer = answer.recv().expect("an answer");
            assert_eq!(answer.is_ok(), sent.4, "{sent:?}: {answer:?}");
        }
        append(rig.engine(), batch(log(1), 3, 4, 0, 10)).expect("nothing is in flight any more");
    });
}

#[test]
fn answers_come_in_order_and_off_the_callers_thread() {
    suite(|rig| {
        let (sender, receiver) = mpsc::channel();
        for number in 1..=200_u64 {
            let sender = sender.clone();
            let caller = thread::current().id();
            let done = Box::new(move |result| {
                assert_eq!(result, Ok(()));
                assert_ne!(thread::current().id(), caller);
                sender.send(number).expect("somebody listens");
            });
            let log = log((number % 3) as u8);
            rig.engine().append(batch(log, 1, number.div_ceil(3), 1, 300), done);
        }
        drop(sender);
        assert_eq!(receiver.iter().collect::<Vec<_>>(), (1..=200).collect::<Vec<_>>());
    });
}

#[test]
fn what_is_stored_at_once_is_in_its_place_or_given_back_untouched() {
    suite(|rig| {
        // Whichever way each batch goes, they are stored in the order of the calls.
        let mut next = 1;
        let mut expected = Vec::new();
        for count in [2, 1, 0, 3] {
            for _ in 0..50 {
                let batch = batch(log(1), 1, next, count, 50);
                expected.push(record(&batch));
                next += u64::from(count);
                let back = rig.engine().append_at_once(batch);
                back.or_else(|batch| append(rig.engine(), batch)).expect("stored");
            }
            let batch = batch(log(1), 1, next, 1, 50);
            expected.push(record(&batch));
            next += 1;
            append(rig.engine(), batch).expect("stored");
        }
        assert_eq!(all(rig.engine(), log(1)), expected);
        // What cannot be stored comes back, and the usual way says why.
        for (epoch, first) in [(1, next + 1), (1, next - 1), (0, next)] {
            let back = rig.engine().append_at_once(batch(log(1), epoch, first, 1, 50));
            append(rig.engine(), back.expect_err("it does not fit")).expect_err("nor does it here");
        }
        assert_eq!(all(rig.engine(), log(1)), expected);
        assert_eq!(rig.engine().open(log(1)).expect("opens").next, next);
    });
}

#[test]
fn nothing_overtakes_what_is_in_flight() {
    suite(|rig| {
        append(rig.engine(), batch(log(1), 1, 1, 1, 10)).expect("stored");
        let (entered, inside) = mpsc::channel::<()>();
        let (held, hold) = mpsc::channel::<()>();
        let done = Box::new(move |result| {
            assert_eq!(result, Ok(()));
            entered.send(()).expect("somebody waits");
            assert!(hold.recv().is_err(), "let go");
        });
        rig.engine().append(batch(log(9), 1, 1, 1, 10), done);
        inside.recv().expect("the engine's thread is held in the answer");
        let refused = send(rig.engine(), batch(log(1), 1, 9, 1, 10));
        // It would be the next number; but it was called after the one that takes it along.
        let back = rig.engine().append_at_once(batch(log(1), 1, 2, 1, 10));
        let after = send(rig.engine(), back.expect_err("something is in flight"));
        drop(held);
        assert!(refused.recv().expect("an answer").is_err());
        assert!(after.recv().expect("an answer").is_err());
        append(rig.engine(), batch(log(1), 1, 2, 1, 10)).expect("nothing is in flight any more");
    });
}

#[test]
fn a_snapshot_replaces_the_older_and_allows_trimming() {
    suite(|rig| {
        let out_of_order = |got, expected| Err(AppendError::OutOfOrder { got, expected });
        assert_eq!(rig.engine().trim(log(1), 1), Ok(()));
        assert_eq!(rig.engine().trim(log(1), 2), out_of_order(2, 1));
        for first in [1, 3, 5, 7] {
            append(rig.engine(), batch(log(1), 1, first, 2, 50)).expect("stored");
        }
        assert_eq!(rig.engine().trim(log(1), 2), out_of_order(2, 1));
        assert_eq!(save(rig.engine(), log(1), 1, 9, "too far"), out_of_order(9, 8));
        assert_eq!(save(rig.engine(), log(1), 1, 4, "four"), Ok(()));
        assert_eq!(save(rig.engine(), log(1), 1, 3, "three"), out_of_order(3, 4));
        assert_eq!(rig.engine().trim(log(1), 6), out_of_order(6, 5));
        assert_eq!(rig.engine().trim(log(1), 4), Ok(()), "whole batches only: 3 stays");
        for _ in 0..2 {
            let snapshot = Some(Snapshot { at: 4, state: Bytes::from_static(b"four") });
            let opened = Opened { epoch: 1, first: 3, next: 9, snapshot };
            assert_eq!(rig.engine().open(log(1)), Ok(opened));
            let trimmed = rig.engine().read(log(1), 2, 100);
            assert_eq!(trimmed, Err(ReadError::Trimmed { first: 3 }));
            assert_eq!(all(rig.engine(), log(1)).len(), 3);
            rig.reopen();
        }
        assert_eq!(save(rig.engine(), log(1), 7, 8, "all"), Ok(()));
        assert_eq!(rig.engine().trim(log(1), 9), Ok(()));
        for _ in 0..2 {
            let snapshot = Some(Snapshot { at: 8, state: Bytes::from_static(b"all") });
            let opened = Opened { epoch: 7, first: 9, next: 9, snapshot };
            assert_eq!(rig.engine().open(log(1)), Ok(opened));
            assert_eq!(rig.engine().usage(log(1)), Usage::default());
            rig.reopen();
        }
        assert_eq!(append(rig.engine(), batch(log(1), 7, 9, 1, 10)), Ok(()));
    });
}

#[test]
fn usage_and_retention() {
    suite(|rig| {
        assert_eq!(rig.engine().keep_from(log(1), 0, 0), 1);
        let mut sizes = Vec::new();
        for first in 1..=10 {
            let batch = batch(log(1), 1, first, 1, 1_000);
            sizes.push(record(&batch).entries.len() as u64 + batch.notes.len() as u64);
            append(rig.engine(), batch).expect("stored");
        }
        let total: u64 = sizes.iter().sum();
        assert_eq!(rig.engine().usage(log(1)), Usage { bytes: total, records: 10 });
        for (bytes_max, since_us, expected) in
            [(total, 0, 1), (total - 1, 0, 2), (0, 0, 11), (total, 4_000, 4), (total, 99_000, 11)]
        {
            assert_eq!(rig.engine().keep_from(log(1), bytes_max, since_us), expected);
        }
        save(rig.engine(), log(1), 1, 10, "s").expect("stored");
        rig.engine().trim(log(1), 4).expect("trimmed");
        rig.reopen();
        let bytes = sizes[3..].iter().sum();
        assert_eq!(rig.engine().usage(log(1)), Usage { bytes, records: 7 });
        assert_eq!(rig.engine().keep_from(log(1), bytes - 1, 0), 5);
    });
}

#[test]
fn a_deleted_log_begins_anew() {
    suite(|rig| {
        assert_eq!(rig.engine().delete(log(1)), Ok(()));
        append(rig.engine(), batch(log(1), 9, 1, 5, 100)).expect("stored");
        append(rig.engine(), batch(log(2), 1, 1, 1, 100)).expect("stored");
        save(rig.engine(), log(1), 9, 2, "s").expect("stored");
        rig.engine().trim(log(1), 3).expect("trimmed");
        assert_eq!(rig.engine().delete(log(1)), Ok(()));
        for _ in 0..2 {
            let new = Opened { epoch: 0, first: 1, next: 1, snapshot: None };
            assert_eq!(rig.engine().open(log(1)), Ok(new));
            assert_eq!(rig.engine().usage(log(1)), Usage::default());
            rig.reopen();
        }
        append(rig.engine(), batch(log(1), 1, 1, 2, 100)).expect("stored");
        rig.reopen();
        assert_eq!(all(rig.engine(), log(1)).len(), 1);
        assert_eq!(all(rig.engine(), log(2)).len(), 1);
    });
}

#[test]
fn catalog_records_are_compared_and_set() {
    suite(|rig| {
        let value = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
        let conflict = |current| Err(AppendError::Conflict { current });
        let engine = rig.engine();
        assert_eq!(engine.put("a/1", Expect::Version(1), value("x")), conflict(0));
        assert_eq!(engine.put("a/1", Expect::Absent, value("x")), Ok(1));
        assert_eq!(engine.put("a/1", Expect::Absent, value("y")), conflict(1));
        assert_eq!(engine.put("a/1", Expect::Version(1), value("y")), Ok(2));
        assert_eq!(engine.put("a/2", Expect::Any, value("z")), Ok(1));
        assert_eq!(engine.put("b/1", Expect::Any, value("w")), Ok(1));
        assert_eq!(engine.put("b/1", Expect::Version(2), None), conflict(1));
        assert_eq!(engine.put("b/1", Expect::Version(1), None), Ok(2));
        assert_eq!(engine.put("b/1", Expect::Any, None), Ok(0));
        let long = "k".repeat(257);
        assert!(matches!(engine.put(&long, Expect::Any, None), Err(AppendError::TooLarge(_))));
        let large = Some(Bytes::from(vec![0; (64 << 10) + 1]));
        assert!(matches!(engine.put("l", Expect::Any, large), Err(AppendError::TooLarge(_))));
        let largest = Some(Bytes::from(vec![0; 64 << 10]));
        assert_eq!(engine.put(&long[1..], Expect::Any, largest), Ok(1));
        for _ in 0..2 {
            let engine = rig.engine();
            assert_eq!(engine.get("b/1"), Ok(None));
            let one = Versioned { version: 2, value: Bytes::from_static(b"y") };
            assert_eq!(engine.get("a/1"), Ok(Some(one.clone())));
            let two = Versioned { version: 1, value: Bytes::from_static(b"z") };
            let both = vec![("a/1".to_owned(), one), ("a/2".to_owned(), two)];
            assert_eq!(engine.scan("a/"), Ok(both));
            assert_eq!(engine.scan("").map(|found| found.len()), Ok(3));
            assert_eq!(engine.scan("c"), Ok(Vec::new()));
            rig.reopen();
        }
        assert_eq!(rig.engine().put("b/1", Expect::Absent, value("again")), Ok(1));
    });
}

#[test]
fn only_one_of_many_writers_wins_a_version() {
    suite(|rig| {
        let engine = rig.engine();
        let won: usize = thread::scope(|scope| {
            let try_once = || engine.put("one", Expect::Absent, Some(Bytes::new())).is_ok();
            let tries: Vec<_> = (0..8).map(|_| scope.spawn(try_once)).collect();
            tries.into_iter().filter_map(|each| each.join().ok()).filter(|won| *won).count()
        });
        assert_eq!(won, 1);
    });
}

#[test]
fn watchers_see_every_change_or_end() {
    suite(|rig| {
        let engine = rig.engine();
        let put = |key: &str, value| engine.put(key, Expect::Any, value).expect("stored");
        let (seen, other, slow) = (engine.watch("a/"), engine.watch("b/"), engine.watch("a/"));
        put("a/1", Some(Bytes::from_static(b"x")));
        put("c/1", Some(Bytes::new()));
        put("a/1", None);
        let value = Some(Versioned { version: 1, value: Bytes::from_static(b"x") });
        let change = |value| Change { key: "a/1".to_owned(), value };
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), [change(value), change(None)]);
        assert_eq!(other.try_recv(), Err(mpsc::TryRecvError::Empty));
        for _ in 0..512 {
            put("a/1", Some(Bytes::new()));
            put("a/1", None);
        }
        assert_eq!(seen.try_iter().count(), 1024);
        assert_eq!(slow.iter().count(), 1024, "the slow one ends, having had the first 1,024");
    });
}

#[test]
fn a_batch_may_be_larger_than_a_segment() {
    suite(|rig| {
        let large = batch(log(1), 1, 1, 40, 9_000);
        append(rig.engine(), batch(log(2), 1, 1, 1, 10)).expect("stored");
        append(rig.engine(), large.clone()).expect("stored");
        append(rig.engine(), batch(log(2), 1, 2, 1, 10)).expect("stored");
        rig.reopen();
        assert_eq!(all(rig.engine(), log(1)), [record(&large)]);
        assert_eq!(all(rig.engine(), log(2)).len(), 2);
    });
}

#[test]
fn notes_alone_are_kept_in_their_place() {
    suite(|rig| {
        let notes =
            |first| Batch { notes: Bytes::from_static(b"n"), ..batch(log(1), 1, first, 0, 0) };
        let sent =
            [notes(1), batch(log(1), 1, 1, 2, 9), notes(3), notes(3), batch(log(1), 1, 3, 1, 9)];
        for batch in &sent {
            append(rig.engine(), batch.clone()).expect("stored");
        }
        save(rig.engine(), log(1), 1, 2, "s").expect("stored");
        rig.engine().trim(log(1), 3).expect("trimmed");
        for _ in 0..2 {
            let kept: Vec<_> = sent[2..].iter().map(record).collect();
            assert_eq!(all(rig.engine(), log(1)), kept);
            rig.reopen();
        }
    });
}

#[test]
fn memory_has_a_limit() {
    let journal = tertulia_journal::MemoryJournal::new(10_000);
    let mut next = 1;
    while append(&journal, batch(log(1), 1, next, 1, 1_000)).is_ok() {
        next += 1;
    }
    assert_eq!(next, 10);
    save(&journal, log(1), 1, next - 1, "").expect("stored");
    tertulia_journal::Journal::trim(&journal, log(1), next).expect("trimmed");
    append(&journal, batch(log(1), 1, next, 1, 1_000)).expect("there is room again");
}
