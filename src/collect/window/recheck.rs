//! Looking again at what was proven: rows arrive late, are deleted, or come from agents with wrong clocks.
//!
//! Counting is cheap, walking is not: a range is counted, compared with what is held, halved where the
//! two differ, and only the small piece that differs becomes pending again.

use super::{Commit, DAY, Ledger, NEARLY_A_DAY, WindowStream};
use crate::collect::{CollectError, Listing};
use crate::coverage::{Axis, Interval, State};
use crate::model::{Lane, SECOND, Seconds};

/// Ages at which every interval is counted again, in seconds: one watermark per age.
pub(crate) const AGES: [Seconds; 4] = [600, 3_600, 21_600, 86_400];
/// Requests that one piece of background work may take, so that the live edge never waits long.
const EFFORT: u64 = 32;
/// Share of the retention that each scrub walks again, whatever it counts: equal counts can hide one row
/// gone and one added.
const REWALK_SHARES: u32 = 8;
/// The longest request made before the portal has refused one.
const LONGEST: Seconds = 31 * DAY;

/// What to do with time that the portal does not count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Uncounted {
    WalkAgain,
    /// The share that each scrub walks again gets to it.
    Leave,
}

impl<L: Listing, S: Ledger> WindowStream<L, S> {
    /// Does one piece of background work, the most urgent there is. Answers whether there was any.
    pub async fn background(&mut self) -> Result<bool, CollectError> {
        let edge = self.edge();
        let start = self.begin(edge).await?;
        // Early, so that little arrives there before it is counted; but what is not counted must be walked,
        // and may take as long as the whole retention.
        let early = self.notes.observed.totals == Some(true) || !self.settings.has_imported;
        Ok(self.recheck(0, edge).await?
            || self.recheck(1, edge).await?
            || (early && self.count_baseline(start, edge).await?)
            || self.fill_gap(start, edge).await?
            || self.walk_for_sinks().await?
            || self.count_baseline(start, edge).await?
            || self.recheck(2, edge).await?
            || self.recheck(3, edge).await?
            || self.look_ahead(edge).await?
            || self.call_roll(edge).await?
            || self.scrub(start, edge).await?
            || self.walk_share_again().await?)
    }

    /// Does all there is to do and counts the whole retention once, as `once` wants it. `told` hears of it after
    /// each piece.
    pub async fn everything(&mut self, mut told: impl FnMut(&Self)) -> Result<(), CollectError> {
        if self.notes.observed.totals == Some(false) {
            // Counts will not tell what came to the youngest time since it was walked.
            self.reopen(self.notes.checked[0], self.edge());
        }
        self.live().await?;
        self.exhaust(&mut told).await?;
        let edge = self.edge();
        self.notes.scrubbed = edge - DAY;
        self.notes.future_checked = 0;
        self.exhaust(&mut told).await?;
        for (checked, age) in self.notes.checked.iter_mut().zip(AGES) {
            *checked = (*checked).max(edge - age);
        }
        self.live().await?;
        self.exhaust(&mut told).await
    }

    /// Works in the background until nothing is left to do.
    async fn exhaust(&mut self, told: &mut impl FnMut(&Self)) -> Result<(), CollectError> {
        told(self);
        while self.background().await? {
            told(self);
        }
        Ok(())
    }

    /// The oldest second that the portal still keeps.
    pub(super) fn horizon(&self) -> Seconds {
        self.listing.now().div_euclid(SECOND) - self.settings.retention
    }

    /// Where the time begins that is looked at again. What is older is left as it was found: its rows may be
    /// gone before it is walked, which would say nothing of what was proven.
    pub(super) fn lasting(&self) -> Seconds {
        super::lasting(self.listing.now().div_euclid(SECOND), self.settings.retention)
    }

    pub(super) fn longest(&self) -> Seconds {
        self.notes.longest.unwrap_or(LONGEST)
    }

    /// Walks the newest part of the newest gap.
    async fn fill_gap(&mut self, start: Seconds, edge: Seconds) -> Result<bool, CollectError> {
        let horizon = self.horizon();
        if start < horizon && self.expire(start, horizon).await? {
            return Ok(true);
        }
        let Some(&(from, to)) = self.coverage.gaps(start.max(horizon), edge).last() else { return Ok(false) };
        // What the live poll will take in a moment is no gap.
        if to == edge && edge - from <= self.settings.live_span {
            let Some(&(from, to)) = self.coverage.gaps(start.max(horizon), from).last() else {
                return Ok(false);
            };
            self.cover(from.max(to - self.piece()), to, Lane::Backfill).await?;
            return Ok(true);
        }
        self.cover(from.max(to - self.piece()), to, Lane::Backfill).await?;
        Ok(true)
    }

