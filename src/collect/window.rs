//! Collecting a source that is asked by interval of time.
//!
//! A poll takes the live edge first ([`WindowStream::live`]); what time is left goes to background work,
//! a small piece at a time ([`WindowStream::background`]): gaps, re-checks, the daily scrub. Every page
//! commits on its own, so progress survives a crash; coverage is only ever written together with, or
//! after, the rows that it speaks of.

mod recheck;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{CollectError, Listed, ListedRow, Listing, content_uid};
use crate::coverage::walk::{Next, RowId, Walk, Why};
use crate::coverage::{Axis, Coverage, Interval, Observed, State};
use crate::model::{Kind, Lane, Micros, OrganizationId, SECOND, Seconds};
use crate::normalise::digest;
use crate::portal::SAFE_PAGE_SIZE;
use crate::source::{Filter, Query, Scope};
use crate::store::StoreError;

/// How one stream is asked and how far back it reaches. All lengths in seconds of the portal's time.
#[derive(Clone, Debug)]
pub struct WindowSettings {
    pub source: &'static str,
    pub kind: Kind,
    pub scope: Scope,
    pub part: u8,
    pub filter: Filter,
    /// Action types by which a second too full to be listed is taken apart.
    pub splits: &'static [&'static str],
    pub page_size: u32,
    /// Younger rows may still be on their way into the listing.
    pub settle: Seconds,
    pub backfill: Seconds,
    pub retention: Seconds,
    /// The longest stretch that counts as live; what is older is a gap.
    pub live_span: Seconds,
    /// Whether rows say when the portal received them.
    pub has_imported: bool,
}

/// What a stream remembers beside its intervals; one JSON document in the store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {
    /// Where coverage begins. Absent until the portal was first heard.
    pub start: Option<Seconds>,
    /// When the portal was first heard: older imports lie before the start.
    pub first_contact: Micros,
    pub observed: Observed,
    /// Per age of `recheck::AGES`: all before was checked again at that age.
    pub checked: [Seconds; recheck::AGES.len()],
    /// When the last scrub was complete.
    pub scrubbed: Seconds,
    /// How far the running scrub has come.
    pub scrub_at: Option<Seconds>,
    /// Which share of the retention is walked again next, whatever it counts.
    pub rewalk: u32,
    /// When a share was last chosen to be walked again.
    pub rewalked: Seconds,
    /// What is left of the share that is being walked again.
    pub rewalking: Option<(Seconds, Seconds)>,
    /// When rows dated after now were last looked for.
    pub future_checked: Seconds,
    /// What the portal counted before the retention, when last asked.
    pub ancient: Option<u64>,
    /// Length of the next piece of a gap.
    pub span: Option<Seconds>,
    /// The longest request that the portal takes.
    pub longest: Option<Seconds>,
    /// Rows collected in all.
    pub rows: u64,
    /// The portal lists this organization only with the child flag; rows of others are left out.
    pub through_tree: bool,
    /// Organizations that fell silent inside this tree, and since when.
    pub silent: BTreeMap<OrganizationId, Micros>,
}

/// One row on its way into the store.
#[derive(Clone, Debug)]
pub struct RowCommit {
    pub uid: Uuid,
    pub organization: OrganizationId,
    pub organization_name: Option<String>,
    pub vendor_id: Option<String>,
    /// When it happened, as the row says.
    pub time: Option<Micros>,
    /// Its time on the axis that the portal filters by.
    pub at: Micros,
    /// Its time on the other axis.
    pub other: Option<Micros>,
    /// Whether it becomes an entry, or is only counted.
    pub enter: bool,
    pub body: Bytes,
}

/// What stands or falls together.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    pub lane: Option<Lane>,
    /// The portal's time.
    pub collected: Micros,
    pub rows: Vec<RowCommit>,
    /// Rows that nobody can read: an id made from their bytes, the bytes and why.
    pub dead: Vec<(Uuid, Bytes, String)>,
    /// Files every row held so far by its other time first: the portal turned out to filter by that.
    pub swap_axis: bool,
    /// A range of the coverage and what stands in it now.
    pub intervals: Option<((Seconds, Seconds), Vec<Interval>)>,
    pub notes: Option<Notes>,
}

