//! What is known of the logs and the members from one quiet moment to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::check::{Evidence, Findings, GroupLog, LogEntry, Reader, check};
use crate::clients::{Printed, Standing};
use crate::files::files_of;
use crate::history::{self, Kind, Receipt, Record};
use crate::run::node::Node;

/// See the module.
#[derive(Debug, Default)]
pub struct Known {
    /// Each group's log.
    pub logs: BTreeMap<String, GroupLog>,
    /// The stretch that is not judged yet; the first is 1.
    pub era: u64,
    readers: BTreeMap<(String, String), Reader>,
    late: Vec<Record>,
    printed: BTreeMap<PathBuf, Printed>,
}

impl Known {
    /// Empty logs.
    pub fn new(groups: &[String]) -> Self {
        let logs = groups.iter().map(|group| (group.clone(), GroupLog::default())).collect();
        Self { logs, era: 1, ..Self::default() }
    }

    /// Each log's last number.
    pub fn tails(&self) -> BTreeMap<String, u64> {
        self.logs.iter().map(|(group, log)| (group.clone(), log.tail())).collect()
    }

    /// Takes in what the logs have grown by.
    pub fn grow(&mut self, news: BTreeMap<String, Vec<LogEntry>>) {
        for (group, entries) in news {
            self.logs.entry(group).or_default().entries.extend(entries);
        }
    }

    /// Whether a member has been given everything that is in the log.
    pub fn has_all(&self, standing: &Standing) -> bool {
        let Standing { group, name, have, .. } = standing;
        let Some(log) = self.logs.get(group) else { return false };
        let before = self.readers.get(&(group.clone(), name.clone()));
        let have = before.map_or(*have, |reader| reader.have.max(*have));
        let is_given = |entry: &&LogEntry| {
            entry.kind != Kind::Epoch && !(entry.kind == Kind::Joined && entry.from == *name)
        };
        log.entries.iter().rfind(is_given).is_none_or(|last| have >= last.seq)
    }

    /// The last messages of each group, which are worth asking for their receipts.
    pub fn last_messages(&self, count: usize) -> Vec<(String, u64)> {
        let of = |(group, log): (&String, &GroupLog)| -> Vec<(String, u64)> {
            let messages = log.entries.iter().rev().filter(|entry| entry.kind == Kind::Message);
            messages.take(count).map(|entry| (group.clone(), entry.seq)).collect()
        };
        self.logs.iter().flat_map(of).collect()
    }

    /// Judges the stretch, and begins another.
    pub fn judge(
        &mut self,
        folder: &Path,
        here: BTreeSet<(String, String)>,
        at_rest: Vec<Receipt>,
    ) -> Result<Findings> {
        let mut histories = Vec::new();
        for path in files_of(folder, &format!("era-{}.", self.era), ".jsonl")? {
            histories.push(history::read(&path)?);
        }
        for path in files_of(folder, "join+", ".out")? {
            let printed = self.printed.entry(path).or_insert_with_key(|path| Printed::new(path));
            histories.push(printed.records());
        }
        let evidence = Evidence {
            logs: std::mem::take(&mut self.logs),
            histories,
            late: std::mem::take(&mut self.late),
            readers: std::mem::take(&mut self.readers),
            here,
            at_rest,
        };
        let findings = check(&evidence);
        self.late.clone_from(&findings.late);
        self.readers.clone_from(&findings.readers);
        self.readers.retain(|who, _| evidence.here.contains(who));
        self.logs =
            evidence.logs.into_iter().map(|(group, log)| (group, log.into_past())).collect();
        self.era += 1;
        Ok(findings)
    }

    /// Forgets the files of what was judged.
    pub fn clear(&mut self, folder: &Path, era: u64) -> Result<()> {
        for path in files_of(folder, &format!("era-{era}."), ".jsonl")? {
            std::fs::remove_file(path)?;
        }
        // A process that lives goes on writing to its file, and is read on from there.
        let ended = |path: &PathBuf| {
            !self.readers.keys().any(|(group, name)| {
                let name_part = format!("join+{group}+{name}+");
                path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&name_part))
            })
        };
        for path in files_of(folder, "join+", ".out")?.into_iter().filter(ended) {
            self.printed.remove(&path);
            let _ = std::fs::remove_file(path.with_extension("err"));
            std::fs::remove_file(path)?;
        }
        Ok(())
    }

    /// Everything that was ever judged is still there, with the same numbers and texts.
    pub fn compare(&self, node: &Node) -> Result<()> {
        for (group, log) in &self.logs {
            let entries = node.log(group)?;
            let digests = entries.iter().map(|entry| (entry.seq, entry.digest()));
            let digests: Vec<(u64, u64)> = digests.collect();
            // What is kept no longer is not looked for.
            let first = digests.first().map_or(u64::MAX, |(seq, _)| *seq);
            let kept = log.past.iter().filter(|(seq, _)| *seq >= first);
            let mut there = digests.iter();
            if let Some((seq, _)) = kept.into_iter().find(|past| there.next() != Some(past)) {
                bail!("{group}: #{seq} is not there any more, or is another one");
            }
        }
        Ok(())
    }
}
