//! A folder that is being saved: beside the others and hidden until it is complete, then renamed as a whole.

use std::io;

use cap_fs_ext::DirExt as _;
use cap_std::fs::Dir;

use crate::content::Outline;
use crate::fetch::Durable;
use crate::folder::{Folder, Staged, Stamp, make_file, open_below};
use crate::manifest::{BadManifest, Entry, Manifest};
use crate::names::{FileName, PART_PREFIX};
use crate::owing::{Owing, is_small};
use crate::place;

/// Digits in the name of a folder that is being saved.
const DIGITS: usize = 16;
/// What such a name ends with.
pub const SUFFIX: &str = ".folder";

/// See the module.
#[derive(Debug)]
pub struct StagedFolder {
    dir: Dir,
    name: String,
    owing: Owing,
    /// When files of one piece are on the disk.
    small: Durable,
    files: Vec<(FileName, Stamp, Outline)>,
    open: Option<(FileName, Staged)>,
    bytes: u64,
}

impl Folder {
    /// Begins a folder of so many files that gets its name when it is complete.
    ///
    /// # Errors
    /// Of making it.
    pub fn stage_folder(&self, count: usize) -> io::Result<StagedFolder> {
        let name = format!("{PART_PREFIX}{:0DIGITS$x}{SUFFIX}", rand::random::<u64>());
        self.dir().create_dir(&name)?;
        let dir = self.dir().open_dir_nofollow(&name)?;
        let owing = Owing::on(&dir);
        // Which of them are small is not known yet; where it turns out that there are few, these are synced one by one in the end.
        let small = owing.small_files(count);
        Ok(StagedFolder { dir, name, owing, small, files: Vec::new(), open: None, bytes: 0 })
    }

    /// Gives a folder its name; everything in it is on the disk by then. What has the name already stays
    /// ([`io::ErrorKind::AlreadyExists`]).
    ///
    /// # Errors
    /// Of renaming.
    pub fn finish_folder(&self, staged: &StagedFolder, name: &FileName) -> io::Result<()> {
        place::rename_folder(self.dir(), &staged.name, self.dir(), name.base())?;
        place::sync(self.dir())
    }

    /// A folder is not wanted any more.
    pub fn abandon_folder(&self, staged: &StagedFolder) {
        let _ = self.dir().remove_dir_all(&staged.name);
    }
}

impl StagedFolder {
    /// The next file begins, and the one before is complete.
    ///
    /// # Errors
    /// Of writing; [`io::ErrorKind::AlreadyExists`] where it was there before.
    pub fn begin(&mut self, path: FileName) -> io::Result<()> {
        self.end_file()?;
        let dir = open_below(&self.dir, &path, true)?;
        let staged = Staged::of(make_file(&dir, path.base())?, path.base().to_owned());
        self.open = Some((path, staged));
        Ok(())
    }

    /// What comes next of the file that was begun.
    ///
    /// # Errors
    /// Of writing; [`io::ErrorKind::InvalidInput`] where none was begun.
    pub fn write(&mut self, content: &[u8]) -> io::Result<()> {
        let (_, staged) = self.open.as_mut().ok_or(io::ErrorKind::InvalidInput)?;
        staged.write(content)?;
        self.bytes += content.len() as u64;
        Ok(())
    }

    fn end_file(&mut self) -> io::Result<()> {
        let Some((path, staged)) = self.open.take() else { return Ok(()) };
        let durable = if is_small(staged.size()) { self.small } else { Durable::Now };
        self.owing.owes(durable);
        let (stamp, outline) = staged.written(durable)?;
        self.files.push((path, stamp, outline));
        Ok(())
    }

    /// Everything was written: this is the list of the files. Where there is one, all of it is on the disk, names too. Blocks.
    ///
    /// # Errors
    /// Where anything of it could not be written.
    pub fn complete(&mut self) -> io::Result<Result<Manifest, BadManifest>> {
        self.end_file()?;
        let entry = |(path, stamp, outline): &(FileName, Stamp, Outline)| Entry {
            path: path.clone(),
            size: stamp.size,
            hash: outline.hash(),
        };
        let manifest = Manifest::new(self.files.iter().map(entry).collect());
        if let Ok(manifest) = &manifest {
            self.owing.settle(&self.dir, manifest)?;
        }
        Ok(manifest)
    }

