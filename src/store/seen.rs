//! The rows that were seen, with their time on the portal's axis: what makes a row new, and what a range
//! should count. ◆ Kept as long as the portal may list them.
//!
//! Young rows are rows of the table `seen`, in order of time; whether it may have a uid is known in memory
//! (`young`). What closed a day ago is packed ([`pack()`]): some eleven bytes a row. Every function answers for
//! both together.
//!
//! A row of the table is known by its uid alone, a packed one as long as one of its two times lies in the hour
//! under which it is filed. A row that says no time is filed where it was listed, a microsecond after a second,
//! and might be listed elsewhere next: it is not packed. What else would move by hours, a row to which its
//! portal gives two other times a day after it listed it, is taken for a new one: it is delivered again, under
//! the uid that it had, and none is lost.

mod pack;
mod packs;
mod rhythm;
mod young;

use std::collections::{BTreeMap, HashMap, HashSet};

use rusqlite::{Connection, params};
use uuid::Uuid;

use self::pack::{PackedRow, place, short};
use super::{StoreError, WriterDb};
use crate::model::{ConnectionId, Micros, RowIds, SECOND};

pub use self::rhythm::{Rhythm, add_hour, no_checkins, rhythm, rhythms};
pub(super) use self::young::Young;

const HOUR: Micros = 3_600 * SECOND;
/// From this age on, once its hour has closed, a row is packed: no re-check but the daily scrub comes back to it.
const PACKED_FROM: Micros = 24 * HOUR;
/// Rows that one step packs at most.
pub const PACKED_ROWS: u64 = 8_192;

/// One row as it is remembered.
#[derive(Clone, Copy, Debug)]
pub struct SeenRow {
    pub uid: Uuid,
    /// Its time on the axis that the portal filters by, as far as known.
    pub at: Micros,
    /// Its time on the other axis.
    pub other: Option<Micros>,
    /// Its organization's short key.
    pub organization: i64,
}

/// The other sets of a source, each with its connection: a row that any of them has entered is no new row, whichever
/// site reads it, or has read it.
pub fn siblings(db: &Connection, source: &str, but: i64) -> Result<Vec<(i64, ConnectionId)>, StoreError> {
    let mut sets =
        db.prepare_cached("SELECT id, connection_id FROM seen_set WHERE source = ?1 AND id <> ?2")?;
    let sets = sets.query_map(params![source, but], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(sets.collect::<Result<_, _>>()?)
}

/// By whom rows were listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListedBy {
    /// A stream of the set: they count.
    TheSet,
    /// Another query of the portal: they are known, and count only once the set's own lists them.
    Another,
}

