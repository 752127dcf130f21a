//! Every limit of a group in one place, and what happens when it is reached.

/// Bytes of the name of a file that is told to a group; a longer one is not well-formed.
pub const FILE_NAME_BYTES_MAX: usize = 255;
/// Longest name of a member, group or account, in characters.
pub const NAME_CHARS_MAX: usize = 32;
/// Longest name in bytes (it has to fit the one-byte length of an entry's header).
pub const NAME_BYTES_MAX: usize = 128;
/// Longest code of a failed message (`exit 7`), in bytes; longer ones are refused.
pub const CODE_BYTES_MAX: usize = 64;
/// Messages that a member may be at work on at once; one more and its ack is refused.
pub const OPEN_MAX: usize = 64;
/// Failed messages that one ack may report; more come with the next ack.
pub const FAILED_PER_ACK_MAX: usize = 64;

/// Stays of one sender id whose numbers are remembered; an older one is introduced again when it sends again.
pub const NUMBERS_PER_SENDER_MAX: usize = 64;

/// The cursor of a member that left is kept so long as a place to read from, in microseconds: 7 days.
pub const PLACE_KEPT_US: u64 = 7 * 24 * 3600 * 1_000_000;

/// The limits that an operator may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Members of one group, away ones included; the next one is refused (`GROUP_FULL`).
    pub members_max: usize,
    /// Body of one message in bytes; a longer one is refused (`TOO_LONG`).
    pub message_bytes_max: usize,
    /// Bytes of one connection that are taken in but not stored; more are refused (`BUSY`).
    pub unstored_bytes_max: usize,
    /// The same for the whole group.
    pub group_unstored_bytes_max: usize,
    /// Runs up to this many bytes are copied together; longer ones are passed on as they are.
    pub copy_bytes_max: usize,
    /// A batch that has come to this many bytes is closed, and the next one begun.
    pub batch_bytes_max: usize,
    /// Senders that are remembered for their retries; the least recently used is forgotten, and told so (`SENDER_EXPIRED`).
    pub senders_max: usize,
    /// Runs of counters that are remembered for one sender; older ones count as forgotten.
    pub runs_per_sender_max: usize,
    /// Runs of messages of one connection that wait for a receipt; beyond it, and near it where the connection takes them, the oldest
    /// are answered as they stand.
    pub waiting_runs_max: usize,
    /// What receipts that cannot be given as a run may weigh for one connection before it has taken them; the others wait. One weighs
    /// 1, 1 for each name that it says, and 1 for every 64 members: one weight is about 30 bytes as a frame, and at most 200.
    pub receipts_weight_max: usize,
    /// Runs of messages whose receipts are to be told to those who look on; beyond it the older half is not told, and has to
    /// be asked for.
    pub watched_runs_max: usize,
    /// Members that left and are remembered for receipts; older receipts answer `expired`.
    pub departed_max: usize,
    /// Failed messages that are remembered for receipts; older receipts answer `expired`.
    pub failures_max: usize,
    /// Members of the line door have no grace; these milliseconds are the native and web doors'.
    pub grace_ms: u64,
    /// A cursor that moved is stored after at most this many milliseconds.
    pub checkpoint_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            members_max: 20_000,
            message_bytes_max: 1 << 20,
            unstored_bytes_max: 4 << 20,
            group_unstored_bytes_max: 32 << 20,
            copy_bytes_max: 16 << 10,
            batch_bytes_max: 2 << 20,
            senders_max: 65_536,
            runs_per_sender_max: 1024,
            waiting_runs_max: 65_536,
            receipts_weight_max: 16_384,
            watched_runs_max: 4_096,
            departed_max: 100_000,
            failures_max: 100_000,
            grace_ms: 30_000,
            checkpoint_ms: 1_000,
        }
    }
}
