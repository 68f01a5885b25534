//! The terminals that stdout and stderr may be.

use std::io::{IsTerminal, stderr, stdout};
use std::os::fd::AsFd;

use rustix::termios::tcgetwinsize;

/// Columns where stdout is no terminal.
const USUAL: usize = 100;
/// What a terminal has that does not tell.
const UNTOLD: Size = Size { columns: 80, rows: 24 };

/// Columns and rows of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

/// Columns of the terminal; 100 where stdout is none.
pub(super) fn width() -> usize {
    match stdout() {
        terminal if terminal.is_terminal() => size(terminal).map_or(USUAL, |size| size.columns.max(40)),
        _ => USUAL,
    }
}

/// The size of the terminal that stderr is, now.
pub(super) fn of_stderr() -> Size {
    size(stderr()).unwrap_or(UNTOLD)
}

fn size(terminal: impl AsFd) -> Option<Size> {
    let size = tcgetwinsize(terminal).ok()?;
    let told = Size { columns: size.ws_col.into(), rows: size.ws_row.into() };
    (told.columns > 0 && told.rows > 0).then_some(told)
}