/// An organization that lists nothing although its rows are usual.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silent {
    pub organization: OrganizationId,
    /// Its newest row.
    pub since: Micros,
}

/// What the store knows for one stream. Ranges are `[from, to)` on the portal's axis.
pub trait Ledger: Send + Sync {
    /// Stores rows not seen before as entries, and the rest of the commit, in one transaction.
    /// Answers how many rows became entries.
    fn commit(&self, commit: Commit) -> impl Future<Output = Result<u64, StoreError>> + Send;
    /// Rows held and not gone.
    fn held(&self, from: Micros, to: Micros) -> impl Future<Output = Result<u64, StoreError>> + Send;
    /// Marks held rows in the range that are not among `listed` as gone; answers how many.
    fn gone(
        &self,
        from: Micros,
        to: Micros,
        listed: HashSet<u128>,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;
    /// Whether a held row at exactly this time is missing from `listed`.
    fn left_out(
        &self,
        at: Micros,
        listed: HashSet<u128>,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Whether silence from `since` to `until` is unusual: there were rows in at least 20 of the 24 hours
    /// before, and the newest of them is more than [`EXPECTED_GAPS`] expected gaps, and a minute, old.
    /// Answers that newest row's time.
    fn unusual_silence(
        &self,
        since: Micros,
        until: Micros,
    ) -> impl Future<Output = Result<Option<Micros>, StoreError>> + Send;
    /// Whether no computer of the scope checked in since `from`, seen by a walk after `to`.
    fn no_checkins(&self, from: Micros, to: Micros) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Organizations whose rows are usual and that list nothing for [`EXPECTED_GAPS`] expected gaps and 15
    /// minutes.
    fn silent(&self, now: Micros) -> impl Future<Output = Result<Vec<Silent>, StoreError>> + Send;
    /// Forgets rows with both times before `before`; `gone_only` spares what the portal still lists.
    fn prune(&self, before: Micros, gone_only: bool) -> impl Future<Output = Result<u64, StoreError>> + Send;
}

/// Which rows of a walk become entries; all of them are remembered as seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Enter {
    All,
    /// Rows received since then; `undated`: also those that do not say when.
    ImportedSince {
        since: Micros,
        undated: bool,
        /// Where the coverage begins, if that is the end of the request: what stands exactly on it may be
        /// listed with the time before.
        start: Option<Micros>,
    },
}

/// One stream of a window source.
pub struct WindowStream<L, S> {
    pub settings: WindowSettings,
    pub listing: L,
    pub ledger: S,
    pub coverage: Coverage,
    pub notes: Notes,
    /// Requests made since start.
    pub requests: u64,
    /// Tries of requests with rows that no answer could decode, and the last of them, by the end of the
    /// request: its beginning moves with the retention and where it is taken smaller.
    broken: HashMap<Seconds, (u32, Micros)>,
}

/// How a walk ended, with what is still to be committed.
struct Walked {
    end: End,
    walk: Walk,
    /// The last page, not committed yet.
    pending: Commit,
    undecodable: u64,
    /// The uids of all rows seen while the listing stood still.
    listed: HashSet<u128>,
}

enum End {
    Closed,
    Smaller { parts: i64, why: Why },
    Unproven,
}

/// A silence of so many expected gaps means something. Of rows that come by chance one gap in 400 is as
/// long; three gaps, as the design had it, would be one in 20 and cry wolf at every other poll.
pub const EXPECTED_GAPS: Micros = 6;
/// Bytes of rows without id that a walk may hold until it closes.
const HELD_BYTES: usize = 8 * 1024 * 1024;
/// Tries of a row that does not decode, this far apart on the portal's time.
const TRIES: u32 = 3;
const BETWEEN_TRIES: Micros = 60 * SECOND;
/// How much deeper than the portal was seen to list a second is tried that cannot be taken smaller.
const DEEPER: u64 = 4;
const DAY: Seconds = 86_400;
/// What is asked at once where more is refused: a day with the second before.
const NEARLY_A_DAY: Seconds = DAY - 1;

impl<L: Listing, S: Ledger> WindowStream<L, S> {
    pub fn new(
        settings: WindowSettings,
        listing: L,
        ledger: S,
        intervals: Vec<Interval>,
        notes: Notes,
    ) -> Self {
        Self {
            settings,
            listing,
            ledger,
            coverage: Coverage::from_intervals(intervals),
            notes,
            requests: 0,
            broken: HashMap::new(),
        }
    }

