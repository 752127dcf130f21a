//! What an idle member costs in memory: so many more in one group, after the first ones have made the process what it is.

use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::figures::{short, thousands};
use crate::options::{Binary, Disk, Nats, Page, QUICK};
use crate::page;
use crate::peers::{self, Peer, Programs};
use crate::place::Place;

/// What the command line says.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub binary: Binary,
    #[command(flatten)]
    pub nats: Nats,
    #[command(flatten)]
    pub disk: Disk,
    /// Fewer members: no more than a hint, so nothing is written to the page.
    #[arg(long)]
    pub quick: bool,
    /// Members who are there before; their memory is not counted.
    #[arg(long)]
    pub before: Option<usize>,
    /// Members who come then.
    #[arg(long)]
    pub members: Option<usize>,
    /// Only peers in whose names one of these stands, beside the floor: nothing is written to the page then.
    #[arg(long, value_delimiter = ',')]
    pub peers: Vec<String>,
    #[command(flatten)]
    pub page: Page,
}

/// What stands above the table.
const ABOUT: &str = "## An idle member\n\n\
    Resident memory of the server's process that more members of one group take, a member, when others were there before. Each is a \
    connection of its own that has joined (JetStream: with its consumer) and reads what comes. Buffers of the kernel's are not in it. \
    Each is measured once.\n";

const GROUP: &str = "g0000";
/// After so many more, everybody reads what has come: nobody is to be one who does not read.
const READ_AFTER: usize = 256;
/// So many join at once.
const AT_ONCE: usize = 32;
/// What servers put off is done then.
const SETTLING: Duration = Duration::from_millis(700);

/// Measures, prints the table, and writes the page.
pub fn run(args: &Args) -> Result<()> {
    let (before, members) = if args.quick { (200, 300) } else { (1_000, 3_000) };
    let (before, members) = (args.before.unwrap_or(before), args.members.unwrap_or(members));
    let place = Place::on_disk(&args.disk.folder)?;
    let peers = peers::named(&Programs::new(&args.binary, &args.nats), &args.peers);
    let beside = peers::versions(&peers);
    let beside = if beside.is_empty() { beside } else { format!("{beside}; ") };
    let (more, first) = (thousands(members as f64), thousands(before as f64));
    let mut out = args.page.origin(&format!("{beside}{more} members more than {first}"));
    out += "\n\n| | KiB a member | MiB in all |\n|---|---|---|\n";
    for peer in &peers {
        eprintln!("idle members: {}", peer.name());
        let measured = measure(peer.as_ref(), &place.folder, before, members);
        let (each, all) = measured.context(peer.name())?;
        let (each, all) = (each as f64 / 1024.0, all as f64 / f64::from(1 << 20));
        let _ = writeln!(out, "| {} | {} | {} |", peer.name(), short(each), short(all));
    }
    println!("{out}");
    let against = match (args.quick, args.peers.is_empty()) {
        (true, _) => Some(QUICK),
        (_, false) => Some("not everybody was measured"),
        _ => None,
    };
    let Some(path) = args.page.path(against) else { return Ok(()) };
    let table = page::Table { name: "members".into(), text: out };
    page::write(path, "idle", ABOUT, &["members"], &[table])
}

/// Bytes of one of `members` more, and of all the process in the end.
fn measure(peer: &dyn Peer, within: &Path, before: usize, members: usize) -> Result<(u64, u64)> {
    let served = peer.start(within)?;
    peer.prepare(&served, &[GROUP.to_owned()])?;
    let (served, mut streams) = (&served, Vec::<TcpStream>::new());
    let mut join = |count: usize| -> Result<u64> {
        let wanted = streams.len() + count;
        while streams.len() < wanted {
            let (from, to) = (streams.len(), wanted.min(streams.len() + READ_AFTER));
            // Many at once: each of them is told of all the others.
            let joined: Vec<Result<Vec<TcpStream>>> = std::thread::scope(|scope| {
                let some = |first| {
                    let each = move |index| peer.member(served, GROUP, index).map(|c| c.stream);
                    scope.spawn(move || (first..to).step_by(AT_ONCE).map(each).collect())
                };
                let under_way: Vec<_> = (from..to.min(from + AT_ONCE)).map(some).collect();
                let failed = |_| Err(anyhow::anyhow!("a thread that joins has panicked"));
                under_way.into_iter().map(|some| some.join().unwrap_or_else(failed)).collect()
            });
            for stream in joined.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten() {
                stream.set_nonblocking(true)?;
                streams.push(stream);
            }
            streams.iter_mut().try_for_each(read)?;
        }
        std::thread::sleep(SETTLING);
        streams.iter_mut().try_for_each(read)?;
        served.process().memory()
    };
    let resident = join(before)?;
    let all = join(members)?;
    Ok((all.saturating_sub(resident) / members as u64, all))
}

fn read(stream: &mut TcpStream) -> Result<()> {
    let mut sink = [0; 64 << 10];
    loop {
        match stream.read(&mut sink) {
            Ok(n) => ensure!(n > 0, "a member's connection has ended"),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
