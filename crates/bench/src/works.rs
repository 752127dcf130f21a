//! The works that everybody is given.

use std::time::Duration;

use crate::figures::thousands;

/// How messages come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// So many of a group are on their way at once, to the member that is furthest behind.
    Window(usize),
    /// So many a second, whatever has become of the earlier ones.
    PerSecond(u32),
}

/// One work.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// For the command line.
    pub name: &'static str,
    /// As in tables.
    pub about: &'static str,
    pub groups: usize,
    /// Members of each group.
    pub members: usize,
    /// Publishers of each group; what is on its way is theirs together.
    pub publishers: usize,
    pub body_len: usize,
    pub pace: Pace,
    /// Members of the first group that never read, beside the others.
    pub stuck: usize,
}

const PLAIN: Work = Work {
    name: "",
    about: "",
    groups: 1,
    members: 100,
    publishers: 1,
    body_len: 100,
    pace: Pace::Window(4096),
    stuck: 0,
};

impl Work {
    /// With less on its way at once, so that the slower ones are through with it soon.
    pub const fn quick(mut self) -> Self {
        if let Pace::Window(window @ 8..) = self.pace {
            self.pace = Pace::Window(window / 8);
        }
        self
    }

    /// What is on its way at once, as it stands above a table.
    pub fn in_flight(&self) -> String {
        let of = if self.groups > 1 { " in each group" } else { "" };
        match self.pace {
            Pace::Window(1) => format!("1 message in flight{of}"),
            Pace::Window(window) => format!("{} messages in flight{of}", thousands(window as f64)),
            Pace::PerSecond(rate) => {
                format!(
                    "{} messages a second, however many are in flight",
                    thousands(f64::from(rate))
                )
            }
        }
    }

    /// Messages on their way at once.
    pub fn window(&self) -> usize {
        match self.pace {
            Pace::Window(window) => window,
            Pace::PerSecond(_) => 1,
        }
    }

    /// They are sent in blocks of so many, so many blocks at once.
    pub fn blocks(&self) -> (usize, usize) {
        let window = self.window();
        if window == 1 { (1, 1) } else { (window / 2, 2) }
    }
}

/// All of them.
pub const WORKS: &[Work] = &[
    Work { name: "m10", about: "10 members, 100 B", members: 10, ..PLAIN },
    Work { name: "m100", about: "100 members, 100 B", ..PLAIN },
    // Less on its way: the slower ones deliver a window of 4,096 to so many in 20 s.
    Work {
        name: "m1000",
        about: "1,000 members, 100 B",
        members: 1000,
        pace: Pace::Window(1024),
        ..PLAIN
    },
    Work {
        name: "large",
        about: "10 members, 16 KiB",
        members: 10,
        body_len: 16 << 10,
        pace: Pace::Window(64),
        ..PLAIN
    },
    // As many on their way in all groups together as elsewhere in one: the slower ones deliver 16 in each of them in a minute.
    Work {
        name: "groups",
        about: "1,000 groups of 10, 100 B",
        groups: 1000,
        members: 10,
        pace: Pace::Window(4),
        ..PLAIN
    },
    Work {
        name: "senders",
        about: "64 senders at once, 100 members, 100 B",
        publishers: 64,
        ..PLAIN
    },
    Work {
        name: "one",
        about: "100 members, 100 B, one in flight",
        pace: Pace::Window(1),
        ..PLAIN
    },
    Work {
        name: "paced",
        about: "10 members, 100 B, 1,000 a second",
        members: 10,
        pace: Pace::PerSecond(1000),
        ..PLAIN
    },
    Work {
        name: "stuck",
        about: "100 members, 100 B, and one that never reads",
        stuck: 1,
        ..PLAIN
    },
];

/// Works that a quick run has: those that are over soon.
const QUICK: [&str; 4] = ["m10", "m100", "one", "paced"];

/// What a quick run leaves out.
pub fn left_out() -> String {
    let out = WORKS.iter().filter(|work| !QUICK.contains(&work.name));
    out.map(|work| work.about).collect::<Vec<_>>().join("; ")
}

/// What the command line may name.
pub fn names() -> Vec<&'static str> {
    WORKS.iter().map(|work| work.name).collect()
}

/// Those of these names; where there are none, all, or those of a quick run. That has less of each on its way.
pub fn named(names: &[String], is_quick: bool) -> Vec<Work> {
    let is_wanted = |work: &&Work| match names {
        [] => !is_quick || QUICK.contains(&work.name),
        names => names.iter().any(|name| name == work.name),
    };
    let all = WORKS.iter().filter(is_wanted).copied();
    all.map(|work| if is_quick { work.quick() } else { work }).collect()
}

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    pub rounds: usize,
    pub round: Duration,
}
