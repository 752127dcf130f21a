//! The directory: which groups there are and where each is coordinated (the group server), and the allocator's door.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use tertulia_group::Name;
use tertulia_journal::{AppendError, Expect, LogId, LostRecord, ReadError};
use tertulia_wire::Code;
use tokio::sync::Mutex as AsyncMutex;

use crate::accounts::rules::Rules;
use crate::accounts::table::{Operation, Role, Verdict};
use crate::accounts::{Accounts, Caller, Opened, Pass};
use crate::feed::Feed;
use crate::hosted::{Down, GroupKey, Stats};
use crate::listing;
use crate::node::Notice;
use crate::peers::Peers;
use crate::recovering::{CATALOG_PREFIX, denied_damaged, read_record, recover, write_record};
use crate::shard::{Job, ShardHandle};
use crate::shared::Shared;

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

/// So many groups are added up whenever somebody asks; more only once in a while.
const TOTALS_AT_ONCE_MAX: usize = 100;
const TOTALS_MS: u64 = 1_000;

/// What all groups come to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    at_ms: u64,
    pub groups: u32,
    pub members: u32,
    pub stored_bytes: u64,
}

/// One group as the node knows it.
pub(crate) struct Listed {
    pub key: GroupKey,
    pub name: Name,
    pub log: LogId,
    pub shard: ShardHandle,
    pub stats: Arc<Stats>,
    /// Its newest entries, for those who read away from the shard.
    pub feed: Arc<Feed>,
    /// Who may join it, who may send to it; with the version of its record.
    rules: RwLock<(Arc<Rules>, u64)>,
    /// Whether it runs on its shard; held while it is being opened.
    open: AsyncMutex<bool>,
    /// Why it never will: its log is damaged.
    damaged: OnceLock<Denied>,
}

impl Listed {
    /// Its rules.
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&read(&self.rules).0)
    }
}

/// A group that somebody may do something with, and what they are for it.
pub(crate) struct Admitted {
    pub listed: Arc<Listed>,
    pub role: Role,
    /// For what is their own only.
    pub only_own: bool,
}

/// See the module.
pub(crate) struct Directory {
    pub shared: Arc<Shared>,
    pub accounts: Accounts,
    pub peers: Peers,
    shards: RwLock<Vec<ShardHandle>>,
    next_shard: AtomicUsize,
    /// By folded name.
    groups: RwLock<BTreeMap<String, Arc<Listed>>>,
    /// Groups whose record in the catalog is damaged: as much of the key as is known.
    lost: RwLock<Vec<LostRecord>>,
    /// Skeletons of the names, so that no two groups look alike.
    skeletons: RwLock<HashMap<String, String>>,
    /// Held while a group is made, so that no two that look alike are.
    creating: AsyncMutex<()>,
    totals: Mutex<Totals>,
    /// Where the native door listens.
    native: RwLock<Option<SocketAddr>>,
    /// Where the HTTP door listens.
    http: RwLock<Option<SocketAddr>>,
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

impl Directory {
    pub fn new(shared: Arc<Shared>, accounts: Accounts, peers: Peers) -> Self {
        Self {
            shared,
            accounts,
            peers,
            shards: RwLock::default(),
            next_shard: AtomicUsize::new(0),
            groups: RwLock::default(),
            lost: RwLock::default(),
            skeletons: RwLock::default(),
            creating: AsyncMutex::new(()),
            totals: Mutex::default(),
            native: RwLock::default(),
            http: RwLock::default(),
        }
    }

    /// Lists every group of the catalog. Blocks.
    pub fn load(&self, shards: Vec<ShardHandle>) -> Result<(), String> {
        *write(&self.shards) = shards;
        let found = self.shared.catalog.scan_whole(CATALOG_PREFIX);
        let found = found.map_err(|error| error.to_string())?;
        for (key, record) in found.records {
            let (name, log, rules) = read_record(&key, &record)?;
            self.list(&name, log, rules, record.version);
        }
        for lost in &found.lost {
            let begin = lost.begin.strip_prefix(CATALOG_PREFIX).unwrap_or_default();
            self.shared.tell_damage(&format!("a group whose name begins with {begin}"), &lost.what);
        }
        *write(&self.lost) = found.lost;
        Ok(())
    }

