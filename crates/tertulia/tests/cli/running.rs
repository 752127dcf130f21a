//! `join --exec`: a program for each message.

use rustix::process::Signal;

use crate::support::Node;

#[test]
fn a_program_takes_each_message() {
    let node = Node::start();
    let file = node.user.home.path().join("taken");
    let command = format!(
        "printf '%s %s ' $TERTULIA_FROM $TERTULIA_GROUP >>'{0}'; cat >>'{0}'; echo >>'{0}'",
        file.display()
    );
    let _member = node.join(&["ops", "--name", "ana", "--exec", &command]);
    node.run(&["send", "ops", "hola", "--as", "marta"]).expect(0);
    node.run(&["send", "ops", "adiós", "--as", "marta"]).expect(0);
    let taken = std::fs::read_to_string(file).unwrap();
    assert_eq!(taken, "~marta ops hola\n~marta ops adiós\n");
}

#[test]
fn a_program_that_fails_is_in_the_receipt_and_the_next_message_goes_on() {
    let node = Node::start();
    let member =
        node.join(&["ops", "--name", "ana", "--exec", "read x; test \"$x\" != bad || exit 7"]);
    let ended = node.run(&["send", "ops", "bad", "--timeout", "20s", "--json"]).expect(3);
    let receipt = ended.objects().remove(0);
    let missing = serde_json::json!([{"name": "ana", "why": "failed", "code": "exit 7"}]);
    assert_eq!((&receipt["missing"], &receipt["final"]), (&missing, &true.into()));
    member.notes("failed: exit 7");
    // `read` ends with 1 where no line end comes; the test decides.
    node.run(&["send", "ops", "good"]).expect(0);
}

#[test]
fn a_slow_program_hides_no_confirmation_after_it() {
    let node = Node::start();
    let go = node.user.home.path().join("go");
    // Works on the first message until the file is there.
    let command = format!(
        "read x; if test \"$x\" = slow; then while ! test -e '{}'; do sleep 0.05; done; fi",
        go.display()
    );
    let _member = node.join(&["ops", "--name", "ana", "--exec", &command]);
    let ended = node.run(&["send", "ops", "slow", "--timeout", "300ms", "--json"]).expect(3);
    let receipt = ended.objects().remove(0);
    assert_eq!(receipt["missing"][0]["why"], "pending");
    node.run(&["send", "ops", "quick"]).expect(0);
    std::fs::write(go, "").unwrap();
    node.receipt("ops", &receipt["seq"].to_string());
}

#[test]
fn programs_end_with_the_member() {
    let node = Node::start();
    let file = node.user.home.path().join("pid");
    let command = format!("echo $$ >'{0}.new'; mv '{0}.new' '{0}'; exec sleep 600", file.display());
    let mut member = node.join(&["ops", "--name", "ana", "--exec", &command]);
    node.run(&["send", "ops", "hola", "--timeout", "300ms"]).expect(3);
    while !file.exists() {
        std::thread::yield_now();
    }
    let pid: i32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
    // Twice, and not by one key press: who is in a hurry does not wait for the program.
    member.signal(Signal::INT);
    std::thread::sleep(std::time::Duration::from_millis(600));
    member.end_by(Signal::INT, 130);
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    while rustix::process::test_kill_process(pid).is_ok() {
        std::thread::yield_now();
    }
}
