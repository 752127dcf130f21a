//! A folder that is shared: opened once, and everything in it by its name below, without following links.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use cap_fs_ext::{DirExt as _, FollowSymlinks, OpenOptionsFollowExt as _};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, Metadata, OpenOptions};

use crate::assembly::LOCK;
use crate::content::{ContentHash, Outline, Outliner};
use crate::fetch::Durable;
use crate::limits::{DEPTH_MAX, FILE_BYTES_MAX, FILES_MAX, LEFT_MAX};
use crate::names::{FileName, PART_PREFIX};
use crate::owing::sync_all;
use crate::place;
use crate::staged::SUFFIX;

/// What a file looks like from outside: as long as this is the same, its content is taken to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stamp {
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since the Unix epoch.
    pub modified_ns: i128,
    /// When anything of it was changed the last time, in the same way, where the system says so: nobody sets that back.
    pub changed_ns: i128,
    /// The file's number, where the system has one.
    pub inode: u64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        let modified = metadata.modified().map(cap_std::time::SystemTime::into_std);
        let modified_ns =
            modified.map_or(0, |time| match time.duration_since(std::time::UNIX_EPOCH) {
                Ok(after) => i128::try_from(after.as_nanos()).unwrap_or(i128::MAX),
                Err(before) => -i128::try_from(before.duration().as_nanos()).unwrap_or(i128::MAX),
            });
        #[cfg(unix)]
        let (inode, changed_ns) = {
            use cap_std::fs::MetadataExt as _;
            let seconds = i128::from(metadata.ctime()) * 1_000_000_000;
            (metadata.ino(), seconds + i128::from(metadata.ctime_nsec()))
        };
        #[cfg(not(unix))]
        let (inode, changed_ns) = (0, 0);
        Self { size: metadata.len(), modified_ns, changed_ns, inode }
    }
}

/// What was found in a folder.
#[derive(Debug, Default)]
pub struct Found {
    /// Files that may be shared.
    pub files: Vec<(FileName, Stamp)>,
    /// What is left out, and why; names are safe to show. At most [`LEFT_OUT_MAX`].
    pub left_out: Vec<(String, String)>,
    /// How many are left out in all.
    pub left_out_count: usize,
    /// The first of those that are left out because they could not be read: neither their names nor what they are is the reason,
    /// and what is found is not all that there is.
    pub unread: Option<(String, io::Error)>,
}

/// Digits in the name of a file that is being saved.
const STAGED_DIGITS: usize = 16;
/// Digits in the name of one that is being fetched: it goes on in another life.
pub(crate) const FETCHED_DIGITS: usize = 32;
/// What the name of a file that is being saved or fetched ends with.
const PART_SUFFIX: &str = ".part";
/// Things left out that are named.
pub const LEFT_OUT_MAX: usize = 20;

impl Found {
    fn leave_out(&mut self, name: &str, why: impl Into<String>) {
        self.left_out_count += 1;
        if self.left_out.len() < LEFT_OUT_MAX {
            let shown = tertulia_wire::safe::make_safe(name, 200).into_owned();
            self.left_out.push((shown, why.into()));
        }
    }

    fn could_not(&mut self, name: &str, error: io::Error) {
        // Somebody took it away meanwhile: that is as if it had never been there.
        if error.kind() == io::ErrorKind::NotFound {
            return;
        }
        self.leave_out(name, error.to_string());
        let shown = tertulia_wire::safe::make_safe(name, 200).into_owned();
        self.unread.get_or_insert((shown, error));
    }
}

/// See the module.
#[derive(Debug)]
pub struct Folder {
    dir: Dir,
}

/// A file that is being written and has no name yet.
#[derive(Debug)]
pub struct Staged {
    file: File,
    name: String,
    outliner: Outliner,
}

impl Folder {
    /// Opens the folder; it is made where it is not there.
    ///
    /// # Errors
    /// Of making and opening it.
    pub fn open(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        Ok(Self { dir: Dir::open_ambient_dir(path, ambient_authority())? })
    }

    /// Looks through all of it. Hidden files, links and what is neither file nor folder are passed over. Blocks.
    ///
    /// # Errors
    /// Where the folder itself cannot be read.
    pub fn scan(&self) -> io::Result<Found> {
        scan(&self.dir, None)
    }

