//! Frames: every one comes back as it was, and no bytes whatever do harm.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use tertulia_group::{
    CompleteRun, Door, Incarnation, LogId, Missing, Position, Receipt, SenderId, Why,
};
use tertulia_wire::native::{
    self, Ack, Audience, CLIENT_FRAME_BYTES_MAX, Confirmed, Credential, Failed, Greeting,
    GroupItem, GroupRules, Hello, HistoryMode, How, Instance, Join, MemberItem,
    NODE_FRAME_BYTES_MAX, OpenSender, Presence, RUNS_PER_FRAME_MAX, STR_BYTES_MAX, SenderReady,
    Start, StatusReply, StoredRun, Welcome,
};
use tertulia_wire::{ClientFrame, Code, FrameError, Level, NodeFrame, Secret};

use crate::samples::{client_bytes, client_frames, message, node_bytes, node_frames, receipt};

fn text() -> impl Strategy<Value = String> {
    ".{0,12}"
}

fn log() -> impl Strategy<Value = LogId> {
    any::<[u8; 16]>().prop_map(LogId)
}

fn level() -> impl Strategy<Value = Level> {
    (0..4u8).prop_map(|code| Level::from_code(code).unwrap())
}

fn rules() -> impl Strategy<Value = GroupRules> {
    let audience = || (0..3u8).prop_map(|code| Audience::from_code(code).unwrap());
    (text(), audience(), audience(), vec(text(), 0..4), vec(text(), 0..4)).prop_map(
        |(owner, join, send, may_join, may_send)| GroupRules {
            owner,
            join,
            send,
            may_join,
            may_send,
        },
    )
}

fn code() -> impl Strategy<Value = Code> {
    any::<u16>().prop_map(Code::from_u16)
}

fn receipts() -> impl Strategy<Value = Receipt> {
    let why = prop_oneof![
        Just(Why::Pending),
        any::<u64>().prop_map(|ms| Why::Away { ms }),
        Just(Why::Lagging),
        text().prop_map(|code| Why::Failed { code }),
        Just(Why::Left),
    ];
    let missing = (text(), why).prop_map(|(name, why)| Missing { name, why });
    (any::<(u64, u32, u32, u32, u32)>(), vec(missing, 0..5)).prop_map(
        |((seq, epoch, members, confirmed, reached), missing)| Receipt {
            seq,
            epoch,
            members,
            confirmed,
            reached,
            missing,
        },
    )
}

fn joins() -> impl Strategy<Value = Join> {
    let start = prop_oneof![
        Just(Start::Now),
        Just(Start::First),
        any::<u64>().prop_map(Start::Seq),
        any::<u64>().prop_map(Start::Last),
    ];
    let position =
        (log(), any::<(u32, u64)>()).prop_map(|(log, (epoch, seq))| Position { log, epoch, seq });
    let secret = any::<[u8; 32]>().prop_map(Secret);
    let fields = any::<(u32, bool, bool, [u8; 16])>();
    (fields, text(), text(), start, option::of(secret), option::of(position)).prop_map(
        |((id, durable, follow, sender), group, name, start, secret, position)| Join {
            id,
            durable,
            follow,
            group,
            name,
            sender: SenderId(sender),
            start,
            secret,
            position,
        },
    )
}

fn acks() -> impl Strategy<Value = Ack> {
    let failed = (any::<u64>(), "[a-z0-9 ]{0,64}").prop_map(|(seq, code)| Failed { seq, code });
    (any::<u64>(), vec(any::<u64>(), 0..65), vec(failed, 0..65))
        .prop_map(|(cursor, open, failed)| Ack { cursor, open, failed })
}

