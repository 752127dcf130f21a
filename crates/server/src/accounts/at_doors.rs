//! The table of who may what, held against every door: each row, each role, each way to ask, through real sockets.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::BytesMut;
use serde_json::Value;
use tertulia_group::{Limits, SenderId};
use tertulia_wire::native::{
    Audience, Credential, GroupRules, Hello, HistoryMode, Join, OpenSender, Start, kind,
    split_from_node,
};
use tertulia_wire::{ClientFrame, Code, NodeFrame};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::table::{OF_GROUP, Operation, Role, Row, TABLE, Verdict};
use super::*;
use crate::config::{Config, Engine, Keep, NodeLimits};
use crate::node::Node;

const PASSWORD: &str = "correct horse";

/// How a door answered.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// Nothing was said about rights.
    Fine,
    LogIn,
    Denied,
    /// `UNKNOWN_GROUP`, with every word of it.
    Unknown(String),
}

struct Rig {
    node: Node,
    tokens: Mutex<BTreeMap<&'static str, String>>,
}

async fn start(guests: bool) -> Node {
    let mut limits = NodeLimits::default();
    limits.accounts.hash_cost = HashCost { memory_kib: 64, passes: 1 };
    let config = Config {
        listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
        advertise: None,
        data: std::path::PathBuf::new(),
        native_port: Some(0),
        line_port: Some(0),
        http_port: Some(0),
        guests,
        accounts: AccountRules::default(),
        tls: None,
        keep: Keep::default(),
        engine: Engine::Memory,
        fsync: false,
        node_id: "test".to_owned(),
        limits,
        group_limits: Limits::default(),
    };
    let (notices, _) = mpsc::channel(1);
    Node::start(config, notices).await.unwrap()
}

impl Rig {
    /// Accounts: `root` is the administrator, `ana` owns the groups, `luis` may join, `ci` may send, `eva` nothing.
    async fn new(guests: bool) -> Self {
        let rig = Self { node: start(guests).await, tokens: Mutex::default() };
        for name in ["root", "ana", "luis", "ci", "eva"] {
            let body = format!(r#"{{"name":"{name}","password":"{PASSWORD}"}}"#);
            let (status, answer) = rig.http("POST", "/api/register", None, &body).await;
            assert_eq!((status, &answer["administrator"]), (201, &Value::from(name == "root")));
            rig.log_in(name).await;
        }
        rig
    }

    async fn log_in(&self, name: &'static str) {
        let body = format!(r#"{{"name":"{name}","password":"{PASSWORD}"}}"#);
        let (status, answer) = self.http("POST", "/api/login", None, &body).await;
        assert_eq!(status, 200, "{answer}");
        let token = answer["token"].as_str().unwrap().to_owned();
        self.tokens.lock().unwrap().insert(name, token);
    }

    fn token(&self, who: Option<&str>) -> Option<String> {
        who.map(|who| self.tokens.lock().unwrap()[who].clone())
    }

    async fn native(&self, who: Option<&str>) -> Native {
        let token = self.token(who);
        Native::open(self.node.endpoints().native.unwrap(), token.as_deref()).await
    }

    async fn http(&self, method: &str, path: &str, who: Option<&str>, body: &str) -> (u16, Value) {
        let token = self.token(who);
        http(self.node.endpoints().http.unwrap(), method, path, token.as_deref(), body).await
    }

    /// A group for which each account is what its role says; of the `keeper` nobody's.
    async fn group(&self, name: &str, role: Role) {
        let owner = if role == Role::Keeper { None } else { Some("ana") };
        let rules = GroupRules {
            join: Audience::Private,
            send: Audience::Private,
            may_join: vec!["luis".into()],
            may_send: vec!["ci".into()],
            ..GroupRules::open()
        };
        let mut native = self.native(owner).await;
        let rules = owner.map(|_| rules);
        let made = native.ask(ClientFrame::Create { id: 1, group: name.into(), rules }).await;
        assert_eq!(made, NodeFrame::Done { id: 1 }, "{name}");
    }
}

struct Native {
    stream: TcpStream,
    inbound: BytesMut,
}

impl Native {
    async fn open(address: SocketAddr, token: Option<&str>) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut native = Self { stream, inbound: BytesMut::new() };
        let hello = Hello { version: 1, features: 0, agent: "test".into() };
        native.send(&ClientFrame::Hello(hello)).await;
        assert!(matches!(native.frame().await, NodeFrame::Greeting(_)));
        if let Some(token) = token {
            let auth = ClientFrame::Auth { id: 9, token: Credential(token.into()) };
            assert!(matches!(native.ask(auth).await, NodeFrame::Identity { .. }));
        }
        native
    }

    async fn send(&mut self, frame: &ClientFrame) {
        let mut out = BytesMut::new();
        frame.encode(&mut out);
        self.stream.write_all(&out).await.unwrap();
    }

    async fn frame(&mut self) -> NodeFrame {
        loop {
            if let Some(frame) = split_from_node(&mut self.inbound, 1 << 20).unwrap() {
                return NodeFrame::decode(frame).unwrap();
            }
            let read = self.stream.read_buf(&mut self.inbound);
            let read = tokio::time::timeout(Duration::from_secs(20), read).await;
            assert_ne!(read.expect("a frame comes").unwrap(), 0, "the node has closed");
        }
    }

    async fn ask(&mut self, frame: ClientFrame) -> NodeFrame {
        self.send(&frame).await;
        self.frame().await
    }
}

async fn http(
    address: SocketAddr,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: &str,
) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{token}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    if path.ends_with("/events") {
        // It goes on for ever where it is allowed.
        let mut lines = BufReader::new(stream);
        lines.read_line(&mut answer).await.unwrap();
        while !answer.contains("200") && lines.read_line(&mut answer).await.unwrap() > 0 {}
    } else {
        stream.read_to_string(&mut answer).await.unwrap();
    }
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status.expect(path), serde_json::from_str(body).unwrap_or(Value::Null))
}

