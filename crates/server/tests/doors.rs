//! The node's doors, tried through real sockets on loopback.

#[path = "doors/line.rs"]
mod line;
#[path = "doors/native.rs"]
mod native;
#[path = "doors/support.rs"]
mod support;
