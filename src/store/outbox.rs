//! What the sinks are owed: numbered entries in lanes, a chunk a row, compressed.
//!
//! A chunk is kept while a configured sink has not confirmed it, and a while longer for replays.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::{StoreError, compress, refill};
use crate::model::{Change, Chunk, ConnectionId, Entry, Kind, Lane, Micros, Positions};
use crate::record::enrichment::{Enrichment, Known};

/// Entries are split into chunks of about this many bytes before compression, so that reading back
/// costs little memory at a time.
const CHUNK_BYTES: usize = 1024 * 1024;
/// The largest single entry: twice the largest body of a page (a row and the row before it), and some.
pub(super) const LARGEST_CHUNK: usize = 160 * 1024 * 1024;

/// An entry that has no number yet.
#[derive(Clone, Debug)]
pub struct NewEntry<'a> {
    pub uid: Uuid,
    pub kind: Kind,
    pub change: Change,
    /// The row's own organization; empty when it names none.
    pub organization: &'a str,
    pub vendor_id: Option<&'a str>,
    /// When it happened, on the portal's time.
    pub time: Option<Micros>,
    /// The vendor's bytes.
    pub row: &'a str,
    /// The row before a change or removal.
    pub previous: Option<&'a str>,
    /// What is known besides the row.
    pub known: Enrichment<'a>,
}

impl<'a> NewEntry<'a> {
    fn bytes(&self) -> usize {
        let matching = self.known.matching.map_or(0, |matching| matching.applications.len());
        let row = self.row.len() + self.previous.map_or(0, str::len) + self.vendor_id.map_or(0, str::len);
        row + matching + 128
    }

    /// The entry under a number, without what is known besides.
    pub fn numbered(&self, number: i64) -> Entry<'a> {
        Entry {
            number,
            uid: self.uid,
            kind: self.kind,
            change: self.change,
            organization: self.organization,
            vendor_id: self.vendor_id,
            time: self.time,
            row: self.row,
            previous: self.previous,
        }
    }
}

/// Appends entries to a lane and gives the number of the first; the others follow without a gap.
/// `collected` is on the portal's time, `stored` on our clock.
///
/// # Errors
/// [`StoreError::Fenced`] when the connection's epoch is another one by now: the numbers and the
/// right to give them come from the same row.
#[expect(clippy::too_many_arguments, reason = "what a page knows of itself, each once")]
pub fn append(
    db: &Connection,
    connection: ConnectionId,
    epoch: i64,
    lane: Lane,
    source: &str,
    collected: Micros,
    stored: Micros,
    entries: &[NewEntry<'_>],
) -> Result<i64, StoreError> {
    let count = i64::try_from(entries.len()).expect("a slice is shorter than i64::MAX");
    let head: Option<i64> = db
        .prepare_cached("UPDATE connection SET head = head + ?3 WHERE id = ?1 AND epoch = ?2 RETURNING head")?
        .query_row(params![connection, epoch, count], |row| row.get(0))
        .optional()?;
    let Some(head) = head else { return Err(StoreError::Fenced { connection, epoch }) };
    let first = head - count + 1;
    let mut numbered = entries.iter().zip(first..).peekable();
    while numbered.peek().is_some() {
        let (mut chunk, mut known, mut bytes) = (Vec::new(), Vec::new(), 0);
        while let Some((entry, number)) =
            numbered.next_if(|(entry, _)| chunk.is_empty() || bytes + entry.bytes() <= CHUNK_BYTES)
        {
            bytes += entry.bytes();
            chunk.push(entry.numbered(number));
            known.push(entry.known);
        }
        let known = Known::new(known.into_iter());
        insert_chunk(db, connection, lane, source, collected, stored, &chunk, &known)?;
    }
    Ok(first)
}

#[expect(clippy::too_many_arguments, reason = "what a page knows of itself, each once")]
fn insert_chunk(
    db: &Connection,
    connection: ConnectionId,
    lane: Lane,
    source: &str,
    collected: Micros,
    stored: Micros,
    entries: &[Entry<'_>],
    known: &Known<'_>,
) -> Result<(), StoreError> {
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(()) };
    let (first, last) = (first.number, last.number);
    let body = Chunk::encode(entries, known);
    if body.len() > LARGEST_CHUNK {
        return Err(StoreError::TooLarge { bytes: body.len(), limit: LARGEST_CHUNK });
    }
    let body = compress::pack(&body);
    let lane_bytes: i64 = db
        .prepare_cached(
            "INSERT INTO lane (connection_id, lane, last, bytes) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (connection_id, lane)
             DO UPDATE SET last = excluded.last, bytes = bytes + excluded.bytes RETURNING bytes",
        )?
        .query_row(params![connection, lane.code(), last, body.len()], |row| row.get(0))?;
    db.prepare_cached(
        "INSERT INTO outbox (connection_id, lane, first, last, source, collected, stored, lane_bytes, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![
        connection,
        lane.code(),
        first,
        last,
        source,
        collected,
        stored,
        lane_bytes,
        body
    ])?;
    Ok(())
}

