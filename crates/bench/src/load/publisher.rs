//! A publisher: writes what it is given, as far as its socket takes it, and reads what it is told.

use std::io::{self, Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use rustix::event::{PollFd, PollFlags, poll};

use crate::peers::{Conn, Frame};

/// One connection that sends to a group.
pub struct Publisher {
    pub conn: Conn,
    pub unsent: Vec<u8>,
    unread: Vec<u8>,
    /// Somebody else reads what it is told; whether its connection has ended.
    drained: Option<Arc<AtomicBool>>,
    pub count: u64,
    pub index: u64,
}

impl Publisher {
    /// Nothing is sent yet.
    pub const fn new(conn: Conn, index: u64) -> Self {
        Self { conn, unsent: Vec::new(), unread: Vec::new(), drained: None, count: 0, index }
    }

    /// From now on what it is told is read by a thread of its own, between the rounds, too, and not looked at. Where somebody never
    /// reads, a server may have something to say of each message long after its round. The thread ends with the connection.
    pub fn drain(&mut self) -> Result<()> {
        let mut stream = self.conn.stream.try_clone()?;
        let ended = Arc::new(AtomicBool::new(false));
        self.drained = Some(Arc::clone(&ended));
        std::thread::spawn(move || {
            let mut sink = vec![0; 1 << 16];
            loop {
                let waited = poll(&mut [PollFd::new(&stream, PollFlags::IN)], None);
                let read = waited.map_err(io::Error::from).and_then(|_| stream.read(&mut sink));
                let goes_on = match read {
                    Ok(count) => count > 0,
                    Err(error) => {
                        matches!(
                            error.kind(),
                            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                        )
                    }
                };
                if !goes_on {
                    return ended.store(true, Ordering::Relaxed);
                }
            }
        });
        Ok(())
    }

    /// What the socket does not take is sent later.
    pub fn write(&mut self) -> Result<()> {
        let has_ended = self.drained.as_ref().is_some_and(|ended| ended.load(Ordering::Relaxed));
        ensure!(!has_ended, "a publisher's connection has ended");
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
        if self.drained.is_some() {
            return Ok(());
        }
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
