//! Time that an operator asks for beyond what a stream owes. It waits here until the stream takes it up, so
//! it survives whatever happens in between.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::model::Seconds;

/// Asks a stream of a site for `[from, to)`. Answers false where the site has no such stream.
pub fn ask(
    db: &Connection,
    site: &str,
    stream: i64,
    (from, to): (Seconds, Seconds),
) -> Result<bool, StoreError> {
    let known = db
        .prepare_cached(
            "SELECT 1 FROM stream s JOIN connection c ON c.id = s.connection_id
             WHERE s.id = ?1 AND c.site = ?2",
        )?
        .exists(params![stream, site])?;
    if known {
        db.prepare_cached("INSERT OR IGNORE INTO backfill (stream_id, from_s, to_s) VALUES (?1, ?2, ?3)")?
            .execute(params![stream, from, to])?;
    }
    Ok(known)
}

/// Time that an operator asked for and that no stream has taken up yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedBack {
    pub source: String,
    /// `tree`, or the organization's id.
    pub scope: String,
    /// The part of the source, and what narrows the query.
    pub query: String,
    pub from: Option<DateTime<Utc>>,
    pub to: Option<DateTime<Utc>>,
}

/// Everything that is asked for, by site.
pub fn waiting(db: &Connection) -> Result<BTreeMap<String, Vec<AskedBack>>, StoreError> {
    let mut rows = db.prepare_cached(
        "SELECT c.site, s.source, s.scope, s.fingerprint, b.from_s, b.to_s FROM backfill b
         JOIN stream s ON s.id = b.stream_id JOIN connection c ON c.id = s.connection_id
         ORDER BY 1, 2, 3, 4, 6 DESC",
    )?;
    let rows = rows.query_map([], |row| {
        let asked = AskedBack {
            source: row.get(1)?,
            scope: row.get(2)?,
            query: row.get(3)?,
            from: DateTime::from_timestamp(row.get(4)?, 0),
            to: DateTime::from_timestamp(row.get(5)?, 0),
        };
        Ok((row.get::<_, String>(0)?, asked))
    })?;
    let mut found: BTreeMap<String, Vec<AskedBack>> = BTreeMap::new();
    for row in rows {
        let (site, asked) = row?;
        found.entry(site).or_default().push(asked);
    }
    Ok(found)
}

/// What a stream is asked for and has not taken up, the newest time first: what must wait until the time behind
/// it was counted holds up nothing else.
pub fn asked(db: &Connection, stream: i64) -> Result<Option<(Seconds, Seconds)>, StoreError> {
    Ok(db
        .prepare_cached(
            "SELECT from_s, to_s FROM backfill WHERE stream_id = ?1 ORDER BY to_s DESC, from_s LIMIT 1",
        )?
        .query_row([stream], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?)
}

/// Where the oldest time begins that a stream is asked for and has not taken up.
pub fn earliest(db: &Connection, stream: i64) -> Result<Option<Seconds>, StoreError> {
    Ok(db
        .prepare_cached("SELECT min(from_s) FROM backfill WHERE stream_id = ?1")?
        .query_row([stream], |row| row.get(0))?)
}

/// Covered time that a stream is asked to walk again, for what a sink is owed of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Again {
    pub sink: String,
    pub from: Seconds,
    pub to: Seconds,
}

/// What a stream is to walk again, for sinks that are configured.
pub fn asked_again(db: &Connection, stream: i64) -> Result<Vec<Again>, StoreError> {
    let mut asked = db.prepare_cached(
        "SELECT w.sink, w.from_s, w.to_s FROM walk_again w JOIN sink s ON s.name = w.sink AND s.configured = 1
         WHERE w.stream_id = ?1 ORDER BY w.to_s DESC",
    )?;
    let asked = asked
        .query_map([stream], |row| Ok(Again { sink: row.get(0)?, from: row.get(1)?, to: row.get(2)? }))?;
    Ok(asked.collect::<Result<_, _>>()?)
}

/// Asks another stream, which goes on where this one ended, for all that this one was asked for.
pub fn hand_on(db: &Connection, from: i64, to: i64) -> Result<(), StoreError> {
    db.prepare_cached(
        "INSERT OR IGNORE INTO backfill (stream_id, from_s, to_s) SELECT ?2, from_s, to_s FROM backfill WHERE stream_id = ?1",
    )?
    .execute([from, to])?;
    db.prepare_cached(
        "INSERT OR IGNORE INTO walk_again (stream_id, sink, from_s, to_s)
         SELECT ?2, sink, from_s, to_s FROM walk_again WHERE stream_id = ?1",
    )?
    .execute([from, to])?;
    Ok(())
}

/// The stream has walked it again from its end down to `reached`.
pub fn walked_again(
    db: &Connection,
    stream: i64,
    Again { sink, from, to }: &Again,
    reached: Seconds,
) -> Result<(), StoreError> {
    db.prepare_cached(
        "DELETE FROM walk_again WHERE stream_id = ?1 AND sink = ?2 AND from_s = ?3 AND to_s = ?4",
    )?
    .execute(params![stream, sink, from, to])?;
    if reached > *from {
        db.prepare_cached(
            "INSERT OR IGNORE INTO walk_again (stream_id, sink, from_s, to_s) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![stream, sink, from, reached])?;
    }
    Ok(())
}

/// The stream has taken it up: from now on its coverage says what is owed.
pub fn taken_up(db: &Connection, stream: i64, (from, to): (Seconds, Seconds)) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM backfill WHERE stream_id = ?1 AND from_s = ?2 AND to_s = ?3")?
        .execute(params![stream, from, to])?;
    Ok(())
}
