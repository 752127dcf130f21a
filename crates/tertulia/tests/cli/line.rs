//! The line door with `nc` as people use it, and with two hundred scripted clients at once.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::programs::{Program, is_there};
use crate::support::{Node, WITHIN};

const CLIENTS: usize = 200;
/// Messages of each.
const EACH: usize = 5;

fn nc(node: &Node) -> Program {
    let (host, port) = node.line.rsplit_once(':').unwrap();
    let mut command = Command::new("nc");
    command.args([host, port]);
    Program::spawn(command)
}

/// The number in `MSG 7 …`, `OK MSG 7`.
fn number(line: &str, after: &str) -> u64 {
    let rest = line.strip_prefix(after).unwrap_or_else(|| panic!("{line:?} is no {after:?}"));
    rest.trim_start().split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn people_chat_with_nc() {
    if !is_there("nc") {
        return;
    }
    let node = Node::start();
    let (mut jose, mut nuno, mut namae) = (nc(&node), nc(&node), nc(&node));
    jose.write("JOIN José\n");
    jose.says("OK JOIN José lobby ");
    nuno.write("join Ñuño\r\n");
    nuno.says("OK JOIN Ñuño lobby ");
    jose.says(" Ñuño");
    // The same name in capitals, with a combining accent, and one that only looks like it.
    for other in ["JOSÉ", "Jose\u{301}", "J\u{43e}s\u{e9}"] {
        namae.write(&format!("JOIN {other}\n"));
        namae.says("ERR NAME_TAKEN");
    }
    namae.write("JOIN 名前\n");
    assert!(namae.says("OK JOIN 名前 lobby ").ends_with(" 3"));
    namae.write("WHO\n");
    assert_eq!(namae.says("OK WHO"), "OK WHO José Ñuño 名前");

    jose.write("MSG ¿qué tal?\n");
    let seq = number(&jose.says("OK MSG"), "OK MSG");
    for other in [&nuno, &namae] {
        assert_eq!(other.says("¿qué tal?"), format!("MSG {seq} José ¿qué tal?"));
    }
    // Everybody has it, by the word of their hosts: `nc` confirms nothing.
    assert_eq!(jose.says("ACK"), format!("ACK {seq} 2/2"));
    assert!(!jose.said().iter().any(|line| line.starts_with("MSG ")), "one's own is not repeated");

    namae.kill();
    for other in [&jose, &nuno] {
        assert!(other.says("LEFT").ends_with(" 名前 lost"));
    }
    node.process.says("left lobby 名前 lost");
    nuno.write("EXIT\n");
    nuno.says("OK EXIT");
    nuno.end();
    assert!(jose.says("LEFT").ends_with(" Ñuño exit"));
    jose.write("MSG ¿hay alguien?\nWHO\n");
    jose.says("OK WHO José");
    jose.says(" 0/0");
}

#[test]
fn two_hundred_see_one_order_and_half_of_them_end_suddenly() {
    let node = Node::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let clients = runtime.block_on(all_talk(&node.line));
    let order = clients[0].order.clone();
    assert_eq!(order.len(), CLIENTS * EACH);
    for client in &clients {
        assert_eq!(client.order, order, "{} was told another order", client.name);
    }
    let (stay, go): (Vec<_>, Vec<_>) =
        clients.into_iter().enumerate().partition(|(i, _)| i % 2 == 0);
    let stay: Vec<Client> = stay.into_iter().map(|(_, client)| client).collect();
    let gone: BTreeSet<String> = go.iter().map(|(_, client)| client.name.clone()).collect();
    drop(go);
    let names: BTreeSet<String> = stay.iter().map(|client| client.name.clone()).collect();
    let looks = runtime.block_on(all_look(stay, gone.len()));
    for (_, lost, here) in &looks {
        assert_eq!((lost, here), (&gone, &names));
    }
    let members = node.run(&["members", "lobby", "--json"]).expect(0).objects();
    let listed: BTreeSet<String> =
        members.iter().map(|member| member["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(listed, names);
}

/// All join, then all send at once; ends when everybody was told everything.
async fn all_talk(address: &str) -> Vec<Client> {
    let together = Arc::new(Barrier::new(CLIENTS));
    let mut clients = JoinSet::new();
    for i in 0..CLIENTS {
        let (address, together) = (address.to_owned(), Arc::clone(&together));
        clients.spawn(async move {
            let mut client = Client::join(&address, format!("client-{i}")).await;
            together.wait().await;
            client.talk().await;
            client
        });
    }
    timeout(WITHIN, clients.join_all()).await.expect("everybody is told everything in time")
}

/// Who was lost, and who is here, as each of those says who stay.
async fn all_look(stay: Vec<Client>, gone: usize) -> Vec<Look> {
    let mut looks = JoinSet::new();
    for mut client in stay {
        looks.spawn(async move {
            let lost = client.lost(gone).await;
            let here = client.who().await;
            (client, lost, here)
        });
    }
    timeout(WITHIN, looks.join_all()).await.expect("all are told in time")
}

/// A client that is still there, whom it has seen end, and who it says is here.
type Look = (Client, BTreeSet<String>, BTreeSet<String>);

struct Client {
    name: String,
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
    /// Who said what under which number.
    order: BTreeMap<u64, (String, String)>,
}

impl Client {
    async fn join(address: &str, name: String) -> Self {
        let (read, write) = TcpStream::connect(address).await.unwrap().into_split();
        let lines = BufReader::new(read).lines();
        let mut client = Self { name, lines, write, order: BTreeMap::new() };
        client.say(&format!("JOIN {}\n", client.name)).await;
        let answer = client.line().await;
        assert!(answer.starts_with(&format!("OK JOIN {} lobby ", client.name)), "{answer}");
        client
    }

    async fn say(&mut self, text: &str) {
        self.write.write_all(text.as_bytes()).await.unwrap();
    }

    async fn line(&mut self) -> String {
        self.lines.next_line().await.unwrap().expect("the connection goes on")
    }

    /// Says everything in one write, and listens until it knows everybody's messages; numbers only rise.
    async fn talk(&mut self) {
        let texts: Vec<String> = (0..EACH).map(|i| format!("{} says {i}", self.name)).collect();
        self.say(&texts.iter().map(|text| format!("MSG {text}\n")).collect::<String>()).await;
        let mut own = texts.into_iter();
        let mut last = 0;
        while self.order.len() < CLIENTS * EACH {
            let line = self.line().await;
            let (seq, said) = if line.starts_with("OK MSG ") {
                (number(&line, "OK MSG"), (self.name.clone(), own.next().unwrap()))
            } else if let Some(rest) = line.strip_prefix("MSG ") {
                let mut words = rest.splitn(3, ' ');
                let seq = words.next().unwrap().parse().unwrap();
                let from = words.next().unwrap().to_owned();
                assert_ne!(from, self.name, "one's own is not repeated");
                (seq, (from, words.next().unwrap().to_owned()))
            } else {
                assert!(line.starts_with("JOINED ") || line.starts_with("ACK "), "{line}");
                continue;
            };
            assert!(seq > last, "{seq} after {last}");
            last = seq;
            self.order.insert(seq, said);
        }
    }

    /// Those who were lost, when there are so many; each is told once.
    async fn lost(&mut self, count: usize) -> BTreeSet<String> {
        let mut lost = BTreeSet::new();
        while lost.len() < count {
            let line = self.line().await;
            let Some(rest) = line.strip_prefix("LEFT ") else {
                assert!(line.starts_with("ACK "), "{line}");
                continue;
            };
            let words: Vec<&str> = rest.split(' ').collect();
            assert_eq!(words[2], "lost", "{line}");
            assert!(lost.insert(words[1].to_owned()), "told twice: {line}");
        }
        lost
    }

    async fn who(&mut self) -> BTreeSet<String> {
        self.say("WHO\n").await;
        loop {
            let line = self.line().await;
            if let Some(names) = line.strip_prefix("OK WHO ") {
                return names.split(' ').map(str::to_owned).collect();
            }
            assert!(line.starts_with("ACK "), "{line}");
        }
    }
}
