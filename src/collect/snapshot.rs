//! Collecting a source that is asked as a whole: every row is compared with what is known of it.
//!
//! Changes commit page by page. That something is gone is only concluded from complete walks: absent from
//! one it is missing, from two it is removed. Where too much is missing at once the portal is not believed
//! (a role that was unticked answers an empty list): such rows are held as unknown until they return,
//! the portal lists them as deleted, or the operator confirms.

use std::collections::{HashMap, HashSet};

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{CollectError, ListedRow, Listing};
use crate::clock::Clock;
use crate::coverage::walk::{Next, RowId, Walk};
use crate::model::{Change, ConnectionId, Kind, Lane, Micros, OrganizationId, folded, uid};
use crate::normalise::{digest, fields, fingerprint};
use crate::portal::SAFE_PAGE_SIZE;
use crate::source::{Filter, Query, Scope, Shape, by_name};
use crate::store::outbox::NewEntry;
use crate::store::snapshots::{self, Known, Presence};
use crate::store::{Store, StoreError, connections, dead_letters, outbox, streams};

/// How a snapshot stream is asked.
#[derive(Clone, Debug)]
pub struct SnapshotSettings {
    pub connection: ConnectionId,
    pub epoch: i64,
    pub source: &'static str,
    pub kind: Kind,
    pub scope: Scope,
    /// Fields that do not count as a change.
    pub volatile: &'static [&'static str],
    pub page_size: u32,
    /// How often every row is sent again, on the portal's time.
    pub restate: Option<Micros>,
    pub stream: i64,
    pub set: i64,
}

/// What a snapshot stream remembers; one JSON document in the store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SnapshotNotes {
    /// When the last complete walk ended.
    pub complete: Option<Micros>,
    /// Rows that it listed.
    pub listed: u64,
    /// Why the last walk proved nothing, if it did not.
    pub unproven: Option<String>,
    /// When every row was last sent again, and the restatement that is under way.
    pub restated: Micros,
    pub restating: Option<Micros>,
    /// Rows held as unknown, by organization, and since when there are any.
    pub unknown: Vec<(String, u64)>,
    pub unknown_since: Option<Micros>,
    /// Entries made in all.
    pub rows: u64,
}

/// One stream of a snapshot source.
pub struct SnapshotStream<L> {
    pub settings: SnapshotSettings,
    pub listing: L,
    pub store: Store,
    pub clock: Clock,
    pub notes: SnapshotNotes,
    /// Requests made since start.
    pub requests: u64,
}

/// Why a walk proves nothing.
#[derive(Debug, thiserror::Error)]
enum Unfinished {
    #[error("{0} rows could not be read; see the dead letters")]
    Unreadable(usize),
    #[error("{0}")]
    Walk(&'static str),
}

/// Passes over a listing that will not hold still, in one poll.
const WALKS: u32 = 3;

impl<L: Listing> SnapshotStream<L> {
    /// Walks the whole listing once. Answers how many entries that made.
    ///
    /// # Errors
    /// Those of the portal and of the store, and [`CollectError::Incomplete`] for a listing that does not
    /// come to its end. What was read is kept all the same.
    pub async fn poll(&mut self) -> Result<u64, CollectError> {
        self.begin_restatement().await?;
        let before = self.notes.rows;
        let mut why = Unfinished::Unreadable(0);
        for _ in 0..WALKS {
            match self.walk(false).await? {
                Ok(listed) => {
                    self.conclude(listed).await?;
                    if !self.notes.unknown.is_empty() {
                        self.ask_for_deleted().await?;
                    }
                    return Ok(self.notes.rows - before);
                }
                Err(reason) => why = reason,
            }
        }
        self.notes.unproven = Some(why.to_string());
        self.save().await?;
        match why {
            // Told by the dead letters; the rest is as it is listed.
            Unfinished::Unreadable(_) => Ok(self.notes.rows - before),
            Unfinished::Walk(why) => Err(CollectError::Incomplete(why.to_owned())),
        }
    }

    async fn begin_restatement(&mut self) -> Result<(), CollectError> {
        let now = self.listing.now();
        match self.settings.restate {
            Some(every) if self.notes.restating.is_none() && now - self.notes.restated >= every => {
                // The first walk sends every row as new: that is statement enough.
                if self.notes.complete.is_some() {
                    self.notes.restating = Some(now);
                } else {
                    self.notes.restated = now;
                }
                self.save().await
            }
            _ => Ok(()),
        }
    }