fn client() -> impl Strategy<Value = ClientFrame> {
    let id = any::<u32>;
    prop_oneof![
        (any::<(u16, u16)>(), ".{0,400}").prop_map(|((version, features), agent)| {
            ClientFrame::Hello(Hello { version, features, agent })
        }),
        (id(), text()).prop_map(|(id, group)| ClientFrame::Locate { id, group }),
        (id(), text()).prop_map(|(id, name)| ClientFrame::Allocate { id, name }),
        (id(), text(), any::<u16>()).prop_map(|(id, after, limit)| ClientFrame::Groups {
            id,
            after,
            limit
        }),
        (id(), text(), option::of(rules())).prop_map(|(id, group, rules)| ClientFrame::Create {
            id,
            group,
            rules
        }),
        (id(), text(), rules()).prop_map(|(id, group, rules)| ClientFrame::SetRules {
            id,
            group,
            rules
        }),
        (id(), text(), text(), text()).prop_map(|(id, name, password, code)| {
            let (password, code) = (Credential(password), Credential(code));
            ClientFrame::Register { id, name, password, code }
        }),
        (id(), text(), text(), text()).prop_map(|(id, name, old, new)| {
            let (old, new) = (Credential(old), Credential(new));
            ClientFrame::Password { id, name, old, new }
        }),
        (id(), text()).prop_map(|(id, token)| ClientFrame::Auth { id, token: Credential(token) }),
        (id(), text()).prop_map(|(id, group)| ClientFrame::Delete { id, group }),
        (id(), text(), text(), any::<u16>()).prop_map(|(id, group, after, limit)| {
            ClientFrame::Members { id, group, after, limit }
        }),
        (id(), text(), text()).prop_map(|(id, group, name)| ClientFrame::Remove {
            id,
            group,
            name
        }),
        (id(), text(), option::of(any::<u64>()), any::<u32>()).prop_map(
            |(id, group, after, limit)| {
                let mode = after.map_or(HistoryMode::Last, HistoryMode::After);
                ClientFrame::History { id, group, mode, limit }
            }
        ),
        (id(), text(), any::<(u64, u32)>()).prop_map(|(id, group, (seq, wait_ms))| {
            ClientFrame::Receipt { id, group, seq, wait_ms }
        }),
        id().prop_map(|id| ClientFrame::Status { id }),
        joins().prop_map(|join| ClientFrame::Join(Box::new(join))),
        (any::<(u32, bool, bool, [u8; 16])>(), text(), text()).prop_map(
            |((id, known, follow, sender), group, name)| {
                let sender = SenderId(sender);
                ClientFrame::OpenSender(OpenSender { id, known, follow, group, name, sender })
            }
        ),
        acks().prop_map(ClientFrame::Ack),
        Just(ClientFrame::Leave),
        any::<u64>().prop_map(|token| ClientFrame::Ping { token }),
        (0x30..0x80u8).prop_map(|kind| ClientFrame::Other { kind }),
    ]
}

fn welcomes() -> impl Strategy<Value = Welcome> {
    let numbers = any::<(u32, u32, u64, u64, u64, u32, u64, u32, u64)>();
    let rest = (any::<(bool, bool, [u8; 32])>(), text(), text(), log(), level());
    (numbers, rest, vec(any::<u64>(), 0..65)).prop_map(|(numbers, rest, open)| {
        let (id, epoch, incarnation, next, tail, members, last_counter, window_bytes, acked) =
            numbers;
        let ((resumed, cut_back, secret), group, name, log, level) = rest;
        Welcome {
            id,
            resumed,
            cut_back,
            group,
            name,
            log,
            epoch,
            incarnation: Incarnation(incarnation),
            next,
            tail,
            members,
            secret: Secret(secret),
            last_counter,
            window_bytes,
            level,
            acked,
            open,
        }
    })
}

