//! The newest part of a group's log for those who read it away from its shard: event streams and web members.
//!
//! Rendered once for all of them: a piece keeps what the first reader made of it. Nothing is kept while nobody reads.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;
use tertulia_group::Seq;
use tokio::sync::watch;

/// Bytes of the log that are kept for readers who are nearly up to date; others read from the journal.
const KEPT_BYTES: usize = 1 << 20;

/// Some whole entries, as they stand in the log, and what they look like to the readers of each kind.
#[derive(Debug)]
pub(crate) struct Piece {
    pub first: Seq,
    pub last: Seq,
    pub bytes: Bytes,
    /// As server-sent events.
    pub events: OnceLock<Bytes>,
    /// As what a web member is sent.
    pub web: OnceLock<Utf8Bytes>,
}

/// See the module. One for each group.
#[derive(Debug)]
pub(crate) struct Feed {
    kept: Mutex<Kept>,
    /// The last number that is stored; [`ENDED`] when there will be no more.
    tail: watch::Sender<Seq>,
}

/// No number of an entry.
const ENDED: Seq = Seq::MAX;

#[derive(Debug, Default)]
struct Kept {
    pieces: VecDeque<Arc<Piece>>,
    bytes: usize,
    readers: usize,
}

impl Default for Feed {
    fn default() -> Self {
        Self { kept: Mutex::default(), tail: watch::Sender::new(0) }
    }
}

impl Feed {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A piece of the log is stored; called by the group's driver, once a batch and piece.
    pub fn push(&self, bytes: &Bytes, first: Seq, last: Seq) {
        let mut kept = self.kept();
        if kept.readers == 0 {
            return;
        }
        kept.bytes += bytes.len();
        let (events, web) = (OnceLock::new(), OnceLock::new());
        kept.pieces.push_back(Arc::new(Piece { first, last, bytes: bytes.clone(), events, web }));
        while kept.bytes > KEPT_BYTES && kept.pieces.len() > 1 {
            let gone = kept.pieces.pop_front().map_or(0, |piece| piece.bytes.len());
            kept.bytes -= gone;
        }
    }

    /// Everything up to here is stored and was pushed.
    pub fn advance(&self, tail: Seq) {
        self.tail.send_replace(tail);
    }

    /// The group is not served any more: readers end.
    pub fn end(&self) {
        self.tail.send_replace(ENDED);
    }

    /// The last number that is stored.
    pub fn tail(&self) -> Seq {
        *self.tail.borrow()
    }

    /// From now on pieces are kept, until the last reader is gone.
    pub fn follow(self: &Arc<Self>) -> Following {
        self.kept().readers += 1;
        Following { tail: self.tail.subscribe(), feed: Arc::clone(self) }
    }
}

/// One reader.
#[derive(Debug)]
pub(crate) struct Following {
    feed: Arc<Feed>,
    tail: watch::Receiver<Seq>,
}

impl Following {
    /// The last number that is stored.
    pub fn tail(&self) -> Seq {
        *self.tail.borrow()
    }

    /// Waits until an entry `next` is stored; `false` when the group has ended.
    pub async fn until(&mut self, next: Seq) -> bool {
        self.tail.wait_for(|tail| *tail >= next).await.is_ok_and(|tail| *tail != ENDED)
    }

    /// The piece that holds the entry `next`; `None` when it is not (any more) here.
    pub fn piece(&self, next: Seq) -> Option<Arc<Piece>> {
        let kept = self.feed.kept();
        let at = kept.pieces.partition_point(|piece| piece.last < next);
        kept.pieces.get(at).filter(|piece| piece.first <= next).cloned()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut kept = self.feed.kept();
        kept.readers -= 1;
        if kept.readers == 0 {
            *kept = Kept::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(feed: &Feed, first: Seq, last: Seq, bytes: usize) {
        feed.push(&Bytes::from(vec![0; bytes]), first, last);
        feed.advance(last);
    }

    #[test]
    fn nothing_is_kept_while_nobody_reads() {
        let feed = Arc::new(Feed::default());
        push(&feed, 1, 3, 100);
        let reader = feed.follow();
        assert!(reader.piece(1).is_none());
        assert_eq!(reader.tail(), 3);
        push(&feed, 4, 6, 100);
        assert_eq!(reader.piece(5).map(|piece| (piece.first, piece.last)), Some((4, 6)));
        assert!(reader.piece(7).is_none());
        drop(reader);
        assert_eq!(feed.kept().pieces.len(), 0);
    }

    #[test]
    fn the_oldest_goes_when_there_is_too_much_but_the_newest_stays_whatever_its_size() {
        let feed = Arc::new(Feed::default());
        let reader = feed.follow();
        push(&feed, 1, 1, KEPT_BYTES / 2);
        push(&feed, 2, 2, KEPT_BYTES / 2);
        push(&feed, 3, 3, 1);
        assert!(reader.piece(1).is_none() && reader.piece(2).is_some());
        push(&feed, 4, 4, 2 * KEPT_BYTES);
        assert!(reader.piece(3).is_none() && reader.piece(4).is_some());
    }

    #[tokio::test]
    async fn a_reader_is_told_of_what_is_stored_and_of_the_end() {
        let feed = Arc::new(Feed::default());
        let mut reader = feed.follow();
        push(&feed, 1, 2, 10);
        assert!(reader.until(2).await);
        feed.end();
        assert!(!reader.until(3).await);
    }
}
