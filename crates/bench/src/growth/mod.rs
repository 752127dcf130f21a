//! Growth: what an operation costs as a node gets groups, idle members, history and comings and goings, and how long it takes to be back.

mod churn;
mod grown;
mod ops;
mod report;

use std::time::{Duration, Instant};

use anyhow::Result;

use grown::Grown;

use crate::figures::thousands;
use crate::options::{Binary, Disk, Extent, Page, QUICK};
use crate::place::Place;

/// What the command line says.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub binary: Binary,
    #[command(flatten)]
    pub disk: Disk,
    #[command(flatten)]
    pub extent: Extent,
    /// Only these, with commas between them.
    #[arg(long, value_delimiter = ',', value_parser = names())]
    pub only: Vec<String>,
    #[command(flatten)]
    pub page: Page,
}

/// What a node has, its group of ten members in which the operations are done among it.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    /// Groups, that one among them.
    groups: usize,
    /// Members who only are there, in groups of [`grown::IDLE_GROUP`] that come on top.
    idle: usize,
    /// Messages that the group has from before.
    history: usize,
    /// Members who have joined the group and left it before.
    gone: usize,
    /// Members who join the group and leave it in each second, all the time.
    visits: usize,
}

/// One thing that grows.
struct Growth {
    name: &'static str,
    about: &'static str,
    sizes: &'static [Size],
    /// What grows.
    of: fn(&Size) -> usize,
}

/// The smallest of all, with which the others are compared: a page of groups and a page of entries are full.
const LEAST: Size = Size { groups: 100, idle: 0, history: 100, gone: 0, visits: 0 };
/// Idle members at most; see [`idle_max`].
const IDLE: usize = 20_000;
const ALL: &[Growth] = &[
    Growth {
        name: "groups",
        about: "Groups",
        sizes: &[LEAST, Size { groups: 1_000, ..LEAST }, Size { groups: 10_000, ..LEAST }],
        of: |size| size.groups,
    },
    Growth {
        name: "idle",
        about: "Idle members, elsewhere",
        sizes: &[LEAST, Size { idle: 1_000, ..LEAST }, Size { idle: IDLE, ..LEAST }],
        of: |size| size.idle,
    },
    Growth {
        name: "history",
        about: "Messages of history in the group",
        sizes: &[LEAST, Size { history: 10_000, ..LEAST }, Size { history: 1_000_000, ..LEAST }],
        of: |size| size.history,
    },
    Growth {
        name: "churn",
        about: "Members who have joined the group and left it before",
        sizes: &[LEAST, Size { gone: 1_000, ..LEAST }, Size { gone: 20_000, ..LEAST }],
        of: |size| size.gone,
    },
    Growth {
        name: "visits",
        about: "Members who join the group and leave it all the time, in each second",
        sizes: &[LEAST, Size { visits: 10, ..LEAST }, Size { visits: 100, ..LEAST }],
        of: |size| size.visits,
    },
    Growth {
        name: "all",
        about: "All of it at once",
        sizes: &[
            LEAST,
            Size { groups: 10_000, idle: IDLE, history: 1_000_000, gone: 20_000, visits: 100 },
        ],
        of: |size| size.groups,
    },
];

fn names() -> Vec<&'static str> {
    ALL.iter().map(|growth| growth.name).collect()
}

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

/// Measures, prints the tables, and writes them to the page as they come.
pub fn run(args: &Args) -> Result<()> {
    let (quick, rounds) = (args.extent.quick, args.extent.rounds(1, 5));
    let place = Place::on_disk(&args.disk.folder)?;
    let wanted = |growth: &&Growth| match &args.only[..] {
        // All of it is in the last one.
        [] => !quick || growth.name == "all",
        only => only.iter().any(|name| name == growth.name),
    };
    for growth in ALL.iter().filter(wanted) {
        let sizes = measure(args, growth, rounds)?;
        let origin = report::origin(&args.page, &place, growth, rounds);
        println!("{}", report::markdown(growth, &sizes, &origin));
        if let Some(path) = args.page.path(quick.then_some(QUICK)) {
            report::write(path, growth, &sizes, &origin)?;
        }
    }
    if quick && args.only.is_empty() {
        eprintln!("left out: each growth by itself; sizes are a tenth");
    }
    Ok(())
}

/// Nodes of all sizes are there at once, and each operation is done at one after the other.
fn measure(args: &Args, growth: &Growth, rounds: usize) -> Result<Vec<Measured>> {
    let (mut nodes, mut measured) = (Vec::new(), Vec::new());
    for (nth, size) in growth.sizes.iter().enumerate() {
        let size = if args.extent.quick { size.quick() } else { *size }.permitted();
        let label = match (growth.name, nth) {
            ("all", 0) => "the least".to_owned(),
            ("all", _) => "all".to_owned(),
            _ => thousands((growth.of)(&size) as f64),
        };
        eprintln!("{}: {label}", growth.about);
        let began = Instant::now();
        nodes.push(Grown::new(&args.binary.tertulia, &args.disk.folder, size)?);
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
            node.start_visits();
            let idle = node.idle_cpu()?;
            measured.resident = node.served.process().memory()?;
            for (op, costs) in ops::ALL.iter().zip(&mut measured.costs) {
                costs.push(op.measure(node, idle)?);
            }
            measured.idle.push(idle);
            node.end_visits()?;
        }
    }
    for (node, measured) in nodes.into_iter().zip(&mut measured) {
        measured.back = node.back()?;
    }
    Ok(measured)
}

/// Idle members that there can be: a node gives connections three quarters of the files that it may open, and whoever holds their
/// other ends needs one for each, too.
fn idle_max() -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let files = files.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    // For the little group, those who come and go, and what is asked.
    const OTHERS: usize = 200;
    let most = (files / 4 * 3).saturating_sub(OTHERS);
    IDLE.min(most / grown::IDLE_GROUP * grown::IDLE_GROUP)
}

impl Size {
    /// A tenth of it, and never less than the least.
    fn quick(self) -> Self {
        Self {
            groups: (self.groups / 10).max(LEAST.groups),
            idle: self.idle / 10,
            history: (self.history / 10).max(LEAST.history),
            gone: self.gone / 10,
            visits: self.visits,
        }
    }

    /// With no more idle members than this machine permits.
    fn permitted(self) -> Self {
        Self { idle: self.idle.min(idle_max()), ..self }
    }
}
