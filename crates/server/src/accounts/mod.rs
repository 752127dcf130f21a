//! Accounts: registering, logging in and out, and what is open by right of it. The doors only call this.
//!
//! What is decided without I/O stands in files of its own: the table of who may what ([`table`]), groups' rules ([`rules`]),
//! reserved names ([`names`]), tokens ([`tokens`]), the pace of attempts ([`limits`]). Records stand in the catalog; everything
//! that is asked often is in memory.

mod changing;
pub(crate) mod limits;
pub(crate) mod names;
mod passes;
mod passwords;
mod records;
pub(crate) mod rules;
mod state;
pub(crate) mod table;
pub(crate) mod tokens;

#[cfg(test)]
mod at_doors;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use subtle::ConstantTimeEq as _;
use tertulia_group::{Name, Now};
use tertulia_journal::{AppendError, Catalog, Expect};
use tertulia_wire::Code;
use tokio::sync::Mutex as AsyncMutex;

pub(crate) use self::passes::{Opened, Pass, Passes};
pub use self::passwords::HashCost;

use self::limits::{Attempts, NameKey, Pace};
use self::names::NotYours;
use self::passwords::{Hashed, NotHashed, Passwords, Place};
use self::records::{AccountRecord, AdministratorsRecord, TokenRecord};
use self::rules::Asker;
use self::state::State;
use self::tokens::{Session, Token};
use crate::config::{AccountLimits, AccountRules};
use crate::directory::Denied;
use crate::shared::counted_as;

/// Who asks, and how: what every door knows of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub address: IpAddr,
    /// Nobody between can read it: TLS.
    pub secure: bool,
    /// On this machine, and no proxy in between.
    pub local: bool,
    /// Of who is logged in.
    pub session: Option<Arc<Session>>,
}

impl Caller {
    /// Somebody who has not said who they are.
    pub const fn new(address: IpAddr, secure: bool) -> Self {
        Self { address, secure, local: address.is_loopback(), session: None }
    }

    /// Whether passwords and tokens may be taken here: the one place that says so.
    pub const fn may_show_credentials(&self) -> bool {
        self.secure || self.address.is_loopback()
    }

    /// As rules see it.
    pub fn asker(&self, guests: bool) -> Asker<'_> {
        Asker {
            account: self.session.as_ref().map(|session| &session.account),
            administrator: self.is_administrator(),
            guests,
        }
    }

    /// The account's name.
    pub fn account(&self) -> Option<&Name> {
        self.session.as_ref().map(|session| &session.account)
    }

    /// Whether it may everything.
    pub fn is_administrator(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.administrator)
    }
}

/// Somebody has logged in.
#[derive(Debug)]
pub(crate) struct LoggedIn {
    pub token: Token,
    pub session: Arc<Session>,
}

/// An account was made.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Registered {
    pub name: Name,
    pub administrator: bool,
}

/// A name and its password were right.
struct Right {
    name: Name,
    /// What is kept of the password that was looked at.
    password: Hashed,
}

/// See the module.
pub(crate) struct Accounts {
    catalog: Arc<dyn Catalog>,
    limits: AccountLimits,
    rules: AccountRules,
    state: RwLock<State>,
    /// Held while an account is made, so that no two that look alike are.
    registering: AsyncMutex<()>,
    passwords: Passwords,
    attempts: Mutex<Attempts>,
    /// What is open.
    pub passes: Passes,
    /// What whoever shows it becomes an administrator by, while there is none.
    setup_code: String,
}

/// What whoever shows a wrong name and whoever shows a wrong password are told.
const WRONG: &str = "the name or the password is wrong";
/// Characters of the set-up code: 80 bits, none that is mistaken for another.
const CODE_ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

