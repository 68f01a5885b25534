//! One connection: finds out its organizations and runs its streams.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use thiserror::Error;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::apart::Apart;
use super::stream::{ALONE, Asked, First, Stream, Unfinished, query_name};
use super::{LONGEST_PAUSE, Surroundings};
use crate::collect::listing::Covered;
use crate::config::{Access, Connection, Organizations, SourceConfig};
use crate::model::{Kind, OrganizationId};
use crate::portal::{Endpoint, ListedOrganization, PageRequest, Portal, PortalError, Remedy};
use crate::source::{self, Filter, Scope, Source};
use crate::sources::reports;
use crate::status::Failing;
use crate::store::connections::{self, ConnectionRow};
use crate::store::streams::{self, StreamKey};
use crate::store::{Store, StoreError, WriterDb, devices};

/// Why the organizations of a site are not known.
#[derive(Debug, Error)]
pub enum SiteError {
    #[error(transparent)]
    Portal(#[from] PortalError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("stopped before its organizations were found out")]
    Stopped,
    #[error(
        "the token belongs to organization {now}, and this site has collected {before} so far: put back a token of \
         that one, or give the other a site of its own"
    )]
    OtherOrganization { before: OrganizationId, now: OrganizationId },
    #[error("a pass broke off, which is a mistake in lockstep: {0}")]
    Broken(String),
    #[error("organizations: the portal knows none called {}; known are: {}", .missing.join(", "), .known.join(", "))]
    UnknownOrganizations { missing: Vec<String>, known: Vec<String> },
}

impl SiteError {
    /// What is wrong and what an operator can do; see [`PortalError::advice`].
    fn advice(&self) -> (&'static str, &'static str) {
        match self {
            Self::Portal(error) => error.advice(),
            Self::Store(_) => ("the state cannot be used", "see the error; it is tried again by itself"),
            Self::Stopped => ("the program is stopping", "nothing: it goes on where it was"),
            Self::OtherOrganization { .. } => {
                ("the token is one of another organization", "put the right token in its place")
            }
            Self::Broken(_) => ("a fault in lockstep", "please report it"),
            Self::UnknownOrganizations { .. } => {
                ("the portal knows not all organizations", "change organizations of this site")
            }
        }
    }
}

/// One connection with its portal.
#[derive(Clone)]
pub struct Site {
    pub config: Connection,
    pub portal: Portal,
    pub row: ConnectionRow,
    /// Only these sources; empty for all that are enabled.
    pub only: Vec<String>,
}

impl Site {
    /// What the log shows of it with every line; to be entered by whoever runs it.
    pub fn span(&self) -> tracing::Span {
        // A span below the level of the log would not be shown with the lines in it.
        tracing::error_span!("site", site = self.config.site)
    }

