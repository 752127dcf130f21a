//! Whole stores as values: their files, what they answer, and changes to the files.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::mpsc;

use bytes::Bytes;
use tempfile::TempDir;
use tertulia_journal::embedded::SEGMENT_BYTES_MIN;
use tertulia_journal::{
    Batch, Catalog, Embedded, Expect, Journal, Level, LogId, Opened, Options, ReadError, Record,
    Snapshot,
};

use crate::input::Input;

/// Names and contents.
pub type Files = Vec<(String, Vec<u8>)>;

const LOGS: [u8; 4] = [0, 1, 2, 3];
const KEYS: [&str; 3] = ["group/one", "group/a-longer-name-than-fits", "gone"];

/// A whole store.
pub struct Image {
    pub files: Files,
    pub seen: Seen,
    /// What it answered before it was trimmed: a crash may bring that back.
    pub untrimmed: Seen,
}

/// What a store answers.
pub struct Seen {
    pub logs: Vec<(LogId, Result<(Opened, Vec<Record>), ReadError>)>,
    pub keys: Vec<(&'static str, Result<Option<Bytes>, ReadError>)>,
}

impl Seen {
    /// Asks for all of it.
    pub fn of(store: &Embedded) -> Self {
        let read = |byte| {
            let log = LogId([byte; 16]);
            let all = Journal::open(store, log)
                .and_then(|opened| Ok((store.read(log, opened.first, usize::MAX)?, opened)))
                .map(|(records, opened)| (opened, records));
            (log, all)
        };
        let get = |key| (key, store.get(key).map(|found| found.map(|record| record.value)));
        Self { logs: LOGS.map(read).into(), keys: KEYS.map(get).into() }
    }
}

/// A folder where writing costs nothing, if there is one.
pub fn fast_folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}

/// The stores that changes are made to: closed properly and killed, of one segment and of several.
pub fn images() -> &'static [Image] {
    static IMAGES: OnceLock<Vec<Image>> = OnceLock::new();
    IMAGES.get_or_init(|| {
        [(2, true), (2, false), (12, true), (12, false)]
            .map(|(rounds, clean)| make(rounds, clean))
            .into()
    })
}

fn make(rounds: u64, clean: bool) -> Image {
    let folder = fast_folder();
    let options =
        Options { level: Level::Os, segment_bytes: SEGMENT_BYTES_MIN, ..Options::default() };
    let open = || Embedded::open(folder.path(), options.clone()).expect("a new store");
    let store = open();
    fill(&store, rounds);
    let untrimmed = Seen::of(&store);
    trim(&store, rounds);
    drop(store);
    if !clean {
        fs::remove_file(folder.path().join("store/clean")).expect("it was closed");
    }
    let files = read(folder.path());
    let seen = Seen::of(&open());
    Image { files, seen, untrimmed }
}

fn fill(store: &Embedded, rounds: u64) {
    for key in KEYS {
        store.put(key, Expect::Any, Some(Bytes::copy_from_slice(key.as_bytes()))).expect("stored");
    }
    store.put("gone", Expect::Any, None).expect("deleted");
    append(store, 3, 1, 1, 100);
    store.delete(LogId([3; 16])).expect("deleted");
    for round in 0..rounds {
        append(store, 0, 1 + round, 1, 3_000);
        append(store, 1, 1 + 2 * round, 2, 5_000);
        append(store, 2, 1 + round, 1, 200);
    }
}

fn trim(store: &Embedded, rounds: u64) {
    let (sender, receiver) = mpsc::channel();
    let snapshot = Snapshot { at: rounds, state: Bytes::from_static(b"a state of log zero") };
    store.save_snapshot(LogId([0; 16]), 1, snapshot, Box::new(move |done| drop(sender.send(done))));
    receiver.recv().expect("an answer").expect("stored");
    store.trim(LogId([0; 16]), rounds / 2).expect("trimmed");
    store.put("group/one", Expect::Any, Some(Bytes::from_static(b"once more"))).expect("stored");
}

fn append(store: &Embedded, log: u8, first: u64, count: u32, size: usize) {
    let text = format!("log {log}, number {first};");
    let batch = Batch {
        log: LogId([log; 16]),
        epoch: 1,
        first,
        count,
        time_us: first,
        notes: Bytes::from(format!("notes of {first}")),
        entries: vec![Bytes::from(text.repeat(size / text.len()))],
    };
    let (sender, receiver) = mpsc::channel();
    store.append(batch, Box::new(move |done| drop(sender.send(done))));
    receiver.recv().expect("an answer").expect("stored");
}

/// The store's files under `folder`.
pub fn read(folder: &Path) -> Files {
    let entries = fs::read_dir(folder.join("store")).expect("a store");
    let mut files: Files = entries
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .map(|name| (name.clone(), fs::read(folder.join("store").join(name)).expect("readable")))
        .collect();
    files.sort();
    files
}

/// Makes the store's folder hold these files and no others.
pub fn write(folder: &Path, files: &Files) {
    let store = folder.join("store");
    let _ = fs::remove_dir_all(&store);
    fs::create_dir(&store).expect("a folder");
    for (name, bytes) in files {
        fs::write(store.join(name), bytes).expect("room");
    }
}

/// Changes one thing. Answers whether a store may look as if it had been torn by a power cut: only zeros, missing bytes and
/// the marker of a proper close can do that, a byte that is another cannot.
pub fn change(files: &mut Files, input: &mut Input<'_>) -> bool {
    let kind = input.u8();
    let which = usize::from(input.u8()) % files.len().max(1);
    let count = files.len();
    let Some((name, bytes)) = files.get_mut(which) else { return true };
    let is_marker = name == "clean";
    let at = usize::from(input.u16()) % bytes.len().max(1);
    let len = usize::from(input.u8()) * 8;
    let end = (at + len).min(bytes.len());
    match kind % 8 {
        0..=3 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= input.u8().max(1);
            }
            is_marker
        }
        4 => {
            bytes[at..end].fill(0);
            true
        }
        5 => {
            let from = usize::from(input.u16()).min(bytes.len().saturating_sub(end - at));
            bytes.copy_within(from..from + (end - at), at);
            true
        }
        6 => {
            bytes.truncate(at);
            true
        }
        _ if count > 1 => {
            files.remove(which);
            true
        }
        _ => true,
    }
}
