//! What is known of each computer besides its rows: its facts, and who was logged in since when.
//!
//! Collecting notes here what rows tell, and looks here what to store with each entry, in the transaction that
//! numbers the entry. So an entry carries what was known with a number not above its own, delivering needs
//! nothing but the entry, and what is forgotten here changes no entry.

mod recent;
mod users;

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use rusqlite::{Connection, params};

pub(super) use self::recent::Recent;
use self::recent::{Known, by_id};
use self::users::{Run, Runs, Users, newer};
use super::{StoreError, WriterDb};
use crate::model::{ConnectionId, Micros, SECOND};
use crate::record::enrichment::{Computer, Enrichment, Facts, Sighting, UserOrigin};

/// How long it is kept who was logged in before somebody else: longer than late rows come.
pub const KEPT: Micros = 90 * 24 * 3_600 * SECOND;
/// Changes of user that are kept of a computer, the newest: on one that many persons use at once they are as many
/// as rows.
const MOST_USERS: u32 = 1_000;

/// One row, as far as this module is concerned.
#[derive(Clone, Debug)]
pub struct Told {
    /// `organization.id`.
    pub organization: i64,
    /// When it happened.
    pub at: Micros,
    pub sighting: Arc<Sighting>,
}

/// What is known with each of several rows.
#[derive(Debug, Default)]
pub struct Looked {
    facts: Vec<Arc<Facts>>,
    users: Vec<Run>,
    /// For each row the place of its device's facts and of its user.
    rows: Vec<(Option<usize>, Option<usize>)>,
}

impl Looked {
    /// What is known with the row at this place.
    pub fn of(&self, place: usize) -> Enrichment<'_> {
        let (facts, user) = self.rows.get(place).copied().unwrap_or_default();
        Enrichment {
            device: facts.and_then(|facts| self.facts[facts].known()),
            user: user.map(|user| self.users[user].as_last_user()),
            ..Enrichment::default()
        }
    }
}

/// Notes the users of audit rows and answers what is known with each row at its own time.
pub fn note_seen(db: &WriterDb, rows: &[Option<Told>], now: Micros) -> Result<Looked, StoreError> {
    let mut looked = Looked { rows: vec![(None, None); rows.len()], ..Looked::default() };
    // In the order of the rows, so that the same page tells the same.
    let mut computers: Vec<(&Told, Vec<(usize, &Told)>)> = Vec::new();
    let mut places: HashMap<(i64, &Computer), usize, RandomState> = HashMap::default();
    for (place, told) in rows.iter().enumerate() {
        let Some(told) = told else { continue };
        let computer = *places.entry((told.organization, &told.sighting.computer)).or_insert_with(|| {
            computers.push((told, Vec::new()));
            computers.len() - 1
        });
        computers[computer].1.push((place, told));
    }
    let mut recent = db.recent.borrow_mut();
    for (Told { organization, sighting, .. }, mut rows) in computers {
        let (organization, computer) = (*organization, &sighting.computer);
        rows.sort_by_key(|(_, told)| (told.at, &told.sighting.user));
        let named = rows.iter().any(|(_, told)| told.sighting.user.is_some());
        let known = match computer {
            Computer::Id(id) if named => Some(recent.get_or_enter(db, organization, id, now)?),
            _ => recent.get(db, organization, computer)?,
        };
        let Some(Known { device, users, .. }) = known else { continue };
        let before = users.len();
        let (first, last) = (rows[0].1.at, rows[rows.len() - 1].1.at);
        let listed = users.between(UserOrigin::Computer, first, last);
        // Where the computers name the user all the time, nobody asks the audit.
        let mut seen = Runs::default();
        if !listed.always() {
            seen = users.between(UserOrigin::UnifiedAudit, first, last);
            let told = rows.iter().filter_map(|(_, told)| Some((told.at, told.sighting.user.as_deref()?)));
            seen.note(db, users, told)?;
        }
        let facts = device.facts.known().is_some().then(|| {
            looked.facts.push(Arc::clone(&device.facts));
            looked.facts.len() - 1
        });
        for (place, told) in rows {
            let user = match listed.told(told.at) {
                Some(run) if run.is_somebody() => Some(run),
                // Nobody is named any more: who was is the last user until somebody else is seen.
                Some(_) => newer(users.named(told.at), seen.told(told.at)),
                None => seen.told(told.at),
            };
            let user = user.or_else(|| users.reported(told.at)).map(|run| {
                if looked.users.last() != Some(run) {
                    looked.users.push(run.clone());
                }
                looked.users.len() - 1
            });
            looked.rows[place] = (facts, user);
        }
        let grown = users.len().saturating_sub(before);
        recent.grown(grown);
    }
    Ok(looked)
}

