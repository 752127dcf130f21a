//! Finding a group's coordinator and becoming a member or sender there.

use std::time::Duration;

use rand::random_range;
use tertulia_wire::native::{Join, OpenSender, SenderReady, Welcome};
use tertulia_wire::{ClientFrame, Code, NodeFrame};
use tokio::time::{Instant, sleep};

use crate::conn::{Conn, unexpected};
use crate::directory::located;
use crate::{Error, Located, Place, Target};

/// For so long `BUSY` and `MOVED` are tried again before they are the answer.
const PUT_OFF_MAX: Duration = Duration::from_secs(10);

/// Connects to the node that coordinates the group. A group that does not exist is looked for at the node that was asked, where
/// `may_create` says so.
pub(crate) async fn find(
    target: &Target,
    place: &Place,
    name: &str,
    may_create: bool,
) -> Result<(Conn, Located), Error> {
    let mut conn = Conn::dial(target).await?;
    let answer = conn
        .ask(Duration::ZERO, |id| match place {
            Place::Allocate => ClientFrame::Allocate { id, name: name.to_owned() },
            Place::Group(group) => ClientFrame::Locate { id, group: group.clone() },
        })
        .await;
    let located = match (answer, place) {
        (Err(Error::Refused { code: Code::UnknownGroup, .. }), Place::Group(group))
            if may_create =>
        {
            Located { group: group.clone(), coordinator: conn.address.clone(), epoch: 0 }
        }
        (answer, _) => located(answer?, &conn.address, |address| conn.elsewhere(address))?,
    };
    if located.coordinator != conn.address {
        conn = Conn::dial(&target.at(&located.coordinator)).await?;
    }
    Ok((conn, located))
}

/// JOIN at a node; `BUSY` is tried again for a while.
pub(crate) async fn join(conn: &mut Conn, join: &Join) -> Result<Box<Welcome>, Error> {
    let until = Instant::now() + PUT_OFF_MAX;
    loop {
        let question = |id| ClientFrame::Join(Box::new(Join { id, ..join.clone() }));
        match conn.ask(Duration::ZERO, question).await {
            Ok(NodeFrame::Welcome(welcome)) => return Ok(welcome),
            Ok(_) => return Err(unexpected("JOIN")),
            Err(error) if error.code() == Some(Code::Busy) && Instant::now() < until => {
                a_little_while().await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// OPEN_SENDER at a node; `BUSY` is tried again for a while.
pub(crate) async fn open_sender(
    conn: &mut Conn,
    open: &OpenSender,
) -> Result<Box<SenderReady>, Error> {
    let until = conn.until.unwrap_or_else(|| Instant::now() + PUT_OFF_MAX);
    loop {
        let question = |id| ClientFrame::OpenSender(OpenSender { id, ..open.clone() });
        match conn.ask(Duration::ZERO, question).await {
            Ok(NodeFrame::SenderReady(ready)) => return Ok(ready),
            Ok(_) => return Err(unexpected("OPEN_SENDER")),
            Err(error) if error.code() == Some(Code::Busy) && Instant::now() < until => {
                a_little_while().await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Before what was put off is tried again.
pub(crate) async fn a_little_while() {
    sleep(put_off()).await;
}

/// How long that is.
pub(crate) fn put_off() -> Duration {
    Duration::from_millis(random_range(10..40))
}

/// Waiting longer each time a connection fails, with some randomness, so that not all come back at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    ms: u64,
}

impl Backoff {
    const FIRST_MS: u64 = 50;
    const LAST_MS: u64 = 2000;

    pub const fn new() -> Self {
        Self { ms: Self::FIRST_MS }
    }

    /// The next wait: half of it certain, half by chance.
    pub fn next(&mut self) -> Duration {
        let ms = random_range(self.ms / 2..=self.ms);
        self.ms = (self.ms * 2).min(Self::LAST_MS);
        Duration::from_millis(ms)
    }
}

/// Whether this code means: do not come back.
pub(crate) const fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::UnknownGroup
            | Code::GroupFull
            | Code::BadName
            | Code::NameTaken
            | Code::NameReserved
            | Code::BadFrame
            | Code::BadVersion
            | Code::BadAck
            | Code::BadSecret
            | Code::Denied
            | Code::NotLoggedIn
            | Code::Damaged
            | Code::Replaced
            | Code::Removed
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_two_seconds() {
        let mut backoff = Backoff::new();
        for most in [50, 100, 200, 400, 800, 1600, 2000, 2000] {
            let ms = backoff.next().as_millis();
            assert!((most / 2..=most).contains(&ms), "{ms} of {most}");
        }
    }
}
