//! What can go wrong, with what the caller can do about it.

use tertulia_wire::Code;

/// Why there is no connection. Its text says what to check.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Nobody listens there.
    #[error("{address}: connection refused: is a node running there with --listen 0.0.0.0?")]
    Refused {
        /// What was dialled.
        address: String,
    },
    /// No answer to the dialling, or no greeting.
    #[error("{address}: timed out: a firewall or security group? (TCP {})", port_of(address))]
    TimedOut {
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
    /// What the system says.
    #[error("{address}: {message}")]
    Other {
        /// What was dialled.
        address: String,
        /// The system's words.
        message: String,
    },
}

fn port_of(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(_, port)| port)
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
    /// The message is longer than the node takes; nothing was sent.
    #[error("the message has {bytes} bytes; the node takes at most {max}")]
    TooLong {
        /// Bytes of the message.
        bytes: usize,
        /// Bytes that the node takes.
        max: usize,
    },
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
}
