//! Rows that tell of moments, of which a computer has any number: each is told once by its id.
//!
//! Ids are remembered for as long as a row may be listed and told: what is older than that, or happened before the
//! backfill, is left out, so that forgetting an id tells nothing twice. A list that shows the newest first is read
//! down to what the last complete look covered, with days for what the portal received late.

use rusqlite::Connection;

use super::{History, Made};
use crate::collect::ListedRow;
use crate::model::{Change, Micros, SECOND, folded};
use crate::store::StoreError;
use crate::store::snapshots::{self, Known, Presence};

/// How late rows are looked for again.
const LATE: Micros = 7 * 86_400 * SECOND;

/// How far down a computer's list has to be read.
#[derive(Debug)]
pub(super) struct Depth {
    /// What is older was covered before, or is not told.
    floor: Micros,
    /// The oldest row so far, while each was older than the one before.
    oldest: Option<Micros>,
    descends: bool,
}

impl Depth {
    /// `since`: nothing older is told. `asked`: when the computer was last asked about to the end.
    pub(super) fn new(since: Micros, asked: Option<Micros>) -> Self {
        let floor = asked.map_or(since, |asked| since.max(asked - LATE));
        Self { floor, oldest: None, descends: true }
    }

    /// Takes in a page. Answers whether the rest is older than what is wanted.
    pub(super) fn is_reached(&mut self, rows: &[ListedRow]) -> bool {
        for at in rows.iter().filter_map(|row| row.at) {
            self.descends &= self.oldest.is_none_or(|oldest| at <= oldest);
            self.oldest = Some(at);
        }
        self.descends && self.oldest.is_some_and(|oldest| oldest < self.floor)
    }
}

impl History {
    /// Nothing older is told: what happened before the backfill, and what may be forgotten again.
    pub(super) fn since_moment(&self, since: Micros, remembered: Micros) -> Micros {
        since.max(self.now - remembered)
    }

    /// The entry of a row, if it was not told.
    pub(super) fn note_moment<'r>(
        &self,
        db: &Connection,
        row: &'r ListedRow,
        since: Micros,
        made: &mut Vec<Made<'r>>,
    ) -> Result<(), StoreError> {
        let Some(vendor_id) = row.vendor_id.as_deref() else { return Ok(()) };
        let (set, organization) = (self.settings.set, self.due.organization);
        let key = format!("{}/{}", self.due.computer, folded(vendor_id));
        let is_old = row.at.is_some_and(|at| at < since);
        if is_old || snapshots::get(db, set, organization, &key)?.is_some() {
            return Ok(());
        }
        // One without a time might be told at any time, so it is remembered for ever.
        let restated = row.at.unwrap_or(Micros::MAX);
        let known =
            Known { fingerprint: vec![0; 16], row: Vec::new(), presence: Presence::Present, restated };
        snapshots::set(db, set, organization, &key, &known, self.now)?;
        made.push(Made {
            change: Change::New,
            vendor_id: key,
            occurrence: "told".to_owned(),
            time: row.at,
            row: std::str::from_utf8(&row.body).expect("a listed row is checked text"),
            previous: None,
        });
        Ok(())
    }
}
