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

#[path = "accounts/groups.rs"]
mod groups;
#[path = "accounts/guessing.rs"]
mod guessing;
#[path = "accounts/names.rs"]
mod names;
#[path = "accounts/passwords.rs"]
mod passwords;
#[path = "accounts/tokens.rs"]
mod tokens;

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

async fn change(rig: &Rig, token: Option<&str>, body: Value) -> (u16, String) {
    let answer = rig.post("/api/password", token, body).await;
    let code = answer.json["code"].as_str().unwrap_or_default();
    (answer.status.as_u16(), code.to_owned())
}
