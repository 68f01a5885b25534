//! `lockstep once`: one complete pass.

use clap::Args;

use anyhow::bail;

use super::live::{Live, Work};
use super::table::time;
use super::{ConfigFile, Usage, stop_on_signals};
use crate::app::{App, Deps, Outcome};
use crate::config::{Environment, SOURCE_NAMES};

/// Collect and deliver until nothing is left that can be proven, then stop.
///
/// Exits with 0 when every interval asked for is proven and delivered, with 1 and the list of what stays
/// unproven otherwise; the summary says how much was collected and delivered. At a terminal a table shows how
/// far it is, elsewhere a line every ten seconds for each stream that came further. The same state as `run`:
/// the two can take turns, but not run at the same time.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  lockstep once -c lockstep.yaml                          everything, as from cron
  lockstep once -c lockstep.yaml --site acme --source computers
  lockstep once -c lockstep.yaml --quiet                  only errors and the summary
  lockstep once -c lockstep.yaml --json | jq 'select(.type == \"summary\") | .complete'")]
pub struct Once {
    #[command(flatten)]
    pub config: ConfigFile,
    /// Only this site; may be given several times.
    #[arg(long, value_name = "SITE")]
    pub site: Vec<String>,
    /// Only this source; may be given several times.
    #[arg(long, value_name = "SOURCE", value_parser = clap::builder::PossibleValuesParser::new(SOURCE_NAMES))]
    pub source: Vec<String>,
    #[command(flatten)]
    pub live: Live,
}

impl Once {
    pub(super) async fn run(self, environment: &Environment) -> anyhow::Result<()> {
        let config = self.config.load(environment)?;
        if let Some(unknown) = self.site.iter().find(|site| !config.sites().any(|known| known == **site)) {
            return Err(Usage(format!("--site {unknown}: no connection has this site")).into());
        }
        let mut progress = self.live.begin(Work::Once, &config, environment)?;
        let app = App::build(config, Deps::system()).await?;
        stop_on_signals(app.stop_token());
        let board = app.board.clone();
        let outcome = progress.during(&board, app.once(&self.site, &self.source)).await;
        progress.end(outcome.picture.as_ref(), Some(&undone(&outcome)));
        if !outcome.is_complete() {
            bail!("not everything is proven and delivered");
        }
        Ok(())
    }
}

/// What stays undone, a line each.
fn undone(outcome: &Outcome) -> Vec<String> {
    let mut lines: Vec<String> =
        outcome.sites.iter().map(|(site, why)| format!("site {site}: {why}")).collect();
    for stream in &outcome.unfinished {
        let title = format!("site {}: {}", stream.site, stream.source);
        lines.extend(stream.error.iter().map(|error| format!("{title}: {error}")));
        lines.extend(stream.unproven.iter().map(|one| {
            let (from, to) = (time(Some(one.from)), time(Some(one.to)));
            format!(
                "{title}: organization {}: {from} to {to}: {} ({})",
                one.organization, one.state, one.reason
            )
        }));
    }
    lines.extend(outcome.sinks.iter().map(|(sink, why)| format!("sink {sink}: {why}")));
    lines
}
