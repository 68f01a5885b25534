//! Stretches of the outbox that a sink is to deliver again, because somebody lost what it had delivered.
//!
//! A replay has a position of its own and moves no other. It is kept by entries' collection, and by numbers of a lane;
//! what it still needs stays in the outbox.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::outbox::{self, PendingLane};
use super::{StoreError, compress};
use crate::model::{Chunk, ConnectionId, Lane, Micros};

/// What is to be delivered again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    pub sink: String,
    /// Collected from then on, and before `to`; on the portal's time.
    pub from: Micros,
    pub to: Micros,
    /// Only these; all where there is none.
    pub sources: Vec<String>,
    pub site: Option<String>,
}

/// What a replay takes of one lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    pub site: String,
    pub lane: Lane,
    pub source: String,
    pub entries: u64,
    /// As stored.
    pub bytes: u64,
    /// When the first and the last of it were collected.
    pub from: Option<DateTime<Utc>>,
    pub to: Option<DateTime<Utc>>,
    connection: ConnectionId,
    first: i64,
    last: i64,
}

/// What of that is in the outbox and was delivered to the sink: what is still on its way comes anyhow, and what the sink
/// let go by another.
pub fn plan(db: &Connection, wanted: &Wanted) -> Result<Vec<Stretch>, StoreError> {
    let mut stretches = db.prepare_cached(
        "SELECT c.site, o.lane, o.source, sum(min(o.last, p.number) - o.first + 1), sum(length(o.body)),
                min(o.collected), max(o.collected), o.connection_id, min(o.first), max(min(o.last, p.number))
         FROM outbox o
         JOIN connection c ON c.id = o.connection_id
         JOIN position p ON p.sink = ?1 AND p.connection_id = o.connection_id AND p.lane = o.lane
         WHERE o.first <= p.number AND o.collected >= ?2 AND o.collected < ?3 AND (?4 IS NULL OR c.site = ?4)
           AND NOT EXISTS (SELECT 1 FROM owed w WHERE w.sink = ?1 AND w.connection_id = o.connection_id
                           AND w.lane = o.lane AND w.number BETWEEN o.first AND o.last)
           AND NOT EXISTS (SELECT 1 FROM refill r WHERE r.sink = ?1 AND r.connection_id = o.connection_id
                           AND r.was_lane = o.lane AND r.was_last = o.last)
         GROUP BY o.connection_id, o.lane, o.source ORDER BY 1, 2, 3",
    )?;
    let rows = stretches.query_map(params![wanted.sink, wanted.from, wanted.to, wanted.site], |row| {
        Ok(Stretch {
            site: row.get(0)?,
            lane: outbox::lane(row, 1)?,
            source: row.get(2)?,
            entries: row.get(3)?,
            bytes: row.get(4)?,
            from: DateTime::from_timestamp_micros(row.get(5)?),
            to: DateTime::from_timestamp_micros(row.get(6)?),
            connection: row.get(7)?,
            first: row.get(8)?,
            last: row.get(9)?,
        })
    })?;
    let wants = |stretch: &Stretch| wanted.sources.is_empty() || wanted.sources.contains(&stretch.source);
    let all: Vec<Stretch> = rows.collect::<Result<_, _>>()?;
    Ok(all.into_iter().filter(wants).collect())
}

/// When the oldest entry that is kept was collected, and the newest.
pub fn kept(db: &Connection) -> Result<Option<(Micros, Micros)>, StoreError> {
    let (oldest, newest): (Option<Micros>, Option<Micros>) =
        db.query_row("SELECT min(collected), max(collected) FROM outbox", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    Ok(oldest.zip(newest))
}

/// Enters it to be delivered. Answers what it takes; nothing while the sink has another one to deliver.
///
/// # Errors
/// [`StoreError::UnknownSink`] where the state does not know the sink.
pub fn start(db: &Connection, wanted: &Wanted) -> Result<Option<Vec<Stretch>>, StoreError> {
    let known =
        db.prepare_cached("SELECT 1 FROM sink WHERE name = ?1 AND configured = 1")?.exists([&wanted.sink])?;
    if !known {
        return Err(StoreError::UnknownSink { sink: wanted.sink.clone() });
    }
    if next(db, &wanted.sink)?.is_some() {
        return Ok(None);
    }
    let stretches = plan(db, wanted)?;
    for stretch in &stretches {
        db.prepare_cached(
            "INSERT INTO replay (sink, connection_id, lane, number, last, source, from_us, to_us, entries)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            wanted.sink,
            stretch.connection,
            stretch.lane.code(),
            stretch.first - 1,
            stretch.last,
            stretch.source,
            wanted.from,
            wanted.to,
            stretch.entries,
        ])?;
    }
    Ok(Some(stretches))
}

