//! What a peer shares: the files of its folder, by name and by content, kept up to date as the folder changes.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::watch;

use crate::cache::Cache;
use crate::content::{ContentHash, Outline, outline_of};
use crate::folder::{Folder, Found, Staged, Stamp};
use crate::limits::{FILES_MAX, RESCAN, SETTLE};
use crate::names::FileName;

/// A file that is shared.
#[derive(Clone, Debug)]
pub struct SharedFile {
    /// Its name below the folder.
    pub name: FileName,
    /// What its content is verified by.
    pub outline: Arc<Outline>,
    stamp: Stamp,
}

#[derive(Debug, Default)]
struct Files {
    by_name: BTreeMap<FileName, SharedFile>,
    by_hash: HashMap<ContentHash, Vec<FileName>>,
}

impl Files {
    fn put(&mut self, file: SharedFile) {
        self.remove(&file.name);
        self.by_hash.entry(file.outline.hash()).or_default().push(file.name.clone());
        self.by_name.insert(file.name.clone(), file);
    }

    fn remove(&mut self, name: &FileName) -> bool {
        let Some(old) = self.by_name.remove(name) else { return false };
        let hash = old.outline.hash();
        if let Some(names) = self.by_hash.get_mut(&hash) {
            names.retain(|other| other != name);
            if names.is_empty() {
                self.by_hash.remove(&hash);
            }
        }
        true
    }
}

/// See the module.
#[derive(Debug)]
pub struct Library {
    folder: Folder,
    path: PathBuf,
    files: RwLock<Files>,
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
        let Found { files, left_out, left_out_count } = self.folder.scan()?;
        let gone: Vec<FileName> = {
            let there: std::collections::BTreeSet<&FileName> =
                files.iter().map(|(name, _)| name).collect();
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
        self.keep();
        Ok(looked)
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
        self.read().by_name.values().cloned().collect()
    }

    /// The file of this name.
    pub fn named(&self, name: &FileName) -> Option<SharedFile> {
        self.read().by_name.get(name).cloned()
    }

    /// Opens a content for reading; `None` where it is not there, or not any more what was hashed. Blocks.
    pub fn content(&self, hash: ContentHash) -> Option<(std::fs::File, Arc<Outline>)> {
        let names = self.read().by_hash.get(&hash).cloned()?;
        names.iter().find_map(|name| {
            let shared = self.named(name)?;
            let (file, stamp) = self.folder.read(name).ok()?;
            (stamp == shared.stamp).then_some((file, shared.outline))
        })
    }

    /// Begins a file that is to be shared. Blocks.
    ///
    /// # Errors
    /// Of making it; [`io::ErrorKind::StorageFull`] where `size` bytes are not free.
    pub fn stage(&self, size: u64) -> io::Result<Staged> {
        if self.folder.free_bytes().is_some_and(|free| free < size) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if self.read().by_name.len() >= FILES_MAX {
            let text = format!("there are {FILES_MAX} files, as many as a peer shares");
            return Err(io::Error::other(text));
        }
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
        self.write().put(file.clone());
        self.tell();
        self.keep();
        Ok(file)
    }

    /// Shares a file that was put into the folder, and is verified by this. Blocks.
    ///
    /// # Errors
    /// Where it is not there, or has another size by now.
    pub fn adopt(&self, name: &FileName, outline: Arc<Outline>) -> io::Result<()> {
        let (_, stamp) = self.folder.read(name)?;
        if stamp.size != outline.size() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.cache().put(name.clone(), stamp, Arc::clone(&outline));
        self.write().put(SharedFile { name: name.clone(), outline, stamp });
        self.tell();
        self.keep();
        Ok(())
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
        assert_eq!(library.stage(u64::MAX).unwrap_err().kind(), io::ErrorKind::StorageFull);
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
