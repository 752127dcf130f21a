//! Accounts at each door: logging in and out, reserved names, guests shut out, what a token opened, groups' rules.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};
use tertulia_group::SenderId;
use tertulia_server::{Config, Endpoints, HashCost, Node};
use tertulia_wire::native::{Credential, OpenSender};
use tertulia_wire::{ClientFrame, Code, NodeFrame};

use crate::http_client::{Answer, Ask};
use crate::support::{LineClient, NativeClient, config, join, start};
use crate::web::Web;

const PASSWORD: &str = "correct horse";

/// A node whose passwords are hashed cheaply.
struct Rig {
    node: Node,
    data: tempfile::TempDir,
}

impl Rig {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        Self { node: start(Self::config(&data, change)).await, data }
    }

    fn config(data: &tempfile::TempDir, change: impl FnOnce(&mut Config)) -> Config {
        let mut config = config(data.path());
        config.limits.accounts.hash_cost = HashCost { memory_kib: 64, passes: 1 };
        change(&mut config);
        config
    }

    fn doors(&self) -> (SocketAddr, SocketAddr, SocketAddr) {
        let Endpoints { native, line, http } = self.node.endpoints();
        (native.expect("native"), line.expect("line"), http.expect("http"))
    }

    async fn post(&self, path: &str, token: Option<&str>, body: Value) -> Answer {
        let ask = Ask::json(self.doors().2, path, &body);
        with_token(ask, token).answer().await
    }

    async fn get(&self, path: &str, token: Option<&str>) -> Answer {
        with_token(Ask::get(self.doors().2, path), token).answer().await
    }

    async fn register(&self, name: &str) {
        let answer = self.post("/api/register", None, login_body(name)).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    }

    async fn log_in(&self, name: &str) -> String {
        let answer = self.post("/api/login", None, login_body(name)).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        answer.json["token"].as_str().expect("a token").to_owned()
    }

    /// Registers these; their tokens.
    async fn accounts<const N: usize>(&self, names: [&str; N]) -> [String; N] {
        let mut tokens = [const { String::new() }; N];
        for (name, token) in names.into_iter().zip(&mut tokens) {
            self.register(name).await;
            *token = self.log_in(name).await;
        }
        tokens
    }

    async fn native(&self, token: &str) -> NativeClient {
        let mut client = NativeClient::connect(self.doors().0).await;
        client.send(&auth(token)).await;
        assert!(matches!(client.frame().await, NodeFrame::Identity { .. }));
        client
    }
}

fn login_body(name: &str) -> Value {
    json!({ "name": name, "password": PASSWORD })
}

fn with_token(ask: Ask, token: Option<&str>) -> Ask {
    match token {
        Some(token) => ask.header("authorization", &format!("Bearer {token}")),
        None => ask,
    }
}

fn auth(token: &str) -> ClientFrame {
    ClientFrame::Auth { id: 5, token: Credential(token.to_owned()) }
}

