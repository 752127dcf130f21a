//! Bodies of requests: gathered within a limit and a time, and counted against what waits on the node.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use tertulia_wire::Code;

use super::problem::Problem;
use super::{Door, Peer};

/// The longest body that is not a message: two full lists of names, written as JSON may.
const JSON_BYTES_MAX: usize = 256 << 10;

/// Whether the body is said to be JSON.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

/// A body of at most `bytes_max`, within the node's time for it; what has come of it is held by its connection meanwhile.
/// `None`: there is more.
pub(crate) async fn gather(
    door: &Door,
    peer: &Peer,
    body: Body,
    bytes_max: usize,
) -> Result<Option<Bytes>, Problem> {
    let wait = door.directory.shared.config.limits.body;
    let gathered = tokio::time::timeout(wait, gather_all(peer, body, bytes_max)).await;
    peer.hold(0);
    gathered.unwrap_or_else(|_| {
        let detail = "the body did not come in time";
        Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "TOO_SLOW", detail))
    })
}

async fn gather_all(peer: &Peer, body: Body, bytes_max: usize) -> Result<Option<Bytes>, Problem> {
    let mut stream = body.into_data_stream();
    let mut all = BytesMut::new();
    while let Some(part) = stream.next().await {
        let part =
            part.map_err(|error| Problem::bad(format!("the body has broken off: {error}")))?;
        if all.len() + part.len() > bytes_max {
            return Ok(None);
        }
        all.extend_from_slice(&part);
        peer.hold(all.len());
    }
    Ok(Some(all.freeze()))
}

/// A body of JSON; what cannot be read, or is longer, is a [`Problem`].
pub(crate) struct Json<T, const BYTES_MAX: usize = JSON_BYTES_MAX>(pub T);

impl<T: DeserializeOwned, const BYTES_MAX: usize> FromRequest<Door> for Json<T, BYTES_MAX> {
    type Rejection = Problem;

    async fn from_request(request: Request, door: &Door) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            let detail = "send the body as Content-Type: application/json";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "BAD_REQUEST", detail));
        }
        let peer: Option<&Peer> = request.extensions().get();
        let peer = peer.cloned().expect("every request has the connection that it came on");
        let body = gather(door, &peer, request.into_body(), BYTES_MAX).await?;
        let body = body.ok_or_else(|| {
            let detail = format!("the body has at most {BYTES_MAX} bytes");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, Code::TooLong.as_str(), detail)
        })?;
        serde_json::from_slice(&body).map(Self).map_err(|error| {
            let status = match error.classify() {
                serde_json::error::Category::Data => StatusCode::UNPROCESSABLE_ENTITY,
                _ => StatusCode::BAD_REQUEST,
            };
            Problem::new(status, "BAD_REQUEST", format!("the body: {error}"))
        })
    }
}
