//! Which peers are there and what they have: leases that end unless they are renewed, and the index of their files.
//!
//! Announcements are leased and kept in memory only: what a peer has is true as long as the peer says so, and it says
//! everything again when the node has forgotten. Where an account's peer was last is kept beside (`addresses`), so that it
//! is listed while it is away. Time comes in as an argument.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use tertulia_group::{Name, Now};

use super::index::{File, FileKey, Index};
use crate::accounts::tokens::Session;
use crate::config::PeerLimits;

/// A peer's certificate, by its SHA-256.
pub(crate) type Fingerprint = [u8; 32];

/// Where a peer is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerAddress {
    pub host: String,
    pub port: u16,
}

impl PeerAddress {
    /// As `host:port`, for somebody who reached the node at `dialled`: a peer on the node's own machine is where the node is.
    pub fn shown(&self, dialled: IpAddr) -> String {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        match bare.parse::<IpAddr>() {
            Ok(host)
                if host.to_canonical().is_loopback() && !dialled.to_canonical().is_loopback() =>
            {
                std::net::SocketAddr::new(dialled.to_canonical(), self.port).to_string()
            }
            Ok(host) => std::net::SocketAddr::new(host.to_canonical(), self.port).to_string(),
            Err(_) => format!("{}:{}", self.host, self.port),
        }
    }
}

/// A peer that is there.
#[derive(Debug)]
struct Lease {
    session: Arc<Session>,
    fingerprint: Fingerprint,
    address: PeerAddress,
    until_ms: u64,
    revision: u64,
    files: HashSet<FileKey>,
    /// What their names take.
    name_bytes: usize,
    /// What it is fetching, and has some of.
    unfinished: Vec<File>,
}

/// What has changed of a peer's files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// The revision that it follows.
    pub revision: u64,
    pub add: Vec<File>,
    pub remove: Vec<File>,
}

/// Why something is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The account has as many peers as it may.
    Peers,
    /// This peer is not there: it has to say where it is first.
    NotHere,
    /// The change does not follow what the node knows: everything has to be said anew.
    Revision,
    /// The peer announces more files than it may.
    Files,
    /// The names of the account's files take more bytes than they may.
    Names,
    /// The node knows as many files as it may, or their names take as many bytes.
    Full,
}

/// A peer, as somebody is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerSeen {
    pub user: String,
    pub address: PeerAddress,
    pub online: bool,
}

/// A peer that has a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub user: String,
    pub address: PeerAddress,
    pub fingerprint: Fingerprint,
    pub file: File,
    /// It is fetching it, and has some of it.
    pub unfinished: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    leases: HashMap<u32, Lease>,
    /// By account (folded) and certificate.
    by_peer: BTreeMap<(String, Fingerprint), u32>,
    index: Index,
    /// Numbers of leases by the contents that they are fetching.
    unfinished: HashMap<[u8; 32], Vec<u32>>,
    next: u32,
    /// Where each account's peer was last, by folded name.
    pub addresses: BTreeMap<String, (Name, PeerAddress)>,
}

impl Registry {
    /// A peer is there, for another while; its revision. One whose while is over begins anew, whether that was noticed yet or not.
    pub fn here(
        &mut self,
        session: &Arc<Session>,
        fingerprint: Fingerprint,
        address: PeerAddress,
        now_ms: u64,
        limits: &PeerLimits,
    ) -> Result<u64, Refused> {
        let until_ms = until_ms(now_ms, limits);
        let account = session.account.folded();
        let key = (account.to_owned(), fingerprint);
        if let Some(&number) = self.by_peer.get(&key) {
            match self.leases.get_mut(&number).filter(|lease| lease.until_ms > now_ms) {
                Some(lease) => {
                    lease.session = Arc::clone(session);
                    (lease.address, lease.until_ms) = (address, until_ms);
                    return Ok(lease.revision);
                }
                None => self.end(number),
            }
        }
        if self.of_account(account).count() >= limits.peers_per_account {
            return Err(Refused::Peers);
        }
        // The number comes round only after 2^32 peers; one that is still in use is passed over.
        while self.leases.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let (session, files) = (Arc::clone(session), HashSet::new());
        let unfinished = Vec::new();
        let (revision, name_bytes) = (0, 0);
        let lease = Lease {
            session,
            fingerprint,
            address,
            until_ms,
            revision,
            files,
            name_bytes,
            unfinished,
        };
        self.leases.insert(number, lease);
        self.by_peer.insert(key, number);
        Ok(0)
    }

