//! Fuzz target: a group's recovery from its log; see `src/recover.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tertulia_fuzz::recover::run(data));
