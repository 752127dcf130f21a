//! Bytes that change, files that shrink or vanish: named, or without consequence; never a shorter or another history.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tempfile::TempDir;
use tertulia_journal::embedded::check;
use tertulia_journal::{
    AppendError, Batch, Catalog, Embedded, Expect, Journal, OpenStoreError, Opened, ReadError,
    Record, Versioned,
};

use crate::common::{append, batch, copy_store, log, open, save, try_open};

const LOGS: [u8; 4] = [1, 2, 3, 4];

type Content = (Result<Opened, ReadError>, Result<Vec<Record>, ReadError>);

fn content(store: &Embedded, number: u8) -> Content {
    let opened = Journal::open(store, log(number));
    let first = opened.as_ref().map_or(1, |opened| opened.first);
    (opened, store.read(log(number), first, usize::MAX))
}

fn value(store: &Embedded, key: &str) -> Result<Option<Versioned>, ReadError> {
    store.get(key)
}

/// A store with everything in it, in three segments.
fn example() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    store.put("nodes/one", Expect::Any, Some(Bytes::from(vec![b'o'; 700]))).expect("stored");
    store.put("gone", Expect::Any, Some(Bytes::from_static(b"g"))).expect("stored");
    store.put("gone", Expect::Any, None).expect("deleted");
    append(&store, batch(log(4), 8, 1, 3, 100)).expect("stored");
    store.delete(log(4)).expect("deleted");
    for number in 1..=8 {
        append(&store, batch(log(1), 1, number, 1, 3_000)).expect("stored");
        append(&store, batch(log(2), 1, 2 * number - 1, 2, 8_000)).expect("stored");
        append(&store, batch(log(3), 1, number, 1, 200)).expect("stored");
    }
    save(&store, log(1), 2, 6, "a state").expect("stored");
    store.trim(log(1), 5).expect("trimmed");
    store.put("nodes/two", Expect::Any, Some(Bytes::from_static(b"t"))).expect("stored");
    dir
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("store")).expect("a store");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<_> = paths.filter(|p| p.extension().is_some()).collect();
    paths.sort();
    paths
}

/// Opens a store in which one byte of `path` is another, and says what came of it.
fn after_flip(dir: &Path, path: &Path, at: u64, expected: &[Content]) -> &'static str {
    let file = OpenOptions::new().read(true).write(true).open(path).expect("it opens");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("readable");
    file.write_all_at(&[byte[0] ^ 0x10], at).expect("writable");
    let place = format!("{} at {at}", path.display());
    let is_named = |what: &str| what.contains(".seg at ");
    match try_open(dir) {
        Err(OpenStoreError::Damaged(problem)) => {
            assert!(is_named(&problem.to_string()), "{place}: {problem}");
            "store refused"
        }
        Err(error) => panic!("{place}: {error}"),
        Ok(store) => {
            let mut outcome = "harmless";
            for (number, whole) in LOGS.into_iter().zip(expected) {
                let now = content(&store, number);
                if now == *whole {
                    continue;
                }
                assert_eq!(outcome, "harmless", "{place}: one log only");
                outcome = "log named";
                for error in [now.0.as_ref().err(), now.1.as_ref().err()].into_iter().flatten() {
                    let ReadError::Damaged(what) = error else { panic!("{place}: {error}") };
                    assert!(is_named(what), "{place}: {what}");
                }
                assert!(now.1.is_err(), "{place}: {now:?}");
                assert!(now.0.is_err() || now.0 == whole.0, "{place}: {now:?}");
                if now.0.is_err() {
                    let refused = append(&store, batch(log(number), 99, 1, 1, 10));
                    assert!(
                        matches!(refused, Err(AppendError::Damaged(_))),
                        "{place}: {refused:?}"
                    );
                }
            }
            for (key, len) in [("nodes/one", 700), ("nodes/two", 1), ("gone", 0)] {
                match value(&store, key) {
                    Ok(found) => {
                        let found_len = found.map_or(0, |record| record.value.len());
                        assert_eq!(found_len, len, "{place}: {key}");
                    }
                    Err(ReadError::Damaged(what)) => {
                        assert!(is_named(&what) && what.contains(&key[..4]), "{place}: {what}");
                        assert!(
                            store.put(key, Expect::Any, Some(Bytes::new())).is_err(),
                            "{place}"
                        );
                        assert!(store.scan("").is_err(), "{place}");
                        outcome = "key named";
                    }
                    Err(error) => panic!("{place}: {error}"),
                }
            }
            outcome
        }
    }
}

