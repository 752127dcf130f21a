//! `join`: a member that prints each entry and confirms it once it is out, or runs a program for it.

use std::time::Duration;

use tertulia_client::{
    Code, Directory, Entry, Event, Handle, Kind, Member, MemberOptions, Seq, Start, Target,
};
use tertulia_wire::file::FileBody;
use tertulia_wire::safe::make_safe;
use tertulia_wire::shown_name;
use tokio::time::{Instant, sleep_until};

use super::claim::{Claim, claim};
use super::exec::{Job, Ran, Runner, kill_running};
use super::fetch::{Fetcher, Got, failed_text};
use super::reserved::Reserved;
use super::{members_text, now_us, print};
use crate::cli::JoinArgs;
use crate::failure::{Failure, Outcome};
use crate::names;
use crate::output::{Notice, Output};
use crate::signals::{Signals, Stop};
use crate::state::{Slot, state_folder};

/// Entries that are printed before the output is flushed and they are confirmed.
const BATCH_MAX: usize = 512;
/// The cursor is written down at most this often.
const SAVE_EVERY: Duration = Duration::from_millis(250);
/// What is confirmed gets this long to reach the node when the program ends and stays a member.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Joins, and goes on until told to stop.
pub async fn run(args: &JoinArgs, target: &Target, out: &mut Output) -> Outcome {
    let mut fetcher = None;
    let outcome = sit(args, target, &mut fetcher, out).await;
    // Of one that had no member: nobody is to ask it any more.
    if let Some(fetcher) = fetcher {
        fetcher.end().await;
    }
    outcome
}

/// Is the member for as long as there is one; `fetcher` is what was started for the next.
async fn sit(
    args: &JoinArgs,
    target: &Target,
    fetcher: &mut Option<Fetcher>,
    out: &mut Output,
) -> Outcome {
    let mut signals = Signals::listen_and(kill_running)?;
    let options = |name: String, saved| MemberOptions {
        start: args.from.unwrap_or(Start::Now),
        durable: args.durable,
        saved,
        ..MemberOptions::new(name)
    };
    let mut target = target.clone();
    // While somebody has to show that the name is theirs.
    let mut reserved: Option<Reserved> = None;
    loop {
        if let Some(reserved) = &mut reserved {
            target = tokio::select! {
                owner = reserved.owner(&target) => owner?,
                stop = signals.stopped() => return Ok(stop.exit()),
            };
        }
        // Before it is a member: who may not fetch would be one that nobody hears of again.
        if let (Some(folder), None) = (&args.fetch, &fetcher) {
            let started = tokio::select! {
                started = Fetcher::start(folder, args, &target, out) => started,
                stop = signals.stopped() => return Ok(stop.exit()),
            };
            match (started, &mut reserved) {
                (Err(failure), Some(seat)) => {
                    seat.waits_on(failure, out)?;
                    continue;
                }
                (started, _) => *fetcher = Some(started?),
            }
        }
        let (group, name) = match &reserved {
            Some(seat) => (Some(&seat.group), Some(&seat.name)),
            None => (args.group.as_ref(), args.name.as_ref()),
        };
        let claiming = claim(&target, group.map(String::as_str), name.map(String::as_str), options);
        let claimed = tokio::select! {
            claimed = claiming => claimed,
            stop = signals.stopped() => return Ok(stop.exit()),
        };
        let Claim { member, slot, .. } = match (claimed, &mut reserved) {
            (Err(failure), Some(seat)) => {
                seat.waits_on(failure, out)?;
                continue;
            }
            (claimed, _) => claimed?,
        };
        let mut session = Session::new(args, &target, &member, (slot, fetcher.take()), out);
        session.welcome(&member, reserved.take().is_some());
        session.save(&member);
        match session.go(member, &mut signals).await {
            Ended::Asked(member, stop) => return session.leave(member, stop, args.durable).await,
            Ended::Failed(failure) => return Err(failure),
            Ended::Reserved(member, why) => {
                let seat = session.step_aside(member, args.durable).await;
                seat.tell(&target, &why, out);
                reserved = Some(seat);
            }
        }
    }
}

/// How the session came to its end.
enum Ended {
    Asked(Member, Stop),
    Failed(Failure),
    /// The name is an account's now; in words.
    Reserved(Member, String),
}

struct Session<'a> {
    target: &'a Target,
    group: String,
    name: String,
    handle: Handle,
    slot: Slot,
    runner: Option<Runner>,
    fetcher: Option<Fetcher>,
    out: &'a mut Output,
    /// The old membership was not there any more: it may be because the store is another one.
    store_is_new: bool,
    /// When the cursor is to be written down; `None` while it is.
    save_at: Option<Instant>,
    save_failed: bool,
    /// The membership has ended: there is nothing to come back to.
    over: bool,
    /// The name has become an account's; in words. There is a seat to come back to.
    reserved: Option<String>,
    from: Option<Start>,
}

