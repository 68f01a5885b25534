//! `lockstep coverage`: every interval of every stream, with the evidence for it.

mod page;
mod picture;
mod strip;
#[cfg(test)]
mod tests;

use clap::Args;

use super::{ConfigFile, known_site, out, terminal};
use crate::clock::Clock;
use crate::config::Environment;
use crate::config::SOURCE_NAMES;
use crate::control;
use crate::status::Status;
use crate::store::Store;
use page::Page;
use picture::{Asked, Picture};

/// Show which intervals of time are proven to be held completely, with the evidence, and which are not.
///
/// Reads the state directory, beside a running program or without one. For every stream: a strip of the
/// last seven days, a sign for each hour or two, in which the worst state wins; then every interval that is
/// not proven, with what the portal counted, what is held, when it was last asked, and why. All times are
/// the portal's. --json gives every interval, the proven ones too.
///
/// "proven" means: when last asked, the portal listed to this token exactly the rows that are held.
/// "pending" was not walked yet, or not to the end. "empty_unconfirmed" is silence where rows are usual.
/// "stable_unproven" is counted differently however often it is walked. "unreachable" cannot be listed.
/// "expired" was dropped by the portal before it was collected. "baseline" lies before the start: it is
/// counted, so that late rows show, and not collected; `lockstep backfill` makes it owed.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  lockstep coverage -c lockstep.yaml
  lockstep coverage acme --source unified_audit -c lockstep.yaml
  lockstep coverage -c lockstep.yaml --json | jq '.sites[].streams[].intervals[] | select(.state != \"proven\")'")]
pub struct Coverage {
    /// Only this site; all without it.
    pub site: Option<String>,
    /// Only this source; may be given several times.
    #[arg(long, value_name = "SOURCE", value_parser = clap::builder::PossibleValuesParser::new(SOURCE_NAMES))]
    pub source: Vec<String>,
    /// One JSON object on stdout with every interval, for machines.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub config: ConfigFile,
}

impl Coverage {
    pub(super) async fn run(self, environment: &Environment) -> anyhow::Result<()> {
        let config = self.config.load(environment)?;
        if let Some(site) = &self.site {
            known_site(&config, site)?;
        }
        let store = Store::open_read_only(&config.state.dir)?;
        let running = running(&config.state.dir).await;
        let asked = Asked { site: self.site.as_deref(), sources: &self.source };
        let picture = Picture::take(&store, &config, asked, running.as_ref(), Clock::system().now()).await?;
        match self.json {
            true => out::data(format_args!("{}\n", serde_json::to_string(&picture)?))?,
            false => out::data(Page { picture: &picture, width: terminal::width() })?,
        }
        Ok(())
    }
}

/// What a running program says of itself: why a poll fails stands nowhere else. Coverage itself is in the
/// state, so a program that does not answer, or another version's, takes nothing away.
async fn running(state: &std::path::Path) -> Option<Status> {
    let answer = control::ask(state, "GET", "/status").await.ok()??;
    serde_json::from_slice(&answer.ok().ok()?).ok()
}
