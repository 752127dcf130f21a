//! `send`: killed, without its node, without an answer. A message that may be stored is never called failed, nor done.

use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;

use super::fake::{Fake, Fate};
use crate::support::{Ended, Node, Running, User, WITHIN, object};

/// What the message's sender waits for, and what it learns in each case.
const WAITS: [&[&str]; 3] = [&[], &["--wait", "stored"], &["--wait", "2"]];

/// Runs `send` against a node that fails so, once with the text as an argument and once with it piped.
fn send(fate: Fate, more: &[&str]) -> Vec<(String, Ended)> {
    let base = ["send", "ops", "--timeout", "2s"];
    std::thread::scope(|scope| {
        let one = scope.spawn(|| {
            let fake = Fake::start(fate);
            let args = [&base[..], more, &["--node", &fake.address, "hola"]].concat();
            (format!("{args:?}"), User::new().run(&args))
        });
        let piped = scope.spawn(|| {
            let fake = Fake::start(fate);
            let args = [&base[..], more, &["--node", &fake.address]].concat();
            (format!("{args:?}"), User::new().run_with(&args, "hola\n"))
        });
        vec![one.join().unwrap(), piped.join().unwrap()]
    })
}

#[test]
fn a_message_without_an_answer_is_unknown() {
    for fate in [Fate::Silence, Fate::End] {
        for more in WAITS {
            let started = Instant::now();
            for (what, ended) in send(fate, more) {
                let said = ended.stderr();
                assert_eq!(ended.code(), Some(4), "{what}, {fate:?}: {said}");
                assert!(said.contains("may be stored"), "{said}");
                assert_eq!(ended.stdout(), "");
            }
            assert!(started.elapsed() < WITHIN, "--timeout 2s took {:?}", started.elapsed());
        }
    }
}

#[test]
fn a_message_that_is_stored_and_no_more_is_known_of_is_said_to_be_stored() {
    for fate in [Fate::StoredThenSilence, Fate::StoredThenEnd] {
        for more in WAITS {
            for (what, ended) in send(fate, more) {
                let said = ended.stderr();
                assert_eq!(ended.code(), Some(3), "{what}, {fate:?}: {said}");
                assert!(said.contains("stored as #7") && said.contains("is not known"), "{said}");
            }
        }
        // Programs are told where it is, in an error that says so, and in whose line of a pipe.
        for (what, ended) in send(fate, &["--json"]) {
            let error = object(&ended.expect(3).stderr())["error"].clone();
            assert_eq!(error["code"], "NO_RECEIPT", "{what}: {error}");
            assert_eq!((&error["group"], &error["seq"]), (&"ops".into(), &7.into()), "{error}");
        }
    }
}

#[test]
fn a_node_that_is_stuck_costs_no_more_than_the_timeout() {
    let node = Node::start();
    // So that there is the group.
    node.join(&["ops", "--name", "ana"]);
    let args = ["send", "ops", "--timeout", "2s", "--json", "--wait", "stored"];
    let mut piped = node.spawn(&args);
    piped.write("before\n");
    piped.says("\"seq\":");
    node.process.freeze();
    let started = Instant::now();
    // Nobody has taken it: it was not sent.
    let said = node.run(&["send", "ops", "hola", "--timeout", "2s"]).expect(1).stderr();
    assert!(said.contains("does not answer"), "{said}");
    // This one's connection stands: it was handed over.
    piped.write("meanwhile\n");
    let error = object(&piped.notes("error"));
    assert_eq!(error["error"]["code"], "OUTCOME_UNKNOWN");
    assert_eq!(error["error"]["line"], 2);
    assert!(started.elapsed() < WITHIN, "{:?}", started.elapsed());
    node.process.signal(Signal::CONT);
    piped.write("after\n");
    let receipt = object(&piped.says("\"seq\":"));
    piped.close_input();
    assert_eq!(piped.end().code(), Some(4), "the worst of all lines");
    // It was stored after all, once, and in its order.
    let history = node.run(&["history", "ops", "--json"]).expect(0).objects();
    assert_eq!(texts(&history), ["before", "meanwhile", "after"]);
    assert_eq!(history.last().unwrap()["seq"], receipt["seq"]);
}

fn texts(objects: &[Value]) -> Vec<&str> {
    let messages = objects.iter().filter(|object| object["type"] == "message");
    messages.map(|message| message["text"].as_str().unwrap()).collect()
}

/// Lines of a pipe are numbered; what has a receipt is stored, in that order, and nothing is there twice.
#[test]
fn a_pipe_that_is_killed_has_stored_what_it_said_and_goes_on_from_there() {
    let node = Node::start();
    node.run(&["groups", "create", "ops"]).expect(0);
    let total = 3_000;
    let (mut next, mut kills) = (0, 0);
    while next < total {
        let mut piped = node.spawn(&["send", "ops", "--json", "--wait", "stored"]);
        let lines: String = (next..total).map(|n| format!("{n}\n")).collect();
        feed(&mut piped, lines);
        if kills < 4 {
            piped.says("\"seq\":");
            piped.signal(Signal::KILL);
            kills += 1;
        }
        piped.end();
        // The receipts are the lines from `next` on; a receipt that was cut off in the middle counts as none.
        let said = piped.all_said();
        let receipts: Vec<u64> = said
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok()?["seq"].as_u64())
            .collect();
        let args = ["history", "ops", "--after", "0", "--limit", "100000", "--json"];
        let history = node.run(&args).expect(0).objects();
        for (n, seq) in (next..).zip(&receipts) {
            let message = history.iter().find(|entry| entry["seq"] == *seq);
            assert_eq!(message.unwrap()["text"], n.to_string());
        }
        // More of them may be stored: whoever starts it again looks at what is there.
        let last = texts(&history).last().map_or(0, |text| text.parse::<usize>().unwrap() + 1);
        assert!(last >= next + receipts.len(), "{last}, {next} and {} receipts", receipts.len());
        next = last;
    }
    assert_eq!(kills, 4);
    let args = ["history", "ops", "--after", "0", "--limit", "100000", "--json"];
    let history = node.run(&args).expect(0).objects();
    let expected: Vec<String> = (0..total).map(|n| n.to_string()).collect();
    assert_eq!(texts(&history), expected);
}

/// Writes all of it, unless the process ends before; closes its input.
fn feed(piped: &mut Running, lines: String) {
    let mut stdin = piped.take_input();
    std::thread::spawn(move || {
        let _ = std::io::Write::write_all(&mut stdin, lines.as_bytes());
    });
}
