//! A file that is being fetched: beside its place, private until it is complete, and what is right of it is kept.
//!
//! Nothing is written down of which pieces are there: each that verifies is. So whatever a crash left is either used or
//! fetched again, never believed.

use std::fs::TryLockError;
use std::io;
use std::path::Path;
use std::sync::Arc;

use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt as _};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};

use crate::content::{ContentHash, Outline};
use crate::folder::part_name;
use crate::limits::PIECE_BYTES;
use crate::names::FileName;
use crate::place;

/// See the module.
#[derive(Debug)]
pub struct Part {
    dir: Arc<Dir>,
    name: String,
    file: std::fs::File,
    keep_free: u64,
}

/// Where a file is to be.
#[derive(Clone, Debug)]
pub struct Target {
    /// The folder, as it was opened: whatever its path leads to by now.
    pub folder: Arc<Dir>,
    /// The file's name in it, without folders.
    pub name: FileName,
    /// Another file of this name goes.
    pub replace: bool,
    /// When it is on the disk.
    pub durable: Durable,
    /// Bytes of its disk that stay free.
    pub keep_free: u64,
}

impl Target {
    /// In a folder of the user's, which is there, whatever its path leads through; it is on the disk when it has its name.
    ///
    /// # Errors
    /// Of opening the folder.
    pub fn in_folder(folder: &Path, name: FileName, replace: bool) -> io::Result<Self> {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let folder = Arc::new(Dir::open_ambient_dir(folder, ambient_authority())?);
        Ok(Self { folder, name, replace, durable: Durable::Now, keep_free: 0 })
    }
}

/// When a file is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durable {
    /// When it has its name.
    Now,
    /// When whoever fetches it with others has synced all of them at once; until then nobody counts on it.
    Later,
}

impl Part {
    /// Opens what an earlier try has left, or begins. Blocks.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] where a file has the name and is not to go; [`io::ErrorKind::WouldBlock`] where another
    /// program is fetching the same.
    pub fn open(target: &Target, hash: ContentHash) -> io::Result<Self> {
        let dir = Self::folder(target)?;
        let name = part_name(hash);
        let open = |is_new: bool| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).create_new(is_new);
            options.follow(FollowSymlinks::No);
            #[cfg(unix)]
            {
                use cap_std::fs::OpenOptionsExt as _;
                options.mode(0o600).custom_flags(place::O_NONBLOCK);
            }
            dir.open_with(&name, &options)
        };
        let file = match open(true) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let left = open(false)?;
                let metadata = left.metadata()?;
                if !metadata.is_file() {
                    let text = format!("{name} is no plain file");
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
                }
                if place::is_ours(&metadata) {
                    left
                } else {
                    // Somebody who may write here has put it there, and could write into it until it has its name, and after.
                    dir.remove_file(&name)?;
                    open(true).map_err(|error| match error.kind() {
                        io::ErrorKind::AlreadyExists => io::ErrorKind::WouldBlock.into(),
                        _ => error,
                    })?
                }
            }
            opened => opened?,
        };
        let file = file.into_std();
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        Ok(Self { dir, name, file, keep_free: target.keep_free })
    }

    /// The folder of a target that may be had; nothing is made in it. Blocks.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] where a file has the name and is not to go.
    pub fn folder(target: &Target) -> io::Result<Arc<Dir>> {
        let dir = Arc::clone(&target.folder);
        if !target.replace && dir.symlink_metadata(target.name.base()).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(dir)
    }

    /// Which pieces are there already, in one pass; the file is as long as it will be then. Blocks.
    ///
    /// # Errors
    /// Of reading; [`io::ErrorKind::StorageFull`] where what is missing does not fit the disk.
    pub fn verify(&self, outline: &Outline) -> io::Result<Vec<u64>> {
        let mut here = Vec::new();
        let len = self.file.metadata()?.len();
        let mut buffer = vec![0; PIECE_BYTES];
        for number in 0..outline.pieces() {
            let begin = number * PIECE_BYTES as u64;
            let piece = &mut buffer[..outline.piece_len(number)];
            if begin + piece.len() as u64 > len {
                break;
            }
            place::read_at(&self.file, piece, begin)?;
            if outline.is_piece(number, &[&*piece]) {
                here.push(number);
            }
        }
        let kept = here.iter().map(|number| outline.piece_len(*number) as u64).sum();
        let missing = outline.size().saturating_sub(kept);
        place::check_space(&self.dir, missing, self.keep_free)?;
        self.file.set_len(outline.size())?;
        Ok(here)
    }

    /// Puts a content of one piece, which is in these buffers, in its place; `false` where it is not what the outline says. Blocks.
    ///
    /// # Errors
    /// Of [`Part::open`], of writing, and of [`Part::finish`].
    pub fn put(
        target: &Target,
        outline: &Outline,
        content: &[impl AsRef<[u8]>],
    ) -> io::Result<bool> {
        if !outline.is_piece(0, content) {
            return Ok(false);
        }
        let part = Self::open(target, outline.hash())?;
        part.file.set_len(outline.size())?;
        part.write(0, content)?;
        Arc::new(part).finish(target)?;
        Ok(true)
    }

    /// Writes a piece, which is in these buffers, where it belongs. Blocks.
    ///
    /// # Errors
    /// Of writing; [`io::ErrorKind::StorageFull`] where what is to stay free would not.
    pub fn write(&self, number: u64, piece: &[impl AsRef<[u8]>]) -> io::Result<()> {
        if self.keep_free > 0 {
            // Others fill the disk meanwhile, and so do we with other files.
            let len = piece.iter().map(|bytes| bytes.as_ref().len() as u64).sum();
            place::check_space(&self.dir, len, self.keep_free)?;
        }
        let mut begin = number * PIECE_BYTES as u64;
        for bytes in piece.iter().map(AsRef::as_ref) {
            let written = place::write_at(&self.file, bytes, begin);
            written.map_err(|error| self.full(error))?;
            begin += bytes.len() as u64;
        }
        Ok(())
    }

    /// Where the disk has become full meanwhile: how much of the file, which is as long as it will be, it has not taken yet.
    fn full(&self, error: io::Error) -> io::Error {
        match cap_std::fs::Metadata::from_file(&self.file) {
            Ok(metadata) if error.kind() == io::ErrorKind::StorageFull => {
                let missing = metadata.len().saturating_sub(place::used_bytes(&metadata));
                place::no_space(&self.dir, missing).unwrap_or(error)
            }
            _ => error,
        }
    }

    /// Reads what is there, from so many bytes after the beginning. Blocks.
    ///
    /// # Errors
    /// Of reading.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        place::read_at(&self.file, bytes, offset)
    }

    /// Everything is there: it is synced, unless that is done later, and gets its name. Blocks.
    ///
    /// # Errors
    /// Of syncing and renaming: [`io::ErrorKind::AlreadyExists`] where somebody has taken the name meanwhile; what was fetched
    /// stays for the next try.
    pub fn finish(self: Arc<Self>, target: &Target) -> io::Result<()> {
        if target.durable == Durable::Now {
            place::sync_file(&self.file)?;
        }
        #[cfg(unix)]
        rustix::fs::fchmod(&self.file, rustix::fs::Mode::from_raw_mode(0o666 & !umask()))?;
        place::rename(&self.dir, &self.name, &self.dir, target.name.base(), target.replace)?;
        match target.durable {
            Durable::Now => place::sync(&self.dir),
            Durable::Later => Ok(()),
        }
    }
}

