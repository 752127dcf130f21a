//! Making true what is stored: effects of entries, cursors of members. Nothing in here can be refused any more, but an
//! acknowledgement that is impossible closes its connection.

use bytes::BytesMut;

use crate::effect::{Effect, JoinedConn, JoinedEffect, Note, Published};
use crate::entry::{Kind, LeftBody, code_is_clean};
use crate::group::{Group, InFlight, Role};
use crate::ids::{ConnId, Epoch, Incarnation, LeaveReason, Now, Seq};
use crate::limits::{FAILED_PER_ACK_MAX, OPEN_MAX};
use crate::machine::{Ack, From, Output, Refusal, StoredRun, Welcome};
use crate::members::{Member, Presence};
use crate::past::{Departed, Failure};
use crate::planted::{Bug, planted};
use crate::propose::Beginning;
use crate::senders::Senders;
use crate::waiting::HeldFor;

impl Group {
    /// Begins to coordinate: the first append is the epoch's record, which fences every older coordinator. Members that are
    /// read back are away from now on, their grace begins anew.
    pub fn take_over(&mut self, now: Now, epoch: Epoch, node: &str) {
        assert!(
            epoch > self.identity.epoch,
            "promise 6: every start of a coordinator raises the epoch"
        );
        self.identity.epoch = epoch;
        if planted(Bug::ReuseNumber) {
            self.set_tail(self.stored.saturating_sub(1));
        }
        if planted(Bug::SilentTakeOver) {
            return;
        }
        self.append_entry(now, Kind::Epoch, 0, "", node.as_bytes());
        self.building.effects.push(Effect::Epoch { epoch, seq: self.proposed });
        let mut keys: Vec<Incarnation> = self.members.iter().map(|member| member.key).collect();
        keys.sort_unstable();
        keys.into_iter().for_each(|key| self.set_away(now, key));
    }

    pub(crate) fn batch_stored(&mut self, now: Now) {
        let Some(InFlight { through, effects, .. }) = self.in_flight.take() else {
            unreachable!("promise 3: the journal answered for a batch that was not taken")
        };
        self.stored = through;
        self.forget_senders();
        for effect in effects {
            if self.is_heard(&effect) {
                self.apply(now, effect);
            }
        }
    }

    /// Whoever asked again for a number is still there.
    fn is_heard(&self, effect: &Effect) -> bool {
        !matches!(effect, Effect::Duplicate { conn, .. } if !self.roles.contains_key(conn))
    }

    /// The batch will never be stored: everything that was proposed is taken back and refused, as if it had not been said.
    pub(crate) fn batch_not_stored(&mut self, now: Now) {
        let Some(in_flight) = self.in_flight.take() else {
            unreachable!("promise 3: the journal answered for a batch that was not taken")
        };
        self.proposed = self.stored;
        let building = self.next_building();
        let full = std::mem::take(&mut self.full);
        let (mut lost, mut failures) = (in_flight.effects, in_flight.failures);
        for building in full.into_iter().chain([building]) {
            lost.extend(building.effects);
            failures.unsplit(building.failures);
        }
        self.roll_back_senders();
        // Cursors and failures of the lost notes are written again with the next batch; failures also where the table has
        // dropped them meanwhile, because nothing that is stored says that yet.
        self.members.iter_mut().for_each(|member| member.unsaved = true);
        if planted(Bug::DropLostFailures) {
            failures.clear();
        }
        failures.unsplit(self.unsaved_failures.split());
        self.unsaved_failures = failures;
        self.unsaved_since = Some(now.mono_ms.saturating_sub(self.limits.checkpoint_ms));
        // They go with the next message. Without one they are tried now and then only: a full disk would be asked without end.
        self.notes_from_ms = now.mono_ms + self.limits.checkpoint_ms;
        lost.into_iter().for_each(|effect| self.take_back(now, effect));
    }

    /// A connection knows of its sender what the table knows; of one that was forgotten before, what it knew.
    fn roll_back_senders(&mut self) {
        let forgotten = |role: &Role, senders: &Senders| senders.get(role.sender).is_none();
        let known: Vec<ConnId> = self
            .roles
            .iter()
            .filter(|(_, role)| !forgotten(role, &self.senders))
            .map(|(conn, _)| *conn)
            .collect();
        if planted(Bug::KeepLostNumbers) {
            return;
        }
        self.senders.roll_back(self.stored);
        for conn in known {
            if let Some(role) = self.roles.get_mut(&conn) {
                role.last_counter =
                    self.senders.get(role.sender).map_or(0, |sender| sender.last_counter);
            }
        }
        self.forget_senders();
    }

