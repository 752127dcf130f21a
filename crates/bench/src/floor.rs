//! The floor: one thread that writes what a group's publishers say to each of its members, in big writes, without looking at it.
//! What it writes in one turn is what it has read by then: who gathers more for a write may be cheaper.
//!
//! A connection's first line is `member GROUP`, `confirm GROUP` or `publish GROUP`. Who confirms says how many messages it has in all, in
//! eight bytes, whenever it has more; a group's first publisher is told in the same way how many all of them have. Memory for what members have not read yet is not bounded: this
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
    /// Its first publisher, and how many messages that one knows to be confirmed.
    asker: Option<TcpStream>,
    told: u64,
}

struct Member {
    stream: TcpStream,
    at: u64,
    is_full: bool,
    /// Messages that it says it has; nothing where it does not confirm.
    confirmed: Option<u64>,
    /// The beginning of what it says next.
    unread: Vec<u8>,
}

/// Whose a connection is: a publisher of the group with this number, or the group's member with that one.
enum Conn {
    Publisher(TcpStream, usize),
    Member(usize, usize),
}

/// Groups, each with its number, which its name leads to.
#[derive(Default)]
struct Groups {
    numbers: HashMap<String, usize>,
    groups: Vec<Group>,
}

/// Serves until it is killed; says its address on standard output.
pub fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    let mut poll = Poll::new()?;
    poll.add_listener(&listener, LISTENER)?;
    let (mut all, mut conns) = (Groups::default(), Vec::<Option<Conn>>::new());
    let (mut chunk, mut confirmed) = (vec![0; CHUNK_BYTES], Vec::new());
    loop {
        for (number, may_read, may_write) in poll.wait(None)? {
            if number == LISTENER {
                let conn = accept(&listener, &mut all, &poll, conns.len() as u64)?;
                conns.push(Some(conn));
                continue;
            }
            let Some(slot) = conns.get_mut(number as usize) else { continue };
            match slot {
                Some(Conn::Publisher(stream, group)) if may_read => {
                    let has_gone = publish(stream, &mut all.groups[*group], &mut chunk)?;
                    if has_gone {
                        *slot = None;
                    }
                }
                Some(Conn::Member(number, index)) => {
                    let group = &mut all.groups[*number];
                    if may_read && group.hear(*index, &mut chunk) {
                        confirmed.push(*number);
                    }
                    if may_write {
                        group.members[*index].is_full = false;
                        group.write(*index);
                        group.forget();
                    }
                }
                _ => {}
            }
        }
        confirmed.dedup();
        for number in confirmed.drain(..) {
            all.groups[number].tell()?;
        }
    }
}

fn accept(listener: &TcpListener, all: &mut Groups, poll: &Poll, number: u64) -> Result<Conn> {
    let (stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut line = String::new();
    // The first line comes alone, so nothing else is taken with it.
    BufReader::new(&stream).read_line(&mut line)?;
    (&stream).write_all(b"ok\n")?;
    stream.set_nonblocking(true)?;
    poll.add(&stream, number)?;
    let (what, name) = line.trim().split_once(' ').context("what, and the GROUP")?;
    let Groups { numbers, groups } = all;
    let number = *numbers.entry(name.to_owned()).or_insert_with(|| {
        groups.push(Group::default());
        groups.len() - 1
    });
    let group = &mut groups[number];
    if what == "publish" {
        if group.asker.is_none() {
            group.asker = Some(stream.try_clone()?);
        }
        return Ok(Conn::Publisher(stream, number));
    }
    let (at, index) = (group.to, group.members.len());
    let confirmed = (what == "confirm").then_some(0);
    group.members.push(Member { stream, at, is_full: false, confirmed, unread: Vec::new() });
    Ok(Conn::Member(number, index))
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

    /// What a member says it has; whether it says anything.
    fn hear(&mut self, index: usize, chunk: &mut [u8]) -> bool {
        let member = &mut self.members[index];
        let Some(confirmed) = &mut member.confirmed else { return false };
        let mut has_said = false;
        // A read that leaves room was the last: more is told of again.
        while let Ok(n @ 1..) = member.stream.read(chunk) {
            member.unread.extend_from_slice(&chunk[..n]);
            if n < chunk.len() {
                break;
            }
        }
        let (said, _) = member.unread.as_chunks();
        if let Some(last) = said.last() {
            (*confirmed, has_said) = (u64::from_le_bytes(*last), true);
            member.unread.drain(..said.len() * size_of::<u64>());
        }
        has_said
    }

    /// The first publisher is told how many messages everybody has, when these are more.
    fn tell(&mut self) -> Result<()> {
        let all = self.members.iter().filter_map(|member| member.confirmed).min().unwrap_or(0);
        if let Some(asker) = self.asker.as_mut().filter(|_| all > self.told) {
            asker.write_all(&all.to_le_bytes()).context("the publisher does not read")?;
            self.told = all;
        }
        Ok(())
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
