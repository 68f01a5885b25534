//! Finds out which organizations a token belongs to and reaches.

use std::collections::HashSet;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Endpoint, Failure, Page, PageRequest, Portal, PortalError};
use crate::model::OrganizationId;

/// An organization that the portal lists for this token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedOrganization {
    pub id: OrganizationId,
    /// The name shown to people; the id when the portal gives none.
    pub name: String,
}

const TIMEOUT: Duration = Duration::from_secs(60);
/// Works at every portal seen (contract section 7.2).
const PAGE_SIZE: u64 = 500;
/// A walk that is longer goes round in circles.
const MOST_PAGES: u64 = 1000;

/// The members of an organization or computer row that tell its organization; everything else may be anything.
#[derive(Deserialize)]
struct Row {
    #[serde(rename = "organizationId", default)]
    organization_id: Value,
    #[serde(rename = "displayName", default)]
    display_name: Value,
    #[serde(default)]
    name: Value,
    #[serde(default)]
    label: Value,
    #[serde(default)]
    value: Value,
}

impl Portal {
    /// The token's own organization: that of its first computer, asked without an organization header.
    /// Without computers, the only organization that the token can reach, or the one of several that is not below
    /// another; else each could be its own, and the user must say, likewise where the role shows neither.
    pub async fn discover_organization(&self) -> Result<OrganizationId, PortalError> {
        let body = json!({
            "pageNumber": 1, "pageSize": 1, "searchText": "", "orderBy": "computername", "isAscending": true,
            "childOrganizations": false, "showLastCheckIn": true, "showDeleted": false,
        });
        let computers = PageRequest {
            endpoint: Endpoint::ComputersByParameters,
            organization: None,
            body: body.to_string().into(),
            query: String::new(),
            timeout: TIMEOUT,
        };
        match self.ask(&computers).await {
            Ok(page) => {
                let own = page
                    .rows()
                    .find_map(|row| organization(&serde_json::from_str::<Row>(row).ok()?.organization_id));
                if let Some(own) = own {
                    return Ok(own);
                }
            }
            Err(error)
                if matches!(
                    error.failure,
                    Failure::MissingRole(_) | Failure::Rejected { .. } | Failure::Answer(_)
                ) =>
            {
                tracing::info!(%error, "computers do not tell the organization; asking for the list of organizations");
            }
            Err(error) => return Err(error),
        }
        let reachable = match self.reachable_organizations(None).await {
            Err(error) => return Err(self.judged_by_reports(error).await),
            Ok(reachable) => reachable,
        };
        match reachable.as_slice() {
            [only] => Ok(only.id.clone()),
            several => {
                if let Some(top) = self.top_of(several).await {
                    return Ok(top);
                }
                let why =
                    format!("no computer tells it, and the token reaches {} organizations", several.len());
                Err(self.error(Endpoint::OrganizationsForMove, Failure::UnknownOrganization(why)))
            }
        }
    }

    /// The error where a refusal leaves nothing to go by. While nothing worked it looks like one of the token; that it
    /// names a permission (contract section 8.2), or that the reports are listed, shows that it is the role, which need
    /// not cover more (contract section 1.8).
    async fn judged_by_reports(&self, refusal: PortalError) -> PortalError {
        let works = match &refusal.failure {
            Failure::MissingRole(_) => true,
            Failure::Rejected { answer, .. } if !answer.is_revocation() => {
                let reports = PageRequest {
                    endpoint: Endpoint::ReportList,
                    organization: None,
                    body: Default::default(),
                    query: String::new(),
                    timeout: TIMEOUT,
                };
                // Asked first: it proves the token where it can.
                self.ask(&reports).await.is_ok() || answer.names_a_permission()
            }
            _ => false,
        };
        if !works {
            return refusal;
        }
        let why = "the portal knows the token, and its role shows neither computers nor organizations";
        self.error(Endpoint::OrganizationsForMove, Failure::UnknownOrganization(why.to_owned()))
    }

