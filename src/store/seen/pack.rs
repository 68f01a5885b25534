//! The bytes of one pack: seen rows of one organization and hour, ten or eleven bytes each.
//!
//! What a row is asked later decides what is kept of it. *Is it known?* Eight of its uid's bytes tell; among
//! the rows of one organization and hour two that share them are not to be expected (30,000,000 rows in hours
//! of 41,667, each asked for in two hours: one chance in seven millions). *Does a range hold it?* Ranges begin
//! and end on a second or a microsecond after one, so the second, and whether the row stands exactly on its
//! beginning, is enough: the microseconds of two times would cost four to five bytes more.
//!
//! Version 1, the first byte: eight bytes of each row in order of (place, id); then for each row two numbers
//! in base 128, least first: how many places it stands behind the row before (the first: 0), doubled, plus one
//! if it is gone; and its other place less its place in zigzag, plus one, or 0 where it has none.

use uuid::Uuid;

use crate::model::{Micros, SECOND};

/// Rows of a pack at most.
pub(super) const MOST_ROWS: usize = 4_096;
const VERSION: u8 = 1;
const ID_BYTES: usize = 8;

/// Where a pack keeps a row: its place in time, then its id.
pub(super) type Key = (i64, i64);

/// A row as a pack keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PackedRow {
    pub(super) place: i64,
    pub(super) id: i64,
    /// Its place on the other axis.
    pub(super) other: Option<i64>,
    pub(super) gone: bool,
}

impl PackedRow {
    pub(super) fn new(uid: Uuid, at: Micros, other: Option<Micros>, gone: bool) -> Self {
        Self { place: place(at), id: short(uid), other: other.map(place), gone }
    }

    pub(super) fn key(&self) -> Key {
        (self.place, self.id)
    }

    /// The later of its places.
    pub(super) fn latest(&self) -> i64 {
        self.other.map_or(self.place, |other| self.place.max(other))
    }
}

/// Twice the second of a time, and one more for what lies after the beginning of the second.
pub(super) fn place(time: Micros) -> i64 {
    2 * time.div_euclid(SECOND) + i64::from(time.rem_euclid(SECOND) != 0)
}

/// Eight bytes of a uid of which every bit is as good as chance: version and variant are left out.
pub(super) fn short(uid: Uuid) -> i64 {
    let [first, .., b, c, d, e, f, g, h] = *uid.as_bytes();
    i64::from_be_bytes([first, b, c, d, e, f, g, h])
}

/// The body of rows that are in order.
pub(super) fn encode(rows: &[PackedRow]) -> Vec<u8> {
    let mut body = Vec::with_capacity(1 + rows.len() * 12);
    body.push(VERSION);
    body.extend(rows.iter().flat_map(|row| row.id.to_be_bytes()));
    let mut before = rows.first().map_or(0, |first| first.place);
    for row in rows {
        push_number(&mut body, row.place.abs_diff(before) << 1 | u64::from(row.gone));
        push_number(&mut body, row.other.map_or(0, |other| zigzag(other - row.place) + 1));
        before = row.place;
    }
    body
}

/// The ids of a body of so many rows, in its order.
pub(super) fn ids(body: &[u8], rows: usize) -> Result<impl Iterator<Item = i64>, String> {
    let ids = match body.split_first() {
        Some((&VERSION, rest)) => rest.get(..rows.saturating_mul(ID_BYTES)),
        Some((version, _)) => return Err(format!("a pack of version {version} is not known here")),
        None => None,
    };
    let (ids, _) = ids.ok_or("a pack is cut short")?.as_chunks::<ID_BYTES>();
    Ok(ids.iter().map(|id| i64::from_be_bytes(*id)))
}

/// The rows of a body of so many rows, the first of which stands at `first`. The error is a reason in words.
pub(super) fn decode(body: &[u8], rows: usize, first: i64) -> Result<Vec<PackedRow>, String> {
    let mut decoded = Vec::with_capacity(rows.min(body.len()));
    let ids = ids(body, rows)?;
    let mut numbers = body.get(1 + rows * ID_BYTES..).unwrap_or_default();
    let mut place = first;
    for id in ids {
        let (step, other) = (take_number(&mut numbers)?, take_number(&mut numbers)?);
        place = place.wrapping_add_unsigned(step >> 1);
        let other = other.checked_sub(1).map(|other| place.wrapping_add(unzigzag(other)));
        decoded.push(PackedRow { place, id, other, gone: step & 1 == 1 });
    }
    match numbers.is_empty() {
        true => Ok(decoded),
        false => Err("a pack is longer than its rows".to_owned()),
    }
}

/// A number near zero as a small one without a sign.
fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

fn push_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

fn take_number(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or("a pack is cut short")?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err("a number in a pack is too long".to_owned())
}