/// Remembers rows. Answers which of them were not known; a row that was gone and is back is known.
pub fn insert(
    db: &WriterDb,
    set: i64,
    rows: &[SeenRow],
    listed_by: ListedBy,
) -> Result<Vec<bool>, StoreError> {
    let counts = listed_by == ListedBy::TheSet;
    let mut insert = db.prepare_cached(
        "INSERT INTO seen (set_id, at, uid, other, organization, gone) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    let mut back = db
        .prepare_cached("UPDATE seen SET gone = 0 WHERE set_id = ?1 AND at = ?2 AND uid = ?3 AND gone = 1")?;
    let packed = packs::find(db, set, rows, counts)?;
    let young = young_at(db, set, rows, &packed)?;
    let mut new: Vec<bool> = Vec::with_capacity(rows.len());
    for (index, row) in rows.iter().enumerate() {
        let uid = row.uid.as_bytes().as_slice();
        if let Some(at) = young[index].filter(|_| counts) {
            back.execute(params![set, at, uid])?;
        }
        let was_known = packed[index] || young[index].is_some();
        // The same row may stand in a page twice.
        let stood_before = || rows[..index].iter().any(|other| other.uid == row.uid);
        let is_new = !was_known && (!db.young.borrow().may_have(set, row.uid) || !stood_before());
        if is_new {
            insert.execute(params![set, row.at, uid, row.other, row.organization, !counts])?;
            db.young.borrow_mut().add(set, row.uid);
        }
        new.push(is_new);
    }
    Ok(new)
}

/// By which time the table has each row, if it has it; those in `known` are not looked for.
fn young_at(
    db: &WriterDb,
    set: i64,
    rows: &[SeenRow],
    known: &[bool],
) -> Result<Vec<Option<Micros>>, StoreError> {
    let mut found = vec![None; rows.len()];
    let mut elsewhere: HashMap<Uuid, Vec<usize>> = HashMap::new();
    let mut there = db.prepare_cached("SELECT 1 FROM seen WHERE set_id = ?1 AND at = ?2 AND uid = ?3")?;
    for (index, row) in rows.iter().enumerate() {
        if known[index] || !db.young.borrow().may_have(set, row.uid) {
            continue;
        }
        match there.exists(params![set, row.at, row.uid.as_bytes().as_slice()])? {
            true => found[index] = Some(row.at),
            false => elsewhere.entry(row.uid).or_default().push(index),
        }
    }
    // What its portal gives another time now is seldom far from where it was.
    let times = elsewhere.values().flatten().map(|index| rows[*index].at);
    let near = (times.clone().min().unwrap_or(0) - HOUR, times.max().unwrap_or(0) + HOUR);
    for (sql, (from, to)) in [
        (
            "SELECT at, uid FROM seen WHERE set_id = ?1 AND at >= ?2 AND at <= ?3 AND at % 1000000 = 1",
            (Micros::MIN, Micros::MAX),
        ),
        ("SELECT at, uid FROM seen WHERE set_id = ?1 AND at >= ?2 AND at <= ?3", near),
        ("SELECT at, uid FROM seen WHERE set_id = ?1 AND at >= ?2 AND at <= ?3", (Micros::MIN, Micros::MAX)),
    ] {
        if elsewhere.is_empty() {
            break;
        }
        let mut sought = db.prepare_cached(sql)?;
        let mut sought = sought.query_map(params![set, from, to], time_and_uid)?;
        while let Some(row) = sought.next().filter(|_| !elsewhere.is_empty()) {
            let (at, uid) = row?;
            for index in elsewhere.remove(&uid).into_iter().flatten() {
                found[index] = Some(at);
            }
        }
    }
    Ok(found)
}

/// Which of the rows a set knows.
pub fn known(db: &WriterDb, set: i64, rows: &[SeenRow]) -> Result<Vec<bool>, StoreError> {
    let mut known = packs::find(db, set, rows, false)?;
    let young = young_at(db, set, rows, &known)?;
    for (known, young) in known.iter_mut().zip(young) {
        *known |= young.is_some();
    }
    Ok(known)
}

/// Rows held and not gone in `[from, to)`, of one organization or of all. Both ends are whole seconds or a
/// microsecond after one, as the ends of requests are; of other ends only the second counts.
pub fn held(
    db: &Connection,
    set: i64,
    organization: Option<i64>,
    from: Micros,
    to: Micros,
) -> Result<u64, StoreError> {
    let young: u64 = match organization {
        None => db
            .prepare_cached(
                "SELECT count(*) FROM seen WHERE set_id = ?1 AND at >= ?2 AND at < ?3 AND gone = 0",
            )?
            .query_row(params![set, from, to], |row| row.get(0))?,
        Some(organization) => db
            .prepare_cached(
                "SELECT count(*) FROM seen
                 WHERE set_id = ?1 AND at >= ?2 AND at < ?3 AND organization = ?4 AND gone = 0",
            )?
            .query_row(params![set, from, to, organization], |row| row.get(0))?,
    };
    Ok(young + packs::held(db, set, organization, (place(from), place(to)))?)
}

/// Whether any of the rows of [`held`] is not among `listed`.
pub fn any_unlisted(
    db: &Connection,
    set: i64,
    organization: Option<i64>,
    (from, to): (Micros, Micros),
    listed: &RowIds,
) -> Result<bool, StoreError> {
    let places = (place(from), place(to));
    Ok(!young_unlisted(db, set, organization, (from, to), listed)?.is_empty()
        || packs::unlisted(db, set, organization, places, &short_ids(listed), false)? > 0)
}

/// The portal lists those rows of [`held`] no more that are not among `listed`: they are gone. Answers how
/// many.
pub fn set_gone(
    db: &Connection,
    set: i64,
    organization: Option<i64>,
    (from, to): (Micros, Micros),
    listed: &RowIds,
) -> Result<u64, StoreError> {
    let young = young_unlisted(db, set, organization, (from, to), listed)?;
    let mut update =
        db.prepare_cached("UPDATE seen SET gone = 1 WHERE set_id = ?1 AND at = ?2 AND uid = ?3")?;
    for (at, uid) in &young {
        update.execute(params![set, at, uid.as_bytes().as_slice()])?;
    }
    let places = (place(from), place(to));
    let packed = packs::unlisted(db, set, organization, places, &short_ids(listed), true)?;
    Ok(young.len() as u64 + packed)
}

fn short_ids(uids: &RowIds) -> HashSet<i64> {
    uids.iter().map(|uid| short(Uuid::from_u128(*uid))).collect()
}

fn young_unlisted(
    db: &Connection,
    set: i64,
    organization: Option<i64>,
    (from, to): (Micros, Micros),
    listed: &RowIds,
) -> Result<Vec<(Micros, Uuid)>, StoreError> {
    let mut rows = db.prepare_cached(
        "SELECT at, uid FROM seen
         WHERE set_id = ?1 AND at >= ?2 AND at < ?3 AND gone = 0 AND (?4 IS NULL OR organization = ?4)",
    )?;
    let rows = rows.query_map(params![set, from, to, organization], time_and_uid)?;
    let mut unlisted = Vec::new();
    for row in rows {
        let (at, uid) = row?;
        if !listed.contains(&uid.as_u128()) {
            unlisted.push((at, uid));
        }
    }
    Ok(unlisted)
}

/// A row's name in the table: the first two columns.
fn time_and_uid(row: &rusqlite::Row<'_>) -> rusqlite::Result<(Micros, Uuid)> {
    let uid: [u8; 16] = row.get(1)?;
    Ok((row.get(0)?, Uuid::from_bytes(uid)))
}

/// Files every row by its other time. Reads and writes every pack of the set, a few at a time.
pub fn swap_axis(db: &Connection, set: i64) -> Result<(), StoreError> {
    db.execute("UPDATE seen SET at = other, other = at WHERE set_id = ?1 AND other IS NOT NULL", [set])?;
    packs::swap_axis(db, set)
}

/// The time before which rows are to be packed.
pub fn packed_before(now: Micros) -> Micros {
    (now - PACKED_FROM).div_euclid(HOUR) * HOUR
}

/// Packs the oldest rows of a set with a time before `before`, a bounded number. Answers how many; fewer than
/// [`PACKED_ROWS`] are the last.
pub fn pack(db: &WriterDb, set: i64, before: Micros) -> Result<u64, StoreError> {
    // The microsecond marks rows that say no time.
    let mut oldest = db.prepare_cached(
        "SELECT at, uid, other, organization, gone FROM seen
         WHERE set_id = ?1 AND at < ?2 AND at % 1000000 <> 1 ORDER BY at LIMIT ?3",
    )?;
    let mut rows = oldest.query(params![set, before, PACKED_ROWS])?;
    let mut packed = Vec::new();
    let mut organizations: BTreeMap<i64, Vec<PackedRow>> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let (at, uid) = time_and_uid(row)?;
        packed.push((at, uid));
        organizations.entry(row.get(3)?).or_default().push(PackedRow::new(uid, at, row.get(2)?, row.get(4)?));
    }
    drop(rows);
    for (organization, rows) in organizations {
        packs::put(db, set, organization, rows)?;
        fail::fail_point!("store.pack.between");
    }
    forget(db, set, &packed)?;
    Ok(packed.len() as u64)
}

