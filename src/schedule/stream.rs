//! One stream from its loading to its last poll.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::apart::{Apart, REFUSALS};
use super::{Surroundings, verdict};
use crate::collect::ledger::{Also, Packing, StreamLedger};
use crate::collect::listing::{Covered, OwnRows, PortalListing, Whole};
use crate::collect::per_computer::{PerComputerSettings, PerComputerStream, Refusals};
use crate::collect::snapshot::{Memory, PartsSettings, SnapshotNotes, SnapshotSettings, SnapshotStream};
use crate::collect::window::{Notes, WindowSettings, WindowStream};
use crate::collect::{CollectError, Listing as _};
use crate::config::SourceConfig;
use crate::coverage::State;
use crate::epitaph::Epitaph;
use crate::model::{Kind, OrganizationId, SECOND, Seconds};
use crate::portal::Portal;
use crate::record::vendor_fields::{FieldState, VendorFields};
use crate::source::{Filter, Query, Scope, Shape, Source};
use crate::status::{Failing, StreamCondition, StreamStatus, Unproven};
use crate::store::connections::{self, ConnectionRow};
use crate::store::streams::{self, StreamKey, StreamRow};
use crate::store::{Store, StoreError, vendor_fields};

/// The longest stretch that counts as live.
const LIVE_SPAN: Duration = Duration::from_secs(900);

/// Organizations of a refused tree that are tried alone before it is believed that the portal refuses no more.
const TRIED_ALONE: usize = 3;

/// How long a site's first listing of its devices is waited for.
const FIRST_LISTING: Duration = Duration::from_secs(15);

/// What a stream is, before it is loaded.
#[derive(Clone)]
pub struct Stream {
    pub connection: ConnectionRow,
    pub portal: Portal,
    pub source: &'static dyn Source,
    pub config: SourceConfig,
    pub timeout: Duration,
    pub own_rows: OwnRows,
    pub scope: Scope,
    /// The organizations that the site is about.
    pub covered: Covered,
    /// Part of the source, 0 where it has none.
    pub part: u8,
    pub filter: Filter,
    /// The settings of the source to which rated rows belong, too, where the site collects it.
    pub also: Option<SourceConfig>,
    /// The organizations of a tree, where the portal lists them.
    pub members: Option<Arc<BTreeSet<OrganizationId>>>,
    /// Its new devices may be those of a report, which is not run any more.
    pub takes_over: bool,
    pub asked: Asked,
    /// Where a tree says which of its organizations are to be asked alone.
    pub apart: Apart,
}

/// Why a stream asks what it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// The configuration says so.
    #[default]
    AsConfigured,
    /// The tree does not show this organization.
    BesideTree,
    /// The portal refuses the tree.
    InPlaceOfTree,
}

/// Ends the name of the query of what is asked beside a tree: other rows than the tree's.
pub(super) const ALONE: &str = "alone";

/// When a stream polls first: events are told with their devices where those were listed before.
#[derive(Debug)]
pub enum First {
    /// At once; others wait until it has.
    Listing(Arc<DropGuard>),
    /// At once; nobody waits.
    AtOnce,
    /// After all that list, or [`FIRST_LISTING`].
    After(CancellationToken),
}

/// What of a stream stays unproven after all was done.
#[derive(Clone, Debug)]
pub struct Unfinished {
    pub site: String,
    pub source: &'static str,
    pub unproven: Vec<Unproven>,
    pub error: Option<String>,
}

/// A stream in memory.
enum Loaded {
    Window(Box<WindowStream<PortalListing, StreamLedger>>),
    Snapshot(Box<SnapshotStream<Whole>>),
    PerComputer(Box<PerComputerStream<PortalListing>>),
}

impl Loaded {
    /// One poll of what is not asked by time; with `all` nothing is left for a later one.
    async fn poll_whole(&mut self, all: bool) -> Result<u64, CollectError> {
        match self {
            Loaded::Window(_) => Ok(0),
            Loaded::Snapshot(snapshot) => snapshot.poll().await,
            Loaded::PerComputer(stream) => stream.poll(all).await,
        }
    }
}

