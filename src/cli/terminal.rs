//! The terminal that stdout may be.

use std::io::{IsTerminal, stdout};

/// Where stdout is no terminal.
const USUAL: usize = 100;

/// Columns of the terminal; 100 where stdout is none.
pub(super) fn width() -> usize {
    let stdout = stdout();
    if !stdout.is_terminal() {
        return USUAL;
    }
    rustix::termios::tcgetwinsize(&stdout).map_or(USUAL, |size| usize::from(size.ws_col).max(40))
}
