//! Fetching the files of a folder into its assembly: several at once, each content once, what is there already not again.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rand::seq::SliceRandom as _;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::assembly::{Assembly, Here};
use crate::blocking::blocking;
use crate::content::{ContentHash, Outline};
use crate::fetch::{Durable, Failed, Fetched, Holder, Progress, Target};
use crate::limits::{FOLDER_QUESTIONS, SOURCES_AT_ONCE};
use crate::manifest::{Entry, Manifest};
use crate::owing::is_small;

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

/// How the files of a folder are fetched.
pub trait FetchFiles: Clone + Send + Sync + 'static {
    /// What it takes to fetch a content: who has it, and the right to it.
    type Source: Send + 'static;
    /// Why a content was not fetched.
    type Error: From<io::Error> + Send + 'static;

    /// Questions to a holder that a file has under way at once.
    fn questions(&self, entry: &Entry) -> usize;

    /// For each of these contents, in this order, what it takes to fetch it. At most [`SOURCES_AT_ONCE`] at once.
    fn sources(
        &self,
        contents: Vec<ContentHash>,
    ) -> impl Future<Output = Result<Vec<Self::Source>, Self::Error>> + Send;

    /// Fetches one file to where it belongs.
    fn fetch(
        &self,
        entry: Entry,
        source: Self::Source,
        target: Target,
        progress: watch::Sender<Progress>,
    ) -> impl Future<Output = Result<Fetched, Self::Error>> + Send;

    /// A file is there.
    fn came(&self, _entry: &Entry, _outline: &Arc<Outline>) {}
}

/// Fetches all files of a folder that are not there yet. May be dropped: what is right of it is used by another try.
///
/// # Errors
/// The first one of `by`, or of the disk.
pub async fn gather<By: FetchFiles>(
    assembly: &Arc<Assembly>,
    manifest: &Arc<Manifest>,
    progress: watch::Sender<Progress>,
    by: By,
) -> Result<Gathered, By::Error> {
    let (preparing, list) = (Arc::clone(assembly), Arc::clone(manifest));
    let here = blocking(move || preparing.prepare(&list)).await?;
    let tally = Tally { here: Mutex::new(0), size: manifest.bytes(), progress };
    let small = assembly.small_files(manifest);
    let (assembly, gathered) = (Arc::clone(assembly), Gathered::default());
    let mut gathering = Gathering { assembly, small, by, tally: Arc::new(tally), gathered };
    let waiting = gathering.sort_out(manifest, &here).await?;
    gathering.fetch(waiting).await?;
    Ok(gathering.gathered)
}

/// Files with the same content: the first one is fetched, the others are copies.
type Same = Vec<Entry>;

/// What it takes to fetch some of them.
type Sourced<By> = Vec<(Same, <By as FetchFiles>::Source)>;

/// What ended.
enum Ended<By: FetchFiles> {
    Asked(Result<Sourced<By>, By::Error>),
    Fetched(Same, Result<Fetched, By::Error>),
}

struct Gathering<By> {
    assembly: Arc<Assembly>,
    /// When files of one piece are on the disk.
    small: Durable,
    by: By,
    tally: Arc<Tally>,
    gathered: Gathered,
}

impl<By: FetchFiles> Gathering<By> {
    fn put(&mut self, entry: &Entry, outline: &Arc<Outline>) {
        self.by.came(entry, outline);
        self.gathered.files.push((entry.path.clone(), Arc::clone(outline)));
    }

    /// Copies what is there, and says what is missing.
    async fn sort_out(&mut self, manifest: &Manifest, here: &[Here]) -> io::Result<Vec<Same>> {
        let mut missing: HashMap<ContentHash, Same> = HashMap::new();
        let known: HashMap<&str, &Arc<Outline>> =
            here.iter().map(|(path, outline)| (path.as_str(), outline)).collect();
        let mut sources: HashMap<ContentHash, Entry> = HashMap::new();
        for entry in manifest.entries() {
            match known.get(entry.path.as_str()) {
                None => missing.entry(entry.hash).or_default().push(entry.clone()),
                Some(outline) => {
                    sources.insert(entry.hash, entry.clone());
                    self.gathered.kept += entry.size;
                    self.tally.moved(0, entry.size);
                    self.put(entry, outline);
                }
            }
        }
        let mut waiting: Vec<Same> = Vec::new();
        for (hash, entries) in missing {
            match sources.get(&hash) {
                Some(from) => self.copy(from, &entries).await?,
                None => waiting.push(entries),
            }
        }
        // Many may fetch the same folder at once: each begins elsewhere, and has something that others have not.
        waiting.shuffle(&mut rand::rng());
        Ok(waiting)
    }

