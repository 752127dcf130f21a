//! The program in `docs/protocol.md` is a member, as it is written there.

use std::process::Command;

use crate::programs::{Program, is_there};
use crate::support::Node;

const PROTOCOL: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol.md"));

#[test]
fn the_member_in_python_joins_prints_and_confirms() {
    if !is_there("python3") {
        return;
    }
    let (_, after) = PROTOCOL.split_once("```python\n").unwrap();
    let (program, _) = after.split_once("```\n").unwrap();
    let node = Node::start();
    let file = node.user.home.path().join("member.py");
    std::fs::write(&file, program).unwrap();
    let (host, port) = node.native.rsplit_once(':').unwrap();
    let mut command = Command::new("python3");
    command.arg(&file).args(["ops", "ana", host, port]);
    let mut ana = Program::spawn(command);
    ana.says("* joined");
    node.process.says("joined ops ana 127.0.0.1 native");

    let args = ["send", "ops", "¿qué tal?", "--as", "marta", "--expect", "1"];
    let sent = node.run(&args).expect(0).stdout();
    assert!(sent.starts_with("delivered 1/1 in "), "{sent}");
    assert!(ana.says("marta").ends_with(" ~marta: ¿qué tal?"));
    let members = node.run(&["members", "ops", "--json"]).expect(0).objects();
    assert_eq!((&members[0]["name"], &members[0]["door"]), (&"ana".into(), &"native".into()));
    let eva = node.join(&["ops", "--name", "eva"]);
    ana.says("* eva joined");
    drop(eva);

    let mut command = Command::new("python3");
    command.arg(&file).args(["ops", "ANA", host, port]);
    let mut other = Program::spawn(command);
    // NAME_TAKEN, in the protocol's numbers.
    other.says("code 6: ");
    assert_eq!(other.end(), Some(1));
    node.run(&["remove", "ops", "ana"]).expect(0);
    ana.says("code 27: ");
    assert_eq!(ana.end(), Some(1));
}