    /// Runs every stream until told to stop; looks for new organizations now and then.
    pub async fn run(self, around: Surroundings) {
        let mut streams = Streams::default();
        let mut last = None;
        let mut failures = 0;
        'discoveries: loop {
            let began = around.clock.now();
            // A discovery is begun again at the next start; there is nothing in hand to finish.
            let found = tokio::select! {
                biased;
                () = around.stop.cancelled() => break,
                found = self.discover(&around) => found,
            };
            let pause = match found {
                Ok(found) => {
                    failures = 0;
                    self.say(&around, began, found.unknown.as_ref());
                    last = Some(found);
                    around.clock.jittered(self.config.discover_every, 0.1)
                }
                Err(error) => {
                    failures += 1;
                    self.say(&around, began, Some(&error));
                    self.pause(&error, failures)
                }
            };
            let due = Instant::now() + pause;
            loop {
                if let Some(found) = &last {
                    self.bring_about(found, &mut streams, &around).await;
                }
                tokio::select! {
                    biased;
                    () = around.stop.cancelled() => break 'discoveries,
                    () = tokio::time::sleep_until(due) => break,
                    () = streams.apart.changed() => {}
                }
            }
        }
        streams.tasks.close();
        streams.tasks.wait().await;
    }

    /// Runs the streams that are wanted now, and no others.
    async fn bring_about(&self, found: &Discovered, streams: &mut Streams, around: &Surroundings) {
        let configured = self.streams(found, &streams.covered, &streams.apart);
        if streams.running.is_empty() {
            // What a site was before its configuration changed may have had others.
            around.board.keep_streams(&self.config.site, |source, scope, query| {
                configured.iter().any(|stream| {
                    (stream.source.name(), stream.scope.name(), stream.name().as_str())
                        == (source, scope, query)
                })
            });
        }
        let members = found.members.as_deref();
        let apart = streams.apart.streams(&configured, members, self.config.rate.per_second);
        let wanted: BTreeSet<String> = configured.iter().chain(&apart).map(Stream::key).collect();
        let unwanted = |(key, task): &(&String, &Running)| {
            task.stream.asked != Asked::AsConfigured && !wanted.contains(*key)
        };
        let unwanted: Vec<String> =
            streams.running.iter().filter(unwanted).map(|(key, _)| key.clone()).collect();
        for task in unwanted.iter().filter_map(|key| streams.running.remove(key)).collect::<Vec<_>>() {
            self.end(task, around).await;
        }
        let (listed, listing) = self.first_listing(&around.store).await;
        for stream in configured.into_iter().chain(apart) {
            if streams.running.contains_key(&stream.key()) {
                continue;
            }
            let is_managed = stream.source.is_managed();
            let first = match (stream.source.shape(), stream.source.kind()) {
                (source::Shape::Snapshot { .. }, Kind::Device) if is_managed => {
                    First::Listing(Arc::clone(&listing))
                }
                (source::Shape::Snapshot { .. }, Kind::State | Kind::Device) => First::AtOnce,
                _ => First::After(listed.clone()),
            };
            let stop = around.stop.child_token();
            let around = Surroundings { stop: stop.clone(), ..around.clone() };
            let ended = streams.tasks.spawn(stream.clone().run(around, first).instrument(stream.span()));
            streams.running.insert(stream.key(), Running { stream, stop, ended });
        }
    }

    /// Ends what is asked alone, since its tree shows it again: from here on the tree says what is proven.
    async fn end(&self, task: Running, around: &Surroundings) {
        let Running { stream, stop, ended } = task;
        stop.cancel();
        // One that panicked has said so.
        drop(ended.await);
        let (connection, source) = (self.row.id, stream.source.name());
        let (scope, fingerprint) = (stream.scope.name().to_owned(), stream.name());
        around.board.remove_stream(&self.config.site, source, &scope, &fingerprint);
        let forget = move |db: &WriterDb| {
            let key = StreamKey { connection, source, scope: &scope, fingerprint: &fingerprint };
            streams::find(db, &key)?.map_or(Ok(()), |stream| streams::forget(db, stream.id))
        };
        if let Err(error) = around.store.write(forget).await {
            tracing::warn!(%error, "what was asked alone is still in the state");
        }
    }

    /// Cancelled once what lists things was asked for the first time, all of which hold the guard. A site whose
    /// devices are known waits for nobody.
    async fn first_listing(&self, store: &Store) -> (CancellationToken, Arc<DropGuard>) {
        let listed = CancellationToken::new();
        let id = self.row.id;
        // A store that cannot be read will be told of by whoever stores.
        if store.read(move |db| devices::any_listed(db, id)).await.unwrap_or(true) {
            listed.cancel();
        }
        (listed.clone(), Arc::new(listed.drop_guard()))
    }

    /// Does all there is to do once.
    pub async fn once(self, around: Surroundings) -> Result<Vec<Unfinished>, SiteError> {
        let began = around.clock.now();
        let found = tokio::select! {
            biased;
            () = around.stop.cancelled() => return Err(SiteError::Stopped),
            found = self.discover(&around) => found,
        };
        let found = found.inspect_err(|error| self.say(&around, began, Some(error)))?;
        self.say(&around, began, found.unknown.as_ref());
        // Snapshots first: they witness whether an empty window is plausible, and list the computers. The others share
        // the pace.
        let apart = Apart::default();
        let configured = self.streams(&found, &Covered::default(), &apart);
        let (others, snapshots): (Vec<Stream>, Vec<Stream>) = configured
            .iter()
            .cloned()
            .partition(|stream| !matches!(stream.source.shape(), source::Shape::Snapshot { .. }));
        let mut unfinished = Vec::new();
        if let Some(unknown) = found.unknown {
            let (site, error) = (self.config.site.clone(), Some(unknown.to_string()));
            unfinished.push(Unfinished { site, source: "organizations", unproven: Vec::new(), error });
        }
        for stream in snapshots {
            let span = stream.span();
            unfinished.push(stream.once(around.clone()).instrument(span).await);
        }
        let streams = TaskTracker::new();
        let start = |stream: Stream| {
            let span = stream.span();
            streams.spawn(stream.once(around.clone()).instrument(span))
        };
        let passes: Vec<_> = others.into_iter().map(start).collect();
        for pass in passes {
            unfinished.push(pass.await.map_err(|error| SiteError::Broken(error.to_string()))?);
        }
        for stream in apart.streams(&configured, None, None) {
            let span = stream.span();
            unfinished.push(stream.once(around.clone()).instrument(span).await);
        }
        Ok(unfinished)
    }

    fn say(&self, around: &Surroundings, began: DateTime<Utc>, error: Option<&SiteError>) {
        around.board.update_site(&self.config.site, |entry| {
            let text = error.map(ToString::to_string);
            if entry.last_error != text
                && let Some(text) = &text
            {
                let (what, remedy) = error.map(SiteError::advice).unwrap_or_default();
                tracing::warn!(error = text, remedy, "{what}");
            }
            Failing::note(&mut entry.failing, error.map(SiteError::advice), began);
            entry.last_error = text;
        });
    }

    fn pause(&self, error: &SiteError, failures: u32) -> Duration {
        let growing = Duration::from_secs(1 << failures.min(6)).min(LONGEST_PAUSE);
        match error {
            SiteError::Portal(error) => match error.remedy() {
                Remedy::Retry { after: Some(after) } => after,
                _ => growing,
            },
            SiteError::Store(_) | SiteError::Broken(_) | SiteError::Stopped => growing,
            SiteError::UnknownOrganizations { .. } | SiteError::OtherOrganization { .. } => LONGEST_PAUSE,
        }
    }

    /// The scopes to collect, and what is wrong with the others. What was discovered before stands while the portal
    /// is away.
    async fn discover(&self, around: &Surroundings) -> Result<Discovered, SiteError> {
        let own = self.own_organization(around).await?;
        around.board.update_site(&self.config.site, |entry| entry.organization = Some(own.clone()));
        if self.config.access == Access::AuthKey {
            let scopes = vec![self.reports_scope(own.clone()).await?];
            return Ok(Discovered { own, members: None, scopes, unknown: None });
        }
        let listed = self.portal.child_organizations(&own).await;
        // An organization that a token does not reach is answered with an error (contract section 8.2), or with
        // nothing.
        let out_of_reach = listed.as_ref().map_or_else(PortalError::is_answer, Vec::is_empty);
        if out_of_reach
            && self.config.organization_id.is_none()
            && let Ok(now) = self.portal.discover_organization().await
            && now != own
        {
            return Err(SiteError::OtherOrganization { before: own, now });
        }
        let mut members = None;
        let children = match listed {
            Ok(children) => {
                members = Some(children.iter().map(|child| &child.id).chain([&own]).cloned().collect());
                children
            }
            // Names are a comfort where the whole tree or nothing but the own organization is asked.
            // But no stream starts before the portal has told its time: ours may be wrong by days.
            Err(error) if !matches!(self.config.organizations, Organizations::Only(_)) && self.answered() => {
                tracing::debug!(%error, "the list of organizations is not to be had");
                Vec::new()
            }
            Err(error) => return Err(error.into()),
        };
        self.remember(around, &own, &children).await?;
        let (scopes, unknown) = match &self.config.organizations {
            Organizations::Own => (vec![Scope::Organization(own.clone())], None),
            Organizations::All => (vec![Scope::Tree(own.clone())], None),
            Organizations::Only(wanted) => chosen(&self.portal, wanted, &own, &children).await?,
        };
        self.release(around, &scopes, members.as_ref(), unknown.is_some()).await?;
        Ok(Discovered { own, members: members.map(Arc::new), scopes, unknown })
    }

    /// Gives free what was claimed of organizations that are not asked for any more, as far as that is certain.
    async fn release(
        &self,
        around: &Surroundings,
        scopes: &[Scope],
        members: Option<&BTreeSet<OrganizationId>>,
        some_unknown: bool,
    ) -> Result<(), SiteError> {
        let asked: BTreeSet<OrganizationId> = match members {
            _ if some_unknown => return Ok(()),
            // A portal that hides its list answers that there are none.
            Some(members) if scopes.iter().any(Scope::is_tree) && members.len() > 1 => members.clone(),
            _ if scopes.iter().any(Scope::is_tree) => return Ok(()),
            _ => scopes.iter().map(|scope| scope.organization().clone()).collect(),
        };
        let id = self.row.id;
        let left = around.store.write(move |db| connections::release_all_but(db, id, &asked)).await?;
        if !left.is_empty() {
            let organizations: Vec<&str> = left.iter().map(OrganizationId::as_str).collect();
            tracing::info!(
                organizations = organizations.join(", "),
                "not asked for here any more: the next site that reads them tells of their computers, policies and the like"
            );
        }
        Ok(())
    }

    /// Where nothing but reports may be asked for, their list tells the portal's time, and no organizations.
    async fn reports_scope(&self, own: OrganizationId) -> Result<Scope, SiteError> {
        if !self.portal.heard() {
            tracing::warn!(
                "`access: auth_key` is UNVERIFIED: nobody has seen ThreatLocker answer it. Compare what comes with the \
                 portal before relying on it"
            );
            let list = PageRequest {
                endpoint: Endpoint::ReportList,
                organization: Some(own.clone()),
                body: Default::default(),
                query: String::new(),
                timeout: self.config.http.timeout,
            };
            let answer = self.portal.fetch(&list).await;
            answer.map(drop).or_else(|error| if self.answered() { Ok(()) } else { Err(error) })?;
        }
        Ok(match self.config.organizations {
            Organizations::All => Scope::Tree(own),
            Organizations::Own | Organizations::Only(_) => Scope::Organization(own),
        })
    }

    fn answered(&self) -> bool {
        self.portal.heard() || self.portal.health().last_success.is_some()
    }

    async fn own_organization(&self, around: &Surroundings) -> Result<OrganizationId, SiteError> {
        let id = self.row.id;
        let stored =
            around.store.read(move |db| Ok(connections::list(db)?.into_iter().find(|row| row.id == id)));
        if let Some(own) = &self.config.organization_id {
            return Ok(own.clone());
        }
        if let Some(own) = stored.await?.and_then(|row| row.organization_id) {
            return Ok(own);
        }
        let own = self.portal.discover_organization().await?;
        tracing::info!(organization = %own, "discovered the token's own organization");
        Ok(own)
    }

    async fn remember(
        &self,
        around: &Surroundings,
        own: &OrganizationId,
        children: &[ListedOrganization],
    ) -> Result<(), StoreError> {
        let (id, own, children) = (self.row.id, own.clone(), children.to_vec());
        let now = self.portal.now();
        let inherited = around
            .store
            .write(move |db| {
                let inherited = connections::inherit(db, id, &own)?;
                connections::set_organization(db, id, &own)?;
                connections::set_first_contact(db, id, now)?;
                for child in &children {
                    connections::organization(db, id, &child.id, Some(&child.name), now)?;
                }
                Ok(inherited)
            })
            .await?;
        if let Some(before) = inherited {
            tracing::warn!(before, "the site has another name: it goes on where it was");
        }
        Ok(())
    }

    /// The streams of what was discovered. `covered` learns what the site is about.
    fn streams(&self, found: &Discovered, covered: &Covered, apart: &Apart) -> Vec<Stream> {
        if !matches!(self.config.organizations, Organizations::All) {
            covered.add(found.scopes.iter().map(|scope| scope.organization().clone()));
        }
        let whole = [Scope::Tree(found.own.clone())];
        let mut streams = Vec::new();
        let runs_reports = self.config.sources.get(reports::NAME).is_some_and(|config| config.enabled);
        for source in source::SOURCES {
            let Some(config) = self.config.sources.get(source.name()).filter(|config| config.enabled) else {
                continue;
            };
            if !self.only.is_empty() && !self.only.iter().any(|name| name == source.name()) {
                continue;
            }
            let also = source.also().and_then(|also| self.config.sources.get(also.name()));
            let also = also.filter(|also| also.enabled);
            let scopes = if is_whole_tree(source.name()) { &whole[..] } else { &found.scopes };
            for scope in scopes {
                for (part, filter) in parts(source, config) {
                    streams.push(Stream {
                        connection: self.row.clone(),
                        portal: self.portal.clone(),
                        source,
                        config: SourceConfig {
                            every: self.config.every(config),
                            decided_every: config.decided_every.mul_f64(self.config.stretch.max(1.0)),
                            ..config.clone()
                        },
                        timeout: self.config.http.timeout,
                        own_rows: self.config.own_rows.clone(),
                        scope: scope.clone(),
                        covered: covered.clone(),
                        members: found.members.clone(),
                        part,
                        filter,
                        also: also.cloned(),
                        takes_over: source.name() == "computers" && !runs_reports,
                        asked: Asked::AsConfigured,
                        apart: apart.clone(),
                    });
                }
            }
        }
        streams
    }
}