    fn piece(&self) -> Seconds {
        self.notes.span.unwrap_or(DAY).min(self.longest()).max(1)
    }

    /// Time that the portal kept no longer before it was covered is a gap for ever, and said so.
    async fn expire(&mut self, start: Seconds, horizon: Seconds) -> Result<bool, CollectError> {
        let gaps = self.coverage.gaps(start, horizon);
        let checked = self.listing.now();
        for &(from, to) in &gaps {
            let reason = Some("the portal's retention ended before it was collected".to_owned());
            tracing::warn!(from, to, "a gap has left the portal's retention: it stays one");
            self.coverage.set(Interval {
                from,
                to,
                state: State::Expired,
                listed: None,
                held: 0,
                checked,
                reason,
            });
        }
        if !gaps.is_empty() {
            self.save(Commit::default()).await?;
        }
        Ok(!gaps.is_empty())
    }

    /// The portal's count of `[from, to)` as padded, and what should be held of it; `None` where a count
    /// proves nothing.
    pub(super) async fn count(
        &mut self,
        from: Seconds,
        to: Seconds,
    ) -> Result<(Option<u64>, Option<u64>), CollectError> {
        let request = self.notes.observed.padded(from, to);
        let total = self.total(request).await?;
        if self.notes.observed.axis == Axis::Mixed {
            return Ok((total, None));
        }
        let ((first, last), doubtful) = self.notes.observed.listed_range(request);
        for time in doubtful {
            if self.ledger.held(time, time + 1).await? > 0 {
                return Ok((total, None));
            }
        }
        Ok((total, Some(self.ledger.held(first, last).await?)))
    }

    /// The portal's total of a request, from a page of one row. A row that does not decode, or a portal
    /// that sometimes does not count, hides it on one page and not on another.
    async fn total(&mut self, request: (Seconds, Seconds)) -> Result<Option<u64>, CollectError> {
        for page in 1..=3 {
            self.requests += 1;
            match self.listing.list(&self.query(request, page, 1, None)).await {
                Ok(listed) if listed.total.is_none() && self.notes.observed.totals == Some(true) => {}
                Err(CollectError::Undecodable(_)) => {}
                answer => return Ok(answer?.total),
            }
        }
        Ok(None)
    }

    /// Counts `[from, to)` from its beginning with limited effort. Answers the small pieces whose count
    /// differs from what is held, and how far it came.
    pub(super) async fn compare(
        &mut self,
        from: Seconds,
        to: Seconds,
        uncounted: Uncounted,
    ) -> Result<(Vec<(Seconds, Seconds)>, Seconds), CollectError> {
        let mut open = vec![(from, to)];
        let mut differing = Vec::new();
        let before = self.requests;
        while let Some((from, to)) = open.pop() {
            if self.requests - before >= EFFORT {
                return Ok((differing, from));
            }
            let depth = self.notes.observed.depth();
            let middle = from + (to - from) / 2;
            let too_long = to - from > self.longest();
            if to - from > 1
                && (too_long || self.ledger.held(from * SECOND, to * SECOND).await? >= depth * 8 / 10)
            {
                open.extend([(middle, to), (from, middle)]);
                continue;
            }
            let (total, held) = match self.count(from, to).await {
                Err(CollectError::Refused(_)) if to - from > NEARLY_A_DAY => {
                    self.notes.longest = Some(NEARLY_A_DAY);
                    open.push((from, to));
                    continue;
                }
                counted => counted?,
            };
            match total {
                // A count of as many as the portal lists at most may stand for more.
                Some(total) if Some(total) == held && total != depth => {
                    let now = self.listing.now();
                    self.coverage.confirm(from, to, now);
                }
                Some(total)
                    if to - from > 1
                        && (total == depth || total > 4 * u64::from(self.settings.page_size)) =>
                {
                    open.extend([(middle, to), (from, middle)]);
                }
                None if uncounted == Uncounted::Leave => {}
                None if to - from > DAY => open.extend([(middle, to), (from, middle)]),
                _ => differing.push((from, to)),
            }
        }
        Ok((differing, to))
    }

