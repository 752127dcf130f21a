//! A node that is away for a real minute, killed or stuck: members and senders that live on go on where they were.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Node, Running};

const MINUTE: Duration = Duration::from_secs(60);

/// A member, a sender and a person who outlive their node's absence.
struct Company {
    node: Node,
    eva: Running,
    chat: Running,
    piped: Running,
}

impl Company {
    fn gather() -> Self {
        let node = Node::start_again();
        let eva = node.join(&["ops", "--name", "eva", "--json"]);
        let mut chat = node.spawn(&["chat", "ops", "--name", "ana"]);
        chat.notes("you are ana in ops");
        let mut piped = node.spawn(&["send", "ops", "--json", "--timeout", "5m"]);
        piped.write("piped before\n");
        eva.says("piped before");
        chat.write("typed before\n");
        eva.says("typed before");
        Self { node, eva, chat, piped }
    }

    /// What is said while the node is away.
    fn meanwhile(&mut self) {
        self.piped.write("piped 1\npiped 2\n");
        self.chat.write("typed 1\ntyped 2\n");
    }

    /// Everything has come, once, each sender's in its order, and everybody ends well.
    fn check(mut self) {
        self.piped.write("piped after\n");
        self.piped.close_input();
        assert_eq!(self.piped.end().code(), Some(0), "{}", self.piped.noted());
        self.chat.write("typed after\n");
        self.eva.says("typed after");
        self.chat.close_input();
        assert_eq!(self.chat.end().code(), Some(0), "{}", self.chat.noted());
        let said = self.eva.said();
        let objects = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let texts: Vec<String> = objects
            .filter(|object| object["type"] == "message")
            .map(|message| message["text"].as_str().unwrap().to_owned())
            .collect();
        for from in ["piped", "typed"] {
            let own: Vec<&str> = texts.iter().filter_map(|text| text.strip_prefix(from)).collect();
            assert_eq!(own, [" before", " 1", " 2", " after"], "{texts:?}");
        }
        assert_eq!(texts.len(), 8, "{texts:?}");
        self.eva.end_by(Signal::TERM, 0);
    }
}

#[test]
fn a_minute_without_a_node_is_survived_by_all() {
    let (mut killed, mut stuck) = (Company::gather(), Company::gather());
    let away = Instant::now();
    killed.node.kill();
    stuck.node.process.freeze();
    killed.eva.notes("connection lost");
    stuck.eva.notes("connection lost");
    killed.meanwhile();
    stuck.meanwhile();
    // The minute is what is tried here.
    std::thread::sleep(MINUTE.saturating_sub(away.elapsed()));
    killed.node.restart();
    stuck.node.process.signal(Signal::CONT);
    for company in [&killed, &stuck] {
        company.eva.notes("back");
        company.eva.says("piped 2");
    }
    killed.check();
    stuck.check();
}
