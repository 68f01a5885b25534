//! Whether the tree shows what its organizations have. Nothing else tells: an organization that the child flag leaves
//! out looks like one without rows.
//!
//! One organization after the other is asked alone how many rows it has, each once a day and one that fell silent
//! sooner. Where that is more than is held of it, some of the rows that are not held are looked for in the tree. One that
//! the tree does not list makes the organization hidden: it is named in the notes, and whoever runs the streams asks it
//! alone from then on.

use uuid::Uuid;

use super::pages::Enter;
use super::{Commit, DAY, Ledger, RowCommit, WindowStream};
use crate::collect::{CollectError, Listed, Listing};
use crate::coverage::State;
use crate::coverage::walk::RowId;
use crate::model::{OrganizationId, SECOND, Seconds};
use crate::source::{Query, Scope};

/// What is younger may still be on its way into either answer.
const RIPE: Seconds = 600;
/// How often an organization that is silent inside the tree is asked.
const SILENT_EVERY: Seconds = 3_600;
/// Where rows are looked for first.
const YOUNG: Seconds = 3_600;
/// Rows that are looked for in the tree.
const LOOKS: usize = 5;

/// What an organization asked alone says of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// The tree shows its rows.
    Shown,
    /// It has rows that the tree does not show.
    Hidden,
    /// It has none, or does not say.
    Nothing,
}

impl<L: Listing, S: Ledger> WindowStream<L, S> {
    /// Asks the next organization whose turn it is. Answers whether there was one.
    pub(super) async fn call_roll(&mut self, edge: Seconds) -> Result<bool, CollectError> {
        if !self.settings.scope.is_tree() || self.notes.observed.totals != Some(true) {
            return Ok(false);
        }
        let Some((from, to)) = self.ripe(edge) else { return Ok(false) };
        let Some(organization) = self.next_called(edge).await? else { return Ok(false) };
        self.called.insert(organization.clone(), edge);
        let told = self.ask_alone(&organization, from, to).await?;
        let is_alone = self.notes.alone.contains_key(&organization);
        match told {
            Told::Hidden if !is_alone => {
                tracing::warn!(
                    %organization,
                    "the portal does not list an organization's rows among those of the tree: it is asked alone from now on"
                );
                self.notes.silent.remove(&organization);
                self.notes.alone.insert(organization, self.listing.now());
            }
            Told::Shown if is_alone => {
                tracing::info!(%organization, "the tree lists an organization's rows again");
                self.notes.alone.remove(&organization);
            }
            _ => {}
        }
        self.save(Commit::default()).await?;
        Ok(true)
    }

    /// The newest day that is old enough and proven without a gap.
    fn ripe(&self, edge: Seconds) -> Option<(Seconds, Seconds)> {
        let (mut from, mut to) = (edge - DAY, edge - RIPE);
        from = from.max(self.notes.start?);
        for one in self.coverage.within(from, to) {
            if !matches!(one.state, State::Proven | State::EmptyUnconfirmed) {
                from = from.max(one.to);
            }
        }
        if let Some((_, end)) = self.coverage.gaps(from, to).last() {
            from = *end;
        }
        to = to.max(from);
        (to - from >= RIPE).then_some((from, to))
    }

    /// One that is silent, else the one behind the last that was asked, if a day lasts for all of them.
    async fn next_called(&mut self, edge: Seconds) -> Result<Option<OrganizationId>, CollectError> {
        let silent = self.notes.silent.keys().find(|organization| {
            self.called.get(organization).is_none_or(|called| edge - called >= SILENT_EVERY)
        });
        if let Some(silent) = silent {
            return Ok(Some(silent.clone()));
        }
        if edge - self.notes.called < self.roll_every {
            return Ok(None);
        }
        let mut all = self.ledger.organizations().await?;
        all.sort_unstable();
        self.roll_every = DAY / Seconds::try_from(all.len().max(1)).unwrap_or(DAY);
        if edge - self.notes.called < self.roll_every {
            return Ok(None);
        }
        let behind = all.iter().find(|one| self.notes.last_called.as_ref().is_none_or(|last| *one > last));
        let next = behind.or(all.first()).cloned();
        self.notes.called = edge;
        self.notes.last_called.clone_from(&next);
        Ok(next)
    }

    async fn ask_alone(
        &mut self,
        organization: &OrganizationId,
        from: Seconds,
        to: Seconds,
    ) -> Result<Told, CollectError> {
        let request = self.notes.observed.padded(from, to);
        let Some(counted) = self.list_of(organization, request, 1).await? else { return Ok(Told::Nothing) };
        // Whether the ends count is not always known: what stands there is held in its favour.
        let held = self.ledger.held_of(organization, request.0 * SECOND, request.1 * SECOND + 1).await?;
        match counted.total {
            None | Some(0) => return Ok(Told::Nothing),
            Some(total) if total <= held => return Ok(Told::Shown),
            Some(_) => {}
        }
        // What came late is in either answer, and a re-check finds it: the tree is asked for the rows themselves, for
        // young ones first, whichever way the portal sorts.
        let size = self.settings.page_size;
        let young = self.notes.observed.padded((to - YOUNG).max(from), to);
        let Some(mut listed) = self.list_of(organization, young, size).await? else {
            return Ok(Told::Nothing);
        };
        if listed.rows.is_empty() {
            let Some(whole) = self.list_of(organization, request, size).await? else {
                return Ok(Told::Nothing);
            };
            listed = whole;
        }
        let with_id = listed.rows.iter().filter_map(|row| match row.id {
            RowId::Vendor(id) => Some(self.row_commit(row, Uuid::from_u128(id), request, Enter::All, 0)),
            RowId::Content(_) => None,
        });
        let with_id: Vec<RowCommit> = with_id.collect();
        let are_some = !with_id.is_empty();
        let unknown = self.ledger.unknown(with_id).await?;
        let mut is_shown = are_some && unknown.is_empty();
        for row in unknown.into_iter().take(LOOKS) {
            let second = row.at.div_euclid(SECOND);
            let moment = self.notes.observed.padded(second, second + 1);
            let id = RowId::Vendor(row.uid.as_u128());
            let Some(alone) = self.list_of(organization, moment, self.settings.page_size).await? else {
                continue;
            };
            self.requests += 1;
            let tree = match self.listing.list(&self.query(moment, 1, self.settings.page_size, None)).await {
                Ok(tree) => tree,
                Err(error @ (CollectError::Stopped | CollectError::Store(_))) => return Err(error),
                Err(_) => continue,
            };
            let lists = |listed: &Listed| listed.rows.iter().any(|row| row.id == id);
            let is_whole = tree.total.is_some_and(|total| total <= tree.rows.len() as u64);
            if lists(&alone) && is_whole && !lists(&tree) {
                return Ok(Told::Hidden);
            }
            is_shown |= lists(&alone) && lists(&tree);
        }
        Ok(if is_shown { Told::Shown } else { Told::Nothing })
    }

    /// The first page of an organization alone; none where the portal does not say.
    async fn list_of(
        &mut self,
        organization: &OrganizationId,
        request: (Seconds, Seconds),
        size: u32,
    ) -> Result<Option<Listed>, CollectError> {
        let scope = Scope::Organization(organization.clone());
        let query = Query { scope, ..self.query(request, 1, size, None) };
        self.requests += 1;
        match self.listing.list(&query).await {
            Ok(listed) => Ok(Some(listed)),
            Err(error @ (CollectError::Stopped | CollectError::Store(_))) => Err(error),
            Err(error) => {
                tracing::debug!(%organization, %error, "an organization is not listed alone");
                Ok(None)
            }
        }
    }
}
