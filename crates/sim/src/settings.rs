//! What a world is made from: its seed, how long and which faults, how many programs; and the command that makes it again.

use std::collections::BTreeSet;
use std::fmt;

use tertulia_group::planted::Bug;

/// What can go wrong, each of which can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A connection is cut.
    Cuts,
    /// A program is killed.
    Kills,
    /// The coordinator dies.
    Crashes,
    /// Another coordinator takes over, and the old one goes on appending.
    Successions,
    /// The power goes: what is not synced is lost.
    PowerCuts,
    /// The wall clock jumps.
    Clock,
    /// A member is removed by name.
    Removals,
    /// A snapshot is kept, sometimes the log is trimmed.
    Trimming,
    /// A member leaves.
    Leaves,
    /// Somebody comes with a member's name, or one that looks like it, and without its secret.
    Impostors,
    /// A program comes back with what it kept of another log, or with a wrong secret.
    WrongDisks,
    /// The journal fails to store a batch, and goes on.
    LostBatches,
    /// The journal takes its time.
    SlowDisk,
    /// The journal fails, nobody knows what is stored, and the coordinator gives up.
    BrokenStores,
    /// A connection carries nothing for a while, in one direction or both.
    Stalls,
    /// A program gives a connection up and opens another while what it wrote to the first is still on its way.
    OldConnections,
    /// A program says again what it has said.
    Repeats,
    /// A program stops, stops reading, or stops acknowledging.
    Sticking,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::Cuts,
        Self::Kills,
        Self::Crashes,
        Self::Successions,
        Self::PowerCuts,
        Self::Clock,
        Self::Removals,
        Self::Trimming,
        Self::Leaves,
        Self::Impostors,
        Self::WrongDisks,
        Self::LostBatches,
        Self::SlowDisk,
        Self::BrokenStores,
        Self::Stalls,
        Self::OldConnections,
        Self::Repeats,
        Self::Sticking,
    ];

    /// How often it comes, beside the others.
    pub const fn weight(self) -> u64 {
        match self {
            Self::Cuts => 26,
            Self::Kills => 12,
            Self::Trimming => 10,
            Self::PowerCuts | Self::Removals => 8,
            Self::Crashes => 7,
            Self::Clock | Self::Stalls | Self::OldConnections => 6,
            Self::Impostors | Self::Leaves | Self::Successions | Self::Repeats => 5,
            Self::WrongDisks | Self::Sticking => 4,
            // Come with an append.
            Self::LostBatches | Self::SlowDisk | Self::BrokenStores => 0,
        }
    }

    /// The fault of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| kebab(fault) == name)
    }
}

/// The bug of this name.
pub fn bug_named(name: &str) -> Option<Bug> {
    Bug::ALL.into_iter().find(|bug| kebab(bug) == name)
}

/// `SkipFsync` as `skip-fsync`.
pub fn kebab(variant: &impl fmt::Debug) -> String {
    let mut name = String::new();
    for letter in format!("{variant:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.extend(letter.to_lowercase());
    }
    name
}

/// How a world is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The same seed, the same world.
    pub seed: u64,
    /// For so long there are faults and new messages.
    pub faults_ms: u64,
    /// So many members, instead of as many as the seed says.
    pub members: Option<u64>,
    /// So many outside senders, instead of as many as the seed says.
    pub senders: Option<u64>,
    /// Faults and messages come thick and fast, whatever the seed says: more happens in a short time.
    pub busy: bool,
    /// What does not go wrong.
    pub without: BTreeSet<Fault>,
    /// A rule that is broken on purpose. Needs the feature `planted`.
    pub bug: Option<Bug>,
}

impl Settings {
    /// The world of a seed as it is.
    pub const fn new(seed: u64, faults_ms: u64) -> Self {
        let without = BTreeSet::new();
        Self { seed, faults_ms, members: None, senders: None, busy: false, without, bug: None }
    }

    /// Thick and fast.
    pub fn busy(self) -> Self {
        Self { busy: true, ..self }
    }

    /// With a rule that is broken.
    pub fn with(self, bug: Bug) -> Self {
        Self { bug: Some(bug), ..self }
    }
}

/// The command that runs exactly this.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, faults_ms, .. } = self;
        write!(f, "cargo xtask sim --seeds 1 --seed {seed} --faults-ms {faults_ms}")?;
        self.members.map_or(Ok(()), |members| write!(f, " --members {members}"))?;
        self.senders.map_or(Ok(()), |senders| write!(f, " --senders {senders}"))?;
        if self.busy {
            write!(f, " --busy")?;
        }
        if !self.without.is_empty() {
            let without: Vec<String> = self.without.iter().map(kebab).collect();
            write!(f, " --without {}", without.join(","))?;
        }
        self.bug.map_or(Ok(()), |bug| write!(f, " --planted {}", kebab(&bug)))
    }
}
