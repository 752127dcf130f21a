//! A group's recovery: whatever a log that passed its checksums holds, it is read back or refused, and never falls over.
//!
//! What is read back goes on: it can be taken over and written down again, and its snapshot says the same once more.

use bytes::{Bytes, BytesMut};
use tertulia_group::entry::{self, JoinedBody, LeftBody};
use tertulia_group::{
    Batch, Door, Group, Header, Incarnation, Input as GroupInput, Kind, LeaveReason, Limits, LogId,
    Now, RecoverError,
};

use crate::input::Input;

const LOG: LogId = LogId([7; 16]);
const NAMES: [&str; 4] = ["ana", "luis", "Ünal", ""];
const KINDS: [Kind; 6] =
    [Kind::Message, Kind::Joined, Kind::Left, Kind::Epoch, Kind::File, Kind::Publish];
/// Records and entries, so that one input stays fast.
const RECORDS_MAX: usize = 32;

/// A snapshot, perhaps, and records after it: as they stand, or made of parts that fit together.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.u8();
    let restored = match mode & 1 {
        0 => Ok(Group::new(LOG, limits())),
        _ => Group::restore(LOG, limits(), input.number(), input.long()),
    };
    let Ok(mut group) = restored else { return };
    for _ in 0..RECORDS_MAX {
        if input.is_empty() {
            break;
        }
        let replayed = if mode & 2 == 0 {
            as_it_stands(&mut group, &mut input)
        } else {
            made(&mut group, &mut input)
        };
        if replayed.is_err() {
            return;
        }
    }
    goes_on(group);
}

/// Small tables, so that their limits are met.
fn limits() -> Limits {
    Limits { senders_max: 4, runs_per_sender_max: 3, ..Limits::default() }
}

fn as_it_stands(group: &mut Group, input: &mut Input<'_>) -> Result<(), RecoverError> {
    let (first, count) = (input.u64(), input.u32());
    let notes = Bytes::copy_from_slice(input.long());
    let entries = Bytes::copy_from_slice(input.long());
    group.replay(first, count, &notes, &entries)
}

/// A record that is the next one, with entries of the right form.
fn made(group: &mut Group, input: &mut Input<'_>) -> Result<(), RecoverError> {
    let first = group.tail().wrapping_add(1);
    let (mut entries, mut notes) = (BytesMut::new(), BytesMut::new());
    let count = input.u8() % 8;
    for at in 0..count {
        put_entry(&mut entries, &mut notes, first.wrapping_add(at.into()), input);
    }
    for _ in 0..input.u8() % 8 {
        put_note(&mut notes, input);
    }
    group.replay(first, count.into(), &notes.freeze(), &entries.freeze())
}

fn put_entry(out: &mut BytesMut, notes: &mut BytesMut, seq: u64, input: &mut Input<'_>) {
    let what = input.u8();
    let kind = KINDS[usize::from(what & 7) % KINDS.len()];
    let name = NAMES[usize::from(what >> 3) % NAMES.len()];
    let body = match kind {
        Kind::Joined => {
            let digest = [&[2][..], &seq.to_le_bytes(), &[9; 32]].concat();
            notes.extend_from_slice(&digest);
            let door = if what & 64 == 0 { Door::Native } else { Door::Line };
            JoinedBody { door, durable: what & 128 != 0 }.write().to_vec()
        }
        Kind::Left => {
            let (acked, reached) = (input.number(), input.number());
            let open = (0..input.u8() % 4).map(|_| input.number()).collect();
            LeftBody { reason: LeaveReason::Exit, acked, reached, open }.write()
        }
        _ => input.short().to_vec(),
    };
    let (sender, counter) = (input.number(), input.number());
    let flags = if kind == Kind::Message { what >> 7 } else { 0 };
    let header = Header {
        len: 0,
        kind,
        flags,
        name_len: 0,
        seq,
        time_us: seq,
        sender,
        counter,
        epoch: input.u32(),
    };
    entry::write(out, header, name, &body);
}

/// The notes' bytes, as `group/src/effect.rs` has them.
fn put_note(out: &mut BytesMut, input: &mut Input<'_>) {
    let tag = input.u8() % 5;
    out.extend_from_slice(&[tag]);
    let mut number = || input.number().to_le_bytes();
    match tag {
        1 => {
            out.extend_from_slice(&number());
            out.extend_from_slice(&[input.u8() & 7; 16]);
        }
        2 => {
            out.extend_from_slice(&number());
            out.extend_from_slice(&[3; 32]);
        }
        3 => {
            out.extend_from_slice(&[input.u8() & 1]);
            (0..3).for_each(|_| out.extend_from_slice(&input.number().to_le_bytes()));
            let open = u32::from(input.u8() % 4);
            out.extend_from_slice(&open.to_le_bytes());
            (0..open).for_each(|_| out.extend_from_slice(&input.number().to_le_bytes()));
        }
        4 => {
            out.extend_from_slice(&number());
            out.extend_from_slice(&number());
            out.extend_from_slice(&[2, 0, 0, 0, b'n', b'o']);
        }
        _ => {}
    }
}

fn goes_on(mut group: Group) {
    let state = group.snapshot();
    let again =
        Group::restore(LOG, limits(), group.first(), &state).expect("its own snapshot is one");
    assert_eq!(again.snapshot(), state, "a snapshot says the same once more");
    for seq in [1, group.tail(), group.tail().wrapping_add(1)] {
        let now = Now::default();
        let _ = (group.receipt(seq, None, now), group.receipt(seq, Some(Incarnation(1)), now));
    }
    let now = Now { mono_ms: 1_000_000, ..Now::default() };
    let Some(epoch) = group.epoch().checked_add(1) else { return };
    group.take_over(now, epoch, "node");
    group.settle(now);
    let taken: Option<Batch> = group.take_batch(now);
    if taken.is_some() {
        group.handle(now, GroupInput::Stored);
    }
    group.handle(Now { mono_ms: 1_000_000_000, ..now }, GroupInput::Tick);
    group.settle(now);
    let _ = group.outputs().count();
}
