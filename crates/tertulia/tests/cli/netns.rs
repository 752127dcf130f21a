//! Several machines: network namespaces with cables between them, which the tests make and remove.
//!
//! Needs root and `ip`; each machine has the usual ports for itself.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use tempfile::TempDir;

use crate::programs::{Program, is_there, skipped};
use crate::support::{User, object};

/// What the relay listens on, and to where it passes on: `HOST PORT PORT…`.
const RELAY: &str = "TEST_RELAY_TO";

/// Machines, until it is dropped.
struct Net {
    /// What the names of the namespaces begin with.
    prefix: String,
    machines: Vec<&'static str>,
    user: User,
    data: TempDir,
}

impl Net {
    /// Machines without any cable; `None` where this cannot be had.
    fn new(machines: &[&'static str]) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            skipped("only root may make network namespaces");
            return None;
        }
        if !is_there("ip") {
            return None;
        }
        remove_what_was_left();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("tertulia-{}-{number}", std::process::id());
        let (user, data) = (User::new(), tempfile::tempdir().unwrap());
        let mut net = Self { prefix, machines: Vec::new(), user, data };
        for machine in machines {
            let output = ip().args(["netns", "add", &net.space(machine)]).output().unwrap();
            if !output.status.success() {
                let why = String::from_utf8_lossy(&output.stderr);
                skipped(&format!("no network namespaces: {why}"));
                return None;
            }
            net.machines.push(machine);
            net.set(machine, "link set lo up");
        }
        Some(net)
    }

    fn space(&self, machine: &str) -> String {
        format!("{}-{machine}", self.prefix)
    }

    /// `ip …` on a machine.
    #[track_caller]
    fn set(&self, machine: &str, words: &str) {
        let mut command = ip();
        command.args(["-n", &self.space(machine)]).args(words.split(' '));
        let output = command.output().unwrap();
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{machine}: ip {words}: {why}");
    }

    /// A cable between two machines; its ends are called `to-OTHER` and have these addresses (`10.0.0.1/24`).
    fn cable(&self, (a, at_a): (&str, &str), (b, at_b): (&str, &str)) {
        let space = self.space(b);
        self.set(a, &format!("link add to-{b} type veth peer name to-{a} netns {space}"));
        for (machine, other, address) in [(a, b, at_a), (b, a, at_b)] {
            self.set(machine, &format!("address add {address} dev to-{other}"));
            self.set(machine, &format!("link set to-{other} up"));
        }
    }

    /// A program on a machine.
    fn run(&self, machine: &str, program: &Command) -> Program {
        let mut command = ip();
        command.args(["netns", "exec", &self.space(machine)]);
        command.arg(program.get_program()).args(program.get_args());
        for (key, value) in program.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        Program::spawn(command)
    }

    fn tertulia(&self, machine: &str, args: &[&str]) -> Program {
        self.run(machine, &self.user.command(args))
    }

    fn nc(&self, machine: &str, host: &str) -> Program {
        let mut nc = Command::new("nc");
        nc.args([host, "5000"]);
        self.run(machine, &nc)
    }

    /// A node on the machine `server`, on the usual ports, once it is ready.
    fn serve(&self, advertise: &str) -> Program {
        self.serve_with(advertise, &[])
    }

    fn serve_with(&self, advertise: &str, more: &[&str]) -> Program {
        let data = self.data.path().to_str().unwrap();
        let all = ["serve", "--listen", "0.0.0.0", "--advertise", advertise, "--data", data];
        let server = self.tertulia("server", &[&all, more].concat());
        server.says("native  0.0.0.0:5001");
        server.says(&format!("nc {advertise} 5000"));
        server
    }

    /// A command on a machine that reads a password; the exit code and the lines.
    fn with_password(&self, machine: &str, args: &[&str]) -> (Option<i32>, Vec<String>) {
        let mut program = self.tertulia(machine, &[args, &["--password-stdin"]].concat());
        program.write("correct horse\n");
        (program.end(), program.said())
    }

