//! `join` and `chat`, killed and started again: nothing is skipped, and nothing comes twice but what was not confirmed.

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Node, Running, object};

/// The messages that were printed, as (number, text); a line that was cut off in the middle does not count.
fn printed(said: &str) -> Vec<(u64, String)> {
    let objects = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let messages = objects.filter(|object| object["type"] == "message");
    messages
        .map(|message| {
            (message["seq"].as_u64().unwrap(), message["text"].as_str().unwrap().to_owned())
        })
        .collect()
}

/// How far the node says that the member has confirmed, once it has noticed that the connection has ended.
fn acked(node: &Node, name: &str) -> u64 {
    node.process.says(&format!("away ops {name}"));
    let members = node.run(&["members", "ops", "--json"]).expect(0).objects();
    let member = members.iter().find(|member| member["name"] == name).unwrap();
    assert_eq!(member["presence"], "away");
    member["acked"].as_u64().unwrap()
}

/// Sends so many numbered messages in the background, as fast as they are stored.
fn flood(node: &Node, count: usize) -> Running {
    let mut piped = node.spawn(&["send", "ops", "--wait", "stored", "-q", "--timeout", "60s"]);
    let mut stdin = piped.take_input();
    let lines: String = (0..count).map(|n| format!("{n}\n")).collect();
    std::thread::spawn(move || {
        let _ = std::io::Write::write_all(&mut stdin, lines.as_bytes());
    });
    piped
}

#[test]
fn a_member_that_is_killed_again_and_again_gets_everything_and_only_the_unconfirmed_twice() {
    let node = Node::start();
    let args = ["ops", "--name", "ana", "--durable", "--json"];
    let mut ana = node.join(&args);
    let count = 4_000;
    let mut piped = flood(&node, count);
    let (mut all, mut confirmed): (Vec<(u64, String)>, u64) = (Vec::new(), 0);
    for kill in 0..6 {
        // Somewhere in the middle of what is coming.
        ana.says(&format!("\"text\":\"{}\"", kill * 500 + 250));
        ana.signal(Signal::KILL);
        ana.end();
        take(&mut all, &ana.all_said(), confirmed);
        confirmed = acked(&node, "ana");
        assert!(all.last().unwrap().0 >= confirmed, "what is confirmed is printed: {confirmed}");
        ana = node.spawn(&[&["join"][..], &args].concat());
        ana.notes("back in ops as ana");
    }
    assert_eq!(piped.end().code(), Some(0));
    ana.says(&format!("\"text\":\"{}\"", count - 1));
    ana.end_by(Signal::TERM, 0);
    take(&mut all, &ana.all_said(), confirmed);
    let expected: Vec<String> = (0..count).map(|n| n.to_string()).collect();
    assert!(all.iter().map(|(_, text)| text).eq(&expected), "something is skipped");
}

/// Adds what one life of the member has printed: it begins after what was confirmed, and may repeat what was not.
fn take(all: &mut Vec<(u64, String)>, said: &str, confirmed: u64) {
    let mut life = printed(said);
    assert!(life.windows(2).all(|pair| pair[0].0 < pair[1].0), "in order, once");
    if let Some((first, _)) = life.first() {
        assert!(*first > confirmed, "#{first} was confirmed: up to #{confirmed}");
    }
    let last = all.last().map_or(0, |(seq, _)| *seq);
    life.retain(|(seq, _)| *seq > last);
    all.append(&mut life);
}

#[test]
fn a_member_that_is_killed_at_work_gets_what_it_had_not_finished_again() {
    let node = Node::start();
    let (done, go) = (node.user.home.path().join("done"), node.user.home.path().join("go"));
    // Works on `slow` until the file is there; what it has finished it writes down.
    let command = format!(
        "read x; while test \"$x\" = slow && ! test -e '{}'; do sleep 0.02; done; echo \"$x\" >>'{}'",
        go.display(),
        done.display()
    );
    let args = ["ops", "--name", "ana", "--durable", "--exec", &command];
    let mut ana = node.join(&args);
    node.run(&["send", "ops", "first"]).expect(0);
    let ended = node.run(&["send", "ops", "slow", "--timeout", "300ms", "--json"]).expect(3);
    let slow = ended.objects()[0]["seq"].to_string();
    node.run(&["send", "ops", "second"]).expect(0);
    ana.signal(Signal::KILL);
    ana.end();
    node.process.says("away ops ana");
    let receipt = node.run(&["receipt", "ops", &slow, "--json"]).expect(3).objects().remove(0);
    assert_eq!(receipt["missing"][0]["why"], "away");
    // The program that was at work goes on without its member: its end is nobody's.
    std::fs::write(&go, "").unwrap();
    while !std::fs::read_to_string(&done).unwrap().contains("slow") {
        std::thread::yield_now();
    }
    let ana = node.spawn(&[&["join"][..], &args].concat());
    ana.notes("back in ops as ana");
    node.receipt("ops", &slow);
    node.run(&["send", "ops", "third"]).expect(0);
    let lines = std::fs::read_to_string(&done).unwrap();
    assert_eq!(lines, "first\nsecond\nslow\nslow\nthird\n");
}

#[test]
fn a_chat_that_loses_its_node_says_what_was_typed_meanwhile_once_it_is_back() {
    let mut node = Node::start_again();
    let eva = node.join(&["ops", "--name", "eva", "--durable", "--json"]);
    let mut ana = node.spawn(&["chat", "ops", "--name", "ana"]);
    ana.notes("you are ana in ops");
    ana.write("before\n");
    eva.says("before");
    node.kill();
    ana.notes("connection lost");
    ana.write("meanwhile 1\nmeanwhile 2\n");
    node.restart();
    ana.notes("back");
    ana.write("after\n");
    eva.says("after");
    ana.close_input();
    assert_eq!(ana.end().code(), Some(0));
    let texts: Vec<String> = printed(&eva.said()).into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["before", "meanwhile 1", "meanwhile 2", "after"]);
}

#[test]
fn a_chat_whose_node_stays_away_says_what_is_unknown() {
    let mut node = Node::start_again();
    let mut ana = node.spawn(&["chat", "ops", "--name", "ana", "--json"]);
    ana.notes("you are ana in ops");
    node.kill();
    ana.notes("connection lost");
    ana.write("is anybody there?\n");
    ana.close_input();
    let error = object(&ana.notes("error"));
    assert_eq!(error["error"]["code"], "OUTCOME_UNKNOWN");
    assert_eq!(ana.end().code(), Some(4));
}

#[test]
fn a_chat_that_was_killed_is_told_when_its_name_is_still_taken() {
    let node = Node::start();
    let mut ana = node.spawn(&["chat", "ops", "--name", "ana"]);
    ana.notes("you are ana in ops");
    ana.signal(Signal::KILL);
    ana.end();
    node.process.says("away ops ana");
    let said = node.run(&["chat", "ops", "--name", "ana"]).expect(1).stderr();
    assert!(said.contains("the name is in use here"), "{said}");
    // Without a name it goes on at once, under another.
    let mut ana = node.spawn(&["chat", "ops"]);
    ana.notes("you are tester-");
    ana.close_input();
    assert_eq!(ana.end().code(), Some(0));
}
