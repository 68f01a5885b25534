//! Rows that were seen and did not become entries, since nobody had asked for their time.

use rusqlite::{Connection, params};
use uuid::Uuid;

use super::StoreError;
use crate::model::Micros;

/// Remembers that a row of a set was withheld. `time`: the later of its times.
pub fn add(db: &Connection, set: i64, uid: Uuid, time: Micros) -> Result<(), StoreError> {
    db.prepare_cached("INSERT OR IGNORE INTO withheld (set_id, uid, time) VALUES (?1, ?2, ?3)")?
        .execute(params![set, uid.as_bytes().as_slice(), time])?;
    Ok(())
}

/// Whether a set withholds the row.
pub fn holds(db: &Connection, set: i64, uid: Uuid) -> Result<bool, StoreError> {
    Ok(db
        .prepare_cached("SELECT 1 FROM withheld WHERE set_id = ?1 AND uid = ?2")?
        .exists(params![set, uid.as_bytes().as_slice()])?)
}

/// Withholds the row no longer. Answers whether it was.
pub fn release(db: &Connection, set: i64, uid: Uuid) -> Result<bool, StoreError> {
    let released = db
        .prepare_cached("DELETE FROM withheld WHERE set_id = ?1 AND uid = ?2")?
        .execute(params![set, uid.as_bytes().as_slice()])?;
    Ok(released == 1)
}

/// Forgets rows from before `before`, which nobody can ask for any more.
pub fn prune(db: &Connection, set: i64, before: Micros) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM withheld WHERE set_id = ?1 AND time < ?2")?
        .execute(params![set, before])?;
    Ok(())
}
