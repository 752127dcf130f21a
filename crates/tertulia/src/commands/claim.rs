//! Gets a membership under a name that is free on the node and on this machine, or goes on with one of earlier.

use std::path::Path;

use tertulia_client::{Code, Directory, Error, Member, MemberOptions, Place, Saved, Target};
use tertulia_group::Name;

use crate::failure::Failure;
use crate::names;
use crate::state::{Slot, state_folder};

/// So many members of one user on one host are numbered.
const NUMBERS_MAX: u32 = 9_999;

/// A membership that no other program of this user has.
pub struct Claim {
    /// The membership.
    pub member: Member,
    /// Where it is kept.
    pub slot: Slot,
    /// Without a group, the name is held as well.
    _name: Option<Slot>,
}

/// What was tried under one name.
enum Try {
    /// It is ours.
    Claimed(Box<Claim>),
    /// Somebody has it: as whose it is taken, and in words.
    Taken(Code, String),
}

/// Joins `group`, or the one that the allocator gives, as `name`, or under a numbered default name.
pub async fn claim(
    target: &Target,
    group: Option<&str>,
    name: Option<&str>,
    options: impl Fn(String, Option<Saved>) -> MemberOptions,
) -> Result<Claim, Failure> {
    let root = state_folder()?;
    let group = group.map(names::check).transpose()?;
    let directory = Directory::connect(target).await?;
    let asking =
        &mut Asking { target, root: &root, group: group.as_ref(), directory, options: &options };
    if let Some(name) = name {
        return match asking.attempt(&names::check(name)?).await? {
            Try::Claimed(claim) => Ok(*claim),
            Try::Taken(code, why) => Err(Failure::failed(code.as_str(), why)),
        };
    }
    let default = names::default_at(target);
    let claimed = asking.numbered(&default).await?;
    claimed.ok_or_else(|| {
        let text = format!("{default} and all its numbers are taken: choose a name with --name");
        Failure::failed(Code::NameTaken.as_str(), text)
    })
}

/// Joins `group` under this name, or a numbered one; what is kept of it stands below `root`.
pub async fn claim_numbered(
    target: &Target,
    root: &Path,
    group: &Name,
    name: &str,
    options: impl Fn(String, Option<Saved>) -> MemberOptions,
) -> Result<Claim, Failure> {
    let directory = Directory::connect(target).await?;
    let mut asking = Asking { target, root, group: Some(group), directory, options: &options };
    let claimed = asking.numbered(name).await?;
    claimed.ok_or_else(|| {
        let text = format!("{name} and all its numbers are taken in {group}");
        Failure::failed(Code::NameTaken.as_str(), text)
    })
}

struct Asking<'a, O> {
    target: &'a Target,
    root: &'a Path,
    group: Option<&'a Name>,
    directory: Directory,
    options: &'a O,
}

impl<O: Fn(String, Option<Saved>) -> MemberOptions> Asking<'_, O> {
    async fn numbered(&mut self, name: &str) -> Result<Option<Claim>, Failure> {
        for number in 1..=NUMBERS_MAX {
            let name = names::check(&names::numbered(name, number))?;
            if let Try::Claimed(claim) = self.attempt(&name).await? {
                return Ok(Some(*claim));
            }
        }
        Ok(None)
    }

    async fn attempt(&mut self, name: &Name) -> Result<Try, Failure> {
        let instance = self.directory.instance();
        let here = |what: &str| {
            let why = format!(
                "{name} is {what} by a program on this machine; take another name: --name NAME"
            );
            Try::Taken(Code::NameTaken, why)
        };
        let (group, name_slot) = match self.group {
            Some(group) => (group.clone(), None),
            None => {
                // Held before the allocator is asked: two programs must not be given one name's group.
                let Some(slot) = Slot::of_name(self.root, instance, name)? else {
                    return Ok(here("used"));
                };
                match self.allocate(name).await {
                    Ok(group) => (group, Some(slot)),
                    Err(error) => return taken(error),
                }
            }
        };
        let Some(slot) = Slot::of_member(self.root, instance, &group, name)? else {
            return Ok(here(&format!("a member of {group}")));
        };
        let saved = slot.read();
        let had_saved = saved.is_some();
        let options = (self.options)(name.to_string(), saved);
        let place = Place::Group(group.to_string());
        match Member::join(self.target, place, options).await {
            Ok(member) => Ok(Try::Claimed(Box::new(Claim { member, slot, _name: name_slot }))),
            Err(error) => {
                if had_saved && error.code() == Some(Code::BadSecret) {
                    // The membership ended and somebody else took the name: the secret opens nothing any more.
                    slot.forget();
                }
                taken_in(error, &group, name)
            }
        }
    }

    async fn allocate(&mut self, name: &Name) -> Result<Name, Error> {
        let located = self.directory.allocate(name.as_str()).await?;
        Name::new(&located.group).map_err(|error| {
            Error::Protocol(format!("a group called {:?}: {error}", located.group))
        })
    }
}

/// The same, in a group: a name that is one's own may have been left there by another machine.
fn taken_in(error: Error, group: &Name, name: &Name) -> Result<Try, Failure> {
    let is_taken = matches!(error.code(), Some(Code::NameTaken | Code::BadSecret));
    if !is_taken {
        return taken(error);
    }
    Ok(Try::Taken(
        Code::NameTaken,
        format!(
            "{name} is taken in {group}; if it is yours from elsewhere: tertulia remove {group} {name}; \
             or take another name: --name NAME"
        ),
    ))
}

/// Whether another name may help.
fn taken(error: Error) -> Result<Try, Failure> {
    match error {
        Error::Refused { code: Code::NameReserved, message } => {
            Ok(Try::Taken(Code::NameReserved, message))
        }
        Error::Refused { code: Code::NameTaken | Code::BadSecret, message } => {
            Ok(Try::Taken(Code::NameTaken, message))
        }
        error => Err(error.into()),
    }
}
