//! Pages of a log that is trimmed while it is read, and of one whose messages are long.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;

use tertulia_group::entry::write;
use tertulia_group::{Header, Kind};
use tertulia_journal::{
    AppendError, Batch, Done, Journal, Level, MemoryJournal, Record, Snapshot, Usage,
};

use super::*;

const LOG: LogId = LogId([7; 16]);

/// A log that is trimmed below these numbers, the last first, one before each reading, and counts what is read of it.
struct Watched {
    inner: MemoryJournal,
    trims: Mutex<Vec<Seq>>,
    read_bytes: AtomicU64,
}

impl Watched {
    /// So many messages with bodies of this length, a batch each; all may be trimmed.
    fn new(count: u64, body: usize) -> Self {
        let inner = MemoryJournal::new(1 << 30);
        let (to, done) = channel();
        let tell = |to: &std::sync::mpsc::Sender<_>| {
            let to = to.clone();
            Box::new(move |result: Result<(), AppendError>| to.send(result).expect("waited for"))
        };
        for seq in 1..=count {
            let mut bytes = BytesMut::new();
            let header = Header {
                len: 0,
                kind: Kind::Message,
                flags: 0,
                name_len: 0,
                seq,
                time_us: 0,
                sender: 1,
                counter: seq,
                epoch: 1,
            };
            write(&mut bytes, header, "ana", &vec![b'x'; body]);
            let (notes, entries) = (Bytes::new(), vec![bytes.freeze()]);
            let batch =
                Batch { log: LOG, epoch: 1, first: seq, count: 1, time_us: 0, notes, entries };
            inner.append(batch, tell(&to));
        }
        inner.save_snapshot(LOG, 1, Snapshot { at: count, state: Bytes::new() }, tell(&to));
        done.iter().take(count as usize + 1).for_each(|result| result.expect("stored"));
        Self { inner, trims: Mutex::default(), read_bytes: AtomicU64::new(0) }
    }
}

impl Journal for Watched {
    fn level(&self) -> Level {
        self.inner.level()
    }

    fn open(&self, log: LogId) -> Result<Opened, ReadError> {
        self.inner.open(log)
    }

    fn append(&self, batch: Batch, done: Done) {
        self.inner.append(batch, done);
    }

    fn read(&self, log: LogId, from: u64, bytes_max: usize) -> Result<Vec<Record>, ReadError> {
        if let Some(below) = self.trims.lock().expect("nobody panics").pop() {
            self.inner.trim(log, below).expect("a snapshot covers it");
        }
        let records = self.inner.read(log, from, bytes_max)?;
        let bytes: usize = records.iter().map(|record| record.entries.len()).sum();
        self.read_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(records)
    }

    fn save_snapshot(&self, log: LogId, epoch: u32, snapshot: Snapshot, done: Done) {
        self.inner.save_snapshot(log, epoch, snapshot, done);
    }

    fn trim(&self, log: LogId, below: u64) -> Result<(), AppendError> {
        self.inner.trim(log, below)
    }

    fn delete(&self, log: LogId) -> Result<(), AppendError> {
        self.inner.delete(log)
    }

    fn usage(&self, log: LogId) -> Usage {
        self.inner.usage(log)
    }

    fn keep_from(&self, log: LogId, bytes_max: u64, since_us: u64) -> u64 {
        self.inner.keep_from(log, bytes_max, since_us)
    }
}

fn numbers(page: &Page) -> Vec<Seq> {
    page.entries.iter().map(|entry| entry.header.seq).collect()
}

/// The bug: the log was trimmed between the two looks at it, and `HISTORY` answered `EXPIRED` to who asked for what there is.
#[test]
fn a_page_that_trimming_overtakes_is_begun_anew() {
    let journal = Watched::new(20, 10);
    for (mode, expected) in [
        (HistoryMode::Last, (15..=20).collect::<Vec<Seq>>()),
        (HistoryMode::After(0), (18..=20).collect()),
    ] {
        let last = expected[0];
        *journal.trims.lock().expect("nobody panics") = vec![last, last - 1, last - 2];
        let page = page(&journal, LOG, mode, 100, said).expect("what there is");
        assert_eq!((numbers(&page), page.first_kept), (expected, last), "{mode:?}");
    }
}

#[test]
fn one_that_is_always_overtaken_is_told_so() {
    let journal = Watched::new(50, 10);
    *journal.trims.lock().expect("nobody panics") = (2..=40).rev().collect();
    let page = page(&journal, LOG, HistoryMode::After(0), 100, said);
    let tried = u64::from(TRIES_MAX);
    assert!(matches!(page, Err(ReadError::Trimmed { first }) if first == tried + 1), "{page:?}");
}

/// The bug: the last 10,000 messages of 1 MiB each were all read, to find where they begin.
#[test]
fn the_last_long_messages_cost_no_more_than_the_reach() {
    let body = 1 << 20;
    let journal = Watched::new(200, body);
    let page = page(&journal, LOG, HistoryMode::Last, LIMIT_MAX, said).expect("a page");
    let read = journal.read_bytes.load(Ordering::Relaxed);
    assert!(read <= REACH_BYTES + HISTORY_BYTES_MAX as u64 + 2 * body as u64, "{read} bytes");
    // As many as lie within the reach; a page holds the first of them, and the client asks on.
    let within = REACH_BYTES / (body as u64 + 100);
    assert_eq!((page.entries[0].header.seq, page.more), (201 - within, true));
}

/// The bug: who asked for more than one page may have was given a page, and told that there is no more.
#[test]
fn who_asks_for_more_than_a_page_may_have_is_told_to_ask_on() {
    let limit = u64::from(LIMIT_MAX);
    let journal = Watched::new(limit + 5, 10);
    for (after, asked, expected, more) in [
        (0, LIMIT_MAX + 1, 1..=limit, true),
        (0, LIMIT_MAX, 1..=limit, false),
        (5, u32::MAX, 6..=limit + 5, false),
        (limit, u32::MAX, limit + 1..=limit + 5, false),
    ] {
        let page = page(&journal, LOG, HistoryMode::After(after), asked, said).expect("a page");
        let numbers = numbers(&page);
        assert_eq!(numbers, expected.collect::<Vec<Seq>>(), "{after} {asked}");
        assert_eq!(page.more, more, "{after} {asked}");
    }
}

#[test]
fn fewer_than_all_of_them_are_the_last_ones() {
    let journal = Watched::new(100, 10);
    for (mode, limit, expected) in [
        (HistoryMode::Last, 3, 98..=100),
        (HistoryMode::Last, 1000, 1..=100),
        (HistoryMode::After(10), 2, 11..=12),
    ] {
        let page = page(&journal, LOG, mode, limit, said).expect("a page");
        assert_eq!(numbers(&page), expected.collect::<Vec<Seq>>(), "{mode:?} {limit}");
    }
}
