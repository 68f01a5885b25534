//! What a token may read, source by source: one page of each, the permission to tick where one is missing, and what a
//! day of it is. `try` and `check --online` ask alike and say it in their own words.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use crate::collect::listing::{OwnRows, PortalListing};
use crate::collect::{CollectError, Listing as _};
use crate::model::{OrganizationId, SECOND};
use crate::portal::{Endpoint, Failure, ListedOrganization, Page, PageRequest, Portal, PortalError, Remedy};
use crate::record::vendor_fields::VendorFields;
use crate::source::{Filter, Query, SOURCES, Scope, Shape, Source, by_name};
use crate::sources::approval_requests::matching;
use crate::sources::policies::lacks_details;
use crate::sources::reports::Report;

/// What organizations are listed with, and those below them (contract section 1.8).
pub(super) const ORGANIZATIONS: &str = "View Organizations";
pub(super) const CHILDREN: &str = "Super Admin – Child";

/// The defaults of the configuration, which a test compares with these.
pub(super) const RATE: f64 = 5.0;
pub(super) const PAGE_SIZE: u64 = 500;
pub(super) const BACKFILL: Duration = Duration::from_secs(86_400);

/// Rows looked at for their size; the first three are shown.
const LOOKED_AT: u32 = 100;
const SHOWN: usize = 3;
/// A gap is walked a day at a time, and each piece may cost one request more than its pages.
const PIECE: Duration = Duration::from_secs(86_400);

/// One source.
#[derive(Debug, Serialize)]
pub(super) struct Tried {
    pub(super) source: &'static str,
    /// The portal permission that it needs.
    pub(super) permission: &'static str,
    pub(super) readable: bool,
    /// Why not, and what to do.
    pub(super) trouble: Option<String>,
    /// How many there are: rows of the last 24 hours, or things at all.
    pub(super) total: Option<u64>,
    /// How that is known.
    pub(super) counted: Counted,
    /// Whether the rows are asked for by time; else all of them at every poll, and changes are delivered.
    pub(super) by_time: bool,
    /// Whether it is listed for one computer at a time: then of the first one.
    pub(super) per_computer: bool,
    /// Mean of the rows looked at, as the portal sends them.
    pub(super) bytes_a_row: Option<f64>,
    pub(super) bytes_a_day: Option<u64>,
    /// Requests of the first backfill, or of one walk of all.
    pub(super) requests: Option<u64>,
    /// What those take at the default rate.
    pub(super) minutes: Option<f64>,
    /// Of a source that is listed by status: those that the portal refuses while it lists others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) skipped_statuses: Vec<u8>,
    /// Each costs a request of its own, since the list says too little of it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) one_by_one: bool,
    /// Up to three, as the portal sends them.
    pub(super) rows: Vec<Box<RawValue>>,
}

/// How a total is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Counted {
    /// The portal says so.
    ByPortal,
    /// It does not, and so many were listed: there may be more.
    AtLeast,
    /// It does not, and all were listed.
    ByListing,
    Not,
}

/// The organizations below the own one. While nothing worked yet, a refusal looks like one of the token; so something
/// else is asked for first, and then the error is of the permission alone.
pub(super) async fn children(
    portal: &Portal,
    own: &OrganizationId,
    timeout: Duration,
) -> Result<Vec<ListedOrganization>, PortalError> {
    let listed = portal.child_organizations(own).await;
    if !matches!(&listed, Err(error) if matches!(error.failure, Failure::Rejected { .. })) {
        return listed;
    }
    let scope = Scope::Organization(own.clone());
    for source in SOURCES
        .into_iter()
        .filter(|source| source.endpoint().is_some_and(|endpoint| portal.may_ask(endpoint)))
    {
        if ask(portal, source, &scope, &Filter::default(), timeout).await.readable {
            return portal.child_organizations(own).await;
        }
    }
    listed
}

