//! Throughput and CPU time of both sides: medians with their ranges, ratios pair by pair, and the section of a document.

use std::fmt::Write as _;
use std::time::Duration;

use super::{Options, Run, theirs};

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

/// Median, least and most.
fn spread(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let at = |at: usize| sorted.get(at).copied().unwrap_or(f64::NAN);
    (at(sorted.len() / 2), at(0), at(sorted.len().saturating_sub(1)))
}

impl Table {
    fn markdown(&self) -> String {
        let is_one = self.files == 1;
        let (unit, amount) =
            if is_one { ("MB/s", self.bytes as f64 / 1e6) } else { ("files/s", self.files as f64) };
        let per = if is_one { "CPU s a GB" } else { "CPU s for 10,000 files" };
        let share = if is_one { self.bytes as f64 / 1e9 } else { self.files as f64 / 1e4 };
        let mut out = format!("### {}\n\n", self.title);
        let _ = writeln!(
            out,
            "| | {unit} | beside the first, pair by pair | sender's {per} | receiver's {per} |\n|---|---|---|---|---|"
        );
        let Some(first) = self.rows.first() else { return out };
        for row in &self.rows {
            let rate = |run: &Run| amount / run.took.as_secs_f64();
            let (median, least, most) = spread(row.runs.iter().map(rate));
            let pairs = row.runs.iter().zip(&first.runs);
            let (ratio, least_ratio, most_ratio) =
                spread(pairs.map(|(own, first)| rate(own) / rate(first)));
            let cpu = |of: fn(&Run) -> Duration| {
                spread(row.runs.iter().map(|run| of(run).as_secs_f64() / share)).0
            };
            let (sender, receiver) = (cpu(|run| run.sender), cpu(|run| run.receiver));
            let _ = writeln!(
                out,
                "| {} | {median:.0} ({least:.0} to {most:.0}) | {ratio:.2} × ({least_ratio:.2} to {most_ratio:.2}) | {sender:.2} | {receiver:.2} |",
                row.name
            );
        }
        out.push('\n');
        out
    }
}

/// The section of these tables.
pub fn section(options: &Options, tables: &[Table]) -> String {
    let mut out = String::from("## Files\n\n");
    let quick = if options.quick { " --quick" } else { "" };
    let _ = writeln!(
        out,
        "`cargo xtask bench files{quick}`, on {}; {}. Medians (least to most) of {} interleaved rounds in one run, over loopback; all of \
         it runs on the same CPUs. TLS 1.3 on both sides; nginx has one worker, `sendfile on`, and a certificate of the same kind. \
         `files get` finds the holders, verifies every piece, syncs and renames; curl does none of that, the second row does with the \
         usual tools. Each is a process that is started for the one fetch. CPU time is of the sending processes, and of the receiving \
         one.\n",
        crate::figures::machine(),
        theirs::versions(),
        options.rounds()
    );
    tables.iter().for_each(|table| out.push_str(&table.markdown()));
    out
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
        let line = "| b | 1000 (1000 to 5000) | 4.00 × (2.00 to 5.00) | 1.00 | 0.50 |";
        assert!(text.contains(line), "{text}");
    }
}
