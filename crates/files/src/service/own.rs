//! What one's own client asks of its peer; what concerns the node is passed on to it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tertulia_wire::sharing::{HolderLine, bytes_of_hex};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Status, Streaming};

use super::state::State;
use super::{not_done, refused};
use crate::blocking::blocking;
use crate::content::ContentHash;
use crate::identity::Fingerprint;
use crate::library::{Library, SharedFile};
use crate::limits::{CAPABILITY_HASHES_MAX, FILE_BYTES_MAX};
use crate::names::FileName;
use crate::proto::save_file_request::Part;
use crate::proto::{
    File, FilesReply, Holder, Holders, LoginReply, LoginRequest, PeerInfo, PeersReply,
    RegisterReply, RegisterRequest, SaveFileHead, SaveFileReply, SaveFileRequest, SearchRequest,
    SourcesReply, SourcesRequest,
};
use crate::whole::SharedFolder;

/// Files that a search gives, unless asked for otherwise.
const LIMIT: u32 = 100;
/// Who asks for sources may wait so long for this peer's own announcement.
const SOURCES_WAIT: Duration = Duration::from_secs(20);
/// Parts of a file that are taken before they are written.
const AHEAD: usize = 4;

pub(super) fn bad(message: &str) -> Status {
    refused(Code::InvalidArgument, "BAD_REQUEST", message)
}

async fn token(state: &State) -> Result<String, Status> {
    let found = state.token().await.map_err(|error| not_done(&error))?;
    found.ok_or_else(|| {
        refused(
            Code::Unauthenticated,
            "NOT_LOGGED_IN",
            "nobody is logged in at this peer; log in first",
        )
    })
}

/// Makes an account.
pub async fn register(state: &State, asked: RegisterRequest) -> Result<RegisterReply, Status> {
    let RegisterRequest { name, password, setup_code } = asked;
    let made =
        state.node.register(&name, &password, &setup_code, state.advertised().as_deref()).await;
    let made = made.map_err(|error| not_done(&error))?;
    Ok(RegisterReply { name: made.name.unwrap_or(name), administrator: made.administrator })
}

/// Logs in, and keeps the token.
pub async fn login(state: &State, asked: LoginRequest) -> Result<LoginReply, Status> {
    let LoginRequest { name, password } = asked;
    let given = state.node.log_in(&name, &password).await.map_err(|error| not_done(&error))?;
    let who = state.node.who_am_i(&given.token).await.map_err(|error| not_done(&error))?;
    let name = who.name.unwrap_or(name);
    let key = state.node.key().await.map_err(|error| not_done(&error))?;
    let kept = state.tokens.keep(&key.instance, &name, &given.token, &given.expires);
    kept.map_err(|why| refused(Code::Internal, "IO", &why))?;
    state.logged_in.notify_one();
    Ok(LoginReply { name, expires: given.expires })
}

/// Gives the token back, and forgets it in any case.
pub async fn logout(state: &State) -> Result<(), Status> {
    let token = token(state).await?;
    let told = state.node.log_out(&token).await;
    let forgotten = state.tokens.forget();
    state.logged_in.notify_one();
    match told {
        Err(error) if error.code != "NOT_LOGGED_IN" => Err(not_done(&error)),
        _ => forgotten.map_err(|why| refused(Code::Internal, "IO", &why)),
    }
}

/// The peers of every account.
pub async fn peers(state: &State) -> Result<PeersReply, Status> {
    let peers = state.node.peers(&token(state).await?).await.map_err(|error| not_done(&error))?;
    let peers = peers.into_iter();
    let peers =
        peers.map(|peer| PeerInfo { user: peer.user, address: peer.address, online: peer.online });
    Ok(PeersReply { peers: peers.collect() })
}

/// Finds files.
pub async fn search(state: &State, asked: SearchRequest) -> Result<FilesReply, Status> {
    let limit = if asked.limit == 0 { LIMIT } else { asked.limit };
    let found = state.node.search(&token(state).await?, &asked.words, limit).await;
    let (items, more) = found.map_err(|error| not_done(&error))?;
    let files = items.into_iter().filter_map(|line| {
        // One that others cannot be told of is nobody's.
        let hash: ContentHash = line.hash.parse().ok()?;
        let hash = Bytes::copy_from_slice(&hash.0);
        Some(File {
            name: line.name,
            size: line.size,
            hash,
            holders: line.holders,
            online: line.online,
            files: line.files.unwrap_or_default(),
        })
    });
    Ok(FilesReply { files: files.collect(), more })
}

