//! What the themes share: the program with its portal, its files, and the comparison of the two.

pub(crate) mod app;
pub(crate) mod binary;
pub(crate) mod disk;
pub(crate) mod far_side;
pub(crate) mod gate;
pub(crate) mod hec;
pub(crate) mod kafka;
pub(crate) mod opensearch;
pub(crate) mod ordeal;
pub(crate) mod output;
pub(crate) mod power;
pub(crate) mod receiver;
pub(crate) mod steps;
pub(crate) mod terminal;
pub(crate) mod verdict;

use std::io::Write;

/// A line that is seen in every run, also of tests that pass.
pub(crate) fn say(line: impl std::fmt::Display) {
    writeln!(std::io::stderr(), "{line}").expect("standard error is open");
}