    /// The answer without what it would have revealed of the lost batch.
    fn corrected(&self, mut answer: Output) -> Output {
        let last_counter = |conn: &ConnId| {
            let sender = self.roles.get(conn).and_then(|role| self.senders.get(role.sender));
            sender.map_or(0, |sender| sender.last_counter)
        };
        match &mut answer {
            Output::Welcome(conn, welcome) => welcome.last_counter = last_counter(conn),
            Output::SenderReady(conn, ready) => ready.last_counter = last_counter(conn),
            _ => {}
        }
        answer
    }

    fn take_back(&mut self, now: Now, effect: Effect) {
        match effect {
            Effect::Published(run) => {
                self.unstored -= run.bytes;
                let own = |role: &&mut Box<Role>| role.key == run.publisher;
                if let Some(role) = self.roles.get_mut(&run.conn).filter(own) {
                    role.unstored = role.unstored.saturating_sub(run.bytes);
                    role.refuse_from(run.counter);
                }
                for counter in (0..u64::from(run.count)).map(|nth| run.counter + nth) {
                    self.outputs.push(Output::MessageRefused(run.conn, counter, Refusal::NoSpace));
                }
            }
            Effect::Joined(joined) => {
                self.joining.remove(joined.name.skeleton());
                if let Some(there) = joined.conn {
                    self.forget_conn(there.conn);
                    self.outputs.push(Output::Refused(there.conn, Refusal::NoSpace));
                }
            }
            Effect::Left { key, body, .. } => {
                // It stays on its way out, and is tried again in a while: what it said meanwhile was not listened to, so
                // that what it would say next cannot be understood.
                self.lost_lefts.insert(key, body.reason);
                self.graces.insert((now.mono_ms + 1000, key));
            }
            Effect::Duplicate { conn, counter, seq, .. } if seq > self.stored => {
                if let Some(role) = self.roles.get_mut(&conn) {
                    role.refuse_from(counter);
                }
                self.outputs.push(Output::MessageRefused(conn, counter, Refusal::NoSpace));
            }
            Effect::Answer(answer) => {
                let answer = self.corrected(answer);
                self.outputs.push(answer);
            }
            Effect::Duplicate { .. } if self.is_heard(&effect) => self.apply(now, effect),
            Effect::Duplicate { .. } => {}
            Effect::Epoch { .. } => unreachable!(
                "promise 6: the driver gives up a coordinator that cannot store its epoch"
            ),
        }
    }

    pub(crate) fn apply(&mut self, now: Now, effect: Effect) {
        match effect {
            Effect::Epoch { epoch, seq } => self.past.epochs.push((epoch, seq)),
            Effect::Joined(joined) => self.apply_joined(now, *joined),
            Effect::Left { key, seq, time_us, body } => {
                self.apply_left(now, key, (seq, time_us), body);
            }
            Effect::Published(run) => self.apply_published(run),
            Effect::Answer(output) => self.outputs.push(output),
            Effect::Duplicate { conn, counter, seq, receipt, publisher } => {
                self.outputs.push(Output::Again(conn, StoredRun { counter, seq, count: 1 }));
                if receipt {
                    self.hold(seq, HeldFor::Conn(conn, counter), publisher);
                }
            }
        }
    }

    fn apply_joined(&mut self, now: Now, joined: JoinedEffect) {
        let JoinedEffect { key, name, door, durable, secret, conn } = joined;
        self.joining.remove(name.skeleton());
        let here = conn
            .as_ref()
            .filter(|there| self.roles.get(&there.conn).is_some_and(|role| role.key == Some(key)));
        // Also where its connection is gone: the position stays when it comes back.
        let (from, shown) =
            conn.as_ref().map_or((From::Now, None), |there| (there.from, there.shown));
        let Beginning { next, moved, open } = self.begins_at(now, key, &name, from, shown);
        self.members.insert(Member {
            name: name.clone(),
            key,
            door,
            durable,
            secret,
            acked: next - 1,
            reached: 0,
            confirms: false,
            open: open.clone(),
            presence: here.as_ref().map_or(Presence::Away { since_ms: now.mono_ms }, |there| {
                Presence::Here(there.conn)
            }),
            lagging: false,
            since_us: now.wall_us,
            leaving: false,
            unsaved: true,
            untold: false,
        });
        self.outputs.push(Output::Joined(name.clone(), door));
        self.moved = true;
        match here {
            Some(there) => self.welcome(key, name, Beginning { next, moved, open }, there),
            // Its connection ended before its join was stored. (One that is read back waits for `take_over`.)
            None if conn.is_some() => self.set_away(now, key),
            None => {}
        }
    }

