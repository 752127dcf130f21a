//! Files of a folder that are not on the disk yet: many small ones are synced at once, before the folder has its name.
//!
//! Who puts a folder together writes its files where nobody looks for them, settles what it owes to the disk, and only then gives
//! the folder its name.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use cap_fs_ext::{DirExt as _, FollowSymlinks, OpenOptionsFollowExt as _};
use cap_std::fs::{Dir, OpenOptions};

use crate::content::{Outline, outline_of};
use crate::fetch::Durable;
use crate::folder::open_below;
use crate::limits::{PIECE_BYTES, SYNCED_AT_ONCE_MIN};
use crate::manifest::{Entry, Manifest};
use crate::place;

/// Whether a file is one of those that may be synced with others: one piece.
pub const fn is_small(size: u64) -> bool {
    size <= PIECE_BYTES as u64
}

/// How many of these are.
pub fn count_small(manifest: &Manifest) -> usize {
    manifest.entries().iter().filter(|entry| is_small(entry.size)).count()
}

/// See the module.
#[derive(Debug)]
pub struct Owing {
    /// Opened before anything is written: it says what could not be since then.
    file_system: Option<place::FileSystem>,
    /// There may be files that are not on the disk.
    is_owing: AtomicBool,
}

impl Owing {
    /// Nothing yet, on the disk of this folder.
    pub fn on(dir: &Dir) -> Self {
        Self { file_system: place::FileSystem::of(dir), is_owing: AtomicBool::new(false) }
    }

    /// When those files are to be on the disk that are one piece, of a folder with so many of them: where there are many, when all
    /// of them are.
    pub fn small_files(&self, count: usize) -> Durable {
        let are_many = count >= SYNCED_AT_ONCE_MIN;
        if are_many && self.file_system.is_some() { Durable::Later } else { Durable::Now }
    }

    /// A small file is written so.
    pub fn owes(&self, durable: Durable) {
        if durable == Durable::Later {
            self.is_owing.store(true, Ordering::Relaxed);
        }
    }

    /// Syncs what others have left, all at once, so that syncing it file by file is quick; that says what could not be. Blocks.
    pub fn hurry(&self) {
        if let Some(file_system) = &self.file_system {
            let _ = file_system.sync();
        }
    }

    /// Everything in a folder with these files is on the disk: contents and names. Blocks.
    ///
    /// # Errors
    /// Where anything of it could not be written; [`io::ErrorKind::InvalidData`] where a file is not what the list says any more.
    pub fn settle(&self, dir: &Dir, manifest: &Manifest) -> io::Result<()> {
        let is_owing = self.is_owing.load(Ordering::Relaxed);
        let is_synced = |file_system: &place::FileSystem| file_system.sync().is_ok();
        let at_once = is_owing && self.small_files(count_small(manifest)) == Durable::Later;
        if !at_once || !self.file_system.as_ref().is_some_and(is_synced) {
            let small = manifest.entries().iter().filter(|entry| is_small(entry.size));
            for entry in small.filter(|_| is_owing) {
                settle_one(dir, entry)?;
            }
            sync_all(dir)?;
        }
        self.is_owing.store(false, Ordering::Relaxed);
        Ok(())
    }
}

/// What could not be written may be somebody else's: each file says it of itself. It is read again, too: the system may have
/// forgotten what was wrong with a file, together with the file.
fn settle_one(dir: &Dir, entry: &Entry) -> io::Result<()> {
    let (dir, base) = (open_below(dir, &entry.path, false)?, entry.path.base());
    place::sync_content(&open(&dir, base)?)?;
    content(&dir, base, entry).map(drop).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The names in a folder and in all below it are on the disk.
pub fn sync_all(dir: &Dir) -> io::Result<()> {
    for entry in dir.entries()? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_all(&dir.open_dir_nofollow(entry.file_name())?)?;
        }
    }
    place::sync(dir)
}

/// Opens a file of a folder for reading; a link is none.
pub fn open(dir: &Dir, base: &str) -> io::Result<std::fs::File> {
    let mut options = OpenOptions::new();
    options.read(true).follow(FollowSymlinks::No);
    Ok(dir.open_with(base, &options)?.into_std())
}

/// A file and its outline, where it is what the list says.
pub fn content(dir: &Dir, base: &str, entry: &Entry) -> Option<(std::fs::File, Outline)> {
    let file = open(dir, base).ok()?;
    if file.metadata().ok()?.len() != entry.size {
        return None;
    }
    let outline = outline_of(&file).ok().filter(|outline| outline.hash() == entry.hash)?;
    Some((file, outline))
}
