//! Which faults there are, and what each does to which promise.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use rustix::process::Rlimit;

use super::faults::calls::Tracer;

/// Something that is done to a running node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// SIGKILL, now. What was answered as stored at any level but `memory` is there after the restart; retries get the
    /// number of the first try (*Durability*, *Once*).
    Kill,
    /// SIGKILL at the entrance of a drawn system call (a write or sync of the store, or a write to a socket), after a drawn
    /// number of them: exact points between storing and answering. If no load comes by, SIGKILL after a while.
    /// The promises are those of [`Self::Kill`].
    KillAtCall,
    /// Nothing reaches the disk any more, not even what the file system had in its journal; then SIGKILL, and the disk as
    /// it was is mounted again. What was answered as stored at level `fsync` is there; what was not may be gone, and who
    /// waited for it was told nothing or *unknown* (*Durability*, *Honesty*).
    PowerCut,
    /// A file takes the whole rest of the disk. The node has made files in advance, so this bites once they are full. New
    /// messages are refused by name, nothing answered is lost, and when there is room again the node goes on without a
    /// restart (*Bounds*, *Durability*).
    FullDisk,
    /// fsync and fdatasync fail with EIO, a drawn number of times or until healed. What they were to store is never
    /// answered as stored, and nothing later is either, as nobody knows what the disk has (*Durability*, *Honesty*). Healing
    /// starts the node again.
    FailingSync,
    /// What is written to blocks that the disk has not had so far is lost, and the next sync says so, once: the kernel does
    /// not try again what it could not write. Where the file system's own journal is hit it lets nobody write any more.
    /// The promises are those of [`Self::FailingSync`]. Healing mounts the disk again and starts the node again.
    LostWrites,
    /// The file system finds an error and lets nobody write any more, as ext4 does after a bad sector
    /// (`errors=remount-ro`). Nothing is answered as stored. Healing mounts the disk again and starts the node again.
    ReadOnly,
    /// The disk answers no write for a while and then goes on: senders wait or are told *unknown*, nothing is lost, nobody
    /// is `away` for it.
    Frozen,
    /// The whole process stands still (SIGSTOP) and goes on. Clients reconnect or wait; the order goes on (*Order*, *Once*).
    Stop,
    /// The node's clock goes forward or back by up to days, and healing takes it back. No order, no epoch and no grace may
    /// depend on it; ages of messages may.
    ClockJump,
    /// All TCP connections of one client host, or of all, are reset on the node's side. Members resume at their cursors,
    /// senders retry (*Once*, *Resume*).
    KillConnections,
    /// One client host and the node do not hear each other, or one of them does not hear the other. Clients on other hosts
    /// are not delayed (*Isolation*); after it everyone has everything (*Resume*).
    Partition,
    /// A drawn share (10 to 40 %) of all packets to the node is lost. Slow, but everything holds.
    Loss,
    /// The node may open only a few files more than it has. New connections are refused or wait; those that are there go
    /// on, and all come in when the limit is lifted (*Bounds*).
    FewFiles,
}

impl Fault {
    /// Every one, in the order of the report.
    pub const ALL: [Self; 14] = [
        Self::Kill,
        Self::KillAtCall,
        Self::PowerCut,
        Self::FullDisk,
        Self::FailingSync,
        Self::LostWrites,
        Self::ReadOnly,
        Self::Frozen,
        Self::Stop,
        Self::ClockJump,
        Self::KillConnections,
        Self::Partition,
        Self::Loss,
        Self::FewFiles,
    ];

    /// Its name on the command line; [`FromStr`] knows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::KillAtCall => "kill-at-call",
            Self::PowerCut => "power-cut",
            Self::FullDisk => "full-disk",
            Self::FailingSync => "failing-sync",
            Self::LostWrites => "lost-writes",
            Self::ReadOnly => "read-only",
            Self::Frozen => "frozen",
            Self::Stop => "stop",
            Self::ClockJump => "clock-jump",
            Self::KillConnections => "kill-connections",
            Self::Partition => "partition",
            Self::Loss => "loss",
            Self::FewFiles => "few-files",
        }
    }

    /// Whether the node is down from when it was inflicted until it is healed.
    pub fn is_sudden(self) -> bool {
        matches!(self, Self::Kill | Self::KillAtCall | Self::PowerCut)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|fault| fault.name() == name).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|fault| fault.name()).collect();
            format!("no fault is called {name:?}; there are {}", names.join(", "))
        })
    }
}

/// A fault that is there, until it is healed.
#[derive(Debug)]
#[must_use = "it lasts until it is healed"]
pub struct Inflicted {
    /// Which it is.
    pub fault: Fault,
    /// What exactly was done, for the report: `partition: the node does not hear client1`.
    pub told: String,
    pub(super) undo: Undo,
}

/// What ends a fault, besides starting the node again where it has ended.
#[derive(Debug)]
pub(super) enum Undo {
    /// It is over by itself.
    Nothing,
    /// Removes the file that fills the disk.
    Free(PathBuf),
    /// Ends the strace, which then lets the node go, and starts the node again.
    Release(Tracer),
    /// Mounts the disk again, between two runs of the node.
    MountAgain,
    /// Lets writes to the disk go on.
    Thaw,
    /// Lets the process go on.
    Continue,
    /// Takes the clock back.
    RightClock,
    /// Takes the rules of the node's packet filter away.
    NoRules,
    /// Gives the former limit of open files back.
    Files(Rlimit),
}