    /// Asks for the sources of some contents while those before them are being fetched, and fetches as many at once as fit.
    async fn fetch(&mut self, mut waiting: Vec<Same>) -> Result<(), By::Error> {
        let mut ready: VecDeque<(Same, By::Source)> = VecDeque::new();
        let mut running: JoinSet<Ended<By>> = JoinSet::new();
        let (mut is_asking, mut questions) = (false, 0);
        loop {
            if !is_asking && !waiting.is_empty() && ready.len() < SOURCES_AT_ONCE / 2 {
                let lot = waiting.split_off(waiting.len().saturating_sub(SOURCES_AT_ONCE));
                let by = self.by.clone();
                running.spawn(async move { Ended::Asked(sourced(&by, lot).await) });
                is_asking = true;
            }
            while let Some((entries, _)) = ready.front()
                && (questions == 0 || questions + self.questions(entries) <= FOLDER_QUESTIONS)
                && let Some((entries, source)) = ready.pop_front()
            {
                questions += self.questions(&entries);
                self.start(entries, source, &mut running)?;
            }
            let Some(ended) = running.join_next().await else { return Ok(()) };
            let done = match ended.map_err(io::Error::other)? {
                Ended::Asked(sourced) => {
                    is_asking = false;
                    sourced.map(|sourced| ready.extend(sourced))
                }
                Ended::Fetched(entries, fetched) => {
                    questions -= self.questions(&entries);
                    match fetched {
                        Ok(fetched) => self.came(&entries, &fetched).await.map_err(By::Error::from),
                        Err(why) => Err(why),
                    }
                }
            };
            if let Err(why) = done {
                // Their files are free again when this returns.
                running.shutdown().await;
                return Err(why);
            }
        }
    }

    fn durable(&self, entry: &Entry) -> Durable {
        if is_small(entry.size) { self.small } else { Durable::Now }
    }

    fn questions(&self, entries: &[Entry]) -> usize {
        entries.first().map_or(0, |first| self.by.questions(first))
    }

    fn start(
        &self,
        entries: Same,
        source: By::Source,
        running: &mut JoinSet<Ended<By>>,
    ) -> io::Result<()> {
        let Some(first) = entries.first().cloned() else { return Ok(()) };
        let (told, heard) = watch::channel(Progress::default());
        let target = self.assembly.target(&first.path, self.durable(&first))?;
        let (by, tally) = (self.by.clone(), Arc::clone(&self.tally));
        running.spawn(async move {
            let size = first.size;
            let fetching = by.fetch(first, source, target, told);
            let fetched = followed(fetching, heard, size, &tally).await;
            Ended::Fetched(entries, fetched)
        });
        Ok(())
    }

    async fn came(&mut self, entries: &[Entry], fetched: &Fetched) -> io::Result<()> {
        self.gathered.add(fetched);
        let Some((first, copies)) = entries.split_first() else { return Ok(()) };
        self.put(first, &fetched.outline);
        self.copy(first, copies).await
    }

    async fn copy(&mut self, from: &Entry, to: &[Entry]) -> io::Result<()> {
        for entry in to {
            let (assembly, from, to) =
                (Arc::clone(&self.assembly), from.path.clone(), entry.clone());
            let durable = self.durable(entry);
            let copying = move || assembly.copy(assembly.read(&from)?, &to, durable);
            let outline = blocking(copying).await?;
            self.gathered.kept += entry.size;
            self.tally.moved(0, entry.size);
            self.put(entry, &Arc::new(outline));
        }
        Ok(())
    }
}

async fn sourced<By: FetchFiles>(by: &By, lot: Vec<Same>) -> Result<Sourced<By>, By::Error> {
    let hashes = lot.iter().filter_map(|entries| Some(entries.first()?.hash)).collect();
    let sources = by.sources(hashes).await?;
    Ok(lot.into_iter().zip(sources).collect())
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
