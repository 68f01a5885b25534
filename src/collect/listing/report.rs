//! A report as a [`super::Listing`]: found by its name, run, and handed on a batch of rows at a time, so that a report
//! of any size takes the memory of one batch. Which columns it had is noted at its end.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use foldhash::fast::RandomState;

use super::{PortalListing, Sightings};
use crate::collect::{CollectError, Listed, ListedRow};
use crate::coverage::walk::RowId;
use crate::model::{Micros, OrganizationId, folded, uid};
use crate::normalise::digest;
use crate::portal::{Endpoint, ListedOrganization, Page, PageRequest, PortalError, Remedy, Rest};
use crate::record::vendor_fields::{LONGEST, MOST_COLUMNS};
use crate::source::{Filter, Query, Rejected, RowKey, Scope, Source as _};
use crate::sources::reports::{self, Report, Reports};

/// A report is put together while it is waited for (contract section 8.4).
const TIMEOUT: Duration = Duration::from_secs(300);
/// Names of other reports that an error shows.
const SHOWN: usize = 30;

/// The ids of organizations by their names in small letters; none where several have one name.
pub(super) type Names = HashMap<String, Option<OrganizationId>>;

/// A report that is being read.
#[derive(Debug)]
pub(super) struct Reading {
    /// Read, and not handed on yet.
    first: Option<Page>,
    rest: Rest,
    /// It shows a span of time.
    dated: bool,
    organizations: Names,
    /// How often each content came, of rows without an id.
    equals: HashMap<[u8; 16], u32, RandomState>,
    columns: BTreeSet<String>,
}

impl PortalListing {
    /// The next rows of a report; the first ones run it.
    pub(super) async fn report(&self, report: &Report, query: &Query) -> Result<Listed, CollectError> {
        let mut reading = self.reading.lock().await;
        if query.page == 1 {
            *reading = None;
            *reading = Some(self.begin(report, query).await?);
        }
        let Some(mut open) = reading.take() else {
            return Err(CollectError::Incomplete("its reading broke off".to_owned()));
        };
        let page = match open.first.take() {
            Some(page) => page,
            None => open.rest.next().await?,
        };
        let mut listed = open.keyed(report, &query.scope, query.filter.clone(), page);
        let has_ended = open.rest.has_ended();
        (listed.last, listed.dated) = (Some(has_ended), open.dated);
        if has_ended {
            self.fields.lock().expect("no look at a page panics").look_at_columns(&open.columns);
        } else {
            *reading = Some(open);
        }
        Ok(listed)
    }

    async fn begin(&self, report: &Report, query: &Query) -> Result<Reading, CollectError> {
        let (scope, portal) = (&query.scope, &self.portal);
        let timeout = self.timeout.max(TIMEOUT);
        let request = |endpoint, body| PageRequest {
            endpoint,
            organization: Some(scope.organization().clone()),
            body,
            query: String::new(),
            timeout,
        };
        let list = portal.fetch(&request(Endpoint::ReportList, Default::default())).await?;
        let known: Vec<reports::Listed> = list.rows().flat_map(reports::listed).collect();
        // Its memory is given back before more is asked for.
        drop(list);
        // After the reports: a role that may see those and no organizations is known to work by now.
        let organizations = self.names_of_organizations(scope).await?;
        let found = find(report, scope, &known).ok_or_else(|| not_found(report, scope, &known))?;
        tracing::debug!(report = found.name, id = found.id, "running the report");
        let dated = found.takes_dates;
        let span = query.span.unwrap_or_else(|| report.newest(portal.now()));
        let body = reports::run(found, scope.is_tree(), span).to_string();
        let mut page = portal.fetch(&request(Endpoint::ReportRows, body.into())).await?;
        let rest = page.rest.take().ok_or_else(|| CollectError::Incomplete("it has no end".to_owned()))?;
        Ok(Reading {
            first: Some(page),
            rest,
            dated,
            organizations,
            equals: HashMap::default(),
            columns: BTreeSet::new(),
        })
    }
}

fn find<'r>(report: &Report, scope: &Scope, known: &'r [reports::Listed]) -> Option<&'r reports::Listed> {
    let wanted = report.wanted(scope.is_tree());
    wanted.iter().find_map(|name| {
        let name = reports::normalised(name);
        known.iter().find(|one| reports::normalised(&one.name) == name)
    })
}

fn not_found(report: &Report, scope: &Scope, known: &[reports::Listed]) -> CollectError {
    let names: BTreeSet<&str> = known.iter().map(|one| one.name.as_str()).collect();
    let more = names.len().saturating_sub(SHOWN);
    let mut shown =
        names.into_iter().take(SHOWN).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    if more > 0 {
        shown += &format!(" and {more} more");
    }
    if shown.is_empty() {
        shown = "none".to_owned();
    }
    CollectError::NoReport { wanted: report.wanted(scope.is_tree()).join("\" or \""), known: shown }
}

impl PortalListing {
    /// Organizations that were named before: where the role may not see them any more, rows still belong to them.
    pub fn knowing(self, organizations: Vec<(OrganizationId, String)>) -> Self {
        *self.names.lock().expect("no look at names panics") = names(organizations);
        self
    }

