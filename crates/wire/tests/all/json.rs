//! JSON forms: names, order and values of fields, to the letter.

use std::time::Duration;

use tertulia_group::{Door, Kind, LeaveReason, Missing, Receipt, Why};
use tertulia_wire::Level;
use tertulia_wire::json::{
    EntryLine, ErrorLine, GroupLine, LocatedLine, MemberLine, Page, ReceiptLine, StatusLine,
    to_line,
};
use tertulia_wire::native::{GroupItem, MemberItem, Presence, StatusReply};
use tertulia_wire::time::{rfc3339, time_of_day};

use crate::samples::{self, TIME_US};

#[test]
fn entries() {
    let file = format!(
        r#"{{"type":"file","group":"ops","seq":5,"from":"ana","name":"plan.pdf","size":1536,"hash":"{}","time":"2026-11-20T10:00:00.123Z"}}"#,
        "ab".repeat(32)
    );
    let cases = [
        (
            samples::message(42, "ana", "hola"),
            r#"{"type":"message","group":"ops","seq":42,"from":"ana","text":"hola","time":"2026-11-20T10:00:00.123Z"}"#,
        ),
        (
            samples::outside(43, "ci", b"\xff\x00"),
            r#"{"type":"message","group":"ops","seq":43,"from":"ci","base64":"/wA=","time":"2026-11-20T10:00:00.123Z","outside":true}"#,
        ),
        (
            samples::joined(1, "ana"),
            r#"{"type":"joined","group":"ops","seq":1,"name":"ana","time":"2026-11-20T10:00:00.123Z"}"#,
        ),
        (
            samples::left(2, "ana", LeaveReason::Removed),
            r#"{"type":"left","group":"ops","seq":2,"name":"ana","why":"removed","time":"2026-11-20T10:00:00.123Z"}"#,
        ),
        (samples::file(5, "ana", "plan.pdf"), &file),
    ];
    for (entry, expected) in cases {
        assert_eq!(to_line(&EntryLine::from_entry("ops", &entry).unwrap()), expected);
    }
    assert_eq!(EntryLine::from_entry("ops", &samples::entry(Kind::Epoch, 1, 0, "", b"")), None);
    assert_eq!(EntryLine::from_entry("ops", &samples::entry(Kind::Left, 1, 0, "a", b"")), None);
    assert_eq!(
        to_line(&EntryLine::gap("ops", 1, 9, TIME_US)),
        r#"{"type":"gap","group":"ops","seq":9,"first":1,"last":9,"time":"2026-11-20T10:00:00.123Z"}"#
    );
    assert_eq!(
        to_line(&EntryLine::reset("ops", 1, TIME_US)),
        r#"{"type":"reset","group":"ops","seq":1,"time":"2026-11-20T10:00:00.123Z"}"#
    );
}

#[test]
fn receipts() {
    let missing = |name: &str, why| Missing { name: name.into(), why };
    let receipt = Receipt {
        seq: 42,
        epoch: 1,
        members: 5,
        confirmed: 4,
        reached: 0,
        missing: vec![missing("luis", Why::Away { ms: 12_000 })],
    };
    let line = |receipt: &Receipt, elapsed| {
        to_line(&ReceiptLine::new("ops", receipt, Level::Fsync, elapsed))
    };
    assert_eq!(
        line(&receipt, Some(Duration::from_micros(3_149))),
        r#"{"group":"ops","seq":42,"epoch":1,"members":5,"confirmed":4,"reached":0,"missing":[{"name":"luis","why":"away"}],"final":false,"stored":"fsync","elapsed_ms":3.1}"#
    );
    let failed = Receipt {
        missing: vec![missing("luis", Why::Failed { code: "exit 7".into() })],
        ..receipt
    };
    assert_eq!(
        line(&failed, None),
        r#"{"group":"ops","seq":42,"epoch":1,"members":5,"confirmed":4,"reached":0,"missing":[{"name":"luis","why":"failed","code":"exit 7"}],"final":true,"stored":"fsync"}"#
    );
    let complete = Receipt { confirmed: 5, missing: vec![], ..receipt };
    assert!(line(&complete, None).contains(r#""missing":[],"final":true"#));
}

#[test]
fn lists_and_errors() {
    let group = GroupItem {
        group: "ops".into(),
        members: 5,
        seq: 42,
        epoch: 1,
        coordinator: "127.0.0.1:5001".into(),
    };
    assert_eq!(
        to_line(&GroupLine::from(&group)),
        r#"{"group":"ops","members":5,"seq":42,"epoch":1,"coordinator":"127.0.0.1:5001"}"#
    );
    let member = MemberItem {
        name: "luis".into(),
        acked: 41,
        reached: 42,
        presence: Presence::Lagging,
        door: Door::Web,
        since_us: TIME_US,
    };
    let page = Page { items: vec![MemberLine::from(&member)], next: None };
    assert_eq!(
        to_line(&page),
        r#"{"items":[{"name":"luis","acked":41,"presence":"lagging","door":"web","since":"2026-11-20T10:00:00.123Z"}],"next":null}"#
    );
    assert_eq!(
        to_line(&ErrorLine::new("UNKNOWN_GROUP", "say \"ops\"")),
        r#"{"error":{"code":"UNKNOWN_GROUP","message":"say \"ops\""}}"#
    );
    let located = LocatedLine { group: "ops".into(), coordinator: "h:1".into(), epoch: Some(3) };
    assert_eq!(to_line(&located), r#"{"group":"ops","coordinator":"h:1","epoch":3}"#);
    let status = StatusReply {
        id: 1,
        node: "n1".into(),
        version: "0.1.0".into(),
        engine: "memory".into(),
        level: Level::Memory,
        uptime_ms: 1,
        groups: 2,
        members: 3,
        connections: 4,
        stored_bytes: 5,
    };
    assert_eq!(
        to_line(&StatusLine::from(&status)),
        r#"{"node":"n1","version":"0.1.0","engine":"memory","stored":"memory","uptime_ms":1,"groups":2,"members":3,"connections":4,"stored_bytes":5}"#
    );
}

#[test]
fn moments() {
    let cases = [
        (0, "1970-01-01T00:00:00.000Z"),
        (TIME_US, "2026-11-20T10:00:00.123Z"),
        (951_782_399_999_999, "2000-02-28T23:59:59.999Z"),
        (951_782_400_000_000, "2000-02-29T00:00:00.000Z"),
        (1_709_251_199_000_000, "2024-02-29T23:59:59.000Z"),
        (1_735_689_599_000_000, "2024-12-31T23:59:59.000Z"),
        (4_107_542_400_000_000, "2100-03-01T00:00:00.000Z"),
        (253_402_300_799_999_999, "9999-12-31T23:59:59.999Z"),
    ];
    for (time_us, expected) in cases {
        assert_eq!(rfc3339(time_us), expected);
    }
    assert!(rfc3339(u64::MAX).starts_with("586524-"));
    assert_eq!(time_of_day(TIME_US, 0), "10:00:00");
    assert_eq!(time_of_day(TIME_US, 90), "11:30:00");
    assert_eq!(time_of_day(0, -60), "23:00:00");
}
