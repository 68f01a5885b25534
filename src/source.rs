//! The kinds of portal rows: how to ask for each and what collecting needs to know of a row.
//!
//! A source does no I/O; `collect` does the paging, pace, coverage and storing for all of them alike.

mod private;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::DateTime;
use thiserror::Error;

pub use self::private::{MARKS, Private, unknown_mark};
use crate::model::{Entry, Kind, Micros, OrganizationId, Seconds};
use crate::normalise::{NoObject, fields, text, time};
use crate::portal::{Endpoint, PageRequest, Reader};
use crate::record::Record;
use crate::record::enrichment::Facts;
use crate::record::row::{Names, Row};
use crate::sources::reports::Report;
use crate::sources::{
    approval_requests, computer_checkins, computer_details, computers, online_devices, organizations,
    policies, private_remediations, private_threats, remediations, reports, system_audit, threats,
    unified_audit,
};

/// One kind of portal row.
pub trait Source: Sync {
    /// Key in the configuration, in metrics and of the coverage; never changes once released.
    fn name(&self) -> &'static str;
    /// Asked by time interval, or as a whole.
    fn shape(&self) -> Shape;
    /// The parts in which a snapshot is listed, where the portal has no list of all.
    fn parts(&self) -> Option<&'static Parts> {
        None
    }
    /// What a row is: an event, a device, a state.
    fn kind(&self) -> Kind;
    /// The same for the rows of one narrowing.
    fn kind_of(&self, _filter: &Filter) -> Kind {
        self.kind()
    }
    /// Whether its devices have the agent: what is known of computers is known of these, and of no others.
    fn is_managed(&self) -> bool {
        true
    }
    /// Whether listing nothing is usual: that much is gone at once is believed.
    fn is_often_empty(&self) -> bool {
        false
    }
    /// Whether its rows are listed as a whole and tell of what happened: each is told once, and once more for each change
    /// that counts, and none is told to be gone.
    fn is_told_once(&self) -> bool {
        false
    }
    /// Whether what is listed for one computer at a time are moments, each told once, and nothing that lasts.
    fn are_moments(&self) -> bool {
        false
    }
    /// The portal permission that the API user's role needs (contract section 1.8).
    fn permission(&self) -> &'static str;
    /// The part that is asked where the configuration chooses none (`sourceTableId`); 0 where there are no parts.
    fn part(&self) -> u8 {
        0
    }
    /// The source whose rows are listed here, too: those that are [`RowKey::rated`].
    fn also(&self) -> Option<&'static dyn Source> {
        None
    }
    /// Where to ask; none where the operator names it ([`Filter::private`]).
    fn endpoint(&self) -> Option<Endpoint>;
    /// The request body that asks `query`.
    fn body(&self, query: &Query) -> serde_json::Value;
    /// Where an older portal is asked the same, without pages.
    fn older_endpoint(&self) -> Option<Endpoint> {
        None
    }
    /// The query string that asks `query`, of an endpoint that is asked with GET.
    fn query_string(&self, _query: &Query) -> String {
        String::new()
    }
    /// From when to when lasts what a row tells, for sources whose rows tell of more than a moment.
    fn lasting(&self, _row: &str, _now: Micros) -> Lasting {
        Lasting::default()
    }
    /// Whether the portal also lists what was deleted, when asked to ([`Query::deleted`]).
    fn lists_deleted(&self) -> bool {
        false
    }
    /// How a row compares with the one that is known of the same thing, which the portal gave in another shape. Only
    /// for sources whose rows have several ([`ListedRow::shape`](crate::collect::ListedRow::shape)).
    fn agree(&self, _row: &str, _known: &str) -> Agreement {
        Agreement::Differ
    }
    /// What collecting needs to know of a row without reading all of it.
    fn key<'a>(&self, row: &'a str, part: u8) -> Result<RowKey<'a>, Rejected>;
    /// The members of a row that are known by name.
    fn names(&self) -> &'static Names;
    /// Rows, as JSON, in which every member that is known has a value, one for each kind of record that they give;
    /// what `explain` and docs/fields.md show. The first is the most usual.
    fn examples(&self) -> Vec<String>;
    /// Hands the records that an entry gives to `emit`, the main one first. `previous` is there for snapshots.
    fn read<'a>(
        &self,
        entry: &Entry<'a>,
        row: &'a Row<'a>,
        previous: Option<&'a Row<'a>>,
        emit: &mut dyn FnMut(Record<'a>),
    );
}

