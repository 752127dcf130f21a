//! Fetching a folder that a group was told of: its list, then its files, each in its turn and shared as soon as it is there, so
//! that members get it from each other; then all of it gets its name at once.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::told::{
    Fetcher, NAMES_TRIED, PAUSES, Told, ToldFailed, ToldFetched, Wanted, is_liar, numbered, of_io,
};
use crate::assembly::{Assembly, list_of};
use crate::blocking::blocking;
use crate::fetch::{Fetched, Holder, NotFetched, Progress};
use crate::gather::{Gathered, gather};
use crate::limits::{FILE_BYTES_MAX, PATIENCE};
use crate::manifest::{Entry, Manifest};
use crate::names::FileName;
use crate::place;

/// Ends when the folder is there or given up: what was shared of it under its names is shared so no more.
struct Early<'a> {
    fetcher: &'a Fetcher,
    name: FileName,
}

impl Drop for Early<'_> {
    fn drop(&mut self) {
        self.fetcher.state.library.done_early(&self.name);
    }
}

/// Which name a folder has, or may have.
enum Named {
    /// That with this number is free.
    Free(u32),
    /// The folder is there under this one.
    Itself(FileName),
}

fn failed(code: &'static str, message: impl Into<String>) -> ToldFailed {
    ToldFailed { code, message: message.into() }
}

