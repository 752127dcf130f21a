//! `join --exec`: runs a program for each message, again where it fails, and says what came of it.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tertulia_client::Seq;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;

const TRIES: u32 = 3;
/// Before the second try; the third waits four times as long.
const BACK_OFF: Duration = Duration::from_millis(250);
/// Programs that run when it is time to end may take this long.
const END_WITHIN: Duration = Duration::from_secs(5);

/// One message for the program.
pub struct Job {
    /// Its number.
    pub seq: Seq,
    /// Who says it, as shown.
    pub from: String,
    /// Where.
    pub group: String,
    /// For standard input.
    pub text: Bytes,
}

/// What came of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Ran {
    /// The program took it.
    Done,
    /// It will not: `exit 7`, `signal 9`, `cannot start`.
    Failed(String),
    /// It was time to end before that was clear.
    Cut,
}

/// Runs up to so many programs at once.
pub struct Runner {
    command: String,
    jobs_max: usize,
    /// Standard output is for objects only.
    json: bool,
    running: JoinSet<(Seq, Ran)>,
    ending: watch::Sender<bool>,
}

impl Runner {
    /// Runs this command line.
    pub fn new(command: &str, jobs_max: u8, json: bool) -> Self {
        Self {
            command: command.to_owned(),
            jobs_max: jobs_max.into(),
            json,
            running: JoinSet::new(),
            ending: watch::Sender::new(false),
        }
    }

    /// Whether one more may be started.
    pub fn has_room(&self) -> bool {
        self.running.len() < self.jobs_max
    }

    /// Whether one runs.
    pub fn is_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// Starts one.
    pub fn start(&mut self, job: Job) {
        let (command, json) = (self.command.clone(), self.json);
        let ending = self.ending.subscribe();
        self.running.spawn(async move { (job.seq, run(&command, &job, json, ending).await) });
    }

    /// The next one that has ended; `None` while none runs. May be dropped before it is done.
    pub async fn next(&mut self) -> Option<(Seq, Ran)> {
        loop {
            match self.running.join_next().await? {
                Ok(ran) => return Some(ran),
                Err(error) => tracing::error!("a program's task: {error}"),
            }
        }
    }

    /// No more tries; what still runs after a while is killed.
    pub async fn end(mut self) -> Vec<(Seq, Ran)> {
        self.ending.send_replace(true);
        let mut ended = Vec::new();
        let until = tokio::time::Instant::now() + END_WITHIN;
        while let Ok(Some(ran)) = tokio::time::timeout_at(until, self.next()).await {
            ended.push(ran);
        }
        kill_running();
        ended
    }
}

async fn run(command: &str, job: &Job, json: bool, mut ending: watch::Receiver<bool>) -> Ran {
    let mut pause = BACK_OFF;
    for number in 1..=TRIES {
        let failed = match run_once(command, job, json).await {
            Ok(()) => return Ran::Done,
            Err(failed) => failed,
        };
        tracing::info!("#{}: {failed} (try {number} of {TRIES})", job.seq);
        if *ending.borrow() {
            break;
        }
        if number == TRIES {
            return Ran::Failed(failed);
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = ending.changed() => break,
        }
        pause *= 4;
    }
    Ran::Cut
}

async fn run_once(command: &str, job: &Job, json: bool) -> Result<(), String> {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", command])
        .env("TERTULIA_SEQ", job.seq.to_string())
        .env("TERTULIA_FROM", &job.from)
        .env("TERTULIA_GROUP", &job.group)
        .stdin(Stdio::piped())
        .kill_on_drop(true);
    if json {
        shell.stdout(std::io::stderr());
    }
    // A group of its own: Ctrl-C is for us, and we let it end.
    #[cfg(unix)]
    shell.process_group(0);
    let mut child = shell.spawn().map_err(|error| {
        tracing::warn!("sh: {error}");
        "cannot start".to_owned()
    })?;
    let _running = Running::add(&child);
    let stdin = child.stdin.take();
    let text = job.text.clone();
    let feed = async move {
        if let Some(mut stdin) = stdin {
            // A program that does not read all of it may still be content.
            let _ = stdin.write_all(&text).await;
        }
    };
    let ((), status) = tokio::join!(feed, child.wait());
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(status_text(status)),
        Err(error) => Err(format!("lost: {error}")),
    }
}