    /// Counts what has reached an age since the last time, a bounded piece at a time.
    async fn recheck(&mut self, age: usize, edge: Seconds) -> Result<bool, CollectError> {
        let until = edge - AGES[age];
        let from = self.notes.checked[age];
        // Often enough that nothing waits for much more than its age, seldom enough to be cheap.
        if until - from < (AGES[age] / 2).max(600) {
            return Ok(false);
        }
        let uncounted = Uncounted::WalkAgain;
        self.notes.checked[age] = self.compare_next(from, until, uncounted).await?.unwrap_or(until);
        self.save(Commit::default()).await?;
        Ok(true)
    }

    /// Compares the first covered stretch in `[from, to)` and makes pending what differs. Answers how far
    /// it came, or nothing when there is none.
    async fn compare_next(
        &mut self,
        from: Seconds,
        to: Seconds,
        uncounted: Uncounted,
    ) -> Result<Option<Seconds>, CollectError> {
        let from = from.max(self.lasting());
        let held = |one: &&Interval| matches!(one.state, State::Proven | State::EmptyUnconfirmed);
        let wanted = |one: &&Interval| held(one) || one.state == State::StableUnproven;
        let Some(first) = self.coverage.within(from, to).find(wanted).cloned() else { return Ok(None) };
        if first.state == State::StableUnproven {
            self.compare_unproven(&first).await?;
            return Ok(Some(first.to.min(to)));
        }
        let (from, mut last) = (first.from.max(from), first.from);
        for interval in self.coverage.within(from, to).take_while(held) {
            if interval.from > last.max(from) {
                break;
            }
            last = interval.to.min(to);
        }
        let (differing, reached) = self.compare(from, last, uncounted).await?;
        self.make_pending(&differing);
        self.ask_silence_again(from, reached).await?;
        Ok(Some(reached))
    }

    /// What could not be proven is left alone while the portal counts as it did.
    async fn compare_unproven(&mut self, interval: &Interval) -> Result<(), CollectError> {
        let (total, _) = self.count(interval.from, interval.to).await?;
        if total.is_some() && total != interval.listed {
            self.make_pending(&[(interval.from, interval.to)]);
        }
        Ok(())
    }

    /// A silence that later rows witness needs no more confirmation than another look.
    async fn ask_silence_again(&mut self, from: Seconds, to: Seconds) -> Result<(), CollectError> {
        let silences: Vec<(Seconds, Seconds)> = self
            .coverage
            .within(from, to)
            .filter(|one| one.state == State::EmptyUnconfirmed)
            .map(|one| (one.from, one.to))
            .collect();
        for (from, to) in silences {
            if self.ledger.held(to * SECOND, self.listing.now()).await? > 0 {
                self.make_pending(&[(from, to)]);
            }
        }
        Ok(())
    }

    fn make_pending(&mut self, pieces: &[(Seconds, Seconds)]) {
        for &(from, to) in pieces {
            tracing::info!(from, to, "the portal counts other rows than are held: walking again");
            self.reopen(from, to);
        }
    }

    /// Makes of `[from, to)` pending again what can still be walked.
    pub(super) fn reopen(&mut self, from: Seconds, to: Seconds) {
        self.coverage.forget(from.max(self.lasting()).min(to), to);
    }

    /// Once a day, and when an organization joins: counts the whole retention, walks a rotating share of it
    /// again, recounts what lies before the start and before the retention, and forgets what the portal keeps
    /// no longer.
    async fn scrub(&mut self, start: Seconds, edge: Seconds) -> Result<bool, CollectError> {
        if self.notes.scrub_at.is_none()
            && edge - self.notes.scrubbed.max(0) < DAY
            && !self.somebody_joined().await?
        {
            return Ok(false);
        }
        let horizon = self.horizon();
        // The horizon moves on while this goes on, so it is passed once and not asked for again.
        let Some(from) = self.notes.scrub_at.map(|at| at.max(horizon)) else {
            self.scrub_ancient(horizon).await?;
            // Gaps stay reported for as long again as the portal kept the rows.
            let kept = horizon - self.settings.retention;
            self.coverage.expire_before(kept);
            self.notes.start = Some(start.max(kept));
            self.notes.scrub_at = Some(horizon);
            self.save(Commit::default()).await?;
            return Ok(true);
        };
        let bucket = self.next_baseline(from, edge);
        // What is owed may lie on both sides of what is not: a backfill can end before the first start.
        let (first, last) = (from.max(start), bucket.as_ref().map_or(edge, |bucket| bucket.from));
        if first < last {
            let joined = self.join_unproven(first, last);
            let reached = match joined {
                Some(_) => joined,
                None => self.compare_next(first, last, Uncounted::Leave).await?,
            };
            if let Some(reached) = reached {
                self.notes.scrub_at = Some(reached);
                self.save(Commit::default()).await?;
                return Ok(true);
            }
        }
        if let Some(bucket) = bucket {
            let reached = self.scrub_baseline(&bucket).await?;
            self.notes.scrub_at = Some(reached.max(from + 1));
            self.save(Commit::default()).await?;
            return Ok(true);
        }
        // From the newest share to the oldest: what lies in between moves towards the oldest, and would
        // slip between two shares that come to meet it.
        // `once` counts at every pass; walking again stays a matter of once a day.
        if edge - self.notes.rewalked >= DAY {
            self.notes.rewalked = edge;
            let share = (edge - horizon) / Seconds::from(REWALK_SHARES);
            let last = edge - share * Seconds::from(self.notes.rewalk);
            self.notes.rewalking = Some(((last - share).max(start), last));
            self.notes.rewalk = (self.notes.rewalk + 1) % REWALK_SHARES;
        }
        self.notes.scrub_at = None;
        self.notes.scrubbed = edge;
        self.save(Commit::default()).await?;
        Ok(true)
    }

