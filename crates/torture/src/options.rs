//! What the torture is told on its command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::clients::ClientArgs;
use crate::run::Draw;

/// Real processes under real faults: a node on its own host and disk, clients on other hosts, and a checker that compares what
/// every client saw with what was promised.
#[derive(Debug, Parser)]
#[command(name = "torture", version)]
pub struct Options {
    /// Something else than a run.
    #[command(subcommand)]
    pub command: Option<Hidden>,
    /// The run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// What the torture's program does beside the torture.
#[derive(Debug, Subcommand)]
pub enum Hidden {
    /// Holds clients; started by the torture itself
    #[command(hide = true)]
    Client(ClientArgs),
}

/// How long, with which faults, from which seed.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// How long to go on
    #[arg(long, default_value_t = 5.0)]
    pub minutes: f64,
    /// Each fault three times, in an order drawn by the seed; skipped, and says why, where the machine cannot do it (an error in CI)
    #[arg(long)]
    pub short: bool,
    /// Decides which faults come in which order, and what clients do; what happens meanwhile is up to the machine
    #[arg(long)]
    pub seed: Option<u64>,
    /// Only these faults, with commas between them; among them kill-client and stop-client
    #[arg(long, value_delimiter = ',')]
    pub faults: Vec<Draw>,
    /// The node's level: fsync or os
    #[arg(long, default_value = "fsync")]
    pub sync: String,
    /// It has to break a promise, as a node does whose level does not cover the faults (--sync os with power cuts, or
    /// TERTULIA_ENGINE=memory with kills): fails if nothing is found
    #[arg(long)]
    pub expect_violation: bool,
    /// The table as one JSON object on standard output
    #[arg(long)]
    pub json: bool,
    /// The `tertulia` program [default: the one beside this program]
    #[arg(long)]
    pub binary: Option<PathBuf>,
    /// Where histories are kept while they are needed, and longer when a promise was broken [default: a temporary folder]
    #[arg(long)]
    pub histories: Option<PathBuf>,
    /// Do not test the node's clock (libfaketime is not needed then)
    #[arg(long)]
    pub no_clock: bool,
}