/// The peer's own files.
pub fn list(state: &State) -> FilesReply {
    let user = state.user();
    let (user, online) = (user.as_deref(), state.is_online());
    let files = state.library.files().into_iter().map(|file| own_file(&file, user, online));
    let folders = state.library.folders().into_iter();
    let folders = folders.map(|folder| own_folder(&folder, user, online));
    let mut files: Vec<File> = files.chain(folders).collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    FilesReply { files, more: false }
}

pub(super) fn own_folder(folder: &SharedFolder, user: Option<&str>, online: bool) -> File {
    File {
        name: format!("{}/", folder.name.as_str()),
        size: folder.bytes,
        hash: Bytes::copy_from_slice(&folder.outline.hash().0),
        holders: user.map(str::to_owned).into_iter().collect(),
        online,
        files: folder.files,
    }
}

fn own_file(file: &SharedFile, user: Option<&str>, online: bool) -> File {
    File {
        name: file.name.as_str().to_owned(),
        size: file.outline.size(),
        hash: Bytes::copy_from_slice(&file.outline.hash().0),
        holders: user.map(str::to_owned).into_iter().collect(),
        online,
        files: 0,
    }
}

/// Who has a content, and the right to fetch it.
pub async fn sources(state: &State, asked: SourcesRequest) -> Result<SourcesReply, Status> {
    let hash = ContentHash::try_from(&*asked.hash).map_err(|error| bad(&error.to_string()))?;
    let fingerprint = <[u8; 32]>::try_from(&*asked.fingerprint);
    let fingerprint = fingerprint.map_err(|_| bad("a fingerprint has 32 bytes"))?;
    let token = token(state).await?;
    if !asked.more.is_empty() {
        return sources_of_many(state, &token, hash, Fingerprint(fingerprint), &asked.more).await;
    }
    let until = Instant::now() + Duration::from_millis(asked.wait_ms.into()).min(SOURCES_WAIT);
    let mut told = state.told.subscribe();
    let holders = loop {
        told.mark_unchanged();
        let holders = state.node.holders(&token, hash).await.map_err(|error| not_done(&error))?;
        if !holders.is_empty() {
            break holders;
        }
        state.hurry.notify_one();
        if Instant::now() >= until || timeout_at(until, told.changed()).await.is_err() {
            return Err(no_holders());
        }
    };
    let capability = state.node.capability(&token, hash, Fingerprint(fingerprint)).await;
    let capability = capability.map_err(|error| not_done(&error))?;
    Ok(SourcesReply { holders: holders_of(holders), capability, more: Vec::new() })
}

/// The same for several contents, in one question to the node.
async fn sources_of_many(
    state: &State,
    token: &str,
    hash: ContentHash,
    fingerprint: Fingerprint,
    more: &[Bytes],
) -> Result<SourcesReply, Status> {
    if more.len() >= CAPABILITY_HASHES_MAX {
        return Err(bad(&format!("at most {CAPABILITY_HASHES_MAX} contents at a time")));
    }
    let mut hashes = vec![hash];
    for hash in more {
        hashes.push(ContentHash::try_from(&**hash).map_err(|error| bad(&error.to_string()))?);
    }
    let given = state.node.capability_for(token, &hashes, fingerprint).await;
    let (capability, holders) = given.map_err(|error| match &*error.code {
        "NO_SUCH_MESSAGE" => no_holders(),
        _ => not_done(&error),
    })?;
    let mut holders = holders.into_iter().map(holders_of);
    let first = holders.next().unwrap_or_default();
    let more = holders.map(|holders| Holders { holders }).collect();
    Ok(SourcesReply { holders: first, capability, more })
}

fn no_holders() -> Status {
    refused(Code::NotFound, "NO_HOLDERS", "no peer that is online has it")
}

fn holders_of(lines: Vec<HolderLine>) -> Vec<Holder> {
    let holders = lines.into_iter().filter_map(|holder| {
        let fingerprint = bytes_of_hex(&holder.fingerprint)?;
        let (user, address, name, size) = (holder.user, holder.address, holder.name, holder.size);
        let (fingerprint, unfinished) = (Bytes::copy_from_slice(&fingerprint), holder.unfinished);
        Some(Holder { user, address, fingerprint, name, size, unfinished })
    });
    holders.collect()
}