impl<'a> Session<'a> {
    fn new(
        args: &JoinArgs,
        target: &'a Target,
        member: &Member,
        (slot, fetcher): (Slot, Option<Fetcher>),
        out: &'a mut Output,
    ) -> Self {
        let runner = args.exec.as_ref().map(|command| Runner::new(command, args.jobs, out.json));
        let welcome = member.welcome();
        Self {
            target,
            group: welcome.group.clone(),
            name: welcome.name.clone(),
            handle: member.handle().clone(),
            slot,
            runner,
            fetcher,
            out,
            store_is_new: false,
            save_at: None,
            save_failed: false,
            over: false,
            reserved: None,
            from: args.from,
        }
    }

    /// Says where it is; `again` when it was there before.
    fn welcome(&self, member: &Member, again: bool) {
        let (welcome, located) = (member.welcome(), member.located());
        let back = if welcome.resumed { "back in" } else { "joined" };
        let members = members_text(welcome.members);
        let (group, name, at) = (&self.group, &self.name, &located.coordinator);
        let line = format!("{back} {group} as {name} ({members}, coordinated at {at})");
        self.notice("JOINED", &make_safe(&line, usize::MAX));
        if welcome.resumed && self.from.is_some() && !again {
            let cursor = member.saved().cursor;
            self.out.note(&format!("going on after #{cursor}: --from is for a first join"));
        }
    }

    /// What a program may want to know, too.
    fn notice(&self, code: &str, message: &str) {
        let (group, name) = (&self.group, &self.name);
        self.out.notice(&Notice { code, group, name, message, time_us: now_us() });
    }

    async fn go(&mut self, mut member: Member, signals: &mut Signals) -> Ended {
        loop {
            let has_room = self.has_room();
            let save_at = self.save_at;
            let step = tokio::select! {
                stop = signals.stopped() => return Ended::Asked(member, stop),
                Some((seq, ran)) = next_ran(&mut self.runner) => {
                    self.ran(seq, &ran);
                    Ok(())
                }
                Some((seq, got)) = next_got(&mut self.fetcher) => {
                    self.got(seq, &got);
                    Ok(())
                }
                () = at(save_at) => {
                    self.save(&member);
                    Ok(())
                }
                event = member.next(), if has_room => self.take(event, &mut member).await,
            };
            if let Err(failure) = step {
                // What was not printed is not confirmed, and comes again when the member comes back.
                self.save(&member);
                return match self.reserved.take() {
                    Some(why) => Ended::Reserved(member, why),
                    None => Ended::Failed(failure),
                };
            }
            if std::mem::take(&mut self.store_is_new) {
                self.move_state().await;
            }
        }
    }

    fn has_room(&self) -> bool {
        self.runner.as_ref().is_none_or(Runner::has_room)
            && self.fetcher.as_ref().is_none_or(|fetcher| fetcher.fetches.has_room())
    }

    /// One event and all that are there by now: prints them, flushes once, confirms.
    async fn take(&mut self, first: Option<Event>, member: &mut Member) -> Result<(), Failure> {
        let mut printed = Vec::new();
        let mut next = first;
        let result = loop {
            let Some(event) = next else {
                break Err(Failure::failed("CLOSED", "the membership has ended"));
            };
            if let Err(failure) = self.event(event, &mut printed) {
                break Err(failure);
            }
            let has_room = self.has_room();
            if printed.len() >= BATCH_MAX || !has_room {
                break Ok(());
            }
            tokio::select! {
                biased;
                event = member.next() => next = event,
                () = std::future::ready(()) => break Ok(()),
            }
        };
        // Also where something failed: what is out is out. What cannot be flushed is not.
        self.out.flush()?;
        for seq in printed {
            self.handle.done(seq);
        }
        self.moved();
        result
    }

