//! The load: members, publishers and one round of a work, in one thread that is cheap enough not to be what is measured.
//!
//! Members whose messages are all as long throw away what comes (`MSG_TRUNC`) and count its bytes; one member of the first group
//! looks at every message: each publisher's numbers have to rise by one.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::net::RecvFlags;

use crate::peers::{Conn, Frame, Peer};
use crate::poll::Poll;
use crate::served::{PATIENCE, Served};
use crate::works::{Pace, Work};

/// The number of the message with which everything begins.
const MARKER: u64 = u64::MAX;
/// Read at once.
const READ_BYTES: usize = 1 << 20;
/// What may stand between messages where nothing was looked at (Tertulia's heartbeat of 20 bytes).
const SLACK_BYTES: u64 = 20;
/// A round in which nothing arrives for so long has failed.
const STALLED: Duration = Duration::from_secs(20);
/// What a server has after the last delivery to take in the last acknowledgements.
const AFTERWARDS: Duration = Duration::from_millis(20);

struct Member {
    conn: Conn,
    group: usize,
    /// Bytes of each message, where nothing is looked at.
    message_len: Option<u64>,
    /// What was read and is no whole frame yet, where everything is looked at.
    unread: Vec<u8>,
    /// Bytes of messages in this round.
    bytes: u64,
    /// Messages in this round, and in all.
    taken: u64,
    taken_before: u64,
    /// What it has said of that.
    acked: u64,
    /// What the socket did not take of an acknowledgement.
    unsent: Vec<u8>,
    /// The last number of each publisher, for the member that looks.
    numbers: BTreeMap<u64, u64>,
    is_checked: bool,
}

struct Publisher {
    conn: Conn,
    unsent: Vec<u8>,
    unread: Vec<u8>,
    count: u64,
    index: u64,
}

/// What is under way in one group.
#[derive(Default)]
struct Group {
    members: usize,
    publishers: Vec<usize>,
    /// Blocks that were sent, and when; for each the members that have not all of it.
    blocks: VecDeque<(Instant, usize)>,
    /// Blocks that everybody has.
    done: u64,
    sent: u64,
}

/// What one round came to.
#[derive(Clone, Debug, Default, serde::Deserialize, serde::Serialize)]
pub struct Round {
    pub deliveries: u64,
    pub took: Duration,
    pub cpu: Duration,
    /// Times until all had a message (where one is on its way at a time, or they are paced), sorted.
    pub received: Vec<Duration>,
    /// Times until the publisher knew that all had confirmed it.
    pub confirmed: Vec<Duration>,
}

/// Everybody who takes part in a work with one peer.
pub struct Load {
    work: Work,
    served: Served,
    poll: Poll,
    members: Vec<Member>,
    publishers: Vec<Publisher>,
    _stuck: Vec<Conn>,
    groups: Vec<Group>,
    sink: Vec<u8>,
}

fn group_name(index: usize) -> String {
    format!("g{index:04}")
}

impl Load {
    /// Starts the server, and connects everybody.
    pub fn new(peer: &dyn Peer, work: Work) -> Result<Self> {
        let served = peer.start().with_context(|| peer.name().to_owned())?;
        let names: Vec<String> = (0..work.groups).map(group_name).collect();
        peer.prepare(&served, &names)?;
        let poll = Poll::new()?;
        let (mut members, mut publishers) = (Vec::new(), Vec::new());
        for (group, name) in names.iter().enumerate() {
            for member in 0..work.members {
                let conn = peer.member(&served, name, group * work.members + member)?;
                let is_checked = group == 0 && member == 0;
                members.push(Member::new(conn, group, is_checked, &work));
            }
        }
        let stuck: Vec<Conn> = (0..work.stuck)
            .map(|index| peer.member(&served, &names[0], members.len() + index))
            .collect::<Result<_>>()?;
        for conn in &stuck {
            rustix::net::sockopt::set_socket_recv_buffer_size(&conn.stream, 4096)?;
        }
        let mut groups: Vec<Group> = Vec::new();
        for (group, name) in names.iter().enumerate() {
            let first = publishers.len();
            for index in first..first + work.publishers {
                let conn = peer.publisher(&served, name, index)?;
                let (unsent, unread) = (Vec::new(), Vec::new());
                publishers.push(Publisher { conn, unsent, unread, count: 0, index: index as u64 });
            }
            let publishers = (first..first + work.publishers).collect();
            groups.push(Group { members: work.members, publishers, ..Group::default() });
            ensure!(groups.len() == group + 1, "groups in their order");
        }
        let sink = vec![0; READ_BYTES];
        let mut load =
            Self { work, served, poll, members, publishers, _stuck: stuck, groups, sink };
        load.begin().with_context(|| format!("{}: the first message", peer.name()))?;
        Ok(load)
    }

