//! Power cuts and kills: whatever was acknowledged is there, and the store goes on.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use bytes::Bytes;
use tempfile::TempDir;
use tertulia_journal::embedded::{FileOp, check};
use tertulia_journal::{Batch, Catalog, Embedded, Expect, Journal, Options, Record};

use crate::common::{all, append, batch, copy_store, log, open, options, record, save, send};

const SECTOR: usize = 512;

/// A coin that falls the same way every time the test runs.
fn coin(mut state: u64) -> impl FnMut(usize) -> bool {
    move |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 63 == 0
    }
}

/// The store before the last commit was written, and when it was written but not synced.
struct Cut {
    before: TempDir,
    after: TempDir,
}

/// Appends `acknowledged` one by one and then `doubtful` in one commit, and takes copies around its writing.
fn around_commit(acknowledged: &[Batch], doubtful: &[Batch]) -> Cut {
    let dir = tempfile::tempdir().expect("a directory");
    let copies = Arc::new(Mutex::new(None::<Vec<TempDir>>));
    let hook = {
        let (copies, path) = (Arc::clone(&copies), dir.path().to_owned());
        move |op| {
            if let Some(copies) = copies.lock().expect("no panic").as_mut()
                && matches!(op, FileOp::Write | FileOp::Sync)
            {
                copies.push(copy_store(&path));
            }
            Ok(())
        }
    };
    let options = Options { hook: Some(Arc::new(hook)), ..options() };
    let store = Embedded::open(dir.path(), options).unwrap_or_else(|error| panic!("{error}"));
    for batch in acknowledged {
        append(&store, batch.clone()).expect("stored");
    }
    // The thread is held in an answer, so that what comes meanwhile goes into one commit.
    let (go_on, gate) = mpsc::channel::<()>();
    let (reached, held) = mpsc::channel();
    let done = Box::new(move |_| {
        reached.send(()).expect("the test waits");
        assert!(gate.recv().is_err());
    });
    store.append(batch(log(9), 1, 1, 1, 10), done);
    held.recv().expect("the thread is held");
    let answers: Vec<_> = doubtful.iter().map(|batch| send(&store, batch.clone())).collect();
    *copies.lock().expect("no panic") = Some(Vec::new());
    drop(go_on);
    for answer in answers {
        answer.recv().expect("an answer").expect("stored");
    }
    let mut copies = copies.lock().expect("no panic").take().expect("they were taken").into_iter();
    let (before, after) = (copies.next().expect("before"), copies.next().expect("after"));
    Cut { before, after }
}

/// Makes a store in which only some sectors of the last commit have reached the disk.
fn torn(cut: &Cut, is_written: &mut dyn FnMut(usize) -> bool) -> TempDir {
    let name = Path::new("store/00000001.seg");
    let mut bytes = fs::read(cut.before.path().join(name)).expect("readable");
    let after = fs::read(cut.after.path().join(name)).expect("readable");
    let changed: Vec<usize> = (0..bytes.len())
        .step_by(SECTOR)
        .filter(|at| bytes[*at..*at + SECTOR] != after[*at..*at + SECTOR])
        .collect();
    for (index, at) in changed.into_iter().enumerate() {
        if is_written(index) {
            bytes[at..at + SECTOR].copy_from_slice(&after[at..at + SECTOR]);
        }
    }
    let dir = copy_store(cut.before.path());
    fs::write(dir.path().join(name), bytes).expect("written");
    dir
}

