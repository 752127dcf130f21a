//! Growth: what an operation costs as a node gets groups, idle members, history and comings and goings, and how long it takes to be back.

mod grown;
mod ops;
mod report;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;

use grown::Grown;

/// What the command line says.
#[derive(clap::Args)]
pub struct Args {
    /// The binary that is measured.
    #[arg(long, default_value = "target/release/tertulia")]
    tertulia: PathBuf,
    /// Smaller nodes and fewer rounds: no more than a hint.
    #[arg(long)]
    quick: bool,
    /// Rounds of each, all sizes in turn.
    #[arg(long)]
    rounds: Option<usize>,
    /// Only these: groups, idle, history, churn, all; with commas between them.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The document whose section is replaced; charts go into the folder beside it that is called as it is.
    #[arg(long)]
    write: Option<PathBuf>,
}

/// What a node has, beside a group of ten members in which the operations are done.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    /// Groups that nobody is in.
    groups: usize,
    /// Members who only are there, in groups of [`grown::IDLE_GROUP`].
    idle: usize,
    /// Messages that the group has from before.
    history: usize,
    /// Members who have joined the group and left it.
    gone: usize,
}

/// One thing that grows.
struct Growth {
    name: &'static str,
    about: &'static str,
    sizes: &'static [(&'static str, Size)],
}

/// A node gives connections three quarters of the files that it may open, and 20,000 is a usual limit of those.
const IDLE_MAX: usize = 10_000;
const NONE: Size = Size { groups: 0, idle: 0, history: 0, gone: 0 };
const ALL: &[Growth] = &[
    Growth {
        name: "groups",
        about: "Groups",
        sizes: &[
            ("1", NONE),
            ("100", Size { groups: 99, ..NONE }),
            ("10,000", Size { groups: 9_999, ..NONE }),
        ],
    },
    Growth {
        name: "idle",
        about: "Idle members, elsewhere",
        sizes: &[
            ("0", NONE),
            ("1,000", Size { idle: 1_000, ..NONE }),
            ("10,000", Size { idle: IDLE_MAX, ..NONE }),
        ],
    },
    Growth {
        name: "history",
        about: "Messages of history in the group",
        sizes: &[
            ("0", NONE),
            ("10,000", Size { history: 10_000, ..NONE }),
            ("1,000,000", Size { history: 1_000_000, ..NONE }),
        ],
    },
    Growth {
        name: "churn",
        about: "Members who have joined the group and left it",
        sizes: &[
            ("0", NONE),
            ("1,000", Size { gone: 1_000, ..NONE }),
            ("20,000", Size { gone: 20_000, ..NONE }),
        ],
    },
    Growth {
        name: "all",
        about: "All of it at once",
        sizes: &[
            ("nothing", NONE),
            ("all", Size { groups: 9_999, idle: IDLE_MAX, history: 1_000_000, gone: 20_000 }),
        ],
    },
];

/// What was measured at one size.
struct Measured {
    label: String,
    /// How long the growing took.
    grew: Duration,
    /// Resident memory, when nothing happens.
    resident: u64,
    /// CPU time a second, when nothing happens; of each round.
    idle: Vec<Duration>,
    /// Of each operation (in the order of [`ops::ALL`]), round by round: CPU time and time until it is done, each for one.
    costs: Vec<Vec<Cost>>,
    back: Back,
}

/// One operation, in the mean of a round.
#[derive(Clone, Copy)]
struct Cost {
    cpu: Duration,
    /// The median of the round.
    took: Duration,
}

/// After `kill -9`, from the new start on.
#[derive(Clone, Copy, Default)]
struct Back {
    /// Until the node takes connections.
    listens: Duration,
    /// Until it has answered which groups there are.
    lists: Duration,
    /// Until it has stored a message in the group.
    stores: Duration,
}

/// Measures, prints the tables, and writes the page.
pub fn run(args: &Args) -> Result<()> {
    let rounds = args.rounds.unwrap_or(if args.quick { 1 } else { 5 });
    let wanted = |growth: &&Growth| match &args.only[..] {
        // All of it is in the last one.
        [] => !args.quick || growth.name == "all",
        only => only.iter().any(|name| name == growth.name),
    };
    let mut all = Vec::new();
    for growth in ALL.iter().filter(wanted) {
        all.push((growth, measure(args, growth, rounds)?));
        println!("{}", report::markdown(growth, &all[all.len() - 1].1));
        if let Some(path) = &args.write {
            report::write(path, &all, rounds, args.quick)?;
        }
    }
    Ok(())
}

/// Nodes of all sizes are there at once, and each operation is done at one after the other.
fn measure(args: &Args, growth: &Growth, rounds: usize) -> Result<Vec<Measured>> {
    let (mut nodes, mut measured) = (Vec::new(), Vec::new());
    for (label, size) in growth.sizes {
        eprintln!("{}: {label}", growth.about);
        let began = Instant::now();
        let (label, size) = match args.quick {
            true => (format!("{label} / 10"), size.quick()),
            false => ((*label).to_owned(), *size),
        };
        nodes.push(Grown::new(&args.tertulia, size)?);
        measured.push(Measured {
            label,
            grew: began.elapsed(),
            resident: 0,
            idle: Vec::new(),
            costs: vec![Vec::new(); ops::ALL.len()],
            back: Back::default(),
        });
    }
    for round in 0..rounds {
        eprintln!("{}: round {} of {rounds}", growth.about, round + 1);
        for (node, measured) in nodes.iter_mut().zip(&mut measured) {
            let idle = node.idle_cpu()?;
            measured.resident = node.served.memory()?;
            for (op, costs) in ops::ALL.iter().zip(&mut measured.costs) {
                costs.push(op.measure(node, idle)?);
            }
            measured.idle.push(idle);
        }
    }
    for (node, measured) in nodes.into_iter().zip(&mut measured) {
        measured.back = node.back()?;
    }
    Ok(measured)
}

impl Size {
    /// A tenth of it.
    fn quick(self) -> Self {
        let Self { groups, idle, history, gone } = self;
        Self { groups: groups / 10, idle: idle / 10, history: history / 10, gone: gone / 10 }
    }
}