fn answer() -> impl Strategy<Value = NodeFrame> {
    let id = any::<u32>;
    let group = (text(), any::<(u32, u64, u32)>(), text()).prop_map(
        |(group, (members, seq, epoch), coordinator)| GroupItem {
            group,
            members,
            seq,
            epoch,
            coordinator,
        },
    );
    let member = (text(), any::<(u64, u64, u64)>(), 0..3u8, 0..3u8).prop_map(
        |(name, (acked, reached, since_us), presence, door)| MemberItem {
            name,
            acked,
            reached,
            presence: Presence::from_code(presence).unwrap(),
            door: Door::from_code(door).unwrap(),
            since_us,
        },
    );
    let status = (any::<(u32, u64, u32, u32, u32, u64)>(), text(), text(), text(), level());
    prop_oneof![
        (any::<(u16, u16, u32, [u8; 16])>(), text(), text()).prop_map(
            |((version, features, message_bytes_max, instance), node, http)| {
                let instance = Instance(instance);
                NodeFrame::Greeting(Greeting {
                    version,
                    features,
                    node,
                    http,
                    message_bytes_max,
                    instance,
                })
            }
        ),
        (any::<(u32, u32)>(), text(), text()).prop_map(|((id, epoch), group, coordinator)| {
            NodeFrame::Located { id, group, coordinator, epoch }
        }),
        (id(), any::<bool>(), vec(group, 0..5))
            .prop_map(|(id, more, items)| NodeFrame::GroupsPage { id, more, items }),
        id().prop_map(|id| NodeFrame::Done { id }),
        (id(), any::<bool>(), vec(member, 0..5))
            .prop_map(|(id, more, items)| NodeFrame::MembersPage { id, more, items }),
        (any::<(u32, bool, u64)>(), vec(any::<u8>(), 0..100)).prop_map(
            |((id, more, first_kept), entries)| NodeFrame::HistoryPage {
                id,
                more,
                first_kept,
                entries: entries.into(),
            }
        ),
        (id(), level(), receipts()).prop_map(|(id, level, receipt)| NodeFrame::ReceiptReply {
            id,
            level,
            receipt
        }),
        status.prop_map(|(numbers, node, version, engine, level)| {
            let (id, uptime_ms, groups, members, connections, stored_bytes) = numbers;
            NodeFrame::StatusReply(Box::new(StatusReply {
                id,
                node,
                version,
                engine,
                level,
                uptime_ms,
                groups,
                members,
                connections,
                stored_bytes,
            }))
        }),
        (id(), code(), text()).prop_map(|(id, code, message)| NodeFrame::Error {
            id,
            code,
            message
        }),
        (code(), text()).prop_map(|(code, message)| NodeFrame::Close { code, message }),
    ]
}

fn told() -> impl Strategy<Value = NodeFrame> {
    let ready = (any::<(u32, u32, u64, u32, u64, u32)>(), text(), text(), log(), level());
    let stored = any::<(u64, u64, u32)>().prop_map(|(counter, seq, count)| StoredRun {
        counter,
        seq,
        count,
    });
    let complete = any::<(u64, u64, u32, u32, u32, u32)>().prop_map(
        |(counter, seq, count, members, reached, epoch)| CompleteRun {
            counter,
            seq,
            count,
            members,
            reached,
            epoch,
        },
    );
    let confirmed = (text(), any::<u64>(), 0..2u8).prop_map(|(name, cursor, how)| Confirmed {
        name,
        cursor,
        how: How::from_code(how).unwrap(),
    });
    prop_oneof![
        welcomes().prop_map(|welcome| NodeFrame::Welcome(Box::new(welcome))),
        ready.prop_map(|(numbers, group, name, log, level)| {
            let (id, epoch, tail, members, last_counter, window_bytes) = numbers;
            NodeFrame::SenderReady(Box::new(SenderReady {
                id,
                group,
                name,
                log,
                epoch,
                tail,
                members,
                last_counter,
                window_bytes,
                level,
            }))
        }),
        vec(stored, 1..5).prop_map(NodeFrame::Stored),
        vec(complete, 1..5).prop_map(NodeFrame::Complete),
        vec(confirmed, 1..5).prop_map(NodeFrame::Confirmed),
        (any::<u64>(), receipts())
            .prop_map(|(counter, receipt)| NodeFrame::Receipt { counter, receipt }),
        (any::<u64>(), code(), text()).prop_map(|(counter, code, message)| NodeFrame::Refused {
            counter,
            code,
            message
        }),
        any::<u64>().prop_map(|token| NodeFrame::Pong { token }),
        any::<(u64, u64)>().prop_map(|(first, last)| NodeFrame::Gap { first, last }),
        (log(), any::<(u32, u64)>()).prop_map(|(log, (epoch, next))| NodeFrame::Reset {
            log,
            epoch,
            next
        }),
        any::<(u32, u64)>().prop_map(|(epoch, tail)| NodeFrame::Heartbeat { epoch, tail }),
        (any::<u64>(), "[a-z]{1,12}", ".{0,40}")
            .prop_map(|(seq, name, text)| NodeFrame::Entry(message(seq, &name, &text))),
        (0xB0..=0xFFu8).prop_map(|kind| NodeFrame::Other { kind }),
    ]
}

