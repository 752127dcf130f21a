//! Members on WebSockets.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::http_client::Ask;
use crate::support::{LineClient, NativeClient, config, narrow_stream, start, within};

pub struct Web {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    told: std::collections::VecDeque<Value>,
}

impl Web {
    async fn connect(http: SocketAddr) -> Self {
        let url = format!("ws://{http}/api/ws");
        let (socket, _) = tokio_tungstenite::connect_async(url).await.expect("a WebSocket");
        Self { socket, told: std::collections::VecDeque::new() }
    }

    pub async fn join(http: SocketAddr, join: Value) -> (Self, Value) {
        Self::join_as(http, None, join).await
    }

    /// The same, logged in.
    pub async fn join_as(http: SocketAddr, token: Option<&str>, join: Value) -> (Self, Value) {
        let mut request = format!("ws://{http}/api/ws").into_client_request().expect("a request");
        if let Some(token) = token {
            let bearer = format!("Bearer {token}").parse().expect("a header");
            request.headers_mut().insert("authorization", bearer);
        }
        let (socket, _) = tokio_tungstenite::connect_async(request).await.expect("a WebSocket");
        let mut web = Self { socket, told: std::collections::VecDeque::new() };
        web.say(&join).await;
        let welcome = web.next().await.expect("an answer");
        (web, welcome)
    }

    pub async fn say(&mut self, say: &Value) {
        self.socket.send(Message::text(say.to_string())).await.expect("writes");
    }

    /// What comes next; `None` at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(told) = self.told.pop_front() {
                return Some(told);
            }
            match within("a frame", self.socket.next()).await?.ok()? {
                Message::Text(text) => {
                    let lines = text.lines().map(|line| serde_json::from_str(line).expect("JSON"));
                    self.told.extend(lines);
                }
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }

    pub async fn until(&mut self, kind: &str) -> Value {
        loop {
            let told = self.next().await.unwrap_or_else(|| panic!("it ended before {kind}"));
            if told["type"] == kind {
                return told;
            }
        }
    }
}

