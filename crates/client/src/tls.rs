//! TLS to a node, and whom to trust: an authority that the system knows, a fingerprint that was given, or the certificate
//! that was shown the first time.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tertulia_wire::Fingerprint;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring as rustls_ring};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore,
    SignatureScheme,
};

use crate::ConnectError;
use crate::known::{Known, KnownNodes};

/// What is asked for, so that nobody leads this to something else that speaks TLS.
pub(crate) const ALPN: &[u8] = b"tertulia/1";

/// Whom to trust over TLS. An authority that the system knows is enough, unless a fingerprint is given; who has neither is
/// refused, unless there is a file of known nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    fingerprint: Option<Fingerprint>,
    known: Option<KnownNodes>,
}

impl Trust {
    /// Only the certificate with this fingerprint, whoever vouches for it.
    #[must_use]
    pub const fn only(mut self, fingerprint: Option<Fingerprint>) -> Self {
        self.fingerprint = fingerprint;
        self
    }

    /// A certificate that no authority vouches for is trusted the first time, written down, and the only one from then on.
    #[must_use]
    pub fn known(mut self, known: KnownNodes) -> Self {
        self.known = Some(known);
        self
    }

    /// Shakes hands; nothing is said to a node that is not trusted.
    pub(crate) async fn connect(
        &self,
        stream: TcpStream,
        address: &str,
        protocol: &[u8],
    ) -> Result<TlsStream<TcpStream>, ConnectError> {
        let (host, _) = address.rsplit_once(':').unwrap_or((address, ""));
        let other = |message: String| ConnectError::Other { address: address.to_owned(), message };
        let name = server_name(host).map_err(|()| other(format!("{host} is no host's name")))?;
        let known = self.known.as_ref().filter(|_| self.fingerprint.is_none());
        let expected = match known.map(|known| known.find(address)).transpose()? {
            Some(Some(found)) => Expected::Known(found),
            Some(None) => Expected::Anybody,
            None => self.fingerprint.map_or(Expected::Authority, Expected::Only),
        };
        let verifier = Arc::new(Verifier::new(expected));
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for both versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as _)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let shaken = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        let stream = shaken.map_err(|error| verifier.why(address, self, &error))?;
        if let (Some(Seen { fingerprint, is_new: true }), Some(known)) = (verifier.seen(), known) {
            known.add(address, fingerprint)?;
        }
        Ok(stream)
    }
}

/// Whose certificate is accepted.
#[derive(Debug)]
enum Expected {
    Only(Fingerprint),
    /// That one, or an authority's.
    Known(Known),
    Authority,
    Anybody,
}

/// What was shown.
#[derive(Clone, Copy, Debug)]
struct Seen {
    fingerprint: Fingerprint,
    /// Nobody vouches for it: it is trusted because it is the first.
    is_new: bool,
}

/// Judges one connection's certificate.
struct Verifier {
    expected: Expected,
    provider: Arc<CryptoProvider>,
    seen: Mutex<Option<Seen>>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("expected", &self.expected).finish_non_exhaustive()
    }
}

impl Verifier {
    fn new(expected: Expected) -> Self {
        Self { expected, provider: provider(), seen: Mutex::new(None) }
    }

    fn seen(&self) -> Option<Seen> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why there is no connection, in words that say what to do.
    fn why(&self, address: &str, trust: &Trust, error: &std::io::Error) -> ConnectError {
        let address = address.to_owned();
        let is_refused =
            tls_error(error).is_some_and(|error| matches!(error, TlsError::InvalidCertificate(_)));
        match (self.seen(), &self.expected) {
            (Some(seen), Expected::Only(expected)) if is_refused => {
                ConnectError::OtherCertificate {
                    address,
                    expected: *expected,
                    shown: seen.fingerprint,
                }
            }
            (Some(seen), Expected::Known(known)) if is_refused => {
                ConnectError::CertificateChanged(Box::new(crate::error::Changed {
                    address,
                    expected: known.fingerprint,
                    shown: seen.fingerprint,
                    file: trust.known.as_ref().map_or_else(PathBuf::new, |k| k.path().to_owned()),
                    line: known.line,
                }))
            }
            (Some(seen), _) if is_refused => {
                ConnectError::Untrusted { address, shown: seen.fingerprint, why: error.to_string() }
            }
            _ => ConnectError::NoTls { address, why: error.to_string() },
        }
    }
}

fn tls_error(error: &std::io::Error) -> Option<&TlsError> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let fingerprint = fingerprint(end_entity);
        let vouched = || {
            authorities(&self.provider)?.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            )
        };
        let (is_new, verified) = match &self.expected {
            Expected::Only(expected) if *expected == fingerprint => (false, Ok(())),
            Expected::Known(known) if known.fingerprint == fingerprint => (false, Ok(())),
            Expected::Only(_) => (false, Err(TlsError::from(refused()))),
            Expected::Known(_) => (false, vouched().map(|_| ()).map_err(|_| refused().into())),
            Expected::Authority => (false, vouched().map(|_| ())),
            Expected::Anybody => (vouched().is_err(), Ok(())),
        };
        let seen = Seen { fingerprint, is_new };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        verified.map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        tokio_rustls::rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        tokio_rustls::rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

const fn refused() -> CertificateError {
    CertificateError::ApplicationVerificationFailure
}

/// Of a certificate as it is sent.
fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    Fingerprint(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

fn provider() -> Arc<CryptoProvider> {
    static ONE: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(ONE.get_or_init(|| Arc::new(rustls_ring::default_provider())))
}

/// What the system's authorities vouch for. They are read once, when somebody asks.
fn authorities(provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    static ONE: OnceLock<Option<Arc<WebPkiServerVerifier>>> = OnceLock::new();
    let one = ONE.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let builder =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        builder.build().ok()
    });
    one.clone().ok_or_else(|| CertificateError::UnknownIssuer.into())
}

/// The name that the certificate has to have, where an authority is to vouch for it.
fn server_name(host: &str) -> Result<ServerName<'static>, ()> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(ip) => Ok(ServerName::IpAddress(ip.into())),
        Err(_) => ServerName::try_from(bare.to_owned()).map_err(|_| ()),
    }
}
