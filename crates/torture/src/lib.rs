//! Real processes under real faults: a node in its own namespace on its own disk, clients on other hosts, and a checker.

pub mod check;
pub mod history;
pub mod place;
