//! Policies: as a list where the portal has one, else out of the groups of computers and one by one (contract
//! section 6.2).
//!
//! The list is asked first in every poll, so a portal that has it again is asked for it again. Rows of one policy
//! alone have another shape than those of the list, which is told with them: what differs between the two is no
//! change. A policy that is named and cannot be asked is still there.

mod groups;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Mutex;

use bytes::Bytes;

use self::groups::Found;
use super::{CollectError, Listed, ListedRow, Listing, PortalListing, listed_row};
use crate::model::OrganizationId;
use crate::portal::{Endpoint, Failure};
use crate::source::{Query, RowKey, Scope};
use crate::sources::policies::lacks_details;

/// The shape of a row that was asked by its id; 0 is that of the list.
const ALONE: u8 = 1;
/// Policies asked one by one for one page: so much is held, and lost when the program stops in between.
const AT_ONCE: usize = 20;
/// Bytes of one policy that are kept; a larger one is there and has no row.
const LARGEST: usize = 256 << 10;
/// Bytes of a page of the list whose rows are completed one by one: it is held meanwhile.
const LARGEST_PAGE: usize = 2 << 20;
/// Refusals of a list that worked before it is believed to be gone: a fault that passes is no reason to ask in
/// another way.
const REFUSALS: u32 = 2;

/// The policies of an organization or of a tree.
pub struct Policies {
    pub(super) listing: PortalListing,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether the list was ever listed, and polls in a row in which it was refused.
    has_list: bool,
    refusals: u32,
    /// What the groups name, while the list is refused.
    found: Option<Found>,
    /// Policies of the walk in hand that were named and not shown, and how many of the last one.
    refused: BTreeSet<String>,
    last_refused: usize,
}

/// What came of asking for one policy.
enum Asked {
    Row(Bytes, OrganizationId),
    /// The portal does not show it to this token, or as a policy of these organizations.
    Refused,
}

impl Policies {
    pub(super) fn new(listing: PortalListing) -> Self {
        Self { listing, state: Mutex::default() }
    }

    pub(super) fn way(&self) -> Option<String> {
        let state = self.state();
        let all = state.found.as_ref()?.policies.len();
        let mut way = format!(
            "the list is refused: {all} policies are asked one by one, as the groups of computers name them"
        );
        if state.last_refused > 0 {
            way += &format!("; {} of them are not shown, so nothing is known of these", state.last_refused);
        }
        Some(way)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding the state")
    }

