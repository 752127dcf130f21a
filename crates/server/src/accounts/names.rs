//! Which names are accounts', and who may use a name in a group.

use std::collections::HashMap;

use tertulia_group::Name;

/// The accounts' names, by what they look like.
#[derive(Debug, Default)]
pub(crate) struct Reserved {
    /// Folded names by skeleton: no two accounts look alike.
    by_skeleton: HashMap<String, String>,
}

/// Why somebody may not use a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotYours {
    /// It is an account's, or looks like one.
    Reserved,
    /// Where not everybody may join, one uses one's own name.
    NotOwn,
}

impl Reserved {
    /// The account that `name` is, or looks like.
    pub fn owner(&self, name: &Name) -> Option<&str> {
        self.by_skeleton.get(name.skeleton()).map(String::as_str)
    }

    /// An account has this name from now on; `false` where one that looks the same has it.
    pub fn add(&mut self, name: &Name) -> bool {
        let owner = self.by_skeleton.entry(name.skeleton().to_owned());
        owner.or_insert_with(|| name.folded().to_owned()) == name.folded()
    }

    /// Whether `account` (`None`: a guest) may be called `name`; `only_own` where not everybody may join.
    ///
    /// Who is logged in has the account's name and, for a second device, that name with something after a `-`.
    pub fn may_use(
        &self,
        name: &Name,
        account: Option<&Name>,
        only_own: bool,
    ) -> Result<(), NotYours> {
        let own = account.map(Name::folded);
        match self.owner(name) {
            Some(owner) if own != Some(owner) || own != Some(name.folded()) => {
                return Err(NotYours::Reserved);
            }
            Some(_) => return Ok(()),
            None => {}
        }
        let of_own = own.is_some_and(|own| {
            name.folded()
                .strip_prefix(own)
                .is_some_and(|rest| rest.len() > 1 && rest.starts_with('-'))
        });
        if only_own && !of_own { Err(NotYours::NotOwn) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn a_name_is_its_accounts_and_so_is_what_looks_like_it() {
        let mut reserved = Reserved::default();
        assert!(reserved.add(&name("ana")) && reserved.add(&name("luis")));
        assert!(!reserved.add(&name("аnа")), "Cyrillic a");
        let (ana, luis) = (name("ana"), name("luis"));
        for (used, account, allowed) in [
            ("ana", None, false),
            ("ANA", None, false),
            ("аnа", None, false),
            ("аnа", Some(&ana), false),
            ("ana", Some(&luis), false),
            ("ana", Some(&ana), true),
            ("Ana", Some(&ana), true),
            ("eva", None, true),
            ("eva", Some(&ana), true),
        ] {
            let may = reserved.may_use(&name(used), account, false);
            assert_eq!(may.is_ok(), allowed, "{used} {account:?}");
        }
    }

    #[test]
    fn where_not_everybody_may_join_one_uses_ones_own_name() {
        let mut reserved = Reserved::default();
        let ana = name("ana");
        assert!(reserved.add(&ana) && reserved.add(&name("ana-maria")));
        for (used, allowed) in [
            ("ana", Ok(())),
            ("ana-2", Ok(())),
            ("Ana-phone", Ok(())),
            ("anab", Err(NotYours::NotOwn)),
            ("ana-", Err(NotYours::NotOwn)),
            ("eva", Err(NotYours::NotOwn)),
            ("ana-maria", Err(NotYours::Reserved)),
        ] {
            assert_eq!(reserved.may_use(&name(used), Some(&ana), true), allowed, "{used}");
        }
        assert_eq!(reserved.may_use(&name("eva"), None, true), Err(NotYours::NotOwn));
    }
}
