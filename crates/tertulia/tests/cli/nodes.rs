//! `serve`: where the node is, who comes and goes, and its end.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use rustix::process::Signal;

use crate::programs::{on_small_disk, skipped};
use crate::support::{Node, User, object, serve};

#[test]
fn where_the_doors_are_is_said_and_written() {
    let mut node = Node::start();
    let said = node.process.said();
    assert!(said.contains(&format!("native  {}", node.native)), "{said}");
    let file = node.data.path().join("endpoints.json");
    let written = object(&std::fs::read_to_string(&file).unwrap());
    assert_eq!(written["native"], node.native.as_str());
    assert_eq!(written["line"], node.line.as_str());
    assert_eq!(written["http"], node.http.as_str());
    node.process.end_by(Signal::TERM, 0);
    assert!(!file.exists(), "a node that has ended is nowhere");
}

#[test]
fn ctrl_c_is_a_clean_end() {
    let mut node = Node::start_with(&["--no-line", "--no-http", "--engine", "memory"]);
    assert_eq!((node.line.as_str(), node.http.as_str()), ("", ""));
    node.process.end_by(Signal::INT, 0);
}

#[test]
fn a_taken_port_names_door_port_and_flag() {
    let node = Node::start();
    let port = |address: &str| address.rsplit(':').next().unwrap().to_owned();
    let doors =
        [(&node.native, "--native-port"), (&node.line, "--line-port"), (&node.http, "--http-port")];
    for (address, flag) in doors {
        let (user, port) = (User::new(), port(address));
        let data = user.home.path().join("data");
        let mut args = vec!["serve", "--data", data.to_str().unwrap(), flag, &port];
        let others = doors.iter().map(|(_, other)| *other).filter(|other| *other != flag);
        others.for_each(|other| args.extend([other, "0"]));
        let ended = user.run(&args).expect(1);
        let door = flag.trim_start_matches("--").trim_end_matches("-port");
        for part in [flag, &port, &format!("{door} door")] {
            assert!(ended.stderr().contains(part), "{}", ended.stderr());
        }
    }
    // All of them at once.
    let user = User::new();
    let data = user.home.path().join("data");
    let ports = doors.map(|(address, flag)| (flag, port(address)));
    let mut args = vec!["serve", "--data", data.to_str().unwrap()];
    ports.iter().for_each(|(flag, port)| args.extend([*flag, port]));
    let ended = user.run(&args).expect(1);
    for (flag, port) in &ports {
        assert!(ended.stderr().contains(&format!("port {port} is taken")), "{}", ended.stderr());
        assert!(ended.stderr().contains(flag), "{}", ended.stderr());
    }
}

#[test]
fn a_data_folder_is_one_nodes() {
    let node = Node::start();
    let data = node.data.path().to_str().unwrap();
    let ended = node
        .user
        .run(&["serve", "--data", data, "--native-port", "0", "--line-port", "0"])
        .expect(1);
    assert!(ended.stderr().contains("--data"), "{}", ended.stderr());
    assert!(node.data.path().join("endpoints.json").exists(), "the first one's is still there");
}

#[test]
fn who_comes_and_goes_is_said() {
    let node = Node::start();
    let mut nc = TcpStream::connect(&node.line).unwrap();
    nc.write_all(b"JOIN ana\r\n").unwrap();
    let mut lines = BufReader::new(nc.try_clone().unwrap()).lines();
    let answer = lines.next().unwrap().unwrap();
    assert!(answer.starts_with("OK JOIN ana lobby "), "{answer}");
    assert_eq!(node.process.says("joined"), "joined lobby ana 127.0.0.1 line");
    nc.write_all(b"EXIT\n").unwrap();
    assert_eq!(node.process.says("left"), "left lobby ana exit");
    let mut member = node.join(&["ops", "--name", "eva"]);
    assert_eq!(node.process.says("joined"), "joined ops eva 127.0.0.1 native");
    member.end_by(Signal::INT, 130);
    assert_eq!(node.process.says("left"), "left ops eva exit");
}

