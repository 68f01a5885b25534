//! What a sink far behind lets go, so that the outbox has room and collecting goes on for the other sinks.
//!
//! Events that the portal lists by interval leave the outbox and only their ids stay: once an operator asks for them
//! ([`ask`]), that time is walked again, and what the portal lists of them is collected for that sink ([`release`]), and
//! for no other. What nobody can ask for a second time, such as the state of a device that has changed since, or how a
//! policy was changed, stays whole and waits for the sink in its refill lane.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::dead_letters::{self, NewDeadLetter};
use super::outbox::{self, LARGEST_CHUNK, PendingLane};
use super::refill::{self, Shared, Was};
use super::{StoreError, compress};
use crate::model::{Chunk, ConnectionId, Kind, Lane, Micros, Seconds};
use crate::record::enrichment::Known;

/// Whether a stream `s` lists rows of the source of an `o`: what the unified audit says of threats is entered with
/// its own rows, whether or not the query for threats lists it.
const LISTS: &str = "(s.source = o.source OR (o.source = 'threats' AND s.source = 'unified_audit'))";

/// Stored bytes that wait for sinks in their refill lanes, from which on no more is collected for them.
const MOST_WAITING: u64 = 4 << 20;

/// Whether a sink keeps the outbox full while another one does not: it is owed more than half of the bound.
pub fn stands_in_the_way(db: &Connection, sink: &str, limit_bytes: u64) -> Result<bool, StoreError> {
    if is_behind(db, sink, limit_bytes)?.is_none() {
        return Ok(false);
    }
    let mut others = db.prepare_cached("SELECT name FROM sink WHERE configured = 1 AND name <> ?1")?;
    let others: Vec<String> = others.query_map([sink], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for other in others {
        if is_behind(db, &other, limit_bytes)?.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The lanes of the outbox that a sink is owed, where that is more than half of the bound.
fn is_behind(db: &Connection, sink: &str, limit_bytes: u64) -> Result<Option<Vec<PendingLane>>, StoreError> {
    let mut lanes = outbox::pending(db, sink)?;
    lanes.retain(|pending| pending.lane != Lane::Refill);
    let bytes: u64 = lanes.iter().map(|pending| pending.bytes).sum();
    Ok((bytes > limit_bytes / 2).then_some(lanes))
}

/// Lets go of the oldest chunk that the sink is owed. Answers how many entries that were, and 0 once it is owed no more
/// than half of the bound. `is_listed_again`: whether the events of a source can be asked for by interval.
pub fn let_go(
    db: &Connection,
    sink: &str,
    limit_bytes: u64,
    now: Micros,
    is_listed_again: fn(&str) -> bool,
) -> Result<u64, StoreError> {
    let Some(lanes) = is_behind(db, sink, limit_bytes)? else { return Ok(0) };
    let Some(pending) = lanes.iter().min_by_key(|pending| pending.oldest) else { return Ok(0) };
    let chunks = outbox::read_after(db, pending.connection, pending.lane, pending.position, 0)?;
    let Some(chunk) = chunks.first() else { return Ok(0) };
    let let_go = match chunk.entries_and_known::<Known<'_>>() {
        Ok((entries, known)) => {
            let mut kept = Vec::new();
            let mut put = db.prepare_cached(
                "INSERT OR IGNORE INTO owed (sink, connection_id, source, uid, lane, number, time, collected)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?;
            let entries = entries.iter().enumerate().filter(|(_, entry)| entry.number > pending.position);
            let stays = !is_listed_again(&chunk.source);
            let mut count = 0;
            for (place, entry) in entries {
                count += 1;
                if stays || entry.kind != Kind::Event {
                    kept.push((entry.clone(), known.of(place)));
                    continue;
                }
                let time = entry.time.unwrap_or(chunk.collected);
                put.execute(params![
                    sink,
                    chunk.connection,
                    chunk.source,
                    entry.uid.as_bytes().as_slice(),
                    chunk.lane.code(),
                    entry.number,
                    time,
                    chunk.collected,
                ])?;
            }
            let (connection, source, collected) = (chunk.connection, chunk.source.as_str(), chunk.collected);
            let shared = Shared { sink, connection, source, collected, retried: None };
            refill::put(db, &shared, &kept, Some(Was { lane: chunk.lane, last: chunk.last }))?;
            count
        }
        Err(error) => {
            let reason =
                format!("entries {} to {} of the outbox cannot be read: {error}", chunk.first, chunk.last);
            dead_letters::insert(db, &NewDeadLetter::of_chunk(chunk, Some(sink), &reason, now))?;
            1
        }
    };
    db.prepare_cached(
        "INSERT INTO position (sink, connection_id, lane, number, confirmed, doubtful) VALUES (?1, ?2, ?3, ?4, 0, 0)
         ON CONFLICT (sink, connection_id, lane) DO UPDATE SET
           number = excluded.number, confirmed = ifnull(confirmed, number), doubtful = ifnull(doubtful, number)",
    )?
    .execute(params![sink, chunk.connection, chunk.lane.code(), chunk.last])?;
    Ok(let_go)
}

/// A far side turned out to have more of a lane than the store knew when the sink let go of entries: those above
/// `after` and up to `number`.
pub(super) fn was_delivered(
    db: &Connection,
    sink: &str,
    (connection, lane): (ConnectionId, Lane),
    (after, number): (i64, i64),
) -> Result<(), StoreError> {
    db.prepare_cached(
        "DELETE FROM owed
         WHERE sink = ?1 AND connection_id = ?2 AND lane = ?3 AND number > ?4 AND number <= ?5",
    )?
    .execute(params![sink, connection, lane.code(), after, number])?;
    let mut kept = db.prepare_cached(
        "SELECT first, last, was_last, body FROM refill
         WHERE sink = ?1 AND connection_id = ?2 AND was_lane = ?3
           AND was_last > ?4 AND was_last - (last - first) <= ?5",
    )?;
    let kept = kept.query_map(params![sink, connection, lane.code(), after, number], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
    })?;
    let kept: Vec<(i64, i64, i64, Vec<u8>)> = kept.collect::<Result<_, _>>()?;
    for (first, last, was_last, body) in kept {
        // What is left of it is its end, as numbers follow one another.
        let left = (was_last - number).clamp(0, last - first + 1);
        let from = last - left + 1;
        if left == 0 {
            db.prepare_cached("DELETE FROM refill WHERE sink = ?1 AND connection_id = ?2 AND last = ?3")?
                .execute(params![sink, connection, last])?;
            continue;
        }
        let what = || format!("entries {first} to {last} of the refill lane of connection {connection}");
        let damaged = |reason: String| StoreError::Damaged { what: what(), reason };
        let body = compress::unpack(&body, LARGEST_CHUNK).map_err(damaged)?;
        let (lane, source) = (Lane::Refill, String::new());
        let whole = Chunk { connection, lane, source, first, last, collected: 0, retried: None, body };
        let body = outbox::part(&whole, |entry| entry.number >= from);
        let body = body.ok_or_else(|| damaged("its entries do not decode".to_owned()))?;
        db.prepare_cached(
            "UPDATE refill SET first = ?4, body = ?5 WHERE sink = ?1 AND connection_id = ?2 AND last = ?3",
        )?
        .execute(params![sink, connection, last, from, compress::pack(&body)])?;
    }
    Ok(())
}

/// The sinks for which rows of a source of a connection are being collected once more.
pub fn asked(db: &Connection, connection: ConnectionId, source: &str) -> Result<Vec<String>, StoreError> {
    let mut sinks = db.prepare_cached(&format!(
        "SELECT o.sink FROM owed_total o JOIN sink k ON k.name = o.sink AND k.configured = 1
         WHERE o.connection_id = ?1 AND o.source = ?2 AND EXISTS (
           SELECT 1 FROM walk_again w JOIN stream s ON s.id = w.stream_id
           WHERE w.sink = o.sink AND s.connection_id = ?1 AND {LISTS})"
    ))?;
    let sinks = sinks.query_map(params![connection, source], |row| row.get(0))?;
    Ok(sinks.collect::<Result<_, _>>()?)
}

/// Whether so much was collected for a sink already that it should take that first.
pub fn is_backed_up(db: &Connection, sink: &str) -> Result<bool, StoreError> {
    let waiting: u64 = db
        .prepare_cached(
            "SELECT ifnull(sum(length(body)), 0) FROM refill
             WHERE sink = ?1 AND was_lane IS NULL AND retried = 0",
        )?
        .query_row([sink], |row| row.get(0))?;
    Ok(waiting > MOST_WAITING)
}

/// A row is listed that a sink let go: it is owed to it no more. Answers when it was first collected. The caller enters
/// it for the sink in the same transaction. A sink that may have it all the same must recover first.
pub fn release(
    db: &Connection,
    sink: &str,
    connection: ConnectionId,
    source: &str,
    uid: Uuid,
) -> Result<Option<Micros>, StoreError> {
    let mut release = db.prepare_cached(
        "DELETE FROM owed WHERE sink = ?1 AND connection_id = ?2 AND source = ?3 AND uid = ?4
           AND NOT EXISTS (
             SELECT 1 FROM position p WHERE p.sink = owed.sink AND p.connection_id = owed.connection_id
               AND p.lane = owed.lane AND owed.number > p.doubtful)
         RETURNING collected",
    )?;
    let key = params![sink, connection, source, uid.as_bytes().as_slice()];
    Ok(release.query_row(key, |row| row.get(0)).optional()?)
}

/// Whether an entry still waits for the sink, or was let go and waits to be collected again.
pub(super) fn is_on_its_way(
    db: &Connection,
    sink: &str,
    (connection, lane, number): (ConnectionId, Lane, i64),
) -> Result<bool, StoreError> {
    let mut waits = db.prepare_cached(
        "SELECT ifnull((SELECT number FROM position WHERE sink = ?1 AND connection_id = ?2 AND lane = ?3), 0) < ?4
           OR EXISTS (SELECT 1 FROM owed WHERE sink = ?1 AND connection_id = ?2 AND lane = ?3 AND number = ?4)
           OR EXISTS (SELECT 1 FROM refill WHERE sink = ?1 AND connection_id = ?2 AND was_lane = ?3
                      AND ?4 BETWEEN was_last - (last - first) AND was_last)",
    )?;
    Ok(waits.query_row(params![sink, connection, lane.code(), number], |row| row.get(0))?)
}

/// Forgets what the portal keeps no longer: collected before `before`. Answers how much of it there was for each sink.
pub fn expire(
    db: &Connection,
    connection: ConnectionId,
    source: &str,
    before: Micros,
) -> Result<BTreeMap<String, u64>, StoreError> {
    let mut lost = BTreeMap::new();
    let mut any = db.prepare_cached("SELECT 1 FROM owed_total WHERE connection_id = ?1 AND source = ?2")?;
    if !any.exists(params![connection, source])? {
        return Ok(lost);
    }
    let mut gone = db.prepare_cached(
        "DELETE FROM owed WHERE connection_id = ?1 AND source = ?2 AND collected < ?3 RETURNING sink",
    )?;
    let mut gone = gone.query(params![connection, source, before])?;
    while let Some(row) = gone.next()? {
        *lost.entry(row.get(0)?).or_default() += 1;
    }
    Ok(lost)
}

/// What a sink has let go of one source of a site and nobody has collected for it yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    pub site: String,
    pub source: String,
    pub entries: u64,
    /// The time of the earliest of them.
    pub from: Option<DateTime<Utc>>,
    /// When the last of them was collected.
    pub to: Option<DateTime<Utc>>,
    /// They are being collected for it.
    pub asked: bool,
}

/// What every sink has let go, by its name.
pub fn totals(db: &Connection) -> Result<BTreeMap<String, Vec<Owed>>, StoreError> {
    let mut totals = db.prepare_cached(&format!(
        "SELECT o.sink, c.site, o.source, o.entries, o.oldest, o.newest, EXISTS (
           SELECT 1 FROM walk_again w JOIN stream s ON s.id = w.stream_id
           WHERE w.sink = o.sink AND s.connection_id = o.connection_id AND {LISTS})
         FROM owed_total o JOIN connection c ON c.id = o.connection_id ORDER BY 1, 2, 3"
    ))?;
    let mut found: BTreeMap<String, Vec<Owed>> = BTreeMap::new();
    let mut rows = totals.query([])?;
    while let Some(row) = rows.next()? {
        found.entry(row.get(0)?).or_default().push(Owed {
            site: row.get(1)?,
            source: row.get(2)?,
            entries: row.get(3)?,
            from: DateTime::from_timestamp_micros(row.get(4)?),
            to: DateTime::from_timestamp_micros(row.get(5)?),
            asked: row.get(6)?,
        });
    }
    Ok(found)
}

