//! Those that are measured: how each is started, and the little of its protocol that members and publishers need.

use std::net::TcpStream;
use std::path::PathBuf;

use anyhow::Result;

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

    /// Starts it, with nothing in it.
    fn start(&self) -> Result<Served>;

    /// What it says its version is.
    fn version(&self) -> String;

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

/// Everybody, the floor first.
pub fn all(programs: &Programs) -> Vec<Box<dyn Peer>> {
    vec![
        Box::new(floor::Floor),
        Box::new(tertulia::Tertulia { program: programs.tertulia.clone(), store: "memory" }),
        Box::new(tertulia::Tertulia { program: programs.tertulia.clone(), store: "embedded" }),
        Box::new(nats::Nats { program: programs.nats.clone() }),
        Box::new(jetstream::JetStream { program: programs.nats.clone(), always: false }),
        Box::new(jetstream::JetStream { program: programs.nats.clone(), always: true }),
        Box::new(redis::Redis),
        Box::new(mosquitto::Mosquitto),
    ]
}

/// Whether one of these stands in its name, in whatever case.
pub fn is_named(peer: &dyn Peer, names: &[String]) -> bool {
    let name = peer.name().to_lowercase();
    names.iter().any(|part| name.contains(&part.to_lowercase()))
}

/// The first line that a program prints when it is asked for its version.
fn version_of(program: impl AsRef<std::ffi::OsStr>, argument: &str) -> String {
    let output = std::process::Command::new(program).arg(argument).output();
    let output = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or("not found").to_owned()
}

/// The number that a body begins with.
fn number_of(body: &[u8]) -> Option<u64> {
    body.first_chunk().map(|number| u64::from_le_bytes(*number))
}

/// The end of the first line, after its `\r\n`.
fn line_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(2).position(|two| two == b"\r\n").map(|at| at + 2)
}
