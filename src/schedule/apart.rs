//! Organizations that are asked alone although the site asks the tree: beside it, where it does not show them, or all
//! of them in its place, where the portal refuses it.
//!
//! The stream of the tree says so, the site runs the streams. What is asked beside the tree is remembered as a set of
//! its own, since the tree counts other rows; what is asked in its place goes on where the tree ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

use super::stream::{Asked, Stream};
use crate::config::SourceConfig;
use crate::model::OrganizationId;
use crate::source::{Scope, Shape};

/// Polls in a row that the portal refuses before organizations are asked in the place of a tree.
pub(super) const REFUSALS: u32 = 3;
/// By how much less often organizations are asked in the place of a tree, at least.
const LESS_OFTEN: u32 = 5;
/// The share of the requests that are allowed which all organizations asked alone take together for one source.
const SHARE: f64 = 0.2;
/// Requests of a poll that finds nothing new.
const REQUESTS_PER_POLL: f64 = 2.0;

/// What the streams of a site's trees said. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Apart(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    trees: Mutex<BTreeMap<String, Wanted>>,
    changed: Notify,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Wanted {
    hidden: BTreeSet<OrganizationId>,
    is_refused: bool,
}

impl Apart {
    /// The organizations that a tree does not show.
    pub(super) fn set_hidden(&self, tree: &Stream, hidden: BTreeSet<OrganizationId>) {
        self.change(tree, |wanted| wanted.hidden = hidden);
    }

    /// Whether the portal refuses a tree and answers for its organizations.
    pub(super) fn set_refused(&self, tree: &Stream, is_refused: bool) {
        self.change(tree, |wanted| wanted.is_refused = is_refused);
    }

    /// Whether organizations are asked in the place of a tree.
    pub(super) fn is_refused(&self, tree: &Stream) -> bool {
        self.trees().get(&tree.key()).is_some_and(|wanted| wanted.is_refused)
    }

    fn change(&self, tree: &Stream, change: impl FnOnce(&mut Wanted)) {
        let mut trees = self.trees();
        let wanted = trees.entry(tree.key()).or_default();
        let before = wanted.clone();
        change(wanted);
        if *wanted != before {
            self.0.changed.notify_one();
        }
    }

    /// Ends when a tree said something new since this ended last.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// The streams that are wanted now beside those of the trees. `per_second`: requests that are allowed.
    pub(super) fn streams(
        &self,
        trees: &[Stream],
        members: Option<&BTreeSet<OrganizationId>>,
        per_second: Option<f64>,
    ) -> Vec<Stream> {
        let wanted = self.trees();
        let mut streams = Vec::new();
        for tree in trees {
            let Some(Wanted { hidden, is_refused }) = wanted.get(&tree.key()) else { continue };
            let often = tree.config.every;
            let beside = hidden.iter().map(|one| (one, Asked::BesideTree, often));
            let members = members.filter(|_| *is_refused).into_iter().flatten();
            let seldom = often.saturating_mul(LESS_OFTEN);
            let in_place = members.map(|one| (one, Asked::InPlaceOfTree, seldom));
            let alone: Vec<_> = beside.chain(in_place).collect();
            let affordable = affordable(alone.len(), per_second);
            streams.extend(alone.into_iter().map(|(organization, asked, every)| {
                let scope = Scope::Organization(organization.clone());
                let config = SourceConfig { every: every.max(affordable), ..tree.config.clone() };
                Stream { scope, asked, config, ..tree.clone() }
            }));
        }
        streams
    }

    fn trees(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Wanted>> {
        self.0.trees.lock().expect("no holder of the map panics")
    }
}

impl Stream {
    /// Whether its organizations may be asked alone where the portal refuses their tree.
    pub(super) fn may_be_apart(&self) -> bool {
        let is_listed = matches!(self.source.shape(), Shape::Window { .. } | Shape::Snapshot { .. });
        // Organizations are listed below their parent, and a report is the token's.
        self.scope.is_tree()
            && is_listed
            && self.source.name() != "organizations"
            && self.filter.report.is_none()
    }
}

/// The interval at which so many organizations take their share of the requests.
fn affordable(organizations: usize, per_second: Option<f64>) -> Duration {
    let organizations = f64::from(u32::try_from(organizations).unwrap_or(u32::MAX));
    per_second.map_or(Duration::ZERO, |allowed| {
        Duration::try_from_secs_f64(organizations * REQUESTS_PER_POLL / (SHARE * allowed))
            .unwrap_or(Duration::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn organizations_that_are_asked_alone_take_a_fifth_of_the_requests_however_many_they_are() {
        for (organizations, seconds) in [(0, 0), (1, 2), (500, 1_000)] {
            assert_eq!(affordable(organizations, Some(5.0)), Duration::from_secs(seconds));
        }
        assert_eq!(affordable(500, None), Duration::ZERO, "any number is allowed");
    }
}
