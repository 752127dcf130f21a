//! The core: a group with members that confirm every message, and a sender that wants its receipts.

use bytes::BytesMut;
use tertulia_group::entry::write_publish;
use tertulia_group::{
    Ack, Batch, ConnId, Door, From, Group, Input, Join, Limits, LogId, Name, Now, OpenSender,
    Output, Run, SecretDigest, SenderId,
};

use crate::{BATCHES, BODY, MEMBERS};

const SENDER: ConnId = ConnId(1_000_000);
const SENDER_NAME: &str = "sender";
const NOW: Now = Now { mono_ms: 1_000_000, wall_us: 1_700_000_000_000_000 };

/// So many batches of `messages` each, from their being published to their receipts.
pub fn run(messages: u64) {
    let mut group = joined();
    let (mut counter, mut given) = (0, 0);
    for _ in 0..BATCHES {
        let run = frames(counter + 1, messages);
        counter += messages;
        publish(&mut group, run);
        settle(&mut group);
        let batch = take(&mut group);
        stored(&mut group);
        let cursor = batch.first + u64::from(batch.count) - 1;
        ack(&mut group, cursor);
        settle(&mut group);
        for output in group.outputs() {
            given += match output {
                Output::Complete(SENDER, run) => u64::from(run.count),
                _ => 0,
            };
        }
    }
    assert_eq!(given, BATCHES * messages, "every message has its receipt");
}

#[inline(never)]
fn publish(group: &mut Group, run: Run) {
    group.handle(NOW, Input::Publish(SENDER, run));
}

#[inline(never)]
fn take(group: &mut Group) -> Batch {
    group.take_batch(NOW).expect("something was published")
}

#[inline(never)]
fn stored(group: &mut Group) {
    group.handle(NOW, Input::Stored);
}

#[inline(never)]
fn ack(group: &mut Group, cursor: u64) {
    for member in 1..=MEMBERS {
        let ack = Ack { cursor, open: Vec::new(), failed: Vec::new() };
        group.handle(NOW, Input::Ack(ConnId(member), ack));
    }
}

#[inline(never)]
fn settle(group: &mut Group) {
    group.settle(NOW);
}

/// Publish frames with the counters from `first` on.
fn frames(first: u64, messages: u64) -> Run {
    let mut bytes = BytesMut::new();
    for counter in first..first + messages {
        write_publish(&mut bytes, SENDER_NAME, counter, true, &BODY);
    }
    let run = Run::split(&mut bytes, 1 << 20).expect("well-formed frames");
    run.expect("at least one")
}

/// A group with everybody in it.
fn joined() -> Group {
    let mut group = Group::new(LogId([7; 16]), Limits::default());
    group.take_over(NOW, 1, "node");
    for member in 1..=MEMBERS {
        let id = member as u8;
        let join = Join {
            name: Name::new(&format!("member{member}")).expect("a name"),
            door: Door::Native,
            durable: false,
            sender: SenderId([id; 16]),
            shown: None,
            fresh: SecretDigest([id; 32]),
            from: From::Now,
            follow: false,
        };
        group.handle(NOW, Input::Join(ConnId(member), Box::new(join)));
    }
    let name = Name::new(SENDER_NAME).expect("a name");
    let open = OpenSender { name, id: SenderId([255; 16]), known: false, follow: false };
    group.handle(NOW, Input::OpenSender(SENDER, open));
    while group.take_batch(NOW).is_some() {
        group.handle(NOW, Input::Stored);
    }
    group.outputs().for_each(drop);
    assert_eq!(group.member_count() as u64, MEMBERS, "everybody is a member");
    group
}
