//! The operations whose cost is looked at: each is done some times, one after the other.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::BytesMut;
use tertulia_group::Kind;
use tertulia_wire::native::{Ack, HistoryMode};
use tertulia_wire::{ClientFrame, NodeFrame};

use super::Cost;
use super::grown::{BODY, GROUP, Grown, MEMBERS};
use crate::peers::tertulia::{hear, send};

/// One operation.
pub struct Op {
    pub about: &'static str,
    /// So often in a round.
    times: u32,
    once: fn(&mut Grown) -> Result<()>,
}

/// On a page that is full.
const PAGE: u16 = 100;

/// All of them.
pub const ALL: &[Op] = &[
    Op { about: "a message to 10 members, with its receipt", times: 100, once: message },
    Op { about: "joining and leaving", times: 30, once: Grown::visit },
    Op { about: "a page of 100 groups", times: 30, once: groups },
    Op { about: "a page of its members", times: 30, once: members },
    Op { about: "the last 100 entries", times: 30, once: history },
];

impl Op {
    /// A round of it; `idle` is what the node uses in a second anyhow.
    pub fn measure(&self, node: &mut Grown, idle: Duration) -> Result<Cost> {
        // What the one before has left to be done, and the first time, are not counted.
        (self.once)(node)?;
        let (cpu, began) = (node.served.process().cpu()?, Instant::now());
        let mut took = Vec::new();
        for _ in 0..self.times {
            let at = Instant::now();
            (self.once)(node)?;
            took.push(at.elapsed());
        }
        let anyhow = idle.mul_f64(began.elapsed().as_secs_f64());
        let cpu = node.served.process().cpu()?.saturating_sub(cpu + anyhow);
        took.sort_unstable();
        Ok(Cost { cpu: cpu / self.times, took: took[took.len() / 2] })
    }
}

/// Published, delivered to everybody, confirmed by everybody, and the sender told.
fn message(node: &mut Grown) -> Result<()> {
    node.counter += 1;
    let mut out = BytesMut::new();
    tertulia_wire::native::write_publish(&mut out, "bench", node.counter, true, &BODY);
    node.sender.write_all(&out)?;
    for member in &mut node.members {
        let cursor = loop {
            match hear(member)? {
                NodeFrame::Entry(entry) if entry.header.kind == Kind::Message => {
                    break entry.header.seq;
                }
                NodeFrame::Entry(_) | NodeFrame::Heartbeat { .. } => {}
                other => bail!("a member is told {other:?}"),
            }
        };
        send(member, &ClientFrame::Ack(Ack { cursor, open: Vec::new(), failed: Vec::new() }))?;
    }
    loop {
        match hear(&mut node.sender)? {
            NodeFrame::Complete(runs) if runs.iter().any(|run| run.counter == node.counter) => {
                return Ok(());
            }
            // Somebody has left who was asked, too.
            NodeFrame::Receipt { counter, .. } if counter == node.counter => return Ok(()),
            NodeFrame::Stored(_) | NodeFrame::Complete(_) | NodeFrame::Heartbeat { .. } => {}
            other => bail!("the sender is told {other:?}"),
        }
    }
}

/// Asks on a connection of its own, whose making is part of it.
fn ask(node: &mut Grown, question: &ClientFrame) -> Result<NodeFrame> {
    let mut stream = node.connect()?;
    send(&mut stream, question)?;
    hear(&mut stream)
}

fn groups(node: &mut Grown) -> Result<()> {
    let (id, after, limit) = (1, String::new(), PAGE);
    match ask(node, &ClientFrame::Groups { id, after, limit })? {
        NodeFrame::GroupsPage { items, .. } if items.len() == PAGE as usize => Ok(()),
        other => bail!("the question for groups is answered {other:?}"),
    }
}

fn members(node: &mut Grown) -> Result<()> {
    let (id, group, after, limit) = (1, GROUP.to_owned(), String::new(), PAGE);
    match ask(node, &ClientFrame::Members { id, group, after, limit })? {
        NodeFrame::MembersPage { items, .. } if items.len() >= MEMBERS => Ok(()),
        other => bail!("the question for members is answered {other:?}"),
    }
}

fn history(node: &mut Grown) -> Result<()> {
    let full = usize::from(PAGE) * tertulia_group::entry::HEADER_BYTES;
    let (id, group, mode, limit) = (1, GROUP.to_owned(), HistoryMode::Last, u32::from(PAGE));
    match ask(node, &ClientFrame::History { id, group, mode, limit })? {
        NodeFrame::HistoryPage { entries, .. } if entries.len() >= full => Ok(()),
        other => bail!("the question for history is answered {other:?}"),
    }
}
