//! What tests know of the disk: the log of safe lengths, and a thread's own power switch.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, OnceLock};

static LOG: OnceLock<Mutex<File>> = OnceLock::new();

/// From now on appends to a log what the disk is told, so that a test may take back what is not safe yet:
///
/// | line | means |
/// |---|---|
/// | `LENGTH PATH` | the file's content is safe up to there |
/// | `created PATH` | the name is new; safe with the directory's next line |
/// | `renaming FROM<tab>TO` | logged before; if it was made, safe with the directory's next line |
/// | `synced DIRECTORY` | the names in it are safe |
pub fn log_to(path: &Path) -> io::Result<()> {
    let log = OpenOptions::new().append(true).create(true).open(path)?;
    LOG.set(Mutex::new(log)).map_err(|_| io::Error::other("the log of safe lengths is open already"))
}

fn log(line: std::fmt::Arguments<'_>) {
    if let Some(log) = LOG.get() {
        let line = format!("{line}\n");
        log.lock()
            .expect("no holder of the log panics")
            .write_all(line.as_bytes())
            .expect("the test's log can be written");
    }
}

pub(super) fn injected(name: &str, argument: Option<String>) -> io::Error {
    match argument.and_then(|number| number.parse().ok()) {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::other(format!("fault point {name}")),
    }
}

pub(super) fn created(path: &Path) {
    log(format_args!("created {}", path.display()));
    #[cfg(test)]
    disk::note(disk::Step::Created(path.into()));
}

pub(super) fn synced(path: &Path, length: u64) {
    log(format_args!("{length} {}", path.display()));
    #[cfg(test)]
    disk::note(disk::Step::Synced(path.into(), length));
}

pub(super) fn synced_dir(path: &Path) {
    log(format_args!("synced {}", path.display()));
    #[cfg(test)]
    disk::note(disk::Step::SyncedDir(path.into()));
}

pub(super) fn renaming(from: &Path, to: &Path) {
    log(format_args!("renaming {}\t{}", from.display(), to.display()));
}

pub(super) fn renamed(from: &Path, to: &Path) {
    #[cfg(test)]
    disk::note(disk::Step::Renamed(from.into(), to.into()));
    let _unused = (from, to);
}

pub(super) fn fault(name: &'static str) -> io::Result<()> {
    #[cfg(test)]
    disk::fault(name)?;
    let _unused = name;
    Ok(())
}

/// The disk as one test's thread sees it: when the power goes, and what was safe by then.
#[cfg(test)]
pub(crate) mod disk {
    use std::cell::{Cell, RefCell};
    use std::io;
    use std::path::PathBuf;

    #[derive(Debug)]
    pub(crate) enum Step {
        Created(PathBuf),
        Synced(PathBuf, u64),
        SyncedDir(PathBuf),
        Renamed(PathBuf, PathBuf),
    }

    thread_local! {
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
        static MET: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
        static STEPS: RefCell<Vec<Step>> = const { RefCell::new(Vec::new()) };
    }

    /// The fault point after `points` others fails, and every one from there on.
    pub(crate) fn cut_power_after(points: u32) {
        LEFT.set(Some(points));
    }

    pub(crate) fn restore_power() {
        LEFT.set(None);
    }

    /// Takes the steps noted by this thread.
    pub(crate) fn steps() -> Vec<Step> {
        STEPS.take()
    }

    /// The fault points at which the power went.
    pub(crate) fn met() -> Vec<&'static str> {
        MET.take()
    }

    pub(super) fn note(step: Step) {
        STEPS.with_borrow_mut(|steps| steps.push(step));
    }

    pub(super) fn fault(name: &'static str) -> io::Result<()> {
        match LEFT.get() {
            None => Ok(()),
            Some(0) => {
                MET.with_borrow_mut(|met| met.push(name));
                Err(io::Error::other(format!("power cut at {name}")))
            }
            Some(left) => {
                LEFT.set(Some(left - 1));
                Ok(())
            }
        }
    }
}