/// A stretch in hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    id: i64,
    pub pending: PendingLane,
    source: Option<String>,
    from: Micros,
    to: Micros,
}

/// The next that a sink is to deliver again.
pub fn next(db: &Connection, sink: &str) -> Result<Option<Replay>, StoreError> {
    let mut next = db.prepare_cached(
        "SELECT r.id, r.connection_id, c.site, r.lane, r.number, r.last, r.source, r.from_us, r.to_us
         FROM replay r JOIN connection c ON c.id = r.connection_id WHERE r.sink = ?1 ORDER BY r.id LIMIT 1",
    )?;
    let next = next.query_row([sink], |row| {
        let pending = PendingLane {
            connection: row.get(1)?,
            site: row.get(2)?,
            lane: outbox::lane(row, 3)?,
            position: row.get(4)?,
            last: row.get(5)?,
            bytes: 0,
            oldest: row.get(7)?,
        };
        Ok(Replay { id: row.get(0)?, pending, source: row.get(6)?, from: row.get(7)?, to: row.get(8)? })
    });
    Ok(next.optional()?)
}

/// As [`outbox::read_after`], of the stretch; nothing once it is through.
pub fn read_after(
    db: &Connection,
    sink: &str,
    replay: &Replay,
    position: i64,
    max_bytes: usize,
) -> Result<Vec<Chunk>, StoreError> {
    let PendingLane { connection, lane, last, .. } = replay.pending;
    let mut chunks = db.prepare_cached(
        "SELECT first, last, source, collected, body FROM outbox
         WHERE connection_id = ?1 AND lane = ?2 AND last > ?3 AND first <= ?4
           AND collected >= ?5 AND collected < ?6 AND (?7 IS NULL OR source = ?7)
           AND NOT EXISTS (SELECT 1 FROM owed w WHERE w.sink = ?8 AND w.connection_id = ?1 AND w.lane = ?2
                           AND w.number BETWEEN outbox.first AND outbox.last)
           AND NOT EXISTS (SELECT 1 FROM refill r WHERE r.sink = ?8 AND r.connection_id = ?1 AND r.was_lane = ?2
                           AND r.was_last = outbox.last)
         ORDER BY last",
    )?;
    let mut rows = chunks.query(params![
        connection,
        lane.code(),
        position,
        last,
        replay.from,
        replay.to,
        replay.source,
        sink
    ])?;
    let (mut read, mut total) = (Vec::new(), 0_usize);
    while let Some(row) = rows.next()? {
        let packed = row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?;
        total = total.saturating_add(compress::unpacked_bytes(packed));
        if total > max_bytes && !read.is_empty() {
            break;
        }
        read.push(outbox::chunk(connection, lane, row)?);
    }
    Ok(read)
}

/// The sink has it again up to `number`; a stretch that is through is forgotten. Answers whether it is.
pub fn delivered(
    db: &Connection,
    replay: &Replay,
    number: Option<i64>,
    entries: u64,
) -> Result<bool, StoreError> {
    match number.filter(|number| *number < replay.pending.last) {
        Some(number) => {
            db.prepare_cached("UPDATE replay SET number = ?2, entries = max(entries - ?3, 0) WHERE id = ?1")?
                .execute(params![replay.id, number, entries])?;
            Ok(false)
        }
        None => {
            db.prepare_cached("DELETE FROM replay WHERE id = ?1")?.execute([replay.id])?;
            Ok(true)
        }
    }
}

/// Gives up what a sink was to deliver again. Answers whether there was any.
pub fn give_up(db: &Connection, sink: &str) -> Result<bool, StoreError> {
    Ok(db.prepare_cached("DELETE FROM replay WHERE sink = ?1")?.execute([sink])? > 0)
}

/// Entries that each sink still has to deliver again, about.
pub fn waiting(db: &Connection) -> Result<BTreeMap<String, u64>, StoreError> {
    let mut waiting = db.prepare_cached("SELECT sink, sum(entries) FROM replay GROUP BY sink")?;
    let waiting = waiting.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(waiting.collect::<Result<_, _>>()?)
}
