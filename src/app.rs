//! Builds every part from the configuration and starts them; with what is below it the only one that knows all
//! others. `build` makes the parts, `reload` replaces those of which the configuration changes.
//!
//! Order of the end: streams finish the page in hand, sinks the batch in hand, then the store closes.

mod build;
mod reload;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::budget::Budget;
use crate::clock::Clock;
use crate::config::{Access, Config, Connection, Limits, Origin};
use crate::deliver::{DeliverError, Worker};
use crate::portal::{Pacers, PortalSettings};
use crate::schedule::{Site, Surroundings, Unfinished};
use crate::status::{Board, Status};
use crate::store::{Store, dead_letters, devices, outbox};
use crate::{control, web};
use build::Builder;
use reload::Running;

/// What comes from outside and what tests replace.
#[derive(Clone)]
pub struct Deps {
    pub clock: Clock,
    /// How long a rejected token is left alone before each probe; none for the defaults.
    pub probe_delays: Option<Vec<Duration>>,
    /// The first and the longest pause before a failed request is sent again; none for the defaults.
    pub backoff: Option<(Duration, Duration)>,
}

impl Deps {
    /// The system's.
    pub fn system() -> Self {
        Self { clock: Clock::system(), probe_delays: None, backoff: None }
    }
}

/// The built program.
pub struct App {
    pub config: Config,
    pub board: Board,
    pub store: Store,
    builder: Builder,
    around: Surroundings,
    limits: watch::Sender<Limits>,
    sites: Vec<Site>,
    workers: Vec<Worker>,
    /// Where a changed configuration is looked for.
    origin: Option<Origin>,
    /// Ends collecting.
    stop: CancellationToken,
    /// Ends delivering, later.
    stop_delivery: CancellationToken,
}

/// What a complete pass left undone.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Streams with time that could not be proven, or with an error.
    pub unfinished: Vec<Unfinished>,
    /// Sites that could not be discovered, and why.
    pub sites: Vec<(String, String)>,
    /// Sinks that did not take everything, and why.
    pub sinks: Vec<(String, String)>,
    /// The picture at the end; absent where the state could not be read.
    pub picture: Option<Status>,
}

impl Outcome {
    /// Whether everything that was asked for is proven and delivered.
    pub fn is_complete(&self) -> bool {
        self.sites.is_empty()
            && self.sinks.is_empty()
            && self.unfinished.iter().all(|stream| stream.error.is_none() && stream.unproven.is_empty())
    }
}

/// How often the outbox and the dead letters are looked over.
const UPKEEP: Duration = Duration::from_secs(2);

/// How often a listener's address that was taken is tried again.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

impl App {
    /// Opens the state and builds every part; starts nothing.
    ///
    /// # Errors
    /// Whatever makes a start impossible: the state, a sink's pinned format, a connection's settings.
    pub async fn build(mut config: Config, deps: Deps) -> anyhow::Result<Self> {
        let (dir, clock) = (config.state.dir.clone(), deps.clock.clone());
        let store = tokio::task::spawn_blocking(move || Store::open(&dir, clock))
            .await
            .context("opening the state")??;
        let budget = Budget::new(config.memory);
        let board = Board::new(deps.clock.clone(), store.clone(), budget.clone(), config.outbox.limit_bytes);
        let (appended, listener) = watch::channel(());
        let (limits, newest) = watch::channel(config.limits());
        let stop = CancellationToken::new();
        let around = Surroundings {
            store: store.clone(),
            clock: deps.clock.clone(),
            board: board.clone(),
            limits: newest,
            appended,
            stop: stop.clone(),
        };
        let builder = Builder {
            store: store.clone(),
            board: board.clone(),
            pacers: Pacers::new(store.secret()),
            appended: listener,
            budget,
            deps,
        };
        let mut workers = Vec::new();
        for (sink, row) in config.sinks.iter().zip(builder.configure_sinks(&config).await?) {
            let worker = builder.worker(&config, sink, row);
            board.add_sink(worker.status());
            workers.push(worker);
        }
        builder.retire_sites(&config).await?;
        let mut portals = builder.portals(&mut config, |_| true)?;
        let mut sites = Vec::new();
        for connection in &config.connections {
            if let Some(portal) = portals.remove(&connection.site) {
                let site = builder.site(connection, portal).await?;
                builder.show(&site);
                sites.push(site);
            }
        }
        for broken in &config.broken {
            tracing::error!(site = broken.site, "{broken}");
        }
        builder.show_configuration(&config, None);
        let (origin, stop_delivery) = (None, CancellationToken::new());
        Ok(Self {
            config,
            board,
            store,
            builder,
            around,
            limits,
            sites,
            workers,
            origin,
            stop,
            stop_delivery,
        })
    }

