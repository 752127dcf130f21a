//! Very many connections that say nothing: nobody notices, the node's memory and files are bounded, and they are ended.

use std::io::Read;
use std::net::TcpStream;
use std::time::Instant;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tertulia_client::{Directory, Sender, SenderOptions, Target};

use crate::support::{Node, User, WITHIN};

const CROWD: usize = 10_000;
/// What a connection that has said nothing may cost the node, the debug build's too; sockets are the kernel's.
const MEMORY_EACH: u64 = 10 << 10;

/// Whether this test may have so many open files.
pub fn may_open(files: u64) -> bool {
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < files) {
        return false;
    }
    let raised = Rlimit { current: limit.maximum, ..limit };
    setrlimit(Resource::Nofile, raised).is_ok()
}

fn connections(node: &Node) -> u64 {
    node.run(&["status", "--json"]).expect(0).objects()[0]["connections"].as_u64().unwrap()
}

#[test]
fn ten_thousand_silent_connections_are_not_noticed_and_are_ended() {
    // The node keeps a quarter of its files for the store.
    if !may_open(CROWD as u64 * 4 / 3 + 1_000) {
        eprintln!("skipped: the hard limit of open files is too low for {CROWD} connections");
        return;
    }
    let node = Node::start();
    let ana = node.join(&["ops", "--name", "ana"]);
    node.run(&["send", "ops", "alone"]).expect(0);
    let before = node.memory("VmRSS");
    let address = node.native.parse().unwrap();
    let silent: Vec<TcpStream> =
        (0..CROWD).map(|_| TcpStream::connect_timeout(&address, WITHIN).unwrap()).collect();
    let counted = connections(&node);
    let each = node.memory("VmRSS").saturating_sub(before) / CROWD as u64;
    // Who was there goes on, and who comes is let in.
    node.run(&["send", "ops", "in a crowd"]).expect(0);
    let _eva = node.join(&["ops", "--name", "eva"]);
    node.run(&["send", "ops", "two in a crowd", "--expect", "2"]).expect(0);
    assert!(counted > CROWD as u64 / 2, "{counted} connections were there at once");
    assert!(each < MEMORY_EACH, "{each} bytes for each");
    // Nobody has said HELLO: each is told CLOSE `IDLE` (0x9E, 29), and then there is an end.
    for mut one in silent {
        one.set_read_timeout(Some(WITHIN)).unwrap();
        let mut said = Vec::new();
        one.read_to_end(&mut said).unwrap();
        assert_eq!((said[4], u16::from_le_bytes([said[8], said[9]])), (0x9E, 29));
    }
    let until = Instant::now() + WITHIN;
    while connections(&node) > 10 {
        assert!(Instant::now() < until, "{} connections are left", connections(&node));
    }
    node.run(&["send", "ops", "alone again", "--expect", "2"]).expect(0);
    ana.says("alone again");
    let (after, peak) = (node.memory("VmRSS"), node.memory("VmHWM"));
    eprintln!(
        "{CROWD} silent connections: {each} bytes each ({counted} at once); the node's memory {} KiB before, \
         {} KiB after, {} KiB at most",
        before >> 10,
        after >> 10,
        peak >> 10
    );
}

/// The bug: connections could take the files that the store needs.
#[test]
fn a_flood_of_connections_leaves_the_store_its_files() {
    let node = Node::start_by(User::with_files(128), &["--sync", "os"]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let target = Target::new(node.native.as_str());
        let mut directory = Directory::connect(&target).await.unwrap();
        directory.create("ops").await.unwrap();
        let sender = Sender::open(&target, "ops", "marta", SenderOptions::default()).await.unwrap();
        let address = node.native.parse().unwrap();
        let connect = || TcpStream::connect_timeout(&address, WITHIN).unwrap();
        let flood: Vec<TcpStream> = (0..300).map(|_| connect()).collect();
        // More than a segment of the store holds, so that new files are needed.
        let body = vec![b'x'; 1 << 20];
        for _ in 0..70 {
            let sent = sender.send(body.clone()).await.unwrap();
            let stored = tokio::time::timeout(WITHIN, sent.stored()).await;
            stored.expect("it is stored").expect("there are files for it");
        }
        directory.create("another").await.unwrap();
        drop(flood);
    });
    let said = node.process.noted();
    assert!(!said.contains("Too many open files"), "{said}");
}
