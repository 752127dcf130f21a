//! A member whose name has become an account's: waits until the account's owner logs in here, and says what to do meanwhile.

use std::time::Duration;

use rand::random_range;
use tertulia_client::{Code, Target};
use tertulia_group::Name;
use tertulia_wire::safe::make_safe;
use tokio::time::{Instant, sleep};

use super::{node_flag, now_us};
use crate::failure::Failure;
use crate::logins;
use crate::output::{Notice, Output};

/// Who is no durable member is given up by the node so long after its connection has ended.
const GRACE: Duration = Duration::from_secs(30);
/// How often it is looked for a login.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a node that cannot be had is left alone, at first and at most.
const PAUSES: [Duration; 2] = [LOOK_EVERY, Duration::from_secs(2)];

/// What to do for who has lost a name to an account; `what` is what to do then.
pub fn advice(target: &Target, name: &str, what: &str) -> String {
    let name = make_safe(name, usize::MAX);
    format!("if {name} is your account: tertulia login {name}{}, {what}", node_flag(target))
}

/// A seat that is kept until its owner shows that the name is theirs.
pub struct Reserved {
    /// The group of the seat.
    pub group: String,
    /// Its name.
    pub name: String,
    until: Option<Instant>,
    /// What was shown in vain.
    tried: Option<String>,
    /// The node could not be had, and is left alone for this long.
    pause: Option<Duration>,
}

impl Reserved {
    /// From now on; a durable member waits as long as it takes.
    pub fn new(group: String, name: String, durable: bool) -> Self {
        let until = (!durable).then(|| Instant::now() + GRACE);
        Self { group, name, until, tried: None, pause: None }
    }

    /// Says what has happened, and what to do.
    pub fn tell(&self, target: &Target, why: &str, out: &Output) {
        let line = self.told(target, why);
        self.notice(Code::NameReserved.as_str(), &line, out);
    }

    fn notice(&self, code: &str, message: &str, out: &Output) {
        let (group, name) = (&self.group, &self.name);
        out.notice(&Notice { code, group, name, message, time_us: now_us() });
    }

    /// The node's words and ours, safe to show.
    fn told(&self, target: &Target, why: &str) -> String {
        let within = if self.until.is_some() { " within 30 s" } else { "" };
        let what = format!("and this goes on where it was{within}");
        format!("{}; {}", make_safe(why, usize::MAX), advice(target, &self.name, &what))
    }

    /// Whether it is worth waiting on after this, which came of the last try. Where only the node could not be had, what was
    /// shown was not in vain.
    ///
    /// # Errors
    /// The failure, where it is not.
    pub fn waits_on(&mut self, failure: Failure, out: &Output) -> Result<(), Failure> {
        if failure.may_pass() && !self.is_late() {
            if self.pause.is_none() {
                let message = format!("{}; trying again", failure.message());
                self.notice("LOST", &message, out);
            }
            let [first, most] = PAUSES;
            self.tried = None;
            self.pause = Some(self.pause.map_or(first, |pause| (pause * 2).min(most)));
            return Ok(());
        }
        self.pause = None;
        let waits = [Code::NameReserved, Code::NotLoggedIn].map(|code| code.as_str());
        if waits.contains(&failure.code()) { Ok(()) } else { Err(failure) }
    }

    fn is_late(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }

    /// The node, with the account's login once there is one that was not tried.
    ///
    /// # Errors
    /// `NAME_RESERVED` when the time is up.
    pub async fn owner(&mut self, target: &Target) -> Result<Target, Failure> {
        let is_own = |name: &str| match (Name::new(name), Name::new(&self.name)) {
            (Ok(one), Ok(own)) => one.folded() == own.folded(),
            _ => false,
        };
        if let Some(pause) = self.pause {
            // Not all at the same moment.
            sleep(random_range(pause / 2..=pause)).await;
        }
        loop {
            // One that cannot be read is none; who logs in replaces it.
            if let Ok(Some(login)) = logins::find(target.address())
                && login.name.as_deref().is_some_and(is_own)
                && self.tried.as_ref() != Some(&login.token)
            {
                self.tried = Some(login.token.clone());
                return Ok(target.clone().login(Some(login)));
            }
            if self.is_late() {
                let advice = advice(target, &self.name, "then join again");
                let text =
                    format!("the name is an account's now; {advice}; or take another: --name NAME");
                return Err(Failure::failed(Code::NameReserved.as_str(), text));
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tertulia_client::{ConnectError, Error};

    use super::*;
    use crate::cli::Common;

    #[test]
    fn what_a_node_says_steers_no_terminal() {
        let seat = Reserved::new("ops".to_owned(), "ana".to_owned(), true);
        let told =
            seat.told(&Target::new("127.0.0.1:1"), "an account's\u{1b}]0;x\u{7}\r\nback in ops");
        assert!(!told.contains(char::is_control), "{told:?}");
        assert!(
            told.starts_with("an account's") && told.ends_with("goes on where it was"),
            "{told}"
        );
    }

    #[test]
    fn what_passes_is_waited_for_and_the_rest_is_the_end() {
        let out = &Output::new(&Common { json: false, quiet: true, verbose: 0 });
        let refused = |code| Error::Refused { code, message: String::new() };
        let address = || "127.0.0.1:1".to_owned();
        let mut seat = Reserved::new("ops".to_owned(), "ana".to_owned(), true);
        let mut after = |error: Error| {
            seat.tried = Some("token".to_owned());
            let waits = seat.waits_on(error.into(), out).is_ok();
            (waits, seat.tried.is_none(), seat.pause)
        };
        let lost = Error::Lost { address: address(), why: "it is closed".to_owned() };
        let connect = ConnectError::Refused { address: address() };
        let [ms_250, ms_500] = [250, 500].map(|ms| Some(Duration::from_millis(ms)));
        assert_eq!(after(connect.into()), (true, true, ms_250));
        assert_eq!(after(lost), (true, true, ms_500), "longer each time");
        // The node has looked at what was shown.
        assert_eq!(after(refused(Code::NotLoggedIn)), (true, false, None));
        assert_eq!(after(refused(Code::NameReserved)), (true, false, None));
        for code in [Code::Busy, Code::ShuttingDown, Code::Moved] {
            assert!(after(refused(code)).0, "{code}");
        }
        assert_eq!(after(refused(Code::BadSecret)), (false, false, None));
        let mut seat = Reserved { until: Some(Instant::now()), ..seat };
        assert!(seat.waits_on(refused(Code::Busy).into(), out).is_err(), "its time is up");
    }

    #[tokio::test]
    async fn who_is_not_logged_in_in_time_is_told_what_to_do() {
        let mut seat = Reserved::new("ops".to_owned(), "ana".to_owned(), false);
        seat.until = Some(Instant::now());
        let failure = seat.owner(&Target::new("127.0.0.1:1")).await.err().unwrap();
        assert_eq!(failure.code(), "NAME_RESERVED");
        let told = "if ana is your account: tertulia login ana --node 127.0.0.1:1, then join again";
        assert!(failure.message().contains(told), "{}", failure.message());
    }
}