/// The streams of a site that run.
#[derive(Default)]
struct Streams {
    tasks: TaskTracker,
    running: BTreeMap<String, Running>,
    covered: Covered,
    apart: Apart,
}

struct Running {
    stream: Stream,
    stop: CancellationToken,
    ended: JoinHandle<()>,
}

/// What a discovery came to: the token's own organization, the scopes to collect, and what is wrong with the others.
struct Discovered {
    own: OrganizationId,
    /// Its own organization and all below it, where the portal lists them.
    members: Option<Arc<BTreeSet<OrganizationId>>>,
    scopes: Vec<Scope>,
    unknown: Option<SiteError>,
}

/// Whether a source is asked once for the whole tree, whichever organizations a site is about.
pub fn is_whole_tree(source: &str) -> bool {
    source == "organizations"
}

/// Every part of a source with every narrowing, each a stream of its own.
fn parts(source: &dyn Source, config: &SourceConfig) -> Vec<(u8, Filter)> {
    let tables = if config.tables.is_empty() { vec![source.part()] } else { config.tables.clone() };
    let filters = config.filters();
    tables.iter().flat_map(|table| filters.iter().map(|filter| (*table, filter.clone()))).collect()
}

/// Whether a stream of the state is one that this configuration collects, as far as can be told without
/// asking the portal which organizations there are.
pub fn is_configured(
    connection: &Connection,
    (source, config): (&dyn Source, &SourceConfig),
    scope: &str,
    query: &str,
) -> bool {
    let tree = is_whole_tree(source.name()) || matches!(connection.organizations, Organizations::All);
    // What a tree does not show is asked beside it.
    let beside = query.strip_suffix(ALONE).filter(|_| tree).map(str::trim_end);
    let query = beside.unwrap_or(query);
    let asks = |(part, filter): &(u8, Filter)| query_name(*part, filter) == query;
    (tree && beside.is_none()) == (scope == "tree") && parts(source, config).iter().any(asks)
}

