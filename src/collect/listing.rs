//! The portal as a [`Listing`]: asks for a page and keys its rows.

mod online_devices;
mod organizations;
mod policies;
mod private;
mod report;
mod whole;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use foldhash::fast::RandomState;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::report::{Names, Reading};
use super::{CollectError, Listed, ListedRow, Listing};
use crate::coverage::walk::RowId;
use crate::model::{Micros, OrganizationId, folded, uid, vendor_key};
use crate::portal::{Endpoint, Failure, Page, PageRequest, Portal, PortalError, Reader};
use crate::record::enrichment::{Computer, LONGEST_NAME, Matched, Sighting, is_person};
use crate::record::vendor_fields::{FieldChange, VendorFields};
use crate::source::{Query, Rejected, RowKey, Source};
use crate::sources::approval_requests::matching;

pub use self::organizations::Covered;
pub use self::whole::Whole;

/// The least time that the page in hand is waited for when the program stops.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// What becomes of the rows that our own requests write into the system audit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OwnRows {
    #[default]
    Keep,
    /// They count and are not delivered: those of the user that is named, else of the one reader that is known
    /// to be us.
    Drop { user: Option<String> },
}

/// One source at one portal, until it is told to stop: then the page in hand is waited for, twice as long as
/// the one before it took, and no other is asked. So every page that came is stored, and a portal that hangs
/// holds up nobody.
pub struct PortalListing {
    portal: Portal,
    source: &'static dyn Source,
    timeout: Duration,
    own_rows: OwnRows,
    fields: Mutex<VendorFields>,
    /// The report that is being read.
    reading: tokio::sync::Mutex<Option<Reading>>,
    /// The organizations that were listed last, for reports.
    names: Mutex<Names>,
    stop: CancellationToken,
    /// Milliseconds that the last page took, its turn and its tries included.
    took: AtomicU64,
}

impl PortalListing {
    pub fn new(
        portal: Portal,
        source: &'static dyn Source,
        timeout: Duration,
        own_rows: OwnRows,
        fields: VendorFields,
        stop: CancellationToken,
    ) -> Self {
        Self {
            portal,
            source,
            timeout,
            own_rows,
            fields: Mutex::new(fields),
            reading: tokio::sync::Mutex::default(),
            names: Mutex::default(),
            stop,
            took: AtomicU64::new(0),
        }
    }

    /// What the rows showed of their fields since this was last asked.
    pub fn take_field_changes(&self) -> Vec<FieldChange> {
        self.fields.lock().expect("no look at a page panics").take_changes()
    }

    /// Ends when the program was told to stop and the page in hand takes too long for it.
    async fn impatient(&self) {
        self.stop.cancelled().await;
        let took = Duration::from_millis(self.took.load(Ordering::Relaxed));
        tokio::time::sleep((2 * took).max(LEAST_PATIENCE)).await;
    }

    /// One page, unless the program is told to stop.
    async fn ask(&self, request: &PageRequest) -> Result<Page, CollectError> {
        if self.stop.is_cancelled() {
            return Err(CollectError::Stopped);
        }
        let began = Instant::now();
        let page = tokio::select! {
            biased;
            page = self.portal.fetch(request) => page?,
            () = self.impatient() => return Err(CollectError::Stopped),
        };
        let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.took.store(took, Ordering::Relaxed);
        Ok(page)
    }

    /// A GET of another read path for an organization.
    fn get(&self, endpoint: Endpoint, organization: &OrganizationId, query: String) -> PageRequest {
        let organization = Some(organization.clone());
        PageRequest { endpoint, organization, body: Bytes::new(), query, timeout: self.timeout }
    }

    /// Keys the rows of a page. What is no row of the source is undecodable, and so is kept and counted.
    fn keyed(&self, part: u8, page: Page) -> Listed {
        self.fields.lock().expect("no look at a page panics").look(page.rows());
        let mut listed = Listed { total: page.total, ..Listed::default() };
        let mut sightings = Sightings::default();
        // A row that moves from part to part stays the same row.
        let named = if self.source.parts().is_some() { 0 } else { part };
        for (row, &(start, end)) in page.rows().zip(&page.rows) {
            let body = page.body.slice(start..end);
            match self.source.key(row, part) {
                Ok(mut key) => {
                    let (reader, sighting) = (key.reader.take(), sightings.of(&mut key));
                    let mut row = listed_row(self.source, named, key, body);
                    row.sighting = sighting;
                    row.own = reader.is_some_and(|reader| self.is_unwanted(reader, &row));
                    listed.rows.push(row);
                }
                Err(Rejected(reason)) => listed.undecodable.push((body, reason)),
            }
        }
        listed.undecodable.extend(page.undecodable.iter().cloned());
        listed.reservation = Some(Box::new(page));
        listed
    }

    /// Takes note of a row that tells of a read. Answers whether it is one of ours and not to be delivered.
    fn is_unwanted(&self, reader: Reader, row: &ListedRow) -> bool {
        let id = match row.id {
            RowId::Vendor(id) => id,
            RowId::Content(hash) => u128::from_be_bytes(hash),
        };
        let named = matches!(&self.own_rows, OwnRows::Drop { user: Some(user) } if *user == reader.user);
        let ours = row.at.is_some_and(|at| self.portal.saw_read(reader, at, id));
        named || (ours && self.own_rows == OwnRows::Drop { user: None })
    }
}

