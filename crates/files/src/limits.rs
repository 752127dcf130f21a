//! Every limit of a peer, in one place; what happens at each is a named refusal.

use std::time::Duration;

/// Bytes of a piece: what is verified, asked for and kept as a whole. A power of two of BLAKE3's chunks.
pub const PIECE_BYTES: usize = 1 << 20;
/// A file's bytes; a larger one is not shared (and said so), and `TOO_LARGE` when it is fetched or saved.
pub const FILE_BYTES_MAX: u64 = 1 << 40;
/// Files that one peer shares; those beyond are left out, and said so.
pub const FILES_MAX: usize = 100_000;
/// Folders within folders; what is deeper is left out.
pub const DEPTH_MAX: usize = 16;
/// Bytes of a whole name, its folders included; a longer one is refused.
pub const NAME_BYTES_MAX: usize = 1_024;
/// Bytes of one component of a name: what file systems take.
pub const COMPONENT_BYTES_MAX: usize = 255;
/// Files of one folder that is shared as a whole; one with more is shared file by file only, and refused when it is saved.
pub const FOLDER_FILES_MAX: usize = 20_000;
/// Bytes of the list of a folder's files; the same happens at it.
pub const MANIFEST_BYTES_MAX: usize = 4 << 20;
/// Questions to holders that the files of one folder have under way at once: one for a file of one piece, three for a larger
/// one. Fewer than [`STREAMS_MAX`], since one connection to each holder carries them.
pub const FOLDER_QUESTIONS: usize = 24;
/// Contents of a folder whose holders are asked for at once. The capabilities of two such lots fit what a connection
/// remembers of its headers (4 KiB; RFC 7541), so that they are sent once and not with every question.
pub const SOURCES_AT_ONCE: usize = 16;
/// So many files of one piece in a folder are synced all at once when they are there; fewer are synced one by one.
pub const SYNCED_AT_ONCE_MIN: usize = 200;
/// Hashes that one capability opens; more are asked for with more of them.
pub const CAPABILITY_HASHES_MAX: usize = 64;
/// Files in one announcement to the node.
pub const ANNOUNCED_AT_ONCE: usize = 1_000;
/// What the node may answer to one request; more is refused.
pub const ANSWER_BYTES_MAX: usize = 8 << 20;
/// How long the node may take for one request.
pub const NODE_WAIT: Duration = Duration::from_secs(20);
/// How long connecting to another peer may take, TLS included.
pub const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// A holder from which nothing of what it was asked for comes for so long is given up...
pub const PIECE_WAIT: Duration = Duration::from_secs(15);
/// ... and one that takes so long for a message (a piece, or a part of an outline) of which something comes all the time: on a slow
/// line many pieces come at once, none of them soon.
pub const MESSAGE_WAIT: Duration = Duration::from_secs(150);
/// Connections to one peer; one more is closed.
pub const CONNECTIONS_MAX: usize = 512;
/// So many of these are kept for the peer's own machine: its owner's commands.
pub const CONNECTIONS_OWN: usize = 16;
/// Connections to one peer from one address that is not loopback (for IPv6: from one /64 network); one more is closed.
pub const CONNECTIONS_PER_ADDRESS: usize = 64;
/// Requests on one connection at a time; more wait.
pub const STREAMS_MAX: u32 = 32;
/// Who takes nothing of an answer for so long is disconnected.
pub const WRITE_WAIT: Duration = Duration::from_secs(60);
/// The same where others wait for a permit that there is not ([`ANSWERS_MAX`]).
pub const WRITE_WAIT_WANTED: Duration = Duration::from_secs(5);
/// Answers with pieces that one account has under way; one more waits for its permit. Each may hold two pieces and three buffers.
pub const ANSWERS_PER_ACCOUNT: usize = 32;
/// The same for all accounts.
pub const ANSWERS_MAX: usize = 128;
/// How long somebody waits for a permit, less than [`PIECE_WAIT`]; then it is refused (`BUSY`).
pub const PERMIT_WAIT: Duration = Duration::from_secs(5);
/// What the request of another peer may take to come, once it has its permit; then it is refused (`TOO_SLOW`).
pub const BODY_WAIT: Duration = Duration::from_secs(5);
/// How long a TLS handshake may take, or the first byte of a connection.
pub const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);
/// How long it may take until HTTP/2 has begun on it then.
pub const PREFACE_WAIT: Duration = Duration::from_secs(10);
/// A connection of which nothing is read for so long is closed: who speaks answers the questions whether it is there.
pub const READ_WAIT: Duration = Duration::from_secs(60);
/// Holders of one file that are asked at once; others only when some are given up.
pub const SOURCES_MAX: usize = 16;
/// Where many fetch a content at once, who had it first gives a piece a second time only so long after the first (somebody
/// may have died with it)...
pub const GIVEN_AGAIN: Duration = Duration::from_secs(2);
/// ... and once more only so long after that.
pub const GIVEN_AGAIN_LATER: Duration = Duration::from_secs(60);
/// Pieces, of all contents, of which it is known that they were given within the last minute; beyond that nothing new is given
/// until some of them are past, so that no piece goes oftener than it may.
pub const GIVEN_PIECES_MAX: usize = 128 << 10;
/// Pieces that one answer gives of those that somebody wants; of more, some.
pub const GIFT_MAX: usize = 16;
/// A piece that was given is given to somebody else where nothing was taken for so long of the answer that it is in.
pub const GIFT_WAIT: Duration = Duration::from_secs(4);
/// Pieces that are on their way to one account at a time because it was given them, and those that it has let go a moment
/// ago; more are not given.
pub const GIVEN_AT_ONCE: usize = 32;
/// Where others have asked so lately, an account is given a piece once in [`GIVEN_AGAIN_LATER`].
pub const ASKED_LATELY: Duration = Duration::from_secs(10);
/// Contents that a peer is fetching and says so, for others to fetch from it.
pub const UNFINISHED_MAX: usize = 64;
/// Files and folders whose fetching was broken off and may go on, each, that stay in a folder from one life of its peer to the
/// next; of more, the ones that nobody was at for the longest are deleted.
pub const LEFT_MAX: usize = 64;
/// Contents that a peer has fetched and knows that it has; more are forgotten all at once.
pub const FETCHED_KEPT: usize = 4_096;
/// Who asks which pieces there are beside those that it knows is answered after so long at the latest.
pub const HAVE_WAIT: Duration = Duration::from_secs(2);
/// A fetch in which everybody waits for everybody for so long is given up; what came is kept.
pub const STALL: Duration = Duration::from_secs(20);
/// A file that was told to a group and of which nothing comes for so long is given up.
pub const PATIENCE: Duration = Duration::from_secs(600);
/// The same where somebody is there all the time who has it and gives each piece to few: its turn comes, with many members each of
/// which nobody else reaches, only after minutes for each of them.
pub const PATIENCE_SPARED: Duration = Duration::from_secs(24 * 3_600);
/// Bytes of a request for pieces: a bit for each piece of the largest file and some to spare; more is `BAD_REQUEST`.
pub const REQUEST_BYTES_MAX: usize = 256 << 10;
/// Bytes of a request to say which pieces there are: a hash and a number; the same.
pub const HAVE_BYTES_MAX: usize = 128;
/// Bytes of one message between peers: a piece and some to spare.
pub const MESSAGE_BYTES_MAX: usize = PIECE_BYTES + (64 << 10);
/// Of a disk, so many bytes stay free of what a group tells, or a twentieth of the disk where that is less: what somebody else
/// says is fetched takes no disk's last bytes. What its user asks for may.
pub const FREE_BYTES_KEPT: u64 = 1 << 30;
/// Ports that are tried from the one that was asked for.
pub const PORTS_TRIED: u16 = 100;
/// What a folder's changes are collected for before they are looked at.
pub const SETTLE: Duration = Duration::from_millis(300);
/// The folder is looked through as a whole at least so often: no watcher sees everything.
pub const RESCAN: Duration = Duration::from_secs(300);
