//! Members whose name becomes an account's while they are there: what they are told, and how their seat is had back.

use std::net::TcpListener;

use rustix::process::Signal;

use crate::support::{Node, User, object};

const PASSWORD: &str = "correct horse\n";

fn register(node: &Node, user: &User, name: &str) {
    let args = ["register", name, "--password-stdin", "--node", &node.native];
    user.run_with(&args, PASSWORD).expect(0);
}

fn log_in(node: &Node, user: &User, name: &str) {
    let args = ["login", name, "--password-stdin", "--node", &node.native];
    user.run_with(&args, PASSWORD).expect(0);
}

fn advice(node: &Node, name: &str) -> String {
    format!("if {name} is your account: tertulia login {name} --node {}", node.native)
}

#[test]
fn a_member_goes_on_by_itself_once_its_user_has_logged_in() {
    let node = Node::start();
    let ana = node.join(&["ops", "--name", "ana", "--durable"]);
    let eva = node.join(&["ops", "--name", "eva", "--json"]);
    register(&node, &node.user, "ana");
    ana.notes(&advice(&node, "ana"));
    let missed = node.run(&["send", "ops", "missed", "--timeout", "500ms", "--json"]).expect(3);
    assert_eq!(missed.objects()[0]["missing"][0]["name"], "ana");
    log_in(&node, &node.user, "ana");
    ana.notes("back in ops as ana");
    ana.says("missed");
    node.run(&["send", "ops", "hola", "--timeout", "20s"]).expect(0);
    ana.says("hola");

    // Who is no durable member too, and programs are told by an object.
    let luis = User::new();
    register(&node, &luis, "eva");
    let told = object(&eva.notes("NAME_RESERVED"));
    assert_eq!((&told["notice"]["group"], &told["notice"]["name"]), (&"ops".into(), &"eva".into()));
    let message = told["notice"]["message"].as_str().unwrap();
    assert!(message.contains("and this goes on where it was within 30 s"), "{message}");
}

#[test]
fn who_waits_for_a_login_waits_for_the_node_too() {
    waits_for_both(false);
}

#[test]
fn who_fetches_and_waits_for_a_login_waits_for_the_node_too() {
    waits_for_both(true);
}

fn waits_for_both(fetches: bool) {
    let mut node = Node::start_again();
    let elsewhere = User::new();
    let to = node.user.home.path().join("to");
    let mut args = vec!["ops", "--name", "ana", "--durable"];
    if fetches {
        // Files are for who is logged in, as whomever.
        register(&node, &node.user, "luis");
        log_in(&node, &node.user, "luis");
        args.extend(["--fetch", to.to_str().unwrap()]);
    }
    let ana = node.join(&args);
    register(&node, &elsewhere, "ana");
    ana.notes(&advice(&node, "ana"));
    log_in(&node, &elsewhere, "ana");
    node.kill();
    // The login of its owner, which it shows to whoever is there.
    let tokens = |user: &User| user.home.path().join(".config/tertulia/tokens");
    let listener = TcpListener::bind(&node.native).unwrap();
    let asked = std::thread::spawn(move || listener.accept().map(drop));
    std::fs::create_dir_all(tokens(&node.user)).unwrap();
    for file in std::fs::read_dir(tokens(&elsewhere)).unwrap() {
        let (name, new) = (file.unwrap().file_name(), node.user.home.path().join("new"));
        std::fs::copy(tokens(&elsewhere).join(&name), &new).unwrap();
        std::fs::rename(new, tokens(&node.user).join(name)).unwrap();
    }
    ana.notes("trying again");
    asked.join().unwrap().unwrap();
    node.restart();
    ana.notes("back in ops as ana");
    node.run(&["send", "ops", "hola", "--timeout", "20s"]).expect(0);
    ana.says("hola");
}

#[test]
fn a_seat_that_was_left_is_its_owners_from_the_same_home_and_after_removing_it_from_another() {
    let node = Node::start();
    let (home, elsewhere) = (&node.user, User::new());
    let mut ana = node.join(&["ops", "--name", "ana", "--durable"]);
    register(&node, home, "ana");
    ana.notes(&advice(&node, "ana"));
    ana.end_by(Signal::INT, 130);
    log_in(&node, &elsewhere, "ana");
    let run = |args: &[&str]| elsewhere.run(&[args, &["--node", &node.native]].concat());
    let taken = run(&["join", "ops", "--name", "ana"]).expect(1).stderr();
    assert!(taken.contains("tertulia remove ops ana"), "{taken}");

    log_in(&node, home, "ana");
    let mut ana = node.spawn(&["join", "ops", "--name", "ana", "--durable"]);
    ana.notes("back in ops as ana");
    ana.end_by(Signal::TERM, 0);
    run(&["remove", "ops", "ana"]).expect(0);
    let args = ["join", "ops", "--name", "ana", "--node", &node.native];
    elsewhere.spawn(&args).notes("joined ops as ana");
}

#[test]
fn a_chat_says_what_to_do() {
    let node = Node::start();
    let mut eva = node.spawn(&["chat", "ops", "--name", "eva"]);
    eva.notes("you are eva");
    register(&node, &User::new(), "eva");
    assert_eq!(eva.end().code(), Some(1));
    eva.notes(&format!("{}, then chat again", advice(&node, "eva")));
}

/// What ends with a login is the connection: the seat is had back with the next one.
#[test]
fn a_durable_seat_outlives_the_login_that_it_was_taken_with() {
    let node = Node::start();
    register(&node, &node.user, "ana");
    log_in(&node, &node.user, "ana");
    let mut ana = node.join(&["ops", "--durable"]);
    node.run(&["logout"]).expect(0);
    assert_eq!(ana.end().code(), Some(1));
    log_in(&node, &node.user, "ana");
    node.spawn(&["join", "ops", "--durable"]).notes("back in ops as ana");
}
