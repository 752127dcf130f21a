//! Clients of the line door, by hand over a socket: they join, say, confirm or do not, read late, leave or vanish.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, sleep_until, timeout};

use super::Standing;
use super::desk::Desk;
use crate::history::{Begin, Entry, Kind, Receipt, Then, What};

/// What one client is like.
#[derive(Clone, Copy, Debug)]
struct Character {
    /// Says `ACK`.
    confirms: bool,
    /// Says `MSG`.
    says: bool,
    /// Now and then reads nothing for this many milliseconds at most; 0: never.
    dozes_ms: u64,
}

const CHARACTERS: [Character; 3] = [
    Character { confirms: true, says: true, dozes_ms: 0 },
    Character { confirms: false, says: true, dozes_ms: 0 },
    Character { confirms: true, says: false, dozes_ms: 3000 },
];

/// No answer for so long, and the connection is given up.
const SILENCE: Duration = Duration::from_secs(4);

/// Starts the process's clients.
pub fn start(desk: &Arc<Desk>) {
    for (index, character) in CHARACTERS.into_iter().enumerate() {
        let slot = format!("{}-{index}", desk.args.name);
        tokio::spawn(be_for_ever(Arc::clone(desk), slot, character));
    }
}

async fn be_for_ever(desk: Arc<Desk>, slot: String, character: Character) {
    // Where to go on: the group, and the last number.
    let mut place: Option<(String, u64)> = None;
    loop {
        if place.is_none() {
            desk.may_begin().await;
        }
        let (group, after) = match &place {
            Some((group, after)) => (group.clone(), Some(*after)),
            None => (desk.group(), None),
        };
        let name = desk.fresh(&slot);
        let from = after.map_or(Begin::Now, |seq| Begin::After { seq });
        desk.record(What::Joining { group: group.clone(), name: name.clone(), from });
        let mut client = match Client::join(&desk, &group, &name, after).await {
            Ok(client) => client,
            Err(why) => {
                desk.record(What::NotJoined { group, name, why });
                desk.linger(50..300).await;
                continue;
            }
        };
        place = client.live(&slot, character).await;
        client.end();
        desk.stands(&slot, None);
        desk.linger(10..100).await;
    }
}

struct Client<'a> {
    desk: &'a Arc<Desk>,
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
    standing: Standing,
    /// Said, and without `OK MSG` or `ERR`.
    said: Option<String>,
    heard_at: Instant,
}

enum Happened {
    Line(std::io::Result<Option<String>>),
    Say,
    Time,
}

impl<'a> Client<'a> {
    async fn join(
        desk: &'a Arc<Desk>,
        group: &str,
        name: &str,
        after: Option<u64>,
    ) -> Result<Self, String> {
        let join = async {
            let stream = TcpStream::connect(&desk.args.line).await?;
            let (read, mut write) = stream.into_split();
            let after = after.map_or_else(String::new, |after| format!(" {after}"));
            write.write_all(format!("JOIN {name} {group}{after}\n").as_bytes()).await?;
            let mut lines = BufReader::new(read).lines();
            let answer = loop {
                match lines.next_line().await? {
                    Some(line) if line.starts_with('*') => {}
                    answer => break answer.unwrap_or_default(),
                }
            };
            Ok::<_, std::io::Error>((lines, write, answer))
        };
        let joined = timeout(SILENCE, join).await.map_err(|_| "no answer".to_owned())?;
        let (lines, write, answer) = joined.map_err(|error| error.to_string())?;
        let words: Vec<&str> = answer.split(' ').collect();
        let ["OK", "JOIN", _, _, seq, _] = words[..] else { return Err(answer) };
        let tail = seq.parse().map_err(|_| answer.clone())?;
        let (group, name) = (group.to_owned(), name.to_owned());
        desk.record(What::Joined {
            group: group.clone(),
            name: name.clone(),
            resumed: false,
            tail,
            log: String::new(),
            epoch: 0,
        });
        let have = after.unwrap_or(0);
        let standing = Standing { group, name, is_in: true, have, undone: 0 };
        Ok(Self { desk, lines, write, standing, said: None, heard_at: Instant::now() })
    }

    /// Lives until the end of the connection; where to go on, unless it has left.
    async fn live(&mut self, slot: &str, character: Character) -> Option<(String, u64)> {
        let leave_at = Instant::now() + Duration::from_millis(self.desk.draw(2_000..40_000));
        let mut say_at = Instant::now();
        let mut ping_at = Instant::now() + SILENCE / 4;
        loop {
            self.desk.stands(slot, Some(self.standing.clone()));
            let goes = !self.desk.is_paused();
            if goes && Instant::now() > leave_at {
                return self.leave().await;
            }
            if goes && character.dozes_ms > 0 && self.desk.one_in(500) {
                self.desk.linger(100..character.dozes_ms).await;
                self.heard_at = Instant::now();
            }
            let says = character.says && goes && self.said.is_none();
            let happened = tokio::select! {
                line = self.lines.next_line() => Happened::Line(line),
                () = sleep_until(say_at), if says => Happened::Say,
                () = sleep_until(ping_at) => Happened::Time,
            };
            let done = match happened {
                Happened::Line(Ok(Some(line))) => self.line(&line, character).await,
                Happened::Line(_) => Err(()),
                Happened::Say => {
                    say_at = Instant::now() + Duration::from_millis(self.desk.draw(10..200));
                    self.say().await
                }
                Happened::Time => {
                    ping_at = Instant::now() + SILENCE / 4;
                    self.ping().await
                }
            };
            if done.is_err() {
                break;
            }
        }
        let Standing { group, name, have, .. } = self.standing.clone();
        let reason = "the connection ended".to_owned();
        self.desk.record(What::Lost { group: group.clone(), name, reason });
        // Half of them forget what they had.
        (have > 0 && self.desk.one_in(2)).then_some((group, have))
    }