    pub fn set_native(&self, address: SocketAddr) {
        *write(&self.native) = Some(address);
    }

    pub fn set_http(&self, address: SocketAddr) {
        *write(&self.http) = Some(address);
    }

    fn list(&self, name: &Name, log: LogId, rules: Rules, version: u64) -> Arc<Listed> {
        let shards = read(&self.shards);
        let shard = shards[self.next_shard.fetch_add(1, Ordering::Relaxed) % shards.len()].clone();
        let listed = Arc::new(Listed {
            key: GroupKey(self.shared.new_id()),
            name: name.clone(),
            log,
            shard,
            stats: Arc::default(),
            feed: Arc::default(),
            rules: RwLock::new((Arc::new(rules), version)),
            open: AsyncMutex::new(false),
            damaged: OnceLock::new(),
        });
        write(&self.skeletons).insert(name.skeleton().to_owned(), name.folded().to_owned());
        write(&self.groups).insert(name.folded().to_owned(), Arc::clone(&listed));
        listed
    }

    /// What all groups come to; where there are many, as it was up to a second ago.
    pub fn totals(&self) -> Totals {
        let mut last = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = crate::clock::mono_ms();
        if last.groups as usize > TOTALS_AT_ONCE_MAX && now_ms < last.at_ms + TOTALS_MS {
            return *last;
        }
        let all = self.all();
        let members = |listed: &Arc<Listed>| listed.stats.members.load(Ordering::Relaxed);
        let bytes = |listed: &Arc<Listed>| self.shared.journal.usage(listed.log).bytes;
        *last = Totals {
            at_ms: now_ms,
            groups: all.len() as u32,
            members: all.iter().map(members).sum(),
            stored_bytes: all.iter().map(bytes).sum(),
        };
        *last
    }

    /// All groups, by name.
    pub fn all(&self) -> Vec<Arc<Listed>> {
        read(&self.groups).values().cloned().collect()
    }

    /// At most `limit` groups after the one of this name that the caller may know of, by name, and whether there are more.
    pub fn page(&self, caller: &Caller, after: &str, limit: usize) -> (Vec<Arc<Listed>>, bool) {
        let folded = Name::new(after).map(|name| name.folded().to_owned());
        let seen = |listed: &Arc<Listed>| self.may_see(caller, listed);
        listing::page(&read(&self.groups), folded.as_deref().unwrap_or(after), limit, seen)
    }

    /// The shards, and how many groups there are.
    pub fn shards(&self) -> (Vec<ShardHandle>, usize) {
        (read(&self.shards).clone(), read(&self.groups).len())
    }

    /// Why the group of this name is refused, where its record in the catalog is one of those that are damaged.
    fn lost(&self, name: &Name) -> Option<Denied> {
        if read(&self.lost).is_empty() {
            return None;
        }
        // That is known in memory: nothing blocks.
        match self.shared.catalog.get(&key_of(name)) {
            Err(ReadError::Damaged(why)) => Some(denied_damaged(name.as_str(), &why)),
            _ => None,
        }
    }

    /// All groups that the caller may know of.
    pub fn visible(&self, caller: &Caller) -> Vec<Arc<Listed>> {
        let mut all = self.all();
        all.retain(|listed| self.may_see(caller, listed));
        all
    }

    fn may_see(&self, caller: &Caller, listed: &Listed) -> bool {
        let role = listed.rules().role(caller.asker(self.shared.config.guests));
        Operation::Locate.verdict(role) == Verdict::Yes
    }

    /// Whether the caller may do this on the node.
    pub fn check(&self, caller: &Caller, operation: Operation) -> Result<(), Denied> {
        self.accounts.check_session(caller, crate::clock::wall_us())?;
        match operation.verdict(caller.asker(self.shared.config.guests).role()) {
            Verdict::Yes | Verdict::Own => Ok(()),
            Verdict::LogIn if self.shared.config.guests => {
                Err(Denied::new(Code::NotLoggedIn, "nobody is logged in here; log in first"))
            }
            Verdict::LogIn => Err(no_guests()),
            Verdict::No | Verdict::Hidden => Err(Denied::new(Code::Denied, "you may not do this")),
        }
    }

