//! Capabilities: the node's word that an account may fetch these contents with this certificate, for a short while.

use ed25519_compact::{KeyPair, Seed};
use pasetors::keys::AsymmetricSecretKey;
use pasetors::version4::{PublicToken, V4};
use tertulia_wire::sharing::{CAPABILITY_PURPOSE, Capability};

/// What the signing key is made of the store's secret by.
const KEY_PURPOSE: &str = "tertulia 2026 capabilities: the node's Ed25519 seed";

/// Signs capabilities.
pub(crate) struct Signer {
    secret: AsymmetricSecretKey<V4>,
    public: [u8; 32],
}

impl Signer {
    /// The key is the store's: the same after a restart.
    ///
    /// # Errors
    /// Where the library does not take the key, which it does for every seed that is not all zeros.
    pub fn new(store_secret: &[u8]) -> Result<Self, String> {
        let pair = KeyPair::from_seed(Seed::new(blake3::derive_key(KEY_PURPOSE, store_secret)));
        let secret =
            AsymmetricSecretKey::from(pair.sk.as_ref()).map_err(|error| error.to_string())?;
        Ok(Self { secret, public: *pair.pk })
    }

    /// By what peers verify.
    pub const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// The capability's text.
    pub fn sign(&self, capability: &Capability) -> Result<String, String> {
        let claims = serde_json::to_vec(capability).map_err(|error| error.to_string())?;
        PublicToken::sign(&self.secret, &claims, None, Some(CAPABILITY_PURPOSE))
            .map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use pasetors::keys::AsymmetricPublicKey;
    use pasetors::token::UntrustedToken;

    use super::*;

    #[test]
    fn what_is_signed_is_verified_by_the_stores_key_and_no_other() {
        let signer = Signer::new(&[7; 32]).unwrap();
        let capability = Capability {
            iss: "ab".into(),
            sub: "ana".into(),
            exp: "2026-11-25T10:00:00.000Z".into(),
            fpr: "cd".into(),
            hashes: vec!["ef".into()],
        };
        let text = signer.sign(&capability).unwrap();
        assert!(text.starts_with("v4.public."), "{text}");
        let verify = |key: &[u8; 32], purpose: &[u8]| {
            let key = AsymmetricPublicKey::<V4>::from(key).unwrap();
            let token = UntrustedToken::try_from(text.as_str()).unwrap();
            let trusted = PublicToken::verify(&key, &token, None, Some(purpose)).ok()?;
            serde_json::from_str::<Capability>(trusted.payload()).ok()
        };
        assert_eq!(verify(signer.public(), CAPABILITY_PURPOSE), Some(capability));
        assert_eq!(verify(signer.public(), b"something else"), None);
        assert_eq!(verify(Signer::new(&[8; 32]).unwrap().public(), CAPABILITY_PURPOSE), None);
        assert_eq!(Signer::new(&[7; 32]).unwrap().public(), signer.public());
    }
}