/// Takes rows from the table.
fn forget(db: &WriterDb, set: i64, rows: &[(Micros, Uuid)]) -> Result<(), StoreError> {
    let mut delete = db.prepare_cached("DELETE FROM seen WHERE set_id = ?1 AND at = ?2 AND uid = ?3")?;
    for (at, uid) in rows {
        delete.execute(params![set, at, uid.as_bytes().as_slice()])?;
        db.young.borrow_mut().leave(set, *uid);
    }
    Ok(())
}

/// Forgets rows with both times before `before`, a whole second, a bounded number at a time; with `gone_only`
/// what the portal still lists is kept. Answers how many.
pub fn prune(db: &WriterDb, set: i64, before: Micros, gone_only: bool) -> Result<u64, StoreError> {
    let young: Vec<_> = db
        .prepare_cached(
            "SELECT at, uid FROM seen WHERE set_id = ?1 AND at < ?2 AND (other IS NULL OR other < ?2)
               AND (gone = 1 OR NOT ?3) LIMIT 20000",
        )?
        .query_map(params![set, before, gone_only], time_and_uid)?
        .collect::<Result<_, _>>()?;
    forget(db, set, &young)?;
    db.prepare_cached("DELETE FROM hourly WHERE set_id = ?1 AND hour < ?2")?
        .execute(params![set, before.div_euclid(HOUR)])?;
    Ok(young.len() as u64 + packs::prune(db, set, place(before), gone_only)?)
}

#[cfg(test)]
mod tests;
