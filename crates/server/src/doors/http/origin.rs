//! Whose page a browser's request came from: another site's page may not change anything here, nor read it.

use std::net::IpAddr;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::{Problem, Refused};
use super::{Door, Peer};

/// Refuses what another site's page asks, and, on loopback, a host name that is not this machine's (a name that somebody
/// pointed at it, so that their page would count as ours).
pub(crate) async fn check(
    State(door): State<Door>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let advertised = door.directory.shared.config.advertise.as_deref();
    let plain_page = peer.caller.secure && came_in_plain(request.headers());
    let judged = judge(request.headers(), peer.dialled.ip(), advertised);
    let judged = judged.and_then(|()| if plain_page { Err(PLAIN_PAGE.to_owned()) } else { Ok(()) });
    let response = match judged {
        Ok(()) => next.run(request).await,
        Err(detail) => {
            Problem::new(StatusCode::FORBIDDEN, "FOREIGN_ORIGIN", detail).into_response()
        }
    };
    // The outermost of all that answers: nothing is refused elsewhere.
    if let Some(Refused(reason)) = response.extensions().get() {
        door.directory.shared.metrics.refused_for(reason);
    }
    response
}

/// Whoever is between could have written it.
const PLAIN_PAGE: &str = "a page that came without TLS may not ask over TLS; open it with https://";

/// Whether a page asks that did not come over TLS.
fn came_in_plain(headers: &HeaderMap) -> bool {
    let origin = headers.get(header::ORIGIN).map(|value| value.to_str().unwrap_or("?"));
    let scheme = origin.and_then(|origin| origin.split_once("://")).map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| !scheme.eq_ignore_ascii_case("https"))
}

fn judge(headers: &HeaderMap, dialled: IpAddr, advertised: Option<&str>) -> Result<(), String> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = text(header::HOST).unwrap_or_default();
    if dialled.to_canonical().is_loopback() && !is_own(host, advertised) {
        return Err(format!("{host:?} is not this machine; ask at localhost or 127.0.0.1"));
    }
    let Some(origin) = text(header::ORIGIN) else { return Ok(()) };
    let place = origin.split_once("://").map_or("", |(_, place)| place);
    if place.is_empty() || !place.eq_ignore_ascii_case(host) {
        return Err(format!("a page of {origin:?} may not ask here"));
    }
    Ok(())
}

/// Whether `host` (with or without a port) names this machine.
fn is_own(host: &str, advertised: Option<&str>) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let loopback = bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    loopback
        || name.is_empty()
        || name.eq_ignore_ascii_case("localhost")
        || name.to_ascii_lowercase().ends_with(".localhost")
        || advertised.is_some_and(|advertised| advertised.eq_ignore_ascii_case(bare))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(host: &str, origin: Option<&str>, dialled: [u8; 4]) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().expect("a host"));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().expect("an origin"));
        }
        judge(&headers, IpAddr::from(dialled), Some("chat.example.org")).is_ok()
    }

    #[test]
    fn a_page_of_another_site_may_not_ask() {
        let loopback = [127, 0, 0, 1];
        assert!(ask("127.0.0.1:5080", None, loopback));
        assert!(ask("localhost:5080", Some("http://localhost:5080"), loopback));
        for origin in ["http://evil.example", "null", "http://localhost:5081", "", "://"] {
            assert!(!ask("localhost:5080", Some(origin), loopback), "{origin}");
        }
        assert!(ask("10.0.0.7:5080", Some("http://10.0.0.7:5080"), [10, 0, 0, 7]));
        assert!(!ask("10.0.0.7:5080", Some("http://evil.example"), [10, 0, 0, 7]));
    }

    #[test]
    fn a_name_that_was_pointed_at_loopback_is_not_this_machine() {
        let loopback = [127, 0, 0, 1];
        assert!(!ask("evil.example:5080", Some("http://evil.example:5080"), loopback));
        assert!(!ask("evil.example", None, loopback));
        assert!(ask("[::1]:5080", None, loopback) && ask("a.localhost:1", None, loopback));
        assert!(ask("chat.example.org", None, loopback));
        assert!(ask("whatever.lan:5080", None, [10, 0, 0, 7]));
    }
}
