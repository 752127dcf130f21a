//! Peers and their files over HTTP: who is there, what they announce, who may fetch; and what is refused.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};
use tertulia_server::{HashCost, Node, PeerLimits};

use crate::http_client::{Answer, Ask};
use crate::support::{config, start};

const PASSWORD: &str = "correct horse";

struct Rig {
    node: Node,
    data: tempfile::TempDir,
}

impl Rig {
    async fn new(peers: PeerLimits) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        Self { node: Self::node(&data, peers).await, data }
    }

    async fn node(data: &tempfile::TempDir, peers: PeerLimits) -> Node {
        let mut config = config(data.path());
        config.limits.accounts.hash_cost = HashCost { memory_kib: 64, passes: 1 };
        config.limits.peers = peers;
        start(config).await
    }

    fn http(&self) -> SocketAddr {
        self.node.endpoints().http.expect("an HTTP door")
    }

    async fn ask(&self, method: &str, path: &str, token: Option<&str>, body: Value) -> Answer {
        let ask = Ask::json(self.http(), path, &body).method(method);
        let bearer = token.map(|token| format!("Bearer {token}"));
        match bearer {
            Some(bearer) => ask.header("authorization", &bearer).answer().await,
            None => ask.answer().await,
        }
    }

    async fn get(&self, path: &str, token: &str) -> Answer {
        self.ask("GET", path, Some(token), Value::Null).await
    }

    /// Registers and logs in; the token.
    async fn account(&self, name: &str) -> String {
        let body = json!({ "name": name, "password": PASSWORD });
        let made = self.ask("POST", "/api/register", None, body.clone()).await;
        assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
        self.log_in(body).await
    }

    async fn log_in(&self, body: Value) -> String {
        let answer = self.ask("POST", "/api/login", None, body).await;
        answer.json["token"].as_str().expect("a token").to_owned()
    }

    async fn here(&self, token: &str, print: u8, port: u16) -> Answer {
        let body = json!({ "port": port, "fingerprint": hex(print) });
        self.ask("PUT", "/api/peers/me", Some(token), body).await
    }

    async fn announce(&self, token: &str, print: u8, revision: u64, names: &[&str]) -> Answer {
        let add: Vec<_> = names.iter().map(|name| file(name)).collect();
        let body = json!({ "fingerprint": hex(print), "revision": revision, "add": add });
        self.ask("POST", "/api/files", Some(token), body).await
    }

    /// The names that a search finds, with their holders.
    async fn search(&self, token: &str, words: &str) -> Vec<(String, Value)> {
        let answer = self.get(&format!("/api/files?q={words}"), token).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let items = answer.json["items"].as_array().expect("items");
        items
            .iter()
            .map(|item| {
                (item["name"].as_str().expect("a name").to_owned(), item["holders"].clone())
            })
            .collect()
    }
}

/// 32 bytes of one value.
fn hex(byte: u8) -> String {
    format!("{byte:02x}").repeat(32)
}

fn hash(name: &str) -> String {
    blake3::hash(name.as_bytes()).to_hex().to_string()
}

