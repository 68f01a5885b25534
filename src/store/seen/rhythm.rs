//! How many rows each organization has in each hour, packed or not: the evidence that rows are usual, and that
//! silence is not.

use rusqlite::{Connection, params};

use super::HOUR;
use crate::model::{ConnectionId, Micros};
use crate::store::StoreError;

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
