//! What stands at the foot of a terminal while the program runs, and everything that is written above it.
//!
//! Lines for people, the log and panics all pass here on their way to stderr, so that none of them tears what
//! stands there. Each change is one write. The cursor stays visible, at the start of the line below, so that
//! whoever ends the program, in whatever way, leaves a clean terminal.

mod foot;

use std::fmt::Display;
use std::io::{self, Write};
use std::panic;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Signal, getpgrp};
use rustix::termios::tcgetpgrp;

use super::terminal;
use foot::Foot;
pub(super) use foot::{Line, Tone};

static FOOT: Mutex<Foot> = Mutex::new(Foot::new());

fn foot() -> MutexGuard<'static, Foot> {
    // What a panic left half done is one line too many at worst.
    FOOT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets these lines stand at the foot of the terminal, in place of those that stood there.
pub(super) fn show(lines: Vec<Line>) {
    let mut foot = foot();
    if is_foreground() {
        let bytes = foot.replace(lines, terminal::of_stderr().columns);
        put(&bytes);
    } else {
        // The terminal is somebody else's meanwhile.
        foot.forget();
    }
}

/// Leaves what stands there where it is, and what comes is written below it.
pub(super) fn leave() {
    foot().forget();
}

/// Writes whole lines above what stands there.
pub(super) fn above(text: &[u8]) {
    let foot = foot();
    let bytes = foot.above(text, || terminal::of_stderr().columns);
    put(&bytes);
}

/// Writes a line for people; control characters in it, which a portal may send, are shown harmless.
pub(super) fn say(text: impl Display) {
    let keep = |letter: char| if letter.is_control() && letter != '\n' { ' ' } else { letter };
    let line: String = text.to_string().chars().map(keep).chain(['\n']).collect();
    above(line.as_bytes());
}

/// Nobody can be told when this fails.
fn put(bytes: &[u8]) {
    drop(io::stderr().lock().write_all(bytes));
}

/// Whether this process is the one that the terminal is for; so is one without a terminal of its own.
fn is_foreground() -> bool {
    tcgetpgrp(io::stderr()).map_or(true, |group| group == getpgrp())
}

/// Makes the message of a panic come above what stands there.
pub(super) fn keep_whole_on_panic() {
    let told = panic::take_hook();
    panic::set_hook(Box::new(move |panicked| {
        // Who panicked may hold it.
        let Ok(foot) = FOOT.try_lock() else { return told(panicked) };
        put(&foot.lift(terminal::of_stderr().columns));
        told(panicked);
        put(&foot.set());
    }));
}

/// After a stop by ctrl-z somebody else wrote there: what comes stands below it.
pub(super) fn come_back_anew() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::from_raw(Signal::CONT.as_raw())) {
        Ok(mut back) => drop(tokio::spawn(async move {
            while back.recv().await.is_some() {
                leave();
            }
        })),
        Err(error) => tracing::debug!(%error, "SIGCONT cannot be caught"),
    }
}

/// Where the log writes: an event is one write of whole lines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Above;

impl Write for Above {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        above(event);
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
