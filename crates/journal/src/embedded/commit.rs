//! The store's one writing thread: takes what waits, writes it with one sync, then shows it and answers.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::Shared;
use super::ahead::Spare;
use super::census::Census;
use super::disk::is_full;
use super::layout::{BARE, HEADER, Header, Kind, TRAILER, UNIT, crc, key_marks, record_size};
use super::segment::{Loc, Segment};
use super::state::Effect;
use super::survey::{MARKER, Marker};
use crate::catalog::check_version;
use crate::gate::Gate;
use crate::queue::{Abandon, Asked, Finish, Op};
use crate::{AppendError, Batch, Expect, Level, LogId, Snapshot};

/// How much goes into one commit.
const COMMIT_BYTES: u64 = 8 << 20;
/// Pieces below this are copied together; larger ones are written from where they are.
const COPY_BYTES: usize = 16 << 10;
/// The version of a catalog record that cannot be read, when it is given up.
const LOST_VERSION: u64 = 1;
/// The largest batch or snapshot.
const PAYLOAD_BYTES_MAX: u64 = 1 << 30;
/// The share of a segment that batches leave free, so that trims and what gives space back can be written on
/// a full disk.
const RESERVE_SHARE: u64 = 64;
/// The share of a segment after which the next one is made: the earlier, the more slowly it can be filled.
const SPARE_SHARE: u64 = 4;

/// What will be written by the next commit.
#[derive(Default)]
struct Gather {
    copied: Vec<u8>,
    pieces: Vec<Piece>,
}

enum Piece {
    Copied(Range<usize>),
    Shared(Bytes),
}

impl Gather {
    fn copy(&mut self, bytes: &[u8]) {
        let begin = self.copied.len();
        self.copied.extend_from_slice(bytes);
        let end = self.copied.len();
        match self.pieces.last_mut() {
            Some(Piece::Copied(range)) => range.end = end,
            _ => self.pieces.push(Piece::Copied(begin..end)),
        }
    }

    fn add(&mut self, bytes: &Bytes) {
        if bytes.len() < COPY_BYTES {
            self.copy(bytes);
        } else {
            self.pieces.push(Piece::Shared(bytes.clone()));
        }
    }

    fn zeros(&mut self, len: usize) {
        self.copy(&[0; UNIT as usize * 2][..len]);
    }

    fn slices(&self) -> Vec<&[u8]> {
        let mut slices = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            slices.push(match piece {
                Piece::Copied(range) => &self.copied[range.clone()],
                Piece::Shared(bytes) => &bytes[..],
            });
        }
        slices
    }

    fn clear(&mut self) {
        self.copied.clear();
        self.pieces.clear();
    }
}

/// An operation on its way, or refused: in the order of the calls.
struct Pending {
    effect: Effect,
    result: Result<u64, AppendError>,
    finish: Finish,
    /// Whose later batches are refused with this one.
    breaks: Option<(LogId, u32)>,
}

/// Where writing goes on after an opening.
pub(crate) struct Place {
    pub segment: Arc<Segment>,
    pub end: u64,
    pub commit: u64,
    pub id: u64,
    /// Of that segment.
    pub census: Census,
    /// Of sealed segments that have none yet.
    pub untaken: BTreeMap<u32, Census>,
}

/// Owned by the thread: nothing here needs a lock.
pub(crate) struct Committer {
    pub(crate) shared: Arc<Shared>,
    gate: Gate,
    pub(crate) active: Arc<Segment>,
    /// Whose records it holds.
    census: Census,
    untaken: BTreeMap<u32, Census>,
    /// Where the next record goes.
    end: u64,
    /// Where this commit began.
    begin: u64,
    commit: u64,
    /// The first one of this segment, or since the store was opened, and where it began.
    first: (u64, u64),
    id: u64,
    gather: Gather,
    pending: Vec<Pending>,
    /// Versions of the catalog records that this commit writes.
    versions: HashMap<String, u64>,
    /// Sync this commit also where the level does not ask for it: old files depend on it.
    pub(crate) must_sync: bool,
    /// Sync this commit too: a log's epoch rises with it. Were it lost, the next start would take the same epoch again, and
    /// places in the one could not be told from places in the other.
    raises_epoch: bool,
    /// The next segment, while it is being made.
    spare: Option<Spare>,
    /// For how many groups nothing is collected.
    pub(crate) rest: u32,
}

