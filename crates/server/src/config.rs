//! What a node is told when it starts.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tertulia_group::Limits;

/// Where logs are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Nowhere: they are gone with the process.
    Memory,
    /// Under the data folder.
    Embedded,
}

/// How long logs are kept: what is older, or beyond the size, is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// At most this old.
    pub age: Duration,
    /// At most this many bytes for each group.
    pub bytes: u64,
}

impl Default for Keep {
    fn default() -> Self {
        Self { age: Duration::from_secs(30 * 24 * 3600), bytes: 10 << 30 }
    }
}

/// Limits of the node, beside those of each group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLimits {
    /// Connections of one address that is not loopback.
    pub connections_per_address: usize,
    /// Connections in all.
    pub connections: usize,
    /// Groups.
    pub groups: usize,
    /// Members that the allocator gives to one group of the pool.
    pub pool_members: usize,
    /// What a connection has to say who it is.
    pub hello: Duration,
    /// Bytes of a group's log that are held in memory for those who are nearly up to date.
    pub window_bytes: usize,
}

impl Default for NodeLimits {
    fn default() -> Self {
        Self {
            connections_per_address: 1_000,
            connections: 50_000,
            groups: 100_000,
            pool_members: 100,
            hello: Duration::from_secs(10),
            window_bytes: 8 << 20,
        }
    }
}

/// What a node is told when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The address that all doors listen on.
    pub listen: IpAddr,
    /// The host that the directory's answers name; where there is none, the address that the asker dialled.
    pub advertise: Option<String>,
    /// The data folder.
    pub data: PathBuf,
    /// `None`: off. 0: any free port.
    pub native_port: Option<u16>,
    /// `None`: off. 0: any free port.
    pub line_port: Option<u16>,
    /// Whether those who are not logged in may take part.
    pub guests: bool,
    /// Retention.
    pub keep: Keep,
    /// Where logs are kept.
    pub engine: Engine,
    /// Stored means fsynced; otherwise written to the operating system.
    pub fsync: bool,
    /// The node's name.
    pub node_id: String,
    /// Limits of the node.
    pub limits: NodeLimits,
    /// Limits of each group.
    pub group_limits: Limits,
}
