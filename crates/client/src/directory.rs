//! Asking a node: groups, members, history, receipts, and where a group is coordinated.

use std::time::Duration;

use tertulia_group::{Entry, Epoch, Receipt, Seq};
use tertulia_wire::native::{GroupItem, HistoryMode, MemberItem, StatusReply};
use tertulia_wire::{ClientFrame, Code, Instance, Level, NodeFrame};

use crate::conn::{Conn, unexpected};
use crate::{Error, Target};

/// Items of one page of a list.
const PAGE_ITEMS: u16 = 1000;

/// Where a group is coordinated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Its name as it is written.
    pub group: String,
    /// `host:port` to dial; what was dialled, where the node itself coordinates the group.
    pub coordinator: String,
    /// The coordinator's epoch.
    pub epoch: Epoch,
}

/// A part of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// The first number that is still kept.
    pub first_kept: Seq,
    /// Entries of every kind, in their order. Numbers may skip.
    pub entries: Vec<Entry>,
}

/// A receipt as it stands now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptNow {
    /// The receipt; [`Receipt::is_final`] says whether it can still change.
    pub receipt: Receipt,
    /// How well the message is stored.
    pub level: Level,
}

/// A connection for questions. Every method may be dropped before it is done; the next one works all the same.
///
/// A connection that was lost is made anew with the next question. Questions that change nothing are asked a second time by
/// themselves; for the others a lost connection is [`Error::Unknown`].
#[derive(Debug)]
pub struct Directory {
    target: Target,
    node: Option<Conn>,
    /// To the coordinator that was asked last, where that is another node.
    other: Option<Conn>,
    node_id: String,
    http: String,
    instance: Instance,
}

/// Whether asking again can do harm.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asking {
    Reads,
    Changes,
}

impl Directory {
    /// Connects to the node.
    ///
    /// # Errors
    /// [`Error::Connect`].
    pub async fn connect(target: &Target) -> Result<Self, Error> {
        let conn = Conn::dial(target).await?;
        Ok(Self {
            target: target.clone(),
            node_id: conn.greeting.node.clone(),
            http: conn.greeting.http.clone(),
            instance: conn.greeting.instance,
            node: Some(conn),
            other: None,
        })
    }

    /// The node's HTTP door, `host:port`; empty where there is none.
    pub fn http(&self) -> &str {
        &self.http
    }

    /// The node's id.
    pub fn node(&self) -> &str {
        &self.node_id
    }

    /// The node's store: the same at every address and after every restart, as long as its data lives.
    pub const fn instance(&self) -> Instance {
        self.instance
    }

    /// Where is the group coordinated?
    ///
    /// # Errors
    /// `UNKNOWN_GROUP`, whose message names the nearest one.
    pub async fn locate(&mut self, group: &str) -> Result<Located, Error> {
        let question = |id| ClientFrame::Locate { id, group: group.to_owned() };
        let mut answer = self.first().await?.ask(Duration::ZERO, question).await;
        if let Err(Error::Lost { .. }) = answer {
            self.forget();
            answer = self.first().await?.ask(Duration::ZERO, question).await;
        }
        self.located(answer?)
    }

    /// Which group may `name` join?
    ///
    /// # Errors
    /// [`Error`].
    pub async fn allocate(&mut self, name: &str) -> Result<Located, Error> {
        let question = |id| ClientFrame::Allocate { id, name: name.to_owned() };
        let answer = self.ask(None, Asking::Reads, Duration::ZERO, question).await?;
        self.located(answer)
    }

    fn located(&self, answer: NodeFrame) -> Result<Located, Error> {
        let elsewhere = |coordinator: &str| self.node.as_ref()?.elsewhere(coordinator);
        located(answer, self.target.address(), elsewhere)
    }

