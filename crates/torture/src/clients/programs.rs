//! Real programs: `tertulia join` in the background, and `tertulia send` with one message or with many lines.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use super::desk::Desk;
use super::joins;
use crate::history::{Missing, Receipt, What};

/// How long a program may take beyond what it was told.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts the process's programs.
pub fn start(desk: &Arc<Desk>) {
    for index in 0..2 {
        let slot = format!("{}-{index}", desk.args.name);
        tokio::spawn(joins::be_for_ever(Arc::clone(desk), slot, index == 0));
    }
    tokio::spawn(single(Arc::clone(desk), format!("{}-2", desk.args.name)));
    tokio::spawn(piped(Arc::clone(desk), format!("{}-3", desk.args.name)));
}

/// A `tertulia` command that dies with this process, however that ends.
pub fn tertulia(desk: &Desk) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(&desk.args.binary);
    command.env("XDG_STATE_HOME", desk.args.folder.join("state").join(&desk.args.name));
    command.env_remove("TERTULIA_NODE");
    command.kill_on_drop(true);
    command
}

fn sending(group: &str, name: &str, text: &str) -> What {
    let (group, from, text) = (group.to_owned(), name.to_owned(), text.to_owned());
    What::Sending { group, from, outside: true, text }
}

/// `tertulia send GROUP TEXT`, one after the other.
async fn single(desk: Arc<Desk>, slot: String) {
    loop {
        desk.may_begin().await;
        let (group, name) = (desk.group(), desk.fresh(&slot));
        let text = desk.fresh(&name);
        let wait = if desk.one_in(2) { "all" } else { "stored" };
        let mut command = tertulia(&desk);
        command.args(["send", &group, &text, "--as", &name, "--json", "--timeout", "20s"]);
        command.args(["--wait", wait, "--node", &desk.args.native]);
        desk.record(sending(&group, &name, &text));
        let output = timeout(PATIENCE, command.stdin(Stdio::null()).output()).await;
        let output = output.expect("send keeps to its timeout").expect("send can be started");
        let receipt = receipts(&group, &output.stdout).pop();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        match (output.status.code(), receipt) {
            (Some(0 | 3), Some(receipt)) => {
                desk.record(What::Stored { text, seq: receipt.seq });
                desk.record(What::Receipt(receipt));
            }
            (Some(1), None) => desk.record(What::Failed { text, why: said }),
            (Some(3 | 4), None) => desk.record(What::Unknown { text, why: said }),
            (code, receipt) => panic!("send ended with {code:?} and {receipt:?}: {said}"),
        }
        desk.linger(20..300).await;
    }
}

/// `tertulia send GROUP` with a message a line; some are killed half way.
async fn piped(desk: Arc<Desk>, slot: String) {
    loop {
        desk.may_begin().await;
        let (group, name) = (desk.group(), desk.fresh(&slot));
        let mut command = tertulia(&desk);
        command.args(["send", &group, "--as", &name, "--json", "--timeout", "20s"]);
        command.args(["--node", &desk.args.native]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("send can be started");
        let mut input = child.stdin.take().expect("it is a pipe");
        let pid = child.id();
        let output = tokio::spawn(child.wait_with_output());
        let mut texts = Vec::new();
        for _ in 0..desk.draw(1..60) {
            if desk.is_paused() {
                break;
            }
            let text = desk.fresh(&name);
            desk.record(sending(&group, &name, &text));
            let written = input.write_all(format!("{text}\n").as_bytes()).await;
            texts.push(text);
            if written.is_err() {
                break;
            }
            desk.linger(5..40).await;
        }
        drop(input);
        let is_killed = desk.one_in(3);
        if let (true, Some(pid)) = (is_killed, pid.and_then(|pid| i32::try_from(pid).ok())) {
            sleep(Duration::from_millis(desk.draw(0..100))).await;
            let pid = rustix::process::Pid::from_raw(pid).expect("a process has a number");
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let output = timeout(PATIENCE, output).await.expect("send keeps to its timeout");
        let output = output.expect("it is waited for").expect("it can be waited for");
        answered(&desk, &group, texts, &output.stdout, &output.stderr, is_killed);
    }
}

/// Receipts come in the order of the lines, and an error names its line.
fn answered(
    desk: &Desk,
    group: &str,
    texts: Vec<String>,
    stdout: &[u8],
    stderr: &[u8],
    is_killed: bool,
) {
    let errors: Vec<(usize, String)> = objects(stderr)
        .filter_map(|error| {
            let error = error.get("error")?;
            let line = usize::try_from(error.get("line")?.as_u64()?).ok()?;
            Some((line, error.get("code")?.as_str()?.to_owned()))
        })
        .collect();
    let never_began = errors.is_empty() && !is_killed && stdout.is_empty();
    let why = String::from_utf8_lossy(stderr).into_owned();
    let mut receipts = receipts(group, stdout).into_iter();
    for (index, text) in texts.into_iter().enumerate() {
        let error = errors.iter().find(|(line, _)| *line == index + 1);
        match error.map(|(_, code)| code.as_str()) {
            Some("TIMED_OUT") => desk.record(What::Failed { text, why: "TIMED_OUT".to_owned() }),
            Some(code) => desk.record(What::Unknown { text, why: code.to_owned() }),
            None if never_began => desk.record(What::Failed { text, why: why.clone() }),
            None => match receipts.next() {
                Some(receipt) => {
                    desk.record(What::Stored { text, seq: receipt.seq });
                    desk.record(What::Receipt(receipt));
                }
                None => desk.record(What::Unknown { text, why: "no answer".to_owned() }),
            },
        }
    }
}

fn objects(output: &[u8]) -> impl Iterator<Item = Value> {
    output.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
}

fn receipts(group: &str, output: &[u8]) -> Vec<Receipt> {
    objects(output).filter_map(|value| receipt(group, &value)).collect()
}

fn receipt(group: &str, value: &Value) -> Option<Receipt> {
    let number = |name: &str| value.get(name)?.as_u64();
    let missing = value.get("missing")?.as_array()?.iter().map(|one| {
        let text = |name: &str| Some(one.get(name)?.as_str()?.to_owned());
        Some(Missing { name: text("name")?, why: text("why")?, code: text("code") })
    });
    Some(Receipt {
        group: group.to_owned(),
        seq: number("seq")?,
        members: number("members")? as u32,
        confirmed: number("confirmed")? as u32,
        reached: number("reached")? as u32,
        missing: Some(missing.collect::<Option<_>>()?),
    })
}
