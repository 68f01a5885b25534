//! One picture of the running program: the console, `/metrics`, health, alerts and tests all read this.
//!
//! Every stream keeps its [`StreamStatus`] on the [`Board`]; portals and sinks are asked when the picture is
//! taken. Without a running program [`offline`] makes the picture from the state.

mod failing;
pub mod offline;
mod pace;
mod problems;
mod process;
mod stream;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::budget::Budget;
use crate::clock::Clock;
use crate::collect::snapshot;
use crate::config::TokenExpiry;
use crate::coverage::Observed;
use crate::deliver::SinkStatus;
use crate::epitaph::REMEDY;
use crate::model::{OrganizationId, Seconds};
use crate::order::{Done, Order};
use crate::portal::{CredentialHealth, OwnReadsReport, Portal};
use crate::store::backfill::AskedBack;
use crate::store::connections::{self, ClaimedElsewhere};
use crate::store::vendor_fields::{self, FieldNotice};
use crate::store::{Store, StoreError, backfill, dead_letters, outbox, owed, replays, sinks};
pub use failing::Failing;
pub use pace::Owed;
use pace::Pace;
pub use process::ProcessStatus;
pub use stream::{Unproven, UnprovenSum};

/// Everything there is to know at one moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    /// Whether a service is running; else the picture is made from the state alone.
    pub running: bool,
    /// On our clock.
    pub taken: DateTime<Utc>,
    pub started: Option<DateTime<Utc>>,
    /// Nothing is stale, held or paused. Polls that fail since a moment ago do not count yet.
    pub fresh: bool,
    /// What is wrong, in words, one for each cause.
    pub problems: Vec<String>,
    /// What is wrong with the configuration: sites that are left out, a change that was refused.
    #[serde(default)]
    pub configuration: Vec<String>,
    pub sites: Vec<SiteStatus>,
    pub sinks: Vec<SinkStatus>,
    pub outbox: OutboxStatus,
    pub dead_letters: DeadLetterStatus,
    pub memory: MemoryStatus,
    /// Of the running program.
    pub process: Option<ProcessStatus>,
}

/// One connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    /// The same as a cause, since when and what to do.
    pub failing: Option<Failing>,
    /// What this site reads and only counts, since another site claimed it first and delivers it.
    pub claimed_elsewhere: Vec<ClaimedElsewhere>,
    /// Fields that the vendor added or dropped, as far as this version knows its rows.
    #[serde(default)]
    pub fields: Vec<FieldNotice>,
    /// Older time that was asked for and that its stream takes up with one of its next polls.
    #[serde(default)]
    pub asked_back: Vec<AskedBack>,
    /// Our own requests as its system audit shows them, once they are recognised there.
    pub own_reads: Option<OwnReadsReport>,
    pub streams: Vec<StreamStatus>,
}

/// When the token lapses, as far as the configuration tells (contract section 9: the portal does not).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TokenStatus {
    /// `unknown` unless `token_expiry` is set; absent does not mean fine.
    pub expires: Option<DateTime<Utc>>,
    pub expiry_known: bool,
    /// From when on an operator is told to renew it.
    #[serde(default)]
    pub renew_from: Option<DateTime<Utc>>,
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
    /// Its task panicked, and nothing begins it anew.
    Broken,
    /// No service is running.
    Stopped,
}

impl StreamCondition {
    pub const ALL: [Self; 8] = [
        Self::Starting,
        Self::Ok,
        Self::Failing,
        Self::Rejected,
        Self::MissingRole,
        Self::Paused,
        Self::Broken,
        Self::Stopped,
    ];

    /// As in JSON and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ok => "ok",
            Self::Failing => "failing",
            Self::Rejected => "rejected",
            Self::MissingRole => "missing_role",
            Self::Paused => "paused",
            Self::Broken => "broken",
            Self::Stopped => "stopped",
        }
    }
}

