//! How single fields are written and read; the frames are made of them.

use bytes::{BufMut, BytesMut};

use tertulia_group::{
    CompleteRun, Door, LogId, Missing, Position, Receipt, SenderId, StoredRun, Why,
};

use super::{FRAME_HEADER_BYTES, FrameError, Instance, LIST_BYTES_MAX, STR_BYTES_MAX, Secret};
use crate::Level;
use crate::safe::cut;

/// Something that has bytes.
pub trait Put {
    /// Appends them.
    fn put(&self, out: &mut BytesMut);
}

/// Something that can be read.
pub trait Take: Sized {
    /// Takes it from the front.
    fn take(from: &mut Reader<'_>) -> Result<Self, FrameError>;
}

/// A thing that stands in lists.
pub trait Item: Put + Take {
    /// Bytes of the list's count: 1, 2 or 4.
    const COUNT_BYTES: usize;
    /// Fewest bytes of one item, so that a count can be judged before memory is taken for it.
    const BYTES_MIN: usize;
}

/// What is left of a frame.
pub struct Reader<'a> {
    kind: u8,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of the fields of a whole frame, after its header: its kind, its flags and what follows.
    pub fn open(frame: &'a [u8]) -> Result<(u8, u8, Self), FrameError> {
        let Some((header, rest)) = frame.split_first_chunk::<FRAME_HEADER_BYTES>() else {
            return Err(FrameError::Length(frame.len() as u32));
        };
        let len = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        if len as usize != frame.len() {
            return Err(FrameError::Length(len));
        }
        Ok((header[4], header[5], Self { kind: header[4], rest }))
    }

    /// The next field.
    pub fn take<T: Take>(&mut self) -> Result<T, FrameError> {
        T::take(self)
    }

    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (first, rest) =
            self.rest.split_first_chunk::<N>().ok_or(FrameError::Short(self.kind))?;
        self.rest = rest;
        Ok(*first)
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], FrameError> {
        let (first, rest) =
            self.rest.split_at_checked(count).ok_or(FrameError::Short(self.kind))?;
        self.rest = rest;
        Ok(first)
    }
}

/// The flags that are set, in one byte.
pub fn flags<const N: usize>(flags: [(bool, u8); N]) -> u8 {
    flags.into_iter().filter(|(is_set, _)| *is_set).fold(0, |byte, (_, flag)| byte | flag)
}

/// Appends one frame.
pub fn put_frame(out: &mut BytesMut, kind: u8, flags: u8, fields: impl Put) {
    let start = begin_frame(out, kind, flags);
    fields.put(out);
    end_frame(out, start);
}

/// Appends a header whose length [`end_frame`] fills in; returns where it stands.
pub fn begin_frame(out: &mut BytesMut, kind: u8, flags: u8) -> usize {
    let start = out.len();
    out.put_slice(&[0, 0, 0, 0, kind, flags, 0, 0]);
    start
}

/// Fills in the length of the frame that began at `start`; returns it.
pub fn end_frame(out: &mut BytesMut, start: usize) -> u32 {
    let len = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    len
}

/// Appends a list: as many items as its count and [`LIST_BYTES_MAX`] allow; whether it was all of them.
pub fn put_list<'a, T: Item + 'a>(
    out: &mut BytesMut,
    items: impl IntoIterator<Item = &'a T>,
) -> bool {
    let start = out.len();
    out.put_bytes(0, T::COUNT_BYTES);
    let count_max = (1u64 << (8 * T::COUNT_BYTES)) - 1;
    let (mut count, mut all) = (0u64, true);
    for item in items {
        let before = out.len();
        if count < count_max {
            item.put(out);
        }
        if count == count_max || out.len() - start > LIST_BYTES_MAX {
            out.truncate(before);
            all = false;
            break;
        }
        count += 1;
    }
    out[start..start + T::COUNT_BYTES].copy_from_slice(&count.to_le_bytes()[..T::COUNT_BYTES]);
    all
}

impl<T: Item> Put for Vec<T> {
    fn put(&self, out: &mut BytesMut) {
        put_list(out, self);
    }
}

impl<T: Item> Take for Vec<T> {
    fn take(from: &mut Reader<'_>) -> Result<Self, FrameError> {
        let count = from
            .bytes(T::COUNT_BYTES)?
            .iter()
            .rev()
            .fold(0usize, |count, byte| count << 8 | usize::from(*byte));
        if count > from.left() / T::BYTES_MIN {
            return Err(FrameError::Short(from.kind));
        }
        let mut items = Self::with_capacity(count);
        for _ in 0..count {
            items.push(from.take()?);
        }
        Ok(items)
    }
}

impl<T: Put + ?Sized> Put for &T {
    fn put(&self, out: &mut BytesMut) {
        (**self).put(out);
    }
}

macro_rules! integers {
    ($($type:ty)*) => {$(
        impl Put for $type {
            fn put(&self, out: &mut BytesMut) {
                out.put_slice(&self.to_le_bytes());
            }
        }
        impl Take for $type {
            fn take(from: &mut Reader<'_>) -> Result<Self, FrameError> {
                Ok(Self::from_le_bytes(from.array()?))
            }
        }
    )*};
}
integers!(u8 u16 u32 u64);

/// Numbers that a member is still at work on.
impl Item for u64 {
    const COUNT_BYTES: usize = 1;
    const BYTES_MIN: usize = 8;
}

