//! What anybody may ask on the native door without being in a group: the directory, lists, history, receipts.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tertulia_group::entry::FLAG_OUTSIDE;
use tertulia_group::{Entry, Name, Receipt, Seq, Why};
use tertulia_journal::{Journal, ReadError};
use tertulia_wire::native::{GroupItem, GroupRules, HistoryMode, StatusReply};
use tertulia_wire::{ClientFrame, Code, NodeFrame};

use super::identity;
use crate::accounts::Caller;
use crate::accounts::rules::{BadRules, Rules};
use crate::accounts::table::{Operation, Role};
use crate::config::Engine;
use crate::directory::{Denied, Directory, Listed};
use crate::history;
use crate::shard::Job;

/// Items of one page.
const PAGE_MAX: u16 = 1000;
/// A receipt is waited for at most this long in one request.
const RECEIPT_WAIT_MAX: Duration = Duration::from_secs(60);

/// Who asks.
#[derive(Clone)]
pub(crate) struct From {
    pub caller: Caller,
    /// The address at which they reached the node.
    pub dialled: SocketAddr,
    /// The name under which they send on this connection, if they do.
    pub sender: Option<String>,
}

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
        | ClientFrame::GetRules { id, .. }
        | ClientFrame::SetRules { id, .. }
        | ClientFrame::Auth { id, .. }
        | ClientFrame::Register { id, .. }
        | ClientFrame::Login { id, .. }
        | ClientFrame::Password { id, .. }
        | ClientFrame::Logout { id }
        | ClientFrame::WhoAmI { id }
        | ClientFrame::Status { id } => Some(*id),
        _ => None,
    }
}

/// The answer to a request.
pub(crate) async fn answer(
    directory: &Arc<Directory>,
    from: &From,
    id: u32,
    request: ClientFrame,
) -> NodeFrame {
    match ask(directory, from, request).await {
        Ok(frame) => frame,
        Err(Denied { code, message }) => {
            directory.shared.metrics.refused(code);
            NodeFrame::Error { id, code, message }
        }
    }
}

/// The answer, or why there is none: what the table allows. What may be much waits while the asker's address has had more answered
/// than is its share.
pub(crate) async fn ask(
    directory: &Arc<Directory>,
    from: &From,
    request: ClientFrame,
) -> Result<NodeFrame, Denied> {
    let (work, address) = (&directory.shared.work, from.caller.address);
    if matches!(request, ClientFrame::Groups { .. } | ClientFrame::Members { .. }) {
        // Reading the journal waits by itself; the rest is little, and who shares an address with others wants it at once.
        work.turn(address).await;
    }
    work.count_polls(address, ask_now(directory, from, request)).await
}

async fn ask_now(
    directory: &Arc<Directory>,
    from: &From,
    request: ClientFrame,
) -> Result<NodeFrame, Denied> {
    let From { caller, dialled, .. } = from;
    let located = |id, listed: &Listed| NodeFrame::Located {
        id,
        group: listed.name.to_string(),
        coordinator: directory.coordinator(*dialled),
        epoch: listed.stats.epoch.load(Ordering::Relaxed),
    };
    let admit = async |operation, group: &str| directory.admit(caller, operation, group).await;
    Ok(match request {
        ClientFrame::Locate { id, group } => {
            located(id, &admit(Operation::Locate, &group).await?.listed)
        }
        ClientFrame::Allocate { id, name } => {
            located(id, &*directory.allocate(caller, &name).await?)
        }
        ClientFrame::Groups { id, after, limit } => {
            directory.check(caller, Operation::List)?;
            groups(directory, from, id, &after, limit)
        }
        ClientFrame::Create { id, group, rules } => {
            create(directory, caller, &group, rules).await?;
            NodeFrame::Done { id }
        }
        ClientFrame::Delete { id, group } => {
            directory.delete(caller, &group).await?;
            NodeFrame::Done { id }
        }
        ClientFrame::Members { id, group, after, limit } => {
            let listed = admit(Operation::Members, &group).await?.listed;
            let limit = usize::from(limit.clamp(1, PAGE_MAX));
            let job = |answer| Job::Members { key: listed.key, after, limit, answer };
            let (items, more) = listed.shard.ask(job).await.ok_or_else(gone)?;
            NodeFrame::MembersPage { id, more, items }
        }
        ClientFrame::Remove { id, group, name } => {
            remove(directory, caller, &group, &name).await?;
            NodeFrame::Done { id }
        }
        ClientFrame::History { id, group, mode, limit } => {
            let listed = admit(Operation::History, &group).await?.listed;
            history_page(directory, caller, id, &listed, (mode, limit)).await?
        }
        ClientFrame::Receipt { id, group, seq, wait_ms } => {
            let wait = Duration::from_millis(u64::from(wait_ms));
            receipt(directory, from, id, &group, seq, wait).await?
        }
        ClientFrame::Status { id } => {
            directory.check(caller, Operation::Status)?;
            status(directory, id)
        }
        ClientFrame::GetRules { id, group } => {
            let admitted = admit(Operation::Rules, &group).await?;
            let all = matches!(admitted.role, Role::Owner | Role::Administrator);
            let (group, rules) = (admitted.listed.name.to_string(), admitted.listed.rules());
            NodeFrame::Rules { id, group, rules: rules.shown(all) }
        }
        ClientFrame::SetRules { id, group, rules } => {
            set_rules(directory, caller, &group, &rules).await?;
            NodeFrame::Done { id }
        }
        frame @ (ClientFrame::Register { .. }
        | ClientFrame::Password { .. }
        | ClientFrame::Logout { .. }
        | ClientFrame::WhoAmI { .. }) => identity::answer(directory, caller, frame).await?,
        ClientFrame::Auth { .. } | ClientFrame::Login { .. } => {
            let message = "log in before joining, or on another connection";
            return Err(Denied::new(Code::AlreadyJoined, message));
        }
        _ => return Err(Denied::new(Code::BadFrame, "not a request")),
    })
}

