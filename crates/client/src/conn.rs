//! One connection to a node: dialling, greeting, frames in and out, questions with one answer.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tertulia_wire::native::{self, Credential, Greeting, Hello, split_from_node};
use tertulia_wire::{ClientFrame, NodeFrame};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::halves::{self, ReadHalf, WriteHalf};
use crate::tls::ALPN;
use crate::{ConnectError, Error, Login, Target};

/// How long an answer may take, beside what the question itself waits for.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Read at once.
const READ_BYTES: usize = 64 << 10;

/// See the module. Everything async in it may be dropped half way: what was read or written is kept in the buffers.
#[derive(Debug)]
pub(crate) struct Conn {
    /// What was dialled.
    pub address: String,
    pub greeting: Greeting,
    pub read: Reading,
    pub write: WriteHalf,
    /// Frames on their way out.
    pub out: BytesMut,
    peer: Option<SocketAddr>,
    /// Nobody between can read it: TLS.
    secure: bool,
    last_id: u32,
    /// Answers are waited for until then, and not for their usual time.
    pub until: Option<Instant>,
}

/// The half that reads.
#[derive(Debug)]
pub(crate) struct Reading {
    half: ReadHalf,
    buffer: BytesMut,
    message_bytes_max: u32,
}

impl Reading {
    /// Reads what there is; `Ok(0)` is the end.
    pub async fn more(&mut self) -> io::Result<usize> {
        let len = self.buffer.first_chunk::<4>().map_or(0, |len| u32::from_le_bytes(*len) as usize);
        // The length was judged when the buffer was last asked for a frame.
        let missing = len.saturating_sub(self.buffer.len());
        if self.buffer.capacity() - self.buffer.len() < missing.max(READ_BYTES / 4) {
            self.buffer.reserve(missing.max(READ_BYTES));
        }
        self.half.read_buf(&mut self.buffer).await
    }

    fn is_over(&mut self) -> bool {
        loop {
            self.buffer.reserve(READ_BYTES / 4);
            match self.half.try_read_buf(&mut self.buffer) {
                Ok(0) => return true,
                Ok(_) if self.buffer.len() < READ_BYTES => {}
                Ok(_) => return false,
                Err(error) => return error.kind() != ErrorKind::WouldBlock,
            }
        }
    }

    /// The next whole frame in the buffer, with its bytes.
    pub fn frame(&mut self) -> Result<Option<(NodeFrame, Bytes)>, Error> {
        let frame = split_from_node(&mut self.buffer, self.message_bytes_max);
        let Some(bytes) = frame.map_err(|error| Error::Protocol(error.to_string()))? else {
            return Ok(None);
        };
        let frame = NodeFrame::decode(bytes.clone());
        Ok(Some((frame.map_err(|error| Error::Protocol(error.to_string()))?, bytes)))
    }
}

impl Conn {
    /// Connects and greets.
    pub async fn dial(target: &Target) -> Result<Self, Error> {
        let address = target.address();
        let until = ends(target.timeout(), target.ends_at());
        let Ok(stream) = timeout_at(until, connect(address)).await else {
            return Err(ConnectError::TimedOut { address: address.to_owned() }.into());
        };
        match timeout_at(until, Self::open(stream?, target)).await {
            Ok(conn) => conn,
            Err(_) => Err(ConnectError::Silent { address: address.to_owned() }.into()),
        }
    }

    async fn open(stream: TcpStream, target: &Target) -> Result<Self, Error> {
        let _ = stream.set_nodelay(true);
        let peer = stream.peer_addr().ok();
        let secure = target.is_tls();
        let (half, write) = match target.trust() {
            Some(trust) => halves::tls(trust.connect(stream, target.address(), ALPN).await?),
            None => halves::plain(stream),
        };
        let mut conn = Self {
            address: target.address().to_owned(),
            greeting: no_greeting(),
            read: Reading { half, buffer: BytesMut::new(), message_bytes_max: 0 },
            write,
            out: BytesMut::new(),
            peer,
            secure,
            last_id: 0,
            until: target.ends_at(),
        };
        conn.put(&ClientFrame::Hello(Hello {
            version: native::VERSION,
            features: 0,
            agent: target.agent_text().to_owned(),
        }));
        conn.greet().await?;
        let own = |login: &&Login| {
            login.instance.is_none_or(|instance| instance == conn.greeting.instance)
        };
        if let Some(login) = target.login_shown().filter(own) {
            conn.authenticate(&login.token).await?;
        }
        Ok(conn)
    }

