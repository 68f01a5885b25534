//! What is asked as a whole: most of it as one list, some of it in several ways.

use serde_json::Value;

use super::online_devices::OnlineDevices;
use super::organizations::{Covered, Organizations};
use super::policies::Policies;
use super::{CollectError, Listed, Listing, PortalListing};
use crate::model::{Micros, OrganizationId};
use crate::portal::Endpoint;
use crate::record::enrichment::Matched;
use crate::record::vendor_fields::FieldChange;
use crate::source::Query;

/// A source that is asked as a whole, at one portal.
pub enum Whole {
    Plain(PortalListing),
    Organizations(Organizations),
    Policies(Policies),
    OnlineDevices(OnlineDevices),
}

impl Whole {
    /// The way in which this source is asked. `covered`: the organizations that the site is about.
    pub fn new(listing: PortalListing, covered: &Covered) -> Self {
        match listing.source.endpoint() {
            Some(Endpoint::ChildOrganizations) => {
                Self::Organizations(Organizations::new(listing, covered.clone()))
            }
            Some(Endpoint::PoliciesByParameters) => Self::Policies(Policies::new(listing)),
            Some(Endpoint::OnlineDevices) => Self::OnlineDevices(OnlineDevices::new(listing)),
            _ => Self::Plain(listing),
        }
    }

    /// What the rows showed of their fields since this was last asked.
    pub fn take_field_changes(&self) -> Vec<FieldChange> {
        match self {
            Self::Plain(listing) => listing,
            Self::Organizations(organizations) => &organizations.listing,
            Self::Policies(policies) => &policies.listing,
            Self::OnlineDevices(devices) => &devices.listing,
        }
        .take_field_changes()
    }

    /// How it is asked, where that is not the usual way; for status.
    pub fn way(&self) -> Option<String> {
        match self {
            Self::Plain(_) | Self::Organizations(_) | Self::OnlineDevices(_) => None,
            Self::Policies(policies) => policies.way(),
        }
    }
}

impl Listing for Whole {
    fn now(&self) -> Micros {
        match self {
            Self::Plain(listing) => listing.now(),
            Self::Organizations(organizations) => organizations.listing.now(),
            Self::Policies(policies) => policies.listing.now(),
            Self::OnlineDevices(devices) => devices.listing.now(),
        }
    }

    async fn list(&self, query: &Query) -> Result<Listed, CollectError> {
        match self {
            Self::Plain(listing) => listing.list(query).await,
            Self::Organizations(organizations) => organizations.list(query).await,
            Self::Policies(policies) => policies.list(query).await,
            Self::OnlineDevices(devices) => devices.list(query).await,
        }
    }

    async fn matching(
        &self,
        organization: &OrganizationId,
        question: &Value,
    ) -> Result<Option<Matched>, CollectError> {
        match self {
            Self::Plain(listing) => listing.matching(organization, question).await,
            Self::Organizations(_) | Self::Policies(_) | Self::OnlineDevices(_) => Ok(None),
        }
    }
}
