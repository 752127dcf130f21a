//! What a web member is told beside the log, in its order, while it waits for the socket: a run of a million receipts waits as a run.

use std::collections::VecDeque;

use tertulia_group::{CompleteRun, Receipt, StoredRun};

use crate::finals;

/// What waits.
#[derive(Debug)]
enum Item {
    Line(String),
    Stored(StoredRun),
    Complete(CompleteRun),
    Receipt(u64, Receipt),
}

/// One thing that is told, a line of its own.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum One {
    /// As it is.
    Line(String),
    /// The message with this counter is stored under this number.
    Stored(u64, u64),
    /// The receipt of the message with this counter.
    Receipt(u64, Receipt),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Waiting(VecDeque<Item>);

impl Waiting {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Lines and runs.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn line(&mut self, line: String) {
        self.0.push_back(Item::Line(line));
    }

    pub fn stored(&mut self, run: StoredRun) {
        self.0.push_back(Item::Stored(run));
    }

    pub fn complete(&mut self, run: CompleteRun) {
        self.0.push_back(Item::Complete(run));
    }

    pub fn receipt(&mut self, counter: u64, receipt: Receipt) {
        self.0.push_back(Item::Receipt(counter, receipt));
    }

    /// Takes the next one, which may be one of a run.
    pub fn next(&mut self) -> Option<One> {
        let (one, rest) = match self.0.pop_front()? {
            Item::Line(line) => return Some(One::Line(line)),
            Item::Receipt(counter, receipt) => return Some(One::Receipt(counter, receipt)),
            Item::Stored(run) => {
                let (counter, seq, count) = after(run.counter, run.seq, run.count);
                let rest = Item::Stored(StoredRun { counter, seq, count });
                (One::Stored(run.counter, run.seq), Some(rest).filter(|_| count > 0))
            }
            Item::Complete(run) => {
                let (counter, seq, count) = after(run.counter, run.seq, run.count);
                let rest = Item::Complete(CompleteRun { counter, seq, count, ..run });
                let receipt = finals::complete(&run, 0);
                (One::Receipt(run.counter, receipt), Some(rest).filter(|_| count > 0))
            }
        };
        rest.into_iter().for_each(|rest| self.0.push_front(rest));
        Some(one)
    }
}

/// A run without its first message.
const fn after(counter: u64, seq: u64, count: u32) -> (u64, u64, u32) {
    // What is left of a run with the highest counter is nothing.
    (counter.wrapping_add(1), seq + 1, count.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_come_one_by_one_between_what_was_told_before_and_after() {
        let mut waiting = Waiting::default();
        waiting.line("a".to_owned());
        waiting.stored(StoredRun { counter: 7, seq: 20, count: 2 });
        let run =
            CompleteRun { counter: u64::MAX, seq: 30, count: 1, members: 3, reached: 1, epoch: 2 };
        waiting.complete(run);
        waiting.line("b".to_owned());
        assert_eq!(waiting.len(), 4);
        let all: Vec<One> = std::iter::from_fn(|| waiting.next()).collect();
        let expected = [
            One::Line("a".to_owned()),
            One::Stored(7, 20),
            One::Stored(8, 21),
            One::Receipt(u64::MAX, finals::complete(&run, 0)),
            One::Line("b".to_owned()),
        ];
        assert_eq!(all, expected);
        assert!(waiting.is_empty());
    }
}
