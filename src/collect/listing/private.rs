//! A list that the vendor does not publish as a [`super::Listing`]: the operator says which member of a row names it and
//! which tells when it happened.

use std::borrow::Cow;

use super::{PortalListing, Sightings, listed_row};
use crate::collect::{CollectError, Listed};
use crate::coverage::walk::RowId;
use crate::normalise::{digest, fields, fingerprint, time};
use crate::portal::Page;
use crate::source::{Private, Query, Rejected, RowKey, Scope};

impl PortalListing {
    pub(super) async fn private(&self, private: &Private, query: &Query) -> Result<Listed, CollectError> {
        let page = self.ask(&query.request(self.source, self.timeout)).await?;
        let mut listed = self.keyed_as(private, &query.scope, page);
        listed.last = (!private.is_paged()).then_some(true);
        Ok(listed)
    }

    /// Keys the rows of a page. A row without an id goes by what it says, so equal ones are one. One that names no
    /// organization is of the one that was asked for; of one alone, those of others count and are left out.
    fn keyed_as(&self, private: &Private, scope: &Scope, page: Page) -> Listed {
        self.fields.lock().expect("no look at a page panics").look(page.rows());
        let mut listed =
            Listed { total: page.total, undecodable: page.undecodable.clone(), ..Listed::default() };
        let mut sightings = Sightings::default();
        for (row, &(start, end)) in page.rows().zip(&page.rows) {
            let body = page.body.slice(start..end);
            let mut key = match self.key(private, row) {
                Ok(key) => key,
                Err(Rejected(reason)) => {
                    listed.undecodable.push((body, reason));
                    continue;
                }
            };
            if key.organization.is_none() {
                key.organization = scope.organization().clone();
            }
            let content = match &key.vendor_id {
                Some(_) => None,
                None => {
                    key.vendor_id = Some(Cow::Owned(content_id(key.content)));
                    Some(key.content)
                }
            };
            let sighting = sightings.of(&mut key);
            let mut row = listed_row(self.source, 0, key, body);
            if !scope.is_tree() && row.organization != *scope.organization() {
                let id = row.vendor_id.unwrap_or_default();
                listed.unseen.push(format!("{}/{id}", row.organization));
                continue;
            }
            row.sighting = sighting;
            // Whether equal rows are one that came twice or several, the walk tells apart.
            if let Some(content) = content {
                row.id = RowId::Content(content);
            }
            listed.rows.push(row);
        }
        listed.reservation = Some(Box::new(page));
        listed
    }

    fn key<'r>(&self, private: &Private, row: &'r str) -> Result<RowKey<'r>, Rejected> {
        let mut key = self.source.key(row, 0)?;
        let member = |name: &Option<String>| match name {
            Some(name) => Ok::<_, Rejected>(fields(row, &[name.as_str()])?[0]),
            None => Ok(None),
        };
        key.vendor_id = crate::sources::id(member(&private.id)?).filter(|id| id.len() <= LONGEST_ID);
        if private.time.is_some() {
            key.at = time(member(&private.time)?);
        }
        // Where the source does not know what of it never changes, all of it counts.
        if key.vendor_id.is_none() && key.content == [0; 16] {
            key.content = fingerprint(row, &[]).unwrap_or_else(|_| digest(&[row.as_bytes()]));
        }
        Ok(key)
    }
}

/// Bytes of an id; what is longer is none.
const LONGEST_ID: usize = 512;

/// What a row without an id goes by.
fn content_id(content: [u8; 16]) -> String {
    format!("#{:032x}", u128::from_be_bytes(content))
}
