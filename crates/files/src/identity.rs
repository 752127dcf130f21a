//! A peer's certificate: made by itself, kept privately, known by its SHA-256, which the node vouches for.

use std::fmt;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};

/// The SHA-256 of a certificate in DER.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Of a certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate.as_ref()).into())
    }
}

impl fmt::Display for Fingerprint {
    /// Lower-case hexadecimal, 64 digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&tertulia_wire::sharing::hex(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A certificate and its key.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    fingerprint: Fingerprint,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

impl Identity {
    /// One for a single use.
    ///
    /// # Errors
    /// Where no certificate can be made.
    pub fn ephemeral() -> io::Result<Self> {
        let (certificate, key) = generate()?;
        Self::from_pem(&certificate, &key)
    }

    /// The one that is kept in `path` (PEM, readable by its owner only); made where there is none.
    ///
    /// # Errors
    /// Where it cannot be read, or is damaged.
    pub fn load_or_make(path: &Path) -> io::Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::from_pem(&text, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (certificate, key) = generate()?;
                let mut options = std::fs::OpenOptions::new();
                options.create_new(true).write(true);
                #[cfg(unix)]
                std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
                let new = path.with_extension("new");
                // One that was left there with other rights would keep them.
                let _ = std::fs::remove_file(&new);
                let mut file = options.open(&new)?;
                file.write_all(format!("{certificate}{key}").as_bytes())?;
                file.sync_all()?;
                std::fs::rename(&new, path)?;
                Self::from_pem(&certificate, &key)
            }
            Err(error) => Err(error),
        }
    }

    fn from_pem(certificate: &str, key: &str) -> io::Result<Self> {
        let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|_| damaged("there is no certificate in it"))?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|_| damaged("there is no private key in it"))?;
        let fingerprint = Fingerprint::of(&certificate);
        Ok(Self { certificate, key, fingerprint })
    }

    /// Its certificate's.
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone()]
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }
}

/// A certificate and its key, in PEM.
fn generate() -> io::Result<(String, String)> {
    let make = || {
        let key = KeyPair::generate()?;
        let params = CertificateParams::new(vec!["tertulia-peer".to_owned()])?;
        let certificate = params.self_signed(&key)?;
        Ok::<_, rcgen::Error>((certificate.pem(), key.serialize_pem()))
    };
    make().map_err(io::Error::other)
}

/// Shared by every connection.
pub type SharedIdentity = Arc<Identity>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_once_and_kept_privately() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.pem");
        let made = Identity::load_or_make(&path).unwrap();
        assert_eq!(Identity::load_or_make(&path).unwrap().fingerprint(), made.fingerprint());
        assert_ne!(Identity::ephemeral().unwrap().fingerprint(), made.fingerprint());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        std::fs::write(&path, "nothing").unwrap();
        assert!(Identity::load_or_make(&path).unwrap_err().to_string().contains("no certificate"));
    }
}