impl Stream {
    /// Part and narrowing of the query: another one is another stream.
    pub(super) fn name(&self) -> String {
        let name = query_name(self.part, &self.filter);
        match self.asked {
            Asked::BesideTree => format!("{name} {ALONE}").trim_start().to_owned(),
            Asked::AsConfigured | Asked::InPlaceOfTree => name,
        }
    }

    /// What tells it from the site's other streams.
    pub(super) fn key(&self) -> String {
        format!("{}/{}/{}", self.source.name(), self.scope.name(), self.name())
    }

    /// What the log shows of it with every line; to be entered by whoever runs it.
    pub fn span(&self) -> tracing::Span {
        let (site, source) = (&self.connection.site, self.source.name());
        let (scope, query) = (self.scope.name(), Some(self.name()).filter(|name| !name.is_empty()));
        // A span below the level of the log would not be shown with the lines in it. It stands alone: it names
        // its site itself.
        tracing::error_span!(parent: None, "stream", site, source, scope, query)
    }

    /// Polls until told to stop.
    pub async fn run(self, around: Surroundings, first: First) {
        let mut listing = None;
        match first {
            First::Listing(guard) => listing = Some(guard),
            First::AtOnce => {}
            First::After(listed) => tokio::select! {
                () = listed.cancelled() => {}
                () = around.stop.cancelled() => return,
                () = tokio::time::sleep(FIRST_LISTING) => {}
            },
        }
        let mut status = self.blank();
        let _epitaph = Epitaph(|| around.board.break_stream(&self.connection.site, self.blank()));
        let mut loaded = None;
        let (mut failures, mut refusals) = (0, 0);
        loop {
            let due = Instant::now() + around.clock.jittered(self.config.every, 0.1);
            let room = around.room(|| {
                status.condition = StreamCondition::Paused;
                around.board.set_stream(&self.connection.site, status.clone());
            });
            if !room.await {
                break;
            }
            let began = around.clock.now();
            let outcome = self.poll(&mut loaded, &mut status, due, &around).await;
            fail::fail_point!("collect.poll.after");
            listing.take();
            if around.stop.is_cancelled() {
                break;
            }
            let pause = match outcome {
                Ok(()) => {
                    (failures, refusals) = (0, 0);
                    if self.scope.is_tree() {
                        self.apart.set_refused(&self, false);
                    }
                    due.saturating_duration_since(Instant::now())
                }
                Err(error) => {
                    failures += 1;
                    let (condition, pause) = verdict(&error, self.config.every, failures);
                    self.failed(&mut status, &error, condition, began);
                    if matches!(error, CollectError::Store(_)) {
                        loaded = None;
                    }
                    refusals = if matches!(error, CollectError::Refused(_)) { refusals + 1 } else { 0 };
                    if refusals >= REFUSALS
                        && self.may_be_apart()
                        && self.answers_alone(loaded.as_ref()).await
                    {
                        self.apart.set_refused(&self, true);
                    }
                    around.clock.jittered(pause, 0.1)
                }
            };
            status.next_poll = Some(around.clock.now() + pause);
            self.publish(loaded.as_ref(), &mut status, &around);
            if !around.sleep(pause).await {
                break;
            }
        }
    }

