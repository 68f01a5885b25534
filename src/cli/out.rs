//! The two ways out: data to stdout, human text to stderr.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// Writes data to stdout. A reader that has enough (`| head`) is no failure.
///
/// # Errors
/// What stdout says, but for a closed pipe.
pub fn data(text: impl Display) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match write!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Writes bytes of any kind to stdout, as [`data`] does.
///
/// # Errors
/// What stdout says, but for a closed pipe.
pub fn raw(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Writes a line for people to stderr, above what stands there; nobody can be told when that fails.
pub fn say(text: impl Display) {
    super::screen::say(text);
}
