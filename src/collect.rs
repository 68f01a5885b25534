//! One poll, start to commit. Knows the portal and the store, no schema and no sink.
//!
//! [`window`] collects what is asked by interval of time, [`snapshot`] what is asked as a whole. Both
//! are written against two small traits: [`Listing`], which the portal or a simulated one answers, and a
//! ledger, which the store keeps. So the same code that runs in service is driven through thousands of
//! random schedules in memory.

pub mod ledger;
pub mod listing;
pub mod per_computer;
pub mod snapshot;
pub mod window;

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::Connection;
use serde_json::Value;
use thiserror::Error;
use uuid::Uuid;

use crate::coverage::walk::RowId;
use crate::model::{ConnectionId, Kind, Micros, OrganizationId, uid};
use crate::normalise::{digest, fingerprint};
use crate::portal::{PortalError, Remedy};
use crate::record::enrichment::{Matched, Sighting};
use crate::source::Query;
use crate::store::{StoreError, dead_letters};

/// What can be asked for pages of one source.
pub trait Listing: Send + Sync {
    /// The portal's time.
    fn now(&self) -> Micros;
    /// One page. Retries and the pace are inside.
    fn list(&self, query: &Query) -> impl Future<Output = Result<Listed, CollectError>> + Send;
    /// Which applications match a request for approval of an organization, asked with this body; none of a portal
    /// that is never asked.
    fn matching(
        &self,
        _organization: &OrganizationId,
        _question: &Value,
    ) -> impl Future<Output = Result<Option<Matched>, CollectError>> + Send {
        async { Ok(None) }
    }
}

/// One page of rows, keyed.
#[derive(Debug, Default)]
pub struct Listed {
    /// In the portal's order.
    pub rows: Vec<ListedRow>,
    /// Elements that are no rows: their bytes and why.
    pub undecodable: Vec<(Bytes, String)>,
    /// The vendor's ids of things that are there and of which no row is taken: they count, and are not missing.
    pub unseen: Vec<String>,
    /// Why of a listing that is asked as a whole what it does not list may be there all the same.
    pub partial: Option<String>,
    /// Read in several requests, between which the listing may have moved.
    pub in_pieces: bool,
    /// The portal's count of the whole listing.
    pub total: Option<u64>,
    /// Of a listing that comes in one answer: whether it ends with these rows.
    pub last: Option<bool>,
    /// It shows a span of time: asked for another, it shows other rows.
    pub dated: bool,
    /// Keeps the memory of the page reserved until it is stored.
    pub reservation: Option<Box<dyn std::any::Any + Send + Sync>>,
}

/// The fault point behind each poll.
pub const FAULT_POINTS: &[&str] = &["collect.poll.after"];

/// One row of a page.
#[derive(Clone, Debug)]
pub struct ListedRow {
    pub id: RowId,
    pub organization: OrganizationId,
    pub organization_name: Option<String>,
    pub vendor_id: Option<String>,
    /// When it happened.
    pub at: Option<Micros>,
    /// When the portal received it.
    pub imported: Option<Micros>,
    /// Written by a request of our own, and not wanted: it counts, and does not enter.
    pub own: bool,
    /// What the row tells of a computer.
    pub sighting: Option<Arc<Sighting>>,
    /// Whether it says how severe a threat it tells of.
    pub rated: bool,
    /// Which of its shapes the row has, where a source asks in several ways; 0 for the usual one. Rows of different
    /// shapes are a change only where they contradict each other.
    pub shape: u8,
    /// The vendor's bytes; valid UTF-8.
    pub body: Bytes,
}

/// The uid of a row without an id: its unchanging content and its place among its equals.
pub fn content_uid(
    organization: &OrganizationId,
    source: &str,
    kind: Kind,
    hash: [u8; 16],
    ordinal: u32,
) -> Uuid {
    let key = format!("#{:032x}/{ordinal}", u128::from_be_bytes(hash));
    uid(organization.as_str(), source, &key, kind.as_str(), "0")
}

/// Keeps rows that nobody can read. One that comes again is the same whatever its `volatile` members say.
fn bury(
    db: &Connection,
    connection: ConnectionId,
    source: &str,
    stored: Micros,
    undecodable: &[(Bytes, String)],
    volatile: &[&str],
) -> Result<(), StoreError> {
    let print = |body: &[u8]| fingerprint(std::str::from_utf8(body).ok()?, volatile).ok();
    for (body, reason) in undecodable {
        let identity = print(body).filter(|_| !volatile.is_empty()).unwrap_or_else(|| digest(&[body]));
        dead_letters::insert(
            db,
            &dead_letters::NewDeadLetter {
                sink: None,
                connection,
                source,
                organization_id: None,
                number: None,
                uid: Some(Uuid::from_bytes(identity)),
                vendor_id: None,
                reason,
                stored,
                body,
                entry: None,
            },
        )?;
    }
    Ok(())
}

/// Why a poll stopped. What was committed before stays.
#[derive(Debug, Error)]
pub enum CollectError {
    /// A page that is no JSON: fewer rows at a time may be.
    #[error("{0}")]
    Undecodable(Box<PortalError>),
    /// The portal takes smaller pages only (contract section 1.6).
    #[error("{0}")]
    PageTooLarge(Box<PortalError>),
    /// The portal refuses this very request: another interval or page may be answered.
    #[error("{0}")]
    Refused(Box<PortalError>),
    /// Anything else that the portal or the way to it did.
    #[error("{0}")]
    Portal(Box<PortalError>),
    /// A list that is asked as a whole did not come to its end: nothing can be concluded from it.
    #[error("the list was not read to its end: {0}")]
    Incomplete(String),
    /// The portal has no report of that name.
    #[error("the portal has no report \"{wanted}\" for this token; there are: {known}")]
    NoReport { wanted: String, known: String },
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The program is told to stop: the page in hand is stored, the next one is not asked.
    #[error("stopped before everything was done")]
    Stopped,
}

impl CollectError {
    /// What is wrong, whichever poll met it, and what an operator can do; see [`PortalError::advice`].
    pub fn advice(&self) -> (&'static str, &'static str) {
        match self {
            Self::Undecodable(error)
            | Self::PageTooLarge(error)
            | Self::Refused(error)
            | Self::Portal(error) => error.advice(),
            Self::Incomplete(_) => (
                "the portal does not list all that it counts",
                "it is asked again by itself; if that lasts, check the role of the API user, else ask ThreatLocker's support",
            ),
            Self::NoReport { .. } => (
                "the portal has no report of that name",
                "write one of those that there are under reports.names or reports.computers, or ask for it at the portal",
            ),
            Self::Stopped => ("the program is stopping", "nothing: it goes on where it was"),
            Self::Store(_) => {
                ("the state cannot be used", "see the error; polls are tried again by themselves")
            }
        }
    }
}

impl CollectError {
    /// The status with which the portal answered, if it did.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Undecodable(error)
            | Self::PageTooLarge(error)
            | Self::Refused(error)
            | Self::Portal(error) => error.status(),
            _ => None,
        }
    }
}

impl From<PortalError> for CollectError {
    fn from(error: PortalError) -> Self {
        let error = Box::new(error);
        match error.remedy() {
            Remedy::SmallerPage if error.is_answer() => CollectError::PageTooLarge(error),
            Remedy::SmallerPage => CollectError::Undecodable(error),
            Remedy::SkipPoll => CollectError::Refused(error),
            _ => CollectError::Portal(error),
        }
    }
}
