//! The connection that writes, and what is in memory of its tables.

use std::cell::RefCell;
use std::ops::Deref;

use rusqlite::Connection;

use super::StoreError;
use super::devices::Recent;
use super::seen::Young;

/// What a job that may write is given. Nothing else writes to the database, so what is in memory of it holds.
pub struct WriterDb {
    db: Connection,
    pub(super) young: RefCell<Young>,
    pub(super) recent: RefCell<Recent>,
}

impl WriterDb {
    /// Reads all young rows. The connection must be the only one that writes.
    pub(super) fn new(db: Connection) -> Result<Self, StoreError> {
        let young = RefCell::new(Young::of(&db)?);
        Ok(Self { db, young, recent: RefCell::default() })
    }

    /// What a job did is undone, while its transaction goes on.
    pub(super) fn undone(&self) {
        self.recent.borrow_mut().clear();
    }

    /// A transaction has ended; `all_lasts` says whether everything that was done in it does.
    pub(super) fn settle(&self, all_lasts: bool) {
        self.young.borrow_mut().settle(all_lasts);
        if !all_lasts {
            self.undone();
        }
    }
}

impl Deref for WriterDb {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.db
    }
}
