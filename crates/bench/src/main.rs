//! Measures side by side, round by round in one run: the servers' CPU time is what a noisy machine leaves usable.

mod http;

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
    Http(http::Options),
    /// The bare axum handler, until it is killed; prints where it is.
    #[command(hide = true)]
    Bare,
}

fn main() -> ExitCode {
    let outcome: Result<()> = match Cli::parse().what {
        What::Http(options) => http::run(&options),
        What::Bare => http::bare(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
