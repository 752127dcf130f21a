//! The naive model: a log, and for every stay the sets of what it confirmed, failed and is at work on, as DESIGN.md says it.

use std::collections::{BTreeMap, BTreeSet};

use tertulia_group::{Door, Seq};

use crate::answer::{Answer, Plain};

pub const GRACE_MS: u64 = 30_000;

/// One stay of a member, also when it is over.
#[derive(Clone, Debug)]
pub struct Stay {
    pub key: Seq,
    pub name: &'static str,
    pub door: Door,
    pub durable: bool,
    pub secret: u64,
    pub conn: Option<u64>,
    pub away_since: u64,
    pub lagging: bool,
    /// When a `left` is proposed for it.
    pub ends: BTreeSet<u64>,
    pub leaving: bool,
    /// Its `left` could not be stored and is tried again.
    pub lost: Option<&'static str>,
    pub left: Option<Seq>,
    pub cursor: Seq,
    pub confirmed: BTreeSet<Seq>,
    pub failed: BTreeMap<Seq, String>,
    pub open: BTreeSet<Seq>,
    pub reached: Seq,
    pub confirms: bool,
    /// (when, cursor) of every move.
    pub moves: Vec<(u64, Seq)>,
}

/// What is on its way to the log, and the answers that wait for it.
#[derive(Clone, Debug)]
pub enum Proposal {
    Epoch,
    Joined(Box<Stay>),
    Left {
        key: Seq,
        why: &'static str,
    },
    Message(Message),
    Answer(Answer),
    /// Somebody asks again for a counter.
    Again {
        conn: u64,
        counter: u64,
        seq: Seq,
        receipt: bool,
    },
}

#[derive(Clone, Debug)]
pub struct Message {
    pub conn: u64,
    pub id: u8,
    pub counter: u64,
    pub name: &'static str,
    pub receipt: bool,
    pub publisher: Option<Seq>,
    pub sender: Seq,
}

/// What one connection is.
#[derive(Clone, Debug)]
pub struct Role {
    pub key: Option<Seq>,
    pub name: &'static str,
    pub id: u8,
    pub refused: Option<u64>,
}

/// An entry that is stored.
#[derive(Clone, Debug)]
pub struct Entry {
    pub epoch: u32,
    pub message: Option<Message>,
}

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub now_ms: u64,
    pub epoch: u32,
    /// Entry n is at n - 1.
    pub log: Vec<Entry>,
    pub stays: Vec<Stay>,
    pub roles: BTreeMap<u64, Role>,
    /// In flight first, then what waits for the next batch.
    pub flying: Option<Vec<(Seq, Proposal)>>,
    pub building: Vec<(Seq, Proposal)>,
    /// While a batch becomes true: its last number.
    pub through: Seq,
    /// Who waits for a final answer: the first ask and a repeated one are two.
    pub waiting: Vec<(u64, u64, Seq)>,
    pub held: BTreeSet<(Seq, u64, u64)>,
    pub tickets: BTreeMap<u64, Seq>,
    pub expected: Vec<Answer>,
}

impl Model {
    pub fn tail(&self) -> Seq {
        self.log.len() as Seq
    }

    /// Everything proposed and not stored, in order.
    pub fn proposed(&self) -> impl Iterator<Item = &(Seq, Proposal)> {
        self.flying.iter().flatten().chain(&self.building)
    }

    pub fn next_seq(&self) -> Seq {
        self.proposed().map(|(seq, _)| *seq).max().unwrap_or(0).max(self.tail()).max(self.through)
            + 1
    }

    pub fn stay(&mut self, key: Seq) -> &mut Stay {
        self.stays.iter_mut().find(|stay| stay.key == key).expect("a stay of the model")
    }

    /// In the view now.
    pub fn present(&self) -> impl Iterator<Item = &Stay> {
        self.stays.iter().filter(|stay| stay.left.is_none())
    }

    pub fn of_conn(&self, conn: u64) -> Option<&Stay> {
        let key = self.roles.get(&conn)?.key?;
        self.present().find(|stay| stay.key == key)
    }

    pub fn propose(&mut self, proposal: Proposal) -> Seq {
        let seq = self.next_seq();
        self.building.push((seq, proposal));
        seq
    }

    /// An answer waits for all that is proposed.
    pub fn say(&mut self, answer: Answer) {
        self.when_stored(Proposal::Answer(answer));
    }

    pub fn when_stored(&mut self, proposal: Proposal) {
        let seq = self.next_seq() - 1;
        if !self.building.is_empty() {
            self.building.push((seq, proposal));
        } else if let Some(flying) = &mut self.flying {
            flying.push((seq, proposal));
        } else {
            self.apply(seq, proposal);
        }
    }

