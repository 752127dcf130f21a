//! Every command that is killed and started again, or loses its server, goes on or says plainly what is unknown.

mod asking;
mod fake;
mod members;
mod minute;
mod sending;