    /// A first message to each group; what came before it is none of the work's.
    fn begin(&mut self) -> Result<()> {
        let body = body(MARKER, self.work.body_len);
        for group in &self.groups {
            let publisher = &mut self.publishers[group.publishers[0]];
            let mut out = Vec::new();
            publisher.conn.side.publish(&body, &mut out);
            publisher.conn.stream.write_all(&out)?;
        }
        for (number, member) in self.members.iter_mut().enumerate() {
            member.until_marker(&mut self.sink)?;
            member.conn.stream.set_nonblocking(true)?;
            self.poll.add(&member.conn.stream, number as u64)?;
            member.acknowledge();
        }
        for (number, publisher) in self.publishers.iter_mut().enumerate() {
            publisher.conn.stream.set_nonblocking(true)?;
            self.poll.add(&publisher.conn.stream, (self.members.len() + number) as u64)?;
        }
        Ok(())
    }

    /// One round of so long.
    pub fn round(&mut self, length: Duration) -> Result<Round> {
        let pid = self.served.pid();
        self.rest()?;
        for member in &mut self.members {
            member.taken_before += std::mem::take(&mut member.taken);
            member.bytes = 0;
        }
        for group in &mut self.groups {
            (group.done, group.sent) = (0, 0);
            group.blocks.clear();
        }
        let confirmed_before = self.confirmed();
        let cpu = crate::cpu::used(pid)?;
        let began = Instant::now();
        let mut round = match self.work.pace {
            Pace::Window(_) => self.windowed(began + length)?,
            Pace::PerSecond(rate) => self.paced(began + length, rate, confirmed_before)?,
        };
        round.took = began.elapsed();
        let sent: u64 = self.groups.iter().map(|group| group.sent).sum();
        // Where a publisher is told, the round ends when it has been told of everything; with somebody who never reads, it never is.
        let until = Instant::now() + STALLED;
        let is_told = self.work.stuck == 0;
        while self
            .confirmed()
            .zip(confirmed_before)
            .is_some_and(|(now, before)| is_told && now - before < sent)
        {
            ensure!(Instant::now() < until, "confirmations do not come");
            self.turn(Some(Duration::from_millis(5)), &mut round, false)?;
        }
        std::thread::sleep(AFTERWARDS);
        round.cpu = crate::cpu::used(pid)?.saturating_sub(cpu);
        round.deliveries = self.members.iter().map(|member| member.taken).sum();
        for member in &self.members {
            let expected = self.groups[member.group].sent;
            ensure!(member.taken == expected, "{} of {expected} have come", member.taken);
        }
        round.received.sort_unstable();
        round.confirmed.sort_unstable();
        Ok(round)
    }

    fn confirmed(&self) -> Option<u64> {
        self.publishers.iter().map(|publisher| publisher.conn.side.confirmed()).sum()
    }

    /// Takes what has come since the last round: no messages.
    fn rest(&mut self) -> Result<()> {
        for member in &mut self.members {
            let taken = member.taken;
            let mut none = Vec::new();
            member.look(&mut self.sink, &mut none)?;
            ensure!(member.taken == taken, "a message more than was sent");
        }
        Ok(())
    }

    /// A block of messages of one group, shared among its publishers.
    fn send_block(&mut self, group: usize, count: usize) -> Result<()> {
        let now = Instant::now();
        let (body_len, Group { publishers, .. }) = (self.work.body_len, &self.groups[group]);
        let publishers = publishers.clone();
        for nth in 0..count {
            let publisher = &mut self.publishers[publishers[nth % publishers.len()]];
            publisher.count += 1;
            let body = body(publisher.index << 48 | publisher.count, body_len);
            publisher.conn.side.publish(&body, &mut publisher.unsent);
        }
        for index in publishers {
            self.publishers[index].write()?;
        }
        let group = &mut self.groups[group];
        group.sent += count as u64;
        group.blocks.push_back((now, group.members));
        Ok(())
    }

    fn windowed(&mut self, end: Instant) -> Result<Round> {
        let (block, blocks) = self.work.blocks();
        let mut round = Round::default();
        for group in 0..self.groups.len() {
            for _ in 0..blocks {
                self.send_block(group, block)?;
            }
        }
        let mut told = Instant::now();
        while self.groups.iter().any(|group| !group.blocks.is_empty()) {
            let has_come =
                self.turn(Some(Duration::from_millis(100)), &mut round, Instant::now() < end)?;
            if has_come {
                told = Instant::now();
            }
            ensure!(told.elapsed() < STALLED, "nothing comes any more");
        }
        Ok(round)
    }

