//! Members that read nothing hold nobody up, cost the node little memory, and catch up without a gap.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tertulia_client::{Sender, SenderOptions, Target};
use tokio::time::timeout;

use crate::support::{Node, WITHIN};

const MESSAGES: usize = 1_050;
const MESSAGE_BYTES: usize = 100_000;
/// More than the node's window and the sockets between them hold.
const LINES: usize = 4_000;
const LINE_BYTES: usize = 8_000;
/// What the node's memory may have come to, the debug build's too.
const MEMORY_MAX: u64 = 96 << 20;
/// No message takes longer to be stored, on a loaded machine either.
const STORED_WITHIN: Duration = Duration::from_secs(5);

/// A `join` whose output goes to a file: so much would fill a pipe, or the test's memory.
struct ToFile {
    child: Child,
}

impl ToFile {
    fn join(node: &Node, name: &str, file: &Path) -> Self {
        let mut command =
            node.user.command(&["join", "ops", "--name", name, "--node", &node.native]);
        command.stdout(File::create(file).unwrap()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        node.process.says(&format!("joined ops {name}"));
        Self { child }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for ToFile {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_line_client_that_reads_nothing_is_behind_and_catches_up_too() {
    let node = Node::start_with(&["--engine", "embedded", "--sync", "os"]);
    let _ana = ToFile::join(&node, "ana", &node.user.home.path().join("ana"));
    let pepe = line_member(&node);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let sent = runtime.block_on(send_all(&node.native, (LINES, LINE_BYTES), 1));
    assert!(sent.slowest < STORED_WITHIN, "{:?}", sent.slowest);
    let last = sent.last.to_string();
    let receipt = node.run(&["receipt", "ops", &last, "--json"]).expect(3).objects().remove(0);
    assert_eq!(receipt["missing"], serde_json::json!([{"name": "pepe", "why": "lagging"}]));
    let told = told_by_line(pepe, sent.last);
    assert_eq!(told.len(), LINES);
    assert!(told.windows(2).all(|pair| pair[0] + 1 == pair[1]), "a number is missing");
    let peak = node.memory("VmHWM");
    assert!(peak < MEMORY_MAX, "{peak} bytes");
    eprintln!("line: sent in {:?}; node's memory {} MiB", sent.took, peak >> 20);
}

/// A member of the line door that reads nothing after its welcome.
fn line_member(node: &Node) -> TcpStream {
    let mut stream = TcpStream::connect(&node.line).unwrap();
    stream.write_all(b"JOIN pepe ops\n").unwrap();
    node.process.says("joined ops pepe");
    stream
}

/// The numbers of all messages that it was told after all, up to the last.
fn told_by_line(stream: TcpStream, last: u64) -> Vec<u64> {
    stream.set_read_timeout(Some(WITHIN)).unwrap();
    let mut told = Vec::new();
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap();
        let Some(rest) = line.strip_prefix("MSG ") else { continue };
        told.push(rest.split(' ').next().unwrap().parse().unwrap());
        if told.last() == Some(&last) {
            break;
        }
    }
    told
}

/// What is to be said of the sending.
struct SentAll {
    last: u64,
    slowest: Duration,
    took: Duration,
}

#[test]
fn a_stopped_member_delays_nobody_and_catches_up_without_a_gap() {
    let node = Node::start_with(&["--engine", "embedded", "--sync", "os"]);
    let files = ["ana", "eva", "luis"].map(|name| node.user.home.path().join(name));
    let [_ana, _eva, luis] = [("ana", &files[0]), ("eva", &files[1]), ("luis", &files[2])]
        .map(|(name, file)| ToFile::join(&node, name, file));
    kill_process(luis.pid(), Signal::STOP).unwrap();
    waitpid(Some(luis.pid()), WaitOptions::UNTRACED).unwrap();

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let sent = runtime.block_on(send_all(&node.native, (MESSAGES, MESSAGE_BYTES), 2));
    assert!(sent.slowest < STORED_WITHIN, "{:?}", sent.slowest);
    // The others have everything while it is still stopped.
    let last = sent.last.to_string();
    let receipt = node.run(&["receipt", "ops", &last, "--json"]).expect(3).objects().remove(0);
    assert_eq!((&receipt["confirmed"], &receipt["members"]), (&2.into(), &3.into()));
    let missing = serde_json::json!([{"name": "luis", "why": "lagging"}]);
    assert_eq!(receipt["missing"], missing);
    let stopped = node.memory("VmHWM");
    assert!(stopped < MEMORY_MAX, "{stopped} bytes");

    let started = Instant::now();
    kill_process(luis.pid(), Signal::CONT).unwrap();
    node.receipt("ops", &last);
    let caught_up = started.elapsed();
    let peak = node.memory("VmHWM");
    assert!(peak < MEMORY_MAX, "{peak} bytes");
    let expected: Vec<String> = (0..MESSAGES).map(|i| format!("{i:06}")).collect();
    for file in &files {
        let lines = lines(file);
        let texts: Vec<&str> = lines.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, expected);
        assert!(lines.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0), "a number is missing");
    }
    eprintln!(
        "sent in {:?}, slowest stored in {:?}; caught up in {caught_up:?}; node's memory {} MiB stopped, {} MiB in all",
        sent.took,
        sent.slowest,
        stopped >> 20,
        peak >> 20
    );
}

/// Sends so many messages of so many bytes, and waits until they are stored and `quick` members have confirmed them.
async fn send_all(node: &str, (count, bytes): (usize, usize), quick: usize) -> SentAll {
    let target = Target::new(node);
    let options = SenderOptions { follow: true, ..SenderOptions::default() };
    let mut sender = Sender::open(&target, "ops", "marta", options).await.unwrap();
    let mut confirmations = sender.confirmations().unwrap();
    let padding = "x".repeat(bytes);
    let started = Instant::now();
    let mut under_way = Vec::new();
    for i in 0..count {
        let sent = timeout(WITHIN, sender.send(format!("{i:06} {padding}"))).await;
        let sent = sent.expect("there is room").unwrap();
        under_way.push(tokio::spawn(async move {
            let seq = sent.stored().await.unwrap();
            (seq, sent.elapsed())
        }));
    }
    let (mut last, mut slowest) = (0, Duration::ZERO);
    for sent in under_way {
        let (seq, elapsed) = timeout(WITHIN, sent).await.expect("it is stored").unwrap();
        (last, slowest) = (last.max(seq), slowest.max(elapsed));
    }
    let mut up_to_date = std::collections::BTreeSet::new();
    while up_to_date.len() < quick {
        let moved = timeout(WITHIN, confirmations.recv()).await;
        let moved = moved.expect("the others confirm").unwrap();
        if moved.cursor >= last {
            up_to_date.insert(moved.name);
        }
    }
    SentAll { last, slowest, took: started.elapsed() }
}

/// Number and first word of each message that was printed.
fn lines(file: &Path) -> Vec<(u64, String)> {
    let lines = BufReader::new(File::open(file).unwrap()).lines().map(Result::unwrap);
    let messages = lines.filter(|line| line.contains(" ~marta: "));
    messages
        .map(|line| {
            let (number, rest) = line.split_once(' ').unwrap();
            let (_, text) = rest.split_once(": ").unwrap();
            assert_eq!(text.len(), 7 + MESSAGE_BYTES, "not all of it");
            let number = number.trim_start_matches('#').parse().unwrap();
            (number, text.split(' ').next().unwrap().to_owned())
        })
        .collect()
}