/// One stream: a source in a scope.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
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
    /// Whether the lag, or the time since start while nothing is proven, is beyond 5 times the interval
    /// and at least 10 minutes.
    pub stale: bool,
    /// Entries made in all, and requests since start.
    pub rows: u64,
    pub requests: u64,
    /// Of the last ten seconds, or of two polls; absent until there is enough to tell.
    #[serde(default)]
    pub rows_per_second: Option<f64>,
    /// What is left to walk behind the live edge; absent where nothing is.
    #[serde(default)]
    pub owed: Option<Owed>,
    /// How it is asked, where that is not the usual way.
    #[serde(default)]
    pub way: Option<String>,
    pub last_success: Option<DateTime<Utc>>,
    pub last_error: Option<String>,
    /// The same as a cause, since when and what to do.
    pub failing: Option<Failing>,
    /// On our clock.
    pub next_poll: Option<DateTime<Utc>>,
    pub every_seconds: f64,
    /// What is not proven between the start and the edge, newest first; bounded.
    pub unproven: Vec<Unproven>,
    /// How many more there are.
    pub unproven_more: usize,
    /// All of them summed up by state, those that are not shown included.
    pub unproven_sums: BTreeMap<String, UnprovenSum>,
    /// Organizations inside a tree that list nothing although their rows are usual.
    pub silent_organizations: u64,
    /// Organizations that the portal does not list in the tree, and that are asked alone.
    #[serde(default)]
    pub alone: Vec<String>,
    /// The portal refuses the tree: each of its organizations is asked alone, and says itself how it fares.
    #[serde(default)]
    pub one_by_one: bool,
    /// Of the requests for approval: statuses that the portal refuses while it lists others.
    #[serde(default)]
    pub skipped_statuses: Vec<u8>,
    pub observed: Option<Observed>,
    /// When the whole retention was last counted.
    pub scrubbed: Option<DateTime<Utc>>,
}

