//! A group's rules: who owns it, who may join it and who may send to it.

use serde::{Deserialize, Serialize};
use tertulia_group::Name;
use tertulia_wire::native::{Audience, GroupRules};

use super::table::Role;

/// See the module. Who may join may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Who made it; nobody where a guest did, or where it came by itself.
    pub owner: Option<Name>,
    pub join: Audience,
    pub send: Audience,
    /// Who may join where `join` is private.
    pub may_join: Vec<Name>,
    /// Who may send where `send` is private.
    pub may_send: Vec<Name>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            owner: None,
            join: Audience::Open,
            send: Audience::Open,
            may_join: Vec::new(),
            may_send: Vec::new(),
        }
    }
}

/// Why rules are not taken; the text says what to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadRules(pub String);

/// Who asks, as far as rules are concerned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker<'a> {
    /// The account's name, of who is logged in.
    pub account: Option<&'a Name>,
    pub administrator: bool,
    /// Whether the node takes guests.
    pub guests: bool,
}

impl Asker<'_> {
    /// What it is for operations on the node.
    pub const fn role(&self) -> Role {
        match (self.account, self.administrator) {
            (Some(_), true) => Role::Administrator,
            (Some(_), false) => Role::Account,
            (None, _) if self.guests => Role::Guest,
            (None, _) => Role::Stranger,
        }
    }
}

impl Rules {
    /// Rules as a client wrote them.
    pub fn new(owner: Option<Name>, wire: &GroupRules, names_max: usize) -> Result<Self, BadRules> {
        let names = |texts: &[String]| {
            if texts.len() > names_max {
                return Err(BadRules(format!("a group lists at most {names_max} names")));
            }
            let named = |text: &String| {
                Name::new(text).map_err(|error| BadRules(format!("{text:?}: {error}")))
            };
            let mut names = texts.iter().map(named).collect::<Result<Vec<_>, _>>()?;
            names.sort_unstable_by(|a, b| a.folded().cmp(b.folded()));
            names.dedup_by(|a, b| a.folded() == b.folded());
            Ok(names)
        };
        let (may_join, may_send) = (names(&wire.may_join)?, names(&wire.may_send)?);
        Ok(Self { owner, join: wire.join, send: wire.send, may_join, may_send })
    }

    /// Whether these are the rules of a group that everybody may join and nobody owns.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// As clients see them; the lists where `all`.
    pub fn shown(&self, all: bool) -> GroupRules {
        let names = |names: &[Name]| match all {
            true => names.iter().map(Name::to_string).collect(),
            false => Vec::new(),
        };
        GroupRules {
            owner: self.owner.as_ref().map(Name::to_string).unwrap_or_default(),
            join: self.join,
            send: self.send,
            may_join: names(&self.may_join),
            may_send: names(&self.may_send),
        }
    }

    /// What somebody is for this group.
    pub fn role(&self, asker: Asker<'_>) -> Role {
        let name = match (asker.account, asker.administrator) {
            (Some(_), true) => return Role::Administrator,
            (None, _) if !asker.guests => return Role::Stranger,
            (name, _) => name,
        };
        let is = |other: &Name| name.is_some_and(|name| name.folded() == other.folded());
        if self.owner.as_ref().is_some_and(is) {
            return Role::Owner;
        }
        let may = |audience, names: &[Name]| match audience {
            Audience::Open => true,
            Audience::Members => name.is_some(),
            Audience::Private => names.iter().any(is),
        };
        match (may(self.join, &self.may_join), self.owner.is_some()) {
            (true, true) => Role::Joiner,
            (true, false) => Role::Keeper,
            (false, _) if may(self.send, &self.may_send) => Role::Sender,
            (false, _) => Role::Nobody,
        }
    }

    /// Whether those who are not logged in may join, on a node that takes guests.
    pub fn is_open(&self) -> bool {
        self.join == Audience::Open
    }

    /// The record's bytes; none for the default.
    pub fn to_bytes(&self) -> Vec<u8> {
        if self.is_default() {
            return Vec::new();
        }
        let text = |names: &[Name]| names.iter().map(Name::to_string).collect();
        let record = Record {
            v: VERSION,
            owner: self.owner.as_ref().map(Name::to_string),
            join: self.join.as_str().to_owned(),
            send: self.send.as_str().to_owned(),
            may_join: text(&self.may_join),
            may_send: text(&self.may_send),
        };
        serde_json::to_vec(&record).unwrap_or_default()
    }

