//! A sender: what it sends again, what it does not, and what it says of the rest.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tertulia_client::{Code, ConnectError, Error, Once, Sender, SenderOptions, Sent, Target};
use tertulia_group::{CompleteRun, Missing, Receipt, Why};
use tertulia_wire::file::FileBody;
use tertulia_wire::native::{FEATURE_FILES, OpenSender};
use tertulia_wire::{ClientFrame, NodeFrame};

use crate::fake::{Fake, Peer, Said, counters, ready, soon};

const WINDOW: u32 = 1 << 20;

async fn open(fake: &Fake, window: u32) -> anyhow::Result<(Sender, Peer, OpenSender)> {
    let target = fake.target();
    let (sender, peer) = tokio::join!(
        Sender::open(&target, "ops", "ci", SenderOptions::default()),
        fake.sender(0, window),
    );
    let (peer, open) = peer?;
    Ok((sender?, peer, open))
}

async fn send(sender: &Sender, count: u64) -> anyhow::Result<Vec<Sent>> {
    let mut sent = Vec::new();
    for i in 1..=count {
        sent.push(soon(sender.send(format!("m{i}"))).await??);
    }
    Ok(sent)
}

fn complete(counter: u64, seq: u64, count: u32) -> NodeFrame {
    NodeFrame::Complete(vec![CompleteRun { counter, seq, count, members: 3, reached: 1, epoch: 1 }])
}

#[tokio::test]
async fn stored_and_complete_runs_reach_their_messages() -> anyhow::Result<()> {
    let fake = Fake::start().await?;
    let (sender, mut peer, first) = open(&fake, WINDOW).await?;
    assert!(!first.known, "a fresh id");
    assert_eq!(
        (sender.members(), sender.name(), &*sender.located().coordinator),
        (3, "ci", &*fake.address)
    );
    let sent = send(&sender, 3).await?;
    let published = peer.publishes(3).await?;
    assert_eq!(counters(&published), [1, 2, 3]);
    assert!(published.iter().all(|one| one.receipt));
    peer.stored(1, 11, 3).await?;
    peer.say(&complete(1, 11, 2)).await?;
    let missing = vec![Missing { name: "luis".into(), why: Why::Left }];
    let receipt = Receipt { seq: 13, epoch: 1, members: 3, confirmed: 2, reached: 0, missing };
    peer.say(&NodeFrame::Receipt { counter: 3, receipt: receipt.clone() }).await?;
    for (one, seq) in sent.iter().zip(11..) {
        assert_eq!(soon(one.stored()).await?, Ok(seq));
        let got = soon(one.receipt()).await??;
        assert_eq!(got.seq, seq);
        assert_eq!(got.confirmed, 2);
    }
    assert_eq!(soon(sent[2].receipt()).await?, Ok(receipt));
    let (closed, end) = tokio::join!(sender.close(), peer.hear());
    assert_eq!(closed, Ok(()));
    assert!(matches!(end?, Said::End));
    Ok(())
}

#[tokio::test]
async fn what_was_not_answered_is_sent_again_under_the_same_counters() -> anyhow::Result<()> {
    let fake = Fake::start().await?;
    let (sender, mut peer, first) = open(&fake, WINDOW).await?;
    let sent = send(&sender, 4).await?;
    peer.publishes(4).await?;
    peer.stored(1, 11, 2).await?;
    peer.say(&complete(1, 11, 1)).await?;
    assert_eq!(soon(sent[0].receipt()).await??.seq, 11);
    drop(peer);

    let (mut peer, again) = fake.sender(3, WINDOW).await?;
    assert!(again.known);
    assert_eq!(again.sender, first.sender);
    let published = peer.publishes(3).await?;
    assert_eq!(counters(&published), [2, 3, 4], "2 for its receipt only");
    assert!(published.iter().all(|one| one.receipt));
    assert_eq!(published[0].body, Bytes::new(), "it is stored: its number says it all");
    assert_eq!(published[1].body, "m3");
    peer.stored(2, 12, 3).await?;
    peer.say(&complete(2, 12, 3)).await?;
    for (one, seq) in sent.iter().zip(11..) {
        assert_eq!(soon(one.stored()).await?, Ok(seq));
        assert_eq!(soon(one.receipt()).await??.seq, seq);
    }
    Ok(())
}