/// A lane that holds entries above a sink's position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingLane {
    pub connection: ConnectionId,
    pub site: String,
    pub lane: Lane,
    /// The last number that the sink has confirmed; 0 for none.
    pub position: i64,
    /// The last number in the lane.
    pub last: i64,
    /// Stored (compressed) bytes of the chunks above the position.
    pub bytes: u64,
    /// When the oldest of them was collected, on the portal's time.
    pub oldest: Micros,
}

const PENDING: &str = "SELECT l.connection_id, c.site, l.lane, ifnull(p.number, 0), l.last,
            l.bytes - o.lane_bytes + length(o.body), o.collected
     FROM lane l
     JOIN connection c ON c.id = l.connection_id
     LEFT JOIN position p ON p.sink = ?1 AND p.connection_id = l.connection_id AND p.lane = l.lane
     JOIN outbox o ON o.connection_id = l.connection_id AND o.lane = l.lane AND o.last =
          (SELECT min(last) FROM outbox
           WHERE connection_id = l.connection_id AND lane = l.lane AND last > ifnull(p.number, 0))
     WHERE l.last > ifnull(p.number, 0)
     ORDER BY l.lane, l.connection_id";

/// The lanes with entries for a sink, live lanes first and what it alone gets last. A look-up or two a lane, whatever
/// the backlog.
pub fn pending(db: &Connection, sink: &str) -> Result<Vec<PendingLane>, StoreError> {
    let mut lanes = db.prepare_cached(PENDING)?;
    let lanes = lanes.query_map([sink], |row| {
        Ok(PendingLane {
            connection: row.get(0)?,
            site: row.get(1)?,
            lane: lane(row, 2)?,
            position: row.get(3)?,
            last: row.get(4)?,
            bytes: row.get(5)?,
            oldest: row.get(6)?,
        })
    })?;
    let mut lanes: Vec<PendingLane> = lanes.collect::<Result<_, _>>()?;
    lanes.extend(refill::pending(db, sink)?);
    Ok(lanes)
}

/// A stretch of a lane that was deleted before a sink had it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    pub connection: ConnectionId,
    pub site: String,
    pub lane: Lane,
    /// The last number that the sink has confirmed.
    pub position: i64,
    /// The last number that is gone.
    pub pruned: i64,
}

/// What a sink that comes back to the configuration has missed meanwhile: a gap to be reported before
/// the sink goes on, since its next confirmation hides it. A sink that never confirmed a lane is new
/// there and has missed nothing.
pub fn missed(db: &Connection, sink: &str) -> Result<Vec<Missed>, StoreError> {
    let mut lanes = db.prepare_cached(
        "SELECT l.connection_id, c.site, l.lane, p.number, l.pruned
         FROM position p
         JOIN lane l ON l.connection_id = p.connection_id AND l.lane = p.lane
         JOIN connection c ON c.id = l.connection_id
         WHERE p.sink = ?1 AND l.pruned > p.number",
    )?;
    let lanes = lanes.query_map([sink], |row| {
        Ok(Missed {
            connection: row.get(0)?,
            site: row.get(1)?,
            lane: lane(row, 2)?,
            position: row.get(3)?,
            pruned: row.get(4)?,
        })
    })?;
    Ok(lanes.collect::<Result<_, _>>()?)
}

