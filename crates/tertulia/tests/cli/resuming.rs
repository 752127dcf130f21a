//! Members that are killed, come back, go and stay: nothing twice, nothing lost.

use rustix::process::Signal;

use crate::support::{Node, object};

/// What was said, in the order in which it was printed.
fn texts(said: &str) -> Vec<String> {
    said.lines().filter_map(|line| line.split_once(": ").map(|(_, text)| text.to_owned())).collect()
}

#[test]
fn a_killed_member_comes_back_and_gets_what_it_missed_once_and_in_order() {
    let node = Node::start();
    let _stays = node.join(&["ops", "--name", "eva"]);
    let mut ana = node.join(&["ops", "--name", "ana"]);
    node.run(&["send", "ops", "before"]).expect(0);
    ana.says("before");
    ana.signal(Signal::KILL);
    ana.end();
    node.process.says("away ops ana");

    let ended = node.run(&["send", "ops", "missed 1", "--timeout", "300ms", "--json"]).expect(3);
    let receipt = ended.objects().remove(0);
    assert_eq!(receipt["missing"][0]["name"], "ana");
    assert_eq!(receipt["missing"][0]["why"], "away");
    let missed: Vec<String> = (2..=50).map(|i| format!("missed {i}")).collect();
    let input: String = missed.iter().map(|text| format!("{text}\n")).collect();
    node.run_with(&["send", "ops", "--wait", "stored"], &input).expect(0);

    let ana = node.spawn(&["join", "ops", "--name", "ana"]);
    ana.notes("back in ops as ana");
    node.run(&["send", "ops", "after"]).expect(0);
    ana.says("after");
    let mut expected: Vec<String> = (1..=50).map(|i| format!("missed {i}")).collect();
    expected.push("after".to_owned());
    assert_eq!(texts(&ana.said()), expected);
    node.receipt("ops", &receipt["seq"].to_string());
}

#[test]
fn a_durable_member_stays_when_it_goes() {
    let node = Node::start();
    let mut ana = node.join(&["ops", "--name", "ana", "--durable"]);
    ana.signal(Signal::INT);
    assert_eq!(ana.end().code(), Some(130));
    ana.notes("stays a member");
    node.process.says("away ops ana");
    let members = node.run(&["members", "ops", "--json"]).expect(0).objects();
    assert_eq!((&members[0]["name"], &members[0]["presence"]), (&"ana".into(), &"away".into()));
    node.run(&["send", "ops", "hola", "--timeout", "200ms"]).expect(3);
    let folder = node.user.home.path().join(".local/state/tertulia");
    let stores: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!(stores.len(), 1, "the folder of the node's store");
    let file = stores[0].path().join("in-ops/ana.member");
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "whoever reads it is ana");
    let ana = node.spawn(&["join", "ops", "--name", "ana", "--durable"]);
    ana.notes("back in ops");
    ana.says("hola");
}

#[test]
fn who_leaves_leaves_nothing_behind() {
    let node = Node::start();
    let mut ana = node.join(&["ops", "--name", "ana"]);
    ana.end_by(Signal::TERM, 0);
    node.process.says("left ops ana exit");
    let ana = node.spawn(&["join", "ops", "--name", "ana"]);
    ana.notes("joined ops as ana");
}

#[test]
fn a_member_comes_back_by_whatever_address_the_node_has() {
    let mut node = Node::start();
    let mut ana = node.join(&["ops", "--name", "ana", "--durable"]);
    ana.end_by(Signal::TERM, 0);
    let port = node.native.rsplit(':').next().unwrap().to_owned();
    let by_name = format!("localhost:{port}");
    let mut ana = node.user.spawn(&["join", "ops", "--name", "ana", "--node", &by_name]);
    ana.notes("back in ops as ana");
    ana.signal(Signal::KILL);
    ana.end();

    node.process.end_by(Signal::TERM, 0);
    let data = node.data.path().to_str().unwrap().to_owned();
    node.process = crate::support::serve(&node.user, &data, &["--native-port", "0"]);
    let file = std::fs::read_to_string(node.data.path().join("endpoints.json")).unwrap();
    let moved = object(&file)["native"].as_str().unwrap().to_owned();
    let ana = node.user.spawn(&["join", "ops", "--name", "ana", "--node", &moved]);
    ana.notes("back in ops as ana");

    // Another store: another ana.
    let other = Node::start();
    let args = ["join", "ops", "--name", "ana", "--node", &other.native];
    node.user.spawn(&args).notes("joined ops as ana");
}

