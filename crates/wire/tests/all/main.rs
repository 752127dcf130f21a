//! The one test binary of this crate.

#![expect(clippy::unwrap_used, reason = "a test that unwraps nothing has failed")]

mod frames;
mod golden;
mod json;
mod line;
mod samples;
mod text;
