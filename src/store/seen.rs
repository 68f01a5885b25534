//! The rows that were seen, with their time on the portal's axis: what makes a row new, and what a range
//! should count. ◆ Kept as long as the portal may list them.

use std::collections::HashSet;

use rusqlite::{Connection, params};
use uuid::Uuid;

use super::StoreError;
use crate::model::{ConnectionId, Micros};

const HOUR: Micros = 3_600_000_000;

/// The sets of one source of one connection: a row seen in any of them is no new row.
pub fn siblings(
    db: &Connection,
    connection: ConnectionId,
    source: &str,
    but: i64,
) -> Result<Vec<i64>, StoreError> {
    let mut sets = db.prepare_cached(
        "SELECT s.id FROM seen_set s JOIN connection c ON c.id = s.connection_id
         WHERE s.source = ?2 AND s.id <> ?3 AND (c.id = ?1 OR c.epoch < 0)",
    )?;
    let sets = sets.query_map(params![connection, source, but], |row| row.get(0))?;
    Ok(sets.collect::<Result<_, _>>()?)
}

/// Remembers a row. Answers whether it was not known; a row that was gone and is back is known.
pub fn insert(
    db: &Connection,
    set: i64,
    uid: Uuid,
    at: Micros,
    other: Option<Micros>,
    organization: i64,
) -> Result<bool, StoreError> {
    let inserted = db
        .prepare_cached(
            "INSERT OR IGNORE INTO seen (set_id, uid, at, other, organization) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![set, uid.as_bytes().as_slice(), at, other, organization])?;
    if inserted == 0 {
        db.prepare_cached("UPDATE seen SET gone = 0 WHERE set_id = ?1 AND uid = ?2 AND gone = 1")?
            .execute(params![set, uid.as_bytes().as_slice()])?;
    }
    Ok(inserted == 1)
}

/// Whether a set knows the row.
pub fn knows(db: &Connection, set: i64, uid: Uuid) -> Result<bool, StoreError> {
    Ok(db
        .prepare_cached("SELECT 1 FROM seen WHERE set_id = ?1 AND uid = ?2")?
        .exists(params![set, uid.as_bytes().as_slice()])?)
}

/// Adds to the rows of an organization in an hour.
pub fn add_hour(
    db: &Connection,
    set: i64,
    organization: i64,
    hour: i64,
    rows: u64,
    last_at: Micros,
) -> Result<(), StoreError> {
    db.prepare_cached(
        "INSERT INTO hourly (set_id, organization, hour, rows, last_at) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (set_id, organization, hour)
         DO UPDATE SET rows = rows + excluded.rows, last_at = max(last_at, excluded.last_at)",
    )?
    .execute(params![set, organization, hour, rows, last_at])?;
    Ok(())
}

/// Rows held and not gone in `[from, to)`, of one organization or of all.
pub fn held(
    db: &Connection,
    set: i64,
    organization: Option<i64>,
    from: Micros,
    to: Micros,
) -> Result<u64, StoreError> {
    Ok(match organization {
        None => db
            .prepare_cached(
                "SELECT count(*) FROM seen WHERE set_id = ?1 AND at >= ?2 AND at < ?3 AND gone = 0",
            )?
            .query_row(params![set, from, to], |row| row.get(0))?,
        Some(organization) => db
            .prepare_cached(
                "SELECT count(*) FROM seen
                 WHERE set_id = ?1 AND at >= ?2 AND at < ?3 AND organization = ?4 AND gone = 0",
            )?
            .query_row(params![set, from, to, organization], |row| row.get(0))?,
    })
}

/// The rows of [`held`] that are not among `listed`.
pub fn unlisted(
    db: &Connection,
    set: i64,
    organization: Option<i64>,
    (from, to): (Micros, Micros),
    listed: &HashSet<u128>,
) -> Result<Vec<Uuid>, StoreError> {
    let mut rows = db.prepare_cached(
        "SELECT uid FROM seen
         WHERE set_id = ?1 AND at >= ?2 AND at < ?3 AND gone = 0 AND (?4 IS NULL OR organization = ?4)",
    )?;
    let rows = rows.query_map(params![set, from, to, organization], |row| {
        let bytes: [u8; 16] = row.get(0)?;
        Ok(Uuid::from_bytes(bytes))
    })?;
    let mut unlisted = Vec::new();
    for uid in rows {
        let uid = uid?;
        if !listed.contains(&uid.as_u128()) {
            unlisted.push(uid);
        }
    }
    Ok(unlisted)
}

/// The portal lists these rows no more.
pub fn set_gone(db: &Connection, set: i64, rows: &[Uuid]) -> Result<(), StoreError> {
    let mut update = db.prepare_cached("UPDATE seen SET gone = 1 WHERE set_id = ?1 AND uid = ?2")?;
    for uid in rows {
        update.execute(params![set, uid.as_bytes().as_slice()])?;
    }
    Ok(())
}

/// Files every row by its other time.
pub fn swap_axis(db: &Connection, set: i64) -> Result<(), StoreError> {
    db.execute("UPDATE seen SET at = other, other = at WHERE set_id = ?1 AND other IS NOT NULL", [set])?;
    Ok(())
}

/// Of the 24 whole hours before `since`: how many have rows, how many rows, and the newest row up to then.
pub fn rhythm(
    db: &Connection,
    set: i64,
    organization: Option<i64>,
    since: Micros,
) -> Result<Option<(u64, u64, Micros)>, StoreError> {
    let hour = since.div_euclid(HOUR);
    let (hours, rows, last_at): (u64, Option<u64>, Option<Micros>) = db
        .prepare_cached(
            "SELECT count(DISTINCT CASE WHEN hour < ?3 THEN hour END),
                    sum(CASE WHEN hour < ?3 THEN rows END), max(last_at)
             FROM hourly
             WHERE set_id = ?1 AND hour >= ?2 AND hour <= ?3 AND (?4 IS NULL OR organization = ?4)",
        )?
        .query_row(params![set, hour - 24, hour, organization], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
    Ok(rows.zip(last_at).map(|(rows, last_at)| (hours, rows, last_at)))
}

/// What is known of the rhythm of one organization.
#[derive(Clone, Debug)]
pub struct Rhythm {
    pub organization_id: String,
    /// Its newest row.
    pub last_at: Micros,
    /// Of the 24 hours up to that row: how many have rows, and how many rows.
    pub hours: u64,
    pub rows: u64,
    /// The newest check-in of any of its computers, and when a walk last listed one.
    pub last_checkin: Option<Micros>,
    pub last_listed: Option<Micros>,
}

/// The rhythm of every organization with rows in the 48 hours before `now`.
pub fn rhythms(db: &Connection, set: i64, now: Micros) -> Result<Vec<Rhythm>, StoreError> {
    let hour = now.div_euclid(HOUR);
    let mut rows = db.prepare_cached(
        "WITH newest AS (
           SELECT organization, max(last_at) AS last_at, max(hour) AS hour FROM hourly
           WHERE set_id = ?1 AND hour <= ?2 AND hour > ?2 - 720 GROUP BY organization)
         SELECT o.organization_id, n.last_at, count(*), sum(h.rows), o.last_checkin, o.last_listed
         FROM newest n
         JOIN hourly h ON h.set_id = ?1 AND h.organization = n.organization
                      AND h.hour <= n.hour AND h.hour > n.hour - 24
         JOIN organization o ON o.id = n.organization
         GROUP BY n.organization",
    )?;
    let rows = rows.query_map(params![set, hour], |row| {
        Ok(Rhythm {
            organization_id: row.get(0)?,
            last_at: row.get(1)?,
            hours: row.get(2)?,
            rows: row.get(3)?,
            last_checkin: row.get(4)?,
            last_listed: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Whether a walk after `to` listed computers and none of them checked in since `from`.
pub fn no_checkins(
    db: &Connection,
    connection: ConnectionId,
    organization: Option<i64>,
    from: Micros,
    to: Micros,
) -> Result<bool, StoreError> {
    let (listed, newest): (Option<Micros>, Option<Micros>) = db
        .prepare_cached(
            "SELECT min(last_listed), max(last_checkin) FROM organization
             WHERE connection_id = ?1 AND last_listed IS NOT NULL AND (?2 IS NULL OR id = ?2)",
        )?
        .query_row(params![connection, organization], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(listed.is_some_and(|listed| listed >= to) && newest.is_none_or(|newest| newest < from))
}

/// Forgets rows with both times before `before`, a bounded number at a time; with `gone_only` what the
/// portal still lists is kept. Answers how many.
pub fn prune(db: &Connection, set: i64, before: Micros, gone_only: bool) -> Result<u64, StoreError> {
    let rows = db
        .prepare_cached(
            "DELETE FROM seen WHERE set_id = ?1 AND uid IN (
               SELECT uid FROM seen WHERE set_id = ?1 AND at < ?2 AND (other IS NULL OR other < ?2)
                 AND (gone = 1 OR NOT ?3) LIMIT 20000)",
        )?
        .execute(params![set, before, gone_only])?;
    db.prepare_cached("DELETE FROM hourly WHERE set_id = ?1 AND hour < ?2")?
        .execute(params![set, before.div_euclid(HOUR)])?;
    Ok(rows as u64)
}
