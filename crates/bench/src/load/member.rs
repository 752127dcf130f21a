//! A member: takes what comes, counts it exactly, and says how much it has taken.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::time::Instant;

use anyhow::{Result, ensure};
use rustix::net::RecvFlags;

use super::MARKER;
use crate::peers::{Conn, Frame};
use crate::served::PATIENCE;
use crate::works::Work;

/// What may stand between messages where nothing was looked at (Tertulia's heartbeat of 20 bytes).
const SLACK_BYTES: u64 = 20;

/// One connection of a group.
pub struct Member {
    pub conn: Conn,
    pub group: usize,
    /// Bytes of each message, where nothing is looked at.
    message_len: Option<u64>,
    /// What was read and is no whole frame yet, where everything is looked at.
    unread: Vec<u8>,
    /// Bytes of messages in this round.
    pub bytes: u64,
    /// Messages in this round, and in all.
    pub taken: u64,
    pub taken_before: u64,
    /// What it has said of that.
    acked: u64,
    /// What the socket did not take of an acknowledgement.
    unsent: Vec<u8>,
    /// The last number of each publisher, for the member that looks.
    numbers: BTreeMap<u64, u64>,
    is_checked: bool,
}

impl Member {
    /// Nothing has come yet.
    pub fn new(conn: Conn, group: usize, is_checked: bool, work: &Work) -> Self {
        // What is timed is looked at, too: it is little.
        let looks = is_checked || work.window() == 1;
        let len = conn.side.message_len(work.body_len).filter(|_| !looks);
        Self {
            conn,
            group,
            message_len: len.map(|len| len as u64),
            unread: Vec::new(),
            bytes: 0,
            taken: 0,
            taken_before: 0,
            acked: 0,
            unsent: Vec::new(),
            numbers: BTreeMap::new(),
            is_checked,
        }
    }

    /// Reads on until the marker. What comes with it and is no message (NATS asks each client for a sign of life two seconds after it has
    /// come) is none of the work's.
    pub fn until_marker(&mut self, sink: &mut [u8]) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while self.taken == 0 {
            let n = self.conn.stream.read(sink)?;
            ensure!(n > 0 && Instant::now() < until, "the first message does not come");
            self.unread.extend_from_slice(&sink[..n]);
            while let Some(Frame { len, number }) = self.conn.side.split(&self.unread) {
                self.unread.drain(..len);
                self.taken += u64::from(number == Some(MARKER));
                let is_early = number.is_some_and(|number| number != MARKER);
                ensure!(!is_early && self.taken < 2, "a message comes that nobody has sent");
            }
        }
        // The rest of a frame that is not looked at would be taken for a message's bytes; it comes at once.
        while self.message_len.is_some() && !self.unread.is_empty() {
            let n = self.conn.stream.read(sink)?;
            ensure!(n > 0, "a member's connection has ended");
            self.unread.extend_from_slice(&sink[..n]);
            while let Some(Frame { len, number }) = self.conn.side.split(&self.unread) {
                self.unread.drain(..len);
                ensure!(number.is_none(), "a message comes that nobody has sent");
            }
        }
        Ok(())
    }

    /// Takes what has come.
    pub fn read(&mut self, sink: &mut [u8]) -> Result<()> {
        let Some(len) = self.message_len else {
            let mut numbers = Vec::new();
            self.look(sink, &mut numbers)?;
            if self.is_checked {
                self.check(&numbers)?;
            }
            return Ok(());
        };
        loop {
            match rustix::net::recv(&self.conn.stream, &mut sink[..], RecvFlags::TRUNC) {
                Ok((_, 0)) => anyhow::bail!("a member's connection has ended"),
                Ok((_, n)) => {
                    self.bytes += n as u64;
                    if n < sink.len() {
                        break;
                    }
                }
                Err(rustix::io::Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        // What else may have come by the way is never more than this, and less than any message.
        self.taken = self.bytes / len;
        Ok(())
    }

    /// Takes what has come, frame by frame.
    pub fn look(&mut self, sink: &mut [u8], numbers: &mut Vec<u64>) -> Result<()> {
        loop {
            match self.conn.stream.read(sink) {
                Ok(0) => anyhow::bail!("a member's connection has ended"),
                Ok(n) => {
                    self.unread.extend_from_slice(&sink[..n]);
                    if n < sink.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let mut at = 0;
        while let Some(Frame { len, number }) = self.conn.side.split(&self.unread[at..]) {
            at += len;
            if let Some(number) = number {
                self.taken += 1;
                numbers.push(number);
            }
        }
        self.unread.drain(..at);
        Ok(())
    }

    fn check(&mut self, numbers: &[u64]) -> Result<()> {
        for number in numbers {
            let (publisher, count) = (number >> 48, number & ((1 << 48) - 1));
            let last = self.numbers.insert(publisher, count).unwrap_or(count - 1);
            ensure!(count == last + 1, "publisher {publisher}: {count} after {last}");
        }
        Ok(())
    }

    /// Says how much it has taken. What the socket does not take is said later, with what has come by then.
    pub fn acknowledge(&mut self) {
        if self.unsent.is_empty() {
            let taken = self.taken_before + self.taken;
            // A heartbeat that came before it may have been counted as a message's last bytes.
            let unsure = self.message_len.map_or(0, |len| self.bytes % len);
            let sure = taken - u64::from((1..SLACK_BYTES).contains(&unsure) && self.taken > 0);
            if sure > self.acked {
                self.acked = sure;
                self.conn.side.ack(sure, &mut self.unsent);
            }
        }
        if let Ok(n) = self.conn.stream.write(&self.unsent) {
            self.unsent.drain(..n);
        }
    }
}