    /// `curl` on a machine; the status, and what was said.
    fn curl(&self, machine: &str, args: &[&str]) -> (String, String) {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-w", "\n%{http_code}\n", "--noproxy", "*"]).args(args);
        let mut program = self.run(machine, &curl);
        program.end();
        let mut said = program.said();
        let status = said.pop().unwrap_or_default();
        (status, said.join("\n"))
    }

    /// A member on a machine, once it is one.
    fn join(&self, machine: &str, name: &str, node: &str) -> Program {
        let member = self.tertulia(machine, &["join", "ops", "--name", name, "--node", node]);
        member.says(&format!("joined ops as {name}"));
        member
    }

    /// Sends from a machine; the exit code and the lines.
    fn send(&self, machine: &str, node: &str, more: &[&str]) -> (Option<i32>, Vec<String>) {
        let mut args = vec!["send", "ops", "--node", node, "--as", "marta"];
        args.extend(more);
        let mut sender = self.tertulia(machine, &args);
        let code = sender.end();
        (code, sender.said())
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for machine in &self.machines {
            // Its cables go with it.
            let removed = ip().args(["netns", "delete", &self.space(machine)]).status();
            if !removed.is_ok_and(|status| status.success()) {
                eprintln!("{} is left behind", self.space(machine));
            }
        }
    }
}

/// Namespaces of tests that were killed before they could remove them.
fn remove_what_was_left() {
    let listed = ip().args(["netns", "list"]).output().unwrap().stdout;
    for line in String::from_utf8_lossy(&listed).lines() {
        let space = line.split(' ').next().unwrap();
        let pid = space.strip_prefix("tertulia-").and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Another test may be faster.
            let _ = ip().args(["netns", "delete", space]).stderr(Stdio::null()).status();
        }
    }
}

fn ip() -> Command {
    Command::new("ip")
}

/// Who listens on 0.0.0.0 is reached from another computer, and both sides write.
#[test]
fn two_computers_chat_over_the_line_door() {
    let Some(net) = Net::new(&["server", "other"]).filter(|_| is_there("nc")) else { return };
    net.cable(("server", "10.77.0.1/24"), ("other", "10.77.0.2/24"));
    let server = net.serve("10.77.0.1");
    let mut ana = net.nc("server", "127.0.0.1");
    ana.write("JOIN ana\n");
    ana.says("OK JOIN ana lobby");
    let mut luis = net.nc("other", "10.77.0.1");
    luis.write("JOIN luis\n");
    luis.says("OK JOIN luis lobby");
    assert_eq!(server.says("joined lobby luis"), "joined lobby luis 10.77.0.2 line");
    ana.write("MSG hola\n");
    assert!(luis.says("MSG").ends_with(" ana hola"));
    luis.write("MSG ¿qué tal?\n");
    assert!(ana.says("¿qué tal?").starts_with("MSG "));
    luis.kill();
    assert!(ana.says("LEFT").ends_with(" luis lost"));
    server.says("left lobby luis lost");
}

/// What was sent while a cable was out arrives once it is in again: once, and confirmed.
#[test]
fn a_cable_is_pulled_and_put_back() {
    let Some(net) = Net::new(&["server", "other"]) else { return };
    net.cable(("server", "10.77.0.1/24"), ("other", "10.77.0.2/24"));
    let _server = net.serve("10.77.0.1");
    let ana = net.join("other", "ana", "10.77.0.1");
    let eva = net.join("server", "eva", "127.0.0.1");
    let (code, said) = net.send("server", "127.0.0.1", &["before"]);
    assert_eq!(code, Some(0), "{said:?}");
    net.set("other", "link set to-server down");
    let (code, said) = net.send("server", "127.0.0.1", &["during", "--timeout", "300ms", "--json"]);
    assert_eq!(code, Some(3), "{said:?}");
    let receipt = object(&said[0]);
    assert_eq!(receipt["missing"], serde_json::json!([{"name": "ana", "why": "pending"}]));
    eva.says("during");
    net.set("other", "link set to-server up");
    let seq = receipt["seq"].to_string();
    let mut asked = net.tertulia("server", &["receipt", "ops", &seq, "--wait", "25s"]);
    assert_eq!(asked.end(), Some(0), "{:?}", asked.said());
    let (code, said) = net.send("other", "10.77.0.1", &["after"]);
    assert_eq!(code, Some(0), "{said:?}");
    ana.says("after");
    let said = ana.said();
    let texts: Vec<&str> =
        said.iter().filter_map(|line| line.split_once(" ~marta: ")).map(|(_, text)| text).collect();
    assert_eq!(texts, ["before", "during", "after"]);
}

