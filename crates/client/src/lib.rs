//! The library for members and senders: it reconnects, resumes and retries safely.
//!
//! Three things to begin with: [`Directory`] asks what is there, [`Sender`] sends to a group from outside and waits for
//! receipts, [`Member`] is in a group: it reads, confirms and publishes. [`Target`] says which node to ask first; where a
//! group is coordinated is found out by the library, again after every lost connection.
//!
//! ```no_run
//! # async fn example() -> Result<(), tertulia_client::Error> {
//! use tertulia_client::{Event, Member, MemberOptions, Place, Target};
//!
//! let target = Target::new("127.0.0.1:5001");
//! let mut member = Member::join(&target, Place::Group("ops".into()), MemberOptions::new("ana")).await?;
//! while let Some(event) = member.next().await {
//!     if let Event::Entry(entry) = event {
//!         println!("#{} {}", entry.header.seq, entry.name());
//!         member.done(entry.header.seq);
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod account;
mod attach;
mod conn;
mod directory;
mod error;
mod halves;
mod known;
mod member;
mod once;
mod outgoing;
mod role;
mod saved;
mod sender;
mod sent;
mod session;
mod shared;
mod target;
mod tls;
mod tracker;

pub use account::{Identity, LoggedIn};
pub use directory::{Directory, History, Located, ReceiptNow};
pub use error::{Changed, ConnectError, Error};
pub use known::{KnownNodes, Pinned};
pub use member::{Event, Handle, Member, MemberOptions, Place, Welcomed};
pub use once::Once;
pub use saved::{Saved, SavedError};
pub use sender::{Sender, SenderOptions};
pub use sent::Sent;
pub use target::{Login, Target};
pub use tls::Trust;

pub use tertulia_group::{Entry, Kind, LogId, Missing, Receipt, SenderId, Seq, Why};
pub use tertulia_wire::native::{
    Audience, Confirmed, GroupItem, GroupRules, HistoryMode, How, MemberItem, Presence, Start,
    StatusReply,
};
pub use tertulia_wire::{Code, Fingerprint, Instance, Level, Secret};
