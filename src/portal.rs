//! The ThreatLocker Portal API: one `fetch(PageRequest) -> Page`.
//!
//! Knows transport, headers, paging headers, errors and the pace; knows no schema. Vendor facts are in
//! contract sections 1 and 8. Called by `collect` and by `check`; holds these:
//! - nothing but the paths of [`Endpoint`] can be asked, of which an operator may name those of a [`PrivatePath`];
//! - every request names its organization, except the discovery of a token's own;
//! - a request, a retry and a probe all take their turn under the credential's limiter;
//! - an answer is read within the memory [`Budget`], and a [`Page`] holds its share until it is dropped;
//! - the token is in no message.

mod body;
mod credential;
mod discovery;
mod error;
mod exchange;
mod own_reads;
mod pace;
mod page;
mod private;
mod retry;
mod rows;
mod settings;
mod streamed;
#[cfg(test)]
mod tests;
mod time;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

pub use self::credential::Pacers;
use self::credential::{Admission, Credential, Evidence, Wish};
pub use self::discovery::ListedOrganization;
pub(crate) use self::error::clean;
pub use self::error::{Answer, Failure, PortalError, Remedy, SAFE_PAGE_SIZE, TOKEN_REFUSED};
pub use self::own_reads::{OwnReadsReport, Reader};
pub use self::private::PrivatePath;
pub(crate) use self::retry::{date, retry_after};
use self::settings::portal_of;
pub use self::settings::{PortalSettings, base_url_of};
pub use self::streamed::Rest;
pub use self::time::PortalTime;
use crate::budget::{Budget, Reservation};
use crate::clock::Clock;
use crate::credentials::Token;
use crate::model::{Micros, OrganizationId};

/// A read path of the Portal API. Nothing else can be called (contract section 13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    ActionLogByParameters,
    SystemAuditByParameters,
    ComputersByParameters,
    ApprovalRequestsByParameters,
    ChildOrganizations,
    OrganizationsForMove,
    MaintenanceByComputer,
    /// The same at older portals, without pages.
    MaintenanceByComputerUnpaged,
    PoliciesByParameters,
    PolicyById,
    GroupsAndComputers,
    ReportList,
    ReportRows,
    OnlineDevices,
    CheckinsByComputer,
    ComputerById,
    MatchingApplications,
    /// One that the vendor does not publish and the operator named.
    Private(PrivatePath),
}

impl Endpoint {
    /// Those that the vendor or others published.
    pub const ALL: [Endpoint; 17] = [
        Endpoint::ActionLogByParameters,
        Endpoint::SystemAuditByParameters,
        Endpoint::ComputersByParameters,
        Endpoint::ApprovalRequestsByParameters,
        Endpoint::ChildOrganizations,
        Endpoint::OrganizationsForMove,
        Endpoint::MaintenanceByComputer,
        Endpoint::MaintenanceByComputerUnpaged,
        Endpoint::PoliciesByParameters,
        Endpoint::PolicyById,
        Endpoint::GroupsAndComputers,
        Endpoint::ReportList,
        Endpoint::ReportRows,
        Endpoint::OnlineDevices,
        Endpoint::CheckinsByComputer,
        Endpoint::ComputerById,
        Endpoint::MatchingApplications,
    ];