    fn paced(&mut self, end: Instant, rate: u32, before: Option<u64>) -> Result<Round> {
        let (mut round, every) = (Round::default(), Duration::from_secs(1) / rate);
        let mut next = Instant::now();
        let mut sent: VecDeque<Instant> = VecDeque::new();
        let mut known = before.unwrap_or(0);
        let mut told = Instant::now();
        loop {
            let now = Instant::now();
            if now >= next && now < end {
                self.send_block(0, 1)?;
                sent.push_back(now);
                next += every;
                continue;
            }
            if now >= end && self.groups[0].blocks.is_empty() {
                return Ok(round);
            }
            let within = if now < end { next - now } else { Duration::from_millis(100) };
            if self.turn(Some(within), &mut round, false)? {
                told = Instant::now();
            }
            if let Some(confirmed) = self.confirmed() {
                let at = Instant::now();
                for _ in known..confirmed {
                    round.confirmed.extend(sent.pop_front().map(|sent| at - sent));
                }
                known = confirmed;
            }
            ensure!(told.elapsed() < STALLED, "nothing comes any more");
        }
    }

    /// Waits for sockets and does what they allow; whether a message has come. `goes_on`: who is done gets the next block.
    fn turn(&mut self, within: Option<Duration>, round: &mut Round, goes_on: bool) -> Result<bool> {
        let (mut has_come, mut touched) = (false, Vec::new());
        for (number, may_read, _) in self.poll.wait(within)? {
            let number = number as usize;
            if let Some(index) = number.checked_sub(self.members.len()) {
                let publisher = &mut self.publishers[index];
                publisher.write()?;
                if may_read {
                    publisher.read(&mut self.sink)?;
                }
                continue;
            }
            let member = &mut self.members[number];
            let before = member.taken;
            if may_read {
                member.read(&mut self.sink)?;
            }
            let (after, group) = (member.taken, member.group);
            touched.push(number);
            if after > before {
                has_come = true;
                self.progress(group, before, after, round, goes_on)?;
            }
        }
        // After all of them have read: members are as many programs, and none waits for another one's acknowledgement.
        for number in touched {
            self.members[number].acknowledge();
        }
        Ok(has_come)
    }

    /// A member of `group` has come from so many to so many messages of this round.
    fn progress(
        &mut self,
        group: usize,
        before: u64,
        after: u64,
        round: &mut Round,
        goes_on: bool,
    ) -> Result<()> {
        let (block, _) = self.work.blocks();
        let (from, to) = (before / block as u64, after / block as u64);
        let is_timed = block == 1;
        for number in from..to {
            let state = &mut self.groups[group];
            let at = usize::try_from(number - state.done)?;
            let (sent, left) = state.blocks.get_mut(at).context("more than was sent has come")?;
            *left -= 1;
            if *left > 0 {
                continue;
            }
            if is_timed {
                round.received.push(sent.elapsed());
            }
            while state.blocks.front().is_some_and(|(_, left)| *left == 0) {
                state.blocks.pop_front();
                state.done += 1;
            }
            if goes_on {
                self.send_block(group, block)?;
            }
        }
        Ok(())
    }
}

impl Work {
    /// Messages on their way at once.
    pub fn window(&self) -> usize {
        match self.pace {
            Pace::Window(window) => window,
            Pace::PerSecond(_) => 1,
        }
    }

    /// They are sent in blocks of so many, so many blocks at once.
    fn blocks(&self) -> (usize, usize) {
        let window = self.window();
        if window == 1 { (1, 1) } else { (window / 2, 2) }
    }
}

/// A body of this length that begins with a number.
fn body(number: u64, len: usize) -> Vec<u8> {
    let mut body = number.to_le_bytes().to_vec();
    body.resize(len, b'.');
    body
}

impl Member {
    fn new(conn: Conn, group: usize, is_checked: bool, work: &Work) -> Self {
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
    fn until_marker(&mut self, sink: &mut [u8]) -> Result<()> {
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
    fn read(&mut self, sink: &mut [u8]) -> Result<()> {
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
    fn look(&mut self, sink: &mut [u8], numbers: &mut Vec<u64>) -> Result<()> {
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
    fn acknowledge(&mut self) {
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

impl Publisher {
    fn write(&mut self) -> Result<()> {
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
    fn read(&mut self, sink: &mut [u8]) -> Result<()> {
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
