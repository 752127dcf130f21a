//! The outbox: each member's connection writes what is new in the log.

use tertulia_server::counted::Writers;

use crate::{BATCHES, BODY, MEMBERS};

/// So many batches of `messages` each, written to everybody.
pub fn run(messages: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let mut writers = runtime.block_on(Writers::new(MEMBERS as usize));
    for _ in 0..BATCHES {
        let bytes = writers.store(messages, &BODY);
        write(&mut writers);
        writers.read(bytes);
    }
}

#[inline(never)]
fn write(writers: &mut Writers) {
    writers.write();
}
