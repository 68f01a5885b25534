//! The portal as a [`Listing`]: asks for a page and keys its rows.

use std::time::Duration;

use bytes::Bytes;

use super::{CollectError, Listed, ListedRow, Listing};
use crate::coverage::walk::RowId;
use crate::model::{Micros, uid};
use crate::portal::{Page, Portal};
use crate::source::{Query, Rejected, RowKey, Source};

/// One source at one portal.
#[derive(Clone)]
pub struct PortalListing {
    pub portal: Portal,
    pub source: &'static dyn Source,
    pub timeout: Duration,
}

impl Listing for PortalListing {
    fn now(&self) -> Micros {
        self.portal.now()
    }

    async fn list(&self, query: &Query) -> Result<Listed, CollectError> {
        let page = self.portal.fetch(&query.request(self.source, self.timeout)).await?;
        Ok(keyed(self.source, query.part, page))
    }
}

/// Keys the rows of a page. What is no row of the source is undecodable, and so is kept and counted.
fn keyed(source: &dyn Source, part: u8, page: Page) -> Listed {
    let mut listed = Listed { total: page.total, ..Listed::default() };
    for (row, &(start, end)) in page.rows().zip(&page.rows) {
        let body = page.body.slice(start..end);
        match source.key(row, part) {
            Ok(key) => listed.rows.push(listed_row(source, part, key, body)),
            Err(Rejected(reason)) => listed.undecodable.push((body, reason)),
        }
    }
    listed.undecodable.extend(page.undecodable.iter().cloned());
    listed.reservation = Some(Box::new(page));
    listed
}

fn listed_row(source: &dyn Source, part: u8, key: RowKey<'_>, body: Bytes) -> ListedRow {
    let id = match &key.vendor_id {
        Some(vendor_id) => {
            let vendor_key = vendor_key(part, vendor_id);
            let organization = key.organization.as_str();
            RowId::Vendor(
                uid(organization, source.name(), &vendor_key, source.kind().as_str(), "0").as_u128(),
            )
        }
        None => RowId::Content(key.content),
    };
    ListedRow {
        id,
        organization: key.organization,
        organization_name: key.organization_name.map(std::borrow::Cow::into_owned),
        vendor_id: key.vendor_id.map(std::borrow::Cow::into_owned),
        at: key.at,
        imported: key.imported,
        body,
    }
}

/// ◆ What names a row within its organization and source: the vendor's id and, where a source has parts,
/// the part, since ids may repeat across them (contract section 14, row 12).
fn vendor_key(part: u8, vendor_id: &str) -> String {
    let id = crate::model::folded(vendor_id);
    if part == 0 { id.into_owned() } else { format!("{part}/{id}") }
}
