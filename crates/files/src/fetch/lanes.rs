//! What one holder is asked: on several lanes, runs of pieces that grow with what it gives, until there is nothing left to do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::plan::Has;
use super::source::Pieces;
use super::{Ended, Failed, Fetching, LANES, LOOK_AGAIN, Source, Table};
use crate::limits::SOURCES_MAX;

/// The longest run that is asked of one holder at once, in pieces.
const RUN_MAX: usize = 16;
/// A run is as long as takes about this much time.
const RUN_TIME: Duration = Duration::from_millis(500);
/// Who had nothing to give just now is asked again after so long, and after twice as long each time, but not longer than the
/// second.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Asks one holder, on all its lanes, until there is nothing left to do or it fails.
pub(super) async fn ask(
    shared: &Arc<Fetching>,
    holder: usize,
    mut source: Source,
    is_unfinished: bool,
) -> Ended {
    let has = if shared.begun.is_some() || is_unfinished {
        match source.have(shared.outline.size(), 0).await {
            Ok(has) => has,
            Err(why) => {
                source.give_up(&why).await;
                return Ended::Failed(why);
            }
        }
    } else {
        Has::All
    };
    let is_sparing = has == Has::AllSparingly;
    let known = if let Has::Some(set) = &has { Some(set.len()) } else { None };
    shared.learn(holder, has);
    let lanes = (0..LANES).map(|_| {
        // Each goes on over another connection by itself where its own breaks.
        let mut source = source.clone();
        Box::pin(async move {
            let ended = if is_sparing {
                lane_of_gifts(shared, holder, &mut source).await
            } else {
                lane(shared, holder, &mut source).await
            };
            (ended, source)
        })
    });
    let lanes = futures_util::future::select_all(lanes);
    let (ended, source) = tokio::select! {
        (ended, _, _) = lanes => ended,
        why = hear(shared, holder, &mut source, known) => (Ended::Failed(why), source),
    };
    if !matches!(ended, Ended::Done) {
        shared.table().plan.give_up(holder);
        shared.news.notify_waiters();
    }
    if let Ended::Failed(why) = &ended {
        source.give_up(why).await;
    }
    ended
}

/// Hears what a holder has that had so many pieces, until it has all of them; ends only where it fails.
async fn hear(
    shared: &Arc<Fetching>,
    holder: usize,
    source: &mut Source,
    known: Option<u64>,
) -> Failed {
    // What it says has to be gone through piece by piece.
    let pause = LOOK_AGAIN / 2 + Duration::from_micros(100) * pieces_in_thousands(shared);
    let mut known = known;
    while let Some(count) = known {
        tokio::time::sleep(pause).await;
        match source.have(shared.outline.size(), count).await {
            Ok(has) => {
                known = if let Has::Some(set) = &has { Some(set.len()) } else { None };
                if known != Some(count) {
                    shared.learn(holder, has);
                }
            }
            Err(why) => return why,
        }
    }
    std::future::pending().await
}

fn pieces_in_thousands(shared: &Fetching) -> u32 {
    u32::try_from(shared.outline.pieces() / 1_000).unwrap_or(u32::MAX)
}

/// How long the next run may be; towards the end everybody gets a little, so that nobody has the rest alone.
fn fair(table: &Table, run: usize) -> usize {
    let holders = table.from.len().clamp(1, SOURCES_MAX);
    run.min(table.plan.missing() / (2 * LANES * holders)).max(1)
}

async fn lane(shared: &Arc<Fetching>, holder: usize, source: &mut Source) -> Ended {
    let mut run = 1;
    loop {
        let news = shared.news.notified();
        let (asked, is_done) = {
            let mut table = shared.table();
            let most = fair(&table, run);
            (table.plan.ask(holder, most, shared.now_ms()), table.plan.is_done())
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
        let pieces = match source.pieces(first, count).await {
            Ok(pieces) => pieces,
            Err(why) => return Ended::Failed(why),
        };
        match take_all(shared, holder, pieces).await {
            Err(ended) => return ended,
            Ok(()) => run = next_run(count, started.elapsed()),
        }
    }
}

/// The same for a holder that chooses what it gives.
async fn lane_of_gifts(shared: &Arc<Fetching>, holder: usize, source: &mut Source) -> Ended {
    let (mut run, mut pause) = (1, ASK_AGAIN.0);
    loop {
        let news = shared.news.notified();
        let (wanted, most, is_done) = {
            let table = shared.table();
            let wanted = table.plan.wanted(holder, shared.now_ms());
            (wanted, fair(&table, run), table.plan.is_done())
        };
        if is_done {
            return Ended::Done;
        }
        if wanted.is_empty() {
            let _ = tokio::time::timeout(LOOK_AGAIN, news).await;
            continue;
        }
        let started = Instant::now();
        let pieces = match source.some_of(&wanted, u32::try_from(most).unwrap_or(1)).await {
            Ok(pieces) => pieces,
            Err(why) => return Ended::Failed(why),
        };
        let count = u32::try_from(pieces.numbers().len()).unwrap_or(u32::MAX);
        if count == 0 {
            // Others have been given it, and will be found to have it soon.
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(ASK_AGAIN.1);
            continue;
        }
        {
            let (mut table, now_ms) = (shared.table(), shared.now_ms());
            pieces.numbers().iter().for_each(|number| table.plan.asked(holder, *number, now_ms));
        }
        match take_all(shared, holder, pieces).await {
            Err(ended) => return ended,
            Ok(()) => (run, pause) = (next_run(count, started.elapsed()), ASK_AGAIN.0),
        }
    }
}

async fn take_all(shared: &Arc<Fetching>, holder: usize, mut pieces: Pieces) -> Result<(), Ended> {
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
