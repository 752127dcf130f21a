//! Measures side by side, round by round in one run: the servers' CPU time is what a noisy machine leaves usable.

mod all;
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
mod options;
mod page;
mod peers;
mod place;
mod poll;
mod process;
mod report;
mod served;
mod versions;
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
    /// All of the others, one after the other, in full or `--quick`; each writes what it has measured.
    All(all::Args),
    /// Delivery to a group's members beside NATS, JetStream, Redis, Mosquitto and a server that only writes.
    Delivery(delivery::Args),
    /// Commits of the embedded store beside a bare file that is written and synced.
    Appends(appends::Args),
    /// What an operation costs as a node grows, and how long it takes to be back.
    Growth(growth::Args),
    /// What an idle member costs in memory, beside NATS, JetStream, Redis and Mosquitto.
    Idle(idle::Args),
    /// POST messages beside a bare axum handler; WebSocket members and event streams beside native members.
    Http(http::Args),
    /// Files from one peer to another beside nginx with TLS and curl.
    Files(files::Args),
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
    let what = Cli::parse().what;
    permit_files();
    let outcome: Result<()> = match what {
        What::All(args) => all::run(&args),
        What::Delivery(args) => delivery::run(&args),
        What::Appends(args) => appends::run(&args),
        What::Growth(args) => growth::run(&args),
        What::Idle(args) => idle::run(&args),
        What::Files(args) => files::run(&args),
        What::Http(args) => http::run(&args),
        What::Bare => http::bare(),
        What::Load(args) => apart::run(&args),
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

/// As many open files as this process is allowed to ask for; servers that it starts may open as many.
fn permit_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where that fails it is as before, and whoever needs more says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
