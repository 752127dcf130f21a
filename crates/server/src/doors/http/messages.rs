//! Messages, history and receipts over HTTP.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use bytes::Bytes;
use serde::Deserialize;
use tertulia_group::{Name, Receipt, SenderId, Seq};
use tertulia_wire::json::{EntryLine, Page, ReceiptLine};
use tertulia_wire::native::HistoryMode;
use tertulia_wire::{ClientFrame, Code, NodeFrame};
use utoipa::{IntoParams, ToSchema};

use super::ask::not_an_answer;
use super::body;
use super::params::{Path, Query, Wait, duration};
use super::posts::{NotStored, Poster, post_once};
use super::problem::Problem;
use super::refusals::{Refused, RefusedBody, RefusedGroup, RefusedStored};
use super::{Door, Peer};
use crate::accounts::table::{Operation, Verdict};
use crate::directory::{Denied, Listed};
use crate::doors::requests;
use crate::history;
use crate::shard::Job;

/// A post waits so long for its receipt, unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The sender's name, where none is given.
const SENDER: &str = "web";
/// Entries of a page of history, unless asked for otherwise.
const HISTORY: u32 = 100;
/// Characters of an idempotency key.
const KEY_MAX: usize = 255;
/// How often a count of answers is looked at while it is waited for.
const LOOK: Duration = Duration::from_millis(20);

/// A message is given so long to be stored, however short the time for its answers is: who waits for none of them does not want to
/// hear that nothing is known.
const STORING_MIN: Duration = Duration::from_secs(1);

/// How a message is sent.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Sending {
    /// `all` (default), `stored`, or for how many answers to wait.
    #[param(pattern = "^(all|stored|[0-9]{1,9})$")]
    wait: Option<String>,
    /// Wait at most so long: `5s` (default), `500ms`, `1m`; at most a minute. To be stored a message has a second at least.
    #[param(pattern = r"^[0-9]{1,9}([.][0-9]{1,9})?(ms|s|m)$")]
    timeout: Option<String>,
    /// The sender's name; shown with a `~`.
    #[serde(rename = "as")]
    #[param(rename = "as", min_length = 1, max_length = 32, example = "ci")]
    sender: Option<String>,
}

/// A message as JSON.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct Text {
    /// What is said; not nothing.
    #[schema(min_length = 1)]
    text: String,
}

/// Sends a message to a group and answers its receipt.
///
/// The body is the text, or `{"text": …}` as `application/json`. With an `Idempotency-Key` a retry is safe: the same key
/// gets the same number, and is refused for another text.
#[utoipa::path(
    post,
    path = "/api/groups/{group}/messages",
    params(
        ("group" = String, Path, example = "ops"),
        Sending,
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255,
            description = "1 to 255 visible ASCII characters"),
    ),
    request_body(content((String = "text/plain"), (Text = "application/json"))),
    responses(
        (status = 200, body = ReceiptLine, description = "Everybody who was asked has answered."),
        (status = 202, body = ReceiptLine, description = "It is stored; `missing` says who has not answered."),
        (status = 504, body = Problem, content_type = "application/problem+json", description = "Whether it is stored is unknown; a retry with the same key is safe."),
        Refused,
        RefusedGroup,
        RefusedBody,
        RefusedStored,
    )
)]
pub(crate) async fn post(
    State(door): State<Door>,
    Extension(peer): Extension<Peer>,
    Path(group): Path<String>,
    Query(sending): Query<Sending>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<ReceiptLine>), Problem> {
    let started = Instant::now();
    let wait = Wait::parse(sending.wait.as_deref())?;
    let timeout = duration("timeout", sending.timeout.as_deref(), TIMEOUT)?;
    let key = headers.get("idempotency-key").map(read_key).transpose()?;
    let caller = &peer.caller;
    let own = caller.account().map_or(SENDER, Name::as_str);
    let name = sending.sender.as_deref().unwrap_or(own);
    let name = Name::new(name).map_err(|error| Denied::new(Code::BadName, error.to_string()))?;
    let admitted = door.directory.admit(caller, Operation::Send, &group).await?;
    let (listed, role) = (admitted.listed, admitted.role);
    door.directory.check_name(caller, Operation::Send, &listed, &name)?;
    let text = read_text(&door, &peer, &headers, body).await?;
    let account = caller.account().cloned();
    let poster = Poster { listed, name, address: peer.address, account };
    let stored = store(&door, &poster, key.as_deref(), text);
    let seq = match tokio::time::timeout(timeout.max(STORING_MIN), stored).await {
        Ok(Ok(seq)) => seq,
        Ok(Err(problem)) => return Err(problem),
        Err(_) => return Err(Problem::unknown("it was not stored in time; it may be later")),
    };
    let receipt = wait_for(&poster.listed, seq, wait, started, timeout).await?;
    let sees_names = Operation::Members.verdict(role) == Verdict::Yes;
    let receipt = if sees_names { receipt } else { requests::without_names(receipt) };
    let status = match receipt.is_complete() {
        true => StatusCode::OK,
        false => StatusCode::ACCEPTED,
    };
    let level = door.directory.shared.level();
    let (group, elapsed) = (poster.listed.name.to_string(), started.elapsed());
    Ok((status, Json(ReceiptLine::new(&group, &receipt, level, Some(elapsed)))))
}

