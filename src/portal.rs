//! The ThreatLocker Portal API: one `fetch(PageRequest) -> Page`.
//!
//! Knows transport, headers, paging headers, errors and the pace; knows no schema. Vendor facts are in
//! contract sections 1 and 8.

use std::time::Duration;

use bytes::Bytes;

use crate::model::{Micros, OrganizationId};

/// A read path of the Portal API. Nothing else can be called (contract section 13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    ActionLogByParameters,
    SystemAuditByParameters,
    ComputersByParameters,
    ChildOrganizations,
    OrganizationsForMove,
}

/// One request for one page.
#[derive(Clone, Debug)]
pub struct PageRequest {
    pub endpoint: Endpoint,
    /// `ManagedOrganizationId`; absent only in the discovery request of a token.
    pub organization: Option<OrganizationId>,
    /// JSON body of a POST; empty for a GET.
    pub body: Bytes,
    /// Query string of a GET, without the question mark.
    pub query: String,
    pub timeout: Duration,
}

/// One page of a list, as received.
#[derive(Debug)]
pub struct Page {
    /// The rows that are JSON, in the portal's order, as `(start, end)` into `body`.
    pub rows: Vec<(usize, usize)>,
    /// Elements of the list that are no JSON or no UTF-8: their bytes and why.
    pub undecodable: Vec<(Bytes, String)>,
    pub body: Bytes,
    /// `totalItems` of the `pagination` header (contract section 1.6).
    pub total: Option<u64>,
    /// `itemsPerPage` of the same, when the portal clamps our page size.
    pub page_size: Option<u64>,
}

impl Page {
    /// The rows in the portal's order, each a whole JSON value.
    pub fn rows(&self) -> impl Iterator<Item = &str> {
        self.rows.iter().map(|&(start, end)| {
            std::str::from_utf8(&self.body[start..end]).expect("rows are checked when the page is read")
        })
    }
}

/// What the portal's `Date` header says, carried on by our clock while it is silent.
pub trait PortalTime {
    fn now(&self) -> Micros;
}