    fn event(&mut self, event: Event, printed: &mut Vec<Seq>) -> Result<(), Failure> {
        match event {
            Event::Entry(entry) => self.entry(&entry, printed)?,
            Event::Gap { first, last } => print::gap(&self.group, first, last, self.out)?,
            Event::Reset { next } => print::reset(&self.group, next, self.out)?,
            Event::Lost { reason } => {
                let reason = make_safe(&reason, usize::MAX);
                self.notice("LOST", &format!("connection lost ({reason}); trying again"));
            }
            Event::Back { resumed: true } => self.notice("BACK", "back"),
            Event::Back { resumed: false } => {
                self.notice("BACK_ANEW", "back, as a new member: the old membership had ended");
                self.store_is_new = true;
            }
            Event::Confirmed(_) => {}
            Event::Left { code: Some(Code::NameReserved), message } => {
                self.reserved = Some(message.clone());
                return Err(Failure::failed(Code::NameReserved.as_str(), message));
            }
            Event::Left { code, message } => {
                self.over = true;
                // Elsewhere it may go on: who replaced this one writes the file now, and who may come back needs it.
                if matches!(code, Some(Code::Removed | Code::BadSecret | Code::UnknownGroup)) {
                    self.slot.forget();
                }
                let word = code.map_or("CLOSED", |code| code.as_str());
                let message =
                    if message.is_empty() { "the membership has ended".into() } else { message };
                return Err(Failure::failed(word, message));
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry, printed: &mut Vec<Seq>) -> Result<(), Failure> {
        let seq = entry.header.seq;
        print::entry(&self.group, entry, self.out)?;
        if let (Some(fetcher), Kind::File) = (&mut self.fetcher, entry.header.kind)
            && let Ok(file) = FileBody::read(&entry.body())
        {
            self.handle.open(seq);
            fetcher.fetches.start_one(seq, file);
            return Ok(());
        }
        match &mut self.runner {
            Some(runner) if entry.header.kind == Kind::Message => {
                // Out before the program's own output.
                self.out.flush()?;
                self.handle.open(seq);
                let (from, group) = (shown_name(entry).into_owned(), self.group.clone());
                runner.start(Job { seq, from, group, text: entry.body() });
            }
            _ => printed.push(seq),
        }
        Ok(())
    }

    fn ran(&mut self, seq: Seq, ran: &Ran) {
        match ran {
            Ran::Done => self.handle.done(seq),
            Ran::Failed(code) => {
                self.handle.fail(seq, code);
                self.out.note(&format!("#{seq} failed: {code}"));
            }
            // Stays open: it comes again, or the receipt says that it was not done.
            Ran::Cut => {}
        }
        self.moved();
    }

    fn got(&mut self, seq: Seq, got: &Got) {
        match got {
            Got::Here(text) => {
                self.handle.done(seq);
                self.out.note(&make_safe(&format!("#{seq} {text}"), usize::MAX));
            }
            Got::Failed { code, text, hash } => {
                self.handle.fail(seq, code);
                let again =
                    format!("leave and join again with --from {seq}, or tertulia files get {hash}");
                let line = failed_text(seq, code, text, hash, &again);
                self.out.note(&make_safe(&line, usize::MAX));
            }
        }
        self.moved();
    }

    fn moved(&mut self) {
        self.save_at.get_or_insert_with(|| Instant::now() + SAVE_EVERY);
    }

    fn save(&mut self, member: &Member) {
        self.save_at = None;
        if self.over {
            return;
        }
        // A disk that is full is told once, not four times a second.
        match self.slot.write(&member.saved()) {
            Ok(()) => self.save_failed = false,
            Err(error) if !self.save_failed => {
                self.save_failed = true;
                let path = self.slot.path().display().to_string();
                tracing::warn!("cannot write {path}, so that nothing can be resumed: {error}");
            }
            Err(_) => {}
        }
    }

    /// The state belongs to a store: where the node has another one now, it moves there.
    async fn move_state(&mut self) {
        let Ok(directory) = Directory::connect(self.target).await else { return };
        let (Ok(root), Ok(group), Ok(name)) =
            (state_folder(), names::check(&self.group), names::check(&self.name))
        else {
            return;
        };
        match Slot::of_member(&root, directory.instance(), &group, &name) {
            Ok(Some(slot)) => {
                self.slot.forget();
                self.slot = slot;
                self.moved();
            }
            // It is this very one, or another program's.
            Ok(None) => {}
            Err(failure) => tracing::warn!("{}", failure.message()),
        }
    }

    /// Gives up what it is at work on: who comes back gets it again.
    async fn stop_working(&mut self) {
        if let Some(runner) = self.runner.take() {
            if runner.is_running() {
                self.out.note(
                    "waiting for the programs that still run, 5 s at most; Ctrl-C again ends them",
                );
            }
            for (seq, ran) in runner.end().await {
                self.ran(seq, &ran);
            }
        }
        if let Some(fetcher) = self.fetcher.take() {
            fetcher.end().await;
        }
    }

    /// Leaves the seat to whoever can show that the name is theirs.
    async fn step_aside(mut self, member: Member, durable: bool) -> Reserved {
        self.stop_working().await;
        self.save(&member);
        Reserved::new(self.group, self.name, durable)
    }

    async fn leave(mut self, member: Member, stop: Stop, durable: bool) -> Outcome {
        self.stop_working().await;
        self.save(&member);
        let (group, name) = (&self.group, &self.name);
        if durable {
            tokio::time::sleep(LAST_WORDS).await;
            let line = format!(
                "going; {name} stays a member of {group} (to end that: tertulia remove {group} {name})"
            );
            self.out.note(&make_safe(&line, usize::MAX));
            return Ok(stop.exit());
        }
        match member.leave().await {
            Ok(()) => {
                self.slot.forget();
                self.out.note(&make_safe(&format!("left {group}"), usize::MAX));
            }
            Err(error) => {
                let line = format!("going; the node could not be told ({error})");
                self.out.note(&make_safe(&line, usize::MAX));
            }
        }
        Ok(stop.exit())
    }
}

async fn next_ran(runner: &mut Option<Runner>) -> Option<(Seq, Ran)> {
    match runner {
        Some(runner) => runner.next().await,
        None => None,
    }
}

async fn next_got(fetcher: &mut Option<Fetcher>) -> Option<(Seq, Got)> {
    match fetcher {
        Some(fetcher) => fetcher.fetches.next().await,
        None => None,
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
