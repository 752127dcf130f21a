//! What comes into the folder by this program: saved by its user, or fetched.

use std::io;
use std::sync::Arc;

use super::*;

impl Library {
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
        // Whoever asks for this wants it to be shared, whatever else of the folder is not.
        self.give(&[(name, file.outline.hash())]);
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
        self.give_all(&files);
        self.list_folders();
        self.tell();
        self.keep();
        let folder = self.folder_named(name).filter(|folder| folder.outline.hash() == hash);
        folder.map(Ok).ok_or_else(|| changing(name))
    }

    /// Takes a file in as it is now.
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

    /// What an earlier fetch of a file has left is not needed any more; `false` where somebody is at it, so that it stays. Blocks.
    pub fn clear_part(&self, hash: ContentHash) -> bool {
        self.folder.clear_part(&part_name(hash))
    }

    /// A file that was staged is not wanted.
    pub fn abandon(&self, staged: &Staged) {
        self.folder.abandon(staged);
    }
}
