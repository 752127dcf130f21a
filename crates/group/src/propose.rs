//! Taking in: what may be refused is refused here; what is taken gets its number and waits until it is stored.
//!
//! Sees what is proposed (numbers, counters, names) as well as what is stored.

use std::collections::hash_map::Entry;

use bytes::{Buf, BytesMut};

use crate::effect::{Effect, JoinedConn, JoinedEffect, Note, Published, left_body};
use crate::entry::{
    self, FLAG_FILE, FLAG_OUTSIDE, FLAG_RECEIPT, HEADER_BYTES, Header, JoinedBody, Kind, Run,
};
use crate::group::{Group, Role};
use crate::ids::{
    ConnId, Door, Incarnation, LeaveReason, Now, Position, SecretDigest, SenderId, Seq,
};
use crate::machine::{
    From, Join, Moved, OpenSender, Output, Refusal, SenderReady, StoredRun, Ticket, Welcome,
};
use crate::members::Presence;
use crate::name::Name;
use crate::planted::{Bug, planted};
use crate::senders::{Bounds, Sender, Verdict};

/// A piece that small runs are copied to is closed at this size, so that it never has to be moved again.
const SMALL_PIECE_BYTES: usize = 256 << 10;

impl Group {
    pub(crate) fn join(&mut self, now: Now, conn: ConnId, join: Join) {
        if self.roles.contains_key(&conn) {
            return self.outputs.push(Output::Refused(conn, Refusal::AlreadyJoined));
        }
        if let Some(member) = self.members.named_alike(&join.name) {
            let (key, shown) = (member.key, join.shown.is_some_and(|shown| shown == member.secret));
            return match (shown || planted(Bug::IgnoreSecret), member.leaving) {
                (true, false) => self.resume(now, conn, key, &join),
                // Its `left` is on its way: a moment later the name is free.
                (true, true) => self.answer_when_stored(Output::Refused(conn, Refusal::Busy)),
                (false, _) => self.answer_when_stored(Output::Refused(conn, Refusal::NameTaken)),
            };
        }
        if self.joining.contains(join.name.skeleton()) {
            return self.answer_when_stored(Output::Refused(conn, Refusal::NameTaken));
        }
        if self.members.len() + self.joining.len() >= self.limits.members_max {
            return self.outputs.push(Output::Refused(conn, Refusal::GroupFull));
        }
        self.joining.insert(join.name.skeleton().into());
        let body = JoinedBody { door: join.door, durable: join.durable };
        let key = Incarnation(self.proposed + 1);
        self.append_entry(now, Kind::Joined, key.0, join.name.as_str(), &body.write());
        Note::Secret { key, digest: join.fresh }.write(&mut self.building.notes);
        let Beginning { next, open, .. } =
            self.begins_at(now, key, &join.name, join.from, join.shown);
        if next != key.0 + 1 || !open.is_empty() {
            // Who reads history has not confirmed it by joining, also after a crash.
            let (acked, reached, confirms) = (next - 1, 0, false);
            Note::Cursor { key, acked, reached, confirms, open }.write(&mut self.building.notes);
        }
        // The role is there at once, so that a connection that ends before its join is stored is noticed.
        self.begin_role(conn, Some(key), &join.name, join.sender);
        let there = JoinedConn {
            conn,
            sender: join.sender,
            from: join.from,
            shown: join.shown,
            follow: join.follow,
        };
        self.building.effects.push(Effect::Joined(Box::new(JoinedEffect {
            key,
            name: join.name,
            door: join.door,
            durable: join.durable,
            secret: join.fresh,
            conn: Some(there),
        })));
    }

