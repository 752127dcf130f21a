//! The table: medians over the rounds, and how far the rounds differ.

use std::fmt;
use std::time::Duration;

/// Latencies of one round, sorted.
pub type Round = Vec<Duration>;

/// One kind of attack.
pub struct Row {
    about: String,
    before: u64,
    pub quiet: Vec<Round>,
    pub hostile: Vec<Round>,
    pub quiet_cpu: Vec<u64>,
    pub hostile_cpu: Vec<u64>,
    pub attack_cpu: Vec<u64>,
    pub count: u64,
    pub peak: u64,
    pub after: u64,
    pub length: Duration,
}

impl Row {
    pub fn new(about: &str, before: u64) -> Self {
        Self {
            about: about.to_owned(),
            before,
            quiet: Vec::new(),
            hostile: Vec::new(),
            quiet_cpu: Vec::new(),
            hostile_cpu: Vec::new(),
            attack_cpu: Vec::new(),
            count: 0,
            peak: 0,
            after: 0,
            length: Duration::ZERO,
        }
    }

    fn share(&self, cpu_ms: &[u64]) -> f64 {
        let rounds = self.length.as_millis() as f64 * cpu_ms.len() as f64;
        cpu_ms.iter().sum::<u64>() as f64 * 100.0 / rounds
    }
}

/// What stands above the rows.
pub fn head(rounds: usize, seconds: u64, fsync: bool) -> String {
    let stored = if fsync { "fsync" } else { "os" };
    format!(
        "{rounds} quiet and {rounds} hostile rounds in turn, {seconds} s each, stored: {stored}. Times in ms: medians over the \
         rounds; the ratio of each hostile round's p99 to the quiet one's before it: median (least to most). CPU in % of one.\n\n\
         | hostile clients | a second | quiet p50 | p99 | hostile p50 | p99 | ratio of p99 | node's CPU quiet, hostile | theirs | \
         node's memory before, at most, after (MiB) |\n|---|---|---|---|---|---|---|---|---|---|"
    )
}

fn quantile(round: &Round, per_cent: usize) -> f64 {
    let at = (round.len() * per_cent).div_ceil(100).saturating_sub(1);
    round.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn over(rounds: &[Round], per_cent: usize) -> f64 {
    median(rounds.iter().map(|round| quantile(round, per_cent)).collect())
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = self.quiet.iter().zip(&self.hostile);
        let ratios: Vec<f64> =
            pairs.map(|(quiet, hostile)| quantile(hostile, 99) / quantile(quiet, 99)).collect();
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(0.0, f64::max);
        let each = self.length.as_secs_f64() * self.hostile.len() as f64;
        write!(
            f,
            "| {} | {:.0} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} ({least:.2} to {most:.2}) | {:.0}, {:.0} | {:.0} | {}, {}, {} |",
            self.about,
            self.count as f64 / each,
            over(&self.quiet, 50),
            over(&self.quiet, 99),
            over(&self.hostile, 50),
            over(&self.hostile, 99),
            median(ratios),
            self.share(&self.quiet_cpu),
            self.share(&self.hostile_cpu),
            self.share(&self.attack_cpu),
            self.before >> 20,
            self.peak >> 20,
            self.after >> 20
        )
    }
}