/// One server, two clients on other computers, one open port.
#[test]
fn three_machines_write_to_each_other() {
    let Some(net) = Net::new(&["server", "one", "two"]) else { return };
    net.cable(("server", "10.77.1.1/24"), ("one", "10.77.1.2/24"));
    net.cable(("server", "10.77.2.1/24"), ("two", "10.77.2.2/24"));
    // The advertised address is another one than `two` dials.
    net.set("two", "route add 10.77.1.0/24 via 10.77.2.1");
    let server = net.serve("10.77.1.1");
    let chat =
        |machine, name, node| net.tertulia(machine, &["chat", "--name", name, "--node", node]);
    let mut ana = chat("one", "ana", "10.77.1.1");
    assert_eq!(server.says("joined"), "joined lobby ana 10.77.1.2 native");
    let mut luis = chat("two", "luis", "10.77.2.1:5001");
    assert_eq!(server.says("joined"), "joined lobby luis 10.77.2.2 native");
    ana.says("luis joined");
    ana.write("hola\n");
    luis.says(" ana: hola");
    luis.write("¿qué tal?\n");
    ana.says(" luis: ¿qué tal?");
    let _member = net.join("one", "eva", "10.77.1.1");
    let (code, said) = net.send("two", "10.77.2.1", &["hola", "--expect", "1"]);
    assert_eq!(code, Some(0), "{said:?}");
    assert_eq!(luis.end(), Some(0));
    ana.says("luis left (exit)");
}

/// As behind a router or in a cloud: the address that clients know is on none of the server's interfaces.
#[test]
fn the_public_address_may_be_on_no_interface_of_the_server() {
    let Some(net) = Net::new(&["server", "router", "client"]) else { return };
    net.cable(("server", "10.77.3.1/24"), ("router", "10.77.3.2/24"));
    net.cable(("router", "10.77.4.1/24"), ("client", "10.77.4.2/24"));
    net.set("router", "address add 203.0.113.7/32 dev lo");
    net.set("client", "route add 203.0.113.7/32 via 10.77.4.1");
    let server = net.serve("203.0.113.7");
    let mut relay = Command::new(std::env::current_exe().unwrap());
    relay.args(["--exact", "netns::relay", "--ignored", "--nocapture"]);
    relay.env(RELAY, "10.77.3.1 5001 5000");
    let relay = net.run("router", &relay);
    relay.says("relaying");

    let mut ana = net.join("client", "ana", "203.0.113.7");
    server.says("joined ops ana 10.77.3.2 native");
    let mut groups = net.tertulia("client", &["groups", "--json", "--node", "203.0.113.7"]);
    assert_eq!(groups.end(), Some(0), "{:?}", groups.said());
    let ops = groups.said().iter().map(|line| object(line)).find(|group| group["group"] == "ops");
    assert_eq!(ops.unwrap()["coordinator"], "203.0.113.7:5001");
    // Who asks at another address of the router is sent to the public one, and gets through.
    let (code, said) = net.send("client", "10.77.4.1", &["hola", "-v"]);
    assert_eq!(code, Some(0), "{said:?}");
    let located = "directory: ops is coordinated at 203.0.113.7:5001";
    assert!(said.iter().any(|line| line.starts_with(located)), "{said:?}");
    ana.says("~marta: hola");
    if is_there("nc") {
        let mut luis = net.nc("client", "203.0.113.7");
        luis.write("JOIN luis ops\n");
        luis.says("OK JOIN luis ops");
        ana.says("luis joined");
        let mut chat =
            net.tertulia("client", &["chat", "ops", "--name", "eva", "--node", "203.0.113.7"]);
        luis.says("JOINED");
        chat.write("¿qué tal?\n");
        assert!(luis.says("MSG").ends_with(" eva ¿qué tal?"));
    }
    ana.kill();
}

