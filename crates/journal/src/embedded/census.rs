//! Whose records a segment holds, written down behind its end: should the segment be lost, its logs are known, and the others are served.
//!
//! A census is the payload of a record in a later segment, so that no single file takes both with it:
//!
//! ```text
//!    0  u8   1 where the segment holds a roster
//!    1  u32  how many logs, then 16 bytes each
//!       the rest: 24 bytes for each catalog key, its first bytes and its hash
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::layout::{Header, Identity, Kind, bytes_at};
use super::scan::{Damage, Found};
use crate::LogId;

/// Whose records there are. A log or key more than there are does no harm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    roster: bool,
    logs: BTreeSet<[u8; 16]>,
    keys: BTreeSet<([u8; 16], u64)>,
}

impl Census {
    /// Of what was found in a segment, and of what could not be read but says what it was.
    pub fn of<'a>(
        found: impl Iterator<Item = &'a Found>,
        damages: impl Iterator<Item = &'a Damage>,
    ) -> Self {
        let mut census = Self::default();
        found.for_each(|found| census.count(&found.header));
        let identities = damages.filter_map(|damage| damage.identity);
        identities.for_each(|id| census.add(id.kind, id.log.0, id.first));
        census
    }

    /// A record is written.
    pub fn count(&mut self, header: &Header) {
        self.add(header.kind, header.log, header.first);
    }

    fn add(&mut self, kind: Kind, log: [u8; 16], first: u64) {
        match kind {
            Kind::Entries | Kind::Snapshot | Kind::Trim | Kind::Delete => {
                self.logs.insert(log);
            }
            Kind::Put | Kind::Erase => {
                self.keys.insert((log, first));
            }
            Kind::Roster => self.roster = true,
            Kind::Head | Kind::Seal | Kind::Census => {}
        }
    }

    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![u8::from(self.roster)];
        out.extend_from_slice(&(self.logs.len() as u32).to_le_bytes());
        self.logs.iter().for_each(|log| out.extend_from_slice(log));
        for (begin, hash) in &self.keys {
            out.extend_from_slice(begin);
            out.extend_from_slice(&hash.to_le_bytes());
        }
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (roster, rest) = bytes.split_first()?;
        let (count, rest) = rest.split_first_chunk::<4>()?;
        let logs = (u32::from_le_bytes(*count) as usize).checked_mul(16)?;
        let (logs, keys) = rest.split_at_checked(logs)?;
        let key = |bytes: &[u8]| (bytes_at(bytes, 0), u64::from_le_bytes(bytes_at(bytes, 16)));
        Some(Self {
            roster: *roster == 1,
            logs: logs.chunks_exact(16).map(|bytes| bytes_at(bytes, 0)).collect(),
            keys: keys.chunks_exact(24).map(key).collect(),
        })
    }
}

/// The newest census of each segment that has one.
pub(crate) fn newest(found: &[Found]) -> BTreeMap<u32, &Found> {
    let mut newest: BTreeMap<u32, &Found> = BTreeMap::new();
    for found in found.iter().filter(|found| found.header.kind == Kind::Census) {
        let slot = newest.entry(found.header.count).or_insert(found);
        let age = |found: &Found| (found.header.id, found.segment.number);
        if age(found) > age(slot) {
            *slot = found;
        }
    }
    newest
}

/// What is lost with a segment, as if each of its logs and keys had lost a record there, just before the census was taken.
/// `None` where that is not known, or may have been a newer roster than the one of this id.
pub(crate) fn lost_with(
    segment: u32,
    what: &'static str,
    census: Option<&&Found>,
    roster_id: u64,
) -> Option<Vec<Damage>> {
    let found = census?;
    let id = found.header.id;
    let Census { roster, logs, keys } = Census::decode(&found.payload)?;
    if roster && roster_id < id {
        return None;
    }
    let lost = |kind, log, first| {
        let identity = Identity { kind, log: LogId(log), first, id, count: 0, at: 0 };
        Damage { segment, offset: 0, what, identity: Some(identity), harmless: false }
    };
    // Of a log, anything may have been there: also that what is older does not count.
    let logs = logs.into_iter().map(|log| lost(Kind::Delete, log, 0));
    let keys = keys.into_iter().map(|(begin, hash)| lost(Kind::Put, begin, hash));
    Some(logs.chain(keys).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_census_is_read_as_it_was_written() {
        let mut census = Census::default();
        assert_eq!(Census::decode(&census.encode()).as_ref(), Some(&census));
        census.count(&Header::new(Kind::Entries, [1; 16]));
        census.count(&Header::new(Kind::Delete, [2; 16]));
        census.count(&Header { first: 77, ..Header::new(Kind::Put, *b"group/long-name-") });
        census.count(&Header::new(Kind::Roster, [0; 16]));
        let bytes = census.encode();
        assert_eq!(Census::decode(&bytes), Some(census));
        assert!((0..5 + 32).all(|len| Census::decode(&bytes[..len]).is_none()));
    }
}
