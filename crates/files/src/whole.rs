//! The folders that a peer shares as a whole: each folder directly in the shared one, by the list of its files, which is kept in
//! a file of its own so that it is sent like any other content.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::content::{ContentHash, Outline, outline_of};
use crate::manifest::{BadManifest, Manifest};
use crate::names::FileName;

/// A folder that is shared.
#[derive(Clone, Debug)]
pub struct SharedFolder {
    /// Its name, without `/`.
    pub name: FileName,
    /// What the list of its files is verified by: its hash names the folder.
    pub outline: Arc<Outline>,
    /// How many files are in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Whole {
    lists: PathBuf,
    by_name: BTreeMap<String, SharedFolder>,
    by_hash: HashMap<ContentHash, Arc<Outline>>,
}

impl Whole {
    /// None yet; their lists are kept in this folder, which is emptied.
    pub fn new(lists: &Path) -> Self {
        let _ = std::fs::remove_dir_all(lists);
        Self { lists: lists.to_owned(), by_name: BTreeMap::new(), by_hash: HashMap::new() }
    }

    /// What is in a folder now; whether that is news. Blocks.
    pub fn set(&mut self, name: &str, now: Result<Manifest, BadManifest>) -> bool {
        let (now, why) = match now {
            Ok(manifest) => (Some(manifest), None),
            Err(BadManifest::Empty) => (None, None),
            Err(why) => (None, Some(why.to_string())),
        };
        if let Some(why) = why {
            tracing::warn!("the folder {name:?} is shared file by file only: {why}");
        }
        let kept = now.and_then(|manifest| self.keep(name, &manifest));
        let before = match kept {
            Some(folder) => {
                let hash = folder.outline.hash();
                self.by_hash.insert(hash, Arc::clone(&folder.outline));
                let before = self.by_name.insert(name.to_owned(), folder);
                if before.as_ref().is_some_and(|before| before.outline.hash() == hash) {
                    return false;
                }
                before
            }
            None => match self.by_name.remove(name) {
                None => return false,
                before => before,
            },
        };
        if let Some(hash) = before.map(|before| before.outline.hash())
            && !self.by_name.values().any(|folder| folder.outline.hash() == hash)
        {
            self.by_hash.remove(&hash);
            let _ = std::fs::remove_file(self.path(hash));
        }
        true
    }

    /// Writes a list down; `None` where that fails, and says so.
    fn keep(&self, name: &str, manifest: &Manifest) -> Option<SharedFolder> {
        let list = manifest.write();
        let outline = outline_of(&list[..]).ok()?;
        let write = || {
            let path = self.path(outline.hash());
            if path.exists() {
                return Ok(());
            }
            std::fs::create_dir_all(&self.lists)?;
            let new = path.with_extension("new");
            std::fs::write(&new, &list)?;
            std::fs::rename(new, path)
        };
        if let Err(error) = write() {
            let error: io::Error = error;
            tracing::warn!("the folder {name:?} is shared file by file only: {error}");
            return None;
        }
        Some(SharedFolder {
            name: FileName::new(name).ok()?,
            outline: Arc::new(outline),
            files: manifest.entries().len() as u64,
            bytes: manifest.bytes(),
        })
    }

    fn path(&self, hash: ContentHash) -> PathBuf {
        self.lists.join(hash.to_string())
    }

    /// Opens a list by its hash. Blocks.
    pub fn content(&self, hash: ContentHash) -> Option<(std::fs::File, Arc<Outline>)> {
        let outline = self.by_hash.get(&hash)?;
        let file = std::fs::File::open(self.path(hash)).ok()?;
        Some((file, Arc::clone(outline)))
    }

    /// Every folder, by its name.
    pub fn folders(&self) -> impl Iterator<Item = &SharedFolder> {
        self.by_name.values()
    }

    /// The folder of this name.
    pub fn named(&self, name: &str) -> Option<&SharedFolder> {
        self.by_name.get(name)
    }
}
