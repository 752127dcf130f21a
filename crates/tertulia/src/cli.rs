//! The arguments of every command, as promised: names, short forms, defaults.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};
use clap_complete::Shell;
use tertulia_wire::Fingerprint;
use tertulia_wire::native::{Audience, Start};

use crate::names;
use crate::units::{self, Wait};

/// Tell a group something, and know that everyone got it.
#[derive(Debug, Parser)]
#[command(name = "tertulia", version, after_help = EXIT_CODES, subcommand_required = true)]
#[command(arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    /// The node's native door, tls://HOST:PORT for TLS; also after the command
    #[arg(long, short = 's', visible_aliases = ["server", "address"], value_name = "HOST:PORT")]
    pub node: Option<String>,
    /// Speak TLS to the node; also after the command
    #[arg(long)]
    pub tls: bool,
    /// Trust only this certificate of the node; also after the command
    #[arg(long, value_name = "SHA256")]
    pub tls_fingerprint: Option<Fingerprint>,
    #[command(subcommand)]
    pub command: Command,
}

/// For the help and the manual.
pub const EXIT_CODES: &str = "Exit codes: 0 done; 1 failed; 2 wrong usage; 3 stored, but not confirmed by \
     everyone (or by N) in time; 4 outcome unknown (it may be stored); 130 interrupted.";

/// Flags of every command.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// One JSON object a line on standard output, nothing else there
    #[arg(long, global = true)]
    pub json: bool,
    /// Nothing but errors and the messages or lists asked for: no notices, steps, confirmations or
    /// receipts (the exit code tells; --json prints receipts all the same)
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Say each step; twice: what the libraries do
    #[arg(long, short, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

/// Where the node is, and how to speak to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct NodeArgs {
    /// The node's native door, tls://HOST:PORT for TLS [env: TERTULIA_NODE] [default: 127.0.0.1:5001]
    #[arg(
        long,
        short = 's',
        visible_aliases = ["server", "address"],
        global = true,
        value_name = "HOST:PORT"
    )]
    pub node: Option<String>,
    /// Speak TLS to the node, as with tls:// before its address
    #[arg(long, global = true)]
    pub tls: bool,
    /// Trust only the certificate with this fingerprint, which the node prints at its start; implies
    /// --tls [env: TERTULIA_TLS_FINGERPRINT]
    #[arg(long, global = true, value_name = "SHA256")]
    pub tls_fingerprint: Option<Fingerprint>,
}

