//! The HTTP door against its own description: schemathesis asks a node whatever `/api/openapi.json` allows and forbids, as a
//! guest and as somebody who is logged in; no answer of 5xx, none that is not described.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::cargo::{self, Line};
use crate::machine;

/// The version that is installed: another one may find other things in an old commit.
const PACKAGE: &str = "schemathesis==4.32.5";
/// The binary, as the tests have built it.
const BUILD: Line = Line::new("cargo build --locked");
/// Everything that a program could be surprised by. What it sends wrongly is allowed to be taken: texts are texts.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance,response_headers_conformance,unsupported_method";
/// It has no end; what it opens with and what it refuses is tested by itself.
const ENDLESS: &str = "/api/groups/{group}/events";
/// Ends the token that the second run shows.
const LOGOUT: &str = "/api/logout";

/// Runs it with so many examples a route; `--examples N`, `--seed N`.
pub fn run(root: &Path, arguments: &[String]) -> Result<()> {
    let (mut examples, mut seed) = ("20".to_owned(), None);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("{word} what?"))?.clone();
        match word.as_str() {
            "--examples" => examples = value,
            "--seed" => seed = Some(value),
            _ => bail!("{word}: --examples N and --seed N are known"),
        }
    }
    let tool = match installed(root) {
        Ok(tool) => tool,
        Err(error) if machine::is_ci() => return Err(error),
        Err(error) => {
            println!("skipped, nothing was asked: {error:#}");
            return Ok(());
        }
    };
    BUILD.run(root)?;
    let node = Node::start(root)?;
    let token = node.log_in()?;
    for bearer in [None, Some(token)] {
        println!("as {}", if bearer.is_some() { "the administrator" } else { "a guest" });
        let mut command = Command::new(&tool);
        command
            .args(["run", &format!("http://{}/api/openapi.json", node.http), "--no-color"])
            .args(["--phases", "examples,coverage,fuzzing,stateful", "--checks", CHECKS])
            .args(["--max-examples", &examples, "--continue-on-failure"])
            .args(["--request-timeout", "20", "--exclude-path", ENDLESS])
            .args(seed.iter().flat_map(|seed| ["--seed", seed.as_str()]))
            .current_dir(node.folder.as_path())
            .env("NO_PROXY", "*");
        if let Some(token) = bearer {
            let header = format!("Authorization: Bearer {token}");
            command.args(["--header", &header, "--exclude-path", LOGOUT]);
        }
        let status = command.status().context("cannot run schemathesis")?;
        ensure!(status.success(), "the HTTP door answered what its description does not say");
    }
    node.check_well()
}

/// schemathesis in an environment of its own below `target`, made where it is not there yet.
fn installed(root: &Path) -> Result<PathBuf> {
    let folder = cargo::target(root).join("schemathesis");
    let (tool, mark) = (folder.join("bin/schemathesis"), folder.join("installed"));
    if std::fs::read_to_string(&mark).is_ok_and(|version| version == PACKAGE) {
        return Ok(tool);
    }
    println!("installing {PACKAGE} into {}, with pip", folder.display());
    // Debian's python3 is there without it, and says so only here.
    make_environment(&folder)
        .or_else(|_| machine::bring("python3-venv").and_then(|()| make_environment(&folder)))?;
    let mut pip = Command::new(folder.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", PACKAGE]);
    quiet(&mut pip, "pip")?;
    std::fs::write(&mark, PACKAGE)?;
    Ok(tool)
}

fn make_environment(folder: &Path) -> Result<()> {
    let mut command = Command::new("python3");
    quiet(command.args(["-m", "venv", "--clear"]).arg(folder), "python3 -m venv")
}

/// Runs it; what it has to say is told where it fails.
fn quiet(command: &mut Command, what: &str) -> Result<()> {
    let output = command.output().with_context(|| format!("{what} is not there"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    let last = told.lines().last().unwrap_or_default();
    ensure!(output.status.success(), "{what} failed: {last}");
    Ok(())
}

/// A node with an empty store in memory.
struct Node {
    child: Child,
    http: String,
    folder: PathBuf,
}

impl Node {
    fn start(root: &Path) -> Result<Self> {
        let folder = cargo::target(root).join("api");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)?;
        let mut child = Command::new(cargo::target(root).join("debug/tertulia"))
            .args(["serve", "--engine", "memory", "--data", "data"])
            .args(["--native-port", "0", "--line-port", "0", "--http-port", "0"])
            .current_dir(&folder)
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the node")?;
        let stdout = child.stdout.take().context("the node has no output")?;
        let mut lines = BufReader::new(stdout).lines();
        let http = loop {
            let Some(Ok(line)) = lines.next() else {
                // Not ours any more.
                let _ = child.wait();
                bail!("the node did not say where its HTTP door is");
            };
            if let Some(http) = line.strip_prefix("http") {
                break http.trim().to_owned();
            }
        };
        // What it says of who comes and goes is nobody's here, but has to be read.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { child, http, folder })
    }

    fn post(&self, path: &str, body: &str) -> Result<String> {
        let mut stream = TcpStream::connect(&self.http)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let (host, length) = (&self.http, body.len());
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.starts_with("HTTP/1.1 2"), "{path}: {answer}");
        Ok(answer)
    }

    /// A group for those who look for one, and the administrator's token.
    fn log_in(&self) -> Result<String> {
        let account = r#"{"name":"root","password":"correct horse"}"#;
        self.post("/api/register", account)?;
        self.post("/api/groups", r#"{"name":"ops"}"#)?;
        let answer = self.post("/api/login", account)?;
        let token = answer.split("\"token\":\"").nth(1).and_then(|rest| rest.split('"').next());
        Ok(token.context("no token")?.to_owned())
    }

    /// It has answered everything, and still does.
    fn check_well(mut self) -> Result<()> {
        ensure!(self.child.try_wait()?.is_none(), "the node has ended");
        self.post("/api/groups/ops/messages", r#"{"text":"still here"}"#).map(drop)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // By its id: `Child` knows whether it is still ours.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