    /// Who shows the secret takes the membership over, also from an older connection of it.
    fn resume(&mut self, now: Now, conn: ConnId, key: Incarnation, join: &Join) {
        let (mut confirmed, mut moved) = (0, None);
        match join.from {
            // A stay goes on where it was: elsewhere it would skip what it has not confirmed, or open again what it has.
            From::Now | From::First | From::At(_) => {}
            From::After(position) => {
                let place = self.place(position);
                // What it has confirmed to itself counts, even where its last acknowledgement did not arrive.
                confirmed = if place.1 == Some(Moved::OtherLog) { 0 } else { place.0 - 1 };
                moved = place.1;
                if planted(Bug::ResumeLate) {
                    confirmed = (confirmed + 1).min(self.stored);
                }
            }
        }
        let changed = self.members.update(key, |member| {
            member.acked = member.acked.max(confirmed);
            member.confirms |= confirmed > 0;
        });
        self.cursor_moved(now, changed);
        let tail = self.stored;
        let Some(member) = self.members.get_mut(key) else { return };
        let before = std::mem::replace(&mut member.presence, Presence::Here(conn));
        (member.since_us, member.lagging) = (now.wall_us, false);
        // Also with a place in another log: what is no longer kept between here and there is a gap that it is told of.
        let resume_at = member.acked + 1 - u64::from(planted(Bug::ResumeEarly));
        let mut welcome = Welcome {
            resumed: true,
            moved,
            name: member.name.clone(),
            key,
            next: resume_at.clamp(1, tail + 1),
            tail,
            members: self.members.len() as u32,
            last_counter: self.senders.get(join.sender).map_or(0, |sender| sender.last_counter),
            acked: self.members.get(key).map_or(0, |member| member.acked),
            open: self.members.get(key).map(|member| member.open.clone()).unwrap_or_default(),
        };
        match before {
            Presence::Here(_) if planted(Bug::TwoConnections) => {}
            Presence::Here(old) => {
                self.forget_conn(old);
                self.outputs.push(Output::Close(old, Refusal::Replaced));
            }
            Presence::Away { .. } => self.graces.retain(|(_, away)| *away != key),
        }
        self.begin_role(conn, Some(key), &welcome.name, join.sender);
        if join.follow {
            self.followers.insert(conn);
        }
        if planted(Bug::ResumeWithoutOpen) {
            welcome.open.clear();
        }
        self.answer_when_stored(Output::Welcome(conn, Box::new(welcome)));
    }

    /// Where a new stay begins to read. Who shows the secret of an earlier stay reads on from its cursor, or from its own
    /// position where that is further, and is sent again what it had not finished.
    pub(crate) fn begins_at(
        &self,
        now: Now,
        key: Incarnation,
        name: &Name,
        from: From,
        shown: Option<SecretDigest>,
    ) -> Beginning {
        let earlier = shown.and_then(|shown| self.past.earlier_stay(name, shown, now.wall_us));
        let cursor = earlier.map(|stay| stay.acked.max(stay.reached));
        let (next, moved) = match from {
            From::Now => (cursor.map_or(key.0 + 1, |cursor| cursor + 1), None),
            From::First => (self.first, None),
            From::At(seq) => (seq.max(1), None),
            From::After(position) => match self.place(position) {
                // What lies between is no longer kept: it has to be told of the gap, wherever an earlier stay was put.
                (next, None) if next < self.first => (next, None),
                (next, None) => (next.max(cursor.map_or(0, |cursor| cursor + 1)), None),
                moved => moved,
            },
        };
        let next = next.min(key.0 + 1);
        let finished = match from {
            From::After(position) if moved.is_none() => position.seq,
            _ => 0,
        };
        let unfinished = |seq: &&Seq| **seq > finished && **seq < next;
        let open = earlier.map(|stay| stay.open.iter().filter(unfinished).copied().collect());
        Beginning { next, moved, open: open.unwrap_or_default() }
    }

    /// Where reading goes on for somebody who was at `position`, and how that differs from what they think.
    pub fn place(&self, position: Position) -> (Seq, Option<Moved>) {
        if position.log != self.identity.log && !planted(Bug::MixUpLogs) {
            return (self.first, Some(Moved::OtherLog));
        }
        let end = self.past.end_of(position.epoch, self.stored).min(self.stored);
        if position.seq > end && !planted(Bug::KeepLostPlace) {
            (end + 1, Some(Moved::CutBack))
        } else {
            (position.seq + 1, None)
        }
    }

    pub(crate) fn open_sender(&mut self, conn: ConnId, open: OpenSender) {
        if self.roles.contains_key(&conn) {
            return self.outputs.push(Output::Refused(conn, Refusal::AlreadyJoined));
        }
        let last_counter = self.senders.get(open.id).map(|sender| sender.last_counter);
        if open.known && last_counter.is_none() {
            return self.outputs.push(Output::Refused(conn, Refusal::SenderExpired));
        }
        self.begin_role(conn, None, &open.name, open.id);
        if open.follow {
            self.followers.insert(conn);
        }
        let ready = SenderReady {
            name: open.name,
            tail: self.stored,
            members: self.members.len() as u32,
            last_counter: last_counter.unwrap_or(0),
        };
        self.answer_when_stored(Output::SenderReady(conn, Box::new(ready)));
    }