impl NodeArgs {
    /// With what stands before the command, where nothing stands after it.
    pub fn or(self, before: Self) -> Self {
        Self {
            node: self.node.or(before.node),
            tls: self.tls || before.tls,
            tls_fingerprint: self.tls_fingerprint.or(before.tls_fingerprint),
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Shows everything within seconds: a node, members, receipts
    Demo(DemoArgs),
    /// Runs a node
    Serve(Box<ServeArgs>),
    /// Becomes a member: prints each message and confirms it
    Join(JoinArgs),
    /// Sends to a group from outside, and waits for the receipt
    Send(SendArgs),
    /// Chats: prints what comes, sends what you type
    Chat(ChatArgs),
    /// Lists, creates and deletes groups
    Groups(GroupsArgs),
    /// Lists a group's members and the last number that each has acknowledged
    Members(MembersArgs),
    /// Removes a member from a group by name
    Remove(RemoveArgs),
    /// Prints a group's last messages, with the date where it is not today
    History(HistoryArgs),
    /// Prints the receipt of a message as it stands now
    Receipt(ReceiptArgs),
    /// Makes an account on the node
    Register(RegisterArgs),
    /// Logs in: every command to this node is the account's from then on
    Login(LoginArgs),
    /// Logs out: the token opens nothing any more, and what it opened is closed
    Logout(LogoutArgs),
    /// Changes your password, or, as an administrator, somebody else's: all other tokens of the account end
    Passwd(PasswdArgs),
    /// Says who you are on the node
    Whoami(WhoArgs),
    /// Shares a folder with others' peers, and finds it for them
    Peer(PeerArgs),
    /// Saves, finds and fetches files through your peer
    Files(FilesArgs),
    /// Says how the node is
    Status(StatusArgs),
    /// Checks a stopped node's data folder: what is whole, what is damaged, what to do
    Check(CheckArgs),
    /// Prints a completion script for a shell
    Completions(CompletionsArgs),
    /// Prints the manual page (roff)
    Man,
}

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// End after the roll calls, with exit code 0 if they went as told
    #[arg(long)]
    pub once: bool,
}

/// Every flag has its key in the configuration file and its environment variable TERTULIA_….
#[derive(Debug, Default, Args)]
#[command(after_help = "Each flag is also a key of the file of --config (no_line = true) and an \
     environment variable (TERTULIA_NO_LINE=true). A flag is stronger than the environment, the \
     environment than the file.\n\nStandard output says who comes and goes, a line each, such as `joined lobby ana \
     10.0.0.7 line`; on a terminal with the time after it. Into a file or a pipe the lines have no time: \
     --log-format json says the same on standard error, with times.")]
pub struct ServeArgs {
    /// Address that all doors listen on [default: 127.0.0.1]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// The same and the native port in one
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["listen", "native_port"])]
    pub address: Option<String>,
    /// The host that others reach this node by, where it is not the one they dialled
    #[arg(long, value_name = "HOST")]
    pub advertise: Option<String>,
    /// Where logs are kept [default: the XDG data folder]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Port of the native door, 0 for any free one [default: 5001]
    #[arg(long, value_name = "N")]
    pub native_port: Option<u16>,
    /// Port of the line door, 0 for any free one [default: 5000]
    #[arg(long, value_name = "N")]
    pub line_port: Option<u16>,
    /// Port of the HTTP door, 0 for any free one [default: 5080]
    #[arg(long, value_name = "N")]
    pub http_port: Option<u16>,
    /// No line door
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "true|false", hide_possible_values = true)]
    pub no_line: Option<bool>,
    /// No HTTP door
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "true|false", hide_possible_values = true)]
    pub no_http: Option<bool>,
    /// Only who is logged in may take part
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "true|false", hide_possible_values = true)]
    pub no_guests: Option<bool>,
    /// Only administrators make accounts; otherwise everybody may register
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "true|false", hide_possible_values = true)]
    pub no_register: Option<bool>,
    /// Take passwords on the line door from other machines too, where others may read them
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "true|false", hide_possible_values = true)]
    pub insecure_line_logins: Option<bool>,
    /// Speak TLS too, on the native and the HTTP port, with this certificate (PEM, those that vouch for
    /// it after it); read again on SIGHUP
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Speak TLS too, with a certificate that the node makes once and keeps in its data folder
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "true|false", hide_possible_values = true)]
    pub tls_self: Option<bool>,
    /// How long and how much of each group is kept [default: 30d,10GiB]
    #[arg(long, value_name = "AGE,SIZE")]
    pub keep: Option<String>,
    /// Where logs are kept: embedded, memory or nats://… [default: embedded]
    #[arg(long)]
    pub engine: Option<String>,
    /// What stored means: fsync (survives a power cut) or os (the process's death) [default: fsync]
    #[arg(long)]
    pub sync: Option<String>,
    /// The node's name [default: the host's]
    #[arg(long, value_name = "NAME")]
    pub node_id: Option<String>,
    /// Connections at most, in all [default: 50000]
    #[arg(long, value_name = "N")]
    pub max_connections: Option<usize>,
    /// Connections at most of one address that is not loopback [default: 1000]
    #[arg(long, value_name = "N")]
    pub max_connections_per_address: Option<usize>,
    /// The longest message [default: 1MiB]
    #[arg(long, value_name = "SIZE")]
    pub max_message: Option<String>,
    /// How the log on standard error is written; json: an object a line, with who comes and goes [default: text]
    #[arg(long, value_name = "text|json")]
    pub log_format: Option<String>,
    /// A TOML file with any of these
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "With --json, standard output has entries only. What becomes of the membership is an object a line on \
     standard error, {\"notice\":{\"code\",\"group\",\"name\",\"message\",\"time\"}}: JOINED, LOST (the connection; it is made \
     anew), BACK, BACK_ANEW (the old membership had ended), NAME_RESERVED.\n\nWhen somebody registers the member's \
     name, join waits for a login of that account on this machine, and goes on as the same member: for 30 s, with \
     --durable as long as it takes."
)]
pub struct JoinArgs {
    /// The group; without it the allocator gives one
    #[arg(value_parser = names::argument)]
    pub group: Option<String>,
    /// The member's name [default: user-host, numbered if taken]
    #[arg(long, value_parser = names::argument)]
    pub name: Option<String>,
    /// Begin with the first message that is kept, with a number, or with the last N; for a first
    /// join: a member that comes back goes on where it was
    #[arg(long, value_name = "first|SEQ|-N", allow_hyphen_values = true, value_parser = units::start)]
    pub from: Option<Start>,
    /// Stay a member, and be asked, however long away, until removed by name; without it a member is given up 30 s after its
    /// connection has ended
    #[arg(long)]
    pub durable: bool,
    /// Run this for each message (text on standard input); exit code 0 confirms it, and what fails
    /// is run three times in all. Programs of several messages run at once, so that one long task
    /// hides nothing
    #[arg(long, value_name = "CMD")]
    pub exec: Option<String>,
    /// How many programs of --exec run at once; 1: strictly one after the other
    #[arg(long, value_name = "N", default_value_t = 16, requires = "exec")]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=64))]
    pub jobs: u8,
    /// Fetch the files that the group is told of into this folder, and share them; each is confirmed
    /// once it is there, verified and on the disk. Nothing else that lies in the folder is shared.
    /// Needs a login
    #[arg(long, value_name = "DIR")]
    pub fetch: Option<PathBuf>,
    /// Address on which others fetch from --fetch; 0.0.0.0 for others on the network [default:
    /// 127.0.0.1]
    #[arg(long, value_name = "ADDR", requires = "fetch")]
    pub listen: Option<std::net::IpAddr>,
    /// The host that others reach it by, where it is not the one that the node sees
    #[arg(long, value_name = "HOST", requires = "fetch")]
    pub advertise: Option<String>,
    #[command(flatten)]
    pub node: NodeArgs,
}