#[test]
fn a_member_that_outlives_the_store_comes_back_to_the_new_one() {
    let mut node = Node::start_with(&["--engine", "memory"]);
    let port = node.native.rsplit(':').next().unwrap().to_owned();
    let mut ana = node.join(&["ops", "--name", "ana", "--durable"]);
    node.process.signal(Signal::KILL);
    node.process.end();
    let data = node.data.path().to_str().unwrap().to_owned();
    let more = ["--native-port", &port, "--engine", "memory"];
    node.process = crate::support::serve(&node.user, &data, &more);
    ana.notes("back, as a new member");
    node.run(&["send", "ops", "hola", "--timeout", "20s"]).expect(0);
    ana.end_by(Signal::TERM, 0);
    node.join(&["ops", "--name", "ana"]);
}

#[test]
fn two_signals_at_once_are_one_wish_to_leave() {
    let node = Node::start();
    let mut ana = node.join(&["ops", "--name", "ana"]);
    ana.signal(Signal::INT);
    ana.end_by(Signal::INT, 130);
    ana.notes("left ops");
    node.process.says("left ops ana exit");
}

#[test]
fn who_comes_back_is_told_that_from_is_for_a_first_join() {
    let node = Node::start();
    let mut ana = node.join(&["ops", "--name", "ana", "--durable", "--from", "first"]);
    ana.end_by(Signal::TERM, 0);
    assert!(!ana.noted().contains("--from"), "{}", ana.noted());
    let ana = node.spawn(&["join", "ops", "--name", "ana", "--from", "first"]);
    let line = ana.notes("--from is for a first join");
    assert!(line.starts_with("going on after #"), "{line}");
}

#[test]
fn a_name_that_is_taken_says_how_to_have_it_back() {
    let node = Node::start();
    let _ana = node.join(&["ops", "--name", "ana"]);
    let mut elsewhere = crate::support::User::new().command(&["join", "ops", "--name", "ana"]);
    let ended = elsewhere.args(["--node", &node.native]).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    let advice = "ana is taken in ops; if it is yours from elsewhere: tertulia remove ops ana";
    assert!(said.contains(advice), "{said}");
    assert_eq!(ended.status.code(), Some(1));
}

#[test]
fn a_removed_member_is_told_and_ends() {
    let node = Node::start();
    let mut ana = node.join(&["ops", "--name", "ana"]);
    node.run(&["remove", "ops", "ana"]).expect(0);
    assert_eq!(ana.end().code(), Some(1));
    node.run(&["remove", "ops", "ana"]).expect(1);
}

#[test]
fn a_node_that_was_killed_goes_on_where_it_was() {
    let mut node = Node::start();
    let port = node.native.rsplit(':').next().unwrap().to_owned();
    let ana = node.join(&["ops", "--name", "ana"]);
    let ended = node.run(&["send", "ops", "before", "--json"]).expect(0);
    let seq = ended.objects()[0]["seq"].as_u64().unwrap();
    ana.says("before");
    node.process.signal(Signal::KILL);
    node.process.end();
    ana.notes("connection lost");
    let data = node.data.path().to_str().unwrap().to_owned();
    node.process = crate::support::serve(&node.user, &data, &["--native-port", &port]);
    ana.notes("back");
    let ended = node.run(&["send", "ops", "after", "--json"]).expect(0);
    assert!(ended.objects()[0]["seq"].as_u64().unwrap() > seq);
    ana.says("after");
    assert_eq!(texts(&ana.said()), ["before", "after"]);
    let history = node.run(&["history", "ops"]).expect(0).stdout();
    assert_eq!(texts(&history), ["before", "after"]);
}

#[test]
fn programs_are_told_of_a_lost_connection_apart_from_the_entries() {
    let mut node = Node::start_again();
    let ana = node.join(&["ops", "--name", "ana", "--json"]);
    let mut quiet = node.spawn(&["join", "ops", "--name", "eva", "--json", "-q"]);
    ana.says("eva");
    // She says nothing of having joined: what she prints tells that she knows it.
    node.run(&["send", "ops", "before", "--wait", "stored"]).expect(0);
    quiet.says("before");
    node.kill();
    let lost = object(&ana.notes("LOST"));
    let notice = &lost["notice"];
    assert_eq!((&notice["code"], &notice["group"]), (&"LOST".into(), &"ops".into()));
    assert_eq!(notice["name"], "ana");
    assert!(notice["message"].as_str().unwrap().starts_with("connection lost ("), "{lost}");
    assert!(notice["time"].as_str().unwrap().ends_with('Z'), "{lost}");
    node.restart();
    assert_eq!(object(&ana.notes("BACK"))["notice"]["code"], "BACK");
    node.run(&["send", "ops", "hola", "--timeout", "20s"]).expect(0);
    quiet.says("hola");
    quiet.end_by(Signal::TERM, 0);
    assert_eq!(quiet.noted(), "");
    ana.says("hola");
    let types: Vec<_> = ana.said().lines().map(|line| object(line)["type"].clone()).collect();
    let promised = ["message", "joined", "left"];
    assert!(types.iter().all(|word| promised.iter().any(|one| word == one)), "{types:?}");
}
