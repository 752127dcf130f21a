//! Runs many seeds and says which one broke a promise, and how to see it again.

use std::process::ExitCode;

use clap::Parser;
use tertulia_group::planted::{Bug, plant};
use tertulia_sim::settings::bug_named;
use tertulia_sim::{Fault, Settings, run, shortest};

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
    #[arg(long, default_value_t = 60_000)]
    faults_ms: u64,
    /// So many members, instead of as many as the seed says.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    members: Option<u64>,
    /// So many outside senders, instead of as many as the seed says.
    #[arg(long)]
    senders: Option<u64>,
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
    let (mut events, mut entries, mut crashes, mut simulated_ms) = (0, 0, 0, 0);
    let mut hash = 0_u64;
    for (done, seed) in (cli.seed..).take(cli.seeds as usize).enumerate() {
        let settings = Settings {
            members: cli.members,
            senders: cli.senders,
            without: cli.without.iter().copied().collect(),
            bug: cli.planted,
            ..Settings::new(seed, cli.faults_ms)
        };
        match run(&settings) {
            Ok(outcome) => {
                hash = hash.rotate_left(1) ^ outcome.hash;
                events += outcome.events;
                entries += outcome.entries;
                crashes += outcome.crashes;
                simulated_ms += outcome.simulated_ms;
            }
            Err(failure) => {
                println!("seed {seed}: {}\nagain: {settings}", failure.broken);
                println!("the shortest history that breaks a promise:");
                println!("{}", shortest(&settings, &failure));
                return ExitCode::FAILURE;
            }
        }
        if (done + 1) % 100 == 0 {
            println!("{} seeds, {events} events, {crashes} crashes", done + 1);
        }
    }
    let hours = simulated_ms as f64 / 3_600_000.0;
    println!(
        "{} seeds kept every promise: {events} events, {entries} entries, {crashes} crashes, {hours:.1} h, hash {hash:016x}",
        cli.seeds
    );
    ExitCode::SUCCESS
}
