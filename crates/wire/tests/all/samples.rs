//! One frame of every kind, and the bits that the other tests are made of.

use bytes::{Bytes, BytesMut};

use tertulia_group::entry::{self, FLAG_OUTSIDE, Header, JoinedBody, LeftBody};
use tertulia_group::{
    CompleteRun, Door, Entry, Incarnation, Kind, LeaveReason, LogId, Missing, Position, Receipt,
    SenderId, Why,
};
use tertulia_wire::file::FileBody;
use tertulia_wire::native::{
    Ack, Audience, Confirmed, Credential, Failed, Greeting, GroupItem, GroupRules, Hello,
    HistoryMode, How, Instance, Join, MemberItem, OpenSender, Presence, SenderReady, Start,
    StatusReply, StoredRun, Welcome,
};
use tertulia_wire::{ClientFrame, Code, Level, NodeFrame, Secret};

/// 2026-11-20T10:00:00.123456Z.
pub const TIME_US: u64 = 1_795_168_800_123_456;

pub const LOG: LogId = LogId([0xA0; 16]);
pub const SENDER: SenderId = SenderId([0x5E; 16]);
pub const SECRET: Secret = Secret([0x11; 32]);

/// A whole entry.
pub fn entry(kind: Kind, seq: u64, flags: u8, name: &str, body: &[u8]) -> Entry {
    let header = Header {
        len: 0,
        kind,
        flags,
        name_len: 0,
        seq,
        time_us: TIME_US,
        sender: match (kind, name) {
            (Kind::Epoch, _) => 0,
            _ if flags & FLAG_OUTSIDE != 0 => seq,
            (_, "ana") => 42,
            _ => 7,
        },
        counter: u64::from(kind == Kind::Message),
        epoch: 1,
    };
    let mut bytes = BytesMut::new();
    entry::write(&mut bytes, header, name, body);
    Entry::split(&mut bytes.freeze()).unwrap()
}

pub fn message(seq: u64, name: &str, text: &str) -> Entry {
    entry(Kind::Message, seq, 0, name, text.as_bytes())
}

pub fn outside(seq: u64, name: &str, text: &[u8]) -> Entry {
    entry(Kind::Message, seq, FLAG_OUTSIDE, name, text)
}

pub fn joined(seq: u64, name: &str) -> Entry {
    let body = JoinedBody { door: Door::Native, durable: false };
    entry(Kind::Joined, seq, 0, name, &body.write())
}

pub fn left(seq: u64, name: &str, reason: LeaveReason) -> Entry {
    let body = LeftBody { reason, acked: 5, reached: 6, open: vec![4] };
    entry(Kind::Left, seq, 0, name, &body.write())
}

pub fn file(seq: u64, name: &str, file: &str) -> Entry {
    let body = FileBody { size: 1536, hash: [0xAB; 32], name: file.into() };
    entry(Kind::File, seq, 0, name, &body.write())
}

/// `ops #42`: five were asked, two are there, three are missing in every way that has a field.
pub fn receipt() -> Receipt {
    let missing = |name: &str, why| Missing { name: name.into(), why };
    Receipt {
        seq: 42,
        epoch: 1,
        members: 5,
        confirmed: 1,
        reached: 1,
        missing: vec![
            missing("eva", Why::Left),
            missing("luis", Why::Away { ms: 12_000 }),
            missing("max", Why::Failed { code: "exit 7".into() }),
        ],
    }
}

pub fn join() -> Join {
    Join {
        id: 2,
        durable: false,
        follow: false,
        group: "ops".into(),
        name: "ana".into(),
        sender: SENDER,
        start: Start::Now,
        secret: None,
        position: None,
    }
}

pub fn rules(owner: &str) -> GroupRules {
    GroupRules {
        owner: owner.into(),
        join: Audience::Private,
        send: Audience::Members,
        may_join: vec!["luis".into(), "eva".into()],
        may_send: vec![],
    }
}

fn token() -> Credential {
    Credential(format!("tt_{}", "A".repeat(43)))
}

