//! The organizations that a token reaches, its own among them (contract section 7.2).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::{CollectError, Listed, ListedRow, Listing, PortalListing, listed_row};
use crate::model::OrganizationId;
use crate::portal::Endpoint;
use crate::source::Query;

/// The organizations that a site is about, as far as they are known; none for all. What is once covered stays so
/// while the program runs, whatever it is called later.
#[derive(Clone, Debug, Default)]
pub struct Covered(Arc<Mutex<Option<BTreeSet<OrganizationId>>>>);

impl Covered {
    /// Adds organizations to those that are covered.
    pub fn add(&self, organizations: impl IntoIterator<Item = OrganizationId>) {
        self.held().get_or_insert_default().extend(organizations);
    }

    fn has(&self, organization: &OrganizationId) -> bool {
        self.held().as_ref().is_none_or(|covered| covered.contains(organization))
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Option<BTreeSet<OrganizationId>>> {
        self.0.lock().expect("no holder of the set panics")
    }
}

/// The shape of a row of the drop-down list; 0 is that of the list of children.
const DROP_DOWN: u8 = 1;

/// The list of children, and where it leaves the token's own organization out, that one's row of the drop-down list.
pub struct Organizations {
    pub(super) listing: PortalListing,
    covered: Covered,
    /// Whether the list names the own organization, once a walk has shown it.
    names_own: Mutex<bool>,
}

impl Organizations {
    pub(super) fn new(listing: PortalListing, covered: Covered) -> Self {
        Self { listing, covered, names_own: Mutex::new(false) }
    }

    pub(super) async fn list(&self, query: &Query) -> Result<Listed, CollectError> {
        let own = query.scope.organization();
        let mut listed = self.listing.list(query).await?;
        let is_here = listed.rows.iter().any(|row| row.organization == *own);
        let names_own = {
            let mut names_own = self.names_own.lock().expect("nobody panics while holding a flag");
            *names_own |= is_here;
            *names_own
        };
        if !names_own {
            // On the first page of each pass, so that equal listings look equal.
            if query.page == 1 {
                self.add_own(own, &mut listed).await?;
            }
            listed.total = listed.total.map(|total| total + 1);
        }
        let rows = std::mem::take(&mut listed.rows);
        let (covered, others): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|row| self.covered.has(&row.organization));
        listed.rows = covered;
        listed.unseen.extend(others.into_iter().filter_map(|row| row.vendor_id));
        Ok(listed)
    }

    /// Adds the own organization, without a row where the portal has none of it.
    async fn add_own(&self, own: &OrganizationId, listed: &mut Listed) -> Result<(), CollectError> {
        // Nobody may hold a page while he waits for another.
        listed.reservation = None;
        match self.row_of(own).await {
            Ok(Some(row)) => listed.rows.push(row),
            Ok(None) => listed.unseen.push(own.to_string()),
            Err(error @ (CollectError::Stopped | CollectError::Store(_))) => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "the own organization's name is not to be had");
                listed.unseen.push(own.to_string());
            }
        }
        Ok(())
    }

    async fn row_of(&self, own: &OrganizationId) -> Result<Option<ListedRow>, CollectError> {
        let request = self.listing.get(Endpoint::OrganizationsForMove, own, "searchText=".to_owned());
        let page = self.listing.ask(&request).await?;
        let source = self.listing.source;
        Ok(page.rows().find_map(|row| {
            let key = source.key(row, 0).ok().filter(|key| key.organization == *own)?;
            let row = listed_row(source, 0, key, Bytes::copy_from_slice(row.as_bytes()));
            Some(ListedRow { shape: DROP_DOWN, ..row })
        }))
    }
}
