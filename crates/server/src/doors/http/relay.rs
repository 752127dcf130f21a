//! `GET /api/files/{hash}`: a content through the node, for who has no peer.

use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::Stream;
use tertulia_wire::Code;

use super::params::Path;
use super::problem::Problem;
use super::refusals::{PROBLEM, Refused};
use super::sharing::{hash_of, lines_of, session};
use super::{Door, Peer};
use crate::clock::now;
use crate::peers::{Content, Turn};

/// What is on its way of one content at most: what a holder may send before it is taken (4 MiB), a piece that is passed on, and
/// what waits to be written.
const HELD_BYTES: usize = 6 << 20;

/// A content that peers have, fetched from them through the node and verified on the way; of a folder, the list of its files.
/// It breaks off where nobody is left who has the rest. At most two at a time for an account (429).
#[utoipa::path(
    get,
    path = "/api/files/{hash}",
    params(("hash" = String, Path, description = "BLAKE3, 64 hexadecimal digits")),
    responses(
        (
            status = 200,
            content_type = "application/octet-stream",
            body = Vec<u8>,
            description = "The content."
        ),
        Refused,
        (
            status = 404,
            body = Problem,
            content_type = PROBLEM,
            description = "No peer that is there has it."
        ),
        (
            status = 429,
            body = Problem,
            content_type = PROBLEM,
            description = "As many as may come for an account at a time."
        ),
        (
            status = 502,
            body = Problem,
            content_type = PROBLEM,
            description = "None of the peers that say that they have it can be reached, or has what the hash says."
        ),
    )
)]
pub(crate) async fn content(
    State(door): State<Door>,
    Extension(peer): Extension<Peer>,
    Path(hash): Path<String>,
) -> Result<Response, Problem> {
    let hash = hash_of(&hash)?;
    let session = Arc::clone(session(&peer)?);
    let account = session.account.clone();
    let peers = &door.directory.peers;
    // The node itself reaches them, on its own machine.
    let holders = lines_of(&door, &hash, IpAddr::V4(Ipv4Addr::LOCALHOST));
    let Some(name) = holders.first().map(|holder| holder.name.clone()) else {
        let detail = "no peer that is there has it; look for files: GET /api/files?q=…";
        return Err(Problem::new(StatusCode::NOT_FOUND, "NO_HOLDERS", detail));
    };
    let Some(relay) = peers.relaying.relay() else {
        let detail =
            "this node fetches no files; fetch from the peers: GET /api/files/HASH/holders";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, Code::Busy.as_str(), detail));
    };
    let turn = peers.relaying.turn(account.folded(), peers.limits())?;
    // The first one is refused to who asks; later ones end what is on its way.
    peers.issue(&account, relay.fingerprint(), &[hash], now())?;
    let (directory, print) = (Arc::clone(&door.directory), relay.fingerprint());
    let grants = Box::new(move || {
        let may = session.is_valid(now().wall_us);
        let given = may.then(|| directory.peers.issue(&session.account, print, &[hash], now()));
        given?.ok().map(|(capability, _)| capability)
    });
    let Some((size, content)) = relay.open(hash, holders, grants).await else {
        let detail = "none of the peers that have it can be reached, or has what the hash says";
        return Err(Problem::new(StatusCode::BAD_GATEWAY, "NO_HOLDERS", detail));
    };
    peer.hold(HELD_BYTES);
    let mut response = Response::new(Body::from_stream(Relayed { content, peer, _turn: turn }));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, size.into());
    for (name, value) in [
        (header::CONTENT_TYPE, "application/octet-stream"),
        // It is somebody's file: no page of this node's, whatever is in it.
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    put(headers, header::CONTENT_DISPOSITION, &attachment(&name));
    Ok(response)
}

fn put(headers: &mut axum::http::HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// A download of this name (RFC 6266), without its folders; where it is not plain, for programs that only read plain ones another
/// one beside it.
fn attachment(name: &str) -> String {
    use std::fmt::Write as _;
    let base = name.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let simple: String = base
        .chars()
        .map(|c| if c.is_ascii() && (plain(c as u8) || c == ' ') { c } else { '_' })
        .collect();
    let begin = format!("attachment; filename=\"{simple}\"");
    if base.bytes().all(plain) {
        return begin;
    }
    base.bytes().fold(format!("{begin}; filename*=UTF-8''"), |mut text, byte| {
        match plain(byte) {
            true => text.push(char::from(byte)),
            false => {
                let _ = write!(text, "%{byte:02X}");
            }
        }
        text
    })
}

/// A content on its way, which counts as long as it is.
struct Relayed {
    content: Content,
    peer: Peer,
    _turn: Turn,
}

impl Stream for Relayed {
    type Item = std::io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.content.as_mut().poll_next(context)
    }
}

impl Drop for Relayed {
    fn drop(&mut self) {
        self.peer.hold(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_from_outside_is_a_name_in_a_header() {
        for (name, shown) in [
            ("x/Informe Ñ.pdf", "\"Informe _.pdf\"; filename*=UTF-8''Informe%20%C3%91.pdf"),
            ("fotos/", "\"fotos\""),
            ("a\"; x=\r\nb", "\"a__ x___b\"; filename*=UTF-8''a%22%3B%20x%3D%0D%0Ab"),
        ] {
            assert_eq!(attachment(name), format!("attachment; filename={shown}"));
        }
    }
}
