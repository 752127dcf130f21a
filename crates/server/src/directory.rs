//! The directory: which groups there are and where each is coordinated (the group server), and the allocator's door.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use tertulia_group::{Group, Name};
use tertulia_journal::{AppendError, Expect, Journal, LogId};
use tertulia_wire::Code;
use tokio::sync::Mutex as AsyncMutex;

use crate::allocator::Allocator;
use crate::hosted::{Down, GroupKey, Stats};
use crate::listing;
use crate::node::Notice;
use crate::shard::{Job, ShardHandle};
use crate::shared::Shared;

/// Groups stand in the catalog under this and their folded name.
const CATALOG_PREFIX: &str = "group/";
/// What recovery reads at once.
const REPLAY_BYTES: usize = 4 << 20;

/// A refusal that a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Denied {
    pub code: Code,
    pub message: String,
}

impl Denied {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<Down> for Denied {
    fn from(down: Down) -> Self {
        Self { code: down.code, message: down.message }
    }
}

/// One group as the node knows it.
pub(crate) struct Listed {
    pub key: GroupKey,
    pub name: Name,
    pub log: LogId,
    pub shard: ShardHandle,
    pub stats: Arc<Stats>,
    /// Whether it runs on its shard; held while it is being opened.
    open: AsyncMutex<bool>,
}

/// See the module.
pub(crate) struct Directory {
    pub shared: Arc<Shared>,
    shards: RwLock<Vec<ShardHandle>>,
    next_shard: AtomicUsize,
    /// By folded name.
    groups: RwLock<BTreeMap<String, Arc<Listed>>>,
    /// Skeletons of the names, so that no two groups look alike.
    skeletons: RwLock<HashMap<String, String>>,
    /// Held while a group is made, so that no two that look alike are.
    creating: AsyncMutex<()>,
    allocator: Mutex<Allocator>,
    /// Where the native door listens.
    native: RwLock<Option<SocketAddr>>,
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

impl Directory {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            shards: RwLock::default(),
            next_shard: AtomicUsize::new(0),
            groups: RwLock::default(),
            skeletons: RwLock::default(),
            creating: AsyncMutex::new(()),
            allocator: Mutex::default(),
            native: RwLock::default(),
        }
    }

    /// Lists every group of the catalog. Blocks.
    pub fn load(&self, shards: Vec<ShardHandle>) -> Result<(), String> {
        *write(&self.shards) = shards;
        let records =
            self.shared.catalog.scan(CATALOG_PREFIX).map_err(|error| error.to_string())?;
        for (key, record) in records {
            let (log, shown) = record
                .value
                .split_first_chunk::<16>()
                .ok_or(format!("the record {key} is cut short"))?;
            let shown =
                std::str::from_utf8(shown).map_err(|_| format!("the record {key} has no name"))?;
            let name = Name::new(shown).map_err(|error| format!("the record {key}: {error}"))?;
            self.list(&name, LogId(*log));
        }
        Ok(())
    }

    pub fn set_native(&self, address: SocketAddr) {
        *write(&self.native) = Some(address);
    }

    fn list(&self, name: &Name, log: LogId) -> Arc<Listed> {
        let shards = read(&self.shards);
        let shard = shards[self.next_shard.fetch_add(1, Ordering::Relaxed) % shards.len()].clone();
        let listed = Arc::new(Listed {
            key: GroupKey(self.shared.new_id()),
            name: name.clone(),
            log,
            shard,
            stats: Arc::default(),
            open: AsyncMutex::new(false),
        });
        write(&self.skeletons).insert(name.skeleton().to_owned(), name.folded().to_owned());
        write(&self.groups).insert(name.folded().to_owned(), Arc::clone(&listed));
        listed
    }

    /// All groups, by name.
    pub fn all(&self) -> Vec<Arc<Listed>> {
        read(&self.groups).values().cloned().collect()
    }

    /// At most `limit` groups after the one of this name, by name, and whether there are more.
    pub fn page(&self, after: &str, limit: usize) -> (Vec<Arc<Listed>>, bool) {
        let folded = Name::new(after).map(|name| name.folded().to_owned());
        listing::page(&read(&self.groups), folded.as_deref().unwrap_or(after), limit)
    }

