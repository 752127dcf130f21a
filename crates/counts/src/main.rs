//! What is counted under callgrind: each part of a message's way, driven by hand, with a fixed clock and fixed work.
//!
//! `cargo xtask counts` runs it once for each function of [`core`], [`wire`] and [`outbox`] that is `#[inline(never)]`, and has callgrind
//! count only inside that one. Alone it counts nothing, and only shows that the work can be done.

mod core;
mod outbox;
mod wire;

/// Messages of one batch: one in flight, or a full read of a busy sender's.
const MANY: u64 = 64;
/// Members of the group.
const MEMBERS: u64 = 100;
/// Bytes of each message's body.
const BODY: [u8; 100] = [b'.'; 100];
/// Batches of each work.
const BATCHES: u64 = 50;

fn main() {
    let work = std::env::args().nth(1).unwrap_or_default();
    match work.as_str() {
        "core-one" => core::run(1),
        "core-many" => core::run(MANY),
        "wire-one" => wire::run(1),
        "wire-many" => wire::run(MANY),
        "outbox-one" => outbox::run(1),
        "outbox-many" => outbox::run(MANY),
        other => {
            eprintln!("there is no work {other:?}; say core, wire or outbox, then -one or -many");
            std::process::exit(2);
        }
    }
}
