//! Peers and their files over HTTP: where they are, what they announce, finding it, and the right to fetch it.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use tertulia_wire::json::Page;
use tertulia_wire::sharing::{
    CapabilityGiven, CapabilityWanted, FileHeld, FileLine, FilesChanged, FilesKnown, HolderLine,
    NodeKey, PeerHere, PeerLease, PeerLine, bytes_of_hex, hex,
};
use tertulia_wire::time::rfc3339;
use utoipa::IntoParams;

use super::params::{Paging, Path, Query};
use super::problem::Problem;
use super::refusals::{PROBLEM, Refused, RefusedBody, RefusedStored};
use super::{Door, Peer, body};
use crate::accounts::tokens::Session;
use crate::clock::now;
use crate::peers::{Change, File, Fingerprint, NotChanged, PeerAddress, host_of};

/// Items of a page, unless asked for otherwise.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1000;
/// How far into what was found one may go; who looks for more looks for something else.
const FOUND_MAX: usize = 10_000;
/// Bytes of an announcement: as many files at once as there may be, with the longest names.
const ANNOUNCED_BYTES_MAX: usize = 2 << 20;
/// Bytes of a question.
const QUESTION_MAX: usize = 256;
/// Bytes of a file's name. What it may contain is each peer's own business: nothing is opened here.
const NAME_MAX: usize = 1024;

/// The account's session; the table has made sure that there is one.
pub(super) fn session(peer: &Peer) -> Result<&Arc<Session>, Problem> {
    let session = peer.caller.session.as_ref();
    session.ok_or_else(|| Problem::not_logged_in("nobody is logged in here; log in first"))
}

fn fingerprint(text: &str) -> Result<Fingerprint, Problem> {
    let bad = || Problem::bad("fingerprint: the SHA-256 of a certificate, 64 hexadecimal digits");
    bytes_of_hex(text).ok_or_else(bad)
}

pub(super) fn hash_of(text: &str) -> Result<[u8; 32], Problem> {
    bytes_of_hex(text).ok_or_else(|| Problem::bad("a hash is 64 hexadecimal digits"))
}

/// The peers of every account: where they are, and whether they have been heard of lately.
#[utoipa::path(
    get,
    path = "/api/peers",
    params(Paging),
    responses((status = 200, body = Page<PeerLine>), Refused)
)]
pub(crate) async fn peers(
    State(door): State<Door>,
    Extension(peer): Extension<Peer>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<PeerLine>>, Problem> {
    let dialled = peer.dialled.ip();
    let (work, asker) = (&door.directory.shared.work, peer.address);
    work.turn(asker).await;
    let all = work.count(asker, || door.directory.peers.peers(now()));
    let lines = all.into_iter().map(|seen| PeerLine {
        user: seen.user,
        address: seen.address.shown(dialled),
        online: seen.online,
    });
    Ok(Json(page(lines, &paging)?))
}

/// A part of a list: `after` is how many of it were there before.
fn page<T>(items: impl Iterator<Item = T>, paging: &Paging) -> Result<Page<T>, Problem> {
    let (skip, limit) = places(paging)?;
    let mut items = items.skip(skip);
    let shown: Vec<T> = items.by_ref().take(limit).collect();
    let next = items.next().map(|_| (skip + limit).to_string());
    Ok(Page { items: shown, next })
}

fn places(paging: &Paging) -> Result<(usize, usize), Problem> {
    let after = paging.after.as_deref().unwrap_or("0").parse();
    let skip = after.map_err(|_| Problem::bad("after: the next of the page before"))?;
    Ok((skip, paging.limit.map_or(LIMIT, usize::from).clamp(1, LIMIT_MAX)))
}

/// Says where one's peer is. It is there for `lease_ms`, and is to say so again well before.
#[utoipa::path(
    put,
    path = "/api/peers/me",
    request_body = PeerHere,
    responses((status = 200, body = PeerLease), Refused, RefusedBody, RefusedStored)
)]
pub(crate) async fn here(
    State(door): State<Door>,
    Extension(peer): Extension<Peer>,
    body::Json(here): body::Json<PeerHere>,
) -> Result<Json<PeerLease>, Problem> {
    let session = session(&peer)?;
    let print = fingerprint(&here.fingerprint)?;
    let host = match &here.host {
        None => peer.address.to_string(),
        Some(host) => {
            host_of(host).ok_or_else(|| Problem::bad("host: an address or a host's name"))?
        }
    };
    if here.port == 0 {
        return Err(Problem::bad("port: 1 to 65535"));
    }
    let address = PeerAddress { host, port: here.port };
    let shown = address.shown(peer.dialled.ip());
    let peers = &door.directory.peers;
    let most = peers.limits().unfinished_per_peer;
    if here.unfinished.len() > most {
        return Err(Problem::bad(format!("a peer fetches at most {most} files at a time")));
    }
    let unfinished = here.unfinished.into_iter().map(file_of).collect::<Result<Vec<_>, _>>()?;
    let revision = peers.here(session, print, address, unfinished, now()).await?;
    let lease_ms = u64::try_from(peers.limits().lease.as_millis()).unwrap_or(u64::MAX);
    Ok(Json(PeerLease { user: session.account.to_string(), address: shown, lease_ms, revision }))
}

