//! Accounts on the command line, and with curl alone.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::support::{Ended, Node, User, object};

const PASSWORD: &str = "correct horse\n";

/// Registers and logs in.
fn log_in(node: &Node, user: &User, name: &str) {
    let with_node = |args: &[&str]| {
        let mut all = args.to_vec();
        all.extend(["--node", &node.native]);
        user.run_with(&all, PASSWORD).expect(0)
    };
    with_node(&["register", name, "--password-stdin"]);
    let said = with_node(&["login", name, "--password-stdin"]).stdout();
    assert!(said.starts_with(&format!("logged in as {name} until 20")), "{said}");
}

fn run(node: &Node, user: &User, args: &[&str]) -> Ended {
    let mut all = args.to_vec();
    all.extend(["--node", &node.native]);
    user.run(&all)
}

/// The files of tokens below a home.
fn token_files(user: &User) -> Vec<PathBuf> {
    let folder = user.home.path().join(".config/tertulia/tokens");
    let Ok(files) = std::fs::read_dir(folder) else { return Vec::new() };
    files.map(|file| file.unwrap().path()).collect()
}

#[test]
fn register_log_in_and_out_and_who_one_is() {
    let node = Node::start();
    let user = &node.user;
    assert_eq!(node.run(&["whoami"]).expect(0).stdout(), "a guest (not logged in)\n");
    let made = node.run_with(&["register", "ana", "--password-stdin"], PASSWORD).expect(0);
    assert!(made.stdout().starts_with("registered ana, the node's administrator"));
    let again = node.run_with(&["register", "Ana", "--password-stdin", "--json"], PASSWORD);
    assert_eq!(object(&again.expect(1).stderr())["error"]["code"], "NAME_TAKEN");
    let wrong = node.run_with(&["login", "ana", "--password-stdin", "--json"], "wrong horse\n");
    assert_eq!(object(&wrong.expect(1).stderr())["error"]["code"], "NOT_LOGGED_IN");
    assert!(token_files(user).is_empty());

    node.run_with(&["login", "ana", "--password-stdin"], PASSWORD).expect(0);
    assert_eq!(node.run(&["whoami"]).expect(0).stdout(), "ana (administrator)\n");
    let me = node.run(&["whoami", "--json"]).expect(0).objects().remove(0);
    assert_eq!((&me["name"], &me["administrator"]), (&Value::from("ana"), &Value::from(true)));
    let files = token_files(user);
    assert_eq!(files.len(), 1);
    assert_eq!(std::fs::metadata(&files[0]).unwrap().permissions().mode() & 0o777, 0o600);
    let folder = std::fs::metadata(files[0].parent().unwrap()).unwrap();
    assert_eq!(folder.permissions().mode() & 0o777, 0o700);

    let kept = std::fs::read(&files[0]).unwrap();
    node.run(&["logout"]).expect(0);
    assert!(token_files(user).is_empty());
    assert_eq!(node.run(&["whoami"]).expect(0).stdout(), "a guest (not logged in)\n");
    let not = node.run(&["logout", "--json"]).expect(1);
    assert_eq!(object(&not.stderr())["error"]["code"], "NOT_LOGGED_IN");
    // A copy of the token opens nothing any more, and does not make a guest of its owner.
    std::fs::write(&files[0], kept).unwrap();
    let refused = node.run(&["groups", "--json"]).expect(1);
    assert_eq!(object(&refused.stderr())["error"]["code"], "NOT_LOGGED_IN");
    node.run(&["logout"]).expect(0);
    node.run(&["groups"]).expect(0);
}

/// Its login ends while one member has not answered: it is stored, so it is not unknown.
#[test]
fn who_logs_out_while_a_message_is_waited_for_is_told_its_number() {
    let node = Node::start();
    log_in(&node, &node.user, "ana");
    let guest = User::new();
    let join = |name| guest.spawn(&["join", "ops", "--name", name, "--node", &node.native]);
    let [eva, luis] = ["eva", "luis"].map(join);
    [&eva, &luis].iter().for_each(|member| drop(member.notes("joined ops")));
    luis.freeze();
    let mut send = node.spawn(&["send", "ops", "hola", "--timeout", "60s", "--json"]);
    eva.says("hola");
    node.run(&["logout"]).expect(0);
    assert_eq!(send.end().code(), Some(3), "{}", send.all_noted());
    let error = object(&send.all_noted())["error"].clone();
    assert_eq!((&error["code"], &error["group"]), (&"NO_RECEIPT".into(), &"ops".into()), "{error}");
    let seq = error["seq"].to_string();
    let history = node.run(&["history", "ops"]).expect(0).stdout();
    assert!(history.contains(&format!("#{seq} ")) && history.contains("~ana: hola"), "{history}");
    assert!(error["message"].as_str().unwrap().contains("log in again"), "{error}");
}

