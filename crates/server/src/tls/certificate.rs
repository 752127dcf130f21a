//! The node's certificate and key: read from files, or made once and kept in the data folder.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tertulia_wire::Fingerprint;

use super::TlsError;
use crate::config::TlsSource;

/// Names of the node's own in the data folder.
const OWN_CERTIFICATE: &str = "tls-cert.pem";
const OWN_KEY: &str = "tls-key.pem";

/// What does the cryptography.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The certificate of now; connections that there are keep what they have.
#[derive(Debug)]
pub(super) struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
    now: RwLock<Arc<CertifiedKey>>,
}

impl Certificate {
    pub fn load(source: TlsSource, data: &Path, names: &[String]) -> Result<Self, TlsError> {
        let (certificate, key) = match source {
            TlsSource::Files { certificate, key } => (certificate, key),
            TlsSource::Own => {
                let own = (data.join(OWN_CERTIFICATE), data.join(OWN_KEY));
                // The certificate is written last: without it nobody has seen the key.
                if !own.0.exists() {
                    make(&own.0, &own.1, names)?;
                }
                own
            }
        };
        let now = RwLock::new(Arc::new(read(&certificate, &key)?));
        Ok(Self { certificate, key, now })
    }

    pub fn reload(&self) -> Result<Fingerprint, TlsError> {
        let new = Arc::new(read(&self.certificate, &self.key)?);
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(self.fingerprint())
    }

    pub fn fingerprint(&self) -> Fingerprint {
        let now = self.now();
        let own = now.cert.first().expect("a certificate was read, or there would be no key");
        let digest = ring::digest::digest(&ring::digest::SHA256, own);
        Fingerprint(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    fn now(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now())
    }
}

fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let in_file =
        |path: &Path, what: &dyn std::fmt::Display| TlsError(format!("{}: {what}", path.display()));
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| in_file(certificate, &pem_text(&error, "certificate")))?;
    if chain.is_empty() {
        return Err(in_file(certificate, &"there is no certificate in it (PEM is needed)"));
    }
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| in_file(key, &pem_text(&error, "private key")))?;
    CertifiedKey::from_der(chain, private, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            in_file(key, &format!("the key is not that of {}", certificate.display()))
        }
        rustls::Error::InvalidCertificate(why) => {
            in_file(certificate, &format!("not a certificate: {why:?}"))
        }
        error => in_file(key, &format!("the key cannot be used: {error}")),
    })
}

fn pem_text(error: &rustls::pki_types::pem::Error, what: &str) -> String {
    use rustls::pki_types::pem::Error;
    match error {
        Error::Io(error) => format!("cannot be read: {error}"),
        Error::NoItemsFound => format!("there is no {what} in it (PEM is needed)"),
        error => format!("there is no {what} in it that can be read: {error}"),
    }
}

/// A key, and a certificate that it vouches for itself.
fn make(certificate: &Path, key: &Path, names: &[String]) -> Result<(), TlsError> {
    let failed = |error: rcgen::Error| TlsError(format!("a certificate cannot be made: {error}"));
    let names: Vec<String> = names.iter().filter(|name| is_plain(name)).cloned().collect();
    let pair = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::new(names).map_err(failed)?;
    params.distinguished_name.push(DnType::CommonName, "Tertulia node");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Nobody renews it: it is known by its fingerprint. The clock of a node's first start may be wrong.
    (params.not_before, params.not_after) =
        (rcgen::date_time_ymd(2000, 1, 1), rcgen::date_time_ymd(2100, 1, 1));
    let made = params.self_signed(&pair).map_err(failed)?;
    write(key, &pair.serialize_pem())?;
    write(certificate, &made.pem())
}

/// What a certificate takes as a name; a host may be called anything.
fn is_plain(name: &str) -> bool {
    name.len() <= 253 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:".contains(&b))
}

/// A file that nobody else may read, there as a whole or not at all.
fn write(path: &Path, text: &str) -> Result<(), TlsError> {
    let new = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        // One that was left there with other rights would keep them.
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = private(OpenOptions::new().create_new(true).write(true)).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    write().map_err(|error| TlsError(format!("cannot write {}: {error}", path.display())))
}

fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}
