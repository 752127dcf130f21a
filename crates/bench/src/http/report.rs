//! Medians with their ranges, ratios pair by pair, and the section of a document that they stand in.

use std::fmt::Write as _;
use std::time::Duration;

use super::Options;

/// What was measured of one of those that are compared, round by round.
pub struct Series {
    /// What it is.
    pub name: String,
    /// One value a round.
    pub values: Vec<f64>,
    /// What the rounds took together.
    pub seconds: Duration,
}

impl Series {
    /// Nothing yet.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), values: Vec::new(), seconds: Duration::ZERO }
    }
}

/// What is compared; the first is what the others are compared with.
pub struct Table {
    pub title: &'static str,
    pub unit: &'static str,
    pub series: Vec<Series>,
}

/// (least, median, most).
fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |at: usize| sorted.get(at).copied().unwrap_or(f64::NAN);
    (at(0), at(sorted.len() / 2), at(sorted.len().saturating_sub(1)))
}

impl Table {
    fn markdown(&self) -> String {
        let mut out = format!("### {}\n\n", self.title);
        let _ = writeln!(out, "| | {} | beside the first, pair by pair | rounds |", self.unit);
        out.push_str("|---|---|---|---|\n");
        let Some(first) = self.series.first() else { return out };
        for series in &self.series {
            let (least, median, most) = spread(&series.values);
            let pairs = series.values.iter().zip(&first.values);
            let ratios: Vec<f64> = pairs.map(|(own, first)| own / first).collect();
            let (least_ratio, ratio, most_ratio) = spread(&ratios);
            let _ = writeln!(
                out,
                "| {} | {median:.2} ({least:.2} to {most:.2}) | {ratio:.2} × ({least_ratio:.2} to {most_ratio:.2}) | {}, {:.0} s |",
                series.name,
                series.values.len(),
                series.seconds.as_secs_f64()
            );
        }
        out.push('\n');
        out
    }
}

/// The section of these tables.
pub fn section(options: &Options, tables: &[Table]) -> String {
    let mut out = String::from("## The HTTP door\n\n");
    let quick = if options.quick { " --quick" } else { "" };
    let _ = writeln!(
        out,
        "`cargo xtask bench http{quick}`, on {}. Medians (least to most) of interleaved rounds in one run; CPU time of the server's \
         process only, from the kernel's clock. The machine is shared with others and the load generator runs on it too: \
         ratios are worth more than figures.\n",
        machine()
    );
    tables.iter().for_each(|table| out.push_str(&table.markdown()));
    out
}

fn machine() -> String {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("an unnamed CPU", |model| model.trim_start_matches([' ', '\t', ':']));
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.split('-').next().unwrap_or_default().trim();
    let (own, axum) = (env!("CARGO_PKG_VERSION"), locked("axum"));
    let wrk = wrk_version();
    format!("{cpus} CPUs of {model}, Linux {kernel}; Tertulia {own}, axum {axum}, wrk {wrk}")
}

/// The version of a crate that this program was built with.
fn locked(name: &str) -> &'static str {
    let lock = include_str!("../../../../Cargo.lock");
    let entry = lock.split_once(&format!("name = \"{name}\"\nversion = \""));
    entry.and_then(|(_, rest)| rest.split('"').next()).unwrap_or("of an unknown version")
}

/// It ends with a failure after saying it.
fn wrk_version() -> String {
    let output = std::process::Command::new("wrk").arg("-v").output();
    let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let word = text.split_whitespace().nth(1).unwrap_or("of an unknown version");
    word.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_lock_file() {
        assert!(locked("axum").starts_with("0."), "{}", locked("axum"));
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let series =
            |name: &str, values: &[f64]| Series { values: values.to_vec(), ..Series::new(name) };
        let table = Table {
            title: "t",
            unit: "µs",
            series: vec![series("a", &[1.0, 10.0, 2.0]), series("b", &[2.0, 20.0, 6.0])],
        };
        let text = table.markdown();
        assert!(text.contains("| b | 6.00 (2.00 to 20.00) | 2.00 × (2.00 to 3.00) |"), "{text}");
    }
}
