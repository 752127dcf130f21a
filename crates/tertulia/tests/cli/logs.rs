//! What a node logs: lines that programs and terminals can read whatever strangers say, and nothing that is nobody's to read.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use rustix::process::Signal;
use serde_json::{Value, json};
use tertulia_wire::safe::is_unsafe;

use crate::support::{Node, WITHIN, object};

/// Stands in every text, password, token and key that the node is told here.
const SECRET: &str = "S3CRET";
/// Colours, a bell, a window's title, a turned line, an invisible mark.
const NASTY: &str = "\u{1b}[31m\u{7}\u{1b}]0;x\u{7}\u{202e}\u{9b}\u{200f}";

/// Says this on a connection of its own and answers what comes until its end.
fn say(address: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(WITHIN)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn post(node: &Node, path: &str, more: &str, body: &str) -> (u16, Value) {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{more}Content-Length: {}\r\n\r\n",
        node.http,
        body.len()
    );
    let answer = say(&node.http, format!("{head}{body}").as_bytes());
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status.unwrap_or(0), serde_json::from_str(body).unwrap_or(Value::Null))
}

const JSON: &str = "Content-Type: application/json\r\n";

/// A text frame of a client, under a mask of zeros.
fn web_frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81, 0x80 | 126];
    frame.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    frame
}

fn over_http(node: &Node, secret: &str) -> String {
    let password = format!("{SECRET} password");
    let account = json!({ "name": "ana", "password": password }).to_string();
    assert_eq!(post(node, "/api/register", JSON, &account).0, 201);
    let token = post(node, "/api/login", JSON, &account).1["token"].as_str().unwrap().to_owned();
    for name in ["ana", secret] {
        let wrong = json!({ "name": name, "password": secret }).to_string();
        assert_eq!(post(node, "/api/login", JSON, &wrong).0, 401);
    }
    let bearer = format!("{JSON}Authorization: Bearer {token}\r\n");
    let new = json!({ "password": secret, "new": secret }).to_string();
    assert_eq!(post(node, "/api/password", &bearer, &new).0, 403);
    let made = json!({ "name": "ops" }).to_string();
    assert_eq!(post(node, "/api/groups", &bearer, &made).0, 201);
    let text = json!({ "text": secret }).to_string();
    let key = format!("{bearer}Idempotency-Key: {SECRET}\r\nCookie: tertulia={SECRET}\r\n");
    assert_eq!(post(node, "/api/groups/ops/messages", &key, &text).0, 200);
    let foreign = format!("Origin: http://{SECRET}.example\r\n");
    assert_eq!(post(node, "/api/groups/ops/messages", &foreign, secret).0, 403);
    let not_one = format!("Authorization: Bearer {SECRET}\r\n");
    assert_eq!(post(node, "/api/groups/ops/messages", &not_one, secret).0, 401);
    for path in [
        format!("/api/groups/{SECRET}%1b%5b31m%e2%80%ae/messages?as={SECRET}%1b"),
        format!("/{SECRET}%0a%1b"),
        format!("/api/groups/ops/receipts/{SECRET}"),
    ] {
        assert!(post(node, &path, "", secret).0 >= 400, "{path}");
    }
    say(&node.http, format!("{secret}\r\n\r\n").as_bytes());
    token
}

