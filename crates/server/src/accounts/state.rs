//! Accounts and sessions in memory, as the catalog's records say.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Weak};

use tertulia_group::Name;
use tertulia_journal::{Catalog, ReadError};

use super::names::Reserved;
use super::passwords::Hashed;
use super::records::{self, AccountRecord, AdministratorsRecord, TokenRecord};
use super::tokens::{Digest, Session};

/// Addresses that are remembered of one account.
const KNOWN_MAX: usize = 8;

/// One account.
#[derive(Debug)]
pub(crate) struct Account {
    pub name: Name,
    pub record: AccountRecord,
    pub administrator: bool,
    /// Oldest first.
    sessions: VecDeque<Arc<Session>>,
    /// Of connections that have shown the password itself.
    passing: Vec<Weak<Session>>,
    /// From where it has logged in since the node started, the last at the end.
    known: VecDeque<IpAddr>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct State {
    accounts: HashMap<String, Account>,
    pub reserved: Reserved,
    sessions: HashMap<Digest, Arc<Session>>,
    by_expiry: BTreeSet<(u64, [u8; 32])>,
    has_administrator: bool,
    /// What cannot be read: whose, and what is wrong.
    pub lost: Vec<(String, String)>,
}

impl State {
    /// Reads the records. Tokens of no account, and those whose time is over, are passed over. Where something is damaged the
    /// others are read: whose account is lost cannot log in, and nobody else can have the name. Blocks.
    pub fn load(catalog: &dyn Catalog, now_us: u64) -> Result<Self, String> {
        let text = |error: ReadError| error.to_string();
        let mut state = Self::default();
        let administrators = match catalog.get(records::ADMINISTRATORS) {
            Ok(Some(found)) => records::read(records::ADMINISTRATORS, &found.value)?,
            Ok(None) => AdministratorsRecord::default(),
            Err(ReadError::Damaged(what)) => {
                // There was one: nobody else becomes it.
                state.has_administrator = true;
                state.lost.push(("the list of administrators".to_owned(), what));
                AdministratorsRecord::default()
            }
            Err(error) => return Err(error.to_string()),
        };
        let accounts = catalog.scan_whole(records::ACCOUNT).map_err(text)?;
        state.lost.extend(accounts.lost.into_iter().map(|lost| {
            let begin = lost.begin.strip_prefix(records::ACCOUNT).unwrap_or_default();
            (format!("an account whose name begins with {begin}"), lost.what)
        }));
        for (key, found) in accounts.records {
            let record: AccountRecord = records::read(&key, &found.value)?;
            let name =
                Name::new(&record.name).map_err(|error| format!("the record {key}: {error}"))?;
            let administrator = administrators.names.iter().any(|one| one == name.folded());
            state.add_account(&name, record, administrator);
        }
        let mut tokens = Vec::new();
        let scanned = catalog.scan_whole(records::TOKEN).map_err(text)?;
        state.lost.extend(scanned.lost.into_iter().map(|lost| ("a token".to_owned(), lost.what)));
        for (key, found) in scanned.records {
            let record: TokenRecord = records::read(&key, &found.value)?;
            let digest = key.strip_prefix(records::TOKEN).and_then(Digest::from_hex);
            tokens.push((digest.ok_or(format!("the record {key} is no token's"))?, record));
        }
        tokens.sort_unstable_by_key(|(_, record)| record.created_us);
        for (digest, TokenRecord { account, expires_us, .. }) in tokens {
            if expires_us > now_us {
                state.open(digest, &account, expires_us);
            } else {
                // Best effort: one that stays opens nothing.
                let key = format!("{}{}", records::TOKEN, digest.hex());
                let _ = catalog.put(&key, tertulia_journal::Expect::Any, None);
            }
        }
        Ok(state)
    }

    pub const fn has_administrator(&self) -> bool {
        self.has_administrator
    }

    /// How many there are.
    pub fn accounts(&self) -> usize {
        self.accounts.len()
    }

