//! The floor: the frames of Tertulia, written through.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::tertulia::{Publishing, message_len, split_message};
use super::{Conn, Frame, Peer, Side};
use crate::served::{Served, say_and_hear};

/// See the module.
pub struct Floor;

struct Reading;

impl Side for Reading {
    fn message_len(&self, body_len: usize) -> Option<usize> {
        Some(message_len(body_len))
    }

    fn split(&mut self, bytes: &[u8]) -> Option<Frame> {
        split_message(bytes)
    }
}

fn connect(served: &Served, what: &str, group: &str) -> Result<std::net::TcpStream> {
    let mut stream = served.connect()?;
    say_and_hear(&mut stream, format!("{what} {group}\n").as_bytes(), b"ok\n")?;
    Ok(stream)
}

impl Peer for Floor {
    fn name(&self) -> &'static str {
        "floor"
    }

    fn start(&self, within: &Path) -> Result<Served> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("floor");
        Served::says_where(within, command)
    }

    fn member(&self, served: &Served, group: &str, _: usize) -> Result<Conn> {
        Ok(Conn { stream: connect(served, "member", group)?, side: Box::new(Reading) })
    }

    fn publisher(&self, served: &Served, group: &str, _: usize) -> Result<Conn> {
        let stream = connect(served, "publish", group)?;
        Ok(Conn { stream, side: Box::new(Publishing::default()) })
    }
}