/// What `role` is called on the rig, where it has an account.
fn account_of(role: Role) -> Option<&'static str> {
    match role {
        Role::Stranger | Role::Guest | Role::Keeper => None,
        Role::Account | Role::Nobody => Some("eva"),
        Role::Sender => Some("ci"),
        Role::Joiner => Some("luis"),
        Role::Owner => Some("ana"),
        Role::Administrator => Some("root"),
    }
}

fn of_native(frame: NodeFrame) -> Answer {
    match frame {
        NodeFrame::Error { code: Code::UnknownGroup, message, .. } => Answer::Unknown(message),
        NodeFrame::Error { code: Code::Denied, message, .. } if message.contains("no guests") => {
            Answer::LogIn
        }
        NodeFrame::Error { code: Code::NotLoggedIn, .. } => Answer::LogIn,
        NodeFrame::Error { code: Code::Denied, .. } => Answer::Denied,
        _ => Answer::Fine,
    }
}

fn of_http((status, body): (u16, Value)) -> Answer {
    match (status, body["code"].as_str()) {
        (401, Some("NOT_LOGGED_IN")) => Answer::LogIn,
        (403, Some("DENIED")) => Answer::Denied,
        (404, Some("UNKNOWN_GROUP")) => Answer::Unknown(body.to_string()),
        (400..600, code) if code.is_none() => panic!("{status} {body}"),
        _ => Answer::Fine,
    }
}

