//! A member that has held many messages up leaves: whoever sent them and reads is told of each, at its own speed.

use serde_json::json;
use tertulia_group::SenderId;
use tertulia_server::Node;
use tertulia_wire::{ClientFrame, NodeFrame};

use crate::support::{NativeClient, config, start, within};
use crate::web::Web;

/// Their receipts are far more than a connection may have waiting at once.
const MESSAGES: u64 = 3_000;

async fn node(data: &std::path::Path) -> Node {
    let mut config = config(data);
    config.limits.answers_bytes = 64 << 10;
    start(config).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_native_sender_that_reads_is_told_of_everything_that_was_held_up() {
    let data = tempfile::tempdir().expect("a folder");
    let node = node(data.path()).await;
    let native = node.endpoints().native.expect("the native door");
    let (mut silent, _) = NativeClient::member(native, "silent", "ops").await;
    let id = SenderId([7; 16]);
    let (mut sender, _) = NativeClient::sender(native, "eva", "ops", id, false).await;
    let mut stored = 0;
    for counter in 1..=MESSAGES {
        sender.publish("eva", counter, b"x").await;
    }
    while stored < MESSAGES {
        if let NodeFrame::Stored(runs) = sender.frame().await {
            stored += runs.iter().map(|run| u64::from(run.count)).sum::<u64>();
        }
    }
    silent.send(&ClientFrame::Leave).await;
    let mut told = Vec::new();
    while (told.len() as u64) < MESSAGES {
        match sender.frame().await {
            NodeFrame::Receipt { counter, receipt } => {
                assert_eq!(receipt.missing.first().map(|one| &one.name[..]), Some("silent"));
                told.push(counter);
            }
            other => panic!("after {} receipts it is told {other:?}", told.len()),
        }
    }
    assert!(told.iter().copied().eq(1..=MESSAGES), "each once, in order");
    // And its connection goes on.
    sender.publish("eva", MESSAGES + 1, b"x").await;
    let next = sender.frame().await;
    assert!(matches!(next, NodeFrame::Stored(_)), "after all receipts it is told {next:?}");
    within("the node's end", node.stop()).await;
}

/// A node with the limits that nodes have, a native member that has not answered anything, and a web member that has sent so many
/// messages.
async fn held_up(data: &std::path::Path, count: u64) -> (Node, NativeClient, Web) {
    let node = start(config(data)).await;
    let endpoints = node.endpoints();
    let (native, http) = (endpoints.native.expect("it is on"), endpoints.http.expect("it is on"));
    let (silent, _) = NativeClient::member(native, "silent", "ops").await;
    let join = json!({ "type": "join", "group": "ops", "name": "eva" });
    let (mut web, _) = Web::join(http, join).await;
    for first in (1..=count).step_by(500) {
        for counter in first..first + 500 {
            web.say(&json!({ "type": "send", "counter": counter, "text": "x" })).await;
        }
        for _ in 0..500 {
            web.until("stored").await;
        }
    }
    (node, silent, web)
}

/// As a frame their receipts would be far longer than what a socket takes at once, and than a portion.
const MANY: u64 = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_web_member_that_reads_is_told_of_everything_that_was_held_up_by_who_leaves() {
    let data = tempfile::tempdir().expect("a folder");
    let (node, mut silent, mut web) = held_up(data.path(), MANY).await;
    silent.send(&ClientFrame::Leave).await;
    for counter in 1..=MANY {
        let receipt = within("the next receipt", web.until("receipt")).await;
        assert_eq!(receipt["counter"], counter);
        assert_eq!(receipt["receipt"]["missing"][0]["name"], "silent", "{receipt}");
    }
    within("the node's end", node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_member_that_reads_is_told_of_everything_that_was_held_up_by_who_confirms_it() {
    let data = tempfile::tempdir().expect("a folder");
    let (node, mut silent, mut web) = held_up(data.path(), MANY).await;
    let mut last = 0;
    for _ in 0..MANY {
        last = silent.message().await.0;
    }
    silent.ack(last).await;
    for counter in 1..=MANY {
        let receipt = within("the next receipt", web.until("receipt")).await;
        assert_eq!(
            (&receipt["counter"], &receipt["receipt"]["confirmed"]),
            (&counter.into(), &1.into())
        );
    }
    within("the node's end", node.stop()).await;
}