/// The organizations that were asked for by name or id, each alone, and what is wrong with the others.
///
/// # Errors
/// When the portal knows none of them.
pub async fn chosen(
    portal: &Portal,
    wanted: &[String],
    own: &OrganizationId,
    children: &[ListedOrganization],
) -> Result<(Vec<Scope>, Option<SiteError>), SiteError> {
    let is = |want: &str, one: &ListedOrganization| {
        one.id.as_str().eq_ignore_ascii_case(want) || one.name.eq_ignore_ascii_case(want)
    };
    let find = |want: &str, among: &[ListedOrganization]| {
        let found = among.iter().find(|one| is(want, one)).map(|one| one.id.clone());
        found.or_else(|| own.as_str().eq_ignore_ascii_case(want).then(|| own.clone()))
    };
    let mut known = children.to_vec();
    if wanted.iter().any(|want| find(want, &known).is_none()) {
        // The list of what is below an organization need not name that one itself.
        known.extend(portal.reachable_organizations(Some(own)).await.unwrap_or_default());
    }
    let (mut scopes, mut missing) = (Vec::new(), Vec::new());
    for want in wanted {
        match find(want, &known) {
            Some(id) if scopes.contains(&Scope::Organization(id.clone())) => {}
            Some(id) => scopes.push(Scope::Organization(id)),
            None => missing.push(want.clone()),
        }
    }
    if missing.is_empty() {
        return Ok((scopes, None));
    }
    let unknown = SiteError::UnknownOrganizations {
        missing,
        known: known.into_iter().map(|one| one.name).collect::<BTreeSet<_>>().into_iter().take(20).collect(),
    };
    // One wrong name stops nobody else.
    if scopes.is_empty() { Err(unknown) } else { Ok((scopes, Some(unknown))) }
}