    /// Gives every acceptable message of the run its number, in place; what is not acceptable ends a piece and is answered.
    pub(crate) fn publish(&mut self, now: Now, conn: ConnId, run: Run) {
        let mut rest = run.into_bytes();
        // Not yet welcome, or on its way out: refused, and what the connection is stays as it is.
        let may = |role: &mut Role| {
            role.key.is_none_or(|key| self.members.get(key).is_some_and(|member| !member.leaving))
        };
        let Entry::Occupied(mut role) = self.roles.entry(conn) else {
            return self.refuse_all(conn, &rest);
        };
        if !may(role.get_mut()) {
            return self.refuse_all(conn, &rest);
        }
        let mut role = role.remove();
        // Both are out of their tables while the run is gone through: one look-up a run, not one a message.
        let mut sender = self.senders.take(role.sender);
        let used_before = sender.last_seq();
        let mut published: Option<Published> = None;
        let mut accepted = 0;
        while accepted < rest.len() {
            let header = well_formed(&rest[accepted..]);
            let end = accepted + header.len as usize;
            match self.judge(&role, &sender, &header, &rest[accepted..end]) {
                Ok(()) => {
                    let one = self.number(
                        now,
                        conn,
                        &mut role,
                        &mut sender,
                        &header,
                        &mut rest[accepted..end],
                    );
                    match &mut published {
                        Some(run) if run.goes_on_with(&one) => run.extend(&one),
                        _ => self
                            .building
                            .effects
                            .extend(published.replace(one).map(Effect::Published)),
                    }
                    accepted = end;
                }
                Err(answer) => {
                    self.building.effects.extend(published.take().map(Effect::Published));
                    self.keep(rest.split_to(accepted));
                    rest.advance(header.len as usize);
                    accepted = 0;
                    self.not_taken(now, conn, &mut role, &header, answer);
                }
            }
        }
        self.building.effects.extend(published.map(Effect::Published));
        self.keep(rest);
        self.senders.put_back(role.sender, sender, used_before);
        self.roles.insert(conn, role);
        self.forget_senders();
        if self.building.bytes >= self.limits.batch_bytes_max {
            let full = self.take_building(now);
            self.full.extend(full);
        }
    }

    /// Whether a message may be appended.
    fn judge(
        &self,
        role: &Role,
        sender: &Sender,
        header: &Header,
        frame: &[u8],
    ) -> Result<(), NotTaken> {
        match sender.check(header.counter) {
            Verdict::Duplicate { seq, publisher } => {
                return Err(NotTaken::Duplicate(seq, publisher));
            }
            Verdict::Expired => return Err(NotTaken::Refused(Refusal::SenderExpired)),
            Verdict::Skipped => return Err(NotTaken::Refused(Refusal::CounterSkipped)),
            // It went through this connection once, and the table has forgotten its sender since.
            Verdict::Fresh if header.counter <= role.last_counter => {
                return Err(NotTaken::Refused(Refusal::SenderExpired));
            }
            Verdict::Fresh => {}
        }
        let name = &frame[HEADER_BYTES..HEADER_BYTES + usize::from(header.name_len)];
        let held_up = role.refused.filter(|_| !planted(Bug::TakeAfterRefused));
        let refusal = if held_up.is_some_and(|refused| header.counter > refused) {
            Refusal::AfterRefused
        } else if name != role.name.as_str().as_bytes() {
            Refusal::WrongName
        } else if frame.len() - HEADER_BYTES - name.len() > self.limits.message_bytes_max {
            Refusal::TooLong
        } else if role.unstored + frame.len() > self.limits.unstored_bytes_max
            || self.unstored + frame.len() > self.limits.group_unstored_bytes_max
            || (planted(Bug::WaitForSlowest)
                && self.members.iter().any(|member| member.cursor() + 20 < self.stored))
        {
            Refusal::Busy
        } else {
            return Ok(());
        };
        Err(NotTaken::Refused(refusal))
    }

    /// The stamping: the published frame becomes the log's entry.
    fn number(
        &mut self,
        now: Now,
        conn: ConnId,
        role: &mut Role,
        sender: &mut Sender,
        header: &Header,
        frame: &mut [u8],
    ) -> Published {
        self.proposed += 1;
        let seq = self.proposed;
        role.unstored += frame.len();
        role.came_again(header.counter);
        sender.goes_on_after(role.last_counter);
        role.last_counter = header.counter;
        self.unstored += frame.len();
        self.building.bytes += frame.len();
        let number = role.key.map(|key| key.0).or_else(|| sender.outside_number()).unwrap_or(seq);
        if sender.introduce(number, seq) {
            Note::Sender { number, id: role.sender }.write(&mut self.building.notes);
        }
        let bounds = Bounds { runs_max: self.limits.runs_per_sender_max, stored: self.stored };
        sender.accept(header.counter, seq, role.key, bounds);
        let flags = if role.key.is_none() { FLAG_OUTSIDE } else { 0 };
        let kind = if header.flags & FLAG_FILE == 0 { Kind::Message } else { Kind::File };
        entry::stamp(frame, kind, flags, seq, now.wall_us, number, self.identity.epoch);
        self.building.count += 1;
        if planted(Bug::AnswerEarly) {
            let stored = StoredRun { counter: header.counter, seq, count: 1 };
            self.outputs.push(Output::Stored(conn, stored));
        }
        Published {
            conn,
            counter: header.counter,
            seq,
            count: 1,
            bytes: frame.len(),
            receipt: header.flags & FLAG_RECEIPT != 0,
            publisher: role.key,
        }
    }

