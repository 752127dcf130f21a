//! What each fuzz target does with its bytes; `fuzz_targets` hands them over.
//!
//! `cargo xtask fuzz` runs all targets; one alone: `cargo fuzz run -s none TARGET`. `seeds/TARGET` is kept in the
//! repository: written by `examples/seeds.rs`, and beside it one file for each bug that was found, under its name. The
//! corpus that a run gathers stays under `corpus/TARGET`, which is not.

pub mod client_frames;
pub mod folder_lists;
pub mod forms;
pub mod input;
pub mod line;
pub mod node_frames;
pub mod recover;
pub mod saved;
pub mod settings;
pub mod store;

// The binary's own files that read settings: no library has them, and nothing else of them is used here.
#[allow(dead_code, missing_docs)]
#[path = "../../crates/tertulia/src/cli.rs"]
mod cli;
#[allow(dead_code)]
#[path = "../../crates/tertulia/src/failure.rs"]
mod failure;
#[allow(dead_code)]
#[path = "../../crates/tertulia/src/names.rs"]
mod names;
#[allow(dead_code)]
#[path = "../../crates/tertulia/src/settings.rs"]
mod node_settings;
#[allow(dead_code)]
#[path = "../../crates/tertulia/src/output.rs"]
mod output;
#[allow(dead_code)]
#[path = "../../crates/tertulia/src/state.rs"]
mod state;
#[allow(dead_code)]
#[path = "../../crates/tertulia/src/units.rs"]
mod units;

/// A target's name and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// Every target, by the name that `cargo fuzz` knows it by.
pub const TARGETS: [Target; 9] = [
    ("client_frames", client_frames::run),
    ("folder_lists", folder_lists::run),
    ("forms", forms::run),
    ("line", line::run),
    ("node_frames", node_frames::run),
    ("recover", recover::run),
    ("saved", saved::run),
    ("settings", settings::run),
    ("store", store::run),
];
