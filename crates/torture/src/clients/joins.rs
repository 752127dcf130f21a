//! `tertulia join --json` processes: started, killed, asked to leave; what they print is their history.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::process::Child;
use tokio::time::{Instant, sleep};

use super::Standing;
use super::desk::Desk;
use super::programs::tertulia;
use crate::files::files_of;
use crate::history::{Begin, Entry, Kind, Record, Then, What, now};

/// How often a process and its output are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(30);

/// Keeps one member alive, life after life, and one name after the other.
pub async fn be_for_ever(desk: Arc<Desk>, slot: String, durable: bool) {
    let path = desk.state_path(&format!("{slot}.name"));
    loop {
        let known = std::fs::read_to_string(&path).ok();
        let (group, name) = match known.as_deref().and_then(|known| known.split_once(' ')) {
            Some((group, name)) => (group.to_owned(), name.to_owned()),
            None => {
                desk.stands(&slot, None);
                desk.may_begin().await;
                let (group, name) = (desk.group(), desk.fresh(&slot));
                std::fs::write(&path, format!("{group} {name}")).expect("a name can be written");
                (group, name)
            }
        };
        let mut standing = Standing { group, name, ..Standing::default() };
        standing.have = printed_before(&desk, &standing);
        if !live(&desk, &slot, standing, durable).await {
            let _ = std::fs::remove_file(&path);
            desk.stands(&slot, None);
        }
        desk.linger(20..500).await;
    }
}

/// The last number that earlier lives have printed, as far as their files are there.
fn printed_before(desk: &Desk, standing: &Standing) -> u64 {
    let prefix = format!("join+{}+{}+", standing.group, standing.name);
    let files = files_of(&desk.args.folder, &prefix, ".out").unwrap_or_default();
    files.iter().filter_map(|path| Printed::new(path).more()).max().unwrap_or(0)
}

/// The file that a life prints to; its name says whose life it is and when it began.
fn output_path(desk: &Desk, standing: &Standing, begun: u64) -> PathBuf {
    let Standing { group, name, .. } = standing;
    desk.args.folder.join(format!("join+{group}+{name}+{begun}.out"))
}

/// One process, from its start to its end. Whether the membership goes on.
async fn live(desk: &Arc<Desk>, slot: &str, mut standing: Standing, durable: bool) -> bool {
    let path = output_path(desk, &standing, now());
    let output = File::create(&path).expect("output can be written");
    let errors = File::create(path.with_extension("err")).expect("errors can be written");
    let mut command = tertulia(desk);
    command.args(["join", &standing.group, "--name", &standing.name, "--json"]);
    command.args(["--node", &desk.args.native]).args(durable.then_some("--durable"));
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    let mut child = command.spawn().expect("join can be started");
    let end_at = Instant::now() + Duration::from_millis(desk.draw(1_000..15_000));
    let leaves = !durable && desk.one_in(3);
    let mut printed = Printed::new(&path);
    loop {
        sleep(LOOK_EVERY).await;
        if let Ok(Some(_)) = child.try_wait() {
            break;
        }
        if let Some(seq) = printed.more() {
            standing.have = seq;
        }
        standing.is_in = is_in(&path.with_extension("err"));
        desk.stands(slot, Some(standing.clone()));
        if !desk.is_paused() && Instant::now() > end_at {
            if leaves {
                let (group, name) = (standing.group.clone(), standing.name.clone());
                desk.record(What::Leaving { group, name });
            }
            signal(&child, if leaves { Signal::TERM } else { Signal::KILL });
            let _ = child.wait().await;
            break;
        }
    }
    standing.is_in = false;
    desk.stands(slot, Some(standing));
    let said = std::fs::read_to_string(path.with_extension("err")).unwrap_or_default();
    let is_over = ["NAME_TAKEN", "REMOVED", "BAD_SECRET"].iter().any(|code| said.contains(code));
    !leaves && !is_over
}

/// Whether the last that a process has said of itself is that it is a member.
fn is_in(errors: &Path) -> bool {
    let said = std::fs::read_to_string(errors).unwrap_or_default();
    let last = said.lines().rfind(|line| {
        ["joined ", "back", "connection lost"].iter().any(|word| line.contains(word))
    });
    last.is_some_and(|line| !line.contains("connection lost"))
}

fn signal(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    if let Some(pid) = pid {
        let _ = kill_process(pid, signal);
    }
}

/// What a process has printed so far.
#[derive(Debug)]
pub struct Printed {
    path: PathBuf,
    at: u64,
}

impl Printed {
    /// From the beginning.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), at: 0 }
    }

    /// The whole lines that have come since the last look.
    fn lines(&mut self) -> Vec<Value> {
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.at))?;
            file.read_to_end(&mut bytes)
        });
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if read.is_err() || end == 0 {
            return Vec::new();
        }
        self.at += end as u64;
        let lines = bytes[..end].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).expect("join prints JSON")).collect()
    }

    /// The number of the last one that has come, if any has.
    fn more(&mut self) -> Option<u64> {
        self.lines().last()?.get("seq")?.as_u64()
    }

    /// What has come, as records. What is printed is confirmed at any time after that: the records bear the time at which the
    /// process began.
    pub fn records(&mut self) -> Vec<Record> {
        let stem = self.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let words: Vec<String> = stem.split('+').map(str::to_owned).collect();
        let [_, group, name, begun] = &words[..] else { return Vec::new() };
        let Ok(begun) = begun.parse() else { return Vec::new() };
        let mut records = Vec::new();
        if self.at == 0 {
            let (group, name) = (group.clone(), name.clone());
            let joining = What::Joining { group, name, from: Begin::Process };
            records.push(Record { at: begun, what: joining });
        }
        let what = |line: Value| what(group, name, &line);
        let printed = self.lines().into_iter().filter_map(what);
        records.extend(printed.map(|what| Record { at: begun, what }));
        records
    }
}

fn what(group: &str, name: &str, line: &Value) -> Option<What> {
    let number = |key: &str| line.get(key)?.as_u64();
    let text = |key: &str| Some(line.get(key)?.as_str()?.to_owned());
    let (group, name) = (group.to_owned(), name.to_owned());
    let (kind, from) = match line.get("type")?.as_str()? {
        "message" => (Kind::Message, text("from")?),
        "joined" => (Kind::Joined, text("name")?),
        "left" => (Kind::Left, text("name")?),
        "gap" => {
            let (first, last) = (number("first")?, number("last")?);
            return Some(What::Gap { group, name, first, last });
        }
        _ => return Some(What::Reset { group, name, next: number("seq")? }),
    };
    Some(What::Entry(Entry {
        group,
        name,
        seq: number("seq")?,
        kind,
        from,
        outside: line.get("outside").is_some_and(|outside| outside == true),
        text: text("text").unwrap_or_default(),
        then: Then::Confirm,
    }))
}