pub fn client_frames() -> Vec<(&'static str, ClientFrame)> {
    let (id, group, name) = (1, String::from("ops"), String::from("luis"));
    let hello = |agent: &str| Hello { version: 1, features: 0, agent: agent.into() };
    vec![
        ("HELLO", ClientFrame::Hello(hello("example 1"))),
        ("HELLO of 22 bytes, with one more", ClientFrame::Hello(hello("1234"))),
        ("LOCATE", ClientFrame::Locate { id, group: group.clone() }),
        ("ALLOCATE", ClientFrame::Allocate { id, name: name.clone() }),
        ("GROUPS", ClientFrame::Groups { id, after: String::new(), limit: 100 }),
        ("CREATE", ClientFrame::Create { id, group: group.clone(), rules: None }),
        (
            "CREATE with rules",
            ClientFrame::Create { id, group: group.clone(), rules: Some(rules("")) },
        ),
        ("DELETE", ClientFrame::Delete { id, group: group.clone() }),
        (
            "MEMBERS",
            ClientFrame::Members { id, group: group.clone(), after: "ana".into(), limit: 100 },
        ),
        ("REMOVE", ClientFrame::Remove { id, group: group.clone(), name: name.clone() }),
        (
            "HISTORY, the last 20",
            ClientFrame::History { id, group: group.clone(), mode: HistoryMode::Last, limit: 20 },
        ),
        (
            "HISTORY, 20 after 22",
            ClientFrame::History {
                id,
                group: group.clone(),
                mode: HistoryMode::After(22),
                limit: 20,
            },
        ),
        ("GET_RECEIPT", ClientFrame::Receipt { id, group: group.clone(), seq: 42, wait_ms: 5000 }),
        ("STATUS", ClientFrame::Status { id }),
        ("GET_RULES", ClientFrame::GetRules { id, group: group.clone() }),
        ("SET_RULES", ClientFrame::SetRules { id, group: group.clone(), rules: rules("ana") }),
        ("AUTH", ClientFrame::Auth { id, token: token() }),
        (
            "REGISTER",
            ClientFrame::Register {
                id,
                name: name.clone(),
                password: Credential("correct horse".into()),
                code: Credential("ABCD-EFGH".into()),
            },
        ),
        (
            "LOGIN",
            ClientFrame::Login {
                id,
                name: name.clone(),
                password: Credential("correct horse".into()),
            },
        ),
        ("LOGOUT", ClientFrame::Logout { id }),
        ("WHOAMI", ClientFrame::WhoAmI { id }),
        (
            "PASSWORD",
            ClientFrame::Password {
                id,
                name: String::new(),
                old: Credential("correct horse".into()),
                new: Credential("battery staple".into()),
            },
        ),
        ("JOIN", ClientFrame::Join(Box::new(join()))),
        (
            "JOIN, durable, with everything",
            ClientFrame::Join(Box::new(Join {
                durable: true,
                follow: true,
                start: Start::Seq(40),
                secret: Some(SECRET),
                position: Some(Position { log: LOG, epoch: 1, seq: 41 }),
                ..join()
            })),
        ),
        (
            "OPEN_SENDER",
            ClientFrame::OpenSender(OpenSender {
                id,
                known: true,
                follow: true,
                group,
                name,
                sender: SENDER,
            }),
        ),
        ("ACK", ClientFrame::Ack(Ack { cursor: 43, open: vec![], failed: vec![] })),
        (
            "ACK with open and failed ones",
            ClientFrame::Ack(Ack {
                cursor: 50,
                open: vec![44, 47],
                failed: vec![Failed { seq: 45, code: "exit 7".into() }],
            }),
        ),
        ("LEAVE", ClientFrame::Leave),
        ("PING", ClientFrame::Ping { token: 99 }),
    ]
}

pub fn welcome() -> Welcome {
    Welcome {
        id: 2,
        resumed: false,
        cut_back: false,
        group: "ops".into(),
        name: "ana".into(),
        log: LOG,
        epoch: 1,
        incarnation: Incarnation(42),
        next: 43,
        tail: 42,
        members: 5,
        secret: SECRET,
        last_counter: 0,
        window_bytes: 8 << 20,
        level: Level::Fsync,
        acked: 42,
        open: vec![],
    }
}

