//! Files through the node: who has only HTTP fetches what peers have, verified on the way.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;
use tertulia_files::content::ContentHash;
use tertulia_files::proto::{Piece, pieces_reply::Part};

use crate::files::{Sharer, content};
use crate::files_scripted::Account;
use crate::support::{Node, WITHIN};

const PASSWORD: &str = "correct horse";

/// An answer: its status, its head and its body.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn code(&self) -> String {
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        problem["code"].as_str().unwrap().to_owned()
    }
}

fn ask(node: &Node, method: &str, path: &str, token: Option<&str>, body: &str) -> Answer {
    let mut stream = TcpStream::connect(&node.http).unwrap();
    stream.set_read_timeout(Some(WITHIN)).unwrap();
    let bearer =
        token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{bearer}\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).unwrap();
    let mut all = Vec::new();
    // Cut short: what came is what came.
    let _ = stream.read_to_end(&mut all);
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(all[..end].to_vec()).unwrap().to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: all[end + 4..].to_vec() }
}

fn get(node: &Node, path: &str, token: &str) -> Answer {
    ask(node, "GET", path, Some(token), "")
}

/// A token of an account without a peer.
fn log_in(node: &Node, name: &str) -> String {
    let body = format!(r#"{{"name":"{name}","password":"{PASSWORD}"}}"#);
    assert_eq!(ask(node, "POST", "/api/register", None, &body).status, 201);
    let answer = ask(node, "POST", "/api/login", None, &body);
    let given: Value = serde_json::from_slice(&answer.body).unwrap();
    given["token"].as_str().unwrap().to_owned()
}

#[test]
fn a_content_comes_through_the_node_however_long_that_takes() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = Node::start();
    let eva = runtime.block_on(Account::new(&node, "eva"));
    let bytes = content(20 * (1 << 20) + 3);
    // It takes the first capability for the outline and the first run of pieces.
    let slow = runtime.block_on(eva.share_slowly("lenta.bin", &bytes, 2));
    let token = log_in(&node, "luis");
    let path = format!("/api/files/{}", ContentHash::of(&bytes));
    let got = get(&node, &path, &token);
    assert_eq!((got.status, got.body == bytes), (200, true), "{}", got.head);
    assert_eq!(slow.capabilities(), 2);
}

#[test]
fn a_content_comes_through_the_node_verified() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = Node::start();
    let ana = Sharer::start(&node, "0");
    ana.log_in("ana");
    let bytes = content(9 * (1 << 20) + 3);
    let path = ana.own_file("Plano Ñ.bin", &bytes);
    ana.files(&["save", &path]).expect(0);
    let token = log_in(&node, "luis");
    let hash = ContentHash::of(&bytes).to_string();
    let path = format!("/api/files/{hash}");
    let got = get(&node, &path, &token);
    assert_eq!((got.status, got.body == bytes), (200, true), "{}", got.head);
    for field in [
        "content-type: application/octet-stream",
        "content-length: 9437187",
        "x-content-type-options: nosniff",
        "content-disposition: attachment; filename=\"plano _.bin\"; filename*=utf-8''plano%20%c3%91.bin",
    ] {
        assert!(got.head.contains(field), "{field}: {}", got.head);
    }
    // Who may not search may not fetch; what nobody has is said so.
    assert_eq!(ask(&node, "GET", &path, None, "").status, 401);
    let none = get(&node, &format!("/api/files/{}", "0".repeat(64)), &token);
    assert_eq!((none.status, none.code()), (404, "NO_HOLDERS".to_owned()));
    assert_eq!(get(&node, "/api/files/x", &token).status, 400);

    // Who lies is passed over, from the first piece or in the middle; alone, it gives nothing.
    let eva = runtime.block_on(Account::new(&node, "eva"));
    runtime.block_on(eva.share(
        "Plano Ñ.bin",
        &bytes,
        Box::new(|outline, part| match part {
            Part::Piece(piece) if piece.number + 1 < outline.pieces() && piece.number > 1 => {
                let mut content = piece.content.to_vec();
                content[7] ^= 1;
                Part::Piece(Piece { content: content.into(), ..piece })
            }
            part => part,
        }),
    ));
    for _ in 0..2 {
        let got = get(&node, &path, &token);
        assert_eq!((got.status, got.body == bytes), (200, true));
    }
    let alone = content(4 << 20);
    runtime.block_on(eva.share(
        "otro.bin",
        &alone,
        Box::new(|_, part| match part {
            Part::Piece(piece) => {
                Part::Piece(Piece { content: vec![0; piece.content.len()].into(), ..piece })
            }
            part => part,
        }),
    ));
    let path = format!("/api/files/{}", ContentHash::of(&alone));
    let lied = get(&node, &path, &token);
    assert_eq!((lied.status, lied.code()), (502, "NO_HOLDERS".to_owned()));
    // It proves itself and then sends something else: what came before is right, and it breaks off.
    let broken = content(5 << 20);
    runtime.block_on(eva.share(
        "roto.bin",
        &broken,
        Box::new(|outline, part| match part {
            Part::Piece(piece) if piece.number == 2 && outline.pieces() > 3 => {
                Part::Piece(Piece { content: vec![0; piece.content.len()].into(), ..piece })
            }
            part => part,
        }),
    ));
    let path = format!("/api/files/{}", ContentHash::of(&broken));
    let cut = get(&node, &path, &token);
    assert!(cut.body.len() < broken.len() && broken.starts_with(&cut.body), "{}", cut.body.len());
}

#[test]
fn who_takes_nothing_holds_little_and_has_two_at_most() {
    let node = Node::start();
    let ana = Sharer::start(&node, "0");
    ana.log_in("ana");
    let bytes = content(64 << 20);
    std::fs::write(ana.folder.join("grande.bin"), &bytes).unwrap();
    ana.finds("grande", 1);
    let token = log_in(&node, "luis");
    let path = format!("/api/files/{}", ContentHash::of(&bytes));
    let before = node.memory("VmRSS");
    let stuck: Vec<TcpStream> = (0..2)
        .map(|_| {
            let mut stream = TcpStream::connect(&node.http).unwrap();
            let head = format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).unwrap();
            let mut first = [0; 12];
            stream.read_exact(&mut first).unwrap();
            assert_eq!(&first, b"HTTP/1.1 200");
            stream
        })
        .collect();
    let third = get(&node, &path, &token);
    assert_eq!(third.status, 429, "{}", third.head);
    assert_eq!((third.status, third.code()), (429, "LIMIT".to_owned()));
    let grown = node.memory("VmRSS").saturating_sub(before);
    assert!(grown < 40 << 20, "{} MiB more", grown >> 20);
    // Who goes makes room.
    drop(stuck);
    let until = std::time::Instant::now() + WITHIN;
    while get(&node, &path, &token).status != 200 {
        assert!(std::time::Instant::now() < until, "there is no room again");
    }
}
