//! JSON forms: one object a line on standard output, the same objects over HTTP. Names and order of fields are a promise.

use std::time::Duration;

use base64::Engine as _;
use serde::{Deserialize, Serialize};

use tertulia_group::entry::{FLAG_OUTSIDE, LeftBody};
use tertulia_group::{Entry, Epoch, Kind, Missing, Receipt, Seq, Why};

use crate::Level;
use crate::file::FileBody;
use crate::native::{Audience, GroupItem, GroupRules, MemberItem, StatusReply};
use crate::time::rfc3339;

/// The line of any of these objects, without its end.
pub fn to_line(value: &impl Serialize) -> String {
    // Strings, numbers, lists and structs: nothing that serialising could refuse.
    serde_json::to_string(value).unwrap_or_default()
}

/// One entry of a log, or what is said in the place of entries.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
#[expect(missing_docs, reason = "the fields are the promised ones")]
pub enum EntryLine {
    /// A message; `text`, or `base64` where it is not UTF-8.
    Message {
        group: String,
        seq: Seq,
        from: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        base64: Option<String>,
        time: String,
        #[serde(skip_serializing_if = "is_false")]
        outside: bool,
    },
    /// Somebody joined.
    Joined { group: String, seq: Seq, name: String, time: String },
    /// Somebody left.
    Left { group: String, seq: Seq, name: String, why: &'static str, time: String },
    /// A file was told to the group.
    File {
        group: String,
        seq: Seq,
        from: String,
        name: String,
        size: u64,
        hash: String,
        time: String,
        #[serde(skip_serializing_if = "is_false")]
        outside: bool,
    },
    /// The log is another one, and goes on with `seq`.
    Reset { group: String, seq: Seq, time: String },
    /// Numbers `first` to `last` cannot be had; `seq` is the last of them.
    Gap { group: String, seq: Seq, first: Seq, last: Seq, time: String },
}

fn is_false(value: &bool) -> bool {
    !value
}

impl EntryLine {
    /// The line of an entry; `None` for internal ones and for a body that cannot be read.
    pub fn from_entry(group: &str, entry: &Entry) -> Option<Self> {
        let group = group.to_owned();
        let seq = entry.header.seq;
        let name = entry.name().to_owned();
        let time = rfc3339(entry.header.time_us);
        let outside = entry.header.flags & FLAG_OUTSIDE != 0;
        let body = entry.body();
        Some(match entry.header.kind {
            Kind::Message => {
                let text = std::str::from_utf8(&body).ok().map(String::from);
                let base64 =
                    text.is_none().then(|| base64::engine::general_purpose::STANDARD.encode(&body));
                Self::Message { group, seq, from: name, text, base64, time, outside }
            }
            Kind::Joined => Self::Joined { group, seq, name, time },
            Kind::Left => {
                let why = LeftBody::read(&body).ok()?.reason.as_str();
                Self::Left { group, seq, name, why, time }
            }
            Kind::File => {
                let file = FileBody::read(&body).ok()?;
                let hash = file.hash_hex();
                let (from, name, size) = (name, file.name, file.size);
                Self::File { group, seq, from, name, size, hash, time, outside }
            }
            Kind::Epoch | Kind::Publish => return None,
        })
    }

    /// The log is another one, and goes on with `seq`; `time_us` is now.
    pub fn reset(group: &str, seq: Seq, time_us: u64) -> Self {
        Self::Reset { group: group.into(), seq, time: rfc3339(time_us) }
    }

