//! A load in a process of its own: so many files as all peers' members need, no process may have open. When whoever started it is gone, it
//! ends, and its server with it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::load::{Load, Round};
use crate::options::{Binary, Disk, Nats};
use crate::peers::{self, Peer, Programs};
use crate::works::{WORKS, Work};

/// What it is told on its command line.
#[derive(clap::Args)]
pub struct Args {
    #[arg(long)]
    peer: String,
    #[arg(long)]
    work: String,
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    binary: Binary,
    #[command(flatten)]
    nats: Nats,
    #[command(flatten)]
    disk: Disk,
}

/// Its first line.
const READY: &str = "ready";

/// The process: says so once everybody is there, then does a round for each line that tells its length.
pub fn run(args: &Args) -> Result<()> {
    let programs = Programs::new(&args.binary, &args.nats);
    let peers = peers::all(&programs);
    let peer =
        peers.iter().find(|peer| peer.name() == args.peer).context("there is no such peer")?;
    let work = WORKS.iter().find(|work| work.name == args.work).context("there is no such work")?;
    let work = if args.quick { work.quick() } else { *work };
    let mut load = Load::new(peer.as_ref(), work, &args.disk.folder)?;
    println!("{READY}");
    for line in std::io::stdin().lines() {
        let round = load.round(Duration::from_secs_f64(line?.parse()?))?;
        println!("{}", serde_json::to_string(&round)?);
    }
    Ok(())
}

/// See the module.
pub struct Apart {
    child: Child,
    /// Closed to end it.
    say: Option<ChildStdin>,
    hear: BufReader<ChildStdout>,
    about: String,
}

impl Apart {
    /// Starts it; everybody is connected when this returns.
    pub fn new(
        peer: &dyn Peer,
        work: Work,
        programs: &Programs,
        folder: &Path,
        is_quick: bool,
    ) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["load", "--peer", peer.name(), "--work", work.name]);
        command.args(is_quick.then_some("--quick"));
        command.arg("--tertulia").arg(&programs.tertulia).arg("--nats").arg(&programs.nats);
        command.arg("--folder").arg(folder);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let hear = BufReader::new(child.stdout.take().context("piped")?);
        let (say, about) = (child.stdin.take(), format!("{}: {}", work.about, peer.name()));
        let mut apart = Self { child, say, hear, about };
        ensure!(apart.line()? == READY, "the load says something else first");
        Ok(apart)
    }

    /// One round of so long.
    pub fn round(&mut self, length: Duration) -> Result<Round> {
        let say = self.say.as_mut().context("it is open")?;
        writeln!(say, "{}", length.as_secs_f64()).with_context(|| self.about.clone())?;
        Ok(serde_json::from_str(&self.line()?)?)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.hear.read_line(&mut line)?;
        // What is wrong it has said on standard error.
        ensure!(!line.is_empty(), "{}: the load has ended", self.about);
        Ok(line.trim().to_owned())
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        self.say = None;
        let _ = self.child.wait();
    }
}