/// What a node that logs JSON was asked over HTTP: `METHOD ROUTE STATUS`.
pub fn rest_calls(lines: &[String]) -> BTreeSet<String> {
    let parsed = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let answered = parsed.filter(|line| line["message"] == "answered");
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    answered
        .map(|line| ["method", "route", "status"].map(|field| text(&line[field])).join(" "))
        .collect()
}

/// What a peer was asked over gRPC, of what it may be asked: `METHOD from ADDRESS`.
pub fn grpc_calls(lines: &[String]) -> BTreeSet<String> {
    let called = lines.iter().filter(|line| line.contains("called over gRPC"));
    let allowed = called.filter(|line| line.contains("may=true"));
    allowed
        .map(|line| {
            let field = |name: &str| {
                let rest = line.split(name).nth(1).unwrap_or_else(|| panic!("{name}: {line}"));
                rest.split_whitespace().next().unwrap_or_default().trim_matches('"').to_owned()
            };
            format!("{} from {}", field("method="), field("address="))
        })
        .collect()
}

/// Two users on two computers, and the node on a third: REST over TLS to the node, gRPC over TLS between the peers.
#[test]
fn two_computers_share_files_and_a_third_one_knows_where_they_are() {
    let Some(net) = Net::new(&["server", "one", "two"]) else { return };
    net.cable(("server", "10.77.1.1/24"), ("one", "10.77.1.2/24"));
    net.cable(("server", "10.77.2.1/24"), ("two", "10.77.2.2/24"));
    net.cable(("one", "10.77.3.1/24"), ("two", "10.77.3.2/24"));
    net.set("two", "route add 10.77.1.0/24 via 10.77.2.1");
    let log = ["--http-port", "5080", "--tls-self", "--log-format", "json", "-vv"];
    let server = net.serve_with("10.77.1.1", &log);
    let node = "tls://10.77.1.1:5001";
    // Each has a home, and so a login, of its own.
    let homes = [User::new(), User::new()];
    let run = |at: usize, args: &[&str]| net.run(["one", "two"][at], &homes[at].command(args));
    let peer = |at: usize, host: &str, port: &str| {
        let folder = homes[at].home.path().join("shared");
        let folder = folder.to_str().unwrap().to_owned();
        let place = ["--listen", "0.0.0.0", "--advertise", host, "--port", port];
        run(at, &[&["peer", "-vv", "--folder", &folder, "--node", node][..], &place].concat())
    };
    let log_in = |at: usize, name: &str, port: &str| {
        let own = format!("127.0.0.1:{port}");
        for command in ["register", "login"] {
            let mut program = run(at, &[command, name, "--password-stdin", "--peer", &own]);
            program.write("correct horse\n");
            assert_eq!(program.end(), Some(0), "{command}: {:?}", program.said());
        }
    };
    let ana = peer(0, "10.77.3.1", "50051");
    ana.says("peer    0.0.0.0:50051");
    // His port is taken: his peer is at the next one.
    let other = tempfile::tempdir().unwrap();
    let other = other.path().to_str().unwrap();
    let at = ["--listen", "0.0.0.0", "--native-port", "50051", "--no-line", "--http-port", "0"];
    let taken = run(1, &[&["serve", "--data", other][..], &at].concat());
    taken.says("native  0.0.0.0:50051");
    let luis = peer(1, "10.77.3.2", "50051");
    luis.says("peer    0.0.0.0:50052  (port 50051 is taken)");
    log_in(0, "ana", "50051");
    log_in(1, "luis", "50052");
    ana.says("announced as ana at 10.77.3.1:50051");
    luis.says("announced as luis at 10.77.3.2:50052");
    let done = |at: usize, args: &[&str]| {
        let mut program = run(at, &[&["files"], args].concat());
        (program.end(), program.said().join("\n"))
    };
    let path = homes[0].home.path().join("acta.txt");
    std::fs::write(&path, "hola").unwrap();
    let (code, said) = done(0, &["save", path.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    let (_, listed) = done(1, &["peers"]);
    assert!(listed.contains("10.77.3.1:50051") && listed.contains("10.77.3.2:50052"), "{listed}");
    ana.says("with 1 file");
    let (code, found) = done(1, &["search", "acta"]);
    assert!(code == Some(0) && found.contains("acta.txt"), "{found}");
    let to = homes[1].home.path().join("acta.txt");
    let (code, got) = done(1, &["get", "acta.txt", "-o", to.to_str().unwrap()]);
    assert!(code == Some(0) && got.contains("from ana (4 B)"), "{got}");
    assert_eq!(std::fs::read_to_string(&to).unwrap(), "hola");
    // No cable, no file: it comes from peer to peer, and the node has never had it.
    std::fs::remove_file(&to).unwrap();
    net.set("one", "link set to-two down");
    let (code, said) = done(1, &["get", "acta.txt", "-o", to.to_str().unwrap()]);
    assert!(code == Some(1) && said.contains("nobody is left who has it"), "{said}");
    let mut out = run(1, &["logout", "--peer"]);
    assert_eq!(out.end(), Some(0), "{:?}", out.said());
    let (code, said) = done(1, &["search", "acta"]);
    assert!(code == Some(1) && said.contains("log in first"), "{said}");
    // By what they have logged: the node was asked over REST, the peers over gRPC, and one peer by the other for the content.
    let asked = rest_calls(&server.said());
    for call in [
        "POST /api/register 201",
        "POST /api/login 200",
        "GET /api/whoami 200",
        "GET /api/peers/key 200",
        "PUT /api/peers/me 200",
        "POST /api/files 200",
        "GET /api/peers 200",
        "GET /api/files 200",
        "GET /api/files/{hash}/holders 200",
        "POST /api/capabilities 200",
        "POST /api/logout 204",
    ] {
        assert!(asked.contains(call), "{call}: {asked:?}");
    }
    assert!(!asked.contains("GET /api/files/{hash} 200"), "a content came through the node");
    let own = ["Register", "Login", "SaveFile"].map(|method| format!("{method} from 127.0.0.1"));
    let between = ["Pieces from 10.77.3.2".to_owned()];
    assert_eq!(grpc_calls(&ana.said()), own.into_iter().chain(between).collect());
    let own = ["Register", "Login", "Peers", "Search", "Sources", "Logout"];
    assert_eq!(
        grpc_calls(&luis.said()),
        own.iter().map(|method| format!("{method} from 127.0.0.1")).collect()
    );
}

/// Passwords and tokens are taken from another machine over TLS only; told plainly where they are not.
#[test]
fn credentials_of_other_machines_are_taken_over_tls_only() {
    let Some(net) = Net::new(&["server", "other"]) else { return };
    net.cable(("server", "10.77.0.1/24"), ("other", "10.77.0.2/24"));
    let http = ["--http-port", "5080", "--tls-self"];
    let mut server = net.serve_with("10.77.0.1", &http);
    assert!(server.said().contains(&"  tertulia join --node tls://10.77.0.1:5001".to_owned()));
    let (plain, tls) = ("10.77.0.1:5001", "tls://10.77.0.1:5001");

    // Guests need no credentials, and come in plain as before.
    let luis = net.join("other", "luis", plain);
    let (code, said) = net.with_password("other", &["register", "ana", "--node", plain]);
    assert_eq!(code, Some(1), "{said:?}");
    assert!(said.iter().any(|line| line.contains("dial tls://10.77.0.1:5001")), "{said:?}");
    for command in ["register", "login"] {
        let (code, said) = net.with_password("other", &[command, "ana", "--node", tls]);
        assert_eq!(code, Some(0), "{command}: {said:?}");
    }
    let who = |node| {
        let mut who = net.tertulia("other", &["whoami", "--node", node]);
        (who.end(), who.said().join(" "))
    };
    assert!(who(tls).1.starts_with("ana"));
    let (code, said) = who(plain);
    assert!(code == Some(1) && said.contains("tokens are not sent there"), "{said}");
    let ana = net.join("other", "ana", tls);
    let (code, said) = net.send("server", "127.0.0.1", &["hola", "--expect", "2"]);
    assert_eq!(code, Some(0), "{said:?}");
    ana.says("hola");
    luis.says("hola");

    if is_there("curl") {
        let at = |scheme: &str, path: &str| format!("{scheme}://10.77.0.1:5080/api/{path}");
        let json = ["-k", "-H", "Content-Type: application/json", "-d"];
        let body = r#"{"name":"eva","password":"correct horse"}"#;
        for path in ["register", "login"] {
            let ask = |scheme| net.curl("other", &[&json[..], &[body, &at(scheme, path)]].concat());
            let (status, problem) = ask("http");
            assert_eq!(status, "403", "{problem}");
            assert!(problem.contains("https://"), "{problem}");
            let (status, answer) = ask("https");
            assert!(status == "201" || status == "200", "{status} {answer}");
            if path == "login" {
                let token = object(&answer)["token"].as_str().unwrap().to_owned();
                for shown in
                    [format!("Authorization: Bearer {token}"), format!("Cookie: tertulia={token}")]
                {
                    let ask =
                        |scheme| net.curl("other", &["-k", "-H", &shown, &at(scheme, "whoami")]);
                    let (status, problem) = ask("http");
                    assert!(status == "403" && problem.contains("https://"), "{status} {problem}");
                    let (status, answer) = ask("https");
                    assert_eq!(
                        (&*status, &object(&answer)["name"]),
                        ("200", &"eva".into()),
                        "{shown}"
                    );
                }
            }
        }
    }
    if is_there("nc") {
        let pass = |machine, host, wanted: &str| {
            let mut nc = net.nc(machine, host);
            nc.write("PASS correct horse\n");
            nc.says(wanted);
            nc.write("TOKEN tt_nonsense\n");
            nc.says("ERR DENIED");
        };
        pass("other", "10.77.0.1", "ERR DENIED passwords and tokens are taken over TLS");
        pass("server", "127.0.0.1", "OK PASS");
        server.kill();
        let _told_otherwise = net.serve_with("10.77.0.1", &["--insecure-line-logins"]);
        pass("other", "10.77.0.1", "OK PASS");
    }
}

/// Passes connections on, on a machine of its own, until it is killed.
#[test]
#[ignore = "a program that a test above starts"]
fn relay() {
    let Ok(to) = std::env::var(RELAY) else { return };
    let mut words = to.split(' ');
    let host = words.next().unwrap().to_owned();
    let ports: Vec<u16> = words.map(|port| port.parse().unwrap()).collect();
    let mut threads = Vec::new();
    for port in ports {
        let listener = TcpListener::bind(("0.0.0.0", port)).unwrap();
        let host = host.clone();
        threads.push(std::thread::spawn(move || {
            for here in listener.incoming() {
                let (here, there) = (here.unwrap(), TcpStream::connect((&*host, port)).unwrap());
                pass_on(here.try_clone().unwrap(), there.try_clone().unwrap());
                pass_on(there, here);
            }
        }));
    }
    println!("relaying");
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn pass_on(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let mut bytes = [0; 16 << 10];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            if to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}
