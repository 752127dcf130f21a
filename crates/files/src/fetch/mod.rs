//! Fetching a content from all its holders at once: the fastest is asked the most, what is late is asked again elsewhere, who
//! sends a wrong piece is dropped and named.

mod connections;
mod lanes;
mod one;
mod part;
mod plan;
mod prove;
mod replies;
mod source;

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

pub use self::connections::Connections;
pub use self::part::{Durable, Part, Target};
pub(crate) use self::prove::{Proven, prove};
pub use self::source::{Failed, Holder};
pub(crate) use self::source::{Source, endpoint};

use self::lanes::ask;
use self::plan::{Has, Plan};
use self::replies::Content;
use crate::blocking::blocking;
use crate::content::{ContentHash, Ending, Outline};
use crate::limits::{FILE_BYTES_MAX, SOURCES_MAX};
use crate::pieces::PieceSet;
use crate::right::Right;
use crate::unfinished::{Begun, Listed, Unfinished};

/// What is to be fetched.
#[derive(Debug)]
pub struct Job {
    /// The content.
    pub hash: ContentHash,
    /// Who has it.
    pub holders: Vec<Holder>,
    /// The right to fetch it, for the certificate of `connections`.
    pub right: Arc<Right>,
    /// Over what the holders are asked.
    pub connections: Arc<Connections>,
    /// Where it is to be.
    pub target: Target,
    /// Many fetch it at once, and from each other.
    pub many: Option<Many>,
}

/// For a content that many fetch at once.
#[derive(Debug)]
pub struct Many {
    /// What is here is given to the others as soon as it is verified.
    pub unfinished: Arc<Unfinished>,
    /// Who has it by now, or some of it; it is received when more can be asked.
    pub more: mpsc::Receiver<Vec<Holder>>,
    /// Set where a fetch ends while somebody is there who has all of it and gives it sparingly, to others just now.
    pub spared: Arc<AtomicBool>,
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
#[derive(Debug)]
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
    /// As long as it is kept, others find it here ([`Many`]): until it is shared otherwise.
    pub listed: Option<Listed>,
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

/// Runs that are on their way from one holder at a time, so that it never waits for a question.
const LANES: usize = 2;

/// Questions to one holder that a content has under way at once: those of the lanes, and what there is. A content of one piece
/// that nobody fetches from here is one question.
pub const QUESTIONS: usize = LANES + 1;

/// How often somebody who has nothing to do looks whether others are late.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Holders that are ever asked in one go.
const HOLDERS_MAX: usize = 4_096;

/// Fetches; `progress` is told how far it is.
///
/// # Errors
/// [`NotFetched`]
pub async fn fetch(job: Job, progress: watch::Sender<Progress>) -> Result<Fetched, NotFetched> {
    if let Some(size) = one::size_of(&job) {
        return one::fetch(job, size, progress).await;
    }
    let Job { hash, mut holders, right, connections, target, many } = job;
    holders.truncate(HOLDERS_MAX);
    if holders.iter().all(|holder| holder.size > FILE_BYTES_MAX) && !holders.is_empty() {
        return Err(NotFetched::TooLarge);
    }
    let opening = target.clone();
    let part = Arc::new(blocking(move || Part::open(&opening, hash)).await?);
    let mut race = Race {
        hash,
        right,
        connections,
        holders,
        dropped: Vec::new(),
        sources: Vec::new(),
        next: 0,
        asked: HashSet::new(),
    };
    let (outline, ending) = race.prove().await?;
    let outline = Arc::new(outline);
    let (verifying, by) = (Arc::clone(&part), Arc::clone(&outline));
    let here = blocking(move || verifying.verify(&by)).await?;
    let size = outline.size();
    let spread = many.as_ref().map(|_| rand::random_range(1..=u64::MAX));
    let (mut plan, mut set) =
        (Plan::new(outline.pieces(), spread), PieceSet::none(outline.pieces()));
    let mut kept = 0;
    for number in here {
        plan.came(number, 0);
        set.insert(number);
        kept += outline.piece_len(number) as u64;
    }
    let (begun, listed, more, spared) = match many {
        None => (None, None, None, None),
        Some(Many { unfinished, more, spared }) => {
            let proof = (Arc::clone(&outline), ending);
            let begun = Arc::new(Begun::new(target.name.clone(), proof, Arc::clone(&part), set));
            let listed = unfinished.begin(Arc::clone(&begun));
            (Some(begun), listed, Some(more), Some(spared))
        }
    };
    let shared = Arc::new(Fetching {
        part: Arc::clone(&part),
        outline,
        begun,
        table: Mutex::new(Table { plan, here: kept, from: vec![0; race.holders.len()] }),
        news: Notify::new(),
        since: Instant::now(),
        progress,
    });
    shared.tell();
    race.run(&shared, more).await?;
    let Race { holders, dropped, .. } = race;
    let dropped = dropped.into_iter().map(|(holder, why)| (holders[holder].clone(), why)).collect();
    let (from, here, is_done) = {
        let table = shared.table();
        if let Some(spared) = spared {
            spared.store(table.plan.is_spared(), Ordering::Relaxed);
        }
        (table.from.clone(), table.here, table.plan.is_done())
    };
    if !is_done {
        return Err(NotFetched::NoHolders { dropped, here });
    }
    let outline = Arc::clone(&shared.outline);
    drop(shared);
    blocking(move || part.finish(&target)).await?;
    let from: Vec<_> = holders.into_iter().zip(from).filter(|(_, bytes)| *bytes > 0).collect();
    Ok(Fetched { outline, size, kept, fetched: size - kept, from, dropped, listed })
}

/// What all that fetch for one content share.
struct Fetching {
    part: Arc<Part>,
    outline: Arc<Outline>,
    /// What others may fetch from here, where many fetch it.
    begun: Option<Arc<Begun>>,
    table: Mutex<Table>,
    /// Something was given up, somebody has more, or everything is here.
    news: Notify,
    since: Instant,
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

