//! Reading one request's listing page by page: what a page teaches about the portal, which rows enter, and
//! what becomes of a page that does not decode.

use std::any::Any;
use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use foldhash::fast::RandomState;
use uuid::Uuid;

use super::{Commit, DAY, Ledger, RowCommit, WindowStream};
use crate::collect::{CollectError, Listed, ListedRow, Listing, content_uid};
use crate::coverage::Axis;
use crate::coverage::walk::{Next, RowId, Walk, Why};
use crate::model::{Lane, Micros, RowIds, SECOND, Seconds, uid, vendor_key};
use crate::normalise::digest;
use crate::portal::SAFE_PAGE_SIZE;
use crate::source::{Query, Scope};

/// Which rows of a walk become entries; all of them are remembered as seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Enter {
    All,
    /// All new ones, and of `[from, to)` those that were withheld as long as it was not owed.
    Owed(Seconds, Seconds),
    /// Rows received since then; `undated`: also those that do not say when.
    ImportedSince {
        since: Micros,
        undated: bool,
        /// Owed times at the ends of the request, `[from, to)`: what stands there may be listed with it.
        owed: [Option<(Micros, Micros)>; 2],
    },
}

/// A page that is not stored yet, and the memory that is set aside for it.
struct Unsaved {
    commit: Commit,
    reservation: Option<Box<dyn Any + Send + Sync>>,
}

/// How a walk ended, with what is still to be committed.
pub(super) struct Walked {
    pub(super) end: End,
    pub(super) walk: Walk,
    /// The last page, not committed yet.
    pub(super) pending: Commit,
    pub(super) undecodable: u64,
    /// Rows that bear the id of another row.
    pub(super) shared: u64,
    /// A page was read in several requests.
    pub(super) in_pieces: bool,
    /// The uids of all rows seen while the listing stood still.
    pub(super) listed: RowIds,
}

pub(super) enum End {
    Closed,
    Smaller { parts: i64, why: Why },
    Unproven,
}

/// Bytes of rows without id that a walk may hold until it closes.
const HELD_BYTES: usize = 8 * 1024 * 1024;
/// Tries of a row that does not decode, this far apart on the portal's time.
const TRIES: u32 = 3;
const BETWEEN_TRIES: Micros = 60 * SECOND;
impl<L: Listing, S: Ledger> WindowStream<L, S> {
    pub(super) async fn walk(
        &mut self,
        request: (Seconds, Seconds),
        lane: Lane,
        split: Option<&'static str>,
        enter: Enter,
    ) -> Result<Walked, CollectError> {
        let depth = self.notes.observed.depth();
        match self.walk_to(depth, request, lane, split, enter).await {
            // Some tenants answer 500 for a parent without the child flag (contract section 8.3).
            Err(CollectError::Refused(_)) if self.may_go_through_tree() => {
                // A second try, so that a fault that passes does not decide it.
                let refusal = match self.walk_to(depth, request, lane, split, enter).await {
                    Err(CollectError::Refused(refusal)) => refusal,
                    walked => return walked,
                };
                self.notes.through_tree = true;
                let walked = self.walk_to(depth, request, lane, split, enter).await;
                self.notes.through_tree = walked.is_ok();
                if walked.is_err() {
                    return Err(CollectError::Refused(refusal));
                }
                tracing::info!(%refusal, "asked with the child flag from now on");
                walked
            }
            Err(CollectError::PageTooLarge(error)) if self.settings.page_size > SAFE_PAGE_SIZE => {
                tracing::warn!(%error, "smaller pages are asked from now on");
                self.settings.page_size = SAFE_PAGE_SIZE;
                self.walk_to(depth, request, lane, split, enter).await
            }
            walked => walked,
        }
    }

    fn may_go_through_tree(&self) -> bool {
        !self.settings.scope.is_tree() && !self.notes.through_tree
    }

    /// Whether a row belongs to what this stream collects.
    fn is_ours(&self, row: &ListedRow) -> bool {
        !self.notes.through_tree || row.organization == *self.settings.scope.organization()
    }

