//! What a node fetches contents by, for who asks it over HTTP: a certificate of its own, and the peers' protocol.

use std::sync::Arc;

use tertulia_files::content::ContentHash;
use tertulia_files::fetch::{Connections, Holder};
use tertulia_files::identity::{Fingerprint, Identity};
use tertulia_files::right::Right;
use tertulia_files::stream::{StreamJob, stream};
use tertulia_server::{Grants, Opening, Relay};
use tertulia_wire::sharing::{HolderLine, bytes_of_hex};

/// See the module.
pub struct PeerRelay {
    identity: Arc<Identity>,
}

impl PeerRelay {
    /// With a certificate of this life; `None` where none can be made, and says so.
    pub fn new() -> Option<Arc<Self>> {
        match Identity::ephemeral() {
            Ok(identity) => Some(Arc::new(Self { identity: Arc::new(identity) })),
            Err(error) => {
                tracing::warn!("no files come through the node: {error}");
                None
            }
        }
    }
}

impl Relay for PeerRelay {
    fn fingerprint(&self) -> [u8; 32] {
        self.identity.fingerprint().0
    }

    fn open(&self, hash: [u8; 32], holders: Vec<HolderLine>, grants: Grants) -> Opening<'_> {
        let holders = holders.into_iter().filter_map(|line| {
            let fingerprint = Fingerprint(bytes_of_hex(&line.fingerprint)?);
            let (user, address, name, size) = (line.user, line.address, line.name, line.size);
            let unfinished = line.unfinished;
            Some(Holder { user, address, fingerprint, name, size, unfinished })
        });
        let (hash, holders) = (ContentHash(hash), holders.collect());
        let connections = Connections::new(Arc::clone(&self.identity));
        Box::pin(async move {
            let capability = grants()?;
            let right = Right::new(&capability, move || Box::pin(std::future::ready(grants())));
            let streaming = stream(StreamJob { hash, holders, right, connections }).await?;
            Some((streaming.size, streaming.content))
        })
    }
}