fn over_web(node: &Node, secret: &str, token: &str) {
    let mut bytes = format!(
        "GET /api/ws HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Authorization: Bearer {token}\r\n\r\n",
        node.http
    )
    .into_bytes();
    bytes.extend(web_frame(r#"{"type":"join","group":"ops","name":"ana"}"#));
    let stream = TcpStream::connect(&node.http).unwrap();
    stream.set_read_timeout(Some(WITHIN)).unwrap();
    (&stream).write_all(&bytes).unwrap();
    let mut answer = Vec::new();
    let mut until = |part: &str| {
        while !String::from_utf8_lossy(&answer).contains(part) {
            let mut some = [0; 4096];
            let n = (&stream).read(&mut some).unwrap();
            assert!(n > 0, "no {part}: {}", String::from_utf8_lossy(&answer));
            answer.extend(&some[..n]);
        }
    };
    until("welcome");
    let send = json!({ "type": "send", "counter": 1, "text": secret }).to_string();
    (&stream).write_all(&web_frame(&send)).unwrap();
    until("stored");
    (&stream).write_all(&web_frame(&json!({ "type": secret }).to_string())).unwrap();
    until("BAD_FRAME");
}

fn over_lines(node: &Node, secret: &str, token: &str) {
    let lines = format!(
        "PASS {secret}\nTOKEN {SECRET}\nJOIN {secret} ops\nJOIN ok {secret}\nPASS {SECRET} password\n\
         JOIN ana {SECRET}-is-no-secret\nEXIT\n"
    );
    say(&node.line, lines.as_bytes());
    let answer = say(
        &node.line,
        format!("TOKEN {token}\nJOIN ana-2 ops\nMSG {SECRET} text\nMSG {secret}\n{secret}\nEXIT\n")
            .as_bytes(),
    );
    assert!(answer.contains("OK MSG "), "{answer}");
}

fn over_frames(node: &Node, secret: &str) {
    let send = ["send", "ops", &format!("{SECRET} text"), "--wait", "stored", "--as", "luis"];
    node.run(&send).expect(0);
    let login = ["login", "ana", "--password-stdin"];
    node.run_with(&login, &format!("{secret}\n")).expect(1);
    node.run_with(&login, &format!("{SECRET} password\n")).expect(0);
    say(&node.native, secret.as_bytes());
}

/// What a node has logged that was told all of this, and its token.
fn log_of(format: &str) -> String {
    let mut node = Node::start_with(&["-vvv", "--log-format", format]);
    let secret = format!("{SECRET}{NASTY}");
    let token = over_http(&node, &secret);
    over_web(&node, &secret, &token);
    over_lines(&node, &secret, &token);
    over_frames(&node, &secret);
    node.process.end_by(Signal::TERM, 0);
    let log = node.process.all_noted();
    assert!(!log.contains(&token), "a token is logged");
    log
}

#[track_caller]
fn holds_nothing(line: &str) {
    // A group of the line door has it in its name, which is no secret.
    assert!(!line.replace("S3CRET-is-no-secret", "").contains(SECRET), "{line}");
    assert!(!line.chars().any(is_unsafe), "{line:?}");
}

#[test]
fn a_log_of_objects_says_who_came_and_no_text_and_no_credential() {
    let log = log_of("json");
    let lines: Vec<Value> = log.lines().map(object).collect();
    log.lines().for_each(holds_nothing);
    assert!(lines.iter().all(|line| line["timestamp"].is_string() && line["level"].is_string()));
    let says = |fields: Value| {
        let has = |line: &Value| {
            fields.as_object().unwrap().iter().all(|(key, value)| &line[key] == value)
        };
        let line = lines.iter().find(|line| has(line));
        line.unwrap_or_else(|| panic!("no line says {fields}:\n{log}"))
    };
    says(json!({ "message": "joined", "group": "ops", "name": "ana", "door": "web" }));
    says(json!({ "message": "joined", "group": "ops", "name": "ana-2", "door": "line" }));
    says(json!({ "message": "logged in", "account": "ana", "level": "INFO" }));
    says(json!({ "message": "a wrong name or password", "address": "127.0.0.1" }));
    let answered = says(json!({
        "message": "answered", "group": "ops", "status": 200, "method": "POST",
        "route": "/api/groups/{group}/messages"
    }));
    // The same number from the connection's beginning to its end.
    let conn = &answered["conn"];
    assert!(conn.is_u64());
    says(json!({ "message": "connected", "conn": conn, "door": "web" }));
}

#[test]
fn a_log_for_people_steers_no_terminal_and_holds_no_text_and_no_credential() {
    let log = log_of("text");
    assert!(log.contains("joined group=ops name=ana door=\"web\""), "{log}");
    log.lines().for_each(holds_nothing);
}

#[test]
fn without_more_a_log_of_objects_is_about_who_comes_and_goes() {
    let mut node = Node::start_with(&["--log-format=json", "-q"]);
    drop(node.join(&["ops", "--name", "ana"]));
    node.process.notes("away");
    node.process.end_by(Signal::TERM, 0);
    let log = node.process.all_noted();
    let messages: Vec<_> =
        log.lines().map(|line| object(line)["message"].as_str().unwrap().to_owned()).collect();
    assert_eq!(messages[..2], ["made", "joined"], "{log}");
    let refused = node.user.run(&["serve", "--log-format", "xml"]).expect(2);
    assert!(refused.stderr().contains("write text or json"), "{}", refused.stderr());
}

#[test]
fn a_start_that_fails_is_a_line_of_the_log_too() {
    let node = Node::start();
    let data = node.data.path().to_str().unwrap();
    let refused = node.user.run(&["serve", "--data", data, "--log-format=json"]).expect(1);
    assert_eq!(object(refused.stderr().trim())["error"]["code"], "DATA_IN_USE");
}

#[test]
fn a_certificate_that_is_read_again_is_a_line_of_the_log() {
    let node = Node::start_with(&["--tls-self", "--log-format=json"]);
    node.process.signal(Signal::HUP);
    let line = object(&node.process.notes("new connections are shown"));
    assert_eq!(line["level"], "INFO");
}
