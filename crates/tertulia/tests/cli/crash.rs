//! A node that is killed ten times while two senders send: what was acknowledged is there, once and in order, for everybody.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tertulia_client::{Sender, SenderOptions, Target};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::support::{Node, Running, WITHIN, object};

const CRASHES: usize = 10;
/// Messages of the library that are stored between two crashes, at least; a few more each time.
const BETWEEN: usize = 40;
/// Lines for the process between two crashes.
const LINES: usize = 30;
/// Messages of the library on their way at once.
const UNDER_WAY: usize = 64;

/// A message as it stands in the log.
type Entry = (u64, String);

#[test]
fn nothing_acknowledged_is_lost_in_ten_crashes() {
    let mut node = Node::start_again();
    let members = ["ana", "eva", "luis"]
        .map(|name| node.join(&["ops", "--name", name, "--durable", "--json"]));
    let runtime = Runtime::new().unwrap();
    let library = runtime.block_on(Library::start(&node.native));
    let mut process = node.spawn(&["send", "ops", "--as", "pipe", "--json", "--timeout", "60s"]);
    // Once it is connected it goes on by itself.
    process.write("pipe 0\n");
    process.says("\"seq\":");
    let mut back = Duration::ZERO;
    for crash in 0..CRASHES {
        let lines = (1..=LINES).map(|i| format!("pipe {}\n", crash * LINES + i));
        process.write(&lines.collect::<String>());
        runtime.block_on(library.stored_more(BETWEEN + 7 * crash));
        node.kill();
        let started = Instant::now();
        node.restart();
        runtime.block_on(library.stored_more(1));
        back += started.elapsed();
    }
    let mut acknowledged = runtime.block_on(library.finish());
    let of_library = acknowledged.len();
    process.close_input();
    assert_eq!(process.end().code(), Some(0));
    acknowledged.extend(receipts(&process));
    assert_eq!(acknowledged.len(), of_library + 1 + CRASHES * LINES);

    let (log, epochs) = history(&node);
    assert!(epochs > CRASHES as u64, "each start is an epoch: {epochs}");
    each_is_there_once(&log, &acknowledged);
    in_the_order_of_their_sender(&log);
    let last = format!("\"seq\":{},", log.last().unwrap().0);
    for member in &members {
        member.says(&last);
        assert_eq!(messages(&member.said()), log, "a member saw something else");
    }
    eprintln!(
        "{} messages in {CRASHES} crashes; sending again after {:?} on average",
        log.len(),
        back / CRASHES as u32
    );
}

/// What the process was told of each line, in their order.
fn receipts(process: &Running) -> Vec<Entry> {
    let receipts: Vec<Value> = process.said().lines().map(object).collect();
    let everybody = |receipt: &Value| receipt["confirmed"] == 3 && receipt["members"] == 3;
    assert!(receipts.iter().all(everybody), "{receipts:?}");
    let numbers = receipts.iter().map(|receipt| receipt["seq"].as_u64().unwrap());
    numbers.enumerate().map(|(i, seq)| (seq, format!("pipe {i}"))).collect()
}

/// The whole log's messages, and its epoch.
fn history(node: &Node) -> (Vec<Entry>, u64) {
    let args = ["history", "ops", "--after", "0", "--limit", "1000000", "--json"];
    let log = messages(&node.run(&args).expect(0).stdout());
    let groups = node.run(&["groups", "--json"]).expect(0).objects();
    let ops = groups.iter().find(|group| group["group"] == "ops").unwrap();
    (log, ops["epoch"].as_u64().unwrap())
}

fn messages(said: &str) -> Vec<Entry> {
    let objects = said.lines().map(object);
    let messages = objects.filter(|object| object["type"] == "message");
    let entry = |message: Value| {
        (message["seq"].as_u64().unwrap(), message["text"].as_str().unwrap().to_owned())
    };
    messages.map(entry).collect()
}

/// Everything that was sent was acknowledged in the end, so the log has exactly that, under the numbers that were told.
fn each_is_there_once(log: &[Entry], acknowledged: &[Entry]) {
    let expected: BTreeMap<u64, &str> =
        acknowledged.iter().map(|(seq, text)| (*seq, text.as_str())).collect();
    assert_eq!(expected.len(), acknowledged.len(), "two messages were told the same number");
    assert!(log.iter().map(|(seq, text)| (*seq, text.as_str())).eq(expected));
}

fn in_the_order_of_their_sender(log: &[Entry]) {
    let mut next: BTreeMap<&str, u64> = BTreeMap::new();
    for (_, text) in log {
        let (from, number) = text.split_once(' ').unwrap();
        let next = next.entry(from).or_default();
        assert_eq!(number.parse(), Ok(*next), "{from}'s next one");
        *next += 1;
    }
    assert!(next.keys().eq(["library", "pipe"].iter()));
}

/// Sends with the library, as fast as it is stored, until told to finish.
struct Library {
    stored: watch::Receiver<usize>,
    finishing: Arc<AtomicBool>,
    task: JoinHandle<Vec<Entry>>,
}

impl Library {
    async fn start(node: &str) -> Self {
        let target = Target::new(node);
        let sender =
            Sender::open(&target, "ops", "library", SenderOptions::default()).await.unwrap();
        let (count, stored) = watch::channel(0);
        let finishing = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(send_on(sender, count, Arc::clone(&finishing)));
        Self { stored, finishing, task }
    }

    /// Waits until so many more are stored.
    async fn stored_more(&self, more: usize) {
        let mut stored = self.stored.clone();
        let enough = *stored.borrow() + more;
        let waiting = timeout(WITHIN, stored.wait_for(|stored| *stored >= enough)).await;
        waiting.expect("sending goes on by itself").unwrap();
    }

    /// Everything that was sent, with the number that it was told; each is confirmed by all three.
    async fn finish(self) -> Vec<Entry> {
        self.finishing.store(true, Ordering::Relaxed);
        timeout(WITHIN, self.task).await.expect("all is answered").unwrap()
    }
}

async fn send_on(
    sender: Sender,
    count: watch::Sender<usize>,
    finishing: Arc<AtomicBool>,
) -> Vec<Entry> {
    let room = Arc::new(Semaphore::new(UNDER_WAY));
    let count = Arc::new(count);
    let mut under_way = JoinSet::new();
    for i in 0.. {
        let permit = Arc::clone(&room).acquire_owned().await.unwrap();
        if finishing.load(Ordering::Relaxed) {
            break;
        }
        let text = format!("library {i}");
        let sent = sender.send(text.clone()).await.unwrap();
        let count = Arc::clone(&count);
        under_way.spawn(async move {
            let seq = sent.stored().await.unwrap();
            count.send_modify(|count| *count += 1);
            drop(permit);
            let receipt = sent.receipt().await.unwrap();
            assert!(receipt.seq == seq && receipt.members == 3, "{receipt:?}");
            (seq, text)
        });
    }
    under_way.join_all().await
}
