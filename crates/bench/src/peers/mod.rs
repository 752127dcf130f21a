//! Those that are measured: how each is started, and the little of its protocol that members and publishers need.

use std::net::TcpStream;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::options::{Binary, Nats};
use crate::served::Served;

mod floor;
mod jetstream;
mod mosquitto;
mod nats;
mod redis;
pub mod tertulia;

/// A frame at the beginning of what has come.
pub struct Frame {
    /// Its bytes.
    pub len: usize,
    /// The number that the body of a message begins with; `None` for what is no message.
    pub number: Option<u64>,
}

/// What a member's or publisher's connection speaks.
pub trait Side: Send {
    /// Bytes of each message on a member's connection, where all with a body of this length are as long and nothing else comes.
    fn message_len(&self, body_len: usize) -> Option<usize>;

    /// The frame at the beginning of `bytes`; `None` when it is not whole.
    fn split(&mut self, bytes: &[u8]) -> Option<Frame>;

    /// A member has taken so many messages in all, since the first one that was split off.
    fn ack(&mut self, _taken: u64, _out: &mut Vec<u8>) {}

    /// A publisher sends a message.
    fn publish(&mut self, _body: &[u8], _out: &mut Vec<u8>) {}

    /// Messages that everybody is known to have confirmed, by what a publisher was told.
    fn confirmed(&self) -> Option<u64> {
        None
    }
}

/// A connection that is ready.
pub struct Conn {
    /// Its socket.
    pub stream: TcpStream,
    /// Its protocol.
    pub side: Box<dyn Side>,
}

/// See the module.
pub trait Peer: Sync {
    /// As in tables.
    fn name(&self) -> &'static str;

    /// Starts it, with nothing in it; what it keeps is within this folder.
    fn start(&self, within: &Path) -> Result<Served>;

    /// Its program with its version, unless it is of this tree.
    fn version(&self) -> Option<String> {
        None
    }

    /// A new member of a group, which gets what is sent from now on.
    fn member(&self, served: &Served, group: &str, index: usize) -> Result<Conn>;

    /// Somebody who sends to it and belongs to no group.
    fn publisher(&self, served: &Served, group: &str, index: usize) -> Result<Conn>;

    /// Groups are there before anybody joins them.
    fn prepare(&self, _served: &Served, _groups: &[String]) -> Result<()> {
        Ok(())
    }
}

/// Where the programs are.
pub struct Programs {
    /// `tertulia`
    pub tertulia: PathBuf,
    /// `nats-server`
    pub nats: PathBuf,
}

impl Programs {
    /// As the command line says.
    pub fn new(binary: &Binary, nats: &Nats) -> Self {
        Self { tertulia: binary.tertulia.clone(), nats: nats.nats.clone() }
    }
}

/// What is kept of each group by all that keep anything: without it a round fills a gigabyte.
const KEPT_MIB: u64 = 32;

/// Everybody, the floor first.
pub fn all(programs: &Programs) -> Vec<Box<dyn Peer>> {
    vec![
        Box::new(floor::Floor { confirms: false }),
        Box::new(floor::Floor { confirms: true }),
        Box::new(tertulia::Tertulia { program: programs.tertulia.clone(), store: "memory" }),
        Box::new(tertulia::Tertulia { program: programs.tertulia.clone(), store: "embedded" }),
        Box::new(nats::Nats { program: programs.nats.clone() }),
        Box::new(jetstream::JetStream { program: programs.nats.clone(), always: false }),
        Box::new(jetstream::JetStream { program: programs.nats.clone(), always: true }),
        Box::new(redis::Redis),
        Box::new(mosquitto::Mosquitto),
    ]
}

/// The floor, and those in whose names one of these stands, in whatever case; where there are no names, everybody.
pub fn named(programs: &Programs, names: &[String]) -> Vec<Box<dyn Peer>> {
    let mut peers = all(programs);
    let is_named =
        |name: &str| names.iter().any(|part| name.to_lowercase().contains(&part.to_lowercase()));
    peers.retain(|peer| names.is_empty() || peer.name() == "floor" || is_named(peer.name()));
    peers
}

/// The versions of these, each program once.
pub fn versions(peers: &[Box<dyn Peer>]) -> String {
    let mut versions: Vec<String> = peers.iter().filter_map(|peer| peer.version()).collect();
    versions.dedup();
    versions.join(", ")
}

/// The number that a body begins with.
fn number_of(body: &[u8]) -> Option<u64> {
    body.first_chunk().map(|number| u64::from_le_bytes(*number))
}

/// The end of the first line, after its `\r\n`.
fn line_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(2).position(|two| two == b"\r\n").map(|at| at + 2)
}
