//! One life of a member by the library: reads, writes down, confirms, saves, and ends in one of several ways.

use std::sync::Arc;

use tertulia_client::{Event, Handle, Kind, Member};
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, sleep_until};

use super::desk::Desk;
use super::laters::{Deed, Laters};
use super::members::Character;
use super::outcome::{follow, not_stored};
use super::{Standing, outcome};
use crate::history::{Entry, Then, What};

/// Entries that are written down with one call of the system.
const BATCH_MAX: usize = 128;
/// How often what is needed to come back is written down, while there is something new.
const SAVE_EVERY: Duration = Duration::from_millis(20);

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The membership is over.
    Over,
    /// The program is, and will come back.
    Dropped,
}

/// See the module.
pub struct Stay<'a> {
    desk: &'a Arc<Desk>,
    slot: &'a str,
    character: Character,
    member: Member,
    standing: Standing,
    laters: Laters,
    save_at: Option<Instant>,
}

enum Happened {
    Event(Option<Event>),
    Due,
    Save,
    Leave,
    Drop,
}

impl<'a> Stay<'a> {
    /// A life that begins now.
    pub fn new(desk: &'a Arc<Desk>, slot: &'a str, character: Character, member: Member) -> Self {
        let welcome = member.welcome();
        let standing = Standing {
            group: welcome.group.clone(),
            name: welcome.name.clone(),
            is_in: true,
            // Nothing above that was given to an earlier life and done.
            have: member.saved().cursor,
            undone: 0,
        };
        let laters = Laters::default();
        Self { desk, slot, character, member, standing, laters, save_at: None }
    }

    /// Lives it to its end.
    pub async fn go(mut self) -> End {
        self.save();
        self.stand();
        let publisher = self.character.publishes.then(|| self.publish());
        let after = |ms| Instant::now() + Duration::from_millis(self.desk.draw(ms / 4..ms));
        let leave_at = after(self.character.stays_ms);
        let drop_at = after(self.character.drops_ms);
        let end = loop {
            let save_at = self.save_at;
            let goes = !self.desk.is_paused();
            let happened = tokio::select! {
                event = self.member.next() => Happened::Event(event),
                () = self.laters.due() => Happened::Due,
                () = at(save_at) => Happened::Save,
                () = sleep_until(leave_at), if goes => Happened::Leave,
                () = sleep_until(drop_at), if goes => Happened::Drop,
            };
            match happened {
                Happened::Event(None) => break End::Over,
                Happened::Event(Some(event)) => self.take(event).await,
                Happened::Due => self.due(),
                Happened::Save => self.save(),
                Happened::Leave => {
                    stop(publisher).await;
                    return self.leave().await;
                }
                Happened::Drop => break End::Dropped,
            }
            self.stand();
        };
        stop(publisher).await;
        if end == End::Dropped {
            self.save();
        }
        self.standing.is_in = false;
        self.stand();
        end
    }

    fn stand(&mut self) {
        self.standing.undone = self.laters.len() as u64;
        self.desk.stands(self.slot, Some(self.standing.clone()));
    }

    fn save(&mut self) {
        self.save_at = None;
        let path = self.desk.state_path(self.slot);
        let new = path.with_extension("new");
        let saved = self.member.saved().to_bytes();
        let written = std::fs::write(&new, saved).and_then(|()| std::fs::rename(&new, &path));
        written.expect("the state can be written");
    }

    /// One event and what else is there by now. Everything is written down before it has an effect.
    async fn take(&mut self, first: Event) {
        let mut events = vec![first];
        while events.len() < BATCH_MAX {
            let next = tokio::select! {
                biased;
                event = self.member.next() => event,
                () = std::future::ready(()) => break,
            };
            let Some(event) = next else { break };
            events.push(event);
        }
        let (mut records, mut deeds) = (Vec::new(), Vec::new());
        for event in events {
            let (what, deed) = self.judge(event);
            records.extend(what);
            deeds.extend(deed);
        }
        self.desk.record_all(records);
        for (seq, then, later) in deeds {
            match then {
                Then::Confirm => self.member.done(seq),
                Then::Keep => {}
                Then::Open => self.member.open(seq),
            }
            if let Some((ms, deed)) = later {
                self.laters.add(ms, seq, deed);
            }
        }
        self.save_at.get_or_insert_with(|| Instant::now() + SAVE_EVERY);
    }