#[derive(Debug, Args)]
pub struct SendArgs {
    /// The group; on a terminal it may be chosen
    #[arg(value_parser = names::argument)]
    pub group: Option<String>,
    /// The message; without it, one message a line of standard input
    pub text: Vec<String>,
    /// What to wait for: everybody, that it is stored, or so many
    #[arg(long, value_name = "all|stored|N", default_value = "all")]
    pub wait: Wait,
    /// How long it may take in all, connecting included; of a pipe or when typing, each message
    #[arg(long, default_value = "5s", value_parser = units::timeout)]
    pub timeout: Duration,
    /// Exit with 3, and say so, when fewer than N members were asked
    #[arg(long, value_name = "N")]
    pub expect: Option<u32>,
    /// The sender's name [default: user-host]
    #[arg(long = "as", value_name = "NAME", value_parser = names::argument)]
    pub name: Option<String>,
    /// Makes a retry safe: the same TEXT to the same group under the same name and key is stored once, however often it is
    /// sent. Another text under the same key is refused. [default: one by chance, told where the outcome is unknown]
    #[arg(long, value_name = "KEY", requires = "text", value_parser = units::key)]
    pub key: Option<String>,
    #[command(flatten)]
    pub node: NodeArgs,
}

#[derive(Debug, Args)]
pub struct ChatArgs {
    /// The group
    #[arg(default_value = "lobby", value_parser = names::argument)]
    pub group: String,
    /// Your name; without it you are asked
    #[arg(long, value_parser = names::argument)]
    pub name: Option<String>,
    #[command(flatten)]
    pub node: NodeArgs,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = false)]
pub struct GroupsArgs {
    #[command(flatten)]
    pub node: NodeArgs,
    #[command(subcommand)]
    pub command: Option<GroupsCommand>,
}

#[derive(Debug, Subcommand)]
pub enum GroupsCommand {
    /// Creates a group
    Create {
        /// Its name
        #[arg(value_parser = names::argument)]
        name: String,
        #[command(flatten)]
        rules: RulesArgs,
    },
    /// Says who may join a group and who may send to it
    Show {
        /// Its name
        #[arg(value_parser = names::argument)]
        name: String,
    },
    /// Changes that; what is not said stays
    Set {
        /// Its name
        #[arg(value_parser = names::argument)]
        name: String,
        #[command(flatten)]
        rules: RulesArgs,
        /// Another account that owns the group from now on
        #[arg(long, value_name = "NAME", value_parser = names::argument_or_none)]
        owner: Option<String>,
    },
    /// Deletes a group that has no members
    Delete {
        /// Its name
        #[arg(value_parser = names::argument)]
        name: String,
    },
}

#[derive(Debug, Args)]
#[command(
    after_help = "ACKED is the member's cursor: everything up to there has been taken or given \
     up. Until it is done, a receipt may still name a member that is at work on a number below it, \
     or has failed it."
)]
pub struct MembersArgs {
    /// The group
    #[arg(value_parser = names::argument)]
    pub group: String,
    #[command(flatten)]
    pub node: NodeArgs,
}

#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// The group
    #[arg(value_parser = names::argument)]
    pub group: String,
    /// The member
    #[arg(value_parser = names::argument)]
    pub name: String,
    #[command(flatten)]
    pub node: NodeArgs,
}

