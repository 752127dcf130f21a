//! A node: its doors, the directory and the allocator, the drivers that feed groups and carry out what they say.

mod config;
mod node;

pub use config::{Config, Engine, Keep, NodeLimits};
pub use node::{Endpoints, Node, Notice, StartError};
