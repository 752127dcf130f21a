//! A node with very many groups: what is asked about them costs no more than the answer.

use std::net::SocketAddr;

use tertulia_server::{Engine, Node};
use tertulia_wire::{ClientFrame, Code, NodeFrame};

use crate::support::{Calm, NativeClient, config, start, within};

/// So many groups `m0000`, `m0001`, …, and these.
async fn node(count: usize, more: &[&str]) -> (Node, tempfile::TempDir, SocketAddr) {
    let data = tempfile::tempdir().expect("a folder");
    let mut config = config(data.path());
    config.engine = Engine::Memory;
    let node = start(config).await;
    let address = node.endpoints().native.expect("the native door is on");
    let mut client = NativeClient::connect(address).await;
    let numbered = (0..count).map(|n| format!("m{n:04}"));
    for group in numbered.chain(more.iter().map(|name| (*name).to_owned())) {
        client.send(&ClientFrame::Create { id: 1, group, rules: None }).await;
        assert_eq!(client.frame().await, NodeFrame::Done { id: 1 });
    }
    (node, data, address)
}

/// The bug: a hint for an unknown name compared it with every group, under a lock that everybody needs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hint_for_an_unknown_name_comes_from_its_neighbours() {
    let (node, _data, address) = node(1_100, &["lobby2", "xlobby"]).await;
    let mut calm = Calm::new(address, "ops").await;
    let mut client = NativeClient::connect(address).await;
    // `xlobby` is nearer to `alobby`, but more than a thousand names stand between them.
    for (wanted, hint) in [("alobby", "lobby2"), ("Lobbi", "lobby2"), ("xlob", "xlobby")] {
        client.send(&ClientFrame::Locate { id: 2, group: wanted.to_owned() }).await;
        let NodeFrame::Error { code: Code::UnknownGroup, message, .. } = client.frame().await
        else {
            panic!("{wanted} is no group")
        };
        let meant = message.split_once("did you mean ").map(|(_, name)| name.trim_end_matches('?'));
        assert_eq!(meant, Some(hint), "{message}");
    }
    calm.delivers(b"all is well").await;
    within("the node's end", node.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_groups_join_up_whatever_they_begin_after() {
    let (node, _data, address) = node(120, &["Zeta", "alfa", "名前", "ñu"]).await;
    let mut client = NativeClient::connect(address).await;
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        client.send(&ClientFrame::Groups { id: 3, after: after.clone(), limit: 7 }).await;
        let NodeFrame::GroupsPage { more, items, .. } = client.frame().await else {
            panic!("GROUPS_PAGE")
        };
        seen.extend(items.into_iter().map(|item| item.group));
        after.clone_from(seen.last().expect("a page is not empty"));
        if !more {
            break;
        }
    }
    let mut expected = vec!["alfa".to_owned()];
    expected.extend((0..120).map(|n| format!("m{n:04}")));
    expected.extend(["Zeta", "ñu", "名前"].map(str::to_owned));
    assert_eq!(seen, expected);
    // What is no name, or beyond all, is no reason to end.
    for after in ["\u{1b}[2J", "~", "\u{10ffff}", "M0118"] {
        client.send(&ClientFrame::Groups { id: 4, after: after.to_owned(), limit: 1 }).await;
        assert!(matches!(client.frame().await, NodeFrame::GroupsPage { id: 4, .. }));
    }
    within("the node's end", node.stop()).await;
}
