//! Drives the real group and the real codecs with a hostile network and a crashing journal, by seed.
//!
//! | file | what it is |
//! |---|---|
//! | `world.rs` | the queue of events, what happens when, faults |
//! | `node.rs` | the coordinator: a real `Group`, a door, an outbox, a driver |
//! | `program.rs` | a member or an outside sender with what it keeps on its disk |
//! | `journal.rs` | what is stored, what is on its way, what a crash takes |
//! | `net.rs` | connections: in order, late, cut in the middle of a frame |
//! | `checks.rs` | the promises, each a small function over what really happened |
//! | `rng.rs` | numbers from the seed |
//!
//! The same seed gives the same events, byte for byte; [`Outcome::hash`] says so.

pub mod checks;
mod faults;
mod journal;
mod net;
mod node;
mod program;
mod receive;
mod rng;
mod world;

pub use world::{Failure, Outcome, Settings, run};
