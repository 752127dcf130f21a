//! Asks what any door may ask, by the native door's requests, so that there is one way to answer them.

use tertulia_wire::{ClientFrame, NodeFrame};

use super::problem::Problem;
use super::{Door, Peer};
use crate::doors::requests;

impl Door {
    /// The node's answer to a request.
    pub async fn ask(&self, peer: &Peer, request: ClientFrame) -> Result<NodeFrame, Problem> {
        let (caller, dialled) = (peer.caller.clone(), peer.dialled);
        let from = requests::From { caller, dialled, sender: None };
        Ok(requests::ask(&self.directory, &from, request).await?)
    }
}

/// A request was answered by something that answers another one.
pub(crate) fn not_an_answer(frame: &NodeFrame) -> ! {
    panic!("a request of the HTTP door was answered by {frame:?}")
}
