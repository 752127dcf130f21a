//! `files get`: fetches a file from all who have it, and puts it in its place once it is whole and right.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use tertulia_files::content::ContentHash;
use tertulia_files::fetch::{
    self, Connections, Failed, Fetched, Holder, Job, NotFetched, Progress, Target,
};
use tertulia_files::identity::Identity;
use tertulia_files::names::FileName;
use tertulia_files::own::{OwnPeer, Sources};
use tertulia_files::right::Right;
use tertulia_wire::safe::make_safe;
use tertulia_wire::sharing::{FileLine, is_hash_beginning};
use tertulia_wire::text::{elapsed_text, size_text};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::files::{bar, show, shown_size};
use super::get_folder::{self, Folder, may_be_folder, says_folder};
use crate::failure::Failure;
use crate::input::{self, Lines};
use crate::output::Output;

/// Files of one name that are looked at.
const LOOKED_AT: u32 = 200;

/// What programs are told.
#[derive(serde::Serialize)]
struct Got<'a> {
    name: &'a str,
    size: u64,
    hash: String,
    path: String,
    fetched: u64,
    kept: u64,
    from: Vec<Given<'a>>,
    dropped: Vec<Dropped<'a>>,
    /// Of a folder: how many are in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<u64>,
}

#[derive(serde::Serialize)]
struct Given<'a> {
    user: &'a str,
    bytes: u64,
}

#[derive(serde::Serialize)]
struct Dropped<'a> {
    user: &'a str,
    why: String,
}

/// What has come, of a file or of a folder.
pub struct Outcome<'a> {
    /// Its name, a folder's with `/`.
    pub name: &'a str,
    /// Where it is.
    pub path: &'a Path,
    /// Its content, or the list of its files.
    pub hash: ContentHash,
    /// All bytes.
    pub size: u64,
    /// Of a folder: how many are in it.
    pub files: Option<u64>,
    /// Bytes that were there.
    pub kept: u64,
    /// Bytes that came now.
    pub fetched: u64,
    /// From whom.
    pub from: &'a [(Holder, u64)],
    /// Who was given up, and why.
    pub dropped: &'a [(Holder, Failed)],
}

/// What is to be fetched.
pub struct GetJob<'a> {
    /// The content; of a folder, the list of its files.
    pub hash: ContentHash,
    /// What it was asked for by.
    pub asked: &'a str,
    /// Who says that it has it.
    pub sources: Sources,
    /// The right to fetch it.
    pub right: Arc<Right>,
    /// Over what the holders are asked.
    pub connections: Arc<Connections>,
    /// Where the user wants it.
    pub place: Place,
}

/// Where something is to be.
pub struct Place {
    /// The folder; it is there.
    pub folder: PathBuf,
    /// The name that the user says; else it is what its holders call it.
    pub name: Option<FileName>,
    /// The user has written a `/` after it.
    pub as_folder: bool,
}

impl Place {
    fn of(output: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = output else {
            return Ok(Self { folder: PathBuf::from("."), name: None, as_folder: false });
        };
        if path == Path::new("-") {
            let text = "-o -: a file is not written to standard output; one of that name is -o ./-";
            return Err(Failure::usage(text));
        }
        if path.is_dir() {
            return Ok(Self { folder: path.to_owned(), name: None, as_folder: true });
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let name = FileName::new(name)
            .map_err(|why| Failure::failed("BAD_NAME", format!("{}: {why}", path.display())))?;
        let folder = folder.map_or_else(|| PathBuf::from("."), Path::to_owned);
        let as_folder = path.as_os_str().as_encoded_bytes().ends_with(b"/");
        Ok(Self { folder, name: Some(name), as_folder })
    }
}

/// What a content is wanted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    File,
    Folder,
    /// A hash says nothing about it, and what holders say may be wrong: the content itself decides.
    Either,
}

impl Kind {
    const fn of(file: &FileLine) -> Self {
        if file.files.is_some() { Self::Folder } else { Self::File }
    }
}

