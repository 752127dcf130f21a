//! Which node is asked first, and how a client presents itself.

use std::time::Duration;

use tertulia_wire::{Instance, NATIVE_PORT};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use crate::{ConnectError, Trust};

/// What an address begins with where TLS is to be spoken.
const TLS: &str = "tls://";

/// The node to ask first. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    address: String,
    agent: String,
    connect_timeout: Duration,
    silence: Duration,
    /// `None`: plain.
    tls: Option<Trust>,
    login: Option<Login>,
    /// Everything has to be done by then.
    until: Option<Instant>,
}

/// A token, and for which node it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// From [`crate::Directory::log_in`].
    pub token: String,
    /// Shown to this node only; others take the client for a guest. `None`: shown to whatever node is asked.
    pub instance: Option<Instance>,
    /// The account's name, where it is known.
    pub name: Option<String>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Target {
    /// A node's native door as `host:port`, or `tls://host:port` for TLS (see [`Target::tls`]); without a port it is
    /// [`NATIVE_PORT`]. Nothing is looked up or connected yet.
    pub fn new(address: impl Into<String>) -> Self {
        let address: String = address.into();
        let host = match address.get(..TLS.len()) {
            Some(scheme) if scheme.eq_ignore_ascii_case(TLS) => Some(&address[TLS.len()..]),
            _ => None,
        };
        let tls = host.map(|_| Trust::default());
        let address = host.map_or_else(|| address.clone(), str::to_owned);
        Self {
            address: with_port(address),
            tls,
            agent: concat!("tertulia-client ", env!("CARGO_PKG_VERSION")).to_owned(),
            connect_timeout: Duration::from_secs(5),
            silence: Duration::from_secs(6),
            login: None,
            until: None,
        }
    }

    /// Program and version, for the node's log.
    #[must_use]
    pub fn agent(mut self, agent: impl Into<String>) -> Self {
        self.agent = agent.into();
        self
    }

    /// How long one attempt to connect may take, the greeting included; 5 s where nothing is said.
    #[must_use]
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// A sender's or member's connection on which nothing comes for so long is given up, and another one made; after a third of it
    /// the node is asked whether it is there. 6 s where nothing is said; nodes speak at least once a second.
    #[must_use]
    pub const fn silence(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// Every connection speaks TLS, also to the coordinators that this node names, and trusts only whom `trust` says.
    #[must_use]
    pub fn tls(mut self, trust: Trust) -> Self {
        self.tls = Some(trust);
        self
    }

    /// Whether TLS is spoken.
    pub const fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Shakes hands with the node's HTTP door, whose certificate is the one of the native door.
    ///
    /// # Errors
    /// [`ConnectError`]: it is not trusted, or no TLS is to be spoken with this node ([`Target::is_tls`]).
    pub async fn shake_hands_over_http(
        &self,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, ConnectError> {
        let Some(trust) = &self.tls else {
            let message = "it is not said whom to trust".to_owned();
            return Err(ConnectError::Other { address: self.address.clone(), message });
        };
        trust.connect(stream, &self.address, b"http/1.1").await
    }

    /// Every connection is the account's of this token. It is shown over TLS and on this machine only.
    #[must_use]
    pub fn login(mut self, login: Option<Login>) -> Self {
        self.login = login;
        self
    }

    /// The token that is shown.
    pub const fn login_shown(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    /// The address, with its port and without `tls://`.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn agent_text(&self) -> &str {
        &self.agent
    }

    pub(crate) const fn trust(&self) -> Option<&Trust> {
        self.tls.as_ref()
    }

    pub(crate) const fn timeout(&self) -> Duration {
        self.connect_timeout
    }

    pub(crate) const fn silence_max(&self) -> Duration {
        self.silence
    }

    /// The same, with an end to all waiting.
    pub(crate) fn until(&self, until: Option<Instant>) -> Self {
        Self { until, ..self.clone() }
    }

    pub(crate) const fn ends_at(&self) -> Option<Instant> {
        self.until
    }

    /// The same client, another address.
    pub(crate) fn at(&self, address: &str) -> Self {
        Self { address: address.to_owned(), ..self.clone() }
    }
}

/// Adds the port where there is none; an IPv6 address without a port may stand with or without brackets.
fn with_port(address: String) -> String {
    // A URL of something else is refused as it was said.
    if address.contains("//") {
        return address;
    }
    let bare_v6 = address.matches(':').count() > 1 && !address.starts_with('[');
    if bare_v6 {
        format!("[{address}]:{NATIVE_PORT}")
    } else if address.ends_with(']') || !address.contains(':') {
        format!("{address}:{NATIVE_PORT}")
    } else {
        address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_added_where_there_is_none() {
        for (given, expected) in [
            ("node", "node:5001"),
            ("node:7", "node:7"),
            ("10.0.0.1", "10.0.0.1:5001"),
            ("::1", "[::1]:5001"),
            ("[::1]", "[::1]:5001"),
            ("[::1]:7", "[::1]:7"),
            ("http://10.0.0.1:5080", "http://10.0.0.1:5080"),
        ] {
            assert_eq!(Target::new(given).address(), expected);
            let tls = Target::new(format!("tls://{given}"));
            assert!(tls.is_tls() && !Target::new(given).is_tls());
            assert_eq!(tls.address(), expected);
            assert!(tls.at("other:5001").is_tls(), "the coordinator is dialled in the same way");
        }
    }
}
