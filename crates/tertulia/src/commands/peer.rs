//! `peer`: shares a folder until it is told to stop; says where it is, what it shares and what is in the way.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tertulia_client::{Instance, LoggedIn, Target};
use tertulia_files::identity::Identity;
use tertulia_files::library::Looked;
use tertulia_files::service::{KeptToken, PEER_PORT, PeerOptions, RunningPeer, Standing, Tokens};
use tertulia_group::Name;
use tertulia_wire::safe::make_safe;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::follow::{self, Following};
use crate::cli::PeerArgs;
use crate::failure::{Failure, Outcome};
use crate::logins;
use crate::names;
use crate::output::{Output, error_line};
use crate::peers::{ONLY_HERE, PeerState};
use crate::signals::Signals;

/// What the file of `--config` may say.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    folder: Option<PathBuf>,
    port: Option<u16>,
    listen: Option<IpAddr>,
    advertise: Option<String>,
    follow: Option<Vec<String>>,
    node: Option<String>,
}

/// What programs are told.
#[derive(serde::Serialize)]
struct PeerStarted<'a> {
    address: String,
    folder: &'a str,
    /// The port that was asked for, where it was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    taken: Option<u16>,
    node: &'a str,
}

/// Runs a peer.
pub async fn run(
    args: &PeerArgs,
    given: Option<String>,
    target: &Target,
    out: &mut Output,
) -> Outcome {
    let mut signals = Signals::listen()?;
    let file = read_settings(args.config.as_deref())?;
    let from_env = std::env::var_os("TERTULIA_NODE").is_some_and(|node| !node.is_empty());
    let node = match file.node {
        Some(node) if given.is_none() && !from_env => Target::new(node),
        _ => target.clone(),
    };
    let folder = args.folder.clone().or(file.folder).map_or_else(default_folder, Ok)?;
    let doing = format!("cannot share {}", folder.display());
    std::fs::create_dir_all(&folder).map_err(|error| Failure::io(&doing, &error))?;
    let state = PeerState::take(&folder)?;
    let identity = Identity::load_or_make(&state.identity()).map_err(|error| {
        Failure::io(&format!("cannot use {}", state.identity().display()), &error)
    })?;
    let follow =
        if args.follow.is_empty() { file.follow.unwrap_or_default() } else { args.follow.clone() };
    let follow = follow.iter().map(|group| names::check(group));
    // By its folded name: a group is followed once.
    let follow: BTreeMap<String, Name> = follow
        .map(|group| group.map(|group| (group.folded().to_owned(), group)))
        .collect::<Result<_, Failure>>()?;
    let port = args.port.or(file.port).unwrap_or(PEER_PORT);
    let address = node.address().to_owned();
    let options = PeerOptions {
        folder: folder.clone(),
        cache: state.hashes(),
        given: None,
        identity: Arc::new(identity),
        listen: args.listen.or(file.listen).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        port,
        advertise: args.advertise.clone().or(file.advertise),
        tokens: Box::new(KeptLogins { address: address.clone() }),
        node: node.clone(),
    };
    let looks = looks_shown(out);
    let peer = RunningPeer::start(options, looks)
        .await
        .map_err(|error| cannot_start(&error, &folder, port))?;
    state.publish(peer.address(), &folder, &node)?;
    say_started(&peer, &folder, port, &address, out)?;
    let mut standing = peer.standing();
    let (end, ending) = watch::channel(());
    let mut following = JoinSet::new();
    for group in follow.into_values() {
        following.spawn(follow::run(Following {
            group,
            node: node.clone(),
            kept: state.memberships(),
            fetcher: peer.fetcher(),
            standing: peer.standing(),
            ending: ending.clone(),
            is_quiet: out.quiet,
        }));
    }
    drop(ending);
    loop {
        tokio::select! {
            _ = signals.stopped() => break,
            changed = standing.changed() => match changed {
                Ok(()) => {
                    let now = standing.borrow_and_update().clone();
                    out.note(&standing_text(&now, &address));
                }
                Err(_) => {
                    signals.stopped().await;
                    break;
                }
            },
        }
    }
    state.clear();
    drop(end);
    while following.join_next().await.is_some() {}
    peer.stop().await;
    Ok(crate::failure::Exit::Done)
}

fn read_settings(path: Option<&Path>) -> Result<Settings, Failure> {
    let Some(path) = path else { return Ok(Settings::default()) };
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::io(&format!("cannot read {shown}"), &error))?;
    // Keys may be written with dashes, as flags are; none of these has one.
    toml::from_str(&text).map_err(|error| Failure::usage(format!("{shown}: {}", error.message())))
}

