//! `register`, `login`, `passwd`, `logout`, `whoami`: accounts on a node.

use std::io::IsTerminal as _;

use tertulia_client::{Code, Target};
use tertulia_files::own::SILENCE_MAX;
use tertulia_wire::json::IdentityLine;
use tertulia_wire::safe::make_safe;
use tertulia_wire::time::rfc3339;

use super::directory;
use super::files::own_peer;
use crate::cli::{LoginArgs, LogoutArgs, PasswdArgs, RegisterArgs};
use crate::failure::{Exit, Failure, Outcome};
use crate::input::Lines;
use crate::output::Output;
use crate::{logins, names};

/// Makes an account.
pub async fn register(args: &RegisterArgs, target: &Target, out: &mut Output) -> Outcome {
    let name = names::check(&args.name)?;
    let line = match &args.peer {
        Some(peer) => {
            let mut peer = own_peer(peer, SILENCE_MAX).await?;
            let password = Asker::new(args.password_stdin)?.new_password("Password: ").await?;
            let code = args.setup_code.as_deref().unwrap_or_default();
            let (name, administrator) = peer.register(name.as_str(), &password, code).await?;
            IdentityLine::new(&name, administrator, 0)
        }
        None => {
            let mut node = directory(target).await?;
            let password = Asker::new(args.password_stdin)?.new_password("Password: ").await?;
            let code = args.setup_code.as_deref();
            let made = node.register(name.as_str(), &password, code).await?;
            IdentityLine::new(&made.name, made.administrator, made.expires_us)
        }
    };
    let what = if line.administrator { ", the node's administrator" } else { "" };
    let shown = make_safe(line.name.as_deref().unwrap_or_default(), usize::MAX);
    out.done(&line, &format!("registered {shown}{what}; log in: tertulia login {shown}"))?;
    out.flush()?;
    Ok(Exit::Done)
}

/// Logs in, and keeps the token.
pub async fn login(args: &LoginArgs, target: &Target, out: &mut Output) -> Outcome {
    let name = names::check(&args.name)?;
    let (name, until) = match &args.peer {
        Some(peer) => {
            let mut peer = own_peer(peer, SILENCE_MAX).await?;
            let password = Asker::new(args.password_stdin)?.password("Password: ").await?;
            peer.log_in(name.as_str(), &password).await?
        }
        None => {
            let mut node = directory(target).await?;
            let password = Asker::new(args.password_stdin)?.password("Password: ").await?;
            let logged_in = node.log_in(name.as_str(), &password).await?;
            logins::keep(target.address(), node.instance(), &logged_in)?;
            (logged_in.name, rfc3339(logged_in.expires_us))
        }
    };
    let (shown, until) = (make_safe(&name, usize::MAX), make_safe(&until, usize::MAX));
    let login = LoginLine { name: &name, expires: &until };
    out.done(&login, &format!("logged in as {shown} until {until}"))?;
    out.flush()?;
    Ok(Exit::Done)
}

/// What programs are told of a login; the token stays in its file.
#[derive(serde::Serialize)]
struct LoginLine<'a> {
    name: &'a str,
    expires: &'a str,
}

/// Changes a password; the token that is kept here stays.
pub async fn passwd(args: &PasswdArgs, target: &Target, out: &mut Output) -> Outcome {
    let name = args.name.as_deref().map(names::check).transpose()?;
    let mut node = directory(target).await?;
    let me = node.who_am_i().await?;
    if me.name.is_empty() {
        let text = "nobody is logged in here; log in first: tertulia login NAME";
        return Err(Failure::failed(Code::NotLoggedIn.as_str(), text));
    }
    let own = names::check(&me.name)?;
    let other = name.filter(|name| name.folded() != own.folded());
    let mut asker = Asker::new(args.password_stdin)?;
    let old = match &other {
        None => asker.password("Old password: ").await?,
        Some(_) => String::new(),
    };
    let new = asker.new_password("New password: ").await?;
    let whose = other.as_ref().map(tertulia_group::Name::as_str);
    node.change_password(whose, &old, &new).await?;
    let name = whose.unwrap_or(&me.name);
    let shown = make_safe(name, usize::MAX);
    let line = PasswdLine { name, changed: true };
    let stays = if whose.is_none() { " but the one that is used here" } else { "" };
    out.done(&line, &format!("the password of {shown} is changed; its tokens{stays} have ended"))?;
    out.flush()?;
    Ok(Exit::Done)
}

