//! What is open by right of something: each connection of a group holds a pass, which ends when the right does.
//!
//! What a connection may do is decided when it is opened, and here again when a token ends, a group's rules change or a name
//! becomes an account's. Nothing is looked up per message.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tertulia_group::Name;
use tertulia_wire::Code;

use super::rules::{Asker, Rules};
use super::table::{Operation, Role, Verdict};
use super::tokens::{Digest, Session};
use crate::conn::Closing;
use crate::hosted::GroupKey;
use crate::wake::Wake;

/// What was opened.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    pub session: Option<Arc<Session>>,
    pub operation: Operation,
    pub group: GroupKey,
    /// The name that it uses there, where it uses one.
    pub name: Option<Name>,
}

#[derive(Debug)]
struct Entry {
    opened: Opened,
    /// Whether it may see who is in the group.
    sees_names: AtomicBool,
    /// On the heap: hardly any ends before its connection does.
    ended: OnceLock<Box<Closing>>,
    wake: Wake,
}

impl Entry {
    fn end(&self, code: Code, message: &'static str) {
        self.ended.get_or_init(|| Box::new(Closing { code, message }));
        self.wake.wake();
    }
}

/// All that are open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passes(Arc<All>);

#[derive(Debug, Default)]
struct All {
    next: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Entry>>>,
}

/// See the module. Not open any more when it is dropped.
#[derive(Debug)]
pub(crate) struct Pass {
    all: Passes,
    number: u64,
    entry: Arc<Entry>,
}

impl Pass {
    /// Why it has ended, where it has.
    pub fn ended(&self) -> Option<Closing> {
        self.entry.ended.get().map(|closing| **closing)
    }

    /// Whether who holds it may see who is in the group.
    pub fn sees_names(&self) -> bool {
        self.entry.sees_names.load(Ordering::Relaxed)
    }

    /// Of who holds it.
    pub fn session(&self) -> Option<Arc<Session>> {
        self.entry.opened.session.clone()
    }

    /// Waits until it ends.
    pub async fn until_ended(&self) -> Closing {
        loop {
            if let Some(closing) = self.ended() {
                return closing;
            }
            self.entry.wake.woken().await;
        }
    }

    /// What is notified when it ends.
    pub fn wake(&self) -> &Wake {
        &self.entry.wake
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.all.lock().remove(&self.number);
    }
}

impl Passes {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Entry>>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens; `role` is what the holder is for the group just now. Whoever opens has to look at what the pass rests on once
    /// more afterwards: from here on changes end it.
    pub fn open(&self, opened: Opened, role: Role) -> Pass {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(Entry {
            opened,
            sees_names: AtomicBool::new(sees_names(role)),
            ended: OnceLock::new(),
            wake: Wake::default(),
        });
        self.lock().insert(number, Arc::clone(&entry));
        Pass { all: self.clone(), number, entry }
    }

    fn each(&self, act: impl Fn(&Entry)) {
        self.lock().values().for_each(|entry| act(entry));
    }

    /// A token has ended.
    pub fn token_ended(&self, digest: Digest) {
        self.each(|entry| {
            if entry.opened.session.as_ref().is_some_and(|session| session.digest == digest) {
                entry.end(Code::NotLoggedIn, "the token has ended; log in again");
            }
        });
    }

    /// A name is an account's from now on: who uses it, or one that looks like it, without being that account, may not.
    pub fn reserved(&self, name: &Name) {
        self.each(|entry| {
            let opened = &entry.opened;
            let uses = |used: &Name| used.skeleton() == name.skeleton();
            let own = |session: &Arc<Session>| session.account.folded() == name.folded();
            if opened.name.as_ref().is_some_and(uses) && !opened.session.as_ref().is_some_and(own) {
                entry.end(
                    Code::NameReserved,
                    "the name is an account's now; log in, or take another",
                );
            }
        });
    }

