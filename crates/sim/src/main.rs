//! Runs many seeds and says which one broke a promise, and how to see it again.

use std::process::ExitCode;

use clap::Parser;
use tertulia_sim::{Settings, run};

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
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let (mut events, mut entries, mut crashes, mut simulated_ms) = (0, 0, 0, 0);
    for (done, seed) in (cli.seed..).take(cli.seeds as usize).enumerate() {
        match run(&Settings { seed, faults_ms: cli.faults_ms }) {
            Ok(outcome) => {
                events += outcome.events;
                entries += outcome.entries;
                crashes += outcome.crashes;
                simulated_ms += outcome.simulated_ms;
            }
            Err(failure) => {
                failure.trace.iter().for_each(|line| println!("{line}"));
                println!("seed {seed}: {}", failure.broken);
                println!(
                    "again: cargo xtask sim --seeds 1 --seed {seed} --faults-ms {}",
                    cli.faults_ms
                );
                return ExitCode::FAILURE;
            }
        }
        if (done + 1) % 100 == 0 {
            println!("{} seeds, {events} events, {crashes} crashes", done + 1);
        }
    }
    let hours = simulated_ms as f64 / 3_600_000.0;
    println!(
        "{} seeds kept every promise: {events} events, {entries} entries, {crashes} crashes, {hours:.1} h",
        cli.seeds
    );
    ExitCode::SUCCESS
}
