//! Peers that share files: the folder, the gRPC service, fetching from many at once, verification.

// `content`, `limits`, `manifest` and `names` know each other as `super`: the fuzz targets build them without the rest.
pub mod assembly;
pub mod blocking;
pub mod cache;
pub mod capability;
pub mod content;
pub mod fetch;
pub mod folder;
pub mod gather;
mod given;
pub mod identity;
mod kept;
pub mod library;
pub mod limits;
pub mod manifest;
pub mod names;
pub mod node;
mod owing;
pub mod own;
pub mod pieces;
mod place;
pub mod right;
pub mod service;
pub mod staged;
pub mod stream;
pub mod tls;
pub mod unfinished;
pub mod whole;

/// The gRPC service, as `proto/tertulia/peer/v1/peer.proto` describes it.
#[expect(missing_docs, unused_qualifications, reason = "made of the description, which says it")]
pub mod proto {
    tonic::include_proto!("tertulia.peer.v1");
}
