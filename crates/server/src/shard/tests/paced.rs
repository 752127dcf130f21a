//! Who costs others something for nothing waits, and nobody else does.

use std::net::IpAddr;

use tertulia_wire::native::write_publish;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpSocket;

use super::*;
use crate::pace::Pace;

/// What it takes to hear of `count` refusals at least, and a little more.
fn paced(count: u32) -> std::ops::Range<Duration> {
    let Pace { burst, per_s } = NodeLimits::default().refusals;
    let takes = Duration::from_secs(1) / per_s * count.saturating_sub(burst + 1);
    takes..takes + Duration::from_secs(2)
}

/// Somebody else asks all the time, and is answered at once.
async fn is_heard_at_once(address: SocketAddr) {
    let mut stream = BufReader::new(TcpStream::connect(address).await.expect("connects"));
    let mut line = String::new();
    for _ in 0..100 {
        let asked = Instant::now();
        stream.get_mut().write_all(b"PING\n").await.expect("writes");
        line.clear();
        stream.read_line(&mut line).await.expect("reads");
        assert_eq!((line.as_str(), asked.elapsed()), ("OK PING\n", Duration::ZERO));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Says `first`, where there is something to say, and reads the answer: what is stored is stored by another thread, during which
/// the test's clock runs on as it likes.
async fn begin(address: SocketAddr, first: &str) -> BufReader<TcpStream> {
    let mut stream = BufReader::new(TcpStream::connect(address).await.expect("connects"));
    stream.get_mut().write_all(first.as_bytes()).await.expect("writes");
    if !first.is_empty() {
        let mut line = String::new();
        stream.read_line(&mut line).await.expect("reads");
        assert!(line.starts_with("OK JOIN ana lobby"), "{line}");
    }
    stream
}

#[tokio::test(start_paused = true)]
async fn whose_lines_are_refused_is_read_more_slowly() {
    for first in ["", "JOIN ana\n"] {
        let work = async |address| {
            let mut stream = begin(address, first).await;
            let began = Instant::now();
            let refused = async {
                stream.get_mut().write_all("DANCE\n".repeat(200).as_bytes()).await.expect("writes");
                for _ in 0..200 {
                    let mut line = String::new();
                    stream.read_line(&mut line).await.expect("reads");
                    assert!(line.starts_with("ERR BAD_COMMAND"), "{line}");
                }
                began.elapsed()
            };
            tokio::join!(refused, is_heard_at_once(address)).0
        };
        let took = with_node(NodeLimits::default(), Door::Line, work).await;
        assert!(paced(200).contains(&took), "{took:?} after {first:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_without_end_is_read_more_slowly() {
    let piece = vec![b'x'; 64 << 10];
    for first in ["", "JOIN ana\n"] {
        let work = async |address| {
            let mut stream = begin(address, first).await;
            let began = Instant::now();
            for _ in 0..400 {
                stream.get_mut().write_all(&piece).await.expect("writes");
            }
            began.elapsed()
        };
        let took = with_node(NodeLimits::default(), Door::Line, work).await;
        // Some of it is in the hosts' buffers at the end.
        assert!(took > Duration::from_secs(2), "{took:?} after {first:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn whose_requests_are_refused_is_read_more_slowly() {
    let work = async |address| {
        let mut client = Client::connect(address).await;
        client.greet().await;
        let began = Instant::now();
        for id in 1..=200 {
            client.send(&ClientFrame::Locate { id, group: "nowhere".to_owned() }).await;
        }
        for _ in 0..200 {
            assert!(matches!(client.frame().await, Some(NodeFrame::Error { .. })));
        }
        began.elapsed()
    };
    let took = with_node(NodeLimits::default(), Door::Native, work).await;
    assert!(paced(200).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn what_comes_with_refused_messages_counts() {
    let publish = |name: &str, body: usize, count: u64| {
        let mut out = BytesMut::new();
        for counter in 1..=count {
            write_publish(&mut out, name, counter, false, &vec![b'x'; body]);
        }
        out
    };
    // A window of small ones that are refused together is one mistake, and no reason to wait.
    for (body, count, least) in
        [(10, 10_000, Duration::ZERO), (1 << 20, 20, Duration::from_secs(3))]
    {
        let work = async |address| {
            let mut ana = Client::member(address).await;
            let began = Instant::now();
            let (mut read, mut write) = ana.stream.split();
            let out = publish("eve", body, count);
            let refusals = async {
                let mut seen = 0;
                while seen < count {
                    assert!(read.read_buf(&mut ana.inbound).await.expect("reads") > 0);
                    while let Some(frame) = split_from_node(&mut ana.inbound, 1 << 20).unwrap() {
                        let frame = NodeFrame::decode(frame).expect("a frame");
                        seen += u64::from(matches!(frame, NodeFrame::Refused { .. }));
                    }
                }
            };
            let (written, ()) = tokio::join!(write.write_all(&out), refusals);
            written.expect("writes");
            began.elapsed()
        };
        let took = with_node(NodeLimits::default(), Door::Native, work).await;
        let most = least + Duration::from_secs(3);
        assert!(took >= least && took < most, "{count} of {body} bytes: {took:?}");
    }
}

/// How long a connection from `host` waits for its first answer.
async fn greeted_after(address: SocketAddr, host: [u8; 4]) -> Duration {
    let began = Instant::now();
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((IpAddr::from(host), 0).into()).expect("all of 127/8 is this machine");
    let stream = socket.connect(address).await.expect("connects");
    let mut client = Client { stream, inbound: BytesMut::new() };
    client.greet().await;
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn whose_connections_end_badly_waits_and_nobody_else() {
    let limits = NodeLimits {
        bad_ends: Pace { burst: 3, per_s: 1 },
        bad_ends_wait_max: Duration::from_secs(2),
        ..NodeLimits::default()
    };
    let bad: [&[u8]; 3] = [b"", &[0; 8], &[0xff; 64]];
    with_node(limits.clone(), Door::Native, async |address| {
        for count in 0..10 {
            let mut stream = TcpStream::connect(address).await.expect("connects");
            stream.write_all(bad[count % 3]).await.expect("writes");
            stream.shutdown().await.expect("ends");
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        let waited = greeted_after(address, [127, 0, 0, 1]).await;
        assert!(waited >= Duration::from_millis(900), "{waited:?}");
        assert!(waited <= limits.bad_ends_wait_max, "{waited:?}");
        assert_eq!(greeted_after(address, [127, 0, 0, 2]).await, Duration::ZERO);
    })
    .await;
    // Connections that end well owe nothing.
    with_node(limits, Door::Native, async |address| {
        for _ in 0..10 {
            assert_eq!(greeted_after(address, [127, 0, 0, 1]).await, Duration::ZERO);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_door_takes_so_many_connections_a_second() {
    let limits = NodeLimits { accepts: Pace { burst: 5, per_s: 10 }, ..NodeLimits::default() };
    let took = with_node(limits, Door::Native, async |address| {
        let began = Instant::now();
        for _ in 0..20 {
            greeted_after(address, [127, 0, 0, 1]).await;
        }
        began.elapsed()
    })
    .await;
    assert!(took >= Duration::from_millis(1400) && took < Duration::from_secs(3), "{took:?}");
}

/// So little that each request owes a wait: a microsecond of work is a tenth of a second.
fn little_work() -> NodeLimits {
    NodeLimits { request_work: Pace { burst: 1, per_s: 10 }, ..NodeLimits::default() }
}

/// How long somebody at `host` waits for the answers to so many requests.
async fn answered_after(address: SocketAddr, host: [u8; 4], count: u32) -> Duration {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((IpAddr::from(host), 0).into()).expect("all of 127/8 is this machine");
    let stream = socket.connect(address).await.expect("connects");
    let mut client = Client { stream, inbound: BytesMut::new() };
    client.greet().await;
    let began = Instant::now();
    for id in 1..=count {
        let ask = ClientFrame::Groups { id, after: String::new(), limit: 10 };
        client.send(&ask).await;
        assert!(matches!(client.frame().await, Some(NodeFrame::GroupsPage { .. })));
    }
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn whose_requests_cost_much_is_answered_more_slowly_and_nobody_else() {
    let work = async |address| {
        let dear = answered_after(address, [127, 0, 0, 1], 5).await;
        // Another connection of the same address gains nothing.
        let again = answered_after(address, [127, 0, 0, 1], 1).await;
        (dear, again, answered_after(address, [127, 0, 0, 2], 1).await)
    };
    let (dear, again, other) = with_node(little_work(), Door::Native, work).await;
    assert!(dear >= Duration::from_millis(400), "{dear:?}");
    assert!(again >= Duration::from_millis(50), "{again:?}");
    assert_eq!(other, Duration::ZERO);
    let (dear, again, _) = with_node(NodeLimits::default(), Door::Native, work).await;
    assert_eq!((dear, again), (Duration::ZERO, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_line_member_who_asks_much_is_told_and_still_heard() {
    with_node(little_work(), Door::Line, async |address| {
        let mut stream = begin(address, "JOIN ana\n").await;
        stream.get_mut().write_all(b"WHO\nWHO\nMSG still here\n").await.expect("writes");
        let mut lines = Vec::new();
        while !lines.iter().any(|line: &String| line.starts_with("OK MSG")) {
            let mut line = String::new();
            assert!(stream.read_line(&mut line).await.expect("reads") > 0, "{lines:?}");
            lines.push(line);
        }
        let said = |start| lines.iter().filter(|line| line.starts_with(start)).count();
        assert_eq!((said("OK WHO"), said("ERR BUSY")), (1, 1), "{lines:?}");
    })
    .await;
}
