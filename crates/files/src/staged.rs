//! A folder that is being saved: beside the others and hidden until it is complete, then renamed as a whole.

use std::io;

use cap_fs_ext::DirExt as _;
use cap_std::fs::Dir;

use crate::content::Outline;
use crate::folder::{Folder, Staged, Stamp, make_file, open_below};
use crate::manifest::{BadManifest, Entry, Manifest};
use crate::names::{FileName, PART_PREFIX};
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
    files: Vec<(FileName, Stamp, Outline)>,
    open: Option<(FileName, Staged)>,
    bytes: u64,
}

impl Folder {
    /// Begins a folder that gets its name when it is complete.
    ///
    /// # Errors
    /// Of making it.
    pub fn stage_folder(&self) -> io::Result<StagedFolder> {
        let name = format!("{PART_PREFIX}{:0DIGITS$x}{SUFFIX}", rand::random::<u64>());
        self.dir().create_dir(&name)?;
        let dir = self.dir().open_dir_nofollow(&name)?;
        Ok(StagedFolder { dir, name, files: Vec::new(), open: None, bytes: 0 })
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
    /// The next file begins, and the one before is complete and synced.
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
        let (stamp, outline) = staged.sync()?;
        self.files.push((path, stamp, outline));
        Ok(())
    }

    /// Everything was written: names are on the disk, too, and this is the list of the files.
    ///
    /// # Errors
    /// Of syncing.
    pub fn complete(&mut self) -> io::Result<Result<Manifest, BadManifest>> {
        self.end_file()?;
        sync_all(&self.dir)?;
        let entry = |(path, stamp, outline): &(FileName, Stamp, Outline)| Entry {
            path: path.clone(),
            size: stamp.size,
            hash: outline.hash(),
        };
        Ok(Manifest::new(self.files.iter().map(entry).collect()))
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
