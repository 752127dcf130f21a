//! What a node is told when it starts.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tertulia_group::Limits;

use crate::accounts::HashCost;
use crate::pace::Pace;

/// Where logs are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Nowhere: they are gone with the process.
    Memory,
    /// Under the data folder.
    Embedded,
}

/// Where the node's certificate comes from, with which it speaks TLS on the native and the HTTP door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsSource {
    /// Files in PEM, read again by [`crate::Node::reload_tls`].
    Files {
        /// The certificate, then those that vouch for it.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
    /// Made by the node itself once, and kept in the data folder.
    Own,
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
    /// Connections that each door takes; more wait in the system's queue.
    pub accepts: Pace,
    /// What one connection may be refused (lines, requests, messages); beyond it, it is read more slowly. A read of a line that is
    /// too long counts as one refusal, and so does each 64 KiB that came with a refused message.
    pub refusals: Pace,
    /// Connections of one address (of IPv6: of one /64 network) that may end badly: before they have said who they are, with a
    /// fault, or as members of less than [`Self::short_stay`]. Beyond it new ones from there wait before they are read.
    pub bad_ends: Pace,
    /// And so long at most.
    pub bad_ends_wait_max: Duration,
    /// Addresses of which that, or what their requests cost, is remembered.
    pub addresses_remembered: usize,
    /// What answering the requests of one address (of IPv6: of one /64 network) may cost of the CPUs, in microseconds; beyond it they
    /// are answered more slowly, and on the line door `ERR BUSY`. Sending, being sent to and confirming are no requests.
    pub request_work: Pace,
    /// A membership that is shorter costs everybody else two entries for nothing.
    pub short_stay: Duration,
    /// Groups; whoever would make one more is refused (`LIMIT`, on the line door `BUSY`).
    pub groups: usize,
    /// Members that the allocator gives to one group of the pool; then it gives out the next number.
    pub pool_members: usize,
    /// What a connection has to say who it is; then CLOSE `IDLE`.
    pub hello: Duration,
    /// What a connection that is in no group may go without a request, or on the line door a line; then CLOSE `IDLE`, or it is
    /// closed.
    pub idle: Duration,
    /// What the head of an HTTP request may take to come, and how long a connection may be idle before the next one; then it is
    /// closed.
    pub head: Duration,
    /// What the body of an HTTP request may take to come; then it is refused (`TOO_SLOW`).
    pub body: Duration,
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
    /// Bytes of TLS handshakes that are under way, 16 KiB each; beyond it the one that has been at it for longest is closed. A
    /// handshake has [`NodeLimits::hello`] from the connection on, HELLO included.
    pub handshake_bytes: usize,
    /// Of accounts.
    pub accounts: AccountLimits,
    /// Of peers that share files.
    pub peers: PeerLimits,
}

/// Limits of accounts, and what happens at each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountLimits {
    /// Accounts; one more is refused (`LIMIT`).
    pub accounts: usize,
    /// Tokens of one account; one more revokes the oldest, and closes what it opened.
    pub tokens_per_account: usize,
    /// How long a token is valid; then it is `NOT_LOGGED_IN`, and what it opened is closed.
    pub token_life: Duration,
    /// A new password's characters; fewer are `BAD_PASSWORD`.
    pub password_chars_min: usize,
    /// A password's bytes; more are `BAD_PASSWORD`.
    pub password_bytes_max: usize,
    /// How passwords are hashed.
    pub hash_cost: HashCost,
    /// Passwords that are hashed at once; more wait.
    pub hashes_at_once: usize,
    /// And at most so many wait; one more is refused (`LIMIT`). No address has more than half of them.
    pub hashes_waiting: usize,
    /// And at most so long, then `LIMIT`.
    pub hash_wait: Duration,
    /// Tries of one name that may fail before there is a wait: a second, then twice as long each time. Tries from an address
    /// where the account has logged in since the node started are counted apart. During the wait: `LIMIT`.
    pub tries_per_name: u32,
    /// The same for one address that is not loopback (of IPv6: one /64 network), registrations included.
    pub tries_per_address: u32,
    /// The longest wait.
    pub wait_max: Duration,
    /// After so long without a try everything is forgotten.
    pub tries_kept: Duration,
    /// Names and addresses whose tries are remembered, each; beyond it the oldest are forgotten.
    pub tries_remembered: usize,
    /// Names in one of the lists of a private group; more are refused (`LIMIT`).
    pub listed_names: usize,
}