/// Notes what rows of the computers tell: the facts, and the user since the last check-in.
///
/// `origin`: the computers, or a report, which may say less and does not unmake what was said before.
pub fn note_listed(db: &WriterDb, told: &Told, origin: UserOrigin, now: Micros) -> Result<(), StoreError> {
    let Sighting { computer, user, facts } = &*told.sighting;
    let (Some(facts), Computer::Id(id)) = (facts, computer) else { return Ok(()) };
    let mut recent = db.recent.borrow_mut();
    let known = recent.get_or_enter(db, told.organization, id, now)?;
    let completed;
    let facts = match origin {
        UserOrigin::Report => {
            completed = facts.completed_by(&known.device.facts);
            &completed
        }
        UserOrigin::Computer | UserOrigin::UnifiedAudit => &**facts,
    };
    if !known.device.listed || *known.device.facts != *facts {
        db.prepare_cached(
            "UPDATE device SET name = ?2, os = ?3, group_name = ?4, organization_name = ?5, mode = ?6,
               host = ?7, unlisted = NULL WHERE id = ?1",
        )?
        .execute(params![
            known.device.id,
            facts.name,
            facts.os,
            facts.group,
            facts.organization,
            facts.mode,
            facts.host
        ])?;
        (known.device.listed, known.device.facts) = (true, Arc::new(facts.clone()));
    }
    let newest = known.users.newest(origin);
    let name = user.as_deref().unwrap_or_default();
    if newest.map_or("", |run| &run.name) != name {
        // The newest listing counts, also where a check-in has no time or a wrong one. That nobody is named any more
        // does not unmake who was.
        let not_before = newest.map_or(Micros::MIN, |run| run.since + Micros::from(name.is_empty()));
        let since = told.at.min(now).max(not_before);
        known.users.insert(db, origin, since, name)?;
        recent.grown(1);
    }
    Ok(())
}

/// Notes when a listed device last spoke to the portal, as the computers tell.
pub fn note_checkin(
    db: &Connection,
    organization: i64,
    computer: &str,
    checkin: Micros,
) -> Result<(), StoreError> {
    db.prepare_cached(
        "UPDATE device SET seen = ?3 WHERE organization = ?1 AND computer = ?2 AND seen IS NOT ?3",
    )?
    .execute(params![organization, computer, checkin])?;
    Ok(())
}

/// Notes that the computers do not list a device any more.
pub fn note_removed(db: &WriterDb, organization: i64, computer: &str, now: Micros) -> Result<(), StoreError> {
    db.prepare_cached(
        "UPDATE device SET unlisted = ?3 WHERE organization = ?1 AND computer = ?2 AND unlisted IS NULL",
    )?
    .execute(params![organization, computer, now])?;
    if let Some(known) = db.recent.borrow_mut().by_id(db, organization, computer)? {
        known.device.listed = false;
    }
    Ok(())
}

/// What is known of computers at last.
pub fn look<'c>(
    db: &Connection,
    computers: impl Iterator<Item = (i64, &'c str)>,
) -> Result<Looked, StoreError> {
    let mut looked = Looked::default();
    for (organization, computer) in computers {
        let mut row = (None, None);
        if let Some(device) = by_id(db, organization, computer)? {
            let users = Users::read(db, device.id)?;
            let user = users.last();
            row = (Some(looked.facts.len()), user.map(|_| looked.users.len()));
            looked.facts.push(device.facts);
            looked.users.extend(user.cloned());
        }
        looked.rows.push(row);
    }
    Ok(looked)
}

