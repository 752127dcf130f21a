//! Retention, over lives of a node that are too short for a snapshot each.

use tertulia_group::SenderId;
use tertulia_server::Keep;
use tertulia_wire::native::HistoryMode;
use tertulia_wire::{ClientFrame, NodeFrame};

use crate::support::{NativeClient, config, start};

/// Less than what makes a snapshot, which is 32 MiB.
const MESSAGES: u64 = 14;
const MESSAGE_BYTES: usize = 1_000_000;

/// One life: that many messages. Answers the lowest number that is kept at its beginning.
async fn live(data: &std::path::Path, life: u64) -> u64 {
    let keep = Keep { bytes: 4 << 20, ..Keep::default() };
    let node = start(tertulia_server::Config { keep, ..config(data) }).await;
    let native = node.endpoints().native.expect("the native door");
    let _member = NativeClient::member(native, &format!("m{life}"), "ops").await;
    let id = SenderId([7; 16]);
    let (mut sender, ready) = NativeClient::sender(native, "eva", "ops", id, life > 0).await;
    let first_kept = first_kept(&mut sender).await;
    for counter in ready.last_counter + 1..=ready.last_counter + MESSAGES {
        sender.publish("eva", counter, &vec![b'x'; MESSAGE_BYTES]).await;
        while !matches!(sender.frame().await, NodeFrame::Stored(_)) {}
    }
    drop(sender);
    node.stop().await;
    first_kept
}

async fn first_kept(client: &mut NativeClient) -> u64 {
    let (group, mode) = ("ops".to_owned(), HistoryMode::After(0));
    client.send(&ClientFrame::History { id: 5, group, mode, limit: 1 }).await;
    loop {
        if let NodeFrame::HistoryPage { first_kept, .. } = client.frame().await {
            return first_kept;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_back_at_a_start_counts_towards_the_next_snapshot() {
    let data = tempfile::tempdir().expect("a folder");
    let mut kept = Vec::new();
    for life in 0..5 {
        kept.push(live(data.path(), life).await);
    }
    assert_eq!(kept[..3], [1, 1, 1], "no life is long enough for a snapshot of its own");
    assert!(kept[4] > MESSAGES, "70 MB are stored, 4 MiB are to be kept: from #{}", kept[4]);
}
