//! Hostile clients of the line door: noise, endless lines, floods of questions, answers that nobody reads.

use std::time::{Duration, Instant};

use tertulia_server::Pace;
use tertulia_wire::{ClientFrame, Code, NodeFrame};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};

use crate::support::{Calm, LineClient, NativeClient, config, start, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_and_endless_lines_are_refused_and_the_connection_goes_on() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(config(data.path())).await;
    let (native, line) = (node.endpoints().native, node.endpoints().line);
    let (native, line) = (native.expect("native"), line.expect("line"));
    let mut calm = Calm::new(native, "ops").await;
    for joined in [false, true] {
        let mut evil = LineClient::connect(line).await;
        if joined {
            evil.say("JOIN evil elsewhere").await;
            assert!(evil.line().await.starts_with("OK JOIN"));
        }
        evil.write.write_all(&vec![b'x'; 1 << 20]).await.expect("writes");
        evil.say("").await;
        assert!(evil.line().await.starts_with("ERR TOO_LONG"));
        evil.write.write_all(b"\0\x01\xff\xfe\x1b[2J\n").await.expect("writes");
        assert!(evil.line().await.starts_with("ERR BAD_TEXT"));
        evil.say("MSG \u{202e}olleh").await;
        assert!(evil.line().await.starts_with("ERR BAD_TEXT"));
        evil.say("PING x").await;
        assert_eq!(evil.line().await, "OK PING x");
    }
    let mut reader = LineClient::join(line, "eva", "ops").await;
    calm.delivers(b"a\x1b[2J\nLEFT 1 eva exit\r\n\xe2\x80\xae").await;
    let shown = reader.line().await;
    assert!(shown.starts_with("DATA ") && tertulia_wire::safe::is_clean(&shown), "{shown:?}");
    within("the node's end", node.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_of_questions_is_answered_as_far_as_the_answers_are_read() {
    let data = tempfile::tempdir().expect("a folder");
    let mut config = config(data.path());
    config.limits.held_bytes = 1 << 20;
    let node = start(config).await;
    let (native, line) = (node.endpoints().native, node.endpoints().line);
    let (native, line) = (native.expect("native"), line.expect("line"));
    let mut calm = Calm::new(native, "ops").await;
    for n in 0..100 {
        let group = format!("a-group-with-a-longish-name-{n}");
        calm.sender.send(&ClientFrame::Create { id: 1, group, rules: None }).await;
        while !matches!(calm.sender.frame().await, NodeFrame::Done { .. }) {}
    }
    let mut evil = LineClient::join(line, "evil", "elsewhere").await;
    // 10 MB of answers to 8 KiB of questions.
    let count = 3000;
    evil.write.write_all("GROUPS\n".repeat(count).as_bytes()).await.expect("writes");
    for _ in 0..20 {
        calm.delivers(b"all is well").await;
    }
    for _ in 0..count {
        let answer = evil.until("OK GROUPS").await;
        assert!(answer.len() > 2000, "{answer}");
    }
    within("the node's end", node.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_publishes_and_reads_nothing_is_not_listened_to_for_ever() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(config(data.path())).await;
    let (native, line) = (node.endpoints().native, node.endpoints().line);
    let (native, line) = (native.expect("native"), line.expect("line"));
    let mut calm = Calm::new(native, "ops").await;
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let mut evil = socket.connect(line).await.expect("connects");
    evil.write_all(b"JOIN evil ops\n").await.expect("writes");
    while !matches!(calm.member.entry().await.name(), "evil") {}
    // It reads nothing of what comes, so that its own messages' places are never written.
    let body = [b'x'; 8000];
    for _ in 0..200 {
        calm.delivers(&body).await;
    }
    let before = calm.delivers(b"before").await;
    let flood = 60_000;
    let lines = "MSG x\n".repeat(flood);
    let writing = tokio::spawn(async move {
        let _ = evil.write_all(lines.as_bytes()).await;
        evil
    });
    let (mut last, mut quiet) = (before, 0);
    while quiet < 50 {
        let seq = calm.delivers(b"all is well").await;
        quiet = if seq == last + 1 { quiet + 1 } else { 0 };
        last = seq;
    }
    assert!(last - before > 5_000, "it was listened to");
    assert!(last - before < flood as u64 / 2, "{} messages were taken", last - before);
    writing.abort();
    within("the node's end", node.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_joins_and_leaves_leave_nothing_behind() {
    let data = tempfile::tempdir().expect("a folder");
    let mut config = config(data.path());
    config.group_limits.departed_max = 50;
    let node = start(config).await;
    let (native, line) = (node.endpoints().native, node.endpoints().line);
    let (native, line) = (native.expect("native"), line.expect("line"));
    let mut calm = Calm::new(native, "ops").await;
    let seq = calm.delivers(b"first").await;
    for _ in 0..300 {
        let mut evil = LineClient::join(line, "evil", "ops").await;
        evil.say("EXIT").await;
        evil.until("OK EXIT").await;
    }
    calm.delivers(b"all is well").await;
    calm.until_connections(2).await;
    let mut client = NativeClient::connect(native).await;
    let group = "ops".to_owned();
    client.send(&ClientFrame::Receipt { id: 1, group, seq, wait_ms: 0 }).await;
    let answer = client.frame().await;
    assert!(matches!(answer, NodeFrame::Error { code: Code::Expired, .. }), "{answer:?}");
    within("the node's end", node.stop()).await;
}

/// Each membership costs all others two entries: who does nothing else has to wait. Who stays for a while does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_a_moment_wait_before_they_are_heard_again() {
    for (short_stay, waits) in [(Duration::from_secs(3600), true), (Duration::ZERO, false)] {
        let data = tempfile::tempdir().expect("a folder");
        let mut config = config(data.path());
        config.limits.short_stay = short_stay;
        config.limits.bad_ends = Pace { burst: 0, per_s: 1 };
        config.limits.bad_ends_wait_max = Duration::from_secs(5);
        let node = start(config).await;
        let line = node.endpoints().line.expect("line");
        // All are there before the first of them goes.
        let mut members = Vec::new();
        for count in 0..6 {
            members.push(LineClient::join(line, &format!("evil{count}"), "ops").await);
        }
        for mut member in members {
            member.say("EXIT").await;
            member.until("OK EXIT").await;
            let mut rest = String::new();
            within("the end", member.lines.read_line(&mut rest)).await.expect("reads");
        }
        let began = Instant::now();
        let mut next = LineClient::connect(line).await;
        next.say("PING").await;
        assert_eq!(next.line().await, "OK PING");
        let waited = began.elapsed() > Duration::from_secs(3);
        assert_eq!(waited, waits, "{:?} after stays below {short_stay:?}", began.elapsed());
        within("the node's end", node.stop()).await;
    }
}
