//! The group itself: its state, how an input is taken in, and what is handed to the driver.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use bytes::BytesMut;

use crate::effect::Effect;
use crate::ids::{ById, ConnId, Epoch, Incarnation, LeaveReason, LogId, Now, SenderId, Seq};
use crate::limits::Limits;
use crate::machine::{Batch, Building, Identity, Input, Output};
use crate::members::{Member, Members};
use crate::name::Name;
use crate::past::Past;
use crate::senders::Senders;
use crate::waiting::Waiting;
use crate::watch::Watch;

/// What a connection is to the group.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    /// The stay, for a member.
    pub key: Option<Incarnation>,
    pub name: Name,
    pub sender: SenderId,
    /// Bytes taken in and not stored yet.
    pub unstored: usize,
    /// Nothing above this counter is taken until it comes again.
    pub refused: Option<u64>,
    /// The last counter that was known of its sender; stays when the table forgets the sender meanwhile.
    pub last_counter: u64,
}

/// A batch that the journal has not answered for.
#[derive(Debug)]
pub(crate) struct InFlight {
    /// The last number once it is stored.
    pub through: Seq,
    /// Its notes of what failed.
    pub failures: BytesMut,
    pub effects: Vec<Effect>,
}

/// How full the tables are for which [`Limits`] has a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Members, those that are joining included.
    pub members: usize,
    /// Senders that are remembered, apart from those of which something is not stored yet.
    pub senders: usize,
    /// Runs of messages that wait for a receipt, of the connection that has most.
    pub waiting_runs: usize,
    /// Runs of messages whose receipts somebody who looks on is to be told.
    pub watched_runs: usize,
    /// Members that left and are remembered.
    pub departed: usize,
    /// Failures that are remembered.
    pub failures: usize,
    /// Bytes that are taken in and not stored.
    pub unstored_bytes: usize,
    /// The same of the connection that has most.
    pub connection_unstored_bytes: usize,
}

/// One group. Nothing in here waits, reads a clock or does I/O: the driver calls [`Group::handle`] for whatever happens,
/// once a turn [`Group::settle`], takes what is to be appended with [`Group::take_batch`], and carries out
/// [`Group::outputs`].
#[derive(Debug)]
pub struct Group {
    pub(crate) identity: Identity,
    pub(crate) limits: Limits,
    /// The lowest number that is kept.
    pub(crate) first: Seq,
    /// The last number that is stored: everything below is as of here.
    pub(crate) stored: Seq,
    pub(crate) members: Members,
    pub(crate) past: Past,

    /// The last number that has been given.
    pub(crate) proposed: Seq,
    pub(crate) building: Building,
    /// Batches that are as large as they may be and wait for the one in flight.
    pub(crate) full: VecDeque<Building>,
    pub(crate) in_flight: Option<InFlight>,
    pub(crate) unstored: usize,
    /// Includes what is proposed.
    pub(crate) senders: Senders,
    /// Skeletons of names whose `joined` entry is on its way.
    pub(crate) joining: HashSet<Arc<str>>,

    /// On the heap each: there is twice the room in the table, and a role is taken out and put back for each run.
    pub(crate) roles: ById<ConnId, Box<Role>>,
    /// Which connections speak for a sender id.
    pub(crate) speakers: BTreeSet<(SenderId, ConnId)>,
    pub(crate) waiting: BTreeMap<ConnId, Waiting>,
    /// Whose turn it is to be given receipts, where the last turn could not give all.
    pub(crate) next_waiting: ConnId,
    pub(crate) held: BTreeMap<(Seq, crate::waiting::HeldFor), Option<Incarnation>>,
    pub(crate) followers: BTreeSet<ConnId>,
    pub(crate) watch: Option<Watch>,
    /// (when, who): away members whose grace ends.
    pub(crate) graces: BTreeSet<(u64, Incarnation)>,
    /// Members whose `left` entry could not be stored, with its reason; `graces` says when it is tried again.
    pub(crate) lost_lefts: ById<Incarnation, LeaveReason>,
    /// A cursor or a failure is not stored since then.
    pub(crate) unsaved_since: Option<u64>,
    /// Failures for the next notes.
    pub(crate) unsaved_failures: BytesMut,
    /// Cursors and failures alone are not tried before then: the last batch found no room.
    pub(crate) notes_from_ms: u64,
    /// Something that receipts depend on has changed since the last [`Group::settle`].
    pub(crate) moved: bool,
    pub(crate) outputs: Vec<Output>,
}