/// What came of asking for what a sink is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// So many streams walk that time again.
    Streams(u64),
    /// The sink may have some of it all the same, and has not recovered since.
    InDoubt,
    /// No stream reads it any more.
    Nobody,
}

/// Asks every stream of what a sink is owed to walk that time again.
pub fn ask(db: &Connection, sink: &str) -> Result<Asked, StoreError> {
    const SECOND: Seconds = crate::model::SECOND;
    let mut doubtful = db.prepare_cached("SELECT 1 FROM position WHERE sink = ?1 AND doubtful < number")?;
    if doubtful.exists([sink])? {
        return Ok(Asked::InDoubt);
    }
    db.prepare_cached(&format!(
        "INSERT OR IGNORE INTO walk_again (stream_id, sink, from_s, to_s)
         SELECT s.id, ?1, o.oldest / ?2 - 1, o.newest / ?2 + 1 FROM owed_total o
         JOIN connection c ON c.id = o.connection_id AND c.epoch > 0
         JOIN stream s ON s.connection_id = o.connection_id AND {LISTS}
         WHERE o.sink = ?1 AND NOT EXISTS (SELECT 1 FROM walk_again w WHERE w.stream_id = s.id AND w.sink = ?1)"
    ))?
    .execute(params![sink, SECOND])?;
    let streams: u64 = db
        .prepare_cached("SELECT count(*) FROM walk_again WHERE sink = ?1")?
        .query_row([sink], |row| row.get(0))?;
    Ok(if streams > 0 { Asked::Streams(streams) } else { Asked::Nobody })
}

/// Forgets what a sink is owed, since it is wanted no more. Answers how much that was.
pub fn forget(db: &Connection, sink: &str) -> Result<u64, StoreError> {
    let forgotten = db.prepare_cached("DELETE FROM owed WHERE sink = ?1")?.execute([sink])?;
    db.prepare_cached("DELETE FROM walk_again WHERE sink = ?1")?.execute([sink])?;
    Ok(forgotten as u64)
}

#[cfg(test)]
mod tests;
