//! A file a command; what several of them need is here.

mod account;
mod again;
mod chat;
mod check;
mod claim;
mod delivery;
mod demo;
mod exec;
mod fetch;
mod files;
mod follow;
mod get;
mod get_folder;
mod groups;
mod history;
mod join;
mod manual;
mod members;
mod peer;
mod print;
mod receipt;
mod reserved;
mod save;
mod send;
mod serve;
mod status;
mod tell;

use tertulia_client::{Code, Directory, Error, Fingerprint, KnownNodes, Pinned, Target, Trust};
use tertulia_wire::NotAFingerprint;
use tertulia_wire::safe::make_safe;

use crate::cli::{Cli, Command, NodeArgs};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Output, error_line};
use crate::{logins, open_files, peers, state};

/// Whether it has more open at once than some systems allow at first. Others leave the limit as it is: programs that they run
/// would inherit it.
const fn opens_many(command: &Command) -> bool {
    match command {
        Command::Serve(_) | Command::Peer(_) | Command::Files(_) => true,
        Command::Join(args) => args.fetch.is_some(),
        _ => false,
    }
}

/// Runs the command.
pub async fn run(mut cli: Cli) -> Outcome {
    let before = NodeArgs { node: cli.node, tls: cli.tls, tls_fingerprint: cli.tls_fingerprint };
    let mut args = match cli.command.node_mut() {
        Some(args) => args.clone().or(before),
        None if before == NodeArgs::default() => before,
        None => {
            let text =
                "--node and --tls are for commands that talk to a node, which this one does not";
            return Err(Failure::usage(text));
        }
    };
    let given = args.node.clone();
    if let (Command::Files(files), None) = (&cli.command, &args.node)
        && std::env::var_os("TERTULIA_NODE").is_none_or(|node| node.is_empty())
    {
        // A group is told at the node that the peer is announced at.
        let peer = files.peer.peer.as_deref().map(files::with_port).unwrap_or_default();
        args.node = peers::node_of(&peer);
    }
    let target = target(args, &cli.command)?;
    let mut out = Output::new(&cli.common);
    let out = &mut out;
    if opens_many(&cli.command) {
        open_files::raise_limit();
    }
    match cli.command {
        Command::Demo(args) => demo::run(&args, out).await,
        Command::Serve(args) => serve::run(&args, out).await,
        Command::Join(args) => join::run(&args, &target, out).await,
        Command::Send(args) => send::run(&args, &target, out).await,
        Command::Chat(args) => chat::run(&args, &target, out).await,
        Command::Receipt(args) => receipt::run(&args, &target, out).await,
        Command::Groups(args) => listed(groups::run(args.command, &target, out).await),
        Command::Members(args) => listed(members::list(&args, &target, out).await),
        Command::Remove(args) => listed(members::remove(&args, &target, out).await),
        Command::History(args) => listed(history::run(&args, &target, out).await),
        Command::Register(args) => listed(account::register(&args, &target, out).await),
        Command::Login(args) => listed(account::login(&args, &target, out).await),
        Command::Logout(args) => listed(account::logout(&args, &target, out).await),
        Command::Passwd(args) => listed(account::passwd(&args, &target, out).await),
        Command::Peer(args) => peer::run(&args, given, &target, out).await,
        Command::Files(args) => listed(files::run(args, &target, out).await),
        Command::Whoami(_) => listed(account::whoami(&target, out).await),
        Command::Status(_) => listed(status::run(&target, out).await),
        Command::Check(args) => listed(check::run(&args, out).await),
        Command::Completions(args) => listed(manual::completions(args.shell, out)),
        Command::Man => listed(manual::pages(out)),
    }
}

/// A list whose reader has seen enough (`| head`) has done its work.
fn listed(outcome: Outcome) -> Outcome {
    match outcome {
        Err(failure) if failure.is_closed_output() => Ok(Exit::Done),
        outcome => outcome,
    }
}

/// The node to ask: the flag, or the environment's, or this host's; with the token that is kept for it.
fn target(args: NodeArgs, command: &Command) -> Result<Target, Failure> {
    let address = args
        .node
        .or_else(|| std::env::var("TERTULIA_NODE").ok().filter(|node| !node.is_empty()))
        .unwrap_or_else(|| "127.0.0.1".to_owned());
    let target = Target::new(address).agent(concat!("tertulia ", env!("CARGO_PKG_VERSION")));
    let target = trusting(target, args.tls, args.tls_fingerprint)?;
    // A token that is not valid any more must not be in the way of the next one.
    let login = match command {
        Command::Login(_) | Command::Demo(_) | Command::Serve(_) | Command::Check(_) => None,
        Command::Completions(_) | Command::Man | Command::Peer(_) => None,
        _ => logins::find(target.address())?,
    };
    Ok(target.login(login))
}

