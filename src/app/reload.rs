//! Takes over a changed configuration while the program runs.
//!
//! A change is looked at as a whole before anything is touched: one that is wrong, or that only a restart can
//! bring about, is refused as a whole, and the old configuration goes on. Then what changed is stopped, the
//! page or batch in hand being finished, and begun anew from what the state holds, as after a restart; what
//! did not change is not disturbed. So nothing can be lost or doubled by it that a restart would not lose or
//! double.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::build::Builder;
use crate::config::{Config, ConfigError, Connection, Limits, Origin, Stamp};
use crate::deliver::{SinkStatus, Worker};
use crate::portal::{Portal, PortalError};
use crate::schedule::{Site, Surroundings};
use crate::sink::SinkConfig;
use crate::store::StoreError;

/// The parts of a running program that a change can replace.
pub(super) struct Running {
    pub(super) config: Config,
    pub(super) builder: Builder,
    pub(super) around: Surroundings,
    pub(super) limits: watch::Sender<Limits>,
    /// Ends delivering.
    pub(super) stop_delivery: CancellationToken,
    pub(super) collecting: TaskTracker,
    pub(super) delivering: TaskTracker,
    sites: BTreeMap<String, RunningSite>,
    sinks: BTreeMap<String, RunningSink>,
}

struct RunningSite {
    portal: Portal,
    task: Task,
}

struct RunningSink {
    status: watch::Receiver<SinkStatus>,
    task: Task,
}

struct Task {
    stop: CancellationToken,
    ended: JoinHandle<()>,
}

impl Task {
    async fn ended(self) {
        if let Err(error) = self.ended.await {
            tracing::error!(%error, "a part of the program broke off, which is a mistake in lockstep");
        }
    }
}

/// Why a change is not taken over.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{} cannot change while lockstep runs: restart it, or put back what stood there", .0.join(", "))]
    NeedsRestart(Vec<&'static str>),
    #[error(transparent)]
    Portal(#[from] PortalError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("loading it broke off, which is a mistake in lockstep: {0}")]
    Broken(String),
}

/// How often the state is asked to enter changed sinks.
const AGAIN: Duration = Duration::from_secs(1);

impl Running {
    pub(super) fn new(
        config: Config,
        builder: Builder,
        around: Surroundings,
        limits: watch::Sender<Limits>,
        stop_delivery: CancellationToken,
        (collecting, delivering): (TaskTracker, TaskTracker),
    ) -> Self {
        let (sites, sinks) = Default::default();
        Self { config, builder, around, limits, stop_delivery, collecting, delivering, sites, sinks }
    }

    pub(super) fn start_site(&mut self, site: Site) {
        let (name, portal) = (site.config.site.clone(), site.portal.clone());
        let stop = self.around.stop.child_token();
        let around = Surroundings { stop: stop.clone(), ..self.around.clone() };
        let span = site.span();
        let ended = self.collecting.spawn(site.run(around).instrument(span));
        self.sites.insert(name, RunningSite { portal, task: Task { stop, ended } });
    }

    pub(super) fn start_sink(&mut self, mut worker: Worker) {
        let status = worker.status();
        let name = status.borrow().name.clone();
        let stop = self.stop_delivery.child_token();
        let until = stop.clone();
        let span = worker.span();
        let inventory = worker.inventory();
        let work = async move {
            let keep = async {
                if let Some(inventory) = inventory {
                    inventory.run(&until).await;
                }
            };
            tokio::join!(worker.run(&until, &until), keep);
        };
        let ended = self.delivering.spawn(work.instrument(span));
        self.sinks.insert(name, RunningSink { status, task: Task { stop, ended } });
    }

    /// Takes over every change until the program is stopped.
    pub(super) async fn follow(mut self, origin: Origin) {
        let stop = self.around.stop.clone();
        let (mut seen, mut tried) = (Stamp::default(), None);
        let mut refused: Option<String> = None;
        loop {
            let pause = self.around.clock.jittered(origin.look_every, 0.1);
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                () = origin.asked.notified() => true,
                () = tokio::time::sleep(pause) => false,
            };
            let (from, folder) = (origin.clone(), self.config.folder.clone());
            let looked = tokio::task::spawn_blocking(move || from.stamp(folder.as_deref())).await;
            let Ok(now) = looked else { continue };
            // A file that is being written may look right in the middle: it is read once it has settled. What is
            // wrong may be mended where nobody looks, as in the file of a token.
            let settled = std::mem::replace(&mut seen, now) == seen;
            let wrong = refused.is_some() || !self.config.broken.is_empty();
            if !asked && !(settled && (wrong || tried.as_ref() != Some(&seen))) {
                continue;
            }
            tried = Some(seen.clone());
            let renewed = tokio::select! {
                () = stop.cancelled() => return,
                renewed = self.renew(&origin) => renewed,
            };
            match renewed {
                Ok(change) => {
                    if refused.take().is_some() || !change.is_empty() || asked {
                        tracing::info!(
                            begun = change.begun(),
                            ended = change.ended(),
                            "the configuration was loaded again and is in force"
                        );
                    }
                }
                Err(error) => {
                    let text = one_line(&error);
                    let told =
                        format!("the changed configuration is refused and the old one goes on: {text}");
                    if asked || refused.as_ref() != Some(&text) {
                        tracing::error!("{told}");
                    }
                    refused = Some(text);
                    self.builder.show_configuration(&self.config, Some(told));
                }
            }
        }
    }

    async fn renew(&mut self, origin: &Origin) -> Result<Change, Refused> {
        let origin = origin.clone();
        let loaded = tokio::task::spawn_blocking(move || origin.load()).await;
        let config = loaded.map_err(|error| Refused::Broken(error.to_string()))??;
        self.take_over(config).await
    }

    /// Refuses, or does it all.
    async fn take_over(&mut self, mut config: Config) -> Result<Change, Refused> {
        let fixed = fixed(&self.config, &config);
        if !fixed.is_empty() {
            return Err(Refused::NeedsRestart(fixed));
        }
        let known = &self.config.connections;
        let mut portals = self.builder.portals(&mut config, |connection| !known.contains(connection))?;
        self.builder.check_sinks(&config).await?;
        let mut sites = Vec::new();
        for connection in &config.connections {
            if let Some(portal) = portals.remove(&connection.site) {
                sites.push(self.builder.site(connection, portal).await?);
            }
        }
        let change = Change::between(&self.config, &config);
        for broken in config.broken.iter().filter(|broken| !self.config.broken.contains(broken)) {
            tracing::error!(site = broken.site, "{broken}");
        }
        self.limits.send_replace(config.limits());
        self.builder.board.set_outbox_limit(config.outbox.limit_bytes);
        self.change_sites(&change, sites, &config).await;
        if !change.sinks.is_empty() || self.config.sinks != config.sinks {
            self.change_sinks(&change, &config).await;
        }
        self.builder.show_configuration(&config, None);
        self.config = config;
        Ok(change)
    }

    async fn change_sites(&mut self, change: &Change, begun: Vec<Site>, config: &Config) {
        let ending: Vec<(&String, RunningSite)> =
            change.ended_sites.iter().filter_map(|site| Some((site, self.sites.remove(site)?))).collect();
        for (_, site) in &ending {
            site.task.stop.cancel();
        }
        let mut before = BTreeMap::new();
        for (name, site) in ending {
            site.task.ended().await;
            before.insert(name.clone(), site.portal);
        }
        while let Err(error) = self.builder.retire_sites(config).await {
            tracing::error!(%error, "the sites that are left out cannot be retired in the state; it is tried again");
            tokio::time::sleep(AGAIN).await;
        }
        for site in begun {
            if let Some(before) = before.remove(&site.config.site) {
                site.portal.go_on_from(&before);
            }
            self.builder.show(&site);
            self.start_site(site);
        }
        for (site, portal) in before {
            portal.withdraw();
            self.builder.board.remove_site(&site);
        }
    }

    async fn change_sinks(&mut self, change: &Change, config: &Config) {
        let ending: Vec<RunningSink> =
            change.sinks.iter().filter_map(|sink| self.sinks.remove(sink)).collect();
        for sink in &ending {
            sink.task.stop.cancel();
        }
        for sink in ending {
            sink.task.ended().await;
        }
        // The states of the sinks are read only now that nobody moves them any more.
        let rows = loop {
            match self.builder.configure_sinks(config).await {
                Ok(rows) => break rows,
                Err(error) => {
                    tracing::error!(%error, "the changed sinks cannot be entered in the state; it is tried again")
                }
            }
            tokio::time::sleep(AGAIN).await;
        };
        for (sink, row) in config.sinks.iter().zip(rows) {
            if change.sinks.contains(&sink.name) {
                self.start_sink(self.builder.worker(config, sink, row));
            }
        }
        let status = |sink: &SinkConfig| Some(self.sinks.get(&sink.name)?.status.clone());
        self.builder.board.set_sinks(config.sinks.iter().filter_map(status).collect());
    }
}

