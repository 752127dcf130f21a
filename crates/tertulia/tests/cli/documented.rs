//! What the documents show works as it is written there: the member in `docs/protocol.md`, the README's session with `curl`.

use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::programs::{Program, is_there};
use crate::support::{Node, free_port, object};

const PROTOCOL: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol.md"));

#[test]
fn the_member_in_python_joins_prints_and_confirms() {
    if !is_there("python3") {
        return;
    }
    let (_, after) = PROTOCOL.split_once("```python\n").unwrap();
    let (program, _) = after.split_once("```\n").unwrap();
    let node = Node::start();
    let file = node.user.home.path().join("member.py");
    std::fs::write(&file, program).unwrap();
    let (host, port) = node.native.rsplit_once(':').unwrap();
    let mut command = Command::new("python3");
    command.arg(&file).args(["ops", "ana", host, port]);
    let mut ana = Program::spawn(command);
    ana.says("* joined");
    node.process.says("joined ops ana 127.0.0.1 native");

    let args = ["send", "ops", "¿qué tal?", "--as", "marta", "--expect", "1"];
    let sent = node.run(&args).expect(0).stdout();
    assert!(sent.starts_with("delivered 1/1 in "), "{sent}");
    assert!(ana.says("marta").ends_with(" ~marta: ¿qué tal?"));
    let members = node.run(&["members", "ops", "--json"]).expect(0).objects();
    assert_eq!((&members[0]["name"], &members[0]["door"]), (&"ana".into(), &"native".into()));
    let eva = node.join(&["ops", "--name", "eva"]);
    ana.says("* eva joined");
    drop(eva);

    let mut command = Command::new("python3");
    command.arg(&file).args(["ops", "ANA", host, port]);
    let mut other = Program::spawn(command);
    // NAME_TAKEN, in the protocol's numbers.
    other.says("code 6: ");
    assert_eq!(other.end(), Some(1));
    node.run(&["remove", "ops", "ana"]).expect(0);
    ana.says("code 27: ");
    assert_eq!(ana.end(), Some(1));
}

/// A command of a README, and what it printed.
struct Step {
    command: String,
    printed: Vec<String>,
}

/// The session with `curl` in a README.
fn session(readme: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let (_, section) = readme.split_once("\n### ").unwrap();
    let section =
        section.split("\n### ").find(|section| section.contains("/api/register")).unwrap();
    for block in section.split("```text\n").skip(1) {
        for line in block.split("```").next().unwrap().lines() {
            match line.strip_prefix("$ ") {
                Some(command) => {
                    let command = command.to_owned();
                    steps.push(Step { command, printed: Vec::new() });
                }
                None => steps.last_mut().unwrap().printed.push(line.to_owned()),
            }
        }
    }
    steps
}

/// A line without what is another each time: how long it took, when, in which log.
fn lasting(line: &str) -> String {
    if let Some(id) = line.strip_prefix("id: ") {
        return format!("id: {}", id.split_once('-').unwrap().1);
    }
    let (lead, rest) = line.split_at(line.find('{').unwrap_or(line.len()));
    let (json, tail) = rest.rsplit_once('}').unwrap_or_default();
    if json.is_empty() {
        return line.to_owned();
    }
    let mut said = object(&format!("{json}}}"));
    for key in ["elapsed_ms", "time", "log"] {
        if let Some(value) = said.get_mut(key) {
            *value = Value::Null;
        }
    }
    format!("{lead}{said}{tail}")
}

#[track_caller]
fn compare(step: &Step, printed: &[String]) {
    let lasting = |lines: &[String]| lines.iter().map(|line| lasting(line)).collect::<Vec<_>>();
    assert_eq!(lasting(printed), lasting(&step.printed), "{}", step.command);
}

/// Does all that a README shows with `curl`, in its order, and compares.
fn go_through(readme: &str) {
    if !is_there("curl") || !is_there("bash") {
        return;
    }
    let (native, http) = (free_port().to_string(), free_port().to_string());
    let ports = ["--native-port", native.as_str(), "--http-port", http.as_str()];
    let mut node = Node::start_with(&ports);
    let eva = node.join(&["ops", "--name", "eva"]);
    let bash = |line: &str| {
        let line = line.replace("localhost:5080", &format!("localhost:{http}"));
        let mut command = Command::new("bash");
        command.args(["-c", &line]).env("no_proxy", "*");
        command
    };
    let run = |line: &str| {
        let out = bash(line).output().unwrap();
        let told = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{line}: {told}");
        String::from_utf8(out.stdout).unwrap()
    };
    let (mut token, mut last_id) = (String::new(), String::new());
    let steps = session(readme);
    assert_eq!(steps.len(), 11);
    for step in &steps {
        let command = format!("token={token}; {}", step.command);
        if let Some(line) = step.command.strip_prefix("token=") {
            token = run(&format!("echo {line}")).trim().to_owned();
            assert!(token.starts_with("tt_"), "{token}");
        } else if step.command.contains("timeout=1s") {
            eva.freeze();
            compare(step, &run(&command).lines().map(str::to_owned).collect::<Vec<_>>());
            eva.signal(Signal::CONT);
        } else if step.command.contains("curl -N") {
            let resumes = step.command.contains("Last-Event-ID");
            let mut command = step.command.clone();
            if resumes {
                let (before, after) = command.split_once("Last-Event-ID: ").unwrap();
                let (_, after) = after.split_once('\'').unwrap();
                command = format!("{before}Last-Event-ID: {last_id}'{after}");
                node.process.end_by(Signal::TERM, 0);
                let data = node.data.path().to_str().unwrap().to_owned();
                node.process = crate::support::serve(&node.user, &data, &ports);
            }
            let mut following =
                Program::spawn(bash(&format!("exec {}", command.replace("-N", "-sN"))));
            if !resumes {
                last_id = following.says("id: ").trim_start_matches("id: ").to_owned();
                run("curl -s -d 'and again' localhost:5080/api/groups/ops/messages");
            }
            let last = step.printed.iter().rev().find(|line| !line.is_empty()).unwrap();
            following.says(if resumes {
                "and again"
            } else {
                "data: {\"group\":\"ops\",\"seq\":6"
            });
            assert!(last.starts_with("data: "), "{last}");
            // The empty line after it.
            following.says("");
            following.kill();
            compare(step, &following.said());
        } else {
            compare(step, &run(&command).lines().map(str::to_owned).collect::<Vec<_>>());
        }
    }
}

#[test]
fn the_session_with_curl_goes_as_the_readme_says() {
    go_through(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md")));
}

#[test]
fn the_session_with_curl_goes_as_the_spanish_readme_says() {
    go_through(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.es.md")));
}
