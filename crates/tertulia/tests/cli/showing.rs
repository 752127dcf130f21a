//! What is there: groups, members, history, receipts, status, and the demo.

use crate::support::{Node, User};

#[test]
fn groups_come_and_go() {
    let node = Node::start();
    node.run(&["groups", "create", "ops"]).expect(0);
    node.run(&["groups", "create", "ops"]).expect(1);
    let member = node.join(&["ops", "--name", "ana"]);
    let groups = node.run(&["groups", "--json"]).expect(0).objects();
    let ops = groups.iter().find(|group| group["group"] == "ops").unwrap();
    assert_eq!((&ops["members"], &ops["coordinator"]), (&1.into(), &node.native.as_str().into()));
    assert!(ops["seq"].is_u64() && ops["epoch"].is_u64());
    let table = node.run(&["groups"]).expect(0).stdout();
    assert!(table.starts_with("GROUP ") && table.contains("\nops "), "{table}");
    node.run(&["groups", "delete", "ops"]).expect(1);
    drop(member);
    node.process.says("away ops ana");
    node.run(&["remove", "ops", "ana"]).expect(0);
    node.run(&["groups", "delete", "ops"]).expect(0);
    let groups = node.run(&["groups", "--json"]).expect(0).objects();
    assert!(groups.iter().all(|group| group["group"] != "ops"));
}

#[test]
fn changes_are_confirmed_and_quiet_says_nothing() {
    let node = Node::start();
    let one = |args: &[&str]| {
        let ended = node.run(&[args, &["--json"]].concat()).expect(0);
        assert_eq!(ended.stderr(), "");
        ended.stdout()
    };
    assert_eq!(one(&["groups", "create", "foo"]), "{\"group\":\"foo\",\"created\":true}\n");
    assert_eq!(one(&["groups", "delete", "foo"]), "{\"group\":\"foo\",\"deleted\":true}\n");
    assert_eq!(node.run(&["groups", "create", "ops"]).expect(0).stdout(), "created ops\n");
    drop(node.join(&["ops", "--name", "ana"]));
    let removed = "{\"group\":\"ops\",\"name\":\"ana\",\"removed\":true}\n";
    assert_eq!(one(&["remove", "ops", "ana"]), removed);
    let sent = node.run(&["send", "ops", "hola", "--json"]).expect(0).objects().remove(0);
    let seq = sent["seq"].to_string();
    for args in [
        &["send", "ops", "hola", "-q"][..],
        &["receipt", "ops", &seq, "-q"],
        &["groups", "delete", "ops", "-q"],
    ] {
        let ended = node.run(args).expect(0);
        assert_eq!((ended.stdout(), ended.stderr()), (String::new(), String::new()), "{args:?}");
    }
}

#[test]
fn members_show_what_each_has_acknowledged() {
    let node = Node::start();
    let _ana = node.join(&["ops", "--name", "ana"]);
    let _luis = node.join(&["ops", "--name", "luis"]);
    let sent = node.run(&["send", "ops", "hola", "--json"]).expect(0).objects().remove(0);
    let members = node.run(&["members", "ops", "--json"]).expect(0).objects();
    assert_eq!(members.len(), 2);
    for (member, name) in members.iter().zip(["ana", "luis"]) {
        assert_eq!(member["name"], name);
        assert_eq!(member["acked"], sent["seq"]);
        assert_eq!((&member["presence"], &member["door"]), (&"here".into(), &"native".into()));
        assert!(member["since"].as_str().unwrap().ends_with('Z'));
    }
    node.run(&["members", "nowhere"]).expect(1);
}

