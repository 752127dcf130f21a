//! Fetching what a group was told of into the peer's folder: as many members do at once, from whoever has it by now and from
//! each other; tried again until it is there, or cannot be.

use std::collections::HashSet;
use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::seq::SliceRandom as _;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use super::state::State;
use super::turns::Turn;
use crate::blocking::blocking;
use crate::content::ContentHash;
use crate::fetch::{
    self, Connections, Durable, Failed, Fetched, Holder, Job, Many, NotFetched, Progress, Target,
};
use crate::identity::Fingerprint;
use crate::limits::{FILE_BYTES_MAX, MANIFEST_BYTES_MAX, PATIENCE, PATIENCE_SPARED};
use crate::names::FileName;
use crate::node::NodeError;
use crate::place;
use crate::right::Right;

/// The shortest and the longest pause before it is tried again.
pub(super) const PAUSES: (Duration, Duration) =
    (Duration::from_millis(200), Duration::from_secs(10));
/// The same before it is looked for others that have it, while it is being fetched.
const FIND_PAUSES: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(5));
/// A capability is used again for so long; it is good for longer.
const CAPABILITY_KEPT: Duration = Duration::from_secs(300);
/// Names that are tried where others are taken: `a (2).txt` and so on.
pub(super) const NAMES_TRIED: u32 = 100;

/// What a group was told.
#[derive(Clone, Debug)]
pub struct Told {
    /// The file's name, a folder's with `/` at its end; anything, as it comes from outside.
    pub name: String,
    /// Its bytes, as was said; of a folder, those of all files in it.
    pub size: u64,
    /// Its content; of a folder, the list of its files.
    pub hash: ContentHash,
}

/// It is in the folder, synced and verified.
#[derive(Clone, Debug)]
pub struct ToldFetched {
    /// Under this name, which is another one than was told where that was taken.
    pub name: FileName,
    /// Bytes that were there already: all of them where the whole file was.
    pub kept: u64,
    /// What each holder has given.
    pub from: Vec<(Holder, u64)>,
    /// Who has sent wrong data.
    pub liars: Vec<Holder>,
    /// It is a folder, all of it.
    pub is_folder: bool,
}

/// Why it is not, and will not be.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ToldFailed {
    /// A few words for the receipt: `no space`, `bad name`, `name taken`, `too large`, `no holders`, `bad folder`,
    /// `cannot write`.
    pub code: &'static str,
    /// The same for people; safe to show.
    pub message: String,
}

impl From<io::Error> for ToldFailed {
    fn from(error: io::Error) -> Self {
        of_io(&error)
    }
}

/// Fetches into the folder of a running peer.
#[derive(Clone)]
pub struct Fetcher {
    pub(super) state: Arc<State>,
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").finish_non_exhaustive()
    }
}

/// A content that is wanted.
pub(super) struct Wanted {
    pub hash: ContentHash,
    /// Its bytes, where they are known: those of a folder's list are not.
    pub size: Option<u64>,
    pub target: Target,
    /// Others fetch it, too, and from here.
    pub many: bool,
    /// It is a file by itself, no part of a folder: where the shared folder has it by now, it is there.
    pub by_itself: bool,
    /// That of what it is a part of.
    pub turn: Arc<Turn>,
    /// Those of other contents that are fetched with it; of one that is fetched by itself, new ones at each try.
    pub connections: Option<Arc<Connections>>,
}

impl Wanted {
    fn fits(&self, size: u64) -> bool {
        self.size.map_or(size <= MANIFEST_BYTES_MAX as u64, |wanted| wanted == size)
    }
}

/// Why a content is not here.
pub(super) enum NotHere {
    /// Something else has its name.
    Taken,
    /// It is: in the folder under this name, synced and shared, by whomever.
    Here(FileName),
    /// It will not be.
    Failed(ToldFailed),
}

impl From<ToldFailed> for NotHere {
    fn from(why: ToldFailed) -> Self {
        Self::Failed(why)
    }
}

/// The pauses between tries, which grow, and their end when nothing has come for long.
struct Waiting {
    /// Bytes that were here at most.
    here: u64,
    pause: Duration,
    until: Instant,
    /// The end in any case.
    at_last: Instant,
}

impl Waiting {
    fn new() -> Self {
        let now = Instant::now();
        Self { here: 0, pause: PAUSES.0, until: now + PATIENCE, at_last: now + PATIENCE_SPARED }
    }