    /// The path under `/portalapi/` (contract section 0.3).
    pub fn path(self) -> &'static str {
        match self {
            Endpoint::ActionLogByParameters => "ActionLog/ActionLogGetByParametersV2",
            Endpoint::SystemAuditByParameters => "SystemAudit/SystemAuditGetByParameters",
            Endpoint::ComputersByParameters => "Computer/ComputerGetByAllParameters",
            Endpoint::ApprovalRequestsByParameters => "ApprovalRequest/ApprovalRequestGetByParameters",
            Endpoint::ChildOrganizations => "Organization/OrganizationGetChildOrganizationsByParameters",
            Endpoint::OrganizationsForMove => "Organization/OrganizationGetForMoveComputers",
            Endpoint::MaintenanceByComputer => "MaintenanceMode/MaintenanceModeGetByComputerIdV2",
            Endpoint::MaintenanceByComputerUnpaged => "MaintenanceMode/MaintenanceModeGetByComputerId",
            Endpoint::PoliciesByParameters => "Policy/PolicyGetByParameters",
            Endpoint::PolicyById => "Policy/PolicyGetById",
            Endpoint::GroupsAndComputers => "ComputerGroup/ComputerGroupGetGroupAndComputer",
            Endpoint::ReportList => "Report/ReportGetByOrganizationId",
            Endpoint::ReportRows => "Report/ReportGetDynamicData",
            Endpoint::OnlineDevices => "OnlineDevices/OnlineDevicesGetByParameters",
            Endpoint::CheckinsByComputer => "ComputerCheckin/ComputerCheckinGetByParameters",
            Endpoint::ComputerById => "Computer/ComputerGetForEditById",
            Endpoint::MatchingApplications => "Application/ApplicationGetMatchingList",
            Endpoint::Private(private) => private.path(),
        }
    }

    /// Whether it is asked with GET and a query; the others with POST and a body.
    pub fn is_get(self) -> bool {
        match self {
            Endpoint::Private(private) => private.is_get(),
            Endpoint::OrganizationsForMove
            | Endpoint::MaintenanceByComputer
            | Endpoint::MaintenanceByComputerUnpaged
            | Endpoint::PolicyById
            | Endpoint::GroupsAndComputers
            | Endpoint::ReportList
            | Endpoint::OnlineDevices
            | Endpoint::ComputerById => true,
            _ => false,
        }
    }

    /// Whether the time that it takes tells how the portal fares: what is asked beside a list is answered in another time.
    pub fn tells_pace(self) -> bool {
        self != Endpoint::MatchingApplications
    }

    /// Whether the answer is one record rather than a list of rows.
    pub fn is_single(self) -> bool {
        matches!(self, Endpoint::PolicyById | Endpoint::ComputerById | Endpoint::MatchingApplications)
    }

    /// Whether the answer comes whole in one go, however large it is (contract section 3.2), and so is read a
    /// batch at a time.
    pub fn is_streamed(self) -> bool {
        matches!(self, Endpoint::ReportRows)
    }

    /// Whether `usenewsearch: true` is sent. Without it the legacy search answers, which can be empty although
    /// there is data (contract section 1.2).
    pub fn uses_new_search(self) -> bool {
        matches!(self, Endpoint::ActionLogByParameters)
    }
}

/// One request for one page.
#[derive(Clone, Debug)]
pub struct PageRequest {
    pub endpoint: Endpoint,
    /// `ManagedOrganizationId`; absent only in the discovery request of a token.
    pub organization: Option<OrganizationId>,
    /// JSON body of a POST; empty for a GET.
    pub body: Bytes,
    /// Query string of a GET, without the question mark.
    pub query: String,
    /// For one try, from sending to the last byte; waiting for the limiter does not count.
    pub timeout: Duration,
}

/// One page of a list, as received.
#[derive(Debug, Default)]
pub struct Page {
    /// The rows that are JSON, in the portal's order, as `(start, end)` into `body`.
    pub rows: Vec<(usize, usize)>,
    /// Elements of the list that are no JSON or no UTF-8: their bytes (a part of `body`) and why.
    pub undecodable: Vec<(Bytes, String)>,
    pub body: Bytes,
    /// `totalItems` of the `pagination` header (contract section 1.6).
    pub total: Option<u64>,
    /// `itemsPerPage` of the same, when the portal clamps our page size.
    pub page_size: Option<u64>,
    /// The columns that the answer names besides its rows (contract section 3.2).
    pub columns: Vec<String>,
    /// What of a streamed answer is to be read yet; it holds the memory for this page, too.
    pub rest: Option<Rest>,
    /// The memory set aside for this page; given back when it is dropped. Whoever holds a page must not fetch
    /// another before dropping it, or pages could wait for one another.
    pub reservation: Option<Reservation>,
}

impl Page {
    /// The rows in the portal's order, each a whole JSON value.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &str> {
        self.rows.iter().map(|&(start, end)| {
            std::str::from_utf8(&self.body[start..end]).expect("rows are checked when the page is read")
        })
    }

    /// Reads an answer's body; `Err` says why it is no list of rows.
    pub fn read(body: Bytes) -> Result<Self, String> {
        let layout = page::layout(&body).map_err(|error| error.to_string())?;
        Ok(Self::of(body, layout))
    }

    fn of(body: Bytes, layout: page::Layout) -> Self {
        let undecodable =
            layout.undecodable.into_iter().map(|(range, reason)| (body.slice(range), reason)).collect();
        Self { rows: layout.rows, undecodable, body, ..Self::default() }
    }
}

/// How a connection's credential fares. All times are the portal's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CredentialHealth {
    pub state: CredentialState,
    /// Since when it is in this state.
    pub since: DateTime<Utc>,
    /// The last request that worked; renews a sliding token (contract section 9).
    pub last_success: Option<DateTime<Utc>>,
    /// When a rejected token is tried again.
    pub next_probe: Option<DateTime<Utc>>,
    /// Until when the portal told us to wait.
    pub retry_after_until: Option<DateTime<Utc>>,
    /// Requests sent, retries and probes included, by all connections that share it.
    pub requests: u64,
    /// How often the portal told us to wait.
    pub throttled: u64,
    /// Moving average of the time to an answer's headers.
    pub latency_seconds: Option<f64>,
}