impl Group {
    /// An empty group of a new log. It takes nothing before [`Group::take_over`].
    pub fn new(log: LogId, limits: Limits) -> Self {
        Self {
            identity: Identity { log, epoch: 0 },
            limits,
            first: 1,
            stored: 0,
            members: Members::default(),
            past: Past::default(),
            proposed: 0,
            building: Building { first: 1, ..Building::default() },
            full: VecDeque::new(),
            in_flight: None,
            unstored: 0,
            senders: Senders::default(),
            joining: HashSet::new(),
            roles: ById::default(),
            speakers: BTreeSet::new(),
            waiting: BTreeMap::new(),
            next_waiting: ConnId(0),
            held: BTreeMap::new(),
            followers: BTreeSet::new(),
            watch: None,
            graces: BTreeSet::new(),
            lost_lefts: ById::default(),
            unsaved_since: None,
            unsaved_failures: BytesMut::new(),
            notes_from_ms: 0,
            moved: false,
            outputs: Vec::new(),
        }
    }

    /// Takes something in. What follows from it comes out of [`Group::take_batch`], [`Group::settle`] and [`Group::outputs`].
    pub fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Join(conn, join) => self.join(now, conn, *join),
            Input::OpenSender(conn, open) => self.open_sender(conn, open),
            Input::Publish(conn, run) => self.publish(now, conn, run),
            Input::Ack(conn, ack) => self.ack(now, conn, &ack),
            Input::Reached(conn, seq) => self.reached(now, conn, seq),
            Input::Lagging(conn, lagging) => self.lagging(conn, lagging),
            Input::Leave(conn) => self.leave(now, conn),
            Input::Closed(conn) => self.closed(now, conn),
            Input::Remove(ticket, name) => self.remove(now, ticket, &name),
            Input::Await(ticket, seq, publisher) => self.wait(ticket, seq, publisher),
            Input::Forget(ticket) => self.forget(ticket),
            Input::Stored => self.batch_stored(now),
            Input::NotStored => self.batch_not_stored(now),
            Input::Watch(pending) => self.watch(pending),
            Input::Unwatch => self.unwatch(),
            Input::Checkpoint => self.checkpoint(),
            Input::Taken(conn) => self.taken(conn),
            Input::Trimmed(first) => self.trimmed(now, first),
            Input::Tick => self.tick(now),
        }
    }

    /// What is to be appended now: `None` while a batch is on its way (one at a time; the next one fills meanwhile) or when
    /// there is nothing. The driver answers with [`Input::Stored`] or [`Input::NotStored`].
    pub fn take_batch(&mut self, now: Now) -> Option<Batch> {
        if self.in_flight.is_some() {
            return None;
        }
        let mut building = match self.full.pop_front() {
            Some(full) => full,
            None => self.take_building(now)?,
        };
        building.seal();
        let through = building.first + u64::from(building.count) - 1;
        let (failures, effects) = (building.failures, building.effects);
        self.in_flight = Some(InFlight { through, failures, effects });
        Some(Batch {
            epoch: self.identity.epoch,
            first: building.first,
            count: building.count,
            time_us: now.wall_us,
            notes: building.notes.freeze(),
            entries: building.pieces,
        })
    }

    pub(crate) fn take_building(&mut self, now: Now) -> Option<Building> {
        let checkpoint_ms = self.limits.checkpoint_ms;
        let due = self.unsaved_since.is_some_and(|since| now.mono_ms >= since + checkpoint_ms);
        let notes = due || !self.unsaved_failures.is_empty();
        if self.building.is_empty() && !(notes && now.mono_ms >= self.notes_from_ms) {
            return None;
        }
        self.write_checkpoint(due);
        Some(self.next_building())
    }

    /// Begins the next batch and gives the one before.
    pub(crate) fn next_building(&mut self) -> Building {
        let next = Building { first: self.proposed + 1, ..Building::default() };
        std::mem::replace(&mut self.building, next)
    }

    /// Keeps the table of senders within its limit. Connections of one that goes learn how far it has come, through whichever
    /// of them: what comes again there is not taken for something new.
    pub(crate) fn forget_senders(&mut self) {
        while let Some((id, sender)) =
            self.senders.forget_oldest(self.limits.senders_max, self.stored)
        {
            let first = (id, ConnId(0));
            for (_, conn) in self.speakers.range(first..).take_while(|(of, _)| *of == id) {
                if let Some(role) = self.roles.get_mut(conn) {
                    role.last_counter = role.last_counter.max(sender.last_counter);
                }
            }
        }
    }

    /// What has to be carried out, in order; leaves nothing behind.
    pub fn outputs(&mut self) -> std::vec::Drain<'_, Output> {
        self.outputs.drain(..)
    }

    /// When [`Input::Tick`], and a turn with [`Group::settle`] after it, is next of use, in monotonic milliseconds; 0: now.
    pub fn deadline_ms(&self) -> Option<u64> {
        if self.moved {
            return Some(0);
        }
        let grace = self.graces.first().map(|(deadline, _)| *deadline);
        let cursors = self.unsaved_since.map(|since| since + self.limits.checkpoint_ms);
        let failures = (!self.unsaved_failures.is_empty()).then_some(0);
        let notes = [cursors, failures].into_iter().flatten().min();
        // With a batch on its way nothing can be stored; what ends it is a turn of its own.
        let notes = notes.filter(|_| self.in_flight.is_none());
        [grace, notes.map(|from| from.max(self.notes_from_ms))].into_iter().flatten().min()
    }

    /// The log and the epoch.
    pub const fn identity(&self) -> Identity {
        self.identity
    }

    /// The lowest number that is kept.
    pub const fn first(&self) -> Seq {
        self.first
    }

    /// The last number that is stored.
    pub const fn tail(&self) -> Seq {
        self.stored
    }

    /// The lowest number whose receipt somebody waits for.
    pub fn first_waited(&self) -> Option<Seq> {
        let held = self.held.first_key_value().map(|((seq, _), _)| *seq);
        self.waiting.values().filter_map(Waiting::first).chain(held).min()
    }

    /// Members in the view, away ones included.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.iter()
    }

    /// How many members there are.
    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    /// The member with this name.
    pub fn member(&self, name: &Name) -> Option<&Member> {
        self.members.named(name)
    }

    /// The stay of a connection that is a member.
    pub fn stay(&self, conn: ConnId) -> Option<Incarnation> {
        self.roles.get(&conn).and_then(|role| role.key)
    }

    /// How full the tables are that have a limit.
    pub fn tables(&self) -> Tables {
        Tables {
            members: self.members.len() + self.joining.len(),
            senders: self.senders.count_stored(self.stored),
            waiting_runs: self.waiting.values().map(Waiting::len).max().unwrap_or(0),
            watched_runs: self.watch.as_ref().map_or(0, Watch::runs),
            departed: self.past.departed.len(),
            failures: self.past.failure_count,
            unstored_bytes: self.unstored,
            connection_unstored_bytes: self
                .roles
                .values()
                .map(|role| role.unstored)
                .max()
                .unwrap_or(0),
        }
    }

    /// Nothing is on its way or waiting to be taken.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_none() && self.full.is_empty() && self.building.is_empty()
    }

    /// What members have confirmed and what has failed is in the log, or in a batch that is on its way or waits to be taken.
    pub fn is_saved(&self) -> bool {
        self.unsaved_since.is_none() && self.unsaved_failures.is_empty()
    }

    /// The coordinator's epoch while it runs.
    pub const fn epoch(&self) -> Epoch {
        self.identity.epoch
    }
}
