//! What a sink cannot have becomes a dead letter, unless too much of it does.

use super::assemble::Refused;
use super::refusals::Refusals;
use super::{DeliverError, Worker};
use crate::model::Micros;
use crate::sink::{Batch, Refusal};
use crate::store::dead_letters::{self, NewDeadLetter};

impl Worker {
    /// Commits dead letters, unless there are too many.
    pub(super) async fn bury(
        &mut self,
        refused: Vec<Refused>,
        refusals: &Refusals,
    ) -> Result<(), DeliverError> {
        let Some(last) = refused.last() else { return Ok(()) };
        if self.settings.most_refused.is_some_and(|percent| refusals.too_many(percent)) {
            return Err(DeliverError::Refused { refused: refusals.count(), reason: last.reason.clone() });
        }
        tracing::warn!(count = refused.len(), reason = last.reason, "entries became dead letters");
        let (name, limit) = (self.name.clone(), self.settings.dead_letter_bytes);
        let stored: Micros = self.clock.now().timestamp_micros();
        let buried = self.store.write(move |db| {
            let mut buried = 0;
            for letter in &refused {
                if dead_letters::usage(db)?.1 >= limit {
                    return Ok(None);
                }
                let place = (letter.connection, letter.lane, letter.number);
                let entry = dead_letters::entry(db, &name, place, letter.whole)?;
                let letter = NewDeadLetter { entry, ..new_letter(letter, &name, stored) };
                buried += u64::from(dead_letters::insert(db, &letter)?);
            }
            Ok(Some(buried))
        });
        let buried = buried.await?.ok_or(DeliverError::DeadLettersFull { limit })?;
        self.status.send_modify(|status| status.dead_letters += buried);
        Ok(())
    }
}

/// The dead letter of a record that the sink refused.
pub(super) fn by_sink(batch: &Batch, refusal: &Refusal) -> Refused {
    let record = &batch.records[refusal.record];
    Refused {
        connection: record.connection,
        lane: record.lane,
        source: record.source.to_string(),
        number: record.number,
        uid: Some(record.uid),
        whole: false,
        organization: (!record.organization.is_none()).then(|| record.organization.to_string()),
        vendor_id: None,
        reason: refusal.reason.clone(),
        body: batch.bytes(record).to_vec(),
    }
}

fn new_letter<'a>(letter: &'a Refused, sink: &'a str, stored: Micros) -> NewDeadLetter<'a> {
    NewDeadLetter {
        sink: Some(sink),
        connection: letter.connection,
        source: &letter.source,
        organization_id: letter.organization.as_deref(),
        number: Some(letter.number),
        uid: letter.uid,
        vendor_id: letter.vendor_id.as_deref(),
        reason: &letter.reason,
        stored,
        body: &letter.body,
        entry: None,
    }
}
