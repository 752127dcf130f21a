//! Getting a content's outline: from the first holder that proves it, and not from the slowest.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Duration, sleep};

use super::connections::Connections;
use super::plan::LATE_MS;
use super::source::{Failed, Holder, Source};
use crate::content::{ContentHash, Ending, Outline};
use crate::limits::SOURCES_MAX;
use crate::right::Right;

/// Who has proven an outline.
#[derive(Debug)]
pub struct Proven {
    /// Its number among the holders.
    pub number: usize,
    /// The connection to it.
    pub source: Source,
    pub outline: Outline,
    pub ending: Ending,
}

/// Asks the holders in their order, the next one where one fails or is late, until one proves the outline; `None` where none
/// does. Who has failed on the way, by number, is in `dropped` then.
pub async fn prove(
    holders: &[Holder],
    connections: &Arc<Connections>,
    (hash, right): (ContentHash, &Arc<Right>),
    dropped: &mut Vec<(usize, Failed)>,
) -> Option<Proven> {
    let mut rest = holders.iter().enumerate();
    let mut asked = FuturesUnordered::new();
    loop {
        if asked.is_empty() {
            let (number, holder) = rest.next()?;
            asked.push(ask(number, holder, connections, hash, right));
        }
        let late = sleep(Duration::from_millis(LATE_MS));
        let (number, proven) = tokio::select! {
            Some(answered) = asked.next() => answered,
            () = late, if asked.len() < SOURCES_MAX => {
                let next = rest.next();
                asked.extend(next.map(|(at, holder)| ask(at, holder, connections, hash, right)));
                continue;
            }
        };
        match proven {
            Ok(proven) => return Some(proven),
            Err(why) => dropped.push((number, why)),
        }
    }
}

async fn ask(
    number: usize,
    holder: &Holder,
    connections: &Arc<Connections>,
    hash: ContentHash,
    right: &Arc<Right>,
) -> (usize, Result<Proven, Failed>) {
    let proven = async {
        let mut source = Source::connect(holder, connections, hash, right).await?;
        match source.outline(holder.size).await {
            Ok((outline, ending)) => Ok(Proven { number, source, outline, ending }),
            Err(why) => {
                source.give_up(&why).await;
                Err(why)
            }
        }
    };
    (number, proven.await)
}