/// Whether a record may use the room that is kept for small ones.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    Ordinary,
    Reserved,
}

impl Committer {
    pub fn new(shared: Arc<Shared>, gate: Gate, place: Place) -> Self {
        let Place { segment, end, commit, id, census, untaken } = place;
        Self {
            shared,
            gate,
            active: segment,
            census,
            untaken,
            end,
            begin: end,
            commit,
            first: (commit, end),
            id,
            gather: Gather::default(),
            pending: Vec::new(),
            versions: HashMap::new(),
            must_sync: false,
            raises_epoch: false,
            spare: None,
            rest: 0,
        }
    }

    /// The thread: until the queue is closed and empty.
    pub fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let _abandon = Abandon(&shared.queue);
        let mut is_idle = true;
        self.take_untaken();
        while let Some(group) = shared.queue.take(COMMIT_BYTES, is_idle) {
            for asked in group {
                self.stage(asked);
            }
            self.flush();
            self.make_spare();
            is_idle = !self.collect();
        }
        self.close();
    }

    fn failed(&self) -> Option<AppendError> {
        self.shared.state().failed.clone().map(AppendError::Failed)
    }

    fn stage(&mut self, Asked { ticket, op, finish, .. }: Asked) {
        let mut breaks = None;
        let staged = match op {
            _ if self.failed().is_some() => Err(self.failed().expect("it stays failed")),
            Op::Append(batch) => {
                breaks = Some((batch.log, batch.epoch));
                self.stage_batch(ticket, &batch)
            }
            Op::Snapshot { log, epoch, snapshot } => self.stage_snapshot(log, epoch, snapshot),
            Op::Delete(log) => self.stage_delete(log),
            Op::Put { key, expect, value } => self.stage_put(key, expect, value),
            Op::Trimmed(log) => self.stage_trim(log).map(|effect| (effect, 0)),
            Op::Refused { breaks: whose, error } => {
                breaks = whose;
                Err(error)
            }
        };
        let (effect, result) = match staged {
            Ok((effect, version)) => (effect, Ok(version)),
            Err(error) => {
                if let Some((log, epoch)) = breaks {
                    self.gate.refused(log, epoch, u64::MAX);
                }
                (Effect::Nothing, Err(error))
            }
        };
        self.pending.push(Pending { effect, result, finish, breaks });
    }

    fn stage_batch(&mut self, ticket: u64, batch: &Batch) -> Result<(Effect, u64), AppendError> {
        self.gate.check_append(ticket, batch)?;
        let mut header = Header::new(Kind::Entries, batch.log.0);
        (header.epoch, header.count, header.first) = (batch.epoch, batch.count, batch.first);
        header.time_us = batch.time_us;
        let (header, loc) = self.write(header, &batch.notes, &batch.entries, Room::Ordinary)?;
        self.raises_epoch |= self.gate.tail(batch.log).is_none_or(|tail| tail.epoch < batch.epoch);
        self.gate.appended(batch, header.id);
        Ok((Effect::Append { header, loc }, 0))
    }

    fn stage_snapshot(
        &mut self,
        log: LogId,
        epoch: u32,
        snapshot: Snapshot,
    ) -> Result<(Effect, u64), AppendError> {
        self.gate.check_snapshot(log, epoch, snapshot.at)?;
        let mut header = Header::new(Kind::Snapshot, log.0);
        (header.epoch, header.first) = (epoch, snapshot.at);
        let (header, loc) = self.write(header, &[], &[snapshot.state], Room::Ordinary)?;
        self.raises_epoch |= self.gate.tail(log).is_none_or(|tail| tail.epoch < epoch);
        self.gate.saved(log, epoch, header.first, header.id);
        Ok((Effect::Snapshot { header, loc }, 0))
    }

    fn stage_delete(&mut self, log: LogId) -> Result<(Effect, u64), AppendError> {
        if self.gate.tail(log).is_none() {
            return Ok((Effect::Nothing, 0));
        }
        let bare = Header::new(Kind::Delete, log.0);
        let (header, loc) = self.write(bare, &[], &[], Room::Reserved)?;
        self.gate.deleted(log);
        Ok((Effect::Delete { log, loc, written_to: header.count }, 0))
    }

    fn stage_put(
        &mut self,
        key: String,
        expect: Expect,
        value: Option<Bytes>,
    ) -> Result<(Effect, u64), AppendError> {
        let stored = {
            let state = self.shared.state();
            match state.check_key(&key) {
                Ok(()) => state.records.version(&key),
                // Nothing is lost with it that is not lost already.
                Err(_) if value.is_none() && expect == Expect::Any => LOST_VERSION,
                Err(error) => return Err(AppendError::Damaged(error.to_string())),
            }
        };
        let current = self.versions.get(&key).copied().unwrap_or(stored);
        check_version(expect, current)?;
        if value.is_none() && current == 0 {
            return Ok((Effect::Nothing, 0));
        }
        let version = current + 1;
        let mut notes = version.to_le_bytes().to_vec();
        notes.extend_from_slice(key.as_bytes());
        let (begin, hash) = key_marks(&key);
        let kind = if value.is_some() { Kind::Put } else { Kind::Erase };
        let mut header = Header::new(kind, begin);
        header.first = hash;
        let entries: Vec<Bytes> = value.clone().into_iter().collect();
        let (header, loc) = self.write(header, &notes, &entries, Room::Ordinary)?;
        self.versions.insert(key.clone(), if value.is_some() { version } else { 0 });
        let effect = match value {
            Some(value) => Effect::Put { key, version, value, loc },
            None => Effect::Erase { key, loc, written_to: header.count },
        };
        Ok((effect, version))
    }

    /// Writes down where a trimmed log stands.
    pub(crate) fn stage_trim(&mut self, log: LogId) -> Result<Effect, AppendError> {
        // The log may have been deleted meanwhile, and have begun anew.
        let Some(tail) = self.gate.tail(log).cloned() else { return Ok(Effect::Nothing) };
        let mut header = Header::new(Kind::Trim, log.0);
        {
            let mut state = self.shared.state();
            let kept = state.logs.get_mut(&log).filter(|kept| kept.born == tail.born);
            let Some(kept) = kept.filter(|kept| kept.is_trim_due) else {
                return Ok(Effect::Nothing);
            };
            kept.is_trim_due = false;
            (header.epoch, header.first) = (tail.epoch, kept.log.first);
        }
        match self.write(header, &tail.next.to_le_bytes(), &[], Room::Reserved) {
            Ok((_, loc)) => Ok(Effect::Trim { log, loc }),
            Err(error) => {
                if let Some(kept) = self.shared.state().logs.get_mut(&log) {
                    kept.is_trim_due = true;
                }
                Err(error)
            }
        }
    }

    /// Adds a record to this commit, in a new segment if it must be.
    pub(crate) fn write(
        &mut self,
        mut header: Header,
        notes: &[u8],
        entries: &[Bytes],
        room: Room,
    ) -> Result<(Header, Loc), AppendError> {
        let len_entries: usize = entries.iter().map(Bytes::len).sum();
        let payload = (notes.len() + len_entries) as u64;
        if payload > PAYLOAD_BYTES_MAX {
            return Err(AppendError::TooLarge(format!("{payload} bytes in one piece")));
        }
        // Both are below `PAYLOAD_BYTES_MAX`.
        (header.len_notes, header.len_entries) = (notes.len() as u32, len_entries as u32);
        self.make_room(header.size(), room)?;
        Ok(self.put(header, notes, entries))
    }

    /// Adds a record that has its lengths and fits.
    fn put(&mut self, mut header: Header, notes: &[u8], entries: &[Bytes]) -> (Header, Loc) {
        let is_moved = header.flags & super::layout::MOVED != 0;
        if !is_moved {
            self.id += 1;
            header.id = self.id;
            if matches!(header.kind, Kind::Delete | Kind::Erase) {
                header.count = self.active.number;
            }
        }
        header.commit = self.commit;
        (header.at, header.commit_at) = ((self.end / UNIT) as u32, (self.begin / UNIT) as u32);
        let pieces: Vec<&[u8]> =
            [notes].into_iter().chain(entries.iter().map(|e| &e[..])).collect();
        header.crc = crc(self.active.seed, &pieces);
        self.gather.copy(&header.encode(self.active.seed));
        self.gather.copy(notes);
        entries.iter().for_each(|piece| self.gather.add(piece));
        let padding = header.size() - (HEADER + TRAILER) as u64 - header.payload();
        self.gather.zeros(padding as usize);
        self.gather.copy(&header.identity().encode(self.active.seed));
        self.end += header.size();
        self.census.count(&header);
        (header, Loc::of(&self.active, &header))
    }

    /// Writes down whose records a sealed segment holds; it fits.
    fn put_census(&mut self, of: u32, payload: &[u8]) {
        let mut header = Header::new(Kind::Census, [0; 16]);
        (header.count, header.len_notes) = (of, payload.len() as u32);
        let (_, loc) = self.put(header, payload, &[]);
        self.push(Effect::Census { of, loc });
    }

    /// Writes the censuses that a crash, or an older version of this program, has left out. Where there is no room for one,
    /// it is tried again at the next start.
    fn take_untaken(&mut self) {
        for (of, census) in std::mem::take(&mut self.untaken) {
            let payload = census.encode();
            if self.make_room(record_size(payload.len() as u64), Room::Ordinary).is_err() {
                break;
            }
            self.put_census(of, &payload);
        }
        self.flush();
    }

    fn make_room(&mut self, size: u64, room: Room) -> Result<(), AppendError> {
        // The seal always fits.
        let reserve = self.shared.segment_bytes / RESERVE_SHARE;
        let kept_free = BARE + if room == Room::Ordinary { reserve } else { 0 };
        if self.end + size + kept_free <= self.active.bytes {
            return Ok(());
        }
        self.flush();
        if let Some(error) = self.failed() {
            return Err(error);
        }
        let census = self.census.encode();
        let before = BARE + record_size(census.len() as u64);
        let least = (before + size + BARE + reserve).next_multiple_of(4096);
        self.begin_segment(least.max(self.shared.segment_bytes), &census)
    }

    /// Seals the segment and goes on in a new one. Nothing is in flight.
    fn begin_segment(&mut self, bytes: u64, census: &[u8]) -> Result<(), AppendError> {
        let number = self.active.number + 1;
        let next = match self.next_segment(number, bytes) {
            Ok(next) => next,
            Err(error) if is_full(&error) => {
                let text = format!("making a segment of {bytes} bytes: {error}");
                return Err(AppendError::NoSpace(text));
            }
            Err(error) => return Err(self.fail("making a segment", &error)),
        };
        if let Err(error) = self.seal() {
            return Err(self.fail("sealing a segment", &error));
        }
        self.active.end.store(self.end, Ordering::Relaxed);
        self.shared.state().segments.insert(number, Arc::clone(&next));
        (self.active, self.end, self.begin) = (next, BARE, BARE);
        self.first = (self.commit, self.begin);
        self.census = Census::default();
        self.put_census(number - 1, census);
        Ok(())
    }

    /// Begins to make the next segment once a quarter of this one is full, and has it filled as this one fills up.
    fn make_spare(&mut self) {
        let bytes = self.active.bytes;
        let begin = bytes / SPARE_SHARE;
        if self.end < begin || self.failed().is_some() {
            return;
        }
        if self.spare.is_none() {
            let filled = self.shared.disk.gains_by_zeros(self.commit_bytes());
            self.spare = Spare::begin(&self.shared, &self.active, filled);
        }
        if let Some(spare) = &mut self.spare {
            spare.fill_up_to(self.end - begin, bytes - begin);
        }
    }

    fn next_segment(&mut self, number: u32, bytes: u64) -> io::Result<Arc<Segment>> {
        let spare = self.spare.take().and_then(|spare| spare.take().ok());
        match spare {
            Some(spare) if spare.bytes >= bytes => return Ok(spare),
            Some(spare) => self.shared.disk.remove(&spare.name())?,
            None => {}
        }
        let filled = self.shared.disk.gains_by_zeros(self.commit_bytes());
        Segment::create(&self.shared.disk, number, (bytes, filled), self.active.salt)
    }

    /// How much a commit of this segment has written so far, in the mean.
    fn commit_bytes(&self) -> u64 {
        let (commit, end) = self.first;
        (self.end - end) / (self.commit - commit).max(1)
    }

    fn seal(&mut self) -> io::Result<()> {
        let mut seal = Header::new(Kind::Seal, [0; 16]);
        (self.id, self.commit) = (self.id + 1, self.commit + 1);
        (seal.id, seal.commit) = (self.id, self.commit - 1);
        (seal.at, seal.commit_at) = ((self.end / UNIT) as u32, (self.end / UNIT) as u32);
        let seed = self.active.seed;
        seal.crc = crc(seed, &[]);
        let mut record = seal.encode(seed).to_vec();
        record.resize(BARE as usize - TRAILER, 0);
        record.extend_from_slice(&seal.identity().encode(seed));
        self.shared.disk.write(&self.active.file, &[&record], self.end)?;
        self.end += BARE;
        // At every level: only the last segment may be in doubt after a crash.
        self.shared.disk.sync(&self.active.file)
    }

    /// Nothing is stored from now on.
    fn fail(&self, doing: &str, error: &io::Error) -> AppendError {
        let text = format!("{doing}: {error}");
        AppendError::Failed(self.shared.state().failed.get_or_insert(text).clone())
    }

    /// Adds an effect that nobody waits for.
    pub(crate) fn push(&mut self, effect: Effect) {
        self.pending.push(Pending { effect, result: Ok(0), finish: Finish::Nobody, breaks: None });
    }

    /// Writes what has been staged, shows it, and answers everybody in the order of the calls. Whether
    /// it is stored.
    pub(crate) fn flush(&mut self) -> bool {
        let stored = if self.gather.pieces.is_empty() { Ok(()) } else { self.write_out() };
        self.gather.clear();
        self.versions.clear();
        let error = stored.err().map(|error| self.fail("writing", &error));
        let mut answers = Vec::with_capacity(self.pending.len());
        {
            let mut state = self.shared.state();
            for Pending { effect, result, finish, breaks } in self.pending.drain(..) {
                let result = match &error {
                    Some(error) => result.and(Err(error.clone())),
                    None => {
                        state.apply(effect);
                        result
                    }
                };
                answers.push((result, finish, breaks));
            }
        }
        for (result, finish, breaks) in answers {
            if let (Err(_), Some((log, epoch))) = (&result, breaks) {
                self.gate.refused(log, epoch, self.shared.queue.ticket_next());
            }
            finish.call(result);
        }
        error.is_none()
    }

    fn write_out(&mut self) -> io::Result<()> {
        let disk = &self.shared.disk;
        disk.write(&self.active.file, &self.gather.slices(), self.begin)?;
        let raises_epoch = std::mem::take(&mut self.raises_epoch);
        if self.shared.level == Level::Fsync || self.must_sync || raises_epoch {
            disk.sync(&self.active.file)?;
        }
        self.begin = self.end;
        self.commit += 1;
        Ok(())
    }

    /// Leaves the marker that says that all is whole.
    fn close(&mut self) {
        self.flush();
        let spare = self.spare.take().and_then(|spare| spare.take().ok());
        let disk = &self.shared.disk;
        if self.failed().is_some() || disk.sync(&self.active.file).is_err() {
            return;
        }
        if let Some(spare) = spare
            && disk.remove(&spare.name()).and_then(|()| disk.sync_dir()).is_err()
        {
            return;
        }
        let (segment, end) = (self.active.number, self.end);
        let marker = Marker { segment, end, commit: self.commit };
        // Without it the next opening looks as after a crash: slower, and nothing is lost.
        drop(disk.replace(MARKER, &marker.text()));
    }
}
