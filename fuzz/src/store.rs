//! A store on disk: whatever stands in its files, it opens or is refused, and never answers what was not stored.

mod image;
mod records;

use std::fs;
use std::sync::OnceLock;

use tempfile::TempDir;
use tertulia_journal::embedded::{SEGMENT_BYTES_MIN, check};
use tertulia_journal::{Catalog, Embedded, Journal, Level, LogId, Options};

use crate::input::Input;
use image::{Image, Seen, images};

pub use image::fast_folder;

/// Files of a whole store with changes, or records of right checksums with anything in them.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.u8() {
        0..=127 => changed(&mut input),
        _ => arbitrary(&mut input),
    }
}

fn folder() -> &'static TempDir {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER.get_or_init(fast_folder)
}

fn open() -> Option<Embedded> {
    let options =
        Options { level: Level::Os, segment_bytes: SEGMENT_BYTES_MIN, ..Options::default() };
    Embedded::open(folder().path(), options).ok()
}

/// A store that was whole: what it still answers is what was stored.
fn changed(input: &mut Input<'_>) {
    let images = images();
    let whole = &images[usize::from(input.u8()) % images.len()];
    let mut files = whole.files.clone();
    let mut may_look_torn = false;
    for _ in 0..8 {
        if input.is_empty() {
            break;
        }
        may_look_torn |= image::change(&mut files, input);
    }
    image::write(folder().path(), &files);
    let problems = check(folder().path()).map(|report| report.problems.len()).unwrap_or(1);
    image::write(folder().path(), &files);
    let Some(store) = open() else { return };
    let seen = Seen::of(&store);
    compare(whole, &seen, may_look_torn, problems > 0);
}

/// `is_named`: a full check has named damage.
fn compare(whole: &Image, seen: &Seen, may_look_torn: bool, is_named: bool) {
    let logs = whole.seen.logs.iter().zip(&whole.untrimmed.logs).zip(&seen.logs);
    for (((log, was), (_, untrimmed)), (_, is)) in logs {
        let Ok((opened, records)) = is else { continue };
        let (was_opened, was_records) = was.as_ref().expect("it was whole");
        let (_, all) = untrimmed.as_ref().expect("it was whole");
        assert!(records.iter().all(|record| all.contains(record)), "an altered record of {log}");
        let is_same = opened == was_opened && records == was_records;
        assert!(is_same || may_look_torn, "{log} is another: {opened:?}, named: {is_named}");
    }
    for ((key, was), (_, is)) in whole.seen.keys.iter().zip(&seen.keys) {
        let Ok(is) = is else { continue };
        assert!(Ok(is) == was.as_ref() || may_look_torn, "the record {key} is another");
    }
}

/// Files that this program could have written, but never did: they may mean nothing, and bring nothing down.
fn arbitrary(input: &mut Input<'_>) {
    let files = records::files(input);
    image::write(folder().path(), &files);
    let _ = check(folder().path());
    image::write(folder().path(), &files);
    let Some(store) = open() else { return };
    let _ = store.scan("");
    for byte in 0..4 {
        let log = LogId([byte; 16]);
        let Ok(opened) = Journal::open(&store, log) else { continue };
        let _ = (store.usage(log), store.keep_from(log, 100, 100));
        let _ = store.read(log, opened.first, 1 << 20);
        let _ = store.trim(log, opened.first.saturating_add(1));
    }
    drop(store);
    let _ = fs::remove_dir_all(folder().path().join("store"));
}