proptest! {
    #[test]
    fn client_frames_come_back(frame in client()) {
        let bytes = client_bytes(&frame);
        let mut buffer = BytesMut::from(&bytes[..]);
        buffer.put_u8(0xFF);
        let split = native::split_from_client(&mut buffer).unwrap().unwrap();
        prop_assert_eq!(&split, &bytes);
        prop_assert_eq!(&buffer[..], &[0xFF]);
        prop_assert_ne!((bytes[0], matches!(frame, ClientFrame::Hello(_))), (0x16, true));
        prop_assert_eq!(ClientFrame::decode(&bytes), Ok(frame.clone()));
        let mut buffer = BytesMut::from(&bytes[..]);
        buffer.put_u8(0xFF);
        prop_assert_eq!(ClientFrame::take(&mut buffer), Ok(Some(frame)));
        prop_assert_eq!(&buffer[..], &[0xFF]);
    }

    #[test]
    fn node_frames_come_back(frame in prop_oneof![answer(), told()]) {
        let bytes = node_bytes(&frame);
        let mut buffer = BytesMut::from(&bytes[..]);
        prop_assert_eq!(native::split_from_node(&mut buffer, 0).unwrap().unwrap(), &bytes);
        prop_assert_eq!(NodeFrame::decode(bytes), Ok(frame));
    }

    #[test]
    fn no_bytes_do_harm(bytes in vec(any::<u8>(), 0..200)) {
        let _ = ClientFrame::decode(&bytes);
        let _ = NodeFrame::decode(bytes.clone().into());
        let mut buffer = BytesMut::from(&bytes[..]);
        while let Ok(Some(frame)) = native::split_from_client(&mut buffer) {
            let _ = ClientFrame::decode(&frame);
        }
        let mut buffer = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = ClientFrame::take(&mut buffer) {}
    }

    /// The length and kind are right, the fields are anything.
    #[test]
    fn no_fields_do_harm(kind in any::<u8>(), flags in any::<u8>(), fields in vec(any::<u8>(), 0..200)) {
        let frame = raw(kind, flags, &fields);
        let _ = ClientFrame::decode(&frame);
        let _ = NodeFrame::decode(frame);
    }

    /// A good frame with one byte changed.
    #[test]
    fn no_damage_does_harm(frame in prop_oneof![answer(), told()], at in any::<usize>(), byte in any::<u8>()) {
        let mut bytes = BytesMut::from(&node_bytes(&frame)[..]);
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = NodeFrame::decode(bytes.freeze());
    }
}

fn raw(kind: u8, flags: u8, fields: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u32_le(8 + fields.len() as u32);
    out.put_slice(&[kind, flags, 0, 0]);
    out.put_slice(fields);
    out.freeze()
}

/// Bytes of newer versions at the end, unknown flags and non-zero reserved bytes change nothing.
#[test]
fn room_to_grow() {
    let grown = |bytes: &[u8]| {
        let mut bytes = BytesMut::from(bytes);
        bytes.put_slice(b"more");
        let len = bytes.len() as u32;
        bytes[..4].copy_from_slice(&len.to_le_bytes());
        bytes[5] |= 0xF0;
        bytes[6..8].fill(7);
        bytes.freeze()
    };
    for (what, frame) in client_frames() {
        assert_eq!(ClientFrame::decode(&grown(&client_bytes(&frame))), Ok(frame), "{what}");
    }
    for (what, frame) in node_frames() {
        if !matches!(frame, NodeFrame::Entry(_) | NodeFrame::HistoryPage { .. }) {
            assert_eq!(NodeFrame::decode(grown(&node_bytes(&frame))), Ok(frame), "{what}");
        }
    }
}

