//! Fetching what a group is told of: for `join --fetch` as a small peer of its own, which shares it with the other members, and for
//! a peer that follows a group.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tertulia_client::{Seq, Target};
use tertulia_files::content::ContentHash;
use tertulia_files::identity::Identity;
use tertulia_files::service::{self, PEER_PORT, PeerOptions, RunningPeer, Told, ToldFetched, Turn};
use tertulia_wire::file::FileBody;
use tertulia_wire::text::{elapsed_text, size_text};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use super::files::short;
use super::peer::KeptLogins;
use crate::cli::JoinArgs;
use crate::failure::Failure;
use crate::output::Output;
use crate::peers::{ONLY_HERE, PeerState};

/// Files that are looked for or fetched; with the programs of `--exec`, not more than a member may be at work on.
const UNDER_WAY_MAX: usize = 48;
/// Files that are not looked for yet, since so many others are; beyond that the group is read no further.
const WAITING_MAX: usize = 4_096;
/// Files that are fetched at once.
const AT_ONCE: usize = 4;
/// Where others wait to be looked for, what nobody has is given up after so long: whoever is there has said so by then. The
/// more wait, the sooner.
const PATIENCE_WHEN_FULL: Duration = Duration::from_secs(5);
/// How often it is looked whether something is to be given up.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What came of a file.
pub enum Got {
    /// It is there; the text says what it is called and from whom it came.
    Here(String),
    /// It will not be.
    Failed {
        /// For the receipt.
        code: &'static str,
        /// For people.
        text: String,
        /// The content, by as much of its hash as people are shown.
        hash: String,
    },
}

/// What is said of a file that will not be fetched: why, and what to do where something can be done. A receipt stays as it is
/// once a member has answered; `again` is how this member gets the file all the same.
pub fn failed_text(seq: Seq, code: &str, text: &str, hash: &str, again: &str) -> String {
    let later = match code {
        // It will be the same again.
        "too large" | "bad folder" => String::new(),
        "bad name" => format!("; under a name that you choose: tertulia files get {hash} -o PATH"),
        _ => format!("; the receipt stays as it is, the file can still be had: {again}"),
    };
    format!("#{seq} failed: {code} ({text}){later}")
}

/// The peer of a `join --fetch`, and what it fetches.
pub struct Fetcher {
    peer: RunningPeer,
    /// Its lock ends with it.
    _state: PeerState,
    /// What is under way.
    pub fetches: Fetches,
}

/// What is fetched into the folder of a running peer; given up when it is dropped.
pub struct Fetches {
    fetcher: service::Fetcher,
    running: JoinSet<(Seq, Got)>,
    under_way: BTreeMap<Seq, Arc<Turn>>,
    /// What comes when something of that has ended.
    waiting: VecDeque<(Seq, FileBody)>,
    turns: Arc<Semaphore>,
}

impl Fetcher {
    /// Starts the peer of this folder, which is made where it is not there.
    pub async fn start(
        folder: &Path,
        args: &JoinArgs,
        target: &Target,
        out: &Output,
    ) -> Result<Self, Failure> {
        let doing = format!("cannot fetch into {}", folder.display());
        std::fs::create_dir_all(folder).map_err(|error| Failure::io(&doing, &error))?;
        let state = PeerState::take(folder)?;
        let identity = Identity::load_or_make(&state.identity())
            .map_err(|error| Failure::io(&doing, &error))?;
        let options = PeerOptions {
            folder: folder.to_owned(),
            cache: state.hashes(),
            // Whoever fetches for a group has said nothing of what else lies there.
            given: Some(state.given()),
            identity: Arc::new(identity),
            listen: args.listen.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            port: PEER_PORT,
            advertise: args.advertise.clone(),
            tokens: Box::new(KeptLogins { address: target.address().to_owned() }),
            node: target.clone(),
        };
        let peer = RunningPeer::start(options, |_| {})
            .await
            .map_err(|error| cannot_start(&error, &doing))?;
        let fetcher = peer.fetcher();
        let is_logged_in = fetcher.is_logged_in().await.map_err(|error| {
            let may_pass = error.is_passing();
            Failure::failed(error.code, error.message).passing(may_pass)
        });
        if !is_logged_in? {
            let text =
                "files are for who is logged in at the node; log in first: tertulia login NAME";
            return Err(Failure::failed("NOT_LOGGED_IN", text));
        }
        if args.advertise.is_none() && is_cut_off(peer.address().ip(), target.address()) {
            out.note(&format!("the peer that fetches is at {}: {ONLY_HERE}", peer.address()));
        }
        Ok(Self { peer, _state: state, fetches: Fetches::new(fetcher) })
    }

    /// What is under way is given up, and goes on when the member comes back.
    pub async fn end(self) {
        self.fetches.end().await;
        self.peer.stop().await;
    }
}