#[test]
fn history_gives_the_last_ones_or_those_after() {
    let node = Node::start();
    node.run(&["groups", "create", "ops"]).expect(0);
    let mut numbers = Vec::new();
    for i in 1..=5 {
        let text = format!("text {i}");
        let receipt = node.run(&["send", "ops", &text, "--as", "marta", "--json"]).expect(0);
        numbers.push(receipt.objects()[0]["seq"].as_u64().unwrap());
    }
    let texts = |args: &[&str]| -> Vec<String> {
        let ended = node.run(&[&["history", "ops", "--json"], args].concat()).expect(0);
        let objects = ended.objects();
        assert!(objects.iter().all(|object| object["outside"] == true));
        objects.iter().map(|object| object["text"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(texts(&["--limit", "2"]), ["text 4", "text 5"]);
    let after = numbers[1].to_string();
    assert_eq!(texts(&["--after", &after, "--limit", "2"]), ["text 3", "text 4"]);
    let said = node.run(&["history", "ops"]).expect(0).stdout();
    assert!(said.contains("~marta: text 1"), "{said}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let node = Node::start();
    node.run(&["groups", "create", "ops"]).expect(0);
    let input: String =
        (0..3000).map(|i| format!("a line that is a little longer {i}\n")).collect();
    node.run_with(&["send", "ops", "--wait", "stored", "-q"], &input).expect(0);
    let args = ["history", "ops", "--limit", "3000", "--node", &node.native];
    let mut command = node.user.command(&args);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
}

#[test]
fn receipts_are_asked_for_again_and_refused_where_there_are_none() {
    let node = Node::start();
    let _ana = node.join(&["ops", "--name", "ana"]);
    let sent = node.run(&["send", "ops", "hola", "--json"]).expect(0).objects().remove(0);
    let seq = sent["seq"].to_string();
    let receipt = node.receipt("ops", &seq);
    assert_eq!((&receipt["confirmed"], &receipt["final"]), (&1.into(), &true.into()));
    assert!(receipt.get("elapsed_ms").is_none());
    let said = node.run(&["receipt", "ops", &seq]).expect(0).stdout();
    assert_eq!(said, format!("delivered 1/1  ops #{seq}\n"));
    node.run(&["receipt", "ops", "999999"]).expect(1);
}

#[test]
fn a_node_says_how_it_is() {
    let node = Node::start_with(&["--node-id", "one"]);
    let status = node.run(&["status", "--json"]).expect(0).objects().remove(0);
    assert_eq!((&status["node"], &status["stored"]), (&"one".into(), &"fsync".into()));
    assert!(node.run(&["status"]).expect(0).stdout().contains("engine"));
}

#[test]
fn the_demo_goes_as_told() {
    let user = User::new();
    let said = user.run(&["demo", "--once"]).expect(0).stdout();
    let receipts: Vec<&str> = said.lines().filter(|line| line.starts_with("delivered ")).collect();
    assert_eq!(receipts.len(), 3, "{said}");
    assert!(receipts[0].starts_with("delivered 5/5 in "), "{said}");
    assert!(receipts[1].starts_with("delivered 4/5 in "), "{said}");
    assert!(receipts[1].ends_with("  missing: luis (pending)"), "{said}");
    assert!(receipts[2].starts_with("delivered 5/5  ops #"), "{said}");
    for group in ["1", "2", "3"] {
        assert!(said.contains(&format!("  {group}: 2 members")), "{said}");
    }
    assert_eq!(user.run(&["demo", "--once", "-q"]).expect(0).stdout(), "");
    let objects = user.run(&["demo", "--once", "--json"]).expect(0).objects();
    assert_eq!(objects.len(), 3);
}

#[test]
fn the_demo_goes_on_and_repeats_nothing() {
    let user = User::new();
    let mut demo = user.spawn(&["demo"]);
    let line = demo.says("tertulia send ops hola --node ");
    let native = line.split_whitespace().nth(5).unwrap();
    user.run(&["send", "ops", "new", "--as", "you", "--node", native]).expect(0);
    demo.says("~you: new");
    assert!(!demo.said().contains("~marta: "), "{}", demo.said());
    demo.end_by(rustix::process::Signal::INT, 0);
}