    /// The group of this name, where the caller may do this with it; running.
    pub async fn admit(
        &self,
        caller: &Caller,
        operation: Operation,
        name: &str,
    ) -> Result<Admitted, Denied> {
        // Who may not take part at all learns of no group.
        self.check(caller, Operation::List)?;
        let parsed =
            Name::new(name).map_err(|error| Denied::new(Code::BadName, error.to_string()))?;
        let listed = read(&self.groups).get(parsed.folded()).cloned();
        let Some(listed) = listed else {
            return Err(self.lost(&parsed).unwrap_or_else(|| self.unknown(caller, &parsed)));
        };
        let (role, only_own) = self.judge(caller, operation, &listed, &parsed)?;
        Ok(Admitted { listed: self.opened(listed).await?, role, only_own })
    }

    /// What the table says of the caller, and whether only for what is their own.
    fn judge(
        &self,
        caller: &Caller,
        operation: Operation,
        listed: &Listed,
        asked: &Name,
    ) -> Result<(Role, bool), Denied> {
        let rules = listed.rules();
        let role = rules.role(caller.asker(self.shared.config.guests));
        match operation.verdict(role) {
            Verdict::Yes => Ok((role, false)),
            Verdict::Own => Ok((role, true)),
            Verdict::LogIn => Err(no_guests()),
            Verdict::Hidden => Err(self.unknown(caller, asked)),
            Verdict::No => {
                let group = &listed.name;
                let who = match operation {
                    Operation::SetRules => "its owner and administrators may do this",
                    Operation::Delete if rules.owner.is_some() => {
                        "its owner and administrators may do this"
                    }
                    _ => "those who may join it may do this",
                };
                let hint = if caller.session.is_none() { "; log in if you are one" } else { "" };
                Err(Denied::new(Code::Denied, format!("{group}: only {who}{hint}")))
            }
        }
    }

    /// The same for joining: the group is made if there is none. One that is hidden cannot be, and answers as unknown.
    pub async fn admit_or_create(
        &self,
        caller: &Caller,
        operation: Operation,
        name: &str,
    ) -> Result<Admitted, Denied> {
        match self.admit(caller, operation, name).await {
            Err(denied) if denied.code == Code::UnknownGroup => {
                let made = self.create(caller, name, Rules::default()).await;
                match made {
                    Ok(_) => self.admit(caller, operation, name).await,
                    // Somebody else was faster, or it is hidden.
                    Err(_) if self.is_there(name) => self.admit(caller, operation, name).await,
                    Err(why) => Err(why),
                }
            }
            other => other,
        }
    }

    fn is_there(&self, name: &str) -> bool {
        Name::new(name).is_ok_and(|name| read(&self.groups).contains_key(name.folded()))
    }

    /// What a connection is in the group by right of. From here on, whatever takes the right away closes it.
    pub fn open_pass(
        &self,
        caller: &Caller,
        operation: Operation,
        listed: &Listed,
        name: Option<&Name>,
    ) -> Result<Pass, Denied> {
        let (role, _) = self.judge(caller, operation, listed, &listed.name)?;
        let opened = Opened {
            session: caller.session.clone(),
            operation,
            group: listed.key,
            name: name.cloned(),
        };
        let pass = self.accounts.passes.open(opened, role);
        // What changed before it was open is seen here, what changes afterwards ends it.
        self.judge(caller, operation, listed, &listed.name)?;
        self.accounts.check_session(caller, crate::clock::wall_us())?;
        if let Some(name) = name {
            self.check_name(caller, operation, listed, name)?;
        }
        Ok(pass)
    }