    /// The group of this name, running.
    pub async fn find(&self, name: &str) -> Result<Arc<Listed>, Denied> {
        let parsed =
            Name::new(name).map_err(|error| Denied::new(Code::BadName, error.to_string()))?;
        let listed = read(&self.groups).get(parsed.folded()).cloned();
        match listed {
            Some(listed) => self.opened(listed).await,
            None => Err(self.unknown(&parsed)),
        }
    }

    /// The group of this name, running; made if there is none.
    pub async fn find_or_create(&self, name: &str) -> Result<Arc<Listed>, Denied> {
        match self.find(name).await {
            Err(denied) if denied.code == Code::UnknownGroup => match self.create(name).await {
                // Somebody else was faster.
                Err(denied) if denied.code == Code::GroupExists => self.find(name).await,
                other => other,
            },
            other => other,
        }
    }

    fn unknown(&self, name: &Name) -> Denied {
        // Compared without the lock, which others need.
        let near: Vec<Arc<Listed>> =
            listing::around(&read(&self.groups), name.folded()).cloned().collect();
        let known = near.iter().map(|listed| listed.name.as_str());
        let hint = match tertulia_group::name::nearest(name.as_str(), known) {
            Some(near) => format!("there is no group {name}; did you mean {near}?"),
            None => format!("there is no group {name}"),
        };
        Denied::new(Code::UnknownGroup, hint)
    }

    /// Makes a group.
    pub async fn create(&self, name: &str) -> Result<Arc<Listed>, Denied> {
        let name =
            Name::new(name).map_err(|error| Denied::new(Code::BadName, error.to_string()))?;
        let creating = self.creating.lock().await;
        if read(&self.groups).len() >= self.shared.config.limits.groups {
            return Err(Denied::new(Code::Limit, "this node has as many groups as it may"));
        }
        let look_alike = read(&self.skeletons).get(name.skeleton()).cloned();
        match look_alike {
            Some(other) if other == name.folded() => {
                return Err(Denied::new(Code::GroupExists, format!("there is a group {name}")));
            }
            Some(other) => {
                return Err(Denied::new(
                    Code::BadName,
                    format!("{name} looks like the group {other}; take another name"),
                ));
            }
            None => {}
        }
        let log = LogId(rand::random());
        let mut value = log.0.to_vec();
        value.extend_from_slice(name.as_str().as_bytes());
        let (catalog, key) =
            (Arc::clone(&self.shared.catalog), format!("{CATALOG_PREFIX}{}", name.folded()));
        let stored = self
            .shared
            .main
            .spawn_blocking(move || catalog.put(&key, Expect::Absent, Some(Bytes::from(value))));
        match stored.await {
            Ok(Ok(_)) => {
                let listed = self.list(&name, log);
                drop(creating);
                self.opened(listed).await
            }
            // Listed here is what the catalog holds, unless another node works on it.
            Ok(Err(AppendError::Conflict { .. })) => {
                Err(Denied::new(Code::GroupExists, format!("there is a group {name}")))
            }
            Ok(Err(AppendError::NoSpace(why))) => Err(Denied::new(Code::NoSpace, why)),
            Ok(Err(error)) => Err(Denied::new(Code::StoreFailed, error.to_string())),
            Err(_) => Err(ending()),
        }
    }

    /// Deletes a group without members, its log included.
    pub async fn delete(&self, name: &str) -> Result<(), Denied> {
        let listed = self.find(name).await?;
        let mut open = listed.open.lock().await;
        let deleted = listed.shard.ask(|answer| Job::Delete { key: listed.key, answer }).await;
        if deleted != Some(true) {
            let message = format!("{} has members; remove them first", listed.name);
            return Err(Denied::new(Code::GroupInUse, message));
        }
        *open = false;
        let key = format!("{CATALOG_PREFIX}{}", listed.name.folded());
        let (shared, log) = (Arc::clone(&self.shared), listed.log);
        let gone = self.shared.main.spawn_blocking(move || {
            shared.catalog.put(&key, Expect::Any, None)?;
            shared.journal.delete(log)
        });
        gone.await
            .map_err(|_| ending())?
            .map_err(|error| Denied::new(Code::StoreFailed, error.to_string()))?;
        write(&self.groups).remove(listed.name.folded());
        write(&self.skeletons).remove(listed.name.skeleton());
        Ok(())
    }

