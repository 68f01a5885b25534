//! The lists that are asked as a whole: computers and organizations.

use std::collections::HashMap;

use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Request, Stage};
use crate::simulator::answer::Refusal;
use crate::simulator::approvals::applications;
use crate::simulator::reply::Reply;
use crate::simulator::requests::{Body, Endpoint};
use crate::simulator::stats::Logged;
use crate::simulator::text::{NO_GUID, Object, Spelling, guid};
use crate::simulator::world::purpose;

/// The members of a query string.
pub(super) fn members(request: &Request<'_>) -> HashMap<String, String> {
    let url = reqwest::Url::parse(&format!("http://portal/?{}", request.query));
    url.map(|url| url.query_pairs().into_owned().collect()).unwrap_or_default()
}

impl Stage {
    /// A page of computers by name (contract section 2.1).
    pub(super) fn computers(
        &self,
        organization: u16,
        body: &Body,
        logged: &mut Logged,
        number: u64,
    ) -> Result<Reply, Reply> {
        let now = self.world.now();
        let scope = (!(body.child_organizations && organization == 0)).then_some(organization);
        let silent = self.silent(Endpoint::Computers, scope.is_none());
        let mut listed = self.world.fleet.listed(now, scope, body.show_deleted);
        listed.retain(|computer| !silent.contains(&computer.organization));
        if body.is_ascending == Some(false) {
            listed.reverse();
        }
        let all = listed.len();
        let write = |index: usize, out: &mut String| {
            let computer = listed[index];
            let organization = &self.world.organizations[usize::from(computer.organization)];
            computer.write(organization, now, all, self.world.options.seed, out);
        };
        self.whole(all, body, logged, number, write)
    }

    /// A page of requests for approval of one status (contract section 7.1): without one, or with one that the portal
    /// does not know or refuses, it fails (section 8.3).
    pub(super) fn approval_requests(
        &mut self,
        organization: u16,
        body: &Body,
        logged: &mut Logged,
        number: u64,
    ) -> Result<Reply, Reply> {
        logged.part = body.status_id;
        let now = self.world.now();
        let tree = body.show_child_organizations == Some(true) && organization == 0;
        let by_action = body.order_by.as_deref().is_some_and(|by| by.eq_ignore_ascii_case("actiondate"));
        let order = (by_action, body.is_ascending == Some(true));
        let status = body.status_id.filter(|status| !self.dialect.refused_statuses.contains(status));
        let silent = self.silent(Endpoint::ApprovalRequests, tree);
        let scope = (!tree).then_some(organization);
        let listed = status.and_then(|status| self.world.approvals.listed(now, scope, status, order));
        let Some(mut listed) = listed else {
            return Err(self.refused(Refusal::OPAQUE, number));
        };
        listed.retain(|request| !silent.contains(&request.organization));
        let write = |index: usize, out: &mut String| {
            let request = listed[index];
            let organization = &self.world.organizations[usize::from(request.organization)];
            request.write(organization, now, self.world.options.seed, out);
        };
        self.whole(listed.len(), body, logged, number, write)
    }

