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
mod tests {
    use super::*;

    fn name(text: &str) -> FileName {
        FileName::new(text).unwrap()
    }

    impl Assembly {
        fn path(&self, path: &FileName) -> std::path::PathBuf {
            self.path.join(path.as_str())
        }

        fn list_path(&self) -> std::path::PathBuf {
            self.path.with_file_name(LIST)
        }
    }

    fn manifest(files: &[(&str, &str)]) -> Manifest {
        let entry = |(path, content): &(&str, &str)| Entry {
            path: name(path),
            size: content.len() as u64,
            hash: ContentHash::of(content.as_bytes()),
        };
        Manifest::new(files.iter().map(entry).collect()).unwrap()
    }

    #[test]
    fn what_an_earlier_try_left_is_used_where_it_is_right_and_nothing_else_stays() {
        let root = tempfile::tempdir().unwrap();
        let manifest = manifest(&[("a/b.txt", "uno"), ("a/c.txt", "dos"), ("d.txt", "uno")]);
        let (target, hash) = (name("fotos"), ContentHash::of(&manifest.write()));
        let open = || Assembly::open(root.path(), hash);
        let assembly = open().unwrap();
        assert_eq!(open().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(assembly.list(hash).unwrap(), None);
        assert!(assembly.prepare(&manifest).unwrap().is_empty());
        let at = |path: &str| assembly.path(&name(path));
        std::fs::write(at("a/b.txt"), "uno").unwrap();
        std::fs::write(at("a/c.txt"), "DOS").unwrap();
        std::fs::write(at("a/x.txt"), "nobody's").unwrap();
        std::fs::write(assembly.list_path(), manifest.write()).unwrap();
        let left = at("a/b.txt").with_file_name(".tertulia-00.part");
        std::fs::write(&left, "part").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("/etc/passwd", at("d.txt")).unwrap();
        drop(assembly);
        let assembly = open().unwrap();
        assert_eq!(assembly.list(hash).unwrap(), Some(manifest.write()));
        assert_eq!(assembly.list(ContentHash::of(b"")).unwrap(), None);
        let here = assembly.prepare(&manifest).unwrap();
        assert_eq!(here.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), ["a/b.txt"]);
        assert!(left.exists());
        let missing = assembly.finish(&manifest, &target).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert!(!root.path().join("fotos").exists());
        let at = |path: &str| assembly.path(&name(path));
        std::fs::write(at("a/c.txt"), "dos").unwrap();
        let from = assembly.read(&name("a/b.txt")).unwrap();
        let wrong = Entry { size: 4, ..manifest.entries()[2].clone() };
        let refused = assembly.copy(from, &wrong, Durable::Now).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        let from = assembly.read(&name("a/b.txt")).unwrap();
        assembly.copy(from, &manifest.entries()[2], Durable::Now).unwrap();
        std::fs::create_dir(root.path().join("fotos")).unwrap();
        let taken = assembly.finish(&manifest, &target).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        assert!(assembly.is_taken(&target) && !assembly.is_taken(&name("otras")));
        assembly.leave();
        assert!(assembly.path.exists(), "what was begun stays");
        assembly.finish(&manifest, &name("otras")).unwrap();
        let read = |path: &str| std::fs::read_to_string(root.path().join("otras").join(path));
        assert_eq!(
            (read("a/b.txt").unwrap(), read("d.txt").unwrap()),
            ("uno".into(), "uno".into())
        );
        assert_eq!(std::fs::read_dir(root.path().join("otras/a")).unwrap().count(), 2);
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 2, "nothing is left beside it");
        open().unwrap().leave();
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 2, "nothing was begun");
    }

    #[cfg(unix)]
    #[test]
    fn what_somebody_else_made_is_not_used_and_links_lead_nowhere() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let root = tempfile::tempdir().unwrap();
        let outside = root.path().join("outside");
        std::fs::create_dir_all(outside.join("a")).unwrap();
        let manifest = manifest(&[("a/b.txt", "uno"), ("d.txt", "dos")]);
        let hash = ContentHash::of(&manifest.write());
        // Somebody was there first, and everybody may write in it.
        let made = root.path().join(name_of(hash));
        let make = |mode| {
            std::fs::create_dir_all(made.join(FILES)).unwrap();
            std::fs::write(made.join(FILES).join("d.txt"), "dos").unwrap();
            std::fs::set_permissions(&made, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let there = |assembly: &Assembly| assembly.prepare(&manifest).unwrap().len();
        for (mode, used) in [(0o777, 0), (0o770, 0), (0o755, 1)] {
            make(mode);
            let assembly = Assembly::open(root.path(), hash).unwrap();
            assert_eq!(there(&assembly), used, "{mode:o}");
            let now = made.metadata().unwrap().permissions().mode();
            assert_eq!(now & 0o022, 0, "{mode:o}: {now:o}");
            assembly.abandon();
        }
        if rustix::process::geteuid().is_root() {
            make(0o755);
            std::os::unix::fs::chown(&made, Some(65_534), None).unwrap();
            let assembly = Assembly::open(root.path(), hash).unwrap();
            assert_eq!(there(&assembly), 0, "somebody else's");
            assembly.abandon();
        }
        // What is swapped for a link while it is fetched.
        let assembly = Assembly::open(root.path(), hash).unwrap();
        assembly.prepare(&manifest).unwrap();
        let inner = assembly.target(&name("a/b.txt"), Durable::Now).unwrap();
        std::fs::rename(&assembly.path, assembly.path.with_file_name("away")).unwrap();
        symlink(&outside, &assembly.path).unwrap();
        assert!(assembly.target(&name("a/b.txt"), Durable::Now).is_err());
        assert!(assembly.target(&name("d.txt"), Durable::Now).is_err());
        assert!(assembly.read(&name("d.txt")).is_err());
        let outline = crate::content::outline_of(&b"uno"[..]).unwrap();
        // What was opened before is where it was.
        assert!(crate::fetch::Part::put(&inner, &outline, &[b"uno"]).unwrap());
        assert!(assembly.finish(&manifest, &name("fotos")).is_err());
        assert_eq!(std::fs::read_dir(outside.join("a")).unwrap().count(), 0);
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    }

    #[test]
    fn what_somebody_puts_away_meanwhile_is_busy_and_two_are_never_at_it() {
        use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
        let root = tempfile::tempdir().unwrap();
        let (hash, taken) = (ContentHash::of(b"x"), AtomicBool::new(false));
        let one = || {
            let mut begun = 0;
            while begun < 300 {
                match Assembly::open(root.path(), hash) {
                    Ok(assembly) => {
                        assert!(!taken.swap(true, SeqCst), "two are at it");
                        std::fs::write(assembly.list_path(), "x").expect("it is there");
                        taken.store(false, SeqCst);
                        assembly.abandon();
                        begun += 1;
                    }
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}"),
                }
            }
        };
        std::thread::scope(|scope| {
            (0..4).for_each(|_| drop(scope.spawn(one)));
        });
        let own = format!("{PART_PREFIX}{}{SUFFIX}", &hash.to_string()[..32]);
        assert!(!root.path().join(own).exists());
    }

    #[test]
    fn what_an_earlier_try_left_is_synced_before_it_is_believed() {
        let root = tempfile::tempdir().unwrap();
        let manifest = manifest(&[("a", "uno"), ("b", "dos")]);
        let assembly = Assembly::open(root.path(), ContentHash::of(&manifest.write())).unwrap();
        for (path, content) in [("a", "uno"), ("b", "DOS")] {
            std::fs::write(assembly.path(&name(path)), content).unwrap();
        }
        let here = |assembly: &Assembly| assembly.prepare(&manifest).unwrap().len();
        let synced = place::faults::synced();
        assert_eq!((here(&assembly), place::faults::synced() - synced), (1, 1));
        place::faults::fail_sync(true);
        assert_eq!(here(&assembly), 0, "what cannot be synced is not there");
        place::faults::fail_sync(false);
    }

    /// Fills an assembly by copies: as many as are synced at once, and a large file. `None` on a disk that is not synced so.
    #[cfg(target_os = "linux")]
    fn filled(root: &Path) -> Option<(Assembly, Manifest)> {
        let large = "x".repeat(crate::limits::PIECE_BYTES + 1);
        let small: Vec<(String, String)> = (0..crate::limits::SYNCED_AT_ONCE_MIN)
            .map(|at| (format!("a/{at}"), at.to_string()))
            .collect();
        let mut files: Vec<(&str, &str)> = small.iter().map(|(a, b)| (&**a, &**b)).collect();
        files.push(("large", &large));
        let manifest = manifest(&files);
        let assembly = Assembly::open(root, ContentHash::of(&manifest.write())).unwrap();
        if place::FileSystem::of(&assembly.outer).is_none() {
            eprintln!("skipped: this file system is not synced as a whole");
            return None;
        }
        let durable = assembly.small_files(&manifest);
        assert_eq!(durable, Durable::Later);
        assembly.prepare(&manifest).unwrap();
        for (path, content) in files {
            let from = root.join("from");
            std::fs::write(&from, content).unwrap();
            let entry = manifest.entries().iter().find(|entry| entry.path.as_str() == path);
            let durable = if path == "large" { Durable::Now } else { durable };
            let from = std::fs::File::open(&from).unwrap();
            assembly.copy(from, entry.unwrap(), durable).unwrap();
        }
        std::fs::remove_file(root.join("from")).unwrap();
        Some((assembly, manifest))
    }

    /// Syncs of contents, and of whole file systems, in this thread so far.
    #[cfg(target_os = "linux")]
    fn synced() -> (usize, usize) {
        (place::faults::synced(), place::faults::synced_whole())
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn many_small_files_are_synced_at_once_before_the_folder_has_its_name() {
        let root = tempfile::tempdir().unwrap();
        let before = synced();
        let Some((assembly, manifest)) = filled(root.path()) else { return };
        // The large one, once.
        assert_eq!(synced(), (before.0 + 1, before.1));
        // Nothing that may not be on the disk gets the folder's name.
        place::faults::fail_sync_whole(true);
        place::faults::fail_sync(true);
        assert!(assembly.finish(&manifest, &name("fotos")).is_err());
        assert!(!root.path().join("fotos").exists());
        place::faults::fail_sync(false);
        // What the system has forgotten with the file is seen in what is there.
        std::fs::write(assembly.path(&name("a/0")), "1").unwrap();
        let lost = assembly.finish(&manifest, &name("otras")).unwrap_err();
        assert_eq!(lost.kind(), io::ErrorKind::InvalidData);
        std::fs::write(assembly.path(&name("a/0")), "0").unwrap();
        // Where the file system as a whole has an error, each file says whether it is there.
        let before = synced();
        std::fs::create_dir(root.path().join("fotos")).unwrap();
        assembly.finish(&manifest, &name("fotos")).unwrap_err();
        let small = manifest.entries().len() - 1;
        assert_eq!(synced(), (before.0 + small, before.1 + 1));
        place::faults::fail_sync_whole(false);
        assembly.finish(&manifest, &name("otras")).unwrap();
        assert!(root.path().join("otras/a/0").exists());

        let (assembly, manifest) = filled(root.path()).unwrap();
        let before = synced();
        assembly.finish(&manifest, &name("mas")).unwrap();
        assert_eq!(synced(), (before.0, before.1 + 1));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_left_of_many_small_files_is_synced_one_by_one_before_it_is_believed() {
        let root = tempfile::tempdir().unwrap();
        let Some((assembly, manifest)) = filled(root.path()) else { return };
        drop(assembly);
        let assembly = Assembly::open(root.path(), ContentHash::of(&manifest.write())).unwrap();
        std::fs::write(assembly.path(&name("a/0")), "1").unwrap();
        let before = synced();
        let here = assembly.prepare(&manifest).unwrap();
        assert_eq!(here.len(), manifest.entries().len() - 1);
        assert_eq!(synced().0 - before.0, here.len());
        // Nobody has to sync them again.
        let from = std::fs::File::open(assembly.path(&name("a/1"))).unwrap();
        let entry = manifest.entries().iter().find(|entry| entry.path.as_str() == "a/0").unwrap();
        let wrong = assembly.copy(from, entry, Durable::Later).unwrap_err();
        assert_eq!(wrong.kind(), io::ErrorKind::InvalidData);
    }

    #[cfg(unix)]
    #[test]
    fn what_nobody_here_asked_for_leaves_some_of_the_disk_free() {
        let root = tempfile::tempdir().unwrap();
        let manifest = manifest(&[("a", "uno"), ("b", "uno"), ("c", "uno")]);
        let hash = ContentHash::of(&manifest.write());
        let full =
            |done: io::Result<()>| done.is_err_and(|e| e.kind() == io::ErrorKind::StorageFull);
        let with_free = |free, done: &dyn Fn() -> io::Result<()>| {
            place::faults::set_free(Some(free));
            let done = done();
            place::faults::set_free(None);
            full(done)
        };
        let asked = Assembly::open(root.path(), hash).unwrap();
        assert!(!with_free(9, &|| asked.prepare(&manifest).map(drop)), "its user may fill it");
        drop(asked);
        let told = Assembly::open(root.path(), hash).unwrap().keeping_free();
        let keep = told.keep_free;
        assert!(keep > 0 && keep <= crate::limits::FREE_BYTES_KEPT, "{keep}");
        assert!(with_free(keep + 8, &|| told.prepare(&manifest).map(drop)));
        assert!(!with_free(keep + 9, &|| told.prepare(&manifest).map(drop)));
        // The disk is filled by others meanwhile.
        std::fs::write(told.path(&name("a")), "uno").unwrap();
        let copy = || {
            let from = told.read(&name("a"))?;
            told.copy(from, &manifest.entries()[1], Durable::Now).map(drop)
        };
        assert!(with_free(keep + 2, &copy));
        assert!(!told.path(&name("b")).exists());
        assert!(!with_free(keep + 3, &copy));
        let outline = crate::content::outline_of(&b"uno"[..]).unwrap();
        let target = told.target(&name("c"), Durable::Now).unwrap();
        let put = || crate::fetch::Part::put(&target, &outline, &[b"uno"]).map(drop);
        assert!(with_free(keep + 2, &put));
        assert!(!with_free(keep + 3, &put));
    }

    #[cfg(unix)]
    #[test]
    fn what_parts_have_on_the_disk_already_needs_no_space() {
        let root = tempfile::tempdir().unwrap();
        let text = "x".repeat(1_000_000);
        let manifest = manifest(&[("a", &text)]);
        let assembly = Assembly::open(root.path(), ContentHash::of(&manifest.write())).unwrap();
        let left = assembly.path(&name("a")).with_file_name(".tertulia-00.part");
        std::fs::write(&left, &text[..800_000]).unwrap();
        std::fs::File::open(&left).unwrap().sync_all().unwrap();
        for (free, fits) in [(250_000, true), (100_000, false)] {
            place::faults::set_free(Some(free));
            let prepared = assembly.prepare(&manifest);
            place::faults::set_free(None);
            let kind = prepared.map(|_| ()).map_err(|error| error.kind());
            assert_eq!(kind, if fits { Ok(()) } else { Err(io::ErrorKind::StorageFull) }, "{free}");
        }
    }
}