    /// Reads one request's listing page by page, no deeper than `depth` rows; each page but the last is
    /// committed while the next one is asked for.
    pub(super) async fn walk_to(
        &mut self,
        depth: u64,
        request: (Seconds, Seconds),
        lane: Lane,
        split: Option<&'static str>,
        enter: Enter,
    ) -> Result<Walked, CollectError> {
        let fullest = self.notes.observed.fullest_page;
        let mut walk = Walk::new(self.settings.page_size, depth).knowing(fullest);
        // Rows that count as equal may still differ in what changes: every body is kept.
        let mut held: HashMap<[u8; 16], Vec<ListedRow>> = HashMap::new();
        let mut held_bytes = 0;
        let (mut undecodable, mut shared) = (HashSet::new(), HashSet::new());
        let mut in_pieces = false;
        let mut page = 1;
        let mut before = None;
        loop {
            let query = self.query(request, page, walk.size(), split);
            let mut listed = match self.page(&query, before.take()).await {
                // Beyond the depth limit a portal answers an error (contract section 8.3).
                Err(CollectError::Refused(error)) if page > 1 => {
                    tracing::debug!(%error, page, "a deep page is refused");
                    let end = End::Smaller { parts: 2, why: Why::DeepPageRefused };
                    let pending = Commit::default();
                    return Ok(Walked {
                        end,
                        walk,
                        pending,
                        undecodable: 0,
                        shared: 0,
                        in_pieces,
                        listed: RowIds::default(),
                    });
                }
                answer => answer?,
            };
            in_pieces |= listed.in_pieces;
            if !listed.in_pieces {
                shared.extend(sharing_an_id(&listed.rows));
            }
            let swap_axis = self.observe(request, &listed);
            let mut ids: Vec<RowId> = listed.rows.iter().map(|row| row.id).collect();
            ids.extend(listed.undecodable.iter().map(|(bytes, _)| RowId::Content(digest(&[bytes]))));
            let next = match listed.in_pieces {
                true => walk.page_in_pieces(&ids, listed.total),
                false => walk.page(&ids, listed.total),
            };
            let mut commit = Commit { lane: Some(lane), swap_axis, ..Commit::default() };
            for row in listed.rows.iter().filter(|row| self.is_ours(row)) {
                match row.id {
                    RowId::Vendor(id) => {
                        commit.rows.push(self.row_commit(row, Uuid::from_u128(id), request, enter, 0));
                    }
                    RowId::Content(hash) => {
                        let equals = held.entry(hash).or_default();
                        if !equals.iter().any(|held| held.body == row.body) {
                            held_bytes += row.body.len();
                            // A copy, so that the page's memory is free.
                            equals.push(ListedRow { body: Bytes::copy_from_slice(&row.body), ..row.clone() });
                        }
                    }
                }
            }
            for (bytes, why) in &listed.undecodable {
                let id = digest(&[bytes]);
                undecodable.insert(id);
                commit.dead.push((Uuid::from_bytes(id), bytes.clone(), why.clone()));
            }
            let end = match next {
                Next::Page(next) if held_bytes <= HELD_BYTES => {
                    let commit = self.completed(commit);
                    before = Some(Unsaved { commit, reservation: listed.reservation.take() });
                    page = next;
                    continue;
                }
                Next::Page(_) => End::Smaller { parts: 2, why: Why::TooMuchToHold },
                Next::Closed => End::Closed,
                Next::Smaller { parts, why } => End::Smaller { parts, why },
                Next::Unproven => End::Unproven,
            };
            let mut listed = walk.listed().clone();
            if matches!(end, End::Closed | End::Unproven) {
                for (hash, equals) in &held {
                    let copies = walk.copies().get(hash).copied().unwrap_or(0);
                    let mut rated = 0;
                    for (ordinal, row) in (0..copies).zip(equals.iter().cycle()) {
                        let settings = &self.settings;
                        let uid =
                            content_uid(&row.organization, settings.source, settings.kind, *hash, ordinal);
                        listed.insert(uid.as_u128());
                        commit.rows.push(self.row_commit(row, uid, request, enter, rated));
                        rated += u32::from(row.rated);
                    }
                }
            }
            let (undecodable, shared) = (undecodable.len() as u64, shared.len() as u64);
            return Ok(Walked { end, walk, pending: commit, undecodable, shared, in_pieces, listed });
        }
    }

