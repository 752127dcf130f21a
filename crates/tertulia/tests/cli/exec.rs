//! `join --exec` with a program that fails: who did not do it, and why, is said in words.

use rustix::process::Signal;

use crate::support::Node;

#[test]
fn a_failing_program_is_named_with_its_code_after_three_tries() {
    let node = Node::start();
    let tries = node.user.home.path().join("tries");
    let command =
        format!("read x; test \"$x\" != bad || {{ echo try >>'{}'; exit 7; }}", tries.display());
    let luis = node.join(&["ops", "--name", "luis", "--exec", &command]);
    let _ana = node.join(&["ops", "--name", "ana"]);
    let mut sender = node.spawn(&["send", "ops", "--timeout", "20s"]);
    // The second is confirmed by both while the first is being tried again.
    sender.write("bad\ngood\n");
    sender.close_input();
    let failed = sender.says("delivered 1/2 in ");
    assert!(failed.ends_with("  missing: luis (failed: exit 7)"), "{failed}");
    sender.says("delivered 2/2 in ");
    assert_eq!(sender.end().code(), Some(3));
    assert_eq!(std::fs::read_to_string(tries).unwrap(), "try\ntry\ntry\n");
    luis.notes("failed: exit 7");
}

/// What it could not do is kept with its seat, and is more than one acknowledgement tells.
#[test]
fn a_durable_member_whose_program_fails_often_comes_back_to_its_seat() {
    let node = Node::start();
    let join = ["ops", "--name", "w", "--durable", "--exec", "exit 1", "--jobs", "64"];
    let mut member = node.join(&join);
    let messages: String = (1..=80).map(|i| format!("message {i}\n")).collect();
    node.run_with(&["send", "ops", "--wait", "stored"], &messages).expect(0);
    (1..=80).for_each(|_| drop(member.notes("failed: exit 1")));
    member.end_by(Signal::TERM, 0);
    node.spawn(&[&["join"], &join[..]].concat()).notes("back in ops as w");
}