impl Accounts {
    /// Reads every record. Blocks.
    pub fn load(
        catalog: Arc<dyn Catalog>,
        limits: AccountLimits,
        rules: AccountRules,
        now: Now,
    ) -> Result<Self, String> {
        let state = State::load(catalog.as_ref(), now.wall_us)?;
        let wait_ms_max = u64::try_from(limits.wait_max.as_millis()).unwrap_or(u64::MAX);
        let forget_ms = u64::try_from(limits.tries_kept.as_millis()).unwrap_or(u64::MAX);
        let pace = |free| Pace { free, wait_ms_max, forget_ms };
        let attempts = Attempts::new(
            pace(limits.tries_per_address),
            pace(limits.tries_per_name),
            limits.tries_remembered,
        );
        let passwords = Passwords::new(
            limits.hash_cost,
            limits.hashes_at_once,
            limits.hashes_waiting,
            limits.hash_wait,
        );
        let code: [u8; 16] = rand::random();
        let code = code.map(|byte| char::from(CODE_ALPHABET[usize::from(byte % 32)]));
        let code: Vec<String> = code.chunks(4).map(|chars| chars.iter().collect()).collect();
        Ok(Self {
            catalog,
            limits,
            rules,
            state: RwLock::new(state),
            registering: AsyncMutex::new(()),
            passwords,
            attempts: Mutex::new(attempts),
            passes: Passes::default(),
            setup_code: code.join("-"),
        })
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn attempts(&self) -> std::sync::MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What cannot be read of the records: whose, and what is wrong.
    pub fn lost(&self) -> Vec<(String, String)> {
        self.read().lost.clone()
    }

    /// Whether somebody may everything.
    pub fn has_administrator(&self) -> bool {
        self.read().has_administrator()
    }

    /// The code by which the first administrator registers elsewhere than on this machine; none when there is one.
    pub fn setup_code(&self) -> Option<&str> {
        (!self.read().has_administrator()).then_some(&self.setup_code)
    }

    /// Where credentials may not be taken, why.
    pub fn check_way(&self, caller: &Caller) -> Result<(), Denied> {
        if caller.may_show_credentials() {
            return Ok(());
        }
        let message = "passwords and tokens are taken over TLS (tls://HOST:PORT, https://), or on \
                       the node's own machine, not where others may read them";
        Err(Denied::new(Code::Denied, message))
    }

    /// Makes an account.
    pub async fn register(
        &self,
        caller: &Caller,
        name: &str,
        password: &str,
        code: Option<&str>,
        now: Now,
    ) -> Result<Registered, Denied> {
        self.check_way(caller)?;
        let name =
            Name::new(name).map_err(|error| Denied::new(Code::BadName, error.to_string()))?;
        self.check_new_password(password)?;
        let _place = self.begin(caller, None, now)?;
        let first = self.may_be_first(caller, code)?;
        if !self.rules.open_registration && !first && !caller.is_administrator() {
            let message = "accounts are made by an administrator here; ask one";
            return Err(Denied::new(Code::Denied, message));
        }
        let _registering = self.registering.lock().await;
        self.check_free(&name)?;
        let password = self.passwords.hash(password).await.map_err(not_hashed)?;
        let record = AccountRecord { name: name.to_string(), password, created_us: now.wall_us };
        let key = format!("{}{}", records::ACCOUNT, name.folded());
        self.put(key, Expect::Absent, Some(records::write(record.clone()))).await.map_err(
            |denied| match denied.code {
                Code::GroupExists => taken(&name),
                _ => denied,
            },
        )?;
        // Somebody may have become the first meanwhile, or another node's account.
        let administrator = first && self.claim(&name).await?;
        self.write().add_account(&name, record, administrator);
        self.passes.reserved(&name);
        tracing::info!(account = %name, administrator, address = %caller.address, "registered");
        Ok(Registered { name, administrator })
    }

    fn check_new_password(&self, password: &str) -> Result<(), Denied> {
        let (min, max) = (self.limits.password_chars_min, self.limits.password_bytes_max);
        if password.chars().count() < min {
            let message = format!("a password has at least {min} characters");
            return Err(Denied::new(Code::BadPassword, message));
        }
        if password.len() > max {
            let message = format!("a password has at most {max} bytes");
            return Err(Denied::new(Code::BadPassword, message));
        }
        Ok(())
    }

    fn check_free(&self, name: &Name) -> Result<(), Denied> {
        let state = self.read();
        match state.reserved.owner(name) {
            Some(owner) if owner == name.folded() => return Err(taken(name)),
            Some(_) => {
                let message = format!("{name} looks like another account's name; take another");
                return Err(Denied::new(Code::NameTaken, message));
            }
            None => {}
        }
        if state.accounts() >= self.limits.accounts {
            let message = "this node has as many accounts as it may";
            return Err(Denied::new(Code::Limit, message));
        }
        drop(state);
        Ok(())
    }

    /// Whether whoever registers now becomes the administrator.
    fn may_be_first(&self, caller: &Caller, code: Option<&str>) -> Result<bool, Denied> {
        let code = code.filter(|code| !code.is_empty());
        if self.read().has_administrator() {
            return match code {
                Some(_) => Err(Denied::new(Code::Denied, "this node has its administrator")),
                None => Ok(false),
            };
        }
        match code {
            Some(code) => {
                let shown = code.trim().to_ascii_uppercase();
                if bool::from(shown.as_bytes().ct_eq(self.setup_code.as_bytes())) {
                    return Ok(true);
                }
                let message = "this is not the set-up code that the node has printed";
                Err(Denied::new(Code::Denied, message))
            }
            None => Ok(caller.local),
        }
    }

    /// The name becomes the first administrator's, unless there is one.
    async fn claim(&self, name: &Name) -> Result<bool, Denied> {
        let catalog = Arc::clone(&self.catalog);
        let read = tokio::task::spawn_blocking(move || catalog.get(records::ADMINISTRATORS));
        let found = read
            .await
            .map_err(|_| ending())?
            .map_err(|error| Denied::new(Code::StoreFailed, error.to_string()))?;
        let expect = found.map_or(Expect::Absent, |found| Expect::Version(found.version));
        let record = AdministratorsRecord { names: vec![name.folded().to_owned()] };
        let key = records::ADMINISTRATORS.to_owned();
        match self.put(key, expect, Some(records::write(record))).await {
            Ok(()) => Ok(true),
            Err(denied) if denied.code == Code::GroupExists => Ok(false),
            Err(denied) => Err(denied),
        }
    }

    /// Takes a place in the queue and counts a try.
    fn begin(&self, caller: &Caller, name: Option<&NameKey>, now: Now) -> Result<Place, Denied> {
        let address = counted_as(caller.address);
        let place = self.passwords.place(address).ok_or_else(|| not_hashed(NotHashed::Busy))?;
        let begun = self.attempts().begin(address, name, now.mono_ms);
        begun.map_err(|wait_ms| {
            let seconds = wait_ms.div_ceil(1000);
            let message = format!("too many tries; try again in {seconds} s");
            Denied::new(Code::Limit, message)
        })?;
        Ok(place)
    }

    /// Gives a token for a password. A wrong name and a wrong password get the same answer, after the same work.
    pub async fn log_in(
        &self,
        caller: &Caller,
        name: &str,
        password: &str,
        now: Now,
    ) -> Result<LoggedIn, Denied> {
        let right = self.check_right(caller, name, password, now).await?;
        self.issue(&right, counted_as(caller.address), now).await
    }

    /// The same where there is nowhere to keep a token: what it opens lasts as long as the connection.
    pub async fn check_password(
        &self,
        caller: &Caller,
        name: &str,
        password: &str,
        now: Now,
    ) -> Result<Arc<Session>, Denied> {
        let right = self.check_right(caller, name, password, now).await?;
        let mut state = self.write();
        state.remember(right.name.folded(), counted_as(caller.address));
        let session = state.pass(&right.password, Token::random().digest(), right.name.folded());
        session.ok_or_else(|| Denied::new(Code::NotLoggedIn, WRONG))
    }

    async fn check_right(
        &self,
        caller: &Caller,
        name: &str,
        password: &str,
        now: Now,
    ) -> Result<Right, Denied> {
        self.check_way(caller)?;
        let wrong = || Denied::new(Code::NotLoggedIn, WRONG);
        let name = Name::new(name).ok();
        let address = counted_as(caller.address);
        let (kept, key) = {
            let state = self.read();
            let kept = name.as_ref().and_then(|name| state.account(name.folded()));
            let known = name.as_ref().is_some_and(|name| state.is_known(name.folded(), address));
            let key = name.as_ref().map(|name| NameKey {
                name: name.folded().to_owned(),
                known: known.then_some(address),
            });
            // One that is too long cannot be anybody's.
            let fits = password.len() <= self.limits.password_bytes_max;
            (kept.filter(|_| fits).map(|account| account.record.password.clone()), key)
        };
        let _place = self.begin(caller, key.as_ref(), now)?;
        let right = self.passwords.is_right(password, kept.as_ref()).await.map_err(not_hashed)?;
        let (Some(name), Some(key), Some(password)) = (name.filter(|_| right), key, kept) else {
            // Not the name: people type passwords there.
            tracing::info!(address = %caller.address, "a wrong name or password");
            return Err(wrong());
        };
        self.attempts().succeeded(address, &key, now.mono_ms);
        Ok(Right { name, password })
    }

    async fn issue(&self, right: &Right, address: IpAddr, now: Now) -> Result<LoggedIn, Denied> {
        let Right { name, password } = right;
        let token = Token::random();
        let life_us = u64::try_from(self.limits.token_life.as_micros()).unwrap_or(u64::MAX);
        let expires_us = now.wall_us.saturating_add(life_us);
        let digest = token.digest();
        let record =
            TokenRecord { account: name.folded().to_owned(), created_us: now.wall_us, expires_us };
        let key = format!("{}{}", records::TOKEN, digest.hex());
        self.put(key, Expect::Absent, Some(records::write(record))).await?;
        let (session, too_many) = {
            let mut state = self.write();
            // The password may have been changed since it was looked at.
            let same = state.is_password(name.folded(), password);
            let session = same.then(|| state.open(digest, name.folded(), expires_us)).flatten();
            state.remember(name.folded(), address);
            (session, state.beyond(name.folded(), self.limits.tokens_per_account))
        };
        let Some(session) = session else {
            self.put(format!("{}{}", records::TOKEN, digest.hex()), Expect::Any, None).await?;
            return Err(Denied::new(Code::NotLoggedIn, WRONG));
        };
        tracing::info!(account = %name, %address, "logged in");
        for oldest in too_many {
            self.log_out(&oldest).await?;
        }
        Ok(LoggedIn { token, session })
    }

    /// The session of a token; one that is not valid is refused, never taken for a guest's.
    pub fn authenticate(
        &self,
        caller: &Caller,
        token: &str,
        now_us: u64,
    ) -> Result<Arc<Session>, Denied> {
        self.check_way(caller)?;
        let session = Token::parse(token)
            .and_then(|token| self.read().session(token.digest()))
            .filter(|session| session.is_valid(now_us));
        session.ok_or_else(|| {
            Denied::new(Code::NotLoggedIn, "this token is not valid (any more); log in again")
        })
    }

    /// Revokes a token and closes what it opened.
    pub async fn log_out(&self, session: &Arc<Session>) -> Result<(), Denied> {
        self.write().close(session);
        session.end();
        self.passes.token_ended(session.digest);
        tracing::info!(account = %session.account, "a token has ended");
        let key = format!("{}{}", records::TOKEN, session.digest.hex());
        self.put(key, Expect::Any, None).await
    }

    /// Ends the tokens whose time has come.
    pub async fn expire(&self, now_us: u64) {
        let over = self.read().expired(now_us);
        for session in over {
            if let Err(denied) = self.log_out(&session).await {
                tracing::warn!("an expired token's record stays: {}", denied.message);
            }
        }
    }

    /// Whether the session that a caller came with opens anything still.
    pub fn check_session(&self, caller: &Caller, now_us: u64) -> Result<(), Denied> {
        match &caller.session {
            Some(session) if !session.is_valid(now_us) => {
                Err(Denied::new(Code::NotLoggedIn, "the token has ended; log in again"))
            }
            _ => Ok(()),
        }
    }

    /// Whether the caller may be called so; `only_own` where not everybody may come.
    pub fn check_name(&self, caller: &Caller, name: &Name, only_own: bool) -> Result<(), Denied> {
        // An administrator's name is checked like everybody's: rights are not names.
        match self.read().reserved.may_use(name, caller.account(), only_own) {
            Ok(()) => Ok(()),
            Err(NotYours::Reserved) => {
                let message = match caller.account() {
                    None => {
                        format!("{name} is an account's name; log in as {name}, or take another")
                    }
                    Some(own) => format!(
                        "{name} is another account's name, or looks like one; you are {own}"
                    ),
                };
                Err(Denied::new(Code::NameReserved, message))
            }
            Err(NotYours::NotOwn) => {
                let own = caller.account().map_or("", Name::as_str);
                let message = format!("who is logged in is called {own} here, or {own}-…");
                Err(Denied::new(Code::NameReserved, message))
            }
        }
    }

    /// The account of this name, or of one that looks like it.
    pub fn owner_of(&self, name: &Name) -> Option<String> {
        self.read().reserved.owner(name).map(str::to_owned)
    }

    /// Writes or deletes a record; a conflict is [`Code::GroupExists`], which no caller passes on.
    async fn put(&self, key: String, expect: Expect, value: Option<Vec<u8>>) -> Result<(), Denied> {
        let catalog = Arc::clone(&self.catalog);
        let put = tokio::task::spawn_blocking(move || {
            catalog.put(&key, expect, value.map(Bytes::from)).map(|_| ())
        });
        put.await.map_err(|_| ending())?.map_err(|error| match error {
            AppendError::Conflict { .. } => Denied::new(Code::GroupExists, "it is there"),
            AppendError::NoSpace(why) => Denied::new(Code::NoSpace, why),
            AppendError::Damaged(why) => Denied::new(Code::Damaged, why),
            error => Denied::new(Code::StoreFailed, error.to_string()),
        })
    }

    /// How often a password was hashed.
    #[cfg(test)]
    fn hashes(&self) -> u64 {
        self.passwords.runs()
    }
}

fn taken(name: &Name) -> Denied {
    Denied::new(
        Code::NameTaken,
        format!("there is an account {name}; log in, or take another name"),
    )
}

fn not_hashed(why: NotHashed) -> Denied {
    match why {
        NotHashed::Busy => Denied::new(Code::Limit, "too many are logging in; try again in 1 s"),
        NotHashed::Failed => Denied::new(Code::StoreFailed, "the password cannot be checked now"),
    }
}

fn ending() -> Denied {
    Denied::new(Code::ShuttingDown, "the node is ending")
}

/// How often tokens are looked at whose time may have come.
pub(crate) const EXPIRE_EVERY: Duration = Duration::from_millis(500);