fn read_key(value: &axum::http::HeaderValue) -> Result<String, Problem> {
    let key = value.to_str().ok().filter(|key| (1..=KEY_MAX).contains(&key.len()));
    let bad = || Problem::bad("Idempotency-Key: 1 to 255 visible ASCII characters");
    key.map(str::to_owned).ok_or_else(bad)
}

/// The text of a message; a form, which `curl -d` says that it sends, is taken as it stands.
async fn read_text(
    door: &Door,
    peer: &Peer,
    headers: &HeaderMap,
    body: Body,
) -> Result<Bytes, Problem> {
    let bytes_max = door.directory.shared.config.group_limits.message_bytes_max;
    let too_long = || {
        let detail = format!("a message has at most {bytes_max} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, Code::TooLong.as_str(), detail)
    };
    let is_json = body::is_json(headers);
    // JSON may write a byte as six.
    let body_max = if is_json { 6 * bytes_max + 1024 } else { bytes_max };
    let body = body::gather(door, peer, body, body_max).await?.ok_or_else(too_long)?;
    if !is_json {
        return if body.is_empty() { Err(Problem::empty()) } else { Ok(body) };
    }
    let text: Text = serde_json::from_slice(&body)
        .map_err(|error| Problem::bad(format!("the body is not {{\"text\": …}}: {error}")))?;
    if text.text.is_empty() {
        return Err(Problem::empty());
    }
    if text.text.len() > bytes_max {
        return Err(too_long());
    }
    Ok(Bytes::from(text.text))
}

/// Stores the text and answers its number.
async fn store(
    door: &Door,
    poster: &Poster,
    key: Option<&str>,
    text: Bytes,
) -> Result<Seq, Problem> {
    let problem = |why| match why {
        NotStored::Denied(denied) => Problem::from(denied),
        NotStored::Unknown => {
            Problem::unknown("whether it is stored is unknown; a retry with the same key is safe")
        }
    };
    let Some(key) = key else {
        return door.posts.post(&door.directory, poster, text).await.map_err(problem);
    };
    let id = sender_of_key(door, poster, key);
    let once = post_once(&door.directory, poster, id, &text).await.map_err(problem)?;
    if once.again {
        compare(door, poster, once.seq, &text).await?;
    }
    Ok(once.seq)
}

/// The sender that a key is: nobody who does not know the node's secret can name it at another door.
fn sender_of_key(door: &Door, poster: &Poster, key: &str) -> SenderId {
    let mut hasher = blake3::Hasher::new_keyed(&door.directory.shared.secret);
    for part in [poster.account.as_ref().map_or("guest", Name::folded), poster.name.folded(), key] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let mut id = [0; 16];
    hasher.finalize_xof().fill(&mut id);
    SenderId(id)
}

/// A key that was used before has to come with the text that it came with.
async fn compare(door: &Door, poster: &Poster, seq: Seq, text: &Bytes) -> Result<(), Problem> {
    let (listed, log) = (&poster.listed, poster.listed.log);
    let read = requests::read(&door.directory, poster.address, &listed.name, move |journal| {
        history::entry(journal, log, seq)
    });
    match read.await? {
        Some(entry) if entry.body() == text => Ok(()),
        Some(_) => {
            let detail = format!("this key was used for another text, which is #{seq}");
            Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "KEY_REUSED", detail))
        }
        None => Err(Denied::new(Code::Expired, format!("#{seq} is no longer kept")).into()),
    }
}

