//! The database file: how it is opened, migrated and checked.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use rustix::fs::Access;
use uuid::Uuid;

use super::{StoreError, WriterDb};
use crate::clock::Clock;

/// One script a version, in order; `PRAGMA user_version` counts how many have run.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_heart.sql"),
    include_str!("migrations/0002_clock.sql"),
    include_str!("migrations/0003_backfill.sql"),
    include_str!("migrations/0004_packs.sql"),
    include_str!("migrations/0005_seen_by_time.sql"),
    include_str!("migrations/0006_vendor_fields.sql"),
    include_str!("migrations/0007_devices.sql"),
    include_str!("migrations/0008_refill.sql"),
    include_str!("migrations/0009_last_seen.sql"),
    include_str!("migrations/0010_sink_days.sql"),
    include_str!("migrations/0011_asked.sql"),
    include_str!("migrations/0012_seen_without_time.sql"),
];

/// A write-ahead log above this is folded into the database, and the file cut back to it.
pub(super) const WAL_LIMIT: u64 = 64 * 1024 * 1024;
/// Up to this size the whole file is checked at every start, about a second per gigabyte on a
/// local disk. Above it the outbox is left out: its chunks carry checksums of their own.
const WHOLE_CHECK_LIMIT: u64 = 1024 * 1024 * 1024;
/// How long a job waits for another program's lock.
pub(super) const BUSY: Duration = Duration::from_secs(5);

/// What is made once, with the state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    pub(super) state_id: Uuid,
    pub(super) secret: [u8; 32],
}

pub(super) fn database_path(dir: &Path) -> PathBuf {
    dir.join("state.db")
}

/// Opens the one writing connection of a state on disk, making and migrating it as needed.
pub(super) fn open_writer(path: &Path, clock: &Clock) -> Result<(WriterDb, Identity), StoreError> {
    create_private(path)?;
    accessible(path, Access::READ_OK | Access::WRITE_OK)?;
    let mut db = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    // Takes effect only before the first table, so it comes before everything that writes.
    db.pragma_update(None, "auto_vacuum", "incremental")?;
    set_up(&db, 4 * 1024)?;
    let mode: String = db.query_row("PRAGMA journal_mode = wal", [], |row| row.get(0))?;
    if mode != "wal" {
        let detail = format!("the write-ahead log cannot be turned on, the mode stays `{mode}`");
        return Err(StoreError::Corrupt { path: path.to_path_buf(), detail });
    }
    db.pragma_update(None, "synchronous", "full")?;
    db.pragma_update(None, "wal_autocheckpoint", 4000)?;
    db.pragma_update(None, "journal_size_limit", WAL_LIMIT)?;
    check_integrity(&db, path)?;
    migrate(&mut db, path, clock)?;
    let identity = identity(&db, path)?;
    Ok((WriterDb::new(db)?, identity))
}

/// Opens a state that lives as long as its connection.
pub(super) fn open_memory(clock: &Clock) -> Result<(WriterDb, Identity), StoreError> {
    let path = Path::new(":memory:");
    let mut db = Connection::open_in_memory()?;
    set_up(&db, 8 * 1024)?;
    migrate(&mut db, path, clock)?;
    let identity = identity(&db, path)?;
    Ok((WriterDb::new(db)?, identity))
}

/// Opens a connection that can only read.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    accessible(path, Access::READ_OK)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    set_up(&db, 2 * 1024)?;
    Ok(db)
}

fn set_up(db: &Connection, cache_kib: i64) -> Result<(), StoreError> {
    db.busy_timeout(BUSY)?;
    db.set_prepared_statement_cache_capacity(128);
    // Else a statement that compares with a parameter is parsed and planned anew whenever another value is bound.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    db.pragma_update(None, "foreign_keys", true)?;
    db.pragma_update(None, "cache_size", -cache_kib)?;
    db.pragma_update(None, "trusted_schema", false)?;
    db.pragma_update(None, "cell_size_check", true)?;
    Ok(())
}

/// Tells a missing permission by its name; SQLite would open the file for reading only, or say no more
/// than that it cannot.
fn accessible(path: &Path, how: Access) -> Result<(), StoreError> {
    rustix::fs::access(path, how).map_err(|error| StoreError::io("open", path, error.into()))
}