/// Fetches one file, or one folder.
pub async fn run(
    peer: &mut OwnPeer,
    file: &str,
    output: Option<&Path>,
    force: bool,
    out: &mut Output,
) -> Result<(), Failure> {
    let (hash, kind) = asked(peer, file, out).await?;
    let identity =
        Identity::ephemeral().map_err(|error| Failure::io("cannot make a certificate", &error))?;
    let own = identity.fingerprint();
    let sources = peer.sources(hash, own).await?;
    let right = peer.right(vec![hash], own, &sources.capability);
    let connections = Connections::new(Arc::new(identity));
    let place = Place::of(output)?;
    let job = GetJob { hash, asked: file, sources, right, connections, place };
    let holders = &job.sources.holders;
    if kind == Kind::Folder || kind == Kind::Either && holders.iter().any(may_be_folder) {
        let has_file = holders.iter().any(|holder| !says_folder(holder));
        let why = match get_folder::run(peer, &job, out).await? {
            Folder::Got => return Ok(()),
            Folder::NoList(why) if kind == Kind::Either => why,
            Folder::NotToBeHad(why) if kind == Kind::Either && has_file => why,
            Folder::NoList(why) | Folder::NotToBeHad(why) => return Err(why),
        };
        out.note(&format!("somebody calls it a folder, but: {}", why.message()));
    }
    get_file(job, force, out).await
}

/// What is meant: by its hash, or by a name.
async fn asked(
    peer: &mut OwnPeer,
    file: &str,
    out: &mut Output,
) -> Result<(ContentHash, Kind), Failure> {
    if let Ok(hash) = file.parse() {
        return Ok((hash, Kind::Either));
    }
    let (found, kind) = find(peer, file, out).await?;
    let hash = found.hash.parse();
    Ok((hash.map_err(|_| Failure::failed("PROTOCOL", "the peer says no hash"))?, kind))
}

async fn get_file(job: GetJob<'_>, force: bool, out: &mut Output) -> Result<(), Failure> {
    let GetJob { hash, asked, mut sources, right, connections, place } = job;
    // Who calls it a folder has the content, too, but is not who to ask first.
    sources.holders.sort_by_key(says_folder);
    let holders = sources.holders;
    let folder = place.folder.clone();
    let target = target(place, asked, &holders, force)?;
    let (name, path) = (target.name.clone(), folder.join(target.name.base()));
    let size = holders.first().map_or(0, |holder| holder.size);
    let bar = bar(size, name.base(), out);
    let (progress, told) = watch::channel(Progress::default());
    let drawing = drawn(&bar, told);
    let started = Instant::now();
    let job = Job { hash, holders, right, connections, target, many: None };
    let fetched = fetch::fetch(job, progress).await;
    bar.finish_and_clear();
    drawing.abort();
    let Fetched { size, kept, fetched, from, dropped, .. } =
        fetched.map_err(|why| failure(why, &path))?;
    let outcome = Outcome {
        name: name.as_str(),
        path: &path,
        hash,
        size,
        files: None,
        kept,
        fetched,
        from: &from,
        dropped: &dropped,
    };
    say_got(&outcome, started.elapsed(), out)
}

/// Draws how far it is, until it is aborted.
pub fn drawn(bar: &ProgressBar, mut told: watch::Receiver<Progress>) -> JoinHandle<()> {
    let bar = bar.clone();
    tokio::spawn(async move {
        while told.changed().await.is_ok() {
            let Progress { size, here } = *told.borrow_and_update();
            bar.set_length(size);
            bar.set_position(here);
        }
    })
}

