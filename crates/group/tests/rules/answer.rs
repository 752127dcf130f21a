//! What a group says, spread out to one answer a message, so that a naive model can say the same.

use tertulia_group::{Missing, Output, Receipt};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    Welcome { conn: u64, resumed: bool, key: u64, next: u64, acked: u64, open: Vec<u64>, last: u64 },
    Ready { conn: u64, last: u64 },
    Refused { conn: u64, why: String },
    MessageRefused { conn: u64, counter: u64, why: String },
    Stored { conn: u64, counter: u64, seq: u64 },
    Final { conn: u64, counter: u64, receipt: Plain },
    Gone { conn: u64, why: String },
    Close { conn: u64, why: String },
    Removed { ticket: u64, there: bool },
    Awaited { ticket: u64, receipt: Option<Plain> },
    Joined(String),
    Left(String, String),
}

/// A receipt without its types: (name, why) for everybody who does not count.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Plain {
    pub seq: u64,
    pub epoch: u32,
    pub members: u32,
    pub confirmed: u32,
    pub reached: u32,
    pub missing: Vec<(String, String)>,
}

impl Plain {
    pub fn of(receipt: &Receipt) -> Self {
        let missing = |missing: &Missing| (missing.name.clone(), format!("{:?}", missing.why));
        Self {
            seq: receipt.seq,
            epoch: receipt.epoch,
            members: receipt.members,
            confirmed: receipt.confirmed,
            reached: receipt.reached,
            missing: receipt.missing.iter().map(missing).collect(),
        }
    }
}

/// Sorted: the order within a connection is looked at by [`in_order`].
pub fn answers(said: Vec<Output>) -> Vec<Answer> {
    let mut all: Vec<Answer> = said.into_iter().flat_map(spread).collect();
    all.sort();
    all
}

fn spread(output: Output) -> Vec<Answer> {
    vec![match output {
        Output::Welcome(conn, welcome) => Answer::Welcome {
            conn: conn.0,
            resumed: welcome.resumed,
            key: welcome.key.0,
            next: welcome.next,
            acked: welcome.acked,
            open: welcome.open,
            last: welcome.last_counter,
        },
        Output::SenderReady(conn, ready) => {
            Answer::Ready { conn: conn.0, last: ready.last_counter }
        }
        Output::Refused(conn, why) => Answer::Refused { conn: conn.0, why: format!("{why:?}") },
        Output::MessageRefused(conn, counter, why) => {
            Answer::MessageRefused { conn: conn.0, counter, why: format!("{why:?}") }
        }
        Output::Stored(conn, run) | Output::Again(conn, run) => {
            let one =
                |i| Answer::Stored { conn: conn.0, counter: run.counter + i, seq: run.seq + i };
            return (0..u64::from(run.count)).map(one).collect();
        }
        Output::Complete(conn, run) => {
            let plain = |i| Plain {
                seq: run.seq + i,
                epoch: run.epoch,
                members: run.members,
                confirmed: run.members - run.reached,
                reached: run.reached,
                missing: Vec::new(),
            };
            let one =
                |i| Answer::Final { conn: conn.0, counter: run.counter + i, receipt: plain(i) };
            return (0..u64::from(run.count)).map(one).collect();
        }
        Output::Receipt(conn, counter, receipt) => {
            Answer::Final { conn: conn.0, counter, receipt: Plain::of(&receipt) }
        }
        Output::Confirmed(..)
        | Output::Paused(_)
        | Output::Watched(..)
        | Output::WatchedComplete(..) => {
            return Vec::new();
        }
        Output::Gone(conn, why) => Answer::Gone { conn: conn.0, why: format!("{why:?}") },
        Output::Close(conn, why) => Answer::Close { conn: conn.0, why: format!("{why:?}") },
        Output::Removed(ticket, there) => Answer::Removed { ticket: ticket.0, there },
        Output::Awaited(ticket, receipt) => {
            Answer::Awaited { ticket: ticket.0, receipt: receipt.as_ref().map(Plain::of) }
        }
        Output::Joined(name, _) => Answer::Joined(name.to_string()),
        Output::Left(name, why) => Answer::Left(name.to_string(), format!("{why:?}")),
    }]
}

/// Nobody hears that a message is complete before hearing its number.
pub fn in_order(said: &[Output]) -> bool {
    said.iter().enumerate().all(|(i, output)| match output {
        Output::Stored(conn, run) | Output::Again(conn, run) => {
            !said[..i].iter().any(|before| match before {
                Output::Complete(other, complete) => {
                    other == conn
                        && complete.counter <= run.counter
                        && run.counter < complete.counter + u64::from(complete.count)
                }
                Output::Receipt(other, counter, _) => other == conn && *counter == run.counter,
                _ => false,
            })
        }
        _ => true,
    })
}
