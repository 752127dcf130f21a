//! Throughput and CPU time of both sides: medians with their ranges, and ratios round by round.

use std::fmt::Write as _;
use std::time::Duration;

use super::Run;
use crate::figures::{short, spread, thousands};
use crate::options::Page;
use crate::{page, versions};

/// What stands above the tables.
pub const ABOUT: &str = "## Files\n\n\
    Over loopback, in interleaved rounds; medians (least to most), ratios round by round. All of it runs on the same CPUs. TLS 1.3 on \
    both sides; nginx has one worker, `sendfile on`, and a certificate of the same kind; curl has 16 connections at once with \
    `--parallel`. `files get` finds the holders, verifies every piece, syncs and renames; curl does none of that, the rows with \
    `sha256sum` and `sync` do with the usual tools. Who fetches is a process that is started for the one fetch, and what it has left \
    is compared with what was shared. CPU time is of all processes that are needed: on the sender's side nginx, or the holders' peers \
    and the node; on the receiver's side curl (and what follows it), or `files get` and one's own peer.\n";

/// One of those that are compared, round by round.
pub struct Row {
    pub name: &'static str,
    pub runs: Vec<Run>,
}

impl Row {
    /// Nothing yet.
    pub const fn new(name: &'static str) -> Self {
        Self { name, runs: Vec::new() }
    }
}

/// What is compared; the first is what the others are compared with.
pub struct Table {
    pub title: String,
    pub bytes: usize,
    pub files: usize,
    pub rows: Vec<Row>,
}

impl Table {
    /// With a line that says what it is of.
    pub fn on_the_page(&self, name: &str, page: &Page) -> page::Table {
        let rounds = self.rows.first().map_or(0, |row| row.runs.len());
        let (nginx, curl) = (versions::of("nginx", "nginx", "-v"), versions::of_curl());
        let origin = page.origin(&format!("{nginx}, {curl}; rounds: {rounds}"));
        let text = format!("### {}\n\n{origin}\n\n{}", self.title, self.markdown());
        page::Table { name: name.to_owned(), text }
    }

    fn markdown(&self) -> String {
        let is_one = self.files == 1;
        let (unit, amount) =
            if is_one { ("MB/s", self.bytes as f64 / 1e6) } else { ("files/s", self.files as f64) };
        let per = if is_one { "CPU s a GB" } else { "CPU s for 10,000 files" };
        let share = if is_one { self.bytes as f64 / 1e9 } else { self.files as f64 / 1e4 };
        let mut out = format!(
            "| | {unit} | beside the first, round by round | sender's {per} | receiver's {per} | both |\n|---|---|---|---|---|---|\n"
        );
        let Some(first) = self.rows.first() else { return out };
        for row in &self.rows {
            let rate = |run: &Run| amount / run.took.as_secs_f64();
            let speed = spread(row.runs.iter().map(rate));
            let pairs = row.runs.iter().zip(&first.runs);
            let ratio = spread(pairs.map(|(own, first)| rate(own) / rate(first)));
            let cpu = |of: fn(&Run) -> Duration| {
                short(spread(row.runs.iter().map(|run| of(run).as_secs_f64() / share)).median)
            };
            let _ = writeln!(
                out,
                "| {} | {} ({} to {}) | {ratio} | {} | {} | {} |",
                row.name,
                thousands(speed.median),
                thousands(speed.least),
                thousands(speed.most),
                cpu(|run| run.sender),
                cpu(|run| run.receiver),
                cpu(|run| run.sender + run.receiver)
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_the_same_round() {
        let run = |ms| {
            let (sender, receiver) = (Duration::from_millis(500), Duration::from_millis(250));
            Run { took: Duration::from_millis(ms), sender, receiver }
        };
        let row = |name, took: [u64; 3]| Row { name, runs: took.map(run).into() };
        let rows = vec![row("a", [1_000, 500, 2_000]), row("b", [500, 100, 500])];
        let text = Table { title: "t".into(), bytes: 500_000_000, files: 1, rows }.markdown();
        let line = "| b | 1,000 (1,000 to 5,000) | 4.00 (2.00 to 5.00) | 1.00 | 0.50 | 1.50 |";
        assert!(text.contains(line), "{text}");
    }
}
