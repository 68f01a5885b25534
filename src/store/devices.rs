//! What is known of each computer besides its rows: its facts, and who was logged in since when.
//!
//! Collecting notes here what rows tell, and looks here what to store with each entry, in the transaction that
//! numbers the entry. So an entry carries what was known with a number not above its own, delivering needs
//! nothing but the entry, and what is forgotten here changes no entry.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::StoreError;
use crate::model::{ConnectionId, Micros, SECOND};
use crate::record::enrichment::{Computer, Enrichment, Facts, LastUser, Sighting, UserOrigin};

/// How long it is kept who was logged in before somebody else: longer than late rows come.
pub const KEPT: Micros = 90 * 24 * 3_600 * SECOND;
/// A user who is seen that much before the first time that is known of the same user is not noted: older time
/// is often read newest first, and every page would note everybody anew.
const EARLIER: Micros = 300 * SECOND;
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
    facts: Vec<Facts>,
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
            replaces: None,
        }
    }
}

/// A user, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    since: Micros,
    /// Empty for nobody.
    name: String,
    origin: UserOrigin,
}

impl Run {
    fn as_last_user(&self) -> LastUser<'_> {
        LastUser { name: &self.name, origin: self.origin, time: Some(self.since) }
    }
}

/// A computer that is known.
struct Device {
    id: i64,
    facts: Facts,
    listed: bool,
}

/// Notes the users of audit rows and answers what is known with each row at its own time.
pub fn note_seen(db: &Connection, rows: &[Option<Told>], now: Micros) -> Result<Looked, StoreError> {
    let mut looked = Looked { rows: vec![(None, None); rows.len()], ..Looked::default() };
    let mut computers: BTreeMap<(i64, &Computer), Vec<(usize, &Told)>> = BTreeMap::new();
    for (place, told) in rows.iter().enumerate() {
        let Some(told) = told else { continue };
        computers.entry((told.organization, &told.sighting.computer)).or_default().push((place, told));
    }
    for ((organization, computer), mut rows) in computers {
        rows.sort_by_key(|(_, told)| (told.at, &told.sighting.user));
        let named = rows.iter().any(|(_, told)| told.sighting.user.is_some());
        let device = match (get(db, organization, computer)?, computer) {
            (Some(device), _) => device,
            (None, Computer::Id(id)) if named => enter(db, organization, id, now)?,
            (None, _) => continue,
        };
        let (first, last) = (rows[0].1.at, rows[rows.len() - 1].1.at);
        let listed = Runs::between(db, device.id, UserOrigin::Computer, first, last)?;
        // Where the computers name the user all the time, nobody asks the audit.
        let mut seen = match listed.always() {
            true => Runs::default(),
            false => Runs::between(db, device.id, UserOrigin::UnifiedAudit, first, last)?,
        };
        if !listed.always() {
            let told = rows.iter().filter_map(|(_, told)| Some((told.at, told.sighting.user.as_deref()?)));
            seen.note(db, device.id, told)?;
        }
        let facts = device.facts.known().is_some().then(|| {
            looked.facts.push(device.facts);
            looked.facts.len() - 1
        });
        for (place, told) in rows {
            let user = match listed.told(told.at) {
                Some(run) if !run.name.is_empty() => Some(run.clone()),
                // Nobody is named any more: who was is the last user until somebody else is seen.
                Some(_) => newer(Runs::named(db, device.id, told.at)?, seen.told(told.at).cloned()),
                None => seen.told(told.at).cloned(),
            };
            let user = match user {
                Some(run) => Some(run),
                None => Runs::reported(db, device.id, told.at)?,
            };
            let user = user.map(|run| {
                if looked.users.last() != Some(&run) {
                    looked.users.push(run);
                }
                looked.users.len() - 1
            });
            looked.rows[place] = (facts, user);
        }
    }
    Ok(looked)
}

