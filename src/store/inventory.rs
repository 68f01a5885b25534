//! The computers that are believed to be there, read a page at a time.

use std::ops::ControlFlow;

use rusqlite::{Connection, params};

use super::snapshots::{self, Presence};
use super::{StoreError, compress};
use crate::model::Micros;

/// Rows that one page reads at most.
const PAGE: u32 = 200;

/// The listing of one site that is configured.
#[derive(Clone, Debug)]
pub struct List {
    pub site: String,
    pub set: i64,
    /// The streams that list, with their notes as JSON.
    pub streams: Vec<(i64, String)>,
}

/// One computer that is not known to be removed.
#[derive(Clone, Debug)]
pub struct Item {
    /// `organization.id`.
    pub organization: i64,
    pub organization_id: String,
    pub organization_name: Option<String>,
    pub vendor_id: String,
    /// The vendor's bytes, as last entered.
    pub row: Vec<u8>,
    pub presence: Presence,
    /// When it last spoke to the portal, as the computers last told.
    pub seen: Option<Micros>,
}

/// The listings of a source, by site.
pub fn lists(db: &Connection, source: &str) -> Result<Vec<List>, StoreError> {
    let mut rows = db.prepare_cached(
        "SELECT c.site, t.id, s.id, s.doc FROM seen_set t JOIN connection c ON c.id = t.connection_id
         JOIN stream s ON s.set_id = t.id WHERE t.source = ?1 AND c.epoch > 0 ORDER BY c.site, t.id, s.id",
    )?;
    let mut rows = rows.query([source])?;
    let mut lists: Vec<List> = Vec::new();
    while let Some(row) = rows.next()? {
        let (set, stream) = (row.get(1)?, (row.get(2)?, row.get(3)?));
        match lists.last_mut().filter(|last| last.set == set) {
            Some(last) => last.streams.push(stream),
            None => lists.push(List { site: row.get(0)?, set, streams: vec![stream] }),
        }
    }
    Ok(lists)
}

/// Hands the next computers of a listing to `each`, one at a time, until it breaks or a page is full. Answers the last
/// one that it was handed; none at the end.
pub fn page(
    db: &Connection,
    set: i64,
    after: Option<(i64, String)>,
    mut each: impl FnMut(&Item) -> Result<ControlFlow<()>, StoreError>,
) -> Result<Option<(i64, String)>, StoreError> {
    let (organization, vendor_id) = after.unwrap_or((i64::MIN, String::new()));
    // In this order: the key of `snapshot` is walked, and nothing is sorted.
    let mut rows = db.prepare_cached(
        "SELECT s.organization, s.vendor_id, s.row, s.state, o.organization_id, o.name, d.seen FROM snapshot s
         CROSS JOIN organization o ON o.id = s.organization
         LEFT JOIN device d ON d.organization = s.organization AND d.computer = s.vendor_id
         WHERE s.set_id = ?1 AND (s.organization, s.vendor_id) > (?2, ?3) AND s.state <> 'removed'
         ORDER BY s.organization, s.vendor_id LIMIT ?4",
    )?;
    let mut rows = rows.query(params![set, organization, vendor_id, PAGE])?;
    let (mut last, mut count) = (None, 0);
    while let Some(row) = rows.next()? {
        let vendor_id: String = row.get(1)?;
        let packed: Vec<u8> = row.get(2)?;
        let unpacked = compress::unpack(&packed, snapshots::LARGEST_ROW).map_err(|reason| {
            StoreError::Damaged { what: format!("the last known row of {vendor_id}"), reason }
        })?;
        let item = Item {
            organization: row.get(0)?,
            organization_id: row.get(4)?,
            organization_name: row.get(5)?,
            vendor_id,
            row: unpacked,
            presence: Presence::from_name(&row.get::<_, String>(3)?),
            seen: row.get(6)?,
        };
        let flow = each(&item)?;
        last = Some((item.organization, item.vendor_id));
        count += 1;
        if flow.is_break() {
            return Ok(last);
        }
    }
    Ok(last.filter(|_| count == PAGE))
}
