//! A folder that is being fetched: beside its place and hidden until all of it is there and right, then renamed as a whole.
//!
//! `.tertulia-….folder` beside the target has the list of the files (`list`), and the files so far (`files`). An earlier try's
//! are used again where they are what the list says; nothing else is believed. So of many small files none has to be on the disk
//! before all of them are: the file system is synced once, before the folder gets its name.

use std::collections::{BTreeMap, HashSet};
use std::fs::TryLockError;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use cap_fs_ext::{DirExt as _, FollowSymlinks, OpenOptionsFollowExt as _};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};

use crate::content::{ContentHash, Outline};
use crate::fetch::{Durable, Target};
use crate::folder::{FETCHED_DIGITS, make_file, open_below};
use crate::limits::{DEPTH_MAX, MANIFEST_BYTES_MAX};
use crate::manifest::{Entry, Manifest};
use crate::names::{FileName, PART_PREFIX};
use crate::owing::{self, Owing, content};
use crate::place;
use crate::staged::SUFFIX;

const LIST: &str = "list";
const FILES: &str = "files";
/// Held by whoever is at it.
pub(crate) const LOCK: &str = "lock";

/// See the module.
#[derive(Debug)]
pub struct Assembly {
    /// Where the folder will be.
    parent: Dir,
    /// `.tertulia-….folder`.
    name: String,
    /// The path of the folder's files.
    #[cfg(test)]
    path: std::path::PathBuf,
    outer: Dir,
    owing: Owing,
    /// Bytes of its disk that stay free.
    keep_free: u64,
    /// Held as long as this is there.
    _lock: std::fs::File,
}

/// A file that is there and right.
pub type Here = (FileName, Arc<Outline>);

impl Assembly {
    /// Opens what an earlier try has left, or begins. Blocks.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] where another program is fetching the same folder into the same one;
    /// [`io::ErrorKind::PermissionDenied`] where somebody else has taken its place.
    pub fn open(parent: &Path, hash: ContentHash) -> io::Result<Self> {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let dir = Dir::open_ambient_dir(parent, ambient_authority())?;
        let (left, is_new) = Self::open_in(dir.try_clone()?, hash, parent)?;
        if left.is_only_ours(is_new)? {
            return Ok(left);
        }
        // Others might change what is in it, between our looking at it and its having its name.
        left.put_away();
        drop(left);
        let (made, is_new) = Self::open_in(dir, hash, parent)?;
        if is_new && made.is_only_ours(is_new)? {
            return Ok(made);
        }
        let text = format!("{} is somebody else's, or others may write in it", name_of(hash));
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    }

    /// Whether nobody else may write in it. What was made just now is as good as the folder that it is in: some file systems say
    /// the same of everything.
    fn is_only_ours(&self, is_new: bool) -> io::Result<bool> {
        let is_alike = is_new && place::have_one_owner(&self.outer, &self.parent)?;
        Ok(is_alike || place::is_only_ours(&self.outer)?)
    }