fn flips(is_clean: bool) {
    let whole = example();
    if !is_clean {
        fs::remove_file(whole.path().join("store/clean")).expect("removed");
    }
    let expected: Vec<Content> = {
        let copy = copy_store(whole.path());
        let store = open(copy.path());
        LOGS.into_iter().map(|number| content(&store, number)).collect()
    };
    let mut counts = std::collections::BTreeMap::new();
    let names = segments(whole.path());
    assert!(names.len() >= 3);
    for name in &names {
        let used = fs::read(name).expect("readable").iter().rposition(|b| *b != 0).unwrap_or(0);
        let name = name.file_name().expect("a name");
        let step = if is_clean { 211 } else { 397 };
        // The first records byte by byte, as it were; then samples.
        let places = (0..1_500).step_by(13).chain((1_500..used + 400).step_by(step));
        for at in places {
            let copy = copy_store(whole.path());
            let path = copy.path().join("store").join(name);
            let outcome = after_flip(copy.path(), &path, at as u64, &expected);
            *counts.entry(outcome).or_insert(0) += 1;
        }
    }
    println!("{counts:?}");
    assert!(counts["log named"] > 0 && counts["key named"] > 0, "{counts:?}");
    assert!(!counts.contains_key("store refused"), "one byte is never everybody's: {counts:?}");
}

#[test]
fn a_flipped_byte_after_a_proper_close_is_named() {
    flips(true);
}

#[test]
fn a_flipped_byte_after_a_kill_is_named() {
    flips(false);
}

#[test]
fn a_missing_or_shortened_segment_is_named() {
    let whole = example();
    let names = segments(whole.path());
    let newest = names.last().and_then(|name| Some(name.file_name()?.to_owned()));
    for is_clean in [true, false] {
        for name in &names {
            let name = name.file_name().expect("a name").to_owned();
            let len =
                fs::metadata(whole.path().join("store").join(&name)).expect("it is there").len();
            for keep in [None, Some(0), Some(100), Some(len / 2), Some(len - 1)] {
                let copy = copy_store(whole.path());
                let path = copy.path().join("store").join(&name);
                if !is_clean {
                    fs::remove_file(copy.path().join("store/clean")).expect("removed");
                }
                match keep {
                    None => fs::remove_file(&path).expect("removed"),
                    Some(keep) => OpenOptions::new()
                        .write(true)
                        .open(&path)
                        .and_then(|file| file.set_len(keep))
                        .expect("shortened"),
                }
                let checked = check(copy.path()).expect("it can be checked");
                assert!(!checked.problems.is_empty(), "{name:?} {keep:?}");
                match try_open(copy.path()) {
                    Err(OpenStoreError::Damaged(problem)) => {
                        assert!(problem.file.ends_with(".seg"), "{problem}");
                        let again = check(copy.path());
                        assert!(again.is_ok_and(|again| again == checked), "it is as it was");
                    }
                    Err(error) => panic!("{name:?} {keep:?}: {error}"),
                    // All four logs had records in each of the older segments, and a census names them.
                    Ok(store) => {
                        assert_ne!(Some(&name), newest.as_ref(), "{keep:?}");
                        for number in LOGS.into_iter().take(3) {
                            let (opened, records) = content(&store, number);
                            assert!(opened.is_err() && records.is_err(), "{name:?} {keep:?}");
                        }
                    }
                }
            }
        }
    }
}

/// A store of three segments: log 1 in each, log 2 in the second, log 3 in the third; a key in each.
fn spread() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    for segment in 1..=3 {
        let key = format!("group/{segment}");
        store.put(&key, Expect::Any, Some(Bytes::from_static(b"v"))).expect("stored");
        append(&store, batch(log(1), 1, segment, 1, 100)).expect("stored");
        if segment > 1 {
            append(&store, batch(log(segment as u8), 1, 1, 1, 100)).expect("stored");
        }
        if segment < 3 {
            let rest = [63_000, 62_300][segment as usize - 1];
            append(&store, batch(log(9), 1, segment, 1, rest)).expect("stored");
        }
    }
    drop(store);
    assert_eq!(segments(dir.path()).len(), 3);
    dir
}

