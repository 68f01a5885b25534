//! Time that an operator asks for after the start: it becomes owed, and pending until it is walked as any
//! gap is, newest first and behind the live edge. Rows in it that were seen and withheld enter then.

use super::{Commit, Ledger, WindowStream};
use crate::collect::{CollectError, Listing};
use crate::coverage::State;
use crate::model::Seconds;

impl<L: Listing, S: Ledger> WindowStream<L, S> {
    /// Takes up what is asked for, in one commit with the coverage that owes it from then on.
    pub(super) async fn take_up_backfill(&mut self) -> Result<(), CollectError> {
        let (Some(asked), Some(start)) = (self.ledger.asked_back().await?, self.notes.start) else {
            return Ok(());
        };
        let horizon = self.horizon();
        let (from, to) = (asked.0.max(self.lasting()), asked.1.min(self.edge()));
        if from < to {
            if !self.coverage.gaps(to.max(horizon), start).is_empty() {
                // What stays unclaimed in between is told from pending time by its count: that comes first.
                return Ok(());
            }
            let unclaimed: Vec<(Seconds, Seconds)> = self
                .coverage
                .within(from, to)
                .filter(|one| one.state == State::Baseline)
                .map(|one| (one.from.max(from), one.to.min(to)))
                .collect();
            for (from, to) in unclaimed {
                self.coverage.forget(from, to);
            }
            self.notes.start = Some(start.min(from));
            tracing::info!(from, to, "older time is collected, as an operator asked");
        }
        self.save(Commit { taken_up: Some(asked), ..Commit::default() }).await?;
        Ok(())
    }

    /// Whether rows of this second are owed.
    pub(super) fn claims(&self, second: Seconds) -> bool {
        self.notes.start.is_some_and(|start| start <= second)
            && !self.coverage.within(second, second + 1).any(|one| one.state == State::Baseline)
    }

    /// Makes all of `[from, to)` pending that is owed.
    pub(super) fn forget_owed(&mut self, from: Seconds, to: Seconds) {
        let owed: Vec<(Seconds, Seconds)> = self
            .coverage
            .within(from, to)
            .filter(|one| one.state != State::Baseline)
            .map(|one| (one.from.max(from), one.to.min(to)))
            .collect();
        for (from, to) in owed {
            self.reopen(from, to);
        }
    }
}