    pub(super) async fn list(&self, query: &Query) -> Result<Listed, CollectError> {
        if query.page > 1 && self.state().found.is_some() {
            return self.one_by_one(query).await;
        }
        let refusal = match self.listing.list(query).await {
            Ok(listed) => {
                if query.page == 1 {
                    self.has_list();
                }
                return self.completed(query, listed).await;
            }
            Err(error) if query.page > 1 || !self.gives_up_the_list(&error) => return Err(error),
            Err(error) => error,
        };
        let found = match groups::find(&self.listing, &query.scope).await {
            // A role that may see nothing is answered with nothing.
            Ok(found) if found.policies.is_empty() => return Err(refusal),
            Ok(found) => found,
            Err(error @ (CollectError::Stopped | CollectError::Store(_))) => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "the groups do not name the policies either");
                return Err(refusal);
            }
        };
        self.uses_groups(&refusal, found);
        self.one_by_one(query).await
    }

    /// The list is there: what was remembered of its absence is over.
    fn has_list(&self) {
        let mut state = self.state();
        if state.found.take().is_some() {
            tracing::info!("the list of policies is there again");
        }
        *state = State { has_list: true, ..State::default() };
    }

    /// Whether this error says that there is no list, rather than that it is out of reach for now.
    fn gives_up_the_list(&self, error: &CollectError) -> bool {
        let Some(status) = refused_with(error) else { return false };
        let mut state = self.state();
        state.refusals += 1;
        status == 404 || !state.has_list || state.refusals >= REFUSALS
    }

    fn uses_groups(&self, refusal: &CollectError, found: Found) {
        let mut state = self.state();
        if state.found.is_none() {
            tracing::warn!(
                error = %refusal,
                policies = found.policies.len(),
                "the portal refuses its list of policies: they are asked one by one, as the groups of computers name them"
            );
        }
        state.found = Some(found);
        state.refused.clear();
    }

    /// A page of what the groups name.
    async fn one_by_one(&self, query: &Query) -> Result<Listed, CollectError> {
        let (policies, mut listed, is_last) = {
            let state = self.state();
            let Some(found) = &state.found else { return Ok(Listed::default()) };
            let size = AT_ONCE.min(query.size as usize);
            let start = (query.page as usize - 1).saturating_mul(size).min(found.policies.len());
            let end = start.saturating_add(size).min(found.policies.len());
            let listed = Listed {
                total: Some(found.policies.len() as u64),
                partial: found.partial.clone(),
                ..Listed::default()
            };
            (found.policies[start..end].to_vec(), listed, end == found.policies.len())
        };
        for (id, organizations) in policies {
            match self.alone(&id, &organizations).await? {
                Asked::Row(body, organization) => match self.keyed(body, organization) {
                    Some(row) if is_of(&query.scope, &row) => listed.rows.push(row),
                    _ => listed.unseen.push(id),
                },
                Asked::Refused => {
                    self.state().refused.insert(id.clone());
                    listed.unseen.push(id);
                }
            }
        }
        let mut state = self.state();
        if is_last {
            state.last_refused = state.refused.len();
            let all = listed.total.unwrap_or(0);
            if all > 0 && state.last_refused as u64 == all {
                return Err(CollectError::Incomplete(format!("none of {all} policies was shown one by one")));
            }
        }
        drop(state);
        Ok(listed)
    }

    fn keyed(&self, body: Bytes, organization: OrganizationId) -> Option<ListedRow> {
        let source = self.listing.source;
        let text = std::str::from_utf8(&body).ok()?;
        let mut key = source.key(text, 0).ok()?;
        if key.organization.is_none() {
            // It is shown to its own organization only.
            key.organization = organization;
        }
        let owned = |text: Option<Cow<'_, str>>| text.map(|text| Cow::Owned(text.into_owned()));
        let key = RowKey {
            vendor_id: owned(key.vendor_id),
            organization_name: owned(key.organization_name),
            ..RowKey::nobody(key.organization)
        };
        Some(ListedRow { shape: ALONE, ..listed_row(source, 0, key, body) })
    }

    /// Asks for one policy, for each of the organizations that may have it.
    async fn alone(&self, id: &str, organizations: &[OrganizationId]) -> Result<Asked, CollectError> {
        for organization in organizations {
            let query = format!("policyId={id}");
            let request = self.listing.get(Endpoint::PolicyById, organization, query);
            let page = match self.listing.ask(&request).await {
                Ok(page) => page,
                Err(error) if refused_with(&error).is_some() => continue,
                Err(error) => return Err(error),
            };
            let row = page.rows().next().filter(|row| row.len() <= LARGEST);
            let is_it = |row: &&str| {
                let key = self.listing.source.key(row, 0);
                key.is_ok_and(|key| key.vendor_id.is_some_and(|found| found.eq_ignore_ascii_case(id)))
            };
            if let Some(row) = row.filter(is_it) {
                return Ok(Asked::Row(Bytes::copy_from_slice(row.as_bytes()), organization.clone()));
            }
        }
        Ok(Asked::Refused)
    }

    /// A page of the list, with those rows that say too little in the words of the policy itself, and without those
    /// of other organizations than the one that was asked.
    async fn completed(&self, query: &Query, mut listed: Listed) -> Result<Listed, CollectError> {
        let rows = std::mem::take(&mut listed.rows);
        let (own, others): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| is_of(&query.scope, row));
        listed.rows = own;
        listed.unseen.extend(others.into_iter().filter_map(|row| row.vendor_id));
        let lacks = |row: &ListedRow| std::str::from_utf8(&row.body).is_ok_and(lacks_details);
        let size: usize = listed.rows.iter().map(|row| row.body.len()).sum();
        if size > LARGEST_PAGE || !listed.rows.iter().any(lacks) {
            return Ok(listed);
        }
        // Nobody may hold a page while he waits for another.
        listed.reservation = None;
        for row in listed.rows.iter_mut().filter(|row| lacks(row)) {
            let Some(id) = row.vendor_id.clone() else { continue };
            let organization = match row.organization.is_none() {
                true => query.scope.organization(),
                false => &row.organization,
            };
            if let Asked::Row(body, _) = self.alone(&id, std::slice::from_ref(organization)).await? {
                (row.body, row.shape) = (body, ALONE);
            }
        }
        Ok(listed)
    }
}

/// Whether a row is one of those that are asked for.
fn is_of(scope: &Scope, row: &ListedRow) -> bool {
    scope.is_tree() || row.organization.is_none() || row.organization == *scope.organization()
}

/// The status with which the portal refuses a request as such (contract section 6.2), if this is one.
fn refused_with(error: &CollectError) -> Option<u16> {
    let (CollectError::Refused(error) | CollectError::Portal(error)) = error else { return None };
    match &error.failure {
        Failure::Answer(answer) => {
            Some(answer.status).filter(|status| matches!(status, 400 | 404 | 417 | 500))
        }
        _ => None,
    }
}