    /// The same of one folder in it, with whole names. Blocks.
    ///
    /// # Errors
    /// Where there is no such folder.
    pub fn scan_below(&self, name: &FileName) -> io::Result<Found> {
        scan(&self.dir, Some(name.clone()))
    }

    /// The folder itself.
    pub(crate) const fn dir(&self) -> &Dir {
        &self.dir
    }

    /// The same, for what is to be put into it.
    pub(crate) fn shared_dir(&self) -> io::Result<Arc<Dir>> {
        self.dir.try_clone().map(Arc::new)
    }

    /// Opens a file for reading, and says what it looks like now.
    ///
    /// # Errors
    /// Where it is not there, or no plain file.
    pub fn read(&self, name: &FileName) -> io::Result<(std::fs::File, Stamp)> {
        let dir = open_below(&self.dir, name, false)?;
        let mut options = OpenOptions::new();
        options.read(true).follow(FollowSymlinks::No);
        #[cfg(unix)]
        {
            use cap_std::fs::OpenOptionsExt as _;
            // A pipe that nobody writes to must not hold anybody up.
            options.custom_flags(place::O_NONBLOCK);
        }
        let file = dir.open_with(name.base(), &options)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok((file.into_std(), Stamp::of(&metadata)))
    }

    /// Syncs a file that looks like this, whoever wrote it; `false` where it does not, or is not there. Blocks.
    ///
    /// # Errors
    /// Of syncing it.
    pub(crate) fn sync_file(&self, name: &FileName, stamp: Stamp) -> io::Result<bool> {
        match self.read(name) {
            Ok((file, now)) if now == stamp => place::sync_content(&file).map(|()| true),
            _ => Ok(false),
        }
    }

    /// Syncs the names of the folders that a file is in, and its own. Blocks.
    ///
    /// # Errors
    /// Of opening and syncing them.
    pub(crate) fn sync_names(&self, name: &FileName) -> io::Result<()> {
        let mut dir = self.dir.try_clone()?;
        place::sync(&dir)?;
        let components: Vec<&str> = name.components().collect();
        for component in &components[..components.len() - 1] {
            dir = dir.open_dir_nofollow(component)?;
            place::sync(&dir)?;
        }
        Ok(())
    }

    /// Syncs the names of a folder and of all that is in it. Blocks.
    ///
    /// # Errors
    /// Of opening and syncing them.
    pub(crate) fn sync_folder(&self, name: &FileName) -> io::Result<()> {
        self.sync_names(name)?;
        sync_all(&open_below(&self.dir, name, false)?.open_dir_nofollow(name.base())?)
    }

    /// Begins a file that gets its name when it is complete.
    ///
    /// # Errors
    /// Of making it.
    pub fn stage(&self) -> io::Result<Staged> {
        let name = format!("{PART_PREFIX}{:016x}.part", rand::random::<u64>());
        Ok(Staged::of(make_file(&self.dir, &name)?, name))
    }

    /// Gives a file its name: it is on the disk by then. Without `replace`, a file that is there already stays
    /// ([`io::ErrorKind::AlreadyExists`]).
    ///
    /// # Errors
    /// Of writing and renaming; the file is gone then.
    pub fn finish(
        &self,
        staged: Staged,
        name: &FileName,
        replace: bool,
    ) -> io::Result<(Outline, Stamp)> {
        let Staged { file, name: staged, outliner } = staged;
        let placed = (|| {
            file.sync_all()?;
            let dir = open_below(&self.dir, name, true)?;
            place::rename(&self.dir, &staged, &dir, name.base(), replace)?;
            place::sync(&dir)?;
            // Renaming it is a change, too.
            Ok(Stamp::of(&file.metadata()?))
        })();
        match placed {
            Ok(stamp) => Ok((outliner.finish(), stamp)),
            Err(error) => {
                let _ = self.dir.remove_file(&staged);
                Err(error)
            }
        }
    }

    /// A file is not wanted any more.
    pub fn abandon(&self, staged: &Staged) {
        let _ = self.dir.remove_file(&staged.name);
    }