#[test]
fn a_password_is_no_argument_and_nobody_is_asked_without_a_terminal() {
    let node = Node::start();
    node.run(&["register", "ana", "correct horse"]).expect(2);
    let ended = node.run(&["register", "ana"]).expect(2);
    assert!(ended.stderr().contains("--password-stdin"), "{}", ended.stderr());
    let short = node.run_with(&["register", "ana", "--password-stdin", "--json"], "short\n");
    assert_eq!(object(&short.expect(1).stderr())["error"]["code"], "BAD_PASSWORD");
}

#[test]
fn who_is_logged_in_is_called_by_the_accounts_name_and_nobody_else_is() {
    let node = Node::start();
    log_in(&node, &node.user, "ana");
    let mut first = node.join(&["ops"]);
    let mut second = node.join(&["ops"]);
    let members = node.run(&["members", "ops", "--json"]).expect(0);
    let names: Vec<_> = members.objects().iter().map(|member| member["name"].clone()).collect();
    assert_eq!(names, ["ana", "ana-2"]);
    node.run(&["send", "ops", "hola"]).expect(0);
    assert!(first.says("hola").contains("~ana"));
    let guest = User::new();
    for args in [&["join", "ops", "--name", "ANA"][..], &["send", "ops", "x", "--as", "ana"]] {
        let refused = run(&node, &guest, &[args, &["--json"]].concat()).expect(1);
        let code = object(&refused.stderr())["error"]["code"].clone();
        assert_eq!(code, "NAME_RESERVED", "{args:?}");
    }
    // Logging out ends what the token opened.
    node.run(&["logout"]).expect(0);
    for member in [&mut first, &mut second] {
        assert_eq!(member.end().code(), Some(1), "{}", member.noted());
        assert!(member.noted().contains("log in again"), "{}", member.noted());
    }
}

#[test]
fn groups_have_rules() {
    let node = Node::start();
    let (ana, luis, guest) = (&node.user, User::new(), User::new());
    log_in(&node, ana, "ana");
    log_in(&node, &luis, "luis");
    let create = ["groups", "create", "ops", "--join", "private", "--send", "members"];
    run(&node, ana, &create).expect(0);
    let shown = run(&node, ana, &["groups", "show", "ops"]).expect(0).stdout();
    assert_eq!(shown, "ops: owner ana, join private, send members\n");
    let hidden = run(&node, &guest, &["history", "ops"]).expect(1).stderr();
    let unknown = run(&node, &guest, &["history", "spo"]).expect(1).stderr();
    assert_eq!(hidden, unknown.replace("spo", "ops"));
    assert_eq!(run(&node, &guest, &["groups", "--json"]).expect(0).stdout(), "");
    run(&node, &luis, &["send", "ops", "hola"]).expect(0);
    let refused = run(&node, &luis, &["join", "ops", "--json"]).expect(1).stderr();
    assert_eq!(object(&refused)["error"]["code"], "DENIED");
    run(&node, &luis, &["groups", "set", "ops", "--join", "open"]).expect(1);
    run(&node, ana, &["groups", "set", "ops", "--may-join", "luis,eva"]).expect(0);
    let shown = run(&node, ana, &["groups", "show", "ops", "--json"]).expect(0).objects().remove(0);
    assert_eq!(shown["may_join"], serde_json::json!(["eva", "luis"]));
    assert_eq!((&shown["join"], &shown["send"]), (&"private".into(), &"members".into()));
    assert!(run(&node, &luis, &["history", "ops"]).expect(0).stdout().contains("hola"));
    let refused = run(&node, &luis, &["groups", "delete", "ops"]).expect(1).stderr();
    assert!(refused.contains("only its owner and administrators may do this"), "{refused}");
    run(&node, ana, &["groups", "delete", "ops"]).expect(0);
}

#[test]
fn without_guests_only_who_is_logged_in_takes_part() {
    let node = Node::start_with(&["--no-guests"]);
    let guest = User::new();
    log_in(&node, &node.user, "ana");
    for args in [&["groups"][..], &["join", "ops"], &["send", "ops", "x"], &["status"], &["join"]] {
        let refused = run(&node, &guest, &[args, &["--json"]].concat()).expect(1);
        assert_eq!(object(&refused.stderr())["error"]["code"], "DENIED", "{args:?}");
    }
    let _member = node.join(&["ops"]);
    node.run(&["send", "ops", "hola"]).expect(0);
    // A token in the environment is enough.
    let token = std::fs::read_to_string(&token_files(&node.user)[0]).unwrap();
    let token = object(&token)["token"].as_str().unwrap().to_owned();
    let mut command = guest.command(&["whoami", "--node", &node.native]);
    let said = command.env("TERTULIA_TOKEN", &token).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), "ana (administrator)\n");
}

