//! Giving space back: what little is still needed of an old segment is moved forward, then its file goes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::commit::{Committer, Room};
use super::layout::{Header, Kind, MOVED};
use super::replay::key_in;
use super::scan::{Mode, scan};
use super::segment::Segment;
use super::state::{Effect, Needed};

/// How many groups of operations pass until it is tried again, on a full disk.
pub(crate) const REST_AFTER_FAILURE: u32 = 16;

impl Committer {
    /// Gives up one segment, if one is mostly dead; whether it did. What is moved keeps its id, so that
    /// a crash in between leaves two equal copies.
    pub(crate) fn collect(&mut self) -> bool {
        if self.rest > 0 {
            self.rest -= 1;
            return false;
        }
        let Some(segment) = self.candidate() else { return false };
        self.must_sync = true;
        let is_moved = self.move_forward(&segment).is_some();
        // What was staged before it went wrong stands.
        let is_moved = self.flush() && is_moved;
        self.must_sync = false;
        if !is_moved {
            self.rest = REST_AFTER_FAILURE;
            return false;
        }
        // The roster does not list it any more: it goes at the next opening if not now.
        drop(self.shared.disk.remove(&segment.name()));
        true
    }

    fn candidate(&self) -> Option<Arc<Segment>> {
        let state = self.shared.state();
        if state.failed.is_some() {
            return None;
        }
        let older = state.segments.values().filter(|s| s.number != self.active.number);
        let dead = older.filter(|segment| segment.is_mostly_dead());
        dead.min_by_key(|segment| segment.live.load(Ordering::Relaxed)).cloned()
    }

    fn move_forward(&mut self, segment: &Arc<Segment>) -> Option<()> {
        let scanned = scan(segment, Mode { last: false, full: false, clean_end: None }).ok()?;
        for found in &scanned.found {
            let is_keyed = matches!(found.header.kind, Kind::Put | Kind::Erase);
            let key = if is_keyed { Some(key_in(found)?) } else { None };
            let needed = self.shared.state().needed(&found.header, key.as_deref(), &found.loc());
            if let Some(what) = needed {
                self.copy(&found.header, what)?;
            }
        }
        // What was trimmed until now was passed over just now: it must be written down before it is gone.
        let due: Vec<_> = {
            let state = self.shared.state();
            let logs = state.logs.iter().filter(|(_, kept)| kept.is_trim_due);
            logs.map(|(log, _)| *log).collect()
        };
        for log in due {
            let effect = self.stage_trim(log).ok()?;
            self.push(effect);
        }
        if !scanned.damages.is_empty() {
            // What could not be found may have been needed.
            self.flush().then_some(())?;
            if !self.shared.state().is_emptied(segment) {
                segment.stuck.store(true, Ordering::Relaxed);
                return None;
            }
        }
        self.write_roster(segment.number)?;
        self.flush().then_some(())?;
        self.shared.state().remove_segment(segment.number);
        Some(())
    }

    fn copy(&mut self, header: &Header, what: Needed) -> Option<()> {
        let Ok(payload) = what.from().load() else {
            what.from().segment.stuck.store(true, Ordering::Relaxed);
            return None;
        };
        let notes = payload.slice(..header.len_notes as usize);
        let entries: Bytes = payload.slice(header.len_notes as usize..);
        let mut header = *header;
        header.flags |= MOVED;
        let (_, to) = self.write(header, &notes, &[entries], Room::Reserved).ok()?;
        self.push(Effect::Moved { what, to });
        Some(())
    }

    /// Writes down which segments there are, `without` the one that goes; twice, so that either may be damaged.
    fn write_roster(&mut self, without: u32) -> Option<()> {
        loop {
            let active = self.active.number;
            let numbers: Vec<u8> = {
                let state = self.shared.state();
                let all = state.segments.keys().chain(&state.lost);
                let older = all.filter(|n| **n != active && **n != without);
                older.flat_map(|number| number.to_le_bytes()).collect()
            };
            let mut header = Header::new(Kind::Roster, [0; 16]);
            header.first = u64::from(active);
            let (mut copy, _) = self.write(header, &numbers, &[], Room::Reserved).ok()?;
            copy.flags |= MOVED;
            let (_, loc) = self.write(copy, &numbers, &[], Room::Reserved).ok()?;
            self.push(Effect::Roster { loc });
            if self.active.number == active {
                return Some(());
            }
            // It went into a new segment and does not list the one before: once more.
        }
    }
}
