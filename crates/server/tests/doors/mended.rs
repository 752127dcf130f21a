//! Bugs that were found and mended: each test fails without its mend.

use std::net::SocketAddr;

use tertulia_server::{Config, Node};
use tertulia_wire::native::{Ack, HistoryMode, Join, Start};
use tertulia_wire::{ClientFrame, Code, NodeFrame};

use crate::support::{Calm, NativeClient, config, join, start, within};

async fn node(change: impl FnOnce(&mut Config)) -> (Node, tempfile::TempDir, SocketAddr) {
    let data = tempfile::tempdir().expect("a folder");
    let mut config = config(data.path());
    change(&mut config);
    let node = start(config).await;
    let address = node.endpoints().native.expect("the native door is on");
    (node, data, address)
}

fn history(id: u32, group: &str) -> ClientFrame {
    let group = group.to_owned();
    ClientFrame::History { id, group, mode: HistoryMode::Last, limit: u32::MAX }
}

/// The bug: answers that were still under way, the group's and the directory's, were written after CLOSE.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_frame_follows_close_whatever_is_under_way() {
    let (node, _data, address) = node(|_| {}).await;
    let mut calm = Calm::new(address, "ops").await;
    for _ in 0..6 {
        calm.delivers(&vec![b'x'; 500_000]).await;
    }
    let mut evil = NativeClient::narrow(address).await;
    evil.try_join(join("evil", "elsewhere")).await.expect("joins");
    // A page that fills the sockets between them: from its first byte on nothing more is written.
    evil.send(&history(2, "ops")).await;
    within("the page begins", evil.stream.readable()).await.expect("readable");
    let mut out = bytes::BytesMut::new();
    tertulia_wire::native::write_publish(&mut out, "evil", 1, true, b"last words");
    ClientFrame::Status { id: 3 }.encode(&mut out);
    history(4, "elsewhere").encode(&mut out);
    let ack = Ack { cursor: u64::MAX, open: Vec::new(), failed: Vec::new() };
    ClientFrame::Ack(ack).encode(&mut out);
    evil.write(&out).await;
    // Everything has had its answer by now, beside it and after it.
    let mut other = NativeClient::connect(address).await;
    loop {
        other.send(&history(5, "elsewhere")).await;
        let NodeFrame::HistoryPage { entries, .. } = other.frame().await else { panic!("a page") };
        if entries.windows(10).any(|bytes| bytes == b"last words") {
            break;
        }
    }
    calm.delivers(b"all is well").await;
    calm.connections().await;
    // `close_code` fails where anything comes after it.
    assert_eq!(evil.close_code().await, Some(Code::BadAck));
    within("the node's end", node.stop()).await;
}

/// The bug: requests read the journal with the permits of the members behind the window, so that each could starve the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_and_members_behind_the_window_do_not_wait_for_each_other() {
    for members_may_read in [false, true] {
        let (node, _data, address) = node(|config| {
            config.limits.window_bytes = 64 << 10;
            if members_may_read {
                config.limits.request_reads = 0;
            } else {
                config.limits.reads = 0;
            }
        })
        .await;
        let mut calm = Calm::new(address, "ops").await;
        let mut seqs = Vec::new();
        for _ in 0..10 {
            seqs.push(calm.delivers(&vec![b'x'; 50_000]).await);
        }
        let mut other = NativeClient::connect(address).await;
        if members_may_read {
            let from_first = Join { start: Start::First, ..join("late", "ops") };
            other.try_join(from_first).await.expect("joins");
            for seq in seqs {
                assert_eq!(other.message().await.0, seq);
            }
        } else {
            other.send(&history(1, "ops")).await;
            assert!(matches!(other.frame().await, NodeFrame::HistoryPage { id: 1, .. }));
        }
        within("the node's end", node.stop()).await;
    }
}
