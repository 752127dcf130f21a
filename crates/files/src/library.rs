//! What a peer shares: the files of its folder, by name and by content, kept up to date as the folder changes.

mod giving;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tertulia_wire::sharing::FolderHeld;
use tokio::sync::watch;

use crate::assembly::Assembly;
use crate::cache::Cache;
use crate::content::{ContentHash, Outline, outline_of};
use crate::folder::{Folder, Found, Staged, Stamp, part_name};
use crate::given::Given;
use crate::limits::{FILES_MAX, FOLDER_FILES_MAX, RESCAN, SETTLE};
use crate::manifest::{BadManifest, Entry, Manifest};
use crate::names::FileName;
use crate::staged::StagedFolder;
use crate::whole::{SharedFolder, Whole};

/// A file that is shared.
#[derive(Clone, Debug)]
pub struct SharedFile {
    /// Its name below the folder.
    pub name: FileName,
    /// What its content is verified by.
    pub outline: Arc<Outline>,
    stamp: Stamp,
}

/// What the node is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announced {
    /// The content; of a folder, the list of its files.
    pub hash: ContentHash,
    /// Its bytes.
    pub size: u64,
    /// What is in it, where it is a folder.
    pub folder: Option<FolderHeld>,
}

/// A file of a folder that is being fetched: it has no name yet, and is shared already.
#[derive(Debug)]
struct Early {
    /// The name that it will have.
    name: FileName,
    /// Where it is put together, and what it is called there.
    at: (Arc<Assembly>, FileName),
    outline: Arc<Outline>,
}

#[derive(Debug, Default)]
struct Files {
    by_name: BTreeMap<FileName, SharedFile>,
    by_hash: HashMap<ContentHash, Vec<FileName>>,
    early: HashMap<ContentHash, Early>,
    /// Folders in which something has changed since their lists were made.
    stale: BTreeSet<String>,
    /// Which of them others may know of and have; all of them where there is none.
    given: Option<Given>,
}

/// The folder directly in the shared one that a file is in.
fn top(name: &FileName) -> Option<&str> {
    name.as_str().split_once('/').map(|(top, _)| top)
}

impl Files {
    fn put(&mut self, file: SharedFile) {
        self.remove(&file.name);
        self.stale.extend(top(&file.name).map(str::to_owned));
        self.by_hash.entry(file.outline.hash()).or_default().push(file.name.clone());
        self.by_name.insert(file.name.clone(), file);
    }

    fn remove(&mut self, name: &FileName) -> bool {
        let Some(old) = self.by_name.remove(name) else { return false };
        self.stale.extend(top(name).map(str::to_owned));
        let hash = old.outline.hash();
        if let Some(names) = self.by_hash.get_mut(&hash) {
            names.retain(|other| other != name);
            if names.is_empty() {
                self.by_hash.remove(&hash);
            }
        }
        true
    }

    /// What is shared of a folder: one more than there may be, so that it is seen that there are too many.
    fn below(&self, folder: &FileName) -> Vec<SharedFile> {
        let prefix = format!("{}/", folder.as_str());
        // Names that begin so come one after the other, a few that sort between the folder and its `/` before them.
        let after = self.by_name.range(folder.clone()..).map(|(_, file)| file);
        let within = after
            .skip_while(|file| *file.name.as_str() < *prefix)
            .take_while(|file| file.name.as_str().starts_with(&prefix));
        within.filter(|file| self.is_given(file)).take(FOLDER_FILES_MAX + 1).cloned().collect()
    }
}

/// The list of these files, which are below a folder.
fn list(folder: &FileName, files: &[SharedFile]) -> Result<Manifest, BadManifest> {
    let entries = files.iter().filter_map(|file| {
        let path = file.name.as_str().strip_prefix(folder.as_str())?.strip_prefix('/')?;
        let path = FileName::new(path).ok()?;
        Some(Entry { path, size: file.outline.size(), hash: file.outline.hash() })
    });
    Manifest::new(entries.collect())
}

/// A file or folder is not now what it was a moment ago.
fn changing(name: &FileName) -> io::Error {
    io::Error::other(format!("{name} is being changed just now; try again when it is not"))
}

