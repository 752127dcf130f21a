//! A content as a stream, piece by piece in order and each verified before it is passed on: for who keeps nothing of it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};

use crate::content::{ContentHash, Outline};
use crate::fetch::{Connections, Failed, Holder, Proven, Source, prove};
use crate::limits::PIECE_WAIT;
use crate::right::Right;

/// Parts of a piece, as they came, that wait to be taken.
const AHEAD: usize = 1;
/// Pieces that are asked for at once.
const RUN: u32 = 8;
/// Who takes no piece for so long is given up.
const TAKE_WAIT: Duration = Duration::from_secs(60);

/// What is to be streamed.
#[derive(Debug)]
pub struct StreamJob {
    /// The content.
    pub hash: ContentHash,
    /// Who has it.
    pub holders: Vec<Holder>,
    /// The right to fetch it, for the certificate of `connections`.
    pub right: Arc<Right>,
    /// Over what the holders are asked.
    pub connections: Arc<Connections>,
}

/// A stream that has begun.
pub struct Streaming {
    /// All bytes.
    pub size: u64,
    /// The content; an error where nobody is left who has the rest of it.
    pub content: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>,
}

/// Begins with the first holder that proves what it has; `None` where none does. When one fails, the next goes on where it was.
pub async fn stream(mut job: StreamJob) -> Option<Streaming> {
    // Who has some of it only may not have what comes next.
    job.holders.retain(|holder| !holder.unfinished);
    let (hash, mut dropped) = (job.hash, Vec::new());
    let holders = std::mem::take(&mut job.holders);
    let proven = prove(&holders, &job.connections, (hash, &job.right), &mut dropped).await;
    for (number, why) in &dropped {
        tracing::debug!("the holder at {}: {why}", holders[*number].address);
    }
    let Proven { number: first, source, outline, .. } = proven?;
    let is_left =
        |number: &usize| *number != first && dropped.iter().all(|(dropped, _)| dropped != number);
    let others = holders.iter().enumerate().filter(|(number, _)| is_left(number));
    let mut holders = others.map(|(_, holder)| holder.clone()).collect::<Vec<_>>().into_iter();
    let (sender, mut receiver) = mpsc::channel(AHEAD);
    let size = outline.size();
    tokio::spawn(async move {
        let mut next = 0;
        let mut source = Some(source);
        while next < outline.pieces() {
            match source.take() {
                Some(one) => {
                    if !pass_on(one, &outline, &mut next, &sender).await {
                        return;
                    }
                }
                None => {
                    let Some(holder) = holders.next() else {
                        let gone = "nobody is left who has the rest of it";
                        let _ = sender.send(Err(io::Error::other(gone))).await;
                        return;
                    };
                    source = connect(&job, &holder).await;
                }
            }
        }
    });
    // A holder is believed by its first piece; before that, nothing is promised to whoever asks.
    let first = match receiver.recv().await {
        Some(Ok(first)) => first,
        None if size == 0 => Bytes::new(),
        _ => return None,
    };
    let content = Box::pin(tokio_stream::once(Ok(first)).chain(ReceiverStream::new(receiver)));
    Some(Streaming { size, content })
}

async fn connect(job: &StreamJob, holder: &Holder) -> Option<Source> {
    let connected = Source::connect(holder, &job.connections, job.hash, &job.right).await;
    connected.inspect_err(|why| tracing::debug!("a holder: {why}")).ok()
}

/// Passes on what comes until all is there or the holder fails; `false` where nobody takes it any more.
async fn pass_on(
    mut source: Source,
    outline: &Outline,
    next: &mut u64,
    sender: &mpsc::Sender<io::Result<Bytes>>,
) -> bool {
    while *next < outline.pieces() {
        let count = u32::try_from(outline.pieces() - *next).unwrap_or(u32::MAX).min(RUN);
        let Ok(mut pieces) = source.pieces(*next, count).await else { return true };
        loop {
            // One that drips would keep whoever waits here from the next holder.
            let next_piece = tokio::time::timeout(PIECE_WAIT, pieces.next()).await;
            match next_piece.unwrap_or(Err(Failed::Silent)) {
                Ok(Some((number, piece))) if outline.is_piece(number, &piece) => {
                    for part in piece {
                        let taken = tokio::time::timeout(TAKE_WAIT, sender.send(Ok(part))).await;
                        if !matches!(taken, Ok(Ok(()))) {
                            return false;
                        }
                    }
                    *next += 1;
                }
                Ok(None) => break,
                // Wrong or nothing: the next holder goes on.
                _ => return true,
            }
        }
    }
    true
}
