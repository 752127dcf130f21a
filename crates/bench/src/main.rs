//! Measures side by side, round by round in one run: the servers' CPU time is what a noisy machine leaves usable.

mod bare;
mod deliveries;
mod posts;
mod receivers;
mod report;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Side by side, in one run.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// POST messages beside a bare axum handler; WebSocket members and event streams beside native members.
    Http(Options),
    /// The bare axum handler, until it is killed; prints where it is.
    #[command(hide = true)]
    Bare,
}

/// How it is measured.
#[derive(clap::Args)]
pub struct Options {
    /// The binary that is measured.
    #[arg(long, default_value = "target/release/tertulia")]
    pub tertulia: PathBuf,
    /// Fewer and shorter rounds.
    #[arg(long)]
    pub quick: bool,
    /// The document whose section is replaced.
    #[arg(long)]
    pub write: Option<PathBuf>,
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime, on any machine that measures");
    let outcome: Result<()> = match Cli::parse().what {
        What::Http(options) => runtime.block_on(http(&options)),
        What::Bare => runtime.block_on(bare::serve()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn http(options: &Options) -> Result<()> {
    let posts = posts::measure(options).await?;
    let deliveries = deliveries::measure(options).await?;
    let section = report::section(options, &[posts, deliveries]);
    print!("{section}");
    match &options.write {
        Some(path) => report::write(path, "http", &section),
        None => Ok(()),
    }
}
