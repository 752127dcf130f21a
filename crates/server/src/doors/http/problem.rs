//! What is refused over HTTP: `application/problem+json` (RFC 9457), from the same refusals as at the other doors.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tertulia_wire::Code;
use utoipa::ToSchema;

use super::refusals::PROBLEM;
use crate::directory::Denied;

/// A refusal. `code` is the word that the native door uses for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// The same as the answer's status.
    status: u16,
    /// What the status says.
    title: &'static str,
    /// A word for programs.
    code: &'static str,
    /// What to do.
    detail: String,
    /// The browser is to forget its cookie.
    #[serde(skip)]
    forget_cookie: bool,
}

/// What is said to who says nothing.
pub(crate) const EMPTY: &str = "a message is not empty: say something";

/// On an answer: that it is a refusal, and why.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused(pub &'static str);

impl Problem {
    /// A refusal that only this door knows.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or_default();
        Self { status: status.as_u16(), title, code, detail: detail.into(), forget_cookie: false }
    }

    /// The request cannot be read.
    pub fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", detail)
    }

    /// There is no text in a message.
    pub fn empty() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BAD_TEXT", EMPTY)
    }

    /// Who asks has to say who they are.
    pub fn not_logged_in(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, Code::NotLoggedIn.as_str(), detail)
    }

    /// The same, and the browser forgets its cookie: the next request is a guest's.
    pub fn without_cookie(self) -> Self {
        Self { forget_cookie: true, ..self }
    }

    /// Whether the message is stored cannot be said.
    pub fn unknown(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "UNKNOWN_OUTCOME", detail)
    }

    /// A whole answer, for a connection that is told this and nothing else.
    pub fn into_last_answer(self) -> Vec<u8> {
        let mut body = serde_json::to_vec(&self).expect("numbers and texts are always JSON");
        body.push(b'\n');
        let (status, title, length) = (self.status, self.title, body.len());
        let head = format!(
            "HTTP/1.1 {status} {title}\r\nContent-Type: {PROBLEM}\r\nContent-Length: {length}\r\n\
             Retry-After: 1\r\nConnection: close\r\n\r\n"
        );
        [head.into_bytes(), body].concat()
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        Self::new(status_of(denied.code), denied.code.as_str(), denied.message)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        let forget_cookie = self.forget_cookie;
        let code = self.code;
        let mut response = (status, Json(self)).into_response();
        response.extensions_mut().insert(Refused(code));
        let kind = HeaderValue::from_static(PROBLEM);
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status == StatusCode::UNAUTHORIZED {
            let how = HeaderValue::from_static("Bearer realm=\"tertulia\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, how);
        }
        if let Some(line) = super::guard::set_cookie(None, false).filter(|_| forget_cookie) {
            response.headers_mut().insert(header::SET_COOKIE, line);
        }
        response
    }
}

/// The one mapping of the node's codes to statuses.
const fn status_of(code: Code) -> StatusCode {
    match code {
        Code::UnknownGroup | Code::NoSuchMember | Code::NoSuchMessage => StatusCode::NOT_FOUND,
        Code::GroupExists
        | Code::GroupFull
        | Code::GroupInUse
        | Code::NameTaken
        | Code::AlreadyJoined
        | Code::CounterSkipped
        | Code::Replaced
        | Code::Removed => StatusCode::CONFLICT,
        Code::NotLoggedIn => StatusCode::UNAUTHORIZED,
        Code::NameReserved | Code::BadSecret | Code::Denied => StatusCode::FORBIDDEN,
        Code::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
        Code::Limit => StatusCode::TOO_MANY_REQUESTS,
        Code::Expired => StatusCode::GONE,
        Code::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
        Code::Busy
        | Code::AfterRefused
        | Code::StoreFailed
        | Code::Damaged
        | Code::Moved
        | Code::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        Code::SenderExpired => StatusCode::GATEWAY_TIMEOUT,
        Code::BadName
        | Code::BadPassword
        | Code::NotJoined
        | Code::BadFrame
        | Code::BadVersion
        | Code::BadAck
        | Code::Idle
        | Code::Unknown(_) => StatusCode::BAD_REQUEST,
    }
}
