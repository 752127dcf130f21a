//! What a member writes down to come back as the same member after its program has ended.

use tertulia_group::{LogId, SenderId, Seq};
use tertulia_wire::Secret;

/// What a program keeps to resume its membership. Made by [`crate::Member::saved`]; given back in
/// [`crate::MemberOptions::saved`]. Whoever has it is the member: keep the file private.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The group's name as it is written.
    pub group: String,
    /// The member's name as it is written.
    pub name: String,
    /// The resume secret.
    pub secret: Secret,
    /// The id of its own messages.
    pub sender: SenderId,
    /// The log of `cursor`.
    pub log: LogId,
    /// The epoch in which the entry at `cursor` came.
    pub epoch: u32,
    /// Done with everything up to here, apart from `open` and `failed`.
    pub cursor: Seq,
    /// Still at work on these; they come again.
    pub open: Vec<Seq>,
    /// Will not do these; the node may not know yet.
    pub failed: Vec<(Seq, String)>,
}

/// Why bytes are not a [`Saved`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a member's saved state: {0}")]
pub struct SavedError(pub String);

impl Saved {
    /// A few lines of text, version first.
    pub fn to_bytes(&self) -> Vec<u8> {
        unimplemented!()
    }

    /// Reads what [`Saved::to_bytes`] wrote; fields of later versions are skipped.
    ///
    /// # Errors
    /// [`SavedError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SavedError> {
        unimplemented!()
    }
}
