//! Receipts that have become final, for those who look on: gathered once a turn, rendered once for all of them.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;
use tertulia_group::{CompleteRun, Receipt, Seq};

/// What a piece may weigh: a receipt is one, and one more for each name that it says.
const PIECE_WEIGHT: usize = 256;
/// What is kept may weigh for those who have not come so far; older ones are asked for by number.
const KEPT_WEIGHT: usize = 16_384;

/// Receipts of messages that nobody can still answer.
#[derive(Debug)]
pub(crate) enum Final {
    /// Everybody has answered.
    Complete(CompleteRun),
    /// With who is missing.
    One(Receipt),
}

impl Final {
    fn weight(&self) -> usize {
        match self {
            Self::Complete(run) => run.count as usize,
            Self::One(receipt) => 1 + receipt.missing.len(),
        }
    }

    /// Splits off what fits.
    fn split(&mut self, weight: usize) -> Option<Self> {
        let Self::Complete(run) = self else { return None };
        let count = u32::try_from(weight).ok().filter(|count| (1..run.count).contains(count))?;
        let head = Self::Complete(CompleteRun { count, ..*run });
        run.seq += u64::from(count);
        run.count -= count;
        Some(head)
    }
}

/// Some of them, and what they look like to the readers of each kind.
#[derive(Debug)]
pub(crate) struct FinalPiece {
    finals: Vec<Final>,
    weight: usize,
    /// How far the log was when they became final: who has not come so far is told later, and so sees who left before it is
    /// told whom a receipt misses.
    pub last: Seq,
    /// As server-sent events.
    pub events: OnceLock<Bytes>,
    /// As what a web member is sent.
    pub web: OnceLock<Utf8Bytes>,
}

impl FinalPiece {
    fn new(finals: Vec<Final>, last: Seq) -> Self {
        let weight = finals.iter().map(Final::weight).sum();
        Self { finals, weight, last, events: OnceLock::new(), web: OnceLock::new() }
    }

    /// Each receipt.
    pub fn receipts(&self) -> impl Iterator<Item = Receipt> + '_ {
        self.finals.iter().flat_map(|one| {
            let (run, receipt) = match one {
                Final::Complete(run) => (Some(*run), None),
                Final::One(receipt) => (None, Some(receipt.clone())),
            };
            let of_run = |run: CompleteRun| (0..run.count).map(move |at| complete(&run, at));
            run.into_iter().flat_map(of_run).chain(receipt)
        })
    }
}

/// The receipt of one message of a run.
pub(crate) fn complete(run: &CompleteRun, at: u32) -> Receipt {
    Receipt {
        seq: run.seq + u64::from(at),
        epoch: run.epoch,
        members: run.members,
        confirmed: run.members - run.reached,
        reached: run.reached,
        missing: Vec::new(),
    }
}

/// The newest pieces.
#[derive(Debug, Default)]
pub(crate) struct Finals {
    pieces: VecDeque<Arc<FinalPiece>>,
    weight: usize,
}

impl Finals {
    /// Adds what became final in one turn, when the log had come to `tail`, and answers how many pieces that is.
    pub fn push(&mut self, finals: Vec<Final>, tail: Seq) -> u64 {
        let (mut piece, mut room, mut pieces) = (Vec::new(), PIECE_WEIGHT, Vec::new());
        for mut one in finals {
            while let Some(head) = one.split(room) {
                piece.push(head);
                pieces.push(std::mem::take(&mut piece));
                room = PIECE_WEIGHT;
            }
            room = room.saturating_sub(one.weight());
            piece.push(one);
            if room == 0 {
                pieces.push(std::mem::take(&mut piece));
                room = PIECE_WEIGHT;
            }
        }
        pieces.extend(Some(piece).filter(|piece| !piece.is_empty()));
        let count = pieces.len() as u64;
        for piece in pieces.into_iter().map(|finals| FinalPiece::new(finals, tail)) {
            self.weight += piece.weight;
            self.pieces.push_back(Arc::new(piece));
        }
        while self.weight > KEPT_WEIGHT && self.pieces.len() > 1 {
            self.weight -= self.pieces.pop_front().map_or(0, |piece| piece.weight);
        }
        count
    }

    /// The piece with the number `at`, or the first that is still here; `told` is the number after the last one.
    pub fn at(&self, at: u64, told: u64) -> Option<(u64, Arc<FinalPiece>)> {
        let first = told.saturating_sub(self.pieces.len() as u64);
        let at = at.max(first);
        let index = usize::try_from(at - first).ok()?;
        self.pieces.get(index).map(|piece| (at, Arc::clone(piece)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seq: Seq, count: u32) -> Final {
        Final::Complete(CompleteRun { counter: 0, seq, count, members: 3, reached: 1, epoch: 1 })
    }

    #[test]
    fn a_long_run_comes_in_pieces_and_of_too_much_the_oldest_goes() {
        let mut finals = Finals::default();
        assert_eq!(finals.push(vec![run(1, 100), run(101, 400)], 501), 2);
        let (_, piece) = finals.at(0, 2).unwrap();
        let numbers: Vec<_> = piece.receipts().map(|receipt| receipt.seq).collect();
        assert_eq!(numbers, (1..=256).collect::<Vec<_>>());
        assert_eq!(finals.at(1, 2).unwrap().1.last, 501);
        let told = 2 + finals.push(vec![run(501, 100_000)], 100_500);
        let (at, piece) = finals.at(2, told).unwrap();
        let first = |piece: &FinalPiece| piece.receipts().next().map(|receipt| receipt.seq);
        assert!(at > 2 && first(&piece) > Some(501), "{at}");
        let (_, piece) = finals.at(told - 1, told).unwrap();
        assert_eq!(piece.receipts().last().map(|receipt| receipt.seq), Some(100_500));
        assert!(finals.at(told, told).is_none() && finals.weight <= KEPT_WEIGHT);
    }
}