/// What other programs' new files may be: read without changing it, where the system says so; once, since nothing here
/// changes it.
#[cfg(unix)]
fn umask() -> u32 {
    static UMASK: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *UMASK.get_or_init(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
        line.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()).unwrap_or(0o077)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::outline_of;

    #[test]
    fn what_is_right_of_an_earlier_try_is_kept_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..3 * PIECE_BYTES + 9).map(|at| (at / 1000) as u8).collect();
        let outline = outline_of(&content[..]).unwrap();
        let name = FileName::new("a.bin").unwrap();
        let target = Target::in_folder(folder.path(), name, false).unwrap();
        let piece = |number: usize| {
            &content[number * PIECE_BYTES..content.len().min((number + 1) * PIECE_BYTES)]
        };
        let part = Part::open(&target, outline.hash()).unwrap();
        assert_eq!(part.verify(&outline).unwrap(), [0; 0]);
        part.write(1, &[&piece(1)[..9], &piece(1)[9..]]).unwrap();
        part.write(3, &[piece(3)]).unwrap();
        part.write(2, &[&piece(2)[1..]]).unwrap();
        let busy = Part::open(&target, outline.hash()).unwrap_err();
        assert_eq!(busy.kind(), io::ErrorKind::WouldBlock);
        drop(part);
        let part = Part::open(&target, outline.hash()).unwrap();
        assert_eq!(part.verify(&outline).unwrap(), [1, 3]);
        place::faults::set_free(Some(PIECE_BYTES as u64));
        let narrow = part.verify(&outline).unwrap_err();
        assert_eq!(narrow.kind(), io::ErrorKind::StorageFull);
        assert_eq!(narrow.to_string(), "2.0 MiB needed, 1.0 MiB free");
        let full = part.full(io::ErrorKind::StorageFull.into());
        assert!(full.to_string().ends_with(" needed, 1.0 MiB free"), "{full}");
        place::faults::set_free(None);
        part.write(0, &[piece(0)]).unwrap();
        part.write(2, &[piece(2)]).unwrap();
        std::fs::write(folder.path().join("a.bin"), "mine").unwrap();
        let taken = Arc::new(part).finish(&target).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(
            Part::open(&target, outline.hash()).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(std::fs::read(folder.path().join("a.bin")).unwrap(), b"mine");
        let target = Target { replace: true, ..target };
        let part = Part::open(&target, outline.hash()).unwrap();
        assert_eq!(part.verify(&outline).unwrap().len(), 4);
        Arc::new(part).finish(&target).unwrap();
        assert_eq!(std::fs::read(folder.path().join("a.bin")).unwrap(), content);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        #[cfg(unix)]
        {
            // What somebody else has put there is not used; who is not root cannot make such a thing.
            use std::os::unix::fs::MetadataExt as _;
            let left = folder.path().join(part_name(outline.hash()));
            std::fs::write(&left, &content).unwrap();
            if std::os::unix::fs::chown(&left, Some(65_534), None).is_ok() {
                let part = Part::open(&target, outline.hash()).unwrap();
                assert_eq!(part.verify(&outline).unwrap(), [0; 0]);
                assert_ne!(left.metadata().unwrap().uid(), 65_534);
            }
        }
    }
}
