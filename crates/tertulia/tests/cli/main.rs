//! The binary as people and scripts meet it: real processes, their output and their exit codes.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands, helpers too")]

mod accounts;
mod again;
mod arguments;
mod crash;
mod crowd;
mod crowd_http;
mod crowd_memory;
mod damage;
mod documented;
mod exec;
mod failing_disk;
mod files;
mod files_folders;
mod files_follow;
mod files_greedy;
mod files_group;
mod files_hostile;
mod files_large;
mod files_saving;
mod files_scripted;
mod files_small;
mod files_through;
mod joining;
mod line;
mod logs;
mod netns;
mod nodes;
mod order;
mod programs;
mod reserved;
mod restarts;
mod resuming;
mod running;
mod sending;
mod showing;
mod stuck;
mod support;
mod tls;