/// Every source that this version collects.
pub static SOURCES: [&dyn Source; 14] = [
    &unified_audit::UnifiedAudit,
    &system_audit::SystemAudit,
    &computers::Computers,
    &organizations::Organizations,
    &policies::Policies,
    &approval_requests::ApprovalRequests,
    &threats::Threats,
    &remediations::Remediations,
    &reports::Reports,
    &online_devices::OnlineDevices,
    &computer_checkins::ComputerCheckins,
    &computer_details::ComputerDetails,
    &private_threats::PrivateThreats,
    &private_remediations::PrivateRemediations,
];

/// The source of that name.
pub fn by_name(name: &str) -> Option<&'static dyn Source> {
    SOURCES.into_iter().find(|source| source.name() == name)
}

/// What two rows of one thing in different shapes tell of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// Both tell something of one member, and not the same.
    Differ,
    /// They tell the same, and the new one all that the known one told.
    Same,
    /// They tell the same, and the new one less.
    Less,
}

/// How a source is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// By interval of time. `splits` are the action types by which a second too full to be listed is taken
    /// apart; `has_imported`: rows say when the portal received them.
    Window { splits: &'static [&'static str], has_imported: bool },
    /// As a whole, compared with what is known; `volatile` fields do not count as a change.
    Snapshot { volatile: &'static [&'static str] },
    /// For each computer, where its row changed and once in a while. Of a computer's row `signs` are the members that
    /// tell that there may be something new; where each of them is off, empty or `quiet`, there is hardly anything.
    PerComputer { signs: &'static [&'static str], quiet: &'static str },
}

/// From when to when lasts what a row tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lasting {
    pub from: Option<Micros>,
    /// When it ended, or is to end.
    pub to: Option<Micros>,
    /// It is over.
    pub has_ended: bool,
    /// Of all that counts as a change.
    pub print: [u8; 16],
}

/// How a snapshot is listed part by part, and what of its rows counts: a row moves from part to part (contract
/// section 7.1).
#[derive(Debug)]
pub struct Parts {
    /// Every part, in the order of a sweep.
    pub all: &'static [u8],
    /// Where most rows begin: read to its end at every poll.
    pub pending: u8,
    /// Listed from what was done last downwards, so that what is new stands first. All others are read to their end.
    pub settled: &'static [u8],
    /// The only members whose change makes an entry.
    pub counts: &'static [&'static str],
    /// The member that tells when a row came to be as it is.
    pub acted: &'static str,
    /// The member that tells in which part a row is.
    pub part: &'static str,
}

impl Parts {
    /// When a row came to be as it is, where it says so.
    pub fn acted(&self, row: &[u8]) -> Option<Micros> {
        let [acted] = fields(std::str::from_utf8(row).ok()?, &[self.acted]).ok()?;
        time(acted)
    }

    /// The part in which a row is, where it says so.
    pub fn part_of(&self, row: &[u8]) -> Option<u8> {
        let [part] = fields(std::str::from_utf8(row).ok()?, &[self.part]).ok()?;
        text(part)?.trim().parse().ok()
    }
}

/// Whose rows are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The own organization and all below it, in one walk with the child flag.
    Tree(OrganizationId),
    /// One organization alone.
    Organization(OrganizationId),
}

impl Scope {
    /// The organization that the request is made for.
    pub fn organization(&self) -> &OrganizationId {
        match self {
            Scope::Tree(organization) | Scope::Organization(organization) => organization,
        }
    }

    /// The scope's name in the store and in status: `tree`, or the organization's id.
    pub fn name(&self) -> &str {
        match self {
            Scope::Tree(_) => "tree",
            Scope::Organization(organization) => organization.as_str(),
        }
    }

    pub fn is_tree(&self) -> bool {
        matches!(self, Scope::Tree(_))
    }
}

/// One page of one listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub scope: Scope,
    /// The unified-audit table (`sourceTableId`), or one of [`Parts`]; 0 where a source has neither.
    pub part: u8,
    /// `(from, to)` as sent; whether the portal includes the ends is observed, not known. For window sources, and
    /// for reports where it is not the newest span.
    pub span: Option<(Seconds, Seconds)>,
    /// From 1.
    pub page: u32,
    pub size: u32,
    /// Only this action type.
    pub split: Option<&'static str>,
    /// Also list what was deleted, where the portal can.
    pub deleted: bool,
    /// Narrowing at the source as the operator asked for it.
    pub filter: Filter,
    /// Only what is of this computer, by the vendor's id; for sources that are asked per computer.
    pub computer: Option<Arc<str>>,
    /// Asked where older portals answer.
    pub older: bool,
}

