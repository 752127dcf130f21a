//! Changing a password: who knows the old one changes their own, an administrator anybody else's; what the old one had opened
//! is closed.

use std::sync::Arc;

use tertulia_group::{Name, Now};
use tertulia_journal::Expect;
use tertulia_wire::Code;

use super::passwords::{Hashed, NotHashed};
use super::records::{self, AccountRecord};
use super::table::{Operation, Verdict};
use super::tokens::{Digest, Session};
use super::{Accounts, Caller, ending, not_hashed};
use crate::directory::Denied;
use crate::shared::counted_as;

impl Accounts {
    /// Changes the password of the caller's account, or of the account `name`, which only administrators may. All tokens of the
    /// account are revoked but the caller's own, and what they, or the old password itself, had opened is closed.
    pub async fn change_password(
        &self,
        caller: &Caller,
        name: Option<&str>,
        (old, new): (&str, &str),
        now: Now,
    ) -> Result<(), Denied> {
        self.check_way(caller)?;
        self.check_session(caller, now.wall_us)?;
        let own = caller.account().ok_or_else(|| {
            Denied::new(Code::NotLoggedIn, "nobody is logged in here; log in first")
        })?;
        let name = match name {
            None => own.clone(),
            Some(name) => {
                Name::new(name).map_err(|error| Denied::new(Code::BadName, error.to_string()))?
            }
        };
        let is_own = name.folded() == own.folded();
        let role = caller.asker(true).role();
        if !is_own && Operation::ChangePassword.verdict(role) != Verdict::Yes {
            let message = "one changes one's own password; an administrator may change others'";
            return Err(Denied::new(Code::Denied, message));
        }
        self.check_new_password(new)?;
        let _place = if is_own {
            self.check_old(caller, &name, old, now).await?;
            self.passwords
                .place(counted_as(caller.address))
                .ok_or_else(|| not_hashed(NotHashed::Busy))?
        } else {
            self.begin(caller, None, now)?
        };
        let kept = caller.session.as_ref().filter(|_| is_own).map(|session| session.digest);
        let hashed = self.passwords.hash(new).await.map_err(not_hashed)?;
        // Nobody else changes it between, nor makes an account.
        let _changing = self.registering.lock().await;
        // Before and after: whatever ends this in between, no token that is older than the new password is left, nor is one
        // that was given meanwhile.
        self.end_others(&name, kept).await?;
        let record = self.store_password(&name, hashed).await?;
        self.write().set_record(name.folded(), record);
        tracing::info!(account = %name, by = %own, address = %caller.address, "another password");
        self.end_others(&name, kept).await
    }

    async fn check_old(
        &self,
        caller: &Caller,
        name: &Name,
        old: &str,
        now: Now,
    ) -> Result<(), Denied> {
        let right = self.check_right(caller, name.as_str(), old, now).await;
        right.map(|_| ()).map_err(|denied| match denied.code {
            // Whoever asks is logged in.
            Code::NotLoggedIn => Denied::new(Code::Denied, "the old password is wrong"),
            _ => denied,
        })
    }

    async fn store_password(&self, name: &Name, password: Hashed) -> Result<AccountRecord, Denied> {
        let key = format!("{}{}", records::ACCOUNT, name.folded());
        let (catalog, read_key) = (Arc::clone(&self.catalog), key.clone());
        let read = tokio::task::spawn_blocking(move || catalog.get(&read_key));
        let found = read
            .await
            .map_err(|_| ending())?
            .map_err(|error| Denied::new(Code::StoreFailed, error.to_string()))?
            .ok_or_else(|| Denied::new(Code::BadName, format!("there is no account {name}")))?;
        let record: AccountRecord = records::read(&key, &found.value)
            .map_err(|error| Denied::new(Code::StoreFailed, error))?;
        let record = AccountRecord { password, ..record };
        let expect = Expect::Version(found.version);
        let put = self.put(key, expect, Some(records::write(record.clone()))).await;
        put.map_err(|denied| match denied.code {
            Code::GroupExists => Denied::new(Code::Busy, "somebody else has just changed it"),
            _ => denied,
        })?;
        Ok(record)
    }

    /// Ends every session of the account but that of the token `kept`.
    async fn end_others(&self, name: &Name, kept: Option<Digest>) -> Result<(), Denied> {
        let (tokens, passing) = self.read().sessions_of(name.folded());
        let others = |session: &Arc<Session>| Some(session.digest) != kept;
        for session in passing.into_iter().filter(others) {
            session.end();
            self.passes.token_ended(session.digest);
        }
        for session in tokens.into_iter().filter(others) {
            self.log_out(&session).await?;
        }
        Ok(())
    }
}