/// With TLS where it is asked for: a node that no authority vouches for is known by its certificate of the first time.
fn trusting(
    target: Target,
    tls: bool,
    fingerprint: Option<Fingerprint>,
) -> Result<Target, Failure> {
    let given = std::env::var("TERTULIA_TLS_FINGERPRINT").ok().filter(|text| !text.is_empty());
    let given = given.map(|text| text.parse()).transpose().map_err(|error: NotAFingerprint| {
        Failure::usage(format!("TERTULIA_TLS_FINGERPRINT: {error}"))
    })?;
    let fingerprint = fingerprint.or(given);
    if !tls && !target.is_tls() && fingerprint.is_none() {
        return Ok(target);
    }
    let known = KnownNodes::new(state::known_nodes_file()?, |pinned: &Pinned| {
        let Pinned { address, fingerprint, file } = pinned;
        let line = format!(
            "{address} is met for the first time; its certificate is {fingerprint}. Compare it with \
             what the node printed at its start: from now on no other is taken ({})",
            file.display()
        );
        error_line(&make_safe(&line, usize::MAX));
    });
    Ok(target.tls(Trust::default().only(fingerprint).known(known)))
}

/// A connection for questions.
async fn directory(target: &Target) -> Result<Directory, Failure> {
    Ok(Directory::connect(target).await?)
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let may_pass = error.may_pass();
        let code = match &error {
            Error::Unknown => return Self::unknown(error.to_string()).passing(may_pass),
            Error::Refused { code, message } => {
                return Self::failed(code.as_str(), message.clone()).passing(may_pass);
            }
            Error::Connect(why) => connect_code(why),
            Error::NoFiles { .. } => "NO_FILES",
            Error::TooLong { .. } => "TOO_LONG",
            Error::KeyReused => "KEY_REUSED",
            Error::Insecure { .. } => "INSECURE",
            Error::Lost { .. } => "LOST",
            Error::Protocol(_) => "PROTOCOL",
            Error::Closed => "CLOSED",
        };
        Self::failed(code, error.to_string()).passing(may_pass)
    }
}

const fn connect_code(error: &tertulia_client::ConnectError) -> &'static str {
    use tertulia_client::ConnectError;
    match error {
        ConnectError::Refused { .. } => "CONNECTION_REFUSED",
        ConnectError::TimedOut { .. } | ConnectError::Silent { .. } => "CONNECTION_TIMED_OUT",
        ConnectError::UnknownHost { .. } => "UNKNOWN_HOST",
        ConnectError::NotTertulia { .. } => "NOT_TERTULIA",
        ConnectError::NoTls { .. } => "NO_TLS",
        ConnectError::Untrusted { .. } | ConnectError::OtherCertificate { .. } => "NOT_TRUSTED",
        ConnectError::CertificateChanged(_) => "CERTIFICATE_CHANGED",
        ConnectError::Other { .. } => "CONNECTION_FAILED",
    }
}

/// The failure; where there is no such group, with how one comes to be.
fn of_group(error: Error, group: &str, target: &Target) -> Failure {
    let is_unknown = error.code() == Some(Code::UnknownGroup);
    let failure = Failure::from(error);
    if !is_unknown {
        return failure;
    }
    let node = node_flag(target);
    failure.hinting(&format!(
        "to make it: tertulia groups create {group}{node}, or join it: tertulia join {group}{node}"
    ))
}

/// ` --node HOST:PORT`, for a command that is shown; empty where it is the default.
fn node_flag(target: &Target) -> String {
    let tls = if target.is_tls() { "tls://" } else { "" };
    match (tls, target.address()) {
        ("", "127.0.0.1:5001") => String::new(),
        (tls, address) => format!(" --node {tls}{}", make_safe(address, usize::MAX)),
    }
}

/// `1 member`, `5 members`.
fn members_text(count: u32) -> String {
    if count == 1 { "1 member".to_owned() } else { format!("{count} members") }
}

/// Now, in microseconds since the Unix epoch.
pub fn now_us() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or_default()
}

/// Minutes east of UTC, here, at that moment.
fn offset_minutes(time_us: u64) -> i32 {
    let moment =
        i64::try_from(time_us).ok().and_then(|us| jiff::Timestamp::from_microsecond(us).ok());
    let zone = jiff::tz::TimeZone::system();
    moment.map_or(0, |moment| zone.to_offset(moment).seconds() / 60)
}
