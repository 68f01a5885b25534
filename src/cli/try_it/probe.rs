//! Asking a portal one page of everything.

use std::time::Duration;

use super::report::{Child, Report};
use crate::cli::doctor;
use crate::model::OrganizationId;
use crate::portal::{Failure, ListedOrganization, Portal, PortalError};
use crate::source::{Filter, SOURCES, Scope};
use crate::sources::reports::{self, Report as Wanted};

const TIMEOUT: Duration = Duration::from_secs(60);

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
    let children = doctor::children(portal, &own, TIMEOUT).await;
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
            report.children_trouble = Some(doctor::no_organizations(&error));
            0
        }
    };
    report.token_accepted = true;
    // As `organizations: all` and `own` would ask.
    let scope = if below > 0 { Scope::Tree(own.clone()) } else { Scope::Organization(own.clone()) };
    report.organization = Some(own);
    let reports = [Wanted::of_all_computers()];
    // What the vendor does not publish is asked for by nobody but its configuration.
    for source in SOURCES.into_iter().filter(|source| source.endpoint().is_some()) {
        let tried = match source.name() == reports::NAME {
            true => doctor::run_reports(portal, source, &scope, TIMEOUT, (&reports, false)).await,
            false => doctor::ask(portal, source, &scope, &Filter::default(), TIMEOUT).await,
        };
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