#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// The group
    #[arg(value_parser = names::argument)]
    pub group: String,
    /// The first ones after this number, instead of the last ones
    #[arg(long, value_name = "SEQ")]
    pub after: Option<u64>,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: u32,
    #[command(flatten)]
    pub node: NodeArgs,
}

#[derive(Debug, Args)]
pub struct ReceiptArgs {
    /// The group
    #[arg(value_parser = names::argument)]
    pub group: String,
    /// The message's number
    #[arg(value_parser = units::seq)]
    pub seq: u64,
    /// How long to wait for it to be final
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub wait: Option<Duration>,
    #[command(flatten)]
    pub node: NodeArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Each flag is also a key of the file of --config, and so is node. Log in with \
     `tertulia login`, before or after; the peer notices.\n\nA group that is followed has the peer as a member, \
     ACCOUNT-peer, until it is removed by name (`tertulia remove GROUP ACCOUNT-peer`): away while the peer is not \
     running, and going on where it was when it runs again. It confirms messages as they come, and a file or folder \
     once it is fetched, verified, on the disk and under its name."
)]
pub struct PeerArgs {
    /// The folder that is shared [default: ~/Tertulia]
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// The port; where it is taken, the next one that is free [default: 50051]
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,
    /// Address to listen on; 0.0.0.0 for others on the network [default: 127.0.0.1]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<std::net::IpAddr>,
    /// The host that others reach this peer by, where it is not the one that the node sees
    #[arg(long, value_name = "HOST")]
    pub advertise: Option<String>,
    /// Follow this group: fetch what it is told of into the folder, and confirm it; may be repeated
    #[arg(long, value_name = "GROUP")]
    pub follow: Vec<String>,
    /// A TOML file with any of these
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub node: NodeArgs,
}

/// Which peer is one's own.
#[derive(Clone, Debug, Args)]
pub struct OwnPeerArgs {
    /// Your peer [default: the one that you have running on this machine]
    #[arg(long, value_name = "HOST:PORT", global = true)]
    pub peer: Option<String>,
    /// How long the peer may be silent before it is given up; it is asked meanwhile whether it is there
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = units::timeout)]
    #[arg(global = true, hide = true)]
    pub peer_silence: Duration,
}

#[derive(Debug, Args)]
pub struct FilesArgs {
    #[command(flatten)]
    pub peer: OwnPeerArgs,
    #[command(flatten)]
    pub node: NodeArgs,
    #[command(subcommand)]
    pub command: FilesCommand,
}

