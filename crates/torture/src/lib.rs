//! Real processes under real faults: a node in its own namespace on its own disk, clients on other hosts, and a checker.

pub mod check;
pub mod clients;
mod files;
pub mod history;
pub mod options;
pub mod place;
pub mod run;