/// The receipt, when enough have answered or time is up.
async fn wait_for(
    listed: &Listed,
    seq: Seq,
    wait: Wait,
    started: Instant,
    timeout: Duration,
) -> Result<Receipt, Problem> {
    let expired = || Denied::new(Code::Expired, format!("the receipt of #{seq} is gone"));
    let left = || timeout.saturating_sub(started.elapsed());
    let ask = async |wait: Duration| -> Result<Receipt, Problem> {
        let job = |answer| Job::Receipt { key: listed.key, seq, publisher: None, wait, answer };
        match listed.shard.ask(job).await {
            Some(receipt) => Ok(receipt.ok_or_else(expired)?),
            None => Err(Problem::unknown(format!("#{seq} was stored, but the group has ended"))),
        }
    };
    match wait {
        Wait::Stored => ask(Duration::ZERO).await,
        Wait::All => ask(left()).await,
        Wait::Count(count) => loop {
            let receipt = ask(LOOK.min(left())).await?;
            let enough = receipt.confirmed + receipt.reached >= count;
            if enough || receipt.is_final() || left().is_zero() {
                return Ok(receipt);
            }
        },
    }
}

/// Which part of the history.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Part {
    /// The first entries after this number; without it, the last ones.
    after: Option<u64>,
    /// At most so many (1 to 1,000).
    limit: Option<u32>,
}

/// What was said, and who came and went.
#[utoipa::path(
    get,
    path = "/api/groups/{group}/messages",
    params(("group" = String, Path, example = "ops"), Part),
    responses(
        (status = 200, body = Page<EntryLine>),
        Refused,
        RefusedGroup,
    )
)]
pub(crate) async fn history(
    State(door): State<Door>,
    Extension(peer): Extension<Peer>,
    Path(group): Path<String>,
    Query(part): Query<Part>,
) -> Result<Json<Page<EntryLine>>, Problem> {
    let listed = door.listed(&peer, Operation::History, &group).await?;
    let shown = listed.name.to_string();
    let mode = part.after.map_or(HistoryMode::Last, HistoryMode::After);
    let limit = part.limit.unwrap_or(HISTORY).clamp(1, 1000);
    let page = match door.ask(&peer, ClientFrame::History { id: 0, group, mode, limit }).await? {
        NodeFrame::HistoryPage { entries, .. } => entries,
        other => not_an_answer(&other),
    };
    let entries: Vec<_> = tertulia_group::entry::entries(page).flatten().collect();
    let last = entries.last().map(|entry| entry.header.seq);
    let items = entries.iter().filter_map(|entry| EntryLine::from_entry(&shown, entry)).collect();
    let tail = listed.feed.tail();
    let next = last.filter(|last| *last < tail).map(|last| last.to_string());
    Ok(Json(Page { items, next }))
}

/// How long a receipt is waited for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Waiting {
    /// Until it is final, at most so long, such as `5s`; without it, as it stands.
    #[param(pattern = r"^[0-9]{1,9}([.][0-9]{1,9})?(ms|s|m)$")]
    wait: Option<String>,
}

/// The receipt of a message, as it stands now.
#[utoipa::path(
    get,
    path = "/api/groups/{group}/receipts/{seq}",
    params(("group" = String, Path, example = "ops"), ("seq" = u64, Path, example = 2), Waiting),
    responses(
        (status = 200, body = ReceiptLine),
        (status = 410, body = Problem, content_type = "application/problem+json", description = "It is no longer kept."),
        Refused,
        RefusedGroup,
    )
)]
pub(crate) async fn receipt(
    State(door): State<Door>,
    Extension(peer): Extension<Peer>,
    Path((group, seq)): Path<(String, String)>,
    Query(waiting): Query<Waiting>,
) -> Result<Json<ReceiptLine>, Problem> {
    let seq = seq.parse().map_err(|_| Problem::bad("a receipt is asked for by its number"))?;
    let wait = duration("wait", waiting.wait.as_deref(), Duration::ZERO)?;
    let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
    let shown = door.listed(&peer, Operation::Receipt, &group).await?.name.to_string();
    match door.ask(&peer, ClientFrame::Receipt { id: 0, group, seq, wait_ms }).await? {
        NodeFrame::ReceiptReply { level, receipt, .. } => {
            Ok(Json(ReceiptLine::new(&shown, &receipt, level, None)))
        }
        other => not_an_answer(&other),
    }
}
