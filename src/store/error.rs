//! What can go wrong with the state, told so that an operator knows the way out.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::ErrorCode;

use crate::model::ConnectionId;

/// A failure of the state. Jobs return [`StoreError::Sql`] through `?`; the store names the file and
/// the way out before anybody else sees it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "the state directory {} is in use by another process{}: stop that process, or give this one a \
         state directory of its own", .dir.display(), holder(.pid)
    )]
    InUse { dir: PathBuf, pid: Option<u32> },

    #[error(
        "{} is on a network file system ({kind}), where locks and shared memory cannot be trusted to \
         survive a crash: put the state directory on a local disk", .dir.display()
    )]
    NetworkFileSystem { dir: PathBuf, kind: String },

    #[error("there is no state in {}: check `state.dir`, or start the service once", .dir.display())]
    Missing { dir: PathBuf },

    #[error("no permission for {}: give it to the user that runs lockstep (mode 0700 for the \
         directory, 0600 for its files)", .path.display())]
    PermissionDenied { path: PathBuf },

    #[error("{} cannot be written, its file system or file is read-only: mount it writable", .path.display())]
    ReadOnly { path: PathBuf },

    #[error(
        "no space left for {}: free some on that file system, nothing is lost and collecting goes on by \
         itself", .path.display()
    )]
    Full { path: PathBuf },

    #[error(
        "{} is damaged ({detail}): restore the directory from a backup, or move it aside and start \
         again; a new state collects again what the portal still lists, under the same uids", .path.display()
    )]
    Corrupt { path: PathBuf, detail: String },

    #[error(
        "{} was written by a newer lockstep (schema {found}, this one knows {known}): run that version, \
         or restore the backup from before the upgrade", .path.display()
    )]
    Newer { path: PathBuf, found: i64, known: i64 },

    #[error(
        "{} was written by an older lockstep: start this one once with `run` or `once`, which brings it up to date",
        .path.display()
    )]
    Older { path: PathBuf },

    #[error("another program is writing to {} (a sqlite3 shell?): close it", .path.display())]
    Busy { path: PathBuf },

    #[error("cannot {doing} {}: {source}", .path.display())]
    Io { doing: &'static str, path: PathBuf, source: Arc<io::Error> },

    #[error("the database {} refused: {source}", .path.display())]
    Database { path: PathBuf, source: Arc<rusqlite::Error> },

    #[error(
        "connection {connection} is owned by another process since epoch {epoch}: this one must stop \
         writing for it"
    )]
    Fenced { connection: ConnectionId, epoch: i64 },

    #[error(
        "sink {sink}: its {what} was pinned as `{pinned}` at first start and the configuration says \
         `{configured}`: set it back, or give the sink a new name to start it afresh"
    )]
    SinkChanged { sink: String, what: &'static str, pinned: String, configured: String },

    #[error("an entry of {bytes} bytes is above the bound of {limit}: lower the page size of its source")]
    TooLarge { bytes: usize, limit: usize },

    #[error(
        "{what}: damaged in the state ({reason}): restore the state directory from a backup, or move it \
         aside and start again"
    )]
    Damaged { what: String, reason: String },

    #[error("sink {sink} is not known to the state: it has to be configured first")]
    UnknownSink { sink: String },

    #[error("a job of the store panicked, its changes are undone: {message}")]
    Panicked { message: String },

    #[error("this handle only reads: the command must go through the running process or take the lock")]
    OnlyReads,

    #[error("the store is closed")]
    Closed,

    #[error(transparent)]
    Sql(Arc<rusqlite::Error>),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        StoreError::Sql(Arc::new(error))
    }
}

impl StoreError {
    /// True when the same job may succeed later without anybody changing configuration or code.
    pub fn is_transient(&self) -> bool {
        matches!(self, StoreError::Full { .. } | StoreError::Busy { .. } | StoreError::Io { .. })
    }

    /// Names the file that an error of the database is about, and the cause if it is a known one.
    pub(super) fn at(self, path: &Path) -> Self {
        let StoreError::Sql(source) = self else { return self };
        let path = path.to_path_buf();
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreError::Full { path },
            Some(ErrorCode::SystemIoFailure) if no_room(&path) => StoreError::Full { path },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                StoreError::Corrupt { path, detail: source.to_string() }
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy { path },
            Some(ErrorCode::ReadOnly) => StoreError::ReadOnly { path },
            Some(ErrorCode::PermissionDenied) => StoreError::PermissionDenied { path },
            _ => StoreError::Database { path, source },
        }
    }

    /// An error of the operating system about a path.
    pub(super) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::PermissionDenied => StoreError::PermissionDenied { path },
            io::ErrorKind::ReadOnlyFilesystem => StoreError::ReadOnly { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { path },
            _ => StoreError::Io { doing, path, source: Arc::new(source) },
        }
    }
}

fn holder(pid: &Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

/// A full disk also shows as a plain I/O error, when the shared-memory file cannot grow.
fn no_room(path: &Path) -> bool {
    path.parent()
        .and_then(|dir| rustix::fs::statvfs(dir).ok())
        .is_some_and(|room| room.f_bavail.saturating_mul(room.f_frsize) < 1024 * 1024)
}
