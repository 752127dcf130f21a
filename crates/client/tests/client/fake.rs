//! A node of which every word is in the test: it accepts, reads frames and writes what it is told.

use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::{Bytes, BytesMut};
use tertulia_client::{Code, Instance, Level, LogId, Secret, Seq, Target};
use tertulia_group::entry::{self, FLAG_RECEIPT, Header, Run};
use tertulia_group::{Entry, Incarnation, Kind};
use tertulia_wire::native::{
    Ack, Greeting, Join, OpenSender, SenderReady, StoredRun, Welcome, split_from_client,
};
use tertulia_wire::{ClientFrame, NodeFrame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

pub const LOG: LogId = LogId([7; 16]);
pub const SECRET: Secret = Secret([9; 32]);
pub const INSTANCE: Instance = Instance([5; 16]);
/// Longest body.
pub const BODY_MAX: u32 = 1 << 16;

pub struct Fake {
    listener: TcpListener,
    pub address: String,
    /// What it says in GREETING from now on.
    pub features: AtomicU16,
}

/// One connection of the client, after the greeting.
pub struct Peer {
    stream: TcpStream,
    buffer: BytesMut,
}

/// One PUBLISH frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    pub counter: u64,
    pub receipt: bool,
    pub body: Bytes,
}

pub enum Said {
    Frame(ClientFrame),
    Published(Vec<Published>),
    End,
}

/// Whatever hangs fails instead.
pub async fn soon<T>(future: impl Future<Output = T>) -> anyhow::Result<T> {
    timeout(Duration::from_secs(10), future).await.context("nothing came for 10 s")
}

impl Fake {
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        Ok(Self { listener, address, features: AtomicU16::new(0) })
    }

    pub fn target(&self) -> Target {
        // Silence proves nothing here: a script takes its time.
        Target::new(self.address.clone()).silence(Duration::from_secs(3600))
    }

    /// The next connection, greeted.
    pub async fn accept(&self) -> anyhow::Result<Peer> {
        let (stream, _) = soon(self.listener.accept()).await??;
        let mut peer = Peer { stream, buffer: BytesMut::new() };
        let Said::Frame(ClientFrame::Hello(_)) = peer.hear().await? else { bail!("no HELLO") };
        peer.say(&NodeFrame::Greeting(Greeting {
            version: 1,
            features: self.features.load(Ordering::Relaxed),
            node: "fake".into(),
            http: String::new(),
            message_bytes_max: BODY_MAX,
            instance: INSTANCE,
        }))
        .await?;
        Ok(peer)
    }

    /// The next connection, up to its OPEN_SENDER.
    pub async fn opening(&self) -> anyhow::Result<(Peer, OpenSender)> {
        let mut peer = self.accept().await?;
        peer.located().await?;
        let Said::Frame(ClientFrame::OpenSender(open)) = peer.hear().await? else {
            bail!("no OPEN_SENDER")
        };
        Ok((peer, open))
    }

    /// The next connection, up to its JOIN.
    pub async fn joining(&self) -> anyhow::Result<(Peer, Join)> {
        let mut peer = self.accept().await?;
        peer.located().await?;
        let Said::Frame(ClientFrame::Join(join)) = peer.hear().await? else { bail!("no JOIN") };
        Ok((peer, *join))
    }

    /// The next connection, as a sender that may have so many bytes under way.
    pub async fn sender(
        &self,
        last_counter: u64,
        window: u32,
    ) -> anyhow::Result<(Peer, OpenSender)> {
        let (mut peer, open) = self.opening().await?;
        peer.say(&ready(&open, last_counter, window)).await?;
        Ok((peer, open))
    }
}

impl Peer {
    pub async fn say(&mut self, frame: &NodeFrame) -> anyhow::Result<()> {
        let mut out = BytesMut::new();
        frame.encode(&mut out);
        Ok(soon(self.stream.write_all(&out)).await??)
    }

    /// Answers LOCATE: it is here.
    pub async fn located(&mut self) -> anyhow::Result<()> {
        let Said::Frame(ClientFrame::Locate { id, group }) = self.hear().await? else {
            bail!("no LOCATE")
        };
        let coordinator = "0.0.0.0:".to_owned() + &self.stream.local_addr()?.port().to_string();
        self.say(&NodeFrame::Located { id, group, coordinator, epoch: 1 }).await
    }

