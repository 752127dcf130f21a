//! Space that comes back: old segments go, what is still needed is moved forward, and nothing returns from the dead.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use bytes::Bytes;
use tertulia_journal::embedded::{FileOp, check};
use tertulia_journal::{Catalog, Embedded, Expect, Journal, LogId, Opened, Options, Snapshot};

use crate::common::{all, append, batch, copy_store, log, open, options, record, save};

fn segments(dir: &Path) -> usize {
    let names = fs::read_dir(dir.join("store")).expect("a store");
    names.filter(|name| name.as_ref().is_ok_and(|n| n.path().extension().is_some())).count()
}

/// Fills several segments with a log's batches.
fn fill(store: &Embedded, log: LogId, batches: u64) {
    let next = store.open(log).expect("it opens").next;
    for number in 0..batches {
        append(store, batch(log, 1, next + number, 1, 6_000)).expect("stored");
    }
}

fn trim_all(store: &Embedded, log: LogId) {
    let opened = store.open(log).expect("it opens");
    save(store, log, opened.epoch, opened.next - 1, "all").expect("stored");
    store.trim(log, opened.next).expect("trimmed");
}

fn assert_sound(dir: &Path) {
    let report = check(dir).expect("it can be checked");
    assert_eq!((report.problems, report.remarks), (Vec::new(), Vec::new()));
    assert!(report.is_clean && !report.is_torn);
}

#[test]
fn trimmed_segments_go_and_quiet_logs_stay() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    let quiet = batch(log(1), 7, 1, 3, 100);
    append(&store, quiet.clone()).expect("stored");
    append(&store, batch(log(2), 5, 1, 4, 100)).expect("stored");
    trim_all(&store, log(2));
    store.put("kept", Expect::Any, Some(Bytes::from_static(b"v"))).expect("stored");
    for _ in 0..6 {
        fill(&store, log(3), 60);
        trim_all(&store, log(3));
    }
    // The thread gives segments up between commits: when these are answered it has had its turns.
    for number in 0..40 {
        store.put(&format!("turn/{number}"), Expect::Any, Some(Bytes::new())).expect("stored");
    }
    assert!(segments(dir.path()) < 6, "{} segments", segments(dir.path()));
    drop(store);
    assert_sound(dir.path());
    for _ in 0..2 {
        let store = open(dir.path());
        assert_eq!(all(&store, log(1)), [record(&quiet)]);
        let snapshot = Some(Snapshot { at: 4, state: Bytes::from_static(b"all") });
        let opened = Opened { epoch: 5, first: 5, next: 5, snapshot };
        assert_eq!(Journal::open(&store, log(2)), Ok(opened));
        let opened = Journal::open(&store, log(3)).expect("it opens");
        assert_eq!((opened.first, opened.next), (361, 361));
        let value = store.get("kept").expect("readable").expect("there");
        assert_eq!(value.value, "v");
    }
}

#[test]
fn what_was_deleted_does_not_come_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    // A segment that stays for its own sake holds the first life of log 1 and of the record.
    fill(&store, log(2), 9);
    append(&store, batch(log(1), 9, 1, 2, 100)).expect("stored");
    store.put("gone", Expect::Any, Some(Bytes::from_static(b"old"))).expect("stored");
    fill(&store, log(3), 10);
    store.delete(log(1)).expect("deleted");
    store.put("gone", Expect::Any, None).expect("deleted");
    for _ in 0..3 {
        fill(&store, log(3), 40);
        trim_all(&store, log(3));
        for _ in 0..20 {
            store.put("turn", Expect::Any, Some(Bytes::new())).expect("stored");
        }
    }
    assert!(dir.path().join("store/00000001.seg").exists(), "it is needed for log 2");
    assert!(!dir.path().join("store/00000002.seg").exists(), "where the deletions were");
    drop(store);
    assert_sound(dir.path());
    let store = open(dir.path());
    assert_eq!(Journal::open(&store, log(1)).map(|opened| opened.epoch), Ok(0));
    assert_eq!(store.get("gone"), Ok(None));
    append(&store, batch(log(1), 1, 1, 1, 100)).expect("a new life");
    // Once the old segment goes, the deletions have nothing left to void.
    store.delete(log(2)).expect("deleted");
    for _ in 0..20 {
        store.put("turn", Expect::Any, Some(Bytes::new())).expect("stored");
    }
    assert!(!dir.path().join("store/00000001.seg").exists());
    drop(store);
    assert_sound(dir.path());
    let store = open(dir.path());
    assert_eq!(all(&store, log(1)).len(), 1);
    assert_eq!(Journal::open(&store, log(2)).map(|opened| opened.next), Ok(1));
}