    /// The end of the time that is old enough to be listed completely.
    pub fn edge(&self) -> Seconds {
        self.listing.now().div_euclid(SECOND) - self.settings.settle
    }

    /// Collects the newest stretch that is not covered yet. Answers how many entries it made.
    pub async fn live(&mut self) -> Result<u64, CollectError> {
        let edge = self.edge();
        let start = self.begin(edge).await?;
        let last = self.coverage.within(start, edge).next_back();
        let from = match last {
            // A stretch that stayed empty is asked again together with what came after it.
            Some(last) if last.state == State::EmptyUnconfirmed => last.from.max(edge - DAY),
            Some(last) => last.to.max(edge - self.settings.live_span),
            None => start.max(edge - self.settings.live_span),
        };
        // A stretch with a row that does not decode is asked again as it was, so that its tries add up.
        let stuck = self.broken.keys().copied().filter(|to| (from + 1..edge).contains(to)).min();
        let to = stuck.unwrap_or(edge);
        let entered = if from < to { self.cover(from, to, Lane::Live).await?.0 } else { 0 };
        self.hear_silence().await?;
        Ok(entered)
    }

    /// Where coverage begins; decided when the portal is first heard.
    async fn begin(&mut self, edge: Seconds) -> Result<Seconds, CollectError> {
        if let Some(start) = self.notes.start {
            return Ok(start);
        }
        let start = edge - self.settings.backfill;
        self.notes.start = Some(start);
        self.notes.first_contact = self.listing.now();
        self.notes.scrubbed = edge;
        self.notes.rewalked = edge;
        for (checked, age) in self.notes.checked.iter_mut().zip(recheck::AGES) {
            *checked = (edge - age).max(start);
        }
        self.save(Commit::default()).await?;
        Ok(start)
    }

    /// Proves the newest part of `[from, to)` that can be walked at once. Answers how many entries that
    /// made, and where the part begins.
    async fn cover(
        &mut self,
        mut from: Seconds,
        to: Seconds,
        lane: Lane,
    ) -> Result<(u64, Seconds), CollectError> {
        let mut entered = 0;
        loop {
            let request = self.notes.observed.padded(from, to);
            let walked = match self.walk(request, lane, None, Enter::All).await {
                Ok(walked) => walked,
                Err(CollectError::Refused(error)) if to - from > NEARLY_A_DAY => {
                    self.notes.longest = Some(NEARLY_A_DAY);
                    from = to - NEARLY_A_DAY;
                    tracing::debug!(%error, "a long interval is refused, a day is asked instead");
                    continue;
                }
                Err(error) => return Err(error),
            };
            match walked.end {
                End::Smaller { parts, why } if to - from > 1 => {
                    self.learn_depth(why, &walked.walk);
                    entered += self.save(walked.pending).await?;
                    from = to - ((to - from) / parts).max(1);
                    self.notes.span = Some(to - from);
                }
                End::Smaller { why, .. } => {
                    let listed = walked.walk.total();
                    entered += self.save(walked.pending).await?;
                    entered += self.cover_second(from, lane, why, listed).await?;
                    return Ok((entered, from));
                }
                End::Closed | End::Unproven => {
                    entered += self.close(from, to, request, walked).await?;
                    return Ok((entered, from));
                }
            }
        }
    }

    /// A listing that ends before its total, or goes on after it, shows how deep the portal lists.
    fn learn_depth(&mut self, why: Why, walk: &Walk) {
        let shown = match why {
            Why::ListsMoreThanItCounts => walk.total(),
            Why::StopsAfterFullPage | Why::DeepPageRefused => Some(walk.rows()),
            _ => None,
        };
        let shown = shown.filter(|shown| *shown >= 2 * u64::from(self.settings.page_size));
        if let Some(shown) = shown {
            self.notes.observed.broke_off(shown);
        }
    }