    fn welcome(
        &mut self,
        key: Incarnation,
        name: crate::Name,
        begins: Beginning,
        there: &JoinedConn,
    ) {
        let Beginning { next, moved, open } = begins;
        if there.follow {
            self.followers.insert(there.conn);
        }
        let welcome = Welcome {
            resumed: false,
            moved,
            name,
            key,
            next,
            tail: self.stored,
            members: self.members.len() as u32,
            // What of its sender is in a later batch is not stored yet.
            last_counter: self
                .senders
                .get(there.sender)
                .map_or(0, |sender| sender.last_counter_as_of(self.stored)),
            acked: next - 1,
            open,
        };
        self.outputs.push(Output::Welcome(there.conn, Box::new(welcome)));
    }

    fn apply_left(
        &mut self,
        now: Now,
        key: Incarnation,
        (seq, time_us): (Seq, u64),
        body: LeftBody,
    ) {
        let Some(member) = self.members.remove(key) else { return };
        let reason = body.reason;
        let departed = Departed {
            key,
            name: member.name.clone(),
            left: seq,
            left_us: time_us,
            secret: member.secret,
            acked: body.acked,
            reached: body.reached,
            open: body.open,
        };
        self.past.depart(departed);
        self.bound_past(now);
        self.moved = true;
        if let Presence::Here(conn) = member.presence {
            self.forget_conn(conn);
            self.outputs.push(Output::Gone(conn, reason));
        }
        self.outputs.push(Output::Left(member.name, reason));
    }

    fn apply_published(&mut self, run: Published) {
        self.unstored -= run.bytes;
        self.watch_run(&run);
        // A connection whose membership was taken over may have joined again since: then this is not its message.
        let own = |role: &&mut Box<Role>| role.key == run.publisher;
        let Some(role) = self.roles.get_mut(&run.conn).filter(own) else { return };
        role.unstored = role.unstored.saturating_sub(run.bytes);
        let stored = StoredRun { counter: run.counter, seq: run.seq, count: run.count };
        self.outputs.push(Output::Stored(run.conn, stored));
        if run.receipt {
            self.wait_for(run);
        }
    }

    pub(crate) fn ack(&mut self, now: Now, conn: ConnId, ack: &Ack) {
        let Some(key) = self.stay(conn) else { return };
        let listens = |member: &&Member| !member.leaving || planted(Bug::HearLeavers);
        let Some(member) = self.members.get(key).filter(listens) else { return };
        let Some((cursor, open)) = acceptable(member, ack, self.stored) else {
            return self.outputs.push(Output::Close(conn, Refusal::BadAck));
        };
        let mut any_failed = false;
        for (seq, code) in &ack.failed {
            let confirmed = *seq <= member.acked && member.open.binary_search(seq).is_err();
            if *seq > key.0 && *seq <= cursor && !confirmed && !planted(Bug::ConfirmFailed) {
                let failure = Failure { key, name: member.name.clone(), code: code.clone() };
                self.past.fail(*seq, failure);
                any_failed = true;
                Note::Failed { seq: *seq, key, code: code.clone() }
                    .write(&mut self.unsaved_failures);
                self.moved = true;
            }
        }
        let changed = self.members.update(key, |member| {
            member.acked = cursor;
            member.confirms = true;
            member.open = open;
        });
        self.cursor_moved(now, changed);
        if !any_failed {
            return;
        }
        // A failure is stored at once, and with it the cursor that has passed it: its receipt stays final after a crash.
        if let Some(member) = self.members.get(key) {
            cursor_note(member).write(&mut self.unsaved_failures);
        }
        self.bound_past(now);
    }

    pub(crate) fn reached(&mut self, now: Now, conn: ConnId, seq: Seq) {
        let Some(key) = self.stay(conn) else { return };
        let stored = self.stored;
        let Some(member) = self.members.get(key) else { return };
        if member.leaving || member.confirms || !crate::propose::may_be_reached(member.door) {
            return;
        }
        let changed =
            self.members.update(key, |member| member.reached = member.reached.max(seq.min(stored)));
        self.cursor_moved(now, changed);
    }

