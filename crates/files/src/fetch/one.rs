//! Fetching a content of one piece: one question to one holder, and the next one asked where it fails or is late.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::{Duration, sleep};

use super::plan::LATE_MS;
use super::replies::Content;
use super::{Connections, Failed, Fetched, Holder, Job, NotFetched, Part, Progress, Source};
use crate::blocking::blocking;
use crate::content::{ContentHash, Outline};
use crate::limits::{PIECE_BYTES, SOURCES_MAX};
use crate::right::Right;

/// The size of a content that fits one piece, by the word of all who have it.
pub(super) fn size_of(job: &Job) -> Option<u64> {
    let size = job.holders.first()?.size;
    let is_one = size <= PIECE_BYTES as u64 && job.many.is_none();
    let fits = |holder: &Holder| holder.size == size && !holder.unfinished;
    (is_one && job.holders.iter().all(fits)).then_some(size)
}

/// Fetches it. Its hash proves its size, too.
pub(super) async fn fetch(
    job: Job,
    size: u64,
    progress: watch::Sender<Progress>,
) -> Result<Fetched, NotFetched> {
    let Job { hash, mut holders, right, connections, target, .. } = job;
    // Of many contents, each of the holders gives as many as it is fast.
    holders.sort_by_cached_key(|holder| connections.busy(holder));
    let outline = Outline::kept(hash, size, Vec::new());
    let outline = Arc::new(outline.unwrap_or_else(|| unreachable!("one piece has no values")));
    progress.send_replace(Progress { size, here: 0 });
    if !target.replace {
        let looking = target.clone();
        // Who will not get it asks nobody.
        blocking(move || Part::folder(&looking).map(drop)).await?;
    }
    let mut rest = holders.iter();
    let mut dropped = Vec::new();
    let mut asked = FuturesUnordered::new();
    loop {
        if asked.is_empty() {
            match rest.next() {
                Some(holder) => asked.push(ask(holder, &connections, hash, &right)),
                None => return Err(NotFetched::NoHolders { dropped, here: 0 }),
            }
        }
        let late = sleep(Duration::from_millis(LATE_MS));
        let (holder, came) = tokio::select! {
            Some(answered) = asked.next() => answered,
            () = late, if asked.len() < SOURCES_MAX => {
                if let Some(holder) = rest.next() {
                    asked.push(ask(holder, &connections, hash, &right));
                }
                continue;
            }
        };
        let why = match came {
            Ok(content) => {
                let (by, to) = (Arc::clone(&outline), target.clone());
                if blocking(move || Part::put(&to, &by, &content)).await? {
                    progress.send_replace(Progress { size, here: size });
                    let from = vec![(holder.clone(), size)];
                    return Ok(Fetched {
                        outline,
                        size,
                        kept: 0,
                        fetched: size,
                        from,
                        dropped,
                        listed: None,
                    });
                }
                Failed::Lied("piece 0 is not what the hash says".to_owned())
            }
            Err(why) => why,
        };
        dropped.push((holder.clone(), why));
    }
}

/// Asks one holder, once more where a connection broke that was there before.
async fn ask<'a>(
    holder: &'a Holder,
    connections: &Arc<Connections>,
    hash: ContentHash,
    right: &Arc<Right>,
) -> (&'a Holder, Result<Content, Failed>) {
    let content = async {
        let mut source = Source::connect(holder, connections, hash, right).await?;
        let content = content_or_again(&mut source).await;
        if let Err(why) = &content {
            source.give_up(why).await;
        }
        content
    };
    (holder, content.await)
}

async fn content_or_again(source: &mut Source) -> Result<Content, Failed> {
    match content_of(source).await {
        Err(why @ Failed::Unreachable(_)) => {
            source.connect_again(why).await?;
            content_of(source).await
        }
        came => came,
    }
}

async fn content_of(source: &mut Source) -> Result<Content, Failed> {
    let mut pieces = source.pieces(0, 1).await?;
    let (_, content) = pieces.next().await?.unwrap_or_default();
    Ok(content)
}