#[derive(Debug, Subcommand)]
pub enum FilesCommand {
    /// Saves files and folders into your peer's folder: others find them from then on
    Save {
        /// The files; a folder is saved as a whole, without what is hidden in it, and what is in the shared
        /// folder already stays where it is. One that fails is named, the others are saved
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Replace a file of the same name
        #[arg(long)]
        force: bool,
        /// Tell this group, too: members with `join --fetch` fetch it, and the receipt says who has it
        #[arg(long, value_name = "GROUP")]
        group: Option<String>,
        /// Who is waited for: everybody, nobody (it is told), or so many
        #[arg(long, value_name = "all|stored|N", default_value = "all", requires = "group")]
        wait: Wait,
        /// How long that may take, for each file
        #[arg(long, default_value = "10m", value_parser = units::timeout, requires = "group")]
        timeout: Duration,
        /// The name under which the group is told [default: user-host]
        #[arg(long = "as", value_name = "NAME", requires = "group")]
        name: Option<String>,
    },
    /// Finds files of all peers by any fragment of their names, case and accents aside, or by the beginning of a hash
    Search {
        /// What a name has in it, all of it; or the first digits of a hash, eight or more
        words: Vec<String>,
        /// How many at most
        #[arg(long, value_name = "N", default_value_t = 100)]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Fetches a file or a folder from all who have it; what an earlier try has left is not fetched again
    Get {
        /// Its name (a folder's may end with /), or the first digits of its hash (eight or more), as `search` and b3sum print it
        file: String,
        /// Where to put it: a folder, or a file's name [default: here, under its own name]
        #[arg(long, short, value_name = "PATH")]
        output: Option<PathBuf>,
        /// Replace a file that is there
        #[arg(long)]
        force: bool,
    },
    /// Lists the files that your peer shares
    List,
    /// Lists everybody's peers and their ports
    Peers,
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub node: NodeArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Nothing is changed. Exit code 0: whole; 1: something is damaged.")]
pub struct CheckArgs {
    /// The node's data folder [default: the XDG data folder]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct RegisterArgs {
    /// The account's name
    #[arg(value_parser = names::argument)]
    pub name: String,
    /// Read the password from standard input, its first line, instead of asking for it
    #[arg(long)]
    pub password_stdin: bool,
    /// The code that the node prints when it has no administrator and others can reach it
    #[arg(long, value_name = "CODE")]
    pub setup_code: Option<String>,
    /// Through a peer, which passes it on to its node [default: yours on this machine]
    #[arg(long, value_name = "HOST:PORT", num_args = 0..=1, default_missing_value = "")]
    pub peer: Option<String>,
    #[command(flatten)]
    pub node: NodeArgs,
}

#[derive(Debug, Args)]
pub struct LoginArgs {
    /// The account's name
    #[arg(value_parser = names::argument)]
    pub name: String,
    /// Read the password from standard input, its first line, instead of asking for it
    #[arg(long)]
    pub password_stdin: bool,
    /// Through a peer, which passes it on to its node [default: yours on this machine]
    #[arg(long, value_name = "HOST:PORT", num_args = 0..=1, default_missing_value = "")]
    pub peer: Option<String>,
    #[command(flatten)]
    pub node: NodeArgs,
}

#[derive(Debug, Args)]
pub struct LogoutArgs {
    /// Through a peer, which passes it on to its node [default: yours on this machine]
    #[arg(long, value_name = "HOST:PORT", num_args = 0..=1, default_missing_value = "")]
    pub peer: Option<String>,
    #[command(flatten)]
    pub node: NodeArgs,
}

#[derive(Debug, Args)]
pub struct PasswdArgs {
    /// Somebody else's account, for administrators
    #[arg(value_parser = names::argument)]
    pub name: Option<String>,
    /// Read the passwords from standard input instead of asking for them: the old one, then the new one, a line each (for
    /// somebody else's account the new one only)
    #[arg(long)]
    pub password_stdin: bool,
    #[command(flatten)]
    pub node: NodeArgs,
}

#[derive(Debug, Args)]
pub struct WhoArgs {
    #[command(flatten)]
    pub node: NodeArgs,
}

/// Who may join a group, and who may send to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct RulesArgs {
    /// Who may join: everybody, who is logged in, or who is listed
    #[arg(long, value_name = "open|members|private", value_parser = units::audience)]
    pub join: Option<Audience>,
    /// Who may send from outside; who may join may always
    #[arg(long, value_name = "open|members|private", value_parser = units::audience)]
    pub send: Option<Audience>,
    /// Accounts that may join a private group, besides its owner
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    #[arg(value_parser = names::argument_or_none)]
    pub may_join: Option<Vec<String>>,
    /// Accounts that may send where that is private
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    #[arg(value_parser = names::argument_or_none)]
    pub may_send: Option<Vec<String>>,
}

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

impl Command {
    /// Where the node is, for the commands that talk to one.
    pub fn node_mut(&mut self) -> Option<&mut NodeArgs> {
        Some(match self {
            Self::Join(args) => &mut args.node,
            Self::Send(args) => &mut args.node,
            Self::Chat(args) => &mut args.node,
            Self::Groups(args) => &mut args.node,
            Self::Members(args) => &mut args.node,
            Self::Remove(args) => &mut args.node,
            Self::History(args) => &mut args.node,
            Self::Receipt(args) => &mut args.node,
            Self::Register(args) => &mut args.node,
            Self::Login(args) => &mut args.node,
            Self::Passwd(args) => &mut args.node,
            Self::Logout(args) => &mut args.node,
            Self::Whoami(args) => &mut args.node,
            Self::Peer(args) => &mut args.node,
            Self::Status(args) => &mut args.node,
            Self::Files(args) => &mut args.node,
            Self::Demo(_) | Self::Serve(_) | Self::Check(_) => return None,
            Self::Completions(_) | Self::Man => {
                return None;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_node_may_stand_before_and_after_the_command() {
        for line in [
            "tertulia -s h:1 groups",
            "tertulia --address h:1 groups",
            "tertulia groups -s h:1",
            "tertulia groups create x --server h:1",
            "tertulia send ops hola --address h:1",
        ] {
            let mut cli = Cli::try_parse_from(line.split(' ')).unwrap_or_else(|e| panic!("{e}"));
            let after = cli.command.node_mut().and_then(|args| args.node.take());
            assert_eq!(after.or(cli.node).as_deref(), Some("h:1"), "{line}");
        }
    }
}