/// What the operator leaves out at the source; another filter is another stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Action types to ask for; empty means all.
    pub action_types: Vec<String>,
    /// Vendor action ids to ask for, one query each; `None` means all.
    pub action_id: Option<i64>,
    /// The report to run.
    pub report: Option<Report>,
    /// How to ask what the vendor does not publish.
    pub private: Option<Arc<Private>>,
}

impl Query {
    /// A page of all that there is in a scope.
    pub fn whole(scope: Scope, page: u32, size: u32) -> Self {
        Self {
            scope,
            part: 0,
            span: None,
            page,
            size,
            split: None,
            deleted: false,
            filter: Filter::default(),
            computer: None,
            older: false,
        }
    }

    /// The HTTP request that asks this of `source`.
    pub fn request(&self, source: &dyn Source, timeout: Duration) -> PageRequest {
        let older = source.older_endpoint().filter(|_| self.older);
        let private = self.filter.private.as_deref();
        let endpoint = private.map(Private::endpoint).or(older).or_else(|| source.endpoint());
        let endpoint = endpoint.expect("what the vendor does not publish is asked as the operator says");
        let (body, query) = match (private, endpoint.is_get()) {
            (Some(private), true) => (Bytes::new(), private.query_string(self)),
            (Some(private), false) => (Bytes::from(private.body(self)), String::new()),
            (None, true) => (Bytes::new(), source.query_string(self)),
            (None, false) => (Bytes::from(self.body(source)), String::new()),
        };
        let organization = Some(self.scope.organization().clone());
        PageRequest { endpoint, organization, body, query, timeout }
    }

    fn body(&self, source: &dyn Source) -> Vec<u8> {
        serde_json::to_vec(&source.body(self)).expect("a JSON value of text keys can be written")
    }
}

/// A second as the portal takes it: `YYYY-MM-DDTHH:MM:SSZ` (contract section 1.5).
pub fn request_time(second: Seconds) -> String {
    DateTime::from_timestamp(second, 0)
        .unwrap_or(DateTime::UNIX_EPOCH)
        .format("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

/// What collecting needs to know of a row.
#[derive(Debug)]
pub struct RowKey<'a> {
    /// The row's own organization, lower-case; none when it names none.
    pub organization: OrganizationId,
    pub organization_name: Option<Cow<'a, str>>,
    /// The vendor's id, as it stands in the row.
    pub vendor_id: Option<Cow<'a, str>>,
    /// What tells rows without an id apart: a hash of the fields that never change.
    pub content: [u8; 16],
    /// When it happened.
    pub at: Option<Micros>,
    /// When the portal received it, for rows that say so.
    pub imported: Option<Micros>,
    /// Who read what through the portal, for rows that tell of nothing else.
    pub reader: Option<Reader>,
    /// The vendor's id of the computer on which it happened, or that the row describes.
    pub computer: Option<Cow<'a, str>>,
    /// The name of that computer's host, where the row has no id of it.
    pub host: Option<Cow<'a, str>>,
    /// The user that the row names, of the computer: a person, a service or anything else.
    pub user: Option<Cow<'a, str>>,
    /// What the row tells of the computer.
    pub facts: Option<Box<Facts>>,
    /// Whether it says how severe a threat it tells of (contract section 6.1).
    pub rated: bool,
}

impl RowKey<'_> {
    /// What is known of a row that tells of an organization, and no more.
    pub fn nobody(organization: OrganizationId) -> Self {
        Self {
            organization,
            organization_name: None,
            vendor_id: None,
            content: [0; 16],
            at: None,
            imported: None,
            reader: None,
            computer: None,
            host: None,
            user: None,
            facts: None,
            rated: false,
        }
    }
}

/// A row that no source can use, and why.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct Rejected(pub String);

impl From<serde_json::Error> for Rejected {
    fn from(error: serde_json::Error) -> Self {
        Rejected(format!("not a JSON object: {error}"))
    }
}

impl From<NoObject> for Rejected {
    fn from(error: NoObject) -> Self {
        Rejected(error.to_string())
    }
}
