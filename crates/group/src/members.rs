//! The members of a group as they are after the last stored entry: who is in the view, how far each one's cursor is.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};

use hashbrown::HashTable;

use crate::ids::{ConnId, Door, Incarnation, SecretDigest, Seq};
use crate::lowest::Lowest;
use crate::name::Name;
use crate::planted::{Bug, planted};

/// Whether a member has a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It has.
    Here(ConnId),
    /// It has not, since then (monotonic milliseconds).
    Away {
        /// Since when.
        since_ms: u64,
    },
}

/// One member's stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: Name,
    /// The number of its `joined` entry: its duty begins after it.
    pub key: Incarnation,
    /// Its door.
    pub door: Door,
    /// Stays a member however long it is away.
    pub durable: bool,
    /// Who shows the secret of this digest may take the membership over.
    pub secret: SecretDigest,
    /// Its program confirmed up to here, apart from `open` and from what failed. May be below `key`: it reads history.
    pub acked: Seq,
    /// Its host took up to here; stays where it is once the program has confirmed anything.
    pub reached: Seq,
    /// Its program has confirmed something, so that it is the program that is asked.
    pub confirms: bool,
    /// Numbers up to `acked` that its program is still at work on; sorted, at most `OPEN_MAX`.
    pub open: Vec<Seq>,
    /// Whether it has a connection.
    pub presence: Presence,
    /// It reads from the journal.
    pub lagging: bool,
    /// Wall clock of its last change of presence, microseconds since the Unix epoch.
    pub since_us: u64,
    /// A `left` entry is on its way: what it says from now on comes too late.
    pub leaving: bool,
    /// Its cursor moved since the last checkpoint.
    pub unsaved: bool,
    /// Its cursor moved since followers were told.
    pub untold: bool,
}

impl Member {
    /// What it has answered for: every number up to here, apart from `open` and from what failed.
    pub fn cursor(&self) -> Seq {
        self.acked.max(self.reached).max(self.key.0)
    }
}

/// The members, findable by stay, connection and name. Slots are reused; the order of `iter` has no meaning.
#[derive(Clone, Debug, Default)]
pub(crate) struct Members {
    slots: Vec<Option<Member>>,
    free: Vec<u32>,
    /// Slots by stay: the node has given these numbers, and they are looked at for each acknowledgement.
    by_key: HashTable<u32>,
    key_hasher: foldhash::fast::RandomState,
    /// Slots by how the name looks: it comes from outside.
    by_looks: HashTable<u32>,
    looks_hasher: RandomState,
    lowest: Lowest,
    /// How many members are at work on a number that they were asked for.
    pub open_counts: BTreeMap<Seq, u32>,
    /// Members that are only asked through their host.
    pub soft: u32,
}

/// Who is in this slot, which an index has named.
fn there(slots: &[Option<Member>], slot: u32) -> &Member {
    slots[slot as usize].as_ref().expect("promise 5: who is in the index is in the view")
}