    /// Reads all pages and commits what changed. Answers the rows listed, or why the walk proves nothing.
    async fn walk(&mut self, deleted: bool) -> Result<Result<HashMap<u128, bool>, Unfinished>, CollectError> {
        let mut walk = Walk::new(self.settings.page_size, u64::MAX);
        let mut listed = HashMap::new();
        let mut page = 1;
        let mut unusable = 0;
        loop {
            let query = Query {
                scope: self.settings.scope.clone(),
                part: 0,
                span: None,
                page,
                size: self.settings.page_size,
                split: None,
                deleted,
                filter: Filter::default(),
            };
            self.requests += 1;
            let answer = match self.listing.list(&query).await {
                Err(CollectError::PageTooLarge(error)) if self.settings.page_size > SAFE_PAGE_SIZE => {
                    tracing::warn!(source = self.settings.source, %error, "smaller pages are asked from now on");
                    self.settings.page_size = SAFE_PAGE_SIZE;
                    return Ok(Err(Unfinished::Walk("the portal takes smaller pages only")));
                }
                answer => answer?,
            };
            let mut ids: Vec<RowId> = answer.rows.iter().map(|row| row.id).collect();
            ids.extend(answer.undecodable.iter().map(|(bytes, _)| RowId::Content(digest(&[bytes]))));
            unusable += answer.undecodable.len();
            let mut rows = Vec::with_capacity(answer.rows.len());
            for row in answer.rows {
                let is_deleted = is_deleted(&row);
                if let RowId::Vendor(id) = row.id {
                    listed.insert(id, is_deleted);
                }
                if !is_deleted {
                    rows.push(row);
                }
            }
            self.apply(rows, answer.undecodable).await?;
            drop(answer.reservation);
            match walk.page(&ids, answer.total) {
                Next::Page(next) => page = next,
                Next::Closed if unusable > 0 => {
                    return Ok(Err(Unfinished::Unreadable(unusable)));
                }
                Next::Closed => {
                    listed.retain(|id, _| walk.listed().contains(id));
                    return Ok(Ok(listed));
                }
                Next::Smaller { why, .. } => return Ok(Err(Unfinished::Walk(why.as_str()))),
                Next::Unproven => {
                    return Ok(Err(Unfinished::Walk("the portal counts rows that it does not list")));
                }
            }
        }
    }

    /// Commits what changed among the rows of a page.
    async fn apply(
        &mut self,
        rows: Vec<ListedRow>,
        undecodable: Vec<(bytes::Bytes, String)>,
    ) -> Result<(), CollectError> {
        let page = self.page_now();
        let mut notes = self.notes.clone();
        self.notes.rows = self
            .store
            .write(move |db| {
                notes.rows += page.apply(db, &rows)?;
                page.bury(db, &undecodable)?;
                save_notes(db, page.settings.stream, &notes)?;
                Ok(notes.rows)
            })
            .await?;
        Ok(())
    }

    /// A complete walk is over: what it did not list is missing, and after two such walks removed.
    async fn conclude(&mut self, listed: HashMap<u128, bool>) -> Result<(), CollectError> {
        let page = self.page_now();
        let mut notes = self.notes.clone();
        notes.complete = Some(page.now);
        notes.listed = listed.len() as u64;
        notes.unproven = None;
        if let Some(restating) = notes.restating.take() {
            notes.restated = restating;
        }
        self.notes = self
            .store
            .write(move |db| {
                notes.rows += page.conclude(db, &listed)?;
                page.note_unknown(db, &mut notes)?;
                save_notes(db, page.settings.stream, &notes)?;
                Ok(notes)
            })
            .await?;
        Ok(())
    }