/// What answers requests.
pub fn answer_frames() -> Vec<(&'static str, NodeFrame)> {
    let (id, group) = (1, String::from("ops"));
    let coordinator = String::from("10.0.0.7:5001");
    let greeting = Greeting {
        version: 1,
        features: 1,
        node: "n1".into(),
        http: "127.0.0.1:5080".into(),
        message_bytes_max: 1 << 20,
        instance: Instance([0xd0; 16]),
    };
    let page_group = GroupItem {
        group: group.clone(),
        members: 5,
        seq: 42,
        epoch: 1,
        coordinator: coordinator.clone(),
    };
    let page_member = MemberItem {
        name: "luis".into(),
        acked: 41,
        reached: 42,
        presence: Presence::Away,
        door: Door::Native,
        since_us: TIME_US,
    };
    let status = StatusReply {
        id,
        node: "n1".into(),
        version: "0.1.0".into(),
        engine: "embedded".into(),
        level: Level::Fsync,
        uptime_ms: 60_000,
        groups: 4,
        members: 11,
        connections: 12,
        stored_bytes: 4096,
    };
    vec![
        ("RULES", NodeFrame::Rules { id, group: group.clone(), rules: rules("ana") }),
        (
            "IDENTITY",
            NodeFrame::Identity {
                id,
                name: "ana".into(),
                administrator: true,
                expires_us: TIME_US,
            },
        ),
        ("TOKEN", NodeFrame::Token { id, name: "ana".into(), token: token(), expires_us: TIME_US }),
        ("GREETING", NodeFrame::Greeting(greeting)),
        ("LOCATED", NodeFrame::Located { id, group, coordinator, epoch: 1 }),
        ("GROUPS_PAGE", NodeFrame::GroupsPage { id, more: true, items: vec![page_group] }),
        ("DONE", NodeFrame::Done { id }),
        ("MEMBERS_PAGE", NodeFrame::MembersPage { id, more: false, items: vec![page_member] }),
        (
            "HISTORY_PAGE",
            NodeFrame::HistoryPage {
                id,
                more: false,
                first_kept: 1,
                entries: message(42, "luis", "hola").bytes().clone(),
            },
        ),
        ("RECEIPT_REPLY", NodeFrame::ReceiptReply { id, level: Level::Fsync, receipt: receipt() }),
        ("STATUS_REPLY", NodeFrame::StatusReply(Box::new(status))),
        (
            "ERROR",
            NodeFrame::Error { id, code: Code::NameTaken, message: "take another name".into() },
        ),
    ]
}

/// What comes to members and senders.
pub fn member_frames() -> Vec<(&'static str, NodeFrame)> {
    let ready = SenderReady {
        id: 1,
        group: "ops".into(),
        name: "luis".into(),
        log: LOG,
        epoch: 1,
        tail: 42,
        members: 5,
        last_counter: 3,
        window_bytes: 8 << 20,
        level: Level::Fsync,
    };
    let resumed = Welcome { resumed: true, cut_back: true, open: vec![44, 47], ..welcome() };
    let confirmed = |name: &str, how| Confirmed { name: name.into(), cursor: 43, how };
    let run = CompleteRun { counter: 1, seq: 43, count: 1, members: 4, reached: 1, epoch: 1 };
    vec![
        ("WELCOME", NodeFrame::Welcome(Box::new(welcome()))),
        ("WELCOME back, cut back, with open ones", NodeFrame::Welcome(Box::new(resumed))),
        ("SENDER_READY", NodeFrame::SenderReady(Box::new(ready))),
        ("STORED", NodeFrame::Stored(vec![StoredRun { counter: 1, seq: 43, count: 1 }])),
        ("COMPLETE", NodeFrame::Complete(vec![run])),
        ("RECEIPT", NodeFrame::Receipt { counter: 1, receipt: receipt() }),
        ("REFUSED", NodeFrame::Refused { counter: 2, code: Code::Busy, message: "again".into() }),
        ("PONG", NodeFrame::Pong { token: 99 }),
        (
            "CONFIRMED",
            NodeFrame::Confirmed(vec![
                confirmed("eva", How::Confirmed),
                confirmed("luis", How::Reached),
            ]),
        ),
        ("GAP", NodeFrame::Gap { first: 1, last: 9 }),
        ("RESET", NodeFrame::Reset { log: LOG, epoch: 2, next: 1 }),
        ("HEARTBEAT", NodeFrame::Heartbeat { epoch: 1, tail: 43 }),
        ("CLOSE", NodeFrame::Close { code: Code::Moved, message: "ask the directory".into() }),
        ("MESSAGE", NodeFrame::Entry(message(43, "ana", "hola"))),
        ("MESSAGE from outside", NodeFrame::Entry(outside(44, "ci", b"done"))),
        ("JOINED", NodeFrame::Entry(joined(42, "ana"))),
        ("LEFT", NodeFrame::Entry(left(45, "luis", LeaveReason::Lost))),
        ("EPOCH", NodeFrame::Entry(entry(Kind::Epoch, 46, 0, "", b""))),
        ("FILE", NodeFrame::Entry(file(47, "ana", "plan.pdf"))),
    ]
}

pub fn node_frames() -> Vec<(&'static str, NodeFrame)> {
    answer_frames().into_iter().chain(member_frames()).collect()
}

pub fn client_bytes(frame: &ClientFrame) -> Bytes {
    let mut out = BytesMut::new();
    frame.encode(&mut out);
    out.freeze()
}

pub fn node_bytes(frame: &NodeFrame) -> Bytes {
    let mut out = BytesMut::new();
    frame.encode(&mut out);
    out.freeze()
}
