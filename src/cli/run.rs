//! `lockstep run`: the service.

use clap::Args;

use super::{ConfigFile, logging, stop_on_signals};
use crate::app::{App, Deps};
use crate::config::Environment;

/// Collect and deliver until told to stop.
///
/// Polls every source of every connection, keeps what it has proven in the state directory and delivers
/// to every sink. SIGTERM or ctrl-c finishes the page in hand and stops; a second one stops at once. Both
/// are safe: nothing is remembered before it is on disk, nothing is forgotten before a sink has it.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  lockstep run -c /etc/lockstep/lockstep.yaml
  LOCKSTEP__LOG__LEVEL=debug lockstep run -c lockstep.yaml")]
pub struct Run {
    #[command(flatten)]
    pub config: ConfigFile,
}

impl Run {
    pub(super) async fn run(self, environment: &Environment) -> anyhow::Result<()> {
        let config = self.config.load(environment)?;
        logging(&config.log);
        let app = App::build(config, Deps::system()).await?;
        stop_on_signals(app.stop_token());
        app.run().await
    }
}