    /// The numbers of the leases that an account (folded) has.
    fn of_account(&self, account: &str) -> impl Iterator<Item = u32> {
        let all = (account.to_owned(), [0; 32])..=(account.to_owned(), [0xff; 32]);
        self.by_peer.range(all).map(|(_, number)| *number)
    }

    /// A peer's files have changed; its new revision, and how many it has. A change that follows revision 0 begins anew. Who
    /// says so is there for another while.
    pub fn change(
        &mut self,
        account: &Name,
        fingerprint: Fingerprint,
        change: Change,
        now: Now,
        limits: &PeerLimits,
    ) -> Result<(u64, usize), Refused> {
        let number = *self
            .by_peer
            .get(&(account.folded().to_owned(), fingerprint))
            .ok_or(Refused::NotHere)?;
        let others = self.of_account(account.folded()).filter(|other| *other != number);
        let others = others.filter_map(|other| self.leases.get(&other));
        let others: usize = others.map(|lease| lease.name_bytes).sum();
        let lease =
            self.leases.get_mut(&number).filter(|one| one.is_alive(now.mono_ms, now.wall_us));
        let lease = lease.ok_or(Refused::NotHere)?;
        lease.until_ms = until_ms(now.mono_ms, limits);
        let Change { revision, add, remove } = change;
        if revision == 0 {
            lease.begin_anew(number, &mut self.index);
        }
        if revision != lease.revision {
            return Err(Refused::Revision);
        }
        for key in remove.iter().map(File::key) {
            if lease.files.remove(&key) {
                lease.name_bytes -= self.index.remove(key, number);
            }
        }
        for file in add {
            let key = file.key();
            if lease.files.contains(&key) {
                continue;
            }
            let refused = if lease.files.len() >= limits.files_per_peer {
                Some(Refused::Files)
            } else if let Some(name_bytes) = self.index.add(file, number, limits) {
                lease.files.insert(key);
                lease.name_bytes += name_bytes;
                let is_too_much = others + lease.name_bytes > limits.name_bytes_per_account;
                is_too_much.then_some(Refused::Names)
            } else {
                Some(Refused::Full)
            };
            if let Some(refused) = refused {
                // Half a change is none: the peer begins anew, with less.
                lease.begin_anew(number, &mut self.index);
                return Err(refused);
            }
        }
        lease.revision += 1;
        Ok((lease.revision, lease.files.len()))
    }

    /// What a peer that is there is fetching, and gives to others as far as it has it.
    pub fn fetches(&mut self, account: &Name, fingerprint: Fingerprint, files: Vec<File>) {
        let peer = (account.folded().to_owned(), fingerprint);
        let Some(number) = self.by_peer.get(&peer).copied() else { return };
        let Some(lease) = self.leases.get_mut(&number) else { return };
        let before = std::mem::replace(&mut lease.unfinished, files.clone());
        self.fetch_no_more(number, &before);
        for file in files {
            let fetching = self.unfinished.entry(file.hash).or_default();
            if !fetching.contains(&number) {
                fetching.push(number);
            }
        }
    }

    fn fetch_no_more(&mut self, number: u32, files: &[File]) {
        for file in files {
            let Some(fetching) = self.unfinished.get_mut(&file.hash) else { continue };
            fetching.retain(|other| *other != number);
            if fetching.is_empty() {
                self.unfinished.remove(&file.hash);
            }
        }
    }

    /// A peer goes.
    pub fn gone(&mut self, account: &Name, fingerprint: Fingerprint) {
        if let Some(number) = self.by_peer.get(&(account.folded().to_owned(), fingerprint)) {
            self.end(*number);
        }
    }

    fn end(&mut self, number: u32) {
        let Some(lease) = self.leases.remove(&number) else { return };
        self.by_peer.remove(&(lease.session.account.folded().to_owned(), lease.fingerprint));
        for key in lease.files {
            self.index.remove(key, number);
        }
        self.fetch_no_more(number, &lease.unfinished);
    }

    /// Lets go of the peers that have not been heard of in time, or whose token has ended.
    pub fn expire(&mut self, now_ms: u64, now_us: u64) {
        let over: Vec<u32> = self
            .leases
            .iter()
            .filter(|(_, lease)| !lease.is_alive(now_ms, now_us))
            .map(|(number, _)| *number)
            .collect();
        over.into_iter().for_each(|number| self.end(number));
    }

