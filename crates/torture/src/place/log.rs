//! What the node says, over all its runs: the last lines, and everything about panics.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Lines that are kept.
const LINES_MAX: usize = 2000;
/// Lines about panics that are kept.
const PANICS_MAX: usize = 100;
/// Of a line.
const BYTES_MAX: usize = 1000;
/// What Rust writes when a thread panics.
const PANIC: &str = "panicked at";

/// Shared by the threads that read the node's outputs.
#[derive(Default)]
pub struct Log {
    kept: Mutex<Kept>,
    changed: Condvar,
}

#[derive(Default)]
struct Kept {
    lines: VecDeque<String>,
    /// How many there were, with those that are not kept any more.
    count: u64,
    panics: Vec<String>,
    /// Outputs that are still open.
    open: usize,
}

impl Log {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line.
    pub fn add(&self, line: String) {
        let mut kept = self.kept();
        if line.contains(PANIC) && kept.panics.len() < PANICS_MAX {
            kept.panics.push(line.clone());
        }
        kept.lines.push_back(line);
        kept.count += 1;
        if kept.lines.len() > LINES_MAX {
            kept.lines.pop_front();
        }
        self.changed.notify_all();
    }

    /// Keeps what comes out of there, until its end.
    pub fn read(self: &Arc<Self>, from: impl Read + Send + 'static) {
        self.kept().open += 1;
        let log = Arc::clone(self);
        std::thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            while let Ok(1..) = from.by_ref().take(BYTES_MAX as u64).read_until(b'\n', &mut line) {
                log.add(String::from_utf8_lossy(&line).trim_end().to_owned());
                line.clear();
            }
            log.kept().open -= 1;
            log.changed.notify_all();
        });
    }

    /// How many lines there were.
    pub fn count(&self) -> u64 {
        self.kept().count
    }

    /// Waits for a line after the first `after` that begins so; false if it does not come, as all outputs have ended or
    /// the time is over.
    pub fn wait_for(&self, begin: &str, after: u64, within: Duration) -> bool {
        let until = Instant::now() + within;
        let mut kept = self.kept();
        loop {
            if kept.since(after).any(|line| line.starts_with(begin)) {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if kept.open == 0 || left.is_zero() {
                return false;
            }
            kept = self.changed.wait_timeout(kept, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until an ended process's last words have been read; one that it started may hold its outputs open.
    pub fn wait_for_end(&self, within: Duration) {
        let kept = self.kept();
        let open = |kept: &mut Kept| kept.open > 0;
        drop(self.changed.wait_timeout_while(kept, within, open));
    }

    /// The last lines, at most `max`.
    pub fn last(&self, max: usize) -> Vec<String> {
        let kept = self.kept();
        let skipped = kept.lines.len().saturating_sub(max);
        kept.lines.iter().skip(skipped).cloned().collect()
    }

    /// Lines after the first `after`, as far as they are kept.
    pub fn since(&self, after: u64) -> Vec<String> {
        self.kept().since(after).cloned().collect()
    }

    /// Lines about panics.
    pub fn panics(&self) -> Vec<String> {
        self.kept().panics.clone()
    }
}

impl Kept {
    fn since(&self, after: u64) -> impl Iterator<Item = &String> {
        let first = self.count - self.lines.len() as u64;
        self.lines.iter().skip(after.saturating_sub(first) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_and_all_panics_are_kept() {
        let log = Arc::new(Log::default());
        log.add("thread 'main' panicked at x.rs:1".to_owned());
        for number in 1..=LINES_MAX {
            log.add(number.to_string());
        }
        assert_eq!(log.last(2), [(LINES_MAX - 1).to_string(), LINES_MAX.to_string()]);
        assert_eq!(log.since(log.count() - 1), [LINES_MAX.to_string()]);
        assert_eq!(log.since(0).len(), LINES_MAX);
        assert_eq!(log.panics().len(), 1);
        assert!(!log.wait_for("1", log.count(), Duration::ZERO));
        log.read(std::io::Cursor::new("ready\n"));
        assert!(log.wait_for("ready", 0, Duration::from_secs(10)));
        log.wait_for_end(Duration::from_secs(10));
        assert_eq!(log.last(1), ["ready"]);
    }
}