    /// Rules from a record.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let record: Record = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if record.v != VERSION {
            return Err(format!("rules of version {}; update this program", record.v));
        }
        let audience = |text: &str| Audience::parse(text).ok_or(format!("the audience {text:?}"));
        let name = |text: &String| Name::new(text).map_err(|error| format!("{text:?}: {error}"));
        Ok(Self {
            owner: record.owner.as_ref().map(name).transpose()?,
            join: audience(&record.join)?,
            send: audience(&record.send)?,
            may_join: record.may_join.iter().map(name).collect::<Result<_, _>>()?,
            may_send: record.may_send.iter().map(name).collect::<Result<_, _>>()?,
        })
    }
}

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Record {
    v: u32,
    owner: Option<String>,
    join: String,
    send: String,
    may_join: Vec<String>,
    may_send: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn rules(owner: Option<&str>, join: Audience, send: Audience) -> Rules {
        Rules {
            owner: owner.map(name),
            join,
            send,
            may_join: vec![name("luis")],
            may_send: vec![name("ci")],
        }
    }

    #[test]
    fn a_role_follows_from_the_rules() {
        use Audience::{Members, Open, Private};
        let check = |rules: &Rules, who: Option<&str>, guests, expected| {
            let account = who.map(name);
            let asker = Asker { account: account.as_ref(), administrator: false, guests };
            assert_eq!(rules.role(asker), expected, "{rules:?} {who:?}");
        };
        let owned = rules(Some("ana"), Private, Private);
        check(&owned, Some("ANA"), true, Role::Owner);
        check(&owned, Some("Luis"), true, Role::Joiner);
        check(&owned, Some("ci"), true, Role::Sender);
        check(&owned, Some("eva"), true, Role::Nobody);
        check(&owned, None, true, Role::Nobody);
        check(&owned, None, false, Role::Stranger);
        let members = rules(Some("ana"), Members, Open);
        check(&members, Some("eva"), true, Role::Joiner);
        check(&members, None, true, Role::Sender);
        check(&rules(None, Open, Open), None, true, Role::Keeper);
        check(&rules(None, Open, Open), None, false, Role::Stranger);
        check(&rules(Some("ana"), Open, Private), None, true, Role::Joiner);
    }

    #[test]
    fn an_administrator_may_everything_and_who_is_not_logged_in_is_none() {
        let (root, secret) =
            (name("root"), rules(Some("ana"), Audience::Private, Audience::Private));
        let asker = Asker { account: Some(&root), administrator: true, guests: false };
        assert_eq!((secret.role(asker), asker.role()), (Role::Administrator, Role::Administrator));
        let asker = Asker { account: None, administrator: true, guests: true };
        assert_eq!((secret.role(asker), asker.role()), (Role::Nobody, Role::Guest));
    }

    #[test]
    fn a_record_comes_back_and_the_default_needs_none() {
        assert!(Rules::default().to_bytes().is_empty());
        for rules in [
            Rules::default(),
            rules(None, Audience::Open, Audience::Members),
            rules(Some("José"), Audience::Private, Audience::Private),
        ] {
            assert_eq!(Rules::from_bytes(&rules.to_bytes()), Ok(rules));
        }
        for bad in ["{}", "x", r#"{"v":2,"join":"open","send":"open","may_join":[],"may_send":[]}"#]
        {
            assert!(Rules::from_bytes(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn lists_are_names_once_each_and_not_too_long() {
        let wire = |may_join: &[&str]| GroupRules {
            owner: String::new(),
            join: Audience::Private,
            send: Audience::Private,
            may_join: may_join.iter().map(|&text| text.to_owned()).collect(),
            may_send: Vec::new(),
        };
        let taken = Rules::new(None, &wire(&["Ana", "ana", "luis"]), 3).unwrap();
        assert_eq!(taken.may_join.len(), 2);
        assert!(Rules::new(None, &wire(&["a b"]), 3).is_err());
        assert!(Rules::new(None, &wire(&["a", "b", "c", "d"]), 3).is_err());
        assert_eq!(taken.shown(false).may_join, Vec::<String>::new());
    }
}
