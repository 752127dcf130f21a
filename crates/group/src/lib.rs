//! The pure core of a group: a log, members as cursors on it, acknowledgements as cursors moving, receipts as who has moved past.
//!
//! No tokio, no sockets, no files, no clock, no randomness: time and ids come in as arguments, so that everything here is
//! tested by calling it. Start with [`machine`]: its two enums are the whole machine.
//!
//! Where each rule that is easy to get wrong lives:
//!
//! | rule | file |
//! |---|---|
//! | order, numbers, stamping in place | `propose.rs` (`number`) |
//! | refusing (may fail) apart from applying (cannot) | `propose.rs`, `apply.rs` |
//! | retries get their number back (*Once*) | `senders.rs` |
//! | acknowledgements: a cursor and exceptions below it | `apply.rs` (`ack`, `acceptable`) |
//! | who is asked, what counts, when a receipt is final | `waiting.rs` (`receipt`) |
//! | when a receipt is given | `giving.rs` |
//! | receipts for those who look on | `watch.rs` |
//! | the smallest cursor at a constant price | `lowest.rs` |
//! | coming back, taking over, places in another log | `propose.rs` (`resume`, `place`) |
//! | grace and leaving | `propose.rs` (`closed`, `set_away`, `propose_left`) |
//! | what receipts know of the past, and how it is bounded | `past.rs` |
//! | recovery through the same effects as live | `recover.rs` |
//! | limits | `limits.rs` |
//!
//! `planted.rs` breaks these rules one at a time, for the simulator to catch; no release has it.

mod apply;
pub mod codec;
mod effect;
pub mod entry;
mod giving;
mod group;
pub mod ids;
pub mod limits;
mod lowest;
pub mod machine;
pub mod members;
pub mod name;
mod past;
#[doc(hidden)]
pub mod planted;
mod propose;
pub mod receipt;
mod recover;
mod senders;
pub mod waiting;
mod watch;

pub use codec::RecoverError;
pub use entry::{Entry, Header, Kind, Run};
pub use group::{Group, Tables};
pub use ids::{
    ConnId, Door, Epoch, Incarnation, LeaveReason, LogId, Now, Position, SecretDigest, SenderId,
    Seq,
};
pub use limits::Limits;
pub use machine::{
    Ack, Batch, Confirmation, From, Identity, Input, Join, Moved, OpenSender, Output, Refusal,
    SenderReady, StoredRun, Ticket, Welcome,
};
pub use members::{Member, Presence};
pub use name::{Name, NameError};
pub use receipt::{CompleteRun, Missing, Receipt, Why};
pub use waiting::Expired;
