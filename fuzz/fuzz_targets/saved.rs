//! Fuzz target: a member's saved state; see `src/saved.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tertulia_fuzz::saved::run(data));
