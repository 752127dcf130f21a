//! The node's doors, tried through real sockets on loopback.

#[path = "doors/hostile.rs"]
mod hostile;
#[path = "doors/hostile_groups.rs"]
mod hostile_groups;
#[path = "doors/hostile_line.rs"]
mod hostile_line;
#[path = "doors/hostile_memory.rs"]
mod hostile_memory;
#[path = "doors/keeping.rs"]
mod keeping;
#[path = "doors/line.rs"]
mod line;
#[path = "doors/mended.rs"]
mod mended;
#[path = "doors/native.rs"]
mod native;
#[path = "doors/support.rs"]
mod support;
