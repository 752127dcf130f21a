//! What the coordinator does with what it has taken in: appends it, and says it once it is stored.

use tertulia_group::{Batch, Incarnation, Input, Kind, Name};

use crate::checks::{self, Verdict};
use crate::coverage::{Seen, saw};
use crate::net::{Link, Side};
use crate::node::Node;
use crate::program::Program;
use crate::settings::Fault;
use crate::world::{Event, World};

/// What the journal says of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Stored,
    /// Nothing of it is, and the journal goes on.
    NotStored,
    /// It may be, or not.
    Broken,
}

impl World {
    pub fn turn(&mut self) -> Verdict {
        self.turn_due = false;
        let now = self.clock();
        let Some(node) = &mut self.node else { return Ok(()) };
        let links = &self.links;
        let has_room = |conn: u64| links.get(&conn).is_some_and(Link::has_room);
        let turn = node.turn(now, &self.journal, &has_room);
        self.turns += 1;
        for output in &turn.said {
            self.check_said(output)?;
        }
        if let Some(batch) = turn.batch {
            self.append(batch)?;
        }
        for (conn, bytes) in turn.writes {
            let Some(link) = self.links.get_mut(&conn) else { continue };
            link.written(bytes.len());
            let most = self.temper.delay_ms_max;
            let delay = link.arrival(Side::Program, self.now, most, &mut self.rng) - self.now;
            self.at(delay, Event::ToProgram(conn, bytes));
        }
        for conn in turn.closes {
            if let Some(node) = &mut self.node {
                node.ended(now, conn);
            }
            self.at(900, Event::ProgramSeesEnd(conn));
            self.turn_soon();
        }
        if turn.more {
            self.turn_soon();
        }
        Ok(())
    }

    fn append(&mut self, batch: Batch) -> Verdict {
        self.note("batch {} of {} entries", [batch.first, u64::from(batch.count)]);
        self.journal.append(batch)?;
        let happens = |world: &mut Self, fault, per_mille| {
            let chosen = world.rng.chance(per_mille);
            chosen && !world.calm && !world.without.contains(&fault)
        };
        let slow = happens(self, Fault::SlowDisk, self.temper.slow_disk_per_mille);
        if slow {
            saw(Seen::SlowDisk);
        }
        let ms = if slow { self.rng.within(100, 3000) } else { self.rng.within(0, 40) };
        let lost = happens(self, Fault::LostBatches, self.temper.lost_batch_per_mille);
        let broken = happens(self, Fault::BrokenStores, self.temper.lost_batch_per_mille / 4);
        let answer = match (lost, broken) {
            (_, true) => Answer::Broken,
            (true, false) => Answer::NotStored,
            (false, false) => Answer::Stored,
        };
        self.at(ms, Event::Appended(self.generation, answer));
        Ok(())
    }

    pub fn appended(&mut self, generation: u64, answer: Answer) -> Verdict {
        let Some(batch) = self.journal.pending().filter(|_| generation == self.generation) else {
            return Ok(());
        };
        // A coordinator that cannot store its epoch gives up, and one that does not know what is stored.
        let is_epoch = batch.entries.first().is_some_and(|piece| piece[4] == Kind::Epoch as u8);
        let now = self.clock();
        let input = match answer {
            Answer::Stored => {
                self.store()?;
                Input::Stored
            }
            Answer::NotStored if !is_epoch => {
                saw(Seen::BatchNotStored);
                self.note("a batch is not stored", []);
                self.journal.take_pending();
                Input::NotStored
            }
            Answer::NotStored => {
                self.note("the epoch is not stored", []);
                return self.crash(false);
            }
            Answer::Broken => {
                saw(Seen::StoreBroken);
                self.note("the store is broken", []);
                let keep = self.rng.chance(500);
                return self.crash(keep);
            }
        };
        if let Some(node) = &mut self.node {
            node.group.handle(now, input);
        }
        self.turn_soon();
        Ok(())
    }

    /// The pending batch becomes a part of the log, and of what is known to be true.
    pub fn store(&mut self) -> Verdict {
        let before = self.journal.tail();
        for (place, entry) in (before..).zip(self.journal.store()?) {
            let seq = entry.header.seq;
            checks::one_coordinator(self.journal.entry(place), &entry)?;
            checks::order_has_no_gap(place, &entry)?;
            match entry.header.kind {
                Kind::Joined => {
                    let name = self.name(entry.name())?;
                    checks::names_differ(&self.truth, &name)?;
                    self.truth.joins(seq, name);
                }
                Kind::Left => {
                    let key = Incarnation(entry.header.sender);
                    let node = self.node.as_ref();
                    let leaver = node.and_then(|node| node.group.members().find(|m| m.key == key));
                    checks::final_cursor(leaver, &entry)?;
                    self.truth.leaves(entry.header.sender, seq);
                }
                Kind::Message => {
                    let by = Program::index_of(entry.name()).ok_or("a message of nobody")?;
                    checks::once(&mut self.truth, by, &entry)?;
                }
                _ => {}
            }
        }
        if self.rng.chance(self.temper.sync_per_mille) {
            self.journal.sync();
        }
        self.note("stored {} to {}", [before + 1, self.journal.tail()]);
        Ok(())
    }

    pub fn node_starts(&mut self) -> Verdict {
        let (mut group, epoch) = match self.journal.recover(self.temper.limits.clone()) {
            Ok(recovered) => recovered,
            Err(error) => return Err(format!("durability: {error}")),
        };
        checks::nothing_answered_is_lost(&self.truth, group.tail())?;
        group.take_over(self.clock(), epoch, "sim");
        if epoch % 2 == 0 {
            // Somebody looks on, every other time.
            group.handle(self.clock(), Input::Watch(Vec::new()));
        }
        self.note("a node starts with epoch {} after {}", [u64::from(epoch), group.tail()]);
        self.generation += 1;
        self.node = Some(Node::new(group, &self.temper.limits));
        self.turn_soon();
        Ok(())
    }

    /// The name of an entry; each is looked at once.
    fn name(&mut self, name: &str) -> Result<Name, String> {
        if let Some(name) = self.names.get(name) {
            return Ok(name.clone());
        }
        let new = Name::new(name).map_err(|error| format!("names: {name}: {error}"))?;
        self.names.insert(name.to_owned(), new.clone());
        Ok(new)
    }
}