#[cfg(unix)]
fn status_text(status: std::process::ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or_default()),
    }
}

#[cfg(not(unix))]
fn status_text(status: std::process::ExitStatus) -> String {
    format!("exit {}", status.code().unwrap_or_default())
}

/// The programs that run now, for an end that cannot wait.
static RUNNING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

struct Running(Option<u32>);

impl Running {
    fn add(child: &Child) -> Self {
        let id = child.id();
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).extend(id);
        Self(id)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(id) = self.0 {
            RUNNING.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        }
    }
}

/// Kills every program that runs now, with what it has started.
pub fn kill_running() {
    let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    for id in running.iter() {
        #[cfg(unix)]
        if let Some(group) = i32::try_from(*id).ok().and_then(rustix::process::Pid::from_raw) {
            // One that has ended meanwhile cannot be killed, and need not be.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        #[cfg(not(unix))]
        let _ = id;
    }
}

#[cfg(all(test, unix))]
mod tests {
    use tokio::sync::RwLock;

    use super::*;

    fn job(seq: Seq, text: &'static str) -> Job {
        let (from, group) = ("~ana".to_owned(), "ops".to_owned());
        Job { seq, from, group, text: Bytes::from_static(text.as_bytes()) }
    }

    /// The end of one runner kills every program of this process: that test runs alone.
    static ALONE: RwLock<()> = RwLock::const_new(());

    #[tokio::test]
    async fn the_program_is_told_all_and_its_end_is_told() {
        let _others = ALONE.read().await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("said");
        let command = format!(
            "printf '%s %s %s ' $TERTULIA_SEQ $TERTULIA_FROM $TERTULIA_GROUP >>'{0}'; cat >>'{0}'",
            file.display()
        );
        let mut runner = Runner::new(&command, 1, false);
        runner.start(job(7, "hola"));
        assert!(!runner.has_room());
        assert_eq!(runner.next().await, Some((7, Ran::Done)));
        assert_eq!(std::fs::read_to_string(file).unwrap(), "7 ~ana ops hola");
        assert_eq!(runner.next().await, None);
    }

    #[tokio::test]
    async fn a_failing_program_is_run_three_times() {
        let _others = ALONE.read().await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tries");
        let mut runner = Runner::new(&format!("echo >>'{}'; exit 7", file.display()), 4, false);
        runner.start(job(1, ""));
        assert_eq!(runner.next().await, Some((1, Ran::Failed("exit 7".into()))));
        assert_eq!(std::fs::read_to_string(file).unwrap().lines().count(), 3);
        let mut runner = Runner::new("kill -9 $$", 4, false);
        runner.start(job(1, ""));
        assert_eq!(runner.next().await, Some((1, Ran::Failed("signal 9".into()))));
    }

    #[tokio::test]
    async fn a_slow_one_holds_no_other_up_and_a_text_may_go_unread() {
        let _others = ALONE.read().await;
        let mut runner = Runner::new("test $TERTULIA_SEQ != 1 || read x", 2, false);
        runner.start(job(1, "line\n"));
        runner.start(Job { text: vec![b'x'; 1 << 20].into(), ..job(2, "") });
        let mut ended = [runner.next().await, runner.next().await];
        ended.sort_by_key(|ran| ran.as_ref().map(|(seq, _)| *seq));
        assert_eq!(ended, [Some((1, Ran::Done)), Some((2, Ran::Done))]);
    }

    #[tokio::test]
    async fn nothing_is_tried_again_at_the_end() {
        let _alone = ALONE.write().await;
        let mut runner = Runner::new("exit 1", 1, false);
        runner.start(job(1, ""));
        assert_eq!(runner.end().await, [(1, Ran::Cut)]);
    }
}
