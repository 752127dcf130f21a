//! What is said over the WebSocket: JSON objects, from members in browsers and in programs that have no native client.

use serde::{Deserialize, Serialize};
use tertulia_group::{Epoch, Seq};
use tertulia_wire::json::ReceiptLine;

use axum::Extension;
use axum::extract::{State, WebSocketUpgrade};
use axum::response::Response;

use super::problem::Problem;
use super::refusals::Refused;
use super::{Door, Peer, web_session};

/// What a client says, one object a text frame.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Say {
    /// Becomes a member; the first thing that is said.
    Join(Join),
    /// Sends a message.
    Send {
        /// Rises with each message of a membership; the same one again is the same message.
        counter: u64,
        text: String,
    },
    /// The program has taken everything up to here, but for what it will not do.
    Confirm {
        seq: Seq,
        #[serde(default)]
        failed: Vec<Failed>,
    },
    /// Leaves the group.
    Leave,
    /// Answered by `pong`.
    Ping,
}

/// See [`Say::Join`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Join {
    pub group: String,
    pub name: String,
    /// The secret of an earlier `welcome`: the membership goes on.
    pub secret: Option<String>,
    /// The id of the last entry that was seen, or `first`; without it, what comes next.
    pub after: Option<String>,
    /// Stay a member however long it is away.
    #[serde(default)]
    pub durable: bool,
    /// Be told each confirmation by name, and each message's receipt once it is final.
    #[serde(default)]
    pub follow: bool,
}

/// A message that the program will not do.
#[derive(Debug, Deserialize)]
pub(crate) struct Failed {
    pub seq: Seq,
    pub code: String,
}

/// What the node says, beside the entries (as `history` shows them; several of them are lines of one frame).
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum Told {
    /// The client is a member.
    Welcome {
        group: String,
        name: String,
        /// What brings the membership back.
        secret: String,
        resumed: bool,
        log: String,
        epoch: Epoch,
        /// The first number that is sent.
        next: Seq,
        /// The log's last number.
        tail: Seq,
        members: u32,
        /// The last counter that was taken.
        counter: u64,
        /// What is confirmed.
        acked: Seq,
    },
    /// The message with this counter is stored.
    Stored { counter: u64, seq: Seq },
    /// It is not, and this says why.
    Refused { counter: u64, code: &'static str, message: String },
    /// The receipt of the message with this counter; without one, of any message of the group, for who follows.
    Receipt {
        #[serde(skip_serializing_if = "Option::is_none")]
        counter: Option<u64>,
        receipt: ReceiptLine,
    },
    /// A member's program (or only its host) has come so far.
    Confirmed { name: String, seq: Seq, reached: bool },
    /// To `ping`.
    Pong,
    /// What was said is not possible.
    Error { code: &'static str, message: String },
    /// The connection ends.
    Closed { code: &'static str, message: String },
}

/// A member's WebSocket: `join` first, then `send`, `confirm`, `leave`; docs/protocol.md has each object.
#[utoipa::path(
    get,
    path = "/api/ws",
    responses(
        (status = 101, description = "A WebSocket."),
        (status = 426, body = Problem, content_type = "application/problem+json"),
        Refused,
    )
)]
pub(crate) async fn socket(
    State(door): State<Door>,
    Extension(peer): Extension<Peer>,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let upgrade = upgrade.map_err(|rejection| {
        Problem::new(rejection.status(), "NO_WEBSOCKET", rejection.body_text())
    })?;
    let limits = &door.directory.shared.config.group_limits;
    // JSON may write a byte as six.
    let frame_max = 6 * limits.message_bytes_max + 1024;
    Ok(upgrade
        .max_message_size(frame_max)
        .max_frame_size(frame_max)
        .write_buffer_size(0)
        // One frame at a time is given to it, and a message is as long as it is.
        .max_write_buffer_size(usize::MAX)
        .on_upgrade(move |socket| web_session::run(door, peer, socket)))
}

/// The kinds of what may be said, as the reader of it knows them.
#[cfg(test)]
pub(crate) fn kinds() -> Vec<String> {
    let refusal = serde_json::from_str::<Say>(r#"{"type":"?"}"#).expect_err("no such kind");
    let refusal = refusal.to_string();
    let (_, known) = refusal.split_once("expected").expect("it says what it knows");
    known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}
