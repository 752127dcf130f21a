//! Drives the real group and the real codecs with a hostile network and a crashing journal, by seed.
//!
//! | file | what it is |
//! |---|---|
//! | `settings.rs` | what a world is made from, and the command that makes it again |
//! | `temper.rs` | how busy, how unlucky and how narrow a seed's world is |
//! | `world.rs` | the queue of events, what happens when |
//! | `talk.rs` | what programs and the coordinator say to each other |
//! | `storing.rs` | what is appended, and what is said once it is stored |
//! | `calm.rs` | after the faults: the well beside the stuck, and everything comes to its end |
//! | `faults.rs` | what goes wrong: connections, programs, clocks, trimming, impostors |
//! | `power.rs` | coordinators that die or are overtaken, power cuts |
//! | `node.rs` | the coordinator: a real `Group`, a door, an outbox, a driver |
//! | `program.rs` | a member or an outside sender with what it keeps on its disk |
//! | `journal.rs` | what is stored, what is on its way, what a crash takes |
//! | `net.rs` | connections: in order, late, cut in the middle of a frame |
//! | `audit.rs` | what the coordinator says, checked when it says it |
//! | `checks.rs` | the promises, each a small function over what really happened |
//! | `coverage.rs` | what has happened how often: nobody wants to look away without noticing |
//! | `trace.rs` | the hash of all that happened, and the last of it |
//! | `fleet.rs` | many seeds on all cores |
//! | `shrink.rs` | the shortest history that still breaks a promise |
//! | `rng.rs` | numbers from the seed |
//!
//! Rules can be broken on purpose (`--planted`, `tertulia_group::planted`): `tests/planted.rs` shows that each is caught.
//!
//! The same seed gives the same events, byte for byte; [`Outcome::hash`] says so.

mod audit;
mod calm;
mod checks;
pub mod coverage;
mod faults;
pub mod fleet;
mod journal;
mod net;
mod node;
mod power;
mod program;
mod receive;
mod rng;
pub mod settings;
pub mod shrink;
mod storing;
mod talk;
mod temper;
mod trace;
mod world;

pub use settings::{Fault, Settings};
pub use shrink::shortest;
pub use world::{Failure, Outcome, run};
