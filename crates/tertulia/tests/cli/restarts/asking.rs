//! The commands that ask or change something at once: what may have been done is never called failed, and nothing hangs.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::fake::{Fake, Fate};
use crate::support::{Ended, Node, User};

/// An answer may take ten seconds, and a question is asked twice at most.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// Runs all of them at once against a fake node of their own each.
fn all(fate: Fate, commands: &[&[&str]]) -> Vec<(String, Ended)> {
    std::thread::scope(|scope| {
        let running: Vec<_> = commands
            .iter()
            .map(|args| {
                scope.spawn(move || {
                    let fake = Fake::start(fate);
                    let started = Instant::now();
                    let ended = User::new().run(&[args, &["--node", &fake.address][..]].concat());
                    let took = started.elapsed();
                    assert!(took < ENDS_WITHIN, "{args:?} took {took:?}");
                    (args.join(" "), ended)
                })
            })
            .collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

#[test]
fn a_change_without_an_answer_is_unknown() {
    let commands: &[&[&str]] =
        &[&["groups", "create", "a"], &["groups", "delete", "a"], &["remove", "a", "ana"]];
    for fate in [Fate::Silence, Fate::End] {
        for (command, ended) in all(fate, commands) {
            let said = ended.stderr();
            assert_eq!(ended.code(), Some(4), "{command}, {fate:?}: {said}");
            assert!(said.contains("unknown") && said.contains("may have been done"), "{said}");
            assert_eq!(ended.stdout(), "", "{command}, {fate:?}");
        }
    }
}

#[test]
fn a_question_without_an_answer_has_failed() {
    let commands: &[&[&str]] = &[
        &["groups"],
        &["members", "a"],
        &["history", "a"],
        &["receipt", "a", "7"],
        &["receipt", "a", "7", "--wait", "1s"],
        &["status"],
    ];
    for fate in [Fate::Silence, Fate::End] {
        for (command, ended) in all(fate, commands) {
            let said = ended.stderr();
            assert_eq!(ended.code(), Some(1), "{command}, {fate:?}: {said}");
            let why = ["lost", "refused", "reset", "the node closed it"]
                .iter()
                .any(|word| said.contains(word));
            assert!(why, "{command}: {said}");
            assert_eq!(ended.stdout(), "", "{command}, {fate:?}");
        }
    }
}

/// What was asked or changed is there when the node is killed and comes back, and may be asked or done again.
#[test]
fn what_was_done_is_done_after_a_crash_and_can_be_done_again() {
    let mut node = Node::start_again();
    let mut member = node.join(&["ops", "--name", "ana", "--durable"]);
    node.run(&["groups", "create", "kept"]).expect(0);
    node.run(&["groups", "create", "gone"]).expect(0);
    node.run(&["groups", "delete", "gone"]).expect(0);
    let sent = node.run(&["send", "ops", "hola", "--json"]).expect(0);
    let seq = sent.objects()[0]["seq"].to_string();
    member.signal(Signal::KILL);
    member.end();
    node.run(&["remove", "ops", "ana"]).expect(0);
    node.kill();
    for args in [
        &["groups"][..],
        &["groups", "create", "x"],
        &["groups", "delete", "kept"],
        &["remove", "ops", "ana"],
        &["members", "ops"],
        &["history", "ops"],
        &["receipt", "ops", &seq, "--wait", "5s"],
        &["status"],
        &["send", "ops", "x", "--timeout", "2s"],
    ] {
        // Nobody was asked, so nothing was done.
        let said = node.run(args).expect(1).stderr();
        assert!(said.contains("connection refused"), "{args:?}: {said}");
    }
    node.restart();
    let groups = node.run(&["groups", "--json"]).expect(0).objects();
    let names: Vec<&str> = groups.iter().map(|group| group["group"].as_str().unwrap()).collect();
    assert_eq!(names, ["kept", "ops"]);
    assert_eq!(node.run(&["members", "ops"]).expect(0).stdout().lines().count(), 1, "the heading");
    node.run(&["groups", "create", "gone"]).expect(0);
    node.run(&["groups", "create", "kept"]).expect(1);
    node.run(&["remove", "ops", "ana"]).expect(1);
    assert!(node.run(&["history", "ops"]).expect(0).stdout().contains("hola"));
    let receipt = node.run(&["receipt", "ops", &seq, "--wait", "5s", "--json"]).expect(0);
    assert_eq!(receipt.objects()[0]["confirmed"], 1, "she had confirmed it before she was removed");
}

/// The demo is a node of its own: one that was killed leaves nothing in the way of the next.
#[test]
fn a_demo_that_was_killed_is_started_again() {
    let user = User::new();
    let mut demo = user.spawn(&["demo"]);
    demo.says("are you there?");
    demo.signal(Signal::KILL);
    demo.end();
    let ended = user.run(&["demo", "--once"]).expect(0);
    assert!(ended.stdout().contains("5/5"), "{}", ended.stdout());
}
