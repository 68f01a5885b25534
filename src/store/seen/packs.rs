//! The table of packs. The packs of one organization and hour follow one another in order of (place, id), so
//! that a key has one pack in which it may stand. Nothing here holds more than a few packs in memory.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::SeenRow;
use super::pack::{self, Key, MOST_ROWS, PackedRow, place, short};
use crate::store::StoreError;

/// An hour in places.
const HOUR: i64 = 2 * 3_600;
/// As far as a time moves that is told more or less precisely, in places: two seconds.
const NEAR: i64 = 4;
/// Packs that one step of pruning changes at most.
const PRUNED_PACKS: u32 = 8;

/// What is known of a pack without reading its rows.
#[derive(Clone, Copy, Debug)]
struct Header {
    id: i64,
    organization: i64,
    first: Key,
    last: i64,
    rows: usize,
    held: u64,
}

/// The columns of a [`Header`].
const HEADER: &str = "id, organization, first, first_id, last, rows, held";

fn header(row: &Row<'_>) -> rusqlite::Result<Header> {
    Ok(Header {
        id: row.get(0)?,
        organization: row.get(1)?,
        first: (row.get(2)?, row.get(3)?),
        last: row.get(4)?,
        rows: row.get(5)?,
        held: row.get(6)?,
    })
}

fn damaged(id: i64, reason: String) -> StoreError {
    StoreError::Damaged { what: format!("pack {id} of seen rows"), reason }
}

fn hour_of(place: i64) -> i64 {
    place.div_euclid(HOUR) * HOUR
}

/// Calls `look` with the body of a pack.
fn body<T>(db: &Connection, id: i64, look: impl FnOnce(&[u8]) -> Result<T, String>) -> Result<T, StoreError> {
    let mut body = db.prepare_cached("SELECT body FROM seen_pack WHERE id = ?1")?;
    let looked = body.query_row([id], |row| Ok(look(row.get_ref(0)?.as_blob()?)))?;
    looked.map_err(|reason| damaged(id, reason))
}

fn read(db: &Connection, pack: &Header) -> Result<Vec<PackedRow>, StoreError> {
    body(db, pack.id, |body| pack::decode(body, pack.rows, pack.first.0))
}

fn delete(db: &Connection, id: i64) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM seen_pack WHERE id = ?1")?.execute([id])?;
    Ok(())
}

/// Writes rows that are in order as one pack.
fn write(db: &Connection, set: i64, organization: i64, rows: &[PackedRow]) -> Result<(), StoreError> {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(()) };
    let gone = || rows.iter().filter(|row| row.gone);
    db.prepare_cached(
        "INSERT INTO seen_pack (set_id, organization, first, first_id, last, rows, held, oldest, oldest_gone, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?
    .execute(params![
        set,
        organization,
        first.place,
        first.id,
        last.place,
        rows.len(),
        rows.len() - gone().count(),
        rows.iter().map(PackedRow::latest).min(),
        gone().map(PackedRow::latest).min(),
        pack::encode(rows),
    ])?;
    Ok(())
}

/// Puts other rows, in order, in the place of a pack.
fn replace(db: &Connection, set: i64, pack: &Header, rows: &[PackedRow]) -> Result<(), StoreError> {
    delete(db, pack.id)?;
    write(db, set, pack.organization, rows)
}

