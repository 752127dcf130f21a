//! Fetching the files of a folder into its assembly: several at once, each content once, what is there already not again.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rand::seq::SliceRandom as _;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::assembly::{Assembly, Here};
use crate::blocking::blocking;
use crate::content::{ContentHash, Outline};
use crate::fetch::{Failed, Fetched, Holder, Progress, Target};
use crate::limits::FOLDER_AT_ONCE;
use crate::manifest::{Entry, Manifest};

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Gathered {
    /// Bytes that were there, or that are the content of another file of the folder, too.
    pub kept: u64,
    /// Bytes that were fetched now.
    pub fetched: u64,
    /// What each holder has given of that.
    pub from: Vec<(Holder, u64)>,
    /// Who was given up, and why; each once.
    pub dropped: Vec<(Holder, Failed)>,
    /// Every file, and what it was verified by.
    pub files: Vec<Here>,
}

impl Gathered {
    fn add(&mut self, fetched: &Fetched) {
        self.kept += fetched.kept;
        self.fetched += fetched.fetched;
        for (holder, bytes) in &fetched.from {
            match self.from.iter_mut().find(|(other, _)| is_same(other, holder)) {
                Some((_, sum)) => *sum += bytes,
                None => self.from.push((holder.clone(), *bytes)),
            }
        }
        for (holder, why) in &fetched.dropped {
            if !self.dropped.iter().any(|(other, _)| is_same(other, holder)) {
                self.dropped.push((holder.clone(), why.clone()));
            }
        }
    }
}

/// A holder calls each file otherwise.
fn is_same(one: &Holder, other: &Holder) -> bool {
    one.fingerprint == other.fingerprint
}

/// How far all of it is.
struct Tally {
    here: Mutex<u64>,
    size: u64,
    progress: watch::Sender<Progress>,
}

impl Tally {
    fn moved(&self, before: u64, now: u64) {
        let mut here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        *here = (*here + now).saturating_sub(before);
        self.progress.send_replace(Progress { size: self.size, here: *here });
    }
}

/// Fetches all files of a folder that are not there yet. `fetch` fetches one to where it belongs; `came` hears of each file that
/// is there. May be dropped: what is right of it is used by another try.
///
/// # Errors
/// The first one of `fetch`, or of the disk.
pub async fn gather<F, Fetching, E>(
    assembly: &Arc<Assembly>,
    manifest: &Arc<Manifest>,
    progress: watch::Sender<Progress>,
    fetch: F,
    came: impl Fn(&Entry, &Arc<Outline>),
) -> Result<Gathered, E>
where
    F: Fn(Entry, Target, watch::Sender<Progress>) -> Fetching,
    Fetching: Future<Output = Result<Fetched, E>> + Send + 'static,
    E: From<io::Error> + Send + 'static,
{
    let (preparing, list) = (Arc::clone(assembly), Arc::clone(manifest));
    let here = blocking(move || preparing.prepare(&list)).await?;
    let mut gathered = Gathered::default();
    let tally = Arc::new(Tally { here: Mutex::new(0), size: manifest.bytes(), progress });
    // Files by what is in them: the first one is fetched, the others are copies.
    let mut missing: HashMap<ContentHash, Vec<Entry>> = HashMap::new();
    let known: HashMap<&str, &Arc<Outline>> =
        here.iter().map(|(path, outline)| (path.as_str(), outline)).collect();
    let mut sources: HashMap<ContentHash, Entry> = HashMap::new();
    for entry in manifest.entries() {
        match known.get(entry.path.as_str()) {
            None => missing.entry(entry.hash).or_default().push(entry.clone()),
            Some(outline) => {
                sources.insert(entry.hash, entry.clone());
                gathered.kept += entry.size;
                tally.moved(0, entry.size);
                came(entry, outline);
                gathered.files.push((entry.path.clone(), Arc::clone(outline)));
            }
        }
    }
    let mut waiting: Vec<Vec<Entry>> = Vec::new();
    for (hash, entries) in missing {
        match sources.get(&hash) {
            Some(from) => copy(assembly, from, &entries, &tally, &came, &mut gathered).await?,
            None => waiting.push(entries),
        }
    }
    // Many may fetch the same folder at once: each begins elsewhere, and has something that others have not.
    waiting.shuffle(&mut rand::rng());
    let mut running: JoinSet<Result<(Vec<Entry>, Fetched), E>> = JoinSet::new();
    loop {
        while running.len() < FOLDER_AT_ONCE
            && let Some(entries) = waiting.pop()
        {
            let Some(first) = entries.first().cloned() else { continue };
            let (told, heard) = watch::channel(Progress::default());
            let fetching = fetch(first.clone(), assembly.target(&first.path), told);
            let tally = Arc::clone(&tally);
            running.spawn(async move {
                let fetched = followed(fetching, heard, first.size, &tally).await?;
                Ok((entries, fetched))
            });
        }
        let Some(done) = running.join_next().await else { break };
        let (entries, fetched) = match done.map_err(io::Error::other)? {
            Ok(done) => done,
            Err(why) => {
                // Their files are free again when this returns.
                running.shutdown().await;
                return Err(why);
            }
        };
        gathered.add(&fetched);
        let Some((first, copies)) = entries.split_first() else { continue };
        came(first, &fetched.outline);
        gathered.files.push((first.path.clone(), Arc::clone(&fetched.outline)));
        copy(assembly, first, copies, &tally, &came, &mut gathered).await?;
    }
    Ok(gathered)
}

async fn followed<E>(
    fetching: impl Future<Output = Result<Fetched, E>>,
    mut heard: watch::Receiver<Progress>,
    size: u64,
    tally: &Tally,
) -> Result<Fetched, E> {
    let mut fetching = std::pin::pin!(fetching);
    let mut before = 0;
    loop {
        tokio::select! {
            fetched = &mut fetching => {
                tally.moved(before, if fetched.is_ok() { size } else { 0 });
                return fetched;
            }
            Ok(()) = heard.changed() => {
                let now = heard.borrow_and_update().here.min(size);
                tally.moved(before, now);
                before = now;
            }
        }
    }
}

async fn copy(
    assembly: &Arc<Assembly>,
    from: &Entry,
    to: &[Entry],
    tally: &Tally,
    came: &impl Fn(&Entry, &Arc<Outline>),
    gathered: &mut Gathered,
) -> io::Result<()> {
    for entry in to {
        let (assembly, from, to) = (Arc::clone(assembly), from.path.clone(), entry.clone());
        let outline = blocking(move || assembly.copy(assembly.read(&from)?, &to)).await?;
        let outline = Arc::new(outline);
        gathered.kept += entry.size;
        tally.moved(0, entry.size);
        came(entry, &outline);
        gathered.files.push((entry.path.clone(), outline));
    }
    Ok(())
}
