//! A member's saved state: a file that somebody may have edited is refused or read, and what was read is written the same.

use tertulia_client::Saved;

/// The file's bytes.
pub fn run(data: &[u8]) {
    let Ok(saved) = Saved::from_bytes(data) else { return };
    let written = saved.to_bytes();
    assert_eq!(Saved::from_bytes(&written).as_ref(), Ok(&saved), "{saved:?}");
}