/// Says what has come, from whom, and who was given up.
pub fn say_got(outcome: &Outcome<'_>, took: Duration, out: &mut Output) -> Result<(), Failure> {
    let Outcome { name, path, hash, size, files, kept, fetched, from, dropped } = *outcome;
    for (holder, why) in dropped {
        out.note(&dropped_text(holder, why));
    }
    let got = Got {
        name,
        size,
        hash: hash.to_string(),
        path: path.display().to_string(),
        fetched,
        kept,
        from: from
            .iter()
            .map(|(holder, bytes)| Given { user: &holder.user, bytes: *bytes })
            .collect(),
        dropped: dropped
            .iter()
            .map(|(holder, why)| Dropped { user: &holder.user, why: why.to_string() })
            .collect(),
        files,
    };
    let given =
        from.iter().map(|(holder, bytes)| format!("{} ({})", holder.user, size_text(*bytes)));
    let given = given.collect::<Vec<_>>().join(", ");
    let kept = if kept > 0 { format!(", {} were here", size_text(kept)) } else { String::new() };
    let from = if given.is_empty() { String::new() } else { format!(" from {given}") };
    let text = format!(
        "got {}  {}{from}{kept} in {}",
        path.display(),
        shown_size(size, files),
        elapsed_text(took)
    );
    out.done(&got, &make_safe(&text, usize::MAX))
}

/// The file that a name means; a person is asked where it may mean several.
async fn find(
    peer: &mut OwnPeer,
    name: &str,
    out: &mut Output,
) -> Result<(FileLine, Kind), Failure> {
    let (found, _) = peer.search(name, LOOKED_AT).await?;
    // A folder is meant by its name with and without the `/`; a file is never meant by one with it.
    let is_called_so = |file: &&FileLine| {
        let whole = match file.files {
            Some(_) => file.name.trim_end_matches('/'),
            None => &file.name,
        };
        let name = if file.files.is_some() { name.trim_end_matches('/') } else { name };
        whole == name || whole.rsplit('/').next() == Some(name)
    };
    let exact: Vec<FileLine> = found.iter().filter(is_called_so).cloned().collect();
    // A name comes first, then the first digits of a hash, then what only has that in its name.
    let digits = name.to_ascii_lowercase();
    let is_hash = |file: &&FileLine| is_hash_beginning(&digits) && file.hash.starts_with(&digits);
    let hashed = || found.iter().filter(is_hash).cloned().collect::<Vec<_>>();
    let by_hash = if exact.is_empty() { hashed() } else { Vec::new() };
    let is_by_hash = !by_hash.is_empty();
    let mut found = match (exact.is_empty(), is_by_hash) {
        (false, _) => exact,
        (true, true) => by_hash,
        (true, false) => found,
    };
    // The same content under several names is one file; where it is called a file and a folder, one of them is wrong.
    let mut kinds: HashMap<String, Kind> = HashMap::new();
    found.retain(|file| match kinds.entry(file.hash.clone()) {
        Entry::Vacant(new) => {
            new.insert(Kind::of(file));
            true
        }
        Entry::Occupied(mut known) => {
            if *known.get() != Kind::of(file) {
                known.insert(Kind::Either);
            }
            false
        }
    });
    let chosen = match found.len() {
        0 | 1 => found.pop(),
        _ => Some(choose(found, name, out).await?),
    };
    let chosen = chosen.ok_or_else(|| {
        let text = format!(
            "no file of a peer that is online is called {name:?}; try: tertulia files search WORDS"
        );
        Failure::failed("NO_SUCH_FILE", text)
    })?;
    // A hash says nothing about it, and not all may be seen that it is called.
    let kind = kinds.get(&chosen.hash).copied().filter(|_| !is_by_hash);
    Ok((chosen, kind.unwrap_or(Kind::Either)))
}

async fn choose(found: Vec<FileLine>, name: &str, out: &mut Output) -> Result<FileLine, Failure> {
    if !input::is_terminal() || out.json {
        let some = found.iter().take(5).map(|file| format!("{} {}", file.hash, file.name));
        let text = format!(
            "{}{} files may be meant by {name:?}: {}{}; say the whole name, or more of the hash",
            if found.len() >= LOOKED_AT as usize { "at least " } else { "" },
            found.len(),
            some.collect::<Vec<_>>().join(", "),
            if found.len() > 5 { ", …" } else { "" }
        );
        return Err(Failure::failed("SEVERAL_FILES", text));
    }
    show(&found, out)?;
    out.flush()?;
    let mut lines = Lines::read();
    loop {
        let question = format!("Which one (1 to {}, from the top)? ", found.len());
        let Some(answer) = lines.ask(&question).await else {
            return Err(Failure::failed("SEVERAL_FILES", "none was chosen"));
        };
        let number = answer.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        if let Some(file) = number.and_then(|number| found.get(number)) {
            return Ok(file.clone());
        }
    }
}