#[test]
fn a_segment_that_came_back_is_passed_over() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    append(&store, batch(log(1), 1, 1, 1, 100)).expect("stored");
    fill(&store, log(3), 30);
    let old = fs::read(dir.path().join("store/00000001.seg")).expect("readable");
    trim_all(&store, log(3));
    for _ in 0..20 {
        store.put("turn", Expect::Any, Some(Bytes::new())).expect("stored");
    }
    assert!(!dir.path().join("store/00000001.seg").exists());
    store.delete(log(1)).expect("deleted");
    drop(store);
    // As if its removal had not reached the disk.
    fs::write(dir.path().join("store/00000001.seg"), old).expect("written");
    let store = open(dir.path());
    assert_eq!(Journal::open(&store, log(1)).map(|opened| opened.next), Ok(1));
    assert!(!dir.path().join("store/00000001.seg").exists());
}

#[test]
fn a_trim_is_written_down_before_its_segments_go() {
    let dir = tempfile::tempdir().expect("a directory");
    let copies = Arc::new(Mutex::new(Vec::new()));
    let hook = {
        let (copies, path) = (Arc::clone(&copies), dir.path().to_owned());
        move |op| {
            if op == FileOp::Remove && thread::current().name() == Some("journal") {
                copies.lock().expect("no panic").push(copy_store(&path));
            }
            Ok(())
        }
    };
    let options = Options { hook: Some(Arc::new(hook)), ..options() };
    let store = Embedded::open(dir.path(), options).unwrap_or_else(|error| panic!("{error}"));
    fill(&store, log(1), 30);
    save(&store, log(1), 1, 30, "all").expect("stored");
    // The thread is held in an answer: next it looks for segments to give up, then at the queue.
    let (go_on, gate) = mpsc::channel::<()>();
    let (reached, held) = mpsc::channel();
    let done = Box::new(move |_| {
        reached.send(()).expect("the test waits");
        assert!(gate.recv().is_err());
    });
    store.append(batch(log(2), 1, 1, 1, 10), done);
    held.recv().expect("the thread is held");
    store.trim(log(1), 31).expect("trimmed");
    drop(go_on);
    store.put("turn", Expect::Any, Some(Bytes::new())).expect("stored");
    let copies = std::mem::take(&mut *copies.lock().expect("no panic"));
    assert!(!copies.is_empty());
    for copy in copies {
        let opened = Journal::open(&open(copy.path()), log(1)).expect("it opens");
        assert_eq!((opened.first, opened.next), (31, 31));
    }
}

/// Places of the records of a kind in a segment's bytes, as `embedded/layout.rs` has them.
fn records_of(bytes: &[u8], kind: u8) -> Vec<usize> {
    let at = (0..bytes.len()).step_by(128);
    at.filter(|at| bytes[*at..].starts_with(b"TJR1") && bytes[*at + 5] == kind).collect()
}

/// A store that has given segments up.
fn collected() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    append(&store, batch(log(1), 1, 1, 1, 100)).expect("stored");
    for _ in 0..3 {
        turns(&store);
    }
    drop(store);
    assert!(!dir.path().join("store/00000001.seg").exists());
    dir
}