/// The verdict on a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialState {
    Untested,
    Ok,
    Rejected,
}

/// A portal as one connection sees it. Cheap to clone.
#[derive(Clone)]
pub struct Portal(Arc<Inner>);

struct Inner {
    settings: PortalSettings,
    api: reqwest::Url,
    client: reqwest::Client,
    token: Token,
    pacers: Pacers,
    budget: Budget,
    clock: Clock,
    time: PortalTime,
    /// The credential of the token as last read; another token is another credential.
    credential: Mutex<Option<Arc<Credential>>>,
    /// The size of pages lately, by which the next one is reserved.
    usual_size: std::sync::atomic::AtomicU64,
}

impl Portal {
    /// Checks the settings and builds the client; sends nothing.
    pub fn new(
        settings: PortalSettings,
        pacers: &Pacers,
        budget: Budget,
        clock: Clock,
    ) -> Result<Self, PortalError> {
        let refused = |why| PortalError {
            site: settings.site.clone(),
            endpoint: None,
            failure: Failure::Settings(why),
        };
        let api = settings.api().map_err(refused)?;
        let client = settings.client(&api).map_err(refused)?;
        if settings.insecure_skip_verify {
            tracing::warn!(
                site = settings.site,
                "CERTIFICATES ARE NOT VERIFIED (insecure_skip_verify): anybody on the way can read the token and forge records"
            );
        }
        Ok(Self(Arc::new(Inner {
            api,
            client,
            token: Token::new(settings.token.clone()),
            pacers: pacers.clone(),
            budget,
            time: PortalTime::new(clock.clone()),
            clock,
            credential: Mutex::default(),
            usual_size: Default::default(),
            settings,
        })))
    }

    /// The user's label of the connection.
    pub fn site(&self) -> &str {
        &self.0.settings.site
    }

    /// The portal's time now; see [`PortalTime`].
    pub fn now(&self) -> Micros {
        self.0.time.now()
    }

    /// Whether the portal has told its time yet.
    pub fn heard(&self) -> bool {
        self.0.time.heard()
    }

    /// How far the portal's time is ahead of our clock, in microseconds (contract section 12: warn from two minutes on).
    pub fn clock_offset(&self) -> Micros {
        self.0.time.offset()
    }

    /// The portal's time as a part that can be handed on.
    pub fn time(&self) -> PortalTime {
        self.0.time.clone()
    }

    /// Whether this access may ask an endpoint at all.
    pub fn may_ask(&self, endpoint: Endpoint) -> bool {
        !self.0.settings.reports_only || matches!(endpoint, Endpoint::ReportList | Endpoint::ReportRows)
    }

    /// Takes note of a `Read` row of the system audit; `row` is its id. Answers whether one of our own requests
    /// wrote it, as far as that is known yet.
    pub fn saw_read(&self, reader: Reader, at: Micros, row: u128) -> bool {
        let Some(credential) = self.held().clone() else { return false };
        let ours = credential.own_reads.is_us(&reader);
        credential.own_reads.seen(reader, at, row);
        ours
    }

    /// Our own requests in the portal's system audit, once they are known.
    pub fn own_reads(&self) -> Option<OwnReadsReport> {
        self.held().as_ref()?.own_reads.report(self.now())
    }

    /// Goes on from what another client of the same site knew: where it asked the same portal, the portal's
    /// time, its wish to be left alone and the verdict on the token stay.
    pub fn go_on_from(&self, before: &Portal) {
        if self.0.api == before.0.api {
            self.0.time.go_on_from(&before.0.time);
            self.held().clone_from(&before.held());
        } else {
            before.withdraw();
        }
    }

    /// Nothing is asked for this site any more: others that share its credential need not heed it.
    pub fn withdraw(&self) {
        if let Some(credential) = self.held().as_ref() {
            credential.wish(&self.0.settings.site, None);
        }
    }

    /// How the credential fares, for status.
    pub fn health(&self) -> CredentialHealth {
        let Some(credential) = self.held().clone() else {
            return CredentialHealth {
                state: CredentialState::Untested,
                since: self.utc(Instant::now()),
                last_success: None,
                next_probe: None,
                retry_after_until: None,
                requests: 0,
                throttled: 0,
                latency_seconds: None,
            };
        };
        let health = credential.health();
        CredentialHealth {
            state: health.state,
            since: self.utc(health.since),
            last_success: health.last_success.map(|at| self.utc(at)),
            next_probe: health.next_probe.map(|at| self.utc(at)),
            retry_after_until: health.wait_until.map(|at| self.utc(at)),
            requests: health.requests,
            throttled: health.throttled,
            latency_seconds: credential.pace.latency(),
        }
    }

