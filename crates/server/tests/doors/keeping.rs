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

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_reads_is_told_of_everything_that_is_given_up_however_much_it_is() {
    let data = tempfile::tempdir().expect("a folder");
    let keep = Keep { bytes: 4 << 20, ..Keep::default() };
    let mut config = tertulia_server::Config { keep, ..config(data.path()) };
    // Less than the receipts that are given up together.
    config.limits.answers_bytes = 90 << 10;
    let node = start(config).await;
    let native = node.endpoints().native.expect("the native door");
    // It answers nothing, so that every message waits for it.
    let _silent = NativeClient::member(native, "silent", "ops").await;
    let id = SenderId([7; 16]);
    let (mut sender, _) = NativeClient::sender(native, "eva", "ops", id, false).await;
    let (mut told, mut stored) = (Vec::new(), 0);
    let mut published = 0;
    // 36 MB: a snapshot is made after 32 MiB, and then all but 4 MiB are given up. And it goes on.
    while told.len() < 1_700 || stored < 2_200 {
        if published < 2_200 {
            published += 1;
            sender.publish("eva", published, &vec![b'x'; 16_500]).await;
        }
        match sender.frame().await {
            NodeFrame::Stored(runs) => stored += runs.iter().map(|run| run.count).sum::<u32>(),
            NodeFrame::Receipt { counter, receipt } => {
                assert_eq!(receipt.missing.first().map(|one| &one.name[..]), Some("silent"));
                told.push(counter);
            }
            NodeFrame::Heartbeat { .. } => {}
            other => panic!("a sender is told {other:?} after {stored} were stored"),
        }
    }
    assert!(told.iter().copied().eq(1..=told.len() as u64), "each once, in order");
    drop(sender);
    node.stop().await;
}
