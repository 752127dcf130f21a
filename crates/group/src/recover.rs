//! Coming back after a crash or a hand-over: the snapshot, then every record after it, through the same effects as live.

use bytes::{Bytes, BytesMut};

use crate::apply::cursor_note;
use crate::codec::{
    Reader, RecoverError, possible, put_digest, put_id, put_list, put_str, put_u64,
};
use crate::effect::{Effect, Note, effect_of};
use crate::entry::{Kind, entries};
use crate::group::Group;
use crate::ids::{Door, Incarnation, LogId, Now, SecretDigest, SenderId, Seq};
use crate::limits::Limits;
use crate::machine::Building;
use crate::members::{Member, Presence};
use crate::name::Name;
use crate::past::{Departed, Failure};
use crate::planted::{Bug, planted};
use crate::senders::{Bounds, Introduced, Sender, SentRun};

const VERSION: u8 = 1;

fn put_count(out: &mut BytesMut, count: usize) {
    out.extend_from_slice(
        &u32::try_from(count).expect("tables are limited to far less").to_le_bytes(),
    );
}

fn name(reader: &mut Reader<'_>) -> Result<Name, RecoverError> {
    Name::new(&reader.str()?).map_err(|_| RecoverError("a stored name is none"))
}

impl Group {
    /// The state as of [`Group::tail`]: with it, the records up to there are not needed for recovery.
    pub fn snapshot(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.extend_from_slice(&[VERSION]);
        put_u64(&mut out, self.stored);
        put_u64(&mut out, self.past.floor);
        put_count(&mut out, self.past.epochs.len());
        self.past.epochs.iter().for_each(|(epoch, first)| {
            put_u64(&mut out, u64::from(*epoch));
            put_u64(&mut out, *first);
        });
        let mut members: Vec<&Member> = self.members.iter().collect();
        members.sort_unstable_by_key(|member| member.key);
        put_count(&mut out, members.len());
        members.into_iter().for_each(|member| write_member(&mut out, member));
        put_count(&mut out, self.past.departed.len());
        self.past.departed.iter().for_each(|departed| write_departed(&mut out, departed));
        put_count(&mut out, self.past.failure_count);
        for (seq, failure) in
            self.past.failures.iter().flat_map(|(seq, all)| all.iter().map(move |one| (*seq, one)))
        {
            put_u64(&mut out, seq);
            put_u64(&mut out, failure.key.0);
            put_str(&mut out, failure.name.as_str());
            put_str(&mut out, &failure.code);
        }
        let senders = self.senders.stored(self.stored);
        put_count(&mut out, senders.len());
        senders.iter().for_each(|(id, sender)| write_sender(&mut out, *id, sender));
        out.freeze()
    }

    /// The group as a [`Group::snapshot`] describes it.
    ///
    /// # Errors
    /// [`RecoverError`] when the bytes are not one.
    pub fn restore(
        log: LogId,
        limits: Limits,
        first: Seq,
        snapshot: &[u8],
    ) -> Result<Self, RecoverError> {
        let mut group = Self::new(log, limits);
        let mut reader = Reader::new(snapshot);
        if reader.u8()? != VERSION {
            return Err(RecoverError("a snapshot of another version"));
        }
        group.set_tail(reader.number()?);
        group.first = first;
        group.past.floor = reader.number()?;
        for _ in 0..reader.count(16)? {
            let epoch = u32::try_from(reader.u64()?).ok().filter(|epoch| *epoch < u32::MAX);
            let (epoch, first) = (epoch.ok_or(RecoverError("an epoch"))?, reader.number()?);
            if first == 0 {
                return Err(RecoverError("an epoch that begins before the log"));
            }
            group.past.epochs.push((epoch, first));
            group.identity.epoch = epoch;
        }
        for _ in 0..reader.count(32)? {
            let member = read_member(&mut reader)?;
            if group.members.get(member.key).is_some()
                || group.members.named(&member.name).is_some()
            {
                return Err(RecoverError("a member twice"));
            }
            group.members.insert(member);
        }
        for _ in 0..reader.count(32)? {
            group.past.departed.push_back(read_departed(&mut reader)?);
        }
        for _ in 0..reader.count(24)? {
            let (seq, key) = (reader.number()?, Incarnation(reader.number()?));
            let failure = Failure { key, name: name(&mut reader)?, code: reader.str()? };
            group.past.fail(seq, failure);
        }
        for _ in 0..reader.count(32)? {
            let (id, sender) = read_sender(&mut reader)?;
            if group.senders.get(id).is_some() {
                return Err(RecoverError("a sender twice"));
            }
            group.senders.put_back(id, sender, 0);
        }
        group.forget_senders();
        Ok(group)
    }