    /// Whether the caller may be called so in the group.
    pub fn check_name(
        &self,
        caller: &Caller,
        operation: Operation,
        listed: &Listed,
        name: &Name,
    ) -> Result<(), Denied> {
        let rules = listed.rules();
        let is_open = match operation {
            Operation::Send => {
                rules.send == tertulia_wire::native::Audience::Open || rules.is_open()
            }
            _ => rules.is_open(),
        };
        let only_own = !(self.shared.config.guests && is_open);
        self.accounts.check_name(caller, name, only_own)
    }

    fn unknown(&self, caller: &Caller, name: &Name) -> Denied {
        // Compared without the lock, which others need.
        let near: Vec<Arc<Listed>> =
            listing::around(&read(&self.groups), name.folded()).cloned().collect();
        let near = near.iter().filter(|listed| self.may_see(caller, listed));
        let known = near.map(|listed| listed.name.as_str());
        let hint = match tertulia_group::name::nearest(name.as_str(), known) {
            Some(near) => format!("there is no group {name}; did you mean {near}?"),
            None => format!("there is no group {name}"),
        };
        Denied::new(Code::UnknownGroup, hint)
    }

    /// Makes a group.
    pub async fn create(
        &self,
        caller: &Caller,
        name: &str,
        rules: Rules,
    ) -> Result<Arc<Listed>, Denied> {
        self.check(caller, Operation::Create)?;
        let name =
            Name::new(name).map_err(|error| Denied::new(Code::BadName, error.to_string()))?;
        check_pool(&name, &rules)?;
        let creating = self.creating.lock().await;
        if read(&self.groups).len() >= self.shared.config.limits.groups {
            return Err(Denied::new(Code::Limit, "this node has as many groups as it may"));
        }
        let look_alike = read(&self.skeletons).get(name.skeleton()).cloned();
        if let Some(other) = look_alike {
            let there = read(&self.groups).get(&other).cloned();
            let seen = there.is_none_or(|there| self.may_see(caller, &there));
            return Err(match other == name.folded() {
                _ if !seen => {
                    Denied::new(Code::BadName, format!("{name} cannot be had; take another"))
                }
                true => Denied::new(Code::GroupExists, format!("there is a group {name}")),
                false => Denied::new(
                    Code::BadName,
                    format!("{name} looks like the group {other}; take another name"),
                ),
            });
        }
        let log = LogId(rand::random());
        let value = write_record(&name, log, &rules);
        let (catalog, key) = (Arc::clone(&self.shared.catalog), key_of(&name));
        let stored =
            self.shared.main.spawn_blocking(move || catalog.put(&key, Expect::Absent, Some(value)));
        match stored.await {
            Ok(Ok(version)) => {
                let listed = self.list(&name, log, rules, version);
                tracing::info!(group = %name, "made");
                drop(creating);
                self.opened(listed).await
            }
            // Listed here is what the catalog holds, unless another node works on it.
            Ok(Err(AppendError::Conflict { .. })) => {
                Err(Denied::new(Code::GroupExists, format!("there is a group {name}")))
            }
            Ok(Err(AppendError::NoSpace(why))) => Err(Denied::new(Code::NoSpace, why)),
            Ok(Err(AppendError::Damaged(why))) => Err(denied_damaged(name.as_str(), &why)),
            Ok(Err(error)) => Err(Denied::new(Code::StoreFailed, error.to_string())),
            Err(_) => Err(ending()),
        }
    }

    /// Changes a group's rules, and closes what they do not allow any more.
    pub async fn set_rules(&self, listed: &Arc<Listed>, rules: Rules) -> Result<(), Denied> {
        check_pool(&listed.name, &rules)?;
        let version = read(&listed.rules).1;
        let value = write_record(&listed.name, listed.log, &rules);
        let key = key_of(&listed.name);
        let catalog = Arc::clone(&self.shared.catalog);
        let put = move || catalog.put(&key, Expect::Version(version), Some(value));
        match self.shared.main.spawn_blocking(put).await {
            Ok(Ok(version)) => {
                let rules = Arc::new(rules);
                *write(&listed.rules) = (Arc::clone(&rules), version);
                let guests = self.shared.config.guests;
                tracing::info!(group = %listed.name, "the rules are others");
                self.accounts.passes.rules_changed(listed.key, &rules, guests);
                Ok(())
            }
            Ok(Err(AppendError::Conflict { .. })) => {
                let message = "somebody else has just changed the rules; look, and try again";
                Err(Denied::new(Code::Busy, message))
            }
            Ok(Err(AppendError::NoSpace(why))) => Err(Denied::new(Code::NoSpace, why)),
            Ok(Err(error)) => Err(Denied::new(Code::StoreFailed, error.to_string())),
            Err(_) => Err(ending()),
        }
    }