fn file(name: &str) -> Value {
    json!({ "name": name, "size": 3, "hash": hash(name) })
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_are_listed_found_and_gone() {
    let rig = Rig::new(PeerLimits::default()).await;
    let (ana, luis) = (rig.account("ana").await, rig.account("luis").await);
    let here = rig.here(&ana, 1, 50051).await;
    assert_eq!(
        here.json,
        json!({ "user": "ana", "address": "127.0.0.1:50051", "lease_ms": 10_000, "revision": 0 })
    );
    let known = rig.announce(&ana, 1, 0, &["Informe Ñandú.pdf", "x/acta.txt"]).await;
    assert_eq!(known.json, json!({ "revision": 1, "files": 2 }));
    let peers = rig.get("/api/peers", &luis).await.json;
    let line = json!({ "user": "ana", "address": "127.0.0.1:50051", "online": true });
    assert_eq!(peers, json!({ "items": [line], "next": null }));
    assert_eq!(
        rig.search(&luis, "NANDU").await,
        [("Informe Ñandú.pdf".to_owned(), json!(["ana"]))]
    );
    assert_eq!(rig.search(&luis, "").await.len(), 2);

    // Who has it, and the right to fetch it.
    let acta = hash("x/acta.txt");
    let holders = rig.get(&format!("/api/files/{acta}/holders"), &luis).await.json;
    assert_eq!(holders["items"][0]["fingerprint"], hex(1));
    let wanted = json!({ "fingerprint": hex(2), "hashes": [acta] });
    let given = rig.ask("POST", "/api/capabilities", Some(&luis), wanted).await;
    assert!(
        given.json["capability"].as_str().is_some_and(|text| text.starts_with("v4.public.")),
        "{given:?}"
    );
    let key = rig.ask("GET", "/api/peers/key", None, Value::Null).await.json;
    assert_eq!(key["key"].as_str().map(str::len), Some(64));
    let unknown = json!({ "fingerprint": hex(2), "hashes": [hash("nobody's")] });
    let refused = rig.ask("POST", "/api/capabilities", Some(&luis), unknown).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);

    // Logged out: gone at once; it says so itself: the same.
    let luis_two = rig.here(&luis, 2, 7).await;
    assert_eq!(luis_two.status, StatusCode::OK);
    assert_eq!(rig.announce(&luis, 2, 0, &["x/acta.txt"]).await.status, StatusCode::OK);
    assert_eq!(rig.search(&luis, "acta").await[0].1, json!(["ana", "luis"]));
    rig.ask("POST", "/api/logout", Some(&ana), Value::Null).await;
    assert_eq!(rig.search(&luis, "acta").await[0].1, json!(["luis"]));
    assert_eq!(rig.search(&luis, "nandu").await, []);
    rig.ask("DELETE", &format!("/api/peers/me?fingerprint={}", hex(2)), Some(&luis), Value::Null)
        .await;
    assert_eq!(rig.search(&luis, "").await, []);
    let peers = rig.get("/api/peers", &luis).await.json;
    assert_eq!(
        peers["items"][0],
        json!({ "user": "ana", "address": "127.0.0.1:50051", "online": false })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_fetching_a_file_is_a_holder_of_some_of_it() {
    let rig = Rig::new(PeerLimits::default()).await;
    let ana = rig.account("ana").await;
    let fetching = |files: Vec<Value>| {
        let body = json!({ "port": 1, "fingerprint": hex(1), "unfinished": files });
        rig.ask("PUT", "/api/peers/me", Some(&ana), body)
    };
    assert_eq!(fetching(vec![file("acta.txt")]).await.status, StatusCode::OK);
    assert_eq!(rig.search(&ana, "acta").await, []);
    let path = format!("/api/files/{}/holders", hash("acta.txt"));
    let holders = rig.get(&path, &ana).await.json["items"].clone();
    assert_eq!((&holders[0]["user"], &holders[0]["unfinished"]), (&json!("ana"), &json!(true)));
    let wanted = json!({ "fingerprint": hex(2), "hashes": [hash("acta.txt")] });
    let given = rig.ask("POST", "/api/capabilities", Some(&ana), wanted).await;
    assert_eq!(given.status, StatusCode::OK, "{given:?}");
    let many = (0..65).map(|number| file(&number.to_string())).collect();
    assert_eq!(fetching(many).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(fetching(vec![file("\u{1b}[2J")]).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(fetching(Vec::new()).await.status, StatusCode::OK);
    assert_eq!(rig.get(&path, &ana).await.json["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_says_nothing_is_not_there() {
    let lease = Duration::from_millis(300);
    let rig = Rig::new(PeerLimits { lease, ..PeerLimits::default() }).await;
    let ana = rig.account("ana").await;
    rig.here(&ana, 1, 50051).await;
    rig.announce(&ana, 1, 0, &["acta.txt"]).await;
    let gone = async {
        while !rig.search(&ana, "acta").await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("it ends");
    // It is not there: it has to say where it is, and everything anew.
    let refused = rig.announce(&ana, 1, 1, &[]).await;
    assert_eq!(refused.code(), "NOT_JOINED");
    assert_eq!(rig.here(&ana, 1, 50051).await.json["revision"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_peer_was_outlives_the_node_and_registering_says_it_too() {
    let rig = Rig::new(PeerLimits::default()).await;
    let ana = rig.account("ana").await;
    rig.here(&ana, 1, 50051).await;
    let eva = json!({ "name": "eva", "password": PASSWORD, "peer": "10.0.0.7:50055" });
    assert_eq!(rig.ask("POST", "/api/register", None, eva).await.status, StatusCode::CREATED);
    for wrong in ["nowhere", "10.0.0.7:0", "a b:1", "0.0.0.0:1"] {
        let body = json!({ "name": "pia", "password": PASSWORD, "peer": wrong });
        assert_eq!(
            rig.ask("POST", "/api/register", None, body).await.status,
            StatusCode::BAD_REQUEST
        );
    }
    let Rig { node, data } = rig;
    node.stop().await;
    let rig = Rig { node: Rig::node(&data, PeerLimits::default()).await, data };
    let items = rig.get("/api/peers", &ana).await.json["items"].clone();
    let line =
        |user: &str, address: &str| json!({ "user": user, "address": address, "online": false });
    assert_eq!(items, json!([line("ana", "127.0.0.1:50051"), line("eva", "10.0.0.7:50055")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_and_others_and_too_much_are_refused() {
    let peers =
        PeerLimits { files_per_peer: 3, files: 5, peers_per_account: 1, ..PeerLimits::default() };
    let rig = Rig::new(peers).await;
    let (ana, luis) = (rig.account("ana").await, rig.account("luis").await);
    for (method, path) in [
        ("GET", "/api/peers"),
        ("PUT", "/api/peers/me"),
        ("DELETE", "/api/peers/me"),
        ("GET", "/api/files"),
        ("POST", "/api/files"),
        ("GET", "/api/files/x"),
        ("GET", "/api/files/x/holders"),
        ("POST", "/api/capabilities"),
    ] {
        let answer = rig.ask(method, path, None, json!({})).await;
        assert_eq!(answer.code(), "NOT_LOGGED_IN", "{method} {path}");
    }
    rig.here(&ana, 1, 1).await;
    rig.here(&luis, 2, 2).await;
    assert_eq!(rig.here(&ana, 3, 1).await.code(), "LIMIT");
    // Another account's peer is not one's own, whatever fingerprint is said.
    assert_eq!(rig.announce(&luis, 1, 0, &["a"]).await.code(), "NOT_JOINED");
    assert_eq!(rig.announce(&ana, 1, 0, &["a", "b", "c", "d"]).await.code(), "LIMIT");
    assert_eq!(rig.search(&ana, "").await, [], "half a change is none");
    assert_eq!(rig.announce(&ana, 1, 0, &["a", "b", "c"]).await.status, StatusCode::OK);
    assert_eq!(rig.announce(&ana, 1, 7, &["d"]).await.code(), "REVISION");
    assert_eq!(rig.announce(&luis, 2, 0, &["d", "e", "f"]).await.code(), "LIMIT");
    let long = "x".repeat(2_000);
    for bad in [
        json!({ "name": "", "size": 1, "hash": hash("a") }),
        json!({ "name": "a\u{1b}[2J", "size": 1, "hash": hash("a") }),
        json!({ "name": "a\u{202e}b", "size": 1, "hash": hash("a") }),
        json!({ "name": long, "size": 1, "hash": hash("a") }),
        json!({ "name": "a", "size": -1, "hash": hash("a") }),
        json!({ "name": "a", "size": 1, "hash": "zz" }),
    ] {
        let body = json!({ "fingerprint": hex(1), "revision": 1, "add": [bad.clone()] });
        let answer = rig.ask("POST", "/api/files", Some(&ana), body).await;
        assert!(answer.status.is_client_error(), "{bad}: {answer:?}");
    }
    let many: Vec<_> = (0..1_001).map(|n| file(&n.to_string())).collect();
    let body = json!({ "fingerprint": hex(1), "revision": 0, "add": many });
    assert_eq!(
        rig.ask("POST", "/api/files", Some(&ana), body).await.status,
        StatusCode::BAD_REQUEST
    );
    for body in [
        json!({ "port": 0, "fingerprint": hex(1) }),
        json!({ "port": 1, "fingerprint": "ab" }),
        json!({ "port": 1, "fingerprint": hex(1), "host": "a b" }),
        json!({ "port": 1, "fingerprint": hex(1), "host": "0.0.0.0" }),
    ] {
        let answer = rig.ask("PUT", "/api/peers/me", Some(&ana), body.clone()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
    }
    for path in ["/api/files?limit=1000&after=9500", "/api/files?after=x", "/api/files/zz/holders"]
    {
        assert_eq!(rig.get(path, &ana).await.status, StatusCode::BAD_REQUEST, "{path}");
    }
    let body = json!({ "fingerprint": hex(1), "hashes": vec![hash("a"); 65] });
    assert_eq!(rig.ask("POST", "/api/capabilities", Some(&ana), body).await.code(), "LIMIT");
}
