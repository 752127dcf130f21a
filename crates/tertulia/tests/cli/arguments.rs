//! What is on the command line, and what is said when it cannot be.

use crate::support::{User, object};

#[test]
fn wrong_usage_is_exit_code_2() {
    let user = User::new();
    for line in [
        "",
        "nothing",
        "join --nothing",
        "send",
        "send ops hola --wait most",
        "send ops hola --timeout soon",
        "send ops hola --timeout 0",
        "join ops --from last",
        "join ops --jobs 3",
        "join ops --exec true --jobs 0",
        "receipt ops many",
        "--node h:1 serve",
        "serve --native-port 70000",
        "serve --keep always",
        "serve --listen nowhere.invalid",
        "serve --address 127.0.0.1:0 --listen 127.0.0.1",
        "serve --sync sometimes",
        "completions tcsh9",
    ] {
        let args: Vec<&str> = line.split_whitespace().collect();
        let ended = user.run(&args).expect(2);
        assert_eq!(ended.stdout(), "", "{line}");
        assert_ne!(ended.stderr(), "", "{line}");
    }
}

#[test]
fn a_failure_is_one_object_where_objects_are_asked_for() {
    let user = User::new();
    for (line, exit, code) in [
        ("send --json", 2, "USAGE"),
        ("nothing --json", 2, "USAGE"),
        ("groups --json --node 127.0.0.1:1", 1, "CONNECTION_REFUSED"),
        ("join a/b --json --node 127.0.0.1:1", 2, "BAD_NAME"),
        ("serve --json --engine nats://h:4222", 1, "NOT_SUPPORTED"),
    ] {
        let args: Vec<&str> = line.split_whitespace().collect();
        let ended = user.run(&args).expect(exit);
        assert_eq!(ended.stdout(), "", "{line}");
        let error = &object(&ended.stderr())["error"];
        assert_eq!(error["code"], code, "{line}");
        assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{line}");
    }
}

/// What can never be a name is wrong usage, and no node is asked.
#[test]
fn what_can_be_no_name_is_wrong_usage() {
    let user = User::new();
    let long = "x".repeat(33);
    for line in [
        "join a/b",
        "join ops --name a/b",
        "send a/b hola",
        "send ops hola --as ~ana",
        "chat a/b",
        "chat --name a/b",
        "groups create a/b",
        "groups create ops --may-join ana,a/b",
        "groups show a/b",
        "groups set a/b",
        "groups set ops --owner a/b",
        "groups delete a/b",
        "members a/b",
        "remove a/b ana",
        "remove ops a/b",
        "history a/b",
        "receipt a/b 3",
        "register a/b",
        "login a/b",
        "passwd a/b",
        &format!("members {long}"),
    ] {
        let args: Vec<&str> = line.split(' ').chain(["--node", "127.0.0.1:1"]).collect();
        let ended = user.run(&args).expect(2);
        assert!(ended.stderr().starts_with("error: invalid value '"), "{}", ended.stderr());
        assert!(ended.stderr().contains("a name has "), "{}", ended.stderr());
    }
    // Nobody stands for an empty list.
    user.run(&["groups", "set", "ops", "--may-join", "", "--node", "127.0.0.1:1"]).expect(1);
}

#[test]
fn wrong_usage_names_the_arguments_to_programs_too() {
    let user = User::new();
    for (line, part) in [
        ("receipt --json", "not provided: <GROUP> <SEQ>"),
        ("send ops x --tiemout 3s --json", "'--tiemout' found; tip: "),
        ("receipt ops many --json", "'many' for '<SEQ>'"),
    ] {
        let args: Vec<&str> = line.split_whitespace().collect();
        let ended = user.run(&args).expect(2);
        let message = object(&ended.stderr())["error"]["message"].clone();
        let message = message.as_str().unwrap();
        assert!(message.contains(part) && !message.contains("Usage"), "{message}");
    }
}

#[test]
fn an_address_of_another_machine_says_what_to_listen_on() {
    let user = User::new();
    let ended = user.run(&["serve", "--listen", "192.0.2.7", "--native-port", "0"]).expect(1);
    let told = "192.0.2.7 is on none of this machine's interfaces; use --listen 0.0.0.0 \
                --advertise 192.0.2.7";
    assert!(ended.stderr().contains(told), "{}", ended.stderr());
}

#[test]
fn a_connection_that_fails_says_why() {
    let user = User::new();
    for (node, part) in [("127.0.0.1:1", "tertulia serve"), ("nowhere.invalid", "unknown host")] {
        for args in [&["groups"][..], &["join", "ops"], &["send", "ops", "hola"], &["status"]] {
            let ended = user.run(&[args, &["--node", node]].concat()).expect(1);
            assert!(ended.stderr().contains(part), "{args:?}: {}", ended.stderr());
        }
    }
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let ended = user.run(&["status", "--node", &address]).expect(1);
    assert!(ended.stderr().contains("does not answer as a native door"), "{}", ended.stderr());
}

#[test]
fn help_version_and_completions_are_printed() {
    let user = User::new();
    let version = user.run(&["--version"]).expect(0).stdout();
    assert!(version.starts_with("tertulia "), "{version}");
    let help = user.run(&["--help"]).expect(0).stdout();
    for command in ["demo", "serve", "join", "send", "chat", "groups", "receipt", "Exit codes"] {
        assert!(help.contains(command), "{command}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(user.run(&["completions", shell]).expect(0).stdout().contains("tertulia"));
    }
    let manual = user.run(&["man"]).expect(0).stdout();
    for part in [".TH", "--durable", "--advertise", "TERTULIA SEND", "TERTULIA GROUPS CREATE"] {
        assert!(manual.replace("\\-", "-").contains(part), "{part}");
    }
    assert!(manual.contains(".SH \"EXIT STATUS\"\n0 done"));
    assert!(!manual.contains("(1)\n"), "there is one page only");
    let help = user.run(&["members", "--help"]).expect(0).stdout();
    assert!(help.contains("ACKED is the member's cursor"), "{help}");
}

#[test]
fn the_node_may_come_from_the_environment() {
    let user = User::new();
    let mut command = user.command(&["status"]);
    let ended = command.env("TERTULIA_NODE", "127.0.0.1:1").output().unwrap();
    assert!(String::from_utf8_lossy(&ended.stderr).contains("127.0.0.1:1"));
}