    async fn write(&mut self, line: String) -> Result<(), ()> {
        match timeout(SILENCE, self.write.write_all(line.as_bytes())).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(()),
        }
    }

    async fn say(&mut self) -> Result<(), ()> {
        let text = self.desk.fresh(&self.standing.name);
        self.desk.record(What::Sending {
            group: self.standing.group.clone(),
            from: self.standing.name.clone(),
            outside: false,
            text: text.clone(),
        });
        self.said = Some(text.clone());
        self.write(format!("MSG {text}\n")).await
    }

    async fn ping(&mut self) -> Result<(), ()> {
        if self.heard_at.elapsed() > SILENCE {
            return Err(());
        }
        self.write("PING\n".to_owned()).await
    }

    async fn line(&mut self, line: &str, character: Character) -> Result<(), ()> {
        self.heard_at = Instant::now();
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let (group, name) = (self.standing.group.clone(), self.standing.name.clone());
        match words[..] {
            ["OK", "MSG", seq] => {
                self.given(seq, Kind::Message, &name, "", character).await?;
                if let (Some(text), Ok(seq)) = (self.said.take(), seq.parse()) {
                    self.desk.record(What::Stored { text, seq });
                }
            }
            ["MSG" | "OLD", seq, from, text] => {
                self.given(seq, Kind::Message, from, text, character).await?;
            }
            ["JOINED", seq, who] => self.given(seq, Kind::Joined, who, "", character).await?,
            ["LEFT", seq, who, _] => self.given(seq, Kind::Left, who, "", character).await?,
            ["ACK", seq, count] | ["ACK", seq, count, _] => self.receipt(seq, count),
            ["GAP", first, last] => {
                let (first, last) = (number(first), number(last));
                self.desk.record(What::Gap { group, name, first, last });
            }
            ["RESET", next] => {
                self.desk.record(What::Reset { group, name, next: number(next) });
            }
            ["ERR", ..] => {
                if let Some(text) = self.said.take() {
                    self.desk.record(What::Failed { text, why: line.to_owned() });
                }
            }
            ["OK" | "*", ..] => {}
            _ => panic!("{line:?} is no line of the protocol"),
        }
        Ok(())
    }

    /// An entry: written down, then confirmed.
    async fn given(
        &mut self,
        seq: &str,
        kind: Kind,
        from: &str,
        text: &str,
        character: Character,
    ) -> Result<(), ()> {
        let seq = number(seq);
        let outside = from.starts_with('~');
        let then = if character.confirms { Then::Confirm } else { Then::Keep };
        self.desk.record(What::Entry(Entry {
            group: self.standing.group.clone(),
            name: self.standing.name.clone(),
            seq,
            kind,
            from: from.trim_start_matches('~').to_owned(),
            outside,
            text: text.to_owned(),
            then,
        }));
        self.standing.have = seq;
        if character.confirms {
            self.write(format!("ACK {seq}\n")).await?;
        }
        Ok(())
    }

    /// `n/m`: how many have it.
    fn receipt(&self, seq: &str, count: &str) {
        let Some((have, members)) = count.split_once('/') else { return };
        self.desk.record(What::Receipt(Receipt {
            group: self.standing.group.clone(),
            seq: number(seq),
            members: number(members) as u32,
            confirmed: number(have) as u32,
            reached: 0,
            missing: None,
        }));
    }

    /// Leaves: with `EXIT`, or by closing, which is the end of a stay on this door.
    async fn leave(&mut self) -> Option<(String, u64)> {
        let Standing { group, name, .. } = self.standing.clone();
        if self.desk.one_in(2) {
            self.desk.record(What::Leaving { group, name });
            let _ = self.write("EXIT\n".to_owned()).await;
            let until = Instant::now() + SILENCE;
            let patient = Character { confirms: false, says: false, dozes_ms: 0 };
            while let Ok(Ok(Some(line))) =
                tokio::time::timeout_at(until, self.lines.next_line()).await
            {
                if line == "OK EXIT" || self.line(&line, patient).await.is_err() {
                    break;
                }
            }
        }
        None
    }

    /// What was said and not answered may be stored.
    fn end(&mut self) {
        if let Some(text) = self.said.take() {
            let why = "the connection ended".to_owned();
            self.desk.record(What::Unknown { text, why });
        }
    }
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or_else(|_| panic!("{word:?} is no number"))
}
