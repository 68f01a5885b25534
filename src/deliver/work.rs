//! What there is to deliver next, and the batch that is made of it.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::assemble::{self, Assembled, Bounds, Outcome};
use super::{DeliverError, Worker};
use crate::budget::Reservation;
use crate::format::{Encoded, Origin};
use crate::model::{Entry, Lane};
use crate::record::enrichment::Enrichment;
use crate::store::outbox::{self, PendingLane};
use crate::store::replays::{self, Replay};
use crate::store::{StoreError, connections, refill};

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

impl Worker {
    /// What there is to do, and what comes first of it.
    pub(super) async fn pending(&mut self) -> Result<Option<Work>, StoreError> {
        let (name, chosen) = (self.name.clone(), !self.select.sites.is_empty());
        let pending = move |db: &rusqlite::Connection| {
            let all = outbox::pending(db, &name)?;
            let heirs = if chosen { connections::heirs(db)? } else { HashMap::new() };
            // Whether the sink wants what a renamed site has still to deliver shows once that site is known.
            let decided = all.iter().filter(|lane| heirs.get(&lane.site) != Some(&None));
            let lanes: Vec<PendingLane> = decided.cloned().collect();
            let replay = if lanes.is_empty() { replays::next(db, &name)? } else { None };
            Ok((all, lanes, replay))
        };
        let (all, lanes, replay) = self.store.read(pending).await?;
        self.status.send_modify(|status| status.set_pending(&all));
        Ok(match replay {
            Some(replay) => Some(Work::Again(replay)),
            None => (!lanes.is_empty()).then_some(Work::Pending(lanes)),
        })
    }

    /// None when stopped while waiting for memory.
    pub(super) async fn assemble(
        &mut self,
        work: &Work,
        mut memory: usize,
        stop: &CancellationToken,
    ) -> Result<Option<(Assembled, Reservation)>, DeliverError> {
        self.turn = self.turn.wrapping_add(1);
        // Read for every batch, so that a key that was changed counts at once.
        let redaction = match &self.redact {
            Some(redact) => Some(redact.ready().await?),
            None => None,
        };
        loop {
            let wanted = u64::try_from(memory).expect("memory is smaller");
            let mut reservation = tokio::select! {
                () = stop.cancelled() => return Ok(None),
                reservation = self.budget.reserve(wanted) => reservation,
            };
            let (work, turn, format, name) = (work.clone(), self.turn, self.format, self.name.clone());
            let (redaction, select) = (redaction.clone(), Arc::clone(&self.select));
            let bounds = Bounds { batch: self.settings.batch_bytes, memory };
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
                let read = |db: &rusqlite::Connection, lane: &PendingLane, position, bytes| match &work {
                    Work::Again(replay) => replays::read_after(db, &name, replay, position, bytes),
                    Work::Pending(_) if lane.lane == Lane::Refill => {
                        refill::read_after(db, &name, lane.connection, position, bytes)
                    }
                    Work::Pending(_) => outbox::read_after(db, lane.connection, lane.lane, position, bytes),
                };
                assemble::assemble(db, work.lanes(), turn, bounds, read, encode).map(Ok)
            };
            match self.store.read(assemble).await?? {
                Outcome::Batch(assembled) => {
                    // A far side may take its time: meanwhile the others have what this batch does not need.
                    reservation.shrink(u64::try_from(assembled.memory()).expect("memory is smaller"));
                    return Ok(Some((assembled, reservation)));
                }
                Outcome::NeedsMemory(bytes) => memory = bytes,
            }
        }
    }
}