#[tokio::test]
async fn a_forgotten_sender_leaves_the_outcome_unknown_and_begins_anew() -> anyhow::Result<()> {
    let fake = Fake::start().await?;
    let (sender, mut peer, first) = open(&fake, WINDOW).await?;
    let sent = send(&sender, 2).await?;
    peer.publishes(2).await?;
    peer.stored(1, 11, 1).await?;
    assert_eq!(soon(sent[0].stored()).await?, Ok(11));
    drop(peer);

    let (mut peer, again) = fake.opening().await?;
    assert!(again.known);
    let (id, code) = (again.id, Code::SenderExpired);
    peer.say(&NodeFrame::Error { id, code, message: "forgotten".into() }).await?;
    let Said::Frame(ClientFrame::OpenSender(fresh)) = peer.hear().await? else {
        anyhow::bail!("no second OPEN_SENDER")
    };
    assert!(!fresh.known && fresh.sender != first.sender);
    peer.say(&ready(&fresh, 0, WINDOW)).await?;
    assert_eq!(soon(sent[1].stored()).await?, Err(Error::Unknown));
    assert_eq!(sent[0].seq(), Some(11), "what was stored was stored");
    assert_eq!(soon(sent[0].receipt()).await?, Err(Error::Unknown));
    let _later = soon(sender.send("later")).await??;
    let published = peer.publishes(1).await?;
    assert_eq!((published[0].counter, &published[0].body[..]), (3, &b"later"[..]));
    Ok(())
}

#[tokio::test]
async fn a_stored_message_that_is_lost_is_not_stored_again() -> anyhow::Result<()> {
    let fake = Fake::start().await?;
    let (sender, mut peer, _) = open(&fake, WINDOW).await?;
    let sent = send(&sender, 2).await?;
    peer.publishes(2).await?;
    peer.stored(1, 11, 2).await?;
    assert_eq!(soon(sent[1].stored()).await?, Ok(12));
    drop(peer);
    let (mut peer, _) = fake.sender(1, WINDOW).await?;
    assert_eq!(counters(&peer.publishes(1).await?), [1]);
    assert_eq!(soon(sent[1].receipt()).await?, Err(Error::Unknown));
    let _later = soon(sender.send("later")).await??;
    assert_eq!(counters(&peer.publishes(1).await?), [3]);
    Ok(())
}

/// That is not unknown: it is there, and can be asked for by whoever may.
#[tokio::test]
async fn a_stored_message_whose_sender_is_ended_says_why_no_receipt_comes() -> anyhow::Result<()> {
    let fake = Fake::start().await?;
    let (sender, mut peer, _) = open(&fake, WINDOW).await?;
    let sent = send(&sender, 2).await?;
    peer.publishes(2).await?;
    peer.stored(1, 11, 1).await?;
    let code = Code::NotLoggedIn;
    peer.say(&NodeFrame::Close { code, message: "logged out".into() }).await?;
    let ended = Err(Error::Refused { code, message: "logged out".into() });
    assert_eq!(soon(sent[0].receipt()).await?, ended);
    assert_eq!(sent[0].seq(), Some(11));
    assert_eq!(soon(sent[1].stored()).await?, Err(Error::Unknown), "this one may be stored");
    Ok(())
}

#[tokio::test]
async fn busy_is_sent_again_in_order() -> anyhow::Result<()> {
    let fake = Fake::start().await?;
    let (sender, mut peer, _) = open(&fake, WINDOW).await?;
    let sent = send(&sender, 4).await?;
    peer.publishes(4).await?;
    peer.stored(1, 11, 1).await?;
    peer.refuse(2, Code::Busy).await?;
    peer.refuse(3, Code::AfterRefused).await?;
    peer.refuse(4, Code::AfterRefused).await?;
    assert_eq!(counters(&peer.publishes(3).await?), [2, 3, 4]);
    peer.refuse(2, Code::Busy).await?;
    assert_eq!(counters(&peer.publishes(3).await?), [2, 3, 4]);
    // Refusals of the second round that come late change nothing.
    peer.refuse(3, Code::AfterRefused).await?;
    peer.refuse(4, Code::AfterRefused).await?;
    peer.stored(2, 12, 3).await?;
    for (one, seq) in sent.iter().zip(11..) {
        assert_eq!(soon(one.stored()).await?, Ok(seq));
    }
    Ok(())
}

