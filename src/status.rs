//! One picture of the running program: the console, `/metrics`, health, alerts and tests all read this.
//!
//! Every stream keeps its [`StreamStatus`] on the [`Board`]; portals and sinks are asked when the picture is
//! taken.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::budget::Budget;
use crate::clock::Clock;
use crate::collect::snapshot::SnapshotNotes;
use crate::coverage::{Coverage, Observed, State};
use crate::deliver::{SinkCondition, SinkStatus};
use crate::model::{Micros, OrganizationId, SECOND, Seconds};
use crate::portal::{CredentialHealth, CredentialState, Portal};
use crate::store::{Store, StoreError, dead_letters, outbox};

/// Everything there is to know at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub version: &'static str,
    /// Whether a service is running; else the picture is made from the state alone.
    pub running: bool,
    /// On our clock.
    pub taken: DateTime<Utc>,
    pub started: Option<DateTime<Utc>>,
    /// Nothing is stale, held or paused.
    pub fresh: bool,
    /// What keeps it from being fresh, in words.
    pub problems: Vec<String>,
    pub sites: Vec<SiteStatus>,
    pub sinks: Vec<SinkStatus>,
    pub outbox: OutboxStatus,
    pub dead_letters: DeadLetterStatus,
    pub memory: MemoryStatus,
}

/// One connection.
#[derive(Clone, Debug, Serialize)]
pub struct SiteStatus {
    pub site: String,
    pub base_url: Option<String>,
    /// Its own organization, once discovered.
    pub organization_id: Option<OrganizationId>,
    pub contact: Option<String>,
    /// The portal's time, and how far it is ahead of our clock.
    pub portal_time: Option<DateTime<Utc>>,
    pub clock_offset_seconds: Option<f64>,
    pub credential: Option<CredentialHealth>,
    pub token: TokenStatus,
    /// Why its organizations could not be discovered.
    pub last_error: Option<String>,
    pub streams: Vec<StreamStatus>,
}

/// When the token lapses, as far as the configuration tells (contract section 9: the portal does not).
#[derive(Clone, Debug, Default, Serialize)]
pub struct TokenStatus {
    /// `unknown` unless `token_expiry` is set; absent does not mean fine.
    pub expires: Option<DateTime<Utc>>,
    pub expiry_known: bool,
}

/// How a stream fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamCondition {
    /// Not polled yet.
    #[default]
    Starting,
    Ok,
    /// The last poll failed.
    Failing,
    /// The token is refused.
    Rejected,
    /// The token works, the role for this source is missing.
    MissingRole,
    /// The outbox is full: collecting waits, the portal still has the data.
    Paused,
    /// No service is running.
    Stopped,
}

/// One stream: a source in a scope.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StreamStatus {
    pub source: String,
    /// `tree`, or the organization's id.
    pub scope: String,
    /// The organization that is asked.
    pub organization: String,
    /// Part of the source and what narrows the query, where there is any.
    pub query: String,
    pub condition: StreamCondition,
    /// Everything from the start to here is proven. For snapshots: the end of the last complete walk.
    pub proven_until: Option<DateTime<Utc>>,
    /// The end of the newest proven stretch.
    pub live_until: Option<DateTime<Utc>>,
    /// How far `live_until` lies behind the portal's time.
    pub lag_seconds: Option<f64>,
    /// Whether the lag is beyond 5 times the interval, and at least 10 minutes.
    pub stale: bool,
    /// Entries made in all, and requests since start.
    pub rows: u64,
    pub requests: u64,
    pub last_success: Option<DateTime<Utc>>,
    pub last_error: Option<String>,
    /// On our clock.
    pub next_poll: Option<DateTime<Utc>>,
    pub every_seconds: f64,
    /// What is not proven between the start and the edge, newest first; bounded.
    pub unproven: Vec<Unproven>,
    /// How many more there are.
    pub unproven_more: usize,
    pub observed: Option<Observed>,
    /// When the whole retention was last counted.
    pub scrubbed: Option<DateTime<Utc>>,
}

