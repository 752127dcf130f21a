//! Peers that share files: the folder, the gRPC service, fetching from many at once, verification.

pub mod content;
pub mod limits;
pub mod names;