/// Runs reports, and reads the first rows of each: that they are listed does not mean that each may be run. The source
/// is readable where all of them are, and those that the portal does not have are not `wanted`.
pub(super) async fn run_reports(
    portal: &Portal,
    source: &'static dyn Source,
    scope: &Scope,
    timeout: Duration,
    (reports, wanted): (&[Report], bool),
) -> Tried {
    let mut tried = Tried { readable: true, ..Tried::nothing(source) };
    let (mut listed, mut bytes) = (0, 0);
    for report in reports {
        let fields = VendorFields::new(source.names(), []);
        let (keep, stop) = (OwnRows::Keep, CancellationToken::new());
        let listing = PortalListing::new(portal.clone(), source, timeout, keep, fields, stop);
        let filter = Filter { report: Some(report.clone()), ..Filter::default() };
        let query = Query { filter, ..Query::whole(scope.clone(), 1, LOOKED_AT) };
        match listing.list(&query).await {
            Ok(answer) => {
                let rows = answer.rows.len() as u64;
                tried
                    .add(rows, if answer.last == Some(true) { Counted::ByListing } else { Counted::AtLeast });
                listed += rows;
                bytes += answer.rows.iter().map(|row| row.body.len() as u64).sum::<u64>();
                tried.show(answer.rows.iter().filter_map(|row| std::str::from_utf8(&row.body).ok()));
            }
            Err(error @ CollectError::NoReport { .. }) if !wanted => tried.trouble = Some(error.to_string()),
            Err(error) => {
                let refused = match &error {
                    CollectError::Portal(error) | CollectError::Refused(error) => {
                        refusal(error, source.permission())
                    }
                    error => format!("NOT READABLE: {error}"),
                };
                tried.readable = false;
                let known = tried.trouble.take().map_or_else(String::new, |before| before + "; ");
                tried.trouble =
                    Some(format!("{known}report {:?} is {refused}", report.names.join("\" or \"")));
            }
        }
    }
    tried.estimate(listed, bytes, 1);
    // Each is one request, and one more finds it.
    tried.requests = Some(2 * reports.len() as u64);
    tried.minutes = tried.requests.map(minutes);
    tried
}

/// Asks one source for a page: of the last day where it is asked by time, of every status where it is listed by
/// status, else of all. A source is readable where any of it is. `filter` says how to ask for what the vendor does not
/// publish.
pub(super) async fn ask(
    portal: &Portal,
    source: &'static dyn Source,
    scope: &Scope,
    filter: &Filter,
    timeout: Duration,
) -> Tried {
    let mut tried = Tried::nothing(source);
    let by_time = tried.by_time;
    let now = portal.now().div_euclid(SECOND);
    let (mut listed, mut bytes, mut refused) = (0, 0, None);
    let parts = parts(source);
    for part in parts.iter().copied() {
        let query = Query {
            part,
            span: by_time.then_some((now - 86_400, now)),
            filter: filter.clone(),
            ..Query::whole(scope.clone(), 1, LOOKED_AT)
        };
        let query = match source.shape() {
            Shape::PerComputer { .. } => match of_first_computer(portal, query, timeout).await {
                Ok(Some(query)) => query,
                // Without computers there is nothing to be read.
                Ok(None) => {
                    tried.readable = true;
                    return tried;
                }
                Err(error) => {
                    tried.trouble = Some(refusal(&error, source.permission()));
                    return tried;
                }
            },
            Shape::Window { .. } | Shape::Snapshot { .. } => query,
        };
        let page = match portal.fetch(&query.request(source, timeout)).await {
            Ok(page) => page,
            Err(error) if source.parts().is_some() && error.remedy() == Remedy::SkipPoll => {
                tried.skipped_statuses.push(part);
                refused = Some(error);
                continue;
            }
            Err(error) => {
                tried.trouble = Some(refusal(&error, source.permission()));
                return tried;
            }
        };
        tried.readable = true;
        tried.count(&page);
        listed += page.rows.len() as u64;
        bytes += page.rows().map(str::len).sum::<usize>() as u64;
        tried.one_by_one |= source.name() == "policies" && page.rows().any(lacks_details);
        tried.show(page.rows());
    }
    if let Some(error) = refused.filter(|_| !tried.readable) {
        tried.skipped_statuses.clear();
        tried.trouble = Some(refusal(&error, source.permission()));
        return tried;
    }
    tried.estimate(listed, bytes, parts.len() as u64);
    tried
}

