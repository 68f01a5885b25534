//! `lockstep run`: the service.

use clap::Args;

use super::{ConfigFile, load_again_on_hangup, logging, stop_on_signals};
use crate::app::{App, Deps};
use crate::config::{Environment, Origin};

/// Collect and deliver until told to stop.
///
/// Polls every source of every connection, keeps what it has proven in the state directory and delivers
/// to every sink. SIGTERM or ctrl-c finishes the page in hand and stops; a second one stops at once. Both
/// are safe: nothing is remembered before it is on disk, nothing is forgotten before a sink has it.
///
/// A changed configuration is taken over by itself within seconds, and at once at SIGHUP: what changed is
/// begun anew, the rest is not disturbed. One that is wrong is refused as a whole and shown by `status`.
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
        let origin = Origin::new(&self.config.path, environment);
        let config = origin.load()?;
        logging(&config.log);
        load_again_on_hangup(origin.asked.clone());
        let mut app = App::build(config, Deps::system()).await?;
        app.follow(origin);
        stop_on_signals(app.stop_token());
        app.run().await
    }
}
