//! `files`: finds and lists files and peers through one's own peer; what else it does is in files of its own.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tertulia_client::Target;
use tertulia_files::identity::Identity;
use tertulia_files::own::{OwnPeer, Refused};
use tertulia_wire::safe::make_safe;
use tertulia_wire::sharing::FileLine;
use tertulia_wire::text::size_text;

use super::save::Saving;
use super::tell::Telling;
use super::{get, save};
use crate::cli::{FilesArgs, FilesCommand};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Output, table};
use crate::peers;
use crate::signals::Signals;

/// Digits of a hash that people are shown.
const HASH_SHOWN: usize = 16;

/// Does what is told.
pub async fn run(args: FilesArgs, target: &Target, out: &mut Output) -> Outcome {
    let mut exit = Exit::Done;
    let address = args.peer.peer.as_deref().unwrap_or_default();
    let mut peer = own_peer(address, args.peer.peer_silence).await?;
    match args.command {
        FilesCommand::Save { paths, force, group, wait, timeout, name } => {
            let telling = group.map(|group| Telling { group, wait, timeout, name });
            let saving = Saving { force, telling };
            exit = save::run(&mut peer, &paths, &saving, target, out).await?;
        }
        FilesCommand::Search { words, limit } => {
            let (files, more) = peer.search(&words.join(" "), limit).await?;
            show(&files, out)?;
            if files.is_empty() {
                out.note("nothing is called so, of what is online");
            } else if more {
                out.note(&format!(
                    "there are more than {limit}; say more of the name, or --limit N"
                ));
            }
        }
        FilesCommand::Get { file, output, force } => {
            let mut signals = Signals::listen()?;
            tokio::select! {
                got = get::run(&mut peer, &file, output.as_deref(), force, out) => got?,
                _ = signals.stopped() => {
                    out.note("broken off; what has come is kept, and the same command goes on from there");
                    return Ok(Exit::Interrupted);
                }
            }
        }
        FilesCommand::List => {
            let files = peer.list().await?;
            show(&files, out)?;
        }
        FilesCommand::Peers => {
            let peers = peer.peers().await?;
            if out.json {
                peers.iter().try_for_each(|line| out.object(line))?;
            } else {
                let safe = |text: &str| make_safe(text, usize::MAX).into_owned();
                let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
                let rows: Vec<_> = peers
                    .iter()
                    .map(|line| vec![safe(&line.user), safe(&line.address), yes(line.online)])
                    .collect();
                table(&["USER", "ADDRESS", "ONLINE"], &rows)
                    .iter()
                    .try_for_each(|line| out.text(line))?;
            }
        }
    }
    out.flush()?;
    Ok(exit)
}

/// A connection to one's own peer: at this address, or the one that runs on this machine where it is empty.
/// It is given up where it is silent for so long.
pub async fn own_peer(address: &str, silence: Duration) -> Result<OwnPeer, Failure> {
    let (address, identity) = match address {
        "" => peers::running().map(|(address, identity)| (address, Some(identity)))?,
        address => (with_port(address), peers::any_identity()),
    };
    let identity = identity.and_then(|path| Identity::load_or_make(&path).ok());
    Ok(OwnPeer::connect(&address, identity.as_ref(), silence).await?)
}

/// A number alone is a port of this machine; a host alone has the usual one.
pub fn with_port(address: &str) -> String {
    let port = tertulia_files::service::PEER_PORT;
    match address.rsplit_once(':') {
        Some((_, digits)) if digits.parse::<u16>().is_ok() && !address.ends_with(']') => {
            address.to_owned()
        }
        _ if address.parse::<u16>().is_ok() => format!("127.0.0.1:{address}"),
        _ => format!("{address}:{port}"),
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::failed(refused.code, refused.message)
    }
}

/// `3.0 MiB`, or `3.0 MiB in 12 files`.
pub fn shown_size(size: u64, files: Option<u64>) -> String {
    let size = size_text(size);
    match files {
        None => size,
        Some(1) => format!("{size} in 1 file"),
        Some(files) => format!("{size} in {files} files"),
    }
}

/// As much of a hash as people want to see.
pub fn short(hash: &str) -> &str {
    hash.get(..HASH_SHOWN).unwrap_or(hash)
}

/// A progress bar on standard error; it draws nothing where no terminal is, or where nobody wants to see it.
pub fn bar(size: u64, name: &str, out: &Output) -> ProgressBar {
    let is_seen = std::io::stderr().is_terminal() && !out.json && !out.quiet;
    let target = if is_seen { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(size), target);
    let template = "{msg}  {bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(make_safe(name, 60).into_owned());
    bar
}

/// A bar of how many have a file; as [`bar`] otherwise.
pub fn progress(members: u64, name: &str, out: &Output) -> ProgressBar {
    let bar = bar(members, name, out);
    if let Ok(style) = ProgressStyle::with_template("{msg}  {bar:30} {pos}/{len} have it") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.tick();
    bar
}

/// A list of files; programs get an object a file.
pub fn show(files: &[FileLine], out: &mut Output) -> Result<(), Failure> {
    if out.json {
        return files.iter().try_for_each(|file| out.object(file));
    }
    let rows: Vec<_> = files
        .iter()
        .map(|file| {
            vec![
                make_safe(&file.name, usize::MAX).into_owned(),
                shown_size(file.size, file.files),
                short(&file.hash).to_owned(),
                make_safe(&file.holders.join(","), 200).into_owned(),
            ]
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    table(&["NAME", "SIZE", "HASH", "HOLDERS"], &rows).iter().try_for_each(|line| out.text(line))
}