    /// Takes in one stored record after the snapshot, in order.
    ///
    /// Any bytes may come: what passed its checksums may still be another version's, or a bug's.
    ///
    /// # Errors
    /// [`RecoverError`] when it cannot be what this program stored; the group is then unusable.
    pub fn replay(
        &mut self,
        first: Seq,
        count: u32,
        notes: &Bytes,
        bytes: &Bytes,
    ) -> Result<(), RecoverError> {
        if first != self.stored + 1 {
            return Err(RecoverError("a record is not the next one"));
        }
        let notes = Note::read_all(notes)?;
        let (before, after): (Vec<_>, Vec<_>) = notes
            .into_iter()
            .partition(|note| matches!(note, Note::Sender { .. } | Note::Secret { .. }));
        let mut secrets: Vec<(Incarnation, SecretDigest)> = Vec::new();
        let mut introduced: Vec<(u64, SenderId)> = Vec::new();
        let begun: Vec<(Incarnation, Seq)> = after
            .iter()
            .filter_map(|note| match note {
                Note::Cursor { key, acked, .. } => Some((*key, *acked)),
                _ => None,
            })
            .collect();
        for note in before {
            match note {
                Note::Sender { number, id } => introduced.push((number, id)),
                Note::Secret { key, digest } => secrets.push((key, digest)),
                Note::Cursor { .. } | Note::Failed { .. } => {}
            }
        }
        let mut seen = 0;
        for entry in entries(bytes.clone()) {
            let entry = entry.map_err(|_| RecoverError("a record holds what is not an entry"))?;
            if entry.header.seq != first + u64::from(seen) {
                return Err(RecoverError("an entry is not the next one"));
            }
            seen += 1;
            let secret = secrets
                .iter()
                .find(|(key, _)| key.0 == entry.header.seq)
                .map(|(_, digest)| *digest);
            if planted(Bug::ForgetLeft) && entry.header.kind == Kind::Left {
                continue;
            }
            match effect_of(&entry, secret)? {
                Some(Effect::Joined(joined)) if self.members.named(&joined.name).is_some() => {
                    return Err(RecoverError("a member joins twice"));
                }
                Some(effect) => self.replay_effect(effect, entry.header.seq, &begun),
                None if entry.header.kind.is_said() => {
                    self.replay_message(&entry.header, &introduced)?;
                }
                None => {}
            }
        }
        if seen != count {
            return Err(RecoverError("a record holds fewer entries than it says"));
        }
        self.set_tail(self.stored + u64::from(count));
        after.into_iter().for_each(|note| self.replay_note(note));
        self.outputs.clear();
        self.graces.clear();
        self.moved = false;
        Ok(())
    }

    /// `begun`: how far the members that the record writes of had come at its end.
    fn replay_effect(&mut self, effect: Effect, seq: Seq, begun: &[(Incarnation, Seq)]) {
        if let Effect::Epoch { epoch, .. } = effect {
            self.identity.epoch = epoch;
        }
        let joined = matches!(effect, Effect::Joined(_));
        self.apply(Now::default(), effect);
        let key = Incarnation(seq);
        if let Some((_, acked)) = begun.iter().find(|(of, _)| joined && *of == key)
            && let Some(member) = self.members.get_mut(key)
        {
            // It began to read before its join: that it has not confirmed.
            member.acked = (*acked).min(seq);
        }
    }

    fn replay_message(
        &mut self,
        header: &crate::Header,
        introduced: &[(u64, SenderId)],
    ) -> Result<(), RecoverError> {
        if planted(Bug::ForgetSenders) {
            return Ok(());
        }
        // Counters are the sender's own, up to the highest there is.
        let (number, counter) = (possible(header.sender)?, header.counter);
        if counter == 0 {
            return Err(RecoverError("a message without a counter"));
        }
        let new = introduced.iter().find(|(known, _)| *known == number).map(|(_, id)| *id);
        // A sender that the table has forgotten meanwhile stays forgotten: it is told `SenderExpired`.
        let Some(id) = new.or_else(|| self.senders.id_of(number)) else { return Ok(()) };
        let mut sender = self.senders.take(id);
        let before = sender.last_seq();
        if counter <= sender.last_counter {
            // The coordinator had forgotten the sender by then (its table may have been smaller), so that it began again.
            sender = Sender::default();
        }
        sender.introduce(number, header.seq);
        let bounds = Bounds { runs_max: self.limits.runs_per_sender_max, stored: header.seq };
        sender.accept(counter, header.seq, header.publisher(), bounds);
        self.senders.put_back(id, sender, before);
        while self.senders.forget_oldest(self.limits.senders_max, header.seq).is_some() {}
        Ok(())
    }

