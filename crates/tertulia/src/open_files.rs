//! How many files and connections this program may have open at once.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A connection is an open file, and so is each file that is hashed or fetched, while many systems begin with 1,024: takes as
/// many as this user may have.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}
