//! `files get` of a folder: the list of its files first, then the files, beside their place until all of them are there.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tertulia_files::assembly::Assembly;
use tertulia_files::blocking::blocking;
use tertulia_files::content::ContentHash;
use tertulia_files::fetch::{
    self, Connections, Failed, Fetched, Holder, Job, NotFetched, Progress, Target,
};
use tertulia_files::gather::{FetchFiles, Gathered, gather};
use tertulia_files::identity::{Fingerprint, Identity};
use tertulia_files::limits::{MANIFEST_BYTES_MAX, PIECE_BYTES};
use tertulia_files::manifest::{Entry, Manifest};
use tertulia_files::names::FileName;
use tertulia_files::own::{OwnPeer, Refused, Sources};
use tertulia_files::right::Right;
use tertulia_wire::safe::make_safe;
use tokio::sync::watch;

use super::files::bar;
use super::get::{Outcome, drawn, failure, say_got};
use crate::failure::Failure;
use crate::output::Output;

/// What is fetched, and to where.
pub struct FolderJob<'a> {
    /// The list of the folder's files.
    pub hash: ContentHash,
    /// What it was asked for by.
    pub asked: &'a str,
    /// Who says that it has it.
    pub sources: Sources,
    /// What is shown to the holders.
    pub identity: Arc<Identity>,
    /// Where the user wants it.
    pub output: Option<&'a Path>,
}

/// What the list of a folder is of, where a hash may be of a file, too.
pub enum Folder {
    /// It was fetched.
    Got,
    /// Who calls it a folder is wrong: it is no list of files.
    None(Sources),
}

/// Why a file of the folder was not fetched.
enum NotGot {
    Fetch(NotFetched),
    Refused(Refused),
}

impl From<std::io::Error> for NotGot {
    fn from(error: std::io::Error) -> Self {
        Self::Fetch(error.into())
    }
}

/// Who of the holders calls it a folder.
pub fn says_folder(holder: &Holder) -> bool {
    holder.name.ends_with('/')
}

/// Fetches one folder.
pub async fn run(peer: &OwnPeer, job: FolderJob<'_>, out: &mut Output) -> Result<Folder, Failure> {
    let FolderJob { hash, asked, mut sources, identity, output } = job;
    let connections = Connections::new(identity);
    let (parent, name) = target(output, asked, &sources.holders)?;
    let path = parent.join(name.base());
    let failed = |why| match why {
        NotFetched::Io(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let shown = path.display();
            let text =
                format!("{shown} is there already, and a folder is never replaced; say -o PATH");
            Failure::failed("EXISTS", text)
        }
        why => failure(why, &path),
    };
    let opening = (parent.clone(), name.clone());
    let assembly = blocking(move || Assembly::open(&opening.0, &opening.1, hash)).await;
    let assembly = Arc::new(assembly.map_err(|error| failed(error.into()))?);
    let started = Instant::now();
    let all = sources.holders.clone();
    sources.holders.retain(|holder| holder.size <= MANIFEST_BYTES_MAX as u64);
    let (list, dropped) =
        list(&assembly, peer, hash, &sources, &connections).await.map_err(failed)?;
    let manifest = match Manifest::read(&list) {
        Ok(manifest) => Arc::new(manifest),
        Err(why) => {
            assembly.abandon();
            // By its name it is a folder, or nothing.
            if asked.parse::<ContentHash>().is_err() {
                let text = format!("{} is no folder: {why}", make_safe(asked, 200));
                return Err(Failure::failed("BAD_FOLDER", text));
            }
            return Ok(Folder::None(Sources { holders: all, ..sources }));
        }
    };
    let bar = bar(manifest.bytes(), name.base(), out);
    let (progress, told) = watch::channel(Progress::default());
    let drawing = drawn(&bar, told);
    let fetching = Fetching { peer: peer.clone(), connections, liars: Arc::default() };
    let gathered = gather(&assembly, &manifest, progress, fetching).await;
    bar.finish_and_clear();
    drawing.abort();
    let mut gathered = gathered.map_err(|why| match why {
        NotGot::Fetch(why) => failed(why),
        NotGot::Refused(refused) => refused.into(),
    })?;
    gathered.dropped.extend(dropped);
    let (finishing, list, own) = (Arc::clone(&assembly), Arc::clone(&manifest), name.clone());
    let finished = blocking(move || finishing.finish(&list, &own)).await;
    finished.map_err(|error| failed(error.into()))?;
    let Gathered { kept, fetched, from, dropped, .. } = gathered;
    let shown = format!("{}/", name.as_str());
    let outcome = Outcome {
        name: &shown,
        path: &path,
        hash,
        size: manifest.bytes(),
        files: Some(manifest.entries().len() as u64),
        kept,
        fetched,
        from: &from,
        dropped: &dropped,
    };
    say_got(&outcome, started.elapsed(), out)?;
    Ok(Folder::Got)
}