/// Makes the file with mode 0600, which SQLite copies to the log and the shared memory beside it.
///
/// The file must not be opened by other means later: closing any descriptor of it drops SQLite's locks.
fn create_private(path: &Path) -> Result<(), StoreError> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(StoreError::io("create", path, error)),
    }
    let dir = path.parent().expect("the database lies in the state directory");
    for dir in [Some(dir), dir.parent().filter(|parent| !parent.as_os_str().is_empty())].into_iter().flatten()
    {
        // A parent that may be passed but not read cannot be synced; the directory itself can.
        if let Ok(open) = File::open(dir) {
            open.sync_all().map_err(|error| StoreError::io("sync", dir, error))?;
        }
    }
    Ok(())
}

/// The number of migrations that have run; refuses a file of a newer program.
pub(super) fn check_version(db: &Connection, path: &Path) -> Result<usize, StoreError> {
    let found: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    usize::try_from(found).ok().filter(|done| *done <= MIGRATIONS.len()).ok_or_else(|| {
        let known = i64::try_from(MIGRATIONS.len()).expect("a handful of migrations");
        StoreError::Newer { path: path.to_path_buf(), found, known }
    })
}

/// For a handle that only reads: nobody brings the schema up to date for it.
pub(super) fn check_current(db: &Connection, path: &Path) -> Result<(), StoreError> {
    match check_version(db, path)? {
        0 => Err(StoreError::Missing { dir: path.parent().unwrap_or(path).to_path_buf() }),
        done if done < MIGRATIONS.len() => Err(StoreError::Older { path: path.to_path_buf() }),
        _ => Ok(()),
    }
}

fn migrate(db: &mut Connection, path: &Path, clock: &Clock) -> Result<(), StoreError> {
    let done = check_version(db, path)?;
    for (index, script) in MIGRATIONS.iter().enumerate().skip(done) {
        let step = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        step.execute_batch(script)?;
        if index == 0 {
            let put = "INSERT INTO meta (key, value) VALUES (?1, ?2)";
            let state_id = uuid::Builder::from_random_bytes(clock.bytes()).into_uuid();
            step.execute(put, params!["state_id", state_id.as_bytes()])?;
            step.execute(put, params!["secret", clock.bytes::<32>()])?;
            step.execute(put, params!["created", clock.now().to_rfc3339().into_bytes()])?;
        }
        step.pragma_update(None, "user_version", index + 1)?;
        fail::fail_point!("store.migrate.before");
        step.commit()?;
        fail::fail_point!("store.migrate.after");
    }
    Ok(())
}

pub(super) fn identity(db: &Connection, path: &Path) -> Result<Identity, StoreError> {
    let get = |key: &str| -> Result<Option<Vec<u8>>, StoreError> {
        Ok(db.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional()?)
    };
    let state_id = get("state_id")?.and_then(|bytes| Uuid::from_slice(&bytes).ok());
    let secret = get("secret")?.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    match (state_id, secret) {
        (Some(state_id), Some(secret)) => Ok(Identity { state_id, secret }),
        _ => Err(StoreError::Corrupt {
            path: path.to_path_buf(),
            detail: "its identity is missing".to_owned(),
        }),
    }
}

fn check_integrity(db: &Connection, path: &Path) -> Result<(), StoreError> {
    let bytes = std::fs::metadata(path).map_err(|error| StoreError::io("look at", path, error))?.len();
    let answer = if bytes <= WHOLE_CHECK_LIMIT {
        db.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))?
    } else {
        check_all_but_outbox(db)?
    };
    match answer.as_str() {
        "ok" => Ok(()),
        _ => Err(StoreError::Corrupt { path: path.to_path_buf(), detail: answer }),
    }
}

pub(super) fn check_all_but_outbox(db: &Connection) -> Result<String, StoreError> {
    let mut names = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'outbox'")?;
    let names: Vec<String> = names.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for name in names {
        let answer: String =
            db.query_row(&format!("PRAGMA quick_check(\"{name}\")"), [], |row| row.get(0))?;
        if answer != "ok" {
            return Ok(answer);
        }
    }
    Ok("ok".to_owned())
}
