//! The node, asked over HTTP: accounts, the list of peers, announcements, capabilities. A request is a connection.

use std::pin::Pin;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tertulia_client::{Directory, Target};
use tertulia_wire::json::Page;
use tertulia_wire::sharing::{
    CapabilityGiven, CapabilityWanted, FileLine, FilesChanged, FilesKnown, HolderLine, NodeKey,
    PeerHere, PeerLease, PeerLine,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::content::ContentHash;
use crate::identity::Fingerprint;
use crate::limits::{ANSWER_BYTES_MAX, NODE_WAIT};

/// Why the node did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct NodeError {
    /// The node's word, such as `NAME_TAKEN`; or `NODE_UNREACHABLE`, `NO_HTTP_DOOR`, `INSECURE`, `PROTOCOL`.
    pub code: String,
    /// What to do; not yet fit to be shown.
    pub message: String,
}

impl NodeError {
    fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }

    /// Whether it may be otherwise in a moment, without anybody doing anything.
    pub fn is_passing(&self) -> bool {
        matches!(
            &*self.code,
            "NODE_UNREACHABLE" | "SHUTTING_DOWN" | "BUSY" | "STORE_FAILED" | "PROTOCOL"
        )
    }
}

/// Who one is, as the node says.
#[derive(Clone, Debug, Deserialize)]
pub struct Identified {
    /// The account's name; none for a guest.
    #[serde(default)]
    pub name: Option<String>,
    /// May everything.
    #[serde(default)]
    pub administrator: bool,
}

/// What the node gives for a password.
#[derive(Clone, Deserialize)]
pub struct TokenGiven {
    /// For `Authorization: Bearer`.
    pub token: String,
    /// When it ends (RFC 3339).
    pub expires: String,
}

impl std::fmt::Debug for TokenGiven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenGiven").field("expires", &self.expires).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct ProblemRead {
    #[serde(default)]
    code: String,
    #[serde(default)]
    detail: String,
}

#[derive(Serialize)]
struct Registration<'a> {
    name: &'a str,
    password: &'a str,
    setup_code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<&'a str>,
}

#[derive(Serialize)]
struct Credentials<'a> {
    name: &'a str,
    password: &'a str,
}

/// See the module.
#[derive(Debug)]
pub struct Node {
    /// The native door, which says where the HTTP door is; without a login.
    target: Target,
    found: Mutex<Option<Found>>,
}

/// What the native door says of the node.
#[derive(Clone, Debug)]
struct Found {
    /// The HTTP door, `host:port`.
    http: String,
    /// The store, in hexadecimal.
    instance: String,
}

/// A way to the node.
trait Way: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Way for T {}

/// A connection to the node's HTTP door.
struct Reached {
    way: Pin<Box<dyn Way>>,
    /// Nobody between can read it.
    is_private: bool,
}

/// Connects to the node's HTTP door: over TLS where the native door is spoken to so.
async fn connect(target: &Target, address: &str) -> std::io::Result<Reached> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    if target.is_tls() {
        let stream = target.shake_hands_over_http(stream).await.map_err(std::io::Error::other)?;
        return Ok(Reached { way: Box::pin(stream), is_private: true });
    }
    let is_private = stream.peer_addr()?.ip().to_canonical().is_loopback();
    Ok(Reached { way: Box::pin(stream), is_private })
}

/// One request; `token` is who asks.
struct Ask<'a> {
    method: Method,
    path: &'a str,
    token: Option<&'a str>,
    body: Option<Vec<u8>>,
    /// There is a password in the body.
    is_secret: bool,
}

impl<'a> Ask<'a> {
    fn get(path: &'a str, token: Option<&'a str>) -> Self {
        Self { method: Method::GET, path, token, body: None, is_secret: false }
    }

    fn send(method: Method, path: &'a str, token: Option<&'a str>, body: &impl Serialize) -> Self {
        // Strings, numbers and lists: nothing that serialising could refuse.
        let body = Some(serde_json::to_vec(body).unwrap_or_default());
        Self { method, path, token, body, is_secret: false }
    }
}

impl Node {
    /// The node with this native door.
    pub fn new(target: &Target) -> Self {
        Self { target: target.clone().login(None), found: Mutex::new(None) }
    }

    /// Its native door.
    pub fn address(&self) -> &str {
        self.target.address()
    }

    /// The node's store, in hexadecimal.
    ///
    /// # Errors
    /// [`NodeError`]
    pub async fn instance(&self) -> Result<String, NodeError> {
        Ok(self.found().await?.instance)
    }

    /// As the native door's greeting says.
    async fn found(&self) -> Result<Found, NodeError> {
        let mut known = self.found.lock().await;
        if let Some(found) = &*known {
            return Ok(found.clone());
        }
        let directory = Directory::connect(&self.target).await;
        let directory =
            directory.map_err(|error| NodeError::new("NODE_UNREACHABLE", error.to_string()))?;
        let found =
            Found { http: directory.http().to_owned(), instance: directory.instance().to_string() };
        if found.http.is_empty() {
            let message =
                format!("the node at {} has no HTTP door, which peers need", self.target.address());
            return Err(NodeError::new("NO_HTTP_DOOR", message));
        }
        *known = Some(found.clone());
        Ok(found)
    }

