//! Fetching a content from all its holders at once: the fastest is asked the most, what is late is asked again elsewhere, who
//! sends a wrong piece is dropped and named.

mod part;
mod plan;
mod source;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

pub use self::part::Target;
pub use self::source::{Failed, Holder};
pub(crate) use self::source::{Source, endpoint};

use self::part::Part;
use self::plan::Plan;
use crate::content::{ContentHash, Outline};
use crate::identity::Identity;
use crate::limits::{FILE_BYTES_MAX, SOURCES_MAX};

/// What is to be fetched.
#[derive(Debug)]
pub struct Job {
    /// The content.
    pub hash: ContentHash,
    /// Who has it.
    pub holders: Vec<Holder>,
    /// The right to fetch it, for `identity`.
    pub capability: String,
    /// What is shown to the holders.
    pub identity: Arc<Identity>,
    /// Where it is to be.
    pub target: Target,
    /// Many fetch it at once: one holder is asked, one whose turn it is to give it to this one.
    pub turn: bool,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the whole; 0 as long as it is not known.
    pub size: u64,
    /// Bytes that are here and right.
    pub here: u64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// What it was verified by.
    pub outline: Arc<Outline>,
    /// Bytes of the whole.
    pub size: u64,
    /// Bytes that an earlier try had left.
    pub kept: u64,
    /// Bytes that were fetched now and used.
    pub fetched: u64,
    /// What each holder has given of that.
    pub from: Vec<(Holder, u64)>,
    /// Who was given up, and why.
    pub dropped: Vec<(Holder, Failed)>,
}

/// Why it was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum NotFetched {
    /// The disk, or the target's name.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Nobody is left who has it; what came is kept for the next try.
    #[error("nobody is left who has it")]
    NoHolders {
        /// Who was given up, and why.
        dropped: Vec<(Holder, Failed)>,
        /// Bytes that are here, for the next try.
        here: u64,
    },
    /// It is larger than a file may be.
    #[error("it is larger than a file may be")]
    TooLarge,
}

/// The longest run that is asked of one holder at once, in pieces.
const RUN_MAX: usize = 16;
/// A run is as long as takes about this much time.
const RUN_TIME: Duration = Duration::from_millis(500);
/// Runs that are on their way from one holder at a time, so that it never waits for a question.
const LANES: usize = 2;

