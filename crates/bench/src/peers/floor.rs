//! The floor: the frames of Tertulia, written through; and the same with members that confirm and a publisher that is told.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::tertulia::{Publishing, message_len, split_message};
use super::{Conn, Frame, Peer, Side};
use crate::served::{Served, say_and_hear};

/// See the module.
pub struct Floor {
    /// Members say what they have, and the publisher is told when everybody has it.
    pub confirms: bool,
}

struct Reading {
    confirms: bool,
}

impl Side for Reading {
    fn message_len(&self, body_len: usize) -> Option<usize> {
        Some(message_len(body_len))
    }

    fn split(&mut self, bytes: &[u8]) -> Option<Frame> {
        split_message(bytes)
    }

    fn ack(&mut self, taken: u64, out: &mut Vec<u8>) {
        if self.confirms {
            out.extend_from_slice(&taken.to_le_bytes());
        }
    }
}

/// A publisher that may be told.
struct Asking {
    publishing: Publishing,
    /// Messages that everybody has, with the one that everything begins with.
    told: u64,
}

impl Side for Asking {
    fn message_len(&self, _: usize) -> Option<usize> {
        None
    }

    fn split(&mut self, bytes: &[u8]) -> Option<Frame> {
        let told = bytes.first_chunk()?;
        self.told = u64::from_le_bytes(*told);
        Some(Frame { len: told.len(), number: None })
    }

    fn publish(&mut self, body: &[u8], out: &mut Vec<u8>) {
        self.publishing.publish(body, out);
    }

    /// Of several publishers of a group one is told of everybody's messages; for the others it is nothing.
    fn confirmed(&self) -> Option<u64> {
        Some(self.told.saturating_sub(1))
    }
}

fn connect(served: &Served, what: &str, group: &str) -> Result<std::net::TcpStream> {
    let mut stream = served.connect()?;
    say_and_hear(&mut stream, format!("{what} {group}\n").as_bytes(), b"ok\n")?;
    Ok(stream)
}

impl Peer for Floor {
    fn name(&self) -> &'static str {
        if self.confirms { "floor, confirmed" } else { "floor" }
    }

    fn start(&self, within: &Path) -> Result<Served> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("floor");
        Served::says_where(within, command)
    }

    fn member(&self, served: &Served, group: &str, _: usize) -> Result<Conn> {
        let what = if self.confirms { "confirm" } else { "member" };
        let side = Reading { confirms: self.confirms };
        Ok(Conn { stream: connect(served, what, group)?, side: Box::new(side) })
    }

    fn publisher(&self, served: &Served, group: &str, _: usize) -> Result<Conn> {
        let stream = connect(served, "publish", group)?;
        let publishing = Publishing::default();
        let side: Box<dyn Side> = match self.confirms {
            true => Box::new(Asking { publishing, told: 0 }),
            false => Box::new(publishing),
        };
        Ok(Conn { stream, side })
    }
}