/// The same of the first computer that is listed, if there is one.
async fn of_first_computer(
    portal: &Portal,
    query: Query,
    timeout: Duration,
) -> Result<Option<Query>, PortalError> {
    let computers = by_name("computers").expect("a source of this version");
    let first = Query { computer: None, ..Query::whole(query.scope.clone(), 1, 1) };
    let page = portal.fetch(&first.request(computers, timeout)).await?;
    let Some(key) = page.rows().next().and_then(|row| computers.key(row, 0).ok()) else { return Ok(None) };
    let scope = Scope::Organization(key.organization);
    let computer = key.vendor_id.map(|id| Arc::from(&*id));
    Ok(computer.map(|computer| Query { scope, computer: Some(computer), ..query }))
}

/// Every part of a source that is asked for by itself.
fn parts(source: &dyn Source) -> Vec<u8> {
    source.parts().map_or_else(|| vec![source.part()], |parts| parts.all.to_vec())
}

impl Tried {
    /// A source before it was asked.
    fn nothing(source: &dyn Source) -> Self {
        Self {
            source: source.name(),
            permission: source.permission(),
            readable: false,
            trouble: None,
            total: None,
            counted: Counted::Not,
            by_time: matches!(source.shape(), Shape::Window { .. }),
            per_computer: matches!(source.shape(), Shape::PerComputer { .. }),
            bytes_a_row: None,
            bytes_a_day: None,
            requests: None,
            minutes: None,
            skipped_statuses: Vec::new(),
            one_by_one: false,
            rows: Vec::new(),
        }
    }

    /// Keeps the first rows, to be shown.
    fn show<'r>(&mut self, rows: impl Iterator<Item = &'r str>) {
        let room = SHOWN - self.rows.len();
        self.rows.extend(rows.take(room).filter_map(|row| RawValue::from_string(row.to_owned()).ok()));
    }

    /// Adds what a page tells of how many there are; the least certain of several pages holds for all.
    fn count(&mut self, page: &Page) {
        let listed = page.rows.len() as u64;
        let size = page.page_size.filter(|size| *size > 0).unwrap_or(LOOKED_AT.into()).min(LOOKED_AT.into());
        let (total, counted) = match page.total {
            Some(total) => (total, Counted::ByPortal),
            None if listed < size => (listed, Counted::ByListing),
            None => (listed, Counted::AtLeast),
        };
        self.add(total, counted);
    }

    fn add(&mut self, total: u64, counted: Counted) {
        self.total = Some(self.total.unwrap_or(0) + total);
        self.counted = match (self.counted, counted) {
            (Counted::AtLeast, _) | (_, Counted::AtLeast) => Counted::AtLeast,
            (Counted::ByListing, _) | (_, Counted::ByListing) => Counted::ByListing,
            _ => Counted::ByPortal,
        };
    }

    fn estimate(&mut self, listed: u64, bytes: u64, parts: u64) {
        if let Ok(rows) = u32::try_from(listed)
            && rows > 0
        {
            let mean = u32::try_from(bytes).map_or(f64::from(u32::MAX), f64::from) / f64::from(rows);
            self.bytes_a_row = Some(mean);
            if self.by_time {
                self.bytes_a_day = self.total.map(|total| total.saturating_mul(bytes) / listed);
            }
        }
        if self.counted != Counted::AtLeast && !self.per_computer {
            let each = |total| if self.one_by_one { total } else { 0 };
            self.requests = self.total.map(|total| requests(total, self.by_time) + (parts - 1) + each(total));
            self.minutes = self.requests.map(minutes);
        }
    }

    /// In a sentence.
    pub(super) fn said(&self) -> String {
        if let Some(trouble) = &self.trouble {
            return trouble.clone();
        }
        let what = match (self.by_time, self.per_computer) {
            (true, _) => "rows in the last 24 hours",
            (_, true) => "of the first computer; it is asked about each",
            _ => "in all",
        };
        let mut text = match (self.total, self.counted) {
            (Some(0), _) if self.per_computer => "readable; none of the first computer".to_owned(),
            (Some(0), _) => format!(
                "readable, and empty: a role that is not ticked looks the same, so see that \"{}\" is",
                self.permission
            ),
            (Some(total), Counted::AtLeast) => {
                format!("readable; at least {total} {what}, it gives no total")
            }
            (Some(total), _) => format!("readable; {total} {what}"),
            (None, _) if self.per_computer => "there are no computers to ask about".to_owned(),
            (None, _) => "readable".to_owned(),
        };
        if self.one_by_one {
            text += "; the list says too little of them, so each costs a request of its own";
        }
        if !self.skipped_statuses.is_empty() {
            let skipped: Vec<String> = self.skipped_statuses.iter().map(u8::to_string).collect();
            text += &format!("; skipped statuses: {}", skipped.join(", "));
        }
        text
    }
}