    /// While [`App::run`] runs, changes of the configuration there are taken over.
    pub fn follow(&mut self, origin: Origin) {
        self.origin = Some(origin);
    }

    /// Ends [`App::run`] and [`App::once`] when cancelled.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Collects and delivers until stopped; then finishes what is in hand and closes the state. Answers the
    /// picture at the end, unless the state cannot be read.
    ///
    /// # Errors
    /// A listener that cannot be opened.
    pub async fn run(mut self) -> anyhow::Result<Option<Status>> {
        let (collecting, delivering) = (TaskTracker::new(), self.delivering());
        let door = control::listen(&self.config.state.dir)?;
        delivering.spawn(control::serve(door, self.board.clone(), self.stop_delivery.clone()));
        if let Some(address) = self.config.server.ops {
            delivering.spawn(watch_over(
                first_try(address).await?,
                address,
                self.board.clone(),
                self.stop_delivery.clone(),
            ));
        }
        let mut running = Running::new(
            self.config.clone(),
            self.builder.clone(),
            self.around.clone(),
            self.limits.clone(),
            self.stop_delivery.clone(),
            (collecting.clone(), delivering.clone()),
        );
        std::mem::take(&mut self.sites).into_iter().for_each(|site| running.start_site(site));
        std::mem::take(&mut self.workers).into_iter().for_each(|worker| running.start_sink(worker));
        match self.origin.take() {
            Some(origin) => running.follow(origin).await,
            None => self.stop.cancelled().await,
        }
        tracing::info!("stopping: the pages and batches in hand are finished");
        collecting.close();
        collecting.wait().await;
        Ok(self.end(delivering).await)
    }

    /// Collects everything that can be proven and delivers it, for these sites and sources; empty lists
    /// mean all.
    pub async fn once(mut self, sites: &[String], sources: &[String]) -> Outcome {
        let mut outcome = Outcome::default();
        let broken = self.config.broken.iter().filter(|one| sites.is_empty() || sites.contains(&one.site));
        outcome.sites.extend(broken.map(|one| (one.site.clone(), one.reason.clone())));
        let collecting = TaskTracker::new();
        let mut passes = Vec::new();
        for mut site in std::mem::take(&mut self.sites) {
            if !sites.is_empty() && !sites.contains(&site.config.site) {
                continue;
            }
            site.only = sources.to_vec();
            let (name, span, around) = (site.config.site.clone(), site.span(), self.around.clone());
            passes.push((name, collecting.spawn(site.once(around).instrument(span))));
        }
        let delivering = self.delivering();
        let mut deliveries = Vec::new();
        let done = CancellationToken::new();
        for worker in std::mem::take(&mut self.workers) {
            let name = worker.status().borrow().name.clone();
            let (span, stop, done) = (worker.span(), self.stop_delivery.clone(), done.clone());
            deliveries.push((name, delivering.spawn(deliver_all(worker, done, stop).instrument(span))));
        }
        for (name, pass) in passes {
            match pass.await {
                Ok(Ok(unfinished)) => outcome.unfinished.extend(unfinished),
                Ok(Err(error)) => outcome.sites.push((name, error.to_string())),
                Err(error) => outcome.sites.push((name, format!("the pass broke off: {error}"))),
            }
        }
        done.cancel();
        if self.stop.is_cancelled() {
            self.stop_delivery.cancel();
        }
        self.around.tell_deliver();
        for (name, delivery) in deliveries {
            match delivery.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => outcome.sinks.push((name, error.to_string())),
                Err(error) => outcome.sinks.push((name, format!("the delivery broke off: {error}"))),
            }
        }
        outcome.picture = self.end(delivering).await;
        outcome
    }

    /// The tasks of the half that delivers, the upkeep of the outbox first.
    fn delivering(&self) -> TaskTracker {
        let tasks = TaskTracker::new();
        tasks.spawn(upkeep(self.around.clone(), self.stop_delivery.clone()));
        tasks
    }

    /// The end of all, once nothing is collected any more: the batches in hand, then the state.
    async fn end(self, delivering: TaskTracker) -> Option<Status> {
        self.around.tell_deliver();
        self.stop_delivery.cancel();
        delivering.close();
        delivering.wait().await;
        let Self { store, around, board, .. } = self;
        let picture = board.status().await.ok();
        drop((around, board));
        store.close().await;
        picture
    }
}

