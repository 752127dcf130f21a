//! What the embedded engine must survive: to be written next.