    /// So many bytes are here: more than ever is a new beginning. Whether it is.
    fn came(&mut self, here: u64) -> bool {
        let is_more = here > self.here;
        if is_more {
            *self = Self { here, ..Self::new() };
        }
        is_more
    }

    /// Somebody has it and gives it to others just now: its turn comes, but not for ever.
    fn for_its_turn(&mut self) {
        self.until = (Instant::now() + PATIENCE).min(self.at_last);
    }

    /// Somebody else here is fetching it, who gives up when that takes too long.
    fn for_another(&mut self) {
        self.until = Instant::now() + PATIENCE;
    }

    async fn pause(&mut self, turn: &Turn) -> Result<(), ToldFailed> {
        if Instant::now() > self.until {
            return Err(failed("no holders", "for a long time nobody was there who has it"));
        }
        // Not all who wait for their turn come back at once.
        let pause = self.pause.mul_f64(rand::random_range(0.5..1.0));
        self.pause = (self.pause * 3 / 2).min(PAUSES.1);
        tokio::select! {
            () = sleep(pause) => Ok(()),
            () = turn.given_up() => Err(given_up()),
        }
    }
}

/// Others wait, and nobody has this one.
pub(super) fn given_up() -> ToldFailed {
    failed("no holders", "nobody was there who has it, and there was no room for others")
}

pub(super) fn failed(code: &'static str, message: impl Into<String>) -> ToldFailed {
    ToldFailed { code, message: message.into() }
}

pub(super) fn locked(liars: &Mutex<Vec<Holder>>) -> MutexGuard<'_, Vec<Holder>> {
    liars.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who has a content, and the right to fetch it.
type Sources = (Vec<Holder>, String);

/// The right to fetch, until it is asked for anew.
pub(super) struct Kept {
    capability: String,
    until: Instant,
}

impl Fetcher {
    pub(super) const fn new(state: Arc<State>) -> Self {
        Self { state }
    }

    /// Whether somebody is logged in at the peer's node.
    ///
    /// # Errors
    /// [`NodeError`], also where what is kept cannot be read.
    pub async fn is_logged_in(&self) -> Result<bool, NodeError> {
        Ok(self.state.token().await?.is_some())
    }

    /// Fetches, however often that has to be tried, in its turn. May be dropped: what is right of it by then is kept for another
    /// try.
    ///
    /// # Errors
    /// [`ToldFailed`]; nothing of it stays in the folder then.
    pub async fn fetch(&self, told: &Told, turn: &Arc<Turn>) -> Result<ToldFetched, ToldFailed> {
        if told.name.ends_with('/') {
            self.fetch_folder(told, turn).await
        } else {
            self.fetch_file(told, turn).await
        }
    }

    async fn fetch_file(&self, told: &Told, turn: &Arc<Turn>) -> Result<ToldFetched, ToldFailed> {
        let name = name_of(told)?;
        let wanting = self.state.unfinished.want(told.hash);
        let fetched = self.file_named(told, &name, turn).await;
        drop(wanting);
        self.clear_part(told.hash).await?;
        fetched
    }

    /// A content is there or given up: what an earlier try has left goes, unless somebody else here wants it. Where it is being
    /// given to others it goes when that has ended, or with another life.
    pub(super) async fn clear_part(&self, hash: ContentHash) -> io::Result<()> {
        if cleared(&self.state, hash).await? {
            return Ok(());
        }
        let (state, until) = (Arc::downgrade(&self.state), Instant::now() + PATIENCE);
        tokio::spawn(async move {
            let mut pause = PAUSES.0;
            while Instant::now() < until {
                sleep(pause).await;
                pause = (pause * 3 / 2).min(PAUSES.1);
                let Some(state) = state.upgrade() else { return };
                if cleared(&state, hash).await.unwrap_or(true) {
                    return;
                }
            }
        });
        Ok(())
    }