#[tokio::test]
async fn a_definite_refusal_fails_one_and_the_later_ones_are_sent_again() -> anyhow::Result<()> {
    let fake = Fake::start().await?;
    let (sender, mut peer, first) = open(&fake, WINDOW).await?;
    let sent = send(&sender, 3).await?;
    peer.publishes(3).await?;
    peer.refuse(1, Code::NoSpace).await?;
    peer.refuse(2, Code::AfterRefused).await?;
    let refused = soon(sent[0].stored()).await?;
    assert_eq!(refused.map_err(|error| error.code()), Err(Some(Code::NoSpace)));
    let (mut peer, again) = fake.sender(0, WINDOW).await?;
    assert!(again.known && again.sender == first.sender);
    assert_eq!(counters(&peer.publishes(2).await?), [2, 3]);
    peer.stored(2, 11, 2).await?;
    assert_eq!(soon(sent[2].stored()).await?, Ok(12));
    Ok(())
}

#[tokio::test]
async fn a_skipped_counter_blocks_nothing() -> anyhow::Result<()> {
    let fake = Fake::start().await?;
    let (sender, mut peer, _) = open(&fake, WINDOW).await?;
    let sent = send(&sender, 2).await?;
    peer.publishes(2).await?;
    peer.refuse(1, Code::from_u16(31)).await?;
    peer.stored(2, 11, 1).await?;
    assert!(matches!(soon(sent[0].stored()).await?, Err(Error::Refused { .. })));
    assert_eq!(soon(sent[1].stored()).await?, Ok(11));
    Ok(())
}

#[tokio::test]
async fn no_more_is_under_way_than_the_window_allows() -> anyhow::Result<()> {
    let fake = Fake::start().await?;
    // Two frames of 48 bytes, the name and ten bytes of body fit.
    let frame = 48 + 2 + 10;
    let (sender, mut peer, _) = open(&fake, 2 * frame + 5).await?;
    let mut sent = Vec::new();
    for _ in 0..6 {
        sent.push(sender.send("0123456789").await?);
    }
    for (first, count) in [(1, 2), (3, 2), (5, 2)] {
        assert_eq!(counters(&peer.publishes(count).await?), [first, first + 1]);
        // A question that is asked now overtakes what waits for the window.
        let (now, heard) = tokio::join!(sender.ask_receipt(1, Duration::ZERO), async {
            let Said::Frame(ClientFrame::Receipt { id, .. }) = peer.hear().await? else {
                anyhow::bail!("more than the window")
            };
            peer.say(&NodeFrame::Error { id, code: Code::Expired, message: "no".into() }).await
        });
        heard?;
        assert!(now.is_err());
        peer.stored(first, 10 + first, 2).await?;
    }
    assert_eq!(soon(sent[5].stored()).await?, Ok(16));
    Ok(())
}

#[tokio::test]
async fn sending_waits_while_nothing_is_stored() -> anyhow::Result<()> {
    let fake = Fake::start().await?;
    let (sender, mut peer, _) = open(&fake, 200).await?;
    let (tell, mut told) = tokio::sync::watch::channel(0);
    let sending = tokio::spawn(async move {
        for i in 0..2000 {
            sender.send("0123456789").await?;
            tell.send_replace(i);
        }
        sender.close().await
    });
    let still = Duration::from_millis(100);
    while let Ok(Ok(())) = tokio::time::timeout(still, told.changed()).await {}
    assert!(*told.borrow() < 1000, "everything was taken in, with nothing stored");
    let mut next = 1;
    while next <= 2000 {
        let Said::Published(some) = peer.hear().await? else { anyhow::bail!("no message") };
        peer.stored(next, 10 + next, some.len() as u32).await?;
        next += some.len() as u64;
    }
    assert_eq!(soon(sending).await??, Ok(()));
    Ok(())
}

#[tokio::test]
async fn a_message_that_is_too_long_is_not_sent() -> anyhow::Result<()> {
    let fake = Fake::start().await?;
    let (sender, mut peer, _) = open(&fake, WINDOW).await?;
    let long = vec![0; crate::fake::BODY_MAX as usize + 1];
    assert!(matches!(sender.send(long).await, Err(Error::TooLong { max, .. }) if max == 1 << 16));
    let _sent = sender.send("short").await?;
    assert_eq!(counters(&peer.publishes(1).await?), [1]);
    Ok(())
}

