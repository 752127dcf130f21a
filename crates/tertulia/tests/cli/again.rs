//! `send --key`: a message that is sent again is the same one, and an unknown outcome says how.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use bytes::{Bytes, BytesMut};
use tertulia_client::{Code, Instance, Level, LogId, SenderId};
use tertulia_group::entry;
use tertulia_wire::native::{Greeting, SenderReady, kind, split_from_client};
use tertulia_wire::{ClientFrame, NodeFrame};

use crate::support::{Node, User, WITHIN, object};

#[test]
fn a_message_that_is_sent_again_under_its_key_is_stored_once() {
    let mut node = Node::start_again();
    let _member = node.join(&["ops", "--name", "ana"]);
    let seq = |node: &Node, more: &[&str]| {
        let args = [&["send", "ops", "--json", "--timeout", "20s", "--key"], more];
        let receipt = node.run(&args.concat()).expect(0).objects().remove(0);
        assert_eq!(receipt["confirmed"], 1, "{receipt}");
        receipt["seq"].as_u64().unwrap()
    };
    let first = seq(&node, &["deploy-17", "it", "is out"]);
    assert_eq!(seq(&node, &["deploy-17", "it is out"]), first);
    node.kill();
    node.restart();
    assert_eq!(seq(&node, &["deploy-17", "it is out"]), first);
    assert_ne!(seq(&node, &["deploy-17", "it is out", "--as", "ci"]), first, "somebody else's");
    let refused = node.run(&["send", "ops", "other", "--key", "deploy-17", "--json"]).expect(1);
    assert_eq!(object(&refused.stderr())["error"]["code"], "KEY_REUSED");
    assert_ne!(seq(&node, &["deploy-18", "it is out"]), first);
    let history = node.run(&["history", "ops"]).expect(0).stdout();
    assert_eq!(history.matches("it is out").count(), 3, "{history}");
    for line in ["send ops --key k", "send ops hola --key", "send ops hola --key ñ"] {
        node.run(&line.split(' ').collect::<Vec<_>>()).expect(2);
    }
}

/// A node that takes messages and never says what became of them.
struct Mute {
    address: String,
    /// Sender and counter of each message.
    taken: Receiver<(SenderId, u64)>,
}

impl Mute {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, taken) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut took = |message| sender.send(message).unwrap_or_default();
                let _ = converse(stream, &mut took);
            }
        });
        Self { address, taken }
    }

    fn message(&self) -> (SenderId, u64) {
        self.taken.recv_timeout(WITHIN).unwrap()
    }
}

/// Answers everything but messages.
fn converse(
    mut stream: TcpStream,
    took: &mut dyn FnMut((SenderId, u64)),
) -> Result<(), Box<dyn std::error::Error>> {
    let (mut buffer, mut sender) = (BytesMut::new(), None);
    loop {
        let mut chunk = [0; 4096];
        let n = stream.read(&mut chunk)?;
        if n == 0 {
            return Ok(());
        }
        buffer.extend_from_slice(&chunk[..n]);
        while let Some(frame) = split_from_client(&mut buffer)? {
            let answer = answer(ClientFrame::decode(&frame)?, &mut sender, &stream);
            let mut out = BytesMut::new();
            answer.inspect(|frame| frame.encode(&mut out));
            stream.write_all(&out)?;
        }
        if let (Some(sender), Some(&kind::PUBLISH)) = (sender, buffer.get(4)) {
            let entry = entry::entries(Bytes::copy_from_slice(&buffer)).next();
            took((sender, entry.ok_or("no message")??.header.counter));
            buffer.clear();
        }
    }
}

