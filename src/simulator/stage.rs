//! The played portal behind one lock: world, clock, dialect, faults, tokens and statistics, and how
//! they make the answer to a request.

use std::fmt::Write;

use uuid::Uuid;

use super::answer::{self, Moment, Query, Refusal, Scope};
use super::clock::PortalClock;
use super::dialect::{Dialect, EmptyAnswer, NoOrganization, Pagination};
use super::faults::{self, Effect, Faults, NoPermission, RetryAfter};
use super::reply::Reply;
use super::reports::{KeyDoor, ReportManners};
use super::requests::{Body, Endpoint};
use super::stats::{Logged, Stats};
use super::text::guid;
use super::world::{Source, World, purpose};
use crate::model::{Micros, SECOND};

mod lists;
mod policies;
mod private;
mod reports;

/// A request, without what belongs to HTTP.
#[derive(Debug)]
pub struct Request<'a> {
    pub number: u64,
    /// Absent for paths that are not played.
    pub endpoint: Option<Endpoint>,
    pub authorization: Option<&'a str>,
    /// `ManagedOrganizationId`.
    pub organization: Option<&'a str>,
    pub new_search: bool,
    /// What stands behind the question mark.
    pub query: &'a str,
    pub body: &'a [u8],
}

/// Everything that is played.
pub struct Stage {
    pub world: World,
    pub clock: PortalClock,
    pub faults: Faults,
    pub stats: Stats,
    /// The tokens that open the portal.
    pub tokens: Vec<String>,
    pub reports: ReportManners,
    /// Another way in, for reports alone.
    pub key_door: Option<KeyDoor>,
    dialect: Dialect,
}

impl Stage {
    pub fn new(world: World, clock: PortalClock, dialect: Dialect) -> Self {
        let mut stage = Self {
            tokens: vec![token(world.options.seed, 0)],
            reports: ReportManners::default(),
            key_door: None,
            world,
            clock,
            faults: Faults::default(),
            stats: Stats::default(),
            dialect: Dialect::default(),
        };
        stage.set_dialect(dialect);
        stage
    }

    pub fn dialect(&self) -> &Dialect {
        &self.dialect
    }

    pub fn set_dialect(&mut self, dialect: Dialect) {
        self.world.set_axis(dialect.axis);
        self.dialect = dialect;
    }

    /// Lets the world reach the clock's now, and answers it.
    pub fn tick(&mut self) -> Micros {
        let now = self.clock.now();
        self.world.advance(now);
        now
    }

    /// The faults that strike a request that begins now.
    pub fn strike(&mut self, request: &Request<'_>) -> Vec<Effect> {
        let organization = request.organization.and_then(|id| Uuid::try_parse(id.trim()).ok());
        let dice = faults::dice(self.world.options.seed, request.number);
        self.faults.strike(request.endpoint, organization, dice)
    }

    /// Answers a request under the effects that struck it.
    pub fn answer(&mut self, request: &Request<'_>, effects: &[Effect]) -> Reply {
        let now = self.tick();
        let mut logged = Logged {
            number: request.number,
            at: now,
            endpoint: request.endpoint,
            organization: request.organization.map(str::to_owned),
            ..Logged::default()
        };
        let reply = match self.prepared(request, effects, &mut logged) {
            Ok(mut reply) => {
                effects.iter().for_each(|effect| reply.spoil(effect));
                reply
            }
            Err(reply) => reply,
        };
        logged.status = if reply.reset { 0 } else { reply.status };
        if reply.status != 200 {
            logged.rows = 0;
        }
        self.stats.answered(logged);
        reply
    }