    /// Opens it, and says whether it was not there before.
    fn open_in(
        dir: Dir,
        hash: ContentHash,
        #[cfg_attr(not(test), allow(unused_variables, reason = "tests put files there"))]
        parent: &Path,
    ) -> io::Result<(Self, bool)> {
        let outer_name = name_of(hash);
        let is_new = match place::make_own_folder(&dir, &outer_name) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(error),
        };
        let outer = dir.open_dir_nofollow(&outer_name).map_err(busy)?;
        let mut options = OpenOptions::new();
        options.create(true).write(true).follow(FollowSymlinks::No);
        let lock = outer.open_with(LOCK, &options).map_err(busy)?.into_std();
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Whoever was at it may have put it away since it was opened.
        if !is_at(&dir, &outer_name, &outer) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // What nobody has been at for the longest is cleared up first; a wrong time harms nothing else.
        let _ = lock.set_modified(std::time::SystemTime::now());
        open_or_make(&outer, FILES)?;
        let owing = Owing::on(&outer);
        let assembly = Self {
            parent: dir,
            #[cfg(test)]
            path: parent.join(&outer_name).join(FILES),
            name: outer_name,
            outer,
            owing,
            keep_free: 0,
            _lock: lock,
        };
        Ok((assembly, is_new))
    }

    /// The same for a folder that the user has not asked for: it leaves some of the disk free.
    #[must_use]
    pub fn keeping_free(mut self) -> Self {
        self.keep_free = place::bytes_to_keep(&self.outer);
        self
    }

    /// Deletes what an earlier try has left of a folder that is wanted no more, unless somebody is at it. Blocks.
    pub fn clear(parent: &Path, hash: ContentHash) {
        if parent.join(name_of(hash)).is_dir()
            && let Ok(left) = Self::open(parent, hash)
        {
            left.abandon();
        }
    }

    /// Whether something has this name where the folder will be: it could not be finished. Blocks.
    pub fn is_taken(&self, name: &FileName) -> bool {
        self.parent.symlink_metadata(name.base()).is_ok()
    }

    /// Where the list of the files is to be fetched to.
    ///
    /// # Errors
    /// Of the system.
    pub fn list_target(&self) -> io::Result<Target> {
        // A fixed word, which is a name.
        let name = FileName::new(LIST).unwrap_or_else(|why| unreachable!("{LIST:?}: {why}"));
        let folder = Arc::new(self.outer.try_clone()?);
        let (durable, keep_free) = (Durable::Now, self.keep_free);
        Ok(Target { folder, name, replace: true, durable, keep_free })
    }

    /// The list, where it is there and has this hash. Blocks.
    ///
    /// # Errors
    /// Of reading.
    pub fn list(&self, hash: ContentHash) -> io::Result<Option<Vec<u8>>> {
        let file = match owing::open(&self.outer, LIST) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut list = Vec::new();
        file.take(MANIFEST_BYTES_MAX as u64 + 1).read_to_end(&mut list)?;
        Ok((ContentHash::of(&list) == hash).then_some(list))
    }

    /// Makes the folders, takes away what does not belong there, and says which files are there and right. Blocks, as long as
    /// reading them takes.
    ///
    /// # Errors
    /// Of the disk; [`io::ErrorKind::StorageFull`] where what is missing does not fit.
    pub fn prepare(&self, manifest: &Manifest) -> io::Result<Vec<Here>> {
        let files = self.files()?;
        if self.small_files(manifest) == Durable::Later && files.entries()?.next().is_some() {
            // What an earlier try left is synced file by file below.
            self.owing.hurry();
        }
        let entries: BTreeMap<&str, &Entry> =
            manifest.entries().iter().map(|entry| (entry.path.as_str(), entry)).collect();
        let mut here = Vec::new();
        let mut found = Vec::new();
        let mut begun_bytes = 0;
        walk(&files, "", 0, &mut |dir, path, base, is_file| {
            let entry = entries.get(path).filter(|_| is_file);
            let outline = entry.and_then(|entry| right(dir, base, entry));
            match outline {
                Some(outline) => found.push((path.to_owned(), outline)),
                // What is being fetched goes on; anything else is nobody's.
                None if is_file && base.starts_with(PART_PREFIX) => {
                    begun_bytes += place::used_bytes(&dir.symlink_metadata(base)?);
                }
                None => dir.remove_file(base)?,
            }
            Ok(())
        })?;
        // What a part has on the disk is not free any more, and not needed again. It may be wrong: then writing says so.
        let mut missing = manifest.bytes().saturating_sub(begun_bytes);
        for (path, outline) in found {
            if let Some(entry) = entries.get(&*path) {
                missing = missing.saturating_sub(outline.size());
                here.push((entry.path.clone(), Arc::new(outline)));
            }
        }
        place::check_space(&files, missing, self.keep_free)?;
        for entry in manifest.entries() {
            open_below(&files, &entry.path, true)?;
        }
        Ok(here)
    }

    /// When those files of this folder are to be on the disk that are one piece: where there are many, when all of them are.
    pub fn small_files(&self, manifest: &Manifest) -> Durable {
        self.owing.small_files(owing::count_small(manifest))
    }

    /// Where a file of the folder is to be fetched to; after [`Assembly::prepare`].
    ///
    /// # Errors
    /// Where what it is to be in is not there, or is a link by now.
    pub fn target(&self, path: &FileName, durable: Durable) -> io::Result<Target> {
        self.owing.owes(durable);
        let folder = Arc::new(open_below(&self.files()?, path, false)?);
        let keep_free = self.keep_free;
        Ok(Target { folder, name: path.own(), replace: true, durable, keep_free })
    }

    /// Copies a content that is there already to where a file of the folder is to be. Blocks.
    ///
    /// # Errors
    /// Of reading and writing; [`io::ErrorKind::InvalidData`] where it is another content by now.
    pub fn copy(&self, from: std::fs::File, to: &Entry, durable: Durable) -> io::Result<Outline> {
        self.owing.owes(durable);
        let dir = open_below(&self.files()?, &to.path, false)?;
        if self.keep_free > 0 {
            place::check_space(&dir, to.size, self.keep_free)?;
        }
        let _ = dir.remove_file(to.path.base());
        let mut out = make_file(&dir, to.path.base())?.into_std();
        io::copy(&mut from.take(to.size + 1), &mut out)?;
        let (_, outline) = content(&dir, to.path.base(), to).ok_or(io::ErrorKind::InvalidData)?;
        if durable == Durable::Now {
            place::sync_file(&out)?;
        }
        Ok(outline)
    }

    /// Opens a file that is there. Blocks.
    ///
    /// # Errors
    /// Of opening it.
    pub fn read(&self, path: &FileName) -> io::Result<std::fs::File> {
        owing::open(&open_below(&self.files()?, path, false)?, path.base())
    }

    /// All files are there: what else lies there goes, everything is synced, and the folder gets its name, unless that is taken
    /// ([`io::ErrorKind::AlreadyExists`]). Blocks.
    ///
    /// # Errors
    /// Of the disk; [`io::ErrorKind::NotFound`] where a file is missing. What is there stays for another try.
    pub fn finish(&self, manifest: &Manifest, name: &FileName) -> io::Result<()> {
        let files = self.files()?;
        let mut missing: HashSet<&str> =
            manifest.entries().iter().map(|entry| entry.path.as_str()).collect();
        walk(&files, "", 0, &mut |dir, path, base, is_file| {
            if is_file && missing.remove(path) {
                return Ok(());
            }
            dir.remove_file(base)
        })?;
        if !missing.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.owing.settle(&files, manifest)?;
        drop(files);
        place::rename_folder(&self.outer, FILES, &self.parent, name.base())?;
        place::sync(&self.parent)?;
        // The folder is there: what is left is a list that nobody needs.
        self.abandon();
        Ok(())
    }

    /// It does not go on for now: where none of its files has been begun, nothing stays. Blocks.
    pub fn leave(&self) {
        let is_empty = self.files().and_then(|files| Ok(files.entries()?.next().is_none()));
        if is_empty.unwrap_or(false) {
            self.abandon();
        }
    }

    /// Nothing of it is wanted. Blocks.
    pub fn abandon(&self) {
        self.put_away();
    }

    fn put_away(&self) {
        // Put away at once first, so that nobody begins in what is being deleted; what is left of it goes in another life.
        let away = format!("{PART_PREFIX}{:016x}{SUFFIX}", rand::random::<u64>());
        let renamed = self.parent.rename(&self.name, &self.parent, &away);
        let name = if renamed.is_ok() { &away } else { &self.name };
        // Somebody who had opened it before may put a file into it just now.
        let _ = (0..3).find(|_| self.parent.remove_dir_all(name).is_ok());
    }

    fn files(&self) -> io::Result<Dir> {
        self.outer.open_dir_nofollow(FILES)
    }
}

