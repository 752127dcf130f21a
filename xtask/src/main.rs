//! `cargo xtask`: what the project runs on itself.

fn main() {}