    /// A walk over `[from, to)` came to its end: says so in the coverage, with what it found.
    async fn close(
        &mut self,
        mut from: Seconds,
        to: Seconds,
        request: (Seconds, Seconds),
        walked: Walked,
    ) -> Result<u64, CollectError> {
        let (listed, held) = (walked.walk.total(), walked.walk.held());
        let (state, reason) = match walked.end {
            End::Unproven => (
                State::StableUnproven,
                Some("walks find nothing new and the portal still counts differently".to_owned()),
            ),
            _ if walked.undecodable > 0 => {
                (State::StableUnproven, Some(format!("{} rows could not be decoded", walked.undecodable)))
            }
            _ if held == 0
                && let Some(last_row) = self.unusual_silence(from, to).await? =>
            {
                from = from.min(self.silent_from(last_row, from));
                (State::EmptyUnconfirmed, Some("the portal lists nothing where rows are usual".to_owned()))
            }
            _ => (State::Proven, None),
        };
        let checked = self.listing.now();
        self.coverage.set(Interval { from, to, state, listed, held, checked, reason });
        self.broken.retain(|end, _| *end <= from || *end > to);
        let entered = self.save(walked.pending).await?;
        if matches!(walked.end, End::Closed) {
            self.reconcile(request, walked.listed).await?;
            if held < self.notes.observed.depth() / 4 {
                self.notes.span = self.notes.span.map(|span| (span * 2).min(DAY));
            }
        }
        Ok(entered)
    }

    /// After a complete walk: held rows that the portal lists no more are gone, and rows that stand
    /// exactly on an end of the request tell whether that end counts.
    async fn reconcile(
        &mut self,
        request: (Seconds, Seconds),
        listed: HashSet<u128>,
    ) -> Result<(), CollectError> {
        if self.notes.observed.axis == Axis::Mixed {
            return Ok(());
        }
        let ((first, last), doubtful) = self.notes.observed.listed_range(request);
        for time in doubtful {
            if self.ledger.left_out(time, listed.clone()).await? {
                self.notes.observed.left_out(request, time);
            }
        }
        if self.ledger.held(first, last).await? != listed.len() as u64 {
            self.ledger.gone(first, last, listed).await?;
        }
        Ok(())
    }

    /// The newest row before `[from, to)` where that nothing is listed since is unusual: rows are usual
    /// here, no later ones were listed, and computers checked in.
    async fn unusual_silence(&self, from: Seconds, to: Seconds) -> Result<Option<Micros>, CollectError> {
        let silent_since = self.silent_since(from) * SECOND;
        let (from, to) = (from * SECOND, to * SECOND);
        let Some(last_row) = self.ledger.unusual_silence(silent_since, to).await? else { return Ok(None) };
        let witnessed =
            self.ledger.held(to, self.listing.now()).await? > 0 || self.ledger.no_checkins(from, to).await?;
        Ok((!witnessed).then_some(last_row))
    }

    /// Where a silence that became unusual began: behind the last row, as far back as time was walked.
    fn silent_from(&self, last_row: Micros, from: Seconds) -> Seconds {
        let since = (last_row.div_euclid(SECOND) + 1).max(from - DAY).max(self.notes.start.unwrap_or(from));
        self.coverage.gaps(since.min(from), from).last().map_or(since, |gap| gap.1)
    }

    /// Where the unconfirmed silence that reaches up to `from` began: however long it lasts, it does not
    /// become what is usual.
    fn silent_since(&self, from: Seconds) -> Seconds {
        let mut since = from;
        for before in self.coverage.within(Seconds::MIN, from).rev() {
            if before.state != State::EmptyUnconfirmed || before.to < since {
                break;
            }
            since = before.from;
        }
        since
    }

