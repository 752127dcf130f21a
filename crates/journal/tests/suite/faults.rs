//! A disk that fails, is full, or belongs to another process.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use tertulia_journal::embedded::{FileOp, SEGMENT_BYTES_MIN};
use tertulia_journal::{
    AppendError, Catalog, Embedded, Expect, Journal, Level, OpenStoreError, Options,
};

use crate::common::{all, append, batch, log, open, options, record, save, send, try_open};

/// A store whose file operations of one kind fail while the switch is on.
fn failing(dir: &Path, op: FileOp, error: io::ErrorKind) -> (Embedded, Arc<AtomicBool>) {
    let switch = Arc::new(AtomicBool::new(false));
    let hook = {
        let switch = Arc::clone(&switch);
        move |asked| {
            if asked == op && switch.load(Ordering::SeqCst) { Err(error.into()) } else { Ok(()) }
        }
    };
    let options = Options { hook: Some(Arc::new(hook)), ..options() };
    (Embedded::open(dir, options).unwrap_or_else(|error| panic!("{error}")), switch)
}

#[test]
fn after_a_failed_write_or_sync_nothing_is_acknowledged() {
    for op in [FileOp::Write, FileOp::Sync] {
        let dir = tempfile::tempdir().expect("a directory");
        let (store, switch) = failing(dir.path(), op, io::ErrorKind::Other);
        append(&store, batch(log(1), 1, 1, 1, 100)).expect("stored");
        switch.store(true, Ordering::SeqCst);
        let is_failed = |result| matches!(result, Err(AppendError::Failed(_)));
        assert!(is_failed(append(&store, batch(log(1), 1, 2, 1, 100))));
        switch.store(false, Ordering::SeqCst);
        assert!(is_failed(append(&store, batch(log(1), 1, 2, 1, 100))));
        assert!(is_failed(append(&store, batch(log(2), 1, 1, 1, 100))));
        assert!(is_failed(save(&store, log(1), 1, 1, "s")));
        assert!(is_failed(store.delete(log(1))));
        assert!(is_failed(store.put("k", Expect::Any, None).map(|_| ())));
        assert_eq!(all(&store, log(1)).len(), 1, "what was acknowledged can be read");
        drop(store);
        assert!(!dir.path().join("store/clean").exists());
        let store = open(dir.path());
        let next = Journal::open(&store, log(1)).expect("it opens").next;
        assert!(next == 2 || next == 3, "the unknown one is there or not");
        append(&store, batch(log(1), 1, next, 1, 100)).expect("stored");
        assert_eq!(store.usage(log(2)).records, 0);
    }
}

#[test]
fn a_segment_that_cannot_be_filled_costs_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, switch) = failing(dir.path(), FileOp::Fill, io::ErrorKind::Other);
    switch.store(true, Ordering::SeqCst);
    let batches: Vec<_> = (1..=60).map(|first| batch(log(1), 1, first, 1, 5_000)).collect();
    batches.iter().for_each(|batch| append(&store, batch.clone()).expect("stored"));
    drop(store);
    assert!(dir.path().join("store/clean").exists());
    assert_eq!(all(&open(dir.path()), log(1)), batches.iter().map(record).collect::<Vec<_>>());
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, switch) = failing(dir.path(), FileOp::Allocate, io::ErrorKind::StorageFull);
    switch.store(true, Ordering::SeqCst);
    let mut next = 1;
    let refused = loop {
        match append(&store, batch(log(1), 1, next, 1, 5_000)) {
            Ok(()) => next += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, AppendError::NoSpace(_)), "{refused}");
    assert!(matches!(
        append(&store, batch(log(1), 1, next, 1, 5_000)),
        Err(AppendError::NoSpace(_))
    ));
    append(&store, batch(log(1), 1, next, 0, 10)).expect("a small one still fits");
    switch.store(false, Ordering::SeqCst);
    append(&store, batch(log(1), 1, next, 1, 5_000)).expect("there is room again");
    drop(store);
    assert_eq!(all(&open(dir.path()), log(1)).len() as u64, next + 1);
}

#[test]
fn a_full_disk_is_freed_by_trimming() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, switch) = failing(dir.path(), FileOp::Allocate, io::ErrorKind::StorageFull);
    let mut next = 1;
    while next < 40 {
        append(&store, batch(log(1), 1, next, 1, 5_000)).expect("stored");
        next += 1;
    }
    save(&store, log(1), 1, next - 1, "s").expect("stored");
    switch.store(true, Ordering::SeqCst);
    while append(&store, batch(log(1), 1, next, 1, 5_000)).is_ok() {
        next += 1;
    }
    // Not even the smallest fits any more.
    let mut notes = 0;
    while append(&store, batch(log(1), 1, next, 0, 0)).is_ok() {
        notes += 1;
    }
    store.trim(log(1), 40).expect("trimmed");
    for _ in 0..20 {
        store.delete(log(2)).expect("a turn of the thread");
    }
    assert!(!dir.path().join("store/00000001.seg").exists());
    drop(store);
    assert_eq!(all(&open(dir.path()), log(1)).len() as u64, next - 40 + notes);
}