macro_rules! tuples {
    ($($name:ident)*) => {
        impl<$($name: Put),*> Put for ($($name,)*) {
            #[allow(non_snake_case, unused_variables)]
            fn put(&self, out: &mut BytesMut) {
                let ($($name,)*) = self;
                $($name.put(out);)*
            }
        }
    };
}
tuples!();
tuples!(A);
tuples!(A B);
tuples!(A B C);
tuples!(A B C D);
tuples!(A B C D E);

impl<const N: usize> Put for [u8; N] {
    fn put(&self, out: &mut BytesMut) {
        out.put_slice(self);
    }
}

impl<const N: usize> Take for [u8; N] {
    fn take(from: &mut Reader<'_>) -> Result<Self, FrameError> {
        from.array()
    }
}

impl Put for bool {
    fn put(&self, out: &mut BytesMut) {
        out.put_u8((*self).into());
    }
}

impl Take for bool {
    fn take(from: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(from.take::<u8>()? != 0)
    }
}

impl Put for str {
    fn put(&self, out: &mut BytesMut) {
        let text = cut(self, STR_BYTES_MAX);
        out.put_u16_le(text.len() as u16);
        out.put_slice(text.as_bytes());
    }
}

impl Put for String {
    fn put(&self, out: &mut BytesMut) {
        self.as_str().put(out);
    }
}

impl Take for String {
    fn take(from: &mut Reader<'_>) -> Result<Self, FrameError> {
        let len = from.take::<u16>()?;
        let bytes = from.bytes(len.into())?;
        std::str::from_utf8(bytes).map(Self::from).map_err(|_| FrameError::Text)
    }
}

/// Types of one byte that have a `from_code`.
macro_rules! coded {
    ($($type:ty, $what:literal;)*) => {$(
        impl Put for $type {
            fn put(&self, out: &mut BytesMut) {
                (*self as u8).put(out);
            }
        }
        impl Take for $type {
            fn take(from: &mut Reader<'_>) -> Result<Self, FrameError> {
                Self::from_code(from.take()?).ok_or(FrameError::Value($what))
            }
        }
    )*};
}
pub(super) use coded;
coded! {
    Level, "level";
    Door, "door";
}

/// Types around one array.
macro_rules! wrapped {
    ($($type:ident)*) => {$(
        impl Put for $type {
            fn put(&self, out: &mut BytesMut) {
                self.0.put(out);
            }
        }
        impl Take for $type {
            fn take(from: &mut Reader<'_>) -> Result<Self, FrameError> {
                Ok(Self(from.take()?))
            }
        }
    )*};
}
pub(super) use wrapped;
wrapped!(Secret Instance SenderId LogId);

/// A type that is its fields, in order: those of a struct that stands elsewhere.
macro_rules! fields {
    ($name:ident { $($field:ident)* }) => {
        impl Put for $name {
            fn put(&self, out: &mut BytesMut) {
                $(self.$field.put(out);)*
            }
        }
        impl Take for $name {
            fn take(from: &mut Reader<'_>) -> Result<Self, FrameError> {
                Ok(Self { $($field: from.take()?,)* })
            }
        }
    };
}
pub(super) use fields;
fields!(Position { log epoch seq });
fields!(StoredRun { counter seq count });
fields!(CompleteRun { counter seq count members reached epoch });

/// A struct whose bytes are its fields in order, so that the order stands in one place.
macro_rules! record {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }
        fields!($name { $($field)* });
    };
}
pub(super) use record;

impl Item for StoredRun {
    const COUNT_BYTES: usize = 2;
    const BYTES_MIN: usize = 20;
}

impl Item for CompleteRun {
    const COUNT_BYTES: usize = 2;
    const BYTES_MIN: usize = 32;
}

impl Put for Missing {
    fn put(&self, out: &mut BytesMut) {
        let (why, away_ms, code): (u8, u64, &str) = match &self.why {
            Why::Pending => (0, 0, ""),
            Why::Away { ms } => (1, *ms, ""),
            Why::Lagging => (2, 0, ""),
            Why::Failed { code } => (3, 0, code),
            Why::Left => (4, 0, ""),
        };
        (&self.name, why, away_ms, code).put(out);
    }
}

impl Take for Missing {
    fn take(from: &mut Reader<'_>) -> Result<Self, FrameError> {
        let name = from.take()?;
        let (why, ms, code): (u8, u64, String) = (from.take()?, from.take()?, from.take()?);
        let why = match why {
            0 => Why::Pending,
            1 => Why::Away { ms },
            2 => Why::Lagging,
            3 => Why::Failed { code },
            4 => Why::Left,
            _ => return Err(FrameError::Value("reason why a member is missing")),
        };
        Ok(Self { name, why })
    }
}

impl Item for Missing {
    const COUNT_BYTES: usize = 4;
    const BYTES_MIN: usize = 13;
}

impl Put for Receipt {
    fn put(&self, out: &mut BytesMut) {
        (self.seq, self.epoch, self.members, self.confirmed, self.reached).put(out);
        self.is_final().put(out);
        let start = out.len();
        if !put_list(out, &self.missing) {
            // A list that had to be cut still shows whether somebody can answer.
            out.truncate(start);
            let (open, others): (Vec<_>, Vec<_>) =
                self.missing.iter().partition(|missing| missing.why.is_open());
            put_list(out, open.into_iter().chain(others));
        }
    }
}

impl Take for Receipt {
    fn take(from: &mut Reader<'_>) -> Result<Self, FrameError> {
        let (seq, epoch) = (from.take()?, from.take()?);
        let (members, confirmed, reached) = (from.take()?, from.take()?, from.take()?);
        let _final: bool = from.take()?;
        Ok(Self { seq, epoch, members, confirmed, reached, missing: from.take()? })
    }
}