/// How often somebody who has nothing to do looks whether others are late.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Fetches; `progress` is told how far it is.
///
/// # Errors
/// [`NotFetched`]
pub async fn fetch(job: Job, progress: watch::Sender<Progress>) -> Result<Fetched, NotFetched> {
    let Job { hash, mut holders, capability, identity, target, turn } = job;
    holders.truncate(SOURCES_MAX);
    if holders.iter().all(|holder| holder.size > FILE_BYTES_MAX) && !holders.is_empty() {
        return Err(NotFetched::TooLarge);
    }
    let opening = target.clone();
    let part = Arc::new(blocking(move || Part::open(&opening, hash)).await?);
    let mut race =
        Race { hash, capability, identity, turn, dropped: Vec::new(), sources: Vec::new() };
    let (outline, last) = race.prove(&holders).await?;
    let outline = Arc::new(outline);
    let (verifying, by) = (Arc::clone(&part), Arc::clone(&outline));
    let here = blocking(move || verifying.verify(&by)).await?;
    let size = outline.size();
    let mut plan = Plan::new(outline.pieces());
    let mut kept = 0;
    for number in here {
        plan.came(number);
        kept += outline.piece_len(number) as u64;
    }
    let shared = Arc::new(Fetching {
        part: Arc::clone(&part),
        outline,
        table: Mutex::new(Table { plan, here: kept, from: vec![0; holders.len()] }),
        news: Notify::new(),
        begun: Instant::now(),
        progress,
    });
    shared.tell();
    let last_number = shared.outline.pieces() - 1;
    if let Some((prover, content)) = last {
        shared.take(prover, last_number, content).await?;
    }
    race.run(&shared, &holders).await?;
    let dropped =
        race.dropped.into_iter().map(|(holder, why)| (holders[holder].clone(), why)).collect();
    let (from, here, is_done) = {
        let table = shared.table();
        (table.from.clone(), table.here, table.plan.is_done())
    };
    if !is_done {
        return Err(NotFetched::NoHolders { dropped, here });
    }
    let outline = Arc::clone(&shared.outline);
    drop(shared);
    blocking(move || part.finish(&target)).await?;
    let from: Vec<_> = holders.into_iter().zip(from).filter(|(_, bytes)| *bytes > 0).collect();
    Ok(Fetched { outline, size, kept, fetched: size - kept, from, dropped })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// What all that fetch for one content share.
struct Fetching {
    part: Arc<Part>,
    outline: Arc<Outline>,
    table: Mutex<Table>,
    /// Something was given up, or everything is here.
    news: Notify,
    begun: Instant,
    progress: watch::Sender<Progress>,
}

struct Table {
    plan: Plan,
    /// Bytes.
    here: u64,
    /// Bytes that each holder has given.
    from: Vec<u64>,
}

impl Fetching {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        let here = self.table().here;
        self.progress.send_replace(Progress { size: self.outline.size(), here });
    }

    /// Verifies a piece and writes it; `false` where it is wrong.
    async fn take(
        self: &Arc<Self>,
        holder: usize,
        number: u64,
        content: Bytes,
    ) -> io::Result<bool> {
        if !self.table().plan.wants(number) {
            // Somebody else was faster.
            return Ok(true);
        }
        let len = content.len() as u64;
        let (part, outline) = (Arc::clone(&self.part), Arc::clone(&self.outline));
        let is_right = blocking(move || {
            let is_right = outline.is_piece(number, &content);
            if is_right {
                part.write(number, &content)?;
            }
            Ok(is_right)
        })
        .await?;
        if is_right {
            let mut table = self.table();
            if table.plan.came(number) {
                table.here += len;
                table.from[holder] += len;
            }
            let is_done = table.plan.is_done();
            drop(table);
            self.tell();
            if is_done {
                self.news.notify_waiters();
            }
        }
        Ok(is_right)
    }
}

/// Everybody who is asked.
struct Race {
    hash: ContentHash,
    capability: String,
    identity: Arc<Identity>,
    turn: bool,
    dropped: Vec<(usize, Failed)>,
    /// Connections that are there already.
    sources: Vec<(usize, Source)>,
}

/// Why a lane has ended.
enum Ended {
    /// There is nothing left to do.
    Done,
    Failed(Failed),
    Disk(io::Error),
}

type Proof = (Outline, Option<(usize, Bytes)>);

impl Race {
    /// Asks one holder after the other until one proves the outline.
    async fn prove(&mut self, holders: &[Holder]) -> Result<Proof, NotFetched> {
        for (number, holder) in holders.iter().enumerate() {
            let connected =
                Source::connect(holder, &self.identity, self.hash, &self.capability, self.turn)
                    .await;
            let mut source = match connected {
                Ok(source) => source,
                Err(why) => {
                    self.dropped.push((number, why));
                    continue;
                }
            };
            match source.outline(holder.size).await {
                Ok((outline, last)) => {
                    self.sources.push((number, source));
                    return Ok((outline, Some((number, last))));
                }
                Err(why) => self.dropped.push((number, why)),
            }
        }
        let dropped =
            self.dropped.drain(..).map(|(number, why)| (holders[number].clone(), why)).collect();
        Err(NotFetched::NoHolders { dropped, here: 0 })
    }