    /// What of a sender's was taken, proposed or stored: counter and number.
    pub fn sent(&self, id: u8) -> Vec<(u64, Seq)> {
        let proposed = self.proposed().filter_map(|(seq, proposal)| match proposal {
            Proposal::Message(message) => Some((*seq, message)),
            _ => None,
        });
        let stored = (1..).zip(&self.log);
        stored
            .filter_map(|(seq, entry)| Some((seq, entry.message.as_ref()?)))
            .chain(proposed)
            .filter(|(_, message)| message.id == id)
            .map(|(seq, message)| (message.counter, seq))
            .collect()
    }

    pub fn last_counter(&self, id: u8) -> u64 {
        self.sent(id).last().map_or(0, |(counter, _)| *counter)
    }

    /// A batch is handed over.
    pub fn take(&mut self) {
        assert!(self.flying.is_none());
        self.flying = Some(std::mem::take(&mut self.building));
    }

    pub fn stored(&mut self) {
        let before = self.expected.len();
        let flying = self.flying.take().expect("in flight");
        self.through = flying.last().map_or(0, |(seq, _)| *seq);
        for (seq, proposal) in flying {
            self.apply(seq, proposal);
        }
        self.through = 0;
        // A new member is told what of its sender is stored now, and no more.
        let stored = Self { log: self.log.clone(), ..Self::default() };
        for answer in &mut self.expected[before..] {
            if let Answer::Welcome { conn, resumed: false, last, .. } = answer {
                *last = self.roles.get(conn).map_or(0, |role| stored.last_counter(role.id));
            }
        }
    }

    /// Nothing of it was ever said; answers that reveal nothing of it are still given.
    pub fn not_stored(&mut self) {
        let flying = self.flying.take().expect("in flight");
        let building = std::mem::take(&mut self.building);
        for (seq, proposal) in flying.into_iter().chain(building) {
            self.take_back(seq, proposal);
        }
    }

    fn take_back(&mut self, seq: Seq, proposal: Proposal) {
        let why = "NoSpace".to_owned();
        match proposal {
            Proposal::Epoch => unreachable!("a coordinator without its epoch is given up"),
            Proposal::Joined(stay) => {
                if let Some(conn) = stay.conn {
                    self.roles.remove(&conn);
                    self.expected.push(Answer::Refused { conn, why });
                }
            }
            Proposal::Left { key, why } => {
                let again = self.now_ms + 1000;
                let stay = self.stay(key);
                stay.lost = Some(why);
                stay.ends.insert(again);
            }
            Proposal::Message(Message { conn, counter, publisher, .. }) => {
                let own = self.roles.get(&conn).is_some_and(|role| role.key == publisher);
                self.lost(conn, counter, own);
            }
            Proposal::Again { conn, counter, seq: of, .. } if of > self.tail() => {
                self.lost(conn, counter, true);
            }
            Proposal::Answer(Answer::Welcome { conn, resumed, key, next, acked, open, .. }) => {
                // The sender's last counter is what is left of it.
                let last = self.roles.get(&conn).map_or(0, |role| self.last_counter(role.id));
                self.expected.push(Answer::Welcome { conn, resumed, key, next, acked, open, last });
            }
            Proposal::Answer(Answer::Ready { conn, .. }) => {
                let last = self.roles.get(&conn).map_or(0, |role| self.last_counter(role.id));
                self.expected.push(Answer::Ready { conn, last });
            }
            answer => self.apply(seq, answer),
        }
    }

    fn lost(&mut self, conn: u64, counter: u64, own: bool) {
        self.expected.push(Answer::MessageRefused { conn, counter, why: "NoSpace".to_owned() });
        if own {
            self.refuse_from(conn, counter);
        }
    }

    pub fn apply(&mut self, seq: Seq, proposal: Proposal) {
        let is_entry = !matches!(proposal, Proposal::Answer(_) | Proposal::Again { .. });
        if is_entry {
            assert_eq!(seq, self.tail() + 1);
            let message = match &proposal {
                Proposal::Message(message) => Some(message.clone()),
                _ => None,
            };
            self.log.push(Entry { epoch: self.epoch, message });
        }
        match proposal {
            Proposal::Epoch => {}
            Proposal::Joined(stay) => self.joined(*stay),
            Proposal::Left { key, why } => self.left(seq, key, why),
            Proposal::Message(message) => {
                let Message { conn, counter, receipt, publisher, .. } = message;
                if self.roles.get(&conn).is_some_and(|role| role.key == publisher) {
                    self.expected.push(Answer::Stored { conn, counter, seq });
                    if receipt {
                        self.waiting.push((conn, counter, seq));
                    }
                }
            }
            Proposal::Answer(answer) => self.expected.push(answer),
            Proposal::Again { conn, .. } if !self.roles.contains_key(&conn) => {}
            Proposal::Again { conn, counter, seq, receipt } => {
                self.expected.push(Answer::Stored { conn, counter, seq });
                if receipt {
                    self.held.insert((seq, conn, counter));
                }
            }
        }
    }

