//! A disk that fails while a node runs: its sync answers an error, by strace.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::programs::is_there;
use crate::support::{Node, serve};

#[test]
fn a_node_whose_store_has_failed_ends_and_says_why_and_loses_nothing_that_it_answered() {
    if !is_there("strace") {
        return;
    }
    let mut node = Node::start();
    // No member: nothing but what is sent needs the disk.
    node.run(&["groups", "create", "ops"]).expect(0);
    node.run(&["send", "ops", "stored"]).expect(0);
    let mut strace = Command::new("strace")
        .args(["-f", "-e", "trace=fdatasync,fsync"])
        .args(["-e", "inject=fdatasync,fsync:error=EIO"])
        .args(["-p", &node.process.pid().as_raw_nonzero().to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(strace.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("attached")), "strace did not attach");
    let unknown = node.run(&["send", "ops", "lost or not", "--timeout", "10s"]);
    assert_eq!(unknown.code(), Some(4), "{}", unknown.stderr());
    let ended = node.process.end();
    assert_eq!(ended.code(), Some(1), "{}", node.process.noted());
    let noted = node.process.noted();
    for part in ["the store in ", "has failed", "start the node again"] {
        assert!(noted.contains(part), "{noted}");
    }
    assert!(lines.any(|line| line.contains("EIO")), "strace made no sync fail");
    strace.wait().unwrap();

    let data = node.data.path().to_str().unwrap().to_owned();
    let port = node.native.rsplit(':').next().unwrap();
    let again = serve(&node.user, &data, &["--native-port", port]);
    let history = node.run(&["history", "ops"]).expect(0).stdout();
    assert!(history.contains("stored"), "{history}");
    drop(again);
}