/// What a folder is called while it is fetched.
fn name_of(hash: ContentHash) -> String {
    format!("{PART_PREFIX}{}{SUFFIX}", &hash.to_string()[..FETCHED_DIGITS])
}

/// What is gone again was put away by whoever was at it: it is tried again.
fn busy(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::NotFound { io::ErrorKind::WouldBlock.into() } else { error }
}

/// Whether a folder still has this name.
fn is_at(parent: &Dir, name: &str, dir: &Dir) -> bool {
    let (Ok(named), Ok(own)) = (parent.symlink_metadata(name), dir.dir_metadata()) else {
        return false;
    };
    #[cfg(unix)]
    {
        use cap_std::fs::MetadataExt as _;
        (named.dev(), named.ino()) == (own.dev(), own.ino())
    }
    #[cfg(not(unix))]
    {
        named.is_dir() && own.is_dir()
    }
}

/// A folder that is no link.
fn open_or_make(dir: &Dir, name: &str) -> io::Result<Dir> {
    match dir.create_dir(name) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    dir.open_dir_nofollow(name)
}

/// The outline of a file that an earlier try has left, where it is what the list says.
fn right(dir: &Dir, base: &str, entry: &Entry) -> Option<Outline> {
    let (file, outline) = content(dir, base, entry)?;
    // Whoever wrote it may have been killed before it was synced; what is right counts as being on the disk.
    place::sync_content(&file).ok()?;
    Some(outline)
}

/// Called with a folder, the whole path, the last name of it, and whether it is a plain file.
type Seen<'a> = dyn FnMut(&Dir, &str, &str, bool) -> io::Result<()> + 'a;

/// Goes through everything below that is no folder; folders that are too deep, or whose names are no text, end it.
fn walk(dir: &Dir, prefix: &str, depth: usize, seen: &mut Seen<'_>) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(io::Error::other(
            "there are too many folders in the one that is being fetched",
        ));
    }
    for entry in dir.entries()? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_str().ok_or(io::ErrorKind::InvalidData)?;
        let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(&dir.open_dir_nofollow(name)?, &path, depth + 1, seen)?;
        } else {
            seen(dir, &path, name, kind.is_file())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