/// An interval that is not proven, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unproven {
    pub organization: String,
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
    /// `pending`, a state of the coverage, or `unknown` for rows of a snapshot.
    pub state: String,
    pub reason: String,
    pub listed: Option<u64>,
    pub held: Option<u64>,
}

/// The outbox.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OutboxStatus {
    pub bytes: u64,
    pub limit_bytes: Option<u64>,
    /// Collecting waits for room.
    pub paused: bool,
    pub oldest: Option<DateTime<Utc>>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct DeadLetterStatus {
    pub count: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct MemoryStatus {
    pub used_bytes: u64,
    pub limit_bytes: u64,
}

/// Unproven intervals shown for one stream.
const MOST_UNPROVEN: usize = 200;
/// How long a sink may fail, or an organization be silent, before the program is not fresh.
const PATIENCE: Duration = Duration::from_secs(600);
const SILENCE: Duration = Duration::from_secs(86_400);

/// Where everything that runs says how it fares. Cheap to clone.
#[derive(Clone)]
pub struct Board(Arc<Inner>);

struct Inner {
    clock: Clock,
    store: Store,
    budget: Budget,
    started: DateTime<Utc>,
    outbox_limit: u64,
    sites: Mutex<BTreeMap<String, SiteEntry>>,
    sinks: Mutex<Vec<watch::Receiver<SinkStatus>>>,
}

/// What is known of a site beside its streams.
#[derive(Clone)]
pub struct SiteEntry {
    pub base_url: String,
    pub portal: Portal,
    pub organization: Option<OrganizationId>,
    pub contact: Option<String>,
    pub token_expiry: Option<crate::config::TokenExpiry>,
    pub last_error: Option<String>,
    pub streams: BTreeMap<(String, String, String), StreamStatus>,
}

impl Board {
    pub fn new(clock: Clock, store: Store, budget: Budget, outbox_limit: u64) -> Self {
        let started = clock.now();
        let (sites, sinks) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { clock, store, budget, started, outbox_limit, sites, sinks }))
    }

    pub fn add_site(&self, site: &str, entry: SiteEntry) {
        self.sites().insert(site.to_owned(), entry);
    }

    pub fn add_sink(&self, sink: watch::Receiver<SinkStatus>) {
        self.0.sinks.lock().expect("no holder of the board panics").push(sink);
    }

    /// Changes what is known of a site.
    pub fn update_site(&self, site: &str, change: impl FnOnce(&mut SiteEntry)) {
        if let Some(entry) = self.sites().get_mut(site) {
            change(entry);
        }
    }

    /// Replaces what a stream says of itself.
    pub fn set_stream(&self, site: &str, status: StreamStatus) {
        let key = (status.source.clone(), status.scope.clone(), status.query.clone());
        self.update_site(site, |entry| {
            entry.streams.insert(key, status);
        });
    }

    fn sites(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, SiteEntry>> {
        self.0.sites.lock().expect("no holder of the board panics")
    }

    /// Takes the picture.
    pub async fn status(&self) -> Result<Status, StoreError> {
        let inner = &self.0;
        let (outbox, dead) =
            inner.store.read(|db| Ok((outbox::usage(db)?, dead_letters::usage(db)?))).await?;
        let sites: Vec<SiteStatus> =
            self.sites().iter().map(|(site, entry)| site_status(site, entry)).collect();
        let sinks: Vec<SinkStatus> = inner
            .sinks
            .lock()
            .expect("no holder of the board panics")
            .iter()
            .map(|sink| sink.borrow().clone())
            .collect();
        let taken = inner.clock.now();
        let outbox = OutboxStatus {
            bytes: outbox.stored_bytes,
            limit_bytes: Some(inner.outbox_limit),
            paused: outbox.stored_bytes >= inner.outbox_limit,
            oldest: outbox.oldest.and_then(DateTime::from_timestamp_micros),
        };
        let problems = problems(&sites, &sinks, &outbox, taken);
        Ok(Status {
            version: env!("CARGO_PKG_VERSION"),
            running: true,
            taken,
            started: Some(inner.started),
            fresh: problems.is_empty(),
            problems,
            sites,
            sinks,
            outbox,
            dead_letters: DeadLetterStatus { count: dead.0, bytes: dead.1 },
            memory: MemoryStatus { used_bytes: inner.budget.used(), limit_bytes: inner.budget.total() },
        })
    }
}

