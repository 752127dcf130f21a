//! Runs the torture for some minutes and says whether every promise was kept.

use std::process::ExitCode;

use clap::Parser as _;
use tertulia_torture::options::{Hidden, Options};
use tertulia_torture::{clients, run};

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    match options.command {
        Some(Hidden::Client(args)) => clients::run(args).map(|()| ExitCode::SUCCESS),
        None => Ok(if run::run(options.run)? { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
    }
}