    /// The answer, or the error (or the scripted fault) that comes in its place.
    fn prepared(
        &mut self,
        request: &Request<'_>,
        effects: &[Effect],
        logged: &mut Logged,
    ) -> Result<Reply, Reply> {
        for effect in effects {
            match effect {
                Effect::Down { reset: true } | Effect::Reset => return Err(Reply::reset()),
                Effect::Down { reset: false } => {
                    return Err(Reply::html(503, "<html><body><h1>Service Unavailable</h1></body></html>"));
                }
                Effect::Status { status, retry_after, message } => {
                    return Err(self.scripted(*status, *retry_after, message.as_deref(), request.number));
                }
                _ => {}
            }
        }
        self.check_token(request, effects)?;
        let Some(endpoint) = request.endpoint else {
            return Err(self.error(404, "Not Found", request.number));
        };
        for effect in effects {
            if let Effect::NoPermission { answer } = effect {
                return Err(match answer {
                    NoPermission::Empty => self.empty(endpoint, request.number),
                    NoPermission::Denied => {
                        let message = format!("Missing the '{}' permission", endpoint.permission());
                        self.error(401, &message, request.number)
                    }
                });
            }
        }
        let home = match (request.organization, self.dialect.no_organization) {
            (Some(id), _) => self.reached(id),
            (None, NoOrganization::Own) => Some(0),
            (None, NoOrganization::Empty) => None,
        };
        let Some(organization) = home else {
            // An organization out of reach looks like one without rows.
            return Ok(self.empty(endpoint, request.number));
        };
        let reply = self.played(endpoint, organization, request, effects, logged);
        if self.world.options.own_noise {
            self.world.note_request(organization, endpoint.number());
        }
        reply
    }

    /// The organization of that id, while there is one.
    fn reached(&self, id: &str) -> Option<u16> {
        let index = self.world.organization(id)?;
        self.world.standing(&self.world.organizations[usize::from(index)]).map(|_| index)
    }

    fn check_token(&mut self, request: &Request<'_>, effects: &[Effect]) -> Result<(), Reply> {
        let Some(given) = request.authorization.filter(|given| !given.is_empty()) else {
            return Err(self.error(401, "Unauthorized", request.number));
        };
        if !self.tokens.iter().any(|token| token == given) || effects.contains(&Effect::TokenRevoked) {
            if given.to_ascii_lowercase().starts_with("bearer ") {
                self.stats.violation("authorization with a prefix, the token stands alone".to_owned());
            }
            return Err(self.error(self.dialect.revoked_status, "TOKEN_REVOKED", request.number));
        }
        Ok(())
    }

    /// Plays one endpoint for a token that may call it.
    fn played(
        &mut self,
        endpoint: Endpoint,
        organization: u16,
        request: &Request<'_>,
        effects: &[Effect],
        logged: &mut Logged,
    ) -> Result<Reply, Reply> {
        match endpoint {
            Endpoint::OrganizationsForMove => return Ok(self.organizations_for_move()),
            Endpoint::ApprovalCount => return Ok(Reply::json(b"3".to_vec())),
            Endpoint::Maintenance | Endpoint::MaintenanceUnpaged => {
                return self.maintenances(endpoint, organization, request, logged);
            }
            Endpoint::PrivateThreats => return self.threats_of_tab(organization, request, logged),
            Endpoint::PrivateRemediations => return self.remediations_of_tab(organization, request, logged),
            Endpoint::ComputerById => return self.computer_by_id(organization, request),
            Endpoint::MatchingApplications => return self.matching_applications(organization, request),
            Endpoint::OnlineDevices => return self.online_devices(organization, request, logged),
            Endpoint::PolicyById => return self.policy_by_id(organization, request),
            Endpoint::Groups => return Ok(self.groups(organization, request)),
            Endpoint::ReportList => return Ok(self.report_list()),
            Endpoint::ReportRows => return self.report_rows(organization, request, logged),
            _ => {}
        }
        let body: Body = serde_json::from_slice(request.body).map_err(|_| Reply::binding_failed())?;
        logged.page = body.page_number.unwrap_or(1);
        logged.size = body.page_size.unwrap_or(0);
        if let Some(filter) = body.unplayed() {
            self.stats.violation(format!("the filter {filter} is not played"));
        }
        match endpoint {
            Endpoint::Computers => self.computers(organization, &body, logged, request.number),
            Endpoint::ChildOrganizations => {
                self.child_organizations(organization, &body, logged, request.number)
            }
            Endpoint::Checkins => self.checkins(organization, &body, logged, request.number),
            Endpoint::Policies => self.policies(organization, &body, logged, request.number),
            Endpoint::ApprovalRequests => self.approval_requests(organization, &body, logged, request.number),
            _ => self.audit(endpoint, organization, &body, request, effects, logged),
        }
    }

