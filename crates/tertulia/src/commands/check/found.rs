//! What a check has found, for people and for programs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tertulia_journal::LogId;
use tertulia_journal::embedded::{Checked, LogReport, Problem, Report};
use tertulia_server::{group_of_record, verify};
use tertulia_wire::safe::make_safe;
use tertulia_wire::text::size_text;

use crate::failure::Failure;
use crate::output::Output;

/// What is printed.
pub struct Found {
    groups: Vec<GroupLine>,
    /// What is wrong with no group's log.
    others: Vec<ProblemLine>,
    report: Report,
}

/// One group.
#[derive(Debug, Serialize)]
struct GroupLine {
    r#type: &'static str,
    group: String,
    whole: bool,
    first: u64,
    last: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    damage: Vec<Place>,
    /// First and last of what cannot be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lost: Vec<(u64, u64)>,
}

/// Where something is damaged.
#[derive(Debug, Serialize)]
struct Place {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    offset: u64,
    what: String,
}

impl From<&Problem> for Place {
    fn from(problem: &Problem) -> Self {
        let file = Some(Path::new("store").join(&problem.file));
        Self { file, offset: problem.offset, what: problem.what.clone() }
    }
}

impl Place {
    fn text(&self) -> String {
        match &self.file {
            Some(file) => format!("{} at {}: {}", file.display(), self.offset, self.what),
            None => self.what.clone(),
        }
    }
}

/// Something else that is wrong.
#[derive(Debug, Serialize)]
struct ProblemLine {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<String>,
    #[serde(flatten)]
    place: Place,
}

/// The last line.
#[derive(Debug, Serialize)]
struct SummaryLine<'a> {
    r#type: &'static str,
    data: &'a Path,
    whole: bool,
    /// No node starts on it as it is.
    refused: bool,
    groups: usize,
    damaged: usize,
    records: u64,
    bytes: u64,
    /// It was closed properly.
    clean: bool,
    /// It ends in what was being written when it was stopped: no damage.
    torn: bool,
}

impl Found {
    /// The groups that the catalog names, and what is wrong besides.
    pub fn of(checked: &Checked) -> Self {
        let report = checked.report.clone();
        let (mut groups, mut others) = (Vec::new(), Vec::new());
        let mut named = Vec::new();
        for (key, record) in &report.catalog {
            match group_of_record(key, record) {
                None => {}
                Some(Ok((name, log))) => {
                    named.push(log);
                    groups.push(group_line(checked, name.to_string(), log));
                }
                Some(Err(what)) => {
                    let place = Place { file: None, offset: 0, what };
                    others.push(ProblemLine { r#type: "problem", log: None, place });
                }
            }
        }
        let of_no_group = |problem: &&Problem| problem.log.is_none_or(|log| !named.contains(&log));
        others.extend(report.problems.iter().filter(of_no_group).map(|problem| ProblemLine {
            r#type: "problem",
            log: problem.log.map(|log| log.to_string()),
            place: problem.into(),
        }));
        Self { groups, others, report }
    }

    /// Whether nothing is damaged.
    pub fn is_whole(&self) -> bool {
        self.others.is_empty() && self.damaged() == 0
    }

    fn damaged(&self) -> usize {
        self.groups.iter().filter(|group| !group.whole).count()
    }

    fn summary<'a>(&self, data: &'a Path) -> SummaryLine<'a> {
        SummaryLine {
            r#type: "summary",
            data,
            whole: self.is_whole(),
            refused: self.report.is_refused,
            groups: self.groups.len(),
            damaged: self.damaged(),
            records: self.report.records,
            bytes: self.report.bytes,
            clean: self.report.is_clean,
            torn: self.report.is_torn,
        }
    }

    /// An object a line: the groups, other problems, then what it comes to.
    pub fn objects(&self, data: &Path, out: &mut Output) -> Result<(), Failure> {
        self.groups.iter().try_for_each(|group| out.object(group))?;
        self.others.iter().try_for_each(|problem| out.object(problem))?;
        out.object(&self.summary(data))
    }

