//! A client of the HTTP door for tests: one request a connection, answers whole or as a stream of events.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::support::within;

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub kind: String,
    pub json: Value,
}

impl Answer {
    /// The `code` of a problem.
    pub fn code(&self) -> &str {
        assert_eq!(self.kind, "application/problem+json", "{self:?}");
        assert_eq!(self.json["status"], self.status.as_u16(), "{self:?}");
        self.json["code"].as_str().expect("a code")
    }
}

/// A request that is being written.
pub struct Ask {
    address: SocketAddr,
    request: hyper::http::request::Builder,
    body: Bytes,
}

impl Ask {
    fn new(address: SocketAddr, method: Method, path: &str) -> Self {
        let request =
            Request::builder().method(method).uri(path).header("host", address.to_string());
        Self { address, request, body: Bytes::new() }
    }

    pub fn get(address: SocketAddr, path: &str) -> Self {
        Self::new(address, Method::GET, path)
    }

    pub fn post(address: SocketAddr, path: &str, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..Self::new(address, Method::POST, path) }
    }

    pub fn json(address: SocketAddr, path: &str, body: &Value) -> Self {
        Self::post(address, path, body.to_string()).header("content-type", "application/json")
    }

    /// Replaces a header that is there already.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Some(headers) = self.request.headers_mut() {
            headers.insert(name, value.parse().expect("a header"));
        }
        self
    }

    pub fn method(self, method: &str) -> Self {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        Self { request: self.request.method(method), ..self }
    }

    /// The whole answer, and its headers.
    pub async fn with_headers(self) -> (Answer, hyper::HeaderMap) {
        let response = self.response().await;
        let headers = response.headers().clone();
        (whole(response).await, headers)
    }

    /// The whole answer, over a connection that is there.
    pub async fn over(self, stream: TcpStream) -> Answer {
        whole(self.response_over(stream).await).await
    }

    pub async fn response(self) -> Response<Incoming> {
        let stream = TcpStream::connect(self.address).await.expect("connects");
        self.response_over(stream).await
    }

    async fn response_over(self, stream: TcpStream) -> Response<Incoming> {
        let (mut client, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(connection);
        let request = self.request.body(Full::new(self.body)).expect("a request");
        within("an answer", client.send_request(request)).await.expect("an answer")
    }

    /// The whole answer.
    pub async fn answer(self) -> Answer {
        whole(self.response().await).await
    }

    /// The whole answer, as text.
    pub async fn text(self) -> String {
        let body = self.response().await.into_body().collect().await.expect("a body");
        String::from_utf8(body.to_bytes().to_vec()).expect("UTF-8")
    }

    /// The answer as events.
    pub async fn events(self) -> Events {
        let response = self.response().await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Events { body: response.into_body(), read: BytesMut::new() }
    }
}

async fn whole(response: Response<Incoming>) -> Answer {
    let status = response.status();
    let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default().to_owned();
    let body = within("a body", response.into_body().collect()).await.expect("a body");
    let json = serde_json::from_slice(&body.to_bytes()).unwrap_or(Value::Null);
    Answer { status, kind, json }
}

/// One event of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub kind: String,
    pub id: Option<String>,
    pub data: Value,
}

impl Event {
    /// (kind, number, text).
    pub fn brief(&self) -> (&str, u64, &str) {
        let text = self.data["text"].as_str().or(self.data["name"].as_str());
        (&self.kind, self.data["seq"].as_u64().unwrap_or(0), text.unwrap_or_default())
    }
}

/// A stream of events.
pub struct Events {
    body: Incoming,
    read: BytesMut,
}

impl Events {
    /// The next event; `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.read.windows(2).position(|pair| pair == b"\n\n") {
                let text = self.read.split_to(end + 2);
                match parse(std::str::from_utf8(&text).expect("UTF-8")) {
                    Some(event) => return Some(event),
                    None => continue,
                }
            }
            match within("an event", self.body.frame()).await?.ok()?.into_data() {
                Ok(data) => self.read.extend_from_slice(&data),
                Err(_) => return None,
            }
        }
    }
}

fn parse(text: &str) -> Option<Event> {
    let field = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(name));
        lines.next().map(|value| value.trim_start().to_owned())
    };
    let data = serde_json::from_str(&field("data:")?).expect("JSON");
    Some(Event { kind: field("event:")?, id: field("id:"), data })
}
