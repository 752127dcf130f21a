//! What anybody may ask on the native door without being in a group: the directory, lists, history, receipts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tertulia_group::{Kind, Name, Seq};
use tertulia_journal::ReadError;
use tertulia_wire::native::{GroupItem, HistoryMode, StatusReply};
use tertulia_wire::{ClientFrame, Code, NodeFrame};

use crate::config::Engine;
use crate::directory::{Denied, Directory, Listed};
use crate::history;
use crate::shard::Job;

/// Items of one page.
const PAGE_MAX: u16 = 1000;
/// A receipt is waited for at most this long in one request.
const RECEIPT_WAIT_MAX: Duration = Duration::from_secs(60);

/// The id of a request that [`answer`] answers; `None` for every other frame.
pub(crate) fn id_of(frame: &ClientFrame) -> Option<u32> {
    match frame {
        ClientFrame::Locate { id, .. }
        | ClientFrame::Allocate { id, .. }
        | ClientFrame::Groups { id, .. }
        | ClientFrame::Create { id, .. }
        | ClientFrame::Delete { id, .. }
        | ClientFrame::Members { id, .. }
        | ClientFrame::Remove { id, .. }
        | ClientFrame::History { id, .. }
        | ClientFrame::Receipt { id, .. }
        | ClientFrame::Status { id } => Some(*id),
        _ => None,
    }
}

/// The answer to a request of somebody who reached the node at `dialled`.
pub(crate) async fn answer(
    directory: &Arc<Directory>,
    dialled: SocketAddr,
    id: u32,
    request: ClientFrame,
) -> NodeFrame {
    match ask(directory, dialled, request).await {
        Ok(frame) => frame,
        Err(Denied { code, message }) => NodeFrame::Error { id, code, message },
    }
}

/// The answer, or why there is none.
pub(crate) async fn ask(
    directory: &Arc<Directory>,
    dialled: SocketAddr,
    request: ClientFrame,
) -> Result<NodeFrame, Denied> {
    let located = |id, listed: &Listed| NodeFrame::Located {
        id,
        group: listed.name.to_string(),
        coordinator: directory.coordinator(dialled),
        epoch: listed.stats.epoch.load(Ordering::Relaxed),
    };
    Ok(match request {
        ClientFrame::Locate { id, group } => located(id, &*directory.find(&group).await?),
        ClientFrame::Allocate { id, name } => located(id, &*directory.allocate(&name).await?),
        ClientFrame::Groups { id, after, limit } => groups(directory, dialled, id, &after, limit),
        ClientFrame::Create { id, group } => {
            directory.create(&group).await?;
            NodeFrame::Done { id }
        }
        ClientFrame::Delete { id, group } => {
            directory.delete(&group).await?;
            NodeFrame::Done { id }
        }
        ClientFrame::Members { id, group, after, limit } => {
            let listed = directory.find(&group).await?;
            let limit = usize::from(limit.clamp(1, PAGE_MAX));
            let job = |answer| Job::Members { key: listed.key, after, limit, answer };
            let (items, more) = listed.shard.ask(job).await.ok_or_else(gone)?;
            NodeFrame::MembersPage { id, more, items }
        }
        ClientFrame::Remove { id, group, name } => {
            let listed = directory.find(&group).await?;
            let name =
                Name::new(&name).map_err(|error| Denied::new(Code::BadName, error.to_string()))?;
            let shown = name.to_string();
            let job = |answer| Job::Remove { key: listed.key, name, answer };
            if !listed.shard.ask(job).await.ok_or_else(gone)? {
                let message = format!("{} has no member {shown}", listed.name);
                return Err(Denied::new(Code::NoSuchMember, message));
            }
            NodeFrame::Done { id }
        }
        ClientFrame::History { id, group, mode, limit } => {
            history_page(directory, id, &group, mode, limit).await?
        }
        ClientFrame::Receipt { id, group, seq, wait_ms } => {
            receipt(directory, id, &group, seq, Duration::from_millis(u64::from(wait_ms))).await?
        }
        ClientFrame::Status { id } => status(directory, id),
        _ => return Err(Denied::new(Code::BadFrame, "not a request")),
    })
}

fn gone() -> Denied {
    Denied::new(Code::StoreFailed, "the group cannot be asked just now; ask again")
}

