//! Time that coverage does not claim: before the start, before the retention, and after now. Its rows are
//! counted or remembered, so that what arrives there later can be told and delivered.

use super::pages::{End, Enter};
use super::recheck::Uncounted;
use super::{Commit, DAY, Ledger, NEARLY_A_DAY, WindowStream};
use crate::collect::{CollectError, Listing};
use crate::coverage::{Axis, Interval, State};
use crate::model::{Lane, SECOND, Seconds};
use crate::portal::Remedy;

/// Rows dated after this are not looked for: no portal shows them.
const FAR_FUTURE: Seconds = 4_102_444_800;
/// Rows dated before this are not looked for.
const FAR_PAST: Seconds = 946_684_800;
/// The count of a time that the portal does not count.
const UNCOUNTED: u64 = u64::MAX;

impl<L: Listing, S: Ledger> WindowStream<L, S> {
    /// Before the start: counts once what the portal keeps, so that a later rise shows late rows.
    pub(super) async fn count_baseline(
        &mut self,
        start: Seconds,
        edge: Seconds,
    ) -> Result<bool, CollectError> {
        let horizon = self.horizon();
        let Some(&(from, to)) = self.coverage.gaps(horizon, start.min(edge)).last() else {
            let first_time = self.notes.ancient.is_none();
            if first_time {
                self.scrub_ancient(horizon).await?;
                self.save(Commit::default()).await?;
            }
            return Ok(first_time);
        };
        let mut from = from.max(to - self.longest());
        loop {
            let walked = self.baseline_piece(from, to).await;
            match walked {
                Ok(true) => return Ok(true),
                Ok(false) => from = to - ((to - from) / 2).max(1),
                Err(CollectError::Refused(_)) if to - from > NEARLY_A_DAY => {
                    self.notes.longest = Some(NEARLY_A_DAY);
                    from = to - NEARLY_A_DAY;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Counts one piece; where a page holds it all its rows are remembered, so that nothing that arrives
    /// from now on can hide. Answers false when it holds more than a listing.
    async fn baseline_piece(&mut self, from: Seconds, to: Seconds) -> Result<bool, CollectError> {
        let (total, _) = self.count(from, to).await?;
        let depth = self.notes.observed.depth();
        if total.is_some_and(|total| total >= depth) && to - from > 1 {
            return Ok(false);
        }
        let mut held = 0;
        // Rows that do not say when they were received can only be told from later ones by name.
        let most = if self.settings.has_imported { u64::from(self.settings.page_size) } else { depth };
        if total.is_none_or(|total| total > 0 && total <= most) {
            match self.walk_uncovered(from, to, false).await? {
                Some(walked) => held = walked,
                None if to - from > 1 => return Ok(false),
                None => {}
            }
        }
        self.set_baseline(from, to, total.or(Some(held)), held);
        self.save(Commit::default()).await?;
        Ok(true)
    }

    fn set_baseline(&mut self, from: Seconds, to: Seconds, listed: Option<u64>, held: u64) {
        let checked = self.listing.now();
        let state = State::Baseline;
        self.coverage.set(Interval { from, to, state, listed, held, checked, reason: None });
    }

    /// The first time from `from` on that is not owed.
    pub(super) fn next_baseline(&self, from: Seconds, to: Seconds) -> Option<Interval> {
        self.coverage
            .within(from, to.max(from))
            .find(|one| one.state == State::Baseline && one.to > from)
            .cloned()
    }

    /// Counts a bucket of the baseline again and walks it where that differs, or may hide what came. Answers
    /// how far it came.
    pub(super) async fn scrub_baseline(&mut self, bucket: &Interval) -> Result<Seconds, CollectError> {
        let (from, to) = (bucket.from.max(self.horizon()), bucket.to);
        if from >= to {
            return Ok(to);
        }
        // Where the portal drops its oldest rows, equal counts may stand for new ones.
        let nothing_older = self.coverage.within(self.horizon(), from).all(|older| older.listed == Some(0));
        let oldest = nothing_older && bucket.listed != Some(0);
        if !oldest && (bucket.held > 0 || bucket.listed == Some(0)) {
            // Its rows are remembered one by one, so a rise can be narrowed down.
            let (differing, reached) = self.compare(from, to, Uncounted::WalkAgain).await?;
            for (from, to) in differing {
                self.walk_all_uncovered(from, to).await?;
            }
            let held = self.ledger.held(from * SECOND, reached * SECOND).await?;
            self.set_baseline(from, reached, Some(held), held);
            return Ok(reached);
        }
        let (total, _) = self.count(from, to).await?;
        let held = match oldest || total.is_none() || total != bucket.listed {
            true => self.walk_all_uncovered(from, to).await?,
            false => 0,
        };
        self.set_baseline(from, to, total.or(Some(held)), held);
        Ok(to)
    }

    /// Walks time that coverage does not claim: only rows received since the first contact enter, and
    /// with `undated` new ones that do not say when they were received. Answers how many rows it lists,
    /// or `None` where it cannot be listed at once.
    async fn walk_uncovered(
        &mut self,
        from: Seconds,
        to: Seconds,
        undated: bool,
    ) -> Result<Option<u64>, CollectError> {
        let request = self.notes.observed.padded(from, to);
        let owed = [
            self.claims(from - 1).then_some(((from - 1) * SECOND, from * SECOND)),
            self.claims(to).then_some((to * SECOND, to * SECOND + 1)),
        ];
        let enter = Enter::ImportedSince { since: self.notes.first_contact, undated, owed };
        let walked = self.walk(request, Lane::Backfill, None, enter).await?;
        self.save(walked.pending).await?;
        Ok(match walked.end {
            End::Closed => {
                self.reconcile(request, walked.listed).await?;
                Some(walked.walk.held())
            }
            End::Unproven => Some(walked.walk.held()),
            End::Smaller { .. } => None,
        })
    }

    /// Walks all of `[from, to)` that coverage does not claim, in pieces as small as it takes.
    async fn walk_all_uncovered(&mut self, from: Seconds, to: Seconds) -> Result<u64, CollectError> {
        let (mut open, mut rows) = (vec![(from, to)], 0);
        while let Some((from, to)) = open.pop() {
            match self.walk_uncovered(from, to, true).await? {
                Some(held) => rows += held,
                None if to - from > 1 => {
                    let middle = from + (to - from) / 2;
                    open.extend([(from, middle), (middle, to)]);
                }
                None => {}
            }
        }
        Ok(rows)
    }

    /// Rows dated after now, by agents whose clock is ahead: delivered, never called covered.
    pub(super) async fn look_ahead(&mut self, edge: Seconds) -> Result<bool, CollectError> {
        if edge - self.notes.future_checked.max(0) < 3_600 {
            return Ok(false);
        }
        let now = self.listing.now().div_euclid(SECOND);
        let from = now + 300;
        let to = if self.notes.longest.is_some() { now + self.longest() } else { FAR_FUTURE };
        // Equal counts may hide one row gone and one come; these are few.
        let daily = edge.div_euclid(DAY) != self.notes.future_checked.div_euclid(DAY);
        self.notes.future_checked = edge;
        match self.count(from, to).await {
            Ok((total, held)) => {
                if total.is_none() || total != held || (daily && held > Some(0)) {
                    self.walk_future(from, to).await?;
                }
            }
            Err(CollectError::Refused(_)) => self.notes.longest = Some(NEARLY_A_DAY),
            Err(error) => return Err(error),
        }
        self.save(Commit::default()).await?;
        Ok(true)
    }

    async fn walk_future(&mut self, from: Seconds, to: Seconds) -> Result<(), CollectError> {
        let mut open = vec![(from, to)];
        while let Some((from, to)) = open.pop() {
            let request = self.notes.observed.padded(from, to);
            let walked = self.walk(request, Lane::Backfill, None, Enter::All).await?;
            self.save(walked.pending).await?;
            match walked.end {
                End::Closed => self.reconcile(request, walked.listed).await?,
                End::Smaller { .. } if to - from > 1 => {
                    let middle = from + (to - from) / 2;
                    open.extend([(middle, to), (from, middle)]);
                }
                End::Smaller { .. } | End::Unproven => {}
            }
        }
        Ok(())
    }

    /// Before the retention: rows of agents whose clock is far behind. Only what was received since the
    /// retention began can be new; all older was collected, or never promised.
    pub(super) async fn scrub_ancient(&mut self, horizon: Seconds) -> Result<(), CollectError> {
        let depth = self.notes.observed.depth();
        let mut counted = (None, None);
        if self.notes.longest.is_none() {
            match self.count(FAR_PAST, horizon).await {
                Err(CollectError::Refused(_)) => self.notes.longest = Some(NEARLY_A_DAY),
                answer => counted = answer?,
            }
        }
        let (total, held) = counted;
        if total.is_some_and(|total| total < depth) && total != held && total != self.notes.ancient {
            let since = self.notes.first_contact.max(horizon * SECOND);
            let undated = self.notes.ancient.is_some();
            let enter = Enter::ImportedSince { since, undated, owed: [None; 2] };
            let request = self.notes.observed.padded(FAR_PAST, horizon);
            match self.walk(request, Lane::Backfill, None, enter).await {
                Ok(walked) => {
                    self.save(walked.pending).await?;
                    if matches!(walked.end, End::Closed) {
                        self.reconcile(request, walked.listed).await?;
                    }
                }
                // Not worth holding up the rest: this time is in no coverage.
                Err(CollectError::Portal(error)) if error.remedy() == Remedy::SmallerPage => {
                    tracing::warn!(%error, "a row from before the retention");
                }
                Err(error) => return Err(error),
            }
        }
        self.notes.ancient = Some(total.unwrap_or(UNCOUNTED));
        let now = self.listing.now();
        self.notes.nothing_ancient_since = match total {
            Some(0) => Some(self.notes.nothing_ancient_since.unwrap_or(now)),
            _ => None,
        };
        if self.settings.has_imported {
            self.ledger.prune((horizon - DAY) * SECOND, false).await?;
            return Ok(());
        }
        // What is listed again after a silence says no time by which it could be told from a new row: it is kept
        // until nothing so old was listed for as long as the portal keeps its rows.
        let retention = self.settings.retention;
        if self.notes.nothing_ancient_since.is_some_and(|since| now - since >= retention * SECOND) {
            // Where rows are filed by a time that they do not say, an old one may be listed among new ones.
            let hidden_time = self.notes.observed.axis == Axis::Mixed;
            self.ledger.prune((horizon - retention) * SECOND, hidden_time).await?;
        }
        Ok(())
    }
}
