//! What was hashed before: by name, and as long as size, times and inode are the same.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::content::{ContentHash, Outline};
use crate::folder::Stamp;
use crate::kept;
use crate::names::FileName;

/// One line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    name: String,
    stamp: Stamp,
    hash: String,
    /// The outline's values, in hexadecimal.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    values: String,
}

/// See the module.
#[derive(Debug)]
pub struct Cache {
    path: PathBuf,
    known: HashMap<FileName, (Stamp, Arc<Outline>)>,
    is_dirty: bool,
}

impl Cache {
    /// Reads what is kept in `path`; what cannot be read is hashed again.
    pub fn load(path: &Path) -> Self {
        Self { path: path.to_owned(), known: kept::load(path, read).collect(), is_dirty: false }
    }

    /// The outline of a file that looks like this.
    pub fn get(&self, name: &FileName, stamp: &Stamp) -> Option<Arc<Outline>> {
        let (kept, outline) = self.known.get(name)?;
        (kept == stamp).then(|| Arc::clone(outline))
    }

    /// A file that looks like this has this outline.
    pub fn put(&mut self, name: FileName, stamp: Stamp, outline: Arc<Outline>) {
        self.known.insert(name, (stamp, outline));
        self.is_dirty = true;
    }

    /// Forgets the files that are not there any more.
    pub fn retain(&mut self, is_there: impl Fn(&FileName) -> bool) {
        let before = self.known.len();
        self.known.retain(|name, _| is_there(name));
        self.is_dirty |= self.known.len() != before;
    }

    /// Replaces the file as a whole, where anything has changed.
    ///
    /// # Errors
    /// Of writing; the old one stays.
    pub fn store(&mut self) -> io::Result<()> {
        if !self.is_dirty {
            return Ok(());
        }
        let line = |(name, (stamp, outline)): (&FileName, &(Stamp, Arc<Outline>))| Line {
            name: name.as_str().to_owned(),
            stamp: *stamp,
            hash: outline.hash().to_string(),
            values: tertulia_wire::sharing::hex(outline.values().as_flattened()),
        };
        kept::store(&self.path, self.known.iter().map(line))?;
        self.is_dirty = false;
        Ok(())
    }
}

fn read(line: &str) -> Option<(FileName, (Stamp, Arc<Outline>))> {
    let line: Line = serde_json::from_str(line).ok()?;
    let name = FileName::new(&line.name).ok()?;
    let hash: ContentHash = line.hash.parse().ok()?;
    let mut values = Vec::with_capacity(line.values.len() / 64);
    for begin in (0..line.values.len()).step_by(64) {
        values.push(tertulia_wire::sharing::bytes_of_hex(line.values.get(begin..begin + 64)?)?);
    }
    let outline = Outline::kept(hash, line.stamp.size, values)?;
    Some((name, (line.stamp, Arc::new(outline))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::outline_of;
    use crate::limits::PIECE_BYTES;

    #[test]
    fn what_was_hashed_is_known_again_and_damage_is_hashed_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hashes");
        let name = |text: &str| FileName::new(text).unwrap();
        let content = vec![7; 2 * PIECE_BYTES + 5];
        let (large, small) = (outline_of(&content[..]).unwrap(), outline_of(&b"hola"[..]).unwrap());
        let modified_ns = 1_764_000_000_123_456_789;
        let stamp = |size| Stamp { size, modified_ns, changed_ns: modified_ns, inode: u64::MAX };
        let mut cache = Cache::load(&path);
        cache.put(name("large 'x'"), stamp(large.size()), Arc::new(large.clone()));
        cache.put(name("small"), stamp(4), Arc::new(small));
        cache.put(name("gone"), stamp(4), Arc::new(outline_of(&b"adio"[..]).unwrap()));
        cache.retain(|one| one.as_str() != "gone");
        cache.store().unwrap();
        let cache = Cache::load(&path);
        assert_eq!(cache.get(&name("large 'x'"), &stamp(large.size())).as_deref(), Some(&large));
        assert!(
            cache.get(&name("small"), &stamp(4)).is_some()
                && cache.get(&name("gone"), &stamp(4)).is_none()
        );
        assert!(cache.get(&name("small"), &Stamp { modified_ns: 2, ..stamp(4) }).is_none());
        assert!(cache.get(&name("small"), &Stamp { inode: 2, ..stamp(4) }).is_none());
        assert!(cache.get(&name("small"), &Stamp { changed_ns: 2, ..stamp(4) }).is_none());
        // One value of the large file is another one.
        let text = std::fs::read_to_string(&path).unwrap();
        let first = tertulia_wire::sharing::hex(&large.values()[0]);
        std::fs::write(&path, text.replace(&first, &"00".repeat(32)) + "{\nnot a line").unwrap();
        let cache = Cache::load(&path);
        assert!(cache.get(&name("large 'x'"), &stamp(large.size())).is_none());
        assert!(cache.get(&name("small"), &stamp(4)).is_some());
    }
}