    /// Fetches one page: waits for its turn, retries what may pass, and judges a refusal by a probe.
    ///
    /// What to do about a failure is in [`PortalError::remedy`]; it has been retried already where that makes sense.
    pub async fn fetch(&self, request: &PageRequest) -> Result<Page, PortalError> {
        match &request.organization {
            Some(organization) if !organization.is_none() => self.ask(request).await,
            _ => Err(self.error(request.endpoint, Failure::NoOrganization)),
        }
    }

    /// As [`Portal::fetch`], and also without an organization: only for the discovery.
    async fn ask(&self, request: &PageRequest) -> Result<Page, PortalError> {
        let outcome = self.judged(request).await;
        outcome.map_err(|failure| self.error(request.endpoint, failure))
    }

    async fn judged(&self, request: &PageRequest) -> Result<Page, Failure> {
        if !self.may_ask(request.endpoint) {
            let why = "with `access: auth_key` nothing but reports may be asked for";
            return Err(Failure::Settings(why.to_owned()));
        }
        let token = self.0.token.read().await?;
        let credential = self.credential(&token);
        let delays = &self.0.settings.probe_delays;
        let probing = match credential.admit(request.endpoint, delays) {
            Admission::Open => false,
            Admission::ProbeItself => true,
            Admission::Shut => return Err(self.rejected(&credential)),
            Admission::Probe(probe) => {
                // Without a yes the token stays rejected, whatever stood in the way.
                self.probe(&credential, &token, &probe).await.map_err(|_| self.rejected(&credential))?;
                false
            }
        };
        let started = Instant::now();
        let answer = match self.persist(&credential, &token, request, probing).await {
            Err(Failure::Answer(answer)) if answer.is_denial() => answer,
            outcome => return outcome.inspect(|_| credential.succeeded(request)),
        };
        let _one_at_a_time = credential.judging.lock().await;
        match credential.evidence(request.endpoint, started) {
            Evidence::Works => Err(Failure::MissingRole(answer)),
            Evidence::Try(probe) => match self.probe(&credential, &token, &probe).await {
                Ok(()) => Err(Failure::MissingRole(answer)),
                Err(rejected @ Failure::Rejected { .. }) => Err(rejected),
                // The portal said neither yes nor no: nothing is known about the token.
                Err(_) => Err(Failure::Answer(answer)),
            },
            Evidence::Nothing => {
                credential.reject(request.endpoint, &answer, delays);
                Err(self.rejected(&credential))
            }
        }
    }

    /// Sends a request that worked before, for one row; `Ok` proves the token.
    async fn probe(
        &self,
        credential: &Credential,
        token: &SecretString,
        worked: &PageRequest,
    ) -> Result<(), Failure> {
        let request = exchange::for_one_row(worked);
        match self.persist(credential, token, &request, true).await {
            Ok(_) | Err(Failure::Undecodable { .. } | Failure::TooLarge { .. }) => {
                credential.succeeded(worked);
                Ok(())
            }
            Err(Failure::Answer(answer)) if answer.is_denial() => {
                credential.reject(worked.endpoint, &answer, &self.0.settings.probe_delays);
                Err(self.rejected(credential))
            }
            Err(failure) => Err(failure),
        }
    }

    fn credential(&self, token: &SecretString) -> Arc<Credential> {
        let settings = &self.0.settings;
        let host = portal_of(&self.0.api);
        let wish = Wish { per_second: settings.rate_per_second, concurrent: settings.concurrent };
        let found = self.0.pacers.credential(&host, token, &settings.site, wish);
        let before = self.held().replace(Arc::clone(&found));
        if let Some(before) = before.filter(|before| !Arc::ptr_eq(before, &found)) {
            before.wish(&settings.site, None);
        }
        found
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Option<Arc<Credential>>> {
        self.0.credential.lock().expect("no holder of the credential panics")
    }

    fn rejected(&self, credential: &Credential) -> Failure {
        match credential.rejection() {
            Some((answer, next)) => Failure::Rejected { answer, next_probe: self.utc(next) },
            // Somebody's probe worked between the refusal and this line.
            None => Failure::Unreachable("the token was refused and works again".into()),
        }
    }

    fn error(&self, endpoint: Endpoint, failure: Failure) -> PortalError {
        PortalError { site: self.0.settings.site.clone(), endpoint: Some(endpoint), failure }
    }

    /// A monotonic time on the portal's clock.
    fn utc(&self, at: Instant) -> DateTime<Utc> {
        let now = Instant::now();
        let micros = |length: Duration| Micros::try_from(length.as_micros()).unwrap_or(Micros::MAX / 4);
        let distance = if at >= now { micros(at - now) } else { -micros(now - at) };
        DateTime::from_timestamp_micros(self.now().saturating_add(distance)).unwrap_or_default()
    }
}