/// The outbox.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct OutboxStatus {
    pub bytes: u64,
    pub limit_bytes: Option<u64>,
    /// Collecting waits for room.
    pub paused: bool,
    pub oldest: Option<DateTime<Utc>>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DeadLetterStatus {
    pub count: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MemoryStatus {
    pub used_bytes: u64,
    pub limit_bytes: u64,
}

/// How long the state may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// Where everything that runs says how it fares. Cheap to clone.
#[derive(Clone)]
pub struct Board(Arc<Inner>);

struct Inner {
    clock: Clock,
    store: Store,
    budget: Budget,
    started: DateTime<Utc>,
    outbox_limit: AtomicU64,
    configuration: Mutex<Vec<String>>,
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
    pub token_expiry: Option<TokenExpiry>,
    pub last_error: Option<String>,
    pub failing: Option<Failing>,
    pub streams: BTreeMap<(String, String, String), Shown>,
}

/// What a stream said last, and how it came there.
#[derive(Clone, Default)]
pub struct Shown {
    status: StreamStatus,
    pace: Pace,
}

impl Board {
    pub fn new(clock: Clock, store: Store, budget: Budget, outbox_limit: u64) -> Self {
        let started = clock.now();
        let (configuration, sites, sinks) = Default::default();
        let outbox_limit = AtomicU64::new(outbox_limit);
        Self(Arc::new(Inner { clock, store, budget, started, outbox_limit, configuration, sites, sinks }))
    }

    /// Says what is wrong with the configuration, instead of what was said before.
    pub fn set_configuration(&self, wrong: Vec<String>) {
        *self.0.configuration.lock().expect("no holder of the board panics") = wrong;
    }

    /// Enters a site, or enters it anew: what its streams said last stays until they say more.
    pub fn add_site(&self, site: &str, mut entry: SiteEntry) {
        let mut sites = self.sites();
        if let Some(before) = sites.remove(site) {
            entry.streams = before.streams;
        }
        sites.insert(site.to_owned(), entry);
    }

    pub fn remove_site(&self, site: &str) {
        self.sites().remove(site);
    }

    /// Forgets the streams of a site but those that are kept by source, scope and query.
    pub fn keep_streams(&self, site: &str, keep: impl Fn(&str, &str, &str) -> bool) {
        self.update_site(site, |entry| {
            entry.streams.retain(|(source, scope, query), _| keep(source, scope, query));
        });
    }

    pub fn add_sink(&self, sink: watch::Receiver<SinkStatus>) {
        self.0.sinks.lock().expect("no holder of the board panics").push(sink);
    }

    /// Shows these sinks and no others.
    pub fn set_sinks(&self, sinks: Vec<watch::Receiver<SinkStatus>>) {
        *self.0.sinks.lock().expect("no holder of the board panics") = sinks;
    }

    pub fn set_outbox_limit(&self, bytes: u64) {
        self.0.outbox_limit.store(bytes, Ordering::Relaxed);
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
            let shown = entry.streams.entry(key).or_default();
            shown.pace.note(&status, Instant::now());
            shown.status = status;
        });
    }

    /// Forgets a stream of a site.
    pub fn remove_stream(&self, site: &str, source: &str, scope: &str, query: &str) {
        let key = (source.to_owned(), scope.to_owned(), query.to_owned());
        self.update_site(site, |entry| drop(entry.streams.remove(&key)));
    }

    /// Says that the task of a stream panicked. `blank`: the stream as it is before it says anything.
    pub fn break_stream(&self, site: &str, blank: StreamStatus) {
        let (what, began) = ("a stream broke off, which is a mistake in lockstep", self.0.clock.now());
        tracing::error!("{what}: {REMEDY}");
        let key = (blank.source.clone(), blank.scope.clone(), blank.query.clone());
        self.update_site(site, |entry| {
            let pace = Pace::default();
            let shown = entry.streams.entry(key).or_insert_with(|| Shown { status: blank, pace });
            shown.status.condition = StreamCondition::Broken;
            shown.status.last_error = Some(what.to_owned());
            Failing::note(&mut shown.status.failing, Some((what, REMEDY)), began);
        });
    }

    fn sites(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, SiteEntry>> {
        self.0.sites.lock().expect("no holder of the board panics")
    }

    /// Takes the picture.
    pub async fn status(&self) -> Result<Status, StoreError> {
        let inner = &self.0;
        let (outbox, dead, mut claims, mut fields, mut asked, (mut besides, pending)) = inner
            .store
            .read(|db| {
                let (outbox, dead) = (outbox::usage(db)?, dead_letters::usage(db)?);
                let (claims, fields) = (connections::claimed_elsewhere(db)?, vendor_fields::notices(db)?);
                let besides = (owed::totals(db)?, replays::waiting(db)?);
                let names = sinks::configured(db)?.into_iter().map(|(name, ..)| name);
                let pending = names.map(|name| Ok((name.clone(), outbox::pending(db, &name)?)));
                let pending: BTreeMap<_, _> = pending.collect::<Result<_, StoreError>>()?;
                Ok((outbox, dead, claims, fields, backfill::waiting(db)?, (besides, pending)))
            })
            .await?;
        let taken = inner.clock.now();
        let sites: Vec<SiteStatus> = self
            .sites()
            .iter()
            .map(|(site, entry)| SiteStatus {
                claimed_elsewhere: claims.remove(site).unwrap_or_default(),
                fields: fields.remove(site).unwrap_or_default(),
                asked_back: asked.remove(site).unwrap_or_default(),
                ..site_status(site, entry, inner.started, taken)
            })
            .collect();
        let sinks: Vec<SinkStatus> = inner
            .sinks
            .lock()
            .expect("no holder of the board panics")
            .iter()
            .map(|sink| {
                let mut sink = sink.borrow().clone().with(&mut besides.0, &besides.1);
                // What its worker saw last may be long ago.
                if let Some(lanes) = pending.get(&sink.name) {
                    sink.set_pending(lanes);
                }
                sink
            })
            .collect();
        let limit = inner.outbox_limit.load(Ordering::Relaxed);
        let outbox = OutboxStatus {
            bytes: outbox.stored_bytes,
            limit_bytes: Some(limit),
            paused: outbox.stored_bytes >= limit,
            oldest: outbox.oldest.and_then(DateTime::from_timestamp_micros),
        };
        let mut status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            running: true,
            taken,
            started: Some(inner.started),
            fresh: false,
            problems: Vec::new(),
            configuration: inner.configuration.lock().expect("no holder of the board panics").clone(),
            sites,
            sinks,
            outbox,
            dead_letters: DeadLetterStatus { count: dead.0, bytes: dead.1 },
            memory: MemoryStatus { used_bytes: inner.budget.used(), limit_bytes: inner.budget.total() },
            process: ProcessStatus::read(),
        };
        status.judge();
        Ok(status)
    }

    /// Whether the state can be written to and answers a read within a second; else why not.
    pub async fn ready(&self) -> Result<(), String> {
        let answer = self.0.store.read(|db| Ok(outbox::usage(db)?.chunks));
        match tokio::time::timeout(ANSWERS_WITHIN, answer).await {
            Ok(Ok(_)) if self.0.store.is_closed() => Err("the state is closed".to_owned()),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the state does not answer a read within a second".to_owned()),
        }
    }

    /// Whether the program still does its work: its writer of the state has not ended.
    pub fn is_alive(&self) -> bool {
        !self.0.store.is_closed()
    }

    /// Asks a stream of a site for `[from, to)`, which it owes from its next poll on. Answers false for a
    /// stream or site that is not known.
    pub async fn ask_back(
        &self,
        site: &str,
        stream: i64,
        span: (Seconds, Seconds),
    ) -> Result<bool, StoreError> {
        if !self.sites().contains_key(site) {
            return Ok(false);
        }
        let site = site.to_owned();
        self.0.store.write(move |db| backfill::ask(db, &site, stream, span)).await
    }

    /// Carries out what an operator orders.
    pub async fn carry_out(&self, order: Order) -> Result<Done, StoreError> {
        self.0.store.write(move |db| order.carry_out(db)).await
    }

    /// Takes the word of the operator that the rows of a site that are held as unknown are removed.
    /// Answers how many that were; none for a site that is not known.
    pub async fn confirm_removed(&self, site: &str) -> Result<Option<u64>, StoreError> {
        let Some(now) = self.sites().get(site).map(|entry| entry.portal.now()) else { return Ok(None) };
        let (name, stored) = (site.to_owned(), self.0.clock.now().timestamp_micros());
        let removed = self.0.store.write(move |db| snapshot::confirm_removed(db, &name, now, stored)).await?;
        self.update_site(site, |entry| {
            entry.streams.values_mut().for_each(|shown| shown.status.forget_unknown());
        });
        Ok(removed)
    }
}

