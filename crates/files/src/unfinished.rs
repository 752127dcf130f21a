//! What a peer is fetching, and gives to others as far as it has it.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::timeout;

use crate::content::{ContentHash, Ending, Outline};
use crate::fetch::Part;
use crate::limits::{FETCHED_KEPT, HAVE_WAIT, UNFINISHED_MAX};
use crate::names::FileName;
use crate::pieces::PieceSet;

/// A content that is being fetched: what of it is here, verified.
#[derive(Debug)]
pub struct Begun {
    name: FileName,
    outline: Arc<Outline>,
    ending: Ending,
    part: Arc<Part>,
    here: Mutex<PieceSet>,
    /// How many pieces are here; `None` once it is listed no more.
    count: watch::Sender<Option<u64>>,
}

impl Begun {
    pub(crate) fn new(
        name: FileName,
        (outline, ending): (Arc<Outline>, Ending),
        part: Arc<Part>,
        here: PieceSet,
    ) -> Self {
        let count = watch::Sender::new(Some(here.len()));
        Self { name, outline, ending, part, here: Mutex::new(here), count }
    }

    fn here(&self) -> MutexGuard<'_, PieceSet> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A piece is on the disk, and right.
    pub(crate) fn came(&self, number: u64) {
        let count = {
            let mut here = self.here();
            here.insert(number);
            here.len()
        };
        self.count.send_if_modified(|known| known.is_some() && known.replace(count) != Some(count));
    }

    /// Which pieces are here.
    pub fn pieces(&self) -> PieceSet {
        self.here().clone()
    }

    /// Whether all of these are here.
    pub fn has(&self, mut numbers: std::ops::Range<u64>) -> bool {
        let here = self.here();
        numbers.all(|number| here.contains(number))
    }

    /// Waits until there are more pieces than so many, or for [`HAVE_WAIT`], and does not keep it meanwhile; `None` where it is
    /// listed no more.
    pub async fn until_more_than(self: Arc<Self>, known: u64) -> Option<Arc<Self>> {
        let (mut count, begun) = (self.count.subscribe(), Arc::downgrade(&self));
        drop(self);
        let more = count.wait_for(|count| count.is_none_or(|count| count > known));
        let _ = timeout(HAVE_WAIT, more).await;
        begun.upgrade().filter(|begun| begun.count.borrow().is_some())
    }

    /// Whether somebody waits for more of it.
    #[cfg(test)]
    pub(crate) fn is_waited_for(&self) -> bool {
        self.count.receiver_count() > 0
    }

    /// What it is verified by.
    pub const fn outline(&self) -> &Arc<Outline> {
        &self.outline
    }

    /// What its size is proven by.
    pub const fn ending(&self) -> &Ending {
        &self.ending
    }

    /// Reads what is here, from so many bytes after the beginning. Blocks.
    pub(crate) fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.part.read(offset, bytes)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Unfinished {
    table: Mutex<Table>,
    /// Counts up with every content that is begun or done with.
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Table {
    begun: HashMap<ContentHash, Arc<Begun>>,
    /// Contents that this peer has not had from the beginning.
    fetched: HashSet<ContentHash>,
    /// How many want a content now: a group may be told of one several times.
    wanted: HashMap<ContentHash, usize>,
}

impl Unfinished {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Others may fetch it from here, as long as what is returned is kept; `None` where there are too many.
    pub(crate) fn begin(self: &Arc<Self>, begun: Arc<Begun>) -> Option<Listed> {
        let hash = begun.outline.hash();
        {
            let mut table = self.table();
            if table.begun.len() >= UNFINISHED_MAX {
                return None;
            }
            if table.fetched.len() >= FETCHED_KEPT {
                table.fetched.clear();
            }
            table.fetched.insert(hash);
            table.begun.insert(hash, Arc::clone(&begun));
        }
        self.tell();
        Some(Listed { all: Arc::clone(self), begun })
    }

    /// Somebody wants a content, as long as what is returned is kept.
    pub(crate) fn want(self: &Arc<Self>, hash: ContentHash) -> Wanting {
        *self.table().wanted.entry(hash).or_default() += 1;
        Wanting { all: Arc::clone(self), hash }
    }

    /// Whether somebody wants it.
    pub(crate) fn is_wanted(&self, hash: ContentHash) -> bool {
        self.table().wanted.contains_key(&hash)
    }

    /// What is here of a content that is being fetched.
    pub fn find(&self, hash: ContentHash) -> Option<Arc<Begun>> {
        self.table().begun.get(&hash).cloned()
    }

    /// Whether this peer has fetched it, or is fetching it: others had it before.
    pub fn is_fetched(&self, hash: ContentHash) -> bool {
        self.table().fetched.contains(&hash)
    }

    /// What is being fetched, with the bytes that it will have.
    pub fn files(&self) -> Vec<(FileName, ContentHash, u64)> {
        let table = self.table();
        let files = table.begun.values();
        files
            .map(|begun| (begun.name.clone(), begun.outline.hash(), begun.outline.size()))
            .collect()
    }

    /// Tells of every change of [`Unfinished::files`].
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// Somebody wants a content.
#[derive(Debug)]
pub(crate) struct Wanting {
    all: Arc<Unfinished>,
    hash: ContentHash,
}

impl Drop for Wanting {
    fn drop(&mut self) {
        let mut table = self.all.table();
        if let Some(count) = table.wanted.get_mut(&self.hash) {
            *count -= 1;
            if *count == 0 {
                table.wanted.remove(&self.hash);
            }
        }
    }
}

/// Keeps a content among those that others may fetch from here while they are being fetched.
#[derive(Debug)]
pub struct Listed {
    all: Arc<Unfinished>,
    begun: Arc<Begun>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let hash = self.begun.outline.hash();
        {
            let mut table = self.all.table();
            if table.begun.get(&hash).is_some_and(|begun| Arc::ptr_eq(begun, &self.begun)) {
                table.begun.remove(&hash);
            }
        }
        // Nobody waits any longer for what will not come here.
        self.begun.count.send_replace(None);
        self.all.tell();
    }
}