/// The list: what an earlier try has left, or from whoever has it.
async fn list(
    assembly: &Arc<Assembly>,
    peer: &OwnPeer,
    hash: ContentHash,
    sources: &Sources,
    connections: &Arc<Connections>,
) -> Result<(Vec<u8>, Vec<(Holder, Failed)>), NotFetched> {
    let reading = Arc::clone(assembly);
    if let Some(list) = blocking(move || reading.list(hash)).await? {
        return Ok((list, Vec::new()));
    }
    let job = Job {
        hash,
        holders: sources.holders.clone(),
        right: peer.right(vec![hash], connections.identity().fingerprint(), &sources.capability),
        connections: Arc::clone(connections),
        target: assembly.list_target(),
        many: None,
    };
    let fetched = fetch::fetch(job, watch::Sender::default()).await?;
    let reading = Arc::clone(assembly);
    let list = blocking(move || reading.list(hash)).await?;
    let list = list.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidData))?;
    Ok((list, fetched.dropped))
}

/// What fetching each file needs.
#[derive(Clone)]
struct Fetching {
    peer: OwnPeer,
    connections: Arc<Connections>,
    /// Who has sent something wrong is not asked for the other files.
    liars: Arc<Mutex<HashSet<Fingerprint>>>,
}

impl FetchFiles for Fetching {
    type Source = (Vec<Holder>, Arc<Right>);
    type Error = NotGot;

    fn questions(&self, entry: &Entry) -> usize {
        if entry.size <= PIECE_BYTES as u64 { 1 } else { fetch::QUESTIONS }
    }

    async fn sources(&self, contents: Vec<ContentHash>) -> Result<Vec<Self::Source>, NotGot> {
        let own = self.connections.identity().fingerprint();
        let sources = self.peer.clone().sources_of(&contents, own).await;
        let (holders, capability) = sources.map_err(NotGot::Refused)?;
        let right = self.peer.right(contents, own, &capability);
        Ok(holders.into_iter().map(|holders| (holders, Arc::clone(&right))).collect())
    }

    async fn fetch(
        &self,
        entry: Entry,
        (mut holders, right): Self::Source,
        target: Target,
        progress: watch::Sender<Progress>,
    ) -> Result<Fetched, NotGot> {
        {
            let liars = self.liars.lock().unwrap_or_else(PoisonError::into_inner);
            let is_good = |holder: &Holder| !liars.contains(&holder.fingerprint);
            holders.retain(|holder| holder.size == entry.size && is_good(holder));
        }
        let (hash, connections) = (entry.hash, Arc::clone(&self.connections));
        let job = Job { hash, holders, right, connections, target, many: None };
        let fetched = fetch::fetch(job, progress).await.map_err(NotGot::Fetch)?;
        let lied = |(holder, why): &(Holder, Failed)| why.is_lie().then_some(holder.fingerprint);
        let mut liars = self.liars.lock().unwrap_or_else(PoisonError::into_inner);
        liars.extend(fetched.dropped.iter().filter_map(lied));
        drop(liars);
        Ok(fetched)
    }
}

/// Where the folder is to be: its parent, and its name there.
fn target(
    output: Option<&Path>,
    asked: &str,
    holders: &[Holder],
) -> Result<(PathBuf, FileName), Failure> {
    let bad = |text: String| Failure::failed("BAD_NAME", text);
    let own = || {
        let names = holders.iter().filter(|holder| says_folder(holder));
        let mut names =
            names.filter_map(|holder| FileName::new(holder.name.trim_end_matches('/')).ok());
        let asked = asked.trim_end_matches('/');
        let name = names.clone().find(|name| name.as_str() == asked).or_else(|| names.next());
        let name = name.map(|name| name.own()).filter(|name| !name.as_str().starts_with('.'));
        name.ok_or_else(|| {
            bad("what its holders call it is not fit to be a folder's name here; say -o PATH"
                .into())
        })
    };
    match output {
        None => Ok((PathBuf::from("."), own()?)),
        Some(path) if path.is_dir() => Ok((path.to_owned(), own()?)),
        Some(path) => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let name =
                FileName::new(name).map_err(|why| bad(format!("{}: {why}", path.display())))?;
            Ok((parent.map_or_else(|| PathBuf::from("."), Path::to_owned), name))
        }
    }
}
