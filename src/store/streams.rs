//! Streams: their notes and the intervals of their coverage.

use rusqlite::{Connection, OptionalExtension, params};

use super::StoreError;
use crate::coverage::{Interval, State};
use crate::model::{ConnectionId, Seconds};

/// A stream as stored.
#[derive(Clone, Debug)]
pub struct StreamRow {
    pub id: i64,
    /// The rows that it shares with the streams of the same source and part.
    pub set: i64,
    /// Its notes as JSON; empty for a new stream.
    pub notes: String,
    pub intervals: Vec<Interval>,
}

/// What makes a stream: another fingerprint of the query is another coverage.
#[derive(Clone, Debug)]
pub struct StreamKey<'a> {
    pub connection: ConnectionId,
    pub source: &'a str,
    /// `tree`, or the organization's id.
    pub scope: &'a str,
    /// The part of the source, and what narrows the query.
    pub fingerprint: &'a str,
}

/// Loads a stream, or makes it.
pub fn open(db: &Connection, key: &StreamKey<'_>) -> Result<StreamRow, StoreError> {
    let StreamKey { connection, source, scope, fingerprint } = *key;
    db.execute(
        "INSERT OR IGNORE INTO seen_set (connection_id, source, part) VALUES (?1, ?2, ?3)",
        params![connection, source, fingerprint],
    )?;
    let set: i64 = db.query_row(
        "SELECT id FROM seen_set WHERE connection_id = ?1 AND source = ?2 AND part = ?3",
        params![connection, source, fingerprint],
        |row| row.get(0),
    )?;
    db.execute(
        "INSERT OR IGNORE INTO stream (connection_id, source, scope, fingerprint, set_id, doc)
         VALUES (?1, ?2, ?3, ?4, ?5, '')",
        params![connection, source, scope, fingerprint, set],
    )?;
    let (id, notes) = db.query_row(
        "SELECT id, doc FROM stream
         WHERE connection_id = ?1 AND source = ?2 AND scope = ?3 AND fingerprint = ?4",
        params![connection, source, scope, fingerprint],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    Ok(StreamRow { id, set, notes, intervals: intervals(db, id)? })
}

/// A stream as it stands in the state, with its name.
#[derive(Clone, Debug)]
pub struct StoredStream {
    pub id: i64,
    pub set: i64,
    pub source: String,
    /// `tree`, or the organization's id.
    pub scope: String,
    /// The part of the source, and what narrows the query.
    pub fingerprint: String,
    /// Its notes as JSON; empty for a new stream.
    pub notes: String,
}

/// Every stream of a connection.
pub fn list(db: &Connection, connection: ConnectionId) -> Result<Vec<StoredStream>, StoreError> {
    let mut rows = db.prepare_cached(
        "SELECT id, set_id, source, scope, fingerprint, doc FROM stream
         WHERE connection_id = ?1 ORDER BY source, scope, fingerprint",
    )?;
    Ok(rows.query_map([connection], stored)?.collect::<Result<_, _>>()?)
}

fn stored(row: &rusqlite::Row<'_>) -> rusqlite::Result<StoredStream> {
    Ok(StoredStream {
        id: row.get(0)?,
        set: row.get(1)?,
        source: row.get(2)?,
        scope: row.get(3)?,
        fingerprint: row.get(4)?,
        notes: row.get(5)?,
    })
}

/// The other streams of a set, whatever their scope.
pub fn of_set(db: &Connection, set: i64, but: i64) -> Result<Vec<StoredStream>, StoreError> {
    let mut rows = db.prepare_cached(
        "SELECT id, set_id, source, scope, fingerprint, doc FROM stream WHERE set_id = ?1 AND id <> ?2 ORDER BY id",
    )?;
    Ok(rows.query_map([set, but], stored)?.collect::<Result<_, _>>()?)
}

/// Forgets a stream: its rows stay known.
pub fn forget(db: &Connection, stream: i64) -> Result<(), StoreError> {
    for table in ["interval", "backfill", "walk_again"] {
        db.execute(&format!("DELETE FROM {table} WHERE stream_id = ?1"), [stream])?;
    }
    db.execute("DELETE FROM stream WHERE id = ?1", [stream])?;
    Ok(())
}

/// The stream of that key, if there is one.
pub fn find(db: &Connection, key: &StreamKey<'_>) -> Result<Option<StoredStream>, StoreError> {
    let StreamKey { connection, source, scope, fingerprint } = *key;
    let mut row = db.prepare_cached(
        "SELECT id, set_id, source, scope, fingerprint, doc FROM stream
         WHERE connection_id = ?1 AND source = ?2 AND scope = ?3 AND fingerprint = ?4",
    )?;
    Ok(row.query_row(params![connection, source, scope, fingerprint], stored).optional()?)
}

/// The notes of a stream, if there are any.
pub fn notes(db: &Connection, stream: i64) -> Result<Option<String>, StoreError> {
    Ok(db.query_row("SELECT doc FROM stream WHERE id = ?1", [stream], |row| row.get(0)).optional()?)
}

/// Replaces the notes of a stream.
pub fn set_notes(db: &Connection, stream: i64, notes: &str) -> Result<(), StoreError> {
    db.prepare_cached("UPDATE stream SET doc = ?2 WHERE id = ?1")?.execute(params![stream, notes])?;
    Ok(())
}

/// The intervals of a stream, in order.
pub fn intervals(db: &Connection, stream: i64) -> Result<Vec<Interval>, StoreError> {
    let mut rows = db.prepare_cached(
        "SELECT from_s, to_s, state, listed, held, checked, reason FROM interval
         WHERE stream_id = ?1 ORDER BY from_s",
    )?;
    let rows = rows.query_map([stream], |row| {
        let state: String = row.get(2)?;
        Ok(State::from_name(&state).map(|state| -> rusqlite::Result<Interval> {
            Ok(Interval {
                from: row.get(0)?,
                to: row.get(1)?,
                state,
                listed: row.get(3)?,
                held: row.get(4)?,
                checked: row.get(5)?,
                reason: row.get(6)?,
            })
        }))
    })?;
    let mut intervals = Vec::new();
    for row in rows {
        // A state that this version does not know is pending: it is walked again.
        if let Some(interval) = row? {
            intervals.push(interval?);
        }
    }
    Ok(intervals)
}

/// Makes `intervals` all that is known of `[from, to)`.
pub fn replace_intervals(
    db: &Connection,
    stream: i64,
    (from, to): (Seconds, Seconds),
    intervals: &[Interval],
) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM interval WHERE stream_id = ?1 AND from_s < ?3 AND to_s > ?2")?
        .execute(params![stream, from, to])?;
    let mut insert = db.prepare_cached(
        "INSERT INTO interval (stream_id, from_s, to_s, state, listed, held, checked, reason)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    for interval in intervals {
        insert.execute(params![
            stream,
            interval.from,
            interval.to,
            interval.state.as_str(),
            interval.listed,
            interval.held,
            interval.checked,
            interval.reason
        ])?;
    }
    Ok(())
}
