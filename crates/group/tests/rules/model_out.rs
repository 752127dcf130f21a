//! The naive model's side of every input: what is refused, what is proposed, what is answered.

use std::collections::{BTreeMap, BTreeSet};

use tertulia_group::limits::OPEN_MAX;
use tertulia_group::{Door, Seq};

use crate::answer::Answer;
use crate::model::{Message, Model, Proposal, Role, Stay};

/// Where a test's member begins to read; places are in the model's only log and epoch unless said.
#[derive(Clone, Copy, Debug)]
pub enum Begin {
    Now,
    First,
    At(Seq),
    After(Seq),
}

#[derive(Clone, Copy, Debug)]
pub struct Wish {
    pub name: &'static str,
    pub door: Door,
    pub durable: bool,
    pub id: u8,
    pub shown: Option<u64>,
    pub fresh: u64,
    pub begin: Begin,
}

impl Model {
    pub fn join(&mut self, conn: u64, wish: Wish) {
        if self.roles.contains_key(&conn) {
            return self.expected.push(refused(conn, "AlreadyJoined"));
        }
        let there = self.present().find(|stay| stay.name == wish.name).cloned();
        if let Some(stay) = there {
            return match (wish.shown == Some(stay.secret), stay.leaving) {
                (true, false) => self.resume(conn, wish, &stay),
                (true, true) => self.say(refused(conn, "Busy")),
                (false, _) => self.say(refused(conn, "NameTaken")),
            };
        }
        let proposed = self.proposed().any(
            |(_, proposal)| matches!(proposal, Proposal::Joined(stay) if stay.name == wish.name),
        );
        if proposed {
            return self.say(refused(conn, "NameTaken"));
        }
        let key = self.next_seq();
        let cursor = match wish.begin {
            Begin::Now => key,
            Begin::First => 0,
            Begin::At(seq) => seq.clamp(1, key + 1) - 1,
            Begin::After(seq) => seq.min(key - 1).min(self.tail()),
        };
        self.roles
            .insert(conn, Role { key: Some(key), name: wish.name, id: wish.id, refused: None });
        self.propose(Proposal::Joined(Box::new(new_stay(key, conn, wish, cursor))));
    }

    fn resume(&mut self, conn: u64, wish: Wish, stay: &Stay) {
        let (tail, key) = (self.tail(), stay.key);
        let place = match wish.begin {
            Begin::After(seq) => Some(seq.min(tail)),
            _ => None,
        };
        if let Some(place) = place {
            self.confirm_up_to(key, place, &BTreeSet::new(), true);
        }
        let stay = self.stay(key);
        let next = stay.cursor + 1;
        let before = stay.conn.replace(conn);
        stay.lagging = false;
        if before.is_none() {
            stay.ends.clear();
        }
        let (acked, open) = (stay.cursor, stay.open.iter().copied().collect());
        if let Some(old) = before {
            self.forget(old);
            self.expected.push(Answer::Close { conn: old, why: "Replaced".to_owned() });
        }
        self.roles
            .insert(conn, Role { key: Some(key), name: wish.name, id: wish.id, refused: None });
        let last = self.last_counter(wish.id);
        self.say(Answer::Welcome { conn, resumed: true, key, next, acked, open, last });
    }

    pub fn open(&mut self, conn: u64, id: u8, known: bool) {
        if self.roles.contains_key(&conn) {
            return self.expected.push(refused(conn, "AlreadyJoined"));
        }
        let last = self.last_counter(id);
        if known && last == 0 {
            return self.expected.push(refused(conn, "SenderExpired"));
        }
        self.roles.insert(conn, Role { key: None, name: "out", id, refused: None });
        self.say(Answer::Ready { conn, last });
    }

    pub fn publish(&mut self, conn: u64, counter: u64, receipt: bool) {
        let refuse = |why: &str| Answer::MessageRefused { conn, counter, why: why.to_owned() };
        let Some(role) = self.roles.get(&conn).cloned() else {
            return self.expected.push(refuse("NotJoined"));
        };
        let is_member = self.of_conn(conn).is_some_and(|stay| !stay.leaving);
        if role.key.is_some() && !is_member {
            self.refuse_from(conn, counter);
            return self.expected.push(refuse("NotJoined"));
        }
        let sent = self.sent(role.id);
        if let Some((_, seq)) = sent.iter().find(|(known, _)| *known == counter) {
            self.came_again(conn, counter);
            return self.when_stored(Proposal::Again { conn, counter, seq: *seq, receipt });
        }
        if counter <= self.last_counter(role.id) {
            let expired = sent.first().is_none_or(|(first, _)| counter < *first);
            let why = if expired { "SenderExpired" } else { "CounterSkipped" };
            self.came_again(conn, counter);
            return self.expected.push(refuse(why));
        }
        if role.refused.is_some_and(|refused| counter > refused) {
            return self.expected.push(refuse("AfterRefused"));
        }
        self.came_again(conn, counter);
        let first_outside = (1..)
            .zip(&self.log)
            .filter_map(|(seq, entry)| Some((seq, entry.message.clone()?)))
            .chain(self.proposed().filter_map(|(seq, proposal)| match proposal {
                Proposal::Message(message) => Some((*seq, message.clone())),
                _ => None,
            }))
            .find(|(_, message)| message.id == role.id && message.publisher.is_none())
            .map(|(seq, _)| seq);
        let sender = role.key.or(first_outside).unwrap_or(self.next_seq());
        self.propose(Proposal::Message(Message {
            conn,
            id: role.id,
            counter,
            name: role.name,
            receipt,
            publisher: role.key,
            sender,
        }));
    }

