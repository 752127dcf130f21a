//! The members of a group as they are after the last stored entry: who is in the view, how far each one's cursor is.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};

use crate::ids::{ById, ConnId, Door, Incarnation, SecretDigest, Seq};
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

/// A name, found by how it looks.
#[derive(Clone, Debug)]
struct Looks(Name);

impl Borrow<str> for Looks {
    fn borrow(&self) -> &str {
        self.0.skeleton()
    }
}

impl Hash for Looks {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.skeleton().hash(state);
    }
}

impl PartialEq for Looks {
    fn eq(&self, other: &Self) -> bool {
        self.0.skeleton() == other.0.skeleton()
    }
}

impl Eq for Looks {}

/// The members, findable by stay, connection and name. Slots are reused; the order of `iter` has no meaning.
#[derive(Clone, Debug, Default)]
pub(crate) struct Members {
    slots: Vec<Option<Member>>,
    free: Vec<usize>,
    by_key: ById<Incarnation, usize>,
    by_skeleton: HashMap<Looks, usize>,
    lowest: Lowest,
    /// How many members are at work on a number that they were asked for.
    pub open_counts: BTreeMap<Seq, u32>,
    /// Members that are only asked through their host.
    pub soft: u32,
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

    pub fn get(&self, key: Incarnation) -> Option<&Member> {
        self.by_key.get(&key).and_then(|slot| self.slots[*slot].as_ref())
    }

    pub fn get_mut(&mut self, key: Incarnation) -> Option<&mut Member> {
        self.by_key.get(&key).and_then(|slot| self.slots[*slot].as_mut())
    }

    /// Who has this name, or one that looks like it.
    pub fn named_alike(&self, name: &Name) -> Option<&Member> {
        let alike =
            self.by_skeleton.get(name.skeleton()).and_then(|slot| self.slots[*slot].as_ref());
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
            self.slots.len() - 1
        });
        self.by_key.insert(member.key, slot);
        self.by_skeleton.insert(Looks(member.name.clone()), slot);
        self.slots[slot] = Some(member);
    }

    pub fn remove(&mut self, key: Incarnation) -> Option<Member> {
        let slot = self.by_key.remove(&key)?;
        let member = self.slots[slot].take()?;
        self.free.push(slot);
        self.by_skeleton.remove(member.name.skeleton());
        self.lowest.remove(member.cursor());
        self.count_open(&member, -1);
        self.soft -= u32::from(member.door == Door::Line);
        Some(member)
    }

    /// Changes a member's cursors through `change`; answers whether they have changed.
    pub fn update(&mut self, key: Incarnation, change: impl FnOnce(&mut Member)) -> bool {
        let Some(slot) = self.by_key.get(&key).copied() else { return false };
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
