//! `cargo xtask`: what the project runs on itself, the same locally and in CI.

mod api;
mod bench;
mod cargo;
mod counts;
mod demo;
mod fuzz;
mod machine;
mod sim;
mod test;
mod tidy;
mod torture;
mod totals;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// What the project runs on itself.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Everything that has to hold before a change goes in; what CI runs.
    Test,
    /// Many seeds of the simulator: the real group under faults. Takes its options, such as --seeds 10000 --seed 1.
    Sim {
        /// Handed to the simulator as they stand.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// A real node and real clients under real faults. Takes its options, such as --minutes 5 --seed 1.
    Torture {
        /// Handed to the torture as they stand.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Side by side, written to docs/benchmarks.md: delivery, appends, growth, idle, http or files, or all of them where none is
    /// named. Each takes its own options (`cargo xtask bench files --help`); all together take --quick, which writes nothing, and
    /// --rounds N.
    Bench {
        /// What is measured, and how.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Instructions for each part of a message's way, against their bounds. `--write` makes what is counted the bounds.
    Counts {
        /// `--write`, or nothing.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// The HTTP door against its description, with schemathesis. Takes --examples N and --seed N.
    Api {
        /// How much is asked.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// The fuzz targets. Takes --seconds N, and names of targets.
    Fuzz {
        /// Handed to the targets as they stand.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// The habits that a program can check: headers, dead files, links, commands, ADRs.
    Tidy {
        /// Record in docs/protocol.md that it describes the wire as it is now.
        #[arg(long)]
        write: bool,
    },
}

fn main() -> ExitCode {
    let root = root();
    let outcome = match Cli::parse().task {
        Task::Test => test::run(&root),
        Task::Sim { arguments } => sim::run(&root, &arguments),
        Task::Torture { arguments } => torture::run(&root, &arguments),
        Task::Bench { arguments } => bench::run(&root, &arguments),
        Task::Counts { arguments } => counts::run(&root, &arguments),
        Task::Api { arguments } => api::run(&root, &arguments),
        Task::Fuzz { arguments } => fuzz::run(&root, &arguments),
        Task::Tidy { write } => tidy::run(&root, write),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The names that `cargo xtask` understands, for the check of what the README shows.
fn task_names() -> Vec<String> {
    Cli::command().get_subcommands().map(|task| task.get_name().to_owned()).collect()
}

/// The workspace's root: the folder above this crate, wherever the checkout was moved since.
fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    here.parent().unwrap_or(Path::new(".")).to_owned()
}