/// Makes a group; who is logged in owns it.
async fn create(
    directory: &Directory,
    caller: &Caller,
    group: &str,
    rules: Option<GroupRules>,
) -> Result<(), Denied> {
    // Before anything is said about the rules.
    directory.check(caller, Operation::Create)?;
    let is_pool = Name::new(group)
        .is_ok_and(|name| name.folded().parse::<u32>().is_ok_and(|number| number > 0));
    let owner = caller.account().filter(|_| !is_pool).cloned();
    let rules = match rules {
        None => Rules { owner, ..Rules::default() },
        Some(rules) if rules == GroupRules::open() => Rules { owner, ..Rules::default() },
        Some(_) if caller.session.is_none() => {
            let message = "a group with rules needs an owner: log in";
            return Err(Denied::new(Code::Denied, message));
        }
        Some(rules) => {
            let names_max = directory.shared.config.limits.accounts.listed_names;
            Rules::new(owner, &rules, names_max).map_err(bad_rules)?
        }
    };
    directory.create(caller, group, rules).await.map(|_| ())
}

fn bad_rules(BadRules(why): BadRules) -> Denied {
    Denied::new(Code::BadName, why)
}

async fn set_rules(
    directory: &Directory,
    caller: &Caller,
    group: &str,
    rules: &GroupRules,
) -> Result<(), Denied> {
    let listed = directory.admit(caller, Operation::SetRules, group).await?.listed;
    let owner = if rules.owner.is_empty() {
        listed.rules().owner.clone()
    } else {
        let name = Name::new(&rules.owner)
            .map_err(|error| Denied::new(Code::BadName, error.to_string()))?;
        if directory.accounts.owner_of(&name).as_deref() != Some(name.folded()) {
            let message = format!("there is no account {name} that could own the group");
            return Err(Denied::new(Code::BadName, message));
        }
        Some(name)
    };
    let names_max = directory.shared.config.limits.accounts.listed_names;
    let rules = Rules::new(owner, rules, names_max).map_err(bad_rules)?;
    directory.set_rules(&listed, rules).await
}

/// Removes a member: who may join removes what is called by their own name, and in a group that nobody owns any but those of
/// others' accounts.
async fn remove(
    directory: &Directory,
    caller: &Caller,
    group: &str,
    name: &str,
) -> Result<(), Denied> {
    let admitted = directory.admit(caller, Operation::Remove, group).await?;
    let name = Name::new(name).map_err(|error| Denied::new(Code::BadName, error.to_string()))?;
    if !matches!(admitted.role, Role::Owner | Role::Administrator) {
        directory.accounts.check_name(caller, &name, admitted.only_own).map_err(|_| {
            let message = format!("{name} is not yours to remove; its owner may, or the group's");
            Denied::new(Code::Denied, message)
        })?;
    }
    let (shown, listed) = (name.to_string(), admitted.listed);
    let job = |answer| Job::Remove { key: listed.key, name, answer };
    if !listed.shard.ask(job).await.ok_or_else(gone)? {
        let message = format!("{} has no member {shown}", listed.name);
        return Err(Denied::new(Code::NoSuchMember, message));
    }
    Ok(())
}

fn gone() -> Denied {
    Denied::new(Code::StoreFailed, "the group cannot be asked just now; ask again")
}

