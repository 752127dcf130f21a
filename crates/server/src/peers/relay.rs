//! Fetching through the node: who has only HTTP gets a content that peers have, verified on the way and kept nowhere.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use futures_util::Stream;
use tertulia_wire::Code;
use tertulia_wire::sharing::HolderLine;

use crate::config::PeerLimits;
use crate::directory::Denied;

/// A content on its way: verified piece by piece, and an error where it breaks off.
pub type Content = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// A content that begins to come: its bytes in all, and itself.
pub type Opening<'a> = Pin<Box<dyn Future<Output = Option<(u64, Content)>> + Send + 'a>>;

/// Capabilities for a content that is on its way: each ends sooner than the content may have come.
pub type Grants = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// Fetches from peers for the node, which does not know how that is done.
pub trait Relay: Send + Sync {
    /// The SHA-256 of the certificate that peers are shown: capabilities are for it.
    fn fingerprint(&self) -> [u8; 32];

    /// Fetches a content from these holders; `None` where none of them gives what the hash says. `grants` gives a capability
    /// whenever it is asked for one, as long as who wants the content may have it.
    fn open(&self, hash: [u8; 32], holders: Vec<HolderLine>, grants: Grants) -> Opening<'_>;
}

/// The node's relay, and what goes on of it.
#[derive(Default)]
pub(crate) struct Relaying {
    relay: OnceLock<Arc<dyn Relay>>,
    /// By the account's folded name.
    under_way: Mutex<HashMap<String, usize>>,
}

/// One content is under way as long as this is kept.
pub(crate) struct Turn {
    relaying: Arc<Relaying>,
    account: String,
}

impl Relaying {
    /// From now on the node fetches by this; the first one counts.
    pub fn set(&self, relay: Arc<dyn Relay>) {
        let _ = self.relay.set(relay);
    }

    /// What fetches, where the node has it.
    pub fn relay(&self) -> Option<Arc<dyn Relay>> {
        self.relay.get().cloned()
    }

    /// Takes a turn for an account.
    pub fn turn(self: &Arc<Self>, account: &str, limits: &PeerLimits) -> Result<Turn, Denied> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let own = under_way.get(account).copied().unwrap_or_default();
        if own >= limits.relayed_per_account {
            let most = limits.relayed_per_account;
            let message = format!("at most {most} files at a time come through the node");
            return Err(Denied::new(Code::Limit, message));
        }
        if under_way.values().sum::<usize>() >= limits.relayed_at_once {
            let message = "as many files as may come through the node already; try again, or fetch from the peers";
            return Err(Denied::new(Code::Busy, message));
        }
        under_way.insert(account.to_owned(), own + 1);
        Ok(Turn { relaying: Arc::clone(self), account: account.to_owned() })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut under_way = self.relaying.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let left = under_way.get_mut(&self.account).map(|count| {
            *count -= 1;
            *count
        });
        if left == Some(0) {
            under_way.remove(&self.account);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_once_for_an_account_and_for_all() {
        let relaying = Arc::new(Relaying::default());
        let limits =
            PeerLimits { relayed_per_account: 2, relayed_at_once: 3, ..PeerLimits::default() };
        let turn = |account| relaying.turn(account, &limits).map_err(|denied| denied.code);
        let (one, two) = (turn("ana").ok(), turn("ana").ok());
        assert!(one.is_some() && two.is_some());
        assert_eq!(turn("ana").err(), Some(Code::Limit));
        let three = turn("luis").ok();
        assert!(three.is_some());
        assert_eq!(turn("eva").err(), Some(Code::Busy));
        drop(one);
        assert!(turn("eva").is_ok());
        drop((two, three));
        assert!(relaying.under_way.lock().unwrap().is_empty());
    }
}