    async fn ask<T: DeserializeOwned>(&self, ask: Ask<'_>) -> Result<T, NodeError> {
        let body = self.raw(ask).await?;
        serde_json::from_slice(&body)
            .map_err(|error| NodeError::new("PROTOCOL", format!("the node's answer: {error}")))
    }

    async fn raw(&self, ask: Ask<'_>) -> Result<Bytes, NodeError> {
        let (http, way) = self.way().await?;
        let silent =
            || NodeError::new("NODE_UNREACHABLE", format!("the node at {http} does not answer"));
        let answer = tokio::time::timeout(NODE_WAIT, exchange(&http, way, ask)).await;
        answer.unwrap_or_else(|_| Err(silent()))
    }

    /// A connection to the HTTP door. Where nobody is at the one that is known, the node is asked again: it may have started
    /// again at another port. Nothing has been said by then.
    async fn way(&self) -> Result<(String, Reached), NodeError> {
        let mut known = self.found.lock().await.is_some();
        loop {
            let http = self.found().await?.http;
            let why = match tokio::time::timeout(NODE_WAIT, connect(&self.target, &http)).await {
                Ok(Ok(way)) => return Ok((http, way)),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it does not answer".to_owned(),
            };
            *self.found.lock().await = None;
            if !std::mem::take(&mut known) {
                return Err(NodeError::new(
                    "NODE_UNREACHABLE",
                    format!("the node at {http}: {why}"),
                ));
            }
        }
    }

    /// Makes an account.
    ///
    /// # Errors
    /// [`NodeError`]
    pub async fn register(
        &self,
        name: &str,
        password: &str,
        setup_code: &str,
        peer: Option<&str>,
    ) -> Result<Identified, NodeError> {
        let body = Registration { name, password, setup_code, peer };
        let ask = Ask::send(Method::POST, "/api/register", None, &body);
        self.ask(Ask { is_secret: true, ..ask }).await
    }

    /// Gets a token for a password.
    ///
    /// # Errors
    /// [`NodeError`]
    pub async fn log_in(&self, name: &str, password: &str) -> Result<TokenGiven, NodeError> {
        let ask = Ask::send(Method::POST, "/api/login", None, &Credentials { name, password });
        self.ask(Ask { is_secret: true, ..ask }).await
    }

    /// Gives a token back.
    ///
    /// # Errors
    /// [`NodeError`]
    pub async fn log_out(&self, token: &str) -> Result<(), NodeError> {
        let ask = Ask { method: Method::POST, ..Ask::get("/api/logout", Some(token)) };
        self.raw(ask).await.map(|_| ())
    }

    /// Whose token it is.
    ///
    /// # Errors
    /// [`NodeError`]
    pub async fn who_am_i(&self, token: &str) -> Result<Identified, NodeError> {
        self.ask(Ask::get("/api/whoami", Some(token))).await
    }

    /// By what capabilities are verified.
    ///
    /// # Errors
    /// [`NodeError`]
    pub async fn key(&self) -> Result<NodeKey, NodeError> {
        self.ask(Ask::get("/api/peers/key", None)).await
    }

    /// Says where one's peer is.
    ///
    /// # Errors
    /// [`NodeError`]
    pub async fn here(&self, token: &str, here: &PeerHere) -> Result<PeerLease, NodeError> {
        self.ask(Ask::send(Method::PUT, "/api/peers/me", Some(token), here)).await
    }

    /// Says that one's peer goes.
    ///
    /// # Errors
    /// [`NodeError`]
    pub async fn gone(&self, token: &str, fingerprint: Fingerprint) -> Result<(), NodeError> {
        let path = format!("/api/peers/me?fingerprint={fingerprint}");
        let ask = Ask { method: Method::DELETE, ..Ask::get(&path, Some(token)) };
        self.raw(ask).await.map(|_| ())
    }

    /// Says what has changed of one's files.
    ///
    /// # Errors
    /// [`NodeError`]; `REVISION` where everything is to be said anew.
    pub async fn announce(
        &self,
        token: &str,
        changed: &FilesChanged,
    ) -> Result<FilesKnown, NodeError> {
        self.ask(Ask::send(Method::POST, "/api/files", Some(token), changed)).await
    }

    /// Every account's peers.
    ///
    /// # Errors
    /// [`NodeError`]
    pub async fn peers(&self, token: &str) -> Result<Vec<PeerLine>, NodeError> {
        let mut peers = Vec::new();
        let mut after = String::new();
        loop {
            let path = format!("/api/peers?limit=1000{after}");
            let page: Page<PeerLine> = self.ask(Ask::get(&path, Some(token))).await?;
            peers.extend(page.items);
            match page.next {
                Some(next) => after = format!("&after={}", encoded(&next)),
                None => return Ok(peers),
            }
        }
    }

