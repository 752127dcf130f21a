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
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rand::RngCore;

mod disk;
mod fault;
mod faults;
mod hosts;
mod ioctl;
mod leftovers;
mod log;
mod node;
mod signals;
mod tools;

pub use disk::Disk;
pub use fault::{Fault, Inflicted};
pub use hosts::Host;
pub use node::Ended;

use fault::Undo;
use faults::{calls, network, process, storage};
use hosts::Hosts;
use node::{LINE_PORT, NATIVE_PORT, Node};

/// How long a healed node may take to be reachable from every host.
const REACHABLE: Duration = Duration::from_secs(15);
/// How long the end of a node may take whose doors are closed already.
const ENDING: Duration = Duration::from_secs(2);

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
    /// How much of each group the node keeps (`--keep`): little, so that its disk does not fill by itself, but for longer than
    /// a clock jumps.
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
            keep: "30d,64MiB".to_owned(),
            clock: true,
            ends_on_signals: false,
        }
    }
}

/// Hosts, a disk and a node. Everything is removed when it is dropped, also after a panic; what a killed run left
/// behind is removed by the next one.
pub struct Place {
    // Dropped in this order: the node, then what it stands on.
    node: Node,
    /// How the node ended by the fault that is there.
    ended: Option<Ended>,
    disk: Disk,
    hosts: Hosts,
    options: Options,
    counts: BTreeMap<Fault, Count>,
    is_hurt: bool,
    made: Made,
}

impl Drop for Place {
    fn drop(&mut self) {
        // A process that waits for a frozen disk cannot even be killed; mostly it is not frozen.
        if self.is_hurt {
            let _ = self.disk.set_frozen(false);
        }
    }
}

/// What was made under a name.
struct Made {
    name: String,
    folder: PathBuf,
}

impl Made {
    fn new() -> Result<Self> {
        let name = leftovers::unused_name();
        let folder = leftovers::folder(&name);
        std::fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        Ok(Self { name, folder })
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if let Err(error) = leftovers::remove(&self.name) {
            eprintln!("{} is left behind: {error:#}", self.name);
        }
    }
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
    /// What is missing for a place on this machine, each in words; empty if one can be made. `clock`: for one whose
    /// clock can be set.
    pub fn missing(clock: bool) -> Vec<String> {
        tools::missing(clock)
    }

    /// Makes the hosts and the disk; no node runs yet. Fails with everything that is [missing](Self::missing).
    pub fn new(options: Options) -> Result<Self> {
        let missing = tools::missing(options.clock);
        ensure!(missing.is_empty(), "no place can be made here: {}", missing.join("; "));
        leftovers::remove_dead();
        let made = Made::new()?;
        if options.ends_on_signals {
            signals::remove_and_end(made.name.clone())?;
        }
        let hosts = Hosts::new(&made.name, options.clients)?;
        let disk = Disk::new(&made.name, options.disk_mib)?;
        let node = Node::new(hosts.node.clone(), disk.folder(), &made.folder)?;
        let counts = BTreeMap::new();
        Ok(Self { node, ended: None, disk, hosts, options, counts, is_hurt: false, made })
    }

    /// Starts the node on its host and waits until its doors are open.
    pub fn start_node(&mut self) -> Result<()> {
        self.node.start(&self.options)
    }

    /// Ends the node as an operator does, with SIGTERM; fails if it does not end in time or not with 0.
    pub fn stop_node(&mut self) -> Result<Ended> {
        let Some(ended) = self.node.terminate()? else {
            bail!("the node does not end on SIGTERM:\n{}", self.node.last_lines());
        };
        ensure!(ended.code == Some(0), "the node ended badly: {ended:?}");
        Ok(ended)
    }

    /// The node's disk; what is done to it here, and not as a [`Fault`], the node is not started again after.
    pub fn raw_disk(&self) -> &Disk {
        &self.disk
    }

    /// The hosts of clients, `client1` first.
    pub fn clients(&self) -> &[Host] {
        &self.hosts.clients
    }

    /// The node's host: clients on it reach the node whatever is done to the network.
    pub fn node_host(&self) -> &Host {
        &self.hosts.node
    }

    /// Where the node's native door is, for all hosts and over all restarts.
    pub fn native(&self) -> SocketAddr {
        (self.hosts.node.address, NATIVE_PORT).into()
    }

    /// Where the node's line door is, for all hosts and over all restarts.
    pub fn line(&self) -> SocketAddr {
        (self.hosts.node.address, LINE_PORT).into()
    }

    /// A folder on this machine's own disk, for whatever a run needs; it goes with the place.
    pub fn scratch(&self) -> &Path {
        &self.made.folder
    }

    /// Where the node's disk is mounted; its store is the folder `store` there.
    pub fn disk(&self) -> &Path {
        self.disk.folder()
    }

