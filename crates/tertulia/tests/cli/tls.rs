//! TLS with the real binary: whom a client trusts, certificates that change, what `serve` makes of its files, and `curl`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustix::process::Signal;

use crate::programs::is_there;
use crate::support::{Node, User, free_port, object, serve};

const FIRST_TIME: &str = "is met for the first time";

/// The fingerprint that a node has printed at its start.
#[track_caller]
fn printed(said: &str) -> String {
    let at = said.find("sha256:").unwrap_or_else(|| panic!("no fingerprint in {said}"));
    said[at..].chars().take_while(|c| !c.is_whitespace()).collect()
}

fn tls(address: &str) -> String {
    format!("tls://{address}")
}

fn port_of(address: &str) -> String {
    address.rsplit(':').next().unwrap().to_owned()
}

/// A node with TLS whose native port is the same after it has been started again.
fn tls_node() -> Node {
    Node::start_with(&["--native-port", &free_port().to_string(), "--tls-self"])
}

/// Starts it again with TLS, on `data`.
fn again(node: &mut Node, data: &Path) {
    let port = port_of(&node.native);
    let args = ["--native-port", &port, "--tls-self"];
    node.process = serve(&node.user, data.to_str().unwrap(), &args);
    // The line of TLS is among those that come after the first.
    node.process.says("tls ");
}

fn known_nodes(user: &User) -> PathBuf {
    user.home.path().join(".config/tertulia/known_nodes")
}

/// A certificate and its key in PEM, on disk.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn args(&self) -> [&str; 4] {
        let (certificate, key) = (self.certificate.to_str().unwrap(), self.key.to_str().unwrap());
        ["--tls-cert", certificate, "--tls-key", key]
    }

    fn write(&self, certificate: &str, key: &str) {
        std::fs::write(&self.certificate, certificate).unwrap();
        std::fs::write(&self.key, key).unwrap();
    }

    /// A new certificate that nobody vouches for.
    fn renew(&self) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        self.write(&params.self_signed(&key).unwrap().pem(), &key.serialize_pem());
    }

    fn new(folder: &Path) -> Self {
        let files = Self { certificate: folder.join("cert.pem"), key: folder.join("key.pem") };
        files.renew();
        files
    }
}

