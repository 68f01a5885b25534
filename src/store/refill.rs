//! Entries for one sink alone: dead letters that it tries again, and what it let go and is collected for it once more.
//!
//! They are a lane of their own, [`Lane::Refill`], whose numbers come from the same counter as all others, so that
//! nothing comes twice for the same reason as in any other lane. What a sink has confirmed leaves at once.

use rusqlite::{Connection, params};
use uuid::Uuid;

use super::outbox::{LARGEST_CHUNK, PendingLane};
use super::{StoreError, compress};
use crate::model::{Chunk, ConnectionId, Entry, Lane, Micros, Retried};
use crate::record::enrichment::{Enrichment, Known};

/// Where an entry stood that a sink let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Was {
    pub(super) lane: Lane,
    pub(super) last: i64,
}

/// What entries of a refill share.
#[derive(Clone, Copy, Debug)]
pub struct Shared<'a> {
    pub sink: &'a str,
    pub connection: ConnectionId,
    pub source: &'a str,
    /// When they were first collected.
    pub collected: Micros,
    pub retried: Option<Retried>,
}

/// Appends entries, with new numbers, for one sink.
pub fn append(
    db: &Connection,
    shared: &Shared<'_>,
    entries: &[(Entry<'_>, Enrichment<'_>)],
) -> Result<(), StoreError> {
    put(db, shared, entries, None)
}

pub(super) fn put(
    db: &Connection,
    shared: &Shared<'_>,
    entries: &[(Entry<'_>, Enrichment<'_>)],
    was: Option<Was>,
) -> Result<(), StoreError> {
    if entries.is_empty() {
        return Ok(());
    }
    let count = i64::try_from(entries.len()).expect("a slice is shorter than i64::MAX");
    let last: i64 = db
        .prepare_cached("UPDATE connection SET head = head + ?2 WHERE id = ?1 RETURNING head")?
        .query_row(params![shared.connection, count], |row| row.get(0))?;
    let first = last - count + 1;
    let numbered: Vec<Entry<'_>> =
        entries.iter().zip(first..).map(|((entry, _), number)| Entry { number, ..entry.clone() }).collect();
    let known = Known::new(entries.iter().map(|(_, known)| *known));
    let body = Chunk::encode(&numbered, &known);
    if body.len() > LARGEST_CHUNK {
        return Err(StoreError::TooLarge { bytes: body.len(), limit: LARGEST_CHUNK });
    }
    db.prepare_cached(
        "INSERT INTO lane (connection_id, lane, last, bytes) VALUES (?1, ?2, ?3, 0)
         ON CONFLICT (connection_id, lane) DO UPDATE SET last = excluded.last",
    )?
    .execute(params![shared.connection, Lane::Refill.code(), last])?;
    let record = shared.retried.and_then(|retried| retried.record);
    db.prepare_cached(
        "INSERT INTO refill (sink, connection_id, first, last, source, collected, retried, record,
                             was_lane, was_last, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?
    .execute(params![
        shared.sink,
        shared.connection,
        first,
        last,
        shared.source,
        shared.collected,
        shared.retried.is_some(),
        record.map(|uid| uid.as_bytes().to_vec()),
        was.map(|was| was.lane.code()),
        was.map(|was| was.last),
        compress::pack(&body),
    ])?;
    Ok(())
}

/// What waits for a sink, one lane a connection.
pub(super) fn pending(db: &Connection, sink: &str) -> Result<Vec<PendingLane>, StoreError> {
    let mut lanes = db.prepare_cached(
        "SELECT r.connection_id, c.site, ifnull(p.number, 0), max(r.last), sum(length(r.body)), min(r.collected)
         FROM refill r
         JOIN connection c ON c.id = r.connection_id
         LEFT JOIN position p ON p.sink = r.sink AND p.connection_id = r.connection_id AND p.lane = ?2
         WHERE r.sink = ?1 AND r.last > ifnull(p.number, 0)
         GROUP BY r.connection_id ORDER BY r.connection_id",
    )?;
    let lanes = lanes.query_map(params![sink, Lane::Refill.code()], |row| {
        Ok(PendingLane {
            connection: row.get(0)?,
            site: row.get(1)?,
            lane: Lane::Refill,
            position: row.get(2)?,
            last: row.get(3)?,
            bytes: row.get(4)?,
            oldest: row.get(5)?,
        })
    })?;
    Ok(lanes.collect::<Result<_, _>>()?)
}

/// As [`super::outbox::read_after`], of what waits for one sink.
pub fn read_after(
    db: &Connection,
    sink: &str,
    connection: ConnectionId,
    position: i64,
    max_bytes: usize,
) -> Result<Vec<Chunk>, StoreError> {
    let mut chunks = db.prepare_cached(
        "SELECT first, last, source, collected, body, retried, record FROM refill
         WHERE sink = ?1 AND connection_id = ?2 AND last > ?3 ORDER BY last",
    )?;
    let mut rows = chunks.query(params![sink, connection, position])?;
    let (mut read, mut total) = (Vec::new(), 0_usize);
    while let Some(row) = rows.next()? {
        let packed = row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?;
        total = total.saturating_add(compress::unpacked_bytes(packed));
        if total > max_bytes && !read.is_empty() {
            break;
        }
        let (first, last) = (row.get(0)?, row.get(1)?);
        let body = compress::unpack(packed, LARGEST_CHUNK).map_err(|reason| StoreError::Damaged {
            what: format!("entries {first} to {last} of the refill lane of connection {connection}"),
            reason,
        })?;
        let record: Option<Vec<u8>> = row.get(6)?;
        let record = record.and_then(|bytes| Uuid::from_slice(&bytes).ok());
        let retried = row.get::<_, bool>(5)?.then_some(Retried { record });
        let (source, collected) = (row.get(2)?, row.get(3)?);
        read.push(Chunk { connection, lane: Lane::Refill, source, first, last, collected, retried, body });
    }
    Ok(read)
}

/// Deletes what a sink has confirmed.
pub(super) fn confirmed(
    db: &Connection,
    sink: &str,
    connection: ConnectionId,
    number: i64,
) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM refill WHERE sink = ?1 AND connection_id = ?2 AND last <= ?3")?
        .execute(params![sink, connection, number])?;
    Ok(())
}
