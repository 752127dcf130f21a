//! Accounts over HTTP: registering, logging in and out, who one is.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use tertulia_group::Name;
use tertulia_wire::json::IdentityLine;
use tertulia_wire::native::Credential;
use tertulia_wire::time::rfc3339;
use tertulia_wire::{ClientFrame, NodeFrame};
use utoipa::ToSchema;

use super::ask::not_an_answer;
use super::body;
use super::guard::set_cookie;
use super::problem::Problem;
use super::refusals::{Refused, RefusedBody, RefusedStored};
use super::{Door, Peer};
use crate::clock::{now, wall_us};
use crate::peers::address_of;

/// A new account.
#[derive(Deserialize, ToSchema)]
pub(crate) struct Registration {
    /// 1 to 32 letters, digits, `.`, `_` and `-`; nobody else's, and not like another account's.
    #[schema(min_length = 1, max_length = 32, example = "ana")]
    name: String,
    /// 8 characters at least, 256 bytes at most.
    #[schema(min_length = 8)]
    password: String,
    /// The code that the node prints: makes its first administrator.
    #[serde(default)]
    setup_code: String,
    /// Where the account's peer is, `host:port`, where it has one: others find it in the list of peers.
    #[serde(default)]
    peer: Option<String>,
}

/// Somebody who logs in.
#[derive(Deserialize, ToSchema)]
pub(crate) struct Credentials {
    name: String,
    password: String,
    /// For a page: the token comes as a cookie that no script can read, and not in the answer.
    #[serde(default)]
    cookie: bool,
}

/// What opens the node for so long.
#[derive(Serialize, ToSchema)]
pub(crate) struct TokenShown {
    /// For `Authorization: Bearer`; not there where a cookie was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// When it ends.
    expires: String,
}

/// Makes an account. The first from the node's own machine, or with the set-up code, is the administrator.
#[utoipa::path(
    post,
    path = "/api/register",
    request_body = Registration,
    responses(
        (status = 201, body = IdentityLine),
        Refused,
        RefusedBody,
        RefusedStored,
    )
)]
pub(crate) async fn register(
    State(door): State<Door>,
    Extension(peer): Extension<Peer>,
    body::Json(new): body::Json<Registration>,
) -> Result<(StatusCode, Json<IdentityLine>), Problem> {
    let Registration { name, password, setup_code, peer: shared } = new;
    let bad = || Problem::bad("peer: host:port");
    let shared = shared.map(|text| address_of(&text).ok_or_else(bad)).transpose()?;
    let (password, code) = (Credential(password), Credential(setup_code));
    let frame = ClientFrame::Register { id: 0, name, password, code };
    let made = identity(door.ask(&peer, frame).await?);
    let account = made.name.as_deref().and_then(|name| Name::new(name).ok());
    if let (Some(account), Some(address)) = (account, shared) {
        door.directory.peers.keep_address(&account, address).await?;
    }
    Ok((StatusCode::CREATED, Json(made)))
}

fn identity(frame: NodeFrame) -> IdentityLine {
    match frame {
        NodeFrame::Identity { name, administrator, expires_us, .. } => {
            IdentityLine::new(&name, administrator, expires_us)
        }
        other => not_an_answer(&other),
    }
}

/// Gives a token for a name and a password.
#[utoipa::path(
    post,
    path = "/api/login",
    request_body = Credentials,
    responses(
        (status = 200, body = TokenShown),
        Refused,
        RefusedBody,
        RefusedStored,
    )
)]
pub(crate) async fn login(
    State(door): State<Door>,
    Extension(peer): Extension<Peer>,
    body::Json(shown): body::Json<Credentials>,
) -> Result<Response, Problem> {
    let Credentials { name, password, cookie } = shown;
    let logged_in = door.directory.accounts.log_in(&peer.caller, &name, &password, now()).await?;
    let (token, expires_us) = (logged_in.token.text(), logged_in.session.expires_us);
    let expires = rfc3339(expires_us);
    let mut headers = HeaderMap::new();
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    if cookie {
        let age = expires_us.saturating_sub(wall_us()) / 1_000_000;
        let line = set_cookie(Some((&token, age)), peer.caller.secure);
        headers.extend(line.map(|line| (header::SET_COOKIE, line)));
    }
    let token = (!cookie).then_some(token);
    Ok((headers, Json(TokenShown { token, expires })).into_response())
}

/// Another password.
#[derive(Deserialize, ToSchema)]
pub(crate) struct NewPassword {
    /// The old one; an administrator who changes somebody else's needs none.
    #[serde(default)]
    password: String,
    /// 8 characters at least, 256 bytes at most.
    #[schema(min_length = 8)]
    new: String,
    /// Whose, for an administrator; one's own, where nothing is said.
    #[serde(default)]
    name: String,
}

/// Changes a password. Every other token of the account is revoked, and what they opened is closed.
#[utoipa::path(
    post,
    path = "/api/password",
    request_body = NewPassword,
    responses(
        (status = 204),
        Refused,
        RefusedBody,
        RefusedStored,
    )
)]
pub(crate) async fn password(
    State(door): State<Door>,
    Extension(peer): Extension<Peer>,
    body::Json(changed): body::Json<NewPassword>,
) -> Result<StatusCode, Problem> {
    let NewPassword { name, password, new } = changed;
    let (old, new) = (Credential(password), Credential(new));
    match door.ask(&peer, ClientFrame::Password { id: 0, name, old, new }).await? {
        NodeFrame::Done { .. } => Ok(StatusCode::NO_CONTENT),
        other => not_an_answer(&other),
    }
}

/// Gives the token back: it opens nothing any more, and what it opened is closed.
#[utoipa::path(
    post,
    path = "/api/logout",
    responses((status = 204), Refused)
)]
pub(crate) async fn logout(
    State(door): State<Door>,
    Extension(peer): Extension<Peer>,
) -> Result<Response, Problem> {
    if let Some(session) = &peer.caller.session {
        door.directory.accounts.log_out(&Arc::clone(session)).await?;
    }
    let mut headers = HeaderMap::new();
    let line = set_cookie(None, peer.caller.secure);
    headers.extend(line.map(|line| (header::SET_COOKIE, line)));
    Ok((StatusCode::NO_CONTENT, headers).into_response())
}

/// Who one is; without a name, a guest.
#[utoipa::path(
    get,
    path = "/api/whoami",
    responses((status = 200, body = IdentityLine), Refused)
)]
pub(crate) async fn whoami(
    State(door): State<Door>,
    Extension(peer): Extension<Peer>,
) -> Result<Json<IdentityLine>, Problem> {
    Ok(Json(identity(door.ask(&peer, ClientFrame::WhoAmI { id: 0 }).await?)))
}