/// A frame of this kind; `None` for those that come only after another one, which is what the table judges.
fn frame_of(kind: u8, group: &str, name: &str) -> Option<ClientFrame> {
    let (id, group, name) = (1, group.to_owned(), name.to_owned());
    Some(match kind {
        kind::LOCATE => ClientFrame::Locate { id, group },
        kind::ALLOCATE => ClientFrame::Allocate { id, name },
        kind::GROUPS => ClientFrame::Groups { id, after: String::new(), limit: 10 },
        kind::CREATE => ClientFrame::Create { id, group: format!("{group}.new"), rules: None },
        kind::DELETE => ClientFrame::Delete { id, group },
        kind::MEMBERS => ClientFrame::Members { id, group, after: String::new(), limit: 10 },
        kind::REMOVE => ClientFrame::Remove { id, group, name: "someone".into() },
        kind::HISTORY => ClientFrame::History { id, group, mode: HistoryMode::Last, limit: 1 },
        kind::GET_RECEIPT => ClientFrame::Receipt { id, group, seq: 1, wait_ms: 0 },
        kind::STATUS => ClientFrame::Status { id },
        kind::GET_RULES => ClientFrame::GetRules { id, group },
        kind::SET_RULES => ClientFrame::SetRules { id, group, rules: GroupRules::open() },
        kind::JOIN => ClientFrame::Join(Box::new(Join {
            id,
            durable: false,
            follow: false,
            group,
            name,
            sender: SenderId([1; 16]),
            start: Start::Now,
            secret: None,
            position: None,
        })),
        kind::OPEN_SENDER => {
            let sender = SenderId([2; 16]);
            ClientFrame::OpenSender(OpenSender {
                id,
                known: false,
                follow: false,
                group,
                name,
                sender,
            })
        }
        kind::PING => ClientFrame::Ping { token: 1 },
        kind::REGISTER => {
            let (password, code) = (Credential("short".into()), Credential(String::new()));
            ClientFrame::Register { id, name, password, code }
        }
        kind::PASSWORD => {
            let (old, new) = (Credential(String::new()), Credential("short".into()));
            ClientFrame::Password { id, name: "ivo".into(), old, new }
        }
        kind::LOGOUT => ClientFrame::Logout { id },
        kind::WHOAMI => ClientFrame::WhoAmI { id },
        // They say themselves who asks: wrong ones are refused whoever shows them, which other tests look at.
        kind::AUTH | kind::LOGIN => return None,
        kind::HELLO | kind::ACK | kind::LEAVE | kind::PUBLISH => return None,
        other => panic!("say here how a frame of kind {other:#04x} is asked"),
    })
}

