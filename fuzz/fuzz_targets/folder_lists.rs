//! Fuzz target: lists of the files of a folder; see `src/folder_lists.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tertulia_fuzz::folder_lists::run(data));