/// What programs are told of a changed password.
#[derive(serde::Serialize)]
struct PasswdLine<'a> {
    name: &'a str,
    changed: bool,
}

/// Gives the token back, and forgets it in any case: one that opens nothing is of no use.
pub async fn logout(args: &LogoutArgs, target: &Target, out: &mut Output) -> Outcome {
    if let Some(peer) = &args.peer {
        own_peer(peer, SILENCE_MAX).await?.log_out().await?;
        out.done(&IdentityLine::new("", false, 0), "logged out")?;
        out.flush()?;
        return Ok(Exit::Done);
    }
    let told = match (target.login_shown(), directory(target).await) {
        (None, _) => Err(Failure::failed(Code::NotLoggedIn.as_str(), "nobody is logged in here")),
        (Some(_), Ok(mut node)) => match node.log_out().await {
            Err(error) if error.code() != Some(Code::NotLoggedIn) => Err(Failure::from(error)),
            _ => Ok(()),
        },
        (Some(_), Err(failure)) => match failure.code() {
            // It had ended already.
            "NOT_LOGGED_IN" => Ok(()),
            _ => Err(failure),
        },
    };
    let forgotten = logins::forget(target.address())?;
    match told {
        Ok(()) => {
            let line = IdentityLine::new("", false, 0);
            out.done(&line, "logged out")?;
            out.flush()?;
            Ok(Exit::Done)
        }
        Err(failure) if forgotten => {
            out.note(
                "the token is forgotten here, but the node was not told: it stays valid there",
            );
            Err(failure)
        }
        Err(failure) => Err(failure),
    }
}

/// Who one is on the node.
pub async fn whoami(target: &Target, out: &mut Output) -> Outcome {
    let identity = directory(target).await?.who_am_i().await?;
    let line = IdentityLine::new(&identity.name, identity.administrator, identity.expires_us);
    out.either(&line, || {
        let Some(name) = &line.name else { return "a guest (not logged in)".to_owned() };
        let what = if identity.administrator { " (administrator)" } else { "" };
        make_safe(&format!("{name}{what}"), usize::MAX).into_owned()
    })?;
    out.flush()?;
    Ok(Exit::Done)
}

/// Where passwords come from: lines of standard input, or a person who types them without seeing them.
enum Asker {
    Lines(Lines),
    Person,
}

impl Asker {
    fn new(from_stdin: bool) -> Result<Self, Failure> {
        if from_stdin {
            return Ok(Self::Lines(Lines::read()));
        }
        if !std::io::stdin().is_terminal() {
            let text = "nobody can be asked for the password; use --password-stdin";
            return Err(Failure::usage(text));
        }
        Ok(Self::Person)
    }

    /// A password.
    async fn password(&mut self, prompt: &'static str) -> Result<String, Failure> {
        let Self::Lines(lines) = self else { return ask(prompt).await };
        let line = lines.next().await;
        let line = line.ok_or_else(|| Failure::usage("no password on standard input"))?;
        String::from_utf8(line).map_err(|_| Failure::usage("the password is not UTF-8"))
    }

    /// A new one: a person types it twice.
    async fn new_password(&mut self, prompt: &'static str) -> Result<String, Failure> {
        let first = self.password(prompt).await?;
        if matches!(self, Self::Person) && ask("Once more: ").await? != first {
            return Err(Failure::failed("PASSWORDS_DIFFER", "the two passwords are not the same"));
        }
        Ok(first)
    }
}

async fn ask(prompt: &'static str) -> Result<String, Failure> {
    let asked = tokio::task::spawn_blocking(move || rpassword::prompt_password(prompt)).await;
    let asked = asked.map_err(|error| Failure::failed("IO", error.to_string()))?;
    asked.map_err(|error| Failure::io("cannot ask for a password", &error))
}