fn default_folder() -> Result<PathBuf, Failure> {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let home =
        home.ok_or_else(|| Failure::failed("NO_HOME", "HOME is not set; say --folder DIR"))?;
    Ok(home.join("Tertulia"))
}

fn cannot_start(error: &std::io::Error, folder: &Path, port: u16) -> Failure {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            let text = format!(
                "port {port} and all those after it are taken; say --port N (0: any free one)"
            );
            Failure::failed("PORT_TAKEN", text)
        }
        std::io::ErrorKind::AddrNotAvailable => {
            let text = "the address of --listen is on none of this machine's interfaces; use --listen 0.0.0.0 --advertise HOST";
            Failure::failed("CANNOT_LISTEN", text)
        }
        _ => Failure::io(&format!("cannot share {}", folder.display()), error),
    }
}

fn say_started(
    peer: &RunningPeer,
    folder: &Path,
    asked: u16,
    node: &str,
    out: &mut Output,
) -> Result<(), Failure> {
    let address = peer.address();
    let taken = Some(asked).filter(|asked| *asked != 0 && *asked != address.port());
    let shown = folder.display().to_string();
    let started = PeerStarted { address: address.to_string(), folder: &shown, taken, node };
    let taken = taken.map_or_else(String::new, |port| format!("  (port {port} is taken)"));
    let folder = make_safe(&shown, usize::MAX);
    out.either(&started, || format!("peer    {address}{taken}\nfolder  {folder}\nnode    {node}"))?;
    if address.ip().is_loopback() {
        out.note(ONLY_HERE);
    }
    out.flush()
}

/// What a look through the folder has brought, said once it is different from the last one.
fn looks_shown(out: &Output) -> impl Fn(&std::io::Result<Looked>) + Send + 'static {
    let quiet = out.quiet;
    let last = std::sync::Mutex::new(String::new());
    move |looked| {
        let text = match looked {
            Ok(looked) => looked_text(looked),
            Err(error) => format!("the folder cannot be read: {error}"),
        };
        let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !quiet && *last != text {
            error_line(&text);
        }
        *last = text;
    }
}

fn looked_text(looked: &Looked) -> String {
    let files =
        if looked.files == 1 { "1 file".to_owned() } else { format!("{} files", looked.files) };
    let mut text = format!("shares {files}");
    if looked.left_out_count > 0 {
        let named: Vec<_> =
            looked.left_out.iter().map(|(name, why)| format!("{name} ({why})")).collect();
        let more = if looked.left_out_count > named.len() { ", …" } else { "" };
        text += &format!(", left out {}: {}{more}", looked.left_out_count, named.join(", "));
    }
    text
}

fn standing_text(standing: &Standing, node: &str) -> String {
    match standing {
        Standing { trouble: Some(why), .. } => format!("not announced: {why}"),
        Standing { user: Some(user), address: Some(address), announced, .. } => {
            let files = if *announced == 1 { "1 file" } else { "files" };
            let count = if *announced == 1 { String::new() } else { format!("{announced} ") };
            let (user, address) = (make_safe(user, usize::MAX), make_safe(address, usize::MAX));
            format!("announced as {user} at {address} with {count}{files}")
        }
        _ => format!(
            "nobody is logged in at {node}, so that nobody finds these files; log in: tertulia login NAME \
             (an account is made by: tertulia register NAME)"
        ),
    }
}

/// The user's logins: those of every other command, too.
pub struct KeptLogins {
    /// The node.
    pub address: String,
}

impl Tokens for KeptLogins {
    fn find(&self) -> Result<Option<KeptToken>, String> {
        let found = logins::find(&self.address).map_err(|failure| failure.message())?;
        Ok(found.map(|login| KeptToken {
            token: login.token,
            instance: login.instance.map(|instance| instance.to_string()),
        }))
    }

    fn keep(&self, instance: &str, name: &str, token: &str, expires: &str) -> Result<(), String> {
        let number =
            u128::from_str_radix(instance, 16).map_err(|_| "the node says no store".to_owned())?;
        let expires: jiff::Timestamp =
            expires.parse().map_err(|_| "the node says no time".to_owned())?;
        let expires_us = u64::try_from(expires.as_microsecond()).unwrap_or_default();
        let logged_in = LoggedIn { name: name.to_owned(), token: token.to_owned(), expires_us };
        logins::keep(&self.address, Instance(number.to_be_bytes()), &logged_in)
            .map_err(|failure| failure.message())
    }

    fn forget(&self) -> Result<(), String> {
        logins::forget(&self.address).map(|_| ()).map_err(|failure| failure.message())
    }
}
