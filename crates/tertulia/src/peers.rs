//! What a user's peers keep between two lives, and how the user's commands find the one that runs: a private folder for each
//! shared folder, locked while its peer runs.

use std::fs::{File, OpenOptions, TryLockError};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tertulia_client::Target;
use tertulia_files::content::ContentHash;
use tertulia_files::own::OwnPeer;

use crate::failure::Failure;
use crate::state::{create_folder, private, state_folder};

/// What is said of a peer that listens on loopback only.
pub const ONLY_HERE: &str =
    "only this machine reaches it; for others on the network: --listen 0.0.0.0";

/// The folder of one peer's state.
pub struct PeerState {
    folder: PathBuf,
    /// Its lock ends with it.
    _lock: File,
}

/// Where a running peer is, for the user's commands.
#[derive(Serialize, Deserialize)]
struct Endpoint {
    address: String,
    /// What it shares: the whole path, without links.
    folder: String,
    /// Its node, as `--node` takes it.
    #[serde(default)]
    node: String,
}

fn peers_folder() -> Result<PathBuf, Failure> {
    Ok(state_folder()?.join("peers"))
}

/// The lock of a peer's state; `None` while a peer has it.
fn lock(folder: &Path) -> std::io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    let lock =
        private(options.create(true).truncate(false).write(true)).open(folder.join("lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

impl PeerState {
    /// Takes the state of the peer of this folder, which is there.
    pub fn take(shared: &Path) -> Result<Self, Failure> {
        let doing = |path: &Path| format!("cannot use {}", path.display());
        let whole = shared.canonicalize().map_err(|error| Failure::io(&doing(shared), &error))?;
        let id = ContentHash::of(whole.as_os_str().as_encoded_bytes()).to_string();
        let folder = peers_folder()?.join(&id[..16]);
        let taken = Self::take_at(&folder);
        let taken = taken.map_err(|error| Failure::io(&doing(&folder), &error))?;
        taken.ok_or_else(|| {
            let text = format!("another peer shares {} already", whole.display());
            Failure::failed("FOLDER_IN_USE", text)
        })
    }

    /// Takes what is in this folder, which is made where it is not there; `None` while another peer has it.
    fn take_at(folder: &Path) -> std::io::Result<Option<Self>> {
        create_folder(folder)?;
        let Some(lock) = lock(folder)? else { return Ok(None) };
        let taken = Self { folder: folder.to_owned(), _lock: lock };
        // Where one was that was killed. This one may say nothing of where it is.
        taken.clear();
        Ok(Some(taken))
    }

    /// Its certificate.
    pub fn identity(&self) -> PathBuf {
        self.folder.join("identity.pem")
    }

    /// What it has hashed.
    pub fn hashes(&self) -> PathBuf {
        self.folder.join("hashes")
    }

    /// What it shares, where that is only what it has fetched.
    pub fn given(&self) -> PathBuf {
        self.folder.join("fetched")
    }

    /// What it keeps of the groups that it follows.
    pub fn memberships(&self) -> PathBuf {
        self.folder.join("groups")
    }

    /// Says where the peer is.
    pub fn publish(
        &self,
        address: SocketAddr,
        shared: &Path,
        node: &Target,
    ) -> Result<(), Failure> {
        let doing = |error| Failure::io(&format!("cannot use {}", shared.display()), &error);
        let shared = shared.canonicalize().map_err(doing)?;
        let tls = if node.is_tls() { "tls://" } else { "" };
        let endpoint = Endpoint {
            address: here(address).to_string(),
            folder: shared.display().to_string(),
            node: format!("{tls}{}", node.address()),
        };
        let write = || {
            let (path, new) = (self.folder.join("endpoint.json"), self.folder.join("endpoint.new"));
            let mut options = OpenOptions::new();
            let mut file = private(options.create(true).truncate(true).write(true)).open(&new)?;
            serde_json::to_writer(&mut file, &endpoint)?;
            drop(file);
            std::fs::rename(&new, &path)
        };
        write().map_err(|error: std::io::Error| Failure::io("cannot say where the peer is", &error))
    }

    /// It is nowhere any more.
    pub fn clear(&self) {
        let _ = std::fs::remove_file(self.folder.join("endpoint.json"));
    }
}

/// The address by which this machine reaches it.
fn here(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The node of the peer at this address (the only one that runs, where it is empty), where it is one of this user's on this
/// machine.
pub fn node_of(address: &str) -> Option<String> {
    let mut found = all_running().ok()?.into_iter().map(|(endpoint, _)| endpoint);
    let is_it = |endpoint: &Endpoint| address.is_empty() || endpoint.address == address;
    let node = found.find(is_it)?.node;
    let is_only = found.next().is_none() || !address.is_empty();
    Some(node).filter(|node| is_only && !node.is_empty())
}

/// What a peer shares, where it is one of this user's on this machine: the whole path, without links.
pub fn folder_of(peer: &OwnPeer) -> Option<PathBuf> {
    let is_it = |endpoint: &Endpoint| endpoint.address.parse().is_ok_and(|at| peer.is_at(at));
    let mut running = all_running().ok()?.into_iter().map(|(endpoint, _)| endpoint);
    running.find(is_it).map(|endpoint| PathBuf::from(endpoint.folder))
}

/// Every peer that this user has running, and its certificate's file.
fn all_running() -> Result<Vec<(Endpoint, PathBuf)>, Failure> {
    let mut found = Vec::new();
    let folders = std::fs::read_dir(peers_folder()?).into_iter().flatten().flatten();
    for folder in folders.map(|entry| entry.path()) {
        // One that was killed has left its endpoint, and no lock.
        let is_running = matches!(lock(&folder), Ok(None));
        let read = std::fs::read(folder.join("endpoint.json")).ok().filter(|_| is_running);
        if let Some(endpoint) =
            read.and_then(|bytes| serde_json::from_slice::<Endpoint>(&bytes).ok())
        {
            found.push((endpoint, folder.join("identity.pem")));
        }
    }
    Ok(found)
}

/// The address of the peer that this user has running, and its certificate's file.
pub fn running() -> Result<(String, PathBuf), Failure> {
    let found = all_running()?;
    match found.as_slice() {
        [] => {
            let text = "you have no peer running on this machine; start one: tertulia peer, or say which with --peer HOST:PORT";
            Err(Failure::failed("NO_PEER", text))
        }
        [(endpoint, identity)] => Ok((endpoint.address.clone(), identity.clone())),
        many => {
            let several = many.iter().map(|(one, _)| format!("{} ({})", one.address, one.folder));
            let text = format!(
                "you have several peers running; say which with --peer: {}",
                several.collect::<Vec<_>>().join(", ")
            );
            Err(Failure::failed("SEVERAL_PEERS", text))
        }
    }
}

/// The certificate of a peer of this user, where there is only one: by it a peer on another machine knows its owner.
pub fn any_identity() -> Option<PathBuf> {
    let folders = std::fs::read_dir(peers_folder().ok()?).ok()?.flatten();
    let mut found =
        folders.map(|entry| entry.path().join("identity.pem")).filter(|path| path.exists());
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_killed_peer_was_is_not_where_the_next_one_is() {
        let root = tempfile::tempdir().unwrap();
        let (folder, node) = (root.path().join("state"), Target::new("127.0.0.1:1"));
        let killed = PeerState::take_at(&folder).unwrap().unwrap();
        killed.publish(([127, 0, 0, 1], 50_051).into(), root.path(), &node).unwrap();
        assert!(
            PeerState::take_at(&folder).unwrap().is_none() && folder.join("endpoint.json").exists()
        );
        drop(killed);
        assert!(folder.join("endpoint.json").exists());
        let _next = PeerState::take_at(&folder).unwrap().unwrap();
        assert!(!folder.join("endpoint.json").exists());
    }
}
