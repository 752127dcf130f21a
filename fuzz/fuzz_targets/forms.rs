//! Fuzz target: what programs and people are shown; see `src/forms.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tertulia_fuzz::forms::run(data));