/// Every beginning of every frame is refused: no field is read from nothing.
#[test]
fn frames_that_are_cut_short_are_refused() {
    for (what, frame) in client_frames() {
        let bytes = client_bytes(&frame);
        for end in 8..bytes.len() - usize::from(what.starts_with("HELLO of")) {
            let cut = raw(bytes[4], bytes[5], &bytes[8..end]);
            assert!(ClientFrame::decode(&cut).is_err(), "{what} cut to {end}");
        }
    }
    for (what, frame) in node_frames() {
        let bytes = node_bytes(&frame);
        let fields_end = match frame {
            NodeFrame::HistoryPage { .. } => 8 + 13,
            NodeFrame::Entry(_) => 48,
            _ => bytes.len(),
        };
        for end in 8..fields_end {
            let cut = raw(bytes[4], bytes[5], &bytes[8..end]);
            assert!(NodeFrame::decode(cut).is_err(), "{what} cut to {end}");
        }
    }
}

#[test]
fn lengths_are_judged_before_anything_is_taken_in() {
    let mut short = BytesMut::from(&[7, 0, 0, 0][..]);
    assert_eq!(native::split_from_client(&mut short), Err(FrameError::Length(7)));
    assert_eq!(native::split(&mut short, 100), Err(FrameError::Length(7)));
    let mut long = BytesMut::from(&b"GET / HTTP/1.1"[..]);
    assert!(matches!(native::split_from_client(&mut long), Err(FrameError::TooLong { .. })));
    assert!(matches!(native::split_from_node(&mut long, 0), Err(FrameError::TooLong { .. })));
    let len = CLIENT_FRAME_BYTES_MAX as u32;
    let mut most = BytesMut::from(&len.to_le_bytes()[..]);
    assert_eq!(native::split_from_client(&mut most), Ok(None), "the kind is not there yet");
    most.put_slice(&[0x12, 0, 0, 0]);
    assert_eq!(native::split_from_client(&mut most), Ok(None));
    // A publish of any length is Run::split's business.
    let mut publish = BytesMut::from(&[0, 0, 8, 0, 0x20][..]);
    assert_eq!(native::split_from_client(&mut publish), Ok(None));
    // What a node may send grows with the messages that it takes.
    let mut entry = BytesMut::from(&(8u32 << 20).to_le_bytes()[..]);
    assert!(native::split_from_node(&mut entry, 1 << 20).is_err());
    assert_eq!(native::split_from_node(&mut entry, 8 << 20), Ok(None));
}

/// A count that the frame cannot hold is refused before memory is taken for it.
#[test]
fn counts_are_judged_by_what_is_there() {
    let many = raw(native::kind::STORED, 0, &[0xFF, 0xFF, 1, 2, 3]);
    assert_eq!(NodeFrame::decode(many), Err(FrameError::Short(native::kind::STORED)));
    let mut fields = vec![0; 8 + 8 + 4 + 12 + 1];
    fields.extend_from_slice(&u32::MAX.to_le_bytes());
    let many = raw(native::kind::RECEIPT, 0, &fields);
    assert_eq!(NodeFrame::decode(many), Err(FrameError::Short(native::kind::RECEIPT)));
    let mut open = vec![0; 8];
    open.push(65);
    open.extend_from_slice(&[0; 65 * 8 + 1]);
    let ack = raw(native::kind::ACK, 0, &open);
    assert!(matches!(ClientFrame::decode(&ack), Err(FrameError::Value(_))));
}

#[test]
fn bad_values_are_named() {
    let mut hello = BytesMut::from(&client_bytes(&client_frames()[0].1)[..]);
    hello[8] = b'X';
    assert!(matches!(ClientFrame::decode(&hello), Err(FrameError::Value(_))));
    assert_eq!(ClientFrame::decode(&raw(0x20, 0, &[])), Err(FrameError::Kind(0x20)));
    let not_utf8 = raw(native::kind::LOCATE, 0, &[0, 0, 0, 0, 1, 0, 0xFF]);
    assert_eq!(ClientFrame::decode(&not_utf8), Err(FrameError::Text));
    for code in Code::ALL {
        assert_eq!(Code::from_u16(code.to_u16()), *code);
        assert_ne!(code.as_str(), Code::Unknown(0).as_str());
    }
    assert_eq!(Code::from_u16(999), Code::Unknown(999));
}