#[test]
fn only_administrators_register_where_the_operator_says_so() {
    let node = Node::start_with(&["--no-register"]);
    let (ana, eva) = (&node.user, User::new());
    log_in(&node, ana, "ana");
    let args = ["register", "eva", "--password-stdin", "--json", "--node", &node.native];
    let refused = eva.run_with(&args, PASSWORD).expect(1);
    assert_eq!(object(&refused.stderr())["error"]["code"], "DENIED");
    ana.run_with(&args, PASSWORD).expect(0);
}

#[test]
fn curl_alone_registers_logs_in_and_out_and_is_refused() {
    let node = Node::start();
    let curl = |more: &[&str], path: &str| {
        let url = format!("http://{}{path}", node.http);
        let out = Command::new("curl")
            .args(["-sS", "-w", "\n%{http_code}", "--noproxy", "*"])
            .args(more)
            .arg(url)
            .output()
            .unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.to_owned(), serde_json::from_str(body).unwrap_or(Value::Null))
    };
    let json = ["-H", "Content-Type: application/json", "-d"];
    let body = r#"{"name":"ana","password":"correct horse"}"#;
    assert_eq!(curl(&[&json[..], &[body]].concat(), "/api/register").0, "201");
    let (status, answer) = curl(&[&json[..], &[body]].concat(), "/api/login");
    assert_eq!(status, "200");
    let bearer = format!("Authorization: Bearer {}", answer["token"].as_str().unwrap());
    assert_eq!(curl(&["-H", &bearer], "/api/whoami").1["name"], "ana");
    assert_eq!(curl(&["-H", &bearer, "-X", "POST"], "/api/logout").0, "204");
    let (status, problem) = curl(&["-H", &bearer], "/api/whoami");
    assert_eq!((status.as_str(), &problem["code"]), ("401", &"NOT_LOGGED_IN".into()));
}

#[test]
fn accounts_and_tokens_stay_over_a_restart_and_another_node_is_not_shown_the_token() {
    use crate::support::serve;
    use rustix::process::Signal;
    let mut node = Node::start();
    log_in(&node, &node.user, "ana");
    node.process.end_by(Signal::TERM, 0);
    let address = node.native.clone();
    let data = node.data.path().to_str().unwrap();
    let mut again = serve(&node.user, data, &["--address", &address]);
    assert_eq!(node.run(&["whoami"]).expect(0).stdout(), "ana (administrator)\n");
    again.end_by(Signal::TERM, 0);
    let other = tempfile::tempdir().unwrap();
    let _other = serve(&node.user, other.path().to_str().unwrap(), &["--address", &address]);
    assert_eq!(node.run(&["whoami"]).expect(0).stdout(), "a guest (not logged in)\n");
}

#[test]
fn a_password_is_changed_and_an_administrator_resets_anothers() {
    let node = Node::start();
    let (ana, luis) = (&node.user, User::new());
    let elsewhere = User::new();
    log_in(&node, ana, "ana");
    log_in(&node, &luis, "luis");
    let login = ["login", "luis", "--password-stdin", "--node", &node.native];
    elsewhere.run_with(&login, PASSWORD).expect(0);
    let passwd = ["passwd", "--password-stdin", "--json", "--node", &node.native];
    let refused = luis.run_with(&passwd, "wrong horse\nbattery staple\n").expect(1);
    assert_eq!(object(&refused.stderr())["error"]["code"], "DENIED");
    let said = luis.run_with(&passwd, "correct horse\nbattery staple\n").expect(0);
    assert_eq!(said.stdout(), "{\"name\":\"luis\",\"changed\":true}\n");
    assert_eq!(run(&node, &luis, &["whoami"]).expect(0).stdout(), "luis\n");
    let ended = run(&node, &elsewhere, &["whoami", "--json"]).expect(1);
    assert_eq!(object(&ended.stderr())["error"]["code"], "NOT_LOGGED_IN");
    elsewhere.run_with(&login, PASSWORD).expect(1);

    let reset = ["passwd", "luis", "--password-stdin", "--node", &node.native];
    let said = ana.run_with(&reset, "staple battery\n").expect(0).stdout();
    assert_eq!(said, "the password of luis is changed; its tokens have ended\n");
    luis.run_with(&login, "staple battery\n").expect(0);
    let guest = User::new().run_with(&passwd, "a\nb\n").expect(1);
    assert_eq!(object(&guest.stderr())["error"]["code"], "NOT_LOGGED_IN");
}
