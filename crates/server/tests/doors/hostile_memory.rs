//! Clients that make the node hold bytes for them: half frames, answers and messages that are not read. All of it is bounded.

use std::net::SocketAddr;
use std::time::Duration;

use tertulia_server::{Config, Node};
use tertulia_wire::native::HistoryMode;
use tertulia_wire::{ClientFrame, Code};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use crate::support::{Calm, LineClient, NativeClient, config, start, within};

async fn node(change: impl FnOnce(&mut Config)) -> (Node, tempfile::TempDir, SocketAddr) {
    let data = tempfile::tempdir().expect("a folder");
    let mut config = config(data.path());
    change(&mut config);
    let node = start(config).await;
    let address = node.endpoints().native.expect("the native door is on");
    (node, data, address)
}

fn history(id: u32) -> ClientFrame {
    let group = "ops".to_owned();
    ClientFrame::History { id, group, mode: HistoryMode::Last, limit: u32::MAX }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_frames_are_held_within_the_budget_and_the_silent_pay() {
    let (node, _data, address) = node(|config| config.limits.held_bytes = 4 << 20).await;
    let mut calm = Calm::new(address, "ops").await;
    let (ended, mut codes) = mpsc::channel(100);
    let mut half = (48_u32 + 1_000_000).to_le_bytes().to_vec();
    half.extend_from_slice(&[0x20, 0, 0, 0]);
    half.resize(600_000, 0);
    for n in 0..40 {
        let (mut evil, _) = NativeClient::member(address, &format!("evil{n}"), "ops").await;
        let (ended, half) = (ended.clone(), half.clone());
        tokio::spawn(async move {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut evil.stream, &half).await;
            let _ = ended.send(evil.close_code().await).await;
        });
    }
    // At most 6 of them fit the budget.
    for _ in 0..34 {
        let code = within("one is closed", codes.recv()).await.expect("the sender is there");
        assert_eq!(code, Some(Code::Limit));
    }
    // Who sends long messages beside them, and finishes each, is not the one to pay.
    for _ in 0..10 {
        calm.delivers(&vec![b'x'; 900_000]).await;
    }
    within("the node's end", node.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_a_member_does_not_read_end_its_connection() {
    let (node, _data, address) = node(|config| config.limits.answers_bytes = 1 << 20).await;
    let mut calm = Calm::new(address, "ops").await;
    for _ in 0..10 {
        calm.delivers(&vec![b'x'; 500_000]).await;
    }
    let (mut evil, _) = NativeClient::member(address, "evil", "elsewhere").await;
    for id in 1..=10 {
        evil.send(&history(id)).await;
    }
    calm.until_connections(2).await;
    calm.delivers(b"all is well").await;
    drop(evil);
    within("the node's end", node.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_in_the_lobby_reads_are_not_waited_for_for_ever() {
    let (node, _data, address) =
        node(|config| config.limits.answer = Duration::from_millis(200)).await;
    let mut calm = Calm::new(address, "ops").await;
    for _ in 0..10 {
        calm.delivers(&vec![b'x'; 500_000]).await;
    }
    let mut all = Vec::new();
    for _ in 0..5 {
        let mut evil = NativeClient::connect(address).await;
        for id in 1..=20 {
            evil.send(&history(id)).await;
        }
        all.push(evil);
    }
    calm.until_connections(2).await;
    calm.delivers(b"all is well").await;
    within("the node's end", node.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_give_up_what_can_be_read_again_and_miss_nothing() {
    let (node, _data, address) = node(|config| {
        config.limits.held_bytes = 1 << 20;
        config.limits.window_bytes = 512 << 10;
    })
    .await;
    let line = node.endpoints().line.expect("the line door is on");
    let mut calm = Calm::new(address, "ops").await;
    let mut slow = Vec::new();
    for n in 0..6 {
        slow.push(NativeClient::member(address, &format!("slow{n}"), "ops").await.0);
    }
    let mut drip = NativeClient::member(address, "drip", "ops").await.0;
    let stuck = LineClient::join(line, "stuck", "ops").await;
    // More than sockets and the window hold: the rest has to be read from the journal.
    let (count, body) = (150, vec![b'x'; 60_000]);
    for _ in 0..count {
        calm.delivers(&body).await;
        let _ = drip.stream.read_u8().await;
    }
    let reading = slow.into_iter().map(|mut slow| {
        tokio::spawn(async move {
            let mut last = slow.message().await.0;
            for _ in 1..count {
                let next = slow.entry().await.header.seq;
                assert_eq!(next, last + 1, "a gap");
                last = next;
            }
        })
    });
    for one in reading.collect::<Vec<_>>() {
        within("it catches up", one).await.expect("no panic");
    }
    calm.delivers(b"all is well").await;
    drop((stuck, drip));
    within("the node's end", node.stop()).await;
}
