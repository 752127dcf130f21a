//! What hostile clients do, each kind as fast as one thread can.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use tertulia_group::SenderId;
use tertulia_wire::ClientFrame;
use tertulia_wire::native::{Ack, Hello, HistoryMode, Join, OpenSender, Secret, Start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

/// Each kind, and what stands in the table.
pub const KINDS: &[(&str, &str)] = &[
    ("nothing", "none (how far quiet rounds differ)"),
    ("noise", "binary noise, both doors (connections)"),
    ("lengths", "4 GB lengths, before HELLO and in a group (connections)"),
    ("lines", "endless lines (64 KiB pieces)"),
    ("halves", "600 half frames of 600 KB and silence (connections)"),
    ("silent", "10,000 silent connections"),
    ("flood", "a flood of connections, both doors"),
    ("future", "acknowledgements from the future (connections)"),
    ("back", "acknowledgements that go back (a thousand)"),
    ("secrets", "another's secret, names taken (hundreds of JOIN)"),
    ("names", "confusable, control, bidi names (hundreds of JOIN)"),
    ("unread", "200 readers that never read: log, history (connections)"),
    ("drip", "200 readers of a byte a second (connections)"),
    ("churn", "joins and leaves of the same group"),
    ("senders", "ever new sender ids in the same group"),
    ("window", "a publisher that ignores its window (MiB)"),
    ("history", "HISTORY of the last 10,000 of 1 MiB each"),
    ("questions", "GROUPS, STATUS, MEMBERS, unknown names; 2,000 groups (requests)"),
    ("verbs", "WHO, GROUPS, HISTORY, HELP, nonsense (lines)"),
];

/// Where the doors are, and how often it was done.
struct Doors {
    native: SocketAddr,
    line: SocketAddr,
    count: AtomicU64,
}

impl Doors {
    fn counted(&self, times: u64) {
        self.count.fetch_add(times, Ordering::Relaxed);
    }
}

/// Does it for so long, then says how often.
pub async fn run(kind: &str, native: SocketAddr, line: SocketAddr, length: Duration) {
    let doors = Rc::new(Doors { native, line, count: AtomicU64::new(0) });
    let local = LocalSet::new();
    for lane in 0..lanes(kind) {
        let (doors, kind) = (Rc::clone(&doors), kind.to_owned());
        local.spawn_local(async move {
            loop {
                // A connection that the node ends is what is to be expected.
                if once(&kind, lane, &doors).await.is_none() {
                    sleep(Duration::from_millis(1)).await;
                }
            }
        });
    }
    let _ = timeout(length, local).await;
    println!("{}", doors.count.load(Ordering::Relaxed));
    // Whoever measures looks at this process before it is gone.
    sleep(Duration::from_secs(60)).await;
}

fn lanes(kind: &str) -> u64 {
    match kind {
        "nothing" => 0,
        "silent" => 10_000,
        "halves" => 600,
        "unread" | "drip" => 200,
        "window" | "lines" => 8,
        _ => 32,
    }
}

async fn once(kind: &str, lane: u64, doors: &Doors) -> Option<()> {
    let mut out = BytesMut::new();
    match kind {
        "noise" => {
            let door = if lane.is_multiple_of(2) { doors.native } else { doors.line };
            let noise: Vec<u8> = (0..4096).map(|_| rand::random::<u8>() | 0x80).collect();
            out.extend_from_slice(&noise);
            out.extend_from_slice(b"\nEXIT\n");
            say_and_drain(doors, door, &out, 1).await
        }
        "lengths" => {
            if lane.is_multiple_of(2) {
                greet_and_join(&mut out, "other0");
            }
            out.extend_from_slice(&u32::MAX.to_le_bytes());
            out.extend_from_slice(&[0x20, 0, 0, 0]);
            say_and_drain(doors, doors.native, &out, 1).await
        }
        "lines" => {
            let mut stream = TcpStream::connect(doors.line).await.ok()?;
            loop {
                stream.write_all(&[b'x'; 64 << 10]).await.ok()?;
                doors.counted(1);
            }
        }
        "halves" => {
            greet_and_join(&mut out, "other0");
            out.extend_from_slice(&1_000_000_u32.to_le_bytes());
            out.extend_from_slice(&[0x20, 0, 0, 0]);
            out.resize(out.len() + 600_000, 0);
            say_and_drain(doors, doors.native, &out, 1).await
        }
        "silent" => say_and_drain(doors, doors.native, b"", 1).await,
        "flood" => {
            let door = if lane.is_multiple_of(2) { doors.native } else { doors.line };
            drop(TcpStream::connect(door).await.ok()?);
            doors.counted(1);
            Some(())
        }
        "future" => {
            greet_and_join(&mut out, "other0");
            ack(&mut out, u64::MAX);
            say_and_drain(doors, doors.native, &out, 1).await
        }
        "back" => {
            greet_and_join(&mut out, "other0");
            (0..1000).for_each(|_| ack(&mut out, 0));
            ClientFrame::Leave.encode(&mut out);
            say_and_drain(doors, doors.native, &out, 1).await
        }
        "secrets" | "names" => {
            greet(&mut out);
            let names: &[&str] = match kind {
                "secrets" => &["calm0", "calm1", "CALM2"],
                _ => &["с\u{430}lm0", "a\u{202e}b", "a\u{1b}[2J", "\u{200f}", "~calm0", "ⅽalm1"],
            };
            for n in 0..300 {
                let secret = Some(Secret([7; 32])).filter(|_| kind == "secrets");
                join(&mut out, names[n % names.len()], "ops", secret);
            }
            out.extend_from_slice(&[0; 8]);
            say_and_drain(doors, doors.native, &out, 300).await
        }
        "unread" | "drip" => slow(kind, doors).await,
        "churn" => {
            let name = format!("evil{}", rand::random::<u32>());
            let lines = format!("JOIN {name} ops\nEXIT\n");
            say_and_drain(doors, doors.line, lines.as_bytes(), 1).await
        }
        "senders" => {
            greet(&mut out);
            open_sender(&mut out, "ops");
            tertulia_wire::native::write_publish(&mut out, "evil", 1, true, b"x");
            say_until_stored(doors, &out).await
        }
        "window" => {
            greet(&mut out);
            open_sender(&mut out, "other0");
            for counter in 1..=20 {
                tertulia_wire::native::write_publish(
                    &mut out,
                    "evil",
                    counter,
                    true,
                    &[0; 1 << 20],
                );
            }
            out.extend_from_slice(&[0; 8]);
            say_and_drain(doors, doors.native, &out, 20).await
        }
        "history" => {
            greet(&mut out);
            history(&mut out, 10_000);
            out.extend_from_slice(&[0; 8]);
            say_and_drain(doors, doors.native, &out, 1).await
        }
        "questions" => {
            greet(&mut out);
            for n in 0..25 {
                let (group, after, limit) = ("ops".to_owned(), String::new(), 1000);
                let unknown = format!("othre{n}");
                ClientFrame::Locate { id: 1, group: unknown }.encode(&mut out);
                ClientFrame::Groups { id: 2, after: after.clone(), limit }.encode(&mut out);
                ClientFrame::Members { id: 3, group, after, limit }.encode(&mut out);
                ClientFrame::Status { id: 4 }.encode(&mut out);
            }
            out.extend_from_slice(&[0; 8]);
            say_and_drain(doors, doors.native, &out, 100).await
        }
        "verbs" => {
            let mut lines = format!("JOIN evil{} other0\n", rand::random::<u32>());
            lines.push_str(
                &"WHO\nGROUPS\nHISTORY 5\nHELP\nMSG \u{202e}\nDANCE\nACK 999999\n".repeat(20),
            );
            lines.push_str("EXIT\n");
            say_and_drain(doors, doors.line, lines.as_bytes(), 140).await
        }
        _ => std::future::pending().await,
    }
}

fn greet(out: &mut BytesMut) {
    ClientFrame::Hello(Hello { version: 1, features: 0, agent: "evil".to_owned() }).encode(out);
}

fn join(out: &mut BytesMut, name: &str, group: &str, secret: Option<Secret>) {
    let (name, group, sender) = (name.to_owned(), group.to_owned(), SenderId(rand::random()));
    let (durable, follow, start) = (false, false, Start::Now);
    let join = Join { id: 1, durable, follow, group, name, sender, start, secret, position: None };
    ClientFrame::Join(Box::new(join)).encode(out);
}

fn greet_and_join(out: &mut BytesMut, group: &str) {
    greet(out);
    join(out, &format!("evil{}", rand::random::<u32>()), group, None);
}

fn open_sender(out: &mut BytesMut, group: &str) {
    let (group, name, sender) = (group.to_owned(), "evil".to_owned(), SenderId(rand::random()));
    let open = OpenSender { id: 1, known: false, follow: false, group, name, sender };
    ClientFrame::OpenSender(open).encode(out);
}

fn ack(out: &mut BytesMut, cursor: u64) {
    ClientFrame::Ack(Ack { cursor, open: Vec::new(), failed: Vec::new() }).encode(out);
}

fn history(out: &mut BytesMut, limit: u32) {
    let (group, mode) = ("bulk".to_owned(), HistoryMode::Last);
    ClientFrame::History { id: 1, group, mode, limit }.encode(out);
}

/// Says it, and reads until the node ends the connection; that counts as so many.
async fn say_and_drain(doors: &Doors, door: SocketAddr, bytes: &[u8], times: u64) -> Option<()> {
    let (mut read, mut write) = TcpStream::connect(door).await.ok()?.into_split();
    let say = async {
        let _ = write.write_all(bytes).await;
    };
    let drain = async {
        let mut sink = vec![0; 64 << 10];
        while read.read(&mut sink).await.is_ok_and(|n| n > 0) {}
    };
    tokio::join!(say, drain);
    doors.counted(times);
    Some(())
}

/// Says it, and goes when something has been answered after the greeting and SENDER_READY.
async fn say_until_stored(doors: &Doors, bytes: &[u8]) -> Option<()> {
    let mut stream = TcpStream::connect(doors.native).await.ok()?;
    stream.write_all(bytes).await.ok()?;
    let (mut seen, mut sink) = (0, vec![0; 4096]);
    while seen < 150 {
        seen += stream.read(&mut sink).await.ok().filter(|n| *n > 0)?;
    }
    doors.counted(1);
    Some(())
}

/// A member of a busy group that asks for long answers, and reads nothing, or a byte a second.
async fn slow(kind: &str, doors: &Doors) -> Option<()> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.set_recv_buffer_size(4096).ok()?;
    let mut stream = socket.connect(doors.native).await.ok()?;
    let mut out = BytesMut::new();
    let name = format!("evil{}", rand::random::<u32>());
    // Some are members of the quiet ones' group, too.
    let group = if rand::random() { "other0" } else { "ops" };
    greet(&mut out);
    join(&mut out, &name, group, None);
    history(&mut out, 4);
    stream.write_all(&out).await.ok()?;
    doors.counted(1);
    let mut counter = 0;
    loop {
        sleep(Duration::from_secs(1)).await;
        if kind == "drip" {
            stream.read_u8().await.ok()?;
        }
        // Together they send some 6 MB a second to the other group.
        counter += u64::from(group != "ops");
        out.clear();
        if counter > 0 {
            tertulia_wire::native::write_publish(&mut out, &name, counter, false, &[0; 60_000]);
            stream.write_all(&out).await.ok()?;
        }
    }
}
