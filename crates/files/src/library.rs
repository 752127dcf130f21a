//! What a peer shares: the files of its folder, by name and by content, kept up to date as the folder changes.

mod giving;
mod placing;

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
        self.give_all(&files);
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

    /// The folder of this name, where it is shared as a whole.
    pub fn folder_named(&self, name: &FileName) -> Option<SharedFolder> {
        self.whole().named(name.as_str()).cloned()
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
mod tests;
