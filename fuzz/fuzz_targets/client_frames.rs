//! Fuzz target: frames that a client sends to a node; see `src/client_frames.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tertulia_fuzz::client_frames::run(data));
