//! What of a folder others may know of and have, where that is not all of it: see [`Library::open_given`].

use std::io;
use std::path::Path;

use super::{Files, Library, SharedFile, top};
use crate::content::ContentHash;
use crate::given::Given;
use crate::names::FileName;

impl Files {
    /// Whether others may know of it and have it.
    pub(super) fn is_given(&self, file: &SharedFile) -> bool {
        self.given.as_ref().is_none_or(|given| given.has(&file.name, file.outline.hash()))
    }

    /// Others may have this file from now on; whether they might not before.
    pub(super) fn give(&mut self, name: &FileName, hash: ContentHash) -> bool {
        let is_news = self.given.as_mut().is_some_and(|given| given.put(name, hash));
        if is_news {
            self.stale.extend(top(name).map(str::to_owned));
        }
        is_news
    }
}

impl Library {
    /// The same of a folder in which others' eyes have no business: of what lies in it, only what was put there by this peer is
    /// shared, or was found to be what it should fetch. What that is, is kept in `given`, for another life.
    ///
    /// # Errors
    /// Of opening the folder.
    pub fn open_given(path: &Path, cache: &Path, given: &Path) -> io::Result<Self> {
        let library = Self::open(path, cache)?;
        library.write().given = Some(Given::load(given));
        Ok(library)
    }

    /// Forgets of what was given what is not there any more, or is something else by now.
    pub(super) fn take_back(&self) {
        let is_gone = |name: &FileName| {
            self.folder.read(name).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        };
        let files = self.read();
        let Some(given) = &files.given else { return };
        let others = given.files().filter(|(name, hash)| {
            files.by_name.get(*name).is_none_or(|file| file.outline.hash() != *hash)
        });
        let others: Vec<FileName> = others.map(|(name, _)| name.clone()).collect();
        drop(files);
        for name in others {
            let is_gone = is_gone(&name);
            let mut files = self.write();
            let now = files.by_name.get(&name).map(|file| file.outline.hash());
            if let Some(given) = &mut files.given
                && (is_gone || now.is_some_and(|hash| !given.has(&name, hash)))
            {
                given.remove(&name);
            }
        }
    }

    /// Others may have these files from now on, which were put there, or found to be what was told.
    pub(super) fn give(&self, files: &[(&FileName, ContentHash)]) {
        let mut shared = self.write();
        let is_news =
            files.iter().fold(false, |is_news, (name, hash)| shared.give(name, *hash) | is_news);
        drop(shared);
        if is_news {
            self.list_folders();
            self.tell();
            self.keep();
        }
    }

    /// The same of all these.
    pub(super) fn give_all(&self, files: &[SharedFile]) {
        let given: Vec<_> = files.iter().map(|file| (&file.name, file.outline.hash())).collect();
        self.give(&given);
    }

    /// A file that this peer has put there.
    pub(super) fn put_given(&self, file: SharedFile) {
        let mut files = self.write();
        files.give(&file.name, file.outline.hash());
        files.put(file);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::content::outline_of;
    use crate::manifest::{Entry, Manifest};

    fn names(library: &Library) -> Vec<String> {
        library.files().iter().map(|file| file.name.as_str().to_owned()).collect()
    }

    #[test]
    fn of_a_folder_that_is_fetched_into_only_what_was_fetched_is_shared() {
        let root = tempfile::tempdir().unwrap();
        let (shared, cache) = (root.path().join("shared"), root.path().join("hashes"));
        let open = || Library::open_given(&shared, &cache, &root.path().join("given")).unwrap();
        let write = |name: &str, text: &str| {
            let path = shared.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let name = |text: &str| FileName::new(text).unwrap();
        let hash = |text: &str| ContentHash::of(text.as_bytes());
        let outline = |text: &str| Arc::new(outline_of(text.as_bytes()).unwrap());
        let told = |library: &Library| library.announced().into_keys().collect::<Vec<_>>();
        write("mine", "mine");
        write("f/mine", "in a folder");
        let library = open();
        library.look().unwrap();
        assert!(told(&library).is_empty() && names(&library).is_empty());
        assert!(library.content(hash("mine")).is_none());
        assert!(library.own_content(hash("mine")).is_some(), "it may be copied");

        // What was put there by this peer is shared: a file, and a folder without what else lies in it.
        write("got", "got");
        library.adopt(&name("got"), outline("got")).unwrap();
        write("f/a", "a");
        library.adopt_folder(&name("f"), [(name("a"), outline("a"))]).unwrap();
        let list = Manifest::new(vec![Entry { path: name("a"), size: 1, hash: hash("a") }]);
        let list = list.unwrap().write();
        let right = |library: &Library| {
            assert_eq!(told(library), ["f/", "f/a", "got"]);
            assert!(library.content(hash("got")).is_some());
            assert!(library.content(ContentHash::of(&list)).is_some());
            assert!(library.content(hash("in a folder")).is_none());
        };
        right(&library);
        library.look().unwrap();
        right(&library);
        // In another life, too.
        let library = open();
        library.look().unwrap();
        right(&library);
        // What is told and is there already is shared from then on, by whatever it was found.
        assert!(library.find_synced(hash("mine")).is_some());
        assert!(library.content(hash("mine")).is_some());
        write("other", "other");
        assert!(library.is_file(&name("other"), 5, hash("other")));
        library.look().unwrap();
        assert!(library.content(hash("other")).is_some());
        // What its user saves and has there already, too.
        write("saved", "saved");
        library.look().unwrap();
        assert!(library.content(hash("saved")).is_none());
        library.look_at(&name("saved")).unwrap();
        assert!(told(&library).contains(&"saved".to_owned()));
        write("g/saved", "in another folder");
        library.look().unwrap();
        library.look_at_folder(&name("g")).unwrap().unwrap();
        assert!(told(&library).contains(&"g/".to_owned()));
        assert!(library.content(hash("in another folder")).is_some());
        // Something else under the name is somebody's own.
        write("got", "mine now");
        std::fs::remove_file(shared.join("f/a")).unwrap();
        library.look().unwrap();
        write("got", "got");
        library.look().unwrap();
        assert_eq!(told(&library), ["g/", "g/saved", "mine", "other", "saved"]);
    }
}