#[test]
fn what_comes_while_one_is_being_synced_goes_into_one_commit() {
    let dir = tempfile::tempdir().expect("a directory");
    let (reached, at_sync) = mpsc::channel();
    let (go_on, gate) = mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let hook = move |op| {
        if op == FileOp::Sync && reached.send(()).is_ok() {
            // Closed: the test has seen enough.
            gate.lock().expect("no panic").recv().ok();
        }
        Ok(())
    };
    let options = Options { hook: Some(Arc::new(hook)), ..options() };
    go_on.send(()).expect("for the first segment");
    let store = Embedded::open(dir.path(), options).unwrap_or_else(|error| panic!("{error}"));
    at_sync.recv().expect("the first segment was synced");
    let first = send(&store, batch(log(1), 1, 1, 1, 10));
    at_sync.recv().expect("it is being synced");
    let rest: Vec<_> =
        (2..=50).map(|number| send(&store, batch(log(1), 1, number, 1, 10))).collect();
    assert!(first.try_recv().is_err(), "not before the sync");
    go_on.send(()).expect("the store waits");
    first.recv().expect("an answer").expect("stored");
    at_sync.recv().expect("the others are being synced");
    assert!(rest.iter().all(|answer| answer.try_recv().is_err()));
    go_on.send(()).expect("the store waits");
    for answer in rest {
        answer.recv().expect("an answer").expect("stored");
    }
    assert!(at_sync.try_recv().is_err(), "one sync for all of them");
    drop(go_on);
    drop(at_sync);
}

#[test]
fn the_queue_has_a_bound() {
    let dir = tempfile::tempdir().expect("a directory");
    let (go_on, gate) = mpsc::channel::<()>();
    let options = Options { queue_bytes: 3_000, ..options() };
    let store = Embedded::open(dir.path(), options).unwrap_or_else(|error| panic!("{error}"));
    // The thread is held in the first answer: what comes before it is there may be taken together with it.
    let (reached, at_answer) = mpsc::channel();
    let held = move |_| {
        reached.send(()).expect("the test waits for it");
        assert!(gate.recv().is_err());
    };
    store.append(batch(log(9), 1, 1, 1, 10), Box::new(held));
    at_answer.recv().expect("the first is stored");
    let sent: Vec<_> = (1..=9).map(|n| send(&store, batch(log(1), 1, n, 1, 1_000))).collect();
    drop(go_on);
    let answers: Vec<_> =
        sent.into_iter().map(|answer| answer.recv().expect("an answer")).collect();
    let stored = answers.iter().take_while(|answer| answer.is_ok()).count();
    assert!((1..=3).contains(&stored), "{answers:?}");
    assert!(matches!(answers[stored], Err(AppendError::NoSpace(_))), "{answers:?}");
    assert!(answers[stored..].iter().all(Result::is_err), "{answers:?}");
    let next = Journal::open(&store, log(1)).expect("it opens").next;
    append(&store, batch(log(1), 1, next, 1, 1_000)).expect("there is room again");
}

#[test]
fn one_process_at_a_time_and_sensible_options() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    assert!(matches!(try_open(dir.path()), Err(OpenStoreError::Locked)));
    assert!(matches!(tertulia_journal::embedded::check(dir.path()), Err(OpenStoreError::Locked)));
    drop(store);
    for options in [
        Options { level: Level::Memory, ..options() },
        Options { segment_bytes: SEGMENT_BYTES_MIN - 1, ..options() },
    ] {
        assert!(matches!(Embedded::open(dir.path(), options), Err(OpenStoreError::Option(_))));
    }
}

#[test]
fn without_sync_it_survives_the_process_all_the_same() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, switch) = {
        let (store, switch) = failing(dir.path(), FileOp::Sync, io::ErrorKind::Other);
        drop(store);
        let options = Options { level: Level::Os, ..options() };
        (Embedded::open(dir.path(), options).unwrap_or_else(|error| panic!("{error}")), switch)
    };
    assert_eq!(store.level(), Level::Os);
    append(&store, batch(log(1), 1, 1, 1, 100)).expect("stored");
    switch.store(true, Ordering::SeqCst);
    append(&store, batch(log(1), 1, 2, 1, 100)).expect("stored");
    store.put("k", Expect::Any, Some(Bytes::new())).expect("stored");
    let copy = crate::common::copy_store(dir.path());
    let again = open(copy.path());
    assert_eq!(all(&again, log(1)).len(), 2);
    assert!(again.get("k").expect("readable").is_some());
}

#[cfg(unix)]
#[test]
fn files_are_for_this_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a directory");
    drop(open(dir.path()));
    let mode = |name: &str| {
        let path = dir.path().join("store").join(name);
        std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777
    };
    assert_eq!(mode(""), 0o700);
    for name in ["lock", "clean", "00000001.seg"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
}

#[test]
fn without_sync_a_new_epoch_is_synced_all_the_same() {
    let dir = tempfile::tempdir().expect("a directory");
    let syncs = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&syncs);
    let hook = move |op| {
        counted.fetch_add(usize::from(op == FileOp::Sync), Ordering::SeqCst);
        Ok(())
    };
    let options = Options { level: Level::Os, hook: Some(Arc::new(hook)), ..options() };
    let store = Embedded::open(dir.path(), options).unwrap_or_else(|error| panic!("{error}"));
    let mut seen = syncs.load(Ordering::SeqCst);
    // A lost epoch record would let the next start take the same epoch for other entries.
    for (epoch, first, is_synced) in [(1, 1, true), (1, 2, false), (2, 3, true), (2, 4, false)] {
        append(&store, batch(log(1), epoch, first, 1, 10)).expect("stored");
        let now = syncs.load(Ordering::SeqCst);
        assert_eq!(now > seen, is_synced, "epoch {epoch}, number {first}");
        seen = now;
    }
}