/// The last number of every lane. A sink whose own answer is above it has seen more than this state
/// remembers: the state was restored from a backup.
pub fn heads(db: &Connection) -> Result<Positions, StoreError> {
    let mut lanes = db.prepare_cached("SELECT connection_id, lane, last FROM lane")?;
    let lanes = lanes.query_map([], |row| Ok(((row.get(0)?, lane(row, 1)?), row.get(2)?)))?;
    Ok(lanes.collect::<Result<_, _>>()?)
}

pub(super) fn lane(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Lane> {
    let code: i64 = row.get(column)?;
    Lane::from_code(code).ok_or(rusqlite::Error::IntegralValueOutOfRange(column, code))
}

/// The chunks of a lane that hold numbers above `position`, whole and in order: as many as fit into
/// `max_bytes` uncompressed, and at least one. The first may begin at or below the position.
pub fn read_after(
    db: &Connection,
    connection: ConnectionId,
    lane: Lane,
    position: i64,
    max_bytes: usize,
) -> Result<Vec<Chunk>, StoreError> {
    let mut chunks = db.prepare_cached(
        "SELECT first, last, source, collected, body FROM outbox
         WHERE connection_id = ?1 AND lane = ?2 AND last > ?3 ORDER BY last",
    )?;
    let mut rows = chunks.query(params![connection, lane.code(), position])?;
    let (mut read, mut total) = (Vec::new(), 0_usize);
    while let Some(row) = rows.next()? {
        let packed = row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?;
        total = total.saturating_add(compress::unpacked_bytes(packed));
        if total > max_bytes && !read.is_empty() {
            break;
        }
        read.push(chunk(connection, lane, row)?);
    }
    Ok(read)
}

/// The chunk of a row of first, last, source, collected and body.
pub(super) fn chunk(
    connection: ConnectionId,
    lane: Lane,
    row: &rusqlite::Row<'_>,
) -> Result<Chunk, StoreError> {
    let (first, last) = (row.get(0)?, row.get(1)?);
    let packed = row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?;
    let body = compress::unpack(packed, LARGEST_CHUNK).map_err(|reason| StoreError::Damaged {
        what: format!("entries {first} to {last} of the {} lane of connection {connection}", lane.as_str()),
        reason,
    })?;
    let (source, collected) = (row.get(2)?, row.get(3)?);
    Ok(Chunk { connection, lane, source, first, last, collected, retried: None, body })
}

/// The body of a chunk with only those of its entries that `wants` takes, and what is known besides them; nothing where
/// it takes none, or where the chunk cannot be read.
pub(super) fn part(chunk: &Chunk, wants: impl Fn(&Entry<'_>) -> bool) -> Option<Vec<u8>> {
    let (entries, known) = chunk.entries_and_known::<Known<'_>>().ok()?;
    let wanted = entries.iter().enumerate().filter(|(_, entry)| wants(entry));
    let (entries, known): (Vec<_>, Vec<_>) =
        wanted.map(|(place, entry)| (entry.clone(), known.of(place))).unzip();
    (!entries.is_empty()).then(|| Chunk::encode(&entries, &Known::new(known.into_iter())))
}

/// How much the outbox holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxUsage {
    /// Compressed bodies, with an allowance for what stands beside them.
    pub stored_bytes: u64,
    pub chunks: u64,
    /// When the oldest chunk was stored, on our clock.
    pub oldest: Option<Micros>,
}

/// How much the outbox holds, from running totals.
pub fn usage(db: &Connection) -> Result<OutboxUsage, StoreError> {
    let (chunks, stored_bytes) = super::running_total(db, "outbox")?;
    let oldest = db
        .prepare_cached("SELECT stored FROM outbox ORDER BY rowid LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(OutboxUsage { stored_bytes, chunks, oldest })
}

/// What one call of a pruning function deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    pub rows: u64,
    pub bytes: u64,
}

/// Deletes up to `batch` chunks that every configured sink has confirmed, oldest first: those stored
/// longer than `keep` ago, and younger ones while the outbox holds more than `limit_bytes`. A chunk
/// that a sink is still owed is never deleted, so the outbox can stay above its limit; then
/// collecting has to pause.
///
/// Without any configured sink nothing counts as confirmed: a program started without sinks by
/// mistake pauses and loses nothing.
pub fn prune(
    db: &Connection,
    our_now: Micros,
    keep: Duration,
    limit_bytes: u64,
    batch: usize,
) -> Result<Pruned, StoreError> {
    let cutoff = our_now.saturating_sub(Micros::try_from(keep.as_micros()).unwrap_or(Micros::MAX));
    let mut held = usage(db)?.stored_bytes;
    let mut pruned = Pruned::default();
    let mut oldest: BinaryHeap<Reverse<Candidate>> = BinaryHeap::new();
    for (connection, lane, confirmed) in confirmed_lanes(db)? {
        oldest.extend(candidate(db, connection, lane, confirmed)?.map(Reverse));
    }
    for _ in 0..batch {
        let Some(Reverse(chunk)) = oldest.pop() else { break };
        if chunk.stored > cutoff && held <= limit_bytes {
            break;
        }
        db.prepare_cached("DELETE FROM outbox WHERE rowid = ?1")?.execute([chunk.rowid])?;
        db.prepare_cached("UPDATE lane SET pruned = ?3 WHERE connection_id = ?1 AND lane = ?2")?
            .execute(params![chunk.connection, chunk.lane, chunk.last])?;
        held = held.saturating_sub(chunk.bytes);
        pruned.rows += 1;
        pruned.bytes += chunk.bytes;
        oldest.extend(candidate(db, chunk.connection, chunk.lane, chunk.confirmed)?.map(Reverse));
    }
    Ok(pruned)
}

/// The first chunk of a lane, if every sink has confirmed it; ordered by when it was stored.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rowid: i64,
    stored: Micros,
    bytes: u64,
    last: i64,
    connection: ConnectionId,
    lane: i64,
    confirmed: i64,
}

