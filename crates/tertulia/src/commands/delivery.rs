//! Follows one message from its sending to its receipt: who has confirmed it so far, and when that is enough.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tertulia_client::{Confirmed, Error, How, Level, Receipt, ReceiptNow, Sender, Sent, Seq, Why};
use tertulia_wire::file::FileBody;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout_at};

use crate::failure::Failure;
use crate::units::Wait;

/// What happens on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The message has its number.
    Stored(Seq),
    /// One more has it.
    Confirmed {
        /// Who.
        name: String,
        /// Its host has; its program cannot be asked.
        host_only: bool,
    },
}

/// How it ended.
#[derive(Clone, Debug)]
pub struct Settled {
    /// The receipt, final or as it stands.
    pub receipt: Receipt,
    /// How well the message is stored.
    pub level: Level,
    /// Since the sending.
    pub elapsed: Duration,
    /// What was waited for has come.
    pub enough: bool,
}

/// So long from now. Who writes a time beyond all clocks waits for ever, or nearly so.
pub fn after(timeout: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(timeout).unwrap_or_else(|| now + Duration::from_secs(100 * 365 * 86_400))
}

/// How often who waits for N, or follows, asks when nothing is told.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// A node that does not answer a question for so long is not waited for once the time is up. So long before, who is told of nobody
/// asks too, to know by then.
const LAST_ASK: Duration = Duration::from_secs(1);
/// How long the names of the last ones may take after the receipt.
const NAMES_WITHIN: Duration = Duration::from_millis(200);

/// A node answers only so many questions of one connection at once, and refuses more.
static ASKING: Semaphore = Semaphore::const_new(12);

/// Since when the node owes an answer; `None` once it has given one.
static SILENT_SINCE: Mutex<Option<Instant>> = Mutex::new(None);

fn silent_since() -> MutexGuard<'static, Option<Instant>> {
    SILENT_SINCE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn heard_of(asked_at: Instant, is_answered: bool) {
    let mut since = silent_since();
    if is_answered {
        *since = None;
    } else {
        since.get_or_insert(asked_at);
    }
}

/// Asks how a message stands; among the many messages of a pipe, when it is its turn.
async fn ask(sender: &Sender, seq: Seq, wait: Duration) -> Result<ReceiptNow, Error> {
    // The semaphore is never closed.
    let _turn = ASKING.acquire().await;
    sender.ask_receipt(seq, wait).await
}

/// A message on its way.
pub struct Delivery<'a> {
    sender: &'a Sender,
    sent: Sent,
    wait: Wait,
    started: Instant,
    deadline: Instant,
}

impl<'a> Delivery<'a> {
    /// Hands the message over.
    pub async fn begin(
        sender: &'a Sender,
        body: Vec<u8>,
        wait: Wait,
        deadline: Instant,
    ) -> Result<Self, Failure> {
        Self::handed_over(sender, sender.send(body), wait, deadline).await
    }

    /// Tells the group a file.
    pub async fn tell_file(
        sender: &'a Sender,
        file: &FileBody,
        wait: Wait,
        deadline: Instant,
    ) -> Result<Self, Failure> {
        Self::handed_over(sender, sender.tell_file(file), wait, deadline).await
    }

    async fn handed_over(
        sender: &'a Sender,
        handing: impl Future<Output = Result<Sent, Error>>,
        wait: Wait,
        deadline: Instant,
    ) -> Result<Self, Failure> {
        let started = Instant::now();
        match timeout_at(deadline.into(), handing).await {
            Ok(sent) => Ok(Self { sender, sent: sent?, wait, started, deadline }),
            Err(_) => Err(Failure::failed(
                "TIMED_OUT",
                "not sent: the node takes nothing just now (is it still running?)",
            )),
        }
    }

