//! Fuzz target: a node's configuration file; see `src/settings.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tertulia_fuzz::settings::run(data));