    /// Deletes what an earlier life left unfinished; of what may still go on, the [`LEFT_MAX`] youngest stay. Blocks.
    pub fn clear_up(&self) {
        let Ok(entries) = self.dir.entries() else { return };
        let mut left = Vec::new();
        for entry in entries.flatten() {
            let (name, Ok(kind)) = (entry.file_name(), entry.file_type()) else { continue };
            let Some((name, (is_folder, digits))) =
                name.to_str().and_then(|name| Some((name, left_of(name)?)))
            else {
                continue;
            };
            if is_folder != kind.is_dir() || !is_folder && !kind.is_file() {
                continue;
            }
            if digits == STAGED_DIGITS {
                self.clear(name, is_folder);
                continue;
            }
            // Of a folder, when somebody was at it the last time.
            let touched = if is_folder { format!("{name}/{LOCK}") } else { name.to_owned() };
            let at = self.dir.symlink_metadata(touched).map(|data| Stamp::of(&data).modified_ns);
            left.push((at.unwrap_or(i128::MIN), name.to_owned(), is_folder));
        }
        left.sort_unstable_by(|one, other| other.cmp(one));
        for (_, name, is_folder) in left.iter().skip(LEFT_MAX) {
            let lock = if *is_folder { format!("{name}/{LOCK}") } else { name.clone() };
            if self.is_nobodys(&lock) {
                self.clear(name, *is_folder);
            }
        }
    }

    fn clear(&self, name: &str, is_folder: bool) {
        let _ = if is_folder { self.dir.remove_dir_all(name) } else { self.dir.remove_file(name) };
    }

    /// Deletes the part of a file that is not fetched any more; `false` where somebody is at it.
    pub(crate) fn clear_part(&self, name: &str) -> bool {
        let is_nobodys = self.is_nobodys(name);
        if is_nobodys {
            self.clear(name, false);
        }
        is_nobodys
    }

