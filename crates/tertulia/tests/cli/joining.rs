//! `join` and `chat`: becoming a member, printing, confirming, leaving.

use std::collections::BTreeMap;
use std::process::Command;

use rustix::process::Signal;

use crate::programs::{Program, is_there};
use crate::support::{Node, object};

/// `joined 1 as tester-host (2 members, …)`: the group and the name.
fn place(note: &str) -> (String, String) {
    let words: Vec<&str> = note.split(' ').collect();
    let at = words.iter().position(|word| *word == "as").unwrap();
    (words[at - 1].to_owned(), words[at + 1].to_owned())
}

#[test]
fn six_members_are_spread_over_three_groups_under_names_of_their_own() {
    let node = Node::start();
    // All at once: names are shared out by locks, groups by the allocator.
    let members: Vec<_> = (0..6).map(|_| node.spawn(&["join"])).collect();
    let mut groups: BTreeMap<String, u32> = BTreeMap::new();
    let mut names: Vec<String> = Vec::new();
    for member in &members {
        let (group, name) = place(&member.notes("joined"));
        *groups.entry(group).or_default() += 1;
        names.push(name);
    }
    let even: Vec<(&str, u32)> = groups.iter().map(|(group, n)| (group.as_str(), *n)).collect();
    assert_eq!(even, [("1", 2), ("2", 2), ("3", 2)]);
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 6, "{names:?}");
    assert!(names.iter().all(|name| name.starts_with("tester-")), "{names:?}");
}

#[test]
fn the_same_name_gets_its_group_back() {
    let node = Node::start();
    let keep = node.join(&[]);
    let mut member = node.spawn(&["join", "--durable"]);
    let first = place(&member.notes("joined"));
    member.end_by(Signal::TERM, 0);
    let again = node.spawn(&["join", "--durable"]);
    assert_eq!(place(&again.notes("back in")), first);
    drop(keep);
}

#[test]
fn entries_are_printed_and_confirmed() {
    let node = Node::start();
    let members: Vec<_> =
        ["ana", "luis", "eva"].iter().map(|name| node.join(&["ops", "--name", name])).collect();
    let sent = node.run(&["send", "ops", "¿qué", "tal?", "--as", "marta"]).expect(0).stdout();
    assert!(sent.starts_with("delivered 3/3 in "), "{sent}");
    assert!(sent.trim_end().contains("  ops #"), "{sent}");
    members[0].says("* eva joined");
    for member in &members {
        let line = member.says("~marta");
        assert!(line.starts_with('#') && line.ends_with(" ~marta: ¿qué tal?"), "{line}");
    }
}

#[test]
fn objects_have_the_promised_fields() {
    let node = Node::start();
    let member = node.join(&["ops", "--name", "ana", "--json"]);
    let mut other = node.join(&["ops", "--name", "luis"]);
    let joined = object(&member.says("luis"));
    assert_eq!((&joined["type"], &joined["group"]), (&"joined".into(), &"ops".into()));
    node.run(&["send", "ops", "hola", "--as", "marta"]).expect(0);
    let message = object(&member.says("hola"));
    assert_eq!(message["type"], "message");
    assert_eq!((&message["from"], &message["text"]), (&"marta".into(), &"hola".into()));
    assert_eq!(message["outside"], true);
    assert!(message["seq"].is_u64() && message["time"].as_str().unwrap().ends_with('Z'));
    other.end_by(Signal::INT, 130);
    let left = object(&member.says("left"));
    assert_eq!((&left["name"], &left["why"]), (&"luis".into(), &"exit".into()));
    assert!(member.said().lines().all(|line| object(line).is_object()));
}

#[test]
fn foreign_text_steers_no_terminal() {
    let node = Node::start();
    let member = node.join(&["ops", "--name", "ana"]);
    node.run(&["send", "ops", "a\u{1b}[2Jb\nc\u{202e}d"]).expect(0);
    let line = member.says("a\u{fffd}[2Jb·c\u{fffd}d");
    assert!(!line.contains('\u{1b}'), "{line:?}");
}

