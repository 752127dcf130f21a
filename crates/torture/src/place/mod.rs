//! The place where a node is tortured: hosts made of network namespaces, a disk of its own, and the faults done to them.
