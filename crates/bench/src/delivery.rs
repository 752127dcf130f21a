//! Delivery, side by side: for each work everybody in turn, round by round, so that what else the machine does hits all alike.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::apart::Apart;
use crate::load::Round;
use crate::peers::{self, Peer, Programs};
use crate::report::{self, Row, Table};
use crate::works::{Effort, WORKS, Work};

/// What the command line says.
#[derive(clap::Args)]
pub struct Args {
    /// The binary that is measured.
    #[arg(long, default_value = "target/release/tertulia")]
    tertulia: PathBuf,
    /// The `nats-server` that it is measured beside.
    #[arg(long, default_value = "target/bench/nats-server")]
    nats: PathBuf,
    /// Two short rounds each of a few works, with less on its way: half a minute, and no more than a hint.
    #[arg(long)]
    quick: bool,
    /// Rounds of each work.
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds of each round.
    #[arg(long)]
    seconds: Option<f64>,
    /// Only these works, with commas between them.
    #[arg(long, value_delimiter = ',')]
    works: Vec<String>,
    /// Only peers in whose names one of these stands, beside the floor.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// The document whose section is replaced; charts go into the folder beside it that is called as it is.
    #[arg(long)]
    write: Option<PathBuf>,
}

/// Measures, prints the tables, and writes the page.
pub fn run(args: &Args) -> Result<()> {
    let (rounds, seconds) = if args.quick { (2, 0.1) } else { (7, 0.5) };
    let effort = Effort {
        rounds: args.rounds.unwrap_or(rounds),
        round: Duration::from_secs_f64(args.seconds.unwrap_or(seconds)),
    };
    let programs = Programs { tertulia: args.tertulia.clone(), nats: args.nats.clone() };
    let mut peers = peers::all(&programs);
    let is_floor = |peer: &dyn Peer| peer.name() == "floor";
    peers.retain(|peer| {
        args.peers.is_empty()
            || is_floor(peer.as_ref())
            || peers::is_named(peer.as_ref(), &args.peers)
    });
    let mut tables = Vec::new();
    for work in works(&args.works, args.quick)? {
        let table = measure(args, &peers, &programs, work, effort)?;
        println!("{}", report::markdown(&table));
        tables.push(table);
        // What was measured is there, whatever becomes of the rest.
        if let Some(path) = &args.write {
            report::write(path, &tables, &peers, effort)?;
        }
    }
    Ok(())
}

/// A quick run has only those that are over soon.
fn works(names: &[String], quick: bool) -> Result<Vec<Work>> {
    if let Some(unknown) = names.iter().find(|name| !WORKS.iter().any(|work| work.name == **name)) {
        let known: Vec<&str> = WORKS.iter().map(|work| work.name).collect();
        bail!("there is no work {unknown}; there are {}", known.join(", "));
    }
    let is_wanted = |work: &&Work| match names {
        [] => !quick || ["m10", "m100", "one", "paced"].contains(&work.name),
        names => names.iter().any(|name| name == work.name),
    };
    Ok(WORKS.iter().filter(is_wanted).copied().collect())
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
        let mut load = Apart::new(peer.as_ref(), work, programs, args.quick)?;
        // Not counted: caches, and the server's first allocations.
        load.round(effort.round / 4)?;
        rows.push((load, Row { peer: peer.name(), rounds: Vec::new() }));
    }
    for nth in 0..effort.rounds {
        eprintln!("{}: round {} of {}", work.about, nth + 1, effort.rounds);
        for (load, row) in &mut rows {
            let round: Round = load.round(effort.round)?;
            row.rounds.push(round);
        }
    }
    Ok(Table { work, rows: rows.into_iter().map(|(_, row)| row).collect() })
}
