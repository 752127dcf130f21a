//! The rules of a group that are easy to get wrong, each against a naive model or as an example.

#[path = "rules/acks.rs"]
mod acks;
#[path = "rules/against_model.rs"]
mod against_model;
#[path = "rules/answer.rs"]
mod answer;
#[path = "rules/entries.rs"]
mod entries;
#[path = "rules/joining.rs"]
mod joining;
#[path = "rules/limits.rs"]
mod limits;
#[path = "rules/model.rs"]
mod model;
#[path = "rules/model_out.rs"]
mod model_out;
#[path = "rules/portions.rs"]
mod portions;
#[path = "rules/receipts.rs"]
mod receipts;
#[path = "rules/recovery.rs"]
mod recovery;
#[path = "rules/resume.rs"]
mod resume;
#[path = "rules/rig.rs"]
mod rig;
#[path = "rules/senders.rs"]
mod senders;
#[path = "rules/storing.rs"]
mod storing;