/// Saves a file that comes in parts.
pub async fn save(
    state: &State,
    mut parts: Streaming<SaveFileRequest>,
) -> Result<SaveFileReply, Status> {
    let Some(SaveFileRequest { part: Some(Part::Head(head)) }) = parts.message().await? else {
        return Err(bad("say first what the file is called"));
    };
    let SaveFileHead { name, size, replace, in_place } = head;
    let name = FileName::new(&name)
        .map_err(|why| refused(Code::InvalidArgument, "BAD_NAME", &why.to_string()))?;
    if name.components().any(|component| component.starts_with('.')) {
        let message = "what is hidden is not shared: no part of its name begins with a dot";
        return Err(refused(Code::InvalidArgument, "BAD_NAME", message));
    }
    if in_place {
        return look_at(state, name).await;
    }
    if size > FILE_BYTES_MAX {
        return Err(refused(Code::OutOfRange, "TOO_LARGE", "a file has at most 1 TiB"));
    }
    let library = Arc::clone(&state.library);
    let (sender, receiver) = mpsc::channel(AHEAD);
    let writing =
        tokio::task::spawn_blocking(move || write(&library, &name, size, replace, receiver));
    let received = receive(&mut parts, sender).await;
    let written = writing.await.map_err(|_| Status::unavailable("the peer is ending"))?;
    // What went wrong with the content is the reason, where something went wrong with both.
    received?;
    let (file, unchanged) = written.map_err(|error| of_io(&error))?;
    state.until_told().await;
    let file = own_file(&file, state.user().as_deref(), state.is_online());
    Ok(SaveFileReply { file: Some(file), unchanged })
}

/// Shares a file that is in the folder already as it is now.
async fn look_at(state: &State, name: FileName) -> Result<SaveFileReply, Status> {
    let library = Arc::clone(&state.library);
    let looked = blocking(move || library.look_at(&name)).await.map_err(|error| of_io(&error))?;
    state.until_told().await;
    let file = own_file(&looked, state.user().as_deref(), state.is_online());
    Ok(SaveFileReply { file: Some(file), unchanged: true })
}

async fn receive(
    parts: &mut Streaming<SaveFileRequest>,
    sender: mpsc::Sender<Bytes>,
) -> Result<(), Status> {
    while let Some(part) = parts.message().await? {
        let Some(Part::Content(content)) = part.part else {
            return Err(bad("what comes is content"));
        };
        if sender.send(content).await.is_err() {
            // Writing has ended, and says why.
            return Ok(());
        }
    }
    Ok(())
}

/// Writes what comes, which has to be as long as was said; whether it was there already.
fn write(
    library: &Library,
    name: &FileName,
    size: u64,
    replace: bool,
    mut receiver: mpsc::Receiver<Bytes>,
) -> io::Result<(SharedFile, bool)> {
    let mut staged = library.stage(size)?;
    let mut take = || {
        while let Some(content) = receiver.blocking_recv() {
            staged.write(&content)?;
            if staged.size() > size {
                break;
            }
        }
        if staged.size() == size {
            Ok(())
        } else {
            Err(io::Error::from(io::ErrorKind::InvalidData))
        }
    };
    if let Err(error) = take() {
        library.abandon(&staged);
        return Err(error);
    }
    if library.is_file(name, size, staged.outline().hash()) {
        library.abandon(&staged);
        return Ok((library.look_at(name)?, true));
    }
    Ok((library.place(staged, name, replace)?, false))
}

/// What the operating system would not do.
pub(super) fn of_io(error: &io::Error) -> Status {
    match error.kind() {
        io::ErrorKind::AlreadyExists => {
            let message = "there is another file of this name; take another name, or replace it";
            refused(Code::AlreadyExists, "EXISTS", message)
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => refused(
            Code::ResourceExhausted,
            "NO_SPACE",
            &format!("there is no space for it on the peer's disk ({error})"),
        ),
        io::ErrorKind::InvalidData => bad("the content is not as long as was said"),
        _ => refused(Code::Internal, "IO", &error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_and_there_already_is_shared_from_then_on() {
        let root = tempfile::tempdir().unwrap();
        let (shared, cache) = (root.path().join("shared"), root.path().join("hashes"));
        let library = Library::open_given(&shared, &cache, &root.path().join("given")).unwrap();
        std::fs::write(shared.join("a"), "mine").unwrap();
        std::fs::write(shared.join("b"), "mine").unwrap();
        library.look().unwrap();
        std::fs::write(shared.join("c"), "mine").unwrap();
        let save = |text: &str, content: &'static [u8]| {
            let (sender, receiver) = mpsc::channel(1);
            sender.try_send(Bytes::from_static(content)).unwrap();
            drop(sender);
            let saved = write(&library, &FileName::new(text).unwrap(), 4, false, receiver);
            saved.map(|(_, unchanged)| unchanged).map_err(|error| error.kind())
        };
        // Whether it was looked at before, or not.
        assert_eq!((save("a", b"mine"), save("c", b"mine")), (Ok(true), Ok(true)));
        assert_eq!(save("b", b"more"), Err(io::ErrorKind::AlreadyExists));
        let told: Vec<_> = library.announced().into_keys().collect();
        assert_eq!(told, ["a", "c"]);
    }
}
