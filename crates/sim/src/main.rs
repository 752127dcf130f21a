//! Runs many seeds and says which one broke a promise, and how to see it again.

use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::Instant;

use clap::Parser;
use tertulia_group::planted::{Bug, plant};
use tertulia_sim::fleet::{Broken, Total, run_all};
use tertulia_sim::settings::{bug_named, kebab};
use tertulia_sim::{Fault, Settings, shortest};

/// Simulated milliseconds with faults after which everything that can happen is expected to have happened.
const ENOUGH_MS: u64 = 1000 * 300_000;

/// Simulates a group under faults, a seed at a time.
#[derive(Parser)]
struct Cli {
    /// How many seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// For so many simulated milliseconds there are faults.
    #[arg(long, default_value_t = 300_000)]
    faults_ms: u64,
    /// On so many threads, instead of as many as there are cores. What comes out is the same.
    #[arg(long)]
    threads: Option<usize>,
    /// So many members, instead of as many as the seed says.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    members: Option<u64>,
    /// So many outside senders, instead of as many as the seed says.
    #[arg(long)]
    senders: Option<u64>,
    /// Faults and messages come thick and fast, whatever the seed says.
    #[arg(long)]
    busy: bool,
    /// Faults that do not happen, such as power-cuts,kills.
    #[arg(long, value_delimiter = ',', value_parser = fault)]
    without: Vec<Fault>,
    /// A rule that is broken on purpose, such as skip-fsync; needs the feature `planted`.
    #[arg(long, value_parser = bug)]
    planted: Option<Bug>,
}

fn fault(name: &str) -> Result<Fault, String> {
    Fault::named(name).ok_or_else(|| "no such fault".to_owned())
}

fn bug(name: &str) -> Result<Bug, String> {
    bug_named(name).ok_or_else(|| "no such bug".to_owned())
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if !plant(cli.planted) {
        println!("this build has no planted bugs: --features planted");
        return ExitCode::FAILURE;
    }
    let settings = |seed| Settings {
        members: cli.members,
        senders: cli.senders,
        busy: cli.busy,
        without: cli.without.iter().copied().collect(),
        bug: cli.planted,
        ..Settings::new(seed, cli.faults_ms)
    };
    let threads = cli.threads.or_else(|| Some(available_parallelism().ok()?.get()));
    let began = Instant::now();
    let every = (cli.seeds / 100).clamp(100, 1000);
    let progress = |total: &Total| {
        if total.seeds.is_multiple_of(every) {
            println!("{}", line(total, began));
        }
    };
    let total =
        match run_all(cli.seed..cli.seed + cli.seeds, threads.unwrap_or(1), settings, progress) {
            Ok(total) => total,
            Err(broken) => {
                let Broken { settings, failure } = *broken;
                println!("seed {}: {}\nagain: {settings}", settings.seed, failure.broken);
                println!("the shortest history that breaks a promise:");
                println!("{}", shortest(&settings, &failure));
                return ExitCode::FAILURE;
            }
        };
    println!("seen: {}", total.coverage);
    println!("every promise kept: {}, hash {:016x}", line(&total, began), total.hash);
    let ordinary = cli.members.is_none() && cli.senders.is_none() && cli.without.is_empty();
    let blind_to = total.coverage.blind_to();
    if ordinary && total.seeds * cli.faults_ms >= ENOUGH_MS && !blind_to.is_empty() {
        let names: Vec<String> = blind_to.iter().map(kebab).collect();
        println!("not once in all these seeds: {}; nothing was tried there", names.join(", "));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// How much there was, and how fast.
fn line(total: &Total, began: Instant) -> String {
    let simulated_s = total.simulated_ms as f64 / 1000.0;
    let took_s = began.elapsed().as_secs_f64();
    format!(
        "{} seeds, {} events ({:.0} a simulated second), {} entries, {} crashes ({} power cuts), {:.1} simulated days, {took_s:.0} s, {:.0} times real time",
        total.seeds,
        total.events,
        total.events as f64 / simulated_s,
        total.entries,
        total.crashes,
        total.power_cuts,
        simulated_s / 86_400.0,
        simulated_s / took_s,
    )
}