    /// Waits for what was asked for, or until the time is up.
    pub async fn settle(
        &self,
        mut follow: Option<&mut mpsc::Receiver<Confirmed>>,
        steps: &mut (dyn FnMut(Step) -> Result<(), Failure> + Send),
    ) -> Result<Settled, Failure> {
        let stored = timeout_at(self.deadline.into(), self.sent.stored()).await;
        let Ok(stored) = stored else {
            return Err(Failure::unknown(
                "the outcome is unknown: the message was handed over (PUBLISH) and the node did not \
                 answer in time; it may be stored",
            ));
        };
        let seq = stored.map_err(outcome)?;
        *silent_since() = None;
        steps(Step::Stored(seq))?;
        if self.wait == Wait::Stored {
            return self.as_it_stands(seq, true).await;
        }
        let mut roll = Roll::new(seq);
        let mut looked = false;
        let settled = loop {
            let pause = self.pause(follow.is_some(), looked);
            let moved = async {
                match follow.as_mut() {
                    Some(follow) => follow.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                receipt = self.sent.receipt() => {
                    let group = &self.sender.located().group;
                    let receipt = receipt.map_err(|error| no_receipt(group, seq, error))?;
                    break self.given(seq, receipt).await?;
                }
                moved = moved => match moved {
                    Some(moved) => roll.heard(moved),
                    None => follow = None,
                },
                () = sleep(pause) => {}
                () = tokio::time::sleep_until(self.deadline.into()) => {
                    break self.as_it_stands(seq, false).await?;
                }
            }
            while let Some(moved) = follow.as_mut().and_then(|follow| follow.try_recv().ok()) {
                roll.heard(moved);
            }
            looked = true;
            if let Some(settled) = self.look(&mut roll, steps).await? {
                break settled;
            }
        };
        self.finish(&mut roll, follow, &settled, steps).await?;
        Ok(settled)
    }

    /// Who waits for everybody and is told of nobody needs no asking, but for whether the node is there.
    fn pause(&self, follows: bool, looked: bool) -> Duration {
        match self.wait {
            Wait::Count(_) if !follows => ASK_EVERY / 10,
            Wait::All if !follows && looked => Duration::from_secs(3600),
            Wait::All if !follows => {
                let left = self.deadline.saturating_duration_since(Instant::now());
                left - LAST_ASK.min(left / 2)
            }
            _ => ASK_EVERY,
        }
    }

    /// Asks how it stands; `Some` when it is enough.
    async fn look(
        &self,
        roll: &mut Roll,
        steps: &mut (dyn FnMut(Step) -> Result<(), Failure> + Send),
    ) -> Result<Option<Settled>, Failure> {
        let deadline = self.deadline.into();
        // The semaphore is never closed.
        let Ok(_turn) = timeout_at(deadline, ASKING.acquire()).await else { return Ok(None) };
        let asked_at = Instant::now();
        let ask = self.sender.ask_receipt(roll.seq, Duration::ZERO);
        let answer = timeout_at(deadline, ask).await;
        heard_of(asked_at, answer.is_ok());
        // A lost connection is made anew meanwhile: the next look will see.
        let Ok(Ok(now)) = answer else { return Ok(None) };
        roll.tell(&now.receipt, steps)?;
        let settled = self.settled(now, self.started.elapsed());
        Ok((settled.enough || settled.receipt.is_final()).then_some(settled))
    }

    /// A receipt that came by itself; one that can still change is asked for again until the time is up.
    async fn given(&self, seq: Seq, receipt: Receipt) -> Result<Settled, Failure> {
        let level = self.sender.level();
        let mut settled = self.settled(ReceiptNow { receipt, level }, self.sent.elapsed());
        while !settled.enough && !settled.receipt.is_final() {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let ask = ask(self.sender, seq, left.min(ASK_EVERY * 4));
            match timeout_at(self.deadline.into(), ask).await {
                Ok(Ok(now)) => settled = self.settled(now, self.started.elapsed()),
                Ok(Err(_)) => sleep(ASK_EVERY).await,
                Err(_) => break,
            }
        }
        Ok(settled)
    }

    /// The receipt as it stands, when nothing is waited for any more.
    async fn as_it_stands(&self, seq: Seq, stored_is_enough: bool) -> Result<Settled, Failure> {
        let elapsed = self.started.elapsed();
        let _turn = ASKING.acquire().await;
        let asked_at = Instant::now();
        let silent = silent_since().map_or(Duration::ZERO, |since| since.elapsed());
        let ask = self.sender.ask_receipt(seq, Duration::ZERO);
        let answer = tokio::time::timeout(LAST_ASK.saturating_sub(silent), ask).await;
        heard_of(asked_at, answer.is_ok());
        match answer {
            Ok(Ok(now)) => {
                let settled = self.settled(now, elapsed);
                Ok(Settled { enough: settled.enough || stored_is_enough, ..settled })
            }
            refused => {
                let why = match refused {
                    Ok(Err(error)) => error.to_string(),
                    _ => "no answer".to_owned(),
                };
                Err(Failure::incomplete(&self.sender.located().group, seq, &why))
            }
        }
    }

    fn settled(&self, now: ReceiptNow, elapsed: Duration) -> Settled {
        let ReceiptNow { receipt, level } = now;
        let enough = match self.wait {
            Wait::All => receipt.is_complete(),
            Wait::Stored => true,
            Wait::Count(count) => receipt.confirmed + receipt.reached >= count,
        };
        Settled { receipt, level, elapsed, enough }
    }

    /// Names those whose confirmations came with the last ones.
    async fn finish(
        &self,
        roll: &mut Roll,
        follow: Option<&mut mpsc::Receiver<Confirmed>>,
        settled: &Settled,
        steps: &mut (dyn FnMut(Step) -> Result<(), Failure> + Send),
    ) -> Result<(), Failure> {
        roll.tell(&settled.receipt, steps)?;
        let Some(follow) = follow else { return Ok(()) };
        let until = tokio::time::Instant::now() + NAMES_WITHIN;
        while roll.count() < settled.receipt.confirmed + settled.receipt.reached {
            let Ok(Some(moved)) = timeout_at(until, follow.recv()).await else { break };
            roll.heard(moved);
            roll.tell(&settled.receipt, steps)?;
        }
        Ok(())
    }
}

/// A message is stored, and its receipt does not come: the connection has ended, or the node has the message no more.
pub fn no_receipt(group: &str, seq: Seq, error: Error) -> Failure {
    match error {
        Error::Unknown => outcome(error),
        error => Failure::incomplete(group, seq, &error.to_string()),
    }
}

/// After storing failed or came to nothing.
fn outcome(error: Error) -> Failure {
    match error {
        Error::Unknown => {
            Failure::unknown("the outcome is unknown: the message may be stored, nobody can tell")
        }
        error => error.into(),
    }
}

/// Who is known to have one message. A cursor that has passed it says so, unless the receipt misses its owner: a cursor
/// passes over what its owner is still at work on, or will not do.
struct Roll {
    seq: Seq,
    moved: BTreeMap<String, How>,
    missed: BTreeSet<String>,
    told: BTreeSet<String>,
}

impl Roll {
    const fn new(seq: Seq) -> Self {
        Self { seq, moved: BTreeMap::new(), missed: BTreeSet::new(), told: BTreeSet::new() }
    }

