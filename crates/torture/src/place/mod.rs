//! The place where a node is tortured: hosts made of network namespaces, a disk of its own, and the faults done to them.
//!
//! ```no_run
//! # use tertulia_torture::place::{Fault, Options, Place};
//! # use rand::SeedableRng as _;
//! # fn main() -> anyhow::Result<()> {
//! let mut rng = rand::rngs::StdRng::seed_from_u64(7);
//! let mut place = Place::new(Options::new("target/release/tertulia".into()))?;
//! place.start_node()?;
//! let (host, node) = (place.clients()[0].clone(), place.native());
//! std::thread::spawn(move || host.enter().map(|()| std::net::TcpStream::connect(node)));
//! let inflicted = place.inflict(Fault::PowerCut, &mut rng)?;
//! // Here it is as long as one wants.
//! let healed = place.heal(inflicted)?;
//! println!("{healed:?}");
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use rand::RngCore;

mod fault;

pub use fault::{Fault, Inflicted};

/// What the place is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `tertulia` program.
    pub binary: PathBuf,
    /// How large the node's disk is. The node makes files of 32 MiB and the next one in advance: below 128 it has no room.
    pub disk_mib: u64,
    /// How many hosts there are besides the node's.
    pub clients: u8,
    /// What *stored* means to the node: `fsync` or `os`. With `os`, [`Fault::PowerCut`] may lose what was answered.
    pub sync: String,
    /// How much of each group the node keeps (`--keep`), so that its disk does not fill by itself.
    pub keep: String,
    /// Whether the node's clock can be set ([`Fault::ClockJump`]); it then runs with libfaketime.
    pub clock: bool,
    /// Whether SIGINT and SIGTERM remove everything and end this process, with 130. One place a process at most.
    pub ends_on_signals: bool,
}

impl Options {
    /// The usual place: 256 MiB, two clients, `fsync`, a clock that can be set, nothing done about signals.
    pub fn new(binary: PathBuf) -> Self {
        Self {
            binary,
            disk_mib: 256,
            clients: 2,
            sync: "fsync".to_owned(),
            keep: "1d,64MiB".to_owned(),
            clock: true,
            ends_on_signals: false,
        }
    }
}

/// Hosts, a disk and a node. Everything is removed when it is dropped, also after a panic; what a killed run left
/// behind is removed by the next one.
pub struct Place {
    options: Options,
    counts: BTreeMap<Fault, Count>,
}

/// A computer of the place, which is a network namespace. A handle: it may be cloned and sent to any thread, and is of no
/// use once the place is gone.
#[derive(Clone, Debug)]
pub struct Host {
    /// `node`, or `client1` and so on.
    pub name: String,
    /// Where the other hosts reach it.
    pub address: Ipv4Addr,
}

impl Host {
    /// Puts this thread on the host, for good: its sockets from now on, and the threads and processes that it starts from
    /// now on. Sockets that it has stay where they were made. A runtime with threads of its own has to be built afterwards.
    pub fn enter(&self) -> Result<()> {
        anyhow::bail!("not built yet")
    }

    /// A program that will run on the host; its process id is that of the program.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        Command::new(program.as_ref())
    }
}

/// How a run of the node ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code, where it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The last lines that it said.
    pub said: Vec<String>,
}

/// What came of a fault.
#[derive(Clone, Debug)]
pub struct Healed {
    /// Which it was.
    pub fault: Fault,
    /// How the node ended, where it did: by the fault, or by itself because of it.
    pub ended: Option<Ended>,
    /// Whether the node had to be started again; without, it went on.
    pub restarted: bool,
}

/// How often a fault was there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How often it was inflicted.
    pub inflicted: u64,
    /// How often the node was started again after it.
    pub restarts: u64,
    /// How often the node ended by itself, with an exit code.
    pub exits: u64,
}

impl Place {
    /// What is missing for a place on this machine, each in words; empty if one can be made.
    pub fn missing(clock: bool) -> Vec<String> {
        let _ = clock;
        vec!["it is not built yet".to_owned()]
    }

    /// Makes the hosts and the disk; no node runs yet. Fails with everything that is [missing](Self::missing).
    pub fn new(options: Options) -> Result<Self> {
        Ok(Self { options, counts: BTreeMap::new() })
    }

    /// Starts the node on its host and waits until its doors are open.
    pub fn start_node(&mut self) -> Result<()> {
        anyhow::bail!("not built yet: {}", self.options.binary.display())
    }

    /// Ends the node as an operator does, with SIGTERM; fails if it does not end in time or not with 0.
    pub fn stop_node(&mut self) -> Result<Ended> {
        anyhow::bail!("not built yet")
    }

    /// The hosts of clients, `client1` first.
    pub fn clients(&self) -> &[Host] {
        &[]
    }

    /// The node's host: clients on it reach the node whatever is done to the network.
    pub fn node_host(&self) -> &Host {
        unreachable!("not built yet")
    }

    /// Where the node's native door is, for all hosts and over all restarts.
    pub fn native(&self) -> SocketAddr {
        SocketAddr::from(([10, 78, 0, 1], 5001))
    }

    /// Where the node's line door is, for all hosts and over all restarts.
    pub fn line(&self) -> SocketAddr {
        SocketAddr::from(([10, 78, 0, 1], 5000))
    }

    /// A folder on this machine's own disk, for whatever a run needs; it goes with the place.
    pub fn scratch(&self) -> &Path {
        Path::new("")
    }

    /// Does a fault to the node and returns while it lasts (the sudden ones are over by then, the node being down). What
    /// is open in a fault (how much, when, which host) is drawn from `rng`. One fault at a time: heal before the next.
    pub fn inflict(&mut self, fault: Fault, rng: &mut dyn RngCore) -> Result<Inflicted> {
        let _ = rng;
        self.counts.entry(fault).or_default().inflicted += 1;
        anyhow::bail!("not built yet")
    }

    /// Ends a fault; afterwards the node runs and is reachable, started again where it had ended. Fails if the node does
    /// not come back, or [said that it panicked](Self::panics): this is to be reported.
    pub fn heal(&mut self, inflicted: Inflicted) -> Result<Healed> {
        let Inflicted { told, .. } = inflicted;
        anyhow::bail!("not built yet: {told}")
    }

    /// How often each fault was there so far.
    pub fn counts(&self) -> &BTreeMap<Fault, Count> {
        &self.counts
    }

    /// The node's process, while it runs.
    pub fn node_pid(&self) -> Option<u32> {
        None
    }

    /// The last lines that the node said, over all its runs; between runs a line says how one ended.
    pub fn log(&self) -> Vec<String> {
        Vec::new()
    }

    /// What the node said about panics, over all its runs; anything here is a failure.
    pub fn panics(&self) -> Vec<String> {
        Vec::new()
    }
}