impl Fetcher {
    pub(super) async fn fetch_folder(&self, told: &Told) -> Result<ToldFetched, ToldFailed> {
        let name = name_of(told)?;
        let library = &self.state.library;
        let there = |name: FileName| ToldFetched {
            name,
            kept: told.size,
            from: Vec::new(),
            liars: Vec::new(),
            is_folder: true,
        };
        let mut pause = PAUSES.0;
        let assembly = loop {
            if let Some(folder) = library.folder_of(told.hash) {
                return Ok(there(folder.name));
            }
            let (parent, hash) = (library.path().to_owned(), told.hash);
            match blocking(move || Assembly::open(&parent, hash)).await {
                Ok(assembly) => break Arc::new(assembly),
                // The same folder was told twice, and is being fetched.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    sleep(pause).await;
                    pause = (pause * 3 / 2).min(PAUSES.1);
                }
                Err(error) => return Err(of_io(&error)),
            }
        };
        let number = match self.first_name(told, &assembly, &name).await? {
            Named::Free(number) => number,
            Named::Itself(own) => return Ok(there(own)),
        };
        let liars = Arc::default();
        let manifest = Arc::new(self.list(told, &assembly, &liars).await?);
        let own = numbered(&name, number).map_err(|why| failed("bad name", why.to_string()))?;
        for entry in manifest.entries() {
            own.child_path(&entry.path).map_err(|why| failed("bad name", why.to_string()))?;
        }
        let early = Early { fetcher: self, name: own };
        let gathered = self.files(&assembly, &manifest, &early.name, &liars).await?;
        let own = self.finish(&assembly, &manifest, &name, number).await?;
        let (library, adopting) = (Arc::clone(library), own.clone());
        let Gathered { kept, from, files, .. } = gathered;
        let adopted = blocking(move || library.adopt_folder(&adopting, files)).await;
        if let Err(error) = adopted {
            tracing::warn!("what was fetched is not shared yet: {error}");
        }
        drop(early);
        let liars = locked(&liars).clone();
        Ok(ToldFetched { name: own, kept, from, liars, is_folder: true })
    }

    /// The first of the folder's names that is free, or that the folder itself has already.
    async fn first_name(
        &self,
        told: &Told,
        assembly: &Arc<Assembly>,
        name: &FileName,
    ) -> Result<Named, ToldFailed> {
        let mut number = 1;
        loop {
            let own = numbered(name, number).map_err(|why| failed("bad name", why.to_string()))?;
            let (asking, as_name) = (Arc::clone(assembly), own.clone());
            if !blocking(move || Ok(asking.is_taken(&as_name))).await? {
                return Ok(Named::Free(number));
            }
            let folder = self.state.library.path().to_owned();
            let (path, hash) = (folder.join(own.base()), told.hash);
            // It may have been put there before its peer was killed, and not been looked at since, and its name not been
            // synced; its files were.
            let is_it =
                move || Ok(list_of(&path)? == Some(hash) && place::sync_folder(&folder).is_ok());
            if blocking(is_it).await.unwrap_or(false) {
                assembly.leave();
                return Ok(Named::Itself(own));
            }
            number = next(number)?;
        }
    }

    /// The list of the folder's files; it is what was told.
    async fn list(
        &self,
        told: &Told,
        assembly: &Arc<Assembly>,
        liars: &Arc<Mutex<Vec<Holder>>>,
    ) -> Result<Manifest, ToldFailed> {
        let hash = told.hash;
        let read = |assembly: &Arc<Assembly>| {
            let assembly = Arc::clone(assembly);
            async move { blocking(move || assembly.list(hash)).await.map_err(|why| of_io(&why)) }
        };
        let list = match read(assembly).await? {
            Some(list) => list,
            None => {
                let target = assembly.list_target();
                // It is small, and nobody can begin without it: nobody waits for others.
                let wanted = Wanted { hash, size: None, target, many: false };
                self.content(&wanted, liars, &watch::Sender::default()).await?;
                let list = read(assembly).await?;
                list.ok_or_else(|| failed("cannot write", "the list of its files is gone"))?
            }
        };
        let manifest = Manifest::read(&list).map_err(|why| why.to_string());
        let manifest = manifest.and_then(|manifest| match manifest.bytes() == told.size {
            true => Ok(manifest),
            false => Err(format!("it has {} bytes, not {}", manifest.bytes(), told.size)),
        });
        manifest.map_err(|why| {
            assembly.abandon();
            failed("bad folder", why)
        })
    }

    async fn files(
        &self,
        assembly: &Arc<Assembly>,
        manifest: &Arc<Manifest>,
        name: &FileName,
        liars: &Arc<Mutex<Vec<Holder>>>,
    ) -> Result<Gathered, ToldFailed> {
        let fetch = |entry: Entry, target, progress| {
            let (fetcher, assembly, liars) =
                (self.clone(), Arc::clone(assembly), Arc::clone(liars));
            async move {
                if let Some(fetched) = fetcher.copied(&assembly, &entry).await {
                    return Ok(fetched);
                }
                let (hash, size) = (entry.hash, Some(entry.size));
                let wanted = Wanted { hash, size, target, many: true };
                fetcher.content(&wanted, &liars, &progress).await
            }
        };
        let came = |entry: &Entry, outline: &Arc<_>| {
            if let Ok(whole) = name.child_path(&entry.path) {
                let path = assembly.path(&entry.path);
                self.state.library.share_early(whole, path, Arc::clone(outline));
            }
        };
        gather(assembly, manifest, watch::Sender::default(), fetch, came).await
    }

    /// What the peer shares already is copied.
    async fn copied(&self, assembly: &Arc<Assembly>, entry: &Entry) -> Option<Fetched> {
        let (library, assembly) = (Arc::clone(&self.state.library), Arc::clone(assembly));
        let entry = entry.clone();
        let copying = move || {
            let content = library.content(entry.hash);
            let Some((file, _)) = content.filter(|(_, outline)| outline.size() == entry.size)
            else {
                return Ok(None);
            };
            assembly.copy(file, &entry).map(Some)
        };
        let outline = Arc::new(blocking(copying).await.ok()??);
        let size = outline.size();
        let (from, dropped) = (Vec::new(), Vec::new());
        Some(Fetched { outline, size, kept: size, fetched: 0, from, dropped, listed: None })
    }

    /// Gives the folder the first of its names that is free.
    async fn finish(
        &self,
        assembly: &Arc<Assembly>,
        manifest: &Arc<Manifest>,
        name: &FileName,
        mut number: u32,
    ) -> Result<FileName, ToldFailed> {
        loop {
            let own = numbered(name, number).map_err(|why| failed("bad name", why.to_string()))?;
            let (finishing, list, as_name) =
                (Arc::clone(assembly), Arc::clone(manifest), own.clone());
            match blocking(move || finishing.finish(&list, &as_name)).await {
                Ok(()) => return Ok(own),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    number = next(number)?;
                }
                Err(error) => return Err(of_io(&error)),
            }
        }
    }

    /// Fetches one content, however often that has to be tried.
    async fn content(
        &self,
        wanted: &Wanted,
        liars: &Mutex<Vec<Holder>>,
        progress: &watch::Sender<Progress>,
    ) -> Result<Fetched, ToldFailed> {
        let (mut kept, mut here, mut pause) = (None, 0, PAUSES.0);
        let mut until = Instant::now() + PATIENCE;
        loop {
            let known = locked(liars).iter().map(|liar| liar.fingerprint).collect();
            let tried = self.tried(wanted, &known, &mut kept, progress.clone()).await;
            match tried {
                Ok(Some(mut fetched)) => {
                    let dropped = std::mem::take(&mut fetched.dropped);
                    let lied = dropped.into_iter().filter(is_liar);
                    locked(liars).extend(lied.map(|(holder, _)| holder));
                    return Ok(fetched);
                }
                // Nobody has it yet, or the node cannot be asked just now.
                Ok(None) => {}
                Err(NotFetched::NoHolders { dropped, here: now }) => {
                    let lied = dropped.into_iter().filter(is_liar);
                    locked(liars).extend(lied.map(|(holder, _)| holder));
                    if now > here {
                        (here, pause, until) = (now, PAUSES.0, Instant::now() + PATIENCE);
                    }
                }
                Err(NotFetched::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(NotFetched::Io(error)) => return Err(of_io(&error)),
                Err(NotFetched::TooLarge) => {
                    return Err(failed("too large", "it is larger than a file may be"));
                }
            }
            if Instant::now() > until {
                return Err(failed("no holders", "for a long time nobody was there who has it"));
            }
            sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
            pause = (pause * 3 / 2).min(PAUSES.1);
        }
    }
}

fn locked(liars: &Mutex<Vec<Holder>>) -> MutexGuard<'_, Vec<Holder>> {
    liars.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The folder's name, without `/`.
fn name_of(told: &Told) -> Result<FileName, ToldFailed> {
    if told.size > FILE_BYTES_MAX {
        return Err(failed("too large", "it is larger than a folder may be (1 TiB)"));
    }
    let text = told.name.strip_suffix('/').unwrap_or(&told.name);
    let name = FileName::new(text).map_err(|why| failed("bad name", why.to_string()))?;
    if name.as_str() != text || name.base() != text || text.starts_with('.') {
        return Err(failed("bad name", "its name has folders in it, or is hidden"));
    }
    Ok(name)
}

fn next(number: u32) -> Result<u32, ToldFailed> {
    if number >= NAMES_TRIED {
        return Err(failed("name taken", "all names like it are taken"));
    }
    Ok(number + 1)
}
