//! `chat`: a member whose standard input is published line by line, in plain lines.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tertulia_client::{
    Code, Entry, Error, Event, Handle, Member, MemberOptions, Place, Receipt, Sent, Target,
};
use tertulia_wire::safe::make_safe;
use tertulia_wire::text::missing_text;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::delivery::no_receipt;
use super::reserved::advice;
use super::{directory, members_text, now_us, print};
use crate::cli::ChatArgs;
use crate::failure::{Exit, Failure, Outcome};
use crate::input::{self, Lines, Typed};
use crate::names;
use crate::output::{Colour, Notice, Output, colours, error_line, paint};
use crate::signals::{Signals, Stop};

/// Lines that wait for room on the way to the node.
const LINES_WAITING: usize = 64;
/// A message that not everybody has by then is said to be on its way.
const SLOW: Duration = Duration::from_secs(5);
/// At the end of the input, what is under way gets so long.
const END_WITHIN: Duration = Duration::from_secs(5);
/// A person who leaves waits so long for who has not confirmed what is stored.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);
/// Numbers of one's own messages that are told together.
const NUMBERS_SHOWN: usize = 10;
/// Names that are tried where none was given and nobody can be asked.
const NUMBERS_MAX: u32 = 99;

/// Chats until the input ends, `/quit` or Ctrl-C.
pub async fn run(args: &ChatArgs, target: &Target, out: &mut Output) -> Outcome {
    let mut signals = Signals::listen()?;
    out.beside_typing();
    let mut lines = Lines::read();
    let member = tokio::select! {
        member = enter(args, target, &mut lines) => member?,
        stop = signals.stopped() => {
            after_signal(stop, out);
            return Ok(stop.exit());
        }
    };
    let Some(member) = member else { return Ok(Exit::Done) };
    let welcome = member.welcome();
    let members = members_text(welcome.members);
    let line = format!("you are {} in {} ({members}); /help", welcome.name, welcome.group);
    out.note(&make_safe(&line, usize::MAX));
    let mut chat = Chat {
        group: welcome.group.clone(),
        name: welcome.name.clone(),
        target,
        out,
        worst: Exit::Done,
    };
    chat.talk(member, &mut lines, &mut signals).await
}

/// Joins; a person is asked for a name, again where it cannot be had. `None`: the person gave up.
async fn enter(
    args: &ChatArgs,
    target: &Target,
    lines: &mut Lines,
) -> Result<Option<Member>, Failure> {
    let person = input::is_terminal();
    let default = names::default_at(target);
    let mut name = args.name.clone();
    for number in 1.. {
        let wanted = match name.take() {
            Some(name) => name,
            None if person && target.login_shown().is_none() => {
                match lines.ask("Your name? ").await {
                    Some(name) if name.is_empty() => continue,
                    Some(name) => name,
                    None => return Ok(None),
                }
            }
            None => names::numbered(&default, number),
        };
        let place = Place::Group(args.group.clone());
        let refused = match Member::join(target, place, MemberOptions::new(wanted)).await {
            Ok(member) => return Ok(Some(member)),
            Err(error) => error,
        };
        let another =
            matches!(refused.code(), Some(Code::NameTaken | Code::NameReserved | Code::BadName));
        let numbers = args.name.is_none() && number < NUMBERS_MAX;
        if !another || !(person || numbers) {
            return Err(refused.into());
        }
        if let (true, Error::Refused { message, .. }) = (person, refused) {
            error_line(&make_safe(&message, usize::MAX));
        }
    }
    Ok(None)
}

struct Chat<'a> {
    group: String,
    name: String,
    target: &'a Target,
    out: &'a mut Output,
    worst: Exit,
}

