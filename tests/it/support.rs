//! What every theme uses: the program with its portal, and the comparison of the two.

pub(crate) mod app;
pub(crate) mod computers;
pub(crate) mod disk;
pub(crate) mod output;

use std::io::Write;

/// A line that is seen in every run, also of tests that pass.
pub(crate) fn say(line: impl std::fmt::Display) {
    writeln!(std::io::stderr(), "{line}").expect("standard error is open");
}