#[tokio::test]
async fn a_receipt_can_be_asked_for_on_the_same_connection() -> anyhow::Result<()> {
    let fake = Fake::start().await?;
    let (sender, mut peer, _) = open(&fake, WINDOW).await?;
    let missing = vec![Missing { name: "luis".into(), why: Why::Away { ms: 12_000 } }];
    let receipt = Receipt { seq: 7, epoch: 1, members: 1, confirmed: 0, reached: 0, missing };
    let script = async {
        let Said::Frame(ClientFrame::Receipt { id, seq: 7, .. }) = peer.hear().await? else {
            anyhow::bail!("no GET_RECEIPT")
        };
        let level = tertulia_client::Level::Fsync;
        peer.say(&NodeFrame::ReceiptReply { id, level, receipt: receipt.clone() }).await?;
        let Said::Frame(ClientFrame::Receipt { id, .. }) = peer.hear().await? else {
            anyhow::bail!("no second GET_RECEIPT")
        };
        let code = Code::Expired;
        peer.say(&NodeFrame::Error { id, code, message: "gone".into() }).await
    };
    let asking = async {
        let now = sender.ask_receipt(7, Duration::ZERO).await?;
        assert_eq!(now.receipt, receipt);
        let gone = sender.ask_receipt(8, Duration::ZERO).await;
        assert_eq!(gone.map_err(|error| error.code()), Err(Some(Code::Expired)));
        anyhow::Ok(())
    };
    let (script, asking) = tokio::join!(script, asking);
    script?;
    asking
}

#[tokio::test]
async fn a_silent_node_is_asked_and_then_given_up() -> anyhow::Result<()> {
    let fake = Fake::start().await?;
    let target = fake.target().silence(Duration::from_millis(300));
    let (sender, peer) = tokio::join!(
        Sender::open(&target, "ops", "ci", SenderOptions::default()),
        fake.sender(0, WINDOW),
    );
    let (_sender, (mut peer, _)) = (sender?, peer?);
    assert!(matches!(peer.hear().await?, Said::Frame(ClientFrame::Ping { .. })));
    assert!(matches!(peer.hear().await?, Said::End));
    fake.sender(0, WINDOW).await?;
    Ok(())
}

#[tokio::test]
async fn a_node_that_does_not_know_files_is_told_none() -> anyhow::Result<()> {
    let fake = Fake::start().await?;
    let options = || SenderOptions { files: true, ..SenderOptions::default() };
    let target = fake.target();
    let silent = async {
        let mut peer = fake.accept().await?;
        peer.located().await?;
        Ok::<_, anyhow::Error>(matches!(peer.hear().await?, Said::End))
    };
    let (sender, silent) = tokio::join!(Sender::open(&target, "ops", "ci", options()), silent);
    assert!(matches!(sender, Err(Error::NoFiles { .. })), "{sender:?}");
    assert!(silent?, "it was told something");
    // One that knows them, and an older one that takes its place before the file is stored.
    fake.features.store(FEATURE_FILES, Ordering::Relaxed);
    let opening = Sender::open(&target, "ops", "ci", options());
    let (sender, peer) = tokio::join!(opening, fake.sender(0, WINDOW));
    let (sender, (mut peer, _)) = (sender?, peer?);
    let file = FileBody { size: 1, hash: [1; 32], name: "a".into() };
    let sent = soon(sender.tell_file(&file)).await??;
    assert_eq!(counters(&peer.publishes(1).await?), [1]);
    fake.features.store(0, Ordering::Relaxed);
    drop(peer);
    let mut peer = fake.accept().await?;
    peer.located().await?;
    assert!(matches!(peer.hear().await?, Said::End), "it was told something");
    assert!(soon(sent.stored()).await?.is_err());
    assert!(matches!(soon(sender.tell_file(&file)).await?, Err(Error::NoFiles { .. })));
    // Who has not said so beforehand tells none.
    let (plain, _peer, _) = open(&fake, WINDOW).await?;
    assert!(matches!(plain.tell_file(&file).await, Err(Error::NoFiles { .. })));
    Ok(())
}

async fn once(fake: &Fake, key: &str, body: &str) -> Result<Sender, Error> {
    let once = Some(Once::new(key, body.as_bytes()));
    let options = SenderOptions { once, ..SenderOptions::default() };
    Sender::open(&fake.target(), "ops", "ci", options).await
}