fn frames_of(mut bytes: Bytes) -> Vec<NodeFrame> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let len = bytes.clone().get_u32_le() as usize;
        assert!(len <= NODE_FRAME_BYTES_MAX, "{len}");
        frames.push(NodeFrame::decode(bytes.split_to(len)).unwrap());
    }
    frames
}

#[test]
fn long_runs_take_several_frames() {
    let count = RUNS_PER_FRAME_MAX * 5 + 3;
    let runs: Vec<_> =
        (0..count as u64).map(|i| StoredRun { counter: i, seq: 2 * i, count: 1 }).collect();
    let frames = frames_of(node_bytes(&NodeFrame::Stored(runs.clone())));
    assert_eq!(frames.len(), 6);
    let back: Vec<_> = frames
        .into_iter()
        .flat_map(|frame| match frame {
            NodeFrame::Stored(runs) => runs,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(back, runs);
    let confirmed = Confirmed { name: "x".repeat(128), cursor: 1, how: How::Confirmed };
    assert_eq!(frames_of(node_bytes(&NodeFrame::Confirmed(vec![confirmed; count]))).len(), 6);
    assert!(node_bytes(&NodeFrame::Complete(vec![])).is_empty());
}

#[test]
fn pages_and_receipts_that_are_too_long_are_cut_and_say_so() {
    let item = GroupItem {
        group: "g".repeat(128),
        members: 1,
        seq: 1,
        epoch: 1,
        coordinator: "h".repeat(300),
    };
    let page = NodeFrame::GroupsPage { id: 1, more: false, items: vec![item; 20_000] };
    let [NodeFrame::GroupsPage { more: true, items, .. }] = &frames_of(node_bytes(&page))[..]
    else {
        panic!("not one page with more to come");
    };
    assert!(!items.is_empty() && items.len() < 20_000);

    // The one who can still answer stays in the list, so that the receipt does not look final.
    let mut missing =
        vec![Missing { name: "x".repeat(128), why: Why::Failed { code: "y".repeat(64) } }; 30_000];
    missing.push(Missing { name: "luis".into(), why: Why::Pending });
    let long = Receipt { members: 30_003, missing, ..receipt() };
    let frame = NodeFrame::Receipt { counter: 1, receipt: long };
    let [NodeFrame::Receipt { receipt, .. }] = &frames_of(node_bytes(&frame))[..] else {
        panic!("not one receipt");
    };
    assert!(!receipt.is_final() && receipt.missing.len() < 30_000);
}

#[test]
fn texts_that_are_too_long_are_cut_at_a_character() {
    let message = "é".repeat(STR_BYTES_MAX);
    let frame = NodeFrame::Close { code: Code::Limit, message };
    let NodeFrame::Close { message, .. } = NodeFrame::decode(node_bytes(&frame)).unwrap() else {
        panic!("another frame");
    };
    assert_eq!(message, "é".repeat(STR_BYTES_MAX / 2));
}

#[test]
fn secrets_are_not_printed() {
    let printed = format!("{:?}", crate::samples::welcome());
    assert!(printed.contains("Secret(…)") && !printed.contains("17, 17"), "{printed}");
}

#[test]
fn entries_share_the_frame_s_bytes() {
    let bytes = message(1, "ana", "hola").bytes().clone();
    let NodeFrame::Entry(entry) = NodeFrame::decode(bytes.clone()).unwrap() else {
        panic!("not an entry");
    };
    assert_eq!(entry.bytes().as_ptr(), bytes.as_ptr());
    let two: Bytes = [&bytes[..], &bytes[..]].concat().into();
    assert_eq!(NodeFrame::history_entries(two).filter(Result::is_ok).count(), 2);
}