    /// Where passwords and tokens may be shown: over TLS, or on this machine.
    pub fn check_way(&self) -> Result<(), Error> {
        match self.peer {
            _ if self.secure => Ok(()),
            Some(peer) if peer.ip().to_canonical().is_loopback() => Ok(()),
            _ => Err(Error::Insecure { address: self.address.clone() }),
        }
    }

    async fn authenticate(&mut self, token: &str) -> Result<(), Error> {
        self.check_way()?;
        let token = Credential(token.to_owned());
        match self.ask(Duration::ZERO, |id| ClientFrame::Auth { id, token: token.clone() }).await? {
            NodeFrame::Identity { .. } => Ok(()),
            _ => Err(unexpected("AUTH")),
        }
    }

    async fn greet(&mut self) -> Result<(), Error> {
        let answer = match self.next().await {
            Ok(NodeFrame::Greeting(greeting)) if greeting.version == native::VERSION => {
                self.read.message_bytes_max = greeting.message_bytes_max;
                self.greeting = greeting;
                return Ok(());
            }
            Ok(NodeFrame::Close { code, message }) => return Err(Error::Refused { code, message }),
            Ok(NodeFrame::Greeting(greeting)) => {
                format!("it speaks version {} of the protocol", greeting.version)
            }
            Ok(_) => "its first frame is no greeting".to_owned(),
            Err(Error::Lost { why, .. } | Error::Protocol(why)) => why,
            Err(error) => return Err(error),
        };
        Err(ConnectError::NotTertulia { address: self.address.clone(), why: answer }.into())
    }

    /// Adds a frame to what is to be written.
    pub fn put(&mut self, frame: &ClientFrame) {
        frame.encode(&mut self.out);
    }

    /// An id for a question.
    pub const fn id(&mut self) -> u32 {
        self.last_id = self.last_id.wrapping_add(1);
        if self.last_id == 0 {
            self.last_id = 1;
        }
        self.last_id
    }

    /// Writes everything.
    pub async fn flush(&mut self) -> io::Result<()> {
        while self.out.has_remaining() || self.write.is_behind() {
            self.write.write_some(&mut self.out).await?;
        }
        Ok(())
    }

    /// The next frame, after everything is written.
    pub async fn next(&mut self) -> Result<NodeFrame, Error> {
        // What a node that closes has said is worth more than the failure to write to it.
        let _ = self.flush().await;
        loop {
            if let Some((frame, _)) = self.read.frame()? {
                return Ok(frame);
            }
            match self.read.more().await {
                Ok(0) => return Err(self.lost("the node closed it")),
                Ok(_) => {}
                Err(error) => return Err(self.lost(&error.to_string())),
            }
        }
    }

    /// Asks one question, whose answer may take `wait` longer than others.
    pub async fn ask(
        &mut self,
        wait: Duration,
        question: impl FnOnce(u32) -> ClientFrame,
    ) -> Result<NodeFrame, Error> {
        let id = self.id();
        let question = question(id);
        self.put(&question);
        let until = ends(ANSWER_TIMEOUT.saturating_add(wait), self.until);
        match timeout_at(until, self.answer(id)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.lost(&format!("it did not answer {}", asked(&question)))),
        }
    }

    async fn answer(&mut self, wanted: u32) -> Result<NodeFrame, Error> {
        loop {
            let frame = self.next().await?;
            match (id_of(&frame), frame) {
                (Some(id), NodeFrame::Error { code, message, .. }) if id == wanted || id == 0 => {
                    return Err(Error::Refused { code, message });
                }
                (Some(id), frame) if id == wanted => return Ok(frame),
                (_, NodeFrame::Close { code, message }) => {
                    return Err(Error::Refused { code, message });
                }
                // An answer that nobody waits for any more, a heartbeat, or something of a newer node.
                _ => {}
            }
        }
    }

    /// The node has closed it, as far as can be seen without waiting.
    pub fn is_over(&mut self) -> bool {
        self.read.is_over()
    }

    /// The error for a connection that is of no use any more.
    pub fn lost(&self, why: &str) -> Error {
        Error::Lost { address: self.address.clone(), why: why.to_owned() }
    }

    /// The address to dial for `coordinator`; `None` where it is this connection's node.
    pub fn elsewhere(&self, coordinator: &str) -> Option<String> {
        elsewhere(&self.address, self.peer, coordinator)
    }
}

fn elsewhere(dialled: &str, peer: Option<SocketAddr>, coordinator: &str) -> Option<String> {
    let (host, port) = coordinator.rsplit_once(':')?;
    let (dialled_host, dialled_port) = dialled.rsplit_once(':')?;
    if matches!(host, "" | "0.0.0.0" | "[::]" | "::") {
        return (port != dialled_port).then(|| format!("{dialled_host}:{port}"));
    }
    let same = coordinator == dialled || peer.is_some_and(|peer| coordinator.parse() == Ok(peer));
    (!same).then(|| coordinator.to_owned())
}

