//! Three members and a sender that mind their own business, and how long their messages take.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use tertulia_group::SenderId;
use tertulia_wire::native::split_from_node;
use tertulia_wire::{ClientFrame, NodeFrame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, interval};

use crate::table::Round;

#[path = "../../tests/doors/support.rs"]
#[allow(dead_code, reason = "it is the tests' and has more than is needed here")]
pub mod support;

use support::NativeClient;

/// Messages of the quiet ones begin so; nobody else's do.
const MARK: [u8; 8] = *b"quiet...";
const EVERY: Duration = Duration::from_millis(5);
const MEMBERS: u32 = 3;

/// What has become of a message: it was sent, stored, came to one of the members.
enum Told {
    Sent(u64, Instant),
    Arrived(u64, Instant),
}

/// See the module.
pub struct Crowd {
    rounds: mpsc::Sender<(Duration, oneshot::Sender<()>)>,
    told: mpsc::UnboundedReceiver<Told>,
    other: NativeClient,
}

impl Crowd {
    pub async fn start(address: SocketAddr) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        for n in 0..MEMBERS {
            let (member, _) = NativeClient::member(address, &format!("calm{n}"), "ops").await;
            tokio::spawn(take_part(member, tell.clone()));
        }
        let id = SenderId(rand::random());
        let (sender, _) = NativeClient::sender(address, "marta", "ops", id, false).await;
        let (rounds, wanted) = mpsc::channel(1);
        tokio::spawn(send(sender, wanted, tell));
        Self { rounds, told, other: NativeClient::connect(address).await }
    }

    /// What some kinds need: many groups, or a group with long messages.
    pub async fn prepare(&mut self, kind: &str) {
        let groups: usize = if kind == "questions" { 2_000 } else { 1 };
        for n in 0..groups {
            self.create(&format!("other{n}")).await;
        }
        self.create("bulk").await;
        let address = self.other.stream.peer_addr().expect("connected");
        let id = SenderId(rand::random());
        let (mut sender, _) = NativeClient::sender(address, "bulky", "bulk", id, false).await;
        for counter in 1..=100 {
            sender.publish("bulky", counter, &vec![b'x'; 1 << 20]).await;
            while !matches!(sender.frame().await, NodeFrame::Stored(_)) {}
        }
    }

    async fn create(&mut self, group: &str) {
        self.other.send(&ClientFrame::Create { id: 1, group: group.to_owned(), rules: None }).await;
        assert_eq!(self.other.frame().await, NodeFrame::Done { id: 1 });
    }

    /// Sends for so long; the times of all messages that were sent, sorted.
    pub async fn round(&mut self, length: Duration) -> Round {
        let (done, mut is_done) = oneshot::channel();
        self.rounds.send((length, done)).await.expect("the sender is there");
        let mut open: HashMap<u64, (Instant, u32)> = HashMap::new();
        let (mut round, mut sending) = (Vec::new(), true);
        while sending || !open.is_empty() {
            let told = tokio::select! {
                biased;
                told = self.told.recv() => told.expect("the members are there"),
                _ = &mut is_done, if sending => {
                    sending = false;
                    continue;
                }
                () = tokio::time::sleep(support::PATIENCE) => panic!("{} messages are missing", open.len()),
            };
            match told {
                Told::Sent(number, at) => {
                    open.entry(number).or_insert((at, 0));
                }
                Told::Arrived(number, at) => {
                    let Some((sent, count)) = open.get_mut(&number) else { continue };
                    *count += 1;
                    // Stored, and with each member.
                    if *count == MEMBERS + 1 {
                        round.push(at.duration_since(*sent));
                        open.remove(&number);
                    }
                }
            }
        }
        round.sort_unstable();
        round
    }

    /// Goes on, not measured, until the hostile connections have ended.
    pub async fn until_alone(&mut self) {
        let until = Instant::now() + Duration::from_secs(120);
        loop {
            self.other.send(&ClientFrame::Status { id: 9 }).await;
            if let NodeFrame::StatusReply(status) = self.other.frame().await
                && status.connections <= MEMBERS + 4
            {
                return;
            }
            assert!(Instant::now() < until, "hostile connections do not end");
            self.round(Duration::from_millis(100)).await;
        }
    }
}

fn number_of(body: &[u8]) -> Option<u64> {
    let (mark, rest) = body.split_first_chunk::<8>()?;
    let number = rest.first_chunk::<8>()?;
    (*mark == MARK).then(|| u64::from_le_bytes(*number))
}

async fn take_part(mut member: NativeClient, tell: mpsc::UnboundedSender<Told>) {
    while let Some(frame) = member.frame_or_end().await {
        let NodeFrame::Entry(entry) = frame else { continue };
        if let Some(number) = number_of(&entry.body()) {
            let _ = tell.send(Told::Arrived(number, Instant::now()));
        }
        member.ack(entry.header.seq).await;
    }
}

/// Sends at fixed times, whatever has become of the earlier ones.
async fn send(
    sender: NativeClient,
    mut wanted: mpsc::Receiver<(Duration, oneshot::Sender<()>)>,
    tell: mpsc::UnboundedSender<Told>,
) {
    let (reading, mut writing) = sender.stream.into_split();
    tokio::spawn(hear(reading, tell.clone()));
    let mut counter = 0;
    while let Some((length, done)) = wanted.recv().await {
        let mut ticks = interval(EVERY);
        let until = Instant::now() + length;
        loop {
            if ticks.tick().await >= until {
                break;
            }
            counter += 1;
            let mut body = MARK.to_vec();
            body.extend_from_slice(&u64::to_le_bytes(counter));
            body.resize(100, b'.');
            let mut out = BytesMut::new();
            tertulia_wire::native::write_publish(&mut out, "marta", counter, true, &body);
            let _ = tell.send(Told::Sent(counter, Instant::now()));
            writing.write_all(&out).await.expect("the sender's connection stays");
        }
        let _ = done.send(());
    }
}

/// What the sender is told.
async fn hear(mut half: OwnedReadHalf, tell: mpsc::UnboundedSender<Told>) {
    let mut inbound = BytesMut::new();
    while half.read_buf(&mut inbound).await.is_ok_and(|n| n > 0) {
        while let Some(frame) = split_from_node(&mut inbound, 1 << 20).expect("frames") {
            let NodeFrame::Stored(runs) = NodeFrame::decode(frame).expect("a frame") else {
                continue;
            };
            for counter in
                runs.iter().flat_map(|run| run.counter..run.counter + u64::from(run.count))
            {
                let _ = tell.send(Told::Arrived(counter, Instant::now()));
            }
        }
    }
}