    /// One poll: the live edge, then background work until the next poll is due.
    async fn poll(
        &self,
        loaded: &mut Option<Loaded>,
        status: &mut StreamStatus,
        due: Instant,
        around: &Surroundings,
    ) -> Result<(), CollectError> {
        let stream = match loaded {
            Some(stream) => stream,
            None => loaded.insert(self.load(&around.store, around).await?),
        };
        match stream {
            Loaded::Snapshot(_) | Loaded::PerComputer(_) => {
                // The listing refuses further pages by itself; this ends whatever else takes too long.
                tokio::select! {
                    biased;
                    done = stream.poll_whole(false) => drop(done?),
                    () = stopped_for(around) => return Ok(()),
                }
                around.tell_deliver();
                self.well(status, around);
                self.note_fields(stream, around).await?;
            }
            Loaded::Window(window) => {
                tokio::select! {
                    biased;
                    done = window.live() => drop(done?),
                    () = stopped_for(around) => return Ok(()),
                }
                around.tell_deliver();
                self.well(status, around);
                self.publish(Some(stream), status, around);
                self.note_fields(stream, around).await?;
                // One piece at least, or a stream that is always late would never fill its gaps.
                while !around.stop.is_cancelled() {
                    let Loaded::Window(window) = &mut *stream else { break };
                    let worked = tokio::select! {
                        biased;
                        worked = window.background() => worked?,
                        () = stopped_for(around) => return Ok(()),
                    };
                    if !worked {
                        break;
                    }
                    around.tell_deliver();
                    self.publish(Some(stream), status, around);
                    let room = around.room(|| {
                        status.condition = StreamCondition::Paused;
                        around.board.set_stream(&self.connection.site, status.clone());
                    });
                    if !room.await {
                        break;
                    }
                    if status.condition == StreamCondition::Paused {
                        self.well(status, around);
                    }
                    if Instant::now() >= due {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Does all there is to do once, and answers what stays unproven.
    pub async fn once(self, around: Surroundings) -> Unfinished {
        let mut status = self.blank();
        let mut loaded = None;
        let began = around.clock.now();
        let outcome = tokio::select! {
            biased;
            outcome = self.everything(&mut loaded, &mut status, &around) => Some(outcome),
            () = stopped_for(&around) => None,
        };
        around.tell_deliver();
        match &outcome {
            Some(Ok(())) => self.well(&mut status, &around),
            None | Some(Err(CollectError::Stopped)) => {
                status.last_error = Some(CollectError::Stopped.to_string());
            }
            Some(Err(error)) => {
                let (condition, _) = verdict(error, self.config.every, 1);
                self.failed(&mut status, error, condition, began);
            }
        }
        self.publish(loaded.as_ref(), &mut status, &around);
        // The seconds since the last look are not owed: neither to be asked again, nor to hold a row.
        let slack = (2 * self.config.every).max(Duration::from_secs(60));
        let edge = self.portal.now() - seconds(self.config.settle + slack) * SECOND;
        let waits = |one: &Unproven| ["pending", "empty_unconfirmed"].contains(&one.state.as_str());
        let whole = !matches!(self.source.shape(), Shape::Window { .. });
        let owed = |one: &Unproven| whole || !waits(one) || one.from.timestamp_micros() < edge;
        Unfinished {
            site: self.connection.site.clone(),
            source: self.source.name(),
            unproven: status.unproven.iter().filter(|one| owed(one)).cloned().collect(),
            error: status.last_error.clone(),
        }
    }

    async fn everything(
        &self,
        loaded: &mut Option<Loaded>,
        status: &mut StreamStatus,
        around: &Surroundings,
    ) -> Result<(), CollectError> {
        let stream = loaded.insert(self.load(&around.store, around).await?);
        match stream {
            Loaded::Window(window) => {
                let told = |window: &WindowStream<_, _>| {
                    around.tell_deliver();
                    self.well(status, around);
                    self.told_by_window(window, status);
                    around.board.set_stream(&self.connection.site, status.clone());
                };
                window.everything(told).await?;
            }
            Loaded::Snapshot(_) | Loaded::PerComputer(_) => drop(stream.poll_whole(true).await?),
        }
        self.note_fields(stream, around).await
    }

    /// Stores which fields the vendor added or dropped, and logs each once.
    async fn note_fields(&self, loaded: &Loaded, around: &Surroundings) -> Result<(), CollectError> {
        let (changes, set) = match loaded {
            Loaded::Window(window) => (window.listing.take_field_changes(), window.ledger.set),
            Loaded::Snapshot(snapshot) => (snapshot.listing.take_field_changes(), snapshot.settings.set),
            Loaded::PerComputer(stream) => (stream.listing.take_field_changes(), stream.settings.set),
        };
        if changes.is_empty() {
            return Ok(());
        }
        let now = self.portal.now();
        let news = around.store.write(move |db| vendor_fields::note(db, set, &changes, now)).await?;
        let told = |wanted: FieldState, back: bool| {
            let fields = news.iter().filter(|((_, state), was)| *state == wanted && was.is_some() == back);
            let fields: Vec<&str> = fields.map(|((field, _), _)| field.as_str()).collect();
            (!fields.is_empty()).then(|| fields.join(", "))
        };
        if let Some(fields) = told(FieldState::Added, false) {
            tracing::warn!(
                fields,
                "rows have fields that this version does not know: they are delivered as they are; a newer one may \
                 map them"
            );
        }
        if let Some(fields) = told(FieldState::Dropped, true) {
            tracing::warn!(
                fields,
                "rows lack fields that all of them had: so do the records made of them; check what is built on these"
            );
        }
        if let Some(fields) = told(FieldState::Usual, true) {
            tracing::info!(fields, "rows have these fields again");
        }
        Ok(())
    }

    fn blank(&self) -> StreamStatus {
        StreamStatus {
            source: self.source.name().to_owned(),
            scope: self.scope.name().to_owned(),
            organization: self.scope.organization().to_string(),
            query: self.name(),
            every_seconds: self.config.every.as_secs_f64(),
            ..StreamStatus::default()
        }
    }

    fn well(&self, status: &mut StreamStatus, around: &Surroundings) {
        if status.condition != StreamCondition::Ok {
            tracing::info!("collecting");
        }
        status.condition = StreamCondition::Ok;
        status.last_error = None;
        status.failing = None;
        status.last_success = Some(around.clock.now());
    }

    /// Logs a failure once, when it begins or changes. `began`: when its poll did.
    fn failed(
        &self,
        status: &mut StreamStatus,
        error: &CollectError,
        condition: StreamCondition,
        began: DateTime<Utc>,
    ) {
        let mut text = error.to_string();
        let (what, mut remedy) = error.advice();
        let tick = format!("tick \"{}\" in the API user's role", self.source.permission());
        if condition == StreamCondition::MissingRole {
            text = format!("{text} (permission: {})", self.source.permission());
            remedy = &tick;
        }
        Failing::note(&mut status.failing, Some((what, remedy)), began);
        if status.condition != condition {
            tracing::warn!(error = text, "the poll failed");
        }
        status.condition = condition;
        status.last_error = Some(text);
    }

    /// Whether the portal answers for an organization of a tree, so that it refuses no more than the tree.
    async fn answers_alone(&self, loaded: Option<&Loaded>) -> bool {
        let Some(members) = &self.members else { return false };
        let children = members.iter().filter(|member| *member != self.scope.organization());
        for child in children.take(TRIED_ALONE) {
            let hour = self.portal.now().div_euclid(SECOND) - seconds(self.config.settle);
            let is_window = matches!(self.source.shape(), Shape::Window { .. });
            let query = Query {
                part: self.source.parts().map_or(self.part, |parts| parts.pending),
                span: is_window.then_some((hour - 3_600, hour)),
                filter: self.filter.clone(),
                ..Query::whole(Scope::Organization(child.clone()), 1, 1)
            };
            let answer = match loaded {
                Some(Loaded::Window(window)) => window.listing.list(&query).await,
                Some(Loaded::Snapshot(snapshot)) => snapshot.listing.list(&query).await,
                Some(Loaded::PerComputer(_)) | None => return false,
            };
            if answer.is_ok() {
                return true;
            }
        }
        false
    }

    fn publish(&self, loaded: Option<&Loaded>, status: &mut StreamStatus, around: &Surroundings) {
        let before = disbelieved(status);
        match loaded {
            Some(Loaded::Window(window)) => {
                self.told_by_window(window, status);
                if self.scope.is_tree() {
                    self.apart.set_hidden(self, window.notes.alone.keys().cloned().collect());
                }
            }
            Some(Loaded::Snapshot(snapshot)) => {
                status.of_snapshot(&snapshot.notes, self.portal.now());
                status.rows = snapshot.notes.rows;
                status.requests = snapshot.requests;
                status.way = snapshot.listing.way().or_else(|| snapshot.memory.asking.trouble());
            }
            Some(Loaded::PerComputer(stream)) => {
                status.of_snapshot(&stream.notes, self.portal.now());
                status.requests = stream.requests;
            }
            None if matches!(self.source.shape(), Shape::Window { .. }) => {
                status.of_nothing(self.portal.now().div_euclid(SECOND) - seconds(self.config.settle));
            }
            None => {}
        }
        status.one_by_one = self.apart.is_refused(self);
        tell_disbelief(&before, &disbelieved(status));
        around.board.set_stream(&self.connection.site, status.clone());
    }

    fn told_by_window(&self, window: &WindowStream<PortalListing, StreamLedger>, status: &mut StreamStatus) {
        let edge = window.edge();
        if let Some(start) = window.notes.start {
            status.of_coverage(&window.coverage, start, edge);
            status.add_silent(&window.notes.silent, edge);
            status.alone = window.notes.alone.keys().map(ToString::to_string).collect();
        }
        status.rows = window.notes.rows;
        status.requests = window.requests;
        status.observed = Some(window.notes.observed.clone());
        status.scrubbed = utc(window.notes.scrubbed).filter(|_| window.notes.scrubbed > 0);
    }

    fn ledger(
        &self,
        source: &'static dyn Source,
        row: &StreamRow,
        store: &Store,
        around: &Surroundings,
    ) -> StreamLedger {
        StreamLedger {
            store: store.clone(),
            clock: around.clock.clone(),
            connection: self.connection.id,
            epoch: self.connection.epoch,
            source: source.name(),
            kind: source.kind(),
            stream: row.id,
            set: row.set,
            organization: single(&self.scope),
            packing: Packing::default(),
            also: None,
        }
    }

    /// The ledger of the stream that rated rows are entered for, too.
    async fn also(&self, store: &Store, around: &Surroundings) -> Result<Option<Box<Also>>, StoreError> {
        let (Some(source), Some(config)) = (self.source.also(), &self.also) else { return Ok(None) };
        let (connection, scope) = (self.connection.id, self.scope.name().to_owned());
        let fingerprint = query_name(source.part(), &Filter::default());
        let row = store
            .write(move |db| {
                let (source, scope, fingerprint) = (source.name(), scope.as_str(), fingerprint.as_str());
                streams::open(db, &StreamKey { connection, source, scope, fingerprint })
            })
            .await?;
        let edge = self.portal.now().div_euclid(SECOND) - seconds(config.settle);
        let ledger = self.ledger(source, &row, store, around);
        Ok(Some(Box::new(Also { ledger, start: edge - seconds(config.backfill) })))
    }

    async fn load(&self, store: &Store, around: &Surroundings) -> Result<Loaded, StoreError> {
        let (connection, source) = (self.connection.id, self.source.name());
        let (scope, fingerprint) = (self.scope.name().to_owned(), self.name());
        let (row, known, organizations) = store
            .write(move |db| {
                let key = StreamKey { connection, source, scope: &scope, fingerprint: &fingerprint };
                let row = streams::open(db, &key)?;
                let known = vendor_fields::load(db, row.set)?;
                Ok((row, known, connections::named_organizations(db, connection)?))
            })
            .await?;
        let row = self.inherited(store, row).await?;
        let (asked, stop) = (self.source, around.stop.clone());
        let fields = VendorFields::new(asked.names(), known);
        let listing =
            PortalListing::new(self.portal.clone(), asked, self.timeout, self.own_rows.clone(), fields, stop)
                .knowing(organizations);
        let config = &self.config;
        Ok(match self.source.shape() {
            Shape::Window { splits, has_imported } => {
                let settings = WindowSettings {
                    source,
                    kind: self.source.kind(),
                    scope: self.scope.clone(),
                    part: self.part,
                    filter: self.filter.clone(),
                    splits,
                    page_size: config.page_size,
                    settle: seconds(config.settle),
                    backfill: seconds(config.backfill),
                    retention: seconds(config.retention),
                    live_span: seconds(LIVE_SPAN.max(config.every.saturating_mul(5))),
                    has_imported,
                    also: self.source.also().map(|also| (also.name(), also.kind())),
                };
                let ledger = StreamLedger {
                    also: self.also(store, around).await?,
                    ..self.ledger(self.source, &row, store, around)
                };
                let notes: Notes = read_notes(&row.notes, &self.connection.site, source)?;
                Loaded::Window(Box::new(WindowStream::new(settings, listing, ledger, row.intervals, notes)))
            }
            Shape::Snapshot { volatile } => {
                let kind = self.source.kind_of(&self.filter);
                // An event is told once.
                let restate = config.restate.filter(|_| self.filter.report.is_none() || kind != Kind::Event);
                let settings = SnapshotSettings {
                    connection,
                    epoch: self.connection.epoch,
                    source,
                    kind,
                    scope: self.scope.clone(),
                    filter: self.filter.clone(),
                    takes_over: self.takes_over,
                    volatile,
                    page_size: config.page_size,
                    parts: self.source.parts().map(|parts| PartsSettings {
                        parts,
                        settled_every: seconds(config.decided_every) * SECOND,
                        sweep: seconds(config.sweep) * SECOND,
                        backfill: seconds(config.backfill) * SECOND,
                        matching: config.matching,
                    }),
                    restate: restate.map(|every| seconds(every) * SECOND),
                    stream: row.id,
                    set: row.set,
                };
                let notes: SnapshotNotes = read_notes(&row.notes, &self.connection.site, source)?;
                let (store, clock) = (store.clone(), around.clock.clone());
                let listing = Whole::new(listing, &self.covered);
                Loaded::Snapshot(Box::new(SnapshotStream {
                    settings,
                    listing,
                    store,
                    clock,
                    notes,
                    requests: 0,
                    memory: Memory::default(),
                }))
            }
            Shape::PerComputer { signs, quiet } => {
                let settings = PerComputerSettings {
                    connection,
                    epoch: self.connection.epoch,
                    source: self.source,
                    scope: self.scope.clone(),
                    signs,
                    quiet,
                    page_size: config.page_size,
                    every: config.every,
                    sweep: config.sweep,
                    backfill: seconds(config.backfill) * SECOND,
                    remembered: self.source.are_moments().then(|| seconds(config.retention) * SECOND),
                    stream: row.id,
                    set: row.set,
                };
                let notes: SnapshotNotes = read_notes(&row.notes, &self.connection.site, source)?;
                let (store, clock) = (store.clone(), around.clock.clone());
                Loaded::PerComputer(Box::new(PerComputerStream {
                    settings,
                    listing,
                    store,
                    clock,
                    notes,
                    requests: 0,
                    older: false,
                    refusals: Refusals::default(),
                }))
            }
        })
    }
}

/// How a stream's part and narrowing are called in the store and in status.
pub(super) fn query_name(part: u8, filter: &Filter) -> String {
    let mut text = if part == 0 { String::new() } else { format!("table={part}") };
    if let Some(action) = filter.action_id {
        text += &format!(" action={action}");
    }
    if let Some(report) = &filter.report {
        text += &format!("report={}", report.key());
    }
    if !filter.action_types.is_empty() {
        text += &format!(" types={}", filter.action_types.join(","));
    }
    text.trim().to_owned()
}

/// Organizations of which nothing is listed where something is expected: with their state, and why.
fn disbelieved(status: &StreamStatus) -> BTreeMap<(String, String), String> {
    let states = [State::EmptyUnconfirmed.as_str(), "unknown"];
    let listed = status.unproven.iter().filter(|one| states.contains(&one.state.as_str()));
    listed.map(|one| ((one.organization.clone(), one.state.clone()), one.reason.clone())).collect()
}

/// Logs when the portal is not believed any more about an organization, and when it is again.
fn tell_disbelief(before: &BTreeMap<(String, String), String>, now: &BTreeMap<(String, String), String>) {
    for ((organization, state), reason) in now.iter().filter(|(key, _)| !before.contains_key(*key)) {
        tracing::warn!(organization, state, reason, "the portal's answer is not believed");
    }
    for (organization, state) in before.keys().filter(|key| !now.contains_key(*key)) {
        tracing::info!(organization, state, "the portal's answer is believed again");
    }
}

/// Notes as stored; a new stream has none.
pub(super) fn read_notes<T: Default + serde::de::DeserializeOwned>(
    text: &str,
    site: &str,
    source: &str,
) -> Result<T, StoreError> {
    if text.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_str(text).map_err(|error| StoreError::Damaged {
        what: format!("the notes of {source} of site {site}"),
        reason: error.to_string(),
    })
}

/// Ends when the program was told to stop and the grace is over.
async fn stopped_for(around: &Surroundings) {
    around.stop.cancelled().await;
    tokio::time::sleep(around.grace()).await;
}

fn single(scope: &Scope) -> Option<OrganizationId> {
    match scope {
        Scope::Tree(_) => None,
        Scope::Organization(organization) => Some(organization.clone()),
    }
}

pub(super) fn seconds(length: Duration) -> Seconds {
    i64::try_from(length.as_secs()).unwrap_or(i64::MAX / SECOND)
}

fn utc(second: Seconds) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(second, 0)
}
