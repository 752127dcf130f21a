//! How each fault is done and undone: a family of them a file.

pub mod calls;
pub mod network;
pub mod process;
pub mod storage;
