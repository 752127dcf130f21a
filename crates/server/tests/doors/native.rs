//! The native door: members, senders, receipts, resumption, restarts.

use tertulia_group::{Position, SenderId};
use tertulia_wire::native::{Ack, Join, Start};
use tertulia_wire::{ClientFrame, Code, NodeFrame};
use tokio::io::AsyncWriteExt as _;

use crate::support::{NativeClient, config, join, start, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_learns_that_everybody_has_it() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(config(data.path())).await;
    let address = node.endpoints().native.expect("the native door is on");
    let (mut ana, _) = NativeClient::member(address, "ana", "ops").await;
    let (mut luis, _) = NativeClient::member(address, "luis", "ops").await;
    let (mut sender, ready) =
        NativeClient::sender(address, "eva", "ops", SenderId([7; 16]), false).await;
    assert_eq!(ready.members, 2);
    sender.publish("eva", 1, b"hola").await;
    let NodeFrame::Stored(runs) = sender.frame().await else { panic!("STORED comes first") };
    let seq = runs[0].seq;
    for member in [&mut ana, &mut luis] {
        let (number, name, body) = member.message().await;
        assert_eq!((number, name.as_str(), &body[..]), (seq, "eva", &b"hola"[..]));
        member.ack(seq).await;
    }
    let NodeFrame::Complete(runs) = sender.frame().await else { panic!("COMPLETE comes next") };
    assert_eq!((runs[0].seq, runs[0].members, runs[0].reached), (seq, 2, 0));
    within("the node's end", node.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_stored_is_there_after_a_restart_and_a_retry_gets_its_number() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(config(data.path())).await;
    let address = node.endpoints().native.expect("the native door is on");
    let (mut ana, welcome) = NativeClient::member(address, "ana", "ops").await;
    let id = SenderId([9; 16]);
    let (mut sender, _) = NativeClient::sender(address, "eva", "ops", id, false).await;
    let mut numbers = Vec::new();
    for counter in 1..=3 {
        sender.publish("eva", counter, format!("m{counter}").as_bytes()).await;
        let NodeFrame::Stored(runs) = sender.frame().await else { panic!("STORED comes first") };
        numbers.push(runs[0].seq);
    }
    let (first, ..) = ana.message().await;
    ana.ack(first).await;
    within("the node's end", node.stop()).await;

    let node = start(config(data.path())).await;
    let address = node.endpoints().native.expect("the native door is on");
    let (mut sender, ready) = NativeClient::sender(address, "eva", "ops", id, true).await;
    assert_eq!(ready.last_counter, 3);
    sender.publish("eva", 2, b"m2").await;
    let NodeFrame::Stored(runs) = sender.frame().await else { panic!("STORED comes first") };
    assert_eq!(runs[0].seq, numbers[1]);

    // Without the secret the name is taken; with it, the rest comes, once and in order.
    let mut again = NativeClient::connect(address).await;
    let refused = again.try_join(join("ana", "ops")).await;
    assert!(matches!(refused, Err(NodeFrame::Error { code: Code::NameTaken, .. })), "{refused:?}");
    let position = Position { log: welcome.log, epoch: welcome.epoch, seq: first };
    let resumed =
        Join { secret: Some(welcome.secret), position: Some(position), ..join("ana", "ops") };
    let welcome = again.try_join(resumed).await.expect("resumes");
    assert!(welcome.resumed);
    assert_eq!(again.message().await.0, numbers[1]);
    assert_eq!(again.message().await.0, numbers[2]);
    again.ack(numbers[2]).await;
    let NodeFrame::Complete(runs) = sender.frame().await else { panic!("COMPLETE comes next") };
    assert_eq!((runs[0].seq, runs[0].members), (numbers[1], 1));
    within("the node's end", node.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_does_not_read_delays_nobody_and_catches_up() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(config(data.path())).await;
    let address = node.endpoints().native.expect("the native door is on");
    let (mut stuck, _) = NativeClient::member(address, "stuck", "ops").await;
    let (mut quick, _) = NativeClient::member(address, "quick", "ops").await;
    let (mut sender, _) =
        NativeClient::sender(address, "eva", "ops", SenderId([1; 16]), false).await;
    let (count, body) = (400_u64, vec![b'x'; 100_000]);
    let reading = tokio::spawn(async move {
        for _ in 0..count {
            let (seq, ..) = quick.message().await;
            quick.ack(seq).await;
        }
    });
    let mut stored = 0;
    for counter in 1..=count {
        sender.publish("eva", counter, &body).await;
        while stored + 8 < counter {
            if let NodeFrame::Stored(runs) = sender.frame().await {
                stored = runs
                    .iter()
                    .map(|run| run.counter + u64::from(run.count) - 1)
                    .max()
                    .unwrap_or(stored);
            }
        }
    }
    within("the quick one has everything", reading).await.expect("no panic");
    // 40 MB are behind the window of 8 MiB: the stuck one gets them from the journal, in order, without a gap.
    let mut last = 0;
    for _ in 0..count {
        let entry = stuck.entry().await;
        assert!(last == 0 || entry.header.seq == last + 1, "a gap after {last}");
        last = entry.header.seq;
    }
    within("the node's end", node.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn six_members_are_spread_over_three_groups() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(config(data.path())).await;
    let address = node.endpoints().native.expect("the native door is on");
    let mut client = NativeClient::connect(address).await;
    let mut groups = Vec::new();
    for n in 0..6 {
        client.send(&ClientFrame::Allocate { id: n, name: format!("m{n}") }).await;
        let NodeFrame::Located { group, coordinator, .. } = client.frame().await else {
            panic!("LOCATED")
        };
        assert_eq!(coordinator, address.to_string());
        groups.push(group);
    }
    assert_eq!(groups, ["1", "2", "3", "1", "2", "3"]);
    client.send(&ClientFrame::Locate { id: 9, group: "osp".to_owned() }).await;
    let NodeFrame::Error { id: 9, code: Code::UnknownGroup, message } = client.frame().await else {
        panic!("ERROR")
    };
    assert!(message.contains("osp"), "{message}");
    within("the node's end", node.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_of_what_was_not_sent_ends_the_connection() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(config(data.path())).await;
    let address = node.endpoints().native.expect("the native door is on");
    let (mut ana, welcome) = NativeClient::member(address, "ana", "ops").await;
    ana.ack(welcome.tail + 1000).await;
    assert!(matches!(ana.frame().await, NodeFrame::Close { code: Code::BadAck, .. }));
    assert!(ana.frame_or_end().await.is_none());
    let mut from_start = NativeClient::connect(address).await;
    let welcome = from_start
        .try_join(Join { start: Start::First, ..join("eva", "ops") })
        .await
        .expect("joins");
    assert_eq!(welcome.next, 1);
    within("the node's end", node.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_retention_gives_up_is_told_as_a_gap() {
    let data = tempfile::tempdir().expect("a folder");
    let mut config = config(data.path());
    config.keep.bytes = 4 << 20;
    let node = start(config).await;
    let address = node.endpoints().native.expect("the native door is on");
    let durable = Join { durable: true, ..join("ana", "ops") };
    let mut ana = NativeClient::connect(address).await;
    let welcome = ana.try_join(durable.clone()).await.expect("joins");
    drop(ana);
    let (mut sender, _) =
        NativeClient::sender(address, "eva", "ops", SenderId([1; 16]), false).await;
    let (body, mut counter) = (vec![b'x'; 500_000], 0);
    // Snapshots, and trimming after them, come with the bytes; how soon is the node's affair.
    let first_kept = loop {
        counter += 1;
        assert!(counter < 1000, "nothing is given up after 500 MB");
        sender.publish("eva", counter, &body).await;
        while !matches!(sender.frame().await, NodeFrame::Stored(_)) {}
        let (group, mode) = ("ops".to_owned(), tertulia_wire::native::HistoryMode::Last);
        sender.send(&ClientFrame::History { id: 7, group, mode, limit: 1 }).await;
        let first_kept = loop {
            match sender.frame().await {
                NodeFrame::HistoryPage { first_kept, .. } => break first_kept,
                NodeFrame::Error { code, message, .. } => panic!("{code:?}: {message}"),
                _ => {}
            }
        };
        if first_kept > welcome.tail + 10 {
            break first_kept;
        }
    };
    // The durable member was away past what is kept: its name is free again, and what it missed is told.
    let position = Position { log: welcome.log, epoch: welcome.epoch, seq: welcome.tail };
    let mut again = NativeClient::connect(address).await;
    let again_welcome = loop {
        let resume =
            Join { secret: Some(welcome.secret), position: Some(position), ..durable.clone() };
        match again.try_join(resume).await {
            Ok(welcome) => break welcome,
            Err(NodeFrame::Error { code: Code::Busy, .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
    };
    // At once, or by who reads the log for it: it may be trimmed just now, and further. What comes joins up in any case.
    let (mut expected, mut gaps) = (welcome.tail + 1, 0);
    let entry = loop {
        match again.frame().await {
            NodeFrame::Gap { first, last } => {
                assert_eq!(first, expected, "a gap up to {last}, after {again_welcome:?}");
                (expected, gaps) = (last + 1, gaps + 1);
            }
            NodeFrame::Entry(entry) => break entry,
            other => panic!("{other:?}"),
        }
    };
    assert!(gaps > 0 && expected >= first_kept, "{expected}, {first_kept}");
    assert_eq!(entry.header.seq, expected);
    within("the node's end", node.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_brought_its_secret_comes_back_though_its_first_welcome_was_lost() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(config(data.path())).await;
    let address = node.endpoints().native.expect("the native door is on");
    let secret = tertulia_wire::Secret([7; 32]);
    let durable = Join { durable: true, secret: Some(secret), ..join("ana", "ops") };
    let mut lost = NativeClient::connect(address).await;
    lost.send(&ClientFrame::Join(Box::new(durable.clone()))).await;
    let mut again = NativeClient::connect(address).await;
    // Until the first JOIN has been taken in.
    loop {
        let (group, after) = ("ops".to_owned(), String::new());
        again.send(&ClientFrame::Members { id: 3, group, after, limit: 10 }).await;
        match again.frame().await {
            NodeFrame::MembersPage { items, .. } if !items.is_empty() => break,
            NodeFrame::MembersPage { .. } | NodeFrame::Error { code: Code::UnknownGroup, .. } => {}
            other => panic!("{other:?}"),
        }
    }
    drop(lost);
    let welcome = again.try_join(durable).await.expect("it shows what it brought");
    assert!(welcome.resumed && welcome.secret == secret);
    within("the node's end", node.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_leaver_confirms_in_the_same_breath_counts() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(config(data.path())).await;
    let address = node.endpoints().native.expect("the native door is on");
    let (mut luis, _) = NativeClient::member(address, "luis", "ops").await;
    let (mut sender, _) =
        NativeClient::sender(address, "eva", "ops", SenderId([7; 16]), false).await;
    sender.publish("eva", 1, b"hola").await;
    let NodeFrame::Stored(runs) = sender.frame().await else { panic!("STORED comes first") };
    let (seq, ..) = luis.message().await;
    let mut both = bytes::BytesMut::new();
    let ack = Ack { cursor: seq, open: Vec::new(), failed: Vec::new() };
    ClientFrame::Ack(ack).encode(&mut both);
    ClientFrame::Leave.encode(&mut both);
    luis.write(&both).await;
    match sender.frame().await {
        NodeFrame::Complete(complete) => assert_eq!(complete[0].seq, runs[0].seq),
        other => panic!("luis has confirmed it before it left: {other:?}"),
    }
    within("the node's end", node.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_ends_tells_who_never_stops_sending() {
    let data = tempfile::tempdir().expect("a folder");
    let mut config = config(data.path());
    // Small batches: those that wait take longer than it takes to send more.
    (config.fsync, config.group_limits.batch_bytes_max) = (true, 1 << 10);
    let node = start(config).await;
    let address = node.endpoints().native.expect("the native door is on");
    let mut maker = NativeClient::connect(address).await;
    maker.send(&ClientFrame::Create { id: 1, group: "ops".to_owned(), rules: None }).await;
    assert!(matches!(maker.frame().await, NodeFrame::Done { .. }));
    // Several, each with enough on its way: one batch is always under way, and the next one waits.
    let mut all = Vec::new();
    let (begun, mut has_begun) = tokio::sync::mpsc::channel(8);
    for id in 1..=4 {
        let (mut sender, _) =
            NativeClient::sender(address, "eva", "ops", SenderId([id; 16]), false).await;
        let begun = begun.clone();
        all.push(tokio::spawn(async move {
            let (mut counter, mut stored) = (0, 0);
            loop {
                while counter < stored + 2000 {
                    let mut out = bytes::BytesMut::new();
                    for _ in 0..100 {
                        counter += 1;
                        tertulia_wire::native::write_publish(&mut out, "eva", counter, false, b"x");
                    }
                    // What the node does not take any more is told by what it says last.
                    let _ = sender.stream.write_all(&out).await;
                }
                match sender.frame_or_end().await {
                    Some(NodeFrame::Stored(runs)) => {
                        stored += runs.iter().map(|run| u64::from(run.count)).sum::<u64>();
                        let _ = begun.try_send(());
                    }
                    Some(NodeFrame::Close { code, .. }) => return Some(code),
                    Some(_) => {}
                    None => return None,
                }
            }
        }));
    }
    for _ in 0..8 {
        has_begun.recv().await.expect("they send");
    }
    within("the node's end", node.stop()).await;
    for sender in all {
        let code = within("the last frame", sender).await.expect("it is heard");
        assert_eq!(code, Some(Code::ShuttingDown), "cut off without a word");
    }
}
