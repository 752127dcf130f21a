//! `files get` of a folder: the list of its files first, then the files, beside their place until all of them are there.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tertulia_files::assembly::Assembly;
use tertulia_files::blocking::blocking;
use tertulia_files::content::ContentHash;
use tertulia_files::fetch::{
    self, Connections, Failed, Fetched, Holder, Job, NotFetched, Progress, Target,
};
use tertulia_files::gather::{FetchFiles, Gathered, gather};
use tertulia_files::identity::Fingerprint;
use tertulia_files::limits::{MANIFEST_BYTES_MAX, PIECE_BYTES};
use tertulia_files::manifest::{Entry, Manifest};
use tertulia_files::names::FileName;
use tertulia_files::own::{OwnPeer, Refused};
use tertulia_files::right::Right;
use tertulia_wire::safe::make_safe;
use tokio::sync::watch;

use super::files::bar;
use super::get::{GetJob, Outcome, drawn, failure, say_got};
use crate::failure::Failure;
use crate::output::Output;

/// What came of it.
pub enum Folder {
    /// It is there.
    Got,
    /// The content is no list of files: who calls it a folder is wrong.
    NoList(Failure),
    /// Nobody gives the list or a file in it, or what its holders call it is no name: who calls it a folder may be wrong.
    NotToBeHad(Failure),
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

impl NotGot {
    /// Nobody has it, whoever says that there is such a folder.
    fn is_nowhere(&self) -> bool {
        match self {
            Self::Fetch(why) => matches!(why, NotFetched::NoHolders { .. }),
            Self::Refused(why) => why.code == "NO_HOLDERS",
        }
    }
}

/// Who of the holders calls it a folder.
pub fn says_folder(holder: &Holder) -> bool {
    holder.name.ends_with('/')
}

/// Whether what this holder says may be true: a list is small.
pub fn may_be_folder(holder: &Holder) -> bool {
    says_folder(holder) && is_small(holder)
}

fn is_small(holder: &Holder) -> bool {
    holder.size <= MANIFEST_BYTES_MAX as u64
}

/// Fetches one folder: its list first, which says whether it is one, and only then is it looked where it is to be.
pub async fn run(peer: &OwnPeer, job: &GetJob<'_>, out: &mut Output) -> Result<Folder, Failure> {
    let (opening, hash) = (job.place.folder.clone(), job.hash);
    let assembly = blocking(move || Assembly::open(&opening, hash)).await;
    let assembly = assembly.map_err(|error| failed(error.into(), Path::new(job.asked)))?;
    let assembly = Arc::new(assembly);
    let started = Instant::now();
    let (list, dropped) = match list(&assembly, job).await {
        Ok(list) => list,
        Err(NotFetched::Io(error)) => return Err(failed(error.into(), Path::new(job.asked))),
        Err(why) => {
            assembly.leave();
            return Ok(Folder::NotToBeHad(failed(why, Path::new(job.asked))));
        }
    };
    let manifest = match Manifest::read(&list) {
        Ok(manifest) => Arc::new(manifest),
        Err(why) => {
            assembly.abandon();
            let text = format!("{} is no folder: {why}", make_safe(job.asked, 200));
            return Ok(Folder::NoList(Failure::failed("BAD_FOLDER", text)));
        }
    };
    let name = match name(job) {
        Ok(name) => name,
        Err(why) => {
            assembly.leave();
            return Ok(Folder::NotToBeHad(why));
        }
    };
    let path = job.place.folder.join(name.base());
    if assembly.is_taken(&name) {
        assembly.leave();
        return Err(failed(std::io::Error::from(ErrorKind::AlreadyExists).into(), &path));
    }
    let mut gathered = match files(peer, job, &assembly, &manifest, (&name, out)).await {
        Ok(gathered) => gathered,
        Err(why) => {
            let is_nowhere = why.is_nowhere();
            let why = match why {
                NotGot::Fetch(why) => failed(why, &path),
                NotGot::Refused(refused) => refused.into(),
            };
            return if is_nowhere { Ok(Folder::NotToBeHad(why)) } else { Err(why) };
        }
    };
    gathered.dropped.extend(dropped);
    let (list, own) = (Arc::clone(&manifest), name.clone());
    let finished = blocking(move || assembly.finish(&list, &own)).await;
    finished.map_err(|error| failed(error.into(), &path))?;
    say(&gathered, &manifest, (&name, &path), (job.hash, started), out)?;
    Ok(Folder::Got)
}

fn failed(why: NotFetched, path: &Path) -> Failure {
    match why {
        NotFetched::Io(error) if error.kind() == ErrorKind::AlreadyExists => {
            let shown = path.display();
            let text =
                format!("{shown} is there already, and a folder is never replaced; say -o PATH");
            Failure::failed("EXISTS", text)
        }
        why => failure(why, path),
    }
}

fn say(
    gathered: &Gathered,
    manifest: &Manifest,
    (name, path): (&FileName, &Path),
    (hash, started): (ContentHash, Instant),
    out: &mut Output,
) -> Result<(), Failure> {
    let Gathered { kept, fetched, from, dropped, .. } = gathered;
    let outcome = Outcome {
        name: &format!("{}/", name.as_str()),
        path,
        hash,
        size: manifest.bytes(),
        files: Some(manifest.entries().len() as u64),
        kept: *kept,
        fetched: *fetched,
        from,
        dropped,
    };
    say_got(&outcome, started.elapsed(), out)
}

/// The list: what an earlier try has left, or from whoever has it.
async fn list(
    assembly: &Arc<Assembly>,
    job: &GetJob<'_>,
) -> Result<(Vec<u8>, Vec<(Holder, Failed)>), NotFetched> {
    let (reading, hash) = (Arc::clone(assembly), job.hash);
    if let Some(list) = blocking(move || reading.list(hash)).await? {
        return Ok((list, Vec::new()));
    }
    let job = Job {
        hash,
        holders: job.sources.holders.iter().filter(|holder| is_small(holder)).cloned().collect(),
        right: Arc::clone(&job.right),
        connections: Arc::clone(&job.connections),
        target: assembly.list_target()?,
        many: None,
    };
    let fetched = fetch::fetch(job, watch::Sender::default()).await?;
    let reading = Arc::clone(assembly);
    let list = blocking(move || reading.list(hash)).await?;
    let list = list.ok_or_else(|| std::io::Error::from(ErrorKind::InvalidData))?;
    Ok((list, fetched.dropped))
}

/// The files, shown as they come.
async fn files(
    peer: &OwnPeer,
    job: &GetJob<'_>,
    assembly: &Arc<Assembly>,
    manifest: &Arc<Manifest>,
    (name, out): (&FileName, &Output),
) -> Result<Gathered, NotGot> {
    let bar = bar(manifest.bytes(), name.base(), out);
    let (progress, told) = watch::channel(Progress::default());
    let drawing = drawn(&bar, told);
    let connections = Arc::clone(&job.connections);
    let fetching = Fetching { peer: peer.clone(), connections, liars: Arc::default() };
    let gathered = gather(assembly, manifest, progress, fetching).await;
    bar.finish_and_clear();
    drawing.abort();
    gathered
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

/// The folder's name: what the user says, or what its holders call it.
fn name(job: &GetJob<'_>) -> Result<FileName, Failure> {
    if let Some(name) = &job.place.name {
        return Ok(name.clone());
    }
    let names = job.sources.holders.iter().filter(|holder| says_folder(holder));
    let mut names =
        names.filter_map(|holder| FileName::new(holder.name.trim_end_matches('/')).ok());
    let asked = job.asked.trim_end_matches('/');
    let name = names.clone().find(|name| name.as_str() == asked).or_else(|| names.next());
    name.and_then(|name| name.own_shown().ok()).ok_or_else(|| {
        let text = "what its holders call it is not fit to be a folder's name here; say -o PATH";
        Failure::failed("BAD_NAME", text)
    })
}