    /// A group's rules are others: who may not any more has to go.
    pub fn rules_changed(&self, group: GroupKey, rules: &Rules, guests: bool) {
        self.each(|entry| {
            let opened = &entry.opened;
            if opened.group != group {
                return;
            }
            let session = opened.session.as_ref();
            let role = rules.role(Asker {
                account: session.map(|session| &session.account),
                administrator: session.is_some_and(|session| session.administrator),
                guests,
            });
            entry.sees_names.store(sees_names(role), Ordering::Relaxed);
            if opened.operation.verdict(role) != Verdict::Yes {
                entry.end(
                    Code::Denied,
                    "the group's rules have changed; you may not be here any more",
                );
            }
        });
    }

    /// How many there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.lock().len()
    }
}

/// Who may read who is in the group may see names in receipts.
fn sees_names(role: Role) -> bool {
    Operation::Members.verdict(role) == Verdict::Yes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::tokens::Token;
    use tertulia_wire::native::Audience;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn session(account: &str) -> Arc<Session> {
        Arc::new(Session::new(Token::random().digest(), name(account), false, u64::MAX))
    }

    fn opened(session: Option<&Arc<Session>>, operation: Operation, used: &str) -> Opened {
        let (session, name) = (session.cloned(), Some(name(used)));
        Opened { session, operation, group: GroupKey(1), name }
    }

    fn code(pass: &Pass) -> Option<Code> {
        pass.ended().map(|closing| closing.code)
    }

    #[test]
    fn a_token_that_ends_ends_what_it_opened_and_nothing_else() {
        let passes = Passes::default();
        let (one, two) = (session("ana"), session("ana"));
        let first = passes.open(opened(Some(&one), Operation::Join, "ana"), Role::Keeper);
        let second = passes.open(opened(Some(&two), Operation::Join, "ana-2"), Role::Keeper);
        let guest = passes.open(opened(None, Operation::Join, "eva"), Role::Keeper);
        passes.token_ended(one.digest);
        assert_eq!(code(&first), Some(Code::NotLoggedIn));
        assert_eq!((code(&second), code(&guest)), (None, None));
        drop((first, second, guest));
        assert_eq!(passes.len(), 0);
    }

    #[test]
    fn a_name_that_becomes_an_accounts_ends_others_under_it() {
        let passes = Passes::default();
        let ana = session("ana");
        let own = passes.open(opened(Some(&ana), Operation::Join, "ana"), Role::Keeper);
        let guest = passes.open(opened(None, Operation::Join, "ana"), Role::Keeper);
        let alike = passes.open(opened(None, Operation::Send, "аnа"), Role::Keeper);
        let other = passes.open(opened(None, Operation::Send, "eva"), Role::Keeper);
        passes.reserved(&name("ana"));
        assert_eq!((code(&own), code(&other)), (None, None));
        assert_eq!(code(&guest), Some(Code::NameReserved));
        assert_eq!(code(&alike), Some(Code::NameReserved));
    }

    #[test]
    fn other_rules_end_whoever_may_not_any_more() {
        let passes = Passes::default();
        let (ana, luis) = (session("ana"), session("luis"));
        let owner = passes.open(opened(Some(&ana), Operation::Join, "ana"), Role::Owner);
        let joined = passes.open(opened(Some(&luis), Operation::Join, "luis"), Role::Joiner);
        let sends = passes.open(opened(None, Operation::Send, "eva"), Role::Joiner);
        let elsewhere = Opened { group: GroupKey(2), ..opened(None, Operation::Join, "eva") };
        let elsewhere = passes.open(elsewhere, Role::Keeper);
        assert!(sends.sees_names());
        let rules = Rules { owner: Some(name("ana")), join: Audience::Private, ..Rules::default() };
        passes.rules_changed(GroupKey(1), &rules, true);
        assert_eq!((code(&owner), code(&sends), code(&elsewhere)), (None, None, None));
        assert_eq!(code(&joined), Some(Code::Denied));
        assert!(!sends.sees_names() && owner.sees_names());
    }
}
