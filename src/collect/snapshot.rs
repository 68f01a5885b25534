//! Collecting a source that is asked as a whole: every row is compared with what is known of it.
//!
//! Changes commit page by page. That something is gone is only concluded from complete walks: absent from
//! one it is missing, from two it is removed. Where too much is missing at once the portal is not believed
//! (a role that was unticked answers an empty list): such rows are held as unknown until they return,
//! the portal lists them as deleted, or the operator confirms.

mod matching;
mod page;
mod parts;
mod spans;
mod told;

use std::any::Any;
use std::collections::{HashMap, HashSet};

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use self::matching::Answered;
pub use self::matching::Asking;
use self::page::{Applied, Page};
pub use self::parts::{Memory, PartsNotes, PartsSettings};
pub use self::spans::{Hole, SpanNotes};
use super::{CollectError, Listed, ListedRow, Listing, bury};
use crate::clock::Clock;
use crate::coverage::walk::{Next, RowId, Walk};
use crate::model::{ConnectionId, Kind, Micros, OrganizationId, RowIds, Seconds, folded};
use crate::normalise::{digest, fields};
use crate::portal::SAFE_PAGE_SIZE;
use crate::source::{Filter, Query, Scope, Shape, Source, by_name};
use crate::sources::reports;
use crate::store::{Store, StoreError, WriterDb, connections, streams};

/// How a snapshot stream is asked.
#[derive(Clone, Debug)]
pub struct SnapshotSettings {
    pub connection: ConnectionId,
    pub epoch: i64,
    pub source: &'static str,
    pub kind: Kind,
    pub scope: Scope,
    /// What is asked for of the source.
    pub filter: Filter,
    /// New devices may be those of a report, which is not run any more.
    pub takes_over: bool,
    /// Fields that do not count as a change.
    pub volatile: &'static [&'static str],
    pub page_size: u32,
    /// Where there is no list of all: how each part is asked.
    pub parts: Option<PartsSettings>,
    /// How often every row is sent again, on the portal's time.
    pub restate: Option<Micros>,
    pub stream: i64,
    pub set: i64,
}

/// What a snapshot stream remembers; one JSON document in the store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SnapshotNotes {
    /// When the stream polled first, for sources that leave out what ended long before.
    pub began: Option<Micros>,
    /// What the portal answered where it refused something of a poll, for sources that go on all the same.
    pub refused: Option<String>,
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
    /// Of a source that is asked in parts.
    pub parts: PartsNotes,
    /// Of a report that shows a span of time.
    pub spans: SpanNotes,
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
    /// Of a source that is asked in parts: what was seen since start.
    pub memory: Memory,
}