    fn now_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn tell(&self) {
        let here = self.table().here;
        self.progress.send_replace(Progress { size: self.outline.size(), here });
    }

    fn learn(&self, holder: usize, has: Has) {
        self.table().plan.learn(holder, has);
        self.news.notify_waiters();
    }

    /// Verifies a piece and writes it; `false` where it is wrong.
    async fn take(
        self: &Arc<Self>,
        holder: usize,
        number: u64,
        content: Content,
    ) -> io::Result<bool> {
        if !self.table().plan.wants(number) {
            // Somebody else was faster.
            return Ok(true);
        }
        let len = content.iter().map(|part| part.len() as u64).sum::<u64>();
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
            let now_ms = self.now_ms();
            let mut table = self.table();
            if table.plan.came(number, now_ms) {
                table.here += len;
                table.from[holder] += len;
                table.plan.gave(holder);
            }
            let is_done = table.plan.is_done();
            drop(table);
            if let Some(begun) = &self.begun {
                begun.came(number);
            }
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
    right: Arc<Right>,
    connections: Arc<Connections>,
    /// All who were ever asked.
    holders: Vec<Holder>,
    dropped: Vec<(usize, Failed)>,
    /// Connections that are there already.
    sources: Vec<(usize, Source)>,
    /// The first of the holders that was not asked for pieces yet, where not all can be at once: asked when others fail.
    next: usize,
    /// Those who were.
    asked: HashSet<usize>,
}

/// Why a holder is asked no more.
enum Ended {
    /// There is nothing left to do.
    Done,
    Failed(Failed),
    Disk(io::Error),
}

impl Race {
    /// The outline, from the first that proves it.
    async fn prove(&mut self) -> Result<(Outline, Ending), NotFetched> {
        let wanted = (self.hash, &self.right);
        let proven = prove(&self.holders, &self.connections, wanted, &mut self.dropped).await;
        if let Some(Proven { number, source, outline, ending }) = proven {
            self.sources.push((number, source));
            return Ok((outline, ending));
        }
        let dropped = self.dropped.drain(..);
        let dropped = dropped.map(|(number, why)| (self.holders[number].clone(), why)).collect();
        Err(NotFetched::NoHolders { dropped, here: 0 })
    }

