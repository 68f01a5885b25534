//! By which time the table has a young row, found by its uid.
//!
//! Uids come in no order: an index of them changes a page of the database for every row, and all of those would
//! go through the write-ahead log and be synced. So the table is in order of time, and this index stands in a
//! file of its own that is never synced and made anew from the table at every start. It may name rows that the
//! table has no more; who finds one here looks there.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::pack::short;
use crate::model::Micros;
use crate::store::StoreError;

/// Small pages, since each row changes another one.
const SET_UP: &str = "
    PRAGMA lookup.page_size = 1024;
    PRAGMA lookup.journal_mode = memory;
    PRAGMA lookup.synchronous = off;
    PRAGMA lookup.locking_mode = exclusive;
    PRAGMA lookup.cache_size = -12288;
    CREATE TABLE lookup.young (id INTEGER PRIMARY KEY, at INTEGER NOT NULL) STRICT;";

/// The file beside a database.
pub(in crate::store) fn path(database: &Path) -> PathBuf {
    database.with_file_name("seen-lookup.db")
}

/// Makes the index of all young rows, in `file` or in memory. The connection must be the only one that writes.
pub(in crate::store) fn attach(db: &Connection, file: Option<&Path>) -> Result<(), StoreError> {
    // SQLite takes a name of any bytes.
    let name = file.map_or(&b":memory:"[..], |file| file.as_os_str().as_bytes());
    db.execute("ATTACH ?1 AS lookup", [ToSqlOutput::Borrowed(ValueRef::Text(name))])?;
    db.execute_batch(SET_UP)?;
    let filling = db.unchecked_transaction()?;
    put_all(&filling, None)?;
    Ok(filling.commit()?)
}

/// Puts every young row here, of one set or of all, by the time by which the table has it now.
pub(super) fn put_all(db: &Connection, set: Option<i64>) -> Result<(), StoreError> {
    let mut young = db.prepare("SELECT set_id, uid, at FROM seen WHERE ?1 IS NULL OR set_id = ?1")?;
    let mut young = young.query([set])?;
    while let Some(row) = young.next()? {
        let uid: [u8; 16] = row.get(1)?;
        put(db, row.get(0)?, Uuid::from_bytes(uid), row.get(2)?)?;
    }
    Ok(())
}

/// One number for a row of a set: as good as chance, so two rows that share it are not to be expected.
fn id(set: i64, uid: Uuid) -> i64 {
    // An odd constant without a pattern, so that a uid in two sets has two numbers.
    short(uid) ^ set.wrapping_mul(0x61c8_8646_80b5_83eb)
}

/// By which time the row was put here last.
pub(super) fn find(db: &Connection, set: i64, uid: Uuid) -> Result<Option<Micros>, StoreError> {
    let mut find = db.prepare_cached("SELECT at FROM lookup.young WHERE id = ?1")?;
    Ok(find.query_row([id(set, uid)], |row| row.get(0)).optional()?)
}

/// Puts a row here unless it is here already. Answers whether it was not.
pub(super) fn add(db: &Connection, set: i64, uid: Uuid, at: Micros) -> Result<bool, StoreError> {
    let mut add = db.prepare_cached("INSERT OR IGNORE INTO lookup.young (id, at) VALUES (?1, ?2)")?;
    Ok(add.execute(params![id(set, uid), at])? == 1)
}

/// Puts a row here, by this time from now on.
pub(super) fn put(db: &Connection, set: i64, uid: Uuid, at: Micros) -> Result<(), StoreError> {
    db.prepare_cached("INSERT OR REPLACE INTO lookup.young (id, at) VALUES (?1, ?2)")?
        .execute(params![id(set, uid), at])?;
    Ok(())
}

pub(super) fn remove(db: &Connection, set: i64, uid: Uuid) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM lookup.young WHERE id = ?1")?.execute([id(set, uid)])?;
    Ok(())
}
