//! The line door: what a person with `nc` sees.

use tokio::io::AsyncWriteExt;

use crate::support::{LineClient, config, start, within};

async fn node() -> (tertulia_server::Node, tempfile::TempDir, std::net::SocketAddr) {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(config(data.path())).await;
    let address = node.endpoints().line.expect("the line door is on");
    (node, data, address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_goes_to_everyone_but_its_sender() {
    let (node, _data, address) = node().await;
    let mut jose = LineClient::join(address, "José", "lobby").await;
    let mut nuno = LineClient::join(address, "Ñuño", "lobby").await;
    assert!(jose.line().await.starts_with("JOINED "));
    let mut third = LineClient::join(address, "名前", "lobby").await;
    assert!(jose.line().await.ends_with(" 名前"));
    assert!(nuno.line().await.ends_with(" 名前"));
    jose.say("MSG hola a todos").await;
    let own = jose.line().await;
    let seq = own.strip_prefix("OK MSG ").expect("its own place").to_owned();
    for other in [&mut nuno, &mut third] {
        assert_eq!(other.line().await, format!("MSG {seq} José hola a todos"));
    }
    assert_eq!(jose.line().await, format!("ACK {seq} 2/2"));
    nuno.say("who").await;
    assert_eq!(nuno.line().await, "OK WHO José Ñuño 名前");
    third.say("EXIT").await;
    assert_eq!(third.until("OK").await, "OK EXIT");
    assert_eq!(third.line().await, "");
    assert!(jose.line().await.ends_with(" 名前 exit"));
    drop(nuno);
    assert!(jose.line().await.ends_with(" Ñuño lost"));
    within("the node's end", node.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_name_what_to_do_and_the_connection_stays() {
    let (node, _data, address) = node().await;
    let _ana = LineClient::join(address, "ana", "lobby").await;
    let mut other = LineClient::connect(address).await;
    for (line, answer) in [
        ("MSG hola", "ERR NOT_JOINED"),
        ("JOIN ANA", "ERR NAME_TAKEN"),
        ("JOIN аnа", "ERR NAME_TAKEN"),
        ("JOIN a~b", "ERR BAD_NAME"),
        ("DANCE", "ERR BAD_COMMAND"),
        ("ping x", "OK PING x"),
        ("JOIN luis", "OK JOIN luis lobby"),
        ("JOIN luis2", "ERR ALREADY_JOINED"),
        ("MSG a\u{1b}[2Jb", "ERR BAD_TEXT"),
        ("ACK 999", "ERR BAD_ACK"),
    ] {
        other.say(line).await;
        let said = other.line().await;
        assert!(said.starts_with(answer), "{line}: {said}");
    }
    other.say(&"x".repeat(9000)).await;
    assert!(other.line().await.starts_with("ERR TOO_LONG"));
    within("the node's end", node.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_later_gets_what_was_missed_first() {
    let (node, _data, address) = node().await;
    let mut ana = LineClient::join(address, "ana", "ops").await;
    let mut first = 0;
    for n in 0..5 {
        ana.say(&format!("MSG number {n}")).await;
        let seq: u64 = ana.until("OK MSG ").await["OK MSG ".len()..].parse().expect("a number");
        first = if n == 0 { seq } else { first };
    }
    let mut late = LineClient::connect(address).await;
    late.say(&format!("JOIN eva ops {first}")).await;
    assert!(late.line().await.starts_with("OK JOIN eva ops"));
    for n in 1..5 {
        assert!(late.line().await.ends_with(&format!("ana number {n}")));
    }
    late.say("HISTORY 2").await;
    assert!(late.line().await.ends_with("number 3"));
    assert!(late.line().await.starts_with("OLD "));
    assert_eq!(late.line().await, "OK HISTORY 2");
    within("the node's end", node.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_before_the_end_is_answered_before_the_end() {
    let (node, _data, address) = node().await;
    let mut other = LineClient::join(address, "other", "lobby").await;
    // As `printf … | nc -N` does it: everything in one piece, then its side is closed, or it says EXIT.
    for (name, last) in [("half", ""), ("gone", "EXIT\n")] {
        let mut client = LineClient::connect(address).await;
        client.say(&format!("JOIN {name}\nMSG one\nMSG two\nHISTORY 1\n{last}")).await;
        if last.is_empty() {
            client.write.shutdown().await.expect("closes its side");
        }
        let mut lines = Vec::new();
        loop {
            match client.line().await {
                line if line.is_empty() => break,
                line => lines.push(line),
            }
        }
        let count = |start: &str| lines.iter().filter(|line| line.starts_with(start)).count();
        assert_eq!(
            (count("OK JOIN"), count("OK MSG"), count("OK HISTORY")),
            (1, 2, 1),
            "{lines:?}"
        );
        if last.is_empty() {
            assert_eq!(count("ACK"), 2, "{lines:?}");
        } else {
            assert_eq!(lines.last().map(String::as_str), Some("OK EXIT"), "{lines:?}");
        }
        let why = if last.is_empty() { "lost" } else { "exit" };
        assert!(other.until("LEFT").await.ends_with(&format!(" {name} {why}")));
    }
    within("the node's end", node.stop()).await;
}
