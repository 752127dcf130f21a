//! Peers that share files, as the node knows them: where they are, what they announce, and what they may fetch of each other.
//!
//! What is decided without I/O stands in files of its own: the leases ([`registry`]), finding by name ([`index`]), signing
//! ([`capability`]). No content of any file comes to the node.

mod capability;
mod index;
mod registry;
mod relay;

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tertulia_group::{Name, Now};
use tertulia_journal::{Catalog, Expect};
use tertulia_wire::Code;
use tertulia_wire::sharing::{Capability, hex};
use tertulia_wire::time::rfc3339;
use tokio::sync::Semaphore;

pub(crate) use self::index::File;
pub(crate) use self::registry::{Change, Fingerprint, Holder, PeerAddress, PeerSeen};
pub use self::relay::{Content, Grants, Opening, Relay};
pub(crate) use self::relay::{Relaying, Turn};

use self::capability::Signer;
use self::registry::{Refused, Registry};
use crate::accounts::tokens::Session;
use crate::clock::thread_cpu;
use crate::config::PeerLimits;
use crate::directory::Denied;

/// Where an account's peer was last stands under this and the account's folded name.
const ADDRESS: &str = "peer/";
/// How often leases are looked at that may be over.
pub(crate) const EXPIRE_EVERY: Duration = Duration::from_secs(1);

/// What the catalog keeps of a peer.
#[derive(Serialize, Deserialize)]
struct AddressRecord {
    v: u32,
    user: String,
    host: String,
    port: u16,
}

const RECORD_VERSION: u32 = 1;

/// See the module.
pub(crate) struct Peers {
    catalog: Arc<dyn Catalog>,
    limits: PeerLimits,
    registry: Arc<RwLock<Registry>>,
    signer: Signer,
    /// The node's store, in hexadecimal.
    instance: String,
    /// Searches that go on at once; more wait.
    searches: Semaphore,
    /// Fetching through the node.
    pub relaying: Arc<Relaying>,
}

/// Why a change of files is not taken.
#[derive(Debug)]
pub(crate) enum NotChanged {
    /// It does not follow what the node knows.
    Revision,
    Denied(Denied),
}