    /// Notes organizations that fell silent inside a tree, and reads again what was hidden of those that
    /// are back.
    async fn hear_silence(&mut self) -> Result<(), CollectError> {
        if !self.settings.scope.is_tree() {
            return Ok(());
        }
        let silent: BTreeMap<_, _> = self
            .ledger
            .silent(self.edge() * SECOND)
            .await?
            .into_iter()
            .map(|one| (one.organization, one.since))
            .collect();
        if silent == self.notes.silent {
            return Ok(());
        }
        let returned: Vec<_> = self
            .notes
            .silent
            .iter()
            .filter(|(organization, _)| !silent.contains_key(*organization))
            .map(|(organization, since)| (organization.clone(), *since))
            .collect();
        for (organization, since) in returned {
            tracing::info!(%organization, source = self.settings.source, "an organization lists rows again");
            let from = since.div_euclid(SECOND).max(self.notes.start.unwrap_or_default());
            self.coverage.forget(from, self.edge());
        }
        self.notes.silent = silent;
        self.save(Commit::default()).await?;
        Ok(())
    }

    /// A single second that cannot be walked as others are: without padding and deeper than the portal was
    /// seen to list, then by action type. `listed`: what the portal counts of it, padded.
    async fn cover_second(
        &mut self,
        second: Seconds,
        lane: Lane,
        why: Why,
        listed: Option<u64>,
    ) -> Result<u64, CollectError> {
        let bare = (second, second + 1);
        let depth = self.notes.observed.depth().saturating_mul(DEEPER);
        let whole = self.walk_to(depth, bare, lane, None, Enter::All).await?;
        let mut entered = 0;
        if !matches!(whole.end, End::Smaller { .. }) {
            let held = whole.walk.held();
            self.notes.observed.goes_as_deep_as(held);
            if self.notes.observed.start_included == Some(true) {
                return Ok(entered + self.close(second, second + 1, bare, whole).await?);
            }
            let why = "one second, too full to be asked together with the one before";
            self.settle_second(second, State::StableUnproven, why, listed, held);
            return Ok(entered + self.save(whole.pending).await?);
        }
        let total = whole.walk.total();
        entered += self.save(whole.pending).await?;
        let (mut held, mut closed) = (0, !self.settings.splits.is_empty());
        for split in self.settings.splits {
            let part = self.walk(bare, lane, Some(split), Enter::All).await?;
            closed &= matches!(part.end, End::Closed) && part.undecodable == 0;
            held += part.walk.held();
            entered += self.save(part.pending).await?;
        }
        let exact = total.is_some_and(|total| total == held && total > self.notes.observed.depth());
        let state = match closed {
            true if exact && self.notes.observed.start_included == Some(true) => State::Proven,
            true => State::StableUnproven,
            false => State::Unreachable,
        };
        let why = format!("one second, taken apart by action type: {}", why.as_str());
        self.settle_second(second, state, &why, listed, held);
        Ok(entered + self.save(Commit::default()).await?)
    }

    fn settle_second(&mut self, second: Seconds, state: State, why: &str, listed: Option<u64>, held: u64) {
        let checked = self.listing.now();
        let reason = (state != State::Proven).then(|| why.to_owned());
        self.coverage.set(Interval { from: second, to: second + 1, state, listed, held, checked, reason });
    }

