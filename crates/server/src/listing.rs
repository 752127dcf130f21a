//! Looking at a part of a sorted list of names: what that costs depends on the part, not on the list.

use std::collections::BTreeMap;
use std::ops::Bound;

/// Names before the wanted one, and after it, that are looked through for what was meant: a hint must not cost those who know
/// theirs.
const HINTS_AMONG_MAX: usize = 1000;

/// At most `limit` of those that are `wanted` after the key `after`, and whether there are more.
pub(crate) fn page<V: Clone>(
    all: &BTreeMap<String, V>,
    after: &str,
    limit: usize,
    wanted: impl Fn(&V) -> bool,
) -> (Vec<V>, bool) {
    let rest = all.range::<str, _>((Bound::Excluded(after), Bound::Unbounded));
    let mut rest = rest.map(|(_, value)| value).filter(|value| wanted(value));
    let items = rest.by_ref().take(limit).cloned().collect();
    (items, rest.next().is_some())
}

/// Those whose keys stand near `key`, on both sides.
pub(crate) fn around<'a, V>(
    all: &'a BTreeMap<String, V>,
    key: &str,
) -> impl Iterator<Item = &'a V> {
    let before = all.range::<str, _>((Bound::Unbounded, Bound::Excluded(key))).rev();
    let after = all.range::<str, _>((Bound::Included(key), Bound::Unbounded));
    before.take(HINTS_AMONG_MAX).chain(after.take(HINTS_AMONG_MAX)).map(|(_, value)| value)
}

/// The `limit` least of `all`, in order, and whether there are more: without sorting the rest.
pub(crate) fn least<T>(
    mut all: Vec<T>,
    limit: usize,
    compare: impl Fn(&T, &T) -> std::cmp::Ordering,
) -> (Vec<T>, bool) {
    let more = all.len() > limit;
    if more {
        all.select_nth_unstable_by(limit, &compare);
        all.truncate(limit);
    }
    all.sort_unstable_by(compare);
    (all, more)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(count: usize) -> BTreeMap<String, usize> {
        (0..count).map(|n| (format!("g{n:05}"), n)).collect()
    }

    #[test]
    fn pages_join_up_to_the_whole_list() {
        let all = list(25);
        let (mut after, mut seen) = (String::new(), Vec::new());
        loop {
            let (items, more) = page(&all, &after, 10, |_| true);
            assert_eq!(more, seen.len() + items.len() < 25);
            seen.extend(items);
            if !more {
                break;
            }
            after = format!("g{:05}", seen[seen.len() - 1]);
        }
        assert_eq!(seen, (0..25).collect::<Vec<usize>>());
        assert_eq!(page(&all, "g00010x", 1, |_| true), (vec![11], true));
        assert_eq!(page(&all, "h", 1, |_| true), (vec![], false));
    }

    /// The bug: a hint for an unknown name compared it with every group there is.
    #[test]
    fn a_hint_for_an_unknown_name_looks_at_its_neighbours_only() {
        let all = list(10_000);
        let near: Vec<usize> = around(&all, "g05000").copied().collect();
        assert_eq!(near.len(), 2 * HINTS_AMONG_MAX);
        assert!(near.iter().all(|n| n.abs_diff(5000) <= HINTS_AMONG_MAX));
        // Where there are few, all of them.
        assert_eq!(around(&list(900), "zebra").count(), 900);
    }

    #[test]
    fn the_least_are_found_in_order() {
        for (limit, more) in [(0, true), (3, true), (10, false), (20, false)] {
            let all: Vec<usize> = vec![7, 3, 9, 1, 0, 8, 2, 6, 5, 4];
            let expected: Vec<usize> = (0..limit.min(10)).collect();
            assert_eq!(least(all, limit, usize::cmp), (expected, more));
        }
    }
}