    /// Under the first of its names that is free, or that it has already.
    async fn file_named(
        &self,
        told: &Told,
        name: &FileName,
        turn: &Arc<Turn>,
    ) -> Result<ToldFetched, ToldFailed> {
        let (library, hash, told_size) = (&self.state.library, told.hash, told.size);
        let liars = Mutex::default();
        let there = |name| {
            let (from, liars, is_folder) = (Vec::new(), locked(&liars).clone(), false);
            ToldFetched { name, kept: told_size, from, liars, is_folder }
        };
        for number in 1..=NAMES_TRIED {
            let own = numbered(name, number, false)?;
            let folder = library.dir()?;
            let (keep_free, durable) = (place::bytes_to_keep(&folder), Durable::Now);
            let target = Target { folder, name: own.clone(), replace: false, durable, keep_free };
            let (size, turn) = (Some(told_size), Arc::clone(turn));
            let (many, by_itself, connections) = (true, true, None);
            let wanted = Wanted { hash, size, target, many, by_itself, turn, connections };
            match self.content(&wanted, &liars, &watch::Sender::default()).await {
                Ok(fetched) => {
                    self.adopt(&own, &fetched).await;
                    let Fetched { kept, from, .. } = fetched;
                    return Ok(ToldFetched { kept, from, ..there(own) });
                }
                Err(NotHere::Failed(why)) => return Err(why),
                Err(NotHere::Here(name)) => return Ok(there(name)),
                Err(NotHere::Taken) => {
                    let (looking, as_name) = (Arc::clone(library), own.clone());
                    if blocking(move || Ok(looking.is_file(&as_name, told_size, hash))).await? {
                        return Ok(there(own));
                    }
                }
            }
        }
        Err(failed("name taken", "all names like it are taken"))
    }

    async fn adopt(&self, name: &FileName, fetched: &Fetched) {
        let (library, name) = (Arc::clone(&self.state.library), name.clone());
        let outline = Arc::clone(&fetched.outline);
        if let Err(error) = blocking(move || library.adopt(&name, outline)).await {
            tracing::warn!("what was fetched is not shared yet: {error}");
        }
    }

    /// Fetches one content, however often that has to be tried; it is not shared yet.
    pub(super) async fn content(
        &self,
        wanted: &Wanted,
        liars: &Mutex<Vec<Holder>>,
        progress: &watch::Sender<Progress>,
    ) -> Result<Fetched, NotHere> {
        let (mut kept, mut waiting) = (None, Waiting::new());
        let (turn, mut wanting) = (&wanted.turn, wanted.turn.wanting());
        let lied = |dropped: Vec<(Holder, Failed)>| {
            let lied = dropped.into_iter().filter(|(_, why)| why.is_lie());
            locked(liars).extend(lied.map(|(holder, _)| holder));
        };
        loop {
            if wanted.by_itself
                && let Some(name) = self.found_here(wanted.hash).await?
            {
                return Err(NotHere::Here(name));
            }
            let known = locked(liars).iter().map(|liar| liar.fingerprint).collect();
            let mut found = tokio::select! {
                found = self.sources(wanted, &known, &mut kept) => found.unwrap_or_default(),
                () = turn.given_up() => return Err(given_up().into()),
            };
            let mut held = None;
            if found.is_some() {
                wanting.is_nowhere(false);
                let (turn, at_once) = turn.take().await;
                if !at_once {
                    // Others may have it by now.
                    found = self.sources(wanted, &known, &mut kept).await.unwrap_or_default();
                }
                held = Some(turn);
            }
            // Nobody has it yet, or the node cannot be asked just now.
            if let Some(sources) = found {
                let spared = Arc::default();
                match self.tried(wanted, sources, &known, progress.clone(), &spared).await {
                    Ok(mut fetched) => {
                        lied(std::mem::take(&mut fetched.dropped));
                        turn.came();
                        return Ok(fetched);
                    }
                    Err(NotFetched::NoHolders { dropped, here }) => {
                        lied(dropped);
                        if waiting.came(here) {
                            turn.came();
                        }
                        if spared.load(Ordering::Relaxed) {
                            waiting.for_its_turn();
                        }
                    }
                    Err(NotFetched::Io(error)) => match error.kind() {
                        io::ErrorKind::AlreadyExists => return Err(NotHere::Taken),
                        // The same was told twice, and is being fetched.
                        io::ErrorKind::WouldBlock => waiting.for_another(),
                        _ => return Err(of_io(&error).into()),
                    },
                    Err(NotFetched::TooLarge) => {
                        let why = failed("too large", "it is larger than a file may be");
                        return Err(why.into());
                    }
                }
            }
            wanting.is_nowhere(true);
            drop(held);
            waiting.pause(turn).await?;
        }
    }

