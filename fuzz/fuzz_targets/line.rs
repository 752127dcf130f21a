//! Fuzz target: the line door's language, both ways; see `src/line.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tertulia_fuzz::line::run(data));