    /// Fetches until everything is here, nobody is left, or all wait for each other.
    async fn run(
        &mut self,
        shared: &Arc<Fetching>,
        mut more: Option<mpsc::Receiver<Vec<Holder>>>,
    ) -> Result<(), NotFetched> {
        let mut asked: JoinSet<(usize, Ended)> = JoinSet::new();
        // Who has proven the outline is there for certain.
        let proven: Vec<usize> = self.sources.iter().map(|(number, _)| *number).collect();
        for number in proven {
            shared.table().plan.gave(number);
            self.start(number, shared, &mut asked);
        }
        self.start_next(shared, &mut asked);
        let mut look = tokio::time::interval(LOOK_AGAIN);
        loop {
            let has_room = asked.len() < SOURCES_MAX && self.holders.len() < HOLDERS_MAX;
            tokio::select! {
                ended = asked.join_next() => match ended {
                    None => return Ok(()),
                    Some(ended) => match ended.map_err(io::Error::other)? {
                        (_, Ended::Done) => {}
                        (_, Ended::Disk(error)) => return Err(error.into()),
                        (number, Ended::Failed(why)) => {
                            self.dropped.push((number, why));
                            self.start_next(shared, &mut asked);
                        }
                    },
                },
                found = next_of(&mut more), if has_room => match found {
                    None => more = None,
                    Some(found) => self.add(found, shared, &mut asked).await,
                },
                _ = look.tick() => {}
            }
            let table = shared.table();
            if table.plan.is_done() || table.plan.is_stalled(shared.now_ms()) {
                return Ok(());
            }
        }
    }

    /// Who was found meanwhile is asked, too; also who was given up and is back, unless it has lied.
    async fn add(
        &mut self,
        found: Vec<Holder>,
        shared: &Arc<Fetching>,
        asked: &mut JoinSet<(usize, Ended)>,
    ) {
        for holder in found {
            let known = (0..self.holders.len())
                .rev()
                .find(|number| self.holders[*number].fingerprint == holder.fingerprint);
            let is_gone = |number: &usize| {
                let mut dropped = self.dropped.iter();
                dropped.any(|(gone, why)| gone == number && !why.is_lie())
            };
            if asked.len() >= SOURCES_MAX || !known.as_ref().is_none_or(is_gone) {
                continue;
            }
            self.connections.again(&holder).await;
            // Nobody waits: all were asked, since there is room.
            self.next += 1;
            self.holders.push(holder);
            shared.table().from.push(0);
            self.start(self.holders.len() - 1, shared, asked);
        }
    }

    /// Asks as many of those who wait for it as there is room for.
    fn start_next(&mut self, shared: &Arc<Fetching>, asked: &mut JoinSet<(usize, Ended)>) {
        while asked.len() < SOURCES_MAX && self.next < self.holders.len() {
            self.next += 1;
            self.start(self.next - 1, shared, asked);
        }
    }

    fn start(
        &mut self,
        number: usize,
        shared: &Arc<Fetching>,
        asked: &mut JoinSet<(usize, Ended)>,
    ) {
        let is_dropped = self.dropped.iter().any(|(dropped, _)| *dropped == number);
        if is_dropped || !self.asked.insert(number) {
            return;
        }
        let holder = self.holders[number].clone();
        if holder.size != shared.outline.size() {
            let why = Failed::Lied(format!("it says that there are {} bytes", holder.size));
            self.dropped.push((number, why));
            return;
        }
        let known = self.sources.iter().position(|(known, _)| *known == number);
        let source = known.map(|at| self.sources.swap_remove(at).1);
        let (shared, connections) = (Arc::clone(shared), Arc::clone(&self.connections));
        let (hash, right) = (self.hash, Arc::clone(&self.right));
        asked.spawn(async move {
            let source = match source {
                Some(source) => Ok(source),
                None => Source::connect(&holder, &connections, hash, &right).await,
            };
            match source {
                Ok(source) => (number, ask(&shared, number, source, holder.unfinished).await),
                Err(why) => (number, Ended::Failed(why)),
            }
        });
    }
}

/// What comes next; never, where nothing can.
async fn next_of(more: &mut Option<mpsc::Receiver<Vec<Holder>>>) -> Option<Vec<Holder>> {
    match more {
        Some(more) => more.recv().await,
        None => std::future::pending().await,
    }
}