fn groups(
    directory: &Directory,
    dialled: SocketAddr,
    id: u32,
    after: &str,
    limit: u16,
) -> NodeFrame {
    let limit = usize::from(limit.clamp(1, PAGE_MAX));
    let coordinator = directory.coordinator(dialled);
    let (page, more) = directory.page(after, limit);
    let items: Vec<GroupItem> = page
        .into_iter()
        .map(|listed| GroupItem {
            group: listed.name.to_string(),
            members: listed.stats.members.load(Ordering::Relaxed),
            seq: listed.stats.tail.load(Ordering::Relaxed),
            epoch: listed.stats.epoch.load(Ordering::Relaxed),
            coordinator: coordinator.clone(),
        })
        .collect();
    NodeFrame::GroupsPage { id, more, items }
}

async fn history_page(
    directory: &Directory,
    id: u32,
    group: &str,
    mode: HistoryMode,
    limit: u32,
) -> Result<NodeFrame, Denied> {
    let listed = directory.find(group).await?;
    read(directory, &listed.name.clone(), move |journal| {
        let page = history::page(journal, listed.log, mode, limit, history::visible)?;
        let (more, first_kept, entries) = (page.more, page.first_kept, page.bytes());
        Ok(NodeFrame::HistoryPage { id, more, first_kept, entries })
    })
    .await
}

async fn receipt(
    directory: &Directory,
    id: u32,
    group: &str,
    seq: Seq,
    wait: Duration,
) -> Result<NodeFrame, Denied> {
    let listed = directory.find(group).await?;
    let tail = listed.stats.tail.load(Ordering::Relaxed);
    if seq == 0 || seq > tail {
        let message = format!("{} has no message #{seq} (the last entry is #{tail})", listed.name);
        return Err(Denied::new(Code::NoSuchMessage, message));
    }
    let expired = || Denied::new(Code::Expired, format!("the receipt of #{seq} is no longer kept"));
    let log = listed.log;
    let entry = read(directory, &listed.name, move |journal| history::entry(journal, log, seq))
        .await?
        .ok_or_else(expired)?;
    if entry.header.kind != Kind::Message && entry.header.kind != Kind::File {
        return Err(Denied::new(Code::NoSuchMessage, format!("#{seq} is not a message")));
    }
    let (key, publisher, wait) = (listed.key, entry.header.publisher(), wait.min(RECEIPT_WAIT_MAX));
    let job = |answer| Job::Receipt { key, seq, publisher, wait, answer };
    let receipt = listed.shard.ask(job).await.ok_or_else(gone)?.ok_or_else(expired)?;
    Ok(NodeFrame::ReceiptReply { id, level: directory.shared.level(), receipt })
}

/// Reads the journal where that may block, within the node's limit of reads.
pub(crate) async fn read<T: Send + 'static>(
    directory: &Directory,
    group: &Name,
    what: impl FnOnce(&dyn tertulia_journal::Journal) -> Result<T, ReadError> + Send + 'static,
) -> Result<T, Denied> {
    let shared = &directory.shared;
    read_records(directory, what).await?.map_err(|error| match error {
        ReadError::Trimmed { first } => {
            Denied::new(Code::Expired, format!("kept from #{first} on"))
        }
        ReadError::Damaged(why) => {
            shared.tell_damage(&format!("a part of group {group}"), &why);
            Denied::new(Code::Damaged, format!("a part of group {group} is damaged: {why}"))
        }
        ReadError::Io(why) => Denied::new(Code::StoreFailed, why),
    })
}

/// The same, for who has to know what the journal answered.
pub(crate) async fn read_records<T: Send + 'static>(
    directory: &Directory,
    what: impl FnOnce(&dyn tertulia_journal::Journal) -> Result<T, ReadError> + Send + 'static,
) -> Result<Result<T, ReadError>, Denied> {
    let shared = &directory.shared;
    let ending = || Denied::new(Code::ShuttingDown, "the node is ending");
    let _permit = shared.request_reads.acquire().await.map_err(|_| ending())?;
    let journal = Arc::clone(&shared.journal);
    shared.main.spawn_blocking(move || what(journal.as_ref())).await.map_err(|_| ending())
}

fn status(directory: &Directory, id: u32) -> NodeFrame {
    let shared = &directory.shared;
    let totals = directory.totals();
    let engine = match shared.config.engine {
        Engine::Memory => "memory",
        Engine::Embedded => "embedded",
    };
    NodeFrame::StatusReply(Box::new(StatusReply {
        id,
        node: shared.config.node_id.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        engine: engine.to_owned(),
        level: shared.level(),
        uptime_ms: crate::clock::mono_ms().saturating_sub(shared.started_ms),
        groups: totals.groups,
        members: totals.members,
        connections: shared.connections.all() as u32,
        stored_bytes: totals.stored_bytes,
    }))
}