#[test]
fn either_copy_of_the_roster_is_enough() {
    const ROSTER: u8 = 8;
    let whole = collected();
    let rosters = |bytes: &[u8]| records_of(bytes, ROSTER);
    let names = fs::read_dir(whole.path().join("store")).expect("a store");
    let mut seen = 0;
    for name in names.map(|name| name.expect("an entry").file_name()) {
        let bytes = fs::read(whole.path().join("store").join(&name)).expect("readable");
        for at in rosters(&bytes) {
            for place in [at + 5, at + 60, at + 128, at + 250] {
                let copy = copy_store(whole.path());
                let mut flipped = bytes.clone();
                flipped[place] ^= 0x10;
                fs::write(copy.path().join("store").join(&name), flipped).expect("written");
                assert_eq!(all(&open(copy.path()), log(1)).len(), 1, "{name:?} at {place}");
                seen += 1;
            }
        }
    }
    assert!(seen >= 8);
}

#[test]
fn a_segment_whose_damage_matters_no_more_is_given_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    append(&store, batch(log(1), 1, 1, 1, 100)).expect("stored");
    append(&store, batch(log(2), 1, 1, 1, 100)).expect("stored");
    fill(&store, log(3), 12);
    drop(store);
    // The header of log 2's record.
    let path = dir.path().join("store/00000001.seg");
    let mut bytes = fs::read(&path).expect("readable");
    let at = records_of(&bytes, 2)[1];
    bytes[at + 30] ^= 1;
    fs::write(&path, bytes).expect("written");
    let store = open(dir.path());
    assert!(store.open(log(2)).is_err());
    turns(&store);
    assert!(path.exists(), "it is what is left of log 2");
    store.delete(log(2)).expect("deleted");
    drop(store);
    let store = open(dir.path());
    turns(&store);
    assert!(!path.exists());
    drop(store);
    assert_sound(dir.path());
    assert_eq!(all(&open(dir.path()), log(1)).len(), 1);
}

/// Gives segments up: a log that fills some and is trimmed.
fn turns(store: &Embedded) {
    fill(store, log(3), 40);
    trim_all(store, log(3));
    for _ in 0..20 {
        store.put("turn", Expect::Any, Some(Bytes::new())).expect("stored");
    }
}

#[test]
fn a_segment_with_a_record_that_cannot_be_found_any_more_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    append(&store, batch(log(1), 1, 1, 1, 100)).expect("stored");
    fill(&store, log(3), 12);
    // While it runs: the header of log 1's record.
    let path = dir.path().join("store/00000001.seg");
    let bytes = fs::read(&path).expect("readable");
    let at = records_of(&bytes, 2)[0] + 30;
    let file = fs::OpenOptions::new().write(true).open(&path).expect("it opens");
    std::os::unix::fs::FileExt::write_all_at(&file, &[bytes[at] ^ 1], at as u64).expect("written");
    turns(&store);
    turns(&store);
    assert!(path.exists(), "what is needed of it could not be moved");
    assert_eq!(all(&store, log(1)).len(), 1);
    drop(store);
    assert!(open(dir.path()).open(log(1)).is_err(), "it is named at the next start");
}

#[test]
fn a_lost_segment_is_missed_after_others_were_given_up_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    fill(&store, log(4), 12);
    append(&store, batch(log(1), 1, 1, 1, 100)).expect("stored");
    fill(&store, log(4), 12);
    drop(store);
    // Where log 1 is: in one of the older segments.
    let of_log = |number: u32| {
        let bytes = fs::read(dir.path().join(format!("store/{number:08}.seg"))).expect("readable");
        records_of(&bytes, 2).iter().any(|at| bytes[at + 8..at + 24] == [1; 16])
    };
    let lost = (1..3).find(|number| of_log(*number)).expect("it is somewhere");
    fs::remove_file(dir.path().join(format!("store/{lost:08}.seg"))).expect("removed");
    for _ in 0..2 {
        let store = open(dir.path());
        turns(&store);
        turns(&store);
        drop(store);
        let store = open(dir.path());
        assert!(store.open(log(1)).is_err() && store.open(log(4)).is_err());
        assert!(store.open(log(3)).is_ok());
    }
}
