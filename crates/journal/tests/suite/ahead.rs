//! The next segment is filled with zeros beside the commits: as fast as they come, never over a record.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Duration;

use tertulia_journal::embedded::{FileHook, FileOp, check};
use tertulia_journal::{Embedded, Level, Options};

use crate::common::{all, append, batch, log, open, record};

const SEGMENT_BYTES: u64 = 1 << 20;
/// What is filled in one go.
const PIECE_BYTES: u64 = 128 << 10;
/// A batch, and what it takes in the file.
const BATCH: usize = 8 << 10;
const BATCH_BYTES: u64 = 8_448;

fn open_with(dir: &Path, level: Level, hook: FileHook) -> Embedded {
    let options =
        Options { level, segment_bytes: SEGMENT_BYTES, hook: Some(hook), ..Options::default() };
    Embedded::open(dir, options).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_next_segment_is_filled_as_this_one_fills_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let written = Arc::new(AtomicU64::new(0));
    let (tell, told) = mpsc::channel();
    let hook = {
        let written = Arc::clone(&written);
        move |op| {
            if op == FileOp::Fill {
                // Nobody listens when the store is closed.
                let _ = tell.send(written.load(Ordering::SeqCst));
            }
            Ok(())
        }
    };
    let store = open_with(dir.path(), Level::Fsync, Arc::new(hook));
    let mut next = 1;
    for piece in 0..SEGMENT_BYTES / PIECE_BYTES {
        // A quarter goes by before it begins; then it is ahead by an eighth and a piece.
        let due = SEGMENT_BYTES / 4 + piece * PIECE_BYTES * 3 / 4 * 8 / 9;
        while written.load(Ordering::SeqCst) < due + 2 * BATCH_BYTES {
            // As it will be when the hook is asked: the commit is what allows it.
            written.fetch_add(BATCH_BYTES, Ordering::SeqCst);
            append(&store, batch(log(1), 1, next, 1, BATCH)).expect("stored");
            next += 1;
        }
        let at = told.recv_timeout(Duration::from_secs(20)).expect("a piece is filled");
        assert!(
            at + 2 * BATCH_BYTES > due,
            "piece {piece} was filled after {at} bytes, before {due}"
        );
    }
}

#[test]
fn nothing_is_filled_where_commits_do_not_gain_by_it() {
    for (level, size) in [(Level::Os, BATCH), (Level::Fsync, 48 << 10)] {
        let dir = tempfile::tempdir().expect("a directory");
        let hook = |op| {
            assert_ne!(op, FileOp::Fill);
            Ok(())
        };
        let store = open_with(dir.path(), level, Arc::new(hook));
        let batches = 3 * SEGMENT_BYTES / size as u64;
        for first in 1..=batches {
            append(&store, batch(log(1), 1, first, 1, size)).expect("stored");
        }
        drop(store);
        assert_eq!(all(&open(dir.path()), log(1)).len() as u64, batches);
    }
}

#[test]
fn a_segment_that_is_needed_while_it_is_being_filled_loses_no_record() {
    let dir = tempfile::tempdir().expect("a directory");
    let (written, is_written) = (Mutex::new(0), Condvar::new());
    // More than the first segment takes: so many come only if nobody waits for the piece that is being filled.
    let many = SEGMENT_BYTES / BATCH_BYTES + 10;
    let hook = move |op| {
        let mut written = written.lock().expect("no panic");
        match op {
            FileOp::Write => {
                *written += 1;
                is_written.notify_all();
            }
            FileOp::Fill => {
                let wait = Duration::from_millis(300);
                drop(is_written.wait_timeout_while(written, wait, |written| *written < many));
            }
            _ => {}
        }
        Ok(())
    };
    let store = open_with(dir.path(), Level::Fsync, Arc::new(hook));
    let batches: Vec<_> = (1..=many * 2).map(|first| batch(log(1), 1, first, 1, BATCH)).collect();
    batches.iter().for_each(|batch| append(&store, batch.clone()).expect("stored"));
    let expected: Vec<_> = batches.iter().map(record).collect();
    assert_eq!(all(&store, log(1)), expected);
    drop(store);
    let report = check(dir.path()).expect("it can be checked");
    assert_eq!((report.problems, report.remarks), (Vec::new(), Vec::new()));
    assert_eq!(all(&open(dir.path()), log(1)), expected);
}