    fn joined(&mut self, mut stay: Stay) {
        let conn = stay.conn.filter(|conn| self.roles.contains_key(conn));
        stay.conn = conn;
        self.expected.push(Answer::Joined(stay.name.to_owned()));
        let (key, cursor) = (stay.key, stay.cursor);
        stay.moves.push((self.now_ms, cursor));
        self.stays.push(stay);
        match conn {
            Some(conn) => {
                let (next, open) = (cursor + 1, Vec::new());
                let (resumed, last) = (false, 0);
                self.expected.push(Answer::Welcome {
                    conn,
                    resumed,
                    key,
                    next,
                    acked: cursor,
                    open,
                    last,
                });
            }
            None => self.set_away(key),
        }
    }

    fn left(&mut self, seq: Seq, key: Seq, why: &'static str) {
        let stay = self.stay(key);
        stay.left = Some(seq);
        let (name, conn) = (stay.name.to_owned(), stay.conn.take());
        if let Some(conn) = conn {
            self.forget(conn);
            self.expected.push(Answer::Gone { conn, why: why.to_owned() });
        }
        self.expected.push(Answer::Left(name, why.to_owned()));
    }

    pub fn forget(&mut self, conn: u64) {
        self.roles.remove(&conn);
        self.waiting.retain(|(own, ..)| *own != conn);
        self.held.retain(|(_, own, _)| *own != conn);
    }

    pub fn set_away(&mut self, key: Seq) {
        let now = self.now_ms;
        let stay = self.stay(key);
        (stay.conn, stay.away_since, stay.lagging) = (None, now, false);
        match (stay.door, stay.durable) {
            (Door::Line, _) => self.propose_left(key, "Lost"),
            (_, true) => {}
            (_, false) => {
                stay.ends.insert(now + GRACE_MS);
            }
        }
    }

    pub fn propose_left(&mut self, key: Seq, why: &'static str) {
        let stay = self.stay(key);
        if stay.left.is_none() && !stay.leaving {
            stay.leaving = true;
            stay.ends.clear();
            self.propose(Proposal::Left { key, why });
        }
    }

    /// The receipt by its definition.
    pub fn receipt(&self, seq: Seq) -> Option<(Plain, bool)> {
        let entry = &self.log[seq as usize - 1];
        let message = entry.message.as_ref()?;
        let asked = self.stays.iter().filter(|stay| {
            stay.key < seq
                && stay.left.is_none_or(|left| left > seq)
                && Some(stay.key) != message.publisher
        });
        let mut plain = Plain {
            seq,
            epoch: entry.epoch,
            members: 0,
            confirmed: 0,
            reached: 0,
            missing: Vec::new(),
        };
        let mut is_final = true;
        for stay in asked {
            plain.members += 1;
            let why = if let Some(code) = stay.failed.get(&seq) {
                format!("Failed {{ code: {code:?} }}")
            } else if stay.confirmed.contains(&seq) {
                plain.confirmed += 1;
                continue;
            } else if stay.reached >= seq {
                plain.reached += 1;
                continue;
            } else if stay.left.is_some() {
                "Left".to_owned()
            } else {
                is_final = false;
                match stay.conn {
                    None => format!("Away {{ ms: {} }}", self.now_ms - stay.away_since),
                    Some(_) if stay.lagging => "Lagging".to_owned(),
                    Some(_) => "Pending".to_owned(),
                }
            };
            plain.missing.push((stay.name.to_owned(), why));
        }
        plain.missing.sort();
        Some((plain, is_final))
    }

    /// Everybody who waits and whose receipt nobody can change any more is answered now.
    pub fn settle(&mut self) {
        let mut answered = Vec::new();
        let held: Vec<_> =
            self.held.iter().map(|(seq, conn, counter)| (*conn, *counter, *seq)).collect();
        for (conn, counter, seq) in self.waiting.iter().chain(&held) {
            let (receipt, is_final) = self.receipt(*seq).expect("a message");
            if is_final {
                answered.push((*conn, *counter, *seq));
                self.expected.push(Answer::Final { conn: *conn, counter: *counter, receipt });
            }
        }
        self.waiting.retain(|one| !answered.contains(one));
        self.held.retain(|(seq, conn, counter)| !answered.contains(&(*conn, *counter, *seq)));
        let tickets: Vec<_> = self.tickets.iter().map(|(ticket, seq)| (*ticket, *seq)).collect();
        for (ticket, seq) in tickets {
            if let Some((receipt, true)) = self.receipt(seq) {
                self.tickets.remove(&ticket);
                self.expected.push(Answer::Awaited { ticket, receipt: Some(receipt) });
            }
        }
    }
}