    /// Makes sure that the group runs: reads it back from the journal the first time.
    async fn opened(&self, listed: Arc<Listed>) -> Result<Arc<Listed>, Denied> {
        let mut open = listed.open.lock().await;
        if *open {
            drop(open);
            return Ok(listed);
        }
        let (journal, log) = (Arc::clone(&self.shared.journal), listed.log);
        let limits = self.shared.config.group_limits.clone();
        let read_back =
            self.shared.main.spawn_blocking(move || recover(journal.as_ref(), log, limits));
        let group = read_back.await.map_err(|_| ending())?.map_err(|(code, why)| {
            let message = format!("group {}: {why}", listed.name);
            self.shared.notice(Notice::Trouble(message.clone()));
            Denied::new(code, message)
        })?;
        if let Ok(number) = listed.name.folded().parse() {
            let mut allocator = self.allocator.lock().unwrap_or_else(PoisonError::into_inner);
            group.members().for_each(|member| allocator.remember(member.name.folded(), number));
        }
        let (key, name, stats) = (listed.key, listed.name.clone(), Arc::clone(&listed.stats));
        let host = |answer| Job::Host { key, name, group: Box::new(group), stats, answer };
        listed.shard.ask(host).await.ok_or_else(ending)??;
        *open = true;
        drop(open);
        Ok(listed)
    }

    /// Reads back every group, so that absent members' grace ends and the allocator knows its loads.
    pub async fn open_all(&self) {
        for listed in self.all() {
            let _ = self.opened(listed).await;
        }
    }

    /// Which group of the pool a member is to join.
    pub async fn allocate(&self, name: &str) -> Result<Arc<Listed>, Denied> {
        let name =
            Name::new(name).map_err(|error| Denied::new(Code::BadName, error.to_string()))?;
        let group = {
            let groups = read(&self.groups);
            let load = |listed: &Arc<Listed>| listed.stats.members.load(Ordering::Relaxed) as usize;
            let pool = groups
                .values()
                .filter_map(|listed| Some((listed.name.folded().parse().ok()?, load(listed))));
            let loads: BTreeMap<u32, usize> = pool.filter(|(number, _)| *number > 0).collect();
            let mut allocator = self.allocator.lock().unwrap_or_else(PoisonError::into_inner);
            let members_max = self.shared.config.limits.pool_members;
            allocator.allocate(crate::clock::mono_ms(), name.folded(), &loads, members_max)
        };
        self.find_or_create(&group.to_string()).await
    }

    /// A member has joined: its reservation has done its work.
    pub fn joined(&self, name: &Name) {
        self.allocator.lock().unwrap_or_else(PoisonError::into_inner).joined(name.folded());
    }

    /// Where a group of this node is coordinated, for somebody who reached the node at `dialled`.
    pub fn coordinator(&self, dialled: SocketAddr) -> String {
        let native = read(&self.native).unwrap_or(dialled);
        match &self.shared.config.advertise {
            Some(host) if host.contains(':') && !host.starts_with('[') => {
                format!("[{host}]:{}", native.port())
            }
            Some(host) => format!("{host}:{}", native.port()),
            None => SocketAddr::new(dialled.ip().to_canonical(), native.port()).to_string(),
        }
    }
}

fn ending() -> Denied {
    Denied::new(Code::ShuttingDown, "the node is ending")
}

/// Reads a group back: its snapshot, then every record after it.
fn recover(
    journal: &dyn Journal,
    log: LogId,
    limits: tertulia_group::Limits,
) -> Result<Group, (Code, String)> {
    let damaged = |why: &dyn std::fmt::Display| (Code::Damaged, why.to_string());
    let opened = journal.open(log).map_err(|error| damaged(&error))?;
    let id = tertulia_group::LogId(log.0);
    let (mut group, mut from) = match opened.snapshot {
        Some(snapshot) => {
            let group = Group::restore(id, limits, opened.first, &snapshot.state)
                .map_err(|error| damaged(&error))?;
            (group, snapshot.at + 1)
        }
        None => (Group::new(id, limits), 1),
    };
    loop {
        let records = journal.read(log, from, REPLAY_BYTES).map_err(|error| damaged(&error))?;
        let before = from;
        for record in &records {
            if record.first < from {
                continue;
            }
            group
                .replay(record.first, record.count, &record.notes, &record.entries)
                .map_err(|error| damaged(&error))?;
            from = record.first + u64::from(record.count);
        }
        if from == before {
            break;
        }
    }
    if group.tail() + 1 != opened.next {
        return Err(damaged(&format_args!(
            "it ends at #{}, but #{} is stored",
            group.tail(),
            opened.next - 1
        )));
    }
    Ok(group)
}