    /// `rated`: how many of its equals before it are rated.
    pub(super) fn row_commit(
        &self,
        row: &ListedRow,
        uid: Uuid,
        request: (Seconds, Seconds),
        enter: Enter,
        rated: u32,
    ) -> RowCommit {
        let (at, other) = match self.notes.observed.axis {
            Axis::Imported => (row.imported.or(row.at), row.at),
            _ => (row.at.or(row.imported), row.imported),
        };
        let times = || [row.at, row.imported].into_iter().flatten();
        let (enter, owed) = match enter {
            _ if row.own => (false, false),
            Enter::All => (true, false),
            Enter::Owed(from, to) => {
                let inside = |at: Micros| (from * SECOND..to * SECOND).contains(&at);
                // Where it is not known by which time it is listed, either may be why.
                let owed = match self.notes.observed.axis {
                    Axis::Mixed => true,
                    Axis::Unknown => times().next().is_none() || times().any(inside),
                    Axis::DateTime | Axis::Imported => at.is_none_or(inside),
                };
                (true, owed)
            }
            Enter::ImportedSince { since, undated, owed } => {
                let beside = |at: Micros| owed.iter().flatten().any(|(from, to)| (*from..*to).contains(&at));
                let late = row.imported.map_or(undated, |imported| imported >= since);
                (late || times().any(beside), false)
            }
        };
        RowCommit {
            uid,
            organization: row.organization.clone(),
            organization_name: row.organization_name.clone(),
            vendor_id: row.vendor_id.clone(),
            time: row.at,
            // A row without any time counts where it was listed.
            at: at.unwrap_or((request.0 + request.1) / 2 * SECOND + 1),
            other,
            enter,
            owed,
            sighting: row.sighting.clone(),
            also: self.also(row, rated),
            body: row.body.clone(),
        }
    }

    /// The uid of a rated row as one of the source to which it belongs, too: there only rated rows are counted on.
    fn also(&self, row: &ListedRow, rated: u32) -> Option<Uuid> {
        let (source, kind) = self.settings.also.filter(|_| row.rated)?;
        Some(match row.id {
            RowId::Vendor(_) => {
                let key = vendor_key(self.settings.part, row.vendor_id.as_deref()?);
                uid(row.organization.as_str(), source, &key, kind.as_str(), "0")
            }
            RowId::Content(hash) => content_uid(&row.organization, source, kind, hash, rated),
        })
    }

    pub(super) fn query(
        &self,
        request: (Seconds, Seconds),
        page: u32,
        size: u32,
        split: Option<&'static str>,
    ) -> Query {
        let scope = match &self.settings.scope {
            Scope::Organization(own) if self.notes.through_tree => Scope::Tree(own.clone()),
            scope => scope.clone(),
        };
        let (part, filter) = (self.settings.part, self.settings.filter.clone());
        Query { part, span: Some(request), split, filter, ..Query::whole(scope, page, size) }
    }

    /// Learns from a page about the portal's ways. Answers whether rows must now be filed by their other
    /// time.
    fn observe(&mut self, request: (Seconds, Seconds), listed: &Listed) -> bool {
        let observed = &mut self.notes.observed;
        let before = observed.axis;
        for row in &listed.rows {
            observed.listed_row(request, row.at, row.imported);
        }
        if !listed.in_pieces {
            observed.fullest_page = observed.fullest_page.max(listed.rows.len() as u64);
        }
        if listed.total.is_some() || observed.totals.is_none() {
            observed.totals = Some(listed.total.is_some());
        }
        before != Axis::Imported && observed.axis == Axis::Imported
    }

