//! What is fetched is on the disk before it has its name: one file, and a folder of many small ones as a whole. The power is cut
//! when the name is seen, and when it was said to be there.
//!
//! Needs root and some programs, and is skipped without them.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands, helpers too")]

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tertulia_files::assembly::Assembly;
use tertulia_files::content::{ContentHash, outline_of};
use tertulia_files::fetch::{Durable, Part, Target};
use tertulia_files::folder::Folder;
use tertulia_files::limits::{PIECE_BYTES, SYNCED_AT_ONCE_MIN};
use tertulia_files::manifest::{Entry, Manifest};
use tertulia_files::names::FileName;
use tertulia_torture::place::{Disk, Options, Place};

const NAME: &str = "fotos";

/// A place for its disk only. Continuous integration has to be able to make one.
fn place() -> Option<Place> {
    let options = Options { disk_mib: 64, clock: false, ..Options::new("no-node".into()) };
    let missing = Place::missing(options.clock);
    if missing.is_empty() {
        return Some(Place::new(options).unwrap());
    }
    let why = missing.join("; ");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "cannot be run: {why}");
    eprintln!("skipped: {why}");
    None
}

fn name(text: &str) -> FileName {
    FileName::new(text).unwrap()
}

/// As many as are synced at once, and some more.
fn files() -> Vec<(FileName, Vec<u8>)> {
    let file = |number: usize| {
        let content = format!("{number}\n").repeat(number % 2_000);
        (name(&format!("{}/{number}.txt", number % 7)), content.into_bytes())
    };
    (0..SYNCED_AT_ONCE_MIN + 100).map(file).collect()
}

fn manifest() -> Manifest {
    let entry = |(path, content): (FileName, Vec<u8>)| Entry {
        path,
        size: content.len() as u64,
        hash: ContentHash::of(&content),
    };
    Manifest::new(files().into_iter().map(entry).collect()).unwrap()
}

/// How many of the files are there and right.
fn right(disk: &Disk) -> usize {
    let folder = disk.folder().join(NAME);
    let is_right = |(path, content): &(FileName, Vec<u8>)| {
        std::fs::read(folder.join(path.as_str())).is_ok_and(|found| found == *content)
    };
    files().iter().filter(|file| is_right(file)).count()
}

/// Cuts the power off as soon as it has its name, while `put` may still be at it; then mounts the disk again.
fn cut_when_named(disk: &Disk, put: impl FnOnce() -> io::Result<()> + Send) -> io::Result<()> {
    let named = disk.folder().join(NAME);
    let put = std::thread::scope(|scope| {
        let putting = scope.spawn(put);
        while named.symlink_metadata().is_err() && !putting.is_finished() {
            std::hint::spin_loop();
        }
        disk.cut().unwrap();
        putting.join().unwrap()
    });
    disk.mount_again().unwrap();
    put
}

/// Who was told that it is there has all of it, and whoever sees the name.
fn check(disk: &Disk, put: &io::Result<()>) {
    let is_there = disk.folder().join(NAME).exists();
    assert!(is_there || put.is_err(), "it was said to be there");
    if is_there {
        assert_eq!(right(disk), files().len(), "{put:?}");
    }
}

/// Puts the folder together as one that is fetched.
fn fetch(to: &Path) -> io::Result<()> {
    let manifest = manifest();
    let assembly = Assembly::open(to, ContentHash::of(&manifest.write()))?;
    assert_eq!(assembly.small_files(&manifest), Durable::Later);
    assembly.prepare(&manifest)?;
    let from = tempfile::tempdir()?;
    let from = from.path().join("from");
    for (path, content) in files() {
        std::fs::write(&from, content)?;
        let entry = manifest.entries().iter().find(|entry| entry.path == path).unwrap();
        assembly.copy(File::open(&from)?, entry, Durable::Later)?;
    }
    assembly.finish(&manifest, &name(NAME))
}

/// As one that is saved.
fn save(to: &Path) -> io::Result<()> {
    let folder = Folder::open(to)?;
    let files = files();
    let mut staged = folder.stage_folder(files.len())?;
    for (path, content) in files {
        staged.begin(path)?;
        staged.write(&content)?;
    }
    staged.complete()?.unwrap();
    folder.finish_folder(&staged, &name(NAME))
}