/// The path and the body of a route.
fn request_of(route: &str, group: &str) -> Option<(String, String, String)> {
    let (method, path) = route.split_once(' ')?;
    let body = match route {
        "POST /api/groups" => format!(r#"{{"name":"{group}.web"}}"#),
        "POST /api/allocate" => r#"{"name":"eva"}"#.to_owned(),
        "POST /api/register" => r#"{"name":"eva","password":"short"}"#.to_owned(),
        "POST /api/groups/{group}/messages" => r#"{"text":"hola"}"#.to_owned(),
        "POST /api/password" => r#"{"name":"ivo","new":"short"}"#.to_owned(),
        "PUT /api/groups/{group}/rules" => "{}".to_owned(),
        // They say themselves who asks.
        "POST /api/login" => return None,
        _ => String::new(),
    };
    let path = path.replace("{group}", group).replace("{seq}", "1");
    Some((method.to_owned(), path, body))
}

fn expected(row: &Row, role: Role) -> Option<Answer> {
    Some(match row.operation.verdict(role) {
        Verdict::Yes => Answer::Fine,
        Verdict::LogIn => Answer::LogIn,
        // What is asked for here is somebody else's.
        Verdict::No | Verdict::Own => Answer::Denied,
        Verdict::Hidden => return None,
    })
}

/// Asks everything that `rig` can be asked by `role`, and compares with the table.
async fn hold(rig: &Rig, role: Role) {
    let who = account_of(role);
    for row in TABLE.iter().filter(|row| row.roles.contains(&role)) {
        let is_of_group = row.roles == OF_GROUP;
        let mut number = 0;
        let mut fresh = async || {
            number += 1;
            let group = format!("{:?}.{role:?}.{number}", row.operation).to_lowercase();
            if is_of_group && role != Role::Stranger {
                rig.group(&group, role).await;
            }
            group
        };
        let check = |how: &str, answer: Answer, unknown: Option<Answer>| {
            let expected = expected(row, role).or(unknown).expect("an answer for an unknown group");
            assert_eq!(answer, expected, "{:?} by {role:?}: {how}", row.operation);
        };
        for kind in row.native {
            let group = fresh().await;
            let name = who.unwrap_or("gast");
            let Some(frame) = frame_of(*kind, &group, name) else { continue };
            let answer = of_native(rig.native(who).await.ask(frame).await);
            if let (kind::LOGOUT, Some(who)) = (*kind, who) {
                rig.log_in(who).await;
            }
            // A name that nobody has: as long, and as far from every other.
            let nowhere = group.replace('.', "-");
            let unknown = match (is_of_group, *kind) {
                (true, kind::JOIN) | (false, _) => None,
                (true, kind) => {
                    let frame = frame_of(kind, &nowhere, name).unwrap();
                    match of_native(rig.native(who).await.ask(frame).await) {
                        Answer::Unknown(text) => {
                            Some(Answer::Unknown(text.replace(&nowhere, &group)))
                        }
                        other => Some(other),
                    }
                }
            };
            let hidden = Answer::Unknown(format!("there is no group {group}"));
            check(&format!("frame {kind:#04x}"), answer, unknown.or(Some(hidden)));
        }
        for route in row.http {
            let group = fresh().await;
            let Some((method, path, body)) = request_of(route, &group) else { continue };
            let answer = of_http(rig.http(&method, &path, who, &body).await);
            if let ("/api/logout", Some(who)) = (&*path, who) {
                rig.log_in(who).await;
            }
            let nowhere = group.replace('.', "-");
            let (_, path, body) = request_of(route, &nowhere).unwrap();
            let unknown = match is_of_group {
                false => None,
                true => Some(match of_http(rig.http(&method, &path, who, &body).await) {
                    Answer::Unknown(text) => Answer::Unknown(text.replace(&nowhere, &group)),
                    other => other,
                }),
            };
            check(route, answer, unknown);
        }
        if row.line.contains(&"JOIN") {
            let group = fresh().await;
            let answer = line_join(rig, who, &group).await;
            let fine = answer.starts_with("OK JOIN ");
            let expected = expected(row, role) == Some(Answer::Fine);
            assert_eq!(fine, expected, "JOIN by {role:?}: {answer}");
            assert!(fine || answer.starts_with("ERR DENIED "), "{answer}");
        }
    }
}

async fn line_join(rig: &Rig, who: Option<&str>, group: &str) -> String {
    let stream = TcpStream::connect(rig.node.endpoints().line.unwrap()).await.unwrap();
    let mut lines = BufReader::new(stream);
    if let Some(token) = rig.token(who) {
        lines.get_mut().write_all(format!("TOKEN {token}\n").as_bytes()).await.unwrap();
        let mut line = String::new();
        lines.read_line(&mut line).await.unwrap();
        assert_eq!(line, "OK PASS\n");
    }
    let name = who.unwrap_or("gast");
    lines.get_mut().write_all(format!("JOIN {name} {group}\n").as_bytes()).await.unwrap();
    let mut line = String::new();
    lines.read_line(&mut line).await.unwrap();
    line
}

#[tokio::test(flavor = "multi_thread")]
async fn every_door_keeps_to_the_table() {
    let rig = Rig::new(true).await;
    for role in OF_GROUP.into_iter().filter(|role| *role != Role::Stranger).chain([Role::Guest]) {
        hold(&rig, role).await;
    }
    hold(&rig, Role::Account).await;
    hold(&Rig::new(false).await, Role::Stranger).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_of_the_description_has_a_row() {
    let rig = Rig::new(true).await;
    let (status, description) = rig.http("GET", "/api/openapi.json", None, "").await;
    assert_eq!(status, 200);
    let paths = description["paths"].as_object().unwrap();
    assert!(paths.len() > 8);
    for (path, methods) in paths {
        for method in methods.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            let method = method.to_uppercase();
            assert!(Operation::of_http(&method, path).is_some(), "{method} {path} has no row");
        }
    }
}