/// Notes what rows of the computers tell: the facts, and the user since the last check-in.
///
/// `origin`: the computers, or a report, which may say less and does not unmake what was said before.
pub fn note_listed(db: &Connection, told: &Told, origin: UserOrigin, now: Micros) -> Result<(), StoreError> {
    let Sighting { computer, user, facts } = &*told.sighting;
    let (Some(facts), Computer::Id(id)) = (facts, computer) else { return Ok(()) };
    let device = match by_id(db, told.organization, id)? {
        Some(device) => device,
        None => enter(db, told.organization, id, now)?,
    };
    let completed;
    let facts = match origin {
        UserOrigin::Report => {
            completed = facts.completed_by(&device.facts);
            &completed
        }
        UserOrigin::Computer | UserOrigin::UnifiedAudit => &**facts,
    };
    if !device.listed || device.facts != *facts {
        db.prepare_cached(
            "UPDATE device SET name = ?2, os = ?3, group_name = ?4, organization_name = ?5, mode = ?6,
               host = ?7, unlisted = NULL WHERE id = ?1",
        )?
        .execute(params![
            device.id,
            facts.name,
            facts.os,
            facts.group,
            facts.organization,
            facts.mode,
            facts.host
        ])?;
    }
    let newest = Runs::newest(db, device.id, origin)?;
    let name = user.as_deref().unwrap_or_default();
    if newest.as_ref().map_or("", |run| &run.name) != name {
        // The newest listing counts, also where a check-in has no time or a wrong one. That nobody is named any more
        // does not unmake who was.
        let not_before = newest.map_or(Micros::MIN, |run| run.since + Micros::from(name.is_empty()));
        let since = told.at.min(now).max(not_before);
        Runs::insert(db, device.id, origin, since, name)?;
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
pub fn note_removed(
    db: &Connection,
    organization: i64,
    computer: &str,
    now: Micros,
) -> Result<(), StoreError> {
    db.prepare_cached(
        "UPDATE device SET unlisted = ?3 WHERE organization = ?1 AND computer = ?2 AND unlisted IS NULL",
    )?
    .execute(params![organization, computer, now])?;
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
            let user = last_user(db, &device)?;
            row = (Some(looked.facts.len()), user.as_ref().map(|_| looked.users.len()));
            looked.facts.push(device.facts);
            looked.users.extend(user);
        }
        looked.rows.push(row);
    }
    Ok(looked)
}

/// The last user of a device as far as is known now.
fn last_user(db: &Connection, device: &Device) -> Result<Option<Run>, StoreError> {
    let listed = Runs::newest(db, device.id, UserOrigin::Computer)?;
    if listed.as_ref().is_some_and(|run| !run.name.is_empty()) {
        return Ok(listed);
    }
    let named = Runs::named(db, device.id, Micros::MAX)?;
    let better = newer(named, Runs::newest(db, device.id, UserOrigin::UnifiedAudit)?);
    match better {
        Some(run) => Ok(Some(run)),
        None => Runs::reported(db, device.id, Micros::MAX),
    }
}

/// Whether the last user of a listed device is another one than its last record told.
pub fn has_another_user(db: &Connection, organization: i64, computer: &str) -> Result<bool, StoreError> {
    let Some(device) = by_id(db, organization, computer)? else { return Ok(false) };
    let user = last_user(db, &device)?.map(|run| run.name).unwrap_or_default();
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
pub fn prune(db: &Connection, before: Micros, after: i64, batch: u32) -> Result<Option<i64>, StoreError> {
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
            db.prepare_cached("DELETE FROM last_user WHERE device = ?1")?.execute([id])?;
            db.prepare_cached("DELETE FROM device WHERE id = ?1")?.execute([id])?;
            continue;
        }
        db.prepare_cached(
            "DELETE FROM last_user WHERE device = ?1 AND since <
               (SELECT max(since) FROM last_user next
                WHERE next.device = ?1 AND next.origin = last_user.origin AND next.since <= ?2
                  AND next.name <> '')",
        )?
        .execute(params![id, before])?;
        db.prepare_cached(
            "DELETE FROM last_user WHERE device = ?1 AND origin = ?2 AND since <=
               (SELECT since FROM last_user WHERE device = ?1 AND origin = ?2
                ORDER BY since DESC LIMIT 1 OFFSET ?3)",
        )?
        .execute(params![id, UserOrigin::UnifiedAudit.code(), MOST_USERS])?;
    }
    Ok(devices.last().map(|(id, ..)| *id).filter(|_| devices.len() == batch as usize))
}

