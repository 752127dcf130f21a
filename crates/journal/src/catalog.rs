//! The catalog's records in memory: versions, prefixes and watchers; the same for every engine.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bytes::Bytes;

use crate::{AppendError, Change, Expect, Versioned};

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 256;
/// The largest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;
/// How far a watcher may fall behind.
pub const WATCH_BEHIND_MAX: usize = 1024;

/// Whether a record is small enough.
pub(crate) fn check_limits(key: &str, value: Option<&Bytes>) -> Result<(), AppendError> {
    if key.len() > KEY_BYTES_MAX {
        return Err(AppendError::TooLarge(format!("a key of {} bytes", key.len())));
    }
    match value {
        Some(value) if value.len() > VALUE_BYTES_MAX => {
            Err(AppendError::TooLarge(format!("a record of {} bytes", value.len())))
        }
        _ => Ok(()),
    }
}

/// Whether a record at version `current` (0: there is none) is as `expect` says.
pub(crate) const fn check_version(expect: Expect, current: u64) -> Result<(), AppendError> {
    let as_expected = match expect {
        Expect::Any => true,
        Expect::Absent => current == 0,
        Expect::Version(version) => current == version,
    };
    if as_expected { Ok(()) } else { Err(AppendError::Conflict { current }) }
}

/// The records; `L` is where the engine keeps one.
#[derive(Debug)]
pub(crate) struct Records<L> {
    map: BTreeMap<String, (Versioned, L)>,
    watchers: Vec<(String, SyncSender<Change>)>,
}

impl<L> Default for Records<L> {
    fn default() -> Self {
        Self { map: BTreeMap::new(), watchers: Vec::new() }
    }
}

impl<L> Records<L> {
    pub fn get(&self, key: &str) -> Option<Versioned> {
        self.map.get(key).map(|(record, _)| record.clone())
    }

    /// Its version now; 0 when there is none.
    pub fn version(&self, key: &str) -> u64 {
        self.map.get(key).map_or(0, |(record, _)| record.version)
    }

    pub fn scan(&self, prefix: &str) -> Vec<(String, Versioned)> {
        let from = self.map.range(prefix.to_owned()..);
        from.take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, (record, _))| (key.clone(), record.clone()))
            .collect()
    }

    pub fn watch(&mut self, prefix: &str) -> Receiver<Change> {
        let (sender, receiver) = sync_channel(WATCH_BEHIND_MAX);
        self.watchers.push((prefix.to_owned(), sender));
        receiver
    }

    /// Writes or deletes, tells the watchers, and answers where the older one was.
    pub fn set(&mut self, key: String, now: Option<(Versioned, L)>) -> Option<L> {
        let change = Change { key, value: now.as_ref().map(|(record, _)| record.clone()) };
        // One that does not keep up, or is gone, loses its sender: its receiver ends.
        self.watchers.retain(|(prefix, sender)| {
            !change.key.starts_with(prefix) || sender.try_send(change.clone()).is_ok()
        });
        let older = match now {
            Some(now) => self.map.insert(change.key, now),
            None => self.map.remove(&change.key),
        };
        older.map(|(_, at)| at)
    }

    /// Where a record is kept.
    pub fn at_mut(&mut self, key: &str) -> Option<&mut L> {
        self.map.get_mut(key).map(|(_, at)| at)
    }
}
