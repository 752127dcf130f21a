//! `send`: receipts, their exit codes, pipes, and what cannot be sent.

use rustix::process::Signal;

use crate::support::{Node, object};

#[test]
fn each_step_is_shown_when_asked_for() {
    let node = Node::start();
    let _members: Vec<_> =
        ["ana", "luis"].iter().map(|name| node.join(&["ops", "--name", name])).collect();
    let said = node.run(&["send", "ops", "hola", "-v"]).expect(0).stdout();
    let at = |part: &str| said.find(part).unwrap_or_else(|| panic!("{part:?} is not in {said}"));
    let located = format!("directory: ops is coordinated at {} (epoch ", node.native);
    assert!(at(&located) < at("stored as #"));
    assert!(at("stored as #") < at("confirmed by ana"));
    assert!(at("confirmed by luis") < at("delivered 2/2 in "));
    assert!(said.contains("(fsync)"), "{said}");
}

#[test]
fn a_stopped_member_is_named_and_its_confirmation_comes_later() {
    let node = Node::start();
    let members: Vec<_> =
        ["ana", "luis", "eva"].iter().map(|name| node.join(&["ops", "--name", name])).collect();
    members[1].freeze();
    let ended = node.run(&["send", "ops", "hola", "--timeout", "2s", "--json"]).expect(3);
    let receipt = ended.objects().remove(0);
    assert_eq!(receipt["members"], 3);
    assert_eq!(receipt["confirmed"], 2);
    assert_eq!(receipt["missing"], serde_json::json!([{"name": "luis", "why": "pending"}]));
    assert_eq!(receipt["final"], false);
    let seq = receipt["seq"].to_string();
    let ended = node.run(&["receipt", "ops", &seq]).expect(3);
    assert!(ended.stdout().contains("missing: luis (pending)"), "{}", ended.stdout());
    members[1].signal(Signal::CONT);
    let receipt = node.receipt("ops", &seq);
    assert_eq!((&receipt["confirmed"], &receipt["missing"]), (&3.into(), &serde_json::json!([])));
    members[1].says("hola");
}

#[test]
fn the_receipt_has_the_promised_fields() {
    let node = Node::start();
    let _member = node.join(&["ops", "--name", "ana"]);
    let line = node.run(&["send", "ops", "hola", "--json"]).expect(0).stdout();
    let fields = [
        "\"group\":\"ops\"",
        "\"seq\":",
        "\"epoch\":",
        "\"members\":1",
        "\"confirmed\":1",
        "\"reached\":0",
        "\"missing\":[]",
        "\"final\":true",
        "\"stored\":\"fsync\"",
        "\"elapsed_ms\":",
    ];
    let mut at = 0;
    for field in fields {
        let found = line.find(field).unwrap_or_else(|| panic!("{field} is not in {line}"));
        assert!(found >= at, "{field} is out of order in {line}");
        at = found;
    }
}

#[test]
fn what_is_waited_for_decides_the_exit_code() {
    let node = Node::start();
    let _ana = node.join(&["ops", "--name", "ana"]);
    let luis = node.join(&["ops", "--name", "luis"]);
    luis.freeze();
    let send = |more: &[&str], code| {
        node.run(&[&["send", "ops", "hola", "--timeout", "1s"], more].concat()).expect(code)
    };
    send(&["--wait", "stored"], 0);
    send(&["--wait", "1"], 0);
    send(&["--wait", "2"], 3);
    send(&[], 3);
    send(&["--wait", "1", "--expect", "2"], 0);
    send(&["--wait", "1", "--expect", "3"], 3);
}

#[test]
fn a_group_without_members_is_told_all_the_same() {
    let node = Node::start();
    node.run(&["groups", "create", "empty"]).expect(0);
    let said = node.run(&["send", "empty", "hola"]).expect(0).stdout();
    assert!(said.starts_with("delivered 0/0") && said.contains("nobody"), "{said}");
    node.run(&["send", "empty", "hola", "--expect", "1"]).expect(3);
}

#[test]
fn an_unknown_group_is_refused_with_the_nearest_name() {
    let node = Node::start();
    node.run(&["groups", "create", "lobby2"]).expect(0);
    let ended = node.run(&["send", "loby2", "hola"]).expect(1);
    let told = "there is no group loby2; did you mean lobby2? (to make it: \
                tertulia groups create loby2 --node ";
    assert!(ended.stderr().contains(told), "{}", ended.stderr());
    for args in [&["history", "ops"][..], &["members", "ops"], &["receipt", "ops", "3"]] {
        let ended = node.run(args).expect(1).stderr();
        let told = format!(", or join it: tertulia join ops --node {}", node.native);
        assert!(ended.contains(&told), "{ended}");
    }
    let ended = node.run(&["send", "loby2", "hola", "--json"]).expect(1);
    assert_eq!(object(&ended.stderr())["error"]["code"], "UNKNOWN_GROUP");
    let groups = node.run(&["groups", "--json"]).expect(0).objects();
    assert!(groups.iter().all(|group| group["group"] != "loby2"), "sending creates nothing");
}