    /// Whether an organization came into the tree since the last scrub: it brings rows of its former days.
    async fn somebody_joined(&self) -> Result<bool, CollectError> {
        if !self.settings.scope.is_tree() {
            return Ok(false);
        }
        // Those that were there at the first contact are seen one by one in the beginning.
        let since = (self.notes.scrubbed * SECOND).max(self.notes.first_contact + 3_600 * SECOND);
        Ok(self.ledger.newest_organization().await?.is_some_and(|newest| newest > since))
    }

    /// Walks one piece of the share that the last scrub chose, in place: what is proven stays so
    /// meanwhile.
    async fn walk_share_again(&mut self) -> Result<bool, CollectError> {
        let Some((from, to)) = self.notes.rewalking else { return Ok(false) };
        let from = from.max(self.lasting());
        let Some((first, last)) = self.last_covered(from, to) else {
            self.notes.rewalking = None;
            self.save(Commit::default()).await?;
            return Ok(true);
        };
        let (_, reached) = self.cover(first.max(last - self.piece()), last, Lane::Backfill).await?;
        self.notes.rewalking = (reached > from).then_some((from, reached));
        Ok(true)
    }

    /// Walks one piece of the time whose rows a sink let go, in place as well.
    async fn walk_for_sinks(&mut self) -> Result<bool, CollectError> {
        let Some(asked) = self.ledger.asked_again().await? else { return Ok(false) };
        let reached = match self.last_covered(asked.from.max(self.lasting()), asked.to) {
            Some((first, last)) => self.cover(first.max(last - self.piece()), last, Lane::Backfill).await?.1,
            None => asked.from,
        };
        self.save(Commit { walked_again: Some((asked, reached)), ..Commit::default() }).await?;
        Ok(true)
    }

    /// The last covered interval that touches `[from, to)`, cut to it.
    fn last_covered(&self, from: Seconds, to: Seconds) -> Option<(Seconds, Seconds)> {
        self.coverage
            .within(from, to)
            .rev()
            .find(|one| !matches!(one.state, State::Expired | State::Baseline))
            .map(|one| (one.from.max(from), one.to.min(to)))
    }

    /// Short stretches of one day that could not be proven each for itself are walked again as one: a
    /// portal that never counts exactly would else leave one for every poll. Answers where they end.
    fn join_unproven(&mut self, from: Seconds, to: Seconds) -> Option<Seconds> {
        let mut run: Vec<(Seconds, Seconds, u64)> = Vec::new();
        for one in self.coverage.within(from, to) {
            let adjacent = run.last().is_some_and(|(_, end, _)| *end == one.from);
            if one.state == State::StableUnproven && (run.is_empty() || adjacent) {
                run.push((one.from, one.to, one.held));
            } else if run.len() > 1 || one.state != State::StableUnproven {
                break;
            }
        }
        let day = run.first().map(|(from, ..)| from.div_euclid(DAY));
        run.retain(|(from, ..)| Some(from.div_euclid(DAY)) == day);
        let held: u64 = run.iter().map(|(.., held)| held).sum();
        let [(first, ..), .., (_, last, _)] = run[..] else { return None };
        if held >= self.notes.observed.depth() / 2 {
            return None;
        }
        self.reopen(first, last);
        Some(last)
    }
}