/// Requests for so many rows a day over the default backfill, or of one walk of all.
pub(super) fn requests(total: u64, by_time: bool) -> u64 {
    let pieces = if by_time { BACKFILL.as_secs().div_ceil(PIECE.as_secs()) } else { 1 };
    let rows = if by_time { total.saturating_mul(BACKFILL.as_secs()) / 86_400 } else { total };
    rows.div_ceil(PAGE_SIZE) + pieces
}

fn minutes(requests: u64) -> f64 {
    f64::from(u32::try_from(requests).unwrap_or(u32::MAX)) / RATE / 60.0
}

/// Why something is not readable, with the permission to tick where that may be it.
pub(super) fn refusal(error: &PortalError, permission: &str) -> String {
    match error.remedy() {
        Remedy::MissingRole(_) | Remedy::RenewToken => {
            format!("NOT READABLE: {error}. Tick \"{permission}\" in the role of the API user")
        }
        _ => format!("NOT READABLE: {error}"),
    }
}

/// Asks which applications match the first of some requests for approval that can be asked about, and says what the portal
/// answers; none where there is no such request. `Err` is what is wrong.
pub(super) async fn ask_matching(
    portal: &Portal,
    rows: &[Box<RawValue>],
    timeout: Duration,
) -> Option<Result<String, String>> {
    let source = by_name("approval_requests").expect("a source of this version");
    let of = |row: &str| {
        let organization = source.key(row, 0).ok()?.organization;
        let question = matching::question(row, portal.now())?;
        (!organization.is_none()).then(|| (organization, question.to_string()))
    };
    let (organization, body) = rows.iter().find_map(|row| of(row.get()))?;
    let request = PageRequest {
        endpoint: Endpoint::MatchingApplications,
        organization: Some(organization),
        body: body.into(),
        query: String::new(),
        timeout,
    };
    let page = match portal.fetch(&request).await {
        Ok(page) => page,
        Err(error) if matches!(error.remedy(), Remedy::MissingRole(_)) => {
            return Some(Err(format!("NOT READABLE: {error}; {}", matching::PERMISSION)));
        }
        Err(error) => return Some(Err(format!("NOT READABLE: {error}"))),
    };
    Some(match matching::read(&page.body) {
        Ok(matched) => {
            let count = matched.known().each().len() + matched.more as usize;
            Ok(format!("readable; {count} match the first request that was listed"))
        }
        Err(why) => Err(format!("NOT READABLE: the answer is not understood: {why}; set `enrich: []`")),
    })
}

/// The same of the organizations, for which two permissions may be it.
pub(super) fn no_organizations(error: &PortalError) -> String {
    let said = refusal(error, ORGANIZATIONS);
    match error.remedy() {
        Remedy::MissingRole(_) | Remedy::RenewToken => {
            format!("{said}; for organizations below its own also \"{CHILDREN}\"")
        }
        _ => said,
    }
}

/// How many organizations are below the own one; where all are wanted and none is listed, what may be missing.
pub(super) fn below(count: usize, wanted: bool) -> String {
    match (count, wanted) {
        (0, true) => format!("0 below it; if there are any, tick \"{CHILDREN}\" in the role of the API user"),
        _ => format!("{count} below it"),
    }
}

/// That a permission is ticked which nothing that is configured needs: those in `needed`.
pub(super) fn needless(tried: &Tried, needed: &[&str]) -> Option<String> {
    // Nothing is listed with and without a role.
    let ticked = tried.readable && tried.total.is_some_and(|total| total > 0);
    let ticked = ticked && !needed.contains(&tried.permission);
    ticked.then(|| format!("not collected, and readable: \"{}\" need not be ticked", tried.permission))
}

#[cfg(test)]
mod tests;