    pub fn add_account(&mut self, name: &Name, record: AccountRecord, administrator: bool) {
        self.reserved.add(name);
        self.has_administrator |= administrator;
        let account = Account {
            name: name.clone(),
            record,
            administrator,
            sessions: VecDeque::new(),
            passing: Vec::new(),
            known: VecDeque::new(),
        };
        self.accounts.insert(name.folded().to_owned(), account);
    }

    pub fn account(&self, folded: &str) -> Option<&Account> {
        self.accounts.get(folded)
    }

    /// A token opens a session; `None` where there is no such account.
    pub fn open(&mut self, digest: Digest, folded: &str, expires_us: u64) -> Option<Arc<Session>> {
        let account = self.accounts.get_mut(folded)?;
        let (name, administrator) = (account.name.clone(), account.administrator);
        let session = Arc::new(Session::new(digest, name, administrator, expires_us));
        account.sessions.push_back(Arc::clone(&session));
        self.sessions.insert(digest, Arc::clone(&session));
        self.by_expiry.insert((expires_us, digest.0));
        Some(session)
    }

    /// Whether this is what is kept of the account's password.
    pub fn is_password(&self, folded: &str, password: &Hashed) -> bool {
        self.accounts.get(folded).is_some_and(|account| account.record.password == *password)
    }

    /// A connection has shown the password: a session without a token. `None` where the password is another one by now.
    pub fn pass(
        &mut self,
        password: &Hashed,
        digest: Digest,
        folded: &str,
    ) -> Option<Arc<Session>> {
        let account = self.accounts.get_mut(folded)?;
        if account.record.password != *password {
            return None;
        }
        let (name, administrator) = (account.name.clone(), account.administrator);
        let session = Arc::new(Session::new(digest, name, administrator, u64::MAX));
        account.passing.retain(|other| other.strong_count() > 0);
        account.passing.push(Arc::downgrade(&session));
        Some(session)
    }

    /// The account has another password.
    pub fn set_record(&mut self, folded: &str, record: AccountRecord) {
        if let Some(account) = self.accounts.get_mut(folded) {
            account.record = record;
        }
    }

    /// An account's sessions: those of tokens, and those of connections that have shown the password.
    pub fn sessions_of(&self, folded: &str) -> (Vec<Arc<Session>>, Vec<Arc<Session>>) {
        let Some(account) = self.accounts.get(folded) else { return Default::default() };
        let passing = account.passing.iter().filter_map(Weak::upgrade);
        (account.sessions.iter().cloned().collect(), passing.collect())
    }

    pub fn session(&self, digest: Digest) -> Option<Arc<Session>> {
        self.sessions.get(&digest).cloned()
    }

    /// A session is over.
    pub fn close(&mut self, session: &Session) {
        self.sessions.remove(&session.digest);
        self.by_expiry.remove(&(session.expires_us, session.digest.0));
        if let Some(account) = self.accounts.get_mut(session.account.folded()) {
            account.sessions.retain(|other| other.digest != session.digest);
        }
    }

    /// The oldest sessions of an account beyond so many.
    pub fn beyond(&self, folded: &str, sessions_max: usize) -> Vec<Arc<Session>> {
        let Some(account) = self.accounts.get(folded) else { return Vec::new() };
        let over = account.sessions.len().saturating_sub(sessions_max.max(1));
        account.sessions.iter().take(over).cloned().collect()
    }

    /// Sessions whose time is over.
    pub fn expired(&self, now_us: u64) -> Vec<Arc<Session>> {
        let over = self.by_expiry.range(..=(now_us, [0xff; 32]));
        over.filter_map(|(_, digest)| self.session(Digest(*digest))).collect()
    }

    /// The account has logged in from here.
    pub fn remember(&mut self, folded: &str, address: IpAddr) {
        if let Some(account) = self.accounts.get_mut(folded) {
            account.known.retain(|other| *other != address);
            account.known.push_back(address);
            if account.known.len() > KNOWN_MAX {
                account.known.pop_front();
            }
        }
    }

    /// Whether it has logged in from there.
    pub fn is_known(&self, folded: &str, address: IpAddr) -> bool {
        self.accounts.get(folded).is_some_and(|account| account.known.contains(&address))
    }
}
