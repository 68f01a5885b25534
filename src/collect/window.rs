//! Collecting a source that is asked by interval of time.
//!
//! A poll takes the live edge first ([`WindowStream::live`]); what time is left goes to background work,
//! a small piece at a time ([`WindowStream::background`]): gaps, re-checks, the daily scrub. Every page
//! commits on its own, so progress survives a crash; coverage is only ever written together with, or
//! after, the rows that it speaks of.

mod backfill;
mod inherit;
mod ledger;
mod pages;
mod recheck;
mod roll;
mod silence;
mod unclaimed;

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use self::pages::{End, Enter, Walked};
use super::{CollectError, Listing};
use crate::coverage::walk::{Walk, Why};
use crate::coverage::{Axis, Coverage, Interval, Observed, SHARED_ID, State};
use crate::model::{Kind, Lane, Micros, OrganizationId, RowIds, SECOND, Seconds};
use crate::source::{Filter, Scope};

pub use self::inherit::{Earlier, Heir, beside};
pub use self::ledger::{Commit, EXPECTED_GAPS, Ledger, RowCommit, Silent};

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
    /// The source, and its kind, to which rated rows belong, too.
    pub also: Option<(&'static str, Kind)>,
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
    /// Since when nothing was counted there.
    #[serde(default)]
    pub nothing_ancient_since: Option<Micros>,
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
    /// Organizations whose rows this tree does not list and that are asked alone, and since when.
    pub alone: BTreeMap<OrganizationId, Micros>,
    /// The organization that was asked last whether the tree lists what it has, and when one was.
    pub last_called: Option<OrganizationId>,
    pub called: Seconds,
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
    /// When organizations of the tree were asked alone, since start, and how much time lies between two of them.
    called: HashMap<OrganizationId, Seconds>,
    roll_every: Seconds,
}

/// Why a second is no proof that seems whole.
const JUST_AS_DEEP: &str = "with exactly as many rows as the portal was seen to list at most";
/// How much deeper than the portal was seen to list a second is tried that cannot be taken smaller.
const DEEPER: u64 = 4;
const DAY: Seconds = 86_400;
/// How far the portal's clock may step back and be taken for the same.
const CLOCK_SLACK: Seconds = 60;
/// Longer stretches with a row that does not decode are taken smaller, so that little stays unproven for it.
const UNDECODABLE_SPAN: Seconds = 900;
/// What is asked at once where more is refused: a day with the second before.
const NEARLY_A_DAY: Seconds = DAY - 1;

