//! How far the host of a line client has come: which number it has when it has taken so many bytes.

use std::collections::VecDeque;
use std::time::Duration;

use tertulia_group::Seq;

/// How often the host is asked whether it has taken everything: at once, then less and less.
pub(super) const REACHED_WAIT_MIN: Duration = Duration::from_millis(1);
const REACHED_WAIT_MAX: Duration = Duration::from_millis(200);

/// Which number the host has when it has taken so many bytes.
#[derive(Default)]
pub(super) struct Marks {
    queued: u64,
    pub written: u64,
    /// (bytes, number), both rising.
    marks: VecDeque<(u64, Seq)>,
    /// The program answers for itself.
    pub confirms: bool,
    pub wait: Option<Duration>,
}

impl Marks {
    /// The host has everything that was rendered.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// `seq` is in the buffer, which holds `buffered` bytes now.
    pub fn rendered(&mut self, buffered: usize, seq: Seq) {
        self.queued = self.written + buffered as u64;
        let many = self.marks.len() > 1024;
        match self.marks.back_mut() {
            Some(last) if last.0 == self.queued => last.1 = seq,
            // A mark a few KiB is enough: the host's answer is cumulative.
            Some(last) if many && self.queued - last.0 < 512 => *last = (self.queued, seq),
            _ => self.marks.push_back((self.queued, seq)),
        }
    }

    /// The last number that the host has whole, where that has risen; `left` bytes are not acknowledged.
    pub fn taken(&mut self, left: u64) -> Option<Seq> {
        let taken = self.written.saturating_sub(left);
        let mut through = None;
        while let Some((_, seq)) = self.marks.front().filter(|(bytes, _)| *bytes <= taken).copied()
        {
            through = Some(seq);
            self.marks.pop_front();
        }
        self.wait = match (self.marks.is_empty(), self.wait) {
            (true, _) => None,
            (false, Some(wait)) => Some((wait * 2).min(REACHED_WAIT_MAX)),
            (false, None) => Some(REACHED_WAIT_MIN),
        };
        through
    }
}