impl Listing for PortalListing {
    fn now(&self) -> Micros {
        self.portal.now()
    }

    async fn list(&self, query: &Query) -> Result<Listed, CollectError> {
        if self.stop.is_cancelled() {
            return Err(CollectError::Stopped);
        }
        if let Some(report) = &query.filter.report {
            return tokio::select! {
                biased;
                listed = self.report(report, query) => listed,
                () = self.impatient() => Err(CollectError::Stopped),
            };
        }
        if let Some(private) = &query.filter.private {
            return self.private(private, query).await;
        }
        let page = self.ask(&query.request(self.source, self.timeout)).await?;
        Ok(self.keyed(query.part, page))
    }

    async fn matching(
        &self,
        organization: &OrganizationId,
        question: &Value,
    ) -> Result<Option<Matched>, CollectError> {
        let endpoint = Endpoint::MatchingApplications;
        let body = Bytes::from(question.to_string());
        let organization = Some(organization.clone());
        let (query, timeout) = (String::new(), self.timeout);
        let page = self.ask(&PageRequest { endpoint, organization, body, query, timeout }).await?;
        matching::read(&page.body).map(Some).map_err(|Rejected(reason)| {
            let site = self.portal.site().to_owned();
            PortalError { site, endpoint: Some(endpoint), failure: Failure::Undecodable { reason } }.into()
        })
    }
}

/// What the rows of a page tell of computers: each pair of computer and user once, since most rows repeat one.
#[derive(Default)]
struct Sightings<'a>(HashMap<ComputerAndUser<'a>, Arc<Sighting>, RandomState>);

/// As they stand in a row: the computer's id, its host's name where it has none, and the user.
type ComputerAndUser<'a> = [Option<Cow<'a, str>>; 3];

impl<'a> Sightings<'a> {
    fn of(&mut self, key: &mut RowKey<'a>) -> Option<Arc<Sighting>> {
        let (named, facts) = ([key.computer.take(), key.host.take(), key.user.take()], key.facts.take());
        let pair = named.map(|name| name.filter(|name| name.len() <= LONGEST_NAME));
        if let Some(known) = self.0.get(&pair).filter(|_| facts.is_none()) {
            return Some(Arc::clone(known));
        }
        let computer = match &pair {
            [Some(id), ..] => Computer::Id(folded(id).into_owned()),
            [None, Some(host), _] => Computer::Host(host.to_lowercase()),
            [None, None, _] => return None,
        };
        let user = pair[2].as_deref().filter(|name| is_person(name)).map(str::to_owned);
        let sighting = Arc::new(Sighting { computer, user, facts });
        self.0.insert(pair, Arc::clone(&sighting));
        Some(sighting)
    }
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
        own: false,
        sighting: None,
        rated: key.rated,
        shape: 0,
        body,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::by_name;

    /// What rows of the audit tell of computers, on one page.
    fn sightings(rows: &[String]) -> Vec<Option<Arc<Sighting>>> {
        let source = by_name("unified_audit").unwrap();
        let mut sightings = Sightings::default();
        rows.iter().map(|row| sightings.of(&mut source.key(row, 1).unwrap())).collect()
    }

    #[test]
    fn a_row_tells_of_its_computer_and_of_a_person_and_of_nobody_whose_name_is_none() {
        let long = "x".repeat(LONGEST_NAME + 1);
        let id = "A2E2E158-86F0-49A1-AB86-30C3D8829690";
        let told = |row: &str| sightings(&[row.to_owned()]).pop().unwrap();
        let computer = |row: &str| told(row).map(|one| one.computer.clone());
        let user = |name: &str| {
            told(&format!(r#"{{"computerId":"{id}","username":"{name}"}}"#)).unwrap().user.clone()
        };
        let by_id = Some(Computer::Id(id.to_lowercase()));
        assert_eq!(computer(&format!(r#"{{"computerId":"{id}","hostname":"WS-1"}}"#)), by_id);
        assert_eq!(computer(r#"{"hostname":"WS-1"}"#), Some(Computer::Host("ws-1".to_owned())));
        assert_eq!(computer(&format!(r#"{{"computerId":"{long}"}}"#)), None);
        assert_eq!(computer(r#"{"username":"alice"}"#), None);
        assert_eq!(user(r"ACME\\alice").as_deref(), Some(r"ACME\alice"));
        assert_eq!((user(r"NT AUTHORITY\\SYSTEM"), user(&long)), (None, None));
    }

    #[test]
    fn rows_of_one_computer_and_user_share_what_they_tell_and_others_do_not() {
        let row =
            |computer: &str, user: &str| format!(r#"{{"computerId":"{computer}","username":"{user}"}}"#);
        let told = sightings(&[row("a", "x"), row("a", "y"), row("b", "x"), row("a", "x")]);
        let told: Vec<_> = told.into_iter().map(Option::unwrap).collect();
        let users: Vec<_> = told.iter().map(|one| one.user.as_deref().unwrap()).collect();
        assert_eq!(users, ["x", "y", "x", "x"]);
        assert!(Arc::ptr_eq(&told[0], &told[3]) && told[0].computer != told[2].computer);
    }
}
