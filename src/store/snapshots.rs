//! The last known row of each thing in a snapshot source, and how often it entered each of its states.

use rusqlite::{Connection, OptionalExtension, params};

use super::{StoreError, compress};
use crate::model::{ConnectionId, Micros, OrganizationId};

/// The largest row that a page can hold, and some.
pub(super) const LARGEST_ROW: usize = 160 * 1024 * 1024;

/// What is believed of one thing's presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    Present,
    /// Absent from one complete walk.
    Missing,
    /// Absent together with too many others to believe it.
    Unknown,
    Removed,
}

impl Presence {
    fn as_str(self) -> &'static str {
        match self {
            Presence::Present => "present",
            Presence::Missing => "missing",
            Presence::Unknown => "unknown",
            Presence::Removed => "removed",
        }
    }

    pub(super) fn from_name(name: &str) -> Self {
        match name {
            "missing" => Presence::Missing,
            "unknown" => Presence::Unknown,
            "removed" => Presence::Removed,
            _ => Presence::Present,
        }
    }
}

/// The last known row of a thing.
#[derive(Clone, Debug)]
pub struct Known {
    pub fingerprint: Vec<u8>,
    /// The vendor's bytes, as last entered.
    pub row: Vec<u8>,
    pub presence: Presence,
    /// The restatement that last sent it.
    pub restated: Micros,
}

/// What is known of one thing, if anything.
pub fn get(
    db: &Connection,
    set: i64,
    organization: i64,
    vendor_id: &str,
) -> Result<Option<Known>, StoreError> {
    let found = db
        .prepare_cached(
            "SELECT fingerprint, row, state, restated FROM snapshot
             WHERE set_id = ?1 AND organization = ?2 AND vendor_id = ?3",
        )?
        .query_row(params![set, organization, vendor_id], |row| {
            Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, String>(2)?, row.get(3)?))
        })
        .optional()?;
    let Some((fingerprint, row, presence, restated)) = found else { return Ok(None) };
    let row = compress::unpack(&row, LARGEST_ROW).map_err(|reason| StoreError::Damaged {
        what: format!("the last known row of {vendor_id}"),
        reason,
    })?;
    Ok(Some(Known { fingerprint, row, presence: Presence::from_name(&presence), restated }))
}

/// Says what is known of one thing from now on.
pub fn set(
    db: &Connection,
    set: i64,
    organization: i64,
    vendor_id: &str,
    known: &Known,
    now: Micros,
) -> Result<(), StoreError> {
    db.prepare_cached(
        "INSERT INTO snapshot (set_id, organization, vendor_id, fingerprint, row, state, changed, restated)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (set_id, organization, vendor_id) DO UPDATE SET fingerprint = excluded.fingerprint,
           row = excluded.row, state = excluded.state, changed = excluded.changed, restated = excluded.restated",
    )?
    .execute(params![
        set,
        organization,
        vendor_id,
        known.fingerprint,
        compress::pack(&known.row),
        known.presence.as_str(),
        now,
        known.restated
    ])?;
    Ok(())
}

/// Changes by what the last known row of a thing is compared, and nothing else.
pub fn set_fingerprint(
    db: &Connection,
    set: i64,
    organization: i64,
    vendor_id: &str,
    fingerprint: &[u8],
) -> Result<(), StoreError> {
    db.prepare_cached(
        "UPDATE snapshot SET fingerprint = ?4 WHERE set_id = ?1 AND organization = ?2 AND vendor_id = ?3",
    )?
    .execute(params![set, organization, vendor_id, fingerprint])?;
    Ok(())
}

/// Changes what is believed of one thing's presence, and nothing else.
pub fn set_presence(
    db: &Connection,
    set: i64,
    organization: i64,
    vendor_id: &str,
    presence: Presence,
) -> Result<(), StoreError> {
    db.prepare_cached(
        "UPDATE snapshot SET state = ?4 WHERE set_id = ?1 AND organization = ?2 AND vendor_id = ?3",
    )?
    .execute(params![set, organization, vendor_id, presence.as_str()])?;
    Ok(())
}

