//! Builds portals, sites and workers from the configuration; the same at the start and at a change.

use std::collections::BTreeMap;

use tokio::sync::watch;

use super::{Deps, portal_settings};
use crate::budget::Budget;
use crate::config::{BrokenSite, Config, Connection};
use crate::deliver::{Settings, Worker};
use crate::format::Format;
use crate::portal::{Pacers, Portal, PortalError};
use crate::schedule::Site;
use crate::sink::SinkConfig;
use crate::status::{Board, SiteEntry};
use crate::store::sinks::SinkRow;
use crate::store::{Store, StoreError, WriterDb, connections, sinks};

/// What every part is built with.
#[derive(Clone)]
pub(super) struct Builder {
    pub(super) store: Store,
    pub(super) board: Board,
    pub(super) deps: Deps,
    pub(super) budget: Budget,
    pub(super) pacers: Pacers,
    pub(super) appended: watch::Receiver<()>,
}

impl Builder {
    /// How a connection's portal is reached; sends nothing.
    fn portal(&self, connection: &Connection) -> Result<Portal, PortalError> {
        let mut settings = portal_settings(connection);
        if let Some(delays) = &self.deps.probe_delays {
            settings.probe_delays.clone_from(delays);
        }
        if let Some((first, longest)) = self.deps.backoff {
            (settings.backoff_first, settings.backoff_longest) = (first, longest);
        }
        Portal::new(settings, &self.pacers, self.budget.clone(), self.deps.clock.clone())
    }

    /// The portals of the connections that `wanted` names, by site. A connection from a folder that cannot be
    /// built is broken and taken out of the configuration.
    ///
    /// # Errors
    /// What is wrong with a connection from the list.
    pub(super) fn portals(
        &self,
        config: &mut Config,
        wanted: impl Fn(&Connection) -> bool,
    ) -> Result<BTreeMap<String, Portal>, PortalError> {
        let mut portals = BTreeMap::new();
        for connection in std::mem::take(&mut config.connections) {
            if wanted(&connection) {
                match (self.portal(&connection), &connection.folder) {
                    (Ok(portal), _) => drop(portals.insert(connection.site.clone(), portal)),
                    (Err(error), None) => return Err(error),
                    (Err(error), Some(folder)) => {
                        let (site, folder, reason) = (connection.site, folder.clone(), error.to_string());
                        config.broken.push(BrokenSite { site, folder, reason });
                        continue;
                    }
                }
            }
            config.connections.push(connection);
        }
        Ok(portals)
    }

    /// A connection with its row in the state, entered there at first sight.
    pub(super) async fn site(&self, connection: &Connection, portal: Portal) -> Result<Site, StoreError> {
        let site = connection.site.clone();
        let row = self.store.write(move |db| connections::register(db, &site)).await?;
        Ok(Site { config: connection.clone(), portal, row, only: Vec::new() })
    }

    /// Shows a site on the board, in place of what was known of it.
    pub(super) fn show(&self, site: &Site) {
        let config = &site.config;
        let entry = SiteEntry {
            base_url: config.base_url.clone(),
            portal: site.portal.clone(),
            organization: site.row.organization_id.clone(),
            contact: config.contact.clone(),
            token_expiry: config.token_expiry,
            last_error: None,
            failing: None,
            streams: BTreeMap::new(),
        };
        self.board.add_site(&config.site, entry);
    }

    /// Shows what is wrong with the configuration in force, and why another one is refused.
    pub(super) fn show_configuration(&self, config: &Config, refused: Option<String>) {
        let broken = config.broken.iter().map(ToString::to_string);
        self.board.set_configuration(refused.into_iter().chain(broken).collect());
    }

    /// Retires the sites that a configuration does not have any more.
    pub(super) async fn retire_sites(&self, config: &Config) -> Result<(), StoreError> {
        let sites: Vec<String> = config.sites().map(str::to_owned).collect();
        let retire = move |db: &WriterDb| {
            connections::retire_all_but(db, &sites.iter().map(String::as_str).collect::<Vec<_>>())
        };
        self.store.write(retire).await
    }

    /// Enters the sinks of a configuration, and no other, as those that are delivered to.
    pub(super) async fn configure_sinks(&self, config: &Config) -> Result<Vec<SinkRow>, StoreError> {
        let wanted = config.sinks.clone();
        let configure = move |db: &WriterDb| {
            let named = named(db, &wanted)?;
            let mut from_now = Vec::new();
            for sink in wanted.iter().filter(|sink| sink.from_now) {
                if sinks::pinned_format(db, &sink.name)?.is_none() {
                    from_now.push(&sink.name);
                }
            }
            let rows = sinks::configure(db, &borrowed(&named))?;
            from_now.into_iter().try_for_each(|sink| sinks::begin_at_heads(db, sink))?;
            Ok(rows)
        };
        self.store.write(configure).await
    }

    /// Whether the sinks of a configuration could be entered.
    pub(super) async fn check_sinks(&self, config: &Config) -> Result<(), StoreError> {
        let wanted = config.sinks.clone();
        self.store.read(move |db| sinks::check(db, &borrowed(&named(db, &wanted)?))).await
    }

    /// A worker that goes on from where its row says.
    pub(super) fn worker(&self, config: &Config, sink: &SinkConfig, row: SinkRow) -> Worker {
        let pinned = Format::named(&row.format, sink.format.carries_row()).unwrap_or(sink.format);
        if pinned.as_str() != sink.format.as_str() {
            let (sink, default) = (&sink.name, sink.format);
            tracing::info!(
                sink,
                "the sink keeps the format of its first start, {pinned}; the default is {default} now"
            );
        }
        let sink = SinkConfig { format: pinned, ..sink.clone() };
        let settings = Settings {
            dead_letter_bytes: config.dead_letters.limit_bytes,
            outbox_bytes: config.outbox.limit_bytes,
            ..Settings::default()
        };
        let (store, clock) = (self.store.clone(), self.deps.clock.clone());
        Worker::new(&sink, row.state, store, clock, self.budget.clone(), settings, self.appended.clone())
    }
}

/// Name, type and format of each sink. Where nobody chose a format, the one of the first start stays.
fn named(
    db: &rusqlite::Connection,
    wanted: &[SinkConfig],
) -> Result<Vec<(String, &'static str, String)>, StoreError> {
    let named = |sink: &SinkConfig| {
        let default = sink.format.as_str();
        let pinned = sinks::pinned_format(db, &sink.name)?
            .filter(|pinned| sink.format_by_default && Format::named(pinned, false).is_some());
        Ok((sink.name.clone(), sink.kind.as_str(), pinned.unwrap_or_else(|| default.to_owned())))
    };
    wanted.iter().map(named).collect()
}

fn borrowed<'a>(named: &'a [(String, &'static str, String)]) -> Vec<(&'a str, &'a str, &'a str)> {
    named.iter().map(|(name, kind, format)| (name.as_str(), *kind, format.as_str())).collect()
}
