//! Records of right checksums with anything in them, as `journal/src/embedded/layout.rs` lays them out.

use crc32fast::Hasher;

use super::image::Files;
use crate::input::Input;

const UNIT: usize = 128;
const SEGMENT: usize = 64 << 10;
const SALT: [u8; 16] = *b"a store's salt..";

fn crc(seed: u32, bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new_with_initial(seed);
    hasher.update(bytes);
    hasher.finalize()
}

/// One to three segments, and a marker of a proper close for some.
pub fn files(input: &mut Input<'_>) -> Files {
    let how = input.u8();
    let mut files: Files = (1..=u32::from(how % 3) + 1)
        .map(|number| (format!("{number:08}.seg"), segment(number, input)))
        .collect();
    if how & 64 != 0 {
        let words =
            format!("tertulia-store 1 {} {} {}", input.u8(), input.number(), input.number());
        files.push((
            "clean".to_owned(),
            format!("{words} {:08x}\n", crc(0, words.as_bytes())).into_bytes(),
        ));
    }
    files
}

fn segment(number: u32, input: &mut Input<'_>) -> Vec<u8> {
    let mut out = record(0, 1, SALT, [0, 0, number, 0], SEGMENT as u64, [0, 0], &[], &[]);
    for _ in 0..input.u8() % 12 {
        let kind = input.u8() % 11;
        let log = [input.u8() % 4; 16];
        let (epoch, count) = (input.number() as u32, input.number() as u32);
        let (first, commit, id) = (input.number(), input.number(), input.number());
        let flags = u32::from(input.u8() & 1);
        let commit_at = if flags == 0 { (out.len() / UNIT) as u32 } else { input.u32() };
        let (notes, entries) = (input.short(), input.short());
        let at = out.len();
        out.extend(record(
            at,
            kind,
            log,
            [flags, epoch, count, commit_at],
            first,
            [commit, id],
            notes,
            entries,
        ));
    }
    if input.u8() & 1 == 0 {
        let at = out.len();
        out.extend(record(at, 9, [0; 16], [0; 4], 0, [input.number(), input.number()], &[], &[]));
    }
    out.resize(SEGMENT.max(out.len()), 0);
    out
}

/// `numbers`: flags, epoch, count and where the commit began; `ids`: commit and id.
#[allow(clippy::too_many_arguments)]
fn record(
    at: usize,
    kind: u8,
    log: [u8; 16],
    numbers: [u32; 4],
    first: u64,
    ids: [u64; 2],
    notes: &[u8],
    entries: &[u8],
) -> Vec<u8> {
    let seed = if kind == 1 { 0 } else { crc(0, &SALT) };
    let [flags, epoch, count, commit_at] = numbers;
    let payload = [notes, entries].concat();
    let mut out = Vec::new();
    out.extend_from_slice(b"TJR1");
    out.extend_from_slice(&[1, kind]);
    out.extend_from_slice(&(flags as u16).to_le_bytes());
    out.extend_from_slice(&log);
    out.extend_from_slice(&epoch.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&first.to_le_bytes());
    out.extend_from_slice(&(notes.len() as u32).to_le_bytes());
    out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    out.extend_from_slice(&ids[0].to_le_bytes());
    out.extend_from_slice(&ids[1].to_le_bytes());
    let unit = (at / UNIT) as u32;
    out.extend_from_slice(&unit.to_le_bytes());
    out.extend_from_slice(&commit_at.to_le_bytes());
    out.extend_from_slice(&first.to_le_bytes());
    out.extend_from_slice(&crc(seed, &payload).to_le_bytes());
    out.resize(124, 0);
    let sum = crc(seed, &out);
    out.extend_from_slice(&sum.to_le_bytes());
    out.extend_from_slice(&payload);
    out.resize((128 + payload.len() + 56).next_multiple_of(UNIT) - 56, 0);
    let mut trailer = Vec::new();
    trailer.extend_from_slice(b"TJT1");
    trailer.extend_from_slice(&[kind, 0, 0, 0]);
    trailer.extend_from_slice(&log);
    trailer.extend_from_slice(&first.to_le_bytes());
    trailer.extend_from_slice(&ids[1].to_le_bytes());
    trailer.extend_from_slice(&count.to_le_bytes());
    trailer.extend_from_slice(&unit.to_le_bytes());
    let sum = crc(seed, &trailer);
    trailer.extend_from_slice(&sum.to_le_bytes());
    trailer.extend_from_slice(&[0; 4]);
    out.extend(trailer);
    out
}
