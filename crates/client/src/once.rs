//! A message that is stored once, whichever program sends it and however often: its key makes the sender's id, its text the
//! counter.

use ring::digest::{Context, SHA256};
use tertulia_group::{Name, SenderId};

/// What the key of a sender is hashed with, so that it is nobody else's hash.
const DOMAIN: &[u8] = b"tertulia once 1";

/// One message under a key of the caller's. Who sends the same text to the same group under the same name and key, also another
/// program and much later, sends the same message: it is stored once, and each is answered its number and its receipt. The node
/// remembers keys as it remembers senders: the least recently used of very many are forgotten.
///
/// Whoever can guess a key can use it up under that name; nobody gets another message under it. Another text under the same key is
/// [`crate::Error::KeyReused`], with one exception: of two that are sent at the very same moment both may be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once {
    key: String,
    counter: u64,
}

impl Once {
    /// The one message `body` of this key.
    pub fn new(key: impl Into<String>, body: &[u8]) -> Self {
        Self { key: key.into(), counter: counter_of(body) }
    }

    /// The id of its sender, whose only message it is.
    pub(crate) fn sender(&self, name: &str) -> SenderId {
        // As it is compared; what is no name the node refuses.
        let name =
            Name::new(name).map_or_else(|_| name.to_owned(), |name| name.folded().to_owned());
        let mut context = Context::new(&SHA256);
        for part in [DOMAIN, name.as_bytes(), self.key.as_bytes()] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let mut id = [0; 16];
        id.copy_from_slice(&context.finish().as_ref()[..16]);
        SenderId(id)
    }

    pub(crate) const fn counter(&self) -> u64 {
        self.counter
    }

    pub(crate) fn is_of(&self, body: &[u8]) -> bool {
        self.counter == counter_of(body)
    }
}

/// A counter of 62 bits, above 0: another text under the same key has another one.
fn counter_of(body: &[u8]) -> u64 {
    let digest = ring::digest::digest(&SHA256, body);
    let first = digest.as_ref().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    (first >> 2) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_and_name_make_the_sender_and_the_text_its_counter() {
        let once = Once::new("deploy-17", b"hola");
        let again = Once::new("deploy-17", b"hola");
        assert_eq!((again.sender("Ana"), again.counter()), (once.sender("ana"), once.counter()));
        assert_ne!(once.sender("ana"), once.sender("eva"));
        assert_ne!(once.sender("ana"), Once::new("deploy-18", b"hola").sender("ana"));
        // Where one ends and the next begins counts too.
        assert_ne!(Once::new("b", b"").sender("aa"), Once::new("ab", b"").sender("a"));
        assert!(once.is_of(b"hola") && !once.is_of(b"Hola"));
        // Written down in docs/protocol.md: other clients make the same.
        assert_eq!(once.counter(), 4_389_286_616_988_272_749);
        let id = 0x1f6b_ac7a_8863_8b46_e7aa_87d8_07db_fc90_u128;
        assert_eq!(once.sender("ana").0, id.to_be_bytes());
    }
}
