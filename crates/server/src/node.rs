//! Starting and stopping a node.

use std::net::{IpAddr, SocketAddr};

use tertulia_group::{Door, LeaveReason};
use tokio::sync::mpsc;

use crate::config::Config;

/// Where the doors are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// The native door.
    pub native: Option<SocketAddr>,
    /// The line door.
    pub line: Option<SocketAddr>,
}

/// What an operator wants to see go by. Names are safe to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Somebody connected.
    Connected {
        /// Through which door.
        door: Door,
        /// From where.
        address: IpAddr,
    },
    /// A member joined or came back.
    Joined {
        /// The group.
        group: String,
        /// The member.
        name: String,
        /// From where.
        address: IpAddr,
        /// Through which door.
        door: Door,
    },
    /// A member lost its connection.
    Away {
        /// The group.
        group: String,
        /// The member.
        name: String,
    },
    /// A member left.
    Left {
        /// The group.
        group: String,
        /// The member.
        name: String,
        /// Why.
        reason: LeaveReason,
    },
    /// Something that the operator has to know: a store that failed, a damaged group.
    Trouble(String),
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A door cannot listen.
    #[error("the {door} door cannot listen on {address}: {error}")]
    Listen {
        /// `native` or `line`.
        door: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// The store cannot be opened.
    #[error("{0}")]
    Store(String),
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    endpoints: Endpoints,
}

impl Node {
    /// Starts a node; it serves when this returns. `notices` is sent what an operator wants to see, and loses some when it is full.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: Config, notices: mpsc::Sender<Notice>) -> Result<Self, StartError> {
        let _ = (config, notices);
        Err(StartError::Store("not yet".to_owned()))
    }

    /// Where the doors are.
    pub const fn endpoints(&self) -> Endpoints {
        self.endpoints
    }

    /// A clean end: what was taken in is stored, cursors too, and connections are told.
    pub async fn stop(self) {}
}
