//! `lockstep once`: one complete pass.

use clap::Args;

use anyhow::bail;

use super::{ConfigFile, Usage, logging, out, stop_on_signals};
use crate::app::{App, Deps, Outcome};
use crate::config::{Environment, SOURCE_NAMES};

/// Collect and deliver until nothing is left that can be proven, then stop.
///
/// Exits with 0 when every interval asked for is proven and delivered, with 1 and the list of what stays
/// unproven otherwise. The same state as `run`: the two can take turns, but not run at the same time.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  lockstep once -c lockstep.yaml                          everything, as from cron
  lockstep once -c lockstep.yaml --site acme --source computers")]
pub struct Once {
    #[command(flatten)]
    pub config: ConfigFile,
    /// Only this site; may be given several times.
    #[arg(long, value_name = "SITE")]
    pub site: Vec<String>,
    /// Only this source; may be given several times.
    #[arg(long, value_name = "SOURCE", value_parser = clap::builder::PossibleValuesParser::new(SOURCE_NAMES))]
    pub source: Vec<String>,
}

impl Once {
    pub(super) async fn run(self, environment: &Environment) -> anyhow::Result<()> {
        let config = self.config.load(environment)?;
        if let Some(unknown) = self.site.iter().find(|site| !config.sites().any(|known| known == **site)) {
            return Err(Usage(format!("--site {unknown}: no connection has this site")).into());
        }
        logging(&config.log);
        let app = App::build(config, Deps::system()).await?;
        stop_on_signals(app.stop_token());
        let outcome = app.once(&self.site, &self.source).await;
        report(&outcome);
        if !outcome.is_complete() {
            bail!("not everything is proven and delivered");
        }
        Ok(())
    }
}

/// What stays undone, a line each.
fn report(outcome: &Outcome) {
    for (site, why) in &outcome.sites {
        out::say(format_args!("site {site}: {why}"));
    }
    for stream in &outcome.unfinished {
        if let Some(error) = &stream.error {
            out::say(format_args!("site {}: {}: {error}", stream.site, stream.source));
        }
        for one in &stream.unproven {
            out::say(format_args!(
                "site {}: {}: organization {}: {} to {}: {} ({})",
                stream.site,
                stream.source,
                one.organization,
                one.from.format("%Y-%m-%dT%H:%M:%SZ"),
                one.to.format("%Y-%m-%dT%H:%M:%SZ"),
                one.state,
                one.reason
            ));
        }
    }
    for (sink, why) in &outcome.sinks {
        out::say(format_args!("sink {sink}: {why}"));
    }
}