impl Peers {
    /// Reads where peers were last. Blocks.
    pub fn load(
        catalog: Arc<dyn Catalog>,
        limits: PeerLimits,
        secret: &[u8],
        instance: String,
    ) -> Result<Self, String> {
        let mut registry = Registry::default();
        let found = catalog.scan_whole(ADDRESS).map_err(|error| error.to_string())?;
        for lost in &found.lost {
            // The peer says it again.
            tracing::warn!("where a peer was last is damaged: {}", lost.what);
        }
        for (key, record) in found.records {
            let Some((name, address)) = read_record(&record.value) else {
                tracing::warn!("the record {key} cannot be read; the peer says it again");
                continue;
            };
            registry.addresses.insert(name.folded().to_owned(), (name, address));
        }
        let signer = Signer::new(secret)?;
        let registry = Arc::new(RwLock::new(registry));
        let searches = Semaphore::new(limits.searches_at_once);
        let relaying = Arc::default();
        Ok(Self { catalog, limits, registry, signer, instance, searches, relaying })
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Registry> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Registry> {
        self.registry.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The limits that are the peers'.
    pub const fn limits(&self) -> &PeerLimits {
        &self.limits
    }

    /// The public key of capabilities, and whose it is; both in hexadecimal.
    pub fn key(&self) -> (String, String) {
        (hex(self.signer.public()), self.instance.clone())
    }

    /// An account's peer is there, and is fetching these; the revision of what the node knows of its files.
    pub async fn here(
        &self,
        session: &Arc<Session>,
        fingerprint: Fingerprint,
        address: PeerAddress,
        unfinished: Vec<File>,
        now: Now,
    ) -> Result<u64, Denied> {
        let revision = {
            let mut registry = self.write();
            let revision = registry
                .here(session, fingerprint, address.clone(), now.mono_ms, &self.limits)
                .map_err(|refused| self.denied(refused))?;
            registry.fetches(&session.account, fingerprint, unfinished);
            revision
        };
        self.keep_address(&session.account, address).await?;
        Ok(revision)
    }

    /// Where an account's peer is, from now on and after a restart.
    pub async fn keep_address(&self, account: &Name, address: PeerAddress) -> Result<(), Denied> {
        let folded = account.folded().to_owned();
        let value = (account.clone(), address.clone());
        if self.read().addresses.get(&folded) == Some(&value) {
            return Ok(());
        }
        let record = AddressRecord {
            v: RECORD_VERSION,
            user: account.to_string(),
            host: address.host,
            port: address.port,
        };
        let bytes = Bytes::from(serde_json::to_vec(&record).unwrap_or_default());
        let (catalog, key) = (Arc::clone(&self.catalog), format!("{ADDRESS}{folded}"));
        let put = tokio::task::spawn_blocking(move || catalog.put(&key, Expect::Any, Some(bytes)));
        let put = put.await.map_err(|_| Denied::new(Code::ShuttingDown, "the node is ending"))?;
        put.map_err(|error| Denied::new(Code::StoreFailed, error.to_string()))?;
        self.write().addresses.insert(folded, value);
        Ok(())
    }

    /// A peer's files have changed: its new revision, and how many it has.
    pub async fn change(
        &self,
        account: &Name,
        fingerprint: Fingerprint,
        change: Change,
        now: Now,
    ) -> Result<(u64, usize), NotChanged> {
        let (registry, limits) = (Arc::clone(&self.registry), self.limits.clone());
        let account = account.clone();
        let changed = tokio::task::spawn_blocking(move || {
            let mut registry = registry.write().unwrap_or_else(PoisonError::into_inner);
            registry.change(&account, fingerprint, change, now, &limits)
        });
        let ending = |_| NotChanged::Denied(Denied::new(Code::ShuttingDown, "the node is ending"));
        changed.await.map_err(ending)?.map_err(|refused| match refused {
            Refused::Revision => NotChanged::Revision,
            refused => NotChanged::Denied(self.denied(refused)),
        })
    }

    /// A peer goes.
    pub fn gone(&self, account: &Name, fingerprint: Fingerprint) {
        self.write().gone(account, fingerprint);
    }

    /// Lets go of peers that are not there any more.
    pub fn expire(&self, now: Now) {
        self.write().expire(now.mono_ms, now.wall_us);
    }

    /// Every account's peers.
    pub fn peers(&self, now: Now) -> Vec<PeerSeen> {
        self.read().peers(now.mono_ms, now.wall_us)
    }

    /// The best `count` files for a question, each with the accounts that have it; and what it cost of the CPU to find them.
    pub async fn search(
        &self,
        question: String,
        count: usize,
        now: Now,
    ) -> (Vec<(File, Vec<String>)>, Duration) {
        let Ok(_turn) = self.searches.acquire().await else { return Default::default() };
        let registry = Arc::clone(&self.registry);
        let searched = tokio::task::spawn_blocking(move || {
            let before = thread_cpu();
            let registry = registry.read().unwrap_or_else(PoisonError::into_inner);
            let found = registry.search(&question, count, now.mono_ms, now.wall_us);
            (found, thread_cpu().saturating_sub(before))
        });
        searched.await.unwrap_or_default()
    }

    /// The peers that have a content.
    pub fn holders(&self, hash: &[u8; 32], now: Now) -> Vec<Holder> {
        self.read().holders(hash, self.limits.holders_shown, now.mono_ms, now.wall_us)
    }

    /// Those of these contents that somebody has; refused where there are more than one capability opens.
    pub fn known(&self, hashes: &[[u8; 32]]) -> Result<Vec<[u8; 32]>, Denied> {
        self.check_count(hashes)?;
        let registry = self.read();
        Ok(hashes.iter().filter(|hash| registry.has(hash)).copied().collect())
    }

    fn check_count(&self, hashes: &[[u8; 32]]) -> Result<(), Denied> {
        let most = self.limits.capability_hashes;
        if hashes.is_empty() || hashes.len() > most {
            return Err(Denied::new(
                Code::Limit,
                format!("a capability is for 1 to {most} hashes"),
            ));
        }
        Ok(())
    }

    /// A capability for an account, this certificate and these contents; and when it ends, in microseconds.
    pub fn issue(
        &self,
        account: &Name,
        fingerprint: Fingerprint,
        hashes: &[[u8; 32]],
        now: Now,
    ) -> Result<(String, u64), Denied> {
        self.check_count(hashes)?;
        let registry = self.read();
        if let Some(unknown) = hashes.iter().find(|hash| !registry.has(hash)) {
            let message = format!("no peer that is there has {}", hex(unknown));
            return Err(Denied::new(Code::NoSuchMessage, message));
        }
        drop(registry);
        let life_us = u64::try_from(self.limits.capability_life.as_micros()).unwrap_or(u64::MAX);
        let expires_us = now.wall_us.saturating_add(life_us);
        let capability = Capability {
            iss: self.instance.clone(),
            sub: account.to_string(),
            exp: rfc3339(expires_us),
            fpr: hex(&fingerprint),
            hashes: hashes.iter().map(|hash| hex(hash)).collect(),
        };
        let signed = self.signer.sign(&capability);
        let text =
            signed.map_err(|why| Denied::new(Code::StoreFailed, format!("cannot sign: {why}")))?;
        Ok((text, expires_us))
    }

    fn denied(&self, refused: Refused) -> Denied {
        let limits = &self.limits;
        match refused {
            Refused::Peers => {
                let message =
                    format!("an account has at most {} peers at a time", limits.peers_per_account);
                Denied::new(Code::Limit, message)
            }
            Refused::NotHere => {
                Denied::new(Code::NotJoined, "say where the peer is first: PUT /api/peers/me")
            }
            Refused::Files => Denied::new(
                Code::Limit,
                format!("a peer announces at most {} files", limits.files_per_peer),
            ),
            Refused::Names => Denied::new(
                Code::Limit,
                format!(
                    "the names of an account's files take at most {} MiB, and as they are looked for are counted, too",
                    limits.name_bytes_per_account >> 20
                ),
            ),
            Refused::Full => Denied::new(
                Code::Limit,
                format!(
                    "this node knows at most {} files, with {} MiB of names, and has no room for more",
                    limits.files,
                    limits.name_bytes >> 20
                ),
            ),
            Refused::Revision => {
                Denied::new(Code::BadFrame, "the change does not follow what is known")
            }
        }
    }
}

fn read_record(bytes: &[u8]) -> Option<(Name, PeerAddress)> {
    let record: AddressRecord = serde_json::from_slice(bytes).ok()?;
    let name = Name::new(&record.user).ok()?;
    (record.v == RECORD_VERSION)
        .then_some((name, PeerAddress { host: record.host, port: record.port }))
}

/// A host as a peer may give it: an address, or a name of letters, digits, dots and dashes.
pub(crate) fn host_of(text: &str) -> Option<String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        let elsewhere = !address.is_unspecified() && !address.is_multicast();
        return elsewhere.then(|| address.to_canonical().to_string());
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    let is_name =
        (1..=253).contains(&text.len()) && text.chars().all(legal) && !text.starts_with(['.', '-']);
    is_name.then(|| text.to_ascii_lowercase())
}

/// `host:port`.
pub(crate) fn address_of(text: &str) -> Option<PeerAddress> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    Some(PeerAddress { host: host_of(host)?, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_an_address_or_a_plain_name() {
        for (text, host) in [
            ("10.0.0.7", Some("10.0.0.7")),
            ("[::1]", Some("::1")),
            ("::ffff:10.0.0.7", Some("10.0.0.7")),
            ("Casa.lan", Some("casa.lan")),
            ("0.0.0.0", None),
            ("::", None),
            ("224.0.0.1", None),
            ("", None),
            ("a b", None),
            ("a/b", None),
            ("a\u{1b}[2J", None),
            ("user@host", None),
            ("-x", None),
        ] {
            assert_eq!(host_of(text).as_deref(), host, "{text:?}");
        }
        let address = |host: &str, port| Some(PeerAddress { host: host.to_owned(), port });
        assert_eq!(address_of("10.0.0.7:50051"), address("10.0.0.7", 50051));
        assert_eq!(address_of("[::1]:50051"), address("::1", 50051));
        for text in ["10.0.0.7", "10.0.0.7:0", "10.0.0.7:70000", ":50051", "10.0.0.7:x"] {
            assert_eq!(address_of(text), None, "{text}");
        }
    }
}
