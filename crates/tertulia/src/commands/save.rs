//! `files save`: puts files and folders into one's peer's folder, each for itself, and tells a group of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tertulia_client::Target;
use tertulia_files::content::ContentHash;
use tertulia_files::folder::{Folder, Stamp};
use tertulia_files::manifest::{Entry, Manifest};
use tertulia_files::names::FileName;
use tertulia_files::own::{FolderFile, OwnPeer, Refused, Saved};
use tertulia_wire::safe::make_safe;
use tertulia_wire::sharing::FileLine;

use super::files::{bar, short, shown_size};
use super::tell::{self, Telling};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::Output;
use crate::peers;

/// How to save.
pub struct Saving {
    /// A file of the same name is replaced.
    pub force: bool,
    /// Who is told, where somebody is.
    pub telling: Option<Telling>,
}

/// Saves one after the other. What fails is said, and the others are saved all the same; the worst exit code counts.
pub async fn run(
    peer: &mut OwnPeer,
    paths: &[PathBuf],
    saving: &Saving,
    target: &Target,
    out: &mut Output,
) -> Outcome {
    let shared = peers::folder_of(peer);
    let mut exit = Exit::Done;
    for path in paths {
        let saved = match plan(path, shared.as_deref()) {
            Ok(plan) => save(peer, path, plan, saving.force, out).await,
            Err(failure) => Err(failure),
        };
        let told = match (saved, &saving.telling) {
            (Ok(saved), Some(telling)) => {
                let told = tell::tell(peer, &saved, telling, target, out).await;
                told.map_err(|failure| failure.about(&path.display().to_string()))
            }
            (Ok(_), None) => Ok(Exit::Done),
            (Err(failure), _) => Err(failure),
        };
        exit = exit.max(match told {
            Ok(exit) => exit,
            Err(failure) if failure.is_closed_output() => return Err(failure),
            Err(failure) => {
                failure.show(out.json);
                failure.exit()
            }
        });
    }
    Ok(exit)
}

/// What is to be done with a path.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    /// It is copied into the shared folder.
    File,
    Folder,
    /// It is there, under this name.
    FileThere(FileName),
    FolderThere(FileName),
}

/// How a path stands to the shared folder, where that is known.
fn plan(path: &Path, shared: Option<&Path>) -> Result<Plan, Failure> {
    let (is_folder, shown) = (path.is_dir(), path.display());
    let copied = if is_folder { Plan::Folder } else { Plan::File };
    // What is not there is said when it is opened.
    let (Some(shared), Ok(whole)) = (shared, path.canonicalize()) else { return Ok(copied) };
    let refused = |text| Err(Failure::failed("SHARED_FOLDER", text));
    if whole == shared {
        return refused(format!(
            "{shown} is the folder that your peer shares: what is in it is shared already; \
             to tell a group of something, say which file or folder in it"
        ));
    }
    if shared.starts_with(&whole) {
        return refused(format!(
            "{shown} has in it the folder that your peer shares, {}, which would be copied into itself; \
             say which files and folders beside it, or let the peer share another folder: tertulia peer --folder DIR",
            shared.display()
        ));
    }
    let Ok(below) = whole.strip_prefix(shared) else { return Ok(copied) };
    let bad = |why: &dyn std::fmt::Display| Failure::failed("BAD_NAME", format!("{shown}: {why}"));
    let below = below.to_str().ok_or_else(|| bad(&"its name is no text"))?;
    if below.split('/').any(|part| part.starts_with('.')) {
        return Err(bad(
            &"what is hidden in the shared folder is not shared; give it another name",
        ));
    }
    let name = FileName::new(below).map_err(|why| bad(&why))?;
    Ok(match is_folder {
        false => Plan::FileThere(name),
        true if name.base() == name.as_str() => Plan::FolderThere(name),
        // Only what is directly in the shared folder is shared as a whole: this one is copied there.
        true => Plan::Folder,
    })
}

async fn save(
    peer: &mut OwnPeer,
    path: &Path,
    plan: Plan,
    force: bool,
    out: &mut Output,
) -> Result<FileLine, Failure> {
    let refused = |refused: Refused| {
        Failure::failed(refused.code, refused.message).about(&path.display().to_string())
    };
    let saved = match plan {
        Plan::File => save_file(peer, path, force, out).await?,
        Plan::Folder => save_folder(peer, path, out).await?,
        Plan::FileThere(name) => peer.look_at_file(&name).await.map_err(refused)?,
        Plan::FolderThere(name) => peer.look_at_folder(&name).await.map_err(refused)?,
    };
    say_saved(&saved, out)
}

async fn save_file(
    peer: &mut OwnPeer,
    path: &Path,
    force: bool,
    out: &Output,
) -> Result<Saved, Failure> {
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
    saved.map_err(|refused| match &*refused.code {
        "EXISTS" => {
            let text = format!(
                "{shown}: {name} is shared already, with another content; --force replaces it"
            );
            Failure::failed("EXISTS", text)
        }
        _ => Failure::failed(refused.code, format!("{shown}: {}", refused.message)),
    })
}

/// Saves a folder as a whole; what is hidden in it, or no plain file, is left out and said so.
async fn save_folder(peer: &mut OwnPeer, path: &Path, out: &Output) -> Result<Saved, Failure> {
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
    saved.map_err(|refused| Failure::failed(refused.code, refused.message).about(&shown))
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