/// Whether any device that a connection lists is known.
pub fn any_listed(db: &Connection, connection: ConnectionId) -> Result<bool, StoreError> {
    let any = "SELECT EXISTS (SELECT 1 FROM organization o JOIN device d ON d.organization = o.id
         WHERE o.connection_id = ?1 AND d.unlisted IS NULL)";
    Ok(db.query_row(any, [connection], |row| row.get(0))?)
}

fn get(db: &Connection, organization: i64, computer: &Computer) -> Result<Option<Device>, StoreError> {
    match computer {
        Computer::Id(id) => by_id(db, organization, id),
        Computer::Host(host) => by_host(db, organization, host),
    }
}

fn by_id(db: &Connection, organization: i64, computer: &str) -> Result<Option<Device>, StoreError> {
    let mut get = db.prepare_cached(
        "SELECT id, unlisted IS NULL, name, host, os, group_name, organization_name, mode FROM device
         WHERE organization = ?1 AND computer = ?2",
    )?;
    Ok(get.query_row(params![organization, computer], read).optional()?)
}

/// The one device that is listed under this name; of several nobody knows which is meant.
fn by_host(db: &Connection, organization: i64, host: &str) -> Result<Option<Device>, StoreError> {
    let mut get = db.prepare_cached(
        "SELECT id, unlisted IS NULL, name, host, os, group_name, organization_name, mode FROM device
         WHERE organization = ?1 AND host = ?2 AND unlisted IS NULL LIMIT 2",
    )?;
    let mut devices = get.query_map(params![organization, host], read)?;
    let first = devices.next().transpose()?;
    Ok(first.filter(|_| devices.next().is_none()))
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Device> {
    let facts = Facts {
        name: row.get(2)?,
        host: row.get(3)?,
        os: row.get(4)?,
        group: row.get(5)?,
        organization: row.get(6)?,
        mode: row.get(7)?,
    };
    Ok(Device { id: row.get(0)?, listed: row.get(1)?, facts })
}

/// A computer that was never named before; the computers have not listed it yet.
fn enter(db: &Connection, organization: i64, computer: &str, now: Micros) -> Result<Device, StoreError> {
    db.prepare_cached("INSERT INTO device (organization, computer, unlisted) VALUES (?1, ?2, ?3)")?
        .execute(params![organization, computer, now])?;
    Ok(Device { id: db.last_insert_rowid(), facts: Facts::default(), listed: false })
}

/// The users of a device in a span of time, of one origin, in order of time; the first may be from before it.
#[derive(Debug, Default)]
struct Runs {
    first: Micros,
    runs: Vec<Run>,
}

impl Runs {
    fn between(
        db: &Connection,
        device: i64,
        origin: UserOrigin,
        first: Micros,
        last: Micros,
    ) -> Result<Self, StoreError> {
        let mut newest_first = db.prepare_cached(
            "SELECT since, name FROM last_user WHERE device = ?1 AND origin = ?2 AND since <= ?3
             ORDER BY since DESC",
        )?;
        let mut rows = newest_first.query(params![device, origin.code(), last])?;
        let mut runs = Vec::new();
        while let Some(row) = rows.next()? {
            let run = Run { since: row.get(0)?, name: row.get(1)?, origin };
            let is_first = run.since <= first;
            runs.push(run);
            if is_first {
                break;
            }
        }
        runs.reverse();
        Ok(Self { first, runs })
    }

    fn newest(db: &Connection, device: i64, origin: UserOrigin) -> Result<Option<Run>, StoreError> {
        Ok(Self::between(db, device, origin, Micros::MAX, Micros::MAX)?.runs.pop())
    }

    /// Whether somebody is named at every time of the span.
    fn always(&self) -> bool {
        self.runs.first().is_some_and(|run| run.since <= self.first)
            && self.runs.iter().all(|run| !run.name.is_empty())
    }

    /// What was told of a time of the span: somebody, or nobody any more.
    fn told(&self, time: Micros) -> Option<&Run> {
        let after = self.runs.partition_point(|run| run.since <= time);
        self.runs.get(after.checked_sub(1)?)
    }

    /// Whom the computers named last at a time.
    fn named(db: &Connection, device: i64, time: Micros) -> Result<Option<Run>, StoreError> {
        let origin = UserOrigin::Computer;
        let mut named = db.prepare_cached(
            "SELECT since, name FROM last_user WHERE device = ?1 AND origin = ?2 AND since <= ?3 AND name <> ''
             ORDER BY since DESC LIMIT 1",
        )?;
        let read = |row: &rusqlite::Row<'_>| Ok(Run { since: row.get(0)?, name: row.get(1)?, origin });
        Ok(named.query_row(params![device, origin.code(), time], read).optional()?)
    }

    /// Whom a report named last at a time.
    fn reported(db: &Connection, device: i64, time: Micros) -> Result<Option<Run>, StoreError> {
        let origin = UserOrigin::Report;
        let newest = Self::between(db, device, origin, time, time)?.runs.pop();
        Ok(newest.filter(|run| !run.name.is_empty()))
    }

    /// Notes users, in order of time, wherever they differ from what is known of that time.
    fn note<'n>(
        &mut self,
        db: &Connection,
        device: i64,
        users: impl Iterator<Item = (Micros, &'n str)>,
    ) -> Result<(), StoreError> {
        let origin = UserOrigin::UnifiedAudit;
        let mut noted = Vec::new();
        for (since, name) in users {
            let after = self.runs.partition_point(|run| run.since <= since);
            let run = Run { since, name: name.to_owned(), origin };
            match after.checked_sub(1).map(|before| &mut self.runs[before]) {
                Some(known) if known.name == name => continue,
                Some(known) if known.since == since => *known = run,
                _ => self.runs.insert(after, run),
            }
            noted.push(since);
        }
        noted.dedup();
        for since in noted {
            let place = self.runs.partition_point(|run| run.since < since);
            let run = &self.runs[place];
            let next = match self.runs.get(place + 1) {
                Some(next) => Some(next.clone()),
                None => next(db, device, origin, since)?,
            };
            if let Some(next) = next.filter(|next| next.name == run.name) {
                if place == 0 && next.since - since < EARLIER {
                    continue;
                }
                db.prepare_cached("DELETE FROM last_user WHERE device = ?1 AND origin = ?2 AND since = ?3")?
                    .execute(params![device, origin.code(), next.since])?;
            }
            Self::insert(db, device, origin, since, &run.name)?;
        }
        Ok(())
    }

    fn insert(
        db: &Connection,
        device: i64,
        origin: UserOrigin,
        since: Micros,
        name: &str,
    ) -> Result<(), StoreError> {
        db.prepare_cached(
            "INSERT INTO last_user (device, origin, since, name) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (device, origin, since) DO UPDATE SET name = excluded.name",
        )?
        .execute(params![device, origin.code(), since, name])?;
        Ok(())
    }
}

/// Who of two came later.
fn newer(one: Option<Run>, other: Option<Run>) -> Option<Run> {
    one.into_iter().chain(other).max_by_key(|run| run.since)
}

/// The first user after a time.
fn next(db: &Connection, device: i64, origin: UserOrigin, time: Micros) -> Result<Option<Run>, StoreError> {
    Ok(db
        .prepare_cached(
            "SELECT since, name FROM last_user WHERE device = ?1 AND origin = ?2 AND since > ?3
             ORDER BY since LIMIT 1",
        )?
        .query_row(params![device, origin.code(), time], |row| {
            Ok(Run { since: row.get(0)?, name: row.get(1)?, origin })
        })
        .optional()?)
}

#[cfg(test)]
mod tests;
