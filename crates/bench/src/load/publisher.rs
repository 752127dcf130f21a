//! A publisher: writes what it is given, as far as its socket takes it, and reads what it is told.

use std::io::{self, Read as _, Write as _};

use anyhow::Result;

use crate::peers::{Conn, Frame};

/// One connection that sends to a group.
pub struct Publisher {
    pub conn: Conn,
    pub unsent: Vec<u8>,
    unread: Vec<u8>,
    pub count: u64,
    pub index: u64,
}

impl Publisher {
    /// Nothing is sent yet.
    pub const fn new(conn: Conn, index: u64) -> Self {
        Self { conn, unsent: Vec::new(), unread: Vec::new(), count: 0, index }
    }

    /// What the socket does not take is sent later.
    pub fn write(&mut self) -> Result<()> {
        while !self.unsent.is_empty() {
            match self.conn.stream.write(&self.unsent) {
                Ok(n) => drop(self.unsent.drain(..n)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// What it is told is looked at only where it says who has confirmed.
    pub fn read(&mut self, sink: &mut [u8]) -> Result<()> {
        let looks = self.conn.side.confirmed().is_some();
        loop {
            match self.conn.stream.read(sink) {
                Ok(0) => anyhow::bail!("a publisher's connection has ended"),
                Ok(n) if looks => self.unread.extend_from_slice(&sink[..n]),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let mut at = 0;
        while looks && let Some(Frame { len, .. }) = self.conn.side.split(&self.unread[at..]) {
            at += len;
        }
        self.unread.drain(..at);
        Ok(())
    }
}
