//! The load: members, publishers and one round of a work, in one thread that is cheap enough not to be what is measured.
//!
//! Members whose messages are all as long throw away what comes (`MSG_TRUNC`) and count its bytes; one member of the first group
//! looks at every message: each publisher's numbers have to rise by one.

mod member;
mod publisher;

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use self::member::Member;
use self::publisher::Publisher;
use crate::peers::{Conn, Peer};
use crate::poll::Poll;
use crate::served::Served;
use crate::works::{Pace, Work};

/// The number of the message with which everything begins.
const MARKER: u64 = u64::MAX;
/// Read at once.
const READ_BYTES: usize = 1 << 20;
/// A round in which nothing arrives for so long has failed.
const STALLED: Duration = Duration::from_secs(20);
/// What a server has after the last delivery to take in the last acknowledgements.
const AFTERWARDS: Duration = Duration::from_millis(20);

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
    /// Starts the server, which keeps what it keeps within this folder, and connects everybody.
    pub fn new(peer: &dyn Peer, work: Work, within: &Path) -> Result<Self> {
        let served = peer.start(within).with_context(|| peer.name().to_owned())?;
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
                publishers.push(Publisher::new(conn, index as u64));
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
            if self.work.stuck > 0 {
                publisher.drain()?;
            }
        }
        Ok(())
    }

    /// One round of so long.
    pub fn round(&mut self, length: Duration) -> Result<Round> {
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
        let cpu = self.served.process().cpu()?;
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
        round.cpu = self.served.process().cpu()?.saturating_sub(cpu);
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

/// A body of this length that begins with a number.
fn body(number: u64, len: usize) -> Vec<u8> {
    let mut body = number.to_le_bytes().to_vec();
    body.resize(len, b'.');
    body
}
