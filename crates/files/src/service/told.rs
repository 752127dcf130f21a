//! Fetching what a group was told of into the peer's folder: as many members do at once, from whoever has it by now and from
//! each other; tried again until it is there, or cannot be.

use std::collections::HashSet;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rand::seq::SliceRandom as _;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use super::state::State;
use crate::content::{ContentHash, outline_of};
use crate::fetch::{
    self, Connections, Failed, Fetched, Holder, Job, Many, NotFetched, Progress, Target,
};
use crate::identity::Fingerprint;
use crate::limits::{FILE_BYTES_MAX, MANIFEST_BYTES_MAX, PATIENCE};
use crate::names::FileName;
use crate::node::NodeError;
use crate::place;
use crate::right::Right;

/// The shortest and the longest pause before it is tried again.
pub(super) const PAUSES: (Duration, Duration) =
    (Duration::from_millis(200), Duration::from_secs(5));
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
    /// A few words for the receipt: `no space`, `bad name`, `too large`, `no holders`, `bad folder`, `cannot write`.
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
}

impl Wanted {
    fn fits(&self, size: u64) -> bool {
        self.size.map_or(size <= MANIFEST_BYTES_MAX as u64, |wanted| wanted == size)
    }
}

pub(super) fn is_liar((_, why): &(Holder, Failed)) -> bool {
    why.is_lie()
}

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

    /// Fetches, however often that has to be tried. May be dropped: what is right of it by then is kept for another try.
    ///
    /// # Errors
    /// [`ToldFailed`]
    pub async fn fetch(&self, told: &Told) -> Result<ToldFetched, ToldFailed> {
        if told.name.ends_with('/') {
            return self.fetch_folder(told).await;
        }
        let failed = |code, message: String| Err(ToldFailed { code, message });
        if told.size > FILE_BYTES_MAX {
            return failed("too large", "it is larger than a file may be (1 TiB)".to_owned());
        }
        let name = match FileName::new(&told.name).and_then(|name| FileName::new(name.base())) {
            Ok(name) if name.as_str() == told.name => name,
            Ok(_) => return failed("bad name", "its name has folders in it".to_owned()),
            Err(why) => return failed("bad name", why.to_string()),
        };
        if let Some(name) = self.found(told.hash) {
            let liars = Vec::new();
            let (kept, from, is_folder) = (told.size, Vec::new(), false);
            return Ok(ToldFetched { name, kept, from, liars, is_folder });
        }
        let (mut liars, mut kept): (Vec<Holder>, Option<Kept>) = (Vec::new(), None);
        let (mut here, mut pause, mut number) = (0, PAUSES.0, 1);
        let mut until = Instant::now() + PATIENCE;
        loop {
            let target_name = numbered(&name, number)
                .map_err(|why| ToldFailed { code: "bad name", message: why.to_string() })?;
            let known = liars.iter().map(|liar| liar.fingerprint).collect();
            match self.once(told, &target_name, &known, &mut kept).await {
                Ok(Some(fetched)) => {
                    let Fetched { kept, from, dropped, .. } = fetched;
                    liars.extend(dropped.into_iter().filter(is_liar).map(|(holder, _)| holder));
                    let (name, is_folder) = (target_name, false);
                    return Ok(ToldFetched { name, kept, from, liars, is_folder });
                }
                // Nobody has it yet, or the node cannot be asked just now.
                Ok(None) => {}
                Err(NotFetched::NoHolders { dropped, here: now }) => {
                    liars.extend(dropped.into_iter().filter(is_liar).map(|(holder, _)| holder));
                    if now > here {
                        (here, pause, until) = (now, PAUSES.0, Instant::now() + PATIENCE);
                    }
                }
                Err(NotFetched::Io(error)) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if self.is_there(&target_name, told.hash).await {
                        let kept = told.size;
                        return Ok(ToldFetched {
                            name: target_name,
                            kept,
                            from: Vec::new(),
                            liars,
                            is_folder: false,
                        });
                    }
                    number += 1;
                    if number > NAMES_TRIED {
                        return failed("name taken", "all names like it are taken".to_owned());
                    }
                    continue;
                }
                // The same file was told twice, and is being fetched.
                Err(NotFetched::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(NotFetched::Io(error)) => return Err(of_io(&error)),
                Err(NotFetched::TooLarge) => {
                    return failed("too large", "it is larger than a file may be".to_owned());
                }
            }
            if Instant::now() > until {
                let message = "for a long time nobody was there who has it".to_owned();
                return failed("no holders", message);
            }
            // Not all who wait for their turn come back at once.
            sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
            pause = (pause * 3 / 2).min(PAUSES.1);
        }
    }

    /// The name of a file with this content in the folder.
    fn found(&self, hash: ContentHash) -> Option<FileName> {
        let files = self.state.library.files();
        files.into_iter().find(|file| file.outline.hash() == hash).map(|file| file.name)
    }

    /// Whether the file of this name has this content.
    async fn is_there(&self, name: &FileName, hash: ContentHash) -> bool {
        let folder = self.state.library.path().to_owned();
        let path = folder.join(name.base());
        let is_it = move || {
            let is_plain = std::fs::symlink_metadata(&path).is_ok_and(|data| data.is_file());
            let file = std::fs::File::open(&path).ok().filter(|_| is_plain);
            let Some(file) = file else { return false };
            // Its peer may have been killed before the file or its name was synced; it is confirmed now.
            outline_of(&file).is_ok_and(|it| it.hash() == hash)
                && place::sync_content(&file).is_ok()
                && place::sync_folder(&folder).is_ok()
        };
        tokio::task::spawn_blocking(is_it).await.unwrap_or(false)
    }

    /// Tries once; `None` where there was nobody to ask.
    async fn once(
        &self,
        told: &Told,
        name: &FileName,
        liars: &HashSet<Fingerprint>,
        kept: &mut Option<Kept>,
    ) -> Result<Option<Fetched>, NotFetched> {
        let target = Target {
            folder: self.state.library.path().to_owned(),
            name: name.clone(),
            replace: false,
        };
        let wanted = Wanted { hash: told.hash, size: Some(told.size), target, many: true };
        let fetched = self.tried(&wanted, liars, kept, watch::Sender::default()).await?;
        let Some(fetched) = fetched else { return Ok(None) };
        let (library, name) = (Arc::clone(&self.state.library), name.clone());
        let outline = Arc::clone(&fetched.outline);
        let adopted = tokio::task::spawn_blocking(move || library.adopt(&name, outline)).await;
        if let Ok(Err(error)) = adopted {
            tracing::warn!("what was fetched is not shared yet: {error}");
        }
        Ok(Some(fetched))
    }

    /// Tries once to fetch a content; `None` where there was nobody to ask. It is not shared yet.
    pub(super) async fn tried(
        &self,
        wanted: &Wanted,
        liars: &HashSet<Fingerprint>,
        kept: &mut Option<Kept>,
        progress: watch::Sender<Progress>,
    ) -> Result<Option<Fetched>, NotFetched> {
        let state = &self.state;
        let Ok(Some((holders, capability))) = self.sources(wanted, liars, kept).await else {
            return Ok(None);
        };
        let connections = Connections::new(Arc::clone(&state.identity));
        let right = self.right(wanted.hash, &capability);
        let (found, more) = mpsc::channel(1);
        let many = Many { unfinished: Arc::clone(&state.unfinished), more };
        let many = wanted.many.then_some(many);
        let (hash, target) = (wanted.hash, wanted.target.clone());
        let job = Job { hash, holders, right, connections, target, many };
        tokio::select! {
            fetched = fetch::fetch(job, progress) => fetched.map(Some),
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

    /// Who has it, or some of it, and the right to fetch it; `None` where nobody is logged in, or nobody has it.
    async fn sources(
        &self,
        wanted: &Wanted,
        liars: &HashSet<Fingerprint>,
        kept: &mut Option<Kept>,
    ) -> Result<Option<(Vec<Holder>, String)>, NodeError> {
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

/// `a.txt`, `a (2).txt`, …
pub(super) fn numbered(name: &FileName, number: u32) -> Result<FileName, crate::names::BadName> {
    if number == 1 {
        return Ok(name.clone());
    }
    let base = name.base();
    let (stem, extension) = base.rsplit_once('.').unwrap_or((base, ""));
    let dot = if extension.is_empty() { "" } else { "." };
    FileName::new(&format!("{stem} ({number}){dot}{extension}"))
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
        let named = |text: &str, number| numbered(&FileName::new(text).unwrap(), number).unwrap();
        assert_eq!(named("a.tar.gz", 1).as_str(), "a.tar.gz");
        assert_eq!(named("a.tar.gz", 2).as_str(), "a.tar (2).gz");
        assert_eq!(named("LEEME", 3).as_str(), "LEEME (3)");
    }

    #[test]
    fn a_full_disk_has_its_own_word() {
        assert_eq!(of_io(&io::ErrorKind::StorageFull.into()).code, "no space");
        assert_eq!(of_io(&io::ErrorKind::PermissionDenied.into()).code, "cannot write");
    }
}
