//! What a stored entry changes, and the notes beside the entries from which the same changes are read back at recovery.

use bytes::{Bytes, BytesMut};

use crate::codec::{
    Reader, RecoverError, possible, put_digest, put_id, put_list, put_str, put_u64,
};
use crate::entry::{Entry, JoinedBody, Kind, LeftBody};
use crate::ids::{ConnId, Door, Epoch, Incarnation, LeaveReason, SecretDigest, SenderId, Seq};
use crate::machine::{From, Output};
use crate::name::Name;

/// A change that waits until its entry is stored. Applying one cannot fail.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    /// A new epoch begins with this number.
    Epoch { epoch: Epoch, seq: Seq },
    /// A member joined.
    Joined(Box<JoinedEffect>),
    /// A member left; its final cursor is the entry's.
    Left { key: Incarnation, seq: Seq, time_us: u64, body: LeftBody },
    /// Messages of one connection were stored.
    Published(Published),
    /// An answer that must not come before what it reveals is stored.
    Answer(Output),
    /// Somebody asks again for what may still be on its way.
    Duplicate {
        conn: ConnId,
        counter: u64,
        seq: Seq,
        receipt: bool,
        publisher: Option<Incarnation>,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct JoinedEffect {
    pub key: Incarnation,
    pub name: Name,
    pub door: Door,
    pub durable: bool,
    pub secret: SecretDigest,
    /// `None` when it is read back: nobody is connected.
    pub conn: Option<JoinedConn>,
}

#[derive(Clone, Debug)]
pub(crate) struct JoinedConn {
    pub conn: ConnId,
    pub sender: SenderId,
    pub from: From,
    /// Digest of the secret of an earlier stay.
    pub shown: Option<SecretDigest>,
    pub follow: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Published {
    pub conn: ConnId,
    pub counter: u64,
    pub seq: Seq,
    pub count: u32,
    pub bytes: usize,
    pub receipt: bool,
    pub publisher: Option<Incarnation>,
}

/// What only recovery reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// This sender number stands for this id.
    Sender { number: u64, id: SenderId },
    /// The stay that begins with this number can be taken over with this secret.
    Secret { key: Incarnation, digest: SecretDigest },
    /// A member's cursor.
    Cursor { key: Incarnation, acked: Seq, reached: Seq, confirms: bool, open: Vec<Seq> },
    /// A member will not do what a message asks.
    Failed { seq: Seq, key: Incarnation, code: String },
}

impl Note {
    pub fn write(&self, out: &mut BytesMut) {
        match self {
            Self::Sender { number, id } => {
                out.extend_from_slice(&[1]);
                put_u64(out, *number);
                put_id(out, *id);
            }
            Self::Secret { key, digest } => {
                out.extend_from_slice(&[2]);
                put_u64(out, key.0);
                put_digest(out, *digest);
            }
            Self::Cursor { key, acked, reached, confirms, open } => {
                out.extend_from_slice(&[3, u8::from(*confirms)]);
                [key.0, *acked, *reached].into_iter().for_each(|value| put_u64(out, value));
                put_list(out, open);
            }
            Self::Failed { seq, key, code } => {
                out.extend_from_slice(&[4]);
                put_u64(out, *seq);
                put_u64(out, key.0);
                put_str(out, code);
            }
        }
    }

    pub fn read_all(notes: &Bytes) -> Result<Vec<Self>, RecoverError> {
        let mut reader = Reader::new(notes);
        let mut all = Vec::new();
        while !reader.is_empty() {
            all.push(match reader.u8()? {
                1 => Self::Sender { number: reader.number()?, id: reader.id()? },
                2 => Self::Secret { key: Incarnation(reader.number()?), digest: reader.digest()? },
                3 => {
                    let confirms = reader.u8()? == 1;
                    let (key, acked, reached) =
                        (Incarnation(reader.number()?), reader.number()?, reader.number()?);
                    Self::Cursor { key, acked, reached, confirms, open: reader.list()? }
                }
                4 => Self::Failed {
                    seq: reader.number()?,
                    key: Incarnation(reader.number()?),
                    code: reader.str()?,
                },
                _ => return Err(RecoverError("an unknown kind of note")),
            });
        }
        Ok(all)
    }
}

/// What a stored entry says, for recovery. Messages answer `None`: they change the senders' table only.
pub(crate) fn effect_of(
    entry: &Entry,
    secret: Option<SecretDigest>,
) -> Result<Option<Effect>, RecoverError> {
    let header = &entry.header;
    let name = || Name::new(entry.name()).map_err(|_| RecoverError("an entry's name is none"));
    Ok(match header.kind {
        Kind::Epoch if header.epoch == Epoch::MAX => {
            return Err(RecoverError("an epoch that none can follow"));
        }
        Kind::Epoch => Some(Effect::Epoch { epoch: header.epoch, seq: header.seq }),
        Kind::Joined => {
            let body =
                JoinedBody::read(&entry.body()).map_err(|_| RecoverError("a joined entry"))?;
            let secret = secret.ok_or(RecoverError("a joined entry without its secret"))?;
            let (key, door, durable) = (Incarnation(header.seq), body.door, body.durable);
            Some(Effect::Joined(Box::new(JoinedEffect {
                key,
                name: name()?,
                door,
                durable,
                secret,
                conn: None,
            })))
        }
        Kind::Left => {
            let body = LeftBody::read(&entry.body()).map_err(|_| RecoverError("a left entry"))?;
            body.open
                .iter()
                .chain([&body.acked, &body.reached])
                .try_for_each(|seq| possible(*seq).map(|_| ()))?;
            let (key, seq, time_us) = (Incarnation(header.sender), header.seq, header.time_us);
            Some(Effect::Left { key, seq, time_us, body })
        }
        Kind::Message | Kind::File => None,
        Kind::Publish => return Err(RecoverError("a publish frame in a log")),
    })
}

/// Members of the line door leave with their connection; after a restart nobody of them is there.
pub(crate) const fn grace_ms(door: Door, durable: bool, grace_ms: u64) -> Option<u64> {
    match (door, durable) {
        (Door::Line, _) => Some(0),
        (_, true) => None,
        (_, false) => Some(grace_ms),
    }
}

/// A `left` body for a member as it stands.
pub(crate) fn left_body(reason: LeaveReason, member: &crate::members::Member) -> LeftBody {
    LeftBody { reason, acked: member.acked, reached: member.reached, open: member.open.clone() }
}