fn error_code(frame: NodeFrame) -> Code {
    match frame {
        NodeFrame::Error { code, .. } => code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn register_log_in_log_out_and_be_refused() {
    let rig = Rig::new().await;
    let made = rig.post("/api/register", None, login_body("Ana")).await;
    assert_eq!((made.status, &made.json["administrator"]), (StatusCode::CREATED, &json!(true)));
    let again = rig.post("/api/register", None, login_body("ana")).await;
    assert_eq!((again.status, again.code()), (StatusCode::CONFLICT, "NAME_TAKEN"));
    let token = rig.log_in("ANA").await;
    let me = rig.get("/api/whoami", Some(&token)).await;
    assert_eq!((&me.json["name"], &me.json["administrator"]), (&json!("Ana"), &json!(true)));
    assert_eq!(rig.get("/api/whoami", None).await.json["name"], Value::Null);
    let sent = rig.post("/api/groups", Some(&token), json!({ "name": "ops" })).await;
    assert_eq!(sent.status, StatusCode::CREATED);
    let out = rig.post("/api/logout", Some(&token), json!({})).await;
    assert_eq!(out.status, StatusCode::NO_CONTENT);
    for (path, bad) in
        [("/api/whoami", token.as_str()), ("/api/groups", "tt_x"), ("/api/groups", "")]
    {
        let refused = rig.get(path, Some(bad)).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::UNAUTHORIZED, "NOT_LOGGED_IN"));
    }
    let basic = Ask::get(rig.doors().2, "/api/groups").header("authorization", "Basic YTpi");
    assert_eq!(basic.answer().await.status, StatusCode::UNAUTHORIZED);
    let out = rig.post("/api/logout", None, json!({})).await;
    assert_eq!(out.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_name_and_a_wrong_password_are_answered_alike() {
    let rig = Rig::new().await;
    rig.register("ana").await;
    let wrong = json!({ "name": "ana", "password": "wrong horse" });
    let answers = [
        rig.post("/api/login", None, wrong).await,
        rig.post("/api/login", None, login_body("eva")).await,
        rig.post("/api/login", None, login_body("no name at all")).await,
    ];
    for answer in &answers {
        assert_eq!((answer.status, answer.code()), (StatusCode::UNAUTHORIZED, "NOT_LOGGED_IN"));
        assert_eq!(answer.json, answers[0].json);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_and_tokens_stay_over_a_restart() {
    let rig = Rig::new().await;
    let [ana, luis] = rig.accounts(["ana", "luis"]).await;
    rig.post("/api/logout", Some(&luis), json!({})).await;
    let private = json!({ "name": "ops", "join": "private", "send": "private" });
    assert_eq!(rig.post("/api/groups", Some(&ana), private).await.status, StatusCode::CREATED);
    let Rig { node, data } = rig;
    node.stop().await;
    let rig = Rig { node: start(Rig::config(&data, |_| {})).await, data };
    assert_eq!(rig.get("/api/whoami", Some(&ana)).await.json["administrator"], json!(true));
    assert_eq!(rig.get("/api/whoami", Some(&luis)).await.status, StatusCode::UNAUTHORIZED);
    let luis = rig.log_in("luis").await;
    assert_eq!(rig.get("/api/groups/ops", Some(&luis)).await.status, StatusCode::NOT_FOUND);
    let rules = rig.get("/api/groups/ops/rules", Some(&ana)).await;
    assert_eq!((&rules.json["join"], &rules.json["owner"]), (&json!("private"), &json!("ana")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_reserved_at_every_door_look_alikes_too() {
    let rig = Rig::new().await;
    let [ana, _luis] = rig.accounts(["ana", "luis"]).await;
    let (native, line, http) = rig.doors();
    rig.post("/api/groups", Some(&ana), json!({ "name": "ops" })).await;
    // Cyrillic letters.
    for name in ["ana", "ANA", "аnа"] {
        let mut client = NativeClient::connect(native).await;
        client.send(&ClientFrame::Join(Box::new(join(name, "ops")))).await;
        assert_eq!(error_code(client.frame().await), Code::NameReserved, "{name}");
        let (id, group, name) = (1, "ops".to_owned(), name.to_owned());
        let sender = SenderId([1; 16]);
        let open =
            OpenSender { id, known: false, follow: false, group, name: name.clone(), sender };
        client.send(&ClientFrame::OpenSender(open)).await;
        assert_eq!(error_code(client.frame().await), Code::NameReserved, "{name}");
        let mut client = LineClient::connect(line).await;
        client.say(&format!("JOIN {name} ops")).await;
        assert!(client.line().await.starts_with("ERR NAME_RESERVED "), "{name}");
        let as_name: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let sent = Ask::post(http, &format!("/api/groups/ops/messages?as={as_name}"), "hola");
        assert_eq!(sent.answer().await.code(), "NAME_RESERVED", "{name}");
        let (_web, told) =
            Web::join(http, json!({ "type": "join", "group": "ops", "name": name })).await;
        assert_eq!(told["code"], "NAME_RESERVED", "{told}");
    }
    let mut own = rig.native(&ana).await;
    assert!(own.try_join(join("Ana", "ops")).await.is_ok());
    let mut own = rig.native(&ana).await;
    let refused = own.try_join(join("luis", "ops")).await.expect_err("another's name");
    assert_eq!(error_code(refused), Code::NameReserved);
    let mut own = LineClient::connect(line).await;
    own.say(&format!("TOKEN {ana}")).await;
    assert_eq!(own.line().await, "OK PASS");
    own.say("JOIN ana lobby").await;
    assert!(own.line().await.starts_with("OK JOIN ana lobby "));
    let mut own = LineClient::connect(line).await;
    own.say("PASS wrong horse").await;
    assert_eq!(own.line().await, "OK PASS");
    own.say("JOIN ana third").await;
    assert!(own.line().await.starts_with("ERR DENIED "));
    own.say(&format!("PASS {PASSWORD}")).await;
    assert_eq!(own.line().await, "OK PASS");
    own.say("JOIN ana third").await;
    assert!(own.line().await.starts_with("OK JOIN ana third "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_closed_when_the_name_becomes_an_accounts() {
    let rig = Rig::new().await;
    let (native, line, _) = rig.doors();
    let (mut ana, _) = NativeClient::member(native, "ana", "ops").await;
    let (mut eva, _) = NativeClient::member(native, "eva", "ops").await;
    let mut other = LineClient::join(line, "ana", "lobby").await;
    rig.register("ana").await;
    assert_eq!(ana.close_code().await, Some(Code::NameReserved));
    assert!(other.until("* the name").await.contains("account"));
    eva.send(&ClientFrame::Ping { token: 7 }).await;
    while !matches!(eva.frame().await, NodeFrame::Pong { token: 7 }) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn without_guests_every_door_is_shut_to_who_is_not_logged_in() {
    let rig = Rig::with(|config| config.guests = false).await;
    let [ana] = rig.accounts(["ana"]).await;
    let (native, line, http) = rig.doors();
    let made = rig.post("/api/groups", Some(&ana), json!({ "name": "ops" })).await;
    assert_eq!(made.status, StatusCode::CREATED);
    for path in [
        "/api/groups",
        "/api/groups/ops",
        "/api/groups/ops/messages",
        "/api/directory/ops",
        "/metrics",
        "/api/groups/ops/events",
    ] {
        let refused = rig.get(path, None).await;
        assert_eq!(
            (refused.status, refused.code()),
            (StatusCode::UNAUTHORIZED, "NOT_LOGGED_IN"),
            "{path}"
        );
    }
    let sent = Ask::post(http, "/api/groups/ops/messages", "hola").answer().await;
    assert_eq!(sent.status, StatusCode::UNAUTHORIZED);
    let alive = rig.get("/healthz", None).await;
    assert_eq!(alive.status, StatusCode::OK);
    let mut guest = NativeClient::connect(native).await;
    for frame in [
        ClientFrame::Join(Box::new(join("eva", "ops"))),
        ClientFrame::Locate { id: 1, group: "ops".into() },
        ClientFrame::Locate { id: 1, group: "nowhere".into() },
        ClientFrame::Allocate { id: 1, name: "eva".into() },
        ClientFrame::Groups { id: 1, after: String::new(), limit: 1 },
        ClientFrame::Status { id: 1 },
    ] {
        guest.send(&frame).await;
        assert_eq!(error_code(guest.frame().await), Code::Denied, "{frame:?}");
    }
    let mut guest = LineClient::connect(line).await;
    for verb in ["JOIN eva ops", "JOIN eva", "GROUPS"] {
        guest.say(verb).await;
        assert!(guest.line().await.starts_with("ERR DENIED "), "{verb}");
    }
    let (_web, told) =
        Web::join(http, json!({ "type": "join", "group": "ops", "name": "eva" })).await;
    assert_eq!(told["code"], "DENIED", "{told}");
    // Who is logged in comes in everywhere, under the account's name.
    let mut own = rig.native(&ana).await;
    assert_eq!(
        error_code(own.try_join(join("eva", "ops")).await.expect_err("a name")),
        Code::NameReserved
    );
    assert!(own.try_join(join("ana", "ops")).await.is_ok());
    let sent =
        with_token(Ask::post(http, "/api/groups/ops/messages?wait=stored", "hola"), Some(&ana));
    assert!(sent.answer().await.status.is_success());
    let mut own = LineClient::connect(line).await;
    own.say(&format!("TOKEN {ana}")).await;
    own.say("JOIN ana-2 ops").await;
    assert_eq!(own.line().await, "OK PASS");
    assert!(own.line().await.starts_with("OK JOIN ana-2 ops "));
}

#[tokio::test(flavor = "multi_thread")]
async fn logging_out_closes_what_the_token_opened() {
    let rig = Rig::new().await;
    let [ana] = rig.accounts(["ana"]).await;
    let other = rig.log_in("ana").await;
    let (_, line, http) = rig.doors();
    let mut member = rig.native(&ana).await;
    member.try_join(join("ana", "ops")).await.expect("joins");
    let mut idle = rig.native(&ana).await;
    let mut by_line = LineClient::connect(line).await;
    by_line.say(&format!("TOKEN {ana}")).await;
    by_line.say("JOIN ana-2 ops").await;
    by_line.until("OK JOIN").await;
    let events = Ask::get(http, "/api/groups/ops/events");
    let mut events = with_token(events, Some(&ana)).events().await;
    let web = json!({ "type": "join", "group": "ops", "name": "ana-3" });
    let (mut web, welcome) = Web::join_as(http, Some(&ana), web).await;
    assert_eq!(welcome["type"], "welcome", "{welcome}");
    let mut stays = rig.native(&other).await;
    stays.try_join(join("ana-4", "ops")).await.expect("joins");

    rig.post("/api/logout", Some(&ana), json!({})).await;
    assert_eq!(member.close_code().await, Some(Code::NotLoggedIn));
    assert_eq!(idle.close_code().await, Some(Code::NotLoggedIn));
    by_line.until("* the token has ended").await;
    while events.next().await.is_some() {}
    assert_eq!(web.until("closed").await["code"], "NOT_LOGGED_IN");
    stays.send(&ClientFrame::Ping { token: 7 }).await;
    while !matches!(stays.frame().await, NodeFrame::Pong { token: 7 }) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_whose_time_has_come_opens_nothing_and_closes_what_it_opened() {
    let life = Duration::from_millis(1500);
    let rig = Rig::with(|config| config.limits.accounts.token_life = life).await;
    let [ana] = rig.accounts(["ana"]).await;
    let mut member = rig.native(&ana).await;
    member.try_join(join("ana", "ops")).await.expect("joins");
    assert_eq!(member.close_code().await, Some(Code::NotLoggedIn));
    assert_eq!(rig.get("/api/whoami", Some(&ana)).await.status, StatusCode::UNAUTHORIZED);
    let mut late = NativeClient::connect(rig.doors().0).await;
    late.send(&auth(&ana)).await;
    assert_eq!(error_code(late.frame().await), Code::NotLoggedIn);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_wrong_passwords_hold_up_nobody_else() {
    let rig = Rig::with(|config| config.limits.accounts.hash_cost = HashCost::default()).await;
    rig.register("ana").await;
    rig.register("luis").await;
    let http = rig.doors().2;
    let flood: Vec<_> = (0..1000)
        .map(|n| {
            let name = ["ana", "eva", "max"][n % 3];
            let body = json!({ "name": name, "password": format!("wrong horse {n}") });
            tokio::spawn(async move { Ask::json(http, "/api/login", &body).answer().await.status })
        })
        .collect();
    // Somebody who is told to wait tries again, as people do.
    let mut tries = 0;
    loop {
        tries += 1;
        let answer = rig.post("/api/login", None, login_body("luis")).await;
        match answer.status {
            StatusCode::OK => break,
            StatusCode::TOO_MANY_REQUESTS if tries < 100 => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            _ => panic!("{answer:?}"),
        }
    }
    let (mut wrong, mut wait) = (0, 0);
    for one in flood {
        match one.await.expect("an answer") {
            StatusCode::UNAUTHORIZED => wrong += 1,
            StatusCode::TOO_MANY_REQUESTS => wait += 1,
            other => panic!("{other}"),
        }
    }
    assert!(wrong <= 30 && wait >= 970, "{wrong} {wait}");
}

/// A log-in from another of this machine's addresses.
async fn log_in_from(host: u8, http: SocketAddr, body: &Value) -> StatusCode {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from(([127, 0, 0, host], 0))).expect("an address");
    let stream = socket.connect(http).await.expect("connects");
    Ask::json(http, "/api/login", body).over(stream).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn who_guesses_locks_nobody_out_elsewhere_nor_whom_a_token_has_let_in() {
    let rig = Rig::with(|config| config.limits.accounts.hash_cost = HashCost::default()).await;
    let [ana] = rig.accounts(["ana"]).await;
    rig.register("luis").await;
    let http = rig.doors().2;
    // One address tries as hard as it can: one name, then all that it can think of.
    let flood: Vec<_> = (0..1000)
        .map(|n| {
            let name = if n % 2 == 0 { "ana".to_owned() } else { format!("name{n}") };
            let body = json!({ "name": name, "password": format!("wrong horse {n}") });
            tokio::spawn(async move { log_in_from(66, http, &body).await })
        })
        .collect();
    while log_in_from(66, http, &login_body("ana")).await != StatusCode::TOO_MANY_REQUESTS {}
    // At the first try, where she has logged in before; with her token; and somebody else.
    assert_eq!(log_in_from(1, http, &login_body("ana")).await, StatusCode::OK);
    assert_eq!(log_in_from(1, http, &login_body("luis")).await, StatusCode::OK);
    assert_eq!(rig.get("/api/whoami", Some(&ana)).await.json["name"], "ana");
    for one in flood {
        let status = one.await.expect("an answer");
        let refused = [StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS];
        assert!(refused.contains(&status), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_node_and_of_nobody_opens_nothing_at_any_door() {
    let (rig, other) = (Rig::new().await, Rig::new().await);
    rig.register("ana").await;
    let [ana] = other.accounts(["ana"]).await;
    let (native, line, http) = rig.doors();
    for token in [ana.as_str(), "tt_", "x", &format!("tt_{}", "A".repeat(43))] {
        assert_eq!(rig.get("/api/groups", Some(token)).await.code(), "NOT_LOGGED_IN");
        let events = with_token(Ask::get(http, "/api/groups/ops/events"), Some(token));
        assert_eq!(events.answer().await.code(), "NOT_LOGGED_IN");
        let ws = with_token(Ask::get(http, "/api/ws"), Some(token));
        assert_eq!(ws.answer().await.code(), "NOT_LOGGED_IN");
        let mut client = NativeClient::connect(native).await;
        client.send(&auth(token)).await;
        assert_eq!(error_code(client.frame().await), Code::NotLoggedIn);
        let mut nc = LineClient::connect(line).await;
        nc.say(&format!("TOKEN {token}")).await;
        assert!(nc.line().await.starts_with("ERR DENIED "), "{token}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_is_for_the_page_only() {
    let rig = Rig::new().await;
    rig.register("ana").await;
    let http = rig.doors().2;
    let body = json!({ "name": "ana", "password": PASSWORD, "cookie": true });
    let (answer, headers) = Ask::json(http, "/api/login", &body).with_headers().await;
    assert_eq!(answer.json.get("token"), None, "{answer:?}");
    let line = headers["set-cookie"].to_str().expect("text").to_owned();
    assert!(line.contains("; HttpOnly; SameSite=Strict") && !line.contains("Secure"), "{line}");
    let cookie = line.split(';').next().expect("a pair").to_owned();
    let origin = format!("http://{http}");
    let me = Ask::get(http, "/api/whoami").header("cookie", &cookie).answer().await;
    assert_eq!(me.json["name"], "ana");
    rig.post("/api/groups", None, json!({ "name": "ops" })).await;
    let path = "/api/groups/ops/messages?wait=stored";
    let post = |kind: &str| {
        Ask::post(http, path, "hola").header("cookie", &cookie).header("content-type", kind)
    };
    let bare = post("text/plain").answer().await;
    assert_eq!((bare.status, bare.code()), (StatusCode::FORBIDDEN, "FOREIGN_ORIGIN"));
    // What another site's page can make a browser send: a form, with the cookie and that site's name.
    let foreign = post("application/x-www-form-urlencoded").header("origin", "http://evil.example");
    assert_eq!(foreign.answer().await.code(), "FOREIGN_ORIGIN");
    let form = post("application/x-www-form-urlencoded").header("origin", &origin).answer().await;
    assert_eq!(form.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let sent = post("text/plain").header("origin", &origin).answer().await;
    assert!(sent.status.is_success(), "{sent:?}");
    let out = Ask::post(http, "/api/logout", "").header("cookie", &cookie);
    let out = out.header("origin", &origin).answer().await;
    assert_eq!(out.status, StatusCode::NO_CONTENT);
    let ended = Ask::get(http, "/api/groups").header("cookie", &cookie);
    let (ended, headers) = ended.with_headers().await;
    assert_eq!(ended.status, StatusCode::UNAUTHORIZED);
    assert!(headers["set-cookie"].to_str().is_ok_and(|line| line.contains("Max-Age=0")));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_send_gets_counts_and_receipts_of_its_own() {
    let rig = Rig::new().await;
    let [ana, ci] = rig.accounts(["ana", "ci"]).await;
    let rules = json!({ "name": "ops", "join": "private", "send": "open" });
    rig.post("/api/groups", Some(&ana), rules).await;
    let mut member = rig.native(&ana).await;
    member.try_join(join("ana", "ops")).await.expect("joins");
    let path = "/api/groups/ops/messages?wait=all&timeout=200ms";
    let send = |token: Option<&str>| with_token(Ask::post(rig.doors().2, path, "hola"), token);
    let sent = send(Some(&ci)).answer().await;
    assert_eq!(sent.json["members"], 1, "{sent:?}");
    assert_eq!(sent.json["missing"], json!([{ "name": "?", "why": "pending" }]));
    let seq = sent.json["seq"].as_u64().expect("a number");
    let receipt = format!("/api/groups/ops/receipts/{seq}");
    let own = rig.get(&receipt, Some(&ci)).await;
    assert_eq!(own.json["missing"][0]["name"], "?", "{own:?}");
    assert_eq!(rig.get(&receipt, Some(&ana)).await.json["missing"][0]["name"], "ana");
    assert_eq!(rig.get(&receipt, None).await.code(), "DENIED");
    let others = send(Some(&ana)).answer().await.json["seq"].as_u64().expect("a number");
    let others = rig.get(&format!("/api/groups/ops/receipts/{others}"), Some(&ci)).await;
    assert_eq!(others.code(), "DENIED");
    let mut sender = rig.native(&ci).await;
    let open = OpenSender {
        id: 1,
        known: false,
        follow: true,
        group: "ops".into(),
        name: "ci".into(),
        sender: SenderId([7; 16]),
    };
    sender.send(&ClientFrame::OpenSender(open)).await;
    assert!(matches!(sender.frame().await, NodeFrame::SenderReady(_)));
    sender.publish("ci", 1, b"hola").await;
    let NodeFrame::Stored(runs) = sender.frame().await else { panic!("not stored") };
    sender
        .send(&ClientFrame::Receipt { id: 2, group: "ops".into(), seq: runs[0].seq, wait_ms: 0 })
        .await;
    match sender.frame().await {
        NodeFrame::ReceiptReply { receipt, .. } => assert_eq!(&*receipt.missing[0].name, "?"),
        other => panic!("{other:?}"),
    }
    member.ack(runs[0].seq).await;
    // No CONFIRMED, which would name who has it.
    assert!(matches!(sender.frame().await, NodeFrame::Complete(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_rules_send_away_who_may_not_be_there() {
    let rig = Rig::new().await;
    let [ana, luis] = rig.accounts(["ana", "luis"]).await;
    rig.post("/api/groups", Some(&ana), json!({ "name": "ops" })).await;
    let (native, _, http) = rig.doors();
    let mut first = rig.native(&luis).await;
    first.try_join(join("luis", "ops")).await.expect("joins");
    let (mut guest, _) = NativeClient::member(native, "gast", "ops").await;
    let mut events = Ask::get(http, "/api/groups/ops/events").events().await;
    let mut owner = rig.native(&ana).await;
    owner.try_join(join("ana", "ops")).await.expect("joins");
    let private = json!({ "join": "private", "send": "private", "may_join": ["Luis"] });
    let put = Ask::json(http, "/api/groups/ops/rules", &private).method("PUT");
    let changed = with_token(put, Some(&ana)).answer().await;
    assert_eq!((changed.status, &changed.json["may_join"]), (StatusCode::OK, &json!(["Luis"])));
    assert_eq!(guest.close_code().await, Some(Code::Denied));
    while events.next().await.is_some() {}
    for client in [&mut first, &mut owner] {
        client.send(&ClientFrame::Ping { token: 7 }).await;
        while !matches!(client.frame().await, NodeFrame::Pong { token: 7 }) {}
    }
    // For others it is as if it were not there, word for word.
    for path in ["", "/messages", "/events", "/receipts/1", "/rules"] {
        let hidden = rig.get(&format!("/api/groups/ops{path}"), None).await;
        let unknown = rig.get(&format!("/api/groups/spo{path}"), None).await;
        let text = unknown.json.to_string().replace("spo", "ops");
        assert_eq!((hidden.status, hidden.json.to_string()), (unknown.status, text), "{path}");
        assert_eq!(hidden.code(), "UNKNOWN_GROUP");
    }
    let listed = rig.get("/api/groups", None).await;
    assert_eq!(listed.json["items"], json!([]));
    assert_eq!(rig.get("/api/groups", Some(&luis)).await.json["items"][0]["group"], "ops");
    let put = Ask::json(http, "/api/groups/ops/rules", &private).method("PUT");
    assert_eq!(with_token(put, Some(&luis)).answer().await.code(), "DENIED");
}

async fn change(rig: &Rig, token: Option<&str>, body: Value) -> (u16, String) {
    let answer = rig.post("/api/password", token, body).await;
    let code = answer.json["code"].as_str().unwrap_or_default();
    (answer.status.as_u16(), code.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_password_ends_all_that_the_old_one_had_opened_but_what_changed_it() {
    let rig = Rig::new().await;
    rig.register("root").await;
    rig.register("ana").await;
    let (mine, others) = (rig.log_in("ana").await, rig.log_in("ana").await);
    let (_, line, http) = rig.doors();
    Ask::json(http, "/api/groups", &json!({ "name": "ops" })).answer().await;
    let mut own = with_token(Ask::get(http, "/api/groups/ops/events"), Some(&mine)).events().await;
    let (mut web, _) = Web::join_as(
        http,
        Some(&others),
        json!({ "type": "join", "group": "ops", "name": "ana-web" }),
    )
    .await;
    // One that has shown the password itself has no token.
    let mut nc = LineClient::connect(line).await;
    nc.say(&format!("PASS {PASSWORD}")).await;
    nc.say("JOIN ana ops").await;
    assert!(nc.until("OK JOIN").await.starts_with("OK JOIN ana ops"));

    let new = "battery staple";
    let asked = |old: &str| json!({ "password": old, "new": new });
    assert_eq!(change(&rig, None, asked(PASSWORD)).await, (401, "NOT_LOGGED_IN".into()));
    assert_eq!(change(&rig, Some(&mine), asked("wrong horse")).await, (403, "DENIED".into()));
    let short = json!({ "password": PASSWORD, "new": "short" });
    assert_eq!(change(&rig, Some(&mine), short).await, (400, "BAD_PASSWORD".into()));
    assert_eq!(rig.get("/api/whoami", Some(&others)).await.status, StatusCode::OK);

    assert_eq!(change(&rig, Some(&mine), asked(PASSWORD)).await, (204, String::new()));
    assert_eq!(web.until("closed").await["code"], "NOT_LOGGED_IN");
    while !nc.line().await.is_empty() {}
    assert_eq!(rig.get("/api/whoami", Some(&others)).await.code(), "NOT_LOGGED_IN");
    assert_eq!(rig.get("/api/whoami", Some(&mine)).await.json["name"], "ana");
    let said = Ask::post(http, "/api/groups/ops/messages?wait=stored", "still here");
    said.answer().await;
    while own.next().await.expect("it goes on").data["text"] != "still here" {}

    let old = rig.post("/api/login", None, login_body("ana")).await;
    assert_eq!(old.code(), "NOT_LOGGED_IN");
    let fresh = json!({ "name": "ana", "password": new });
    assert_eq!(rig.post("/api/login", None, fresh).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_gives_somebody_a_new_password_and_nobody_else_does() {
    let rig = Rig::new().await;
    for name in ["root", "ana", "eva"] {
        rig.register(name).await;
    }
    let (root, ana, eva) =
        (rig.log_in("root").await, rig.log_in("ana").await, rig.log_in("eva").await);
    let reset = |name: &str| json!({ "name": name, "new": "battery staple" });
    assert_eq!(change(&rig, Some(&eva), reset("ana")).await, (403, "DENIED".into()));
    // Whether there is such an account is not said to others.
    assert_eq!(change(&rig, Some(&eva), reset("nobody")).await, (403, "DENIED".into()));
    assert_eq!(change(&rig, Some(&root), reset("nobody")).await, (400, "BAD_NAME".into()));
    // Its own needs the old one, whoever it is.
    assert_eq!(change(&rig, Some(&root), reset("root")).await, (403, "DENIED".into()));
    assert_eq!(change(&rig, Some(&root), reset("Ana")).await, (204, String::new()));
    assert_eq!(rig.get("/api/whoami", Some(&ana)).await.code(), "NOT_LOGGED_IN");
    assert_eq!(rig.get("/api/whoami", Some(&eva)).await.status, StatusCode::OK);
    let fresh = json!({ "name": "ana", "password": "battery staple" });
    assert_eq!(rig.post("/api/login", None, fresh.clone()).await.status, StatusCode::OK);

    // It is there after a restart.
    let Rig { node, data } = rig;
    node.stop().await;
    let rig = Rig { node: start(Rig::config(&data, |_| {})).await, data };
    assert_eq!(rig.post("/api/login", None, fresh).await.status, StatusCode::OK);
    assert_eq!(rig.get("/api/whoami", Some(&ana)).await.code(), "NOT_LOGGED_IN");
    assert_eq!(rig.get("/api/whoami", Some(&root)).await.json["administrator"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_an_old_password_is_slowed_down_like_logging_in() {
    let rig = Rig::new().await;
    rig.register("ana").await;
    let token = rig.log_in("ana").await;
    let wrong = json!({ "password": "wrong horse", "new": "battery staple" });
    let mut codes = Vec::new();
    for _ in 0..8 {
        codes.push(change(&rig, Some(&token), wrong.clone()).await.1);
    }
    assert!(codes.contains(&"LIMIT".to_owned()), "{codes:?}");
    assert_eq!(rig.get("/api/whoami", Some(&token)).await.status, StatusCode::OK);
}