/// Limits of peers that share files, and what happens at each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerLimits {
    /// For so long a peer is taken to be there after it has said so; then it and its files are in no list.
    pub lease: Duration,
    /// Peers of one account at a time; one more is refused (`LIMIT`).
    pub peers_per_account: usize,
    /// Files of one peer; a change that would make more is refused (`LIMIT`).
    pub files_per_peer: usize,
    /// Different files of all peers together; the same.
    pub files: usize,
    /// Bytes that the names of these take, each as it was said and as it is looked for; the same.
    pub name_bytes: usize,
    /// What the names of one account's peers take of that, each peer's counted for itself; the same.
    pub name_bytes_per_account: usize,
    /// Files in one announcement; more are refused (`BAD_REQUEST`).
    pub announced_at_once: usize,
    /// Files that one peer is fetching; more are refused (`BAD_REQUEST`).
    pub unfinished_per_peer: usize,
    /// Searches that go on at once; more wait.
    pub searches_at_once: usize,
    /// Holders of one content that are shown.
    pub holders_shown: usize,
    /// Contents that one capability opens; more are refused (`LIMIT`).
    pub capability_hashes: usize,
    /// For how long a capability is valid.
    pub capability_life: Duration,
    /// Contents that come through the node at a time for one account; one more is refused (`LIMIT`).
    pub relayed_per_account: usize,
    /// The same for all together (`BUSY`).
    pub relayed_at_once: usize,
}

impl Default for PeerLimits {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(10),
            peers_per_account: 8,
            files_per_peer: 100_000,
            files: 1_000_000,
            name_bytes: 256 << 20,
            name_bytes_per_account: 32 << 20,
            announced_at_once: 1_000,
            unfinished_per_peer: 64,
            searches_at_once: 2,
            holders_shown: 64,
            capability_hashes: 64,
            capability_life: Duration::from_secs(600),
            relayed_per_account: 2,
            relayed_at_once: 16,
        }
    }
}

impl Default for AccountLimits {
    fn default() -> Self {
        Self {
            accounts: 100_000,
            tokens_per_account: 32,
            token_life: Duration::from_secs(30 * 24 * 3600),
            password_chars_min: 8,
            password_bytes_max: 256,
            hash_cost: HashCost::default(),
            hashes_at_once: 2,
            hashes_waiting: 64,
            hash_wait: Duration::from_secs(10),
            tries_per_name: 5,
            tries_per_address: 20,
            wait_max: Duration::from_secs(60),
            tries_kept: Duration::from_secs(15 * 60),
            tries_remembered: 65_536,
            listed_names: 200,
        }
    }
}

/// What the operator has decided about accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountRules {
    /// Anybody may register; otherwise an administrator does it for others.
    pub open_registration: bool,
    /// The line door takes passwords and tokens off loopback too, where others may read them.
    pub line_logins_anywhere: bool,
}

impl Default for AccountRules {
    fn default() -> Self {
        Self { open_registration: true, line_logins_anywhere: false }
    }
}

impl NodeLimits {
    /// So much more is not given to a connection that has not written more of its answers than this.
    pub(crate) const fn answers_room(&self) -> usize {
        self.answers_bytes / 4
    }

    /// What receipts may weigh that a connection is given at once ([`Limits::receipts_weight_max`]): at 200 bytes each, which is the
    /// most, a portion fits beside what [`NodeLimits::answers_room`] leaves there.
    pub(crate) const fn receipts_weight_max(&self) -> usize {
        // With nothing, nobody would ever be told.
        if self.answers_bytes < 512 { 1 } else { self.answers_bytes / 512 }
    }
}

impl Default for NodeLimits {
    fn default() -> Self {
        Self {
            connections_per_address: 1_000,
            connections: 50_000,
            turned_away: 256,
            accepts: Pace { burst: 2_000, per_s: 2_000 },
            refusals: Pace { burst: 64, per_s: 50 },
            bad_ends: Pace { burst: 200, per_s: 20 },
            bad_ends_wait_max: Duration::from_secs(2),
            addresses_remembered: 65_536,
            request_work: Pace { burst: 500_000, per_s: 100_000 },
            short_stay: Duration::from_secs(1),
            groups: 100_000,
            pool_members: 100,
            hello: Duration::from_secs(10),
            idle: Duration::from_secs(300),
            head: Duration::from_secs(15),
            body: Duration::from_secs(30),
            answer: Duration::from_secs(60),
            window_bytes: 8 << 20,
            answers_bytes: 8 << 20,
            held_bytes: 256 << 20,
            reads: 8,
            request_reads: 4,
            handshake_bytes: 16 << 20,
            accounts: AccountLimits::default(),
            peers: PeerLimits::default(),
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
    /// What goes for accounts.
    pub accounts: AccountRules,
    /// TLS beside plain, on the same ports; `None`: plain only.
    pub tls: Option<TlsSource>,
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
