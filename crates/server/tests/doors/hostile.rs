//! Hostile clients of the native door: what they say is refused by name or ends their connection, and nobody else notices.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use tertulia_group::SenderId;
use tertulia_server::{Config, Node};
use tertulia_wire::native::{Ack, Failed, Hello, OpenSender, Secret};
use tertulia_wire::{ClientFrame, Code, NodeFrame};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use crate::http_client::Ask;
use crate::support::{Calm, NativeClient, config, join, start, within};

async fn node(change: impl FnOnce(&mut Config)) -> (Node, tempfile::TempDir, SocketAddr) {
    let data = tempfile::tempdir().expect("a folder");
    let mut config = config(data.path());
    change(&mut config);
    let node = start(config).await;
    let address = node.endpoints().native.expect("the native door is on");
    (node, data, address)
}

fn header(len: u32, kind: u8) -> Vec<u8> {
    let mut bytes = len.to_le_bytes().to_vec();
    bytes.extend_from_slice(&[kind, 0, 0, 0]);
    bytes
}

fn hello(version: u16) -> Vec<u8> {
    let mut out = BytesMut::new();
    ClientFrame::Hello(Hello { version, features: 0, agent: "x".to_owned() }).encode(&mut out);
    out.to_vec()
}

/// Bytes that look like nothing, the same at every run.
fn noise(mut state: u64) -> Vec<u8> {
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    (0..4096).map(|_| next() | 0x80).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_frame_ends_its_own_connection_only() {
    let (node, _data, address) = node(|_| {}).await;
    let mut calm = Calm::new(address, "ops").await;
    let four_gb = u32::MAX;
    let bad = Some(Code::BadFrame);
    let before_hello = [
        (noise(1), bad),
        (noise(2), bad),
        (vec![0; 64], bad),
        (header(four_gb, 0x01), bad),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), bad),
        (header(100, 0x20), bad),
        (hello(7), Some(Code::BadVersion)),
    ];
    for (bytes, code) in before_hello {
        let mut client = NativeClient::bare(address).await;
        client.write(&bytes).await;
        assert_eq!(client.close_code().await, code, "before HELLO: {:x?}", &bytes[..8]);
    }
    let mut ack_of_65 = header(8 + 8 + 1 + 65 * 8 + 1, 0x12);
    ack_of_65.extend_from_slice(&1_u64.to_le_bytes());
    ack_of_65.push(65);
    ack_of_65.extend_from_slice(&[1; 65 * 8 + 1]);
    for (bytes, in_lobby, in_group) in [
        (vec![0; 16], bad, bad),
        (header(four_gb, 0x02), bad, bad),
        (header(four_gb, 0x20), Some(Code::NotJoined), bad),
        (header(48, 0x20), Some(Code::NotJoined), None),
        (header(7, 0x14), bad, bad),
        (header(12, 0x02), None, None),
        (ack_of_65, bad, bad),
        (hello(1), Some(Code::NotJoined), bad),
    ] {
        if in_lobby.is_some() {
            let mut client = NativeClient::connect(address).await;
            client.write(&bytes).await;
            assert_eq!(client.close_code().await, in_lobby, "in no group: {:x?}", &bytes[..8]);
        }
        if in_group.is_some() {
            let (mut client, _) = NativeClient::member(address, "evil", "ops").await;
            client.send(&ClientFrame::Leave).await;
            assert_eq!(client.close_code().await, Some(Code::Removed));
            let (mut client, _) = NativeClient::member(address, "evil", "other").await;
            client.write(&bytes).await;
            assert_eq!(client.close_code().await, in_group, "in a group: {:x?}", &bytes[..8]);
            calm.sender
                .send(&ClientFrame::Remove {
                    id: 5,
                    group: "other".to_owned(),
                    name: "evil".to_owned(),
                })
                .await;
            while !matches!(calm.sender.frame().await, NodeFrame::Done { id: 5 }) {}
        }
        calm.delivers(b"all is well").await;
    }
    within("the node's end", node.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_and_half_a_hello_are_closed_after_the_limit() {
    let (node, _data, address) =
        node(|config| config.limits.hello = Duration::from_millis(300)).await;
    let mut calm = Calm::new(address, "ops").await;
    for bytes in [&hello(1)[..0], &hello(1)[..3], &hello(1)[..12]] {
        let mut client = NativeClient::bare(address).await;
        client.write(bytes).await;
        assert_eq!(client.close_code().await, Some(Code::Idle));
    }
    calm.delivers(b"all is well").await;
    within("the node's end", node.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_silent_connections_and_a_flood_of_them_are_not_noticed() {
    let (node, _data, address) = node(|_| {}).await;
    let mut calm = Calm::new(address, "ops").await;
    let mut silent = Vec::new();
    for n in 0..2000 {
        // Where there are no file descriptors for more, these are enough.
        let Ok(one) = tokio::net::TcpStream::connect(address).await else { break };
        silent.push(one);
        if n % 200 == 0 {
            calm.delivers(b"all is well").await;
        }
    }
    calm.delivers(b"all is well").await;
    drop(silent);
    for _ in 0..1000 {
        drop(tokio::net::TcpStream::connect(address).await);
    }
    calm.delivers(b"all is well").await;
    calm.until_connections(2).await;
    within("the node's end", node.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_too_many_is_told_so_even_when_it_speaks_first() {
    let (node, _data, address) = node(|config| config.limits.connections = 3).await;
    let (line, http) = (node.endpoints().line, node.endpoints().http);
    let (line, http) = (line.expect("the line door is on"), http.expect("the HTTP door is on"));
    let mut calm = Calm::new(address, "ops").await;
    let third = NativeClient::connect(address).await;
    let mut greeting = hello(1);
    greeting.extend_from_slice(&[0; 2000]);
    for _ in 0..50 {
        let mut client = NativeClient::bare(address).await;
        client.write(&greeting).await;
        let mut said = Vec::new();
        // CLOSE `LIMIT`, then an end, and no reset: that may overtake what was said.
        let read = within("its end", client.stream.read_to_end(&mut said)).await;
        assert!(read.is_ok(), "{read:?}");
        assert_eq!((said[4], u16::from_le_bytes([said[8], said[9]])), (0x9E, 18));
    }
    let mut client = crate::support::LineClient::connect(line).await;
    client.say("JOIN ana").await;
    assert!(client.line().await.starts_with("ERR BUSY "));
    let (refused, headers) = Ask::get(http, "/api/groups").with_headers().await;
    assert_eq!((refused.status.as_u16(), refused.code()), (503, "BUSY"));
    assert_eq!(headers["retry-after"], "1");
    drop(third);
    calm.until_connections(2).await;
    drop(NativeClient::connect(address).await);
    calm.until_connections(2).await;
    let metrics = Ask::get(http, "/metrics").text().await;
    for line in ["{reason=\"LIMIT\"} 50\n", "{reason=\"BUSY\"} 2\n"] {
        assert!(metrics.contains(&format!("tertulia_refusals_total{line}")), "{metrics}");
    }
    calm.delivers(b"all is well").await;
    within("the node's end", node.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledgements_cannot_go_back_or_open_again() {
    let (node, _data, address) = node(|_| {}).await;
    let mut calm = Calm::new(address, "ops").await;
    let (mut evil, _) = NativeClient::member(address, "evil", "ops").await;
    let mut last = 0;
    for _ in 0..3 {
        last = calm.delivers(b"hola").await;
        while evil.message().await.0 != last {}
    }
    evil.ack(last).await;
    evil.ack(1).await;
    evil.ack(0).await;
    let token = 7;
    evil.send(&ClientFrame::Ping { token }).await;
    while evil.frame().await != (NodeFrame::Pong { token }) {}
    let (id, limit) = (3, 10);
    let (group, after) = ("ops".to_owned(), "d".to_owned());
    evil.send(&ClientFrame::Members { id, group, after, limit }).await;
    let NodeFrame::MembersPage { items, .. } = evil.frame().await else { panic!("MEMBERS_PAGE") };
    assert_eq!((items[0].name.as_str(), items[0].acked), ("evil", last));
    let again = Ack { cursor: last, open: vec![last - 1], failed: Vec::new() };
    evil.send(&ClientFrame::Ack(again)).await;
    assert_eq!(evil.close_code().await, Some(Code::BadAck));
    let (mut evil, _) = NativeClient::member(address, "evil2", "ops").await;
    let seq = calm.delivers(b"hola").await;
    while evil.message().await.0 != seq {}
    let failed = vec![Failed { seq, code: "a\u{202e}b\u{1b}[2J".to_owned() }];
    evil.send(&ClientFrame::Ack(Ack { cursor: seq, open: Vec::new(), failed })).await;
    assert_eq!(evil.close_code().await, Some(Code::BadAck));
    calm.delivers(b"all is well").await;
    within("the node's end", node.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anothers_membership_and_names_that_deceive_are_refused() {
    let data = tempfile::tempdir().expect("a folder");
    let (notices, mut said) = mpsc::channel(10_000);
    let node = Node::start(config(data.path()), notices).await.expect("the node starts");
    let address = node.endpoints().native.expect("the native door is on");
    let mut calm = Calm::new(address, "ops").await;
    let mut evil = NativeClient::bare(address).await;
    let agent = "x\u{1b}[2J\u{202e}\r\nroot".to_owned();
    evil.send(&ClientFrame::Hello(Hello { version: 1, features: 0, agent })).await;
    assert!(matches!(evil.frame().await, NodeFrame::Greeting(_)));
    let wrong =
        tertulia_wire::native::Join { secret: Some(Secret([7; 32])), ..join("calm", "ops") };
    let deceiving = ["a\u{1b}[2J", "a\u{202e}b", "a\nb", "\u{200f}a", "~calm", "", "a\0"];
    let taken = [join("calm", "ops"), wrong, join("CALM", "ops"), join("с\u{430}lm", "ops")];
    let bad = deceiving.map(|name| join(name, "ops"));
    let bad_groups = deceiving.map(|name| join("evil", name));
    let all = taken.into_iter().map(|join| (join, Code::NameTaken));
    let all = all.chain(bad.into_iter().chain(bad_groups).map(|join| (join, Code::BadName)));
    for (join, expected) in all {
        let shown = format!("{join:?}");
        match evil.try_join(join).await {
            Err(NodeFrame::Error { code, message, .. }) => {
                assert_eq!(code, expected, "{shown}");
                assert!(tertulia_wire::safe::is_clean(&message), "{message:?}");
            }
            other => panic!("{shown}: {other:?}"),
        }
    }
    for name in deceiving {
        let (group, name) = ("ops".to_owned(), name.to_owned());
        let sender = SenderId([1; 16]);
        let open = OpenSender { id: 1, known: false, follow: false, group, name, sender };
        evil.send(&ClientFrame::OpenSender(open)).await;
        let refused = evil.frame().await;
        assert!(matches!(refused, NodeFrame::Error { code: Code::BadName, .. }), "{refused:?}");
    }
    calm.delivers(b"all is well").await;
    within("the node's end", node.stop()).await;
    while let Ok(notice) = said.try_recv() {
        let shown = format!("{notice:?}");
        assert!(tertulia_wire::safe::is_clean(&shown) && !shown.contains("\\u"), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_that_ignores_its_window_is_refused_and_nobody_else() {
    let (node, _data, address) =
        node(|config| config.group_limits.unstored_bytes_max = 64 << 10).await;
    let mut calm = Calm::new(address, "ops").await;
    let id = SenderId([3; 16]);
    let (mut evil, _) = NativeClient::sender(address, "evil", "ops", id, false).await;
    let mut out = BytesMut::new();
    for counter in 1..=50 {
        tertulia_wire::native::write_publish(&mut out, "evil", counter, false, &[b'x'; 40_000]);
    }
    evil.write(&out).await;
    let (mut busy, mut after) = (0, 0);
    while busy == 0 || after == 0 {
        match evil.frame().await {
            NodeFrame::Refused { code: Code::Busy, .. } => busy += 1,
            NodeFrame::Refused { code: Code::AfterRefused, .. } => after += 1,
            NodeFrame::Stored(_) => {}
            other => panic!("{other:?}"),
        }
    }
    calm.delivers(b"all is well").await;
    within("the node's end", node.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_come_up_to_the_limit_and_those_that_are_there_go_on() {
    let (node, _data, address) = node(|config| config.limits.groups = 4).await;
    let mut calm = Calm::new(address, "ops").await;
    for n in 1..8 {
        let mut client = NativeClient::connect(address).await;
        match client.try_join(join("evil", &format!("g{n}"))).await {
            Ok(_) => assert!(n < 4),
            Err(NodeFrame::Error { code, .. }) => assert_eq!((n >= 4, code), (true, Code::Limit)),
            Err(other) => panic!("{other:?}"),
        }
    }
    NativeClient::member(address, "luis", "ops").await;
    calm.delivers(b"all is well").await;
    within("the node's end", node.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ever_new_sender_ids_forget_the_oldest_and_say_so() {
    let (node, _data, address) = node(|config| config.group_limits.senders_max = 20).await;
    let mut calm = Calm::new(address, "ops").await;
    let id = |n: u8| SenderId([n; 16]);
    for n in 1..=60 {
        let (mut evil, _) = NativeClient::sender(address, "evil", "ops", id(n), false).await;
        evil.publish("evil", 1, b"x").await;
        assert!(matches!(evil.frame().await, NodeFrame::Stored(_)));
    }
    let (_, ready) = NativeClient::sender(address, "evil", "ops", id(60), true).await;
    assert_eq!(ready.last_counter, 1);
    let mut first = NativeClient::connect(address).await;
    let (group, name, sender) = ("ops".to_owned(), "evil".to_owned(), id(1));
    let open = OpenSender { id: 1, known: true, follow: false, group, name, sender };
    first.send(&ClientFrame::OpenSender(open)).await;
    let refused = first.frame().await;
    assert!(matches!(refused, NodeFrame::Error { code: Code::SenderExpired, .. }), "{refused:?}");
    calm.delivers(b"all is well").await;
    within("the node's end", node.stop()).await;
}
