//! What a connection that fails says, and how questions are asked.

use std::time::Duration;

use tertulia_client::{
    Code, ConnectError, Directory, Error, HistoryMode, Sender, SenderOptions, Target,
};
use tertulia_wire::{ClientFrame, NodeFrame};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use crate::fake::{Fake, INSTANCE, Said, message, soon};

async fn refused(target: &Target) -> anyhow::Result<Error> {
    match soon(Directory::connect(target)).await? {
        Ok(_) => anyhow::bail!("connected"),
        Err(error) => Ok(error),
    }
}

#[tokio::test]
async fn a_connection_that_fails_says_which_way() -> anyhow::Result<()> {
    let closed = TcpListener::bind("127.0.0.1:0").await?;
    let address = closed.local_addr()?.to_string();
    drop(closed);
    let error = refused(&Target::new(&*address)).await?;
    assert_eq!(error, Error::Connect(ConnectError::Refused { address }));
    assert!(error.to_string().contains("(start one: tertulia serve)"));

    let error = refused(&Target::new("no-such-host.invalid:5001")).await?;
    let host = "no-such-host.invalid".to_owned();
    assert_eq!(error, Error::Connect(ConnectError::UnknownHost { host }));

    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let target = Target::new(silent.local_addr()?.to_string());
    let error = refused(&target.connect_timeout(Duration::from_millis(50))).await?;
    assert!(matches!(error, Error::Connect(ConnectError::Silent { .. })), "{error:?}");
    assert!(error.to_string().contains("is the node stuck?"));

    let error = refused(&Target::new("127.0.0.1:port")).await?;
    assert!(matches!(error, Error::Connect(ConnectError::Other { .. })), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn something_else_that_listens_there_is_told_apart() -> anyhow::Result<()> {
    for greeting in ["HTTP/1.1 400 Bad Request\r\n\r\n", ""] {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let target = Target::new(listener.local_addr()?.to_string());
        let (error, served) = tokio::join!(refused(&target), async {
            let (mut stream, _) = listener.accept().await?;
            stream.write_all(greeting.as_bytes()).await
        });
        served?;
        let error = error?;
        assert!(matches!(error, Error::Connect(ConnectError::NotTertulia { .. })), "{error:?}");
    }
    Ok(())
}

#[tokio::test]
async fn opening_a_sender_ends_in_time_and_names_the_step_without_an_answer() -> anyhow::Result<()>
{
    for (answered, step) in [(0, "LOCATE"), (1, "OPEN_SENDER")] {
        let fake = Fake::start().await?;
        let target = fake.target();
        let within = Some(Duration::from_millis(100));
        let options = SenderOptions { within, ..SenderOptions::default() };
        let script = async {
            let mut peer = fake.accept().await?;
            if answered > 0 {
                peer.located().await?;
            }
            anyhow::Ok(peer)
        };
        let opening = soon(Sender::open(&target, "ops", "ana", options));
        let (peer, opened) = tokio::join!(script, opening);
        let _open = peer?;
        let Err(error) = opened? else { anyhow::bail!("opened") };
        assert!(error.to_string().contains(step), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn lists_are_asked_for_page_by_page_and_refusals_are_passed_on() -> anyhow::Result<()> {
    let fake = Fake::start().await?;
    let target = fake.target();
    let script = async {
        let mut peer = fake.accept().await?;
        for (first, more) in [(1, true), (3, false)] {
            peer.located().await?;
            let Said::Frame(ClientFrame::History { id, mode, limit, .. }) = peer.hear().await?
            else {
                anyhow::bail!("no HISTORY")
            };
            let expected = if more { (HistoryMode::Last, 4) } else { (HistoryMode::After(2), 2) };
            assert_eq!((mode, limit), expected);
            let entries = [first, first + 1].map(|seq| message(seq, 0).bytes().to_vec()).concat();
            let page = NodeFrame::HistoryPage { id, more, first_kept: 1, entries: entries.into() };
            peer.say(&page).await?;
        }
        let Said::Frame(ClientFrame::Locate { id, .. }) = peer.hear().await? else {
            anyhow::bail!("no LOCATE")
        };
        let message = "no group opz; did you mean ops?".to_owned();
        peer.say(&NodeFrame::Error { id, code: Code::UnknownGroup, message }).await?;
        anyhow::Ok(peer)
    };
    let asking = async {
        let mut directory = Directory::connect(&target).await?;
        let history = directory.history("ops", HistoryMode::Last, 4).await?;
        let seqs: Vec<_> = history.entries.iter().map(|entry| entry.header.seq).collect();
        assert_eq!(directory.instance(), INSTANCE);
        assert_eq!((seqs, history.first_kept), (vec![1, 2, 3, 4], 1));
        let error = directory.locate("opz").await.err();
        assert!(error.is_some_and(|error| error.to_string().contains("did you mean ops?")));
        anyhow::Ok(())
    };
    let (peer, asking) = tokio::join!(script, asking);
    peer?;
    asking
}

#[tokio::test]
async fn questions_are_asked_again_and_changes_are_not() -> anyhow::Result<()> {
    let fake = Fake::start().await?;
    let target = fake.target();
    let script = async {
        let mut peer = fake.accept().await?;
        peer.hear().await?;
        drop(peer);
        let mut peer = fake.accept().await?;
        peer.located().await?;
        let heard = peer.hear().await?;
        assert!(matches!(heard, Said::Frame(ClientFrame::Create { .. })));
        drop(peer);
        anyhow::Ok(())
    };
    let asking = async {
        let mut directory = Directory::connect(&target).await?;
        assert_eq!(directory.locate("ops").await?.coordinator, fake.address);
        assert_eq!(directory.create("new").await, Err(Error::Unknown));
        anyhow::Ok(())
    };
    let (script, asking) = tokio::join!(script, asking);
    script?;
    asking
}
