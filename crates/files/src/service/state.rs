//! What every part of a running peer has.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::body::Buffers;
use super::guard::SharedVerifier;
use super::permits::Permits;
use super::sparing::Sparing;
use crate::identity::Identity;
use crate::library::Library;
use crate::node::{Node, NodeError};
use crate::unfinished::Unfinished;

/// Where the token of who is logged in is kept: the one that the user's other commands have, too.
pub trait Tokens: Send + Sync {
    /// The token, where somebody is logged in.
    ///
    /// # Errors
    /// Where what is kept cannot be read; the text says what to do.
    fn find(&self) -> Result<Option<KeptToken>, String>;

    /// Keeps a token for the node with this store (in hexadecimal); `expires` is in RFC 3339.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn keep(&self, instance: &str, name: &str, token: &str, expires: &str) -> Result<(), String>;

    /// Forgets it.
    ///
    /// # Errors
    /// Where it cannot be deleted.
    fn forget(&self) -> Result<(), String>;
}

/// A token that is kept.
pub struct KeptToken {
    /// For `Authorization: Bearer`.
    pub token: String,
    /// The store (in hexadecimal) of the node that it is for; no other one is shown it. `None`: whatever node is asked.
    pub instance: Option<String>,
}

/// How the node sees the peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The account that it is of; none where nobody is logged in.
    pub user: Option<String>,
    /// Where others find it; none as long as it is not announced.
    pub address: Option<String>,
    /// Files that the node knows of it.
    pub announced: usize,
    /// What is in the way, safe to show.
    pub trouble: Option<String>,
}

/// See the module.
pub struct State {
    pub library: Arc<Library>,
    pub sparing: Arc<Sparing>,
    /// What is being fetched into its folder.
    pub unfinished: Arc<Unfinished>,
    /// Answers with pieces that are under way.
    pub permits: Permits,
    /// For what other peers are sent.
    pub buffers: Arc<Buffers>,
    /// Bytes of contents that other peers were sent.
    pub sent_bytes: Arc<AtomicU64>,
    pub node: Node,
    pub tokens: Box<dyn Tokens>,
    pub identity: Arc<Identity>,
    /// The host that others are told, where it is not the one that the node sees.
    pub advertise: Option<String>,
    /// Where it listens.
    pub port: u16,
    pub verifier: SharedVerifier,
    /// Somebody has logged in or out here.
    pub logged_in: Notify,
    pub standing: RwLock<Standing>,
    /// How many changes of the folder the node has been told of ([`Library::changes`]).
    pub told: watch::Sender<u64>,
    /// Somebody waits for the node to be told.
    pub hurry: Notify,
}

/// Somebody who has saved a file waits at most so long until others can find it.
const TOLD_WAIT: Duration = Duration::from_secs(2);

impl State {
    /// The token of who is logged in at this node.
    pub async fn token(&self) -> Result<Option<String>, NodeError> {
        let found = self.tokens.find();
        let found =
            found.map_err(|message| NodeError { code: "BAD_TOKEN_FILE".to_owned(), message })?;
        let Some(KeptToken { token, instance }) = found else { return Ok(None) };
        let is_for_it = match instance {
            Some(instance) => self.node.instance().await? == instance,
            None => true,
        };
        Ok(is_for_it.then_some(token))
    }

    /// As the node sees it now.
    pub fn standing(&self) -> Standing {
        self.standing.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The account that it is of.
    pub fn user(&self) -> Option<String> {
        self.standing().user
    }

    /// Whether the node knows that it is there.
    pub fn is_online(&self) -> bool {
        self.standing().address.is_some()
    }

    /// Waits until the node has been told of what is in the folder now: what was saved can be found then. Not where nobody is
    /// logged in, and not for long.
    pub async fn until_told(&self) {
        if !matches!(self.token().await, Ok(Some(_))) {
            return;
        }
        let (now, mut told) = (*self.library.changes().borrow(), self.told.subscribe());
        self.hurry.notify_one();
        let _ = tokio::time::timeout(TOLD_WAIT, told.wait_for(|count| *count >= now)).await;
    }

    /// `host:port`, where the host is known by itself.
    pub fn advertised(&self) -> Option<String> {
        self.advertise.as_ref().map(|host| {
            let is_six = host.contains(':') && !host.starts_with('[');
            if is_six { format!("[{host}]:{}", self.port) } else { format!("{host}:{}", self.port) }
        })
    }
}