/// See the module.
#[derive(Debug)]
pub struct Library {
    folder: Folder,
    path: PathBuf,
    files: RwLock<Files>,
    /// Taken after `files`, where both are.
    whole: RwLock<Whole>,
    cache: Mutex<Cache>,
    /// Counts up with every change.
    changed: watch::Sender<u64>,
}

/// What a look through the folder has brought.
#[derive(Debug, Default)]
pub struct Looked {
    /// Files that are shared now.
    pub files: usize,
    /// Files that had to be hashed.
    pub hashed: usize,
    /// What is left out; see [`Found`].
    pub left_out: Vec<(String, String)>,
    /// How many that are in all.
    pub left_out_count: usize,
}

impl Library {
    /// Opens a folder; nothing is shared until [`Library::look`]. Hashes are kept in `cache`. Blocks.
    ///
    /// # Errors
    /// Of opening the folder.
    pub fn open(path: &Path, cache: &Path) -> io::Result<Self> {
        let folder = Folder::open(path)?;
        folder.clear_up();
        Ok(Self {
            folder,
            path: path.to_owned(),
            files: RwLock::default(),
            whole: RwLock::new(Whole::new(&cache.with_file_name("lists"))),
            cache: Mutex::new(Cache::load(cache)),
            changed: watch::Sender::new(0),
        })
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Files> {
        self.files.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Files> {
        self.files.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of every change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn tell(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Looks through the folder: what is new or different is hashed, and shared as soon as it is. Blocks, as long as that
    /// takes.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn look(&self) -> io::Result<Looked> {
        let Found { files, left_out, left_out_count, .. } = self.folder.scan()?;
        let gone: Vec<FileName> = {
            let there: BTreeSet<&FileName> = files.iter().map(|(name, _)| name).collect();
            let shared = self.read();
            shared.by_name.keys().filter(|name| !there.contains(name)).cloned().collect()
        };
        if !gone.is_empty() {
            let mut shared = self.write();
            gone.iter().for_each(|name| {
                shared.remove(name);
            });
            drop(shared);
            self.tell();
        }
        let mut looked = Looked { left_out, left_out_count, ..Looked::default() };
        for (name, stamp) in &files {
            if self.read().by_name.get(name).is_some_and(|file| file.stamp == *stamp) {
                continue;
            }
            let kept = self.cache().get(name, stamp);
            let outline = match kept {
                Some(outline) => outline,
                None => match self.hash(name, *stamp) {
                    Some(outline) => {
                        looked.hashed += 1;
                        outline
                    }
                    None => continue,
                },
            };
            self.write().put(SharedFile { name: name.clone(), outline, stamp: *stamp });
            self.tell();
        }
        looked.files = self.read().by_name.len();
        self.take_back();
        self.list_folders();
        self.keep();
        Ok(looked)
    }

    /// Makes the lists of the folders in which something has changed. Blocks.
    fn list_folders(&self) {
        let stale = std::mem::take(&mut self.write().stale);
        let mut is_news = false;
        for folder in stale {
            let list = match FileName::new(&folder) {
                Ok(name) => list(&name, &self.read().below(&name)),
                Err(_) => Err(BadManifest::Empty),
            };
            is_news |=
                self.whole.write().unwrap_or_else(PoisonError::into_inner).set(&folder, list);
        }
        if is_news {
            self.tell();
        }
    }

    fn whole(&self) -> std::sync::RwLockReadGuard<'_, Whole> {
        self.whole.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every folder that is shared as a whole, by name.
    pub fn folders(&self) -> Vec<SharedFolder> {
        self.whole().folders().cloned().collect()
    }

    /// Everything that the node is to be told of: files by their names, folders by theirs with `/` at the end.
    pub fn announced(&self) -> BTreeMap<String, Announced> {
        let files = self.read();
        let of = |outline: &Outline| Announced {
            hash: outline.hash(),
            size: outline.size(),
            folder: None,
        };
        let early = files.early.values().map(|early| (&early.name, &early.outline));
        // A file that has the name already is the one that is meant by it.
        let named = files.by_name.iter().filter(|(_, file)| files.is_given(file));
        let named = named.map(|(name, file)| (name, &file.outline));
        let mut all: BTreeMap<String, Announced> = early
            .chain(named)
            .map(|(name, outline)| (name.as_str().to_owned(), of(outline)))
            .collect();
        drop(files);
        all.extend(self.whole().folders().map(|folder| {
            let held = FolderHeld { files: folder.files, bytes: folder.bytes };
            let announced = Announced { folder: Some(held), ..of(&folder.outline) };
            (format!("{}/", folder.name.as_str()), announced)
        }));
        all
    }

    /// Shares a file of a folder that is being fetched, which is in this assembly and is verified, until [`Library::done_early`].
    pub fn share_early(
        &self,
        name: FileName,
        at: (Arc<Assembly>, FileName),
        outline: Arc<Outline>,
    ) {
        self.write().early.insert(outline.hash(), Early { name, at, outline });
        self.tell();
    }

    /// What was shared early of the folder of this name is not there any more: it has its names, or is given up.
    pub fn done_early(&self, folder: &FileName) {
        let mut files = self.write();
        files.early.retain(|_, early| top(&early.name) != Some(folder.as_str()));
        drop(files);
        self.tell();
    }

    /// The outline of a file, unless it changes meanwhile: whoever changes it is heard of again.
    fn hash(&self, name: &FileName, stamp: Stamp) -> Option<Arc<Outline>> {
        let (file, before) = self.folder.read(name).ok()?;
        let outline = outline_of(&file).ok()?;
        drop(file);
        let (_, after) = self.folder.read(name).ok()?;
        if before != stamp || after != stamp || outline.size() != stamp.size {
            self.write().remove(name);
            return None;
        }
        let outline = Arc::new(outline);
        self.cache().put(name.clone(), stamp, Arc::clone(&outline));
        Some(outline)
    }

    /// Writes down what was hashed.
    fn keep(&self) {
        if let Some(given) = &mut self.write().given
            && let Err(error) = given.store()
        {
            tracing::warn!("what was fetched is not shared in another life: {error}");
        }
        let shared = self.read();
        let mut cache = self.cache();
        cache.retain(|name| shared.by_name.contains_key(name));
        drop(shared);
        if let Err(error) = cache.store() {
            tracing::warn!("hashes are not kept: {error}");
        }
    }

    /// Every file that is shared, by name.
    pub fn files(&self) -> Vec<SharedFile> {
        let files = self.read();
        files.by_name.values().filter(|file| files.is_given(file)).cloned().collect()
    }

    /// The file of this name.
    pub fn named(&self, name: &FileName) -> Option<SharedFile> {
        self.read().by_name.get(name).cloned()
    }

    /// Opens a content that others may have for reading; `None` where it is not there, or not any more what was hashed. Blocks.
    pub fn content(&self, hash: ContentHash) -> Option<(std::fs::File, Arc<Outline>)> {
        let named = self.file_of(hash, |files, file| files.is_given(file));
        named.or_else(|| self.early(hash)).or_else(|| self.whole().content(hash))
    }

    /// The same of any file in the folder, for putting another one together.
    pub fn own_content(&self, hash: ContentHash) -> Option<(std::fs::File, Arc<Outline>)> {
        self.file_of(hash, |_, _| true).or_else(|| self.early(hash))
    }

    fn file_of(
        &self,
        hash: ContentHash,
        is_meant: impl Fn(&Files, &SharedFile) -> bool,
    ) -> Option<(std::fs::File, Arc<Outline>)> {
        let files = self.read();
        let named = files.by_hash.get(&hash).into_iter().flatten();
        let named = named.filter_map(|name| files.by_name.get(name));
        let named: Vec<SharedFile> = named.filter(|file| is_meant(&files, file)).cloned().collect();
        drop(files);
        named.into_iter().find_map(|shared| {
            let (file, stamp) = self.folder.read(&shared.name).ok()?;
            (stamp == shared.stamp).then_some((file, shared.outline))
        })
    }

    /// A file with this content that is in the folder: it is looked at now, and synced, whoever put it there; it is shared from
    /// then on. Blocks.
    pub fn find_synced(&self, hash: ContentHash) -> Option<SharedFile> {
        let names = self.read().by_hash.get(&hash).cloned().unwrap_or_default();
        let mut files = names.iter().filter_map(|name| self.named(name));
        let found = files.find(|file| self.is_synced(file));
        if let Some(file) = &found {
            self.give(&[(&file.name, hash)]);
        }
        found
    }

    /// The same for a folder whose files have this list. Blocks.
    pub fn find_folder_synced(&self, hash: ContentHash) -> Option<FileName> {
        let is_it = |folder: &&SharedFolder| folder.outline.hash() == hash;
        let names: Vec<_> =
            self.whole().folders().filter(is_it).map(|folder| folder.name.clone()).collect();
        names.into_iter().find(|name| {
            let files = self.read().below(name);
            self.are_synced(name, &files, hash)
        })
    }

    /// Whether the file of this name has this content now; it is synced then, and shared. It is hashed only where its size is this, and it
    /// was not hashed before. Blocks.
    pub fn is_file(&self, name: &FileName, size: u64, hash: ContentHash) -> bool {
        let Ok((_, stamp)) = self.folder.read(name) else { return false };
        if stamp.size != size {
            return false;
        }
        let Some(outline) = self.outline(name, stamp) else { return false };
        let is_it = outline.hash() == hash
            && self.is_synced(&SharedFile { name: name.clone(), outline, stamp });
        if is_it {
            self.give(&[(name, hash)]);
        }
        is_it
    }

    /// The same for a folder: of this list, its files of so many bytes. Blocks.
    pub fn is_folder(&self, name: &FileName, bytes: u64, hash: ContentHash) -> bool {
        let Ok(Found { files, unread: None, .. }) = self.folder.scan_below(name) else {
            return false;
        };
        let sum = files.iter().fold(0_u64, |sum, (_, stamp)| sum.saturating_add(stamp.size));
        if sum != bytes || files.len() > FOLDER_FILES_MAX {
            return false;
        }
        let files = files.into_iter().map(|(name, stamp)| {
            let outline = self.outline(&name, stamp)?;
            Some(SharedFile { name, outline, stamp })
        });
        let files: Option<Vec<SharedFile>> = files.collect();
        let Some(files) = files.filter(|files| self.are_synced(name, files, hash)) else {
            return false;
        };
        let given: Vec<_> = files.iter().map(|file| (&file.name, file.outline.hash())).collect();
        self.give(&given);
        true
    }

    /// The outline of a file that looks like this.
    fn outline(&self, name: &FileName, stamp: Stamp) -> Option<Arc<Outline>> {
        let known = self.named(name).filter(|file| file.stamp == stamp).map(|file| file.outline);
        known.or_else(|| self.cache().get(name, &stamp)).or_else(|| self.hash(name, stamp))
    }

    fn is_synced(&self, file: &SharedFile) -> bool {
        self.folder.sync_file(&file.name, file.stamp).unwrap_or(false)
            && self.folder.sync_names(&file.name).is_ok()
    }

    /// Whether these files of a folder have this list and are there, all of them synced.
    fn are_synced(&self, folder: &FileName, files: &[SharedFile], hash: ContentHash) -> bool {
        let is_it = list(folder, files).is_ok_and(|list| ContentHash::of(&list.write()) == hash);
        is_it
            && files
                .iter()
                .all(|file| self.folder.sync_file(&file.name, file.stamp).unwrap_or(false))
            && self.folder.sync_folder(folder).is_ok()
    }

    fn early(&self, hash: ContentHash) -> Option<(std::fs::File, Arc<Outline>)> {
        let files = self.read();
        let early = files.early.get(&hash)?;
        let ((assembly, path), outline) = (&early.at, Arc::clone(&early.outline));
        let file = assembly.read(path).ok()?;
        (file.metadata().ok()?.len() == outline.size()).then_some((file, outline))
    }

    /// Begins a file that is to be shared. Blocks.
    ///
    /// # Errors
    /// Of making it; [`io::ErrorKind::StorageFull`] where `size` bytes are not free.
    pub fn stage(&self, size: u64) -> io::Result<Staged> {
        self.folder.check_space(size)?;
        self.check_count(1)?;
        self.folder.stage()
    }

    /// Shares a file that was staged. Blocks.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] where there is another one of this name and `replace` is not wanted.
    pub fn place(&self, staged: Staged, name: &FileName, replace: bool) -> io::Result<SharedFile> {
        let (outline, stamp) = self.folder.finish(staged, name, replace)?;
        let outline = Arc::new(outline);
        self.cache().put(name.clone(), stamp, Arc::clone(&outline));
        let file = SharedFile { name: name.clone(), outline, stamp };
        self.put_given(file.clone());
        self.tell();
        self.keep();
        Ok(file)
    }

    /// Shares a file that is in the folder as it is now, before it would be looked at by itself; it is synced. Blocks, as long as
    /// hashing it takes.
    ///
    /// # Errors
    /// Of reading and syncing it; where it changes meanwhile, or there are as many files as a peer shares.
    pub fn look_at(&self, name: &FileName) -> io::Result<SharedFile> {
        let file = self.take_in_now(name)?;
        if !self.is_synced(&file) {
            return Err(changing(name));
        }
        self.list_folders();
        self.tell();
        self.keep();
        Ok(file)
    }

    /// The same of a folder directly in this one, with all that is in it; why it is none that can be shared as a whole, where
    /// it is not. Blocks.
    ///
    /// # Errors
    /// As [`Library::look_at`].
    pub fn look_at_folder(&self, name: &FileName) -> io::Result<Result<SharedFolder, BadManifest>> {
        let Found { files, .. } = self.folder.scan_below(name)?;
        let there: BTreeSet<&FileName> = files.iter().map(|(name, _)| name).collect();
        let known = self.read().below(name);
        for gone in known.iter().filter(|file| !there.contains(&file.name)) {
            self.write().remove(&gone.name);
        }
        let files = files.iter().map(|(name, _)| self.take_in_now(name));
        let files = files.collect::<io::Result<Vec<SharedFile>>>()?;
        let hash = match list(name, &files) {
            Ok(list) => ContentHash::of(&list.write()),
            Err(why) => return Ok(Err(why)),
        };
        if !self.are_synced(name, &files, hash) {
            return Err(changing(name));
        }
        self.list_folders();
        self.tell();
        self.keep();
        let folder = self.folder_named(name).filter(|folder| folder.outline.hash() == hash);
        folder.map(Ok).ok_or_else(|| changing(name))
    }

    /// Shares a file as it is now.
    fn take_in_now(&self, name: &FileName) -> io::Result<SharedFile> {
        let (_, stamp) = self.folder.read(name)?;
        let known = self.named(name);
        if let Some(file) = known.as_ref().filter(|file| file.stamp == stamp) {
            return Ok(file.clone());
        }
        if known.is_none() {
            self.check_count(1)?;
        }
        let outline = self.outline(name, stamp).ok_or_else(|| changing(name))?;
        let file = SharedFile { name: name.clone(), outline, stamp };
        self.write().put(file.clone());
        Ok(file)
    }

    /// Whether so many files more may be shared.
    fn check_count(&self, more: u64) -> io::Result<()> {
        if self.read().by_name.len() as u64 + more <= FILES_MAX as u64 {
            return Ok(());
        }
        Err(io::Error::other(format!("a peer shares at most {FILES_MAX} files")))
    }

    /// Begins a folder that is to be shared as a whole. Blocks.
    ///
    /// # Errors
    /// As [`Library::stage`].
    pub fn stage_folder(&self, files: u64, size: u64) -> io::Result<StagedFolder> {
        self.folder.check_space(size)?;
        self.check_count(files)?;
        self.folder.stage_folder(usize::try_from(files).unwrap_or(usize::MAX))
    }

    /// Shares a folder that was staged and is complete. Blocks.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] where something has the name; the folder is gone then.
    pub fn place_folder(&self, staged: StagedFolder, name: &FileName) -> io::Result<()> {
        if let Err(error) = self.folder.finish_folder(&staged, name) {
            self.folder.abandon_folder(&staged);
            return Err(error);
        }
        for (path, stamp, outline) in staged.into_files() {
            let whole = name.child_path(&path).map_err(io::Error::other)?;
            let outline = Arc::new(outline);
            self.cache().put(whole.clone(), stamp, Arc::clone(&outline));
            self.put_given(SharedFile { name: whole, outline, stamp });
        }
        self.list_folders();
        self.tell();
        self.keep();
        Ok(())
    }

    /// A folder that was staged is not wanted.
    pub fn abandon_folder(&self, staged: &StagedFolder) {
        self.folder.abandon_folder(staged);
    }

    /// The folder of this name, where it is shared as a whole.
    pub fn folder_named(&self, name: &FileName) -> Option<SharedFolder> {
        self.whole().named(name.as_str()).cloned()
    }

    /// Shares a folder that was put into the shared one; its files are verified by these. Blocks.
    ///
    /// # Errors
    /// Where one is not there, or has another size by now.
    pub fn adopt_folder(
        &self,
        name: &FileName,
        files: impl IntoIterator<Item = (FileName, Arc<Outline>)>,
    ) -> io::Result<()> {
        for (path, outline) in files {
            let whole = name.child_path(&path).map_err(io::Error::other)?;
            self.take_in(whole, outline)?;
        }
        self.list_folders();
        self.tell();
        self.keep();
        Ok(())
    }

    /// Shares a file that was put into the folder, and is verified by this. Blocks.
    ///
    /// # Errors
    /// Where it is not there, or has another size by now.
    pub fn adopt(&self, name: &FileName, outline: Arc<Outline>) -> io::Result<()> {
        self.take_in(name.clone(), outline)?;
        self.tell();
        self.keep();
        Ok(())
    }

    fn take_in(&self, name: FileName, outline: Arc<Outline>) -> io::Result<()> {
        let (_, stamp) = self.folder.read(&name)?;
        if stamp.size != outline.size() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.cache().put(name.clone(), stamp, Arc::clone(&outline));
        self.put_given(SharedFile { name, outline, stamp });
        Ok(())
    }

    /// What an earlier fetch of a file has left is not needed any more; where one is at it, it stays. Blocks.
    pub fn clear_part(&self, hash: ContentHash) {
        self.folder.clear_part(&part_name(hash));
    }

    /// The folder, for what is fetched into it.
    ///
    /// # Errors
    /// Of the system.
    pub(crate) fn dir(&self) -> io::Result<Arc<cap_std::fs::Dir>> {
        self.folder.shared_dir()
    }

    /// The folder's path, as it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file that was staged is not wanted.
    pub fn abandon(&self, staged: &Staged) {
        self.folder.abandon(staged);
    }

    /// Looks again whenever the folder has changed, and once in a while; `told` hears what came of it. Ends with the task.
    pub async fn follow(self: Arc<Self>, told: impl Fn(&io::Result<Looked>)) {
        let (notify, mut heard) = watch::channel(0_u64);
        let watcher = self.watcher(notify);
        if let Err(error) = &watcher {
            tracing::warn!("the folder is not watched, only looked at every {RESCAN:?}: {error}");
        }
        loop {
            let library = Arc::clone(&self);
            if let Ok(looked) = tokio::task::spawn_blocking(move || library.look()).await {
                told(&looked);
            }
            tokio::select! {
                _ = heard.changed(), if watcher.is_ok() => tokio::time::sleep(SETTLE).await,
                () = tokio::time::sleep(RESCAN) => {}
            }
            heard.mark_unchanged();
        }
    }

    fn watcher(&self, notify: watch::Sender<u64>) -> notify::Result<RecommendedWatcher> {
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                // Reading is no change, and looking through the folder is reading.
                if !event.is_ok_and(|event| event.kind.is_access()) {
                    notify.send_modify(|count| *count += 1);
                }
            })?;
        watcher.watch(&self.path, RecursiveMode::Recursive)?;
        Ok(watcher)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(library: &Library) -> Vec<String> {
        library.files().iter().map(|file| file.name.as_str().to_owned()).collect()
    }

    #[test]
    fn what_changes_is_hashed_again_and_nothing_else_is() {
        let root = tempfile::tempdir().unwrap();
        let (shared, cache) = (root.path().join("shared"), root.path().join("hashes"));
        let library = Library::open(&shared, &cache).unwrap();
        std::fs::write(shared.join("a"), "first").unwrap();
        std::fs::write(shared.join("b"), "second").unwrap();
        assert_eq!(library.look().unwrap().hashed, 2);
        assert_eq!(library.look().unwrap().hashed, 0);
        let first = ContentHash::of(b"first");
        assert!(library.content(first).is_some());
        std::fs::write(shared.join("a"), "other").unwrap();
        // What is on the disk now is not what was hashed: nobody is sent it.
        assert!(library.content(first).is_none());
        assert_eq!(library.look().unwrap().hashed, 1);
        assert!(library.content(ContentHash::of(b"other")).is_some());
        std::fs::rename(shared.join("a"), shared.join("c")).unwrap();
        library.look().unwrap();
        assert_eq!(names(&library), ["b", "c"]);
        std::fs::remove_file(shared.join("c")).unwrap();
        library.look().unwrap();
        assert!(library.content(ContentHash::of(b"other")).is_none());
        // Another life hashes nothing that has not changed.
        let library = Library::open(&shared, &cache).unwrap();
        assert_eq!(library.look().unwrap().hashed, 0);
        assert_eq!(names(&library), ["b"]);
    }

    #[cfg(unix)]
    #[test]
    fn what_is_overwritten_is_hashed_again_even_if_it_says_that_it_is_old() {
        use std::os::unix::fs::MetadataExt as _;
        let root = tempfile::tempdir().unwrap();
        let (shared, cache) = (root.path().join("shared"), root.path().join("hashes"));
        let library = Library::open(&shared, &cache).unwrap();
        let path = shared.join("a");
        std::fs::write(&path, "first").unwrap();
        assert_eq!(library.look().unwrap().hashed, 1);
        let before = path.metadata().unwrap();
        let changed = || path.metadata().map(|now| (now.ctime(), now.ctime_nsec())).unwrap();
        let then = changed();
        // The system's clock for this has ticks.
        while changed() == then {
            std::fs::write(&path, "other").unwrap();
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(before.modified().unwrap()).unwrap();
        }
        let now = path.metadata().unwrap();
        assert_eq!((now.len(), now.mtime_nsec()), (before.len(), before.mtime_nsec()));
        // Nobody is sent it for what it was.
        assert!(library.content(ContentHash::of(b"first")).is_none());
        assert_eq!(library.look().unwrap().hashed, 1);
        assert!(library.content(ContentHash::of(b"other")).is_some());
        let library = Library::open(&shared, &cache).unwrap();
        assert_eq!(library.look().unwrap().hashed, 0);
    }

    #[test]
    fn what_is_placed_is_shared_at_once() {
        let root = tempfile::tempdir().unwrap();
        let library =
            Library::open(&root.path().join("shared"), &root.path().join("hashes")).unwrap();
        let mut staged = library.stage(4).unwrap();
        staged.write(b"hola").unwrap();
        let name = FileName::new("x/hola.txt").unwrap();
        let file = library.place(staged, &name, false).unwrap();
        assert_eq!(file.outline.hash(), ContentHash::of(b"hola"));
        assert!(library.content(ContentHash::of(b"hola")).is_some());
        assert_eq!(library.look().unwrap().hashed, 0);
        let full = library.stage(u64::MAX).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert!(full.to_string().contains("TiB needed, "), "{full}");
    }

    #[test]
    fn a_folder_in_the_folder_is_shared_as_a_whole_as_long_as_it_is_one() {
        let root = tempfile::tempdir().unwrap();
        let shared = root.path().join("shared");
        let library = Library::open(&shared, &root.path().join("hashes")).unwrap();
        let write = |name: &str, text: &str| {
            let path = shared.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        // Names that sort between a folder and what is in it.
        ["f/b/c", "f/a", "f-x", "f.d/y", "g"].iter().for_each(|name| write(name, name));
        library.look().unwrap();
        let folders = |library: &Library| -> Vec<(String, u64, ContentHash)> {
            let folders = library.folders().into_iter();
            folders
                .map(|folder| {
                    (folder.name.as_str().to_owned(), folder.files, folder.outline.hash())
                })
                .collect()
        };
        let before = folders(&library);
        assert_eq!(before.iter().map(|f| (&*f.0, f.1)).collect::<Vec<_>>(), [("f", 2), ("f.d", 1)]);
        let list = |hash| {
            let (file, outline) = library.content(hash)?;
            assert_eq!(outline_of(&file).unwrap(), *outline);
            Some(outline.size())
        };
        assert!(list(before[0].2).is_some());
        assert_eq!(library.announced()["f/"].folder, Some(FolderHeld { files: 2, bytes: 8 }));
        assert_eq!(library.announced().len(), 7);
        write("f/b/c", "another");
        library.look().unwrap();
        assert_ne!(folders(&library)[0].2, before[0].2);
        assert!(list(before[0].2).is_none());
        // On some systems these would be one.
        write("f/A", "x");
        library.look().unwrap();
        assert_eq!(folders(&library).len(), 1);
        std::fs::remove_dir_all(shared.join("f.d")).unwrap();
        library.look().unwrap();
        assert_eq!(folders(&library), []);
    }

    /// A library in which `a`, `f/b` and `f/c` are shared.
    fn with_files(root: &Path) -> (Library, impl Fn(&str, &str)) {
        let shared = root.join("shared");
        let library = Library::open(&shared, &root.join("hashes")).unwrap();
        let write = move |name: &str, text: &str| {
            let path = shared.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            // Another file each time, as when somebody replaces it.
            let new = path.with_extension("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(new, path).unwrap();
        };
        [("a", "uno"), ("f/b", "dos"), ("f/c", "tres")]
            .iter()
            .for_each(|(at, text)| write(at, text));
        library.look().unwrap();
        (library, write)
    }

    #[test]
    fn what_has_gone_or_changed_since_the_last_look_is_not_confirmed() {
        let root = tempfile::tempdir().unwrap();
        let (library, write) = with_files(root.path());
        let uno = ContentHash::of(b"uno");
        let list = library.folders()[0].outline.hash();
        let (file, folder) =
            (|| library.find_synced(uno).is_some(), || library.find_folder_synced(list).is_some());
        let before = crate::place::faults::synced();
        assert!(file() && folder());
        assert_eq!(crate::place::faults::synced() - before, 3);
        crate::place::faults::fail_sync(true);
        assert!(!file() && !folder(), "what cannot be synced is not confirmed");
        crate::place::faults::fail_sync(false);
        write("a", "UNO");
        write("f/c", "TRES");
        assert!(!file() && !folder());
        write("a", "uno");
        write("f/c", "tres");
        library.look().unwrap();
        assert!(file() && folder());
        for name in ["a", "f/b"] {
            std::fs::remove_file(root.path().join("shared").join(name)).unwrap();
        }
        assert!(!file() && !folder());
    }

    #[test]
    fn nothing_is_hashed_to_learn_that_it_has_another_size() {
        let root = tempfile::tempdir().unwrap();
        let (library, write) = with_files(root.path());
        let list = library.folders()[0].outline.hash();
        let name = |text: &str| FileName::new(text).unwrap();
        // Hashed already, and not yet.
        write("new", "nuevo");
        write("g/b", "dos");
        write("g/c", "tres");
        let is_known = |text: &str| {
            let (_, stamp) = library.folder.read(&name(text)).unwrap();
            library.cache().get(&name(text), &stamp).is_some()
        };
        let nuevo = ContentHash::of(b"nuevo");
        assert!(
            !library.is_file(&name("new"), 6, nuevo) && !library.is_folder(&name("g"), 8, list)
        );
        assert!(!is_known("new") && !is_known("g/b") && !is_known("g/c"));
        assert!(library.is_file(&name("new"), 5, nuevo) && library.is_folder(&name("g"), 7, list));
        assert!(is_known("new") && is_known("g/b") && is_known("g/c"));
        assert!(library.is_file(&name("a"), 3, ContentHash::of(b"uno")));
        assert!(!library.is_file(&name("a"), 3, ContentHash::of(b"dos")));
        assert!(!library.is_file(&name("f"), 3, list) && !library.is_folder(&name("a"), 3, list));
    }

    #[tokio::test]
    async fn a_folder_is_watched() {
        let root = tempfile::tempdir().unwrap();
        let (shared, cache) = (root.path().join("shared"), root.path().join("hashes"));
        let library = Arc::new(Library::open(&shared, &cache).unwrap());
        let mut changes = library.changes();
        let following = tokio::spawn(Arc::clone(&library).follow(|_| {}));
        for (name, content) in [("a", "one"), ("b", "two")] {
            // Written aside and renamed, as most programs do.
            std::fs::write(root.path().join("new"), content).unwrap();
            std::fs::rename(root.path().join("new"), shared.join(name)).unwrap();
            let hash = ContentHash::of(content.as_bytes());
            let shared = async {
                while library.content(hash).is_none() {
                    changes.changed().await.unwrap();
                }
            };
            tokio::time::timeout(std::time::Duration::from_secs(20), shared).await.expect(name);
        }
        following.abort();
    }
}
