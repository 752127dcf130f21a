//! What can go wrong, with what the caller can do about it.

use std::net::IpAddr;
use std::path::PathBuf;

use tertulia_wire::{Code, Fingerprint};

use crate::attach::is_final;

/// Why there is no connection. Its text says what to check.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Nobody listens there.
    #[error("{address}: connection refused: {}", refused_hint(address))]
    Refused {
        /// What was dialled.
        address: String,
    },
    /// No answer to the dialling.
    #[error("{address}: timed out: a firewall or security group? (TCP {})", port_of(address))]
    TimedOut {
        /// What was dialled.
        address: String,
    },
    /// Something took the connection, and then says nothing.
    #[error(
        "{address} took the connection but does not answer as a native door: is it the right port, \
         or is the node stuck?"
    )]
    Silent {
        /// What was dialled.
        address: String,
    },
    /// The name does not resolve.
    #[error("{host}: unknown host: check the name")]
    UnknownHost {
        /// The name.
        host: String,
    },
    /// Something else listens there, or a node of another version.
    #[error("{address} does not answer as a node's native door: is it the right port? ({why})")]
    NotTertulia {
        /// What was dialled.
        address: String,
        /// What came instead.
        why: String,
    },
    /// What listens there speaks no TLS, or breaks off.
    #[error(
        "{address} does not speak TLS as a node does ({why}): is it the right port, and was the \
         node started with --tls-self or --tls-cert?"
    )]
    NoTls {
        /// What was dialled.
        address: String,
        /// What came instead.
        why: String,
    },
    /// No authority that the system knows vouches for the node's certificate, and there is no file of known nodes.
    #[error(
        "{address} shows the certificate {shown}, which is not trusted ({why}); where it is the \
         one that the node printed at its start, give it: --tls-fingerprint {shown}"
    )]
    Untrusted {
        /// What was dialled.
        address: String,
        /// Of the certificate.
        shown: Fingerprint,
        /// Why nobody vouches for it.
        why: String,
    },
    /// The certificate is not the one whose fingerprint was given.
    #[error(
        "{address} shows the certificate {shown}, not {expected}, the only one to be trusted: \
         somebody may be in between, or the node has a new one"
    )]
    OtherCertificate {
        /// What was dialled.
        address: String,
        /// What was given.
        expected: Fingerprint,
        /// What is shown.
        shown: Fingerprint,
    },
    /// The certificate is another one than that of the first time.
    #[error(transparent)]
    CertificateChanged(Box<Changed>),
    /// What the system says.
    #[error("{address}: {message}")]
    Other {
        /// What was dialled.
        address: String,
        /// The system's words.
        message: String,
    },
}

/// A node shows another certificate than it did the first time. Nothing was said to it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{address}: THE CERTIFICATE HAS CHANGED. Somebody may be in between and read everything, or the \
     node has a new one: ask whoever runs it for the fingerprint that it prints at its start. Known: \
     {expected} ({}, line {line}); now: {shown}. Nothing was sent. If the new one is right, delete \
     that line and try again", file.display()
)]
pub struct Changed {
    /// What was dialled.
    pub address: String,
    /// That of the first time.
    pub expected: Fingerprint,
    /// What is shown now.
    pub shown: Fingerprint,
    /// Where the first is written down.
    pub file: PathBuf,
    /// In which line, from 1 on.
    pub line: usize,
}

fn port_of(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(_, port)| port)
}

/// What to check where nobody listens: on this machine a node is missing, elsewhere it may listen on loopback only.
fn refused_hint(address: &str) -> &'static str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_here = bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
    if is_here {
        "no node is running there (start one: tertulia serve)"
    } else {
        "is a node running there with --listen 0.0.0.0?"
    }
}

/// Why something did not work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no connection; nothing was done.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The node refuses; nothing was done. The code's documentation says what to do.
    #[error("{message} ({code})")]
    Refused {
        /// Why.
        code: Code,
        /// In words.
        message: String,
    },
    /// A password or a token would go where others may read it; nothing was sent.
    #[error(
        "{address} is not this machine and the connection is not encrypted: passwords and tokens \
         are not sent there; dial tls://{address} (the node is then started with --tls-self or --tls-cert)"
    )]
    Insecure {
        /// To whom.
        address: String,
    },
    /// The node is an older one and would take a file for a message; nothing was sent.
    #[error(
        "the node at {address} does not know files for groups: it has to be updated first (the file itself can be saved \
         and found without --group)"
    )]
    NoFiles {
        /// Which node.
        address: String,
    },
    /// The message is longer than the node takes; nothing was sent.
    #[error("the message has {bytes} bytes; the node takes at most {max}")]
    TooLong {
        /// Bytes of the message.
        bytes: usize,
        /// Bytes that the node takes.
        max: usize,
    },
    /// The key of [`crate::Once`] was used for another message; this one is not stored.
    #[error("this key was used for another message; give this one a key of its own")]
    KeyReused,
    /// Whether it was done is unknown, and cannot be found out any more.
    #[error("the outcome is unknown: it may have been done")]
    Unknown,
    /// The connection was lost before the answer; what was asked changes nothing, so ask again.
    #[error("the connection to {address} was lost: {why}")]
    Lost {
        /// To whom.
        address: String,
        /// What happened.
        why: String,
    },
    /// The node sent what it may not: a bug on one of the sides.
    #[error("the node does not keep to the protocol: {0}")]
    Protocol(String),
    /// The sender or member has ended; nothing was sent.
    #[error("the connection has been closed")]
    Closed,
}

impl Error {
    /// The node's code, where it refused.
    pub const fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the same may go well a little later: the node may be there again, or have room. Where somebody has to do
    /// something first (log in, take another name, look at a certificate) it is false.
    pub const fn may_pass(&self) -> bool {
        use ConnectError::{CertificateChanged, OtherCertificate, Untrusted};
        match self {
            Self::Connect(CertificateChanged(_) | OtherCertificate { .. } | Untrusted { .. }) => {
                false
            }
            Self::Connect(_) | Self::Lost { .. } | Self::Protocol(_) | Self::Unknown => true,
            Self::Refused { code, .. } => !is_final(*code),
            Self::NoFiles { .. } | Self::TooLong { .. } | Self::Insecure { .. } => false,
            Self::KeyReused | Self::Closed => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_nowhere_is_told_what_to_do_there() {
        for (address, part) in [
            ("127.0.0.1:5001", "start one"),
            ("localhost:5001", "start one"),
            ("[::1]:5001", "start one"),
            ("10.0.0.7:5001", "--listen 0.0.0.0"),
            ("node:5001", "--listen 0.0.0.0"),
        ] {
            let text = ConnectError::Refused { address: address.to_owned() }.to_string();
            assert!(text.contains(part), "{text}");
        }
    }
}
