//! Nothing where rows are usual: of a whole stream, and of one organization inside a tree.

use std::collections::{BTreeMap, BTreeSet};

use super::{Commit, DAY, Ledger, WindowStream};
use crate::collect::{CollectError, Listing};
use crate::coverage::{Interval, State};
use crate::model::{Micros, SECOND, Seconds};

impl<L: Listing, S: Ledger> WindowStream<L, S> {
    /// The newest row before `[from, to)` where that nothing is listed since is unusual: rows are usual
    /// here, no later ones were listed, and computers checked in.
    pub(super) async fn unusual_silence(
        &self,
        from: Seconds,
        to: Seconds,
    ) -> Result<Option<Micros>, CollectError> {
        let silent_since = self.silent_since(from) * SECOND;
        let (from, to) = (from * SECOND, to * SECOND);
        let Some(last_row) = self.ledger.unusual_silence(silent_since, to).await? else { return Ok(None) };
        let witnessed =
            self.ledger.held(to, self.listing.now()).await? > 0 || self.ledger.no_checkins(from, to).await?;
        Ok((!witnessed).then_some(last_row))
    }

    /// Where a silence that became unusual began: behind the last row, as far back as time was walked.
    pub(super) fn silent_from(&self, last_row: Micros, from: Seconds) -> Seconds {
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
    pub(super) async fn hear_silence(&mut self) -> Result<(), CollectError> {
        if !self.settings.scope.is_tree() {
            return Ok(());
        }
        let silent: BTreeMap<_, _> = self
            .ledger
            .silent(self.edge() * SECOND)
            .await?
            .into_iter()
            // What is asked alone is not expected here.
            .filter(|one| !self.notes.alone.contains_key(&one.organization))
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
            tracing::info!(%organization, "an organization lists rows again");
            let from = since.div_euclid(SECOND).max(self.notes.start.unwrap_or_default());
            self.forget_owed(from, self.edge());
            self.forget_asked_since(since);
        }
        self.notes.silent = silent;
        self.save(Commit::default()).await?;
        Ok(())
    }

    /// Older time that was asked for while an organization hid its rows lacks them as well. Whole days:
    /// neighbours that were joined carry the older check.
    fn forget_asked_since(&mut self, since: Micros) {
        let Some(start) = self.notes.start else { return };
        let asked = |one: &&Interval| one.checked >= since && one.state != State::Expired;
        let days: BTreeSet<Seconds> = self
            .coverage
            .within(start, since.div_euclid(SECOND))
            .filter(asked)
            .flat_map(|one| one.from.div_euclid(DAY)..=(one.to - 1).div_euclid(DAY))
            .collect();
        for day in days {
            self.forget_owed((day * DAY).max(start), (day + 1) * DAY);
        }
    }
}