/// Each lane with the last number that every configured sink has confirmed, and has again where it is to have it again.
fn confirmed_lanes(db: &Connection) -> Result<Vec<(ConnectionId, i64, i64)>, StoreError> {
    let mut lanes = db.prepare_cached(
        "SELECT l.connection_id, l.lane, min(min(ifnull(p.number, 0), ifnull(r.number, 9223372036854775807))) AS everywhere
         FROM lane l JOIN sink s ON s.configured = 1
         LEFT JOIN position p ON p.sink = s.name AND p.connection_id = l.connection_id AND p.lane = l.lane
         LEFT JOIN replay r ON r.sink = s.name AND r.connection_id = l.connection_id AND r.lane = l.lane
         GROUP BY l.connection_id, l.lane HAVING everywhere > 0",
    )?;
    let lanes = lanes.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(lanes.collect::<Result<_, _>>()?)
}

fn candidate(
    db: &Connection,
    connection: ConnectionId,
    lane: i64,
    confirmed: i64,
) -> Result<Option<Candidate>, StoreError> {
    let first = db
        .prepare_cached(
            "SELECT rowid, stored, 128 + length(body), last FROM outbox
             WHERE connection_id = ?1 AND lane = ?2 AND last <= ?3 ORDER BY last LIMIT 1",
        )?
        .query_row(params![connection, lane, confirmed], |row| {
            let (rowid, stored, bytes, last) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            Ok(Candidate { rowid, stored, bytes, last, connection, lane, confirmed })
        })
        .optional()?;
    Ok(first)
}

#[cfg(test)]
pub(super) mod tests;
