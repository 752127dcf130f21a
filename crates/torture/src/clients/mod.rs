//! One client process: several clients of one kind on one host, which is told when to be quiet and says how far it is.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader};

mod desk;
mod joins;
mod laters;
mod lines;
mod members;
pub(crate) mod outcome;
mod programs;
mod senders;
mod stay;

use desk::Desk;
pub use desk::path_of;
pub use joins::Printed;

/// What kind of clients a process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Outside senders by the library.
    Senders,
    /// Members by the library.
    Members,
    /// `tertulia join` and `tertulia send`.
    Programs,
    /// Clients of the line door.
    Lines,
}

impl Role {
    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Senders => "senders",
            Self::Members => "members",
            Self::Programs => "programs",
            Self::Lines => "lines",
        }
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = [Self::Senders, Self::Members, Self::Programs, Self::Lines];
        all.into_iter().find(|role| role.name() == name).ok_or_else(|| format!("no role {name:?}"))
    }
}

/// What a client process is told at its start.
#[derive(Clone, Debug, clap::Args)]
pub struct ClientArgs {
    /// Which kind of clients
    #[arg(long)]
    pub role: Role,
    /// The process's name, the same in all its lives
    #[arg(long)]
    pub name: String,
    /// Which of its lives this is
    #[arg(long)]
    pub life: u64,
    /// The stretch between two quiet moments in which it begins
    #[arg(long)]
    pub era: u64,
    /// Where it writes
    #[arg(long)]
    pub folder: PathBuf,
    /// The node's native door
    #[arg(long)]
    pub native: String,
    /// The node's line door
    #[arg(long)]
    pub line: String,
    /// The groups
    #[arg(long, value_delimiter = ',')]
    pub groups: Vec<String>,
    /// The `tertulia` program
    #[arg(long)]
    pub binary: PathBuf,
    /// Decides what its clients do
    #[arg(long)]
    pub seed: u64,
}

/// What the torture says to a client process: one object a line on its standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Send, join, leave.
    Go,
    /// Begin nothing new; stay and read.
    Pause,
    /// The histories of another stretch begin.
    Era(u64),
}

/// What a client process says: one object a line on its standard output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The stretch that its history is about.
    pub era: u64,
    /// It begins nothing new.
    pub paused: bool,
    /// Messages that were begun and have no outcome, and receipts that are waited for.
    pub pending: u64,
    /// Messages that were answered as stored, in this life.
    pub stored: u64,
    /// Its members, and how far each is.
    pub members: Vec<Standing>,
}

/// How far a member is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Its group.
    pub group: String,
    /// Its name.
    pub name: String,
    /// It is connected, as far as it knows.
    pub is_in: bool,
    /// The highest number that it was given.
    pub have: u64,
    /// What it was given and has neither confirmed nor failed.
    pub undone: u64,
}

/// Runs until its standard input ends.
///
/// # Errors
/// What makes the torture itself fail.
pub fn run(args: ClientArgs) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async move {
        let desk = Arc::new(Desk::new(args)?);
        match desk.args.role {
            Role::Senders => senders::start(&desk),
            Role::Members => members::start(&desk),
            Role::Programs => programs::start(&desk),
            Role::Lines => lines::start(&desk),
        }
        tokio::spawn(Arc::clone(&desk).say());
        let mut orders = BufReader::new(tokio::io::stdin()).lines();
        while let Some(order) = orders.next_line().await? {
            match serde_json::from_str(&order) {
                Ok(order) => desk.take(order)?,
                Err(error) => bail!("{order}: {error}"),
            }
        }
        // The torture is gone, or is done: what is under way is of no use any more.
        std::process::exit(0)
    })
}
