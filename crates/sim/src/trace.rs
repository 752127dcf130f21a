//! What happened: a hash over all of it, so that the same seed can be seen to be the same world, and the last of it as text.

use std::collections::VecDeque;

const LINES_MAX: usize = 40;

/// Words are put together only when somebody reads them: most worlds keep every promise, and nobody does.
#[derive(Debug)]
struct Line {
    at: u64,
    /// With a `{}` for each number.
    what: &'static str,
    numbers: [u64; 3],
    more: Option<String>,
}

#[derive(Debug)]
pub struct Trace {
    hash: u64,
    last: VecDeque<Line>,
}

impl Trace {
    pub const fn new() -> Self {
        Self { hash: 0xCBF2_9CE4_8422_2325, last: VecDeque::new() }
    }

    pub fn note<const N: usize>(&mut self, at: u64, what: &'static str, some: [u64; N]) {
        let mut numbers = [0; 3];
        numbers[..N].copy_from_slice(&some);
        self.fold(at);
        self.fold_bytes(what.as_bytes());
        some.into_iter().for_each(|number| self.fold(number));
        self.keep(Line { at, what, numbers, more: None });
    }

    pub fn say(&mut self, at: u64, what: &'static str, more: String) {
        self.fold(at);
        self.fold_bytes(what.as_bytes());
        self.fold_bytes(more.as_bytes());
        self.keep(Line { at, what, numbers: [0; 3], more: Some(more) });
    }

    fn keep(&mut self, line: Line) {
        if self.last.len() == LINES_MAX {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    const fn fold(&mut self, word: u64) {
        self.hash = (self.hash.rotate_left(5) ^ word).wrapping_mul(0x517C_C1B7_2722_0A95);
    }

    pub fn fold_bytes(&mut self, bytes: &[u8]) {
        self.fold(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.fold(u64::from_le_bytes(word));
        }
    }

    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// The last of it, a line each.
    pub fn lines(&self) -> Vec<String> {
        self.last.iter().map(Line::text).collect()
    }
}

impl Line {
    fn text(&self) -> String {
        let mut text = format!("{:>8} ", self.at);
        let mut numbers = self.numbers.iter();
        for (i, part) in self.what.split("{}").enumerate() {
            if i > 0 {
                text.push_str(&numbers.next().copied().unwrap_or(0).to_string());
            }
            text.push_str(part);
        }
        text.extend(self.more.as_deref());
        text
    }
}