    async fn walk(
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
                tracing::info!(source = self.settings.source, %refusal, "asked with the child flag from now on");
                walked
            }
            Err(CollectError::PageTooLarge(error)) if self.settings.page_size > SAFE_PAGE_SIZE => {
                tracing::warn!(source = self.settings.source, %error, "smaller pages are asked from now on");
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
    /// committed at once.
    async fn walk_to(
        &mut self,
        depth: u64,
        request: (Seconds, Seconds),
        lane: Lane,
        split: Option<&'static str>,
        enter: Enter,
    ) -> Result<Walked, CollectError> {
        let mut walk = Walk::new(self.settings.page_size, depth);
        // Rows that count as equal may still differ in what changes: every body is kept.
        let mut held: HashMap<[u8; 16], Vec<ListedRow>> = HashMap::new();
        let mut held_bytes = 0;
        let mut undecodable = HashSet::new();
        let mut page = 1;
        loop {
            let query = self.query(request, page, walk.size(), split);
            let listed = match self.page(&query).await {
                // Beyond the depth limit a portal answers an error (contract section 8.3).
                Err(CollectError::Refused(error)) if page > 1 => {
                    tracing::debug!(%error, page, "a deep page is refused");
                    let end = End::Smaller { parts: 2, why: Why::DeepPageRefused };
                    let pending = Commit::default();
                    return Ok(Walked { end, walk, pending, undecodable: 0, listed: HashSet::new() });
                }
                answer => answer?,
            };
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
                        commit.rows.push(self.row_commit(row, Uuid::from_u128(id), request, enter));
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
                    self.save(commit).await?;
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
                    for (ordinal, row) in (0..copies).zip(equals.iter().cycle()) {
                        let settings = &self.settings;
                        let uid =
                            content_uid(&row.organization, settings.source, settings.kind, *hash, ordinal);
                        listed.insert(uid.as_u128());
                        commit.rows.push(self.row_commit(row, uid, request, enter));
                    }
                }
            }
            let undecodable = undecodable.len() as u64;
            return Ok(Walked { end, walk, pending: commit, undecodable, listed });
        }
    }

    fn row_commit(&self, row: &ListedRow, uid: Uuid, request: (Seconds, Seconds), enter: Enter) -> RowCommit {
        let (at, other) = match self.notes.observed.axis {
            Axis::Imported => (row.imported.or(row.at), row.at),
            _ => (row.at.or(row.imported), row.imported),
        };
        let enter = match enter {
            Enter::All => true,
            Enter::ImportedSince { since, undated, start } => {
                row.imported.map_or(undated, |imported| imported >= since)
                    || start.is_some_and(|start| [row.at, row.imported].contains(&Some(start)))
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
            body: row.body.clone(),
        }
    }

    fn query(&self, request: (Seconds, Seconds), page: u32, size: u32, split: Option<&'static str>) -> Query {
        Query {
            scope: match &self.settings.scope {
                Scope::Organization(own) if self.notes.through_tree => Scope::Tree(own.clone()),
                scope => scope.clone(),
            },
            part: self.settings.part,
            span: Some(request),
            page,
            size,
            split,
            deleted: false,
            filter: self.settings.filter.clone(),
        }
    }

    /// Learns from a page about the portal's ways. Answers whether rows must now be filed by their other
    /// time.
    fn observe(&mut self, request: (Seconds, Seconds), listed: &Listed) -> bool {
        let observed = &mut self.notes.observed;
        let before = observed.axis;
        for row in &listed.rows {
            observed.listed_row(request, row.at, row.imported);
        }
        if listed.total.is_some() || observed.totals.is_none() {
            observed.totals = Some(listed.total.is_some());
        }
        before != Axis::Imported && observed.axis == Axis::Imported
    }

    /// One page; where it does not decode, the same rows in smaller pages, down to the guilty row. That
    /// one is given up when its neighbours decode and three tries minutes apart failed.
    async fn page(&mut self, query: &Query) -> Result<Listed, CollectError> {
        self.requests += 1;
        let whole = match self.listing.list(query).await {
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

    /// Commits rows with the coverage and notes as they stand now. After an error what is in memory says
    /// more than what is stored: the stream must be loaded again.
    async fn save(&mut self, mut commit: Commit) -> Result<u64, CollectError> {
        commit.collected = self.listing.now();
        commit.intervals = self.coverage.take_changed();
        commit.notes = Some(self.notes.clone());
        let entered = self.ledger.commit(commit).await?;
        self.notes.rows += entered;
        Ok(entered)
    }
}

/// A page's rows as equal smaller pages, last first: as few as divide it evenly, since a page can only
/// begin at a multiple of its size.
fn parts(from: u64, length: u64) -> Vec<(u64, u64)> {
    let count = (2..=length).find(|count| length.is_multiple_of(*count)).unwrap_or(1);
    let part = length / count;
    (0..count).rev().map(|place| (from + place * part, part)).collect()
}

#[cfg(test)]
mod tests;