/// The oldest time that is worth beginning with: what the portal drops within the hour (or a 24th of a short
/// retention) would lapse while it is walked.
pub fn lasting(now: Seconds, retention: Seconds) -> Seconds {
    now - retention + (retention / 24).min(3_600)
}

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
            called: HashMap::new(),
            roll_every: 0,
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
        self.take_back_the_future(edge);
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
        self.take_up_backfill().await?;
        Ok(entered)
    }

    /// Where coverage begins; decided when the portal is first heard.
    async fn begin(&mut self, edge: Seconds) -> Result<Seconds, CollectError> {
        if let Some(start) = self.notes.start {
            return Ok(start);
        }
        let start = (edge - self.settings.backfill).max(self.lasting());
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

    /// Nothing is proven of time that has not come: where the portal's clock was set back, what was covered
    /// beyond it is forgotten.
    fn take_back_the_future(&mut self, edge: Seconds) {
        if self.coverage.end().is_none_or(|end| end <= edge + CLOCK_SLACK) {
            return;
        }
        tracing::warn!(edge, "the portal's clock was set back: later time is pending again");
        self.coverage.forget(edge, Seconds::MAX);
        let notes = &mut self.notes;
        for (checked, age) in notes.checked.iter_mut().zip(recheck::AGES) {
            *checked = (*checked).min(edge - age);
        }
        for last in [&mut notes.scrubbed, &mut notes.rewalked, &mut notes.future_checked] {
            *last = (*last).min(edge);
        }
        (notes.scrub_at, notes.rewalking) = (None, None);
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
            let walked = match self.walk(request, lane, None, Enter::Owed(from, to)).await {
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
                End::Closed
                    if walked.undecodable > 0 && !walked.in_pieces && to - from > UNDECODABLE_SPAN =>
                {
                    entered += self.save(walked.pending).await?;
                    from = to - (to - from) / 2;
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
            _ if walked.shared > 0 => (State::StableUnproven, Some(self.tell_shared(walked.shared))),
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

    /// Says once that an id stands for several rows. Answers the reason.
    fn tell_shared(&self, rows: u64) -> String {
        let told = |one: &Interval| one.reason.as_ref().is_some_and(|reason| reason.ends_with(SHARED_ID));
        if !self.coverage.intervals().any(told) {
            tracing::warn!(rows, "the portal gives one id to several rows: only one of each is delivered");
        }
        format!("{rows} {SHARED_ID}")
    }

    /// After a complete walk: held rows that the portal lists no more are gone, and rows that stand
    /// exactly on an end of the request tell whether that end counts.
    async fn reconcile(&mut self, request: (Seconds, Seconds), listed: RowIds) -> Result<(), CollectError> {
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
        let owed = Enter::Owed(second, second + 1);
        let whole = self.walk_to(depth, bare, lane, None, owed).await?;
        let mut entered = 0;
        let (held, total) = (whole.walk.held(), whole.walk.total());
        let is_whole = !matches!(whole.end, End::Smaller { .. });
        // A portal that lists and counts so many at most would answer the same if there were more; where it once listed
        // as many, the depth is one more.
        let known = self.notes.observed.depth();
        let just_as_deep = is_whole && [known, known - 1].contains(&held);
        if is_whole && !just_as_deep {
            // A total that is less than what is listed is capped: counts are to be believed no further.
            if total.is_none_or(|total| total >= held) {
                self.notes.observed.goes_as_deep_as(held);
            }
            if self.notes.observed.start_included == Some(true) {
                return Ok(entered + self.close(second, second + 1, bare, whole).await?);
            }
            let why = "one second, too full to be asked together with the one before";
            self.settle_second(second, State::StableUnproven, why, listed, held);
            return Ok(entered + self.save(whole.pending).await?);
        }
        let why = if just_as_deep { JUST_AS_DEEP } else { why.as_str() };
        if just_as_deep && self.settings.splits.is_empty() {
            self.settle_second(second, State::StableUnproven, &format!("one second, {why}"), listed, held);
            return Ok(entered + self.save(whole.pending).await?);
        }
        entered += self.save(whole.pending).await?;
        let (mut held, mut closed) = (0, !self.settings.splits.is_empty());
        for split in self.settings.splits {
            let part = self.walk(bare, lane, Some(split), owed).await?;
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
        let why = format!("one second, taken apart by action type: {why}");
        self.settle_second(second, state, &why, listed, held);
        Ok(entered + self.save(Commit::default()).await?)
    }

    fn settle_second(&mut self, second: Seconds, state: State, why: &str, listed: Option<u64>, held: u64) {
        let checked = self.listing.now();
        let reason = (state != State::Proven).then(|| why.to_owned());
        self.coverage.set(Interval { from: second, to: second + 1, state, listed, held, checked, reason });
    }

    /// Commits rows with the coverage and notes as they stand now. After an error what is in memory says
    /// more than what is stored: the stream must be loaded again.
    async fn save(&mut self, commit: Commit) -> Result<u64, CollectError> {
        let commit = self.completed(commit);
        let entered = self.ledger.commit(commit).await?;
        self.notes.rows += entered;
        Ok(entered)
    }

    /// The commit with what stands in memory besides its rows.
    fn completed(&mut self, commit: Commit) -> Commit {
        Commit {
            collected: self.listing.now(),
            intervals: self.coverage.take_changed(),
            notes: Some(self.notes.clone()),
            ..commit
        }
    }
}

#[cfg(test)]
mod tests;