    /// Whether no program is at what is locked by this file; it is there, or not.
    fn is_nobodys(&self, lock: &str) -> bool {
        let mut options = OpenOptions::new();
        options.write(true).follow(FollowSymlinks::No);
        #[cfg(unix)]
        {
            use cap_std::fs::OpenOptionsExt as _;
            options.custom_flags(place::O_NONBLOCK);
        }
        match self.dir.open_with(lock, &options) {
            Ok(file) => file.into_std().try_lock().is_ok(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    /// Whether so many bytes are free on its disk, where the system says so.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`], which says how many are needed and how many are free.
    pub fn check_space(&self, needed: u64) -> io::Result<()> {
        place::check_space(&self.dir, needed, 0)
    }
}

impl Staged {
    /// A file that was just made.
    pub(crate) fn of(file: File, name: String) -> Self {
        Self { file, name, outliner: Outliner::default() }
    }

    /// Everything is written, and on the disk, unless that is done later.
    pub(crate) fn written(self, durable: Durable) -> io::Result<(Stamp, Outline)> {
        let file = self.file.into_std();
        if durable == Durable::Now {
            place::sync_file(&file)?;
        }
        let stamp = Stamp::of(&File::from_std(file).metadata()?);
        Ok((stamp, self.outliner.finish()))
    }

    /// What comes next.
    ///
    /// # Errors
    /// Of writing.
    pub fn write(&mut self, content: &[u8]) -> io::Result<()> {
        self.file.write_all(content)?;
        self.outliner.update(content);
        Ok(())
    }

    /// Of what is there so far.
    pub fn outline(&self) -> Outline {
        self.outliner.clone().finish()
    }

    /// Bytes so far.
    pub const fn size(&self) -> u64 {
        self.outliner.size()
    }
}

/// Looks through a folder of this name in the shared one, or through all of that. Of the folders that are still to be looked
/// through, only the names are kept: each is opened when its turn comes, so that there may be more of them than open files.
fn scan(root: &Dir, name: Option<FileName>) -> io::Result<Found> {
    let mut found = Found::default();
    let depth = name.as_ref().map_or(0, |name| name.components().count());
    let mut folders = vec![(name, depth)];
    let mut is_first = true;
    while let Some((name, depth)) = folders.pop() {
        let opened = open_named(root, name.as_ref());
        let dir_entries = opened.and_then(|dir| dir.entries().map(|entries| (dir, entries)));
        let (dir, entries) = match dir_entries {
            Ok(opened) => opened,
            Err(error) if is_first => return Err(error),
            Err(error) => {
                found.could_not(name.as_ref().map_or("", FileName::as_str), error);
                continue;
            }
        };
        is_first = false;
        for entry in entries {
            match entry {
                Ok(entry) => {
                    let below = Below { dir: &dir, folder: name.as_ref(), depth };
                    folders.extend(below.look(&entry.file_name(), &mut found));
                }
                Err(error) => found.could_not(name.as_ref().map_or("", FileName::as_str), error),
            }
        }
    }
    found.files.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

/// A folder that is being looked through.
struct Below<'a> {
    dir: &'a Dir,
    folder: Option<&'a FileName>,
    depth: usize,
}

impl Below<'_> {
    /// Looks at one thing in it; what it is called, and how deep it is, where that is a folder to be looked through.
    fn look(&self, file_name: &OsStr, found: &mut Found) -> Option<(Option<FileName>, usize)> {
        if is_hidden(file_name) {
            return None;
        }
        let child = match below(self.folder, file_name) {
            Ok(child) => child,
            Err(why) => {
                found.leave_out(&file_name.to_string_lossy(), why.to_string());
                return None;
            }
        };
        // Of the link itself, where it is one.
        let metadata = match self.dir.symlink_metadata(file_name) {
            Ok(metadata) => metadata,
            Err(error) => {
                found.could_not(child.as_str(), error);
                return None;
            }
        };
        if metadata.is_dir() {
            if self.depth < DEPTH_MAX {
                return Some((Some(child), self.depth + 1));
            }
            found.leave_out(child.as_str(), "it is too deep");
        } else if !metadata.is_file() {
            found.leave_out(child.as_str(), "it is a link, or no plain file");
        } else if metadata.len() > FILE_BYTES_MAX {
            found.leave_out(child.as_str(), "it is too large");
        } else if found.files.len() >= FILES_MAX {
            found.leave_out(child.as_str(), format!("there are more than {FILES_MAX} files"));
        } else {
            found.files.push((child, Stamp::of(&metadata)));
        }
        None
    }
}

/// The folder of this name, or the shared one itself.
fn open_named(root: &Dir, name: Option<&FileName>) -> io::Result<Dir> {
    match name {
        Some(name) => open_below(root, name, false)?.open_dir_nofollow(name.base()),
        None => root.try_clone(),
    }
}

/// The folder of a name below another one, component by component, none of which is a link.
pub(crate) fn open_below(dir: &Dir, name: &FileName, make: bool) -> io::Result<Dir> {
    let mut dir = dir.try_clone()?;
    let components: Vec<&str> = name.components().collect();
    for component in &components[..components.len() - 1] {
        dir = match dir.open_dir_nofollow(component) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && make => {
                dir.create_dir(component)?;
                dir.open_dir_nofollow(component)?
            }
            opened => opened?,
        };
    }
    Ok(dir)
}

/// A file that was not there before.
pub(crate) fn make_file(dir: &Dir, name: &str) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create_new(true).write(true).read(true).follow(FollowSymlinks::No);
    dir.open_with(name, &options)
}

/// What a file is called while it is fetched.
pub(crate) fn part_name(hash: ContentHash) -> String {
    format!("{PART_PREFIX}{}{PART_SUFFIX}", &hash.to_string()[..FETCHED_DIGITS])
}

/// Of the name of something that was left unfinished: whether it is a folder, and how many digits there are.
fn left_of(name: &str) -> Option<(bool, usize)> {
    let middle = name.strip_prefix(PART_PREFIX)?;
    let (middle, is_folder) = match middle.strip_suffix(SUFFIX) {
        Some(middle) => (middle, true),
        None => (middle.strip_suffix(PART_SUFFIX)?, false),
    };
    let is_hex = middle.bytes().all(|byte| byte.is_ascii_hexdigit());
    let digits = middle.len();
    (is_hex && matches!(digits, STAGED_DIGITS | FETCHED_DIGITS)).then_some((is_folder, digits))
}

/// Hidden files are private until somebody says otherwise.
fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

fn below(folder: Option<&FileName>, name: &OsStr) -> Result<FileName, crate::names::BadName> {
    let name = name.to_str().ok_or(crate::names::BadName::NotUnicode)?;
    let child = match folder {
        Some(folder) => folder.child(name)?,
        None => FileName::new(name)?,
    };
    // What is written otherwise on the disk would not be found again by this name.
    if child.base() == name { Ok(child) } else { Err(crate::names::BadName::NotNormal) }
}

#[cfg(test)]
mod tests;