    pub fn refuse_from(&mut self, conn: u64, counter: u64) {
        if let Some(role) = self.roles.get_mut(&conn) {
            role.refused = Some(role.refused.map_or(counter, |refused| refused.min(counter)));
        }
    }

    fn came_again(&mut self, conn: u64, counter: u64) {
        if let Some(role) = self.roles.get_mut(&conn) {
            role.refused = role.refused.filter(|refused| *refused != counter);
        }
    }

    pub fn ack(&mut self, conn: u64, cursor: Seq, open: &[Seq], failed: &[(Seq, &str)]) {
        let tail = self.tail();
        let Some(stay) = self.of_conn(conn).filter(|stay| !stay.leaving).cloned() else { return };
        let failing: BTreeMap<Seq, &str> = failed.iter().copied().collect();
        let open: BTreeSet<Seq> = open.iter().copied().collect();
        let after = cursor.max(stay.cursor);
        let reopened = open.iter().any(|seq| *seq <= stay.cursor && !stay.open.contains(seq));
        let beyond = cursor > tail || open.iter().any(|seq| *seq > after);
        if reopened || beyond || open.len() > OPEN_MAX {
            return self.expected.push(Answer::Close { conn, why: "BadAck".to_owned() });
        }
        for (seq, code) in failing {
            let confirmed = seq <= stay.cursor && !stay.open.contains(&seq);
            if seq > stay.key && seq <= after && !confirmed {
                self.stay(stay.key).failed.entry(seq).or_insert(code.to_owned());
            }
        }
        let failed: BTreeSet<Seq> = failed.iter().map(|(seq, _)| *seq).collect();
        // An ack says nothing of what is above its cursor.
        let kept = stay.open.iter().filter(|seq| **seq > cursor);
        let open = open.iter().chain(kept).filter(|seq| !failed.contains(seq)).copied().collect();
        self.confirm_up_to(stay.key, after, &open, false);
    }

    /// Every number up to `cursor` that is neither open nor failed is confirmed.
    fn confirm_up_to(&mut self, key: Seq, cursor: Seq, open: &BTreeSet<Seq>, keep_open: bool) {
        let now = self.now_ms;
        let stay = self.stay(key);
        if !keep_open {
            stay.open.clone_from(open);
        }
        stay.confirms |= cursor > 0 || !keep_open;
        stay.cursor = stay.cursor.max(cursor);
        let done = (key + 1..=stay.cursor)
            .filter(|seq| !stay.open.contains(seq) && !stay.failed.contains_key(seq));
        stay.confirmed = done.chain(stay.confirmed.iter().copied()).collect();
        stay.moves.push((now, stay.cursor));
    }

    pub fn reached(&mut self, conn: u64, seq: Seq) {
        let tail = self.tail();
        let Some(stay) = self.of_conn(conn).cloned() else { return };
        if stay.door == Door::Line && !stay.confirms && !stay.leaving {
            let stay = self.stay(stay.key);
            stay.reached = stay.reached.max(seq.min(tail));
        }
    }

    pub fn lagging(&mut self, conn: u64, lagging: bool) {
        if let Some(key) = self.of_conn(conn).map(|stay| stay.key) {
            self.stay(key).lagging = lagging;
        }
    }

    pub fn leave(&mut self, conn: u64) {
        match self.roles.get(&conn).and_then(|role| role.key) {
            Some(key) if self.present().any(|stay| stay.key == key) => {
                self.propose_left(key, "Exit");
            }
            Some(_) => {}
            None => self.expected.push(refused(conn, "NotJoined")),
        }
    }

    pub fn remove(&mut self, ticket: u64, name: &str) {
        let key = self.present().find(|stay| stay.name == name).map(|stay| stay.key);
        match key {
            Some(key) => {
                self.propose_left(key, "Removed");
                self.say(Answer::Removed { ticket, there: true });
            }
            None => self.expected.push(Answer::Removed { ticket, there: false }),
        }
    }

    pub fn closed(&mut self, conn: u64) {
        let key = self.of_conn(conn).filter(|stay| stay.conn == Some(conn)).map(|stay| stay.key);
        self.forget(conn);
        if let Some(key) = key {
            self.set_away(key);
        }
    }

    pub fn tick(&mut self) {
        let now = self.now_ms;
        let mut due: Vec<(u64, Seq)> = self
            .present()
            .filter_map(|stay| Some((*stay.ends.first().filter(|end| **end <= now)?, stay.key)))
            .collect();
        due.sort_unstable();
        for (_, key) in due {
            let stay = self.stay(key);
            stay.ends.retain(|end| *end > now);
            let lost = stay.lost.take();
            stay.leaving &= lost.is_none();
            self.propose_left(key, lost.unwrap_or("Lost"));
        }
    }

    pub fn take_over(&mut self, epoch: u32) {
        self.epoch = epoch;
        self.propose(Proposal::Epoch);
        let keys: Vec<Seq> = self.present().map(|stay| stay.key).collect();
        keys.into_iter().for_each(|key| self.set_away(key));
    }
}

fn refused(conn: u64, why: &str) -> Answer {
    Answer::Refused { conn, why: why.to_owned() }
}

fn new_stay(key: Seq, conn: u64, wish: Wish, cursor: Seq) -> Stay {
    Stay {
        key,
        name: wish.name,
        door: wish.door,
        durable: wish.durable,
        secret: wish.fresh,
        conn: Some(conn),
        away_since: 0,
        lagging: false,
        ends: BTreeSet::new(),
        leaving: false,
        lost: None,
        left: None,
        cursor,
        confirmed: BTreeSet::new(),
        failed: BTreeMap::new(),
        open: BTreeSet::new(),
        reached: 0,
        confirms: false,
        moves: Vec::new(),
    }
}