fn answer(
    frame: ClientFrame,
    sender: &mut Option<SenderId>,
    stream: &TcpStream,
) -> Option<NodeFrame> {
    Some(match frame {
        ClientFrame::Hello(hello) => NodeFrame::Greeting(Greeting {
            version: hello.version,
            features: 0,
            node: "mute".into(),
            http: String::new(),
            message_bytes_max: 1 << 20,
            instance: Instance([5; 16]),
        }),
        ClientFrame::Locate { id, group } => {
            let coordinator = stream.local_addr().unwrap().to_string();
            NodeFrame::Located { id, group, coordinator, epoch: 1 }
        }
        ClientFrame::OpenSender(open)
            if open.name.starts_with("reserved-") && !open.name.ends_with("-2") =>
        {
            let (id, code) = (open.id, Code::NameReserved);
            NodeFrame::Error { id, code, message: "an account's".into() }
        }
        ClientFrame::OpenSender(open) => {
            *sender = Some(open.sender);
            NodeFrame::SenderReady(Box::new(SenderReady {
                id: open.id,
                group: open.group,
                name: open.name,
                log: LogId([7; 16]),
                epoch: 1,
                tail: 10,
                members: 1,
                last_counter: 0,
                window_bytes: 1 << 20,
                level: Level::Fsync,
            }))
        }
        _ => return None,
    })
}

#[test]
fn an_unknown_outcome_says_how_to_send_it_again_safely() {
    let (mute, user) = (Mute::start(), User::new());
    let send = ["send", "ops", "it's", "out", "--timeout", "1s", "--node", &mute.address];
    let ended = user.run(&send).expect(4);
    let first = mute.message();
    let said = ended.stderr();
    let (_, command) = said.trim_end().split_once("not twice: ").expect("a command");
    assert!(command.starts_with("tertulia send --node 127.0.0.1:"), "{command}");
    assert!(command.contains(" --timeout 1000ms "), "{command}");
    let mut shell = std::process::Command::new("sh");
    let binary = env!("CARGO_BIN_EXE_tertulia");
    let line = format!("tertulia() {{ '{binary}' \"$@\"; }}; {command}");
    // Wherever and as whom it is run: the name is in it.
    shell.args(["-c", &line]).env("HOME", user.home.path()).env("USER", "another");
    assert_eq!(shell.output().unwrap().status.code(), Some(4));
    assert_eq!(mute.message(), first, "{command}");

    // Programs get the key and the name by themselves.
    let ended = user.run(&[&send[..], &["--json"]].concat()).expect(4);
    let error = object(&ended.stderr())["error"].clone();
    assert_eq!(error["code"], "OUTCOME_UNKNOWN");
    let other = mute.message();
    assert_ne!(other, first, "another message");
    let [key, name] = ["key", "as"].map(|field| error[field].as_str().unwrap());
    let mut again = user.command(&[&send[..], &["--key", key, "--as", name]].concat());
    assert_eq!(again.env("USER", "another").output().unwrap().status.code(), Some(4));
    assert_eq!(mute.message(), other);
}

/// Where the default name is somebody else's account, it is the numbered one that counts.
#[test]
fn the_name_that_is_told_is_the_one_that_was_taken() {
    let (mute, user) = (Mute::start(), User::new());
    let send = ["send", "ops", "hola", "--timeout", "1s", "--json", "--node", &mute.address];
    let ended = user.command(&send).env("USER", "reserved").output().unwrap();
    assert_eq!(ended.status.code(), Some(4));
    let first = mute.message();
    let error = object(&String::from_utf8(ended.stderr).unwrap())["error"].clone();
    let [key, name] = ["key", "as"].map(|field| error[field].as_str().unwrap());
    user.run(&[&send[..], &["--key", key, "--as", name]].concat()).expect(4);
    assert_eq!(mute.message(), first, "{error}");
}

#[test]
fn who_interrupts_before_the_answer_is_told_too() {
    let (mute, user) = (Mute::start(), User::new());
    let mut send = user.spawn(&["send", "ops", "hola", "--key", "k1", "--node", &mute.address]);
    mute.message();
    send.end_by(rustix::process::Signal::INT, 130);
    let told = send.notes("--key k1 --as tester-");
    assert!(told.ends_with(" ops hola"), "{told}");
}
