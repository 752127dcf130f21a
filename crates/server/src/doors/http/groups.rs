//! Groups, members, the directory and the allocator over HTTP.

use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use tertulia_wire::json::{GroupLine, LocatedLine, MemberLine, Page, RulesLine};
use tertulia_wire::native::{Audience, GroupRules};
use tertulia_wire::{ClientFrame, NodeFrame};
use utoipa::ToSchema;

use super::ask::not_an_answer;
use super::body;
use super::params::{Paging, Path, Query};
use super::problem::Problem;
use super::refusals::{Refused, RefusedBody, RefusedGroup, RefusedStored};
use super::{Door, Peer};
use crate::accounts::table::Operation;
use crate::shard::Job;

/// Items of a page, unless asked for otherwise.
const LIMIT: u16 = 100;
const LIMIT_MAX: u16 = 1000;

/// That the node is alive.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    status: &'static str,
}

/// Alive and ready.
#[utoipa::path(get, path = "/healthz", responses((status = 200, body = Health), Refused))]
pub(crate) async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// What the node counts, for Prometheus (OpenMetrics 1.0).
#[utoipa::path(
    get,
    path = "/metrics",
    responses(
        (status = 200, body = String, content_type = "application/openmetrics-text"),
        Refused,
    )
)]
pub(crate) async fn metrics(State(door): State<Door>) -> ([(HeaderName, &'static str); 1], String) {
    let shared = &door.directory.shared;
    let (shards, groups) = door.directory.shards();
    let mut counted = Vec::new();
    for shard in shards {
        let waiting = shard.waiting();
        let crowd = shard.ask(|answer| Job::Crowd { answer }).await.unwrap_or_default();
        counted.push((waiting, crowd));
    }
    shared.metrics.set_shards(&counted);
    shared.metrics.set_node(groups, shared.connections.all());
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], shared.metrics.text())
}

/// A name of a group or a member.
#[derive(Deserialize, ToSchema)]
pub(crate) struct Named {
    /// 1 to 32 letters, digits, `.`, `_` and `-`.
    #[schema(min_length = 1, max_length = 32, example = "ops")]
    name: String,
}

/// Who may join a group and who may send to it. Who may join may send.
#[derive(Deserialize, ToSchema)]
pub(crate) struct RulesWritten {
    /// The account that owns it; as it is, where nothing is said.
    #[serde(default)]
    owner: String,
    /// `open` (everybody that the node takes; where nothing is said), `members` (who is logged in) or `private`.
    #[serde(default = "open")]
    #[schema(pattern = "^(open|members|private)$")]
    join: String,
    /// The same for sending from outside.
    #[serde(default = "open")]
    #[schema(pattern = "^(open|members|private)$")]
    send: String,
    /// Who may join where that is private, besides the owner.
    #[serde(default)]
    may_join: Vec<String>,
    /// Who may send where that is private.
    #[serde(default)]
    may_send: Vec<String>,
}

fn open() -> String {
    Audience::Open.as_str().to_owned()
}

impl RulesWritten {
    fn read(self) -> Result<GroupRules, Problem> {
        let audience = |name: &str, text: &str| {
            let bad = || Problem::bad(format!("{name}: open, members or private"));
            Audience::parse(text).ok_or_else(bad)
        };
        let (join, send) = (audience("join", &self.join)?, audience("send", &self.send)?);
        let Self { owner, may_join, may_send, .. } = self;
        Ok(GroupRules { owner, join, send, may_join, may_send })
    }
}

/// A new group. Who is logged in owns it.
#[derive(Deserialize, ToSchema)]
pub(crate) struct New {
    /// 1 to 32 letters, digits, `.`, `_` and `-`.
    #[schema(min_length = 1, max_length = 32, example = "ops")]
    name: String,
    #[serde(flatten)]
    rules: RulesWritten,
}

/// One group, with its members.
#[derive(Serialize, ToSchema)]
pub(crate) struct GroupShown {
    /// Its name, as it is shown.
    group: String,
    /// The last number of its log.
    seq: u64,
    /// The coordinator's epoch.
    epoch: u32,
    /// Where it is coordinated.
    coordinator: String,
    /// Who is in it: the first of them, by name.
    members: Vec<MemberLine>,
    /// What to give as `after` for the members that follow; null at the end.
    next: Option<String>,
}

/// The groups.
#[utoipa::path(
    get,
    path = "/api/groups",
    params(Paging),
    responses((status = 200, body = Page<GroupLine>), Refused)
)]
pub(crate) async fn list(
    State(door): State<Door>,
    Extension(peer): Extension<Peer>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<GroupLine>>, Problem> {
    let (after, limit) = read(paging);
    match door.ask(&peer, ClientFrame::Groups { id: 0, after, limit }).await? {
        NodeFrame::GroupsPage { more, items, .. } => {
            let next = items.last().filter(|_| more).map(|item| item.group.clone());
            Ok(Json(Page { items: items.iter().map(GroupLine::from).collect(), next }))
        }
        other => not_an_answer(&other),
    }
}

fn read(paging: Paging) -> (String, u16) {
    let limit = paging.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
    (paging.after.unwrap_or_default(), limit)
}

/// Makes a group.
#[utoipa::path(
    post,
    path = "/api/groups",
    request_body = New,
    responses(
        (status = 201, body = LocatedLine),
        Refused,
        RefusedBody,
        RefusedStored,
    )
)]
pub(crate) async fn create(
    State(door): State<Door>,
    Extension(peer): Extension<Peer>,
    body::Json(new): body::Json<New>,
) -> Result<(StatusCode, Json<LocatedLine>), Problem> {
    let New { name: group, rules } = new;
    let rules = Some(rules.read()?).filter(|rules| *rules != GroupRules::open());
    door.ask(&peer, ClientFrame::Create { id: 0, group: group.clone(), rules }).await?;
    Ok((StatusCode::CREATED, Json(located(&door, &peer, group).await?)))
}