/// When to give up: at the end of everything, where there is one; else after so long.
fn ends(after: Duration, until: Option<Instant>) -> Instant {
    until.unwrap_or_else(|| {
        let now = Instant::now();
        // Who names a time beyond all clocks waits for a year.
        now.checked_add(after).unwrap_or_else(|| now + Duration::from_secs(31_536_000))
    })
}

/// A question in words.
const fn asked(question: &ClientFrame) -> &'static str {
    match question {
        ClientFrame::Locate { .. } => "where the group is coordinated (LOCATE)",
        ClientFrame::Allocate { .. } => "which group to join (ALLOCATE)",
        ClientFrame::Join(_) => "whether it can be joined (JOIN)",
        ClientFrame::OpenSender(_) => "whether it may be sent to (OPEN_SENDER)",
        _ => "the question",
    }
}

/// The question that a frame answers.
pub(crate) fn id_of(frame: &NodeFrame) -> Option<u32> {
    match frame {
        NodeFrame::Located { id, .. }
        | NodeFrame::GroupsPage { id, .. }
        | NodeFrame::Done { id }
        | NodeFrame::MembersPage { id, .. }
        | NodeFrame::HistoryPage { id, .. }
        | NodeFrame::ReceiptReply { id, .. }
        | NodeFrame::Error { id, .. } => Some(*id),
        NodeFrame::Rules { id, .. }
        | NodeFrame::Identity { id, .. }
        | NodeFrame::Token { id, .. } => Some(*id),
        NodeFrame::StatusReply(status) => Some(status.id),
        NodeFrame::Welcome(welcome) => Some(welcome.id),
        NodeFrame::SenderReady(ready) => Some(ready.id),
        _ => None,
    }
}

/// The error for an answer that is no answer to the question.
pub(crate) fn unexpected(asked: &str) -> Error {
    Error::Protocol(format!("a frame that does not answer {asked}"))
}

const fn no_greeting() -> Greeting {
    Greeting {
        version: 0,
        features: 0,
        node: String::new(),
        http: String::new(),
        message_bytes_max: 0,
        instance: native::Instance([0; 16]),
    }
}

async fn connect(address: &str) -> Result<TcpStream, ConnectError> {
    let other = |message: String| ConnectError::Other { address: address.to_owned(), message };
    let Some((host, port)) = address.rsplit_once(':') else {
        return Err(other("not an address: write HOST:PORT".to_owned()));
    };
    if host.contains("://") {
        return Err(other("not an address: write HOST:PORT or tls://HOST:PORT".to_owned()));
    }
    if port.parse::<u16>().is_err() {
        return Err(other(format!("{port} is not a port: write HOST:PORT")));
    }
    let unknown = || ConnectError::UnknownHost { host: host.to_owned() };
    let addresses = tokio::net::lookup_host(address).await.map_err(|_| unknown())?;
    let mut failed = unknown();
    for one in addresses {
        match TcpStream::connect(one).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = classify(address, &error),
        }
    }
    Err(failed)
}

fn classify(address: &str, error: &io::Error) -> ConnectError {
    let address = address.to_owned();
    match error.kind() {
        ErrorKind::ConnectionRefused => ConnectError::Refused { address },
        ErrorKind::TimedOut => ConnectError::TimedOut { address },
        _ => ConnectError::Other { address, message: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dialled_address_is_kept_where_it_is_the_coordinators() {
        let peer = "10.0.0.7:5001".parse().ok();
        for (coordinator, expected) in [
            ("node:5001", None),
            ("10.0.0.7:5001", None),
            ("0.0.0.0:5001", None),
            ("[::]:5001", None),
            (":5001", None),
            ("", None),
            ("0.0.0.0:7000", Some("node:7000")),
            ("10.0.0.8:5001", Some("10.0.0.8:5001")),
            ("other:5001", Some("other:5001")),
        ] {
            assert_eq!(elsewhere("node:5001", peer, coordinator).as_deref(), expected);
        }
    }

    #[test]
    fn the_systems_errors_say_what_to_check() {
        for (kind, word) in
            [(ErrorKind::ConnectionRefused, "--listen"), (ErrorKind::TimedOut, "(TCP 5001)")]
        {
            let text = classify("node:5001", &kind.into()).to_string();
            assert!(text.contains(word), "{text}");
        }
    }
}