    /// The name of a file in the folder that has this content; a group may be told of one several times.
    async fn found_here(&self, hash: ContentHash) -> Result<Option<FileName>, ToldFailed> {
        let library = Arc::clone(&self.state.library);
        let found = blocking(move || Ok(library.find_synced(hash))).await?;
        Ok(found.map(|file| file.name))
    }

    /// Tries once to fetch a content of these. It is not shared yet.
    async fn tried(
        &self,
        wanted: &Wanted,
        (holders, capability): Sources,
        liars: &HashSet<Fingerprint>,
        progress: watch::Sender<Progress>,
        spared: &Arc<AtomicBool>,
    ) -> Result<Fetched, NotFetched> {
        let state = &self.state;
        let connections = wanted.connections.clone().unwrap_or_else(|| self.connections());
        let right = self.right(wanted.hash, &capability);
        let (found, more) = mpsc::channel(1);
        let many =
            Many { unfinished: Arc::clone(&state.unfinished), more, spared: Arc::clone(spared) };
        let many = wanted.many.then_some(many);
        let (hash, target) = (wanted.hash, wanted.target.clone());
        let job = Job { hash, holders, right, connections, target, many };
        tokio::select! {
            fetched = fetch::fetch(job, progress) => fetched,
            never = self.find_more(wanted, liars, found) => match never {},
        }
    }

    /// The right to fetch a content, as long as that takes.
    fn right(&self, hash: ContentHash, capability: &str) -> Arc<Right> {
        let fetcher = self.clone();
        Right::new(capability, move || {
            let state = Arc::clone(&fetcher.state);
            Box::pin(async move {
                let token = state.token().await.ok()??;
                let own = state.identity.fingerprint();
                state.node.capability(&token, hash, own).await.ok()
            })
        })
    }

    /// Connections for what is fetched together.
    pub(super) fn connections(&self) -> Arc<Connections> {
        Connections::new(Arc::clone(&self.state.identity))
    }

    /// Who has it, or some of it, and the right to fetch it; `None` where nobody is logged in, or nobody has it.
    async fn sources(
        &self,
        wanted: &Wanted,
        liars: &HashSet<Fingerprint>,
        kept: &mut Option<Kept>,
    ) -> Result<Option<Sources>, NodeError> {
        let state = &self.state;
        let Some(token) = state.token().await? else { return Ok(None) };
        let holders = self.holders(&token, wanted, liars).await?;
        if holders.is_empty() {
            return Ok(None);
        }
        let now = Instant::now();
        let capability = match kept.take().filter(|kept| now < kept.until) {
            Some(kept) => kept,
            None => {
                let own = state.identity.fingerprint();
                let capability = state.node.capability(&token, wanted.hash, own).await?;
                Kept { capability, until: now + CAPABILITY_KEPT }
            }
        };
        let text = capability.capability.clone();
        *kept = Some(capability);
        Ok(Some((holders, text)))
    }

    /// Who else has it, or some of it, in no order.
    async fn holders(
        &self,
        token: &str,
        wanted: &Wanted,
        liars: &HashSet<Fingerprint>,
    ) -> Result<Vec<Holder>, NodeError> {
        let lines = self.state.node.holders(token, wanted.hash).await?;
        let holders = lines.into_iter().filter_map(|line| {
            let fingerprint = tertulia_wire::sharing::bytes_of_hex(&line.fingerprint)?;
            let (user, address, name, size) = (line.user, line.address, line.name, line.size);
            let (fingerprint, unfinished) = (Fingerprint(fingerprint), line.unfinished);
            Some(Holder { user, address, fingerprint, name, size, unfinished })
        });
        let own = self.state.identity.fingerprint();
        let is_other = |holder: &Holder| {
            holder.fingerprint != own
                && wanted.fits(holder.size)
                && !liars.contains(&holder.fingerprint)
        };
        let mut holders: Vec<Holder> = holders.filter(is_other).collect();
        holders.shuffle(&mut rand::rng());
        Ok(holders)
    }