    fn not_taken(
        &mut self,
        now: Now,
        conn: ConnId,
        role: &mut Role,
        header: &Header,
        answer: NotTaken,
    ) {
        let counter = header.counter;
        match answer {
            NotTaken::Duplicate(seq, publisher) => {
                role.came_again(counter);
                let receipt = header.flags & FLAG_RECEIPT != 0;
                self.when_stored(now, Effect::Duplicate { conn, counter, seq, receipt, publisher });
            }
            NotTaken::Refused(refusal) => {
                match refusal {
                    // Final: the counter will not come again, so that nothing may wait for it either.
                    Refusal::SenderExpired | Refusal::CounterSkipped => role.came_again(counter),
                    _ => role.refuse_from(counter),
                }
                self.outputs.push(Output::MessageRefused(conn, counter, refusal));
            }
        }
    }

    fn refuse_all(&mut self, conn: ConnId, mut frames: &[u8]) {
        while !frames.is_empty() {
            let header = well_formed(frames);
            // A join or a leave that is not stored after all lets later ones in again: not before this one.
            if let Some(role) = self.roles.get_mut(&conn) {
                role.refuse_from(header.counter);
            }
            self.outputs.push(Output::MessageRefused(conn, header.counter, Refusal::NotJoined));
            frames = &frames[header.len as usize..];
        }
    }

    /// Keeps a numbered piece for the batch; small ones are copied together, long ones stay where they were read.
    fn keep(&mut self, piece: BytesMut) {
        if piece.len() > self.limits.copy_bytes_max {
            self.building.seal();
            self.building.pieces.push(piece.freeze());
        } else if !piece.is_empty() {
            self.building.small.extend_from_slice(&piece);
            if self.building.small.len() >= SMALL_PIECE_BYTES {
                self.building.seal();
            }
        }
    }

    pub(crate) fn append_entry(
        &mut self,
        now: Now,
        kind: Kind,
        sender: u64,
        name: &str,
        body: &[u8],
    ) {
        self.proposed += 1;
        let header = Header {
            len: 0,
            kind,
            flags: 0,
            name_len: 0,
            seq: self.proposed,
            time_us: now.wall_us,
            sender,
            counter: 0,
            epoch: self.identity.epoch,
        };
        entry::write(&mut self.building.small, header, name, body);
        self.building.count += 1;
    }

    pub(crate) fn leave(&mut self, now: Now, conn: ConnId) {
        match self.roles.get(&conn).and_then(|role| role.key) {
            Some(key) => self.propose_left(now, key, LeaveReason::Exit),
            None => self.outputs.push(Output::Refused(conn, Refusal::NotJoined)),
        }
    }

    pub(crate) fn remove(&mut self, now: Now, ticket: Ticket, name: &Name) {
        match self.members.named(name).map(|member| member.key) {
            Some(key) => {
                self.propose_left(now, key, LeaveReason::Removed);
                self.answer_when_stored(Output::Removed(ticket, true));
            }
            None => self.outputs.push(Output::Removed(ticket, false)),
        }
    }

    /// The entry records the leaver's final cursor; from here on what it says comes too late.
    pub(crate) fn propose_left(&mut self, now: Now, key: Incarnation, reason: LeaveReason) {
        let Some(member) = self.members.get_mut(key).filter(|member| !member.leaving) else {
            return;
        };
        member.leaving = true;
        let (name, body) = (member.name.clone(), left_body(reason, member));
        // What it failed is stored no later than the cursor that has passed it.
        self.note_failures();
        self.graces.retain(|(_, away)| *away != key);
        self.append_entry(now, Kind::Left, key.0, name.as_str(), &body.write());
        let (seq, time_us) = (self.proposed, now.wall_us);
        self.building.effects.push(Effect::Left { key, seq, time_us, body });
    }

