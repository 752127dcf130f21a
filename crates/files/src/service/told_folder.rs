//! Fetching a folder that a group was told of: its list, then its files, each in its turn and shared as soon as it is there, so
//! that members get it from each other; then all of it gets its name at once.

use std::io;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio::time::sleep;

use super::told::{
    Fetcher, NAMES_TRIED, NotHere, PAUSES, Told, ToldFailed, ToldFetched, Wanted, failed, given_up,
    locked, numbered, of_io,
};
use super::turns::Turn;
use crate::assembly::Assembly;
use crate::blocking::blocking;
use crate::content::{ContentHash, Outline};
use crate::fetch::{self, Connections, Durable, Fetched, Holder, Progress, Target};
use crate::gather::{FetchFiles, Gathered, gather};
use crate::limits::FILE_BYTES_MAX;
use crate::manifest::{Entry, Manifest};
use crate::names::FileName;

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
    connections: Arc<Connections>,
    turn: Arc<Turn>,
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
        if let Some(fetched) = self.fetcher.copied(&self.assembly, &entry, target.durable).await {
            return Ok(fetched);
        }
        let (hash, size) = (entry.hash, Some(entry.size));
        let connections = Some(Arc::clone(&self.connections));
        let turn = Arc::clone(&self.turn);
        let (many, by_itself) = (true, false);
        let wanted = Wanted { hash, size, target, many, by_itself, turn, connections };
        self.fetcher.content(&wanted, &self.liars, &progress).await.map_err(final_of)
    }

    fn came(&self, entry: &Entry, outline: &Arc<Outline>) {
        if let Ok(whole) = self.name.child_path(&entry.path) {
            let at = (Arc::clone(&self.assembly), entry.path.clone());
            self.fetcher.state.library.share_early(whole, at, Arc::clone(outline));
        }
    }
}

/// How fetching a folder begins.
enum Begun {
    /// It is there under this name.
    Here(FileName),
    /// It is put together here.
    Assembly(Arc<Assembly>),
}

/// Which name a folder has, or may have.
enum Named {
    /// That with this number is free.
    Free(u32),
    /// The folder is there under this one.
    Itself(FileName),
}

impl Fetcher {
    pub(super) async fn fetch_folder(
        &self,
        told: &Told,
        turn: &Arc<Turn>,
    ) -> Result<ToldFetched, ToldFailed> {
        let name = name_of(told)?;
        let assembly = match self.assembly(told.hash, turn).await? {
            Begun::Here(name) => return Ok(there(told, name)),
            Begun::Assembly(assembly) => assembly,
        };
        let fetched = self.assembled(told, &name, &assembly, turn).await;
        if fetched.is_err() {
            // It is not tried again. Whoever comes back is told, and begins anew.
            blocking(move || {
                assembly.abandon();
                Ok(())
            })
            .await?;
        }
        fetched
    }

