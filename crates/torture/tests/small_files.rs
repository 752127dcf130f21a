//! A folder of many small files is on the disk as a whole before it has its name: the power is cut when the name is seen.
//!
//! Needs root and some programs, and is skipped without them.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands, helpers too")]

use std::fs::File;
use std::io;
use std::path::Path;

use tertulia_files::assembly::Assembly;
use tertulia_files::content::ContentHash;
use tertulia_files::fetch::Durable;
use tertulia_files::folder::Folder;
use tertulia_files::limits::SYNCED_AT_ONCE_MIN;
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

/// Cuts the power off as soon as the folder has its name, while `put` may still be at it; then mounts the disk again.
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