#[test]
fn a_name_that_is_given_is_had_or_refused() {
    let node = Node::start();
    let _member = node.join(&["ops", "--name", "ana"]);
    let ended = node.run(&["join", "ops", "--name", "ana"]).expect(1);
    assert!(ended.stderr().contains("ana"), "{}", ended.stderr());
    // Another user of another machine has no lock to look at, and asks the node.
    let elsewhere = crate::support::User::new();
    let args = ["join", "ops", "--name", "ANA", "--json", "--node", &node.native];
    let ended = elsewhere.run(&args).expect(1);
    assert_eq!(object(&ended.stderr())["error"]["code"], "NAME_TAKEN");
}

#[test]
fn reading_may_begin_earlier() {
    let node = Node::start();
    node.run(&["groups", "create", "ops"]).expect(0);
    for text in ["one", "two", "three"] {
        node.run(&["send", "ops", text]).expect(0);
    }
    let first = node.join(&["ops", "--name", "ana", "--from", "first"]);
    first.says("one");
    first.says("three");
    let last = node.join(&["ops", "--name", "eva", "--from", "-2"]);
    let line = last.says(": ");
    assert!(line.ends_with("two"), "{line}");
    last.says("three");
}

#[test]
fn a_closed_output_ends_it_without_confirming() {
    let node = Node::start();
    let mut command = node.user.command(&["join", "ops", "--name", "ana", "--node", &node.native]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut member = command.spawn().unwrap();
    drop(member.stdout.take());
    node.process.says("joined ops ana");
    let sent = node.run(&["send", "ops", "hola", "--timeout", "500ms"]);
    assert_eq!(member.wait().unwrap().code(), Some(1));
    sent.expect(3);
}

#[test]
fn chat_says_what_is_typed_and_prints_what_others_say() {
    let node = Node::start();
    let mut ana = node.spawn(&["chat", "--name", "ana"]);
    ana.notes("you are ana in lobby");
    let mut luis = node.spawn(&["chat", "--name", "luis"]);
    luis.notes("you are luis in lobby");
    ana.write("hola\n/who\n");
    assert!(luis.says("hola").contains(" ana: hola"));
    ana.notes("here: ana, luis");
    luis.write("¿qué tal?\n");
    luis.close_input();
    ana.says("luis: ¿qué tal?");
    ana.says("* luis left (exit)");
    assert_eq!(luis.end().code(), Some(0));
    assert!(!ana.said().contains("ana: hola"), "one's own words are not repeated");
    ana.write("/quit\n");
    assert_eq!(ana.end().code(), Some(0));
}

/// Ana chats on a terminal; `None` where none can be made.
fn chat_on_a_terminal(node: &Node) -> Option<Program> {
    if !is_there("python3") {
        return None;
    }
    let chat = ["chat", "--name", "ana", "--node", &node.native];
    let tertulia = node.user.command(&chat);
    let mut command = Command::new("python3");
    command.args(["-c", "import pty, sys; pty.spawn(sys.argv[1:])"]);
    command.arg(tertulia.get_program()).args(chat).env("HOME", node.user.home.path());
    let ana = Program::spawn(command);
    ana.says("you are ana in lobby");
    Some(ana)
}

/// All together when she leaves, not each when it has been slow; and what is stored is not called unknown.
#[test]
fn who_leaves_a_chat_is_told_what_not_everybody_has_yet() {
    let node = Node::start();
    let luis = node.join(&["lobby", "--name", "luis"]);
    luis.signal(Signal::KILL);
    node.process.says("away lobby luis");
    let eva = node.join(&["lobby", "--name", "eva"]);
    let Some(mut ana) = chat_on_a_terminal(&node) else { return };
    ana.write("hola\nadiós\n");
    eva.says("ana: adiós");
    ana.write("/quit\n");
    let told = ana.says("not with everybody yet");
    assert_eq!(told.matches('#').count(), 2, "{told}");
    node.process.says("left lobby ana exit");
    let said = ana.said().concat();
    assert!(!said.contains("unknown"), "{said}");
}

#[test]
fn what_comes_stands_apart_from_what_is_typed() {
    let node = Node::start();
    let Some(mut ana) = chat_on_a_terminal(&node) else { return };
    ana.write("half a l");
    node.run(&["send", "lobby", "hola", "--as", "luis"]).expect(0);
    let line = ana.says("~luis: hola");
    assert!(line.contains("\r\u{1b}[K#"), "{line:?}");
    ana.write("\u{3}");
    node.process.says("left lobby ana exit");
}
