//! The newest part of a group's log for those who read it away from its shard: event streams and web members.
//!
//! Rendered once for all of them: a piece keeps what the first reader made of it. Nothing is kept while nobody reads.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;
use tertulia_group::Seq;
use tokio::sync::watch;

use crate::finals::{Final, FinalPiece, Finals};

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
    /// Readers who want to know what became of messages.
    watchers: AtomicUsize,
    /// Pieces of receipts that there have been.
    told: watch::Sender<u64>,
}

/// No number of an entry.
const ENDED: Seq = Seq::MAX;

#[derive(Debug, Default)]
struct Kept {
    pieces: VecDeque<Arc<Piece>>,
    bytes: usize,
    finals: Finals,
    readers: usize,
}

impl Default for Feed {
    fn default() -> Self {
        let (tail, told) = (watch::Sender::new(0), watch::Sender::new(0));
        Self { kept: Mutex::default(), tail, watchers: AtomicUsize::new(0), told }
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

    /// From now on pieces are kept, until the last reader is gone; `receipts`: those that become final, too.
    pub fn follow(self: &Arc<Self>, receipts: bool) -> Following {
        self.kept().readers += 1;
        let told = receipts.then(|| self.told.subscribe());
        self.watchers.fetch_add(usize::from(receipts), Ordering::Relaxed);
        let next_final = *self.told.borrow();
        Following { tail: self.tail.subscribe(), told, next_final, feed: Arc::clone(self) }
    }

    /// Whether anybody wants receipts.
    pub fn is_watched(&self) -> bool {
        self.watchers.load(Ordering::Relaxed) > 0
    }

    /// These are final; called by the group's driver, once a turn, after [`Feed::advance`].
    pub fn tell(&self, finals: Vec<Final>) {
        let mut kept = self.kept();
        if kept.readers > 0 {
            let pieces = kept.finals.push(finals, self.tail());
            // Under the lock, so that the numbers of pieces and the pieces belong together.
            self.told.send_modify(|told| *told += pieces);
        }
    }
}

/// One reader.
#[derive(Debug)]
pub(crate) struct Following {
    feed: Arc<Feed>,
    tail: watch::Receiver<Seq>,
    /// Of who wants receipts.
    told: Option<watch::Receiver<u64>>,
    /// Number of the next piece of them.
    next_final: u64,
}

impl Following {
    /// The last number that is stored.
    pub fn tail(&self) -> Seq {
        *self.tail.borrow()
    }

    /// Whether the group is not served any more.
    pub fn has_ended(&self) -> bool {
        self.tail() == ENDED
    }

    /// Waits until an entry `next` is stored or a receipt is final; `false` when the group has ended.
    pub async fn until(&mut self, next: Seq) -> bool {
        let (tail, next_final) = (&mut self.tail, self.next_final);
        let stored =
            async { tail.wait_for(|tail| *tail >= next).await.is_ok_and(|tail| *tail != ENDED) };
        let Some(told) = &mut self.told else { return stored.await };
        tokio::select! {
            stored = stored => stored,
            told = told.wait_for(|told| *told > next_final) => told.is_ok(),
        }
    }

    /// Whether there are receipts that it was not given.
    pub fn has_finals(&self) -> bool {
        self.told.as_ref().is_some_and(|told| *told.borrow() > self.next_final)
    }

    /// The next receipts, where the log had come to before `next`: who has not come so far is given them later.
    pub fn finals(&mut self, next: Seq) -> Option<Arc<FinalPiece>> {
        if !self.has_finals() {
            return None;
        }
        let kept = self.feed.kept();
        let told = *self.feed.told.borrow();
        let Some((at, piece)) = kept.finals.at(self.next_final, told) else {
            self.next_final = told;
            return None;
        };
        self.next_final = at + u64::from(piece.last < next);
        Some(piece).filter(|piece| piece.last < next)
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
        let receipts = usize::from(self.told.is_some());
        self.feed.watchers.fetch_sub(receipts, Ordering::Relaxed);
        let mut kept = self.feed.kept();
        kept.readers -= 1;
        if kept.readers == 0 {
            *kept = Kept::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use tertulia_group::CompleteRun;

    use super::*;

    fn push(feed: &Feed, first: Seq, last: Seq, bytes: usize) {
        feed.push(&Bytes::from(vec![0; bytes]), first, last);
        feed.advance(last);
    }

    #[test]
    fn nothing_is_kept_while_nobody_reads() {
        let feed = Arc::new(Feed::default());
        push(&feed, 1, 3, 100);
        let reader = feed.follow(false);
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
        let reader = feed.follow(false);
        push(&feed, 1, 1, KEPT_BYTES / 2);
        push(&feed, 2, 2, KEPT_BYTES / 2);
        push(&feed, 3, 3, 1);
        assert!(reader.piece(1).is_none() && reader.piece(2).is_some());
        push(&feed, 4, 4, 2 * KEPT_BYTES);
        assert!(reader.piece(3).is_none() && reader.piece(4).is_some());
    }

    #[tokio::test]
    async fn receipts_are_given_to_who_has_come_so_far_and_only_those_since_it_follows() {
        let feed = Arc::new(Feed::default());
        let one = |seq| {
            let run = CompleteRun { counter: 0, seq, count: 1, members: 1, reached: 0, epoch: 1 };
            vec![Final::Complete(run)]
        };
        let plain = feed.follow(false);
        push(&feed, 1, 2, 10);
        feed.tell(one(1));
        assert!(!feed.is_watched() && !plain.has_finals());
        let mut reader = feed.follow(true);
        assert!(feed.is_watched() && !reader.has_finals());
        feed.tell(one(2));
        assert!(reader.until(3).await);
        assert!(reader.finals(2).is_none(), "it has not seen the message");
        assert_eq!(reader.finals(3).map(|piece| piece.last), Some(2));
        assert!(!reader.has_finals());
        drop(reader);
        assert!(!feed.is_watched());
    }

    #[tokio::test]
    async fn a_reader_is_told_of_what_is_stored_and_of_the_end() {
        let feed = Arc::new(Feed::default());
        let mut reader = feed.follow(false);
        push(&feed, 1, 2, 10);
        assert!(reader.until(2).await);
        feed.end();
        assert!(!reader.until(3).await);
    }
}