/// Opens what a crash has left: the acknowledged is there, of the doubtful at most a beginning; then goes on.
fn survive(dir: &Path, acknowledged: &[Batch], doubtful: &[Batch]) {
    let mut known: Option<Vec<Vec<Record>>> = None;
    for _ in 0..2 {
        let store = open(dir);
        let mut now = Vec::new();
        for number in 1..=3 {
            let of = |batches: &[Batch]| {
                let of_log = batches.iter().filter(|batch| batch.log == log(number));
                of_log.map(record).collect::<Vec<_>>()
            };
            let (sure, maybe) = (of(acknowledged), of(doubtful));
            let records = all(&store, log(number));
            assert_eq!(records[..sure.len()], sure, "acknowledged batches of log {number}");
            let rest = &records[sure.len()..];
            assert_eq!(*rest, maybe[..rest.len()], "what was not acknowledged, of log {number}");
            now.push(records);
        }
        assert_eq!(known.get_or_insert_with(|| now.clone()), &now, "history does not change again");
        drop(store);
    }
    let store = open(dir);
    let next = Journal::open(&store, log(1)).expect("it opens").next;
    let more = batch(log(1), 9, next, 2, 700);
    append(&store, more.clone()).expect("stored");
    let copy = copy_store(dir);
    assert_eq!(all(&open(copy.path()), log(1)).last(), Some(&record(&more)));
}

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    let acknowledged = [batch(log(1), 1, 1, 2, 300), batch(log(2), 1, 1, 1, 1_500)];
    let small =
        vec![batch(log(1), 1, 3, 1, 20), batch(log(2), 1, 2, 1, 20), batch(log(3), 1, 1, 1, 900)];
    let large = vec![batch(log(1), 1, 3, 5, 1_700), batch(log(3), 1, 1, 0, 0)];
    let single = vec![batch(log(1), 1, 3, 1, 150)];
    for (seed, doubtful) in [small, large, single].into_iter().enumerate() {
        let cut = around_commit(&acknowledged, &doubtful);
        survive(torn(&cut, &mut |_| true).path(), &acknowledged, &doubtful);
        for index in 0..8 {
            survive(torn(&cut, &mut |at| at == index).path(), &acknowledged, &doubtful);
            survive(torn(&cut, &mut |at| at != index).path(), &acknowledged, &doubtful);
            survive(torn(&cut, &mut |at| at < index).path(), &acknowledged, &doubtful);
            survive(
                torn(&cut, &mut coin((seed * 8 + index) as u64)).path(),
                &acknowledged,
                &doubtful,
            );
        }
    }
}

#[test]
fn a_kill_at_any_point_loses_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().expect("a directory");
    let (acknowledged, operations) = (Arc::new(AtomicU64::new(0)), AtomicU64::new(0));
    let copies = Arc::new(Mutex::new(Vec::new()));
    let hook = {
        let (path, acknowledged, copies) =
            (dir.path().to_owned(), Arc::clone(&acknowledged), Arc::clone(&copies));
        move |op| {
            let number = operations.fetch_add(1, Ordering::SeqCst);
            // Every operation that is rare, and some of the others.
            // A copy is a moment only while nothing else writes: on the thread that commits.
            if thread::current().name() != Some("journal") {
                return Ok(());
            }
            if matches!(op, FileOp::Allocate | FileOp::Remove) || number.is_multiple_of(7) {
                let sure = acknowledged.load(Ordering::SeqCst);
                copies.lock().expect("no panic").push((sure, copy_store(&path)));
            }
            Ok(())
        }
    };
    let options = Options { hook: Some(Arc::new(hook)), ..options() };
    let store = Embedded::open(dir.path(), options).unwrap_or_else(|error| panic!("{error}"));
    append(&store, batch(log(2), 3, 1, 1, 100)).expect("stored");
    store.put("k", Expect::Any, Some(Bytes::from_static(b"v"))).expect("stored");
    for number in 1..=120 {
        append(&store, batch(log(1), 1, number, 1, 4_000)).expect("stored");
        acknowledged.store(number, Ordering::SeqCst);
        if number % 20 == 0 {
            save(&store, log(1), 1, number - 5, "state").expect("stored");
            store.trim(log(1), number - 5).expect("trimmed");
        }
    }
    drop(store);
    let copies = std::mem::take(&mut *copies.lock().expect("no panic"));
    assert!(copies.len() > 30);
    for (sure, copy) in copies {
        let problems = check(copy.path()).map(|report| report.problems);
        assert!(problems.is_ok_and(|problems| problems.is_empty()), "after {sure}");
        let store = open(copy.path());
        let opened = Journal::open(&store, log(1)).expect("it opens");
        assert!((sure + 1..=sure + 2).contains(&opened.next), "{sure}: {opened:?}");
        let last = all(&store, log(1)).last().map(|record| record.first);
        assert_eq!(last.unwrap_or(0), opened.next - 1);
        let first = if opened.snapshot.is_some() { opened.first } else { 1 };
        assert_eq!(opened.first, first);
        if sure > 0 {
            assert_eq!(all(&store, log(2)), [record(&batch(log(2), 3, 1, 1, 100))]);
            assert!(store.get("k").expect("readable").is_some());
        }
    }
}
