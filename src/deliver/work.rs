//! What there is to deliver next, and the batch that is made of it.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::DeliverError;
use super::assemble::{self, Assembled, Bounds, MEMORY_FACTOR, Outcome};
use crate::budget::{Budget, Reservation};
use crate::format::{Encoded, Format, Origin};
use crate::model::{Entry, Lane, Positions};
use crate::record::enrichment::Enrichment;
use crate::redact::Redact;
use crate::select::Select;
use crate::store::outbox::{self, PendingLane};
use crate::store::replays::{self, Replay};
use crate::store::{Store, StoreError, connections, refill};

/// What a round delivers.
#[derive(Clone, Debug)]
pub(super) enum Work {
    Pending(Vec<PendingLane>),
    /// Once nothing is pending: what it had before.
    Again(Replay),
}

impl Work {
    fn lanes(&self) -> &[PendingLane] {
        match self {
            Work::Pending(lanes) => lanes,
            Work::Again(replay) => std::slice::from_ref(&replay.pending),
        }
    }
}

/// Finds what there is to deliver to one sink, and puts it together.
#[derive(Clone)]
pub(super) struct Assembler {
    pub(super) name: String,
    pub(super) format: Format,
    pub(super) redact: Option<Redact>,
    pub(super) select: Arc<Select>,
    pub(super) store: Store,
    pub(super) budget: Budget,
    /// Encoded bytes of a batch.
    pub(super) batch_bytes: usize,
}

/// A batch that is ready, with the memory that it takes.
pub(super) struct Ready {
    pub(super) work: Work,
    pub(super) assembled: Assembled,
    pub(super) memory: Reservation,
}

impl Ready {
    /// Whether there is likely more than this: it is a batch of the outbox, and fuller than by chance.
    pub(super) fn leaves_more(&self, batch_bytes: usize) -> bool {
        matches!(self.work, Work::Pending(_)) && self.assembled.batch.buffer.len() >= batch_bytes / 2
    }
}

/// What is pending, and of it what is to be delivered next.
pub(super) struct Pending {
    pub(super) all: Vec<PendingLane>,
    pub(super) next: Option<Work>,
}

/// What was looked up while a batch was written.
pub(super) struct Ahead {
    /// Pending then, that batch included.
    pub(super) pending: Vec<PendingLane>,
    pub(super) ready: Option<Ready>,
}

/// How an attempt to put a batch together ended.
enum Attempt {
    Ready(Box<Ready>),
    /// The next entry alone needs so many bytes.
    NeedsMemory(usize),
}

impl Assembler {
    /// What there is to do, and what comes first of it.
    pub(super) async fn pending(&self) -> Result<Pending, StoreError> {
        let (name, chosen) = (self.name.clone(), !self.select.sites.is_empty());
        let pending = move |db: &rusqlite::Connection| {
            let all = outbox::pending(db, &name)?;
            let heirs = if chosen { connections::heirs(db)? } else { HashMap::new() };
            // Whether the sink wants what a renamed site has still to deliver shows once that site is known.
            let decided = all.iter().filter(|lane| heirs.get(&lane.site) != Some(&None));
            let lanes: Vec<PendingLane> = decided.cloned().collect();
            let replay = if lanes.is_empty() { replays::next(db, &name)? } else { None };
            let next = match replay {
                Some(replay) => Some(Work::Again(replay)),
                None => (!lanes.is_empty()).then_some(Work::Pending(lanes)),
            };
            Ok(Pending { all, next })
        };
        self.store.read(pending).await
    }

    /// The batch of this work. None when stopped while waiting for memory. `turn` changes from batch to batch.
    pub(super) async fn assemble(
        &self,
        work: Work,
        turn: usize,
        stop: &CancellationToken,
    ) -> Result<Option<Ready>, DeliverError> {
        let mut memory = self.memory();
        loop {
            let reservation = tokio::select! {
                () = stop.cancelled() => return Ok(None),
                reservation = self.budget.reserve(bytes(memory)) => reservation,
            };
            match self.attempt(work.clone(), turn, memory, reservation).await? {
                Attempt::Ready(ready) => return Ok(Some(*ready)),
                Attempt::NeedsMemory(bytes) => memory = bytes,
            }
        }
    }

