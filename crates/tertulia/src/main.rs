//! The one binary: every command of Tertulia.

fn main() {}
