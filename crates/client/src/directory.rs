//! Asking a node: groups, members, history, receipts, and where a group is coordinated.

use std::time::Duration;

use tertulia_group::{Entry, Epoch, Receipt, Seq};
use tertulia_wire::Level;
use tertulia_wire::native::{GroupItem, HistoryMode, MemberItem, StatusReply};

use crate::{Error, Target};

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
}

impl Directory {
    /// Connects to the node.
    ///
    /// # Errors
    /// [`Error::Connect`].
    pub async fn connect(target: &Target) -> Result<Self, Error> {
        unimplemented!()
    }

    /// The node's HTTP door, `host:port`; empty where there is none.
    pub fn http(&self) -> &str {
        unimplemented!()
    }

    /// The node's id.
    pub fn node(&self) -> &str {
        unimplemented!()
    }

    /// Where is the group coordinated?
    ///
    /// # Errors
    /// `UNKNOWN_GROUP`, whose message names the nearest one.
    pub async fn locate(&mut self, group: &str) -> Result<Located, Error> {
        unimplemented!()
    }

    /// Which group may `name` join?
    ///
    /// # Errors
    /// [`Error`].
    pub async fn allocate(&mut self, name: &str) -> Result<Located, Error> {
        unimplemented!()
    }

    /// All groups, in the order of their names.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn groups(&mut self) -> Result<Vec<GroupItem>, Error> {
        unimplemented!()
    }

    /// Creates a group.
    ///
    /// # Errors
    /// `GROUP_EXISTS`, `BAD_NAME`, `DENIED`, `LIMIT`; [`Error::Unknown`].
    pub async fn create(&mut self, group: &str) -> Result<(), Error> {
        unimplemented!()
    }

    /// Deletes a group that has no members.
    ///
    /// # Errors
    /// `UNKNOWN_GROUP`, `GROUP_IN_USE`, `DENIED`; [`Error::Unknown`].
    pub async fn delete(&mut self, group: &str) -> Result<(), Error> {
        unimplemented!()
    }

    /// All members of a group, in the order of their names; its coordinator is asked.
    ///
    /// # Errors
    /// `UNKNOWN_GROUP`.
    pub async fn members(&mut self, group: &str) -> Result<Vec<MemberItem>, Error> {
        unimplemented!()
    }

    /// Removes a member by name.
    ///
    /// # Errors
    /// `UNKNOWN_GROUP`, `NO_SUCH_MEMBER`, `DENIED`; [`Error::Unknown`].
    pub async fn remove(&mut self, group: &str, name: &str) -> Result<(), Error> {
        unimplemented!()
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
        unimplemented!()
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
        unimplemented!()
    }

    /// How the node is.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn status(&mut self) -> Result<StatusReply, Error> {
        unimplemented!()
    }
}