/// Delivers while collecting goes on, then until nothing is left, and closes.
async fn deliver_all(
    mut worker: Worker,
    done: CancellationToken,
    stop: CancellationToken,
) -> Result<(), DeliverError> {
    worker.run(&done, &stop).await;
    let delivered = async {
        worker.until_empty(&stop).await?;
        worker.finish().await
    };
    let delivered = delivered.await;
    if let Some(inventory) = worker.inventory().filter(|_| !stop.is_cancelled()) {
        let made = inventory.make().await;
        return delivered.and(made.map_err(DeliverError::from));
    }
    delivered
}

/// How a connection's portal is reached, as configured.
pub fn portal_settings(connection: &Connection) -> PortalSettings {
    let mut settings = PortalSettings::new(&connection.site, &connection.base_url, connection.token.clone());
    settings.rate_per_second = connection.rate.per_second;
    settings.concurrent = connection.rate.concurrent;
    settings.proxy.clone_from(&connection.http.proxy);
    settings.no_proxy.clone_from(&connection.http.no_proxy);
    settings.ca_file.clone_from(&connection.http.ca_file);
    settings.insecure_skip_verify = connection.http.insecure_skip_verify;
    settings.body_limit = connection.http.body_limit;
    if connection.access == Access::AuthKey {
        settings.reports_only = true;
        settings.header.clone_from(&connection.auth_key.header);
        settings.path.clone_from(&connection.auth_key.path);
    }
    settings
}

/// Opens the listener for health and metrics. An address that is taken is no reason to stop collecting: it
/// may come free, and probes that fail meanwhile show it.
async fn first_try(address: SocketAddr) -> Result<Option<TcpListener>, web::ListenError> {
    match web::listen(address).await {
        Ok((listener, _)) => Ok(Some(listener)),
        Err(error) if error.source.kind() == ErrorKind::AddrInUse => {
            tracing::error!("{error}; collecting goes on, and the address is tried again");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Serves health and metrics until stopped, as soon as their address is to be had.
async fn watch_over(
    mut listener: Option<TcpListener>,
    address: SocketAddr,
    board: Board,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let served = match listener.take() {
            Some(listener) => web::serve(listener, board.clone(), stop.clone()).await.err(),
            None => web::listen(address)
                .await
                .map(|(fresh, _)| listener = Some(fresh))
                .err()
                .map(|error| error.source),
        };
        if listener.is_some() {
            continue;
        }
        if let Some(error) = served {
            tracing::debug!(%error, "health and metrics are not served");
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(LISTEN_AGAIN) => {}
        }
    }
}

/// Forgets what every sink has, and dead letters past their time.
async fn upkeep(around: Surroundings, stop: CancellationToken) {
    let mut device = 0;
    loop {
        let now = around.clock.now().timestamp_micros();
        let Limits { outbox: bounds, dead_letters: letters, .. } = around.limits.borrow().clone();
        let (keep, limit) = (bounds.keep, bounds.limit_bytes);
        let letters_before = now - i64::try_from(letters.keep.as_micros()).unwrap_or(i64::MAX / 2);
        let kept = around
            .store
            .write(move |db| {
                // Room is made before collecting would have to wait for it.
                outbox::prune(db, now, keep, limit / 10 * 9, 1000)?;
                dead_letters::prune(db, letters_before, u64::MAX, 1000)?;
                devices::prune(db, now.saturating_sub(devices::KEPT), device, 100)
            })
            .await;
        match kept {
            Ok(next) => device = next.unwrap_or(0),
            Err(error) => {
                tracing::warn!(%error, "the outbox, the dead letters and the devices cannot be looked over");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(UPKEEP) => {}
        }
    }
}