    /// What was written, file by file.
    pub fn into_files(self) -> Vec<(FileName, Stamp, Outline)> {
        self.files
    }

    /// Files so far, the one that is being written included.
    pub const fn count(&self) -> usize {
        self.files.len() + self.open.is_some() as usize
    }

    /// Bytes so far.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes so far of the file that was begun.
    pub fn file_bytes(&self) -> u64 {
        self.open.as_ref().map_or(0, |(_, staged)| staged.size())
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::limits::{PIECE_BYTES, SYNCED_AT_ONCE_MIN};
    use crate::place::faults;

    fn name(text: &str) -> FileName {
        FileName::new(text).unwrap()
    }

    /// Writes so many small files and one large one. `None` on a disk that is not synced as a whole.
    fn written(root: &Path, small: usize) -> Option<(Folder, StagedFolder)> {
        let folder = Folder::open(root).unwrap();
        if place::FileSystem::of(folder.dir()).is_none() {
            eprintln!("skipped: this file system is not synced as a whole");
            return None;
        }
        let mut staged = folder.stage_folder(small + 1).unwrap();
        for at in 0..small {
            staged.begin(name(&format!("a/{at}"))).unwrap();
            staged.write(at.to_string().as_bytes()).unwrap();
        }
        staged.begin(name("large")).unwrap();
        staged.write(&vec![0; PIECE_BYTES + 1]).unwrap();
        Some((folder, staged))
    }

    /// Syncs of contents, and of whole file systems, in this thread so far.
    fn synced() -> (usize, usize) {
        (faults::synced(), faults::synced_whole())
    }

    #[test]
    fn many_small_files_that_are_saved_are_synced_at_once_before_the_folder_is_complete() {
        let root = tempfile::tempdir().unwrap();
        let before = synced();
        let Some((folder, mut staged)) = written(root.path(), SYNCED_AT_ONCE_MIN) else { return };
        assert_eq!(synced(), before);
        // The large one by itself, and then all.
        let manifest = staged.complete().unwrap().unwrap();
        assert_eq!(synced(), (before.0 + 1, before.1 + 1));
        assert_eq!(manifest.entries().len(), SYNCED_AT_ONCE_MIN + 1);
        folder.finish_folder(&staged, &name("fotos")).unwrap();
        assert_eq!(std::fs::read_to_string(root.path().join("fotos/a/7")).unwrap(), "7");

        // Where the file system as a whole has an error, each file says whether it is there.
        let (_, mut staged) = written(root.path(), SYNCED_AT_ONCE_MIN).unwrap();
        faults::fail_sync_whole(true);
        let before = synced();
        staged.complete().unwrap().unwrap();
        assert_eq!(synced(), (before.0 + SYNCED_AT_ONCE_MIN + 1, before.1 + 1));
        let (_, mut staged) = written(root.path(), SYNCED_AT_ONCE_MIN).unwrap();
        staged.begin(name("b")).unwrap();
        faults::fail_sync(true);
        assert!(staged.complete().is_err());
        faults::fail_sync(false);
        faults::fail_sync_whole(false);
    }

    #[test]
    fn few_small_files_that_are_saved_are_synced_one_by_one() {
        let root = tempfile::tempdir().unwrap();
        let few = SYNCED_AT_ONCE_MIN - 1;
        let before = synced();
        // As many files as are synced at once, but one of them is large: known only in the end.
        let Some((_, mut staged)) = written(root.path(), few) else { return };
        staged.complete().unwrap().unwrap();
        assert_eq!(synced(), (before.0 + few + 1, before.1));
        let before = synced();
        let (_, mut staged) = written(root.path(), 3).unwrap();
        assert_eq!(synced(), (before.0 + 3, before.1));
        staged.complete().unwrap().unwrap();
        assert_eq!(synced(), (before.0 + 4, before.1));
    }
}