async fn located(door: &Door, peer: &Peer, group: String) -> Result<LocatedLine, Problem> {
    match door.ask(peer, ClientFrame::Locate { id: 0, group }).await? {
        NodeFrame::Located { group, coordinator, epoch, .. } => {
            Ok(LocatedLine { group, coordinator, epoch: Some(epoch) })
        }
        other => not_an_answer(&other),
    }
}

/// One group: its last number, where it is coordinated, and its members.
#[utoipa::path(
    get,
    path = "/api/groups/{group}",
    params(("group" = String, Path, example = "ops"), Paging),
    responses(
        (status = 200, body = GroupShown),
        Refused,
        RefusedGroup,
    )
)]
pub(crate) async fn show(
    State(door): State<Door>,
    Extension(peer): Extension<Peer>,
    Path(group): Path<String>,
    Query(paging): Query<Paging>,
) -> Result<Json<GroupShown>, Problem> {
    let LocatedLine { group, coordinator, epoch } = located(&door, &peer, group).await?;
    let (after, limit) = read(paging);
    let seq = door.listed(&peer, Operation::Members, &group).await?.feed.tail();
    let request = ClientFrame::Members { id: 0, group: group.clone(), after, limit };
    match door.ask(&peer, request).await? {
        NodeFrame::MembersPage { more, items, .. } => {
            let next = items.last().filter(|_| more).map(|item| item.name.clone());
            let members = items.iter().map(MemberLine::from).collect();
            let epoch = epoch.unwrap_or_default();
            Ok(Json(GroupShown { group, seq, epoch, coordinator, members, next }))
        }
        other => not_an_answer(&other),
    }
}

/// A group's rules; the lists of names for its owner and administrators only.
#[utoipa::path(
    get,
    path = "/api/groups/{group}/rules",
    params(("group" = String, Path, example = "ops")),
    responses(
        (status = 200, body = RulesLine),
        Refused,
        RefusedGroup,
    )
)]
pub(crate) async fn rules(
    State(door): State<Door>,
    Extension(peer): Extension<Peer>,
    Path(group): Path<String>,
) -> Result<Json<RulesLine>, Problem> {
    match door.ask(&peer, ClientFrame::GetRules { id: 0, group }).await? {
        NodeFrame::Rules { group, rules, .. } => Ok(Json(RulesLine::new(&group, &rules))),
        other => not_an_answer(&other),
    }
}

/// Changes a group's rules, all of them. Who may not be there any more is sent away.
#[utoipa::path(
    put,
    path = "/api/groups/{group}/rules",
    params(("group" = String, Path, example = "ops")),
    request_body = RulesWritten,
    responses(
        (status = 200, body = RulesLine),
        Refused,
        RefusedGroup,
        RefusedBody,
        RefusedStored,
    )
)]
pub(crate) async fn set_rules(
    State(door): State<Door>,
    Extension(peer): Extension<Peer>,
    Path(group): Path<String>,
    body::Json(written): body::Json<RulesWritten>,
) -> Result<Json<RulesLine>, Problem> {
    let written = written.read()?;
    door.ask(&peer, ClientFrame::SetRules { id: 0, group: group.clone(), rules: written }).await?;
    rules(State(door), Extension(peer), Path(group)).await
}

/// The group server: where a group is coordinated.
#[utoipa::path(
    get,
    path = "/api/directory/{group}",
    params(("group" = String, Path, example = "ops")),
    responses(
        (status = 200, body = LocatedLine),
        Refused,
        RefusedGroup,
    )
)]
pub(crate) async fn locate(
    State(door): State<Door>,
    Extension(peer): Extension<Peer>,
    Path(group): Path<String>,
) -> Result<Json<LocatedLine>, Problem> {
    Ok(Json(located(&door, &peer, group).await?))
}

/// The allocator: which group of the pool a member of this name is to join.
#[utoipa::path(
    post,
    path = "/api/allocate",
    request_body = Named,
    responses(
        (status = 200, body = LocatedLine),
        Refused,
        RefusedBody,
        RefusedStored,
    )
)]
pub(crate) async fn allocate(
    State(door): State<Door>,
    Extension(peer): Extension<Peer>,
    body::Json(named): body::Json<Named>,
) -> Result<Json<LocatedLine>, Problem> {
    match door.ask(&peer, ClientFrame::Allocate { id: 0, name: named.name }).await? {
        NodeFrame::Located { group, coordinator, .. } => {
            Ok(Json(LocatedLine { group, coordinator, epoch: None }))
        }
        other => not_an_answer(&other),
    }
}