/// What is different in a configuration.
struct Change {
    /// Sites that end, and sites that begin; a changed one does both.
    ended_sites: BTreeSet<String>,
    begun_sites: BTreeSet<String>,
    /// Sinks that end, begin, or both.
    sinks: BTreeSet<String>,
    limits: bool,
}

impl Change {
    fn between(old: &Config, new: &Config) -> Self {
        let missing = |of: &[Connection], other: &[Connection]| {
            let missing = of.iter().filter(|connection| !other.contains(connection));
            missing.map(|connection| connection.site.clone()).collect()
        };
        // Workers hold the bounds of the dead letters and of the outbox.
        let bounds = |config: &Config| (config.dead_letters.limit_bytes, config.outbox.limit_bytes);
        let all = bounds(old) != bounds(new);
        let differs = |sink: &&SinkConfig| all || !(old.sinks.contains(sink) && new.sinks.contains(sink));
        Self {
            ended_sites: missing(&old.connections, &new.connections),
            begun_sites: missing(&new.connections, &old.connections),
            sinks: old.sinks.iter().chain(&new.sinks).filter(differs).map(|sink| sink.name.clone()).collect(),
            limits: old.limits() != new.limits(),
        }
    }

    fn is_empty(&self) -> bool {
        self.ended_sites.is_empty() && self.begun_sites.is_empty() && self.sinks.is_empty() && !self.limits
    }

    fn begun(&self) -> String {
        let sites = self.begun_sites.iter().map(|site| format!("site {site}"));
        sites.chain(self.sinks.iter().map(|sink| format!("sink {sink}"))).collect::<Vec<_>>().join(", ")
    }

    fn ended(&self) -> String {
        let ended = self.ended_sites.difference(&self.begun_sites).map(|site| format!("site {site}"));
        ended.collect::<Vec<_>>().join(", ")
    }
}

/// What differs and cannot change while the program runs.
fn fixed(old: &Config, new: &Config) -> Vec<&'static str> {
    let fixed = [
        ("state.dir", old.state == new.state),
        ("server", old.server == new.server),
        ("memory", old.memory == new.memory),
        ("log", old.log == new.log),
    ];
    fixed.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
}

/// An error that may have several lines, as one.
fn one_line(error: &Refused) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