#[test]
fn a_lost_segment_takes_only_what_it_held() {
    let whole = spread();
    let second = Path::new("store/00000002.seg");
    let file =
        |dir: &Path| OpenOptions::new().write(true).open(dir.join(second)).expect("it opens");
    // Missing; cut; all zeros, head included; header and trailer of a record in its middle.
    let losses: [&dyn Fn(&Path); 4] = [
        &|dir| fs::remove_file(dir.join(second)).expect("removed"),
        &|dir| file(dir).set_len(1_000).expect("cut"),
        &|dir| fs::write(dir.join(second), vec![0; 64 << 10]).expect("zeroed"),
        &|dir| file(dir).write_all_at(&[7; 4_096], 900).expect("written"),
    ];
    for (case, lose) in losses.iter().enumerate() {
        for is_clean in [true, false] {
            let copy = copy_store(whole.path());
            if !is_clean {
                fs::remove_file(copy.path().join("store/clean")).expect("removed");
            }
            lose(copy.path());
            let report = check(copy.path()).expect("it can be checked");
            assert!(!report.problems.is_empty(), "{case}");
            for start in 1..=3 {
                let store = open(copy.path());
                for number in [1, 2, 9] {
                    let (opened, _) = content(&store, number);
                    let Err(ReadError::Damaged(what)) = opened else {
                        panic!("{case}: {opened:?}")
                    };
                    assert!(what.contains("00000002.seg at "), "{case}: {what}");
                }
                // It is served, and goes on.
                let next = Journal::open(&store, log(3)).expect("it was elsewhere").next;
                assert_eq!(next, start + 1, "{case}");
                append(&store, batch(log(3), 2, next, 1, 100)).expect("stored");
                assert!(value(&store, "group/1").is_ok_and(|found| found.is_some()), "{case}");
                assert!(value(&store, "group/2").is_err(), "{case}");
                assert!(value(&store, "group/3").is_ok_and(|found| found.is_some()), "{case}");
            }
        }
    }
}

#[test]
fn what_a_lost_segment_held_can_be_given_up() {
    let whole = spread();
    fs::remove_file(whole.path().join("store/00000002.seg")).expect("removed");
    for _ in 0..2 {
        let store = open(whole.path());
        for number in [1, 2, 9] {
            store.delete(log(number)).expect("deleted");
            assert_eq!(Journal::open(&store, log(number)).expect("a new log").next, 1);
            append(&store, batch(log(number), 5, 1, 1, 100)).expect("stored");
        }
    }
    let report = check(whole.path()).expect("it can be checked");
    let logs: Vec<_> = report.problems.iter().filter_map(|problem| problem.log).collect();
    assert_eq!(logs, []);
}

#[test]
fn a_check_names_what_is_lost_of_each_log() {
    let whole = spread();
    let report = check(whole.path()).expect("it can be checked");
    let kept = |report: &tertulia_journal::embedded::Report| -> Vec<(u8, u64, u64)> {
        report.logs.iter().map(|log| (log.log.0[0], log.first, log.last)).collect()
    };
    assert_eq!(kept(&report), [(1, 1, 3), (2, 1, 1), (3, 1, 1), (9, 1, 2)]);
    assert!(report.logs.iter().all(|log| log.problems.is_empty() && log.lost.is_empty()));
    assert_eq!(report.catalog.len(), 3);
    // The second batch of log 1: its header.
    let path = whole.path().join("store/00000002.seg");
    let mut bytes = fs::read(&path).expect("readable");
    let text = b"notes 1 2 1";
    let at = bytes.windows(text.len()).position(|part| part == text).expect("it is there");
    bytes[at - 100] ^= 1;
    fs::write(&path, bytes).expect("written");
    let report = check(whole.path()).expect("it can be checked");
    assert_eq!(kept(&report), [(1, 1, 3), (2, 1, 1), (3, 1, 1), (9, 1, 2)]);
    assert_eq!(report.logs[0].lost, [(2, 2)]);
    assert_eq!(report.logs[0].problems.len(), 1);
    assert!(report.logs[1..].iter().all(|log| log.problems.is_empty()));
}

