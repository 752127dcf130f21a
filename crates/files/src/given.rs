//! What of a folder is shared, where that is not all that lies in it: what was fetched into it, by name and content. Kept across
//! restarts.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::content::ContentHash;
use crate::kept;
use crate::names::FileName;

/// One line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    name: String,
    hash: String,
}

/// See the module.
#[derive(Debug)]
pub struct Given {
    path: PathBuf,
    files: HashMap<FileName, ContentHash>,
    is_dirty: bool,
}

impl Given {
    /// Reads what is kept in `path`; what cannot be read is not shared until it is fetched again.
    pub fn load(path: &Path) -> Self {
        Self { path: path.to_owned(), files: kept::load(path, read).collect(), is_dirty: false }
    }

    /// Whether this file with this content is shared.
    pub fn has(&self, name: &FileName, hash: ContentHash) -> bool {
        self.files.get(name) == Some(&hash)
    }

    /// A file is shared from now on, as long as this is its content; whether that is news.
    pub fn put(&mut self, name: &FileName, hash: ContentHash) -> bool {
        let is_news = self.files.insert(name.clone(), hash) != Some(hash);
        self.is_dirty |= is_news;
        is_news
    }

    /// Every file, and its content.
    pub fn files(&self) -> impl Iterator<Item = (&FileName, ContentHash)> {
        self.files.iter().map(|(name, hash)| (name, *hash))
    }

    /// A file is not there any more.
    pub fn remove(&mut self, name: &FileName) {
        self.is_dirty |= self.files.remove(name).is_some();
    }

    /// Replaces what is kept as a whole, where anything has changed.
    ///
    /// # Errors
    /// Of writing; what was kept stays.
    pub fn store(&mut self) -> io::Result<()> {
        if !self.is_dirty {
            return Ok(());
        }
        let line = |(name, hash): (&FileName, &ContentHash)| Line {
            name: name.as_str().to_owned(),
            hash: hash.to_string(),
        };
        kept::store(&self.path, self.files.iter().map(line))?;
        self.is_dirty = false;
        Ok(())
    }
}

fn read(line: &str) -> Option<(FileName, ContentHash)> {
    let line: Line = serde_json::from_str(line).ok()?;
    Some((FileName::new(&line.name).ok()?, line.hash.parse().ok()?))
}