    /// The best files for these words; whether there are more.
    ///
    /// # Errors
    /// [`NodeError`]
    pub async fn search(
        &self,
        token: &str,
        words: &str,
        limit: u32,
    ) -> Result<(Vec<FileLine>, bool), NodeError> {
        let path = format!("/api/files?q={}&limit={limit}", encoded(words));
        let page: Page<FileLine> = self.ask(Ask::get(&path, Some(token))).await?;
        Ok((page.items, page.next.is_some()))
    }

    /// The peers that have a content.
    ///
    /// # Errors
    /// [`NodeError`]
    pub async fn holders(
        &self,
        token: &str,
        hash: ContentHash,
    ) -> Result<Vec<HolderLine>, NodeError> {
        let path = format!("/api/files/{hash}/holders");
        let page: Page<HolderLine> = self.ask(Ask::get(&path, Some(token))).await?;
        Ok(page.items)
    }

    /// The right to fetch a content with a certificate.
    ///
    /// # Errors
    /// [`NodeError`]
    pub async fn capability(
        &self,
        token: &str,
        hash: ContentHash,
        fingerprint: Fingerprint,
    ) -> Result<String, NodeError> {
        let (fingerprint, hashes) = (fingerprint.to_string(), vec![hash.to_string()]);
        let wanted = CapabilityWanted { fingerprint, hashes, holders: false };
        let ask = Ask::send(Method::POST, "/api/capabilities", Some(token), &wanted);
        let given: CapabilityGiven = self.ask(ask).await?;
        Ok(given.capability)
    }

    /// The same for several, and the peers that have each of them, none where nobody has it; in one question.
    ///
    /// # Errors
    /// [`NodeError`]; also where nobody has any of them.
    pub async fn capability_for(
        &self,
        token: &str,
        hashes: &[ContentHash],
        fingerprint: Fingerprint,
    ) -> Result<(String, Vec<Vec<HolderLine>>), NodeError> {
        let fingerprint = fingerprint.to_string();
        let texts = hashes.iter().map(ToString::to_string).collect();
        let wanted = CapabilityWanted { fingerprint, hashes: texts, holders: true };
        let ask = Ask::send(Method::POST, "/api/capabilities", Some(token), &wanted);
        let given: CapabilityGiven = self.ask(ask).await?;
        let holders = given.holders.filter(|holders| holders.len() == hashes.len());
        let holders = holders.ok_or_else(|| {
            NodeError::new("PROTOCOL", "the node does not say who has each of the contents")
        })?;
        Ok((given.capability, holders))
    }
}

async fn exchange(http: &str, reached: Reached, ask: Ask<'_>) -> Result<Bytes, NodeError> {
    let gone = |error: &dyn std::fmt::Display| {
        NodeError::new("NODE_UNREACHABLE", format!("the node at {http}: {error}"))
    };
    let Reached { way, is_private } = reached;
    if !is_private && (ask.is_secret || ask.token.is_some()) {
        let message = format!(
            "passwords and tokens are not sent to {http}, where others may read them; run the peer on the node's \
             machine, or dial it as tls://HOST"
        );
        return Err(NodeError::new("INSECURE", message));
    }
    let shaken = hyper::client::conn::http1::handshake(TokioIo::new(way)).await;
    let (mut sender, connection) = shaken.map_err(|error| gone(&error))?;
    let connection = tokio::spawn(connection);
    let mut request = Request::builder()
        .method(ask.method)
        .uri(ask.path)
        .header(header::HOST, http)
        .header(header::ACCEPT, "application/json");
    if let Some(token) = ask.token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    if ask.body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let body = Full::new(Bytes::from(ask.body.unwrap_or_default()));
    let request = request
        .body(body)
        .map_err(|error| NodeError::new("PROTOCOL", format!("this cannot be asked: {error}")))?;
    let response = sender.send_request(request).await.map_err(|error| gone(&error))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    connection.abort();
    let body = body.map_err(|error| gone(&error))?.to_bytes();
    if status.is_success() {
        return Ok(body);
    }
    Err(refusal(status, &body))
}

fn refusal(status: StatusCode, body: &[u8]) -> NodeError {
    match serde_json::from_slice::<ProblemRead>(body) {
        Ok(problem) if !problem.code.is_empty() => {
            NodeError { code: problem.code, message: problem.detail }
        }
        _ => NodeError::new("PROTOCOL", format!("the node answered {status}")),
    }
}

/// As it may stand in a query.
fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_cannot_become_another_question() {
        assert_eq!(encoded("a b&limit=1#x\u{f1}"), "a%20b%26limit%3D1%23x%C3%B1");
    }

    #[test]
    fn a_refusal_is_the_nodes_or_says_what_came() {
        let body = br#"{"status":409,"title":"Conflict","code":"REVISION","detail":"say it anew"}"#;
        let error = refusal(StatusCode::CONFLICT, body);
        assert_eq!((&*error.code, &*error.message), ("REVISION", "say it anew"));
        let error = refusal(StatusCode::BAD_GATEWAY, b"<html>");
        assert_eq!(
            (&*error.code, &*error.message),
            ("PROTOCOL", "the node answered 502 Bad Gateway")
        );
    }
}
