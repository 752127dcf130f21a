//! Tells the node that the peer is there, again and again, and what has changed of its files.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use tertulia_wire::safe::make_safe;
use tertulia_wire::sharing::{FileHeld, FilesChanged, PeerHere};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::state::{Standing, State};
use crate::capability::Verifier;
use crate::content::ContentHash;
use crate::library::Announced;
use crate::limits::{ANNOUNCED_AT_ONCE, SETTLE};
use crate::names::FileName;
use crate::node::NodeError;

/// How often it is looked whether somebody has logged in, as long as nobody has; and the node is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Beats in the time of one lease.
const BEATS: u32 = 3;

/// What the node has been told.
#[derive(Default)]
struct Told {
    revision: u64,
    files: BTreeMap<String, Announced>,
}

/// Announces until the task ends; `standing` hears how it stands for the first time, and of every change.
pub async fn announce(state: &State, standing: watch::Sender<Standing>) {
    let mut told = Told::default();
    let mut is_first = true;
    let mut changes = state.library.changes();
    let mut unfinished = state.unfinished.changes();
    loop {
        let count = *changes.borrow_and_update();
        unfinished.mark_unchanged();
        let next = match beat(state, &mut told).await {
            Ok(Some((now, lease))) => {
                set(state, &standing, now, is_first);
                state.told.send_replace(count);
                lease / BEATS
            }
            Ok(None) => {
                set(state, &standing, Standing::default(), is_first);
                RETRY
            }
            Err(error) => {
                let trouble = Some(make_safe(&error.message, 500).into_owned());
                let user = state.user().filter(|_| error.code != "NOT_LOGGED_IN");
                set(state, &standing, Standing { user, trouble, ..Standing::default() }, is_first);
                told.revision = 0;
                RETRY
            }
        };
        is_first = false;
        let until = Instant::now() + next;
        tokio::select! {
            () = sleep_until(until) => {}
            () = state.logged_in.notified() => {}
            _ = changes.changed(), if state.is_online() => {
                // Others may follow at once.
                tokio::select! {
                    () = tokio::time::sleep(SETTLE.min(next)) => {}
                    () = state.hurry.notified() => {}
                }
            }
            // Others that fetch it look for somebody to fetch from.
            _ = unfinished.changed(), if state.is_online() => {}
        }
    }
}

fn set(state: &State, tell: &watch::Sender<Standing>, now: Standing, is_first: bool) {
    *state.standing.write().unwrap_or_else(PoisonError::into_inner) = now.clone();
    tell.send_if_modified(|before| {
        let is_news = is_first || *before != now;
        *before = now;
        is_news
    });
}

/// Says that the peer is there, and what has changed; how it stands then, and how long that lasts. `None` where nobody is
/// logged in.
async fn beat(state: &State, told: &mut Told) -> Result<Option<(Standing, Duration)>, NodeError> {
    let is_known = state.verifier.read().unwrap_or_else(PoisonError::into_inner).is_some();
    if !is_known || told.revision == 0 {
        let verifier = Verifier::new(&state.node.key().await?);
        *state.verifier.write().unwrap_or_else(PoisonError::into_inner) = verifier;
    }
    let Some(token) = state.token().await? else {
        *told = Told::default();
        return Ok(None);
    };
    let fingerprint = state.identity.fingerprint().to_string();
    let here = PeerHere {
        host: state.advertise.clone(),
        port: state.port,
        fingerprint: fingerprint.clone(),
        unfinished: state.unfinished.files().into_iter().map(unfinished).collect(),
    };
    let lease = state.node.here(&token, &here).await?;
    if lease.revision != told.revision {
        // It has started again, or another account is logged in.
        *told = Told::default();
    }
    bring_up_to_date(state, told, &token, &fingerprint).await?;
    let standing = Standing {
        user: Some(lease.user),
        address: Some(lease.address),
        announced: told.files.values().filter(|file| file.folder.is_none()).count(),
        trouble: None,
    };
    Ok(Some((standing, Duration::from_millis(lease.lease_ms.max(300)))))
}

async fn bring_up_to_date(
    state: &State,
    told: &mut Told,
    token: &str,
    fingerprint: &str,
) -> Result<(), NodeError> {
    let now = state.library.announced();
    if told.revision == 0 {
        told.files.clear();
    }
    let (mut add, mut remove) = (differs(&now, &told.files), differs(&told.files, &now));
    // The last ones are said first: a folder is told of once everything in it is.
    add.sort_by_key(|(_, file)| file.folder.is_none());
    while !add.is_empty() || !remove.is_empty() || told.revision == 0 {
        let gone = remove.split_off(remove.len().saturating_sub(ANNOUNCED_AT_ONCE));
        let new = add.split_off(add.len().saturating_sub(ANNOUNCED_AT_ONCE - gone.len()));
        let held = |files: &[(String, Announced)]| files.iter().map(held).collect();
        let changed = FilesChanged {
            fingerprint: fingerprint.to_owned(),
            revision: told.revision,
            add: held(&new),
            remove: held(&gone),
        };
        let known =
            state.node.announce(token, &changed).await.inspect_err(|_| told.revision = 0)?;
        told.revision = known.revision;
        for (name, _) in &gone {
            told.files.remove(name);
        }
        told.files.extend(new);
    }
    Ok(())
}

fn unfinished((name, hash, size): (FileName, ContentHash, u64)) -> FileHeld {
    FileHeld { name: name.as_str().to_owned(), size, hash: hash.to_string(), folder: None }
}

/// What the one has and the other has not, or not so.
fn differs(
    one: &BTreeMap<String, Announced>,
    other: &BTreeMap<String, Announced>,
) -> Vec<(String, Announced)> {
    let only = one.iter().filter(|(name, file)| other.get(*name) != Some(*file));
    only.map(|(name, file)| (name.clone(), *file)).collect()
}

fn held((name, file): &(String, Announced)) -> FileHeld {
    let Announced { hash, size, folder } = *file;
    FileHeld { name: name.clone(), size, hash: hash.to_string(), folder }
}
