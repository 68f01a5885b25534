//! Devices without an agent (contract section 2.3): the portal lists them for one organization at a time, and what a
//! row is called shows only with all the others of its organization.
//!
//! So each page of this listing is the whole list of one organization, read to its end before the first row is handed
//! on. Of a tree each organization is asked for, the token's own first.

use std::collections::HashMap;
use std::sync::Mutex;

use bytes::Bytes;

use super::{CollectError, Listed, ListedRow, PortalListing, listed_row};
use crate::coverage::walk::{Next, RowId, Walk};
use crate::model::{OrganizationId, uid};
use crate::normalise::{digest, fingerprint};
use crate::portal::Page;
use crate::source::{Query, Rejected, Scope, Source};
use crate::sources::online_devices::{Named, VOLATILE, address, ids};

/// Bytes of the rows of one organization that are held at once: some 20,000 devices.
const LARGEST: usize = 4 << 20;

/// The devices without an agent of an organization or of a tree.
pub struct OnlineDevices {
    pub(super) listing: PortalListing,
    /// The organizations of the walk in hand.
    organizations: Mutex<Vec<OrganizationId>>,
}

impl OnlineDevices {
    pub(super) fn new(listing: PortalListing) -> Self {
        Self { listing, organizations: Mutex::default() }
    }

    pub(super) async fn list(&self, query: &Query) -> Result<Listed, CollectError> {
        let mut unknown = None;
        if query.page == 1 {
            let (organizations, why) = self.organizations_of(&query.scope).await?;
            unknown = why;
            *self.held() = organizations;
        }
        let (organization, last) = {
            let organizations = self.held();
            let place = query.page as usize - 1;
            let Some(organization) = organizations.get(place) else {
                return Ok(Listed { last: Some(true), ..Listed::default() });
            };
            (organization.clone(), place + 1 == organizations.len())
        };
        let mut listed = match self.of(&organization, query).await {
            Err(CollectError::Refused(error)) if organization != *query.scope.organization() => {
                let partial = format!("the devices of {organization} are not shown: {error}");
                Listed { partial: Some(partial), ..Listed::default() }
            }
            listed => listed?,
        };
        listed.last = Some(last);
        listed.partial = unknown.or(listed.partial);
        Ok(listed)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Vec<OrganizationId>> {
        self.organizations.lock().expect("nobody panics while holding the organizations")
    }

    /// The organizations to ask for, and why there may be more.
    async fn organizations_of(
        &self,
        scope: &Scope,
    ) -> Result<(Vec<OrganizationId>, Option<String>), CollectError> {
        let own = scope.organization();
        let mut organizations = vec![own.clone()];
        if !scope.is_tree() {
            return Ok((organizations, None));
        }
        let children = tokio::select! {
            biased;
            children = self.listing.portal.child_organizations(own) => children,
            () = self.listing.impatient() => return Err(CollectError::Stopped),
        };
        match children {
            Ok(children) => {
                organizations.extend(children.into_iter().map(|child| child.id).filter(|id| id != own));
                Ok((organizations, None))
            }
            Err(error) => {
                Ok((organizations, Some(format!("the organizations below are not known: {error}"))))
            }
        }
    }

    /// The whole list of one organization.
    async fn of(&self, organization: &OrganizationId, query: &Query) -> Result<Listed, CollectError> {
        let mut walk = Walk::new(query.size, u64::MAX);
        let mut found = Found::default();
        let mut page = 1;
        let partial = loop {
            let scope = Scope::Organization(organization.clone());
            let query = Query { page, size: walk.size(), scope, ..query.clone() };
            let request = query.request(self.listing.source, self.listing.timeout);
            let answer = match self.listing.ask(&request).await {
                Err(CollectError::Refused(_)) if page > 1 => {
                    break Some("there is more than the portal lists at once");
                }
                answer => answer?,
            };
            self.listing.fields.lock().expect("no look at a page panics").look(answer.rows());
            let prints = found.take(self.listing.source, &answer);
            match walk.page(&prints, answer.total) {
                _ if found.bytes > LARGEST => break Some("there are more devices than can be held at once"),
                Next::Page(next) => page = next,
                Next::Closed => break None,
                Next::Smaller { why, .. } => break Some(why.as_str()),
                Next::Unproven => break Some("the portal counts rows that it does not list"),
            }
        };
        let listed = walk.copies();
        found.rows.retain(|print, _| listed.contains_key(print));
        let partial = partial.map(|why| format!("{why}, of the devices of {organization}"));
        let is_its = |row: &ListedRow| query.scope.is_tree() || row.organization == *organization;
        let mut rows = found.named(self.listing.source, organization);
        rows.retain(is_its);
        Ok(Listed { rows, undecodable: found.rejected.into_values().collect(), partial, ..Listed::default() })
    }
}

/// What the pages of a walk showed, each row once, by the fingerprint of all that does not change by itself.
#[derive(Default)]
struct Found {
    rows: HashMap<[u8; 16], ListedRow>,
    rejected: HashMap<[u8; 16], (Bytes, String)>,
    bytes: usize,
}

impl Found {
    /// Keeps the rows of a page, and answers what they are told apart by.
    fn take(&mut self, source: &dyn Source, page: &Page) -> Vec<RowId> {
        let mut prints = Vec::with_capacity(page.rows.len());
        for row in page.rows() {
            let print = fingerprint(row, &VOLATILE).unwrap_or_else(|_| digest(&[row.as_bytes()]));
            // A copy: nobody may hold a page while he waits for another.
            let body = Bytes::copy_from_slice(row.as_bytes());
            let size = body.len();
            let is_new = match source.key(row, 0) {
                Ok(key) => self.rows.insert(print, listed_row(source, 0, key, body)).is_none(),
                Err(Rejected(reason)) => self.rejected.insert(print, (body, reason)).is_none(),
            };
            self.bytes += size * usize::from(is_new);
            prints.push(RowId::Content(print));
        }
        for (body, reason) in &page.undecodable {
            let print = digest(&[body]);
            let body = Bytes::copy_from_slice(body);
            self.bytes += body.len();
            self.rejected.insert(print, (body, reason.clone()));
            prints.push(RowId::Content(print));
        }
        prints
    }

    /// The rows under the ids that they go by. A row that names no organization is of the one that was asked for.
    fn named(&mut self, source: &dyn Source, asked: &OrganizationId) -> Vec<ListedRow> {
        let (mut rows, mut names) = (Vec::new(), Vec::new());
        for (print, mut row) in self.rows.drain() {
            if row.organization.is_none() {
                row.organization = asked.clone();
            }
            names.push(Named {
                organization: row.organization.clone(),
                name: row.vendor_id.take().unwrap_or_default(),
                address: std::str::from_utf8(&row.body).ok().and_then(address),
                print,
            });
            rows.push(row);
        }
        for (row, id) in rows.iter_mut().zip(ids(&names)) {
            let kind = source.kind().as_str();
            row.id = RowId::Vendor(uid(row.organization.as_str(), source.name(), &id, kind, "0").as_u128());
            row.vendor_id = Some(id);
        }
        rows.sort_by(|one, other| one.vendor_id.cmp(&other.vendor_id));
        rows
    }
}