    /// The organizations by their names: rows of reports name theirs so. What the role may not see is as it was known
    /// before, since the organization of a row is a part of what it is.
    async fn names_of_organizations(&self, scope: &Scope) -> Result<Names, PortalError> {
        let (own, portal) = (scope.organization(), &self.portal);
        let known = || self.names.lock().expect("no look at names panics").clone();
        if !scope.is_tree() {
            return Ok(Names::new());
        }
        if !portal.may_ask(Endpoint::ChildOrganizations) {
            return Ok(known());
        }
        // The list of what is below an organization need not name that one itself (contract section 7.2).
        let children = allowed(portal.child_organizations(own).await)?;
        let reachable = allowed(portal.reachable_organizations(Some(own)).await)?;
        let is_whole = children.is_some() && reachable.is_some();
        let listed = children.into_iter().chain(reachable).flatten();
        let mut found = names(listed.map(|one| (one.id, one.name)));
        if is_whole {
            self.names.lock().expect("no look at names panics").clone_from(&found);
        } else {
            found = known().into_iter().chain(found).collect();
        }
        Ok(found)
    }
}

fn names(organizations: impl IntoIterator<Item = (OrganizationId, String)>) -> Names {
    let mut ids = Names::new();
    for (id, name) in organizations {
        let known = ids.entry(name.trim().to_lowercase()).or_insert_with(|| Some(id.clone()));
        if known.as_ref() != Some(&id) {
            *known = None;
        }
    }
    ids
}

/// What may pass is tried again; what the role does not allow is not there.
fn allowed(
    list: Result<Vec<ListedOrganization>, PortalError>,
) -> Result<Option<Vec<ListedOrganization>>, PortalError> {
    match list {
        Err(error)
            if matches!(error.remedy(), Remedy::MissingRole(_) | Remedy::SkipPoll | Remedy::SmallerPage) =>
        {
            tracing::debug!(%error, "the names of organizations are not to be had");
            Ok(None)
        }
        list => list.map(Some),
    }
}

impl Reading {
    /// Keys the rows of a batch. What is no row is undecodable, and so is kept and counted.
    fn keyed(&mut self, report: &Report, scope: &Scope, filter: Filter, page: Page) -> Listed {
        let mut listed = Listed { undecodable: page.undecodable.clone(), ..Listed::default() };
        for name in &page.columns {
            self.note_column(name);
        }
        let kind = Reports.kind_of(&filter);
        let mut sightings = Sightings::default();
        for (row, &(start, end)) in page.rows().zip(&page.rows) {
            let body = page.body.slice(start..end);
            self.note_columns(row);
            let mut key = match Reports.key(row, report.part()) {
                Ok(key) => key,
                Err(Rejected(reason)) => {
                    listed.undecodable.push((body, reason));
                    continue;
                }
            };
            if !place(&self.organizations, report, &mut key, scope) {
                continue;
            }
            let vendor_id = self.id(report, &mut key);
            let organization = key.organization.clone();
            let id = uid(organization.as_str(), reports::NAME, &folded(&vendor_id), kind.as_str(), "0");
            let at: Option<Micros> = key.at;
            let sighting = sightings.of(&mut key);
            listed.rows.push(ListedRow {
                id: RowId::Vendor(id.as_u128()),
                organization,
                organization_name: key.organization_name.map(std::borrow::Cow::into_owned),
                vendor_id: Some(vendor_id),
                at,
                imported: None,
                own: false,
                rated: false,
                shape: 0,
                sighting,
                body,
            });
        }
        listed
    }

    /// What a row goes by within its organization.
    fn id(&mut self, report: &Report, key: &mut RowKey<'_>) -> String {
        let Some(id) = key.vendor_id.take() else {
            let place = self.equals.entry(key.content).or_insert(0);
            let id = reports::row_id(&report.key(), key.content, *place);
            *place += 1;
            return id;
        };
        // Where the organization is known by its name alone, hosts of one name may be several.
        let mut id = id.into_owned();
        if let Some(host) = id.strip_prefix("host:") {
            let name = key.organization_name.as_deref().filter(|_| key.organization.is_none());
            id = reports::host_id(host, name);
            // Two computers of one name.
            let place = self
                .equals
                .entry(digest(&[key.organization.as_str().as_bytes(), id.as_bytes()]))
                .or_insert(0);
            *place += 1;
            if *place > 1 {
                id += &format!("#{place}");
            }
            key.computer = Some(id.clone().into());
        }
        id
    }

    /// The columns that a row has: not every answer names them all.
    fn note_columns(&mut self, row: &str) {
        if let Ok(members) = serde_json::from_str::<Keys>(row) {
            members.0.iter().for_each(|name| self.note_column(name));
        }
    }

    fn note_column(&mut self, name: &str) {
        if self.columns.len() < MOST_COLUMNS && !self.columns.contains(name) {
            self.columns.insert(name.chars().take(LONGEST).collect());
        }
    }
}

/// Finds the organization of a row; false for one of another than the stream's only one.
fn place(organizations: &Names, report: &Report, key: &mut RowKey<'_>, scope: &Scope) -> bool {
    if let Scope::Organization(only) = scope {
        let is_its = key.organization.is_none() || key.organization == *only;
        key.organization = only.clone();
        return is_its;
    }
    if key.organization.is_none()
        && let Some(name) = &key.organization_name
        && let Some(Some(id)) = organizations.get(&name.trim().to_lowercase())
    {
        key.organization = id.clone();
    }
    // A report that tells of no organization is of the one that was asked, also in a tree.
    if key.organization.is_none() && key.organization_name.is_none() && !report.is_computers {
        key.organization = scope.organization().clone();
    }
    true
}

/// The names of an object's members.
struct Keys(Vec<String>);

impl<'de> serde::Deserialize<'de> for Keys {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> serde::de::Visitor<'de> for Members {
            type Value = Keys;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    map.next_value::<serde::de::IgnoredAny>()?;
                    keys.push(key);
                }
                Ok(Keys(keys))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests;