fn site_status(site: &str, entry: &SiteEntry, started: DateTime<Utc>, taken: DateTime<Utc>) -> SiteStatus {
    let now = entry.portal.now();
    let running = (taken - started).to_std().unwrap_or_default();
    let health = entry.portal.health();
    let streams = entry
        .streams
        .values()
        .map(|shown| {
            let mut stream = shown.status.clone();
            stream.age(now, running);
            shown.pace.tell(&mut stream, Instant::now());
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
            .then(|| chrono::Duration::microseconds(entry.portal.clock_offset()).as_seconds_f64()),
        token: TokenStatus::of(entry.token_expiry, health.last_success),
        credential: Some(health),
        last_error: entry.last_error.clone(),
        failing: entry.failing.clone(),
        claimed_elsewhere: Vec::new(),
        fields: Vec::new(),
        asked_back: Vec::new(),
        own_reads: entry.portal.own_reads(),
        streams,
    }
}

/// How long before a token lapses on a known day it is asked to be renewed.
const NOTICE: chrono::Days = chrono::Days::new(30);

impl TokenStatus {
    /// By what the configuration says of the token and when it last worked.
    fn of(expiry: Option<TokenExpiry>, last_success: Option<DateTime<Utc>>) -> Self {
        let after = |time: DateTime<Utc>, length: Duration| {
            time.checked_add_signed(chrono::Duration::from_std(length).ok()?)
        };
        let (expires, renew_from) = match expiry {
            // Every answer puts it off: only a token that nothing answers comes near.
            Some(TokenExpiry::UnusedFor(unused)) => (
                last_success.and_then(|last| after(last, unused)),
                last_success.and_then(|last| after(last, unused / 2)),
            ),
            Some(TokenExpiry::At(day)) => {
                let expires = day.and_time(chrono::NaiveTime::MIN).and_utc();
                (Some(expires), expires.checked_sub_days(NOTICE))
            }
            None => (None, None),
        };
        Self { expires, expiry_known: expiry.is_some(), renew_from }
    }
}