    fn audit(
        &mut self,
        endpoint: Endpoint,
        organization: u16,
        body: &Body,
        request: &Request<'_>,
        effects: &[Effect],
        logged: &mut Logged,
    ) -> Result<Reply, Reply> {
        let unified = endpoint == Endpoint::UnifiedAudit;
        let Some((from, to)) = body.window() else {
            return Err(self.error(417, "Invalid Date Range", request.number));
        };
        (logged.from, logged.to) = (Some(from), Some(to));
        if unified {
            if body.params_fields_dto.is_none() || (self.dialect.strict_fields && body.lacks_strict_fields())
            {
                return Err(self.refused(Refusal::OPAQUE, request.number));
            }
            if !request.new_search {
                return Ok(self.empty(endpoint, request.number));
            }
            if body.export_mode == Some(true) {
                self.stats.violation("exportMode asks for text in place of JSON".to_owned());
            }
        }
        let tree = if unified { body.show_child_organizations } else { Some(body.view_child_organizations) };
        let query = Query {
            from,
            to,
            page: body.page_number.unwrap_or(1),
            size: body.page_size.unwrap_or(0),
            scope: match tree {
                Some(true) if organization == 0 => Scope::Tree,
                _ => Scope::Organization(organization),
            },
            actions: if unified { body.unified_actions() } else { body.audit_actions() },
            descending: body.sort_descending.unwrap_or(true),
            table: if unified { body.source_table_id.unwrap_or(1) } else { 1 },
            known_threats: unified && body.show_known_threats_only,
            with_total: !unified || body.show_total_count == Some(true),
        };
        let source = if unified { Source::UnifiedAudit } else { Source::SystemAudit };
        if query.scope == Scope::Tree && effects.contains(&Effect::TreeRefused) {
            return Err(self.refused(Refusal::OPAQUE, request.number));
        }
        self.disturb(source, &query, effects, request.number);

        let now = self.world.now();
        let silent = self.silent(endpoint, query.scope == Scope::Tree);
        let moment = Moment { now, request: request.number, silent: &silent };
        let rows = self.world.rows(source);
        // Only the unified audit fails so; a parent's system audit is its own requests (section 1.7, LC).
        let dialect = Dialect {
            parent_alone_fails: unified && self.dialect.parent_alone_fails,
            ..self.dialect.clone()
        };
        let page = answer::answer(rows, &query, &dialect, &moment)
            .map_err(|refusal| self.refused(refusal, request.number))?;
        (logged.rows, logged.total, logged.size) = (page.rows.len(), page.total, page.page_size_used);
        let mut out = Vec::with_capacity(page.rows.len() * 2_700 + 2);
        for index in &page.rows {
            out.push(if out.is_empty() { b'[' } else { b',' });
            self.world.write_row(source, &rows[*index], &mut out);
        }
        Ok(self.page(out, page.rows.len(), query.page, page.page_size_used, page.total))
    }

    /// Lets rows come and go in a range while it is read.
    fn disturb(&mut self, source: Source, query: &Query, effects: &[Effect], number: u64) {
        for effect in effects {
            let mut dice = faults::dice(!self.world.options.seed, number);
            let now = self.world.now();
            let span = query.to.min(now) - query.from;
            match effect {
                Effect::Drift { rows, backdated } => {
                    for _ in 0..*rows {
                        let at = query.from + dice.below(span);
                        let organization = match query.scope {
                            Scope::Organization(organization) => organization,
                            Scope::Tree => {
                                u16::try_from(dice.index(self.world.organizations.len())).unwrap_or(0)
                            }
                        };
                        self.world.add_row(source, organization, at, if *backdated { at } else { now });
                    }
                }
                Effect::Deletion { rows } => {
                    let axis = self.dialect.axis;
                    let listed = self.world.rows(source);
                    let start = listed.partition_point(|row| axis.of(row) < query.from);
                    let end = listed.partition_point(|row| axis.of(row) < query.to);
                    for _ in 0..if start < end { *rows } else { 0 } {
                        self.world.delete_at(source, start + dice.index(end - start));
                    }
                }
                _ => {}
            }
        }
    }

