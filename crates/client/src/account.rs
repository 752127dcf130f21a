//! Accounts: registering, logging in and out, groups' rules.

use std::time::Duration;

use tertulia_wire::native::{Credential, GroupRules};
use tertulia_wire::{ClientFrame, NodeFrame};

use crate::conn::unexpected;
use crate::directory::{Asking, done};
use crate::{Directory, Error};

/// Somebody has logged in.
#[derive(Clone, PartialEq, Eq)]
pub struct LoggedIn {
    /// The account's name as it is written.
    pub name: String,
    /// For [`crate::Login`]; keep it where nobody else can read it.
    pub token: String,
    /// When it ends, in microseconds since the Unix epoch.
    pub expires_us: u64,
}

impl std::fmt::Debug for LoggedIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoggedIn").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Who somebody is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The account's name; empty for a guest.
    pub name: String,
    /// May everything.
    pub administrator: bool,
    /// When the token ends, in microseconds since the Unix epoch; 0 without one.
    pub expires_us: u64,
}

impl Directory {
    /// Makes an account. `code` is the node's set-up code, where one was printed.
    ///
    /// # Errors
    /// `NAME_TAKEN`, `BAD_NAME`, `BAD_PASSWORD`, `LIMIT`, `DENIED`; [`Error::Insecure`].
    pub async fn register(
        &mut self,
        name: &str,
        password: &str,
        code: Option<&str>,
    ) -> Result<Identity, Error> {
        let question = |id| ClientFrame::Register {
            id,
            name: name.to_owned(),
            password: Credential(password.to_owned()),
            code: Credential(code.unwrap_or_default().to_owned()),
        };
        self.may_show_credentials().await?;
        identity(self.ask(None, Asking::Changes, SLOW, question).await?)
    }

    /// Gets a token for a password.
    ///
    /// # Errors
    /// `NOT_LOGGED_IN` for a wrong name or password, `LIMIT` after too many; [`Error::Insecure`].
    pub async fn log_in(&mut self, name: &str, password: &str) -> Result<LoggedIn, Error> {
        let question = |id| ClientFrame::Login {
            id,
            name: name.to_owned(),
            password: Credential(password.to_owned()),
        };
        self.may_show_credentials().await?;
        match self.ask(None, Asking::Changes, SLOW, question).await? {
            NodeFrame::Token { name, token, expires_us, .. } => {
                Ok(LoggedIn { name, token: token.0, expires_us })
            }
            _ => Err(unexpected("LOGIN")),
        }
    }

    /// Changes the password of who is logged in, or, as an administrator, of the account `name`, whose old password is not
    /// looked at. All other tokens of the account end.
    ///
    /// # Errors
    /// `DENIED` for a wrong old password or another one's account, `BAD_PASSWORD`, `BAD_NAME`, `NOT_LOGGED_IN`, `LIMIT`;
    /// [`Error::Insecure`].
    pub async fn change_password(
        &mut self,
        name: Option<&str>,
        old: &str,
        new: &str,
    ) -> Result<(), Error> {
        let question = |id| ClientFrame::Password {
            id,
            name: name.unwrap_or_default().to_owned(),
            old: Credential(old.to_owned()),
            new: Credential(new.to_owned()),
        };
        self.may_show_credentials().await?;
        done(&self.ask(None, Asking::Changes, SLOW, question).await?)
    }

    /// Revokes the token that the target has, and closes what it opened.
    ///
    /// # Errors
    /// `NOT_LOGGED_IN` where it opens nothing any more.
    pub async fn log_out(&mut self) -> Result<(), Error> {
        done(&self.ask(None, Asking::Changes, SLOW, |id| ClientFrame::Logout { id }).await?)
    }

    /// Who is asking?
    ///
    /// # Errors
    /// [`Error`].
    pub async fn who_am_i(&mut self) -> Result<Identity, Error> {
        let question = |id| ClientFrame::WhoAmI { id };
        identity(self.ask(None, Asking::Reads, Duration::ZERO, question).await?)
    }

    /// Creates a group with these rules; its owner is who is logged in.
    ///
    /// # Errors
    /// `GROUP_EXISTS`, `BAD_NAME`, `DENIED`, `LIMIT`.
    pub async fn create_with(&mut self, group: &str, rules: &GroupRules) -> Result<(), Error> {
        let question =
            |id| ClientFrame::Create { id, group: group.to_owned(), rules: Some(rules.clone()) };
        done(&self.ask(None, Asking::Changes, Duration::ZERO, question).await?)
    }

    /// Who may join a group, and who may send to it; the group's name as it is written comes with it.
    ///
    /// # Errors
    /// `UNKNOWN_GROUP`.
    pub async fn rules(&mut self, group: &str) -> Result<(String, GroupRules), Error> {
        let question = |id| ClientFrame::GetRules { id, group: group.to_owned() };
        match self.ask(Some(group), Asking::Reads, Duration::ZERO, question).await? {
            NodeFrame::Rules { group, rules, .. } => Ok((group, rules)),
            _ => Err(unexpected("GET_RULES")),
        }
    }

    /// Changes a group's rules, all of them; an empty owner stays who it is.
    ///
    /// # Errors
    /// `UNKNOWN_GROUP`, `DENIED`, `BAD_NAME`, `BUSY`.
    pub async fn set_rules(&mut self, group: &str, rules: &GroupRules) -> Result<(), Error> {
        let question =
            |id| ClientFrame::SetRules { id, group: group.to_owned(), rules: rules.clone() };
        done(&self.ask(Some(group), Asking::Changes, Duration::ZERO, question).await?)
    }
}

/// A password takes its time to be checked, and may have to wait for its turn.
const SLOW: Duration = Duration::from_secs(15);

fn identity(answer: NodeFrame) -> Result<Identity, Error> {
    match answer {
        NodeFrame::Identity { name, administrator, expires_us, .. } => {
            Ok(Identity { name, administrator, expires_us })
        }
        _ => Err(unexpected("WHOAMI")),
    }
}