    /// Looks for others that have it by now, or some of it, as long as that can be used.
    async fn find_more(
        &self,
        wanted: &Wanted,
        liars: &HashSet<Fingerprint>,
        found: mpsc::Sender<Vec<Holder>>,
    ) -> Infallible {
        let mut pause = FIND_PAUSES.0;
        while let Ok(room) = found.reserve().await {
            sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
            pause = (pause * 3 / 2).min(FIND_PAUSES.1);
            let Ok(Some(token)) = self.state.token().await else { continue };
            if let Ok(holders) = self.holders(&token, wanted, liars).await {
                room.send(holders);
            }
        }
        std::future::pending().await
    }
}

/// Whether nothing is left to clear of a content: by now, or because somebody wants it.
async fn cleared(state: &Arc<State>, hash: ContentHash) -> io::Result<bool> {
    let state = Arc::clone(state);
    blocking(move || Ok(state.unfinished.is_wanted(hash) || state.library.clear_part(hash))).await
}

/// The file's name, which has no folders in it.
fn name_of(told: &Told) -> Result<FileName, ToldFailed> {
    if told.size > FILE_BYTES_MAX {
        return Err(failed("too large", "it is larger than a file may be (1 TiB)"));
    }
    let name = FileName::new(&told.name).map_err(|why| failed("bad name", why.to_string()))?;
    if name.as_str() != told.name || name.base() != told.name {
        return Err(failed("bad name", "its name has folders in it"));
    }
    name.own_shown().map_err(|why| failed("bad name", why.to_string()))?;
    Ok(name)
}

/// `a.txt`, `a (2).txt`, …; of a folder, in whose name a dot begins nothing, `a.b (2)`.
pub(super) fn numbered(
    name: &FileName,
    number: u32,
    is_folder: bool,
) -> Result<FileName, ToldFailed> {
    if number == 1 {
        return Ok(name.clone());
    }
    let base = name.base();
    let (stem, extension) = match base.rsplit_once('.') {
        Some((stem, extension)) if !is_folder => (stem, format!(".{extension}")),
        _ => (base, String::new()),
    };
    let numbered = FileName::new(&format!("{stem} ({number}){extension}"));
    numbered.map_err(|why| failed("bad name", why.to_string()))
}

/// What the operating system would not do, in the words of a receipt.
pub(super) fn of_io(error: &io::Error) -> ToldFailed {
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "no space"
        }
        _ => "cannot write",
    };
    ToldFailed { code, message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_taken_are_numbered() {
        let of = |text: &str, number, is_folder| {
            numbered(&FileName::new(text).unwrap(), number, is_folder).unwrap()
        };
        let named = |text, number| of(text, number, false);
        assert_eq!(named("a.tar.gz", 1).as_str(), "a.tar.gz");
        assert_eq!(named("a.tar.gz", 2).as_str(), "a.tar (2).gz");
        assert_eq!(named("LEEME", 3).as_str(), "LEEME (3)");
        assert_eq!(of("fotos 1.2", 2, true).as_str(), "fotos 1.2 (2)");
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_that_another_one_takes_does_not_count() {
        let mut waiting = Waiting::new();
        let turn = Turn::new(&Arc::new(tokio::sync::Semaphore::new(1)));
        for _ in 0..3 {
            tokio::time::advance(PATIENCE - PAUSES.1).await;
            waiting.for_another();
        }
        waiting.pause(&turn).await.unwrap();
        tokio::time::advance(PATIENCE).await;
        assert_eq!(waiting.pause(&turn).await.unwrap_err().code, "no holders");
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_it_and_gives_it_to_others_is_waited_for_but_not_for_ever() {
        let mut waiting = Waiting::new();
        let turn = Turn::new(&Arc::new(tokio::sync::Semaphore::new(1)));
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE_SPARED - PATIENCE {
            tokio::time::advance(PATIENCE - PAUSES.1).await;
            waiting.for_its_turn();
            waiting.pause(&turn).await.unwrap();
        }
        tokio::time::advance(PATIENCE).await;
        waiting.for_its_turn();
        assert_eq!(waiting.pause(&turn).await.unwrap_err().code, "no holders");
        // What comes is a new beginning.
        assert!(waiting.came(1));
        waiting.pause(&turn).await.unwrap();
    }

    #[test]
    fn a_full_disk_has_its_own_word() {
        assert_eq!(of_io(&io::ErrorKind::StorageFull.into()).code, "no space");
        assert_eq!(of_io(&io::ErrorKind::PermissionDenied.into()).code, "cannot write");
    }
}
