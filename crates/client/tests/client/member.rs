//! A member: what it is given, what it confirms, and how it comes back.

use tertulia_client::{Code, Error, Event, Member, MemberOptions, Place, Saved, Seq, Start};
use tertulia_group::entry::FLAG_AGAIN;
use tertulia_wire::native::{Ack, Failed, Join, Welcome};
use tertulia_wire::{ClientFrame, NodeFrame};

use crate::fake::{Fake, LOG, Peer, SECRET, Said, counters, message, soon, welcome};

/// A member of `ops` that is sent 11 and on.
async fn joined(fake: &Fake, options: MemberOptions) -> anyhow::Result<(Member, Peer, Join)> {
    let target = fake.target();
    let (member, peer) =
        tokio::join!(Member::join(&target, Place::Group("ops".into()), options), async {
            let (mut peer, join) = fake.joining().await?;
            peer.say(&NodeFrame::Welcome(Box::new(welcome(&join, 11, 10, &[])))).await?;
            anyhow::Ok((peer, join))
        });
    let (peer, join) = peer?;
    Ok((member?, peer, join))
}

async fn entry(member: &mut Member) -> anyhow::Result<Seq> {
    match soon(member.next()).await? {
        Some(Event::Entry(entry)) => Ok(entry.header.seq),
        other => anyhow::bail!("{other:?} instead of an entry"),
    }
}

async fn lost(member: &mut Member) -> anyhow::Result<()> {
    let event = soon(member.next()).await?;
    anyhow::ensure!(matches!(event, Some(Event::Lost { .. })), "{event:?}");
    Ok(())
}

fn plain(cursor: Seq) -> Ack {
    Ack { cursor, open: vec![], failed: vec![] }
}

#[tokio::test]
async fn acknowledgements_are_few_and_cumulative() -> anyhow::Result<()> {
    let fake = Fake::start().await?;
    let (mut member, mut peer, join) = joined(&fake, MemberOptions::new("ana")).await?;
    assert_eq!((join.position, join.start), (None, Start::Now));
    assert!(join.secret.is_some(), "its own, in case the first WELCOME is lost");
    peer.entries(11..111).await?;
    let began = std::time::Instant::now();
    for seq in 11..111 {
        assert_eq!(entry(&mut member).await?, seq);
        member.done(seq);
        // The task may say something after each.
        tokio::task::yield_now().await;
    }
    let (mut count, mut cursor) = (0, 0);
    while cursor < 110 {
        let ack = peer.ack().await?;
        assert!(ack.cursor > cursor && ack.open.is_empty() && ack.failed.is_empty());
        (cursor, count) = (ack.cursor, count + 1);
    }
    // One at the beginning and one at the end, and one each 10 ms between.
    let most = 3 + began.elapsed().as_millis() / 10;
    assert!(count <= most, "{count} acknowledgements, expected at most {most}");
    Ok(())
}

#[tokio::test]
async fn open_and_failed_ones_are_told() -> anyhow::Result<()> {
    let fake = Fake::start().await?;
    let (mut member, mut peer, _) = joined(&fake, MemberOptions::new("ana")).await?;
    peer.entries(11..14).await?;
    for seq in 11..14 {
        assert_eq!(entry(&mut member).await?, seq);
    }
    member.open(11);
    assert_eq!(peer.ack().await?, Ack { open: vec![11], ..plain(11) });
    member.fail(12, "exit 7");
    let failed = vec![Failed { seq: 12, code: "exit 7".into() }];
    assert_eq!(peer.ack().await?, Ack { open: vec![11], failed, ..plain(12) });
    member.done(13);
    assert_eq!(peer.ack().await?, Ack { open: vec![11], ..plain(13) });
    let saved = member.saved();
    assert_eq!((saved.cursor, &*saved.open, saved.secret), (13, &[11][..], SECRET));
    member.done(11);
    assert_eq!(peer.ack().await?, plain(13));
    Ok(())
}