    /// The same for people.
    pub fn text(&self, data: &Path, took: Duration, out: &mut Output) -> Result<(), Failure> {
        let width = self.groups.iter().map(|group| group.group.chars().count()).max().unwrap_or(0);
        let quiet = out.quiet;
        for group in self.groups.iter().filter(|group| !quiet || !group.whole) {
            for line in group.lines(width) {
                out.text(&make_safe(&line, usize::MAX))?;
            }
        }
        for problem in &self.others {
            let whose = if problem.log.is_some() { "a log of no group" } else { "the store" };
            let line = format!("{whose}: {}", problem.place.text());
            out.text(&make_safe(&line, usize::MAX))?;
        }
        if out.verbose {
            for remark in &self.report.remarks {
                out.text(&format!("store/{remark}"))?;
            }
        }
        for line in self.end(data, took).iter().filter(|_| !quiet) {
            out.text(line)?;
        }
        Ok(())
    }

    /// What it comes to, and what to do.
    fn end(&self, data: &Path, took: Duration) -> Vec<String> {
        let Report { records, bytes, is_clean, is_torn, is_refused, .. } = &self.report;
        let size = size_text(*bytes);
        let mut lines = vec![format!(
            "{records} records, {size}, every byte of them checked in {:.1} s",
            took.as_secs_f64()
        )];
        if *is_torn {
            lines.push(
                "It ends in what was being written when the node was stopped: nobody was told that it \
                 was stored, and the next start cuts it off. That is no damage."
                    .to_owned(),
            );
        } else if !is_clean {
            lines
                .push("The node was killed, or the machine stopped. That is no damage.".to_owned());
        }
        if self.is_whole() {
            lines.push("whole: nothing is damaged".to_owned());
            return lines;
        }
        lines.push(match (is_refused, self.damaged()) {
            (true, _) => "damaged: no node starts on it, since nothing tells whose records are gone"
                .to_owned(),
            (false, 0) => "damaged: a node starts on it and serves every group named above".to_owned(),
            (false, count) => format!(
                "damaged: {count} of {} groups; a node starts on it, refuses those and serves the others",
                self.groups.len()
            ),
        });
        let data = data.display();
        lines.push(format!(
            "What to do: keep a copy of {data} as it is now. Put {data}/store back from a backup, whole \
             (files of different times do not fit together); or start the node and give a damaged group up, \
             with all that it has: tertulia groups delete NAME"
        ));
        lines
    }
}

fn group_line(checked: &Checked, group: String, log: LogId) -> GroupLine {
    let report = checked.report.logs.iter().find(|report| report.log == log);
    let (first, last) = report.map_or((1, 0), |LogReport { first, last, .. }| (*first, *last));
    let mut damage: Vec<Place> =
        report.map_or_else(Vec::new, |report| report.problems.iter().map(Place::from).collect());
    if damage.is_empty()
        && let Err(what) = verify(checked, log)
    {
        damage.push(Place { file: None, offset: 0, what });
    }
    let lost = report.map_or_else(Vec::new, |report| report.lost.clone());
    GroupLine { r#type: "group", group, whole: damage.is_empty(), first, last, damage, lost }
}

impl GroupLine {
    fn lines(&self, width: usize) -> Vec<String> {
        let Self { group, first, last, .. } = self;
        let there = match last + 1 - first {
            0 => "nothing is kept".to_owned(),
            1 => format!("#{first}"),
            _ => format!("#{first} to #{last}"),
        };
        if self.whole {
            return vec![format!("{group:<width$}  whole    {there}")];
        }
        let mut lines = vec![format!("{group:<width$}  DAMAGED  {there}, {}", self.lost_text())];
        let places = self.damage.iter().map(|place| format!("{:width$}    {}", "", place.text()));
        lines.extend(places);
        lines
    }

    fn lost_text(&self) -> String {
        let range = |(first, last): &(u64, u64)| match first == last {
            true => format!("#{first}"),
            false => format!("#{first} to #{last}"),
        };
        match self.lost.as_slice() {
            [] => "what is lost is not known".to_owned(),
            lost => format!("lost: {}", lost.iter().map(range).collect::<Vec<_>>().join(", ")),
        }
    }
}