    /// All groups, in the order of their names.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn groups(&mut self) -> Result<Vec<GroupItem>, Error> {
        let mut all: Vec<GroupItem> = Vec::new();
        loop {
            let after = all.last().map_or_else(String::new, |item| item.group.clone());
            let question = |id| ClientFrame::Groups { id, after: after.clone(), limit: PAGE_ITEMS };
            match self.ask(None, Asking::Reads, Duration::ZERO, question).await? {
                NodeFrame::GroupsPage { more, items, .. } => {
                    let ends = !more || items.is_empty();
                    all.extend(items);
                    if ends {
                        return Ok(all);
                    }
                }
                _ => return Err(unexpected("GROUPS")),
            }
        }
    }

    /// Creates a group.
    ///
    /// # Errors
    /// `GROUP_EXISTS`, `BAD_NAME`, `DENIED`, `LIMIT`; [`Error::Unknown`].
    pub async fn create(&mut self, group: &str) -> Result<(), Error> {
        let question = |id| ClientFrame::Create { id, group: group.to_owned(), rules: None };
        done(&self.ask(None, Asking::Changes, Duration::ZERO, question).await?)
    }

    /// Deletes a group that has no members, or that is damaged.
    ///
    /// # Errors
    /// `UNKNOWN_GROUP`, `GROUP_IN_USE`, `DENIED`; [`Error::Unknown`].
    pub async fn delete(&mut self, group: &str) -> Result<(), Error> {
        let question = |id| ClientFrame::Delete { id, group: group.to_owned() };
        let answer = match self.ask(Some(group), Asking::Changes, Duration::ZERO, question).await {
            // Nobody coordinates a damaged group: the node that has it is this one.
            Err(Error::Refused { code: Code::Damaged, .. }) => {
                self.ask(None, Asking::Changes, Duration::ZERO, question).await?
            }
            answer => answer?,
        };
        done(&answer)
    }

    /// All members of a group, in the order of their names; its coordinator is asked.
    ///
    /// # Errors
    /// `UNKNOWN_GROUP`.
    pub async fn members(&mut self, group: &str) -> Result<Vec<MemberItem>, Error> {
        let mut all: Vec<MemberItem> = Vec::new();
        loop {
            let after = all.last().map_or_else(String::new, |item| item.name.clone());
            let question = |id| ClientFrame::Members {
                id,
                group: group.to_owned(),
                after: after.clone(),
                limit: PAGE_ITEMS,
            };
            match self.ask(Some(group), Asking::Reads, Duration::ZERO, question).await? {
                NodeFrame::MembersPage { more, items, .. } => {
                    let ends = !more || items.is_empty();
                    all.extend(items);
                    if ends {
                        return Ok(all);
                    }
                }
                _ => return Err(unexpected("MEMBERS")),
            }
        }
    }

    /// Removes a member by name.
    ///
    /// # Errors
    /// `UNKNOWN_GROUP`, `NO_SUCH_MEMBER`, `DENIED`; [`Error::Unknown`].
    pub async fn remove(&mut self, group: &str, name: &str) -> Result<(), Error> {
        let question =
            |id| ClientFrame::Remove { id, group: group.to_owned(), name: name.to_owned() };
        done(&self.ask(Some(group), Asking::Changes, Duration::ZERO, question).await?)
    }

    /// At most `limit` entries of the group's log, of every kind.
    ///
    /// # Errors
    /// `UNKNOWN_GROUP`.
    pub async fn history(
        &mut self,
        group: &str,
        mode: HistoryMode,
        limit: u32,
    ) -> Result<History, Error> {
        let (mut mode, mut history) = (mode, None::<History>);
        loop {
            let left = limit - history.as_ref().map_or(0, |history| history.entries.len() as u32);
            let question =
                |id| ClientFrame::History { id, group: group.to_owned(), mode, limit: left };
            let answer = self.ask(Some(group), Asking::Reads, Duration::ZERO, question).await?;
            let NodeFrame::HistoryPage { more, first_kept, entries, .. } = answer else {
                return Err(unexpected("HISTORY"));
            };
            let page: Vec<Entry> = NodeFrame::history_entries(entries)
                .take(left as usize)
                .collect::<Result<_, _>>()
                .map_err(|error| Error::Protocol(error.to_string()))?;
            let last = page.last().map(|entry| entry.header.seq);
            let so_far = history.get_or_insert(History { first_kept, entries: Vec::new() });
            so_far.entries.extend(page);
            match last {
                Some(last) if more && so_far.entries.len() < limit as usize => {
                    mode = HistoryMode::After(last);
                }
                _ => return history.ok_or_else(|| unexpected("HISTORY")),
            }
        }
    }

    /// The receipt of a message, when it is final or after `wait`.
    ///
    /// # Errors
    /// `UNKNOWN_GROUP`, `NO_SUCH_MESSAGE`, `EXPIRED`.
    pub async fn receipt(
        &mut self,
        group: &str,
        seq: Seq,
        wait: Duration,
    ) -> Result<ReceiptNow, Error> {
        let wait_ms = wait_ms(wait);
        let question = |id| ClientFrame::Receipt { id, group: group.to_owned(), seq, wait_ms };
        match self.ask(Some(group), Asking::Reads, wait, question).await? {
            NodeFrame::ReceiptReply { level, receipt, .. } => Ok(ReceiptNow { receipt, level }),
            _ => Err(unexpected("GET_RECEIPT")),
        }
    }

    /// How the node is.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn status(&mut self) -> Result<StatusReply, Error> {
        let question = |id| ClientFrame::Status { id };
        match self.ask(None, Asking::Reads, Duration::ZERO, question).await? {
            NodeFrame::StatusReply(status) => Ok(*status),
            _ => Err(unexpected("STATUS")),
        }
    }

    /// Asks the node, or the coordinator of a group. A question that changes nothing is asked twice when a connection is lost.
    pub(crate) async fn ask(
        &mut self,
        group: Option<&str>,
        asking: Asking,
        wait: Duration,
        question: impl Fn(u32) -> ClientFrame,
    ) -> Result<NodeFrame, Error> {
        let mut tries = 0;
        loop {
            tries += 1;
            let conn = match group {
                Some(group) => self.coordinator(group).await?,
                None => self.first().await?,
            };
            let answer = conn.ask(wait, &question).await;
            match answer {
                Err(Error::Lost { .. } | Error::Protocol(_)) if asking == Asking::Changes => {
                    self.forget();
                    return Err(Error::Unknown);
                }
                Err(Error::Lost { .. }) if tries == 1 => self.forget(),
                Err(Error::Refused { code: Code::Moved, .. }) if tries == 1 => {
                    self.other = None;
                }
                Err(error @ (Error::Lost { .. } | Error::Protocol(_))) => {
                    self.forget();
                    return Err(error);
                }
                answer => return answer,
            }
        }
    }

    /// Whether a password may be shown to the node.
    pub(crate) async fn may_show_credentials(&mut self) -> Result<(), Error> {
        self.first().await?.check_way()
    }

    fn forget(&mut self) {
        (self.node, self.other) = (None, None);
    }

    async fn first(&mut self) -> Result<&mut Conn, Error> {
        let conn = match self.node.take().and_then(alive) {
            Some(conn) => conn,
            None => Conn::dial(&self.target).await?,
        };
        Ok(self.node.insert(conn))
    }

    async fn coordinator(&mut self, group: &str) -> Result<&mut Conn, Error> {
        let located = self.locate(group).await?;
        if self.node.as_ref().is_some_and(|node| node.address == located.coordinator) {
            return self.first().await;
        }
        let other = self.other.take().filter(|conn| conn.address == located.coordinator);
        let conn = match other.and_then(alive) {
            Some(conn) => conn,
            None => Conn::dial(&self.target.at(&located.coordinator)).await?,
        };
        Ok(self.other.insert(conn))
    }
}

/// A connection that the node has not closed meanwhile.
fn alive(mut conn: Conn) -> Option<Conn> {
    (!conn.is_over()).then_some(conn)
}

pub(crate) fn done(answer: &NodeFrame) -> Result<(), Error> {
    match answer {
        NodeFrame::Done { .. } => Ok(()),
        _ => Err(unexpected("a change")),
    }
}

/// Reads a LOCATED; where its node is the one that was asked, what was dialled stays the address.
pub(crate) fn located(
    answer: NodeFrame,
    dialled: &str,
    elsewhere: impl FnOnce(&str) -> Option<String>,
) -> Result<Located, Error> {
    let NodeFrame::Located { group, coordinator, epoch, .. } = answer else {
        return Err(unexpected("LOCATE"));
    };
    let coordinator = elsewhere(&coordinator).unwrap_or_else(|| dialled.to_owned());
    Ok(Located { group, coordinator, epoch })
}

/// As the frame has it; longer than it can say is as long as it can say.
pub(crate) fn wait_ms(wait: Duration) -> u32 {
    u32::try_from(wait.as_millis()).unwrap_or(u32::MAX)
}