fn join(name: &str) -> Value {
    json!({ "type": "join", "group": "ops", "name": name })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_member_sends_confirms_and_sees_receipts() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(config(data.path())).await;
    let http = node.endpoints().http.expect("http");
    let (mut ana, welcome) = Web::join(http, join("ana")).await;
    assert_eq!((&welcome["type"], &welcome["resumed"]), (&json!("welcome"), &json!(false)));
    let (mut luis, _) = Web::join(http, join("luis")).await;
    assert_eq!(ana.until("joined").await["name"], "luis");
    ana.say(&json!({ "type": "send", "counter": 1, "text": "hola" })).await;
    let message = luis.until("message").await;
    assert_eq!((&message["from"], &message["text"]), (&json!("ana"), &json!("hola")));
    let stored = ana.until("stored").await;
    assert_eq!((&stored["counter"], &stored["seq"]), (&json!(1), &message["seq"]));
    luis.say(&json!({ "type": "confirm", "seq": message["seq"] })).await;
    let receipt = ana.until("receipt").await;
    assert_eq!((&receipt["counter"], &receipt["receipt"]["confirmed"]), (&json!(1), &json!(1)));
    let members = Ask::get(http, "/api/groups/ops").answer().await;
    assert_eq!(members.json["members"][0]["door"], "web");
    luis.say(&json!({ "type": "leave" })).await;
    assert_eq!(luis.until("closed").await["code"], "REMOVED");
    assert_eq!(ana.until("left").await["why"], "exit");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_is_told_confirmations_and_the_receipts_of_others() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(config(data.path())).await;
    let http = node.endpoints().http.expect("http");
    let follow = json!({ "type": "join", "group": "ops", "name": "ana", "follow": true });
    let (mut ana, _) = Web::join(http, follow).await;
    let (mut luis, _) = Web::join(http, join("luis")).await;
    let post = Ask::post(http, "/api/groups/ops/messages?wait=stored", "hola").answer().await;
    let seq = ana.until("message").await["seq"].clone();
    assert_eq!(post.json["seq"], seq);
    ana.say(&json!({ "type": "confirm", "seq": seq })).await;
    let confirmed = ana.until("confirmed").await;
    assert_eq!((&confirmed["name"], &confirmed["seq"]), (&json!("ana"), &seq));
    luis.until("message").await;
    luis.say(&json!({ "type": "confirm", "seq": seq })).await;
    let told = ana.until("receipt").await;
    assert_eq!((&told["receipt"]["seq"], &told["receipt"]["final"]), (&seq, &json!(true)));
    assert!(told.get("counter").is_none(), "{told}");
    // Who does not follow is told of its own messages only.
    luis.say(&json!({ "type": "ping" })).await;
    loop {
        let told = luis.next().await.expect("an answer");
        assert_ne!(told["type"], "receipt");
        if told["type"] == "pong" {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_member_comes_back_to_what_it_has_not_confirmed_and_a_retry_is_one_message() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(config(data.path())).await;
    let (http, line) = (node.endpoints().http.expect("http"), node.endpoints().line.expect("line"));
    let (mut ana, welcome) = Web::join(http, join("ana")).await;
    ana.say(&json!({ "type": "send", "counter": 1, "text": "one" })).await;
    let stored = ana.until("stored").await;
    drop(ana);
    let mut luis = LineClient::join(line, "luis", "ops").await;
    luis.say("MSG meanwhile").await;
    luis.until("OK MSG").await;
    let mut again = join("ana");
    again["secret"] = welcome["secret"].clone();
    let epoch = &welcome["epoch"];
    let log = welcome["log"].as_str().expect("a log");
    again["after"] = json!(format!("{log}-{epoch}-{}", stored["seq"]));
    let (mut ana, welcome) = Web::join(http, again).await;
    assert_eq!((&welcome["resumed"], &welcome["counter"]), (&json!(true), &json!(1)));
    assert_eq!(ana.until("message").await["text"], "meanwhile");
    ana.say(&json!({ "type": "send", "counter": 1, "text": "one" })).await;
    assert_eq!(ana.until("stored").await["seq"], stored["seq"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_web_client_may_not_say_is_told() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(config(data.path())).await;
    let http = node.endpoints().http.expect("http");
    let _ana = Web::join(http, join("ana")).await;
    let cases = [
        (json!({ "type": "ping" }), "NOT_JOINED"),
        (json!({ "type": "dance" }), "BAD_FRAME"),
        (join("ANA"), "NAME_TAKEN"),
        (join("a b"), "BAD_NAME"),
        (
            json!({ "type": "join", "group": "ops", "name": "eva", "secret": "é".repeat(32) }),
            "BAD_SECRET",
        ),
        (json!({ "type": "join", "group": "ops", "name": "eva", "after": "9" }), "BAD_FRAME"),
    ];
    for (say, code) in cases {
        let mut web = Web::connect(http).await;
        web.say(&say).await;
        assert_eq!(web.until("closed").await["code"], code, "{say}");
        assert_eq!(web.next().await, None);
    }
    let (mut eva, welcome) = Web::join(http, join("eva")).await;
    eva.say(&json!({ "type": "confirm", "seq": welcome["tail"].as_u64().map(|tail| tail + 100) }))
        .await;
    assert_eq!(eva.until("closed").await["code"], "BAD_ACK");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_sites_page_gets_no_socket() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(config(data.path())).await;
    let http = node.endpoints().http.expect("http");
    let ask = Ask::get(http, "/api/ws")
        .header("origin", "http://evil.example")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(ask.answer().await.code(), "FOREIGN_ORIGIN");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_web_members_see_one_order() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(config(data.path())).await;
    let http = node.endpoints().http.expect("http");
    let mut members = Vec::new();
    for at in 0..100 {
        members.push(Web::join(http, join(&format!("m{at}"))).await.0);
    }
    let last = 100 * 3;
    let members = members.into_iter().map(|mut member| {
        tokio::spawn(async move {
            for counter in 1..=3 {
                member.say(&json!({ "type": "send", "counter": counter, "text": "x" })).await;
            }
            let mut seen = Vec::new();
            while seen.len() < last {
                seen.push(member.until("message").await["seq"].as_u64());
            }
            seen
        })
    });
    let mut all = Vec::new();
    for member in members.collect::<Vec<_>>() {
        all.push(member.await.expect("it ends"));
    }
    assert!(all.iter().all(|seen| *seen == all[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_and_does_not_read_is_not_heard_without_end() {
    /// What sockets and the node's own answers hold is a small part of it.
    const TOO_MUCH: usize = 24 << 20;
    let data = tempfile::tempdir().expect("a folder");
    let node = start(config(data.path())).await;
    let http = node.endpoints().http.expect("http");
    let url = format!("ws://{http}/api/ws");
    let connecting = tokio_tungstenite::client_async(url, narrow_stream(http).await);
    let (mut socket, _) = connecting.await.expect("a WebSocket");
    socket.send(Message::text(join("ana").to_string())).await.expect("writes");
    // A second one is refused, each time.
    let again = Message::text(format!("{:400}", join("ana").to_string()));
    let mut written = 0;
    // Nothing goes on for so long: it is blocked. It may also be cut off.
    let patience = std::time::Duration::from_secs(3);
    while let Ok(Ok(())) = tokio::time::timeout(patience, socket.send(again.clone())).await {
        written += again.len();
        assert!(written < TOO_MUCH, "the node takes in questions whose answers nobody reads");
    }
    within("the node's end", node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_longer_as_json_than_any_other_comes_whole() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(config(data.path())).await;
    let endpoints = node.endpoints();
    let (http, native) = (endpoints.http.expect("it is on"), endpoints.native.expect("it is on"));
    let (mut web, _) = Web::join(http, join("ana")).await;
    let id = tertulia_group::SenderId([7; 16]);
    let (mut sender, _) = NativeClient::sender(native, "eva", "ops", id, false).await;
    // Each of them is written as six bytes.
    let text = "\u{1}".repeat(900_000);
    sender.publish("eva", 1, text.as_bytes()).await;
    assert_eq!(web.until("message").await["text"], text);
}
