//! `files`: saves, finds and lists files and peers, through one's own peer.

use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tertulia_client::Target;
use tertulia_files::content::ContentHash;
use tertulia_files::folder::{Folder, Stamp};
use tertulia_files::identity::Identity;
use tertulia_files::manifest::{Entry, Manifest};
use tertulia_files::names::FileName;
use tertulia_files::own::{FolderFile, OwnPeer, Refused, Saved};
use tertulia_wire::safe::make_safe;
use tertulia_wire::sharing::FileLine;
use tertulia_wire::text::size_text;

use super::tell::Telling;
use super::{get, tell};
use crate::cli::{FilesArgs, FilesCommand};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Output, table};
use crate::peers;

/// Digits of a hash that people are shown.
const HASH_SHOWN: usize = 16;

/// Does what is told.
pub async fn run(args: FilesArgs, target: &Target, out: &mut Output) -> Outcome {
    let mut exit = Exit::Done;
    let mut peer = own_peer(args.peer.peer.as_deref().unwrap_or_default()).await?;
    match args.command {
        FilesCommand::Save { paths, force, group, wait, timeout, name } => {
            let telling = group.map(|group| Telling { group, wait, timeout, name });
            for path in &paths {
                let saved = match path.is_dir() {
                    true => save_folder(&mut peer, path, out).await?,
                    false => save(&mut peer, path, force, out).await?,
                };
                if let Some(telling) = &telling {
                    exit = exit.max(tell::tell(&mut peer, &saved, telling, target, out).await?);
                }
            }
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
            get::run(&mut peer, &file, output.as_deref(), force, out).await?;
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
pub async fn own_peer(address: &str) -> Result<OwnPeer, Failure> {
    let (address, identity) = match address {
        "" => peers::running().map(|(address, identity)| (address, Some(identity)))?,
        address => (with_port(address), peers::any_identity()),
    };
    let identity = identity.and_then(|path| Identity::load_or_make(&path).ok());
    Ok(OwnPeer::connect(&address, identity.as_ref()).await?)
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

async fn save(
    peer: &mut OwnPeer,
    path: &Path,
    force: bool,
    out: &mut Output,
) -> Result<FileLine, Failure> {
    let shown = path.display();
    let doing = format!("cannot read {shown}");
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = FileName::new(name)
        .map_err(|why| Failure::failed("BAD_NAME", format!("{shown}: {why}")))?;
    let file = tokio::fs::File::open(path).await.map_err(|error| Failure::io(&doing, &error))?;
    let metadata = file.metadata().await.map_err(|error| Failure::io(&doing, &error))?;
    if !metadata.is_file() {
        let text = format!("{shown} is no plain file and no folder");
        return Err(Failure::failed("NOT_A_FILE", text));
    }
    let bar = bar(metadata.len(), name.base(), out);
    let drawn = bar.clone();
    let sent = Arc::new(move |bytes| drawn.set_position(bytes));
    let saved = peer.save(&name, metadata.len(), force, file, sent).await;
    bar.finish_and_clear();
    let saved = saved.map_err(|refused| match &*refused.code {
        "EXISTS" => {
            let text =
                format!("{name} is shared already, with another content; --force replaces it");
            Failure::failed("EXISTS", text)
        }
        _ => Failure::failed(refused.code, format!("{shown}: {}", refused.message)),
    })?;
    say_saved(&saved, out)
}

/// Saves a folder as a whole; what is hidden in it, or no plain file, is left out and said so.
async fn save_folder(
    peer: &mut OwnPeer,
    path: &Path,
    out: &mut Output,
) -> Result<FileLine, Failure> {
    let shown = path.display().to_string();
    let doing = format!("cannot read {shown}");
    // What `.` and `..` are called stands in the whole path.
    let whole = path.canonicalize().map_err(|error| Failure::io(&doing, &error))?;
    let name = whole.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = FileName::new(name)
        .map_err(|why| Failure::failed("BAD_NAME", format!("{shown}: {why}")))?;
    let looking = move || {
        let folder = Folder::open(&whole)?;
        let found = folder.scan()?;
        Ok::<_, std::io::Error>((folder, found))
    };
    let looked = tokio::task::spawn_blocking(looking).await;
    let looked = looked.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    let (folder, found) = looked.map_err(|error| Failure::io(&doing, &error))?;
    if let Some((name, error)) = found.unread {
        // Without it, it would be another folder than the one that is meant.
        return Err(Failure::io(&format!("cannot read {name} in {shown}"), &error));
    }
    if found.left_out_count > 0 {
        let named: Vec<_> =
            found.left_out.iter().map(|(name, why)| format!("{name} ({why})")).collect();
        let more = if found.left_out_count > named.len() { ", …" } else { "" };
        out.note(&format!("left out {}: {}{more}", found.left_out_count, named.join(", ")));
    }
    // What cannot be a folder is known before anything is sent; only the hashes are not.
    let entry = |(path, stamp): &(FileName, Stamp)| Entry {
        path: path.clone(),
        size: stamp.size,
        hash: ContentHash([0; 32]),
    };
    Manifest::new(found.files.iter().map(entry).collect())
        .map_err(|why| Failure::failed("BAD_FOLDER", format!("{shown}: {why}")))?;
    let size = found.files.iter().map(|(_, stamp)| stamp.size).sum();
    let bar = bar(size, name.base(), out);
    let drawn = bar.clone();
    let sent = Arc::new(move |bytes| drawn.set_position(bytes));
    let files = found.files.into_iter();
    let files = files.map(|(path, stamp)| FolderFile { path, size: stamp.size }).collect();
    let open = move |path: &FileName| folder.read(path).map(|(file, _)| file);
    let saved = peer.save_folder(&name, files, open, sent).await;
    bar.finish_and_clear();
    say_saved(&saved?, out)
}

fn say_saved(saved: &Saved, out: &mut Output) -> Result<FileLine, Failure> {
    let file = &saved.file;
    let name = make_safe(&file.name, usize::MAX);
    let what = if saved.unchanged { "is there already" } else { "saved" };
    let size = shown_size(file.size, file.files);
    out.done(file, &format!("{what} {name}  {size}  {}", short(&file.hash)))?;
    out.flush()?;
    Ok(saved.file.clone())
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
