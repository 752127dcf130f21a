//! Before every handler: who asks (a bearer, a cookie, or a guest), and whether the table lets them.

use axum::Extension;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tertulia_group::Name;
use tertulia_wire::Code;

use super::problem::Problem;
use super::{Door, Peer};
use crate::accounts::Caller;
use crate::accounts::rules::Asker;
use crate::accounts::table::{Operation, Role, Verdict};
use crate::clock::wall_us;

/// The page's cookie.
pub(crate) const COOKIE: &str = "tertulia";
/// What says that a request came through a proxy, and not from this machine.
const FORWARDED: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];

/// How somebody has said who they are.
enum Shown<'a> {
    Nothing,
    Bearer(&'a str),
    Cookie(&'a str),
}

/// See the module. What has no row in the table is nobody's.
pub(crate) async fn guard(
    State(door): State<Door>,
    Extension(mut peer): Extension<Peer>,
    matched: MatchedPath,
    path: Result<RawPathParams, RawPathParamsRejection>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = match path {
        Ok(path) => path,
        Err(rejection) => return Problem::bad(rejection.body_text()).into_response(),
    };
    let by_cookie = match identify(&door, &mut peer, request.method(), request.headers()) {
        Ok(by_cookie) => by_cookie,
        Err(problem) => return problem.into_response(),
    };
    if by_cookie && is_form(request.headers()) {
        let detail = "a form is not taken from a page that is logged in; send JSON or text/plain";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Problem::new(status, "FORM_REFUSED", detail).into_response();
    }
    let group = path.iter().find(|(name, _)| *name == "group").map(|(_, value)| value);
    if let Err(problem) =
        allow(&door, &peer.caller, request.method(), matched.as_str(), group).await
    {
        return problem.into_response();
    }
    let group = group.and_then(|group| Name::new(group).ok());
    let (conn, method) = (peer.conn, request.method().clone());
    request.extensions_mut().insert(peer);
    let response = next.run(request).await;
    let (route, status) = (matched.as_str(), response.status().as_u16());
    let group = group.as_ref().map(tracing::field::display);
    tracing::debug!(conn, group, %method, route, status, "answered");
    response
}

async fn allow(
    door: &Door,
    caller: &Caller,
    method: &Method,
    path: &str,
    group: Option<&str>,
) -> Result<(), Problem> {
    let method = if method == Method::HEAD { Method::GET } else { method.clone() };
    let Some(operation) = Operation::of_http(method.as_str(), path) else {
        // Somewhere between a route that was forgotten in the table and a method that is not there.
        let detail = format!("{path} takes no {method}; see /api/openapi.json");
        return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "NO_SUCH_METHOD", detail));
    };
    let asker: Asker<'_> = caller.asker(door.directory.shared.config.guests);
    if asker.role() == Role::Stranger && operation.verdict(Role::Stranger) != Verdict::Yes {
        return Err(Problem::not_logged_in("this node takes no guests; log in"));
    }
    match (operation.is_of_group(), group) {
        (true, Some(group)) => {
            door.directory.admit(caller, operation, group).await?;
        }
        _ => door.directory.check(caller, operation)?,
    }
    Ok(())
}

/// Finds out who asks; `true` where a cookie says so.
fn identify(
    door: &Door,
    peer: &mut Peer,
    method: &Method,
    headers: &HeaderMap,
) -> Result<bool, Problem> {
    let caller = &mut peer.caller;
    caller.local &= !FORWARDED.iter().any(|name| headers.contains_key(*name));
    let (token, by_cookie) = match shown(headers)? {
        Shown::Nothing => return Ok(false),
        Shown::Bearer(token) => (token, false),
        Shown::Cookie(token) => (token, true),
    };
    // A browser sends a cookie by itself; that a page of ours asks is said by `Origin`, which was looked at already.
    if by_cookie && !method.is_safe() && !headers.contains_key(header::ORIGIN) {
        let detail = "a cookie alone changes nothing; send Origin, or Authorization: Bearer";
        return Err(Problem::new(StatusCode::FORBIDDEN, "FOREIGN_ORIGIN", detail));
    }
    match door.directory.accounts.authenticate(caller, token, wall_us()) {
        Ok(session) => caller.session = Some(session),
        Err(denied) => {
            let ended = by_cookie && denied.code == Code::NotLoggedIn;
            let problem = Problem::from(denied);
            return Err(if ended { problem.without_cookie() } else { problem });
        }
    }
    Ok(by_cookie)
}

fn shown(headers: &HeaderMap) -> Result<Shown<'_>, Problem> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let bearer = value.to_str().ok().and_then(|value| value.trim().split_once(' '));
        return match bearer {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                Ok(Shown::Bearer(token.trim()))
            }
            _ => Err(Problem::not_logged_in("send Authorization: Bearer TOKEN")),
        };
    }
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs =
        cookies.flat_map(|value| value.split(';')).filter_map(|one| one.split_once('='));
    let ours = pairs.find(|(name, value)| name.trim() == COOKIE && !value.trim().is_empty());
    Ok(ours.map_or(Shown::Nothing, |(_, value)| Shown::Cookie(value.trim())))
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    ["application/x-www-form-urlencoded", "multipart/form-data"]
        .iter()
        .any(|form| kind.eq_ignore_ascii_case(form))
}

/// The cookie's line: for a token, or to take it back.
pub(crate) fn set_cookie(token: Option<(&str, u64)>, secure: bool) -> Option<HeaderValue> {
    let secure = if secure { "; Secure" } else { "" };
    let (value, age) = token.unwrap_or(("", 0));
    let line =
        format!("{COOKIE}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}");
    HeaderValue::from_str(&line).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[(header::HeaderName, &str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, value.parse().expect("a value"));
        }
        match shown(&headers) {
            Ok(Shown::Nothing) => "guest".to_owned(),
            Ok(Shown::Bearer(token)) => format!("bearer {token}"),
            Ok(Shown::Cookie(token)) => format!("cookie {token}"),
            Err(_) => "refused".to_owned(),
        }
    }

    #[test]
    fn a_bearer_is_stronger_than_a_cookie_and_anything_else_is_no_guest() {
        let (auth, cookie) = (header::AUTHORIZATION, header::COOKIE);
        assert_eq!(read(&[]), "guest");
        assert_eq!(read(&[(auth.clone(), "Bearer abc")]), "bearer abc");
        assert_eq!(read(&[(auth.clone(), "bearer  abc ")]), "bearer abc");
        assert_eq!(read(&[(auth.clone(), "Basic YTpi")]), "refused");
        assert_eq!(read(&[(auth.clone(), "")]), "refused");
        assert_eq!(read(&[(cookie.clone(), "a=b; tertulia=abc; c=d")]), "cookie abc");
        assert_eq!(
            read(&[(cookie.clone(), "a=b"), (cookie.clone(), "tertulia=abc")]),
            "cookie abc"
        );
        assert_eq!(read(&[(cookie.clone(), "tertulia=")]), "guest");
        assert_eq!(read(&[(cookie, "tertulia=c"), (auth, "Bearer b")]), "bearer b");
    }

    #[test]
    fn the_cookie_is_for_no_script_and_no_other_site() {
        let line = set_cookie(Some(("tt_x", 60)), false).unwrap();
        assert_eq!(line, "tertulia=tt_x; Path=/; Max-Age=60; HttpOnly; SameSite=Strict");
        let line = set_cookie(None, true).unwrap();
        assert_eq!(line, "tertulia=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict; Secure");
    }
}