fn site_status(site: &str, entry: &SiteEntry) -> SiteStatus {
    let now = entry.portal.now();
    let health = entry.portal.health();
    let streams = entry
        .streams
        .values()
        .cloned()
        .map(|mut stream| {
            stream.age(now);
            stream
        })
        .collect();
    SiteStatus {
        site: site.to_owned(),
        base_url: Some(entry.base_url.clone()),
        organization_id: entry.organization.clone(),
        contact: entry.contact.clone(),
        portal_time: entry.portal.heard().then(|| DateTime::from_timestamp_micros(now)).flatten(),
        clock_offset_seconds: entry
            .portal
            .heard()
            .then(|| Duration::from_micros(entry.portal.clock_offset().unsigned_abs()).as_secs_f64())
            .map(|offset| if entry.portal.clock_offset() < 0 { -offset } else { offset }),
        token: token_status(entry, &health),
        credential: Some(health),
        last_error: entry.last_error.clone(),
        streams,
    }
}

fn token_status(entry: &SiteEntry, health: &CredentialHealth) -> TokenStatus {
    use crate::config::TokenExpiry;
    let expires = match entry.token_expiry {
        Some(TokenExpiry::UnusedFor(unused)) => health
            .last_success
            .and_then(|last| last.checked_add_signed(chrono::Duration::from_std(unused).ok()?)),
        Some(TokenExpiry::At(day)) => day.and_hms_opt(0, 0, 0).map(|at| at.and_utc()),
        None => None,
    };
    TokenStatus { expires, expiry_known: entry.token_expiry.is_some() }
}

/// What an operator must know, one line each.
fn problems(
    sites: &[SiteStatus],
    sinks: &[SinkStatus],
    outbox: &OutboxStatus,
    now: DateTime<Utc>,
) -> Vec<String> {
    let mut problems = Vec::new();
    for site in sites {
        if let Some(error) = &site.last_error {
            problems.push(format!("site {}: {error}", site.site));
        }
        if site.credential.as_ref().is_some_and(|health| health.state == CredentialState::Rejected) {
            problems.push(format!("site {}: the portal refuses the token; renew it", site.site));
        }
        for stream in &site.streams {
            let name = format!("site {}: {} of {}", site.site, stream.source, stream.scope);
            if stream.stale {
                let lag = stream.lag_seconds.unwrap_or_default();
                let why = stream.last_error.as_deref().unwrap_or("no error was seen");
                problems.push(format!("{name} is stale: proven {lag:.0} s ago ({why})"));
            }
            for unproven in &stream.unproven {
                let age = (unproven.to - unproven.from).to_std().unwrap_or_default();
                if unproven.state == "unknown"
                    || (unproven.state == State::EmptyUnconfirmed.as_str() && age > SILENCE)
                {
                    problems.push(format!(
                        "{name}: organization {} is {} since {}: {}",
                        unproven.organization, unproven.state, unproven.from, unproven.reason
                    ));
                }
            }
        }
    }
    for sink in sinks {
        let failing = (now - sink.since).to_std().unwrap_or_default() > PATIENCE;
        match sink.state {
            SinkCondition::Held => {}
            SinkCondition::Retrying | SinkCondition::Stopped if failing => {}
            _ => continue,
        }
        let why = sink.last_error.as_deref().unwrap_or("no error was seen");
        problems.push(format!("sink {} delivers nothing since {}: {why}", sink.name, sink.since));
    }
    if outbox.paused {
        problems.push(format!(
            "the outbox is full ({} bytes): collecting waits until a sink takes records",
            outbox.bytes
        ));
    }
    problems
}

impl StreamStatus {
    /// Brings lag and staleness up to the moment, so that a stream that hangs is seen to lag.
    fn age(&mut self, now: Micros) {
        let Some(live) = self.live_until else {
            return;
        };
        let lag = Duration::from_micros((now - live.timestamp_micros()).max(0).unsigned_abs()).as_secs_f64();
        self.lag_seconds = Some(lag);
        self.stale = lag > (5.0 * self.every_seconds).max(600.0);
    }