/// One file, as it is fetched for a group: piece by piece, in no order.
fn fetch_one(to: &Path, content: &[u8]) -> io::Result<()> {
    let outline = outline_of(content)?;
    let target = Target::in_folder(to, name(NAME), false)?;
    let part = Part::open(&target, outline.hash())?;
    part.verify(&outline)?;
    for (number, piece) in content.chunks(PIECE_BYTES).enumerate().rev() {
        part.write(number as u64, &[piece])?;
    }
    Arc::new(part).finish(&target)
}

/// The same of one piece, which is put there at once.
fn put_one(to: &Path, content: &[u8]) -> io::Result<()> {
    let target = Target::in_folder(to, name(NAME), false)?;
    assert!(Part::put(&target, &outline_of(content)?, &[content])?);
    Ok(())
}

#[test]
fn one_file_that_is_fetched_is_whole_after_a_power_cut() {
    type Fetch = fn(&Path, &[u8]) -> io::Result<()>;
    let Some(place) = place() else { return };
    let disk = place.raw_disk();
    let byte = |at: usize| (at.wrapping_mul(2_654_435_761) >> 13) as u8;
    let large: Vec<u8> = (0..3 * PIECE_BYTES + 9).map(byte).collect();
    for (fetch, content) in [(fetch_one as Fetch, &large[..]), (put_one, &large[..4_000])] {
        let there = || std::fs::read(disk.folder().join(NAME));
        let fetched = cut_when_named(disk, || fetch(disk.folder(), content));
        match there() {
            Ok(found) => assert!(found == content, "{} bytes of it", found.len()),
            Err(error) => assert!(fetched.is_err(), "it was said to be there: {error}"),
        }
        // Once it was said to be there, and so confirmed, it is.
        let _ = std::fs::remove_file(disk.folder().join(NAME));
        fetch(disk.folder(), content).unwrap();
        disk.cut().unwrap();
        disk.mount_again().unwrap();
        assert!(there().unwrap() == content);
        std::fs::remove_file(disk.folder().join(NAME)).unwrap();
        File::open(disk.folder()).unwrap().sync_all().unwrap();
    }
}

#[test]
fn a_folder_of_small_files_that_is_fetched_is_whole_after_a_power_cut() {
    let Some(place) = place() else { return };
    let disk = place.raw_disk();
    let put = cut_when_named(disk, || fetch(disk.folder()));
    check(disk, &put);
    // Once it was said to be there, it is.
    let _ = std::fs::remove_dir_all(disk.folder().join(NAME));
    fetch(disk.folder()).unwrap();
    disk.cut().unwrap();
    disk.mount_again().unwrap();
    check(disk, &Ok(()));
}

#[test]
fn a_folder_of_small_files_that_is_saved_is_whole_after_a_power_cut() {
    let Some(place) = place() else { return };
    let disk = place.raw_disk();
    let put = cut_when_named(disk, || save(disk.folder()));
    check(disk, &put);
    let _ = std::fs::remove_dir_all(disk.folder().join(NAME));
    save(disk.folder()).unwrap();
    disk.cut().unwrap();
    disk.mount_again().unwrap();
    check(disk, &Ok(()));
}

/// The cut takes away what was not synced: without that, the tests above would show nothing.
#[test]
fn what_has_its_name_on_the_disk_only_is_lost_at_a_power_cut() {
    let Some(place) = place() else { return };
    let disk = place.raw_disk();
    let beside = disk.folder().join("beside");
    for (path, content) in files() {
        let path = beside.join(path.as_str());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    std::fs::rename(beside, disk.folder().join(NAME)).unwrap();
    File::open(disk.folder()).unwrap().sync_all().unwrap();
    disk.cut().unwrap();
    disk.mount_again().unwrap();
    assert!(disk.folder().join(NAME).exists());
    assert!(right(disk) < files().len() / 2, "{} of {}", right(disk), files().len());
}