    /// One page, while the one before it is stored. Where it does not decode, the same rows in smaller pages, down to
    /// the guilty row. That one is given up when its neighbours decode and three tries minutes apart failed.
    async fn page(&mut self, query: &Query, before: Option<Unsaved>) -> Result<Listed, CollectError> {
        self.requests += 1;
        let save = async {
            let Some(Unsaved { commit, reservation }) = before else { return Ok(0) };
            let saved = self.ledger.commit(commit).await;
            // The page that is asked for may wait for this memory.
            drop(reservation);
            saved
        };
        let (saved, answer) = tokio::join!(save, self.listing.list(query));
        self.notes.rows += saved?;
        let whole = match answer {
            Err(CollectError::Undecodable(error)) => error,
            answer => return answer,
        };
        let whole_size = u64::from(query.size);
        let mut pieces = parts(u64::from(query.page - 1) * whole_size, whole_size);
        let mut read = Listed { in_pieces: true, ..Listed::default() };
        let (mut decoded, mut failed) = (false, None);
        while let Some((from, length)) = pieces.pop() {
            let piece = Query {
                page: u32::try_from(from / length).expect("no deeper than the page itself") + 1,
                size: u32::try_from(length).expect("a part of the page size"),
                ..query.clone()
            };
            self.requests += 1;
            match self.listing.list(&piece).await {
                Ok(mut part) => {
                    decoded |= !part.rows.is_empty();
                    read.total = part.total.or(read.total);
                    read.rows.append(&mut part.rows);
                    read.undecodable.append(&mut part.undecodable);
                }
                Err(CollectError::Undecodable(_)) if length > 1 => pieces.extend(parts(from, length)),
                Err(CollectError::Undecodable(error)) => match self.give_up(query, from) {
                    Some(row) => read.undecodable.push((row, "its page does not decode".to_owned())),
                    None => failed = Some(error),
                },
                Err(error) => return Err(error),
            }
            // Where nothing decodes the fault may be the portal's: asking on would only ask more.
            if failed.is_some() && !decoded {
                break;
            }
        }
        match failed {
            // Only a first page: pages of nothing else might go on for ever.
            None if decoded || (query.page == 1 && self.neighbour_decodes(query).await?) => Ok(read),
            failed => Err(CollectError::Portal(failed.unwrap_or(whole))),
        }
    }

    /// Whether the time before a request is answered with what can be read: then the fault is the row's
    /// and not the portal's.
    async fn neighbour_decodes(&mut self, query: &Query) -> Result<bool, CollectError> {
        let (from, _) = query.span.unwrap_or_default();
        self.requests += 1;
        let before = Query { span: Some((from - DAY, from - 1)), page: 1, size: 1, ..query.clone() };
        match self.listing.list(&before).await {
            Ok(_) => Ok(true),
            Err(CollectError::Undecodable(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Counts a failed try of a request's rows; answers what to remember one by once it has had enough.
    fn give_up(&mut self, query: &Query, offset: u64) -> Option<Bytes> {
        let (from, to) = query.span.unwrap_or_default();
        let now = self.listing.now();
        let (tries, last) = self.broken.entry(to).or_insert((0, Micros::MIN));
        if now.saturating_sub(*last) >= BETWEEN_TRIES {
            (*tries, *last) = (*tries + 1, now);
        }
        (*tries >= TRIES).then(|| Bytes::from(format!("row {offset} of the listing of {from}..{to}")))
    }
}

/// A page's rows as equal smaller pages, last first: as few as divide it evenly, since a page can only
/// begin at a multiple of its size.
fn parts(from: u64, length: u64) -> Vec<(u64, u64)> {
    let count = (2..=length).find(|count| length.is_multiple_of(*count)).unwrap_or(1);
    let part = length / count;
    (0..count).rev().map(|place| (from + place * part, part)).collect()
}

/// The rows of a page that bear the id of an earlier one and another time, by both: one state of a listing shows no
/// row twice, so these are several.
fn sharing_an_id(rows: &[ListedRow]) -> Vec<(u128, Option<Micros>)> {
    let mut first: HashMap<_, _, RandomState> = HashMap::default();
    let mut sharing = Vec::new();
    for row in rows {
        if let RowId::Vendor(id) = row.id
            && *first.entry(id).or_insert(row.at) != row.at
        {
            sharing.push((id, row.at));
        }
    }
    sharing
}