/// Whether the last user of a listed device is another one than its last record told.
pub fn has_another_user(db: &WriterDb, organization: i64, computer: &str) -> Result<bool, StoreError> {
    let mut recent = db.recent.borrow_mut();
    let Some(Known { device, users, .. }) = recent.by_id(db, organization, computer)? else {
        return Ok(false);
    };
    let user = users.last().map_or("", |run| &run.name);
    let told = "SELECT told FROM device WHERE id = ?1";
    let told: String = db.prepare_cached(told)?.query_row([device.id], |row| row.get(0))?;
    Ok(user != told)
}

/// Notes who a record of a device tells as its last user.
pub fn note_told(
    db: &Connection,
    organization: i64,
    computer: &str,
    user: Option<&str>,
) -> Result<(), StoreError> {
    db.prepare_cached("UPDATE device SET told = ?3 WHERE organization = ?1 AND computer = ?2")?
        .execute(params![organization, computer, user.unwrap_or_default()])?;
    Ok(())
}

/// Forgets, for up to `batch` devices after `after`, the users who were followed by others before `before`, and the
/// devices that were not listed and not used since; all of a site that is configured no more and owes nothing.
/// Answers the device to go on after; none at the end.
pub fn prune(db: &WriterDb, before: Micros, after: i64, batch: u32) -> Result<Option<i64>, StoreError> {
    let mut devices = db.prepare_cached(
        "SELECT d.id, d.unlisted IS NOT NULL AND d.unlisted < ?3
                  AND NOT EXISTS (SELECT 1 FROM last_user WHERE device = d.id AND since >= ?3),
                c.id IS NULL OR
                c.epoch < 0 AND NOT EXISTS (SELECT 1 FROM outbox WHERE connection_id = c.id)
         FROM device d LEFT JOIN organization o ON o.id = d.organization
         LEFT JOIN connection c ON c.id = o.connection_id
         WHERE d.id > ?1 ORDER BY d.id LIMIT ?2",
    )?;
    let devices: Vec<(i64, bool, bool)> = devices
        .query_map(params![after, batch, before], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_, _>>()?;
    for (id, unused, retired) in &devices {
        if *unused || *retired {
            db.recent.borrow_mut().forget(*id);
            db.prepare_cached("DELETE FROM last_user WHERE device = ?1")?.execute([id])?;
            db.prepare_cached("DELETE FROM device WHERE id = ?1")?.execute([id])?;
            continue;
        }
        let followed = db
            .prepare_cached(
                "DELETE FROM last_user WHERE device = ?1 AND since <
               (SELECT max(since) FROM last_user next
                WHERE next.device = ?1 AND next.origin = last_user.origin AND next.since <= ?2
                  AND next.name <> '')",
            )?
            .execute(params![id, before])?;
        let too_many = db
            .prepare_cached(
                "DELETE FROM last_user WHERE device = ?1 AND origin = ?2 AND since <=
               (SELECT since FROM last_user WHERE device = ?1 AND origin = ?2
                ORDER BY since DESC LIMIT 1 OFFSET ?3)",
            )?
            .execute(params![id, UserOrigin::UnifiedAudit.code(), MOST_USERS])?;
        if followed + too_many > 0 {
            db.recent.borrow_mut().forget(*id);
        }
    }
    Ok(devices.last().map(|(id, ..)| *id).filter(|_| devices.len() == batch as usize))
}

/// Whether any device that a connection lists is known.
pub fn any_listed(db: &Connection, connection: ConnectionId) -> Result<bool, StoreError> {
    let any = "SELECT EXISTS (SELECT 1 FROM organization o JOIN device d ON d.organization = o.id
         WHERE o.connection_id = ?1 AND d.unlisted IS NULL)";
    Ok(db.query_row(any, [connection], |row| row.get(0))?)
}

#[cfg(test)]
mod tests;
