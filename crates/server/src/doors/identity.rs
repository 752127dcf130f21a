//! Who is asking: passwords and tokens at the native door's requests, which the HTTP door asks by too.

use std::sync::Arc;

use tertulia_wire::native::Credential;
use tertulia_wire::{ClientFrame, Code, NodeFrame};

use crate::accounts::Caller;
use crate::accounts::table::Operation;
use crate::accounts::tokens::Session;
use crate::clock::{now, wall_us};
use crate::directory::{Denied, Directory};

/// Answers AUTH and LOGIN, which say who a connection is from then on.
pub(crate) async fn identify(
    directory: &Directory,
    caller: &mut Caller,
    frame: ClientFrame,
) -> Result<NodeFrame, Denied> {
    match frame {
        ClientFrame::Auth { id, token } => {
            let session = directory.accounts.authenticate(caller, &token.0, wall_us())?;
            let answer = identity(id, Some(&session));
            caller.session = Some(session);
            Ok(answer)
        }
        ClientFrame::Login { id, name, password } => {
            let logged_in = directory.accounts.log_in(caller, &name, &password.0, now()).await?;
            let session = Arc::clone(&logged_in.session);
            let answer = NodeFrame::Token {
                id,
                name: session.account.to_string(),
                token: Credential(logged_in.token.text()),
                expires_us: session.expires_us,
            };
            caller.session = Some(session);
            Ok(answer)
        }
        _ => Err(Denied::new(Code::BadFrame, "not a request")),
    }
}

/// Answers REGISTER, PASSWORD, LOGOUT and WHOAMI.
pub(crate) async fn answer(
    directory: &Directory,
    caller: &Caller,
    frame: ClientFrame,
) -> Result<NodeFrame, Denied> {
    match frame {
        ClientFrame::Register { id, name, password, code } => {
            let code = Some(code.0.as_str());
            let made = directory.accounts.register(caller, &name, &password.0, code, now()).await?;
            let (name, administrator) = (made.name.to_string(), made.administrator);
            Ok(NodeFrame::Identity { id, name, administrator, expires_us: 0 })
        }
        ClientFrame::Password { id, name, old, new } => {
            directory.check(caller, Operation::ChangePassword)?;
            let name = Some(name.as_str()).filter(|name| !name.is_empty());
            let passwords = (old.0.as_str(), new.0.as_str());
            directory.accounts.change_password(caller, name, passwords, now()).await?;
            Ok(NodeFrame::Done { id })
        }
        ClientFrame::Logout { id } => {
            let session = caller.session.as_ref().ok_or_else(|| {
                Denied::new(Code::NotLoggedIn, "nobody is logged in on this connection")
            })?;
            directory.accounts.log_out(session).await?;
            Ok(NodeFrame::Done { id })
        }
        ClientFrame::WhoAmI { id } => Ok(identity(id, caller.session.as_deref())),
        _ => Err(Denied::new(Code::BadFrame, "not a request")),
    }
}

fn identity(id: u32, session: Option<&Session>) -> NodeFrame {
    NodeFrame::Identity {
        id,
        name: session.map(|session| session.account.to_string()).unwrap_or_default(),
        administrator: session.is_some_and(|session| session.administrator),
        expires_us: session.map_or(0, |session| session.expires_us),
    }
}
