//! The floor: one thread that writes what a group's publishers say to each of its members, in big writes, without looking at it.
//! What it writes in one turn is what it has read by then: who gathers more for a write may be cheaper.
//!
//! A connection's first line is `member GROUP` or `publish GROUP`. Memory for what members have not read yet is not bounded: this
//! is no server for anything else than measuring.

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use anyhow::{Context as _, Result};

use crate::poll::Poll;

/// Read from a publisher and written to a member at once.
const CHUNK_BYTES: usize = 256 << 10;
/// The listener's number; connections have others.
const LISTENER: u64 = u64::MAX;

#[derive(Default)]
struct Group {
    members: Vec<Member>,
    /// What some member has not been written yet, in one run of bytes.
    log: VecDeque<Vec<u8>>,
    /// Place of the first byte of `log`, and of the byte after the last.
    from: u64,
    to: u64,
}

struct Member {
    stream: TcpStream,
    at: u64,
    is_full: bool,
}

enum Conn {
    Publisher(TcpStream, String),
    Member(String, usize),
}

/// Serves until it is killed; says its address on standard output.
pub fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    let mut poll = Poll::new()?;
    poll.add_listener(&listener, LISTENER)?;
    let (mut groups, mut conns) = (HashMap::<String, Group>::new(), Vec::<Option<Conn>>::new());
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        for (number, may_read, may_write) in poll.wait(None)? {
            if number == LISTENER {
                let conn = accept(&listener, &mut groups, &poll, conns.len() as u64)?;
                conns.push(Some(conn));
                continue;
            }
            let Some(slot) = conns.get_mut(number as usize) else { continue };
            let ended = match slot {
                Some(Conn::Publisher(stream, name)) if may_read => {
                    let group = groups.entry(name.clone()).or_default();
                    publish(stream, group, &mut chunk)?
                }
                Some(Conn::Member(name, index)) if may_write => {
                    let group = groups.entry(name.clone()).or_default();
                    group.members[*index].is_full = false;
                    group.write(*index);
                    group.forget();
                    false
                }
                _ => false,
            };
            if ended {
                *slot = None;
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    groups: &mut HashMap<String, Group>,
    poll: &Poll,
    number: u64,
) -> Result<Conn> {
    let (stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut line = String::new();
    // The first line comes alone, so nothing else is taken with it.
    BufReader::new(&stream).read_line(&mut line)?;
    (&stream).write_all(b"ok\n")?;
    stream.set_nonblocking(true)?;
    poll.add(&stream, number)?;
    let (what, name) = line.trim().split_once(' ').context("member GROUP, or publish GROUP")?;
    if what == "publish" {
        return Ok(Conn::Publisher(stream, name.to_owned()));
    }
    let group = groups.entry(name.to_owned()).or_default();
    let (at, index) = (group.to, group.members.len());
    group.members.push(Member { stream, at, is_full: false });
    Ok(Conn::Member(name.to_owned(), index))
}

/// Reads what there is and hands it on; whether the publisher has gone.
fn publish(stream: &mut TcpStream, group: &mut Group, chunk: &mut [u8]) -> Result<bool> {
    loop {
        match stream.read(chunk) {
            Ok(0) => return Ok(true),
            Ok(n) => {
                group.push(&chunk[..n]);
                if n < chunk.len() {
                    return Ok(false);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(_) => return Ok(true),
        }
    }
}

impl Group {
    /// Straight from the buffer to everybody who is up to date; kept only for the others.
    fn push(&mut self, bytes: &[u8]) {
        let (start, end) = (self.to, self.to + bytes.len() as u64);
        let mut all = true;
        for member in &mut self.members {
            if member.at == start && !member.is_full {
                match member.stream.write(bytes) {
                    Ok(n) => {
                        member.at += n as u64;
                        member.is_full = n < bytes.len();
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        member.is_full = true;
                    }
                    // Gone: nobody waits for it.
                    Err(_) => member.at = u64::MAX,
                }
            }
            all &= member.at >= end;
        }
        self.to = end;
        if all {
            (self.from, self.log) = (end, VecDeque::new());
        } else {
            self.log.push_back(bytes.to_vec());
        }
    }

    /// What this one has not been written yet, as far as its socket takes it.
    fn write(&mut self, index: usize) {
        let member = &mut self.members[index];
        let mut start = self.from;
        for piece in &self.log {
            let end = start + piece.len() as u64;
            while !member.is_full && member.at >= start && member.at < end {
                match member.stream.write(&piece[(member.at - start) as usize..]) {
                    Ok(n) => member.at += n as u64,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        member.is_full = true;
                    }
                    Err(_) => member.at = u64::MAX,
                }
            }
            start = end;
        }
    }

    fn forget(&mut self) {
        let slowest = self.members.iter().map(|member| member.at).min().unwrap_or(self.to);
        while let Some(piece) = self.log.front()
            && self.from + piece.len() as u64 <= slowest
        {
            self.from += piece.len() as u64;
            self.log.pop_front();
        }
    }
}