    /// Every account's peers, by name: those that are there, and where the others were last.
    pub fn peers(&self, now_ms: u64, now_us: u64) -> Vec<PeerSeen> {
        let is_alive =
            |number: &u32| self.leases.get(number).filter(|lease| lease.is_alive(now_ms, now_us));
        let mut seen: BTreeMap<&str, Vec<PeerSeen>> = BTreeMap::new();
        for ((account, _), number) in &self.by_peer {
            let Some(lease) = is_alive(number) else { continue };
            let user = lease.session.account.to_string();
            let peer = PeerSeen { user, address: lease.address.clone(), online: true };
            seen.entry(account).or_default().push(peer);
        }
        for (account, (name, address)) in &self.addresses {
            seen.entry(account).or_insert_with(|| {
                vec![PeerSeen { user: name.to_string(), address: address.clone(), online: false }]
            });
        }
        seen.into_values().flatten().collect()
    }

    /// The best `count` files for a question, each with the accounts whose peers have it and are there.
    pub fn search(
        &self,
        question: &str,
        count: usize,
        now_ms: u64,
        now_us: u64,
    ) -> Vec<(File, Vec<String>)> {
        let found = self.index.search(question, count);
        let with_holders = found.into_iter().map(|found| {
            let leases = found.holders.iter().filter_map(|number| self.leases.get(number));
            let alive = leases.filter(|lease| lease.is_alive(now_ms, now_us));
            let mut users: Vec<_> = alive.map(|lease| lease.session.account.to_string()).collect();
            users.sort();
            users.dedup();
            (found.file.clone(), users)
        });
        with_holders.filter(|(_, users)| !users.is_empty()).collect()
    }

    /// The peers that have a content and are there, each once, at most `count`: those that have all of it, then those that are
    /// fetching it. Where there are more of these, others at another time, so that all are asked.
    pub fn holders(&self, hash: &[u8; 32], count: usize, now_ms: u64, now_us: u64) -> Vec<Holder> {
        let mut seen = HashSet::new();
        let whole = self.index.with_hash(hash);
        let whole = whole.flat_map(|found| found.holders.iter().map(move |n| (*n, found.file)));
        let fetching = self.unfinished.get(hash).map_or(&[][..], Vec::as_slice);
        let begin = usize::try_from(now_ms).unwrap_or(0) % fetching.len().max(1);
        let begin = if fetching.len() > count { begin } else { 0 };
        let (later, first) = fetching.split_at(begin);
        let some = first.iter().chain(later).filter_map(|number| {
            let files = &self.leases.get(number)?.unfinished;
            Some((*number, files.iter().find(|file| file.hash == *hash)?))
        });
        let all = whole.map(|it| (it, false)).chain(some.map(|it| (it, true)));
        let holders = all.filter_map(|((number, file), unfinished)| {
            let lease = self.leases.get(&number)?;
            let is_new = lease.is_alive(now_ms, now_us) && seen.insert(number);
            is_new.then(|| Holder {
                user: lease.session.account.to_string(),
                address: lease.address.clone(),
                fingerprint: lease.fingerprint,
                file: file.clone(),
                unfinished,
            })
        });
        holders.take(count).collect()
    }

    /// Whether somebody announces this content, or some of it.
    pub fn has(&self, hash: &[u8; 32]) -> bool {
        self.unfinished.contains_key(hash) || self.index.with_hash(hash).next().is_some()
    }
}

fn until_ms(now_ms: u64, limits: &PeerLimits) -> u64 {
    now_ms.saturating_add(u64::try_from(limits.lease.as_millis()).unwrap_or(u64::MAX))
}

impl Lease {
    /// Nothing is known of its files.
    fn begin_anew(&mut self, number: u32, index: &mut Index) {
        for key in self.files.drain() {
            index.remove(key, number);
        }
        (self.name_bytes, self.revision) = (0, 0);
    }

