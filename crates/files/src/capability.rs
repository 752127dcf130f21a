//! Capabilities, as a peer that is asked looks at them: the node has signed that this certificate may fetch these contents.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

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

/// Capabilities of which it is known that the node has signed them; more are forgotten all at once.
const SIGNED_KEPT: usize = 256;

/// Verifies one node's capabilities.
#[derive(Clone, Debug)]
pub struct Verifier(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    key: AsymmetricPublicKey<V4>,
    instance: String,
    /// By their texts, as long as this key counts: a signature takes longer than sending a small file.
    signed: Mutex<HashMap<String, Arc<Signed>>>,
}

/// What the node has signed; to whom and until when it counts is to be looked at each time.
#[derive(Debug, PartialEq, Eq)]
struct Signed {
    account: String,
    expires: Timestamp,
    fingerprint: Option<[u8; 32]>,
    hashes: HashSet<ContentHash>,
}

/// A capability that was verified, for the one who shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted(Arc<Signed>);

impl Granted {
    /// The account that asks.
    pub fn account(&self) -> &str {
        &self.0.account
    }

    /// Whether it is for this content.
    pub fn opens(&self, hash: ContentHash) -> bool {
        self.0.hashes.contains(&hash)
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
        let (key, instance) = (AsymmetricPublicKey::from(&bytes).ok()?, key.instance.clone());
        Some(Self(Arc::new(Inner { key, instance, signed: Mutex::default() })))
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
        let signed = self.0.signed(text).ok_or(NotGranted::NotSigned)?;
        // Beyond all time is no earlier than now.
        if signed.expires.checked_add(SKEW).is_ok_and(|end| end <= now) {
            return Err(NotGranted::Expired);
        }
        if signed.fingerprint != Some(shown.0) {
            return Err(NotGranted::Stolen);
        }
        Ok(Granted(signed))
    }
}

impl Inner {
    fn signed(&self, text: &str) -> Option<Arc<Signed>> {
        if text.len() > TEXT_MAX {
            return None;
        }
        let kept = || self.signed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(signed) = kept().get(text) {
            return Some(Arc::clone(signed));
        }
        let signed = Arc::new(self.look_at(text)?);
        let mut kept = kept();
        if kept.len() >= SIGNED_KEPT {
            kept.clear();
        }
        kept.insert(text.to_owned(), Arc::clone(&signed));
        Some(signed)
    }

    fn look_at(&self, text: &str) -> Option<Signed> {
        let token = UntrustedToken::<Public, V4>::try_from(text).ok()?;
        let trusted =
            PublicToken::verify(&self.key, &token, None, Some(CAPABILITY_PURPOSE)).ok()?;
        let capability: Capability = serde_json::from_str(trusted.payload()).ok()?;
        if capability.iss != self.instance {
            return None;
        }
        Some(Signed {
            account: capability.sub,
            expires: capability.exp.parse().ok()?,
            fingerprint: bytes_of_hex(&capability.fpr),
            hashes: capability.hashes.iter().filter_map(|hash| hash.parse().ok()).collect(),
        })
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
        assert_eq!(granted.account(), "ana");
        // However often it was shown.
        assert_eq!(verifier.verify(&text, thief, end), Err(NotGranted::Stolen));
        assert_eq!(verifier.verify(&text, own, end + SKEW), Err(NotGranted::Expired));
        assert!(verifier.verify(&text, own, end).is_ok());
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
        for number in 0..2 * SIGNED_KEPT {
            let another = Capability { sub: number.to_string(), ..capability.clone() };
            assert!(verifier.verify(&node.sign(&another, CAPABILITY_PURPOSE), own, end).is_ok());
        }
        assert!(verifier.0.signed.lock().unwrap().len() <= SIGNED_KEPT, "not all are kept");
    }
}
