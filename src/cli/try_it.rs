//! `lockstep try`: what a token reads, before anything is configured.

mod page;
pub(super) mod probe;
mod report;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use anyhow::bail;
use clap::{ArgGroup, Args};
use secrecy::ExposeSecret;

use super::{Usage, out, terminal};
use crate::budget::Budget;
use crate::clock::Clock;
use crate::credentials::{SecretSource, looks_like_a_token, read_secret};
use crate::model::OrganizationId;
use crate::portal::{Pacers, Portal, PortalSettings, base_url_of};
use page::Page;

/// Memory for the pages, of which there is one at a time.
const MEMORY: u64 = 128 << 20;
/// Tries of a request: somebody is waiting.
const ATTEMPTS: u32 = 2;

/// See what a portal and a token give, with no configuration; writes nothing.
///
/// Asks whether the portal is reached and the token accepted, which organizations it reaches, and each
/// source for one page: readable or not, with the permission to tick, three of its rows, and the rows and
/// bytes a day that it would give, with the minutes that the first backfill would take at the default rate.
/// A dozen requests, all of them reads; one runs the report of all computers. The rows are the portal's own, so mind who
/// looks at the screen.
/// Exits with 1 when the portal, the token or a source cannot be read; unmanaged devices may be unreadable, since few
/// portals have them.
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("portal").required(true), after_help = "\
Examples:
  lockstep try --instance g --token-file ./token
  lockstep try --base-url http://127.0.0.1:8080 --token-file ./sim-token --json | jq '.sources[]'")]
pub struct TryIt {
    /// The letter or short name that the portal shows under Help as \"ThreatLocker Access (G)\".
    #[arg(long, value_name = "INSTANCE", group = "portal")]
    pub instance: Option<String>,
    /// Or its whole address.
    #[arg(long, value_name = "URL", group = "portal")]
    pub base_url: Option<String>,
    /// File that holds the token of an API user and nothing else.
    #[arg(long, value_name = "FILE")]
    pub token_file: PathBuf,
    /// The token's own organization, where the portal does not tell it.
    #[arg(long, value_name = "ID")]
    pub organization: Option<String>,
    /// One JSON object on stdout, for machines.
    #[arg(long)]
    pub json: bool,
}

impl TryIt {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let place = self.instance.as_deref().or(self.base_url.as_deref()).unwrap_or_default();
        let base_url = base_url_of(place).map_err(Usage)?;
        let token = SecretSource::File(self.token_file.clone());
        let secret = read_secret(&token).await.map_err(|error| Usage(error.to_string()))?;
        if !looks_like_a_token(secret.expose_secret()) {
            out::say(format_args!(
                "note: what is in {} does not look like a portal token (64 characters of 0-9 and a-f, without \
                 `Bearer`); it is used as it is",
                self.token_file.display()
            ));
        }
        let settings = PortalSettings { attempts: ATTEMPTS, ..PortalSettings::new("try", &base_url, token) };
        // Nothing is stored, so the key of the hashes need not last.
        let pacers = Pacers::new(*blake3::hash(b"try").as_bytes());
        let portal = Portal::new(settings, &pacers, Budget::new(MEMORY), Clock::system())
            .map_err(|error| Usage(error.to_string()))?;
        out::say(format_args!("asking {base_url}; nothing is written"));
        let own = self.organization.as_deref().map(OrganizationId::new);
        let report = probe::probe(&portal, base_url, own).await;
        match self.json {
            true => out::data(format_args!("{}\n", serde_json::to_string(&report)?))?,
            false => out::data(Page { report: &report, width: terminal::width() })?,
        }
        match report.wrong() {
            0 => Ok(()),
            1 => bail!("1 of the answers is not what collecting needs"),
            more => bail!("{more} of the answers are not what collecting needs"),
        }
    }
}
