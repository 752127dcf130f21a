//! Measures side by side, round by round in one run: the servers' CPU time is what a noisy machine leaves usable.

mod apart;
mod appends;
mod cpu;
mod delivery;
mod figures;
mod files;
mod floor;
mod growth;
mod http;
mod idle;
mod load;
mod page;
mod peers;
mod poll;
mod report;
mod served;
mod works;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Side by side, in one run; `cargo xtask bench` is the way to start it.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Delivery to a group's members beside NATS, JetStream, Redis, Mosquitto and a server that only writes.
    Delivery(delivery::Args),
    /// Commits of the embedded store beside a bare file that is written and synced.
    Appends(appends::Args),
    /// What an operation costs as a node grows, and how long it takes to be back.
    Growth(growth::Args),
    /// What an idle member costs in memory, beside NATS, JetStream, Redis and Mosquitto.
    Idle(idle::Args),
    /// POST messages beside a bare axum handler; WebSocket members and event streams beside native members.
    Http(http::Options),
    /// Files from one peer to another beside nginx with TLS and curl.
    Files(files::Options),
    /// The bare axum handler, until it is killed; prints where it is.
    #[command(hide = true)]
    Bare,
    /// The load of one peer in one work, a round for each line.
    #[command(hide = true)]
    Load(apart::Args),
    /// The server that only writes, until it is killed; prints where it is.
    #[command(hide = true)]
    Floor,
}

fn main() -> ExitCode {
    let outcome: Result<()> = match Cli::parse().what {
        What::Delivery(args) => delivery::run(&args),
        What::Appends(args) => appends::run(&args),
        What::Growth(args) => growth::run(&args),
        What::Idle(args) => idle::run(&args),
        What::Files(options) => files::run(&options),
        What::Http(options) => http::run(&options),
        What::Bare => http::bare(),
        What::Load(args) => apart::run(args),
        What::Floor => floor::serve(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
