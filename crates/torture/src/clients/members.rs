//! Members by the library: they join, come back with what they have saved, and begin anew under another name.

use std::path::Path;
use std::sync::Arc;

use tertulia_client::{Member, MemberOptions, Place, Saved, Start};

use super::desk::Desk;
use super::stay::{End, Stay};
use super::{Standing, outcome};
use crate::history::{Begin, What};

/// What the members of one slot are like.
#[derive(Clone, Copy, Debug)]
pub struct Character {
    /// Stays a member however long it is away.
    pub durable: bool,
    /// Confirms later, by this many milliseconds at most.
    pub slow_ms: u64,
    /// Works longer on one message of so many, and fails some; 0: on none.
    pub opens_one_in: u64,
    /// Publishes too.
    pub publishes: bool,
    /// Leaves after this many milliseconds at most, and joins anew.
    pub stays_ms: u64,
    /// Ends without leaving after this many milliseconds at most, and comes back.
    pub drops_ms: u64,
}

const PLAIN: Character = Character {
    durable: false,
    slow_ms: 0,
    opens_one_in: 0,
    publishes: false,
    stays_ms: 120_000,
    drops_ms: 60_000,
};

/// The slots of a process.
const CHARACTERS: [Character; 4] = [
    Character { durable: true, drops_ms: 8_000, ..PLAIN },
    Character { opens_one_in: 5, publishes: true, ..PLAIN },
    Character { stays_ms: 6_000, publishes: true, ..PLAIN },
    Character { slow_ms: 200, durable: true, opens_one_in: 20, drops_ms: 10_000, ..PLAIN },
];

/// Starts the process's members.
pub fn start(desk: &Arc<Desk>) {
    for (index, character) in CHARACTERS.into_iter().enumerate() {
        let slot = format!("{}-{index}", desk.args.name);
        tokio::spawn(be_for_ever(Arc::clone(desk), slot, character));
    }
}

async fn be_for_ever(desk: Arc<Desk>, slot: String, character: Character) {
    let path = desk.state_path(&slot);
    loop {
        let saved = read(&path);
        if saved.is_none() {
            desk.stands(&slot, None);
            desk.may_begin().await;
        }
        let Some(member) = join(&desk, &slot, character, saved).await else { continue };
        let stay = Stay::new(&desk, &slot, character, member);
        match stay.go().await {
            End::Over => drop(std::fs::remove_file(&path)),
            // What is saved is there: the next turn comes back with it.
            End::Dropped => desk.linger(0..1500).await,
        }
    }
}

/// One try, or as many as it takes to come back.
async fn join(
    desk: &Arc<Desk>,
    slot: &str,
    character: Character,
    saved: Option<Saved>,
) -> Option<Member> {
    let is_new = saved.is_none();
    let group = saved.as_ref().map_or_else(|| desk.group(), |saved| saved.group.clone());
    let name = saved.as_ref().map_or_else(|| desk.fresh(slot), |saved| saved.name.clone());
    let (start, begin) = match (&saved, desk.draw(0..6)) {
        (Some(saved), _) => {
            let begin = Begin::Saved { cursor: saved.cursor, open: saved.open.clone() };
            (Start::Now, begin)
        }
        (None, 0) if desk.args.era <= 1 => (Start::First, Begin::First),
        (None, 1) => {
            let count = desk.draw(1..500);
            (Start::Last(count), Begin::Last { count })
        }
        (None, _) => (Start::Now, Begin::Now),
    };
    let (durable, standing) = (character.durable, |is_in| Standing {
        group: group.clone(),
        name: name.clone(),
        is_in,
        ..Standing::default()
    });
    desk.stands(slot, Some(standing(false)));
    desk.record(What::Joining { group: group.clone(), name: name.clone(), from: begin });
    loop {
        let options =
            MemberOptions { start, durable, saved: saved.clone(), ..MemberOptions::new(&name) };
        let error = match Member::join(&desk.target(), Place::Group(group.clone()), options).await {
            Ok(member) => {
                desk.record(joined(&group, &name, &member));
                return Some(member);
            }
            Err(error) => error,
        };
        let is_final = error.code().is_some_and(outcome::is_final);
        if is_new || is_final {
            // The first try of a new member may have been stored: its name is used up.
            let why = error.to_string();
            desk.record(What::NotJoined { group: group.clone(), name: name.clone(), why });
            let _ = std::fs::remove_file(desk.state_path(slot));
            desk.stands(slot, None);
            desk.linger(50..200).await;
            return None;
        }
        desk.linger(50..200).await;
    }
}

fn joined(group: &str, name: &str, member: &Member) -> What {
    let welcome = member.welcome();
    let log = welcome.log.0.iter().map(|byte| format!("{byte:02x}")).collect();
    What::Joined {
        group: group.to_owned(),
        name: name.to_owned(),
        resumed: welcome.resumed,
        tail: welcome.seq,
        log,
        epoch: welcome.epoch,
    }
}

fn read(path: &Path) -> Option<Saved> {
    Saved::from_bytes(&std::fs::read(path).ok()?).ok()
}
