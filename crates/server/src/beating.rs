//! Once a second, each connection of a shard: a heartbeat where nothing else was written, and a look at whether its host is still
//! there. Done by the shard, so that no session is woken for it, and a few at a time, so that nobody waits for all of them.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::rc::Rc;

use tertulia_group::Door;
use tertulia_wire::NodeFrame;

use crate::conn::Conn;
use crate::hosted::{GroupKey, Hosted};
use crate::sending;
use crate::stream::Stream;

/// Connections that are looked at before somebody else on the shard has a turn.
const TURN_CONNS: usize = 64;
/// Nothing acknowledged for so long is dead, with an open window and with a closed one.
const DEAD_MS: u32 = 30_000;
const DEAD_CLOSED_MS: u32 = 300_000;

/// See the module.
#[derive(Default)]
pub(crate) struct Beats {
    /// Those that have not been looked at since the last second began.
    left: Vec<(Rc<Hosted>, Rc<Conn>)>,
}

impl Beats {
    /// A second has passed. Where the shard has not come to the end of the one before, that is ended first.
    pub fn begin(&mut self, groups: &HashMap<GroupKey, Rc<Hosted>>) {
        if !self.left.is_empty() {
            return;
        }
        for hosted in groups.values() {
            let conns = hosted.conns.borrow();
            self.left.extend(conns.values().map(|conn| (Rc::clone(hosted), Rc::clone(conn))));
        }
    }

    /// Whether somebody has not been looked at yet.
    pub fn is_due(&self) -> bool {
        !self.left.is_empty()
    }

    /// Looks at the next ones.
    pub fn go_on(&mut self) {
        let rest = self.left.len().saturating_sub(TURN_CONNS);
        self.left.drain(rest..).for_each(|(hosted, conn)| beat(&hosted, &conn));
        if self.left.is_empty() {
            // Not kept for the next second by those who may be gone then.
            self.left = Vec::new();
        }
    }
}

fn beat(hosted: &Hosted, conn: &Conn) {
    match conn.door {
        Door::Native => {
            let sending = conn.sending.borrow();
            if sending.as_ref().is_some_and(|sending| is_gone(&sending.stream)) {
                conn.host_is_gone();
            }
            drop(sending);
            let group = hosted.group.borrow();
            let heartbeat = NodeFrame::Heartbeat { epoch: group.epoch(), tail: group.tail() };
            drop(group);
            sending::beat(hosted, conn, &heartbeat);
        }
        // Asks its host how far it has come.
        Door::Line => conn.wake(),
        // Its session is elsewhere.
        Door::Web => {}
    }
}

/// Whether what was written has not been acknowledged for too long.
fn is_gone(stream: &Stream) -> bool {
    let socket = stream.as_fd();
    let waits = crate::linux::unacknowledged_bytes(socket).unwrap_or(0) > 0;
    // Most have acknowledged all: that was the cheaper question.
    let last = if waits { crate::linux::last_acknowledged(socket) } else { None };
    last.is_some_and(|(silent_ms, under_way)| {
        silent_ms > if under_way > 0 { DEAD_MS } else { DEAD_CLOSED_MS }
    })
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use tertulia_group::ConnId;

    use super::*;
    use crate::config::NodeLimits;
    use crate::testing;

    #[tokio::test]
    async fn everybody_has_a_turn_and_others_have_theirs_between() {
        let hosted = Rc::new(testing::hosted(&testing::shared(NodeLimits::default())));
        let many = TURN_CONNS as u64 * 2 + 1;
        for id in (1..=many).map(ConnId) {
            // A line session is woken by its beat, which is what can be seen here.
            let conn = Conn::new(id, Door::Line, IpAddr::V4(Ipv4Addr::LOCALHOST), None);
            hosted.conns.borrow_mut().insert(id, Rc::new(conn));
        }
        let (mut beats, mut turns) = (Beats::default(), 0);
        let groups = HashMap::from([(hosted.key, Rc::clone(&hosted))]);
        beats.begin(&groups);
        while beats.is_due() {
            beats.go_on();
            turns += 1;
        }
        assert_eq!(turns, 3);
        let conns: Vec<_> = hosted.conns.borrow().values().cloned().collect();
        for conn in conns {
            let woken = tokio::time::timeout(std::time::Duration::ZERO, conn.woken()).await;
            assert!(woken.is_ok(), "{:?} was left out", conn.id);
        }
    }
}
