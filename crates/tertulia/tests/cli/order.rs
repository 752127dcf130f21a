//! Fifty members and five processes that all publish or read at once see one order, and have all of it in the end.

use std::sync::Arc;

use serde_json::Value;
use tertulia_client::{Entry, Event, Handle, Kind, Member, MemberOptions, Place, Receipt, Target};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::{Node, Running, WITHIN, object};

const MEMBERS: usize = 50;
const PROCESSES: usize = 5;
/// Messages of each member.
const EACH: usize = 20;

/// One message as somebody saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Heard {
    seq: u64,
    from: String,
    text: String,
}

/// A member that has published all its messages and heard everybody's.
struct Done {
    member: Member,
    heard: Vec<Heard>,
    receipts: Vec<Receipt>,
}

#[test]
fn all_publish_at_once_and_all_see_one_order() {
    let node = Node::start();
    let processes: Vec<Running> = (0..PROCESSES)
        .map(|i| node.spawn(&["join", "ops", "--name", &format!("process-{i}"), "--json"]))
        .collect();
    for process in &processes {
        process.notes(" as ");
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let all = runtime.block_on(async { timeout(WITHIN, all_publish(&node.native)).await });
    let mut all = all.expect("all is heard in time");
    let order = all.first().unwrap().heard.clone();
    assert_eq!(order.len(), MEMBERS * EACH);
    assert!(order.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    for done in &all {
        assert_eq!(done.heard, order, "{} saw another order", done.member.welcome().name);
        // Everybody but the one who published it.
        let asked = (MEMBERS + PROCESSES - 1) as u32;
        assert!(done.receipts.iter().all(Receipt::is_complete));
        assert!(done.receipts.iter().all(|receipt| receipt.confirmed == asked));
    }
    each_ones_own_are_in_order(&order);
    let last = format!("\"seq\":{},", order.last().unwrap().seq);
    for process in &processes {
        process.says(&last);
        assert_eq!(heard_by(process), order);
    }
    everybodys_number_reaches_the_tail(&node);
    // Away would be said of them otherwise, among what a failure prints.
    runtime.block_on(async {
        for done in all.drain(..) {
            done.member.leave().await.unwrap();
        }
    });
}

/// All join, then all publish at once; ends when each has heard everything and everything is confirmed.
async fn all_publish(node: &str) -> Vec<Done> {
    let together = Arc::new(Barrier::new(MEMBERS));
    let mut members = JoinSet::new();
    for i in 0..MEMBERS {
        let (target, together) = (Target::new(node), Arc::clone(&together));
        members.spawn(async move {
            let options = MemberOptions::new(format!("member-{i}"));
            let place = Place::Group("ops".to_owned());
            let member = Member::join(&target, place, options).await.unwrap();
            together.wait().await;
            take_part(member).await
        });
    }
    members.join_all().await
}

async fn take_part(mut member: Member) -> Done {
    let mut publishing = tokio::spawn(publish(member.handle().clone()));
    let mut heard = Vec::new();
    while heard.len() < MEMBERS * EACH {
        heard.extend(next(&mut member).await);
    }
    // The answers come on the same way.
    let receipts = loop {
        tokio::select! {
            receipts = &mut publishing => break receipts.unwrap(),
            event = next(&mut member) => assert_eq!(event, None, "more than was published"),
        }
    };
    Done { member, heard, receipts }
}

async fn publish(handle: Handle) -> Vec<Receipt> {
    let name = handle.saved().name;
    let mut sent = Vec::new();
    for i in 0..EACH {
        sent.push(handle.publish(format!("{name} says {i}")).await.unwrap());
    }
    let mut receipts = Vec::new();
    for sent in sent {
        receipts.push(sent.receipt().await.unwrap());
    }
    receipts
}

/// The next event, confirmed; `Some` when it is a message.
async fn next(member: &mut Member) -> Option<Heard> {
    match member.next().await.unwrap() {
        Event::Entry(entry) => {
            member.done(entry.header.seq);
            (entry.header.kind == Kind::Message).then(|| heard(&entry))
        }
        other => panic!("{other:?}"),
    }
}

fn heard(entry: &Entry) -> Heard {
    let text = String::from_utf8(entry.body().to_vec()).unwrap();
    Heard { seq: entry.header.seq, from: entry.name().to_owned(), text }
}

/// The messages that a process has printed.
fn heard_by(process: &Running) -> Vec<Heard> {
    let said = process.said();
    let objects = said.lines().map(object).filter(|object| object["type"] == "message");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    objects
        .map(|object| Heard {
            seq: object["seq"].as_u64().unwrap(),
            from: text(&object["from"]),
            text: text(&object["text"]),
        })
        .collect()
}

fn each_ones_own_are_in_order(order: &[Heard]) {
    for i in 0..MEMBERS {
        let name = format!("member-{i}");
        let own: Vec<&str> = order
            .iter()
            .filter(|heard| heard.from == name)
            .map(|heard| heard.text.as_str())
            .collect();
        let expected: Vec<String> = (0..EACH).map(|i| format!("{name} says {i}")).collect();
        assert_eq!(own, expected);
    }
}

/// One's own messages ask nobody to confirm them to oneself: those numbers arrive a little after the receipts.
fn everybodys_number_reaches_the_tail(node: &Node) {
    let groups = node.run(&["groups", "--json"]).expect(0).objects();
    let tail = &groups.iter().find(|group| group["group"] == "ops").unwrap()["seq"];
    let until = std::time::Instant::now() + WITHIN;
    loop {
        let members = node.run(&["members", "ops", "--json"]).expect(0).objects();
        assert_eq!(members.len(), MEMBERS + PROCESSES);
        if members.iter().all(|member| member["acked"] == *tail) {
            return;
        }
        assert!(std::time::Instant::now() < until, "not all have come to {tail}: {members:?}");
    }
}
