//! `lockstep confirm-removed`: the operator's word that what is missing is gone.

use anyhow::Context;
use clap::Args;

use super::{ConfigFile, known_site, out};
use crate::clock::Clock;
use crate::collect::snapshot;
use crate::config::Environment;
use crate::control;
use crate::store::{Store, connections};

/// Confirm that rows which a portal suddenly lists no more are really removed.
///
/// When more than a tenth and more than 3 of a site's computers are missing at once, or all of an organization
/// that has more than one, the portal is not believed: a role that was unticked looks the same. Such rows are held as `unknown` until they
/// return, or until this says that they are gone; then each gives a record that it was removed. A row that
/// comes back later is new.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  lockstep status -c lockstep.yaml                    shows what is held as unknown
  lockstep confirm-removed acme -c lockstep.yaml")]
pub struct ConfirmRemoved {
    /// The site as in the configuration.
    pub site: String,
    #[command(flatten)]
    pub config: ConfigFile,
}

impl ConfirmRemoved {
    pub(super) async fn run(self, environment: &Environment) -> anyhow::Result<()> {
        let config = self.config.load(environment)?;
        known_site(&config, &self.site)?;
        let dir = &config.state.dir;
        // Letters, digits, ".", "_" and "-" need no escaping.
        let request = format!("/confirm-removed?site={}", self.site);
        let removed = match control::ask(dir, "POST", &request).await? {
            Some(answer) => {
                let body = answer.ok().map_err(anyhow::Error::msg)?;
                let told: serde_json::Value = serde_json::from_slice(&body).context("reading the answer")?;
                told.get("removed").and_then(serde_json::Value::as_u64).context("reading the answer")?
            }
            None => {
                // Whoever only looks must not make a state.
                Store::open_read_only(dir)?.close().await;
                let (dir, clock, site) = (dir.clone(), Clock::system(), self.site.clone());
                let ours = clock.now().timestamp_micros();
                let store = tokio::task::spawn_blocking(move || Store::open(&dir, clock)).await??;
                let removed = store.write(move |db| {
                    let known = connections::list(db)?.into_iter().find(|row| row.site == site);
                    let now = known.map_or(ours, |row| row.portal_time(ours));
                    snapshot::confirm_removed(db, &site, now, ours)
                });
                let removed = removed.await;
                store.close().await;
                removed?.unwrap_or(0)
            }
        };
        out::say(match removed {
            0 => format!("{}: nothing is held as unknown", self.site),
            1 => format!("{}: 1 row is removed", self.site),
            more => format!("{}: {more} rows are removed", self.site),
        });
        Ok(())
    }
}
