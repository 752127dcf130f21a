//! Fuzz target: a store on disk; see `src/store.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tertulia_fuzz::store::run(data));
