//! Killed at any moment, nothing is lost, doubled or invented.