#[tokio::test]
async fn coming_back_shows_the_secret_and_gives_nothing_twice() -> anyhow::Result<()> {
    let fake = Fake::start().await?;
    let (mut member, mut peer, first) = joined(&fake, MemberOptions::new("ana")).await?;
    peer.entries(11..15).await?;
    for seq in 11..15 {
        assert_eq!(entry(&mut member).await?, seq);
    }
    member.open(11);
    member.done(12);
    assert!(peer.ack().await?.cursor >= 11);
    drop(peer);
    lost(&mut member).await?;

    let (mut peer, join) = fake.joining().await?;
    assert_eq!((join.secret, join.sender), (Some(SECRET), first.sender));
    let position = join.position.ok_or_else(|| anyhow::anyhow!("no position"))?;
    assert_eq!((position.log, position.epoch, position.seq), (LOG, 1, 10));
    peer.say(&NodeFrame::Welcome(Box::new(welcome(&join, 12, 11, &[11])))).await?;
    peer.say(&NodeFrame::Entry(message(11, FLAG_AGAIN))).await?;
    peer.entries(12..17).await?;
    assert_eq!(soon(member.next()).await?, Some(Event::Back { resumed: true }));
    assert_eq!(entry(&mut member).await?, 15);
    assert_eq!(entry(&mut member).await?, 16);
    [13, 14, 15, 16, 11].into_iter().for_each(|seq| member.done(seq));
    loop {
        let ack = peer.ack().await?;
        if ack == plain(16) {
            return Ok(());
        }
        assert!(ack.cursor <= 16 && ack.open.iter().all(|seq| *seq == 11), "{ack:?}");
    }
}

#[tokio::test]
async fn a_program_that_begins_again_resumes_with_what_it_saved() -> anyhow::Result<()> {
    let fake = Fake::start().await?;
    let (mut member, mut peer, _) = joined(&fake, MemberOptions::new("ana")).await?;
    peer.entries(11..14).await?;
    for seq in 11..14 {
        assert_eq!(entry(&mut member).await?, seq);
    }
    member.open(11);
    member.done(12);
    let saved = Saved::from_bytes(&member.saved().to_bytes())?;
    drop((member, peer));

    let options = MemberOptions { saved: Some(saved), ..MemberOptions::new("ana") };
    let target = fake.target();
    let (member, peer) =
        tokio::join!(Member::join(&target, Place::Group("ops".into()), options), async {
            let (mut peer, join) = fake.joining().await?;
            assert_eq!(join.secret, Some(SECRET));
            assert_eq!(join.position.map(|position| position.seq), Some(10));
            peer.say(&NodeFrame::Welcome(Box::new(welcome(&join, 13, 12, &[11])))).await?;
            peer.say(&NodeFrame::Entry(message(11, FLAG_AGAIN))).await?;
            peer.entries(13..14).await?;
            anyhow::Ok(peer)
        });
    let (mut member, mut peer) = (member?, peer?);
    assert!(member.welcome().resumed);
    assert_eq!(entry(&mut member).await?, 11);
    assert_eq!(entry(&mut member).await?, 13);
    member.done(11);
    assert_eq!(peer.ack().await?, plain(12));
    member.done(13);
    assert_eq!(peer.ack().await?, plain(13));
    Ok(())
}

#[tokio::test]
async fn gaps_resets_and_kinds_of_newer_nodes_are_coped_with() -> anyhow::Result<()> {
    let fake = Fake::start().await?;
    let (mut member, mut peer, _) = joined(&fake, MemberOptions::new("ana")).await?;
    peer.say(&NodeFrame::Gap { first: 11, last: 20 }).await?;
    assert_eq!(soon(member.next()).await?, Some(Event::Gap { first: 11, last: 20 }));
    assert_eq!(peer.ack().await?, plain(20));
    let mut newer = message(21, 0).bytes().to_vec();
    newer[4] = 0xA9;
    peer.raw(&newer).await?;
    assert_eq!(peer.ack().await?, plain(21), "it counts as read");
    let mut epoch = message(22, 0).bytes().to_vec();
    epoch[4] = 0xA3;
    peer.raw(&epoch).await?;
    assert_eq!(peer.ack().await?, plain(22));
    peer.raw(&[8, 0, 0, 0, 0xEE, 0, 0, 0]).await?;
    drop(peer);
    lost(&mut member).await?;

    let (mut peer, join) = fake.joining().await?;
    let other = tertulia_client::LogId([8; 16]);
    let there = Welcome { log: other, ..welcome(&join, 5, 4, &[]) };
    peer.say(&NodeFrame::Welcome(Box::new(there))).await?;
    peer.say(&NodeFrame::Reset { log: other, epoch: 1, next: 5 }).await?;
    peer.entries(5..6).await?;
    assert_eq!(soon(member.next()).await?, Some(Event::Reset { next: 5 }));
    assert_eq!(soon(member.next()).await?, Some(Event::Back { resumed: true }));
    assert_eq!(entry(&mut member).await?, 5);
    Ok(())
}

