//! Tertulia's native door: members that acknowledge, a sender that wants its receipts.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use bytes::{Bytes, BytesMut};
use tertulia_group::{Header, Kind, SenderId};
use tertulia_wire::native::{Ack, Hello, Join, OpenSender, Start, VERSION, split_from_node};
use tertulia_wire::{ClientFrame, NodeFrame};

use super::{Conn, Frame, KEPT_MIB, Peer, Side, number_of};
use crate::served::Served;

/// What every sender is called: names are part of a frame's length.
const SENDER: &str = "bench";

/// A node with its store in memory, or on the disk with an fsync before each answer.
pub struct Tertulia {
    pub program: PathBuf,
    pub store: &'static str,
}

/// Bytes of a message in the log.
pub fn message_len(body_len: usize) -> usize {
    tertulia_group::entry::HEADER_BYTES + SENDER.len() + body_len
}

/// The frame at the beginning of what a member is sent.
pub fn split_message(bytes: &[u8]) -> Option<Frame> {
    let len = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
    let frame = bytes.get(..len)?;
    let is_message = [Kind::Message as u8, Kind::Publish as u8].contains(&frame[4]);
    let body = frame.get(tertulia_group::entry::HEADER_BYTES + SENDER.len()..);
    Some(Frame { len, number: body.filter(|_| is_message).and_then(number_of) })
}

#[derive(Default)]
struct Reading {
    /// The number of the first message.
    first: Option<u64>,
}

impl Side for Reading {
    fn message_len(&self, body_len: usize) -> Option<usize> {
        Some(message_len(body_len))
    }

    fn split(&mut self, bytes: &[u8]) -> Option<Frame> {
        let frame = split_message(bytes)?;
        if frame.number.is_some() && self.first.is_none() {
            self.first = Header::read(bytes).ok().map(|header| header.seq);
        }
        Some(frame)
    }

    fn ack(&mut self, taken: u64, out: &mut Vec<u8>) {
        let Some(cursor) = self.first.map(|first| first + taken - 1) else { return };
        let mut frame = BytesMut::new();
        ClientFrame::Ack(Ack { cursor, open: Vec::new(), failed: Vec::new() }).encode(&mut frame);
        out.extend_from_slice(&frame);
    }
}

/// A sender's side.
#[derive(Default)]
pub struct Publishing {
    counter: u64,
    /// What it has been told; `None` where nobody tells.
    pub confirmed: Option<u64>,
}

impl Side for Publishing {
    fn message_len(&self, _: usize) -> Option<usize> {
        None
    }

    fn split(&mut self, bytes: &[u8]) -> Option<Frame> {
        let len = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
        let frame = Bytes::copy_from_slice(bytes.get(..len)?);
        match NodeFrame::decode(frame) {
            Ok(NodeFrame::Complete(runs)) => {
                let more = runs.iter().map(|run| u64::from(run.count)).sum::<u64>();
                self.confirmed = self.confirmed.map(|confirmed| confirmed + more);
            }
            // With a member that never reads, the oldest receipts are given as they stand.
            Ok(NodeFrame::Stored(_) | NodeFrame::Receipt { .. } | NodeFrame::Heartbeat { .. }) => {}
            other => panic!("the sender is told {other:?}"),
        }
        Some(Frame { len, number: None })
    }

    fn publish(&mut self, body: &[u8], out: &mut Vec<u8>) {
        self.counter += 1;
        let mut frame = BytesMut::with_capacity(message_len(body.len()));
        tertulia_wire::native::write_publish(&mut frame, SENDER, self.counter, true, body);
        out.extend_from_slice(&frame);
    }

    fn confirmed(&self) -> Option<u64> {
        self.confirmed
    }
}

/// Says something.
pub fn send(stream: &mut TcpStream, frame: &ClientFrame) -> Result<()> {
    let mut out = BytesMut::new();
    frame.encode(&mut out);
    Ok(stream.write_all(&out)?)
}

/// The next frame, and nothing of what follows it.
pub fn hear(stream: &mut TcpStream) -> Result<NodeFrame> {
    let mut bytes = BytesMut::zeroed(4);
    stream.read_exact(&mut bytes)?;
    let len = u32::from_le_bytes(*bytes.first_chunk().context("four bytes")?) as usize;
    bytes.resize(len, 0);
    stream.read_exact(&mut bytes[4..])?;
    let frame = split_from_node(&mut bytes, 1 << 20)?.context("a whole frame")?;
    Ok(NodeFrame::decode(frame)?)
}

fn connect(served: &Served) -> Result<TcpStream> {
    let mut stream = served.connect()?;
    let agent = "bench".to_owned();
    send(&mut stream, &ClientFrame::Hello(Hello { version: VERSION, features: 0, agent }))?;
    match hear(&mut stream)? {
        NodeFrame::Greeting(_) => Ok(stream),
        other => bail!("HELLO is answered {other:?}"),
    }
}

/// The sender id of somebody with this number.
pub fn id(index: usize, is_sender: bool) -> SenderId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&(index as u64).to_le_bytes());
    id[8] = 1 + u8::from(is_sender);
    SenderId(id)
}

impl Peer for Tertulia {
    fn name(&self) -> &'static str {
        if self.store == "memory" { "Tertulia memory" } else { "Tertulia fsync" }
    }

    fn start(&self, within: &Path) -> Result<Served> {
        Served::on_a_port(within, |folder, port| {
            let mut command = Command::new(&self.program);
            command.args(["serve", "--no-line", "--no-http", "-q"]);
            command.args(["--engine", self.store, "--native-port", &port.to_string()]);
            command.args(["--keep", &format!("1d,{KEPT_MIB}MiB")]);
            command.arg("--data").arg(folder.join("data"));
            command
        })
    }

    fn member(&self, served: &Served, group: &str, index: usize) -> Result<Conn> {
        let mut stream = connect(served)?;
        let join = Join {
            id: 1,
            durable: false,
            follow: false,
            group: group.to_owned(),
            name: format!("member{index}"),
            sender: id(index, false),
            start: Start::Now,
            secret: None,
            position: None,
        };
        send(&mut stream, &ClientFrame::Join(Box::new(join)))?;
        match hear(&mut stream)? {
            NodeFrame::Welcome(_) => Ok(Conn { stream, side: Box::new(Reading::default()) }),
            other => bail!("JOIN is answered {other:?}"),
        }
    }

    fn publisher(&self, served: &Served, group: &str, index: usize) -> Result<Conn> {
        let mut stream = connect(served)?;
        let (known, follow, name) = (false, false, SENDER.to_owned());
        let (group, sender) = (group.to_owned(), id(index, true));
        let open = OpenSender { id: 1, known, follow, group, name, sender };
        send(&mut stream, &ClientFrame::OpenSender(open))?;
        match hear(&mut stream)? {
            NodeFrame::SenderReady(_) => {
                let side = Publishing { confirmed: Some(0), ..Publishing::default() };
                Ok(Conn { stream, side: Box::new(side) })
            }
            other => bail!("OPEN_SENDER is answered {other:?}"),
        }
    }

    fn prepare(&self, served: &Served, groups: &[String]) -> Result<()> {
        let mut stream = connect(served)?;
        for group in groups {
            send(&mut stream, &ClientFrame::Create { id: 1, group: group.clone(), rules: None })?;
            match hear(&mut stream)? {
                NodeFrame::Done { .. } => {}
                other => bail!("CREATE is answered {other:?}"),
            }
        }
        Ok(())
    }
}
