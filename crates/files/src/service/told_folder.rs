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
use crate::content::{ContentHash, Outline};
use crate::fetch::{self, Fetched, Holder, NotFetched, Progress, Target};
use crate::gather::{FetchFiles, Gathered, gather};
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

/// Fetches each file in its turn, and shares it at once.
#[derive(Clone)]
struct Fetching {
    fetcher: Fetcher,
    assembly: Arc<Assembly>,
    name: FileName,
    liars: Arc<Mutex<Vec<Holder>>>,
}

impl FetchFiles for Fetching {
    /// It is asked for again and again, by what is fetched: others have more and more of it.
    type Source = ();
    type Error = ToldFailed;

    fn questions(&self, _: &Entry) -> usize {
        fetch::QUESTIONS
    }

    async fn sources(&self, contents: Vec<ContentHash>) -> Result<Vec<()>, ToldFailed> {
        Ok(vec![(); contents.len()])
    }

    async fn fetch(
        &self,
        entry: Entry,
        (): (),
        target: Target,
        progress: watch::Sender<Progress>,
    ) -> Result<Fetched, ToldFailed> {
        if let Some(fetched) = self.fetcher.copied(&self.assembly, &entry).await {
            return Ok(fetched);
        }
        let (hash, size) = (entry.hash, Some(entry.size));
        let wanted = Wanted { hash, size, target, many: true };
        self.fetcher.content(&wanted, &self.liars, &progress).await
    }

    fn came(&self, entry: &Entry, outline: &Arc<Outline>) {
        if let Ok(whole) = self.name.child_path(&entry.path) {
            let path = self.assembly.path(&entry.path);
            self.fetcher.state.library.share_early(whole, path, Arc::clone(outline));
        }
    }
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
        let (mut number, mut pause) = (1, PAUSES.0);
        let assembly = loop {
            if let Some(folder) = library.folder_of(told.hash) {
                return Ok(there(folder.name));
            }
            let own = numbered(&name, number).map_err(|why| failed("bad name", why.to_string()))?;
            let (parent, opening, hash) = (library.path().to_owned(), own.clone(), told.hash);
            match blocking(move || Assembly::open(&parent, &opening, hash)).await {
                Ok(assembly) => break Arc::new(assembly),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let (path, hash) = (library.path().join(own.base()), told.hash);
                    let folder = library.path().to_owned();
                    // It may have been put there before its peer was killed, and not been looked at since, and its name not
                    // been synced; its files were.
                    let is_it = move || {
                        Ok(list_of(&path)? == Some(hash) && place::sync_folder(&folder).is_ok())
                    };
                    if blocking(is_it).await.unwrap_or(false) {
                        return Ok(there(own));
                    }
                    number = next(number)?;
                }
                // The same folder was told twice, and is being fetched.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    sleep(pause).await;
                    pause = (pause * 3 / 2).min(PAUSES.1);
                }
                Err(error) => return Err(of_io(&error)),
            }
        };
        let liars = Arc::default();
        let manifest = Arc::new(self.list(told, &assembly, &liars).await?);
        let own = numbered(&name, number).map_err(|why| failed("bad name", why.to_string()))?;
        for entry in manifest.entries() {
            own.child_path(&entry.path).map_err(|why| failed("bad name", why.to_string()))?;
        }
        let early = Early { fetcher: self, name: own };
        let fetching = Fetching {
            fetcher: self.clone(),
            assembly: Arc::clone(&assembly),
            name: early.name.clone(),
            liars: Arc::clone(&liars),
        };
        let gathered = gather(&assembly, &manifest, watch::Sender::default(), fetching).await?;
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
