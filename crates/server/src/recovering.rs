//! Reading a group back from its log, and what is said of one that cannot be.

use bytes::Bytes;
use tertulia_group::{Group, Limits, Name};
use tertulia_journal::embedded::Checked;
use tertulia_journal::{Journal, LogId, Opened, ReadError, Record, Versioned};
use tertulia_wire::Code;

use crate::accounts::rules::Rules;
use crate::directory::Denied;

/// Groups stand in the catalog under this and their folded name.
pub(crate) const CATALOG_PREFIX: &str = "group/";
/// What recovery reads at once.
const REPLAY_BYTES: usize = 4 << 20;

/// The group that a catalog record names, for those who look at a store without a node; `None` for other records, an error for
/// one that cannot be what this program wrote.
pub fn group_of_record(key: &str, record: &Versioned) -> Option<Result<(Name, LogId), String>> {
    key.starts_with(CATALOG_PREFIX)
        .then(|| read_record(key, record).map(|(name, log, _)| (name, log)))
}

/// A group's name, log and rules from its record.
pub(crate) fn read_record(key: &str, record: &Versioned) -> Result<(Name, LogId, Rules), String> {
    read_value(&record.value).map_err(|why| format!("the record {key}: {why}"))
}

fn read_value(value: &[u8]) -> Result<(Name, LogId, Rules), String> {
    let (log, rest) = value.split_first_chunk::<16>().ok_or("it is cut short")?;
    let (shown, rules) = match rest.iter().position(|byte| *byte == 0) {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (rest, &[][..]),
    };
    let shown = std::str::from_utf8(shown).map_err(|_| "it has no name")?;
    let name = Name::new(shown).map_err(|error| error.to_string())?;
    Ok((name, LogId(*log), Rules::from_bytes(rules)?))
}

/// A group's record: its log, its name and, after a zero byte, its rules where they are not the default.
pub(crate) fn write_record(name: &Name, log: LogId, rules: &Rules) -> Bytes {
    let mut value = log.0.to_vec();
    value.extend_from_slice(name.as_str().as_bytes());
    let rules = rules.to_bytes();
    if !rules.is_empty() {
        value.push(0);
        value.extend_from_slice(&rules);
    }
    Bytes::from(value)
}

/// Whether a group can be read back from a store that was checked, as a node would.
///
/// # Errors
/// Why not.
pub fn verify(store: &Checked, log: LogId) -> Result<(), String> {
    let read = |from| store.read(log, from, REPLAY_BYTES);
    let back = store.open(log).map_err(Unreadable::from);
    let back = back.and_then(|opened| read_back(log, Limits::default(), opened, read));
    back.map(|_| ()).map_err(|unreadable| unreadable.why)
}

/// Why a group cannot be read back.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub code: Code,
    pub why: String,
}

impl Unreadable {
    fn damaged(why: &impl ToString) -> Self {
        Self { code: Code::Damaged, why: why.to_string() }
    }

    /// What whoever asks for the group is told.
    pub fn denied(&self, name: &Name) -> Denied {
        match self.code {
            Code::Damaged => denied_damaged(name.as_str(), &self.why),
            code => Denied::new(code, format!("group {name}: {}", self.why)),
        }
    }
}

/// What whoever asks for a damaged group is told.
pub(crate) fn denied_damaged(name: &str, why: &str) -> Denied {
    let message = format!(
        "group {name} is damaged on this node and refused: {why}; its operator can look with \
         `tertulia check`"
    );
    Denied::new(Code::Damaged, message)
}

impl From<ReadError> for Unreadable {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Damaged(why) => Self::damaged(&why),
            // It is there, and could not be had just now.
            ReadError::Io(why) => Self { code: Code::StoreFailed, why },
            error @ ReadError::Trimmed { .. } => Self::damaged(&error),
        }
    }
}

/// A group that was read back, and what of it was read after its snapshot: the next start would have to read that again.
pub(crate) struct Recovered {
    pub group: Group,
    pub bytes: u64,
    pub batches: u64,
}

/// Reads a group back from the journal.
pub(crate) fn recover(
    journal: &dyn Journal,
    log: LogId,
    limits: Limits,
) -> Result<Recovered, Unreadable> {
    read_back(log, limits, journal.open(log)?, |from| journal.read(log, from, REPLAY_BYTES))
}

/// The snapshot, then every record after it, which `read` gives from a number on.
fn read_back(
    log: LogId,
    limits: Limits,
    opened: Opened,
    read: impl Fn(u64) -> Result<Vec<Record>, ReadError>,
) -> Result<Recovered, Unreadable> {
    let (mut bytes, mut batches) = (0, 0);
    let id = tertulia_group::LogId(log.0);
    let (mut group, mut from) = match opened.snapshot {
        Some(snapshot) => {
            let group = Group::restore(id, limits, opened.first, &snapshot.state);
            (group.map_err(|error| Unreadable::damaged(&error))?, snapshot.at + 1)
        }
        None => (Group::new(id, limits), 1),
    };
    loop {
        let records = read(from)?;
        let before = from;
        for record in &records {
            if record.first < from {
                continue;
            }
            group
                .replay(record.first, record.count, &record.notes, &record.entries)
                .map_err(|error| Unreadable::damaged(&error))?;
            from = record.first + u64::from(record.count);
            bytes += (record.notes.len() + record.entries.len()) as u64;
            batches += 1;
        }
        if from == before {
            break;
        }
    }
    if group.tail() + 1 != opened.next {
        let (tail, stored) = (group.tail(), opened.next - 1);
        return Err(Unreadable::damaged(&format_args!(
            "it ends at #{tail}, but #{stored} is stored"
        )));
    }
    Ok(Recovered { group, bytes, batches })
}
