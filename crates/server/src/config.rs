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

/// Limits of the node, beside those of each group (`tertulia_group::Limits`), and what happens at each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLimits {
    /// Connections of one address that is not loopback (for IPv6: of one /64 network); one more is told CLOSE `LIMIT` or
    /// `ERR BUSY`.
    pub connections_per_address: usize,
    /// Connections in all, and never more than three quarters of the files that the process may open; one more is told the
    /// same.
    pub connections: usize,
    /// Connections that are being told that they are one too many, and never more than a sixteenth of the files; more are closed
    /// without a word.
    pub turned_away: usize,
    /// Groups; whoever would make one more is refused (`LIMIT`, on the line door `BUSY`).
    pub groups: usize,
    /// Members that the allocator gives to one group of the pool; then it gives out the next number.
    pub pool_members: usize,
    /// What a connection has to say who it is; then CLOSE `IDLE`.
    pub hello: Duration,
    /// What a connection that is in no group may go without a request, or on the line door a line; then CLOSE `IDLE`, or it is
    /// closed.
    pub idle: Duration,
    /// What a connection that is in no group has to take one answer; then it is closed.
    pub answer: Duration,
    /// Bytes of a group's log that are held in memory for those who are nearly up to date; others read from the journal.
    pub window_bytes: usize,
    /// Bytes of answers that one member or sender has not read; more, and it is told CLOSE `LIMIT`.
    pub answers_bytes: usize,
    /// Bytes that wait for all connections together: half frames, answers that are not read, what was read from the journal
    /// for slow readers (16 KiB of each connection are not counted). Beyond it whoever has held on for longest gives up what
    /// can be read again, or is closed with `LIMIT`.
    pub held_bytes: usize,
    /// Reads of the journal for members behind the window that go on at once, and never more than there are CPUs (or two); more
    /// wait for their turn.
    pub reads: usize,
    /// The same for requests, up to half as many as CPUs: these have their own, so that no request delays a delivery.
    pub request_reads: usize,
}

impl Default for NodeLimits {
    fn default() -> Self {
        Self {
            connections_per_address: 1_000,
            connections: 50_000,
            turned_away: 256,
            groups: 100_000,
            pool_members: 100,
            hello: Duration::from_secs(10),
            idle: Duration::from_secs(300),
            answer: Duration::from_secs(60),
            window_bytes: 8 << 20,
            answers_bytes: 8 << 20,
            held_bytes: 256 << 20,
            reads: 8,
            request_reads: 4,
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
    /// `None`: off. 0: any free port.
    pub http_port: Option<u16>,
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
