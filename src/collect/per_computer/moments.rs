//! Rows that tell of moments, of which a computer has any number: each is told once by its id.
//!
//! Of each computer a line in time is kept, and the ids of what happened since. A look that comes to the end of a list
//! moves the line to as long before it as moments are remembered, and never back, whatever is set later: what is older
//! than the line is left out, so that forgetting an id tells nothing twice. However long nobody asks, the line stays, so
//! nothing is missed. A list that shows the newest first is read down to the line: what the portal received late stands
//! between those that were told.

use rusqlite::Connection;

use super::{History, Made};
use crate::collect::ListedRow;
use crate::model::{Change, Micros, folded};
use crate::store::snapshots::{self, Known, Presence};
use crate::store::{StoreError, connections};

/// How far down a computer's list has to be read.
#[derive(Debug)]
pub(super) struct Depth {
    /// What is older is not told.
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
    /// How far down to read; of what another site tells no further than the first page.
    pub(super) fn depth(&self, db: &Connection) -> Result<Depth, StoreError> {
        if !self.claims(db)? {
            return Ok(Depth::new(Micros::MAX));
        }
        let since = self.since(connections::first_seen(db, self.due.organization)?);
        Ok(Depth::new(self.line(db)?.map_or(since, |line| since.max(line))))
    }

    /// Before when moments of the computer are told no more, if it was ever asked about to the end: by this site, or by
    /// the one that told of it before.
    pub(super) fn line(&self, db: &Connection) -> Result<Option<Micros>, StoreError> {
        if self.settings.remembered.is_none() {
            return Ok(None);
        }
        let (set, organization) = (self.settings.set, self.due.organization);
        let known = snapshots::get(db, set, organization, &self.due.computer)?;
        Ok(known.map(|known| known.restated))
    }

    /// The computer was asked about to the end: what happened long before is not told any more. Where another site tells
    /// of it, that one moves the line.
    pub(super) fn note_asked(&self, db: &Connection) -> Result<(), StoreError> {
        let Some(remembered) = self.settings.remembered else { return Ok(()) };
        if !self.claims(db)? {
            return Ok(());
        }
        let (set, organization, computer) = (self.settings.set, self.due.organization, &*self.due.computer);
        let reached = self.now - remembered;
        let line = self.line(db)?.map_or(reached, |line| line.max(reached));
        snapshots::set(db, set, organization, computer, &noted(line), self.now)?;
        snapshots::forget(db, set, organization, computer, line)
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

/// What is kept of a moment, and of the line.
fn noted(at: Micros) -> Known {
    Known { fingerprint: vec![0; 16], row: Vec::new(), presence: Presence::Present, restated: at }
}
