//! From the outbox to one batch: which lanes, which entries, encoded.
//!
//! Live lanes come before backfill, and both before what one sink alone gets; lanes of one kind take turns, so that a connection with a long backlog
//! holds up no other. Inside a lane the order of numbers is kept.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use chrono::{DateTime, NaiveDate};
use rusqlite::Connection;
use uuid::Uuid;

use crate::format::{self, Encoded, FormatError, Origin};
use crate::model::{Chunk, ConnectionId, Entry, Lane, OrganizationId, Positions};
use crate::record::enrichment::{Enrichment, Known};
use crate::sink::{Batch, Record};
use crate::store::outbox::PendingLane;
use crate::store::{StoreError, connections};

/// The least that a lane gives at its turn, in bytes of rows, if it has so much.
const LEAST_SHARE: usize = 64 << 10;
/// Times its memory that a batch reads at most, one chunk after another, where the sink wants little of it: a
/// snapshot of the store that is held for long keeps the log from being folded in.
const LONGEST_READ: usize = 8;
/// Entries of a batch that the sink refused before, at most: too few to look as if the sink were at fault when it
/// refuses them again.
const MOST_RETRIED: usize = 16;
/// Memory that a batch takes at most, as a multiple of its bound: the rows read, the buffer while it grows,
/// and what routes each record.
pub(super) const MEMORY_FACTOR: usize = 3;

/// What a batch is made of.
#[derive(Debug)]
pub(super) struct Assembled {
    pub(super) batch: Batch,
    /// The last number in each lane that is in the batch or refused.
    pub(super) positions: Positions,
    /// Entries without an encoding; each becomes a dead letter.
    pub(super) refused: Vec<Refused>,
    /// Records of kinds of rows that this version does not know.
    pub(super) unknown: u64,
}

impl Assembled {
    /// Bytes that it takes until it is delivered, twice its records for what a sink makes of them.
    pub(super) fn memory(&self) -> usize {
        let refused: usize = self.refused.iter().map(|refused| refused.body.len()).sum();
        2 * self.batch.buffer.len() + self.batch.records.len() * size_of::<Record>() + refused
    }
}

#[derive(Debug)]
pub(super) struct Refused {
    pub(super) connection: ConnectionId,
    pub(super) lane: Lane,
    pub(super) source: String,
    pub(super) number: i64,
    pub(super) uid: Option<Uuid>,
    /// None of its records is delivered, and not only the one of this uid.
    pub(super) whole: bool,
    pub(super) organization: Option<String>,
    pub(super) vendor_id: Option<String>,
    pub(super) reason: String,
    pub(super) body: Vec<u8>,
}

/// Appends the records of an entry, as [`crate::format::Format::encode`] does.
pub(super) trait Encode:
    Fn(Origin<'_>, &Entry<'_>, Enrichment<'_>, &mut Vec<u8>, &mut Vec<Encoded>) -> Result<(), FormatError>
{
}

impl<E> Encode for E where
    E: Fn(Origin<'_>, &Entry<'_>, Enrichment<'_>, &mut Vec<u8>, &mut Vec<Encoded>) -> Result<(), FormatError>
{
}

/// Reads chunks of a lane above a position, as [`crate::store::outbox::read_after`] does.
pub(super) trait Read:
    Fn(&Connection, &PendingLane, i64, usize) -> Result<Vec<Chunk>, StoreError>
{
}

impl<R> Read for R where R: Fn(&Connection, &PendingLane, i64, usize) -> Result<Vec<Chunk>, StoreError> {}

/// How much may be put together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Encoded bytes of a batch; a single larger entry makes a batch of its own.
    pub(super) batch: usize,
    /// Bytes of memory set aside.
    pub(super) memory: usize,
}

/// A batch, or why there is none yet.
#[derive(Debug)]
pub(super) enum Outcome {
    Batch(Assembled),
    /// The next entry alone needs so many bytes of memory.
    NeedsMemory(usize),
}

/// Puts the next batch together. `turn` changes from batch to batch, so that another lane comes first.
pub(super) fn assemble(
    db: &Connection,
    lanes: &[PendingLane],
    turn: usize,
    bounds: Bounds,
    read: impl Read,
    encode: impl Encode,
) -> Result<Outcome, StoreError> {
    // What of the buffer is not used takes address space and no memory.
    let mut assembly = Assembly {
        db,
        bounds,
        chunks: read,
        encode,
        buffer: Vec::with_capacity(bounds.batch),
        encoded: Vec::new(),
        records: Vec::new(),
        organizations: HashMap::new(),
        unknown: 0,
        read: 0,
        retried: 0,
    };
    let (mut positions, mut refused) = (Positions::new(), Vec::new());
    for kind in Lane::ALL {
        let mut queue: VecDeque<&PendingLane> = lanes.iter().filter(|pending| pending.lane == kind).collect();
        if queue.is_empty() {
            continue;
        }
        let first = turn % queue.len();
        queue.rotate_left(first);
        let share = (bounds.batch / queue.len()).max(LEAST_SHARE);
        while let Some(pending) = queue.pop_front() {
            let position = positions.entry((pending.connection, kind)).or_insert(pending.position);
            match assembly.take(pending, position, share, &mut refused)? {
                Taken::More => queue.push_back(pending),
                Taken::All => {}
                Taken::Full => return Ok(assembly.finish(positions, refused)),
                Taken::NeedsMemory(bytes) if assembly.records.is_empty() && refused.is_empty() => {
                    return Ok(Outcome::NeedsMemory(bytes));
                }
                Taken::NeedsMemory(_) => return Ok(assembly.finish(positions, refused)),
            }
        }
    }
    Ok(assembly.finish(positions, refused))
}

enum Taken {
    /// The lane has more.
    More,
    /// The lane is empty.
    All,
    /// The batch is full.
    Full,
    NeedsMemory(usize),
}

struct Assembly<'a, R, E> {
    db: &'a Connection,
    bounds: Bounds,
    chunks: R,
    encode: E,
    buffer: Vec<u8>,
    /// Of the entry in hand.
    encoded: Vec<Encoded>,
    records: Vec<Record>,
    unknown: u64,
    /// Bytes of chunks.
    read: usize,
    /// Entries that the sink refused before.
    retried: usize,
    /// By connection and by the id as it stands in the entry.
    organizations: HashMap<ConnectionId, HashMap<String, (OrganizationId, Arc<str>)>>,
}