    /// Where it is put together, unless it is there. Nobody else is at it then.
    async fn assembly(&self, hash: ContentHash, turn: &Turn) -> Result<Begun, ToldFailed> {
        let mut pause = PAUSES.0;
        loop {
            let library = Arc::clone(&self.state.library);
            let opening = move || match library.find_folder_synced(hash) {
                Some(name) => {
                    // What an earlier try has left is not needed any more.
                    Assembly::clear(library.path(), hash);
                    Ok(Begun::Here(name))
                }
                None => {
                    let assembly = Assembly::open(library.path(), hash)?.keeping_free();
                    Ok(Begun::Assembly(Arc::new(assembly)))
                }
            };
            match blocking(opening).await {
                // The same folder was told twice, and is being fetched.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut wanting = turn.wanting();
                    wanting.is_nowhere(true);
                    tokio::select! {
                        () = sleep(pause) => {}
                        () = turn.given_up() => return Err(given_up()),
                    }
                    pause = (pause * 3 / 2).min(PAUSES.1);
                }
                begun => return Ok(begun?),
            }
        }
    }

    async fn assembled(
        &self,
        told: &Told,
        name: &FileName,
        assembly: &Arc<Assembly>,
        turn: &Arc<Turn>,
    ) -> Result<ToldFetched, ToldFailed> {
        let number = match self.first_name(told, assembly, name).await? {
            Named::Free(number) => number,
            Named::Itself(own) => return Ok(there(told, own)),
        };
        let liars = Arc::default();
        let manifest = Arc::new(self.list(told, assembly, &liars, turn).await?);
        let own = numbered(name, number, true)?;
        for entry in manifest.entries() {
            own.child_path(&entry.path).map_err(|why| failed("bad name", why.to_string()))?;
        }
        let early = Early { fetcher: self, name: own };
        let fetching = Fetching {
            fetcher: self.clone(),
            assembly: Arc::clone(assembly),
            name: early.name.clone(),
            liars: Arc::clone(&liars),
            connections: self.connections(),
            turn: Arc::clone(turn),
        };
        let gathered = gather(assembly, &manifest, watch::Sender::default(), fetching).await?;
        let own = self.finish(assembly, &manifest, name, number).await?;
        let (library, adopting) = (Arc::clone(&self.state.library), own.clone());
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
            let own = numbered(name, number, true)?;
            let (asking, as_name) = (Arc::clone(assembly), own.clone());
            if !blocking(move || Ok(asking.is_taken(&as_name))).await? {
                return Ok(Named::Free(number));
            }
            // It may have been put there before its peer was killed, and not been looked at since.
            let (library, as_name) = (Arc::clone(&self.state.library), own.clone());
            let (size, hash) = (told.size, told.hash);
            if blocking(move || Ok(library.is_folder(&as_name, size, hash))).await? {
                assembly.abandon();
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
        turn: &Arc<Turn>,
    ) -> Result<Manifest, ToldFailed> {
        let hash = told.hash;
        let read = |assembly: &Arc<Assembly>| {
            let assembly = Arc::clone(assembly);
            async move { blocking(move || assembly.list(hash)).await.map_err(|why| of_io(&why)) }
        };
        let list = match read(assembly).await? {
            Some(list) => list,
            None => {
                let target = assembly.list_target()?;
                // It is small, and nobody can begin without it: nobody waits for others.
                let turn = Arc::clone(turn);
                let (size, many, by_itself, connections) = (None, false, false, None);
                let wanted = Wanted { hash, size, target, many, by_itself, turn, connections };
                self.content(&wanted, liars, &watch::Sender::default()).await.map_err(final_of)?;
                let list = read(assembly).await?;
                list.ok_or_else(|| failed("cannot write", "the list of its files is gone"))?
            }
        };
        let manifest = Manifest::read(&list).map_err(|why| why.to_string());
        let manifest = manifest.and_then(|manifest| match manifest.bytes() == told.size {
            true => Ok(manifest),
            false => Err(format!("it has {} bytes, not {}", manifest.bytes(), told.size)),
        });
        manifest.map_err(|why| failed("bad folder", why))
    }

    /// What the peer shares already is copied.
    async fn copied(
        &self,
        assembly: &Arc<Assembly>,
        entry: &Entry,
        durable: Durable,
    ) -> Option<Fetched> {
        let (library, assembly) = (Arc::clone(&self.state.library), Arc::clone(assembly));
        let entry = entry.clone();
        let copying = move || {
            let content = library.own_content(entry.hash);
            let Some((file, _)) = content.filter(|(_, outline)| outline.size() == entry.size)
            else {
                return Ok(None);
            };
            assembly.copy(file, &entry, durable).map(Some)
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
            let own = numbered(name, number, true)?;
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
}

/// The folder is there, and was before.
fn there(told: &Told, name: FileName) -> ToldFetched {
    let (from, liars, is_folder) = (Vec::new(), Vec::new(), true);
    ToldFetched { name, kept: told.size, from, liars, is_folder }
}

/// In an assembly no name is taken: what is there goes. What the shared folder has is no part of it yet.
fn final_of(why: NotHere) -> ToldFailed {
    match why {
        NotHere::Failed(why) => why,
        NotHere::Taken | NotHere::Here(_) => of_io(&io::ErrorKind::AlreadyExists.into()),
    }
}

/// The folder's name, without `/`.
fn name_of(told: &Told) -> Result<FileName, ToldFailed> {
    if told.size > FILE_BYTES_MAX {
        return Err(failed("too large", "it is larger than a folder may be (1 TiB)"));
    }
    let text = told.name.strip_suffix('/').unwrap_or(&told.name);
    let name = FileName::new(text).map_err(|why| failed("bad name", why.to_string()))?;
    if name.as_str() != text || name.base() != text {
        return Err(failed("bad name", "its name has folders in it"));
    }
    name.own_shown().map_err(|why| failed("bad name", why.to_string()))
}

fn next(number: u32) -> Result<u32, ToldFailed> {
    if number >= NAMES_TRIED {
        return Err(failed("name taken", "all names like it are taken"));
    }
    Ok(number + 1)
}