#[tokio::test]
async fn a_message_with_a_key_is_the_same_one_whoever_sends_it_again() -> anyhow::Result<()> {
    let fake = Fake::start().await?;
    let (sender, opened) = tokio::join!(once(&fake, "deploy-17", "hola"), fake.sender(0, WINDOW));
    let (sender, (mut peer, first)) = (sender?, opened?);
    let _sent = soon(sender.send("hola")).await??;
    let published = peer.publishes(1).await?;
    drop((sender, peer));

    // Another program: the node has taken the first try, which it cannot know.
    let taken = published[0].counter;
    let (sender, opened) =
        tokio::join!(once(&fake, "deploy-17", "hola"), fake.sender(taken, WINDOW));
    let (sender, (mut peer, again)) = (sender?, opened?);
    assert_eq!((again.sender, again.known), (first.sender, false));
    let sent = soon(sender.send("hola")).await??;
    assert_eq!(peer.publishes(1).await?, published);
    peer.stored(taken, 11, 1).await?;
    assert_eq!(soon(sent.stored()).await?, Ok(11));
    assert_eq!(soon(sender.send("hola")).await?.err(), Some(Error::KeyReused), "one message");

    // Another text is refused before it is sent, another key is another message.
    let (refused, opened) =
        tokio::join!(once(&fake, "deploy-17", "adiós"), fake.sender(taken, WINDOW));
    assert_eq!(refused.err(), Some(Error::KeyReused));
    assert!(matches!(opened?.0.hear().await?, Said::End));
    let (other, opened) = tokio::join!(once(&fake, "deploy-18", "hola"), fake.sender(0, WINDOW));
    assert_ne!(opened?.1.sender, first.sender);
    assert_eq!(soon(other?.send("adiós")).await?.err(), Some(Error::KeyReused), "not its text");
    Ok(())
}

/// Both were opened before either was taken; the other one has the higher counter.
#[tokio::test]
async fn another_text_under_the_key_at_the_same_moment_is_no_refusal_of_the_nodes()
-> anyhow::Result<()> {
    let fake = Fake::start().await?;
    let (sender, opened) = tokio::join!(once(&fake, "deploy-17", "hola"), fake.sender(0, WINDOW));
    let (sender, (mut peer, _)) = (sender?, opened?);
    let sent = soon(sender.send("hola")).await??;
    let counter = peer.publishes(1).await?[0].counter;
    peer.refuse(counter, Code::CounterSkipped).await?;
    assert_eq!(soon(sent.stored()).await?, Err(Error::KeyReused));
    Ok(())
}

/// The first try is taken late: between the connection that was lost before anything was written, and the next.
#[tokio::test]
async fn a_message_with_a_key_keeps_its_counter_on_every_connection() -> anyhow::Result<()> {
    let fake = Fake::start().await?;
    let (sender, opened) = tokio::join!(once(&fake, "deploy-17", "hola"), fake.sender(0, WINDOW));
    let (sender, (peer, _)) = (sender?, opened?);
    drop(peer);
    let counter = {
        let (mut peer, _) = fake.sender(0, WINDOW).await?;
        let _sent = soon(sender.send("hola")).await??;
        peer.publishes(1).await?[0].counter
    };
    let (mut peer, again) = fake.sender(counter, WINDOW).await?;
    assert!(again.known);
    assert_eq!(counters(&peer.publishes(1).await?), [counter]);
    Ok(())
}

/// Whichever step hangs: connecting does not end earlier than what it is given, nor do questions.
#[tokio::test]
async fn opening_takes_all_the_time_that_it_is_given() -> anyhow::Result<()> {
    let within = Duration::from_millis(600);
    let options = || SenderOptions { within: Some(within), ..SenderOptions::default() };
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let target = Target::new(silent.local_addr()?.to_string());
    let target = target.connect_timeout(Duration::from_millis(50));
    let began = std::time::Instant::now();
    let refused = soon(Sender::open(&target, "ops", "ci", options())).await?.err();
    assert!(matches!(refused, Some(Error::Connect(ConnectError::Silent { .. }))), "{refused:?}");
    assert!(began.elapsed() >= within, "{:?}", began.elapsed());
    Ok(())
}