impl<R: Read, E: Encode> Assembly<'_, R, E> {
    /// Takes the lane's next entries and moves its position.
    fn take(
        &mut self,
        pending: &PendingLane,
        position: &mut i64,
        share: usize,
        refused: &mut Vec<Refused>,
    ) -> Result<Taken, StoreError> {
        let chunks = (self.chunks)(self.db, pending, *position, share)?;
        if chunks.is_empty() {
            return Ok(Taken::All);
        }
        let start = self.buffer.len();
        for chunk in chunks {
            // Small rows grow most when they are encoded: the share counts for what goes out, too.
            if self.buffer.len() - start >= share {
                return Ok(Taken::More);
            }
            if chunk.retried.is_some() && self.retried >= MOST_RETRIED {
                return Ok(Taken::All);
            }
            let memory = chunk.body.len().saturating_mul(MEMORY_FACTOR);
            if memory > self.bounds.memory {
                return Ok(Taken::NeedsMemory(memory));
            }
            self.read += chunk.body.len();
            let is_full = self.take_chunk(&chunk, pending, position, refused)?;
            if is_full || self.read >= self.bounds.memory.saturating_mul(LONGEST_READ) {
                return Ok(Taken::Full);
            }
        }
        Ok(if *position < pending.last { Taken::More } else { Taken::All })
    }

    /// True when the batch was full before the chunk's end.
    fn take_chunk(
        &mut self,
        chunk: &Chunk,
        pending: &PendingLane,
        position: &mut i64,
        refused: &mut Vec<Refused>,
    ) -> Result<bool, StoreError> {
        let (site, source): (Arc<str>, Arc<str>) =
            (pending.site.as_str().into(), chunk.source.as_str().into());
        let day = DateTime::from_timestamp_micros(chunk.collected).map(|at| at.date_naive());
        let origin = Origin { site: &site, source: &source, lane: chunk.lane, collected: chunk.collected };
        let read = || chunk.entries_and_known::<Known<'_>>().map_err(|error| error.to_string());
        let read = catch_unwind(AssertUnwindSafe(read));
        let (entries, known) = match read.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))) {
            Ok(read) => read,
            Err(reason) => {
                refused.push(unreadable(chunk, &reason));
                *position = chunk.last;
                return Ok(false);
            }
        };
        let only = chunk.retried.and_then(|retried| retried.record);
        for (place, entry) in entries.iter().enumerate() {
            if entry.number <= *position {
                continue;
            }
            if entry.number > pending.last {
                break;
            }
            let start = self.buffer.len();
            self.retried += usize::from(chunk.retried.is_some());
            let result = match day {
                None => Err(FormatError::Collected(chunk.collected).to_string()),
                Some(day) => self.encode(origin, entry, known.of(place), only).map(|()| day),
            };
            if self.buffer.len() > self.bounds.batch && start > 0 {
                self.buffer.truncate(start);
                return Ok(true);
            }
            match result {
                Ok(day) => self.add_records(chunk, entry, start, day, &site, &source)?,
                Err(reason) => refused.push(refusal(chunk, entry, reason)),
            }
            *position = entry.number;
        }
        *position = chunk.last.min(pending.last);
        Ok(false)
    }

    /// Appends the entry to the buffer, or of its records only the one of this uid; whatever goes wrong, even a panic, is
    /// the reason of a dead letter.
    fn encode(
        &mut self,
        origin: Origin<'_>,
        entry: &Entry<'_>,
        known: Enrichment<'_>,
        only: Option<Uuid>,
    ) -> Result<(), String> {
        let start = self.buffer.len();
        self.encoded.clear();
        let (buffer, encoded, encode) = (&mut self.buffer, &mut self.encoded, &self.encode);
        let result = catch_unwind(AssertUnwindSafe(|| encode(origin, entry, known, buffer, encoded)));
        let result = match result {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(panic) => Err(panicked(panic.as_ref())),
        };
        match (&result, only) {
            (Err(_), _) => self.buffer.truncate(start),
            (Ok(()), Some(only)) => {
                format::retain(start, &mut self.buffer, &mut self.encoded, |record| record.uid == only);
            }
            (Ok(()), None) => {}
        }
        result
    }

    /// Enters the records of the entry that was encoded last, whose bytes begin at `start`.
    fn add_records(
        &mut self,
        chunk: &Chunk,
        entry: &Entry<'_>,
        mut start: usize,
        day: NaiveDate,
        site: &Arc<str>,
        source: &Arc<str>,
    ) -> Result<(), StoreError> {
        let (organization, slug) = self.organization(chunk.connection, entry.organization)?;
        for encoded in self.encoded.drain(..) {
            self.records.push(Record {
                bytes: start..encoded.end,
                connection: chunk.connection,
                lane: chunk.lane,
                number: entry.number,
                uid: encoded.uid,
                kind: encoded.kind,
                time: encoded.time.unwrap_or(chunk.collected),
                host: encoded.host,
                device: encoded.device.map(Arc::from),
                day,
                site: Arc::clone(site),
                source: Arc::clone(source),
                slug: Arc::clone(&slug),
                organization: organization.clone(),
            });
            self.unknown += u64::from(encoded.unknown);
            start = encoded.end;
        }
        Ok(())
    }

    /// An organization with its short name.
    fn organization(
        &mut self,
        connection: ConnectionId,
        id: &str,
    ) -> Result<(OrganizationId, Arc<str>), StoreError> {
        let known = self.organizations.entry(connection).or_default();
        if let Some((organization, slug)) = known.get(id) {
            return Ok((organization.clone(), Arc::clone(slug)));
        }
        let organization = OrganizationId::new(id);
        let found = connections::known_organization(self.db, connection, &organization)?;
        let slug: Arc<str> = found.map(|found| found.slug).unwrap_or_default().into();
        known.insert(id.to_owned(), (organization.clone(), Arc::clone(&slug)));
        Ok((organization, slug))
    }

    fn finish(self, mut positions: Positions, refused: Vec<Refused>) -> Outcome {
        positions.retain(|_, number| *number > 0);
        let batch = Batch { records: self.records.into(), buffer: self.buffer.into(), again: false };
        Outcome::Batch(Assembled { batch, positions, refused, unknown: self.unknown })
    }
}

fn refusal(chunk: &Chunk, entry: &Entry<'_>, reason: String) -> Refused {
    let record = chunk.retried.and_then(|retried| retried.record);
    Refused {
        connection: chunk.connection,
        lane: chunk.lane,
        source: chunk.source.clone(),
        number: entry.number,
        uid: Some(record.unwrap_or(entry.uid)),
        whole: record.is_none(),
        organization: Some(entry.organization).filter(|id| !id.is_empty()).map(str::to_owned),
        vendor_id: entry.vendor_id.map(str::to_owned),
        reason,
        body: entry.row.as_bytes().to_vec(),
    }
}

fn unreadable(chunk: &Chunk, reason: &str) -> Refused {
    Refused {
        connection: chunk.connection,
        lane: chunk.lane,
        source: chunk.source.clone(),
        number: chunk.first,
        uid: None,
        whole: true,
        organization: None,
        vendor_id: None,
        reason: format!("entries {} to {} of the outbox cannot be read: {reason}", chunk.first, chunk.last),
        body: chunk.body.clone(),
    }
}

fn panicked(panic: &(dyn Any + Send)) -> String {
    let message = panic
        .downcast_ref::<&str>()
        .map(|message| (*message).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    format!("a fault in lockstep, please report it: {message}")
}