    /// Deletes a group without members, its log included. A damaged one is given up with whatever it had.
    pub async fn delete(&self, caller: &Caller, name: &str) -> Result<(), Denied> {
        let listed = match self.admit(caller, Operation::Delete, name).await {
            Err(denied) if denied.code == Code::Damaged => {
                let name = Name::new(name)
                    .map_err(|error| Denied::new(Code::BadName, error.to_string()))?;
                let log = read(&self.groups).get(name.folded()).map(|listed| listed.log);
                // Whose it was is lost with its record.
                let is_unknown = log.is_none() && self.accounts.has_administrator();
                if is_unknown && !caller.is_administrator() {
                    let message = format!("{name} is damaged; an administrator may give it up");
                    return Err(Denied::new(Code::Denied, message));
                }
                return self.forget(&name, log).await;
            }
            admitted => admitted?.listed,
        };
        let mut open = listed.open.lock().await;
        let deleted = listed.shard.ask(|answer| Job::Delete { key: listed.key, answer }).await;
        if deleted != Some(true) {
            let message = format!("{} has members; remove them first", listed.name);
            return Err(Denied::new(Code::GroupInUse, message));
        }
        *open = false;
        self.forget(&listed.name, Some(listed.log)).await
    }

    /// Takes a group out of the catalog, and its log out of the journal where it is known.
    async fn forget(&self, name: &Name, log: Option<LogId>) -> Result<(), Denied> {
        let (shared, key) = (Arc::clone(&self.shared), key_of(name));
        let gone = self.shared.main.spawn_blocking(move || {
            shared.catalog.put(&key, Expect::Any, None)?;
            log.map_or(Ok(()), |log| shared.journal.delete(log))
        });
        gone.await
            .map_err(|_| ending())?
            .map_err(|error| Denied::new(Code::StoreFailed, error.to_string()))?;
        tracing::info!(group = %name, "deleted");
        write(&self.groups).remove(name.folded());
        write(&self.skeletons).remove(name.skeleton());
        Ok(())
    }

