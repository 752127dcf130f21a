//! A node: its doors, the directory and the allocator, the drivers that feed groups and carry out what they say.

mod accounts;
mod allocator;
mod beating;
mod budget;
mod clock;
mod config;
mod conn;
#[doc(hidden)]
pub mod counted;
mod directory;
mod doors;
mod feed;
mod finals;
mod history;
mod hosted;
mod keeping;
mod linux;
mod listing;
mod metrics;
mod node;
mod outbox;
mod pace;
mod peers;
mod recovering;
mod remote;
mod sending;
mod shard;
mod shared;
mod stream;
mod testing;
mod tls;
mod wake;
mod window;

pub use accounts::HashCost;
pub use config::{
    AccountLimits, AccountRules, Config, Engine, Keep, NodeLimits, PeerLimits, TlsSource,
};
pub use node::{CannotListen, Endpoints, Node, Notice, StartError};
pub use pace::Pace;
pub use peers::{Content, Grants, Opening, Relay};
pub use recovering::{group_of_record, verify};
pub use tls::TlsError;