/// Which peer goes.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Going {
    /// The SHA-256 of its certificate.
    fingerprint: String,
}

/// Says that one's peer goes.
#[utoipa::path(
    delete,
    path = "/api/peers/me",
    params(Going),
    responses((status = 204), Refused)
)]
pub(crate) async fn gone(
    State(door): State<Door>,
    Extension(peer): Extension<Peer>,
    Query(going): Query<Going>,
) -> Result<StatusCode, Problem> {
    door.directory.peers.gone(&session(&peer)?.account, fingerprint(&going.fingerprint)?);
    Ok(StatusCode::NO_CONTENT)
}

/// By what peers verify capabilities.
#[utoipa::path(get, path = "/api/peers/key", responses((status = 200, body = NodeKey), Refused))]
pub(crate) async fn key(State(door): State<Door>) -> Json<NodeKey> {
    let (key, instance) = door.directory.peers.key();
    Json(NodeKey { key, instance })
}

/// What is looked for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Question {
    /// Words that a name has all of, any fragment, case and accents aside; without any, all files. One of 8 to 64 hexadecimal digits
    /// finds contents whose hash begins so, too.
    #[serde(default)]
    q: String,
}

/// Finds files by any fragment of their names or the beginning of their hashes, the best first; those that no peer has that is
/// there are left out.
#[utoipa::path(
    get,
    path = "/api/files",
    params(Question, Paging),
    responses((status = 200, body = Page<FileLine>), Refused)
)]
pub(crate) async fn search(
    State(door): State<Door>,
    Extension(peer): Extension<Peer>,
    Query(question): Query<Question>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<FileLine>>, Problem> {
    let Question { q } = question;
    if q.len() > QUESTION_MAX {
        return Err(Problem::bad(format!("q: at most {QUESTION_MAX} bytes")));
    }
    let (skip, limit) = places(&paging)?;
    if skip + limit > FOUND_MAX {
        let detail = format!("only the first {FOUND_MAX} are shown; look for more of the name");
        return Err(Problem::bad(detail));
    }
    let (work, asker) = (&door.directory.shared.work, peer.address);
    work.turn(asker).await;
    let (found, cost) = door.directory.peers.search(q, skip + limit + 1, now()).await;
    work.spend(asker, cost);
    let lines = found.into_iter().map(|(file, holders)| FileLine {
        files: file.folder.as_ref().map(|folder| folder.files),
        size: file.folder.as_ref().map_or(file.size, |folder| folder.bytes),
        name: file.name,
        hash: hex(&file.hash),
        online: !holders.is_empty(),
        holders,
    });
    Ok(Json(page(lines, &paging)?))
}

/// Says what has changed of one's peer's files. 409 `REVISION`: say everything anew, from revision 0. 429: more files than a peer, or
/// the node, may have.
#[utoipa::path(
    post,
    path = "/api/files",
    request_body = FilesChanged,
    responses(
        (status = 200, body = FilesKnown),
        Refused,
        RefusedBody,
        RefusedStored,
    )
)]
pub(crate) async fn announce(
    State(door): State<Door>,
    Extension(peer): Extension<Peer>,
    body::Json(changed): body::Json<FilesChanged, ANNOUNCED_BYTES_MAX>,
) -> Result<Json<FilesKnown>, Problem> {
    let account = &session(&peer)?.account;
    let print = fingerprint(&changed.fingerprint)?;
    let peers = &door.directory.peers;
    let at_once = peers.limits().announced_at_once;
    if changed.add.len() + changed.remove.len() > at_once {
        return Err(Problem::bad(format!("at most {at_once} files at a time")));
    }
    let read = |held: Vec<FileHeld>| held.into_iter().map(file_of).collect::<Result<Vec<_>, _>>();
    let FilesChanged { revision, add, remove, .. } = changed;
    let change = Change { revision, add: read(add)?, remove: read(remove)? };
    match peers.change(account, print, change, now()).await {
        Ok((revision, files)) => Ok(Json(FilesKnown { revision, files: files as u64 })),
        Err(NotChanged::Denied(denied)) => Err(denied.into()),
        Err(NotChanged::Revision) => {
            let detail = "the node has forgotten what this follows; say everything from revision 0";
            Err(Problem::new(StatusCode::CONFLICT, "REVISION", detail))
        }
    }
}