#[test]
fn the_first_certificate_is_known_from_then_on_and_another_is_refused_loudly() {
    let mut node = tls_node();
    node.process.says("tls ");
    let (first, address) = (printed(&node.process.said()), tls(&node.native));
    let groups = |user: &User| user.run(&["groups", "--json", "--node", &address]);
    let met = groups(&node.user).expect(0);
    for part in [FIRST_TIME, &first, known_nodes(&node.user).to_str().unwrap()] {
        assert!(met.stderr().contains(part), "{}", met.stderr());
    }
    assert_eq!(met.objects().len(), 0, "nothing but objects on standard output");
    assert_eq!(groups(&node.user).expect(0).stderr(), "", "told once");
    let line = std::fs::read_to_string(known_nodes(&node.user)).unwrap();
    assert_eq!(line, format!("{} {first}\n", node.native));
    let mode = std::fs::metadata(known_nodes(&node.user)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // A member that is there when the certificate changes ends too, and nothing is said to the other node.
    let mut member = node.user.spawn(&["join", "ops", "--name", "ana", "--node", &address]);
    member.notes("joined ops as ana");
    node.process.end_by(Signal::TERM, 0);
    let other = tempfile::tempdir().unwrap();
    again(&mut node, other.path());
    let second = printed(&node.process.said());
    assert_ne!(first, second);
    member.notes("THE CERTIFICATE HAS CHANGED");
    assert_eq!(member.end().code(), Some(1));
    for args in [&["groups"][..], &["send", "ops", "hola"], &["join", "ops"], &["status"]] {
        let refused = node.user.run(&[args, &["--json", "--node", &address]].concat()).expect(1);
        assert_eq!(refused.stdout(), "");
        let error = object(&refused.stderr());
        assert_eq!(error["error"]["code"], "CERTIFICATE_CHANGED", "{args:?}");
        let message = error["error"]["message"].as_str().unwrap();
        let file = known_nodes(&node.user);
        for part in [&first, &second, file.to_str().unwrap(), "line 1"] {
            assert!(message.contains(part), "{message}");
        }
    }
    // Who looks is told what to do, does it, and is known again.
    std::fs::write(known_nodes(&node.user), "").unwrap();
    assert!(groups(&node.user).expect(0).stderr().contains(&second));
    // Plain goes on beside it, on the same port.
    node.run(&["status"]).expect(0);
}

#[test]
fn what_a_node_makes_for_itself_is_private_and_stays_over_restarts() {
    let mut node = tls_node();
    node.process.says("tls ");
    let first = printed(&node.process.said());
    let (certificate, key) =
        (node.data.path().join("tls-cert.pem"), node.data.path().join("tls-key.pem"));
    for file in [&certificate, &key] {
        let mode = std::fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
    let data = node.data.path().to_owned();
    node.kill();
    again(&mut node, &data);
    assert_eq!(printed(&node.process.said()), first);
    node.kill();
    // Half of it is not made anew behind the operator's back: clients know the certificate.
    std::fs::remove_file(&key).unwrap();
    let data_dir = data.to_str().unwrap();
    let serve = ["serve", "--data", data_dir, "--tls-self", "--native-port", "0", "--no-line"];
    let refused = node.user.run(&[&serve[..], &["--no-http"]].concat()).expect(1);
    assert!(refused.stderr().contains("tls-key.pem"), "{}", refused.stderr());
    std::fs::remove_file(&certificate).unwrap();
    again(&mut node, &data);
    assert_ne!(printed(&node.process.said()), first);
}

#[test]
fn a_fingerprint_that_is_given_is_the_only_one_that_counts() {
    let node = tls_node();
    node.process.says("tls ");
    let right = printed(&node.process.said());
    let wrong = format!("sha256:{}", "0".repeat(64));
    let digits = right.trim_start_matches("sha256:").to_uppercase();
    let bytes: Vec<&str> = (0..64).step_by(2).map(|at| &digits[at..at + 2]).collect();
    // Also as openssl and browsers show it.
    for print in [&right, &bytes.join(":")] {
        let ended = node.run(&["status", "--tls-fingerprint", print]).expect(0);
        assert_eq!(ended.stderr(), "");
    }
    let refused = node.run(&["status", "--json", "--tls-fingerprint", &wrong]).expect(1);
    let error = object(&refused.stderr());
    assert_eq!(error["error"]["code"], "NOT_TRUSTED");
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains(&right) && message.contains(&wrong), "{message}");
    let by_variable = |print: &str| {
        let mut command = node.user.command(&["status", "--node", &node.native]);
        command.env("TERTULIA_TLS_FINGERPRINT", print).output().unwrap().status.code()
    };
    assert_eq!((by_variable(&right), by_variable(&wrong)), (Some(0), Some(1)));
    assert_eq!(by_variable("sha256:12"), Some(2));
    node.run(&["status", "--tls-fingerprint", "sha256:12"]).expect(2);
    assert!(!known_nodes(&node.user).exists(), "nothing is to be remembered");
}

#[test]
fn an_authority_that_the_system_knows_is_enough_for_the_names_it_vouches_for() {
    let folder = tempfile::tempdir().unwrap();
    let files =
        Files { certificate: folder.path().join("c.pem"), key: folder.path().join("k.pem") };
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, authority.self_signed(&authority_key).unwrap().pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let signed = params.signed_by(&key, &Issuer::new(authority, authority_key)).unwrap();
    files.write(&signed.pem(), &key.serialize_pem());
    let node = Node::start_with(&files.args());
    let status = |host: &str, roots: Option<&Path>| {
        let address = format!("tls://{host}:{}", port_of(&node.native));
        let mut command = node.user.command(&["status", "--node", &address]);
        command.env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR");
        if let Some(roots) = roots {
            command.env("SSL_CERT_FILE", roots);
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(status("localhost", Some(&roots)), "");
    assert!(!known_nodes(&node.user).exists());
    assert!(status("127.0.0.1", Some(&roots)).contains(FIRST_TIME), "not a name of it");
    assert!(status("localhost", None).contains(FIRST_TIME), "an authority that nobody knows");
}

#[test]
fn sighup_takes_a_new_certificate_for_new_connections_and_a_bad_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let files = Files::new(folder.path());
    let node = Node::start_with(&files.args());
    node.process.says("tls ");
    let first = printed(&node.process.said());
    let member = node.join(&["ops", "--name", "ana", "--tls-fingerprint", &first]);
    let shown = |print: &str| node.run(&["status", "--tls-fingerprint", print]).code();
    let reload = || {
        node.process.signal(Signal::HUP);
        node.process.notes("TLS: ")
    };
    let good = std::fs::read_to_string(&files.key).unwrap();
    let certificate = std::fs::read_to_string(&files.certificate).unwrap();
    let other = KeyPair::generate().unwrap().serialize_pem();
    for (certificate, key, named) in [
        ("nonsense", &*good, "cert.pem"),
        ("", &good, "cert.pem"),
        (&certificate, "nonsense", "key.pem"),
        (&certificate, &other, "the key is not that of"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &good, "cert.pem"),
    ] {
        files.write(certificate, key);
        let said = reload();
        assert!(said.contains("stays as it was") && said.contains(named), "{named}: {said}");
        assert_eq!(shown(&first), Some(0), "{named}");
    }
    std::fs::remove_file(&files.certificate).unwrap();
    assert!(reload().contains("cert.pem"));
    assert_eq!(shown(&first), Some(0));

    files.renew();
    let second = printed(&reload());
    assert_ne!(first, second);
    assert_eq!((shown(&first), shown(&second)), (Some(1), Some(0)));
    // The old connection goes on.
    node.run(&["send", "ops", "hola"]).expect(0);
    member.says("hola");
    assert!(!member.noted().contains("lost"), "{}", member.noted());
}

#[test]
fn a_member_over_tls_comes_back_after_a_crash_of_the_node_and_misses_nothing() {
    let mut node = tls_node();
    node.process.says("tls ");
    let address = tls(&node.native);
    let args = ["join", "ops", "--name", "ana", "--json", "--node", &address];
    let member = node.user.spawn(&args);
    member.notes("joined ops as ana");
    node.run(&["send", "ops", "before"]).expect(0);
    let data = node.data.path().to_owned();
    node.kill();
    member.notes("connection lost");
    again(&mut node, &data);
    node.user.run(&["send", "ops", "after", "--wait", "stored", "--node", &address]).expect(0);
    member.notes("back");
    member.says("after");
    let said: Vec<_> =
        member.said().lines().map(object).filter(|o| o["type"] == "message").collect();
    let texts: Vec<_> = said.iter().map(|o| o["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["before", "after"]);
    let long = "x".repeat(1 << 20);
    let ended = node.user.run_with(&["send", "ops", "--node", &address], &format!("{long}\n"));
    assert!(ended.expect(0).stdout().starts_with("delivered 1/1"));
    assert!(member.says(&long).contains("message"));
}

#[test]
fn what_is_no_tls_is_told_apart_from_what_is_not_trusted() {
    let plain = Node::start();
    let refused = plain.user.run(&["status", "--json", "--node", &tls(&plain.native)]).expect(1);
    let error = object(&refused.stderr());
    assert_eq!(error["error"]["code"], "NO_TLS");
    assert!(error["error"]["message"].as_str().unwrap().contains("--tls-self"), "{error}");
    // The HTTP door of a node with TLS is not its native one.
    let node = tls_node();
    let refused = node.user.run(&["status", "--json", "--node", &tls(&node.http)]).expect(1);
    assert_eq!(object(&refused.stderr())["error"]["code"], "NO_TLS");
    assert!(!known_nodes(&node.user).exists(), "{:?}", std::fs::read(known_nodes(&node.user)));
}

#[test]
fn serve_says_what_is_wrong_with_its_tls_and_takes_it_from_file_and_environment() {
    let user = User::new();
    let data = user.home.path().join("data");
    let base =
        ["serve", "--native-port", "0", "--line-port", "0", "--data", data.to_str().unwrap()];
    let files = Files::new(user.home.path());
    let args = files.args();
    for (more, code, named) in [
        (&args[..2], 2, "--tls-key"),
        (&args[2..], 2, "--tls-cert"),
        (&[&args[..], &["--tls-self"]].concat(), 2, "--tls-self"),
        (&["--tls-cert", "/nowhere/c.pem", "--tls-key", args[3]], 1, "/nowhere/c.pem"),
        (&["--tls-cert", args[1], "--tls-key", args[1]], 1, "private key"),
    ] {
        let ended = user.run(&[&base[..], more].concat()).expect(code);
        assert!(ended.stderr().contains(named), "{}", ended.stderr());
    }
    let toml = user.home.path().join("node.toml");
    std::fs::write(&toml, format!("tls_cert = {:?}\ntls-key = {:?}\n", args[1], args[3])).unwrap();
    let config = ["--config", toml.to_str().unwrap()];
    let node = serve(&user, data.to_str().unwrap(), &config);
    node.says("tls ");
    let from_file = printed(&node.said());
    drop(node);
    let mut command = user.command(&base);
    command.env("TERTULIA_TLS_SELF", "true").arg("--json");
    command.stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let ready = object(&lines.next().unwrap().unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
    let from_environment = ready["tls"].as_str().unwrap();
    assert!(from_environment.starts_with("sha256:") && from_environment != from_file);
}

#[test]
fn curl_speaks_https_on_the_port_of_http() {
    if !is_there("curl") {
        return;
    }
    let node = tls_node();
    node.process.says("tls ");
    let _member = node.join(&["ops", "--name", "ana", "--tls"]);
    let port = port_of(&node.http);
    let certificate = node.data.path().join("tls-cert.pem");
    let curl = |more: &[&str], url: &str| {
        let mut command = Command::new("curl");
        command.args(["-sS", "--noproxy", "*"]).args(more).arg(url);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let trusted = ["--cacert", certificate.to_str().unwrap()];
    let path = "/api/groups/ops/messages";
    let secure = format!("https://localhost:{port}{path}");
    for (more, url) in [
        (&trusted[..], secure.clone()),
        (&["-k"], format!("https://127.0.0.1:{port}{path}")),
        (&["-k", "--tls-max", "1.2"], secure.clone()),
        (&[], format!("http://localhost:{port}{path}")),
    ] {
        let (code, answer) = curl(&[more, &["-d", "hola"]].concat(), &url);
        assert_eq!(code, Some(0), "{url}");
        let receipt = object(&answer);
        assert_eq!((&receipt["confirmed"], &receipt["members"]), (&1.into(), &1.into()), "{url}");
    }
    // Nobody vouches for it but the operator.
    assert_eq!(curl(&[], &secure).0, Some(60));
    let answer = curl(&trusted, &format!("{secure}?limit=10")).1;
    let items = object(&answer)["items"].as_array().unwrap().clone();
    assert_eq!(items.iter().filter(|item| item["text"] == "hola").count(), 4, "{answer}");
}
