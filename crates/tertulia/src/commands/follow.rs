//! `peer --follow`: a peer that is a member of a group by itself, fetches what the group is told of and confirms it.

use std::path::PathBuf;
use std::time::Duration;

use tertulia_client::{Code, Event, Kind, Member, MemberOptions, Target};
use tertulia_files::service::{self, Standing};
use tertulia_group::Name;
use tertulia_wire::file::FileBody;
use tertulia_wire::safe::make_safe;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::claim::{Claim, claim_numbered};
use super::fetch::{Fetches, Got, failed_text};
use crate::failure::Failure;
use crate::output::error_line;
use crate::state::Slot;
use crate::{logins, names};

/// The pauses before joining is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The cursor is written down at most this often.
const SAVE_EVERY: Duration = Duration::from_millis(250);
/// What is confirmed gets this long to reach the node when the peer ends.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// What following a group needs.
pub struct Following {
    /// The group.
    pub group: Name,
    /// The node, without a login.
    pub node: Target,
    /// Where the membership is kept.
    pub kept: PathBuf,
    /// Fetches into the peer's folder.
    pub fetcher: service::Fetcher,
    /// Whether somebody is logged in.
    pub standing: watch::Receiver<Standing>,
    /// Closed when the peer ends.
    pub ending: watch::Receiver<()>,
    /// Only failures are said.
    pub is_quiet: bool,
}

/// How a membership came to its end.
enum Ended {
    /// The peer ends.
    Peer,
    /// Nothing is to be tried again.
    ForGood,
    /// It is tried again.
    Lost(String),
}

/// Follows until the peer ends, or the membership is ended by somebody.
pub async fn run(mut following: Following) {
    let mut ending = following.ending.clone();
    let mut pause = PAUSES.0;
    loop {
        let claimed = tokio::select! {
            // It is closed, never changed.
            _ = ending.changed() => return,
            claimed = following.claim() => claimed,
        };
        let why = match claimed {
            Ok(claim) => {
                pause = PAUSES.0;
                match following.go(claim).await {
                    Ended::Peer | Ended::ForGood => return,
                    Ended::Lost(why) => why,
                }
            }
            Err(failure) => failure.message(),
        };
        let group = following.group.to_string();
        error_line(&make_safe(&format!("cannot follow {group} just now: {why}"), 1_000));
        tokio::select! {
            _ = ending.changed() => return,
            // Logging in may help at once.
            () = following.someone_else() => {}
            () = sleep(pause) => {}
        }
        pause = (pause * 2).min(PAUSES.1);
    }
}

impl Following {
    fn note(&self, text: &str) {
        if !self.is_quiet {
            error_line(&make_safe(&format!("{}: {text}", self.group), 1_000));
        }
    }

    /// Ends when another account is logged in, or somebody at all.
    async fn someone_else(&mut self) {
        let before = self.standing.borrow_and_update().user.clone();
        if self.standing.wait_for(|now| now.user != before).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Joins as soon as somebody is logged in, or comes back.
    async fn claim(&mut self) -> Result<Claim, Failure> {
        let known = self.standing.wait_for(|now| now.user.is_some()).await;
        let account = known.ok().and_then(|now| now.user.clone());
        // The peer is ending, and so does this.
        let Some(account) = account else { return std::future::pending().await };
        let target = self.node.clone().login(logins::find(self.node.address())?);
        let name = names::of_peer(&account);
        // Each account's memberships are its own.
        let kept = self.kept.join(names::check(&account)?.folded());
        let options =
            |name, saved| MemberOptions { durable: true, saved, ..MemberOptions::new(name) };
        claim_numbered(&target, &kept, &self.group, &name, options).await
    }

    async fn go(&self, claim: Claim) -> Ended {
        let Claim { mut member, slot, .. } = claim;
        let welcome = member.welcome();
        let back = if welcome.resumed { "going on" } else { "followed" };
        self.note(&format!("{back} as {}", welcome.name));
        let mut fetches = Fetches::new(self.fetcher.clone());
        let mut ending = self.ending.clone();
        let mut save_at = None;
        save(&slot, &member);
        let ended = loop {
            let has_room = fetches.has_room();
            let moved = tokio::select! {
                _ = ending.changed() => break Ended::Peer,
                Some((seq, got)) = fetches.next() => {
                    self.got(&member, seq, &got);
                    true
                }
                () = at(save_at) => {
                    save(&slot, &member);
                    save_at = None;
                    false
                }
                event = member.next(), if has_room => match event {
                    Some(event) => match self.take(event, &member, &mut fetches, &slot) {
                        Ok(moved) => moved,
                        Err(ended) => break ended,
                    },
                    None => break Ended::Lost("the membership has ended".to_owned()),
                },
            };
            if moved {
                save_at.get_or_insert_with(|| Instant::now() + SAVE_EVERY);
            }
        };
        fetches.end().await;
        if matches!(ended, Ended::Peer) {
            save(&slot, &member);
            sleep(LAST_WORDS).await;
        }
        ended
    }

    /// Whether the cursor may have moved.
    fn take(
        &self,
        event: Event,
        member: &Member,
        fetches: &mut Fetches,
        slot: &Slot,
    ) -> Result<bool, Ended> {
        match event {
            Event::Entry(entry) => {
                let seq = entry.header.seq;
                let is_file = entry.header.kind == Kind::File;
                match FileBody::read(&entry.body()).ok().filter(|_| is_file) {
                    Some(file) => {
                        member.open(seq);
                        fetches.start_one(seq, file);
                    }
                    None => member.done(seq),
                }
                return Ok(true);
            }
            Event::Gap { first, last } => self.note(&format!("#{first} to #{last} are gone")),
            Event::Reset { next } => {
                self.note(&format!("the log is another one; going on at #{next}"));
            }
            Event::Lost { reason } => {
                self.note(&format!("connection lost ({reason}); trying again"));
            }
            Event::Back { resumed: true } => self.note("back"),
            Event::Back { resumed: false } => {
                self.note("back, as a new member: the old membership had ended");
            }
            Event::Confirmed(_) => {}
            Event::Left { code: Some(Code::Removed), .. } => {
                slot.forget();
                self.note("removed by name; it is followed no more until the peer starts again");
                return Err(Ended::ForGood);
            }
            Event::Left { message, .. } => return Err(Ended::Lost(message)),
        }
        Ok(true)
    }

    fn got(&self, member: &Member, seq: u64, got: &Got) {
        match got {
            Got::Here(text) => {
                member.done(seq);
                self.note(&format!("#{seq} {text}"));
            }
            Got::Failed { code, text, hash } => {
                member.fail(seq, code);
                let again = format!("tertulia files get {hash} -o FOLDER");
                self.note(&failed_text(seq, code, text, hash, &again));
            }
        }
    }
}

fn save(slot: &Slot, member: &Member) {
    if let Err(error) = slot.write(&member.saved()) {
        let path = slot.path().display().to_string();
        tracing::warn!("cannot write {path}, so that nothing can be resumed: {error}");
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