impl Fetches {
    /// None yet.
    pub fn new(fetcher: service::Fetcher) -> Self {
        Self {
            fetcher,
            running: JoinSet::new(),
            under_way: BTreeMap::new(),
            waiting: VecDeque::new(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Whether one more may be started.
    pub fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX
    }

    /// Starts one, unless it is under way already: an open one is delivered again when the member comes back.
    pub fn start_one(&mut self, seq: Seq, file: FileBody) {
        let is_waiting = || self.waiting.iter().any(|(other, _)| *other == seq);
        if self.under_way.contains_key(&seq) || is_waiting() {
            return;
        }
        self.waiting.push_back((seq, file));
        self.start_waiting();
    }

    fn start_waiting(&mut self) {
        while self.under_way.len() < UNDER_WAY_MAX
            && let Some((seq, file)) = self.waiting.pop_front()
        {
            let (fetcher, turn) = (self.fetcher.clone(), Turn::new(&self.turns));
            self.under_way.insert(seq, Arc::clone(&turn));
            let FileBody { name, size, hash } = file;
            let told = Told { name, size, hash: ContentHash(hash) };
            let shown = short(&told.hash.to_string()).to_owned();
            self.running.spawn(async move {
                let started = Instant::now();
                let got = match fetcher.fetch(&told, &turn).await {
                    Ok(fetched) => Got::Here(text_of(&told, &fetched, started)),
                    Err(why) => Got::Failed { code: why.code, text: why.message, hash: shown },
                };
                (seq, got)
            });
        }
    }

    /// Gives up what nobody has had for the longest, for as many as wait. So what somebody makes up holds up neither files nor
    /// what is said.
    fn make_room(&self) {
        let crowd = u32::try_from(self.waiting.len() / UNDER_WAY_MAX).unwrap_or(u32::MAX);
        let patience = PATIENCE_WHEN_FULL / crowd.saturating_add(1);
        // Those that are ending make room already.
        let (ending, others): (Vec<_>, Vec<_>) =
            self.under_way.values().partition(|turn| turn.is_ending());
        let mut nowhere: Vec<(Instant, &Arc<Turn>)> = others
            .into_iter()
            .filter_map(|turn| Some((turn.nobody_since()?, turn)))
            .filter(|(since, _)| since.elapsed() >= patience)
            .collect();
        nowhere.sort_by_key(|(since, _)| *since);
        let needed = self.waiting.len().saturating_sub(ending.len());
        nowhere.into_iter().take(needed).for_each(|(_, turn)| turn.give_up());
    }

    /// The next one that has ended; `None` while none runs. May be dropped before it is done.
    pub async fn next(&mut self) -> Option<(Seq, Got)> {
        let mut look = interval(LOOK_AGAIN);
        loop {
            let ended = tokio::select! {
                ended = self.running.join_next() => ended?,
                _ = look.tick(), if !self.waiting.is_empty() => {
                    self.make_room();
                    continue;
                }
            };
            match ended {
                Ok((seq, got)) => {
                    self.under_way.remove(&seq);
                    self.start_waiting();
                    return Some((seq, got));
                }
                Err(error) => tracing::error!("a file's task: {error}"),
            }
        }
    }

    /// What is under way is given up.
    pub async fn end(mut self) {
        self.running.shutdown().await;
    }
}

/// Whether a peer that listens here is one that members on other machines do not reach, where the node at this `host:port` is
/// for them, too.
fn is_cut_off(listens: IpAddr, node: &str) -> bool {
    let host = node.rsplit_once(':').map_or(node, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_here = host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    listens.is_loopback() && !is_here
}

fn cannot_start(error: &std::io::Error, doing: &str) -> Failure {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            let text = format!("port {PEER_PORT} and all those after it are taken: end some peers");
            Failure::failed("PORT_TAKEN", text)
        }
        std::io::ErrorKind::AddrNotAvailable => {
            let text = "the address of --listen is on none of this machine's interfaces; use --listen 0.0.0.0 --advertise HOST";
            Failure::failed("CANNOT_LISTEN", text)
        }
        _ => Failure::io(doing, error),
    }
}

fn text_of(told: &Told, fetched: &ToldFetched, started: Instant) -> String {
    let ToldFetched { name, kept, from, liars, is_folder } = fetched;
    let sum = |user: &str| {
        from.iter().filter(|(of, _)| of.user == user).map(|(_, bytes)| bytes).sum::<u64>()
    };
    let users: BTreeSet<&str> = from.iter().map(|(holder, _)| &*holder.user).collect();
    let given = users.iter().map(|user| format!("{} from {user}", size_text(sum(user))));
    let mut parts: Vec<String> = given.collect();
    if *kept > 0 {
        parts.push(format!("{} were here", size_text(*kept)));
    }
    parts.extend(
        liars.iter().map(|liar| format!("{} at {} sent wrong data", liar.user, liar.address)),
    );
    let elapsed = elapsed_text(started.elapsed());
    let (name, slash) = (name.as_str(), if *is_folder { "/" } else { "" });
    format!("got {name}{slash}  {}: {} in {elapsed}", size_text(told.size), parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_on_loopback_is_cut_off_from_who_meets_at_a_node_elsewhere() {
        let (here, all) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0]));
        for node in ["127.0.0.1:7411", "localhost:7411", "LocalHost", "[::1]:7411", "127.9.0.1:1"] {
            assert!(!is_cut_off(here, node), "{node}");
        }
        for node in ["10.0.0.7:7411", "node.example:7411", "[fd00::1]:7411", "node"] {
            assert!(is_cut_off(here, node) && !is_cut_off(all, node), "{node}");
        }
    }
}