    pub(crate) fn closed(&mut self, now: Now, conn: ConnId) {
        let key = self.roles.get(&conn).and_then(|role| role.key);
        self.forget_conn(conn);
        let here = |presence| presence == Presence::Here(conn);
        if let Some(key) =
            key.filter(|key| self.members.get(*key).is_some_and(|member| here(member.presence)))
        {
            self.set_away(now, key);
        }
    }

    pub(crate) fn set_away(&mut self, now: Now, key: Incarnation) {
        let Some(member) = self.members.get_mut(key) else { return };
        member.presence = Presence::Away { since_ms: now.mono_ms };
        (member.since_us, member.lagging) = (now.wall_us, false);
        match crate::effect::grace_ms(member.door, member.durable, self.limits.grace_ms) {
            Some(0) => self.propose_left(now, key, LeaveReason::Lost),
            Some(grace) => {
                self.graces.insert((now.mono_ms + grace, key));
            }
            None => {}
        }
    }

    pub(crate) fn forget_conn(&mut self, conn: ConnId) {
        if let Some(role) = self.roles.remove(&conn) {
            self.speakers.remove(&(role.sender, conn));
        }
        self.waiting.remove(&conn);
        self.held.retain(|(_, held_for), _| !held_for.is_conn(conn));
        self.followers.remove(&conn);
    }

    pub(crate) fn tick(&mut self, now: Now) {
        if planted(Bug::EndlessGrace) {
            return;
        }
        while let Some((_, key)) =
            self.graces.first().copied().filter(|(deadline, _)| *deadline <= now.mono_ms)
        {
            self.graces.pop_first();
            let again = self.lost_lefts.remove(&key);
            if again.is_some()
                && let Some(member) = self.members.get_mut(key)
            {
                member.leaving = false;
            }
            self.propose_left(now, key, again.unwrap_or(LeaveReason::Lost));
        }
    }

    fn begin_role(
        &mut self,
        conn: ConnId,
        key: Option<Incarnation>,
        name: &Name,
        sender: SenderId,
    ) {
        let last_counter = self.senders.get(sender).map_or(0, |sender| sender.last_counter);
        let name = name.clone();
        let role = Box::new(Role { key, name, sender, unstored: 0, refused: None, last_counter });
        self.roles.insert(conn, role);
        self.speakers.insert((sender, conn));
    }

    /// An answer that must not overtake what it may reveal.
    pub(crate) fn answer_when_stored(&mut self, output: Output) {
        if planted(Bug::WelcomeEarly) {
            return self.outputs.push(output);
        }
        self.when_stored(Now::default(), Effect::Answer(output));
    }

    /// Lets `effect` happen once everything is stored that has been proposed until now.
    fn when_stored(&mut self, now: Now, effect: Effect) {
        let waits_for = if !self.building.is_empty() {
            Some(&mut self.building.effects)
        } else if let Some(full) = self.full.back_mut() {
            Some(&mut full.effects)
        } else {
            self.in_flight.as_mut().map(|in_flight| &mut in_flight.effects)
        };
        match waits_for {
            Some(effects) => effects.push(effect),
            None => self.apply(now, effect),
        }
    }
}

fn well_formed(frames: &[u8]) -> Header {
    Header::read(frames)
        .expect("a Run holds well-formed frames only, it was checked when it was split off")
}

#[derive(Clone, Copy)]
enum NotTaken {
    Duplicate(Seq, Option<Incarnation>),
    Refused(Refusal),
}

/// Where a stay begins to read.
pub(crate) struct Beginning {
    pub next: Seq,
    pub moved: Option<Moved>,
    /// Sent again before that.
    pub open: Vec<Seq>,
}

impl Role {
    /// Nothing above `counter` is taken until it comes again.
    pub(crate) fn refuse_from(&mut self, counter: u64) {
        self.refused = Some(self.refused.map_or(counter, |refused| refused.min(counter)));
    }

    /// Lifts the refusal that began with this very counter.
    fn came_again(&mut self, counter: u64) {
        self.refused = self.refused.filter(|refused| *refused != counter);
    }
}

impl Published {
    fn goes_on_with(&self, next: &Self) -> bool {
        let count = u64::from(self.count);
        self.receipt == next.receipt
            && self.counter.checked_add(count) == Some(next.counter)
            && self.seq + count == next.seq
    }

    fn extend(&mut self, next: &Self) {
        self.count += next.count;
        self.bytes += next.bytes;
    }
}

/// Only the line door has members whose host answers for them.
pub(crate) const fn may_be_reached(door: Door) -> bool {
    matches!(door, Door::Line)
}