#[tokio::test]
async fn a_membership_that_is_over_says_why() -> anyhow::Result<()> {
    for code in [Code::Removed, Code::Replaced] {
        let fake = Fake::start().await?;
        let (mut member, mut peer, _) = joined(&fake, MemberOptions::new("ana")).await?;
        peer.say(&NodeFrame::Close { code, message: "bye".into() }).await?;
        let left = Event::Left { code: Some(code), message: "bye".into() };
        assert_eq!(soon(member.next()).await?, Some(left));
        assert_eq!(soon(member.next()).await?, None);
        let ended = member.publish("late").await;
        assert!(matches!(ended, Err(Error::Refused { .. })), "{ended:?}");
    }
    Ok(())
}

#[tokio::test]
async fn busy_and_moved_are_tried_again_and_other_refusals_are_the_callers() -> anyhow::Result<()> {
    let fake = Fake::start().await?;
    let target = fake.target();
    let script = async {
        let (mut peer, join) = fake.joining().await?;
        let refuse = |id, code| NodeFrame::Error { id, code, message: "no".into() };
        peer.say(&refuse(join.id, Code::Busy)).await?;
        let Said::Frame(ClientFrame::Join(join)) = peer.hear().await? else {
            anyhow::bail!("no second JOIN")
        };
        peer.say(&refuse(join.id, Code::Moved)).await?;
        let (mut peer, join) = fake.joining().await?;
        peer.say(&refuse(join.id, Code::NameTaken)).await
    };
    let joining = Member::join(&target, Place::Group("ops".into()), MemberOptions::new("ana"));
    let (script, member) = tokio::join!(script, joining);
    script?;
    assert_eq!(member.err().and_then(|error| error.code()), Some(Code::NameTaken));
    Ok(())
}

#[tokio::test]
async fn leaving_confirms_and_stores_first() -> anyhow::Result<()> {
    let fake = Fake::start().await?;
    let (mut member, mut peer, _) = joined(&fake, MemberOptions::new("ana")).await?;
    let sent = member.publish("hola").await?;
    assert_eq!(counters(&peer.publishes(1).await?), [1]);
    let leaving = async {
        peer.entries(11..12).await?;
        assert_eq!(entry(&mut member).await?, 11);
        member.done(11);
        anyhow::Ok(member)
    };
    let member = leaving.await?;
    let script = async {
        assert_eq!(peer.ack().await?, plain(11));
        peer.stored(1, 11, 1).await?;
        loop {
            match peer.hear().await? {
                Said::Frame(ClientFrame::Leave) => break,
                Said::Frame(ClientFrame::Ack(_)) => {}
                _ => anyhow::bail!("no LEAVE"),
            }
        }
        drop(peer);
        anyhow::Ok(())
    };
    let (left, script) = tokio::join!(member.leave(), script);
    script?;
    assert_eq!(left, Ok(()));
    assert_eq!(soon(sent.stored()).await?, Ok(11));
    Ok(())
}

#[tokio::test]
async fn a_program_that_does_not_read_is_not_read_for() -> anyhow::Result<()> {
    let fake = Fake::start().await?;
    let (mut member, mut peer, _) = joined(&fake, MemberOptions::new("ana")).await?;
    // Far more than what the sockets and the library hold: writing it all has to wait for the program.
    let last = 11 + 400_000;
    let (tell, mut told) = tokio::sync::watch::channel(0);
    let writing = tokio::spawn(async move {
        for first in (11..last).step_by(1000) {
            peer.entries(first..first + 1000).await?;
            tell.send_replace(first);
        }
        anyhow::Ok(peer)
    });
    // Until nothing moves any more.
    let still = std::time::Duration::from_millis(200);
    while let Ok(Ok(())) = tokio::time::timeout(still, told.changed()).await {}
    assert!(!writing.is_finished(), "everything was read, with nobody to take it");
    for seq in 11..last {
        assert_eq!(entry(&mut member).await?, seq);
        member.done(seq);
    }
    soon(writing).await???;
    Ok(())
}
