//! Rows that tell of moments, of which a computer has any number: each is told once by its id.
//!
//! Of each computer it is kept when it was last asked about to the end, and the ids of what happened since some time before
//! then. What is older is left out, so that forgetting an id tells nothing twice, and however long nobody asks, nothing is
//! missed. A list that shows the newest first is read down to what that last look covered, with days for what the portal
//! received late.

use rusqlite::Connection;

use super::{History, Made};
use crate::collect::ListedRow;
use crate::model::{Change, Micros, SECOND, folded};
use crate::store::snapshots::{self, Known, Presence};
use crate::store::{StoreError, connections};

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
    fn new(floor: Micros) -> Self {
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
    /// How far down to read.
    pub(super) fn depth(&self, db: &Connection) -> Result<Depth, StoreError> {
        let since = self.since(connections::first_seen(db, self.due.organization)?);
        let known = LATE.min(self.settings.remembered.unwrap_or(LATE));
        let covered = self.asked(db)?.map(|asked| asked - known);
        Ok(Depth::new(covered.map_or(since, |covered| since.max(covered))))
    }

    /// When the computer was last asked about to the end.
    fn asked(&self, db: &Connection) -> Result<Option<Micros>, StoreError> {
        let known = snapshots::get(db, self.settings.set, self.due.organization, &self.due.computer)?;
        Ok(known.map(|known| known.restated))
    }

    /// Before when moments of the computer are remembered no more.
    pub(super) fn forgotten(&self, db: &Connection) -> Result<Option<Micros>, StoreError> {
        let Some(remembered) = self.settings.remembered else { return Ok(None) };
        Ok(self.asked(db)?.map(|asked| asked - remembered))
    }

    /// The computer was asked about to the end: what happened long before is not told any more.
    pub(super) fn note_asked(&self, db: &Connection) -> Result<(), StoreError> {
        let Some(remembered) = self.settings.remembered else { return Ok(()) };
        let (set, organization, computer) = (self.settings.set, self.due.organization, &*self.due.computer);
        snapshots::set(db, set, organization, computer, &noted(self.now), self.now)?;
        snapshots::forget(db, set, organization, computer, self.now - remembered)
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
        if is_old || snapshots::get_or_take_over(db, set, organization, &key)?.is_some() {
            return Ok(());
        }
        // One without a time might be told at any time, so it is remembered for ever.
        let at = row.at.unwrap_or(Micros::MAX);
        snapshots::set(db, set, organization, &key, &noted(at), self.now)?;
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

/// What is kept of a moment.
fn noted(at: Micros) -> Known {
    Known { fingerprint: vec![0; 16], row: Vec::new(), presence: Presence::Present, restated: at }
}