    /// Of all that a token reaches, the one that is not listed below its own organization, if it is one alone.
    async fn top_of(&self, reachable: &[ListedOrganization]) -> Option<OrganizationId> {
        let below = self.organizations_below(None).await.ok()?;
        let mut top = reachable.iter().filter(|one| below.iter().all(|other| other.id != one.id));
        let top = top.next().filter(|_| top.next().is_none() && !below.is_empty())?.id.clone();
        // A list that leaves out the own one could make one that is further below look like it.
        let below_it = self.organizations_below(Some(&top)).await.ok()?;
        (!below_it.is_empty()).then_some(top)
    }

    /// Every organization that the portal lists below `own`; `own` itself may or may not be among them
    /// (contract section 7.2). Rows without an id are left out.
    pub async fn child_organizations(
        &self,
        own: &OrganizationId,
    ) -> Result<Vec<ListedOrganization>, PortalError> {
        self.organizations_below(Some(own)).await
    }

    /// The same, of nobody that is named: then the portal takes the token's own.
    async fn organizations_below(
        &self,
        own: Option<&OrganizationId>,
    ) -> Result<Vec<ListedOrganization>, PortalError> {
        let (mut found, mut known) = (Vec::new(), HashSet::new());
        let mut rows = 0;
        for number in 1..=MOST_PAGES {
            // Both flags: they are named differently in different sources, and without the right one the list is empty.
            let body = json!({
                "pageNumber": number, "pageSize": PAGE_SIZE, "searchText": "", "orderBy": "name", "isAscending": true,
                "includeAllChildren": true, "childOrganizations": true,
            });
            let request = PageRequest {
                endpoint: Endpoint::ChildOrganizations,
                organization: own.cloned(),
                body: body.to_string().into(),
                query: String::new(),
                timeout: TIMEOUT,
            };
            let answer = match own {
                Some(_) => self.fetch(&request).await,
                None => self.ask(&request).await,
            };
            let page = match answer {
                Err(error) if error.is_not_found() && own.is_some() => {
                    return self.reachable_organizations(own).await;
                }
                page => page?,
            };
            let before = found.len();
            found.extend(listed(&page).filter(|one| known.insert(one.id.clone())));
            let listed_here = (page.rows.len() + page.undecodable.len()) as u64;
            rows += listed_here;
            let full = PAGE_SIZE.min(page.page_size.filter(|size| *size > 0).unwrap_or(PAGE_SIZE));
            let ended = page.total.map_or(listed_here < full, |total| rows >= total);
            // A page without anything new is a portal that ignores the page number.
            if ended || listed_here == 0 || (found.len() == before && number > 1) {
                break;
            }
        }
        Ok(found)
    }

    /// The drop-down list of all organizations that the token may reach, its own among them (contract
    /// section 7.2).
    pub async fn reachable_organizations(
        &self,
        own: Option<&OrganizationId>,
    ) -> Result<Vec<ListedOrganization>, PortalError> {
        let request = PageRequest {
            endpoint: Endpoint::OrganizationsForMove,
            organization: own.cloned(),
            body: Default::default(),
            query: "searchText=".into(),
            timeout: TIMEOUT,
        };
        let page = self.ask(&request).await?;
        let mut known = HashSet::new();
        Ok(listed(&page).filter(|one| known.insert(one.id.clone())).collect())
    }
}

fn listed(page: &Page) -> impl Iterator<Item = ListedOrganization> {
    page.rows().filter_map(|row| {
        let row: Row = serde_json::from_str(row).ok()?;
        let id = organization(&row.organization_id).or_else(|| organization(&row.value))?;
        let names = [&row.display_name, &row.name, &row.label];
        let name = names.into_iter().filter_map(Value::as_str).map(str::trim).find(|name| !name.is_empty());
        Some(ListedOrganization { name: name.unwrap_or(id.as_str()).to_owned(), id })
    })
}

/// An organization id; the all-zero one means none (contract section 1.4).
fn organization(value: &Value) -> Option<OrganizationId> {
    let text = value.as_str()?.trim();
    let uuid = uuid::Uuid::try_parse(text).ok()?;
    (!uuid.is_nil()).then(|| OrganizationId::new(text))
}