fn file_of(held: FileHeld) -> Result<File, Problem> {
    let FileHeld { name, size, hash, folder } = held;
    if name.is_empty() || name.len() > NAME_MAX || !tertulia_wire::safe::is_clean(&name) {
        let detail = format!("a file's name has 1 to {NAME_MAX} bytes and no control characters");
        return Err(Problem::bad(detail));
    }
    if name.ends_with('/') != folder.is_some() {
        return Err(Problem::bad("a folder's name ends with /, and a file's does not"));
    }
    Ok(File { name, size, hash: hash_of(&hash)?, folder: folder.map(Box::new) })
}

/// The peers that have a content.
#[utoipa::path(
    get,
    path = "/api/files/{hash}/holders",
    params(("hash" = String, Path, description = "BLAKE3, 64 hexadecimal digits")),
    responses((status = 200, body = Page<HolderLine>), Refused)
)]
pub(crate) async fn holders(
    State(door): State<Door>,
    Extension(peer): Extension<Peer>,
    Path(hash): Path<String>,
) -> Result<Json<Page<HolderLine>>, Problem> {
    let items = lines_of(&door, &hash_of(&hash)?, peer.dialled.ip());
    Ok(Json(Page { items, next: None }))
}

/// The peers that have a content, as somebody reaches them who has reached the node at `dialled`.
pub(super) fn lines_of(door: &Door, hash: &[u8; 32], dialled: IpAddr) -> Vec<HolderLine> {
    let holders = door.directory.peers.holders(hash, now()).into_iter();
    let lines = holders.map(|holder| HolderLine {
        user: holder.user,
        address: holder.address.shown(dialled),
        fingerprint: hex(&holder.fingerprint),
        name: holder.file.name,
        size: holder.file.size,
        unfinished: holder.unfinished,
    });
    lines.collect()
}

/// Gives the right to fetch these contents from whoever has them, with this certificate and for a short while.
#[utoipa::path(
    post,
    path = "/api/capabilities",
    request_body = CapabilityWanted,
    responses(
        (status = 200, body = CapabilityGiven),
        Refused,
        RefusedBody,
        (
            status = 404,
            body = Problem,
            content_type = PROBLEM,
            description = "No peer that is there has it."
        ),
    )
)]
pub(crate) async fn capability(
    State(door): State<Door>,
    Extension(peer): Extension<Peer>,
    body::Json(wanted): body::Json<CapabilityWanted>,
) -> Result<Json<CapabilityGiven>, Problem> {
    let account = &session(&peer)?.account;
    let print = fingerprint(&wanted.fingerprint)?;
    let hashes = wanted.hashes.iter().map(|hash| hash_of(hash)).collect::<Result<Vec<_>, _>>()?;
    let peers = &door.directory.peers;
    let known = if wanted.holders { peers.known(&hashes)? } else { Vec::new() };
    // Where nobody has any of them, that is said as without holders.
    let opened = if known.is_empty() { &hashes } else { &known };
    let (capability, expires_us) = peers.issue(account, print, opened, now())?;
    let dialled = peer.dialled.ip();
    let holders =
        wanted.holders.then(|| hashes.iter().map(|hash| lines_of(&door, hash, dialled)).collect());
    Ok(Json(CapabilityGiven { capability, expires: rfc3339(expires_us), holders }))
}