impl Chat<'_> {
    async fn talk(
        &mut self,
        mut member: Member,
        lines: &mut Lines,
        signals: &mut Signals,
    ) -> Outcome {
        let (to_publisher, bodies) = mpsc::channel(LINES_WAITING);
        let mut to_publisher = Some(to_publisher);
        let show = std::io::stderr().is_terminal() && !self.out.quiet;
        let under_way = Arc::new(UnderWay::default());
        let mut publisher = tokio::spawn(publish_all(
            member.handle().clone(),
            self.group.clone(),
            bodies,
            Arc::clone(&under_way),
            Teller::new(show, self.out),
        ));
        let (mut end_at, mut last_at): (Option<Instant>, Option<Instant>) = (None, None);
        let mut quit = false;
        let stop = loop {
            if quit {
                to_publisher = None;
                let within = if input::is_terminal() { LEAVE_WITHIN } else { END_WITHIN };
                end_at.get_or_insert_with(|| Instant::now() + within);
                last_at.get_or_insert_with(|| Instant::now() + END_WITHIN);
            }
            let typed = async {
                match &to_publisher {
                    // Room first: a line that is taken has to go somewhere.
                    Some(to) => Some((to.reserve().await.ok(), lines.next().await)),
                    None => None,
                }
            };
            tokio::select! {
                stop = signals.stopped() => break Some(stop),
                event = member.next() => self.take(event, &mut member).await?,
                Some((room, line)) = typed => {
                    quit = match (room, line) {
                        (Some(room), Some(line)) => self.typed(line, room, &under_way).await,
                        _ => true,
                    };
                }
                worst = &mut publisher => {
                    self.worst = self.worst.max(worst.unwrap_or(Exit::Unknown));
                    break None;
                }
                // What is not stored yet is waited for as long as from a pipe.
                () = until(end_at) => match under_way.unstored() > 0 && end_at < last_at {
                    true => end_at = last_at,
                    false => {
                        // From here on nobody else tells what becomes of them.
                        publisher.abort();
                        self.give_up(&under_way, Teller::new(show, self.out));
                        break None;
                    }
                },
            }
        };
        if let Some(stop) = stop {
            after_signal(stop, self.out);
        }
        publisher.abort();
        // A node that cannot be told notices by itself that the connection has ended.
        let _ = member.leave().await;
        Ok(stop.map_or(self.worst, |stop| stop.exit().max(self.worst)))
    }

    /// What has come: others' entries are printed, all are confirmed.
    async fn take(&mut self, first: Option<Event>, member: &mut Member) -> Result<(), Failure> {
        let mut done = Vec::new();
        let mut next = first;
        loop {
            match next {
                None => return Err(Failure::failed("CLOSED", "the membership has ended")),
                Some(event) => self.event(event, &mut done)?,
            }
            tokio::select! {
                biased;
                event = member.next() => next = event,
                () = std::future::ready(()) => break,
            }
        }
        self.out.flush()?;
        done.into_iter().for_each(|seq| member.done(seq));
        Ok(())
    }

    fn event(&mut self, event: Event, done: &mut Vec<u64>) -> Result<(), Failure> {
        match event {
            Event::Entry(entry) => {
                if !self.is_own(&entry) {
                    print::entry(&self.group, &entry, self.out)?;
                }
                done.push(entry.header.seq);
            }
            Event::Gap { first, last } => print::gap(&self.group, first, last, self.out)?,
            Event::Reset { next } => print::reset(&self.group, next, self.out)?,
            Event::Lost { reason } => {
                let reason = make_safe(&reason, usize::MAX);
                self.notice("LOST", &format!("connection lost ({reason}); trying again"));
            }
            Event::Back { resumed } => {
                self.notice(if resumed { "BACK" } else { "BACK_ANEW" }, "back");
            }
            Event::Confirmed(_) => {}
            Event::Left { code, message } => {
                let word = code.map_or("CLOSED", |code| code.as_str());
                let failure = Failure::failed(word, message);
                return Err(match code {
                    Some(Code::NameReserved) => {
                        failure.and(&advice(self.target, &self.name, "then chat again"))
                    }
                    _ => failure,
                });
            }
        }
        Ok(())
    }

    /// What a program may want to know, too.
    fn notice(&self, code: &str, message: &str) {
        let (group, name) = (&self.group, &self.name);
        self.out.notice(&Notice { code, group, name, message, time_us: now_us() });
    }

    /// The person has just typed it.
    fn is_own(&self, entry: &Entry) -> bool {
        entry.header.publisher().is_some() && entry.name() == self.name
    }

    /// Does what the line says; whether it says to leave.
    async fn typed(
        &self,
        line: Vec<u8>,
        room: mpsc::Permit<'_, Vec<u8>>,
        under_way: &UnderWay,
    ) -> bool {
        match input::typed(line) {
            Typed::Nothing => {}
            Typed::Command(word) => match &*word {
                "quit" => return true,
                "who" => self.who().await,
                "help" => error_line(&format!(
                    "/who: who is here   /quit or Ctrl-D: leave   {}",
                    input::SAID
                )),
                _ => error_line(input::NO_SUCH_COMMAND),
            },
            Typed::Text(line) => {
                under_way.begins();
                room.send(line);
            }
        }
        false
    }

    /// The input has ended, and not all was answered for in time: neither stored, nor confirmed by everybody.
    fn give_up(&mut self, under_way: &UnderWay, teller: Teller) {
        let numbers: Vec<String> =
            under_way.unconfirmed().iter().map(|seq| format!("#{seq}")).collect();
        if teller.show && !numbers.is_empty() {
            teller.tell(&format!("  … {}, not with everybody yet", numbers.join(", ")));
        }
        let unstored = under_way.unstored();
        if unstored == 0 {
            return;
        }
        let which = if unstored == 1 { "message".into() } else { format!("{unstored} messages") };
        let failure = Failure::unknown(format!(
            "the outcome is unknown: the node has not answered for the last {which} in time, which may be stored"
        ));
        failure.show(self.out.json);
        self.worst = self.worst.max(failure.exit());
    }

    async fn who(&self) {
        let members =
            async { Ok::<_, Failure>(directory(self.target).await?.members(&self.group).await?) };
        match members.await {
            Ok(members) => {
                let names: Vec<String> = members
                    .iter()
                    .map(|member| match member.presence {
                        tertulia_client::Presence::Here => member.name.clone(),
                        presence => format!("{} ({})", member.name, presence.as_str()),
                    })
                    .collect();
                error_line(&make_safe(&format!("here: {}", names.join(", ")), usize::MAX));
            }
            Err(failure) => failure.show(false),
        }
    }
}