    /// Does a fault to the node and returns while it lasts (the sudden ones are over by then, the node being down). What
    /// is open in a fault (how much, when, which host) is drawn from `rng`. One fault at a time: heal before the next.
    pub fn inflict(&mut self, fault: Fault, rng: &mut dyn RngCore) -> Result<Inflicted> {
        ensure!(!self.is_hurt, "one fault at a time");
        if let Some(ended) = self.node.ended()? {
            bail!("the node ended before any fault: {ended:?}");
        }
        self.is_hurt = true;
        let done = match fault {
            Fault::Kill => process::kill(self),
            Fault::KillAtCall => calls::kill_at_call(self, rng),
            Fault::PowerCut => storage::power_cut(self, rng),
            Fault::FullDisk => storage::full_disk(self),
            Fault::FailingSync => calls::failing_sync(self, rng),
            Fault::LostWrites => storage::lost_writes(self),
            Fault::ReadOnly => storage::read_only(self),
            Fault::Frozen => storage::frozen(self),
            Fault::Stop => process::stop(self),
            Fault::ClockJump => process::clock_jump(self, rng),
            Fault::KillConnections => network::kill_connections(self, rng),
            Fault::Partition => network::partition(self, rng),
            Fault::Loss => network::loss(self, rng),
            Fault::FewFiles => process::few_files(self, rng),
        };
        let (told, undo) = done.with_context(|| format!("{fault} cannot be done"))?;
        self.counts.entry(fault).or_default().inflicted += 1;
        let told = format!("{fault}: {told}");
        self.node.log.add(format!("--- {told}"));
        Ok(Inflicted { fault, told, undo })
    }

    /// Ends a fault; afterwards the node runs and is reachable from every host, started again where it had ended. Fails if
    /// the node does not come back, does not end when it is asked to, was ended by a signal that nobody sent (an abort), or
    /// [said that it panicked](Self::panics): this is to be reported.
    pub fn heal(&mut self, inflicted: Inflicted) -> Result<Healed> {
        let Inflicted { fault, told, undo } = inflicted;
        let healed = self.undo(fault, undo);
        let healed = healed.with_context(|| {
            format!("after {told}; the node said last:\n{}", self.node.last_lines())
        })?;
        self.is_hurt = false;
        self.node.log.add(format!("--- healed: {fault}"));
        Ok(healed)
    }

    fn undo(&mut self, fault: Fault, undo: Undo) -> Result<Healed> {
        let mut ended = self.ended.take();
        let is_by_us = ended.is_some();
        match undo {
            Undo::Nothing => {}
            Undo::Free(filler) => std::fs::remove_file(filler)?,
            Undo::Release(tracer) => {
                drop(tracer);
                ended = self.end_for_restart()?;
            }
            Undo::MountAgain => {
                ended = self.end_for_restart()?;
                self.disk.mount_again()?;
            }
            Undo::Thaw => self.disk.set_frozen(false)?,
            Undo::Continue => process::go_on(self)?,
            Undo::RightClock => self.node.set_clock(0)?,
            Undo::NoRules => network::no_rules(self)?,
            Undo::Files(before) => process::many_files(self, before)?,
        }
        if ended.is_none() {
            ended = self.node.ended()?;
        }
        let mut is_reached = Ok(());
        if ended.is_none() {
            is_reached = self.reach();
            // One that is just ending is not reached, and has not ended yet.
            if is_reached.is_err() {
                ended = self.node.wait(ENDING)?;
            }
        }
        let panics = self.node.log.panics();
        ensure!(panics.is_empty(), "the node panicked: {}", panics.join("\n"));
        if let Some(ended) = &ended
            && !is_by_us
        {
            ensure!(ended.code.is_some(), "a signal that nobody sent ended the node: {ended:?}");
        }
        let restarted = ended.is_some();
        if restarted {
            self.start_node()?;
            is_reached = self.reach();
        }
        is_reached?;
        let count = self.counts.entry(fault).or_default();
        count.restarts += u64::from(restarted);
        let is_exit = !is_by_us && ended.as_ref().is_some_and(|ended| ended.code != Some(0));
        count.exits += u64::from(is_exit);
        Ok(Healed { fault, ended, restarted })
    }

    /// Whether the node is reachable from every host.
    fn reach(&self) -> Result<()> {
        let mut hosts = std::iter::once(&self.hosts.node).chain(&self.hosts.clients);
        hosts.try_for_each(|host| host.reaches(self.native(), REACHABLE))
    }

    /// Ends a node that cannot store any more as an operator does, unless it has ended by itself.
    fn end_for_restart(&mut self) -> Result<Option<Ended>> {
        if let Some(ended) = self.node.ended()? {
            return Ok(Some(ended));
        }
        match self.node.terminate()? {
            Some(ended) => Ok(Some(ended)),
            None => bail!("the node does not end on SIGTERM"),
        }
    }

    /// How often each fault was there so far.
    pub fn counts(&self) -> &BTreeMap<Fault, Count> {
        &self.counts
    }

    /// The node's process, while it runs.
    pub fn node_pid(&self) -> Option<u32> {
        self.node.pid()
    }

    /// The last lines that the node said, over all its runs; between them, lines with `---` say when a run began, how it
    /// ended, and which faults were there.
    pub fn log(&self) -> Vec<String> {
        self.node.log.last(usize::MAX)
    }

    /// What the node said about panics, over all its runs; anything here is a failure.
    pub fn panics(&self) -> Vec<String> {
        self.node.log.panics()
    }
}