#[test]
fn settings_come_from_flags_environment_and_file() {
    let user = User::new();
    let data = user.home.path().join("data");
    let file = user.home.path().join("node.toml");
    let text = format!(
        "data = {:?}\nnative-port = 0\nline_port = 0\nno_line = true\nnode_id = \"fromfile\"\n",
        data.to_str().unwrap()
    );
    std::fs::write(&file, text).unwrap();
    let mut command =
        user.command(&["serve", "--config", file.to_str().unwrap(), "--no-line=false"]);
    command.env("TERTULIA_NODE_ID", "fromenv");
    command.stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let native = lines.find(|line| line.starts_with("native")).unwrap_or_default();
    let line = lines.find(|line| line.starts_with("line"));
    let address = native.trim_start_matches("native").trim().to_owned();
    let status = user.run(&["status", "--json", "--node", &address]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(line.is_some(), "the flag is stronger than the file");
    assert_eq!(status.expect(0).objects()[0]["node"], "fromenv");

    std::fs::write(&file, "lissen = \"0.0.0.0\"\n").unwrap();
    let ended = user.run(&["serve", "--config", file.to_str().unwrap()]).expect(2);
    assert!(ended.stderr().contains("did you mean listen?"), "{}", ended.stderr());
}

#[test]
fn notices_may_be_objects() {
    let (user, data) = (User::new(), tempfile::tempdir().unwrap());
    let node = serve(&user, data.path().to_str().unwrap(), &["--json", "--no-line"]);
    let ready = object(node.said().lines().next().unwrap());
    assert_eq!(ready["type"], "ready");
    let native = ready["native"].as_str().unwrap().to_owned();
    let member = user.spawn(&["join", "ops", "--name", "ana", "--node", &native]);
    member.notes("joined ops as ana");
    let joined = object(&node.says("joined"));
    assert_eq!((&joined["group"], &joined["name"]), (&"ops".into(), &"ana".into()));
    assert_eq!((&joined["address"], &joined["door"]), (&"127.0.0.1".into(), &"native".into()));
}

#[test]
fn a_node_for_others_says_how_to_reach_it() {
    let node = Node::start_with(&["--listen", "0.0.0.0", "--advertise", "node.example"]);
    let port = |address: &str| address.rsplit(':').next().unwrap().to_owned();
    assert!(node.native.starts_with("127.0.0.1:"), "{}", node.native);
    node.process.says(&format!("  tertulia join --node node.example:{}", port(&node.native)));
    node.process.says(&format!("  nc node.example {}", port(&node.line)));
}

#[test]
fn what_stored_means_is_what_was_asked_for() {
    for (args, level) in [
        (&["--engine", "memory"][..], "memory"),
        (&["--sync", "os"], "os"),
        (&["--sync", "fsync"], "fsync"),
    ] {
        let node = Node::start_with(args);
        node.run(&["groups", "create", "ops"]).expect(0);
        let receipt = node.run(&["send", "ops", "hola", "--json"]).expect(0).objects().remove(0);
        assert_eq!(receipt["stored"], level);
    }
}

#[test]
fn a_disk_with_no_room_for_a_store_is_named_with_what_it_takes() {
    if !rustix::process::geteuid().is_root() {
        return skipped("only root may make a small disk");
    }
    let user = User::new();
    let data = user.home.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let data = data.to_str().unwrap();
    let serve = user.command(&["serve", "--data", data]);
    let ended = on_small_disk(&serve, data, "3m").output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    for part in ["a store takes at least 32 MiB", data, "the store's first file"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn who_has_no_home_in_the_environment_is_served_all_the_same() {
    let node = Node::start();
    let mut command = node.user.command(&["whoami", "--node", &node.native]);
    for variable in ["HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"] {
        command.env_remove(variable);
    }
    let ended = command.output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}
