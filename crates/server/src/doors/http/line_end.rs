//! JSON that a terminal shows ends with its line: `curl` prints what comes and nothing after it.

use axum::body::{Body, HttpBody as _, to_bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::{BufMut as _, BytesMut};

/// Ends a JSON answer with a newline.
pub(crate) async fn put(response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let is_json =
        kind.is_some_and(|kind| kind.starts_with("application/") && kind.ends_with("json"));
    let length = head.headers.get(header::CONTENT_LENGTH).and_then(|text| text.to_str().ok());
    let length = length.and_then(|text| text.parse::<u64>().ok());
    // What has no length is no answer that is there as a whole.
    let Some(size) = body.size_hint().exact().filter(|_| is_json) else {
        return Response::from_parts(head, body);
    };
    if let Some(length) = length {
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length + 1));
    }
    // Of HEAD there is the length only.
    if size == 0 {
        return Response::from_parts(head, body);
    }
    let whole = usize::try_from(size).unwrap_or(usize::MAX);
    let Ok(json) = to_bytes(body, whole).await else {
        // It is in memory: there is nothing to go wrong.
        head.status = StatusCode::INTERNAL_SERVER_ERROR;
        return Response::from_parts(head, Body::empty());
    };
    let mut line = BytesMut::with_capacity(json.len() + 1);
    line.extend_from_slice(&json);
    line.put_u8(b'\n');
    Response::from_parts(head, Body::from(line.freeze()))
}
