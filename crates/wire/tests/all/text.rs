//! What people read.

use std::time::Duration;

use tertulia_group::{Kind, LeaveReason, Missing, Receipt, Why};
use tertulia_wire::text::{
    elapsed_text, entry_line, gap_line, long_text, receipt_line, receipt_now_line, reset_line,
    size_text,
};

use crate::samples;

#[test]
fn receipts() {
    let missing = |name: &str, why| Missing { name: name.into(), why };
    let receipt = |members, confirmed, reached, missing| Receipt {
        seq: 42,
        epoch: 1,
        members,
        confirmed,
        reached,
        missing,
    };
    let short = Duration::from_micros(3_100);
    let luis = |why| vec![missing("luis", why)];
    let cases = [
        (receipt(5, 5, 0, vec![]), short, "delivered 5/5 in 3.1 ms  ops #42"),
        (
            receipt(5, 4, 0, luis(Why::Away { ms: 12_345 })),
            Duration::from_secs(5),
            "delivered 4/5 in 5.0 s  ops #42  missing: luis (away 12 s)",
        ),
        (receipt(5, 3, 2, vec![]), short, "delivered 5/5 in 3.1 ms  ops #42  (2 by host only)"),
        (
            receipt(1, 0, 0, luis(Why::Failed { code: "exit 7".into() })),
            short,
            "delivered 0/1 in 3.1 ms  ops #42  missing: luis (failed: exit 7)",
        ),
        (
            receipt(2, 0, 0, vec![missing("a", Why::Pending), missing("b\u{1b}", Why::Left)]),
            short,
            "delivered 0/2 in 3.1 ms  ops #42  missing: a (pending), b\u{fffd} (left)",
        ),
        (
            receipt(0, 0, 0, vec![]),
            short,
            "delivered 0/0 in 3.1 ms  ops #42  nobody is in the group",
        ),
    ];
    for (receipt, elapsed, expected) in cases {
        assert_eq!(receipt_line("ops", &receipt, elapsed), expected);
    }
    assert_eq!(receipt_now_line("ops", &receipt(5, 5, 0, vec![])), "delivered 5/5  ops #42");
}

#[test]
fn entries() {
    let cases = [
        (samples::message(42, "ana", "hola"), "#42 10:00:00 ana: hola"),
        (samples::outside(42, "ci", b"a\tb\n\x1b[2J"), "#42 10:00:00 ~ci: a b·\u{fffd}[2J"),
        (samples::joined(1, "ana"), "* ana joined"),
        (samples::left(2, "luis", LeaveReason::Lost), "* luis left (lost)"),
        (samples::file(5, "ana", "p\nlan.pdf"), "#5 10:00:00 ana has the file p·lan.pdf (1.5 KiB)"),
    ];
    for (entry, expected) in cases {
        assert_eq!(entry_line(&entry, 0).as_deref(), Some(expected));
    }
    assert_eq!(entry_line(&samples::entry(Kind::Epoch, 1, 0, "", b""), 0), None);
    assert_eq!(
        entry_line(&samples::message(42, "ana", "hola"), -120).as_deref(),
        Some("#42 08:00:00 ana: hola")
    );
    assert_eq!(gap_line(5, 7), "* #5 to #7 are no longer kept");
    assert_eq!(gap_line(5, 5), "* #5 is no longer kept");
    assert_eq!(reset_line(1), "* the group has a new log, which goes on with #1");
}

#[test]
fn times_and_sizes() {
    assert_eq!(elapsed_text(Duration::from_micros(40)), "0.0 ms");
    assert_eq!(elapsed_text(Duration::from_micros(999_960)), "1.0 s");
    for (ms, expected) in [
        (900, "0 s"),
        (119_999, "119 s"),
        (300_000, "5 min"),
        (7_200_000, "2 h"),
        (172_800_000, "2 days"),
    ] {
        assert_eq!(long_text(ms), expected);
    }
    for (bytes, expected) in [
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (3 << 30, "3.0 GiB"),
        (u64::MAX, "16777216.0 TiB"),
    ] {
        assert_eq!(size_text(bytes), expected);
    }
}