    /// Makes sure that the group runs: reads it back from the journal the first time.
    async fn opened(&self, listed: Arc<Listed>) -> Result<Arc<Listed>, Denied> {
        if let Some(denied) = listed.damaged.get() {
            return Err(denied.clone());
        }
        let mut open = listed.open.lock().await;
        if *open {
            drop(open);
            return Ok(listed);
        }
        // It may have been deleted while this waited: read back, it would be served without being in the catalog.
        let there = read(&self.groups).get(listed.name.folded()).cloned();
        if !there.is_some_and(|there| Arc::ptr_eq(&there, &listed)) {
            let message = format!("there is no group {} any more", listed.name);
            return Err(Denied::new(Code::UnknownGroup, message));
        }
        let (journal, log) = (Arc::clone(&self.shared.journal), listed.log);
        let mut limits = self.shared.config.group_limits.clone();
        limits.receipts_weight_max =
            limits.receipts_weight_max.min(self.shared.config.limits.receipts_weight_max());
        let read_back =
            self.shared.main.spawn_blocking(move || recover(journal.as_ref(), log, limits));
        let recovered = match read_back.await.map_err(|_| ending())? {
            Ok(recovered) => recovered,
            Err(unreadable) => {
                let denied = unreadable.denied(&listed.name);
                if denied.code == Code::Damaged {
                    self.shared.tell_damage(&format!("group {}", listed.name), &unreadable.why);
                    return Err(listed.damaged.get_or_init(|| denied).clone());
                }
                self.shared.notice(Notice::Trouble(denied.message.clone()));
                return Err(denied);
            }
        };
        if let Ok(number) = listed.name.folded().parse() {
            let mut allocator = self.shared.allocator();
            let members = recovered.group.members();
            members.for_each(|member| allocator.remember(member.name.folded(), number));
        }
        let (key, name) = (listed.key, listed.name.clone());
        let (stats, feed) = (Arc::clone(&listed.stats), Arc::clone(&listed.feed));
        let host =
            |answer| Job::Host { key, name, recovered: Box::new(recovered), stats, feed, answer };
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
    pub async fn allocate(&self, caller: &Caller, name: &str) -> Result<Arc<Listed>, Denied> {
        self.check(caller, Operation::Allocate)?;
        let name =
            Name::new(name).map_err(|error| Denied::new(Code::BadName, error.to_string()))?;
        let group = {
            let groups = read(&self.groups);
            // A damaged one takes nobody in.
            let load = |listed: &Arc<Listed>| match listed.damaged.get() {
                Some(_) => usize::MAX,
                None => listed.stats.members.load(Ordering::Relaxed) as usize,
            };
            // Which they are is found first: shards wait for the allocator when somebody joins.
            let pool: Vec<(u32, &Arc<Listed>)> = groups
                .values()
                .filter_map(|listed| Some((listed.name.folded().parse().ok()?, listed)))
                .collect();
            let lost = read(&self.lost);
            let lost = lost.iter().filter_map(|lost| {
                Some((lost.begin.strip_prefix(CATALOG_PREFIX)?.parse().ok()?, usize::MAX))
            });
            // From here on nobody stops being reserved and begins to be here.
            let mut allocator = self.shared.allocator();
            let pool = lost.chain(pool.into_iter().map(|(number, listed)| (number, load(listed))));
            let loads: BTreeMap<u32, usize> = pool.filter(|(number, _)| *number > 0).collect();
            let members_max = self.shared.config.limits.pool_members;
            allocator.allocate(crate::clock::mono_ms(), name.folded(), &loads, members_max)
        };
        let admitted = self.admit_or_create(caller, Operation::Join, &group.to_string()).await?;
        Ok(admitted.listed)
    }

    /// Where a group of this node is coordinated, for somebody who reached the node at `dialled`.
    pub fn coordinator(&self, dialled: SocketAddr) -> String {
        self.reached(read(&self.native).unwrap_or(dialled).port(), dialled)
    }

    /// Where the HTTP door is, for the same; empty where there is none.
    pub fn http(&self, dialled: SocketAddr) -> String {
        let http = *read(&self.http);
        http.map_or_else(String::new, |http| self.reached(http.port(), dialled))
    }

    fn reached(&self, port: u16, dialled: SocketAddr) -> String {
        match &self.shared.config.advertise {
            Some(host) if host.contains(':') && !host.starts_with('[') => {
                format!("[{host}]:{port}")
            }
            Some(host) => format!("{host}:{port}"),
            None => SocketAddr::new(dialled.ip().to_canonical(), port).to_string(),
        }
    }
}

/// Where a group stands in the catalog.
fn key_of(name: &Name) -> String {
    format!("{CATALOG_PREFIX}{}", name.folded())
}

/// What those are told who are not logged in where nobody else is taken.
pub(crate) fn no_guests() -> Denied {
    Denied::new(Code::Denied, "this node takes no guests; log in")
}

/// The groups 1, 2, 3… are the allocator's: it gives them to everybody.
fn check_pool(name: &Name, rules: &Rules) -> Result<(), Denied> {
    let is_pool = name.folded().parse::<u32>().is_ok_and(|number| number > 0);
    if is_pool && !rules.is_default() {
        let message = "the groups 1, 2, 3… are for everybody and nobody's; take another name";
        return Err(Denied::new(Code::BadName, message));
    }
    Ok(())
}

fn ending() -> Denied {
    Denied::new(Code::ShuttingDown, "the node is ending")
}
