//! The one suite that every engine passes, and what the embedded one must survive.

#[path = "suite/ahead.rs"]
mod ahead;
#[path = "suite/common.rs"]
mod common;
#[path = "suite/contract.rs"]
mod contract;
#[path = "suite/crash.rs"]
mod crash;
#[path = "suite/damage.rs"]
mod damage;
#[path = "suite/faults.rs"]
mod faults;
#[path = "suite/model.rs"]
mod model;
#[path = "suite/space.rs"]
mod space;