#[test]
fn a_lost_catalog_record_can_be_given_up() {
    let whole = spread();
    let path = whole.path().join("store/00000001.seg");
    let mut bytes = fs::read(&path).expect("readable");
    let at = bytes.windows(7).position(|part| part == b"group/1").expect("it is there");
    bytes[at] ^= 1;
    fs::write(&path, bytes).expect("written");
    for start in 0..2 {
        let store = open(whole.path());
        let found = store.scan_whole("group/").expect("it can be asked");
        let keys: Vec<_> = found.records.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["group/2", "group/3"]);
        if start == 0 {
            let lost: Vec<_> = found.lost.iter().map(|lost| lost.begin.as_str()).collect();
            assert_eq!(lost, ["group/1"]);
            assert!(store.put("group/1", Expect::Absent, Some(Bytes::new())).is_err());
            assert!(store.put("group/1", Expect::Any, Some(Bytes::new())).is_err());
            store.put("group/1", Expect::Any, None).expect("given up");
        }
        assert_eq!(store.get("group/1"), Ok(None));
        assert!(store.scan("").is_ok());
    }
    let store = open(whole.path());
    store.put("group/1", Expect::Absent, Some(Bytes::new())).expect("a new one");
}

#[test]
fn a_store_without_censuses_gets_them() {
    let whole = spread();
    // What stands first in the second and third segment; the check of damage knows them from there on.
    for number in 2..=3 {
        let path = whole.path().join(format!("store/{number:08}.seg"));
        let file = OpenOptions::new().write(true).open(path).expect("it opens");
        file.write_all_at(&[1], 256 + 4).expect("written");
    }
    drop(open(whole.path()));
    fs::remove_file(whole.path().join("store/00000001.seg")).expect("removed");
    let store = open(whole.path());
    assert!(Journal::open(&store, log(1)).is_err());
    assert!(Journal::open(&store, log(3)).is_ok_and(|opened| opened.next == 2));
}

#[test]
fn zeroed_records_are_named() {
    let whole = example();
    let path = |dir: &Path| dir.join("store/00000001.seg");
    for is_clean in [true, false] {
        for at in (256..40_000).step_by(2_560) {
            let copy = copy_store(whole.path());
            if !is_clean {
                fs::remove_file(copy.path().join("store/clean")).expect("removed");
            }
            let file = OpenOptions::new().write(true).open(path(copy.path())).expect("it opens");
            file.write_all_at(&[0; 4_096], at).expect("writable");
            if let Ok(store) = try_open(copy.path()) {
                let damaged = LOGS.into_iter().filter(|n| content(&store, *n).1.is_err()).count();
                assert!(damaged >= 1, "at {at}");
            }
        }
    }
}

/// After a kill nothing says where the end was: it takes both rules to tell damage from a torn end.
#[test]
fn after_a_kill_neither_zeros_nor_the_last_place_hide_damage() {
    let whole = tempfile::tempdir().expect("a directory");
    let store = open(whole.path());
    let zeros = vec![Bytes::from(vec![0; 4_096])];
    let text = |word: &str| vec![Bytes::from(word.repeat(1_500 / word.len()))];
    for (number, entries) in [(1, zeros), (2, text("second.")), (3, text("thirdly."))] {
        let notes = Bytes::from(format!("here is log {number}"));
        let batch = Batch { notes, entries, ..batch(log(number), 1, 1, 1, 0) };
        append(&store, batch).expect("stored");
    }
    drop(store);
    fs::remove_file(whole.path().join("store/clean")).expect("removed");
    let name = Path::new("store/00000001.seg");
    let bytes = fs::read(whole.path().join(name)).expect("readable");
    for (damaged, word) in
        [(1, "here is log 1"), (2, "here is log 2"), (3, "rdly.th"), (3, "here is log 3")]
    {
        let mut found = bytes.windows(word.len()).enumerate();
        let at = found.find(|(_, window)| *window == word.as_bytes()).expect("it is there").0;
        let copy = copy_store(whole.path());
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        fs::write(copy.path().join(name), flipped).expect("written");
        let store = open(copy.path());
        for number in 1..=3 {
            let records = store.read(log(number), 1, usize::MAX);
            if number == damaged {
                assert!(matches!(records, Err(ReadError::Damaged(_))), "{word}: {records:?}");
            } else {
                assert_eq!(records.map(|records| records.len()), Ok(1), "{word}");
            }
        }
    }
}
