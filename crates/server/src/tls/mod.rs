//! TLS beside plain on the native and the HTTP door: the certificate, and how many handshakes there may be.

mod arriving;
mod certificate;

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use tertulia_group::Door;
use tertulia_wire::Fingerprint;
use tokio::sync::Semaphore;

pub(crate) use self::arriving::settle;
use self::certificate::Certificate;
use crate::budget::Budget;
use crate::config::{Config, TlsSource};

/// What a client of the native door may say that it wants to speak, so that nobody leads a browser's TLS to it.
const NATIVE_ALPN: &[u8] = b"tertulia/1";
const HTTP_ALPN: &[u8] = b"http/1.1";

/// What waits in encrypted form for a socket, at most. A session counts it as held; what a request's answer has waiting is within
/// what the node's budget leaves free to each connection.
const NATIVE_WAITING_BYTES: usize = 64 << 10;
const HTTP_WAITING_BYTES: usize = 16 << 10;

/// Why there is no TLS, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(pub(crate) String);

/// See the module.
#[derive(Debug)]
pub(crate) struct Tls {
    certificate: Arc<Certificate>,
    native: Arc<ServerConfig>,
    http: Arc<ServerConfig>,
    /// Each handshake holds a part of it; see [`crate::NodeLimits::handshake_bytes`].
    under_way: Budget,
    /// Handshakes that compute at once: half of the CPUs at most, the others are the groups'.
    computing: Semaphore,
}

impl Tls {
    /// Reads the certificate, or makes it. Blocks.
    pub fn load(config: &Config, source: &TlsSource) -> Result<Self, TlsError> {
        let certificate =
            Arc::new(Certificate::load(source.clone(), &config.data, &names(config))?);
        let server = |alpn: &[u8]| {
            let mut server = ServerConfig::builder_with_provider(certificate::provider())
                .with_safe_default_protocol_versions()
                .expect("the provider has suites for both versions")
                .with_no_client_auth()
                .with_cert_resolver(Arc::clone(&certificate) as _);
            server.alpn_protocols = vec![alpn.to_vec()];
            // Whoever connects sees the certificate of now: nothing of an earlier handshake is taken up again.
            server.session_storage = Arc::new(NoServerSessionStorage {});
            server.send_tls13_tickets = 0;
            Arc::new(server)
        };
        let (native, http) = (server(NATIVE_ALPN), server(HTTP_ALPN));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let computing = Semaphore::new((cores / 2).max(1));
        let under_way = Budget::new(config.limits.handshake_bytes);
        Ok(Self { certificate, native, http, under_way, computing })
    }

    /// Reads the files again; the old certificate stays where they are no good. Blocks.
    pub fn reload(&self) -> Result<Fingerprint, TlsError> {
        self.certificate.reload()
    }

    /// Of the certificate that new connections are shown.
    pub fn fingerprint(&self) -> Fingerprint {
        self.certificate.fingerprint()
    }

    /// How a door speaks it, and what may wait on one of its connections.
    fn of_door(&self, door: Door) -> Option<(Arc<ServerConfig>, usize)> {
        match door {
            Door::Native => Some((Arc::clone(&self.native), NATIVE_WAITING_BYTES)),
            Door::Web => Some((Arc::clone(&self.http), HTTP_WAITING_BYTES)),
            Door::Line => None,
        }
    }
}

/// The names under which the node is likely to be dialled: for a certificate of its own.
fn names(config: &Config) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let host = std::fs::read_to_string(Path::new("/proc/sys/kernel/hostname")).unwrap_or_default();
    let listens = (!config.listen.is_unspecified()).then(|| config.listen.to_string());
    let advertised = config.advertise.as_deref().map(|host| host.trim_matches(['[', ']']));
    let more = [Some(host.trim()), listens.as_deref(), advertised];
    for name in more.into_iter().flatten().filter(|name| !name.is_empty()) {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests;
