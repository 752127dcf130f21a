//! Delivery, side by side: for each work everybody in turn, round by round, so that what else the machine does hits all alike.

use std::time::Duration;

use anyhow::Result;

use crate::apart::Apart;
use crate::options::{Binary, Disk, Extent, Nats, Page, QUICK};
use crate::peers::{self, Peer, Programs};
use crate::place::Place;
use crate::report::{self, Row, Table};
use crate::works::{self, Effort, Work};

/// What the command line says.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub binary: Binary,
    #[command(flatten)]
    pub nats: Nats,
    #[command(flatten)]
    pub disk: Disk,
    #[command(flatten)]
    pub extent: Extent,
    /// Seconds of each round.
    #[arg(long)]
    pub seconds: Option<f64>,
    /// Only these works, with commas between them.
    #[arg(long, value_delimiter = ',', value_parser = works::names())]
    pub works: Vec<String>,
    /// Only peers in whose names one of these stands, beside the floor: nothing is written to the page then.
    #[arg(long, value_delimiter = ',')]
    pub peers: Vec<String>,
    #[command(flatten)]
    pub page: Page,
}

/// Measures, prints the tables, and writes them to the page as they come.
pub fn run(args: &Args) -> Result<()> {
    let seconds = if args.extent.quick { 0.1 } else { 0.5 };
    let effort = Effort {
        rounds: args.extent.rounds(2, 7),
        round: Duration::from_secs_f64(args.seconds.unwrap_or(seconds)),
    };
    let place = Place::on_disk(&args.disk.folder)?;
    let programs = Programs::new(&args.binary, &args.nats);
    let peers = peers::named(&programs, &args.peers);
    let against = match (args.extent.quick, args.peers.is_empty()) {
        (true, _) => Some(QUICK),
        (_, false) => Some("not everybody was measured"),
        _ => None,
    };
    for work in works::named(&args.works, args.extent.quick) {
        let table = measure(args, &peers, &programs, work, effort)?;
        let origin = report::origin(&args.page, &peers, &place, work, effort);
        println!("{}", report::markdown(&table, &origin));
        // What was measured is there, whatever becomes of the rest.
        if let Some(path) = args.page.path(against) {
            report::write(path, &table, &origin)?;
        }
    }
    if args.extent.quick && args.works.is_empty() {
        eprintln!("left out: {}", works::left_out());
    }
    Ok(())
}

/// One work: everybody at once is there, and one after the other has its round.
fn measure(
    args: &Args,
    peers: &[Box<dyn Peer>],
    programs: &Programs,
    work: Work,
    effort: Effort,
) -> Result<Table> {
    let mut rows = Vec::new();
    for peer in peers {
        eprintln!("{}: {}", work.about, peer.name());
        let folder = &args.disk.folder;
        let mut load = Apart::new(peer.as_ref(), work, programs, folder, args.extent.quick)?;
        // Not counted: caches, and the server's first allocations.
        load.round(effort.round / 4)?;
        rows.push((load, Row { peer: peer.name(), rounds: Vec::new() }));
    }
    for nth in 0..effort.rounds {
        eprintln!("{}: round {} of {}", work.about, nth + 1, effort.rounds);
        for (load, row) in &mut rows {
            row.rounds.push(load.round(effort.round)?);
        }
    }
    Ok(Table { work, rows: rows.into_iter().map(|(_, row)| row).collect() })
}