/// Why a walk proves nothing.
#[derive(Debug, thiserror::Error)]
enum Unfinished {
    #[error("{0} rows could not be read; see the dead letters")]
    Unreadable(usize),
    #[error("{0}")]
    Walk(&'static str),
    /// As far as the portal lists anything (contract section 1.6).
    #[error("there is more than the portal lists at once")]
    TooDeep,
    #[error("{0}")]
    Partial(String),
}

/// What a walk to the end of a listing saw.
#[derive(Debug, Default)]
struct Seen {
    /// Whether it is listed as deleted, by the id of its row.
    listed: HashMap<u128, bool>,
    /// The vendor's ids of what is there without a row.
    unseen: HashSet<String>,
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
        if let Some(settings) = self.settings.parts {
            return self.poll_parts(settings).await;
        }
        self.begin_restatement().await?;
        if self.settings.filter.private.is_some() && self.notes.began.is_none() {
            self.notes.began = Some(self.listing.now());
            self.save().await?;
        }
        if let Some(report) = self.settings.filter.report.clone() {
            return self.poll_report(&report).await;
        }
        let before = self.notes.rows;
        let mut why = Unfinished::Unreadable(0);
        for _ in 0..WALKS {
            match self.walk(0, false, None).await? {
                Ok(seen) => {
                    self.conclude(seen).await?;
                    if !self.notes.unknown.is_empty() && self.lists_deleted() {
                        self.ask_for_deleted().await?;
                    }
                    return Ok(self.notes.rows - before);
                }
                Err(reason) => why = reason,
            }
            if matches!(why, Unfinished::Partial(_)) {
                break;
            }
        }
        self.notes.unproven = Some(why.to_string());
        self.save().await?;
        match why {
            // Told by the dead letters or by status; the rest is as it is listed.
            Unfinished::Unreadable(_) | Unfinished::Partial(_) => Ok(self.notes.rows - before),
            why => Err(CollectError::Incomplete(why.to_string())),
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

    /// Reads all pages and commits what changed. Answers the rows listed, or why the walk proves nothing. `span`: of a
    /// report, another than its newest one.
    async fn walk(
        &mut self,
        part: u8,
        deleted: bool,
        span: Option<(Seconds, Seconds)>,
    ) -> Result<Result<Seen, Unfinished>, CollectError> {
        let mut walk = Walk::new(self.settings.page_size, u64::MAX);
        let mut seen = Seen::default();
        let mut page = 1;
        let (mut unusable, mut partial) = (0, None);
        loop {
            let answer = match self.list(part, page, deleted, span).await {
                Err(CollectError::Refused(_)) if self.is_deep(page) => {
                    return Ok(Err(Unfinished::TooDeep));
                }
                Err(CollectError::PageTooLarge(error)) if self.settings.page_size > SAFE_PAGE_SIZE => {
                    tracing::warn!(%error, "smaller pages are asked from now on");
                    self.settings.page_size = SAFE_PAGE_SIZE;
                    return Ok(Err(Unfinished::Walk("the portal takes smaller pages only")));
                }
                answer => answer?,
            };
            (self.memory.total, self.memory.dated) = (answer.total, answer.dated);
            let mut ids: Vec<RowId> = answer.rows.iter().map(|row| row.id).collect();
            ids.extend(answer.undecodable.iter().map(|(bytes, _)| RowId::Content(digest(&[bytes]))));
            ids.extend(
                answer.unseen.iter().map(|id| RowId::Vendor(u128::from_be_bytes(digest(&[id.as_bytes()])))),
            );
            seen.unseen.extend(answer.unseen.iter().map(|id| folded(id).into_owned()));
            partial = partial.or(answer.partial);
            unusable += answer.undecodable.len();
            let mut rows = Vec::with_capacity(answer.rows.len());
            for row in answer.rows {
                let is_deleted = is_deleted(&row);
                match (row.id, row.vendor_id.as_deref()) {
                    (RowId::Vendor(id), _) => drop(seen.listed.insert(id, is_deleted)),
                    // It goes by what it says, and may be listed more than once.
                    (RowId::Content(_), Some(id)) => drop(seen.unseen.insert(folded(id).into_owned())),
                    (RowId::Content(_), None) => {}
                }
                if !is_deleted {
                    rows.push(row);
                }
            }
            self.apply(part, rows, answer.undecodable, answer.reservation).await?;
            match answer.last {
                Some(false) => {
                    page += 1;
                    continue;
                }
                Some(true) if unusable > 0 => return Ok(Err(Unfinished::Unreadable(unusable))),
                Some(true) => return Ok(partial.map_or(Ok(seen), |why| Err(Unfinished::Partial(why)))),
                None => {}
            }
            match walk.page(&ids, answer.total) {
                Next::Page(next) => page = next,
                Next::Closed if unusable > 0 => {
                    return Ok(Err(Unfinished::Unreadable(unusable)));
                }
                Next::Closed => {
                    if let Some(why) = partial {
                        return Ok(Err(Unfinished::Partial(why)));
                    }
                    seen.listed.retain(|id, _| walk.listed().contains(id));
                    return Ok(Ok(seen));
                }
                Next::Smaller { .. } | Next::Unproven if self.is_deep(page) => {
                    return Ok(Err(Unfinished::TooDeep));
                }
                Next::Smaller { why, .. } => return Ok(Err(Unfinished::Walk(why.as_str()))),
                Next::Unproven => {
                    return Ok(Err(Unfinished::Walk("the portal counts rows that it does not list")));
                }
            }
        }
    }

    async fn list(
        &mut self,
        part: u8,
        page: u32,
        deleted: bool,
        span: Option<(Seconds, Seconds)>,
    ) -> Result<Listed, CollectError> {
        let (scope, size) = (self.settings.scope.clone(), self.settings.page_size);
        let filter = self.settings.filter.clone();
        let query = Query { part, deleted, span, filter, ..Query::whole(scope, page, size) };
        self.requests += u64::from(page == 1 || self.settings.filter.report.is_none());
        self.listing.list(&query).await
    }

    /// Commits what changed among the rows of a page, and then those of which the portal is asked more; of the memory of
    /// the page only these are held meanwhile.
    async fn apply(
        &mut self,
        part: u8,
        rows: Vec<ListedRow>,
        undecodable: Vec<(bytes::Bytes, String)>,
        reservation: Option<Box<dyn Any + Send + Sync>>,
    ) -> Result<Applied, CollectError> {
        let (rows, aside) = self.set_aside(part, rows).await?;
        let mut applied = self.commit(part, rows, undecodable, Vec::new()).await?;
        drop(reservation);
        if !aside.is_empty() {
            let (rows, answers) = self.ask_about(aside).await?;
            applied += self.commit(part, rows, Vec::new(), answers).await?;
        }
        Ok(applied)
    }

    async fn commit(
        &mut self,
        part: u8,
        rows: Vec<ListedRow>,
        undecodable: Vec<(bytes::Bytes, String)>,
        answers: Vec<Answered>,
    ) -> Result<Applied, CollectError> {
        let page = Page { history: self.history(part), answers, ..self.page_now() };
        let mut notes = self.notes.clone();
        let (applied, notes) = self
            .store
            .write(move |db| {
                let applied = page.apply(db, &rows)?;
                let SnapshotSettings { connection, source, volatile, .. } = &page.settings;
                bury(db, *connection, source, page.stored, &undecodable, volatile)?;
                notes.rows += applied.entries;
                notes.parts.read(part, applied.news);
                save_notes(db, page.settings.stream, &notes)?;
                Ok((applied, notes))
            })
            .await?;
        self.notes = notes;
        Ok(applied)
    }

    /// A complete walk is over: what it did not list is missing, and after two such walks removed.
    async fn conclude(&mut self, seen: Seen) -> Result<(), CollectError> {
        let page = self.page_now();
        let mut notes = self.notes.clone();
        notes.complete = Some(page.now);
        notes.listed = (seen.listed.len() + seen.unseen.len()) as u64;
        notes.unproven = None;
        if let Some(restating) = notes.restating.take() {
            notes.restated = restating;
        }
        self.notes = self
            .store
            .write(move |db| {
                notes.rows += page.conclude(db, &seen)?;
                page.note_unknown(db, &mut notes)?;
                save_notes(db, page.settings.stream, &notes)?;
                Ok(notes)
            })
            .await?;
        Ok(())
    }

    /// Rows held as unknown are removed for certain when the portal lists them as deleted.
    async fn ask_for_deleted(&mut self) -> Result<(), CollectError> {
        match self.walk(0, true, None).await {
            Ok(Ok(seen)) => {
                let confirmed: RowIds =
                    seen.listed.iter().filter(|(_, deleted)| **deleted).map(|(id, _)| *id).collect();
                if confirmed.is_empty() {
                    return Ok(());
                }
                let (page, mut notes) = (self.page_now(), self.notes.clone());
                self.notes = self
                    .store
                    .write(move |db| {
                        notes.rows += page.remove_unknown(db, |id| confirmed.contains(&id))?.1;
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

    fn lists_deleted(&self) -> bool {
        by_name(self.settings.source).is_some_and(Source::lists_deleted)
    }

    fn page_now(&self) -> Page {
        Page {
            settings: self.settings.clone(),
            now: self.listing.now(),
            stored: self.clock.now().timestamp_micros(),
            restating: self.notes.restating,
            history: None,
            answers: Vec::new(),
        }
    }

    async fn save(&mut self) -> Result<(), CollectError> {
        let (stream, notes) = (self.settings.stream, self.notes.clone());
        Ok(self.store.write(move |db| save_notes(db, stream, &notes)).await?)
    }
}

pub(super) fn save_notes(db: &Connection, stream: i64, notes: &SnapshotNotes) -> Result<(), StoreError> {
    let notes = serde_json::to_string(notes).expect("notes hold only numbers and text");
    streams::set_notes(db, stream, &notes)
}

fn is_deleted(row: &ListedRow) -> bool {
    let text = std::str::from_utf8(&row.body).unwrap_or_default();
    fields(text, &["isDeleted"]).is_ok_and(|[deleted]| deleted.is_some_and(|value| value == "true"))
}

/// Takes the word of the operator that every row of a site that is held as unknown is removed; each gives
/// an entry, as if the portal had said so. `now` is the portal's time, `stored` ours. Answers how many rows
/// that were; none for a site that the state does not know.
///
/// # Errors
/// Those of the state.
pub fn confirm_removed(
    db: &WriterDb,
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
        // Of what is no device nothing is ever told to be gone.
        if source.name() == reports::NAME && stream.fingerprint != reports::COMPUTERS_QUERY {
            continue;
        }
        let organization = OrganizationId::new(&stream.scope);
        let tree = stream.scope == "tree";
        let settings = SnapshotSettings {
            connection: connection.id,
            epoch: connection.epoch,
            source: source.name(),
            kind: source.kind(),
            scope: if tree { Scope::Tree(organization) } else { Scope::Organization(organization) },
            filter: Filter::default(),
            takes_over: false,
            volatile,
            parts: None,
            page_size: 0,
            restate: None,
            stream: stream.id,
            set: stream.set,
        };
        let page = Page { settings, now, stored, restating: None, history: None, answers: Vec::new() };
        let (rows, entries) = page.remove_unknown(db, |_| true)?;
        let mut notes: SnapshotNotes = serde_json::from_str(&stream.notes).unwrap_or_default();
        notes.rows += entries;
        page.note_unknown(db, &mut notes)?;
        save_notes(db, stream.id, &notes)?;
        removed += rows;
    }
    Ok(Some(removed))
}

#[cfg(test)]
mod tests;
