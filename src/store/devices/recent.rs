//! The computers that rows named lately, in memory as the tables have them: most rows name one of them.
//!
//! Whoever writes to the tables writes here as well, or forgets here; where something is undone, all is forgotten.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use rusqlite::{Connection, OptionalExtension, params};

use super::users::Users;
use crate::model::Micros;
use crate::record::enrichment::{Computer, Facts};
use crate::store::StoreError;

/// How many devices and changes of user are held at most: some ten megabytes.
pub(super) const MOST: usize = 32_768;

/// A computer that is known.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) id: i64,
    pub(super) facts: Arc<Facts>,
    pub(super) listed: bool,
}

/// A computer that is known, with its users.
#[derive(Debug)]
pub(super) struct Known {
    organization: i64,
    computer: String,
    pub(super) device: Device,
    pub(super) users: Users,
}

/// What is in memory.
#[derive(Debug, Default)]
pub(in crate::store) struct Recent {
    /// Each device's short key, by its organization's and the vendor's id.
    ids: HashMap<i64, HashMap<String, i64, RandomState>>,
    known: HashMap<i64, Known, RandomState>,
    held: usize,
}

impl Recent {
    pub(in crate::store) fn clear(&mut self) {
        *self = Self::default();
    }

    /// A device is deleted, or some of its users. Its short key may come to be another's.
    pub(super) fn forget(&mut self, device: i64) {
        let Some(Known { organization, computer, users, .. }) = self.known.remove(&device) else { return };
        self.held = self.held.saturating_sub(1 + users.len());
        self.ids.get_mut(&organization).map(|ids| ids.remove(&computer));
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// So many changes of user were written.
    pub(super) fn grown(&mut self, by: usize) {
        self.held += by;
        if self.held > MOST {
            self.clear();
        }
    }

    pub(super) fn get(
        &mut self,
        db: &Connection,
        organization: i64,
        computer: &Computer,
    ) -> Result<Option<&mut Known>, StoreError> {
        match computer {
            Computer::Id(id) => self.by_id(db, organization, id),
            Computer::Host(host) => match by_host(db, organization, host)? {
                Some(id) => self.by_id(db, organization, &id),
                None => Ok(None),
            },
        }
    }

    pub(super) fn by_id(
        &mut self,
        db: &Connection,
        organization: i64,
        computer: &str,
    ) -> Result<Option<&mut Known>, StoreError> {
        let id = match self.ids.get(&organization).and_then(|ids| ids.get(computer)) {
            Some(id) => *id,
            None => match by_id(db, organization, computer)? {
                Some(device) => self.remember(db, organization, computer, device)?,
                None => return Ok(None),
            },
        };
        Ok(self.known.get_mut(&id))
    }

    /// A computer that was never named before is entered; the computers have not listed it yet.
    pub(super) fn get_or_enter(
        &mut self,
        db: &Connection,
        organization: i64,
        computer: &str,
        now: Micros,
    ) -> Result<&mut Known, StoreError> {
        if self.by_id(db, organization, computer)?.is_none() {
            db.prepare_cached("INSERT INTO device (organization, computer, unlisted) VALUES (?1, ?2, ?3)")?
                .execute(params![organization, computer, now])?;
        }
        let known = self.by_id(db, organization, computer)?;
        Ok(known.expect("it was there or has just been entered"))
    }

    fn remember(
        &mut self,
        db: &Connection,
        organization: i64,
        computer: &str,
        device: Device,
    ) -> Result<i64, StoreError> {
        let (id, users) = (device.id, Users::read(db, device.id)?);
        if self.held + users.len() >= MOST {
            self.clear();
        }
        self.held += 1 + users.len();
        self.ids.entry(organization).or_default().insert(computer.to_owned(), id);
        let known = Known { organization, computer: computer.to_owned(), device, users };
        self.known.insert(id, known);
        Ok(id)
    }
}

/// A device as the table has it.
pub(super) fn by_id(
    db: &Connection,
    organization: i64,
    computer: &str,
) -> Result<Option<Device>, StoreError> {
    let mut get = db.prepare_cached(
        "SELECT id, unlisted IS NULL, name, host, os, group_name, organization_name, mode FROM device
         WHERE organization = ?1 AND computer = ?2",
    )?;
    let read = |row: &rusqlite::Row<'_>| {
        let facts = Facts {
            name: row.get(2)?,
            host: row.get(3)?,
            os: row.get(4)?,
            group: row.get(5)?,
            organization: row.get(6)?,
            mode: row.get(7)?,
        };
        Ok(Device { id: row.get(0)?, listed: row.get(1)?, facts: Arc::new(facts) })
    };
    Ok(get.query_row(params![organization, computer], read).optional()?)
}

/// The id of the one device that is listed under this name; of several nobody knows which is meant.
fn by_host(db: &Connection, organization: i64, host: &str) -> Result<Option<String>, StoreError> {
    let mut get = db.prepare_cached(
        "SELECT computer FROM device WHERE organization = ?1 AND host = ?2 AND unlisted IS NULL LIMIT 2",
    )?;
    let mut devices = get.query_map(params![organization, host], |row| row.get(0))?;
    let first = devices.next().transpose()?;
    Ok(first.filter(|_| devices.next().is_none()))
}