#[test]
fn a_pipe_is_one_message_a_line_and_one_receipt_a_line_in_order() {
    let node = Node::start();
    let member = node.join(&["ops", "--name", "ana"]);
    let input: String = (0..500).map(|i| format!("line {i}\n")).collect();
    let ended = node.run_with(&["send", "ops", "--json"], &input).expect(0);
    let receipts = ended.objects();
    assert_eq!(receipts.len(), 500);
    let numbers: Vec<u64> =
        receipts.iter().map(|receipt| receipt["seq"].as_u64().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    assert!(receipts.iter().all(|receipt| receipt["confirmed"] == 1));
    member.says("line 499");
    let said = member.said();
    let lines: Vec<&str> = said.lines().filter_map(|line| line.split(": ").nth(1)).collect();
    let expected: Vec<String> = (0..500).map(|i| format!("line {i}")).collect();
    assert_eq!(lines, expected);
}

#[test]
fn the_worst_line_of_a_pipe_decides_the_exit_code() {
    let node = Node::start();
    let _member = node.join(&["ops", "--name", "ana"]);
    let input = format!("good\n{}\nlast\n", "x".repeat((1 << 20) + 1));
    let ended = node.run_with(&["send", "ops", "--json"], &input).expect(1);
    assert_eq!(ended.objects().len(), 2, "{}", ended.stdout());
    let error = &object(&ended.stderr())["error"];
    assert_eq!((&error["code"], &error["line"]), (&"TOO_LONG".into(), &2.into()));
    let ended = node.run_with(&["send", "ops"], &input).expect(1);
    assert!(ended.stderr().contains("line 2: "), "{}", ended.stderr());
}

#[test]
fn too_few_members_are_told_of() {
    let node = Node::start();
    let _member = node.join(&["ops", "--name", "ana"]);
    let told = "only 1 member was asked, 2 were expected";
    for flag in ["--expect", "--wait"] {
        let ended = node.run(&["send", "ops", "hola", flag, "2", "-q"]).expect(3);
        assert!(ended.stderr().contains(told), "{}", ended.stderr());
        assert_eq!(ended.stdout(), "");
    }
    let ended = node.run(&["send", "ops", "hola", "--expect", "2", "--json"]).expect(3);
    assert_eq!(object(&ended.stderr())["error"]["message"], told);
}

#[test]
fn a_receipt_that_cannot_be_printed_is_told_of() {
    let node = Node::start();
    let _member = node.join(&["ops", "--name", "ana"]);
    let mut command = node.user.command(&["send", "ops", "hola", "--node", &node.native]);
    command.stdout(std::fs::File::options().write(true).open("/dev/full").unwrap());
    let ended = command.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    let told = "but the receipt could not be printed";
    assert!(said.contains("stored as ops #") && said.contains(told), "{said}");
    assert_eq!(ended.status.code(), Some(1));
}

#[test]
fn the_timeout_covers_connecting_and_the_step_is_told() {
    let node = Node::start();
    let _member = node.join(&["lobby", "--name", "ana"]);
    node.process.freeze();
    let began = std::time::Instant::now();
    let ended = node.run(&["send", "lobby", "hola", "--timeout", "1s"]).expect(1);
    let took = began.elapsed();
    node.process.signal(Signal::CONT);
    assert!(took < std::time::Duration::from_secs(3), "{took:?}");
    for told in [
        "took the connection but does not answer as a native door",
        "; nothing was sent in the 1.0 s of --timeout",
    ] {
        assert!(ended.stderr().contains(told), "{}", ended.stderr());
    }
}

#[test]
fn a_node_that_does_not_answer_leaves_the_outcome_unknown() {
    let node = Node::start();
    let _member = node.join(&["lobby", "--name", "ana"]);
    let mut sender = node.spawn(&["send", "lobby", "-v", "--timeout", "2s"]);
    sender.write("first\n");
    sender.says("delivered 1/1");
    node.process.freeze();
    sender.write("second\n");
    sender.close_input();
    let status = sender.end();
    node.process.signal(Signal::CONT);
    assert_eq!(status.code(), Some(4));
    sender.notes("unknown");
}

#[test]
fn nothing_is_no_message() {
    let node = Node::start();
    let _member = node.join(&["lobby", "--name", "ana"]);
    let refused = node.run(&["send", "lobby", "", "--json"]).expect(1);
    assert_eq!(object(&refused.stderr())["error"]["code"], "BAD_TEXT");
    let silent = node.run_with(&["send", "lobby"], "").expect(0);
    assert!(silent.stderr().contains("standard input was empty"), "{}", silent.stderr());
    // An empty line is refused by its number, and the others are sent.
    let lines = node.run_with(&["send", "lobby"], "uno\n\ndos\n").expect(1);
    assert!(lines.stderr().contains("line 2: a message is not empty"), "{}", lines.stderr());
    assert_eq!(lines.stdout().matches("delivered 1/1").count(), 2, "{}", lines.stdout());
}

/// Who gives up waiting is told what it is that was waited for.
#[test]
fn what_is_stored_when_ctrl_c_comes_is_told_by_its_number() {
    let node = Node::start();
    let member = node.join(&["ops", "--name", "luis"]);
    member.freeze();
    let mut send = node.spawn(&["send", "ops", "hola", "--timeout", "60s", "-v"]);
    let stored = send.says("stored as #");
    send.signal(Signal::INT);
    let told = send.notes("interrupted: stored as #");
    assert_eq!(send.end().code(), Some(130));
    let number = |text: &str| {
        let digits = text.split('#').nth(1).unwrap_or_default();
        digits.chars().take_while(char::is_ascii_digit).collect::<String>()
    };
    assert_eq!(number(&stored), number(&told));
    let command = format!("tertulia receipt ops {}", number(&told));
    assert!(told.contains(&command), "{told}");
}
