//! The only place that creates, syncs and renames the files that sinks write.
//!
//! What these functions have returned from survives a power cut. Being the only door, it is also where tests
//! cut the power: every step has a named fault point (cargo feature `failpoints`), and the lengths that are
//! known to be safe can be logged, so that a test may cut files back to what a disk would still have.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// Every fault point of this module and of the sinks, in the order in which a batch meets them. Each can be
/// given an error number: `return(28)` is a full disk.
pub const FAULT_POINTS: &[&str] = &[
    "sink.write.before",
    "file.create.before",
    "file.create.after",
    "dir.fsync.before",
    "dir.fsync.after",
    "file.write.before",
    "file.fsync.before",
    "file.fsync.after",
    "file.rename.before",
    "file.rename.after",
    "sink.write.after",
];

/// Creates a file that does not exist yet, readable by its owner and group. The name is safe only after
/// [`sync_dir`] on its directory.
pub fn create(path: &Path) -> io::Result<File> {
    fault("file.create.before")?;
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o640).open(path)?;
    record::created(path);
    fault("file.create.after")?;
    Ok(file)
}

/// Makes the content and the length of a file safe.
pub fn sync_file(file: &File, path: &Path) -> io::Result<()> {
    fault("file.fsync.before")?;
    let length = file.metadata()?.len();
    file.sync_all()?;
    record::synced(path, length);
    fault("file.fsync.after")
}

/// Makes the names in a directory safe.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    // Of a file that is named without one.
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    fault("dir.fsync.before")?;
    File::open(path)?.sync_all()?;
    record::synced_dir(path);
    fault("dir.fsync.after")
}

/// Renames within one directory and makes the new name safe. Never replaces a file: that is the error
/// `AlreadyExists`.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fault("file.rename.before")?;
    record::renaming(from, to);
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some file systems (NFS, FUSE) know no such flag; nobody else writes here, so looking first will do.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            if to.try_exists()? {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            std::fs::rename(from, to)?;
        }
        result => result?,
    }
    record::renamed(from, to);
    fault("file.rename.after")?;
    sync_dir(to.parent().expect("a file stands in a directory"))
}

/// Renames within one directory over whatever has the new name, and makes that safe. A reader finds the one or the
/// other, whole.
pub fn replace(from: &Path, to: &Path) -> io::Result<()> {
    fault("file.rename.before")?;
    std::fs::rename(from, to)?;
    fault("file.rename.after")?;
    sync_dir(to.parent().expect("a file stands in a directory"))
}

/// A place where a test may stop the program or make it fail; nothing at all in a release.
pub(crate) fn fault(name: &'static str) -> io::Result<()> {
    #[cfg(feature = "failpoints")]
    {
        fail::fail_point!(name, |argument| Err(record::injected(name, argument)));
        record::fault(name)?;
    }
    #[cfg(not(feature = "failpoints"))]
    let _unused = name;
    Ok(())
}

#[cfg(feature = "failpoints")]
pub use record::log_to;

#[cfg(not(feature = "failpoints"))]
mod record {
    use std::path::Path;

    pub(super) fn created(_: &Path) {}
    pub(super) fn synced(_: &Path, _: u64) {}
    pub(super) fn synced_dir(_: &Path) {}
    pub(super) fn renaming(_: &Path, _: &Path) {}
    pub(super) fn renamed(_: &Path, _: &Path) {}
}

#[cfg(feature = "failpoints")]
mod record;

#[cfg(test)]
#[cfg(feature = "failpoints")]
pub(crate) use record::disk;