    /// Rows held as unknown are removed for certain when the portal lists them as deleted.
    async fn ask_for_deleted(&mut self) -> Result<(), CollectError> {
        match self.walk(true).await {
            Ok(Ok(listed)) => {
                let confirmed: HashSet<u128> =
                    listed.iter().filter(|(_, deleted)| **deleted).map(|(id, _)| *id).collect();
                if confirmed.is_empty() {
                    return Ok(());
                }
                let (page, mut notes) = (self.page_now(), self.notes.clone());
                self.notes = self
                    .store
                    .write(move |db| {
                        notes.rows += page.remove_unknown(db, |id| confirmed.contains(&id))?;
                        page.note_unknown(db, &mut notes)?;
                        save_notes(db, page.settings.stream, &notes)?;
                        Ok(notes)
                    })
                    .await?;
                Ok(())
            }
            Ok(Err(_)) | Err(CollectError::Refused(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn page_now(&self) -> Page {
        Page {
            settings: self.settings.clone(),
            now: self.listing.now(),
            stored: self.clock.now().timestamp_micros(),
            restating: self.notes.restating,
        }
    }

    async fn save(&mut self) -> Result<(), CollectError> {
        let (stream, notes) = (self.settings.stream, self.notes.clone());
        Ok(self.store.write(move |db| save_notes(db, stream, &notes)).await?)
    }
}

fn save_notes(db: &Connection, stream: i64, notes: &SnapshotNotes) -> Result<(), StoreError> {
    let notes = serde_json::to_string(notes).expect("notes hold only numbers and text");
    streams::set_notes(db, stream, &notes)
}

fn is_deleted(row: &ListedRow) -> bool {
    let text = std::str::from_utf8(&row.body).unwrap_or_default();
    fields(text, &["isDeleted"]).is_ok_and(|[deleted]| deleted.is_some_and(|value| value.get() == "true"))
}

/// Takes the word of the operator that every row of a site that is held as unknown is removed; each gives
/// an entry, as if the portal had said so. `now` is the portal's time, `stored` ours. Answers how many rows
/// that were; none for a site that the state does not know.
///
/// # Errors
/// Those of the state.
pub fn confirm_removed(
    db: &Connection,
    site: &str,
    now: Micros,
    stored: Micros,
) -> Result<Option<u64>, StoreError> {
    let Some(connection) = connections::list(db)?.into_iter().find(|connection| connection.site == site)
    else {
        return Ok(None);
    };
    let mut removed = 0;
    for stream in streams::list(db, connection.id)? {
        let Some(source) = by_name(&stream.source) else { continue };
        let Shape::Snapshot { volatile } = source.shape() else { continue };
        let organization = OrganizationId::new(&stream.scope);
        let tree = stream.scope == "tree";
        let settings = SnapshotSettings {
            connection: connection.id,
            epoch: connection.epoch,
            source: source.name(),
            kind: source.kind(),
            scope: if tree { Scope::Tree(organization) } else { Scope::Organization(organization) },
            volatile,
            page_size: 0,
            restate: None,
            stream: stream.id,
            set: stream.set,
        };
        let page = Page { settings, now, stored, restating: None };
        let entries = page.remove_unknown(db, |_| true)?;
        let mut notes: SnapshotNotes = serde_json::from_str(&stream.notes).unwrap_or_default();
        notes.rows += entries;
        page.note_unknown(db, &mut notes)?;
        save_notes(db, stream.id, &notes)?;
        removed += entries;
    }
    Ok(Some(removed))
}

/// What the jobs of one page or walk need to know.
struct Page {
    settings: SnapshotSettings,
    now: Micros,
    stored: Micros,
    restating: Option<Micros>,
}

/// An entry with what it borrows from.
struct Made {
    uid: Uuid,
    change: Change,
    organization: String,
    vendor_id: String,
    row: String,
    previous: Option<String>,
}

impl Page {
    fn apply(&self, db: &Connection, rows: &[ListedRow]) -> Result<u64, StoreError> {
        let connection = self.settings.connection;
        connections::set_clock(db, connection, self.now, self.stored)?;
        let mut organizations: HashMap<&OrganizationId, (i64, bool)> = HashMap::new();
        let mut checkins: HashMap<i64, Option<Micros>> = HashMap::new();
        let mut made = Vec::new();
        for row in rows {
            let (organization, ours) = match organizations.get(&row.organization) {
                Some(known) => *known,
                None => {
                    let name = row.organization_name.as_deref();
                    let key = connections::organization(db, connection, &row.organization, name, self.now)?;
                    let owner = connections::claim(db, &row.organization, self.settings.source, connection)?;
                    organizations.insert(&row.organization, (key, owner == connection));
                    (key, owner == connection)
                }
            };
            let newest = checkins.entry(organization).or_insert(None);
            *newest = (*newest).max(row.at);
            if ours {
                made.extend(self.compare(db, organization, row)?);
            }
        }
        for (organization, checkin) in checkins {
            snapshots::note_checkin(db, connection, organization, checkin, self.now)?;
        }
        self.append(db, &made)
    }

    /// The entry that a listed row gives, if it tells anything new.
    fn compare(
        &self,
        db: &Connection,
        organization: i64,
        row: &ListedRow,
    ) -> Result<Option<Made>, StoreError> {
        let (set, Some(vendor_id)) = (self.settings.set, row.vendor_id.as_deref()) else { return Ok(None) };
        // As the uid does: a portal that changes the case of a GUID means the same thing.
        let vendor_id = &*folded(vendor_id);
        let text = std::str::from_utf8(&row.body).expect("a listed row is checked text");
        let print =
            fingerprint(text, self.settings.volatile).unwrap_or_else(|_| digest(&[&row.body])).to_vec();
        let known = snapshots::get(db, set, organization, vendor_id)?;
        let restated = self.restating.unwrap_or(0);
        let (change, previous) = match &known {
            None => (Change::New, None),
            Some(known) if known.presence == Presence::Removed => (Change::New, Some(&known.row)),
            Some(known) if known.fingerprint != print => (Change::Changed, Some(&known.row)),
            Some(known) => {
                if known.presence != Presence::Present {
                    snapshots::set_presence(db, set, organization, vendor_id, Presence::Present)?;
                }
                if known.restated >= restated {
                    return Ok(None);
                }
                snapshots::set_restated(db, set, organization, vendor_id, restated)?;
                return Ok(Some(self.made(row, Change::Restated, &format!("restated@{restated}"), None)));
            }
        };
        let restated = known.as_ref().map_or(0, |known| known.restated).max(restated);
        let now_known = Known {
            fingerprint: print.clone(),
            row: row.body.to_vec(),
            presence: Presence::Present,
            restated,
        };
        snapshots::set(db, set, organization, vendor_id, &now_known, self.now)?;
        let before = snapshots::enter(db, set, organization, vendor_id, &print)?;
        let occurrence = format!("{}/{before}", hex(&print));
        Ok(Some(self.made(row, change, &occurrence, previous)))
    }

    fn made(&self, row: &ListedRow, change: Change, occurrence: &str, previous: Option<&Vec<u8>>) -> Made {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let vendor_id = row.vendor_id.clone().unwrap_or_default();
        Made {
            uid: uid(
                row.organization.as_str(),
                self.settings.source,
                &vendor_id,
                self.settings.kind.as_str(),
                occurrence,
            ),
            change,
            organization: row.organization.as_str().to_owned(),
            vendor_id,
            row: text(&row.body),
            previous: previous.map(|row| text(row)),
        }
    }

    fn append(&self, db: &Connection, made: &[Made]) -> Result<u64, StoreError> {
        if made.is_empty() {
            return Ok(0);
        }
        let entries: Vec<NewEntry<'_>> = made
            .iter()
            .map(|one| NewEntry {
                uid: one.uid,
                kind: self.settings.kind,
                change: one.change,
                organization: &one.organization,
                vendor_id: Some(&one.vendor_id),
                time: Some(self.now),
                row: &one.row,
                previous: one.previous.as_deref(),
            })
            .collect();
        let settings = &self.settings;
        outbox::append(
            db,
            settings.connection,
            settings.epoch,
            Lane::Live,
            settings.source,
            self.now,
            self.stored,
            &entries,
        )?;
        Ok(entries.len() as u64)
    }

    /// Keeps rows that nobody can read.
    fn bury(&self, db: &Connection, undecodable: &[(bytes::Bytes, String)]) -> Result<(), StoreError> {
        for (body, reason) in undecodable {
            dead_letters::insert(
                db,
                &dead_letters::NewDeadLetter {
                    sink: None,
                    connection: self.settings.connection,
                    source: self.settings.source,
                    organization_id: None,
                    number: None,
                    uid: Some(Uuid::from_bytes(digest(&[body]))),
                    vendor_id: None,
                    reason,
                    stored: self.stored,
                    body,
                },
            )?;
        }
        Ok(())
    }

    /// Judges what a complete walk did not list. Answers how many entries that made.
    fn conclude(&self, db: &Connection, listed: &HashMap<u128, bool>) -> Result<u64, StoreError> {
        let living = self.living(db)?;
        let absent: Vec<&snapshots::Listed> =
            living.iter().filter(|one| !listed.contains_key(&self.row_id(one))).collect();
        let unbelievable = Unbelievable::judge(&living, &absent);
        let mut made = Vec::new();
        for one in absent {
            let presence = if unbelievable.holds(one.organization) || one.presence == Presence::Unknown {
                Presence::Unknown
            } else if one.presence == Presence::Missing {
                Presence::Removed
            } else {
                Presence::Missing
            };
            match presence {
                Presence::Removed => made.extend(self.remove(db, one)?),
                other if other != one.presence => {
                    snapshots::set_presence(db, self.settings.set, one.organization, &one.vendor_id, other)?;
                }
                _ => {}
            }
        }
        self.append(db, &made)
    }

    /// What of the stream's scope is not known to be removed.
    fn living(&self, db: &Connection) -> Result<Vec<snapshots::Listed>, StoreError> {
        let settings = &self.settings;
        let scope = match &settings.scope {
            Scope::Tree(_) => None,
            Scope::Organization(organization) => {
                Some(connections::organization(db, settings.connection, organization, None, self.now)?)
            }
        };
        snapshots::living(db, settings.set, scope)
    }

    /// The id under which a page lists a row.
    fn row_id(&self, one: &snapshots::Listed) -> u128 {
        let kind = self.settings.kind.as_str();
        uid(&one.organization_id, self.settings.source, &one.vendor_id, kind, "0").as_u128()
    }

    /// Removes what is held as unknown and whose id is confirmed. Answers how many entries that made.
    fn remove_unknown(&self, db: &Connection, confirmed: impl Fn(u128) -> bool) -> Result<u64, StoreError> {
        let mut made = Vec::new();
        for one in self.living(db)? {
            if one.presence == Presence::Unknown && confirmed(self.row_id(&one)) {
                made.extend(self.remove(db, &one)?);
            }
        }
        self.append(db, &made)
    }

    /// Notes what of the stream's scope is held as unknown.
    fn note_unknown(&self, db: &Connection, notes: &mut SnapshotNotes) -> Result<(), StoreError> {
        let scope = &self.settings.scope;
        notes.unknown = snapshots::unknown(db, self.settings.set)?;
        notes.unknown.retain(|(organization, _)| scope.is_tree() || organization == scope.name());
        notes.unknown_since = match notes.unknown.is_empty() {
            true => None,
            false => notes.unknown_since.or(Some(self.now)),
        };
        Ok(())
    }

    fn remove(&self, db: &Connection, one: &snapshots::Listed) -> Result<Option<Made>, StoreError> {
        let set = self.settings.set;
        let Some(known) = snapshots::get(db, set, one.organization, &one.vendor_id)? else { return Ok(None) };
        let before = snapshots::enter(db, set, one.organization, &one.vendor_id, b"removed")?;
        let row = String::from_utf8_lossy(&known.row).into_owned();
        let removed = Known { presence: Presence::Removed, fingerprint: Vec::new(), ..known };
        snapshots::set(db, set, one.organization, &one.vendor_id, &removed, self.now)?;
        Ok(Some(Made {
            uid: uid(
                &one.organization_id,
                self.settings.source,
                &one.vendor_id,
                self.settings.kind.as_str(),
                &format!("removed/{before}"),
            ),
            change: Change::Removed,
            organization: one.organization_id.clone(),
            vendor_id: one.vendor_id.clone(),
            previous: Some(row.clone()),
            row,
        }))
    }
}

/// Where too much is missing at once to believe it.
struct Unbelievable {
    everywhere: bool,
    organizations: HashSet<i64>,
}

impl Unbelievable {
    /// More than 10 % and more than 3 at once, or all of more than one in an organization.
    fn judge(living: &[snapshots::Listed], absent: &[&snapshots::Listed]) -> Self {
        let everywhere = absent.len() > 3 && absent.len() * 10 > living.len();
        let mut known: HashMap<i64, usize> = HashMap::new();
        for one in living {
            *known.entry(one.organization).or_default() += 1;
        }
        let mut missing: HashMap<i64, usize> = HashMap::new();
        for one in absent {
            *missing.entry(one.organization).or_default() += 1;
        }
        let organizations = missing
            .into_iter()
            .filter(|(organization, count)| *count > 1 && known.get(organization) == Some(count))
            .map(|(organization, _)| organization)
            .collect();
        Self { everywhere, organizations }
    }

    fn holds(&self, organization: i64) -> bool {
        self.everywhere || self.organizations.contains(&organization)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