    fn is_alive(&self, now_ms: u64, now_us: u64) -> bool {
        now_ms < self.until_ms && self.session.is_valid(now_us)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::accounts::tokens::Token;

    fn limits() -> PeerLimits {
        let lease = Duration::from_secs(10);
        PeerLimits {
            lease,
            peers_per_account: 2,
            files_per_peer: 3,
            files: 5,
            ..PeerLimits::default()
        }
    }

    fn session(name: &str) -> Arc<Session> {
        let name = Name::new(name).unwrap();
        Arc::new(Session::new(Token::random().digest(), name, false, u64::MAX))
    }

    fn at(port: u16) -> PeerAddress {
        PeerAddress { host: "10.0.0.7".into(), port }
    }

    fn file(name: &str) -> File {
        let hash = *blake3::hash(name.as_bytes()).as_bytes();
        File { name: name.into(), size: 1, hash, folder: None }
    }

    /// A peer says that it has these, and those no more.
    fn say(
        registry: &mut Registry,
        (account, print): (&Session, u8),
        revision: u64,
        (add, remove): (&[&str], &[&str]),
        mono_ms: u64,
    ) -> Result<(u64, usize), Refused> {
        let files = |names: &[&str]| names.iter().map(|name| file(name)).collect();
        let change = Change { revision, add: files(add), remove: files(remove) };
        registry.change(
            &account.account,
            [print; 32],
            change,
            Now { mono_ms, wall_us: 0 },
            &limits(),
        )
    }

    /// The names that a search finds, each with its holders.
    fn search(registry: &Registry, question: &str, now_ms: u64) -> Vec<(String, String)> {
        let found = registry.search(question, 10, now_ms, 0);
        found.into_iter().map(|(file, users)| (file.name, users.join(" "))).collect()
    }

    fn found(name: &str, users: &str) -> (String, String) {
        (name.to_owned(), users.to_owned())
    }

    #[test]
    fn a_peer_is_there_as_long_as_it_says_so_and_its_token_lasts() {
        let (mut registry, limits, ana, luis) =
            (Registry::default(), limits(), session("ana"), session("luis"));
        assert_eq!(registry.here(&ana, [1; 32], at(1), 0, &limits), Ok(0));
        assert_eq!(registry.here(&luis, [2; 32], at(2), 0, &limits), Ok(0));
        for peer in [(&*ana, 1), (&*luis, 2)] {
            assert_eq!(say(&mut registry, peer, 0, (&["a.txt"], &[]), 0), Ok((1, 1)));
        }
        assert_eq!(search(&registry, "a.t", 9_999), [found("a.txt", "ana luis")]);
        assert_eq!(registry.holders(&file("a.txt").hash, 9, 0, 0).len(), 2);
        assert_eq!(
            registry.here(&ana, [1; 32], at(3), 5_000, &limits),
            Ok(1),
            "its files are known"
        );
        assert_eq!(search(&registry, "a.t", 10_000), [found("a.txt", "ana")]);
        assert_eq!(registry.holders(&file("a.txt").hash, 9, 10_000, 0)[0].address, at(3));
        // Who says what has changed is there; who has gone is not there by saying so.
        assert_eq!(say(&mut registry, (&ana, 1), 1, (&[], &[]), 14_999), Ok((2, 1)));
        assert_eq!(say(&mut registry, (&luis, 2), 1, (&[], &[]), 14_999), Err(Refused::NotHere));
        assert_eq!(search(&registry, "a.t", 24_998), [found("a.txt", "ana")]);
        // Who comes back too late begins anew, even where nobody has cleared up meanwhile.
        assert_eq!(registry.here(&luis, [2; 32], at(2), 14_999, &limits), Ok(0));
        assert_eq!(search(&registry, "a.t", 14_999), [found("a.txt", "ana")]);
        // Logging out is enough; nobody has to clear up first.
        ana.end();
        assert_eq!(search(&registry, "a.t", 10_000), []);
        registry.expire(24_999, 0);
        assert!(
            registry.leases.is_empty()
                && registry.index.len() == 0
                && !registry.has(&file("a.txt").hash)
        );
    }

    #[test]
    fn who_is_fetching_is_a_holder_of_some_and_in_no_search() {
        let (mut registry, limits) = (Registry::default(), limits());
        let (ana, luis) = (session("ana"), session("luis"));
        registry.here(&ana, [1; 32], at(1), 0, &limits).unwrap();
        registry.here(&luis, [2; 32], at(2), 0, &limits).unwrap();
        let hash = file("a.txt").hash;
        registry.fetches(&luis.account, [2; 32], vec![file("a.txt"), file("b.txt")]);
        assert!(registry.has(&hash) && search(&registry, "", 0).is_empty());
        say(&mut registry, (&ana, 1), 0, (&["a.txt"], &[]), 0).unwrap();
        let seen = |registry: &Registry, count, now_ms| -> Vec<_> {
            let holders = registry.holders(&hash, count, now_ms, 0).into_iter();
            holders.map(|holder| (holder.user, holder.unfinished)).collect()
        };
        let (whole, some) = (("ana".to_owned(), false), ("luis".to_owned(), true));
        assert_eq!(seen(&registry, 9, 0), [whole.clone(), some.clone()]);
        assert_eq!(
            seen(&registry, 1, 0),
            std::slice::from_ref(&whole),
            "who has all of it comes first"
        );
        // What it says is all of it, each time; who has all of it is no holder of some.
        registry.fetches(&luis.account, [2; 32], vec![file("a.txt")]);
        assert!(!registry.has(&file("b.txt").hash));
        say(&mut registry, (&luis, 2), 0, (&["a.txt"], &[]), 0).unwrap();
        assert_eq!(seen(&registry, 9, 0), [whole.clone(), ("luis".to_owned(), false)]);
        say(&mut registry, (&luis, 2), 1, (&[], &["a.txt"]), 0).unwrap();
        assert_eq!(seen(&registry, 9, 0), [whole, some]);
        assert_eq!(seen(&registry, 9, 10_000), [], "nobody is there any more");
        registry.expire(10_000, 0);
        assert!(registry.unfinished.is_empty());
    }

    #[test]
    fn who_is_away_is_listed_where_it_was_last() {
        let (mut registry, limits, ana) = (Registry::default(), limits(), session("ana"));
        let eva = Name::new("eva").unwrap();
        registry.addresses.insert("eva".into(), (eva, at(9)));
        registry.addresses.insert("ana".into(), (ana.account.clone(), at(1)));
        registry.here(&ana, [1; 32], at(2), 0, &limits).unwrap();
        let seen = |now_ms| -> Vec<_> {
            let peers = registry.peers(now_ms, 0);
            peers.into_iter().map(|peer| (peer.user, peer.address.port, peer.online)).collect()
        };
        assert_eq!(seen(0), [("ana".into(), 2, true), ("eva".into(), 9, false)]);
        assert_eq!(seen(10_000), [("ana".into(), 1, false), ("eva".into(), 9, false)]);
    }

    #[test]
    fn a_change_follows_what_is_known_or_begins_anew() {
        let (mut registry, limits, ana) = (Registry::default(), limits(), session("ana"));
        let change = |registry: &mut Registry, revision, add: &[&str], remove: &[&str]| {
            say(registry, (&ana, 1), revision, (add, remove), 0)
        };
        assert_eq!(change(&mut registry, 0, &["a"], &[]), Err(Refused::NotHere));
        registry.here(&ana, [1; 32], at(1), 0, &limits).unwrap();
        assert_eq!(change(&mut registry, 0, &["a", "b"], &[]), Ok((1, 2)));
        assert_eq!(change(&mut registry, 2, &["c"], &[]), Err(Refused::Revision));
        assert_eq!(change(&mut registry, 1, &["c"], &["a", "z"]), Ok((2, 2)));
        assert_eq!(search(&registry, "", 0).len(), 2);
        assert_eq!(change(&mut registry, 0, &["d"], &[]), Ok((1, 1)));
        assert_eq!(search(&registry, "", 0), [found("d", "ana")]);
        assert_eq!(change(&mut registry, 1, &["e", "f", "g"], &[]), Err(Refused::Files));
        assert_eq!((search(&registry, "", 0), registry.index.len()), (vec![], 0));
        registry.gone(&ana.account, [1; 32]);
        assert_eq!(change(&mut registry, 0, &[], &[]), Err(Refused::NotHere));
    }

    #[test]
    fn an_account_has_so_many_peers_and_the_node_so_many_files() {
        let (mut registry, limits, ana, luis) =
            (Registry::default(), limits(), session("ana"), session("luis"));
        for print in 1..=2 {
            assert_eq!(registry.here(&ana, [print; 32], at(1), 0, &limits), Ok(0));
        }
        assert_eq!(registry.here(&ana, [3; 32], at(1), 0, &limits), Err(Refused::Peers));
        assert_eq!(registry.here(&luis, [3; 32], at(1), 0, &limits), Ok(0));
        assert!(say(&mut registry, (&ana, 1), 0, (&["a", "b", "c"], &[]), 0).is_ok());
        let many = say(&mut registry, (&luis, 3), 0, (&["d", "e", "f"], &[]), 0);
        assert_eq!(many, Err(Refused::Full));
        // What others have already costs next to nothing.
        let same = say(&mut registry, (&luis, 3), 0, (&["a", "b", "d"], &[]), 0);
        assert_eq!(same, Ok((1, 3)));
    }

    #[test]
    fn the_names_of_an_account_take_so_much_and_others_still_have_room() {
        let limits = PeerLimits {
            name_bytes: 20_000,
            name_bytes_per_account: 10_000,
            ..PeerLimits::default()
        };
        let (mut registry, ana, luis) = (Registry::default(), session("ana"), session("luis"));
        for (session, print) in [(&ana, 1), (&ana, 2), (&luis, 3)] {
            registry.here(session, [print; 32], at(1), 0, &limits).unwrap();
        }
        let mut say = |peer: (&Session, u8), revision, names: std::ops::Range<u32>| {
            let name = |n| format!("{n}{}", "x".repeat(990));
            let change =
                Change { revision, add: names.map(|n| file(&name(n))).collect(), remove: vec![] };
            let now = Now { mono_ms: 0, wall_us: 0 };
            let said = registry.change(&peer.0.account, [peer.1; 32], change, now, &limits);
            said.map(|(_, files)| files)
        };
        assert_eq!(say((&ana, 1), 0, 0..3), Ok(3));
        assert_eq!(say((&ana, 2), 0, 10..12), Ok(2));
        assert_eq!(say((&ana, 2), 1, 12..13), Err(Refused::Names), "of all its peers");
        assert_eq!(say((&ana, 2), 0, 0..2), Ok(2), "half a change was none");
        // What others have costs the account what it costs.
        assert_eq!(say((&luis, 3), 0, 0..6), Err(Refused::Names));
        assert_eq!(say((&luis, 3), 0, 20..25), Ok(5));
        // What it has no more makes room.
        assert_eq!(say((&ana, 1), 0, 30..31), Ok(1));
        assert_eq!(say((&ana, 2), 0, 40..43), Ok(3));
    }

    /// A million files with the longest names, by eight accounts with eight peers each that begin again whenever they are refused.
    #[test]
    fn a_million_announcements_take_no_more_than_they_may() {
        let limits = PeerLimits { name_bytes: 32 << 20, ..PeerLimits::default() };
        let (mut registry, now) = (Registry::default(), Now { mono_ms: 0, wall_us: 0 });
        let mut revisions = [0; 64];
        let names = ["eva", "bob", "tom", "sol", "mar", "luz", "paz", "rey"];
        let evil: Vec<_> = names.iter().map(|name| session(name)).collect();
        for (peer, _) in revisions.iter().enumerate() {
            let print = u8::try_from(peer).unwrap();
            registry.here(&evil[peer / 8], [print; 32], at(1), 0, &limits).unwrap();
        }
        let long = "x".repeat(1_000);
        let mut refused = 0;
        for batch in 0..2_000_u32 {
            let peer = batch as usize % 64;
            let file = |n| {
                let mut hash = [0; 32];
                hash[..4].copy_from_slice(&u32::to_le_bytes(n));
                File { name: format!("{n:010}{long}"), size: 1, hash, folder: None }
            };
            let add = (batch * 500..(batch + 1) * 500).map(file).collect();
            let change = Change { revision: revisions[peer], add, remove: vec![] };
            let print = [u8::try_from(peer).unwrap(); 32];
            let said = registry.change(&evil[peer / 8].account, print, change, now, &limits);
            refused += usize::from(said.is_err());
            revisions[peer] = said.map_or(0, |(revision, _)| revision);
            let (names, folded) = registry.index.bytes();
            assert!(names <= limits.name_bytes, "{names}");
            assert!(folded <= limits.name_bytes + (64 << 10), "{folded}");
        }
        assert!(refused > 100, "{refused}");
    }

    #[test]
    fn a_peer_beside_the_node_is_shown_where_the_node_was_reached() {
        let local = PeerAddress { host: "127.0.0.1".into(), port: 7 };
        let (lan, loopback) = ("10.0.0.1".parse().unwrap(), "127.0.0.1".parse().unwrap());
        assert_eq!(local.shown(lan), "10.0.0.1:7");
        assert_eq!(local.shown(loopback), "127.0.0.1:7");
        assert_eq!(at(7).shown(lan), "10.0.0.7:7");
        let six = PeerAddress { host: "2001:db8::1".into(), port: 7 };
        assert_eq!(six.shown(lan), "[2001:db8::1]:7");
        let name = PeerAddress { host: "casa.lan".into(), port: 7 };
        assert_eq!(name.shown(lan), "casa.lan:7");
    }
}