    /// These numbers cannot be had; `time_us` is now.
    pub fn gap(group: &str, first: Seq, last: Seq, time_us: u64) -> Self {
        Self::Gap { group: group.into(), seq: last, first, last, time: rfc3339(time_us) }
    }
}

/// A receipt.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields are the promised ones")]
pub struct ReceiptLine {
    pub group: String,
    pub seq: Seq,
    pub epoch: Epoch,
    pub members: u32,
    pub confirmed: u32,
    pub reached: u32,
    pub missing: Vec<MissingLine>,
    #[serde(rename = "final")]
    pub is_final: bool,
    pub stored: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elapsed_ms: Option<f64>,
}

/// One member of a receipt that does not count.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields are the promised ones")]
pub struct MissingLine {
    pub name: String,
    pub why: &'static str,
    /// What its program said, where it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

impl From<&Missing> for MissingLine {
    fn from(missing: &Missing) -> Self {
        let code = match &missing.why {
            Why::Failed { code } => Some(code.clone()),
            _ => None,
        };
        Self { name: missing.name.clone(), why: missing.why.as_str(), code }
    }
}

impl ReceiptLine {
    /// The line of a receipt; `elapsed` since it was sent, for whoever sent it.
    pub fn new(group: &str, receipt: &Receipt, level: Level, elapsed: Option<Duration>) -> Self {
        Self {
            group: group.into(),
            seq: receipt.seq,
            epoch: receipt.epoch,
            members: receipt.members,
            confirmed: receipt.confirmed,
            reached: receipt.reached,
            missing: receipt.missing.iter().map(MissingLine::from).collect(),
            is_final: receipt.is_final(),
            stored: level.as_str(),
            elapsed_ms: elapsed.map(|elapsed| (elapsed.as_secs_f64() * 10_000.0).round() / 10.0),
        }
    }
}

/// One group of a list.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields are the promised ones")]
pub struct GroupLine {
    pub group: String,
    pub members: u32,
    pub seq: Seq,
    pub epoch: Epoch,
    pub coordinator: String,
}

impl From<&GroupItem> for GroupLine {
    fn from(item: &GroupItem) -> Self {
        Self {
            group: item.group.clone(),
            members: item.members,
            seq: item.seq,
            epoch: item.epoch,
            coordinator: item.coordinator.clone(),
        }
    }
}

/// One member of a list.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields are the promised ones")]
pub struct MemberLine {
    pub name: String,
    pub acked: Seq,
    pub presence: &'static str,
    pub door: &'static str,
    pub since: String,
}

impl From<&MemberItem> for MemberLine {
    fn from(item: &MemberItem) -> Self {
        Self {
            name: item.name.clone(),
            acked: item.acked,
            presence: item.presence.as_str(),
            door: item.door.as_str(),
            since: rfc3339(item.since_us),
        }
    }
}

/// How a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields are those of STATUS_REPLY")]
pub struct StatusLine {
    pub node: String,
    pub version: String,
    pub engine: String,
    pub stored: &'static str,
    pub uptime_ms: u64,
    pub groups: u32,
    pub members: u32,
    pub connections: u32,
    pub stored_bytes: u64,
}

impl From<&StatusReply> for StatusLine {
    fn from(status: &StatusReply) -> Self {
        Self {
            node: status.node.clone(),
            version: status.version.clone(),
            engine: status.engine.clone(),
            stored: status.level.as_str(),
            uptime_ms: status.uptime_ms,
            groups: status.groups,
            members: status.members,
            connections: status.connections,
            stored_bytes: status.stored_bytes,
        }
    }
}

/// Where a group is coordinated; the allocator gives no epoch.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields are the promised ones")]
pub struct LocatedLine {
    pub group: String,
    pub coordinator: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
}

/// A list over HTTP; `next` is what to ask for next, null at the end.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the promised ones")]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<String>,
}

/// What becomes of a membership beside its entries: `{"notice":{"code","group","name","message","time"}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the field is the promised one")]
pub struct NoticeLine {
    pub notice: NoticeBody,
}

/// What is noticed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields are the promised ones")]
pub struct NoticeBody {
    pub code: String,
    pub group: String,
    pub name: String,
    pub message: String,
    pub time: String,
}

impl NoticeLine {
    /// `code` is its word, `message` for people.
    pub fn new(code: &str, group: &str, name: &str, message: &str, time_us: u64) -> Self {
        let [code, group, name, message] = [code, group, name, message].map(str::to_owned);
        Self { notice: NoticeBody { code, group, name, message, time: rfc3339(time_us) } }
    }
}

/// A failure: `{"error":{"code","message"}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the field is the promised one")]
pub struct ErrorLine {
    pub error: ErrorBody,
}

/// A change that was made; what it made true is there, and is true.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields are the promised ones")]
pub struct DoneLine {
    pub group: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub created: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub changed: bool,
}

/// Who may join a group, and who may send to it.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields are the promised ones")]
pub struct RulesLine {
    pub group: String,
    /// Null where nobody owns it.
    pub owner: Option<String>,
    /// `open`, `members` or `private`.
    pub join: &'static str,
    pub send: &'static str,
    pub may_join: Vec<String>,
    pub may_send: Vec<String>,
}

impl RulesLine {
    /// The line of a group's rules.
    pub fn new(group: &str, rules: &GroupRules) -> Self {
        let word = Audience::as_str;
        Self {
            group: group.to_owned(),
            owner: Some(rules.owner.clone()).filter(|owner| !owner.is_empty()),
            join: word(rules.join),
            send: word(rules.send),
            may_join: rules.may_join.clone(),
            may_send: rules.may_send.clone(),
        }
    }
}

/// Who somebody is.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields are the promised ones")]
pub struct IdentityLine {
    /// Null for a guest.
    pub name: Option<String>,
    pub administrator: bool,
    /// When the token ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

impl IdentityLine {
    /// The line of IDENTITY's fields.
    pub fn new(name: &str, administrator: bool, expires_us: u64) -> Self {
        Self {
            name: Some(name.to_owned()).filter(|name| !name.is_empty()),
            administrator,
            expires: (expires_us > 0).then(|| rfc3339(expires_us)),
        }
    }
}

/// What failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields are the promised ones")]
pub struct ErrorBody {
    pub code: String,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Of a message that is stored all the same: its group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// And its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<Seq>,
    /// Of a message that may be stored: sent again under it and the next, it is the same one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The sender's name.
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl ErrorLine {
    /// A failure with its code and what to do.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        let (code, message) = (code.into(), message.into());
        let (line, group, seq, key, name) = (None, None, None, None, None);
        Self { error: ErrorBody { code, message, line, group, seq, key, name } }
    }

    /// Of this line of the input.
    #[must_use]
    pub const fn at_line(mut self, line: Option<u64>) -> Self {
        self.error.line = line;
        self
    }

    /// The message may be stored; under this key and name it is sent again safely.
    #[must_use]
    pub fn keyed(mut self, key: &str, name: &str) -> Self {
        (self.error.key, self.error.name) = (Some(key.to_owned()), Some(name.to_owned()));
        self
    }

    /// The message is stored: in this group, as this number.
    #[must_use]
    pub fn stored(mut self, group: &str, seq: Seq) -> Self {
        (self.error.group, self.error.seq) = (Some(group.to_owned()), Some(seq));
        self
    }
}