/// The terminal shows `^C` where the cursor is: what comes next begins a line.
fn after_signal(stop: Stop, out: &Output) {
    if stop == Stop::Interrupt && !out.lead().is_empty() {
        error_line("");
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// One's own messages that are not answered for.
#[derive(Default)]
struct UnderWay {
    unstored: AtomicUsize,
    /// Stored, and not confirmed by everybody.
    unconfirmed: Mutex<BTreeSet<u64>>,
}

impl UnderWay {
    fn begins(&self) {
        self.unstored.fetch_add(1, Ordering::Relaxed);
    }

    fn is_stored(&self, as_number: Option<u64>) {
        self.unconfirmed.lock().unwrap_or_else(PoisonError::into_inner).extend(as_number);
        self.unstored.fetch_sub(1, Ordering::Relaxed);
    }

    fn is_confirmed(&self, seq: Option<u64>) {
        let mut unconfirmed = self.unconfirmed.lock().unwrap_or_else(PoisonError::into_inner);
        seq.map(|seq| unconfirmed.remove(&seq));
    }

    fn unstored(&self) -> usize {
        self.unstored.load(Ordering::Relaxed)
    }

    /// The first few.
    fn unconfirmed(&self) -> Vec<u64> {
        let unconfirmed = self.unconfirmed.lock().unwrap_or_else(PoisonError::into_inner);
        unconfirmed.iter().take(NUMBERS_SHOWN).copied().collect()
    }
}

/// How what became of one's own messages is told.
#[derive(Clone, Copy)]
struct Teller {
    show: bool,
    json: bool,
    lead: &'static str,
}

impl Teller {
    const fn new(show: bool, out: &Output) -> Self {
        Self { show, json: out.json, lead: out.lead() }
    }

    fn tell(self, line: &str) {
        let line = paint(line, Colour::Dim, colours(&std::io::stderr()));
        error_line(&format!("{}{line}", self.lead));
    }

    fn failed(self, failure: &Failure) {
        input::prompt(self.lead);
        failure.show(self.json);
    }
}

/// Publishes in order, and follows every message to its receipt; the worst of all outcomes.
async fn publish_all(
    handle: Handle,
    group: String,
    mut bodies: mpsc::Receiver<Vec<u8>>,
    under_way: Arc<UnderWay>,
    teller: Teller,
) -> Exit {
    let mut following = JoinSet::new();
    let mut worst = Exit::Done;
    let mut open = true;
    while open || !following.is_empty() {
        tokio::select! {
            body = bodies.recv(), if open => match body {
                None => open = false,
                Some(body) => match handle.publish(body).await {
                    Ok(sent) => {
                        let (under_way, group) = (Arc::clone(&under_way), group.clone());
                        following.spawn(async move {
                            let stored =
                                async { under_way.is_stored(sent.stored().await.ok()) };
                            let (exit, ()) = tokio::join!(follow(&sent, &group, teller), stored);
                            under_way.is_confirmed(sent.seq());
                            exit
                        });
                    }
                    Err(error) => {
                        under_way.is_stored(None);
                        teller.failed(&Failure::from(error));
                        worst = worst.max(Exit::Failed);
                    }
                },
            },
            Some(exit) = following.join_next() => worst = worst.max(exit.unwrap_or(Exit::Unknown)),
        }
    }
    worst
}

/// Says quietly what became of one's own message.
async fn follow(sent: &Sent, group: &str, teller: Teller) -> Exit {
    let receipt = match tokio::time::timeout(SLOW, sent.receipt()).await {
        Ok(receipt) => receipt,
        Err(_) => {
            if teller.show {
                let number =
                    sent.seq().map_or_else(|| "not stored".into(), |seq| format!("#{seq}"));
                teller.tell(&format!("  … {number}, not with everybody yet"));
            }
            sent.receipt().await
        }
    };
    match receipt {
        Ok(receipt) => {
            if teller.show {
                teller.tell(&receipt_text(&receipt));
            }
            Exit::Done
        }
        Err(error) => {
            let failure = match sent.seq() {
                Some(seq) => no_receipt(group, seq, error),
                None => error.into(),
            };
            teller.failed(&failure);
            failure.exit()
        }
    }
}

/// `  ✓ 3/3 #42`
fn receipt_text(receipt: &Receipt) -> String {
    let (seq, members) = (receipt.seq, receipt.members);
    if members == 0 {
        return format!("  #{seq}, nobody else is here");
    }
    let count = receipt.confirmed + receipt.reached;
    let mark = if receipt.is_complete() { "✓ " } else { "" };
    let missing: Vec<String> = receipt.missing.iter().map(missing_text).collect();
    let lead = if missing.is_empty() { "" } else { "  missing: " };
    format!("  {mark}{count}/{members} #{seq}{lead}{}", missing.join(", "))
}