    /// Closes a list that was opened by its first row, and adds the paging headers.
    fn page(&self, mut list: Vec<u8>, rows: usize, page: u64, size: u64, total: Option<u64>) -> Reply {
        let mut reply = if rows == 0 {
            self.nothing()
        } else {
            list.push(b']');
            Reply::json(list)
        };
        let Some(total) = total else { return reply };
        let pages = total.div_ceil(size.max(1));
        let before = (page.max(1) - 1).saturating_mul(size);
        let (first, last) = if rows == 0 { (0, 0) } else { (before + 1, before + rows as u64) };
        match self.dialect.pagination {
            Pagination::None => {}
            Pagination::Json => {
                let mut text = String::new();
                write!(
                    text,
                    r#"{{"currentPage":{page},"itemsPerPage":{size},"totalItems":{total},"totalPages":{pages},"firstItem":{first},"lastItem":{last}}}"#
                )
                .expect("writing into a string does not fail");
                reply.headers.push(("pagination", text));
            }
            Pagination::Separate => reply.headers.extend([
                ("firstItem", first.to_string()),
                ("lastItem", last.to_string()),
                ("totalItems", total.to_string()),
                ("totalPages", pages.to_string()),
            ]),
        }
        reply
    }

    /// What an endpoint says where there is nothing to see.
    fn empty(&self, endpoint: Endpoint, number: u64) -> Reply {
        match endpoint {
            Endpoint::ApprovalCount => Reply::json(b"0".to_vec()),
            _ => self.page(Vec::new(), 0, 1, 25, self.dialect.total(0, number)),
        }
    }

    fn nothing(&self) -> Reply {
        Reply::json(match self.dialect.empty {
            EmptyAnswer::List => b"[]".to_vec(),
            EmptyAnswer::Null => b"null".to_vec(),
            EmptyAnswer::ZeroBytes => Vec::new(),
        })
    }

    /// The organizations of which an endpoint shows nothing, asked with the child flag or without.
    fn silent(&self, endpoint: Endpoint, tree: bool) -> Vec<u16> {
        self.faults.silent(endpoint, tree).filter_map(|id| self.world.organization(&id.to_string())).collect()
    }

    fn refused(&self, refusal: Refusal, number: u64) -> Reply {
        self.error(refusal.status, refusal.message, number)
    }

    /// An error in the portal's form (contract section 8.1).
    fn error(&self, status: u16, message: &str, number: u64) -> Reply {
        let logger = guid(self.world.options.seed, purpose::LOGGER, number);
        let message = serde_json::Value::from(message);
        let body = format!(r#"{{"LoggerId":"{logger}","StatusCode":{status},"Message":{message}}}"#);
        Reply { status, ..Reply::json(body.into_bytes()) }
    }

    fn scripted(
        &self,
        status: u16,
        retry_after: Option<RetryAfter>,
        message: Option<&str>,
        number: u64,
    ) -> Reply {
        let message = message.unwrap_or(match status {
            403 | 440 => "TOKEN_REVOKED",
            429 => "Too Many Requests",
            _ => "A problem occurred with the request (scripted)",
        });
        let mut reply = self.error(status, message, number);
        if let Some(retry_after) = retry_after {
            let text = match retry_after {
                RetryAfter::Seconds(seconds) => seconds.to_string(),
                RetryAfter::DateIn(seconds) => super::reply::http_date(self.world.now() + seconds * SECOND),
            };
            reply.headers.push(("retry-after", text));
        }
        reply
    }
}

/// The token of this number: 64 lower-case hexadecimal characters (contract section 1.3).
pub fn token(seed: u64, number: u64) -> String {
    let part = |place: u64| guid(seed, purpose::TOKEN, number * 2 + place).simple().to_string();
    part(0) + &part(1)
}