/// Where the file is to be: what the user says, or its own name here, made safe.
fn target(place: Place, asked: &str, holders: &[Holder], replace: bool) -> Result<Target, Failure> {
    let own = || {
        // What it was asked for by, where a holder calls it so; else what the first one with a fit name calls it.
        let names = || holders.iter().filter_map(|holder| FileName::new(&holder.name).ok());
        let fit = || names().filter(|name| name.own_shown().is_ok());
        let name = fit()
            .find(|name| name.as_str() == asked || name.base() == asked)
            .or_else(|| fit().next());
        let name = name.and_then(|name| name.own_shown().ok());
        name.ok_or_else(|| {
            let text = "what its holders call it is not fit to be a file's name here; say -o PATH";
            Failure::failed("BAD_NAME", text)
        })
    };
    let Place { folder, name, as_folder } = place;
    if let Some(name) = name.as_ref().filter(|_| as_folder) {
        let place = folder.join(name.base());
        let text = format!("there is no folder {0}; make it first: mkdir {0}", place.display());
        return Err(Failure::failed("NO_FOLDER", text));
    }
    let name = name.map_or_else(own, Ok)?;
    let path = folder.join(name.base());
    Target::in_folder(&folder, name, replace).map_err(|error| failure(error.into(), &path))
}

/// Who was given up, for people.
pub fn dropped_text(holder: &Holder, why: &Failed) -> String {
    let text = format!("{} at {} {why}", holder.user, holder.address);
    make_safe(&text, 500).into_owned()
}

/// What people are told of what was not fetched.
pub fn failure(why: NotFetched, path: &Path) -> Failure {
    let shown = path.display();
    match why {
        NotFetched::TooLarge => {
            Failure::failed("TOO_LARGE", "it is larger than a file may be (1 TiB)")
        }
        NotFetched::NoHolders { dropped, here } => {
            let dropped: Vec<_> =
                dropped.iter().map(|(holder, why)| dropped_text(holder, why)).collect();
            let kept = match here {
                0 => String::new(),
                here => format!("; {} are here and kept, try again later", size_text(here)),
            };
            let colon = if dropped.is_empty() { "" } else { ": " };
            let text = format!("nobody is left who has it{colon}{}{kept}", dropped.join("; "));
            Failure::failed("NO_HOLDERS", text)
        }
        NotFetched::Io(error) => match error.kind() {
            std::io::ErrorKind::AlreadyExists => Failure::failed(
                "EXISTS",
                format!("{shown} is there already; say -o PATH, or --force to replace it"),
            ),
            std::io::ErrorKind::WouldBlock => {
                Failure::failed("BUSY", format!("{shown} is being fetched by another program"))
            }
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                let text = format!(
                    "there is no space for {shown} ({error}); make room, and try again: what is here is kept"
                );
                Failure::failed("NO_SPACE", text)
            }
            _ => Failure::io(&format!("cannot write {shown}"), &error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_folder_a_name_or_refused() {
        let of = |path: &str| Place::of(Some(Path::new(path)));
        let place = of("sub/plan.pdf").expect("a place");
        assert_eq!(place.folder, Path::new("sub"));
        assert_eq!(place.name.as_ref().map(FileName::as_str), Some("plan.pdf"));
        assert!(of("new/").is_ok_and(|place| place.as_folder));
        assert!(of("/").is_ok_and(|place| place.name.is_none()), "it is there");
        assert!(of("-").is_err() && of("./-").is_ok());
    }
}