fn groups(directory: &Directory, from: &From, id: u32, after: &str, limit: u16) -> NodeFrame {
    let limit = usize::from(limit.clamp(1, PAGE_MAX));
    let coordinator = directory.coordinator(from.dialled);
    let (page, more) = directory.page(&from.caller, after, limit);
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
    caller: &Caller,
    id: u32,
    listed: &Listed,
    (mode, limit): (HistoryMode, u32),
) -> Result<NodeFrame, Denied> {
    let log = listed.log;
    read(directory, caller.address, &listed.name, move |journal| {
        let page = history::page(journal, log, mode, limit, history::visible)?;
        let (more, first_kept, entries) = (page.more, page.first_kept, page.bytes());
        Ok(NodeFrame::HistoryPage { id, more, first_kept, entries })
    })
    .await
}

async fn receipt(
    directory: &Directory,
    from: &From,
    id: u32,
    group: &str,
    seq: Seq,
    wait: Duration,
) -> Result<NodeFrame, Denied> {
    let admitted = directory.admit(&from.caller, Operation::Receipt, group).await?;
    let (listed, only_own) = (admitted.listed, admitted.only_own);
    let tail = listed.stats.tail.load(Ordering::Relaxed);
    if seq == 0 || seq > tail {
        let message = format!("{} has no message #{seq} (the last entry is #{tail})", listed.name);
        return Err(Denied::new(Code::NoSuchMessage, message));
    }
    let not_own = || {
        let message = "who may not join a group sees the receipts of its own messages only";
        Denied::new(Code::Denied, message)
    };
    let expired = || Denied::new(Code::Expired, format!("the receipt of #{seq} is no longer kept"));
    let log = listed.log;
    let find = move |journal: &dyn Journal| history::entry(journal, log, seq);
    let entry = read(directory, from.caller.address, &listed.name, find)
        .await?
        .ok_or_else(|| if only_own { not_own() } else { expired() })?;
    if only_own && !is_own(from, &entry) {
        return Err(not_own());
    }
    if !entry.header.kind.is_said() {
        return Err(Denied::new(Code::NoSuchMessage, format!("#{seq} is not a message")));
    }
    let (key, publisher, wait) = (listed.key, entry.header.publisher(), wait.min(RECEIPT_WAIT_MAX));
    let job = |answer| Job::Receipt { key, seq, publisher, wait, answer };
    let receipt = listed.shard.ask(job).await.ok_or_else(gone)?.ok_or_else(expired)?;
    let receipt = if only_own { without_names(receipt) } else { receipt };
    Ok(NodeFrame::ReceiptReply { id, level: directory.shared.level(), receipt })
}

/// Whether a message from outside is the asker's: by the account's name, which is nobody else's, or by the name under which
/// the connection sends.
fn is_own(from: &From, entry: &Entry) -> bool {
    let is = |name: &str| {
        Name::new(entry.name())
            .is_ok_and(|of| Name::new(name).is_ok_and(|name| of.folded() == name.folded()))
    };
    let account = from.caller.account().map(Name::as_str);
    entry.header.flags & FLAG_OUTSIDE != 0
        && (account.is_some_and(is) || from.sender.as_deref().is_some_and(is))
}

/// A receipt for somebody who may not know who is in the group: counts, and `?` for each who has not answered.
pub(crate) fn without_names(mut receipt: Receipt) -> Receipt {
    for missing in &mut receipt.missing {
        missing.name = "?".into();
        if let Why::Failed { code } = &mut missing.why {
            *code = "".into();
        }
    }
    receipt
}

/// Reads the journal where that may block, within the node's limit of reads and the share of the asker's address.
pub(crate) async fn read<T: Send + 'static>(
    directory: &Directory,
    asker: IpAddr,
    group: &Name,
    what: impl FnOnce(&dyn Journal) -> Result<T, ReadError> + Send + 'static,
) -> Result<T, Denied> {
    let shared = &directory.shared;
    read_records(directory, asker, what).await?.map_err(|error| match error {
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
    asker: IpAddr,
    what: impl FnOnce(&dyn Journal) -> Result<T, ReadError> + Send + 'static,
) -> Result<Result<T, ReadError>, Denied> {
    let shared = Arc::clone(&directory.shared);
    let ending = || Denied::new(Code::ShuttingDown, "the node is ending");
    let permit = loop {
        shared.work.turn(asker).await;
        let permit = shared.request_reads.acquire().await.map_err(|_| ending())?;
        // Others of the address have been answered meanwhile.
        if !shared.work.has_to_wait(asker) {
            break permit;
        }
    };
    let main = shared.main.clone();
    let reading = Arc::clone(&shared);
    let read =
        main.spawn_blocking(move || reading.work.count(asker, || what(reading.journal.as_ref())));
    let read = read.await.map_err(|_| ending());
    drop(permit);
    read
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
