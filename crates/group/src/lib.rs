//! The pure core of a group: a log, members as cursors on it, acknowledgements as cursors moving, receipts as who has moved past.

pub mod entry;
pub mod ids;
pub mod limits;
pub mod name;
pub mod receipt;

pub use entry::{Entry, Header, Kind, Run};
pub use ids::{
    ConnId, Door, Epoch, Incarnation, LeaveReason, LogId, Now, Position, SecretDigest, SenderId,
    Seq,
};
pub use limits::Limits;
pub use name::{Name, NameError};
pub use receipt::{CompleteRun, Missing, Receipt, Why};