    pub(crate) fn cursor_moved(&mut self, now: Now, changed: bool) {
        if changed {
            self.moved = true;
            self.unsaved_since.get_or_insert(now.mono_ms);
        }
    }

    pub(crate) fn lagging(&mut self, conn: ConnId, lagging: bool) {
        if let Some(member) = self.stay(conn).and_then(|key| self.members.get_mut(key)) {
            member.lagging = lagging;
        }
    }

    /// Durable members that are away past what is kept are given up: what they missed cannot be had any more.
    pub(crate) fn trimmed(&mut self, now: Now, first: Seq) {
        self.give_up_below(now, first);
        self.first = self.first.max(first);
        self.past.trim(self.first);
        let gone = |member: &&Member| {
            matches!(member.presence, Presence::Away { .. }) && member.cursor() + 1 < first
        };
        let mut gone: Vec<Incarnation> =
            self.members.iter().filter(gone).map(|member| member.key).collect();
        gone.sort_unstable();
        gone.into_iter().for_each(|key| self.propose_left(now, key, LeaveReason::Expired));
    }

    /// What goes into the notes of the batch that is taken now: failures at once, cursors when their time has come.
    pub(crate) fn write_checkpoint(&mut self, due: bool) {
        self.note_failures();
        let notes: &mut BytesMut = &mut self.building.notes;
        if due {
            self.unsaved_since = None;
            for member in self.members.iter_mut().filter(|member| member.unsaved) {
                member.unsaved = false;
                cursor_note(member).write(notes);
            }
        }
    }

    /// What failed since the last time goes into the notes of the batch that is being filled.
    pub(crate) fn note_failures(&mut self) {
        let failures = self.unsaved_failures.split();
        self.building.notes.extend_from_slice(&failures);
        self.building.failures.extend_from_slice(&failures);
    }

    /// Makes the next batch carry every cursor that moved, for a clean end.
    pub(crate) fn checkpoint(&mut self) {
        self.write_checkpoint(true);
    }

    /// Keeps what is known of the past within its limits. What can be said of a message that falls out is said before.
    pub(crate) fn bound_past(&mut self, now: Now) {
        let (departed_max, failures_max) = (self.limits.departed_max, self.limits.failures_max);
        if let Some(floor) = self.past.floor_within(departed_max, failures_max)
            && !planted(Bug::KeepAllPast)
        {
            self.give_up_below(now, floor);
            self.past.raise_floor(floor);
        }
    }
}

/// A member's cursor, as it is stored.
pub(crate) fn cursor_note(member: &Member) -> Note {
    Note::Cursor {
        key: member.key,
        acked: member.acked,
        reached: member.reached,
        confirms: member.confirms,
        open: member.open.clone(),
    }
}

/// The cursor and open numbers after `ack`; `None` when it cannot be. A cursor that goes back moves nothing: of what is above
/// it, it does not speak. What fails is not at work any more.
fn acceptable(member: &Member, ack: &Ack, stored: Seq) -> Option<(Seq, Vec<Seq>)> {
    let cursor = ack.cursor.max(member.acked);
    if ack.open.is_empty() && ack.failed.is_empty() && member.open.is_empty() {
        // Nearly all: there is nothing to compare or to put together.
        return (ack.cursor <= stored).then_some((cursor, Vec::new()));
    }
    let mut open = ack.open.clone();
    open.sort_unstable();
    open.dedup();
    let codes = ack.failed.iter().all(|(_, code)| code_is_clean(code));
    // What was confirmed once is not open again.
    let reopened =
        open.iter().any(|seq| *seq <= member.acked && member.open.binary_search(seq).is_err());
    let possible = ack.cursor <= stored
        && open.len() <= OPEN_MAX
        && open.last().is_none_or(|last| *last <= cursor)
        && ack.failed.len() <= FAILED_PER_ACK_MAX
        && codes
        && !reopened;
    if !possible {
        return None;
    }
    open.extend(member.open.iter().filter(|seq| **seq > ack.cursor));
    open.sort_unstable();
    open.dedup();
    open.retain(|seq| ack.failed.iter().all(|(failed, _)| failed != seq));
    Some((cursor, open))
}
