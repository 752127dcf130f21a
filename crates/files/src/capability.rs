//! Capabilities, as a peer that is asked looks at them: the node has signed that this certificate may fetch these contents.

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};
use pasetors::Public;
use pasetors::keys::AsymmetricPublicKey;
use pasetors::token::UntrustedToken;
use pasetors::version4::{PublicToken, V4};
use tertulia_wire::sharing::{CAPABILITY_PURPOSE, Capability, NodeKey, bytes_of_hex};

use crate::content::ContentHash;
use crate::identity::Fingerprint;

/// How far the clocks of the node and of a peer may be apart.
const SKEW: SignedDuration = SignedDuration::from_secs(60);
/// Bytes of a capability's text; a longer one is not looked at.
const TEXT_MAX: usize = 16 << 10;

/// Verifies one node's capabilities.
#[derive(Clone, Debug)]
pub struct Verifier {
    key: AsymmetricPublicKey<V4>,
    instance: String,
}

/// A capability that was verified, for the one who shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The account that asks.
    pub account: String,
    hashes: HashSet<ContentHash>,
}

impl Granted {
    /// Whether it is for this content.
    pub fn opens(&self, hash: ContentHash) -> bool {
        self.hashes.contains(&hash)
    }
}

/// Why a capability opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotGranted {
    /// It is none, or not of this node.
    #[error("this is no capability of this node")]
    NotSigned,
    /// Its time is over.
    #[error("the capability has expired; ask the node for another")]
    Expired,
    /// It is for another certificate.
    #[error("the capability is for another certificate")]
    Stolen,
}

impl Verifier {
    /// By the key that the node has told.
    pub fn new(key: &NodeKey) -> Option<Self> {
        let bytes = bytes_of_hex(&key.key)?;
        let instance = key.instance.clone();
        Some(Self { key: AsymmetricPublicKey::from(&bytes).ok()?, instance })
    }

    /// Looks at what somebody shows who has the key of the certificate `shown`.
    ///
    /// # Errors
    /// [`NotGranted`]
    pub fn verify(
        &self,
        text: &str,
        shown: Fingerprint,
        now: Timestamp,
    ) -> Result<Granted, NotGranted> {
        let capability = self.signed(text).ok_or(NotGranted::NotSigned)?;
        let expires: Timestamp = capability.exp.parse().map_err(|_| NotGranted::NotSigned)?;
        // Beyond all time is no earlier than now.
        if expires.checked_add(SKEW).is_ok_and(|end| end <= now) {
            return Err(NotGranted::Expired);
        }
        if bytes_of_hex(&capability.fpr) != Some(shown.0) {
            return Err(NotGranted::Stolen);
        }
        let hashes = capability.hashes.iter().filter_map(|hash| hash.parse().ok()).collect();
        Ok(Granted { account: capability.sub, hashes })
    }

    fn signed(&self, text: &str) -> Option<Capability> {
        if text.len() > TEXT_MAX {
            return None;
        }
        let token = UntrustedToken::<Public, V4>::try_from(text).ok()?;
        let trusted =
            PublicToken::verify(&self.key, &token, None, Some(CAPABILITY_PURPOSE)).ok()?;
        let capability: Capability = serde_json::from_str(trusted.payload()).ok()?;
        (capability.iss == self.instance).then_some(capability)
    }
}

#[cfg(test)]
mod tests {
    use pasetors::keys::{AsymmetricKeyPair, Generate as _};
    use tertulia_wire::sharing::hex;

    use super::*;

    struct Node {
        pair: AsymmetricKeyPair<V4>,
    }

    impl Node {
        fn new() -> Self {
            Self { pair: AsymmetricKeyPair::generate().unwrap() }
        }

        fn verifier(&self, instance: &str) -> Verifier {
            let key = hex(self.pair.public.as_bytes());
            Verifier::new(&NodeKey { key, instance: instance.to_owned() }).unwrap()
        }

        fn sign(&self, capability: &Capability, purpose: &[u8]) -> String {
            let claims = serde_json::to_vec(capability).unwrap();
            PublicToken::sign(&self.pair.secret, &claims, None, Some(purpose)).unwrap()
        }
    }

    #[test]
    fn only_the_nodes_word_for_this_certificate_now_opens_what_it_names() {
        let (node, other) = (Node::new(), Node::new());
        let (own, thief) = (Fingerprint([1; 32]), Fingerprint([2; 32]));
        let (hash, unnamed) = (ContentHash::of(b"a"), ContentHash::of(b"b"));
        let exp = "2026-11-25T10:00:00Z";
        let capability = Capability {
            iss: "ab".into(),
            sub: "ana".into(),
            exp: exp.into(),
            fpr: own.to_string(),
            hashes: vec![hash.to_string(), "no hash".into()],
        };
        let end: Timestamp = exp.parse().unwrap();
        let text = node.sign(&capability, CAPABILITY_PURPOSE);
        let verifier = node.verifier("ab");
        let granted = verifier.verify(&text, own, end).unwrap();
        assert!(granted.opens(hash) && !granted.opens(unnamed));
        assert_eq!(granted.account, "ana");
        assert_eq!(verifier.verify(&text, thief, end), Err(NotGranted::Stolen));
        assert_eq!(verifier.verify(&text, own, end + SKEW), Err(NotGranted::Expired));
        let not_signed = Err(NotGranted::NotSigned);
        assert_eq!(other.verifier("ab").verify(&text, own, end), not_signed);
        assert_eq!(node.verifier("cd").verify(&text, own, end), not_signed);
        assert_eq!(verifier.verify(&node.sign(&capability, b"x"), own, end), not_signed);
        let mut bent = text.into_bytes();
        bent[40] ^= 1;
        for wrong in [
            "",
            "v4.public.",
            "v4.local.AAAA",
            &String::from_utf8(bent).unwrap(),
            &"x".repeat(1 << 20),
        ] {
            assert_eq!(verifier.verify(wrong, own, end), not_signed);
        }
    }
}
