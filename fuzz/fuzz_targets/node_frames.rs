//! Fuzz target: frames that a node sends to a client; see `src/node_frames.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tertulia_fuzz::node_frames::run(data));
