//! Asking a portal one page of everything.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;

use super::report::{Child, Counted, Report, Tried};
use crate::cli::check::online::refusal;
use crate::model::{OrganizationId, SECOND};
use crate::portal::{Failure, ListedOrganization, Portal, PortalError};
use crate::source::{Query, SOURCES, Scope, Shape, Source, by_name};

/// The defaults of the configuration, which a test compares with these.
pub(super) const RATE: f64 = 5.0;
pub(super) const PAGE_SIZE: u64 = 500;
pub(super) const BACKFILL: Duration = Duration::from_secs(86_400);

/// Rows looked at for their size; the first three are shown.
const LOOKED_AT: u32 = 100;
const SHOWN: usize = 3;
const TIMEOUT: Duration = Duration::from_secs(60);
/// A gap is walked a day at a time, and each piece may cost one request more than its pages.
const PIECE: Duration = Duration::from_secs(86_400);

/// Asks; what fails stands in the report.
pub(super) async fn probe(portal: &Portal, base_url: String, own: Option<OrganizationId>) -> Report {
    let mut report = Report { base_url, ..Report::default() };
    let own = match own {
        Some(own) => Ok(own),
        None => portal.discover_organization().await,
    };
    report.reached = portal.heard();
    let own = match own {
        Ok(own) => own,
        Err(error) => {
            // An answer, even one that says nothing, tells that the token opens.
            report.token_accepted = matches!(error.failure, Failure::UnknownOrganization(_));
            report.trouble = Some(advised(&error));
            return report;
        }
    };
    let children = portal.child_organizations(&own).await;
    report.reached = portal.heard();
    report.clock_offset_seconds =
        portal.heard().then(|| chrono::Duration::microseconds(portal.clock_offset()).as_seconds_f64());
    let below = match children {
        Ok(listed) => {
            let below: Vec<_> = listed.into_iter().filter(|one| one.id != own).collect();
            let child = |one: &ListedOrganization| Child { id: one.id.clone(), name: one.name.clone() };
            report.children = Some(below.iter().map(child).collect());
            below.len()
        }
        Err(error) if matches!(error.failure, Failure::Rejected { .. } | Failure::Unreachable(_)) => {
            report.trouble = Some(advised(&error));
            return report;
        }
        Err(error) => {
            report.children_trouble = Some(refusal(&error, "View Organizations"));
            0
        }
    };
    report.token_accepted = true;
    // As `organizations: all` and `own` would ask.
    let scope = if below > 0 { Scope::Tree(own.clone()) } else { Scope::Organization(own.clone()) };
    report.organization = Some(own);
    for source in SOURCES {
        let tried = ask(portal, source, &scope).await;
        if tried.by_time {
            report.rows_a_day += tried.total.unwrap_or(0);
            report.bytes_a_day += tried.bytes_a_day.unwrap_or(0);
        }
        report.backfill_minutes += tried.minutes.unwrap_or(0.0);
        report.sources.push(tried);
    }
    report
}

fn advised(error: &PortalError) -> String {
    let (_, remedy) = error.advice();
    format!("{error}: {remedy}")
}

async fn ask(portal: &Portal, source: &'static dyn Source, scope: &Scope) -> Tried {
    let by_time = matches!(source.shape(), Shape::Window { .. });
    let mut tried = Tried {
        source: source.name(),
        permission: source.permission(),
        readable: false,
        trouble: None,
        total: None,
        counted: Counted::Not,
        by_time,
        bytes_a_row: None,
        bytes_a_day: None,
        requests: None,
        minutes: None,
        rows: Vec::new(),
    };
    let now = portal.now().div_euclid(SECOND);
    let query = Query {
        part: source.parts().map_or(source.part(), |parts| parts.pending),
        span: by_time.then_some((now - 86_400, now)),
        ..Query::whole(scope.clone(), 1, LOOKED_AT)
    };
    let query = match source.shape() {
        Shape::PerComputer { .. } => match of_first_computer(portal, query).await {
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
        _ => query,
    };
    let page = match portal.fetch(&query.request(source, TIMEOUT)).await {
        Ok(page) => page,
        Err(error) => {
            tried.trouble = Some(refusal(&error, source.permission()));
            return tried;
        }
    };
    tried.readable = true;
    let listed = page.rows.len() as u64;
    let size = page.page_size.filter(|size| *size > 0).unwrap_or(LOOKED_AT.into()).min(LOOKED_AT.into());
    (tried.total, tried.counted) = match page.total {
        Some(total) => (Some(total), Counted::ByPortal),
        None if listed < size => (Some(listed), Counted::ByListing),
        None => (Some(listed), Counted::AtLeast),
    };
    let bytes: usize = page.rows().map(str::len).sum();
    if let Ok(rows) = u32::try_from(listed)
        && rows > 0
    {
        let mean = u32::try_from(bytes).map_or(f64::from(u32::MAX), f64::from) / f64::from(rows);
        tried.bytes_a_row = Some(mean);
        if by_time {
            tried.bytes_a_day = tried.total.map(|total| total.saturating_mul(bytes as u64) / listed);
        }
    }
    let shown = page.rows().take(SHOWN).filter_map(|row| RawValue::from_string(row.to_owned()).ok());
    tried.rows = shown.collect();
    if tried.counted != Counted::AtLeast {
        tried.requests = tried.total.map(|total| requests(total, by_time));
        tried.minutes = tried.requests.map(minutes);
    }
    tried
}

/// The same of the first computer that is listed, if there is one.
pub(in crate::cli) async fn of_first_computer(
    portal: &Portal,
    query: Query,
) -> Result<Option<Query>, PortalError> {
    let computers = by_name("computers").expect("a source of this version");
    let first = Query { computer: None, ..Query::whole(query.scope.clone(), 1, 1) };
    let page = portal.fetch(&first.request(computers, TIMEOUT)).await?;
    let Some(key) = page.rows().next().and_then(|row| computers.key(row, 0).ok()) else { return Ok(None) };
    let scope = Scope::Organization(key.organization);
    let computer = key.vendor_id.map(|id| Arc::from(&*id));
    Ok(computer.map(|computer| Query { scope, computer: Some(computer), ..query }))
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