    /// The applications that match a file, by its hash; a question must have one of what it can be about, and nothing that
    /// the vendor's document does not know.
    pub(super) fn matching_applications(
        &mut self,
        organization: u16,
        request: &Request<'_>,
    ) -> Result<Reply, Reply> {
        const KNOWN: [&str; 12] = [
            "hash",
            "sha256",
            "path",
            "processPath",
            "organizationIds",
            "certs",
            "createdBys",
            "osType",
            "filename",
            "folder",
            "approvalRequestId",
            "builtInPartialMatchingFiles",
        ];
        let asked: Map<String, Value> =
            serde_json::from_slice(request.body).map_err(|_| Reply::binding_failed())?;
        if let Some(other) = asked.keys().find(|name| !KNOWN.contains(&name.as_str())) {
            self.stats.violation(format!("{other} is no member of a question for matching applications"));
        }
        let text = |name: &str| asked.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        if ["hash", "sha256", "path"].into_iter().all(|name| text(name).is_none()) {
            self.stats.violation("a question for matching applications about nothing".to_owned());
        }
        let own = &self.world.organizations[usize::from(organization)];
        let mut listed = String::new();
        for (name, is_built_in) in applications(text("hash")) {
            listed.push_str(if listed.is_empty() { "" } else { "," });
            let mut object = Object::start(&mut listed);
            object.text("name", name).text("applicationName", name);
            let number = name.len() as u64;
            object.text("applicationId", guid(self.world.options.seed, purpose::APPLICATION, number));
            match is_built_in {
                true => object.text("organizationId", NO_GUID).text("organizationName", "master"),
                false => object.text("organizationId", own.id).text("organizationName", &own.name),
            };
            object.members(r#""osType":1,"suggestedPolicyId":null,"status":1,"isMaintained":true,"researchApplicationId":null"#);
            object.end();
        }
        let has = !listed.is_empty();
        Ok(Reply::json(format!(r#"{{"hasMatching":{has},"matchingApplications":[{listed}]}}"#).into_bytes()))
    }

    /// A page of child organizations (contract section 7.2).
    pub(super) fn child_organizations(
        &self,
        organization: u16,
        body: &Body,
        logged: &mut Logged,
        number: u64,
    ) -> Result<Reply, Reply> {
        // Without the flag the list is empty (contract section 7.2, WYRE).
        let skip = usize::from(!self.dialect.lists_own_organization);
        let listed: Vec<_> = if body.child_organizations && organization == 0 {
            let here = |one| Some((one, self.world.standing(one)?.name));
            self.world.organizations.iter().skip(skip).filter_map(here).collect()
        } else {
            Vec::new()
        };
        let busy = self.world.now() / (3_600 * crate::model::SECOND) % 7;
        let write = |index: usize, out: &mut String| {
            let (child, name) = &listed[index];
            let mut object = Object::start(out);
            object.text("organizationId", child.id).text("name", name);
            object.text("displayName", name).text("parentName", &self.world.organizations[0].name);
            object.time("dateAdded", child.added, Spelling::Ticks).value("computerCount", 40 + busy);
            object
                .members(r#""activeCount":38,"billingMethod":"Monthly","businessClassificationName":"Food""#);
            object.members(r#""domains":["tenant.example.com"],"products":[],"computerDenyCountDtos":[]"#);
            object.end();
        };
        self.whole(listed.len(), body, logged, number, write)
    }

    /// The history of one computer's maintenances (contract section 6.3), in pages only where it has them.
    pub(super) fn maintenances(
        &self,
        endpoint: Endpoint,
        organization: u16,
        request: &Request<'_>,
        logged: &mut Logged,
    ) -> Result<Reply, Reply> {
        let paged = endpoint == Endpoint::Maintenance;
        if paged && self.dialect.unpaged_maintenance {
            return Err(self.error(404, "Not Found", request.number));
        }
        let asked = members(request);
        let number = |name: &str| asked.get(name).and_then(|text| text.parse().ok());
        let Some(id) = asked.get("computerId").and_then(|id| Uuid::try_parse(id).ok()) else {
            return Err(self.error(400, "computerId is missing", request.number));
        };
        let now = self.world.now();
        let computers = &self.world.fleet.computers;
        // A computer of another organization is none.
        let computer = computers.iter().find(|one| one.id == id && one.organization == organization);
        let listed = computer.map_or_else(Vec::new, |one| one.maintenances(self.world.options.seed, now));
        let body = Body {
            page_number: number("pageNumber").filter(|_| paged),
            page_size: if paged { number("pageSize") } else { Some(listed.len().max(1) as u64) },
            ..Body::default()
        };
        (logged.page, logged.size) = (body.page_number.unwrap_or(1), body.page_size.unwrap_or(0));
        self.whole(listed.len(), &body, logged, request.number, |index, out| listed[index].write(out))
    }

    /// A page of one computer's check-ins, the newest first (contract section 2.3): without a computer it fails.
    pub(super) fn checkins(
        &mut self,
        organization: u16,
        body: &Body,
        logged: &mut Logged,
        number: u64,
    ) -> Result<Reply, Reply> {
        let Some(id) = body.computer_id.as_deref().and_then(|id| Uuid::try_parse(id).ok()) else {
            return Err(self.error(400, "computerId is missing", number));
        };
        let now = self.world.now();
        let computers = self.world.fleet.computers.iter();
        let computer = computers.filter(|one| one.organization == organization).find(|one| one.id == id);
        let mut listed = computer.map_or_else(Vec::new, |one| one.checkins(now));
        listed.retain(|one| !(one.is_heartbeat && body.hide_heartbeat == Some(true)));
        if self.dialect.oldest_checkins_first {
            listed.reverse();
        }
        let owner = self.world.organizations[usize::from(organization)].id;
        self.whole(listed.len(), body, logged, number, |index, out| listed[index].write(id, owner, out))
    }

    /// What is set for one computer (contract section 2.2): one record, and nothing of a computer that is none.
    pub(super) fn computer_by_id(
        &mut self,
        organization: u16,
        request: &Request<'_>,
    ) -> Result<Reply, Reply> {
        let asked = members(request);
        let Some(id) = asked.get("computerId").and_then(|id| Uuid::try_parse(id).ok()) else {
            return Err(self.error(400, "computerId is missing", request.number));
        };
        if asked.len() > 1 {
            self.stats.violation("one computer is asked for with more than its id".to_owned());
        }
        let now = self.world.now();
        let computers = self.world.fleet.computers.iter().filter(|one| one.organization == organization);
        let found = computers.filter(|one| one.state(now).is_some_and(|state| !state.removed));
        let mut out = String::new();
        if let Some(computer) = found.into_iter().find(|one| one.id == id) {
            computer.write_detail(now, self.world.options.seed, &mut out);
        }
        Ok(Reply::json(if out.is_empty() { b"null".to_vec() } else { out.into_bytes() }))
    }

    /// A page of the devices without an agent of one organization (contract section 2.3): `null` where there are none.
    pub(super) fn online_devices(
        &mut self,
        organization: u16,
        request: &Request<'_>,
        logged: &mut Logged,
    ) -> Result<Reply, Reply> {
        let asked = members(request);
        let given = |name: &str| asked.get(name).map(String::as_str);
        if given("orderBy") != Some("HostName") || given("isAscending") != Some("true") {
            self.stats.violation("unmanaged devices are asked in another order than documented".to_owned());
        }
        let number = |name: &str| given(name).and_then(|text| text.parse().ok());
        let body =
            Body { page_number: number("pageNumber"), page_size: number("pageSize"), ..Body::default() };
        (logged.page, logged.size) = (body.page_number.unwrap_or(1), body.page_size.unwrap_or(0));
        let now = self.world.now();
        let is_silent = self.silent(Endpoint::OnlineDevices, false).contains(&organization);
        let listed = if is_silent { Vec::new() } else { self.world.online.listed(now, organization) };
        if listed.is_empty() {
            return Ok(Reply::json(b"null".to_vec()));
        }
        self.whole(listed.len(), &body, logged, request.number, |index, out| listed[index].write(now, out))
    }

    /// Every organization that the token reaches, as a drop-down (contract section 7.2).
    pub(super) fn organizations_for_move(&self) -> Reply {
        let mut out = String::from("[");
        for organization in &self.world.organizations {
            let Some(standing) = self.world.standing(organization) else { continue };
            if out.len() > 1 {
                out.push(',');
            }
            let mut object = Object::start(&mut out);
            object.text("label", &standing.name).text("value", organization.id);
            object.end();
        }
        out.push(']');
        Reply::json(out.into_bytes())
    }

    /// One page of a list that is asked as a whole.
    pub(super) fn whole(
        &self,
        all: usize,
        body: &Body,
        logged: &mut Logged,
        number: u64,
        write: impl Fn(usize, &mut String),
    ) -> Result<Reply, Reply> {
        let asked = body.page_size.unwrap_or(0);
        let size = self.dialect.page_size(asked).map_err(|refusal| self.refused(refusal, number))?;
        let page = if self.dialect.ignores_page_number { 1 } else { body.page_number.unwrap_or(1).max(1) };
        let start = usize::try_from((page - 1).saturating_mul(size)).unwrap_or(usize::MAX).min(all);
        let end = start.saturating_add(usize::try_from(size).unwrap_or(usize::MAX)).min(all);
        let total = self.dialect.total(all as u64, number);
        (logged.rows, logged.total, logged.size) = (end - start, total, size);
        let mut out = String::with_capacity((end - start) * 2_500 + 2);
        for index in start..end {
            out.push(if out.is_empty() { '[' } else { ',' });
            write(index, &mut out);
        }
        Ok(self.page(out.into_bytes(), end - start, body.page_number.unwrap_or(1), size, total))
    }
}
