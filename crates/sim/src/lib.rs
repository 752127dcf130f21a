//! Drives the real group with a hostile network and a crashing journal, by seed.