    /// What the client says next.
    pub async fn hear(&mut self) -> anyhow::Result<Said> {
        loop {
            if let Some(frame) = split_from_client(&mut self.buffer)? {
                return Ok(Said::Frame(ClientFrame::decode(&frame)?));
            }
            let before = self.buffer.clone();
            if let Some(run) = Run::split(&mut self.buffer, BODY_MAX as usize)? {
                return Ok(Said::Published(read_publishes(&before[..run.len()])));
            }
            if soon(self.stream.read_buf(&mut self.buffer)).await?? == 0 {
                return Ok(Said::End);
            }
        }
    }

    /// The next so many messages.
    pub async fn publishes(&mut self, count: usize) -> anyhow::Result<Vec<Published>> {
        let mut all = Vec::new();
        while all.len() < count {
            match self.hear().await? {
                Said::Published(some) => all.extend(some),
                Said::Frame(frame) => bail!("{frame:?} instead of a message"),
                Said::End => bail!("the end instead of a message"),
            }
        }
        anyhow::ensure!(all.len() == count, "{} messages, expected {count}", all.len());
        Ok(all)
    }

    pub async fn ack(&mut self) -> anyhow::Result<Ack> {
        match self.hear().await? {
            Said::Frame(ClientFrame::Ack(ack)) => Ok(ack),
            Said::Frame(frame) => bail!("{frame:?} instead of ACK"),
            _ => bail!("no ACK"),
        }
    }

    pub async fn stored(&mut self, counter: u64, seq: Seq, count: u32) -> anyhow::Result<()> {
        self.say(&NodeFrame::Stored(vec![StoredRun { counter, seq, count }])).await
    }

    pub async fn refuse(&mut self, counter: u64, code: Code) -> anyhow::Result<()> {
        self.say(&NodeFrame::Refused { counter, code, message: "no".into() }).await
    }

    /// Sends the messages of these numbers at once.
    pub async fn entries(&mut self, seqs: impl IntoIterator<Item = Seq>) -> anyhow::Result<()> {
        let mut out = BytesMut::new();
        seqs.into_iter().for_each(|seq| out.extend_from_slice(message(seq, 0).bytes()));
        Ok(soon(self.stream.write_all(&out)).await??)
    }

    pub async fn raw(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(soon(self.stream.write_all(bytes)).await??)
    }
}

fn read_publishes(bytes: &[u8]) -> Vec<Published> {
    entry::entries(Bytes::copy_from_slice(bytes))
        .map(|one| one.expect("a run is of whole frames"))
        .map(|one| Published {
            counter: one.header.counter,
            receipt: one.header.flags & FLAG_RECEIPT != 0,
            body: one.body(),
        })
        .collect()
}

pub fn message(seq: Seq, flags: u8) -> Entry {
    let header = Header {
        len: 0,
        kind: Kind::Message,
        flags,
        name_len: 0,
        seq,
        time_us: 1,
        sender: 1,
        counter: seq,
        epoch: 1,
    };
    let mut out = BytesMut::new();
    entry::write(&mut out, header, "luis", format!("m{seq}").as_bytes());
    Entry::split(&mut out.freeze()).expect("it was just written")
}

pub fn ready(open: &OpenSender, last_counter: u64, window_bytes: u32) -> NodeFrame {
    NodeFrame::SenderReady(Box::new(SenderReady {
        id: open.id,
        group: open.group.clone(),
        name: open.name.clone(),
        log: LOG,
        epoch: 1,
        tail: 10,
        members: 3,
        last_counter,
        window_bytes,
        level: Level::Fsync,
    }))
}

pub fn welcome(join: &Join, next: Seq, acked: Seq, open: &[Seq]) -> Welcome {
    Welcome {
        id: join.id,
        resumed: join.position.is_some(),
        cut_back: false,
        group: join.group.clone(),
        name: join.name.clone(),
        log: LOG,
        epoch: 1,
        incarnation: Incarnation(10),
        next,
        tail: 1000,
        members: 2,
        secret: SECRET,
        last_counter: 0,
        window_bytes: 1 << 20,
        level: Level::Fsync,
        acked,
        open: open.to_vec(),
    }
}

pub fn counters(published: &[Published]) -> Vec<u64> {
    published.iter().map(|one| one.counter).collect()
}