    /// Takes over what a window stream has proven.
    pub fn of_coverage(&mut self, coverage: &Coverage, start: Seconds, edge: Seconds) {
        self.proven_until = utc(coverage.proven_until(start));
        let live = coverage.intervals().rev().find(|one| one.state == State::Proven && one.to <= edge + 60);
        self.live_until = utc(live.map_or(start, |one| one.to));
        let mut unproven = Vec::new();
        let pending = |from, to| Unproven {
            organization: self.organization.clone(),
            from: utc(from).unwrap_or_default(),
            to: utc(to).unwrap_or_default(),
            state: "pending".to_owned(),
            reason: self.last_error.clone().unwrap_or_else(|| "not walked yet, or not to the end".to_owned()),
            listed: None,
            held: None,
        };
        unproven.extend(coverage.gaps(start, edge).into_iter().map(|(from, to)| pending(from, to)));
        for one in coverage.within(start, Seconds::MAX) {
            if matches!(one.state, State::Proven | State::Baseline) {
                continue;
            }
            unproven.push(Unproven {
                organization: self.organization.clone(),
                from: utc(one.from).unwrap_or_default(),
                to: utc(one.to).unwrap_or_default(),
                state: one.state.as_str().to_owned(),
                reason: one.reason.clone().unwrap_or_default(),
                listed: one.listed,
                held: Some(one.held),
            });
        }
        self.set_unproven(unproven);
    }

    /// Adds the organizations that are silent inside a tree.
    pub fn add_silent(&mut self, silent: &BTreeMap<OrganizationId, Micros>, edge: Seconds) {
        let mut unproven = std::mem::take(&mut self.unproven);
        for (organization, since) in silent {
            unproven.push(Unproven {
                organization: organization.to_string(),
                from: DateTime::from_timestamp_micros(*since).unwrap_or_default(),
                to: utc(edge).unwrap_or_default(),
                state: State::EmptyUnconfirmed.as_str().to_owned(),
                reason: "lists nothing where its rows are usual, and nothing witnesses that nothing happened"
                    .to_owned(),
                listed: Some(0),
                held: Some(0),
            });
        }
        self.set_unproven(unproven);
    }

    /// Takes over what a snapshot stream knows.
    pub fn of_snapshot(&mut self, notes: &SnapshotNotes, now: Micros) {
        self.proven_until = notes.complete.and_then(DateTime::from_timestamp_micros);
        self.live_until = self.proven_until;
        let from = self.proven_until.unwrap_or_default();
        let one = |organization: &str, state: &str, reason: String, held| Unproven {
            organization: organization.to_owned(),
            from,
            to: DateTime::from_timestamp_micros(now).unwrap_or_default(),
            state: state.to_owned(),
            reason,
            listed: None,
            held,
        };
        let mut unproven = Vec::new();
        if let Some(reason) = &notes.unproven {
            unproven.push(one(&self.organization, State::StableUnproven.as_str(), reason.clone(), None));
        }
        if notes.complete.is_none() && notes.unproven.is_none() {
            let reason = self.last_error.clone().unwrap_or_else(|| "no complete walk yet".to_owned());
            unproven.push(one(&self.organization, "pending", reason, None));
        }
        for (organization, rows) in &notes.unknown {
            let reason = format!(
                "{rows} rows are listed no more, too many at once to believe; they return by themselves, or                  `lockstep confirm-removed` says that they are gone"
            );
            unproven.push(one(organization, "unknown", reason, Some(*rows)));
        }
        self.set_unproven(unproven);
    }

    fn set_unproven(&mut self, mut unproven: Vec<Unproven>) {
        unproven.sort_by_key(|one| std::cmp::Reverse(one.to));
        self.unproven_more = unproven.len().saturating_sub(MOST_UNPROVEN);
        unproven.truncate(MOST_UNPROVEN);
        self.unproven = unproven;
    }
}

fn utc(second: Seconds) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(second.saturating_mul(SECOND))
}