    /// Fetches until everything is here or nobody is left.
    async fn run(&mut self, shared: &Arc<Fetching>, holders: &[Holder]) -> Result<(), NotFetched> {
        let mut lanes: JoinSet<(usize, Ended)> = JoinSet::new();
        for (number, holder) in holders.iter().enumerate() {
            if self.dropped.iter().any(|(dropped, _)| *dropped == number) {
                continue;
            }
            if holder.size != shared.outline.size() {
                let why = Failed::Lied(format!("it says that there are {} bytes", holder.size));
                self.dropped.push((number, why));
                continue;
            }
            // Who waits for its turn takes up one holder's only.
            if self.turn && !self.sources.iter().any(|(known, _)| *known == number) {
                continue;
            }
            let known = self.sources.iter().position(|(known, _)| *known == number);
            let source = known.map(|at| self.sources.swap_remove(at).1);
            let (shared, holder, identity) =
                (Arc::clone(shared), holder.clone(), Arc::clone(&self.identity));
            let (hash, capability, turn) = (self.hash, self.capability.clone(), self.turn);
            lanes.spawn(async move {
                let source = match source {
                    Some(source) => Ok(source),
                    None => Source::connect(&holder, &identity, hash, &capability, turn).await,
                };
                match source {
                    Ok(source) => (number, ask(&shared, number, &source).await),
                    Err(why) => (number, Ended::Failed(why)),
                }
            });
        }
        while let Some(ended) = lanes.join_next().await {
            let (number, ended) = ended.map_err(io::Error::other)?;
            match ended {
                Ended::Done => {}
                Ended::Disk(error) => return Err(error.into()),
                Ended::Failed(why) => self.dropped.push((number, why)),
            }
            if shared.table().plan.is_done() {
                break;
            }
        }
        Ok(())
    }
}

/// Asks one holder, on all its lanes, until there is nothing left to do or it fails.
async fn ask(shared: &Arc<Fetching>, holder: usize, source: &Source) -> Ended {
    let lanes = (0..LANES).map(|_| Box::pin(lane(shared, holder, source.clone())));
    let (ended, _, _) = futures_util::future::select_all(lanes).await;
    if !matches!(ended, Ended::Done) {
        shared.table().plan.give_up(holder);
        shared.news.notify_waiters();
    }
    ended
}

async fn lane(shared: &Arc<Fetching>, holder: usize, mut source: Source) -> Ended {
    let mut run = 1;
    loop {
        let news = shared.news.notified();
        let (asked, is_done) = {
            let mut table = shared.table();
            // Towards the end everybody gets a little, so that nobody has the rest alone.
            let fair = table.plan.missing() / (2 * LANES * table.from.len());
            let now_ms = u64::try_from(shared.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            (table.plan.ask(holder, run.min(fair.max(1)), now_ms), table.plan.is_done())
        };
        let Some((first, count)) = asked else {
            if is_done {
                return Ended::Done;
            }
            // Others are at it; whoever fails or is late leaves something to do.
            let _ = tokio::time::timeout(LOOK_AGAIN, news).await;
            continue;
        };
        let started = Instant::now();
        match fetch_run(shared, holder, &mut source, first, count).await {
            Err(ended) => return ended,
            Ok(()) => run = next_run(count, started.elapsed()),
        }
    }
}

async fn fetch_run(
    shared: &Arc<Fetching>,
    holder: usize,
    source: &mut Source,
    first: u64,
    count: u32,
) -> Result<(), Ended> {
    let mut pieces = source.pieces(first, count).await.map_err(Ended::Failed)?;
    while let Some((number, content)) = pieces.next().await.map_err(Ended::Failed)? {
        match shared.take(holder, number, content).await {
            Ok(true) => {}
            Ok(false) => {
                let why = format!("piece {number} is not what the hash says");
                return Err(Ended::Failed(Failed::Lied(why)));
            }
            Err(error) => return Err(Ended::Disk(error)),
        }
    }
    Ok(())
}

/// How long the next run is, by how long this one took.
fn next_run(count: u32, took: Duration) -> usize {
    let per_piece = (took / count.max(1)).max(Duration::from_micros(1));
    let fits = RUN_TIME.as_micros() / per_piece.as_micros();
    usize::try_from(fits).unwrap_or(RUN_MAX).clamp(1, RUN_MAX)
}