    fn replay_note(&mut self, note: Note) {
        match note {
            Note::Cursor { key, acked, reached, confirms, open } => {
                let acked = if planted(Bug::ConfirmOnRestart) { self.stored } else { acked };
                self.members.update(key, |member| {
                    member.reached = member.reached.max(reached);
                    member.confirms |= confirms;
                    // A snapshot may be newer than the batch that was on its way when it was taken.
                    if acked >= member.acked {
                        (member.acked, member.open) = (acked, open);
                        member.open.retain(|_| !planted(Bug::ForgetOpen));
                    }
                });
            }
            Note::Failed { .. } if planted(Bug::ForgetFailures) => {}
            Note::Failed { seq, key, code } => {
                // Who failed may have left with the same batch.
                let gone = || self.past.departed.iter().rev().find(|gone| gone.key == key);
                let name = self.members.get(key).map(|member| member.name.clone());
                if let Some(name) = name.or_else(|| gone().map(|gone| gone.name.clone())) {
                    self.past.fail(seq, Failure { key, name, code });
                    self.bound_past(Now::default());
                }
            }
            Note::Sender { .. } | Note::Secret { .. } => {}
        }
    }

    pub(crate) fn set_tail(&mut self, seq: Seq) {
        (self.stored, self.proposed) = (seq, seq);
        self.building = Building { first: seq + 1, ..Building::default() };
    }
}

fn write_member(out: &mut BytesMut, member: &Member) {
    out.extend_from_slice(&[member.door as u8, u8::from(member.durable)]);
    put_str(out, member.name.as_str());
    put_u64(out, member.since_us);
    put_digest(out, member.secret);
    // The cursor last, in the form of its note.
    let mut note = BytesMut::new();
    cursor_note(member).write(&mut note);
    put_count(out, note.len());
    out.extend_from_slice(&note);
}

fn read_member(reader: &mut Reader<'_>) -> Result<Member, RecoverError> {
    let door = Door::from_code(reader.u8()?).ok_or(RecoverError("a door"))?;
    let durable = reader.u8()? == 1;
    let name = name(reader)?;
    let since_us = reader.u64()?;
    let secret = reader.digest()?;
    let _length = reader.u32()?;
    let _tag = reader.u8()?;
    let confirms = reader.u8()? == 1;
    let (key, acked, reached) = (Incarnation(reader.number()?), reader.number()?, reader.number()?);
    Ok(Member {
        name,
        key,
        door,
        durable,
        secret,
        acked,
        reached,
        confirms,
        open: reader.list()?,
        presence: Presence::Away { since_ms: 0 },
        lagging: false,
        since_us,
        leaving: false,
        unsaved: false,
        untold: false,
    })
}

fn write_departed(out: &mut BytesMut, departed: &Departed) {
    [departed.key.0, departed.left, departed.acked, departed.reached]
        .into_iter()
        .for_each(|value| put_u64(out, value));
    put_u64(out, departed.left_us);
    put_digest(out, departed.secret);
    put_str(out, departed.name.as_str());
    put_list(out, &departed.open);
}

fn read_departed(reader: &mut Reader<'_>) -> Result<Departed, RecoverError> {
    let (key, left, acked, reached) =
        (Incarnation(reader.number()?), reader.number()?, reader.number()?, reader.number()?);
    let (left_us, secret) = (reader.u64()?, reader.digest()?);
    Ok(Departed {
        key,
        left,
        left_us,
        secret,
        acked,
        reached,
        name: name(reader)?,
        open: reader.list()?,
    })
}

fn write_sender(out: &mut BytesMut, id: SenderId, sender: &Sender) {
    put_id(out, id);
    put_u64(out, sender.last_counter);
    put_u64(out, sender.forgotten);
    put_list(out, &sender.numbers.iter().map(|one| one.number).collect::<Vec<_>>());
    put_list(out, &sender.numbers.iter().map(|one| one.at).collect::<Vec<_>>());
    put_count(out, sender.runs.len());
    for run in &sender.runs {
        [run.counter, run.seq, run.count, run.publisher.map_or(0, |key| key.0)]
            .into_iter()
            .for_each(|value| put_u64(out, value));
    }
}

fn read_sender(reader: &mut Reader<'_>) -> Result<(SenderId, Sender), RecoverError> {
    let id = reader.id()?;
    let (last_counter, forgotten) = (reader.u64()?, reader.u64()?);
    let (numbers, first_at) = (reader.list()?, reader.list()?);
    let numbers = numbers.into_iter().zip(first_at);
    let numbers = numbers.map(|(number, at)| Introduced { number, at }).collect();
    let mut sender = Sender { numbers, last_counter, forgotten, ..Sender::default() };
    for _ in 0..reader.count(32)? {
        let (counter, seq, count) = (reader.u64()?, reader.number()?, reader.number()?);
        let after = sender.runs.back().map_or(forgotten, SentRun::last_counter);
        let fits = counter.checked_add(count.max(1) - 1).is_some_and(|last| last <= last_counter);
        if counter <= after || seq == 0 || count == 0 || !fits {
            return Err(RecoverError("a sender's runs"));
        }
        let publisher = Some(reader.number()?).filter(|key| *key != 0).map(Incarnation);
        sender.runs.push_back(SentRun { counter, seq, count, publisher });
    }
    Ok((id, sender))
}