/// Notes that a restatement sent a thing.
pub fn set_restated(
    db: &Connection,
    set: i64,
    organization: i64,
    vendor_id: &str,
    restated: Micros,
) -> Result<(), StoreError> {
    db.prepare_cached(
        "UPDATE snapshot SET restated = ?4 WHERE set_id = ?1 AND organization = ?2 AND vendor_id = ?3",
    )?
    .execute(params![set, organization, vendor_id, restated])?;
    Ok(())
}

/// One thing that is not known to be removed.
#[derive(Clone, Debug)]
pub struct Listed {
    pub organization: i64,
    pub organization_id: String,
    pub vendor_id: String,
    pub presence: Presence,
}

/// Every thing that is not known to be removed, of one organization or of all.
pub fn living(db: &Connection, set: i64, organization: Option<i64>) -> Result<Vec<Listed>, StoreError> {
    // In words by which the key is searched.
    let of = organization.map_or("?2 IS NULL", |_| "s.organization = ?2");
    let mut rows = db.prepare_cached(&format!(
        "SELECT s.organization, o.organization_id, s.vendor_id, s.state FROM snapshot s
         JOIN organization o ON o.id = s.organization
         WHERE s.set_id = ?1 AND s.state <> 'removed' AND {of}"
    ))?;
    let rows = rows.query_map(params![set, organization], |row| {
        Ok(Listed {
            organization: row.get(0)?,
            organization_id: row.get(1)?,
            vendor_id: row.get(2)?,
            presence: Presence::from_name(&row.get::<_, String>(3)?),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// How many things are held as unknown, by organization.
pub fn unknown(db: &Connection, set: i64) -> Result<Vec<(String, u64)>, StoreError> {
    let mut rows = db.prepare_cached(
        "SELECT o.organization_id, count(*) FROM snapshot s JOIN organization o ON o.id = s.organization
         WHERE s.set_id = ?1 AND s.state = 'unknown' GROUP BY o.organization_id",
    )?;
    let rows = rows.query_map([set], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The things that the streams of one narrowing share, if there was such a stream.
pub fn set_of(
    db: &Connection,
    connection: ConnectionId,
    source: &str,
    fingerprint: &str,
) -> Result<Option<i64>, StoreError> {
    let set = "SELECT id FROM seen_set WHERE connection_id = ?1 AND source = ?2 AND part = ?3";
    let set = db.prepare_cached(set)?.query_row(params![connection, source, fingerprint], |row| row.get(0));
    Ok(set.optional()?)
}

/// How often a thing entered a state.
pub fn entered(
    db: &Connection,
    set: i64,
    organization: i64,
    vendor_id: &str,
    fingerprint: &[u8],
) -> Result<u64, StoreError> {
    let count = db
        .prepare_cached(
            "SELECT count FROM occurrence
             WHERE set_id = ?1 AND organization = ?2 AND vendor_id = ?3 AND fingerprint = ?4",
        )?
        .query_row(params![set, organization, vendor_id, fingerprint], |row| row.get(0));
    Ok(count.optional()?.unwrap_or(0))
}

/// Whether anything was ever told of a thing.
pub fn was_told(db: &Connection, set: i64, organization: i64, vendor_id: &str) -> Result<bool, StoreError> {
    let entered = "SELECT 1 FROM occurrence WHERE set_id = ?1 AND organization = ?2 AND vendor_id = ?3";
    Ok(db.prepare_cached(entered)?.exists(params![set, organization, vendor_id])?)
}

/// Takes over from other sites what they told of an organization's things of one source, so that nothing is told twice,
/// no uid stands for two states, and what disappears meanwhile is missed. Each thing is known at one site only; what is of no organization is each
/// site's own.
pub(super) fn take_over(
    db: &Connection,
    connection: ConnectionId,
    organization: &OrganizationId,
    source: &str,
) -> Result<(), StoreError> {
    if organization.is_none() {
        return Ok(());
    }
    let mut theirs = db.prepare_cached(
        "SELECT theirs.id, place.id, mine.id, own.id FROM organization own
         JOIN seen_set mine ON mine.connection_id = own.connection_id AND mine.source = ?3
         JOIN seen_set theirs ON theirs.source = mine.source AND theirs.part = mine.part AND theirs.id <> mine.id
         JOIN organization place ON place.connection_id = theirs.connection_id
           AND place.organization_id = own.organization_id
         WHERE own.connection_id = ?1 AND own.organization_id = ?2",
    )?;
    let theirs: Vec<(i64, i64, i64, i64)> = theirs
        .query_map(params![connection, organization.as_str(), source], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?
        .collect::<Result<_, _>>()?;
    for (theirs, place, mine, own) in theirs {
        db.prepare_cached(
            "UPDATE OR REPLACE snapshot SET set_id = ?3, organization = ?4 WHERE set_id = ?1 AND organization = ?2",
        )?
        .execute([theirs, place, mine, own])?;
        db.prepare_cached(
            "INSERT INTO occurrence (set_id, organization, vendor_id, fingerprint, count)
             SELECT ?3, ?4, vendor_id, fingerprint, count FROM occurrence WHERE set_id = ?1 AND organization = ?2
             ON CONFLICT (set_id, organization, vendor_id, fingerprint)
             DO UPDATE SET count = max(count, excluded.count)",
        )?
        .execute([theirs, place, mine, own])?;
        db.prepare_cached("DELETE FROM occurrence WHERE set_id = ?1 AND organization = ?2")?
            .execute([theirs, place])?;
    }
    Ok(())
}

/// Counts that a thing enters a state once more, and answers how often it had entered it before.
pub fn enter(
    db: &Connection,
    set: i64,
    organization: i64,
    vendor_id: &str,
    fingerprint: &[u8],
) -> Result<u64, StoreError> {
    let count: u64 = db
        .prepare_cached(
            "INSERT INTO occurrence (set_id, organization, vendor_id, fingerprint, count)
             VALUES (?1, ?2, ?3, ?4, 1)
             ON CONFLICT (set_id, organization, vendor_id, fingerprint) DO UPDATE SET count = count + 1
             RETURNING count",
        )?
        .query_row(params![set, organization, vendor_id, fingerprint], |row| row.get(0))?;
    Ok(count - 1)
}

/// Notes the newest check-in among an organization's computers, and that a walk listed some of them.
pub fn note_checkin(
    db: &Connection,
    connection: ConnectionId,
    organization: i64,
    checkin: Option<Micros>,
    now: Micros,
) -> Result<(), StoreError> {
    db.prepare_cached(
        "UPDATE organization SET last_listed = ?3,
           last_checkin = CASE WHEN ?4 IS NULL THEN last_checkin ELSE max(ifnull(last_checkin, ?4), ?4) END
         WHERE id = ?2 AND connection_id = ?1",
    )?
    .execute(params![connection, organization, now, checkin])?;
    Ok(())
}

/// Forgets the things whose ids begin with these and a slash and whose time, kept in place of the restatement, lies before
/// then.
pub fn forget(
    db: &Connection,
    set: i64,
    organization: i64,
    of: &str,
    before: Micros,
) -> Result<(), StoreError> {
    // "0" follows the slash.
    let range = [format!("{of}/"), format!("{of}0")];
    db.prepare_cached(
        "DELETE FROM snapshot WHERE set_id = ?1 AND organization = ?2 AND vendor_id > ?3 AND vendor_id < ?4
           AND restated < ?5",
    )?
    .execute(params![set, organization, range[0], range[1], before])?;
    Ok(())
}
