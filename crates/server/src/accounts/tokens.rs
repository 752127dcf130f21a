//! Tokens: 256 random bits that are kept hashed, and the session that each opens.

use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tertulia_group::Name;

/// What a token's text begins with, so that it is known for one where it should not be.
const PREFIX: &str = "tt_";

/// A token, as whoever logged in keeps it. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token([u8; 32]);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What is kept of it. It is random, so that a plain hash is enough, and looking it up tells nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Digest(pub [u8; 32]);

impl Token {
    /// A new one.
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// Reads a token's text.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?;
        bytes.try_into().ok().map(Self)
    }

    /// Its text.
    pub fn text(&self) -> String {
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(self.0))
    }

    /// What is kept.
    pub fn digest(&self) -> Digest {
        Digest(*blake3::hash(&self.0).as_bytes())
    }
}

impl Digest {
    /// In hexadecimal.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads hexadecimal.
    pub fn from_hex(text: &str) -> Option<Self> {
        let byte = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
        let bytes: Option<Vec<u8>> = (0..64).step_by(2).map(byte).collect();
        bytes.filter(|_| text.len() == 64)?.try_into().ok().map(Self)
    }
}

/// What a token opens: shared by everything that it opened.
#[derive(Debug)]
pub(crate) struct Session {
    pub digest: Digest,
    pub account: Name,
    pub administrator: bool,
    /// Microseconds since the Unix epoch.
    pub expires_us: u64,
    ended: AtomicBool,
}

impl Session {
    pub const fn new(digest: Digest, account: Name, administrator: bool, expires_us: u64) -> Self {
        let ended = AtomicBool::new(false);
        Self { digest, account, administrator, expires_us, ended }
    }

    /// Whether it opens anything still.
    pub fn is_valid(&self, now_us: u64) -> bool {
        !self.ended.load(Ordering::Acquire) && now_us < self.expires_us
    }

    /// Revoked, or expired.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_text_of_256_bits_and_no_other_text_is_one() {
        let token = Token::random();
        assert_eq!(token.text().len(), 46);
        assert_eq!(Token::parse(&token.text()), Some(token.clone()));
        assert_ne!(Token::random(), token);
        let text = token.text();
        for bad in ["", "tt_", "tt_AAAA", &text[1..], &text[..45], &format!("{text}A"), "tt_é"] {
            assert_eq!(Token::parse(bad), None, "{bad}");
        }
        assert!(!format!("{token:?}").contains(&text[4..10]));
    }

    #[test]
    fn a_digest_is_not_the_token_and_comes_back_from_its_text() {
        let digest = Token::random().digest();
        assert_eq!(Digest::from_hex(&digest.hex()), Some(digest));
        for bad in ["", "00", &"zz".repeat(32), &"00".repeat(33), &"é".repeat(32)] {
            assert_eq!(Digest::from_hex(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_session_ends_by_time_and_by_word() {
        let name = Name::new("ana").unwrap();
        let session = Session::new(Token::random().digest(), name, false, 100);
        assert!(session.is_valid(99) && !session.is_valid(100));
        session.end();
        assert!(!session.is_valid(99));
    }
}