    fn heard(&mut self, confirmed: Confirmed) {
        if confirmed.cursor >= self.seq {
            self.moved.insert(confirmed.name, confirmed.how);
        }
    }

    fn count(&self) -> u32 {
        u32::try_from(self.told.len()).unwrap_or(u32::MAX)
    }

    fn tell(
        &mut self,
        receipt: &Receipt,
        steps: &mut (dyn FnMut(Step) -> Result<(), Failure> + Send),
    ) -> Result<(), Failure> {
        let missing: BTreeSet<&str> =
            receipt.missing.iter().map(|missing| missing.name.as_str()).collect();
        let known = self.moved.keys().chain(&self.missed);
        let new: BTreeSet<String> = known
            .filter(|name| !missing.contains(name.as_str()) && !self.told.contains(*name))
            .cloned()
            .collect();
        for name in new {
            // Somebody who came after the message moves too, and was not asked.
            if self.count() >= receipt.confirmed + receipt.reached {
                break;
            }
            let host_only = self.moved.get(&name) == Some(&How::Reached);
            self.told.insert(name.clone());
            steps(Step::Confirmed { name, host_only })?;
        }
        let open = receipt.missing.iter().filter(|missing| !matches!(missing.why, Why::Left));
        self.missed.extend(open.map(|missing| missing.name.clone()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tertulia_client::Missing;

    use super::*;

    fn check(roll: &mut Roll, confirmed: u32, missing: &[&str], expected: &[&str]) {
        let missing: Vec<Missing> = missing
            .iter()
            .map(|name| Missing { name: (*name).to_owned(), why: Why::Pending })
            .collect();
        let members = confirmed + missing.len() as u32;
        let receipt = Receipt { seq: 7, epoch: 1, members, confirmed, reached: 0, missing };
        let mut told = Vec::new();
        roll.tell(&receipt, &mut |step| {
            if let Step::Confirmed { name, .. } = step {
                told.push(name);
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(told, expected);
    }

    #[test]
    fn only_who_has_it_is_named_and_only_once() {
        let mut roll = Roll::new(7);
        let heard =
            |name: &str, cursor| Confirmed { name: name.into(), cursor, how: How::Confirmed };
        roll.heard(heard("ana", 7));
        roll.heard(heard("luis", 6));
        check(&mut roll, 1, &["luis", "eva"], &["ana"]);
        // eva's cursor has passed it, but her program is still at work on it.
        roll.heard(heard("eva", 9));
        check(&mut roll, 1, &["luis", "eva"], &[]);
        // luis is not missed any more, though his move was not heard.
        check(&mut roll, 2, &["eva"], &["luis"]);
        // Somebody new has moved who was not asked.
        roll.heard(heard("bea", 12));
        check(&mut roll, 2, &["eva"], &[]);
    }
}
