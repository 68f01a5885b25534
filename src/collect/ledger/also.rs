//! Rows that belong to another source, too: rated rows of the unified audit are threats.

use uuid::Uuid;

use super::StreamLedger;
use crate::collect::window::{Commit, Notes, RowCommit};
use crate::coverage::Axis;
use crate::model::{Micros, SECOND, Seconds};
use crate::store::seen::ListedBy;
use crate::store::{StoreError, WriterDb, backfill, streams};

/// The ledger of another source's stream of the same scope, in which rated rows are entered with the page that
/// lists them, whether or not its own query ever does. They count there only once it does.
#[derive(Clone)]
pub struct Also {
    pub ledger: StreamLedger,
    /// Where that stream will begin, as long as it has not: older rows do not enter.
    pub start: Seconds,
}

impl Also {
    /// Enters the rated ones of a page.
    pub(super) fn enter(&self, db: &WriterDb, page: &Commit, stored: Micros) -> Result<(), StoreError> {
        let mut rated = page.rows.iter().filter_map(|row| Some((row, row.also?))).peekable();
        if rated.peek().is_none() {
            return Ok(());
        }
        let stream = self.ledger.stream;
        // Notes that cannot be read are told of by the stream that loads them.
        let notes: Notes =
            serde_json::from_str(&streams::notes(db, stream)?.unwrap_or_default()).unwrap_or_default();
        let start = notes.start.unwrap_or(self.start);
        let start =
            backfill::earliest(db, stream)?.map_or(start, |asked| asked.min(start)).saturating_mul(SECOND);
        let is_imported = |notes: &Notes| notes.observed.axis == Axis::Imported;
        let other_axis = page.notes.as_ref().is_some_and(|own| is_imported(own) != is_imported(&notes));
        let of = |(row, uid): (&RowCommit, Uuid)| {
            let (at, other) = match row.other {
                Some(other) if other_axis => (other, Some(row.at)),
                other => (row.at, other),
            };
            let enter = row.enter && other.map_or(at, |other| other.max(at)) >= start;
            // What the other query withheld, since it begins later, is owed all the same.
            RowCommit { uid, at, other, enter, owed: true, ..row.clone() }
        };
        let rows = rated.map(of).collect();
        let mut rated = Commit { lane: page.lane, collected: page.collected, rows, ..Commit::default() };
        self.ledger.refill(db, &rated)?;
        rated.rows.retain(|row| row.enter);
        self.ledger.enter(db, &rated, stored, ListedBy::Another)?;
        Ok(())
    }
}