impl Members {
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.slots.iter().flatten()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.slots.iter_mut().flatten()
    }

    fn slot(&self, key: Incarnation) -> Option<u32> {
        let hash = self.key_hasher.hash_one(key);
        self.by_key.find(hash, |slot| there(&self.slots, *slot).key == key).copied()
    }

    pub fn get(&self, key: Incarnation) -> Option<&Member> {
        self.slots[self.slot(key)? as usize].as_ref()
    }

    pub fn get_mut(&mut self, key: Incarnation) -> Option<&mut Member> {
        let slot = self.slot(key)?;
        self.slots[slot as usize].as_mut()
    }

    /// Who has this name, or one that looks like it.
    pub fn named_alike(&self, name: &Name) -> Option<&Member> {
        let looks = name.skeleton();
        let hash = self.looks_hasher.hash_one(looks);
        let alike = |slot: &u32| there(&self.slots, *slot).name.skeleton() == looks;
        let alike = self.by_looks.find(hash, alike).map(|slot| there(&self.slots, *slot));
        alike.filter(|member| !planted(Bug::MixUpNames) || member.name.folded() == name.folded())
    }

    /// Who has this very name.
    pub fn named(&self, name: &Name) -> Option<&Member> {
        self.named_alike(name).filter(|member| member.name.folded() == name.folded())
    }

    pub fn insert(&mut self, member: Member) {
        self.lowest.insert(member.cursor());
        self.count_open(&member, 1);
        self.soft += u32::from(member.door == Door::Line);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("there are fewer members than that")
        });
        let (key, looks) = (
            self.key_hasher.hash_one(member.key),
            self.looks_hasher.hash_one(member.name.skeleton()),
        );
        self.slots[slot as usize] = Some(member);
        let of_key = |slot: &u32| self.key_hasher.hash_one(there(&self.slots, *slot).key);
        self.by_key.insert_unique(key, slot, of_key);
        let of_looks =
            |slot: &u32| self.looks_hasher.hash_one(there(&self.slots, *slot).name.skeleton());
        self.by_looks.insert_unique(looks, slot, of_looks);
    }

    pub fn remove(&mut self, key: Incarnation) -> Option<Member> {
        let slot = self.slot(key)?;
        let member = self.slots[slot as usize].take()?;
        self.free.push(slot);
        self.forget_slot(slot, &member);
        self.lowest.remove(member.cursor());
        self.count_open(&member, -1);
        self.soft -= u32::from(member.door == Door::Line);
        Some(member)
    }

    /// Takes the slot out of the indices; `member` was there.
    fn forget_slot(&mut self, slot: u32, member: &Member) {
        let key = self.key_hasher.hash_one(member.key);
        let looks = self.looks_hasher.hash_one(member.name.skeleton());
        for (index, hash) in [(&mut self.by_key, key), (&mut self.by_looks, looks)] {
            index
                .find_entry(hash, |there| *there == slot)
                .expect("promise 5: who is in the view is in the index")
                .remove();
        }
    }

    /// Changes a member's cursors through `change`; answers whether they have changed.
    pub fn update(&mut self, key: Incarnation, change: impl FnOnce(&mut Member)) -> bool {
        let Some(slot) = self.slot(key).map(|slot| slot as usize) else { return false };
        let Some(member) = self.slots[slot].as_mut() else { return false };
        let (before, open_before) = (member.cursor(), member.open.clone());
        // Also below what it answers for: history that it reads, or what its host reached before it.
        let acked_before = member.acked;
        change(member);
        let (after, same_open) = (member.cursor(), member.open == open_before);
        let changed = after != before || !same_open || member.acked != acked_before;
        member.unsaved |= changed;
        member.untold |= changed;
        debug_assert!(after >= before, "promise 1: a cursor goes back");
        if after != before {
            self.lowest.advance(before, after);
        }
        if !same_open {
            let now_open =
                self.slots[slot].as_ref().map(|member| member.open.clone()).unwrap_or_default();
            self.count(key, &open_before, -1);
            self.count(key, &now_open, 1);
        }
        changed
    }

    /// Everybody has answered for every number up to here; all numbers when nobody is in the view.
    pub fn answered(&mut self) -> Seq {
        let cursors = self.slots.iter().flatten().map(Member::cursor);
        self.lowest.all(cursors).unwrap_or(Seq::MAX)
    }

    /// The same without asking `but`.
    pub fn answered_but(&mut self, but: Incarnation) -> Seq {
        let Some(own) = self.get(but).map(Member::cursor) else { return self.answered() };
        let cursors = self.slots.iter().flatten().map(Member::cursor);
        self.lowest.all_but(own, cursors).unwrap_or(Seq::MAX)
    }

    /// The most that [`Members::answered_but`] can say, whoever is not asked.
    pub fn answered_but_any(&mut self) -> Seq {
        let cursors = self.slots.iter().flatten().map(Member::cursor);
        self.lowest.all_but_any(cursors).unwrap_or(Seq::MAX)
    }

    fn count_open(&mut self, member: &Member, by: i32) {
        self.count(member.key, &member.open, by);
    }

    fn count(&mut self, key: Incarnation, open: &[Seq], by: i32) {
        for seq in open.iter().filter(|seq| **seq > key.0) {
            let count = self.open_counts.entry(*seq).or_default();
            *count = count.saturating_add_signed(by);
            if *count == 0 {
                self.open_counts.remove(seq);
            }
        }
    }
}