    /// The batch that comes once these positions are confirmed, as far as the memory for it is free.
    pub(super) async fn look_ahead(
        &self,
        positions: Positions,
        turn: usize,
    ) -> Result<Option<Ahead>, DeliverError> {
        let memory = self.memory();
        let Some(reservation) = self.budget.try_reserve(bytes(memory)) else { return Ok(None) };
        let Pending { all: pending, next } = self.pending().await?;
        let mut lanes = match next {
            Some(Work::Pending(lanes)) => lanes,
            Some(Work::Again(_)) | None => Vec::new(),
        };
        lanes.retain_mut(|lane| {
            let reached = positions.get(&(lane.connection, lane.lane));
            lane.position = reached.map_or(lane.position, |reached| lane.position.max(*reached));
            lane.position < lane.last
        });
        let ready = match lanes.is_empty() {
            true => None,
            false => match self.attempt(Work::Pending(lanes), turn, memory, reservation).await? {
                Attempt::Ready(ready) => Some(*ready),
                Attempt::NeedsMemory(_) => None,
            },
        };
        Ok(Some(Ahead { pending, ready }))
    }

    fn memory(&self) -> usize {
        self.batch_bytes.saturating_mul(MEMORY_FACTOR)
    }

    async fn attempt(
        &self,
        work: Work,
        turn: usize,
        memory: usize,
        mut reservation: Reservation,
    ) -> Result<Attempt, DeliverError> {
        // Read for every batch, so that a key that was changed counts from the next one on that is put together.
        let redaction = match &self.redact {
            Some(redact) => Some(redact.ready().await?),
            None => None,
        };
        let (format, name, select) = (self.format, self.name.clone(), Arc::clone(&self.select));
        let bounds = Bounds { batch: self.batch_bytes, memory };
        let of = work.clone();
        let assemble = move |db: &rusqlite::Connection| {
            let wanted = match connections::ids_of_organizations(db, &select.organizations)? {
                Ok(wanted) => wanted,
                Err(name) => return Ok(Err(DeliverError::UnknownOrganization { name })),
            };
            let heirs = if select.sites.is_empty() { HashMap::new() } else { connections::heirs(db)? };
            let encode = |origin: Origin<'_>,
                          entry: &Entry<'_>,
                          known: Enrichment<'_>,
                          out: &mut Vec<u8>,
                          records: &mut Vec<Encoded>| {
                let mut labels = heirs.get(origin.site).into_iter().flatten().flatten();
                let takes = select.takes_source(origin.site, origin.source)
                    || labels.any(|site| select.takes_source(site, origin.source));
                if !takes || !select.takes_entry(entry, &wanted) {
                    return Ok(());
                }
                #[cfg(feature = "failpoints")]
                crate::fault::refuse(entry.row)?;
                let start = out.len();
                match &redaction {
                    None => format.encode(origin, entry, known, out, records),
                    Some(redaction) => {
                        let redacted = redaction.apply(origin.source, entry, &known)?;
                        let known = redacted.known(&known);
                        format.encode(origin, &redacted.entry(entry), known, out, records)
                    }
                }?;
                select.retain(start, out, records);
                Ok(())
            };
            let read = |db: &rusqlite::Connection, lane: &PendingLane, position, bytes| match &of {
                Work::Again(replay) => replays::read_after(db, &name, replay, position, bytes),
                Work::Pending(_) if lane.lane == Lane::Refill => {
                    refill::read_after(db, &name, lane.connection, position, bytes)
                }
                Work::Pending(_) => outbox::read_after(db, lane.connection, lane.lane, position, bytes),
            };
            assemble::assemble(db, of.lanes(), turn, bounds, read, encode).map(Ok)
        };
        Ok(match self.store.read(assemble).await?? {
            Outcome::Batch(assembled) => {
                // A far side may take its time: meanwhile the others have what this batch does not need.
                reservation.shrink(bytes(assembled.memory()));
                Attempt::Ready(Box::new(Ready { work, assembled, memory: reservation }))
            }
            Outcome::NeedsMemory(bytes) => Attempt::NeedsMemory(bytes),
        })
    }
}

fn bytes(memory: usize) -> u64 {
    u64::try_from(memory).expect("memory is smaller")
}