    /// What is to be written down of an event, and what is then done with it.
    #[expect(clippy::type_complexity, reason = "used once, right above")]
    fn judge(&mut self, event: Event) -> (Option<What>, Option<(u64, Then, Option<(u64, Deed)>)>) {
        let (group, name) = (self.standing.group.clone(), self.standing.name.clone());
        let what = match event {
            Event::Entry(entry) => {
                let seq = entry.header.seq;
                let (then, later) = self.decide(seq, entry.header.kind == Kind::Message);
                self.standing.have = self.standing.have.max(seq);
                let what = What::Entry(Entry { then, ..outcome::entry(&group, &name, &entry) });
                return (Some(what), Some((seq, then, later)));
            }
            Event::Gap { first, last } => What::Gap { group, name, first, last },
            Event::Reset { next } => What::Reset { group, name, next },
            Event::Lost { reason } => {
                self.standing.is_in = false;
                What::Lost { group, name, reason }
            }
            Event::Back { resumed } => {
                self.standing.is_in = true;
                What::Back { group, name, resumed }
            }
            Event::Left { message, .. } => What::Left { group, name, why: message },
            Event::Confirmed(_) => return (None, None),
        };
        (Some(what), None)
    }

    /// What the program does with an entry now, and what later.
    fn decide(&self, seq: u64, is_message: bool) -> (Then, Option<(u64, Deed)>) {
        let Character { slow_ms, opens_one_in, .. } = self.character;
        if is_message && opens_one_in > 0 && self.desk.one_in(opens_one_in) {
            let fails = self.desk.one_in(3);
            let deed = if fails { Deed::Fail(format!("exit {}", seq % 7)) } else { Deed::Done };
            return (Then::Open, Some((self.desk.draw(10..1500), deed)));
        }
        if slow_ms > 0 {
            return (Then::Keep, Some((self.desk.draw(0..slow_ms), Deed::Done)));
        }
        (Then::Confirm, None)
    }

    /// Does what was put off.
    fn due(&mut self) {
        let due = self.laters.take();
        let record = |(seq, deed): &(u64, Deed)| {
            let (group, name) = (self.standing.group.clone(), self.standing.name.clone());
            match deed {
                Deed::Done => What::Confirming { group, name, seq: *seq },
                Deed::Fail(code) => What::Failing { group, name, seq: *seq, code: code.clone() },
            }
        };
        self.desk.record_all(due.iter().map(record).collect());
        for (seq, deed) in due {
            match deed {
                Deed::Done => self.member.done(seq),
                Deed::Fail(code) => self.member.fail(seq, &code),
            }
        }
        self.save_at.get_or_insert_with(|| Instant::now() + SAVE_EVERY);
    }

    /// Leaves; where the node could not be told, it finds out by itself.
    async fn leave(self) -> End {
        let (group, name) = (self.standing.group, self.standing.name);
        self.desk.record(What::Leaving { group: group.clone(), name: name.clone() });
        self.desk.stands(self.slot, None);
        let why = match self.member.leave().await {
            Ok(()) => "left".to_owned(),
            Err(error) => error.to_string(),
        };
        self.desk.record(What::Left { group, name, why });
        End::Over
    }

    /// Publishes now and then, as long as the membership lasts.
    fn publish(&self) -> JoinHandle<()> {
        let (desk, handle) = (Arc::clone(self.desk), self.member.handle().clone());
        let (group, name) = (self.standing.group.clone(), self.standing.name.clone());
        tokio::spawn(async move {
            loop {
                desk.may_begin().await;
                publish_one(&desk, &handle, &group, &name).await;
                desk.linger(5..80).await;
            }
        })
    }
}

async fn publish_one(desk: &Arc<Desk>, handle: &Handle, group: &str, name: &str) {
    let text = desk.fresh(name);
    desk.record(What::Sending {
        group: group.to_owned(),
        from: name.to_owned(),
        outside: false,
        text: text.clone(),
    });
    let mut unsent = Unsent { desk, text: Some(text.clone()) };
    let sent = handle.publish(text.clone()).await;
    unsent.text = None;
    match sent {
        Ok(sent) => {
            let (desk, group) = (Arc::clone(desk), group.to_owned());
            tokio::spawn(async move { follow(&desk, &group, text, sent).await });
        }
        Err(error) => not_stored(desk, text, &error),
    }
}

/// A message that waits for room. Given up while it does, it was not sent: the library says so.
struct Unsent<'a> {
    desk: &'a Desk,
    text: Option<String>,
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        if let Some(text) = self.text.take() {
            self.desk.record(What::Failed { text, why: "given up before it was sent".to_owned() });
        }
    }
}

/// Ends the publisher. What it has sent by then is followed to its end by itself.
async fn stop(publisher: Option<JoinHandle<()>>) {
    if let Some(publisher) = publisher {
        publisher.abort();
        let _ = publisher.await;
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
