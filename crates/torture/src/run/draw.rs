//! What is done next: drawn by the seed, each with its weight.

use std::fmt;
use std::str::FromStr;

use rand::Rng as _;
use rand::rngs::StdRng;

use crate::place::Fault;

/// Something that is done to the node or to a client process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Draw {
    /// To the node, its disk or its network.
    Node(Fault),
    /// A client process is killed and started again.
    KillClient,
    /// A client process stands still for a while.
    StopClient,
}

impl Draw {
    /// Every one.
    pub fn all() -> Vec<Self> {
        let faults = Fault::ALL.into_iter().map(Self::Node);
        faults.chain([Self::KillClient, Self::StopClient]).collect()
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Node(fault) => fault.name(),
            Self::KillClient => "kill-client",
            Self::StopClient => "stop-client",
        }
    }

    /// How often it is drawn, compared with others: what is over soon comes more often.
    const fn weight(self) -> u32 {
        match self {
            Self::Node(Fault::Kill) => 110,
            Self::Node(Fault::PowerCut) => 12,
            Self::Node(Fault::Partition) => 10,
            Self::Node(Fault::KillAtCall | Fault::KillConnections) => 8,
            Self::Node(_) => 2,
            Self::KillClient => 10,
            Self::StopClient => 5,
        }
    }

    /// How long it lasts, in milliseconds: long enough to be noticed, now and then longer than clients bear.
    pub const fn lasts_ms(self) -> std::ops::Range<u64> {
        match self {
            Self::Node(Fault::Kill | Fault::PowerCut | Fault::KillAtCall) => 0..100,
            Self::Node(Fault::KillConnections) | Self::KillClient => 0..1,
            Self::Node(Fault::Partition) => 200..5_000,
            Self::Node(Fault::Loss | Fault::FullDisk) => 500..3_000,
            Self::Node(_) | Self::StopClient => 100..2_500,
        }
    }

    /// One of these.
    pub fn any(from: &[Self], rng: &mut StdRng) -> Self {
        let mut at = rng.random_range(0..from.iter().map(|draw| draw.weight()).sum::<u32>());
        for draw in from {
            if at < draw.weight() {
                return *draw;
            }
            at -= draw.weight();
        }
        unreachable!("the weights add up")
    }
}

impl fmt::Display for Draw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Draw {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::all().into_iter().find(|draw| draw.name() == name).ok_or_else(|| {
            let names: Vec<_> = Self::all().into_iter().map(Self::name).collect();
            format!("no fault is called {name:?}; there are {}", names.join(", "))
        })
    }
}