/// The pack in which a row of this key stands if any does, and the key from which on it is another one.
fn pack_of(
    db: &Connection,
    set: i64,
    organization: i64,
    key: Key,
) -> Result<(Option<Header>, Key), StoreError> {
    let hour = hour_of(key.0);
    let pack = db
        .prepare_cached(&format!(
            "SELECT {HEADER} FROM seen_pack
             WHERE set_id = ?1 AND organization = ?2 AND first >= ?3 AND (first, first_id) <= (?4, ?5)
             ORDER BY first DESC, first_id DESC LIMIT 1"
        ))?
        .query_row(params![set, organization, hour, key.0, key.1], header)
        .optional()?;
    let next = db
        .prepare_cached(
            "SELECT first, first_id FROM seen_pack
             WHERE set_id = ?1 AND organization = ?2 AND first < ?3 AND (first, first_id) > (?4, ?5)
             ORDER BY first, first_id LIMIT 1",
        )?
        .query_row(params![set, organization, hour + HOUR, key.0, key.1], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    Ok((pack, next.unwrap_or((hour + HOUR, i64::MIN))))
}

/// Files rows of one organization, in any order, into packs.
pub(super) fn put(
    db: &Connection,
    set: i64,
    organization: i64,
    mut rows: Vec<PackedRow>,
) -> Result<(), StoreError> {
    rows.sort_unstable();
    let mut rest = rows.as_slice();
    while let Some(first) = rest.first() {
        let (mut pack, mut until) = pack_of(db, set, organization, first.key())?;
        if pack.is_none() && until < (hour_of(first.place) + HOUR, i64::MIN) {
            // What comes before the first pack of an hour goes into it, so that late rows make no packs of one.
            (pack, until) = pack_of(db, set, organization, until)?;
        }
        let count = rest.partition_point(|row| row.key() < until).min(MOST_ROWS);
        let (new, later) = rest.split_at(count);
        let full = |pack: &Header| pack.last < first.place && pack.rows + new.len() > MOST_ROWS;
        let mut merged = new.to_vec();
        if let Some(pack) = pack.filter(|pack| !full(pack)) {
            merged.extend(read(db, &pack)?);
            merged.sort_unstable();
            delete(db, pack.id)?;
        }
        let packs = merged.len().div_ceil(MOST_ROWS);
        for part in merged.chunks(merged.len().div_ceil(packs)) {
            write(db, set, organization, part)?;
        }
        rest = later;
    }
    Ok(())
}

/// A row that is looked for: its organization, where it may stand, and which of the rows it is.
type Wanted = (i64, Key, usize);

/// Which of the rows are packed, under whichever of their times: at its place, else anywhere in its hour, and in the
/// one beside it where that is near, since a portal may come to tell its times more precisely, or less. With `back` those
/// that are gone are back.
pub(super) fn find(db: &Connection, set: i64, rows: &[SeenRow], back: bool) -> Result<Vec<bool>, StoreError> {
    let mut known = vec![false; rows.len()];
    let mut wanted: Vec<Wanted> = Vec::with_capacity(2 * rows.len());
    for (index, row) in rows.iter().enumerate() {
        let times = [Some(row.at), row.other].into_iter().flatten();
        wanted.extend(times.map(|time| (row.organization, (place(time), short(row.uid)), index)));
    }
    wanted.sort_unstable();
    let mut rest = wanted.as_slice();
    while let Some(&(organization, key, _)) = rest.first() {
        let (pack, until) = pack_of(db, set, organization, key)?;
        let group = rest.partition_point(|(of, key, _)| (*of, *key) < (organization, until));
        let (group, later) = rest.split_at(group);
        if let Some(pack) = pack.filter(|pack| pack.last >= key.0) {
            look(db, set, &pack, group, &mut known, back)?;
        }
        rest = later;
    }
    wanted.retain(|(.., index)| !known[*index]);
    let beside = |(organization, (place, id), index): &Wanted| {
        let near = [place - NEAR, place + NEAR].into_iter().find(|near| hour_of(*near) != hour_of(*place));
        near.map(|near| (*organization, (near, *id), *index))
    };
    wanted.extend(wanted.iter().filter_map(beside).collect::<Vec<_>>());
    wanted.sort_unstable();
    for group in wanted.chunk_by(|a, b| (a.0, hour_of(a.1.0)) == (b.0, hour_of(b.1.0))) {
        let (organization, (place, _), _) = group[0];
        let hour = hour_of(place);
        for pack in packs_in(db, set, Some(organization), (hour, hour + HOUR))? {
            look(db, set, &pack, group, &mut known, back)?;
        }
    }
    Ok(known)
}

/// Looks for rows in one pack, by their ids.
fn look(
    db: &Connection,
    set: i64,
    pack: &Header,
    wanted: &[Wanted],
    known: &mut [bool],
    back: bool,
) -> Result<(), StoreError> {
    let sought: HashSet<i64> = wanted.iter().map(|(_, (_, id), _)| *id).collect();
    // Spares most ids of the pack the look into the set.
    let mut maybe = [false; 1 << 12];
    let slot = |id: i64| usize::try_from(id & 0xfff).expect("twelve bits");
    sought.iter().for_each(|id| maybe[slot(*id)] = true);
    let found: HashSet<i64> = body(db, pack.id, |body| {
        let ids = pack::ids(body, pack.rows)?.filter(|id| maybe[slot(*id)]);
        Ok(ids.filter(|id| sought.contains(id)).collect())
    })?;
    for (_, (_, id), index) in wanted {
        known[*index] |= found.contains(id);
    }
    if back && !found.is_empty() && pack.held < pack.rows as u64 {
        let mut rows = read(db, pack)?;
        let gone: Vec<_> = rows.iter_mut().filter(|row| row.gone && found.contains(&row.id)).collect();
        if !gone.is_empty() {
            gone.into_iter().for_each(|row| row.gone = false);
            replace(db, set, pack, &rows)?;
        }
    }
    Ok(())
}

/// The packs that reach into a range of places, of one organization or of all.
fn packs_in(
    db: &Connection,
    set: i64,
    organization: Option<i64>,
    (from, to): (i64, i64),
) -> Result<Vec<Header>, StoreError> {
    let one = if organization.is_some() { "organization = ?5" } else { "?5 IS NULL" };
    let mut packs = db.prepare_cached(&format!(
        "SELECT {HEADER} FROM seen_pack
         WHERE set_id = ?1 AND first >= ?2 AND first < ?3 AND last >= ?4 AND {one} ORDER BY first"
    ))?;
    let packs = packs.query_map(params![set, hour_of(from), to, from, organization], header)?;
    Ok(packs.collect::<Result<_, _>>()?)
}

/// Rows held and not gone in a range of places, of one organization or of all.
pub(super) fn held(
    db: &Connection,
    set: i64,
    organization: Option<i64>,
    (from, to): (i64, i64),
) -> Result<u64, StoreError> {
    let mut held = 0;
    for pack in packs_in(db, set, organization, (from, to))? {
        held += match from <= pack.first.0 && pack.last < to {
            true => pack.held,
            false => {
                let rows = read(db, &pack)?;
                rows.iter().filter(|row| !row.gone && (from..to).contains(&row.place)).count() as u64
            }
        };
    }
    Ok(held)
}

/// How many of the rows of [`held`] are not among `listed`; with `mark` they are gone from now on.
pub(super) fn unlisted(
    db: &Connection,
    set: i64,
    organization: Option<i64>,
    (from, to): (i64, i64),
    listed: &HashSet<i64>,
    mark: bool,
) -> Result<u64, StoreError> {
    let mut unlisted = 0;
    for pack in packs_in(db, set, organization, (from, to))? {
        let mut rows = read(db, &pack)?;
        let mut here = 0;
        for row in rows.iter_mut().filter(|row| !row.gone && (from..to).contains(&row.place)) {
            if !listed.contains(&row.id) {
                row.gone = true;
                here += 1;
            }
        }
        if mark && here > 0 {
            replace(db, set, &pack, &rows)?;
        }
        unlisted += here;
    }
    Ok(unlisted)
}

/// Files every row by its other place, one pack after the other; the set's negative holds what is done.
pub(super) fn swap_axis(db: &Connection, set: i64) -> Result<(), StoreError> {
    let next = || -> Result<Option<Header>, StoreError> {
        let mut next =
            db.prepare_cached(&format!("SELECT {HEADER} FROM seen_pack WHERE set_id = ?1 LIMIT 1"))?;
        Ok(next.query_row([set], header).optional()?)
    };
    while let Some(pack) = next()? {
        let mut rows = read(db, &pack)?;
        delete(db, pack.id)?;
        for row in &mut rows {
            if let Some(other) = &mut row.other {
                std::mem::swap(&mut row.place, other);
            }
        }
        put(db, -set, pack.organization, rows)?;
    }
    db.execute("UPDATE seen_pack SET set_id = ?1 WHERE set_id = -?1", [set])?;
    Ok(())
}

/// Forgets rows with both places before `before` in a few packs. Answers how many.
pub(super) fn prune(db: &Connection, set: i64, before: i64, gone_only: bool) -> Result<u64, StoreError> {
    let old = if gone_only { "oldest_gone" } else { "oldest" };
    let packs: Vec<Header> = db
        .prepare_cached(&format!(
            "SELECT {HEADER} FROM seen_pack WHERE set_id = ?1 AND first < ?2 AND {old} < ?2 LIMIT ?3"
        ))?
        .query_map(params![set, before, PRUNED_PACKS], header)?
        .collect::<Result<_, _>>()?;
    let mut pruned = 0;
    for pack in packs {
        let mut rows = read(db, &pack)?;
        rows.retain(|row| row.latest() >= before || (gone_only && !row.gone));
        pruned += (pack.rows - rows.len()) as u64;
        replace(db, set, &pack, &rows)?;
    }
    Ok(pruned)
}
