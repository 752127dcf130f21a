//! The allocator: which group of the pool a member is given. Pure; time comes in.
//!
//! The least loaded first, in the order of the pool among equals; the same member gets its group back; the next number when
//! all are full. A reservation counts until its member has joined, 10 s at most.

use std::collections::{BTreeMap, HashMap};

/// How long a reservation counts.
const RESERVATION_MS: u64 = 10_000;
/// Groups that a fresh pool has.
const POOL_MIN: u32 = 3;
/// Reservations that count at once; beyond it a member still gets a group, but no place in it is kept.
const RESERVED_MAX: usize = 10_000;
/// Members whose group is remembered; beyond it all are forgotten, which costs them only that they may get another group.
const REMEMBERED_MAX: usize = 100_000;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Allocator {
    /// Folded member name to its group's number.
    remembered: HashMap<String, u32>,
    /// Folded member name to (group, when the reservation ends).
    reserved: HashMap<String, (u32, u64)>,
}

impl Allocator {
    /// Which group `name` (folded) gets. `loads` are the members of the pool's groups that exist, by number.
    pub fn allocate(
        &mut self,
        now_ms: u64,
        name: &str,
        loads: &BTreeMap<u32, usize>,
        members_max: usize,
    ) -> u32 {
        self.reserved.retain(|_, (_, until)| *until > now_ms);
        self.reserved.remove(name);
        let mut reserved: BTreeMap<u32, usize> = BTreeMap::new();
        self.reserved.values().for_each(|(group, _)| *reserved.entry(*group).or_default() += 1);
        let load = |group: u32| {
            let of = |counts: &BTreeMap<u32, usize>| counts.get(&group).copied().unwrap_or(0);
            of(loads) + of(&reserved)
        };
        let known = self.remembered.get(name).copied();
        let last = loads.keys().max().copied().unwrap_or(0).max(POOL_MIN);
        let least = (1..=last)
            .filter(|group| load(*group) < members_max)
            .min_by_key(|group| (load(*group), *group));
        let group = known.or(least).unwrap_or(last + 1);
        if self.remembered.len() >= REMEMBERED_MAX {
            self.remembered.clear();
        }
        self.remembered.insert(name.to_owned(), group);
        if self.reserved.len() < RESERVED_MAX {
            self.reserved.insert(name.to_owned(), (group, now_ms + RESERVATION_MS));
        }
        group
    }

    /// The member has joined: from now on it counts among the group's members.
    pub fn joined(&mut self, name: &str) {
        self.reserved.remove(name);
    }

    /// The member is in this group of the pool, and is to get it back.
    pub fn remember(&mut self, name: &str, group: u32) {
        if self.remembered.len() < REMEMBERED_MAX {
            self.remembered.insert(name.to_owned(), group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_spread_evenly_and_come_back_to_their_group() {
        let mut allocator = Allocator::default();
        let loads = BTreeMap::new();
        let groups: Vec<u32> =
            (0..6).map(|n| allocator.allocate(0, &format!("m{n}"), &loads, 100)).collect();
        assert_eq!(groups, [1, 2, 3, 1, 2, 3]);
        assert_eq!(allocator.allocate(0, "m1", &BTreeMap::from([(2, 99)]), 100), 2);
    }

    #[test]
    fn a_reservation_counts_for_ten_seconds() {
        let mut allocator = Allocator::default();
        assert_eq!(allocator.allocate(0, "a", &BTreeMap::new(), 1), 1);
        assert_eq!(allocator.allocate(9_999, "b", &BTreeMap::new(), 1), 2);
        assert_eq!(allocator.allocate(10_000, "c", &BTreeMap::new(), 1), 1);
        allocator.joined("b");
        assert_eq!(allocator.allocate(10_001, "d", &BTreeMap::from([(1, 1)]), 1), 2);
    }

    #[test]
    fn a_flood_of_requests_reserves_only_so_much() {
        let (mut allocator, loads) = (Allocator::default(), BTreeMap::new());
        allocator.reserved = (1..RESERVED_MAX).map(|n| (n.to_string(), (1, 9))).collect();
        for name in ["a", "b", "c"] {
            assert!(allocator.allocate(0, name, &loads, usize::MAX) <= POOL_MIN);
        }
        assert_eq!(allocator.reserved.len(), RESERVED_MAX);
    }

    #[test]
    fn when_all_are_full_the_next_number_comes() {
        let loads = BTreeMap::from([(1, 100), (2, 100), (3, 100)]);
        assert_eq!(Allocator::default().allocate(0, "a", &loads, 100), 4);
        let loads = BTreeMap::from([(1, 100), (2, 100), (3, 100), (4, 7)]);
        assert_eq!(Allocator::default().allocate(0, "a", &loads, 100), 4);
    }
}
