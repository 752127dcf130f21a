//! The node's doors, tried through real sockets on loopback.

#[path = "doors/accounts.rs"]
mod accounts;
#[path = "doors/hostile.rs"]
mod hostile;
#[path = "doors/hostile_groups.rs"]
mod hostile_groups;
#[path = "doors/hostile_line.rs"]
mod hostile_line;
#[path = "doors/hostile_memory.rs"]
mod hostile_memory;
#[path = "doors/http.rs"]
mod http;
#[path = "doors/http_client.rs"]
mod http_client;
#[path = "doors/http_events.rs"]
mod http_events;
#[path = "doors/http_hostile.rs"]
mod http_hostile;
#[path = "doors/keeping.rs"]
mod keeping;
#[path = "doors/line.rs"]
mod line;
#[path = "doors/mended.rs"]
mod mended;
#[path = "doors/native.rs"]
mod native;
#[path = "doors/portions.rs"]
mod portions;
#[path = "doors/sharing.rs"]
mod sharing;
#[path = "doors/support.rs"]
mod support;
#[path = "doors/tls.rs"]
mod tls;
#[path = "doors/web.rs"]
mod web;
