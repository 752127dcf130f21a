//! Questions to the node, asked from a client's host: the logs, who is a member, receipts.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tertulia_client::{Directory, Entry, HistoryMode, Kind, Target};
use tertulia_group::entry::{JoinedBody, LeftBody};

use crate::check::LogEntry;
use crate::clients::outcome;
use crate::history::Receipt;
use crate::place::Host;

/// Entries that are asked for at once.
const PAGE: u32 = 20_000;

/// A node as a client on some host reaches it.
#[derive(Clone, Debug)]
pub struct Node {
    /// The host that asks.
    pub host: Host,
    /// The native door.
    pub native: String,
}

/// A member as the node lists it.
pub type Listed = BTreeMap<String, Vec<String>>;

impl Node {
    /// Runs questions on the host.
    fn ask<T: Send, F: Future<Output = Result<T>>>(
        &self,
        questions: impl FnOnce(Target) -> F + Send,
    ) -> Result<T> {
        self.host.on(|| {
            let target = Target::new(self.native.clone());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(questions(target))
        })
    }

    /// Creates the groups.
    pub fn create(&self, groups: &[String]) -> Result<()> {
        self.ask(|target| async move {
            let mut directory = Directory::connect(&target).await?;
            for group in groups {
                directory.create(group).await?;
            }
            Ok(())
        })
    }

    /// What each log has after a number, and who is a member of each group.
    pub fn news(
        &self,
        tails: &BTreeMap<String, u64>,
    ) -> Result<(BTreeMap<String, Vec<LogEntry>>, Listed)> {
        self.ask(|target| async move {
            let mut directory = Directory::connect(&target).await?;
            let (mut logs, mut members) = (BTreeMap::new(), BTreeMap::new());
            for (group, tail) in tails {
                let listed = directory.members(group).await?;
                let names = listed.into_iter().map(|member| member.name).collect();
                members.insert(group.clone(), names);
                logs.insert(group.clone(), log(&mut directory, group, *tail).await?);
            }
            Ok((logs, members))
        })
    }

    /// A whole log, from the first entry that is kept.
    pub fn log(&self, group: &str) -> Result<Vec<LogEntry>> {
        self.ask(|target| async move {
            let mut directory = Directory::connect(&target).await?;
            log(&mut directory, group, 0).await
        })
    }

    /// Removes members by name. One that has gone meanwhile is none.
    pub fn remove(&self, orphans: &[(String, String)]) -> Result<()> {
        self.ask(|target| async move {
            let mut directory = Directory::connect(&target).await?;
            for (group, name) in orphans {
                match directory.remove(group, name).await {
                    Err(error) if error.code() == Some(tertulia_client::Code::NoSuchMember) => {}
                    removed => removed.with_context(|| format!("removing {name} from {group}"))?,
                }
            }
            Ok(())
        })
    }

    /// Receipts as they stand.
    pub fn receipts(&self, messages: &[(String, u64)]) -> Result<Vec<Receipt>> {
        self.ask(|target| async move {
            let mut directory = Directory::connect(&target).await?;
            let mut receipts = Vec::new();
            for (group, seq) in messages {
                let now = directory.receipt(group, *seq, Duration::ZERO).await;
                let now = now.with_context(|| format!("the receipt of {group} #{seq}"))?;
                receipts.push(outcome::of(group, now.receipt));
            }
            Ok(receipts)
        })
    }
}

async fn log(directory: &mut Directory, group: &str, after: u64) -> Result<Vec<LogEntry>> {
    let mut entries: Vec<LogEntry> = Vec::new();
    loop {
        let last = entries.last().map_or(after, |entry| entry.seq);
        let page = directory.history(group, HistoryMode::After(last), PAGE).await?;
        let is_last = page.entries.is_empty();
        for entry in &page.entries {
            entries.push(read(entry)?);
        }
        if is_last {
            return Ok(entries);
        }
    }
}

fn read(entry: &Entry) -> Result<LogEntry> {
    let (header, body) = (entry.header, entry.body());
    let (mut text, mut line, mut durable) = (String::new(), false, false);
    match header.kind {
        Kind::Joined => {
            let body = JoinedBody::read(&body)?;
            (line, durable) = (body.door == tertulia_group::Door::Line, body.durable);
        }
        Kind::Left => LeftBody::read(&body)?.reason.as_str().clone_into(&mut text),
        Kind::Message => text = String::from_utf8_lossy(&body).into_owned(),
        Kind::Epoch | Kind::File | Kind::Publish => {}
    }
    Ok(LogEntry {
        seq: header.seq,
        epoch: header.epoch,
        kind: outcome::kind(header.kind),
        from: entry.name().to_owned(),
        outside: header.publisher().is_none(),
        text,
        sender: header.sender,
        line,
        durable,
    })
}
